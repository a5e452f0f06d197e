package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/store"
)

// Messages reach subscribers on the other node at their QoS, with what belongs to them, and nothing comes back.
func TestLinkForwards(t *testing.T) {
	p := newPair(t)
	p.up(t)
	a, b := p.nodes[0], p.nodes[1]
	s := b.connect(packet.V5, "s")
	s.say(sub("d/#", 2))
	p.settle()
	s.want("CONNACK 0x0 false", "SUBACK 0x2")
	here := a.connect(packet.V5, "here", clean)
	here.say(sub("d/+", 0))
	p.settle()
	here.want("CONNACK 0x0 false", "SUBACK 0x0")
	pu := a.connect(packet.V5, "p", clean)
	pu.want("CONNACK 0x0 false")
	pu.say(pub("d/0", "0", 0, 0), pub("d/1", "1", 1, 1), pub("d/2", "2", 2, 2), pub("other", "", 1, 3))
	p.settle()
	pu.want("PUBACK #1", "PUBREC #2", "PUBACK #3 0x10")
	here.want("PUBLISH d/0=0 q0 #0", "PUBLISH d/1=1 q0 #0", "PUBLISH d/2=2 q0 #0")
	s.want("PUBLISH d/0=0 q0 #0", "PUBLISH d/1=1 q1 #1", "PUBLISH d/2=2 q2 #2")
	s.say(ack(packet.TypePuback, 1), ack(packet.TypePubrec, 2))
	p.settle()
	s.want("PUBREL #2")
	if m := a.e.Metrics(); m[engine.MessagesForward] != 3 {
		t.Errorf("messages/forward is %d, want 3", m[engine.MessagesForward])
	}
	props := packet.Properties(nil).AddContentType("text").AddUser("k", "v")
	pu.say(&packet.Publish{Topic: []byte("d/3"), Payload: []byte("3"), Retain: true, HasExpiry: true, Expiry: 60, Properties: props})
	p.settle()
	m, ok := s.all()[0].(*packet.Publish)
	if !ok || !m.HasExpiry || m.Expiry != 60 || string(m.Properties) != string(props) || m.Retain {
		t.Errorf("got %+v, want the properties of the publisher and no more", m)
	}
	for i, l := range []engine.LinkInfo{a.e.Links()[0], b.e.Links()[0]} {
		if l.Queue != 0 || l.Routes != 1 {
			t.Errorf("node %d: link %+v, want nothing in the queue and one route", i, l)
		}
	}
}

// What is only for clients of one node stays there, and no-local holds for a publisher of the same name elsewhere.
func TestLinkLeavesOut(t *testing.T) {
	p := newPair(t)
	p.up(t)
	a, b := p.nodes[0], p.nodes[1]
	local := b.connect(packet.V5, "local", clean)
	local.say(sub("$local/d/#", 1), sub("$share/g/$local/e", 1), sub("$SYS/#", 1))
	same := b.connect(packet.V5, "same", clean)
	same.say(&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "n/#", QoS: 1, NoLocal: true}, {Filter: "d/2", QoS: 1}}})
	p.settle()
	local.all()
	same.all()
	if l := a.e.Links()[0]; l.Routes != 2 {
		t.Errorf("link %+v, want two routes", l)
	}
	pu := a.connect(packet.V5, "same", clean)
	pu.say(pub("d/2", "1", 1, 1), pub("n/1", "2", 1, 2), pub("e", "3", 1, 3))
	other := a.connect(packet.V5, "other", clean)
	other.say(pub("n/1", "4", 1, 1))
	p.settle()
	same.want("PUBLISH d/2=1 q1 #1", "PUBLISH n/1=4 q1 #2")
	local.want()
	pu.want("CONNACK 0x0 false", "PUBACK #1", "PUBACK #2", "PUBACK #3 0x10")
}

// A node that has lost its half of the sessions begins anew: what the other half knows would hide its messages.
func TestLinkAfterLoss(t *testing.T) {
	for lost := range 2 {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			p := newPair(t)
			p.up(t)
			send := func(text string) {
				t.Helper()
				s := p.nodes[1].connect(packet.V5, "s", clean)
				s.say(sub("d", 2))
				p.settle()
				s.all()
				pu := p.nodes[0].connect(packet.V5, "p", clean)
				pu.say(pub("d", text, 2, 1))
				p.nodes[0].commit()
				p.carry(0, 1<<20)
				p.settle()
				s.want("PUBLISH d=" + text + " q2 #1")
			}
			send("1")
			p.crash(lost, 0)
			p.nodes[lost].m = store.NewMemory(false)
			p.nodes[lost].boot()
			p.connect()
			p.up(t)
			send("2")
			for i, w := range p.nodes {
				if l := w.e.Links()[0]; l.Queue != 0 || l.Routes != 1-i {
					t.Errorf("node %d: link %+v, want nothing in the queue and the routes of now", i, l)
				}
			}
		})
	}
}

// What a share group has given to a node that is taken out goes to another member.
func TestLinkIsDropped(t *testing.T) {
	p := newPair(t)
	p.up(t)
	a, b := p.nodes[0], p.nodes[1]
	m := b.connect(packet.V5, "m", clean)
	m.say(sub("$share/g/d", 1))
	p.settle()
	p.ends[0].full = true
	pu := a.connect(packet.V5, "p", clean)
	pu.say(pub("d", "1", 1, 1), pub("d", "2", 1, 2))
	a.commit()
	pu.want("CONNACK 0x0 false", "PUBACK #1", "PUBACK #2")
	here := a.connect(packet.V5, "here", clean)
	here.say(sub("$share/g/d", 1))
	a.e.DropLink("n1")
	a.pass(200 * time.Millisecond)
	if got := p.drain(here); !slices.Equal(got[0], []string{"1", "2"}) {
		t.Errorf("the member that is left got %q, want both messages", got[0])
	}
	if l := a.e.Links(); len(l) != 0 {
		t.Errorf("links %+v, want none", l)
	}
}

// The APIs know clients only.
func TestLinkIsHidden(t *testing.T) {
	p := newPair(t)
	p.up(t)
	a, b := p.nodes[0], p.nodes[1]
	s := b.connect(packet.V5, "s")
	s.say(sub("d/#", 2))
	p.settle()
	if _, n := a.e.Sessions(0, 10); n != 0 {
		t.Errorf("%d sessions, want none", n)
	}
	if rows, n := a.e.Clients(0, 10); n != 0 || len(rows) != 0 {
		t.Errorf("%d clients, want none", n)
	}
	if _, n := a.e.Subscriptions(0, 10); n != 0 {
		t.Errorf("%d subscriptions, want none", n)
	}
	if _, n := a.e.Routes(0, 10); n != 0 {
		t.Errorf("%d routes, want none", n)
	}
	if _, ok := a.e.Session(engine.LinkPrefix + "n1"); ok {
		t.Error("the session of a node can be looked up")
	}
	if err := a.e.DropSession(engine.LinkPrefix + "n1"); err == nil {
		t.Error("the session of a node can be dropped")
	}
	for _, st := range a.e.Stats().Named() {
		if st.Count != 0 || st.Max != 0 {
			t.Errorf("%s is %+v, want 0", st.Name, st.Stat)
		}
	}
	m := a.e.Metrics()
	for i := range m {
		if m[i] != 0 {
			t.Errorf("%s is %d, want 0", engine.Metric(i).Name(), m[i])
		}
	}
	c := a.connect(packet.V5, engine.LinkPrefix+"n1", clean)
	c.want("CONNACK 0x85 false")
}

// SUBACK waits for the nodes that are up, and for none for long.
func TestSubackWaitsForNodes(t *testing.T) {
	p := newPair(t)
	p.up(t)
	b := p.nodes[1]
	s := b.connect(packet.V5, "s", clean)
	s.say(sub("d/#", 0))
	b.commit()
	s.want("CONNACK 0x0 false")
	p.settle()
	s.want("SUBACK 0x0")
	s.say(sub("e/#", 0), &packet.Pingreq{})
	b.pass(50 * time.Millisecond)
	s.want()
	b.pass(100 * time.Millisecond)
	s.want("SUBACK 0x0", "PINGRESP")
	if l := b.e.Links()[0]; !l.Late {
		t.Errorf("link %+v, want late", l)
	}
	s.say(sub("f/#", 0))
	s.want("SUBACK 0x0")
	p.up(t)
	s.say(sub("g/#", 0))
	s.want()
	p.cut()
	b.commit()
	s.want("SUBACK 0x0")
	if l := b.e.Links()[0]; l.Connected || l.Up {
		t.Errorf("link %+v, want none", l)
	}
}

// A node that is away gets what it would have got, also if either has crashed meanwhile; routes that changed are put right.
func TestNodeIsAway(t *testing.T) {
	for _, crashed := range []int{-1, 0, 1} {
		t.Run(fmt.Sprint(crashed), func(t *testing.T) {
			p := newPair(t)
			p.up(t)
			b := p.nodes[1]
			s := b.connect(packet.V5, "s")
			s.say(sub("d/#", 2), sub("x", 1))
			p.settle()
			p.cut()
			if crashed == 1 {
				p.crash(1, 0)
			}
			pu := p.nodes[0].connect(packet.V5, "p", clean)
			pu.say(pub("d/1", "1", 1, 1), pub("d/2", "2", 2, 2), pub("d/0", "lost", 0, 0))
			p.nodes[0].commit()
			pu.want("CONNACK 0x0 false", "PUBACK #1", "PUBREC #2")
			if crashed == 0 {
				p.crash(0, 0)
			}
			s = p.nodes[1].connect(packet.V5, "s")
			s.say(&packet.Unsubscribe{PacketID: 1, Filters: []string{"x"}}, sub("y", 1))
			p.settle()
			s.all()
			p.connect()
			p.up(t)
			s.want("PUBLISH d/1=1 q1 #1", "PUBLISH d/2=2 q2 #2")
			if l := p.nodes[0].e.Links()[0]; l.Routes != 2 || l.Queue != 0 {
				t.Errorf("link %+v, want two routes and nothing in the queue", l)
			}
			pu = p.nodes[0].connect(packet.V5, "p", clean)
			pu.say(pub("x", "", 1, 1), pub("y", "", 1, 2))
			p.settle()
			pu.want("CONNACK 0x0 false", "PUBACK #1 0x10", "PUBACK #2")
			s.want("PUBLISH y= q1 #3")
		})
	}
}

// Each message for a share group goes to one member of all nodes, and plain subscribers have theirs besides.
func TestLinkShares(t *testing.T) {
	p := newPair(t)
	p.up(t)
	a, b := p.nodes[0], p.nodes[1]
	members := []*wire{a.connect(packet.V5, "m0"), b.connect(packet.V5, "m1", clean), b.connect(packet.V5, "m2", clean)}
	for _, m := range members {
		m.say(sub("$share/g/d/#", 1))
	}
	other := b.connect(packet.V5, "other", clean)
	other.say(sub("$share/h/d/#", 1))
	plain := b.connect(packet.V5, "plain", clean)
	plain.say(sub("d/+", 1))
	p.settle()
	for _, m := range append(members, other, plain) {
		m.want("CONNACK 0x0 false", "SUBACK 0x1")
	}
	pu := a.connect(packet.V5, "p", clean)
	const n = 100
	for i := range n {
		pu.say(pub("d/1", fmt.Sprint(i), 1, uint16(i+1)))
	}
	p.settle()
	got := p.drain(members...)
	seen := map[string]int{}
	for i, list := range got {
		if len(list) == 0 {
			t.Errorf("member %d got nothing", i)
		}
		for _, x := range list {
			seen[x]++
		}
	}
	for i := range n {
		if seen[fmt.Sprint(i)] != 1 {
			t.Errorf("message %d came %d times", i, seen[fmt.Sprint(i)])
		}
	}
	for i, list := range p.drain(other, plain) {
		if len(list) != n {
			t.Errorf("subscriber %d outside the group got %d messages, want %d", i, len(list), n)
		}
	}
	if l := a.e.Links()[0]; l.Queue != 0 {
		t.Errorf("link %+v, want nothing in the queue", l)
	}
	// The members there go while a message is on its way: it comes back to the one here, who was passed over for being away.
	members[0].hangUp()
	pu.say(pub("d/1", "late", 1, 1))
	a.commit()
	for _, m := range members[1:] {
		m.say(&packet.Unsubscribe{PacketID: 1, Filters: []string{"$share/g/d/#"}})
	}
	p.settle()
	members[0] = a.connect(packet.V5, "m0")
	if got := p.drain(members[0]); !slices.Equal(got[0], []string{"late"}) {
		t.Errorf("the member that is left got %q, want the message of the one that has gone", got[0])
	}
}

// A node reads what another sends, however much waits for that: else both might wait for each other.
func TestLinkIsAlwaysRead(t *testing.T) {
	p := newPair(t)
	p.up(t)
	a, b := p.nodes[0], p.nodes[1]
	s := b.connect(packet.V5, "s", clean)
	s.say(sub("d", 1))
	p.settle()
	f := p.ends[0]
	f.full = true
	pu := a.connect(packet.V5, "p", clean)
	big := string(make([]byte, 100<<10))
	for i := range 20 {
		pu.say(pub("d", big, 1, uint16(i+1)))
	}
	a.commit()
	if l := a.e.Links()[0]; l.Queue != 20 || l.QueueBytes == 0 || l.QueueBytes > 12*len(big) {
		t.Fatalf("link %+v, want 20 messages, about half of them in the output", l)
	}
	if next := f.c.Feed(a.b, (*packet.Pingreq)(nil).Append(nil, packet.V5)); next != engine.ReadOn {
		t.Errorf("feed: %v, want to read on", next)
	}
	f.full = false
	f.c.Writable(a.b)
	a.b.Flush()
	if got := p.drain(s); len(got[0]) != 20 {
		t.Errorf("%d messages came, want 20", len(got[0]))
	}
}

// What waits for a node is bounded: publishers are refused at the limit, and go on below it.
func TestLinkQueueIsBounded(t *testing.T) {
	p := newPair(t)
	p.up(t)
	a, b := p.nodes[0], p.nodes[1]
	s := b.connect(packet.V5, "s")
	s.say(sub("d", 1))
	p.settle()
	p.cut()
	a.e.SetLinkQueue(1000)
	pu := a.connect(packet.V5, "p", clean)
	big := string(make([]byte, 400))
	pu.say(pub("d", big, 1, 1), pub("d", big, 1, 2), pub("d", big, 1, 3), pub("d", big, 1, 4), pub("d", big, 2, 5), pub("d", "", 0, 0), pub("nobody", big, 1, 6))
	a.commit()
	pu.want("CONNACK 0x0 false", "PUBACK #1", "PUBACK #2", "PUBACK #3", "PUBACK #4 0x97", "PUBREC #5 0x97", "PUBACK #6 0x10")
	if n := len(a.e.Alarms().List()); n != 1 {
		t.Errorf("%d alarms, want one", n)
	}
	p.connect()
	p.up(t)
	if n := len(a.e.Alarms().List()); n != 0 {
		t.Errorf("%d alarms, want none", n)
	}
	pu.say(pub("d", big, 1, 7))
	p.settle()
	pu.want("PUBACK #7")
	a.e.DropLink("n1")
	if l := a.e.Links(); len(l) != 0 {
		t.Errorf("links %+v, want none", l)
	}
}

// Whatever crashes, and wherever the link breaks, a message of QoS 2 that was answered reaches a subscriber on the other node once, and in
// the order of publication.
func TestLinkCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t)
		p.settle()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		s := newTaker(p.nodes[1], "s")
		s.p.say(sub("d/#", 2))
		p.settle()
		s.work()
		var pu *wire
		next, open := 0, map[uint16]string{} // publications without PUBCOMP
		released := map[uint16]bool{}
		publish := func(id uint16, dup bool) {
			m := pub("d/1", open[id], 2, id)
			m.Dup = dup
			pu.say(m)
		}
		enter := func() {
			pu = p.nodes[0].connect(packet.V5, "p")
			ids := make([]uint16, 0, len(open))
			for id := range open {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			for _, id := range ids {
				if released[id] {
					pu.say(ack(packet.TypePubrel, id))
				} else {
					publish(id, true)
				}
			}
		}
		enter()
		work := func() {
			for _, m := range pu.all() {
				a, ok := m.(*packet.Ack)
				switch {
				case !ok:
				case a.Kind == packet.TypePubrec:
					released[a.PacketID] = true
					pu.say(ack(packet.TypePubrel, a.PacketID))
				case a.Kind == packet.TypePubcomp:
					delete(open, a.PacketID)
					delete(released, a.PacketID)
				}
			}
			s.work()
		}
		for range rapid.IntRange(20, 120).Draw(t, "steps") {
			switch k := r.IntN(20); {
			case k < 6 && len(open) < 20:
				next++
				open[uint16(next)] = fmt.Sprint(next)
				publish(uint16(next), false)
			case k < 9:
				p.carry(0, 1+r.IntN(400))
			case k < 12:
				p.carry(1, 1+r.IntN(400))
			case k == 12:
				p.nodes[0].commit()
			case k == 13:
				p.nodes[1].commit()
			case k < 17:
				work()
			case k == 17:
				p.connect()
			case k == 18:
				p.crash(0, r.IntN(4))
				enter()
			case k == 19:
				p.crash(1, r.IntN(4))
				s.enter(p.nodes[1])
			}
		}
		p.connect()
		for range 200 {
			p.settle()
			work()
		}
		if len(open) > 0 {
			t.Fatalf("%d publications are still open", len(open))
		}
		for i := 1; i <= next; i++ {
			if i > len(s.got) || s.got[i-1] != fmt.Sprint(i) {
				t.Fatalf("got %q, want 1 to %d, each once", s.got, next)
			}
		}
		if len(s.got) != next {
			t.Fatalf("got %q, want 1 to %d, each once", s.got, next)
		}
	})
}

// taker is a subscriber with a memory of its own: what it got of QoS 2, once for each identifier.
type taker struct {
	id   string
	p    *wire
	held map[uint16]bool
	got  []string
}

func newTaker(w *world, id string) *taker {
	s := &taker{id: id, held: map[uint16]bool{}}
	s.enter(w)
	w.commit()
	return s
}

func (s *taker) enter(w *world) { s.p = w.connect(packet.V5, s.id) }

// work takes and acknowledges what has come.
func (s *taker) work() {
	for _, m := range s.p.all() {
		switch m := m.(type) {
		case *packet.Publish:
			if !s.held[m.PacketID] {
				s.held[m.PacketID] = true
				s.got = append(s.got, string(m.Payload))
			}
			s.p.say(ack(packet.TypePubrec, m.PacketID))
		case *packet.Ack:
			if m.Kind == packet.TypePubrel {
				delete(s.held, m.PacketID)
				s.p.say(ack(packet.TypePubcomp, m.PacketID))
			}
		}
	}
}
