package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/store"
)

// world is an engine on a store in memory, which the test commits and crashes, with a clock that the test moves.
type world struct {
	t     rapid.TB
	id    string // in a cluster
	m     *store.Memory
	e     *engine.Engine
	l     *engine.Listener
	b     *engine.Batch
	mu    sync.Mutex
	clock time.Time
	hold  bool // wills of restored sessions
}

func newWorld(t rapid.TB) *world {
	w := &world{t: t, m: store.NewMemory(false), clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.boot()
	return w
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

// boot starts an engine on what the store has.
func (w *world) boot() {
	w.t.Helper()
	s := engine.DefaultSettings()
	s.SysInterval, s.SysHeartbeat = 0, 0
	z := engine.DefaultZone()
	z.RetryInterval, z.MaxInflight, z.MaxQueueLen = 0, 4, 0
	e, err := engine.New(engine.Options{ID: w.id, Node: "n@h", Now: w.now, Settings: &s, Zones: map[string]engine.Zone{"external": z}, Store: w.m, HoldWills: w.hold})
	if err != nil {
		w.t.Fatalf("engine on what a crash has left: %v", err)
	}
	w.e, w.b = e, e.NewBatch()
	if err := errors.Join(e.EnableRetainer(engine.RetainerOptions{}), e.EnableDelayed(engine.DelayedOptions{})); err != nil {
		w.t.Fatal(err)
	}
	if w.l, err = e.AddListener(engine.ListenerOptions{Name: "external", Protocol: "mqtt:tcp"}); err != nil {
		w.t.Fatal(err)
	}
	w.commit()
}

// crash stops the engine where it is and starts another on what was committed, and at most more changes.
func (w *world) crash(more int) {
	w.t.Helper()
	w.m = w.m.Crash(more)
	w.boot()
}

func (w *world) commit() {
	if err := w.m.CommitAll(); err != nil {
		w.t.Fatal(err)
	}
	w.e.Advance(w.now())
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.clock = w.clock.Add(d)
	w.mu.Unlock()
	w.e.Advance(w.now())
}

// wire is the other end of a connection.
type wire struct {
	w      *world
	v      packet.Version
	c      *engine.Conn
	in     []byte
	closed bool
}

func (p *wire) Write(bufs [][]byte) (n int, err error) {
	for _, b := range bufs {
		p.in = append(p.in, b...)
		n += len(b)
	}
	return n, nil
}
func (p *wire) Resume() {}
func (p *wire) Close()  { p.closed = true }

// connect opens a connection and says CONNECT. The CONNACK is not waited for.
func (w *world) connect(v packet.Version, id string, change ...func(*packet.Connect)) *wire {
	w.t.Helper()
	p := &wire{w: w, v: v}
	var err error
	if p.c, err = w.l.Accept(engine.ConnInfo{}, p); err != nil {
		w.t.Fatal(err)
	}
	m := &packet.Connect{Version: v, ClientID: id, ReceiveMaximum: packet.DefaultReceiveMaximum, SessionExpiry: 3600}
	if v != packet.V5 {
		m.SessionExpiry = 0
	}
	for _, f := range change {
		f(m)
	}
	p.say(m)
	return p
}

func (p *wire) say(list ...packet.Packet) {
	var buf []byte
	for _, m := range list {
		buf = m.Append(buf, p.v)
	}
	p.c.Feed(p.w.b, buf)
	p.w.b.Flush()
}

func (p *wire) hangUp() {
	p.c.Closed(p.w.b, nil)
	p.w.b.Flush()
}

// all gives the packets that have come.
func (p *wire) all() (list []packet.Packet) {
	p.w.t.Helper()
	for len(p.in) > 0 {
		h, n, err := packet.ParseHeader(p.v, p.in)
		if err != nil {
			p.w.t.Fatalf("output % x: %v", p.in, err)
		}
		m := packet.New(h.Type)
		if err := m.Decode(p.v, h.Flags, slices.Clone(p.in[n:n+h.Remaining])); err != nil {
			p.w.t.Fatalf("output % x: %v", p.in, err)
		}
		p.in = p.in[n+h.Remaining:]
		list = append(list, m)
	}
	return list
}

// want checks what has come, each packet in short form.
func (p *wire) want(want ...string) {
	p.w.t.Helper()
	var got []string
	for _, m := range p.all() {
		got = append(got, short(m))
	}
	if !slices.Equal(got, want) {
		p.w.t.Fatalf("got %q, want %q", got, want)
	}
}

func short(m packet.Packet) string {
	switch m := m.(type) {
	case *packet.Publish:
		s := fmt.Sprintf("PUBLISH %s=%s q%d #%d", m.Topic, m.Payload, m.QoS, m.PacketID)
		if m.Dup {
			s += " dup"
		}
		if m.Retain {
			s += " retain"
		}
		return s
	case *packet.Ack:
		s := fmt.Sprintf("%s #%d", m.Kind, m.PacketID)
		if m.Code != 0 {
			s += fmt.Sprintf(" %#x", byte(m.Code))
		}
		return s
	case *packet.Connack:
		return fmt.Sprintf("CONNACK %#x %v", byte(m.Code), m.SessionPresent)
	case *packet.Suback:
		return fmt.Sprintf("SUBACK %#x", byte(m.Codes[0]))
	case *packet.Disconnect:
		return fmt.Sprintf("DISCONNECT %#x", byte(m.Code))
	}
	return m.Type().String()
}

func clean(c *packet.Connect) { c.CleanStart, c.SessionExpiry = true, 0 }

func pub(topic, payload string, qos packet.QoS, id uint16) *packet.Publish {
	return &packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: id}
}

func ack(kind packet.Type, id uint16) *packet.Ack { return &packet.Ack{Kind: kind, PacketID: id} }

func sub(filter string, qos packet.QoS) *packet.Subscribe {
	return &packet.Subscribe{PacketID: 9, Filters: []packet.Subscription{{Filter: filter, QoS: qos}}}
}

// Whatever promises something waits for the commit, in its order; what promises nothing does not.
func TestAnswersWait(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V311, "s")
	s.want()
	w.commit()
	s.want("CONNACK 0x0 false")
	s.say(sub("d/#", 2))
	s.want()
	w.commit()
	s.want("SUBACK 0x2")
	p := w.connect(packet.V5, "p", clean)
	p.want("CONNACK 0x0 false")

	p.say(pub("nobody", "", 1, 1), pub("nobody", "", 2, 2))
	p.want("PUBACK #1 0x10", "PUBREC #2 0x10")
	p.say(ack(packet.TypePubrel, 2))
	p.want("PUBCOMP #2")
	if got := w.m.Staged() - w.m.Committed(); got != 0 {
		t.Errorf("messages that no durable session wants have cost %d bytes of the store", got)
	}

	p.say(pub("d/1", "a", 1, 3), pub("nobody", "", 1, 4), pub("d/2", "b", 2, 5), &packet.Pingreq{})
	p.want()
	s.want("PUBLISH d/1=a q1 #1") // QoS 2 goes out when it is committed
	w.commit()
	p.want("PUBACK #3", "PUBACK #4 0x10", "PUBREC #5", "PINGRESP")
	s.want("PUBLISH d/2=b q2 #2")
	s.say(ack(packet.TypePubrec, 2))
	s.want()
	w.commit()
	s.want("PUBREL #2")
	s.say(ack(packet.TypePuback, 1), ack(packet.TypePubcomp, 2))
	s.say(pub("x", "", 2, 7)) // the identifier is the session's, and stored
	s.want()
	w.commit()
	s.want("PUBREC #7")
	s.say(ack(packet.TypePubrel, 7))
	s.want()
	w.commit()
	s.want("PUBCOMP #7")
	s.say(&packet.Unsubscribe{PacketID: 8, Filters: []string{"d/#"}})
	s.want()
	w.commit()
	s.want("UNSUBACK")
	if n, err := w.e.PublishStored(t.Context(), &engine.Message{Topic: "d/1", QoS: 1}); n != 0 || err != nil {
		t.Errorf("got %d, %v, want nobody", n, err)
	}
}

// A restart brings back sessions, what waits in them, and their clocks.
func TestRestart(t *testing.T) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			w := newWorld(t)
			s := w.connect(v, "s")
			s.say(sub("d/#", 2))
			w.commit()
			p := w.connect(packet.V5, "p", clean)
			p.say(pub("d/1", "a", 1, 1), pub("d/2", "b", 2, 2), pub("d/3", "c", 2, 3), &packet.Publish{Topic: []byte("r"), Payload: []byte("kept"), Retain: true, QoS: 1, PacketID: 4})
			w.commit()
			s.all()
			s.say(ack(packet.TypePubrec, 3)) // identifiers follow the order: 1 a, 2 b, 3 c
			w.commit()
			s.want("PUBREL #3")
			w.crash(0)
			s = w.connect(v, "s")
			w.commit()
			s.want("CONNACK 0x0 true", "PUBLISH d/1=a q1 #1 dup", "PUBLISH d/2=b q2 #2 dup", "PUBREL #3")
			s.say(sub("r", 1))
			w.commit()
			s.want("SUBACK 0x1", "PUBLISH r=kept q1 #4 retain")
			s.say(ack(packet.TypePuback, 1), ack(packet.TypePubrec, 2), ack(packet.TypePubcomp, 3), ack(packet.TypePuback, 4))
			w.commit()
			s.want("PUBREL #2")
			s.say(ack(packet.TypePubcomp, 2))
			s.hangUp()
			p = w.connect(packet.V5, "p", clean)
			p.say(pub("d/4", "never sent", 1, 1))
			w.commit()
			w.crash(0)
			s = w.connect(v, "s")
			w.commit()
			s.want("CONNACK 0x0 true", "PUBLISH d/4=never sent q1 #5")
			s.hangUp()
			w.commit()
			life := time.Hour
			if v != packet.V5 {
				life = 2 * time.Hour
			}
			w.pass(life - time.Minute)
			w.crash(0)
			w.pass(time.Second)
			if _, ok := w.e.Session("s"); !ok {
				t.Error("the session has ended before its time")
			}
			w.pass(time.Minute)
			if _, ok := w.e.Session("s"); ok {
				t.Error("the session has not ended at its time")
			}
			w.commit()
			w.crash(0)
			if _, ok := w.e.Session("s"); ok {
				t.Error("a session that has ended is back")
			}
		})
	}
}

// An orderly stop keeps durable sessions, and says exactly what has gone out.
func TestOrderlyStop(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V5, "s")
	s.say(sub("d", 1))
	other := w.connect(packet.V5, "clean", clean)
	other.say(sub("d", 1))
	p := w.connect(packet.V5, "p", clean)
	w.commit()
	p.say(pub("d", "1", 1, 1), pub("d", "2", 1, 2), pub("d", "3", 1, 3), pub("d", "4", 1, 4), pub("d", "5", 1, 5))
	w.commit()
	s.want("CONNACK 0x0 false", "SUBACK 0x1", "PUBLISH d=1 q1 #1", "PUBLISH d=2 q1 #2", "PUBLISH d=3 q1 #3", "PUBLISH d=4 q1 #4")
	if err := w.e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want("DISCONNECT 0x8b")
	w.m.CommitAll()
	w.m = w.m.Crash(0)
	w.boot()
	if _, n := w.e.Sessions(0, 10); n != 1 {
		t.Errorf("got %d sessions, want the durable one", n)
	}
	s = w.connect(packet.V5, "s", func(c *packet.Connect) { c.ReceiveMaximum = 10 })
	w.commit()
	s.want("CONNACK 0x0 true", "PUBLISH d=1 q1 #1 dup", "PUBLISH d=2 q1 #2 dup", "PUBLISH d=3 q1 #3 dup", "PUBLISH d=4 q1 #4 dup")
	s.say(ack(packet.TypePuback, 1))
	s.want("PUBLISH d=5 q1 #5")
}

// Wills of clients that were connected when the process stopped are published once, after their delay; so are delayed messages.
func TestWillsAndDelayed(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V5, "s")
	s.say(sub("#", 1))
	w.connect(packet.V5, "w", func(c *packet.Connect) {
		c.Will = &packet.Will{Topic: "will", Payload: []byte("gone"), QoS: 1, Delay: 10}
	})
	gone := w.connect(packet.V5, "w2", func(c *packet.Connect) {
		c.Will = &packet.Will{Topic: "will2", Payload: []byte("gone"), QoS: 1, Delay: 20}
	})
	gone.hangUp()
	remove := w.e.AddHooks("delay", engine.Hooks{Publish: func(m *engine.Message) (bool, packet.ReasonCode) {
		if m.Topic != "later" {
			return false, 0
		}
		if err := w.e.Delay(m, "d", w.now().Add(5*time.Second)); err != nil {
			return true, packet.QuotaExceeded
		}
		return true, 0
	}})
	defer remove()
	p := w.connect(packet.V5, "p", clean)
	w.commit()
	p.all()
	p.say(pub("later", "x", 1, 1))
	p.want()
	w.commit()
	p.want("PUBACK #1")
	s.all()
	w.crash(0)
	s = w.connect(packet.V5, "s")
	w.commit()
	s.want("CONNACK 0x0 true")
	step := func(seconds int, want ...string) {
		t.Helper()
		for range seconds {
			w.pass(time.Second)
		}
		w.commit()
		s.want(want...)
	}
	step(6, "PUBLISH d=x q1 #1")
	step(5, "PUBLISH will=gone q1 #2")
	step(10, "PUBLISH will2=gone q1 #3")
	w.crash(0)
	s = w.connect(packet.V5, "s")
	w.commit()
	s.want("CONNACK 0x0 true", "PUBLISH d=x q1 #1 dup", "PUBLISH will=gone q1 #2 dup", "PUBLISH will2=gone q1 #3 dup")
	step(30)
}

// While the store cannot write, what would have to be stored is refused and everything else goes on; afterwards nobody has to do anything.
func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V5, "s")
	s.say(sub("d", 2))
	p, old := w.connect(packet.V5, "p", clean), w.connect(packet.V311, "old", clean)
	p.say(sub("q0", 0))
	w.commit()
	for _, c := range []*wire{s, p, old} {
		c.all()
	}
	p.say(pub("d", "before", 2, 9))
	w.commit()
	p.want("PUBREC #9")
	s.want("PUBLISH d=before q2 #1")
	s.say(ack(packet.TypePubrec, 1), pub("x", "", 2, 3))
	w.commit()
	s.want("PUBREL #1", "PUBREC #3 0x10")
	s.say(ack(packet.TypePubcomp, 1), ack(packet.TypePubrel, 3), pub("d", "of s", 1, 4)) // PUBCOMP has to wait, and holds up nothing
	p.say(pub("d", "pending 1", 1, 1), pub("d", "pending 2", 2, 2))
	old.say(pub("d", "pending 3", 1, 1))
	w.m.Fail(errors.New("disk full"))
	w.e.Advance(w.now())
	p.want("PUBACK #1 0x97", "PUBREC #2 0x97")
	if !old.closed {
		t.Error("a 3.1.1 client, which cannot be told, was not cut off")
	}
	old.want()
	p.say(pub("d", "a", 1, 3), pub("d", "b", 2, 2), pub("d", "c", 0, 0), pub("q0", "d", 0, 0), pub("nobody", "e", 1, 4),
		&packet.Publish{Topic: []byte("r"), Payload: []byte("x"), Retain: true, QoS: 1, PacketID: 5})
	p.want("PUBACK #3 0x97", "PUBREC #2 0x97", "PUBLISH q0=d q0 #0", "PUBACK #4 0x10", "PUBACK #5 0x97")
	s.want("PUBLISH d=of s q1 #2", "PUBLISH d=pending 1 q1 #3", "PUBACK #4 0x97", "PUBLISH d=pending 3 q1 #5", "PUBLISH d=c q0 #0")
	if _, err := w.e.Publish(&engine.Message{Topic: "d", QoS: 1}); err != packet.QuotaExceeded {
		t.Errorf("Publish: got %v, want quota exceeded", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := w.e.PublishStored(ctx, &engine.Message{Topic: "d", QoS: 1}); err != packet.QuotaExceeded {
		t.Errorf("PublishStored: got %v, want quota exceeded", err)
	}
	fresh := w.connect(packet.V5, "fresh")
	fresh.want("CONNACK 0x97 false")
	s.say(sub("other", 1))
	s.hangUp()
	s = w.connect(packet.V5, "s") // may take what it has
	s.want("CONNACK 0x0 true", "PUBLISH d=of s q1 #2 dup", "PUBLISH d=pending 1 q1 #3 dup", "PUBLISH d=pending 3 q1 #5 dup")

	w.m.Fail(nil)
	w.commit()
	s.want() // what was refused is not delivered
	p.say(pub("d", "again 2", 2, 2))
	w.commit()
	p.want("PUBREC #2")
	s.want("PUBLISH d=again 2 q2 #6")
	w.crash(0)
	s = w.connect(packet.V5, "s")
	w.commit()
	s.want("CONNACK 0x0 true", "PUBLISH d=of s q1 #2 dup", "PUBLISH d=pending 1 q1 #3 dup", "PUBLISH d=pending 3 q1 #5 dup", "PUBLISH d=again 2 q2 #6 dup")
}

// actor is a client that keeps its own side of the protocol over crashes of the broker.
type actor struct {
	id   string
	v    packet.Version
	c    *wire
	next int               // of its publications
	out  []*packet.Publish // not answered
	rel  map[uint16]bool   // PUBREL sent or owed
	last uint16            // identifier
	seen []string          // what its application got
	held map[uint16]bool   // QoS 2 received, PUBREL awaited
	done map[string]bool   // published and acknowledged
}

func (a *actor) connect(w *world) {
	a.c = w.connect(a.v, a.id)
	w.commit()
	for _, m := range a.out {
		m.Dup = true
		a.c.say(m)
	}
	for id := range a.rel {
		a.c.say(ack(packet.TypePubrel, id))
	}
}

// free gives an identifier that is not in use.
func (a *actor) free() uint16 {
	for {
		a.last = a.last%8 + 1
		if !a.rel[a.last] && !slices.ContainsFunc(a.out, func(m *packet.Publish) bool { return m.PacketID == a.last }) {
			return a.last
		}
	}
}

// hear takes what has come, and answers at most n packets.
func (a *actor) hear(t rapid.TB, n int) {
	for _, m := range a.c.all() {
		switch m := m.(type) {
		case *packet.Publish:
			if m.QoS == 1 || !a.held[m.PacketID] {
				a.seen = append(a.seen, string(m.Payload))
			}
			if m.QoS == 2 {
				a.held[m.PacketID] = true
			}
			if n--; n < 0 {
				continue
			}
			if m.QoS == 1 {
				a.c.say(ack(packet.TypePuback, m.PacketID))
			} else {
				a.c.say(ack(packet.TypePubrec, m.PacketID))
			}
		case *packet.Ack:
			switch m.Kind {
			case packet.TypePubrel:
				delete(a.held, m.PacketID)
				a.c.say(ack(packet.TypePubcomp, m.PacketID))
			case packet.TypePuback, packet.TypePubrec:
				i := slices.IndexFunc(a.out, func(o *packet.Publish) bool { return o.PacketID == m.PacketID })
				if i < 0 {
					continue // a repeat
				}
				if m.Code >= 0x80 {
					t.Fatalf("%s: %s", a.id, short(m))
				}
				a.done[string(a.out[i].Payload)] = true
				a.out = slices.Delete(a.out, i, i+1)
				if m.Kind == packet.TypePubrec {
					a.rel[m.PacketID] = true
					a.c.say(ack(packet.TypePubrel, m.PacketID))
				}
			case packet.TypePubcomp:
				delete(a.rel, m.PacketID)
			}
		}
	}
}

// Random histories with crashes between any two changes: what was acknowledged arrives, QoS 2 once, in order.
func TestCrashModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		v := rapid.SampledFrom([]packet.Version{packet.V311, packet.V5}).Draw(rt, "version")
		var actors []*actor
		for _, id := range []string{"p", "q", "s1", "s2"} {
			a := &actor{id: id, v: v, rel: map[uint16]bool{}, held: map[uint16]bool{}, done: map[string]bool{}}
			actors = append(actors, a)
			a.connect(w)
		}
		pubs, subs := actors[:2], actors[2:]
		subs[0].c.say(sub("t/+", 1))
		subs[1].c.say(sub("t/+", 2))
		w.commit()
		away := func() {
			for _, a := range actors {
				if a.c != nil {
					a.c = nil
				}
			}
		}
		pick := func(rt *rapid.T) *actor {
			a := rapid.SampledFrom(actors).Draw(rt, "actor")
			if a.c == nil {
				return nil
			}
			return a
		}
		rt.Repeat(map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				a := rapid.SampledFrom(pubs).Draw(rt, "publisher")
				qos := packet.QoS(rapid.IntRange(1, 2).Draw(rt, "qos"))
				if a.c == nil || len(a.out)+len(a.rel) >= 6 {
					return
				}
				a.next++
				m := pub(fmt.Sprintf("t/%s%d", a.id, qos), fmt.Sprintf("%s%d-%04d", a.id, qos, a.next), qos, a.free())
				a.out = append(a.out, m)
				a.c.say(m)
			},
			"commit": func(*rapid.T) { w.commit() },
			"hear": func(rt *rapid.T) {
				if a := pick(rt); a != nil {
					a.hear(rt, rapid.IntRange(0, 5).Draw(rt, "answers"))
				}
			},
			"leave": func(rt *rapid.T) {
				if a := pick(rt); a != nil {
					a.c.hangUp()
					a.c = nil
				}
			},
			"come": func(rt *rapid.T) {
				if a := rapid.SampledFrom(actors).Draw(rt, "actor"); a.c == nil {
					a.connect(w)
				}
			},
			"clean": func(rt *rapid.T) {
				if !w.m.Clean() {
					rt.Fatal("the store could not be cleaned")
				}
				w.e.Advance(w.now())
			},
			"crash": func(rt *rapid.T) {
				w.crash(rapid.IntRange(0, 12).Draw(rt, "more"))
				away()
			},
		})
		for _, a := range actors { // what was left unanswered comes again on another connection
			if a.c != nil {
				a.c.hangUp()
				a.c = nil
			}
		}
		for idle, rounds := 0, 0; idle < 3 && rounds < 5000; rounds++ {
			busy := false
			for _, a := range actors {
				if a.c == nil {
					a.connect(w)
					busy = true
				}
				n := len(a.seen)
				a.hear(rt, 1000)
				busy = busy || len(a.seen) != n || len(a.out)+len(a.rel)+len(a.held) > 0
			}
			w.commit()
			if idle++; busy {
				idle = 0
			}
		}
		for _, a := range pubs {
			if len(a.out)+len(a.rel) > 0 {
				rt.Fatalf("%s: %d publications and %d releases were never answered", a.id, len(a.out), len(a.rel))
			}
		}
		for i, s := range subs {
			times := map[string]int{}
			latest := map[string]string{}
			for _, payload := range s.seen {
				if times[payload]++; times[payload] > 1 {
					if i == 1 && payload[1] == '2' {
						rt.Fatalf("%s got %s twice: %v", s.id, payload, s.seen)
					}
					continue
				}
				if line := payload[:2]; payload < latest[line] {
					rt.Fatalf("%s got %s after %s: %v", s.id, payload, latest[line], s.seen)
				}
				latest[payload[:2]] = payload
			}
			for _, a := range pubs {
				for payload := range a.done {
					if times[payload] == 0 {
						rt.Fatalf("%s never got %s, which was acknowledged: %v", s.id, payload, s.seen)
					}
				}
			}
		}
	})
}

// Messages that expire while nobody fetches them are given up, in memory and in the store.
func TestExpiryInQueue(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V5, "s")
	s.say(sub("d", 1))
	p := w.connect(packet.V5, "p", clean)
	s.hangUp()
	w.commit()
	for i := range 10 {
		m := pub("d", fmt.Sprint(i), 1, uint16(i+1))
		if i%2 == 0 {
			m.HasExpiry, m.Expiry = true, uint32(10+i)
		}
		p.say(m)
	}
	w.commit()
	for range 30 {
		w.pass(time.Second)
	}
	if info, _ := w.e.Session("s"); info.QueueLen != 5 {
		t.Errorf("got %d messages in the queue, want the 5 that do not expire", info.QueueLen)
	}
	w.commit()
	w.crash(0)
	s = w.connect(packet.V5, "s", func(c *packet.Connect) { c.ReceiveMaximum = 100 })
	w.commit()
	s.want("CONNACK 0x0 true", "PUBLISH d=1 q1 #2", "PUBLISH d=3 q1 #4", "PUBLISH d=5 q1 #6", "PUBLISH d=7 q1 #8")
}
