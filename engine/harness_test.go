package engine

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// world is an engine with one listener and a clock that the test moves.
type world struct {
	t     testing.TB
	e     *Engine
	l     *Listener
	mu    sync.Mutex
	clock time.Time
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s := DefaultSettings()
	s.SysInterval, s.SysHeartbeat = 0, 0
	o := Options{Node: "n@h", Version: "1", Now: w.now, Settings: &s, Zones: map[string]Zone{}}
	o.Zones[DefaultZoneName] = DefaultZone()
	for _, f := range change {
		f(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.e = e
	if err := e.EnableRetainer(RetainerOptions{}); err != nil {
		t.Fatal(err)
	}
	if w.l, err = e.AddListener(ListenerOptions{Name: "external", Protocol: "mqtt:tcp", Address: "0.0.0.0:1883"}); err != nil {
		t.Fatal(err)
	}
	return w
}

// zone changes the zone external before the start.
func zone(change func(*Zone)) func(*Options) {
	return func(o *Options) {
		z := o.Zones[DefaultZoneName]
		change(&z)
		o.Zones[DefaultZoneName] = z
	}
}

func settings(change func(*Settings)) func(*Options) {
	return func(o *Options) { change(o.Settings) }
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

// pass lets time go by in steps, as Run would.
func (w *world) pass(d time.Duration) {
	for d > 0 {
		step := min(d, time.Second)
		w.mu.Lock()
		w.clock = w.clock.Add(step)
		now := w.clock
		w.mu.Unlock()
		w.e.Advance(now)
		d -= step
	}
}

// client is the other end of a connection: it encodes and decodes, and knows nothing of the protocol.
type client struct {
	t       testing.TB
	w       *world
	c       *Conn
	b       *Batch
	v       packet.Version
	mu      sync.Mutex
	room    int // bytes that the carrier takes; below 0 without bound
	wire    []byte
	got     []packet.Packet // decoded
	closed  bool
	resumed int
	told    bool // Conn.Closed was called
}

func (p *client) Write(bufs [][]byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, b := range bufs {
		if p.room >= 0 && len(b) > p.room {
			b = b[:p.room]
		}
		p.wire = append(p.wire, b...)
		n += len(b)
		if p.room >= 0 {
			p.room -= len(b)
			if p.room == 0 {
				break
			}
		}
	}
	return n, nil
}

func (p *client) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resumed++
}

func (p *client) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

func (p *client) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// dial opens a connection without saying anything.
func (w *world) dial(v packet.Version) *client {
	w.t.Helper()
	p := &client{t: w.t, w: w, v: v, b: w.e.NewBatch(), room: -1}
	c, err := w.l.Accept(ConnInfo{Peer: netip.MustParseAddrPort("10.0.0.1:40000"), Local: netip.MustParseAddrPort("10.0.0.2:1883")}, p)
	if err != nil {
		w.t.Fatal(err)
	}
	p.c = c
	return p
}

// connect opens a connection and says CONNECT; change may alter it. The CONNACK must be a success.
func (w *world) connect(v packet.Version, id string, change ...func(*packet.Connect)) *client {
	w.t.Helper()
	p := w.dial(v)
	ack := p.hello(id, change...)
	if ack.Code != packet.Success {
		w.t.Fatalf("CONNACK of %q: got %v, want success", id, ack.Code)
	}
	return p
}

// hello says CONNECT and gives the CONNACK.
func (p *client) hello(id string, change ...func(*packet.Connect)) *packet.Connack {
	p.t.Helper()
	m := &packet.Connect{Version: p.v, CleanStart: true, ClientID: id, ReceiveMaximum: packet.DefaultReceiveMaximum}
	for _, f := range change {
		f(m)
	}
	p.say(m)
	return want[*packet.Connack](p)
}

func persistent(c *packet.Connect) {
	c.CleanStart = false
	if c.Version == packet.V5 {
		c.SessionExpiry = 3600
	}
}

// say sends packets in one read.
func (p *client) say(list ...packet.Packet) Next {
	p.t.Helper()
	var buf []byte
	for _, m := range list {
		buf = m.Append(buf, p.v)
	}
	return p.raw(buf)
}

func (p *client) raw(buf []byte) Next {
	next := p.c.Feed(p.b, buf)
	p.b.Flush()
	return next
}

// hangUp ends the carrier without a word.
func (p *client) hangUp() {
	if p.told {
		return
	}
	p.told = true
	p.c.Closed(p.b, nil)
	p.b.Flush()
}

// writable lets the carrier take n more bytes; below 0: any number.
func (p *client) writable(n int) {
	p.mu.Lock()
	p.room = n
	p.mu.Unlock()
	p.c.Writable(p.b)
	p.b.Flush()
}

// decode turns what came into packets.
func (p *client) decode() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.wire) > 0 {
		h, n, err := packet.ParseHeader(p.v, p.wire)
		if err != nil || len(p.wire) < n+h.Remaining {
			if err == nil || err == packet.ErrIncomplete {
				return
			}
			p.t.Fatalf("output % x: %v", p.wire, err)
		}
		m := packet.New(h.Type)
		body := append([]byte(nil), p.wire[n:n+h.Remaining]...)
		if err := m.Decode(p.v, h.Flags, body); err != nil {
			p.t.Fatalf("output % x: %v", p.wire[:n+h.Remaining], err)
		}
		p.wire = p.wire[n+h.Remaining:]
		p.got = append(p.got, m)
	}
}

// next gives the next packet, or nil.
func (p *client) next() packet.Packet {
	p.t.Helper()
	p.decode()
	if len(p.got) == 0 {
		return nil
	}
	m := p.got[0]
	p.got = p.got[1:]
	return m
}

// fetch gives the next acknowledgement of a kind, whatever came before it.
func (p *client) fetch(kind packet.Type) *packet.Ack {
	p.t.Helper()
	p.decode()
	for i, m := range p.got {
		if m.Type() == kind {
			p.got = append(append([]packet.Packet(nil), p.got[:i]...), p.got[i+1:]...)
			return m.(*packet.Ack)
		}
	}
	p.t.Fatalf("no %s among %d packets", kind, len(p.got))
	return nil
}

// want gives the next packet, which must be of type T.
func want[T packet.Packet](p *client) T {
	p.t.Helper()
	m := p.next()
	got, ok := m.(T)
	if !ok {
		p.t.Fatalf("got %s, want %T", show(m), got)
	}
	return got
}

// silent checks that nothing came.
func (p *client) silent() {
	p.t.Helper()
	if m := p.next(); m != nil {
		p.t.Fatalf("got %s, want nothing", show(m))
	}
}

func show(m packet.Packet) string {
	switch m := m.(type) {
	case nil:
		return "nothing"
	case *packet.Publish:
		return fmt.Sprintf("PUBLISH %q %q QoS %d id %d retain %v dup %v", m.Topic, m.Payload, m.QoS, m.PacketID, m.Retain, m.Dup)
	case *packet.Ack:
		return fmt.Sprintf("%s %d %v", m.Kind, m.PacketID, m.Code)
	}
	return fmt.Sprintf("%s %+v", m.Type(), m)
}

func pub(topic, payload string, qos packet.QoS, id uint16) *packet.Publish {
	return &packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, PacketID: id}
}

func ack(kind packet.Type, id uint16) *packet.Ack { return &packet.Ack{Kind: kind, PacketID: id} }

// subscribe subscribes to filter and checks that it was granted.
func (p *client) subscribe(filter string, qos packet.QoS, change ...func(*packet.Subscribe)) {
	p.t.Helper()
	s := &packet.Subscribe{PacketID: 77, Filters: []packet.Subscription{{Filter: filter, QoS: qos}}}
	for _, f := range change {
		f(s)
	}
	p.say(s)
	a := want[*packet.Suback](p)
	if a.PacketID != 77 || len(a.Codes) != 1 || a.Codes[0] != packet.ReasonCode(qos) {
		p.t.Fatalf("SUBACK: got %+v, want id 77 and code %d", a, qos)
	}
}

// expect checks the next PUBLISH and acknowledges it as its QoS wants.
func (p *client) expect(topic, payload string, qos packet.QoS) *packet.Publish {
	p.t.Helper()
	m := want[*packet.Publish](p)
	if string(m.Topic) != topic || string(m.Payload) != payload || m.QoS != qos {
		p.t.Fatalf("got %s, want %q %q QoS %d", show(m), topic, payload, qos)
	}
	switch qos {
	case 1:
		p.say(ack(packet.TypePuback, m.PacketID))
	case 2:
		p.say(ack(packet.TypePubrec, m.PacketID))
		if rel := p.fetch(packet.TypePubrel); rel.PacketID != m.PacketID {
			p.t.Fatalf("got %s, want PUBREL %d", show(rel), m.PacketID)
		}
		p.say(ack(packet.TypePubcomp, m.PacketID))
	}
	return m
}
