package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

var versions = []packet.Version{packet.V31, packet.V311, packet.V5}

func TestRoundTrip(t *testing.T) {
	for _, v := range versions {
		for qos := packet.QoS(0); qos <= 2; qos++ {
			t.Run(fmt.Sprintf("%s QoS %d", v, qos), func(t *testing.T) {
				w := newWorld(t)
				sub := w.connect(v, "sub")
				sub.subscribe("a/+", qos)
				p := w.connect(v, "pub")
				for i := range 3 {
					p.say(pub("a/b", fmt.Sprint(i), qos, uint16(i+1)))
					switch qos {
					case 1:
						if a := want[*packet.Ack](p); a.Kind != packet.TypePuback || a.PacketID != uint16(i+1) {
							t.Fatalf("got %s, want PUBACK %d", show(a), i+1)
						}
					case 2:
						if a := want[*packet.Ack](p); a.Kind != packet.TypePubrec || a.PacketID != uint16(i+1) {
							t.Fatalf("got %s, want PUBREC %d", show(a), i+1)
						}
						p.say(ack(packet.TypePubrel, uint16(i+1)))
						if a := want[*packet.Ack](p); a.Kind != packet.TypePubcomp || a.PacketID != uint16(i+1) {
							t.Fatalf("got %s, want PUBCOMP %d", show(a), i+1)
						}
					}
				}
				for i := range 3 {
					m := sub.expect("a/b", fmt.Sprint(i), qos)
					if m.Dup || m.Retain {
						t.Errorf("got %s, want neither dup nor retain", show(m))
					}
				}
				sub.silent()
				p.say(&packet.Pingreq{})
				want[*packet.Pingresp](p)
				p.say(&packet.Disconnect{})
				if !p.isClosed() {
					t.Error("connection is open after DISCONNECT")
				}
				if got := w.e.Stats().Connections.Count; got != 1 {
					t.Errorf("connections: got %d, want 1", got)
				}
				s, _ := w.e.Session("sub")
				if s.Inflight != 0 || s.Delivered != 3 {
					t.Errorf("session: got inflight %d delivered %d, want 0 and 3", s.Inflight, s.Delivered)
				}
			})
		}
	}
}

// Bytes may come in any pieces.
func TestPieces(t *testing.T) {
	for size := 1; size < 40; size++ {
		w := newWorld(t)
		p := w.connect(packet.V5, "p")
		p.subscribe("t", 1)
		var buf []byte
		for i := range 5 {
			buf = pub("t", fmt.Sprint("payload ", i), 1, uint16(i+1)).Append(buf, p.v)
			buf = (&packet.Pingreq{}).Append(buf, p.v)
		}
		for len(buf) > 0 {
			n := min(size, len(buf))
			p.raw(buf[:n])
			buf = buf[n:]
		}
		pubs, pings := 0, 0
		for m := p.next(); m != nil; m = p.next() {
			switch m := m.(type) {
			case *packet.Publish:
				if string(m.Payload) != fmt.Sprint("payload ", pubs) {
					t.Fatalf("size %d: got %s as number %d", size, show(m), pubs)
				}
				pubs++
			case *packet.Pingresp:
				pings++
			}
		}
		if pubs != 5 || pings != 5 {
			t.Fatalf("size %d: got %d publications and %d pings, want 5 and 5", size, pubs, pings)
		}
	}
}

func TestQoS2Once(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V311, "s")
	s.subscribe("t", 2)
	p := w.connect(packet.V311, "p", persistent)
	m := pub("t", "x", 2, 9)
	p.say(m)
	want[*packet.Ack](p)
	m.Dup = true
	p.say(m)
	if a := want[*packet.Ack](p); a.Kind != packet.TypePubrec {
		t.Fatalf("got %s, want PUBREC", show(a))
	}
	p.hangUp()
	p = w.connect(packet.V311, "p", persistent)
	p.say(m)
	want[*packet.Ack](p)
	p.say(ack(packet.TypePubrel, 9))
	want[*packet.Ack](p)
	s.expect("t", "x", 2)
	s.silent()
	m.Dup = false
	p.say(m) // a new message with the old identifier
	s.expect("t", "x", 2)
}

func TestPersistentSession(t *testing.T) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			w := newWorld(t)
			s := w.connect(v, "s", persistent)
			s.subscribe("t/#", 2)
			s.hangUp()
			if got, ok := w.e.Session("s"); !ok || got.Connected || got.Subscriptions != 1 {
				t.Fatalf("session: got %+v, %v", got, ok)
			}
			p := w.connect(v, "p")
			for qos := packet.QoS(0); qos <= 2; qos++ {
				p.say(pub("t/1", fmt.Sprint(qos), qos, 5))
			}
			s = w.dial(v)
			a := s.hello("s", persistent)
			if a.SessionPresent != (v != packet.V31) {
				t.Errorf("session present: got %v", a.SessionPresent)
			}
			for qos := packet.QoS(0); qos <= 2; qos++ {
				s.expect("t/1", fmt.Sprint(qos), qos)
			}
			s.silent()
			s.say(&packet.Disconnect{})
			w.pass(2*time.Hour + time.Minute)
			if _, ok := w.e.Session("s"); ok {
				t.Error("session is there after its expiry")
			}
			if got := w.e.Stats().Subscriptions.Count; got != 0 {
				t.Errorf("subscriptions: got %d, want 0", got)
			}
		})
	}
}

// Unacknowledged deliveries go out again with their old identifiers, in order [MQTT-4.4.0-1] [MQTT-4.6.0-1].
func TestRedelivery(t *testing.T) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			w := newWorld(t)
			s := w.connect(v, "s", persistent)
			s.subscribe("t", 2)
			p := w.connect(v, "p")
			p.say(pub("t", "1", 1, 1), pub("t", "2", 2, 2), pub("t", "3", 2, 3))
			m1 := want[*packet.Publish](s)
			m2 := want[*packet.Publish](s)
			m3 := want[*packet.Publish](s)
			s.say(ack(packet.TypePubrec, m2.PacketID))
			want[*packet.Ack](s)
			s.hangUp()
			s = w.connect(v, "s", persistent)
			r1 := want[*packet.Publish](s)
			r2 := want[*packet.Ack](s)
			r3 := want[*packet.Publish](s)
			if !r1.Dup || r1.PacketID != m1.PacketID || r2.Kind != packet.TypePubrel || r2.PacketID != m2.PacketID || !r3.Dup || r3.PacketID != m3.PacketID {
				t.Errorf("got %s, %s, %s", show(r1), show(r2), show(r3))
			}
			s.say(ack(packet.TypePuback, r1.PacketID), ack(packet.TypePubcomp, r2.PacketID), ack(packet.TypePubrec, r3.PacketID))
			want[*packet.Ack](s)
			s.say(ack(packet.TypePubcomp, r3.PacketID))
			if info, _ := w.e.Session("s"); info.Inflight != 0 || info.AwaitingComp != 0 {
				t.Errorf("inflight: got %d (%d wait for PUBCOMP), want 0", info.Inflight, info.AwaitingComp)
			}
		})
	}
}

func TestTakeover(t *testing.T) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			w := newWorld(t)
			old := w.connect(v, "c", persistent)
			old.subscribe("t", 1)
			now := w.connect(v, "c", persistent)
			if v == packet.V5 {
				if d := want[*packet.Disconnect](old); d.Code != packet.SessionTakenOver {
					t.Errorf("got %v, want 0x8E", d.Code)
				}
			}
			old.silent()
			if !old.isClosed() {
				t.Error("older connection is open")
			}
			old.hangUp()
			rows, total := w.e.Clients(0, 10)
			if total != 1 || len(rows) != 1 {
				t.Errorf("clients: got %d rows of %d", len(rows), total)
			}
			w.connect(v, "p").say(pub("t", "x", 1, 1))
			now.expect("t", "x", 1)
			old.silent()
		})
	}
}

func TestKick(t *testing.T) {
	w := newWorld(t)
	watch := w.connect(packet.V5, "watch")
	watch.subscribe("will", 1)
	p := w.connect(packet.V5, "c", func(c *packet.Connect) {
		persistent(c)
		c.Will = &packet.Will{Topic: "will", Payload: []byte("gone"), QoS: 1}
	})
	if err := w.e.Kick("c"); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.e.Client("c"); ok {
		t.Error("client row is there after Kick")
	}
	if _, ok := w.e.Session("c"); !ok {
		t.Error("persistent session is gone after Kick")
	}
	if d := want[*packet.Disconnect](p); d.Code != packet.AdministrativeAction {
		t.Errorf("got %v, want 0x98", d.Code)
	}
	watch.expect("will", "gone", 1)
	p.hangUp()
	watch.silent()
	if err := w.e.Kick("c"); err == nil {
		t.Error("second Kick: got nil, want ErrNotFound")
	}
	if got := w.l.Info(); got.CurrentConnections != 1 || got.ShutdownCount[ReasonKicked] != 1 {
		t.Errorf("listener: got %+v", got)
	}
}

func TestKeepAlive(t *testing.T) {
	w := newWorld(t)
	p := w.connect(packet.V5, "c", func(c *packet.Connect) { c.KeepAlive = 10 })
	for range 5 {
		w.pass(9 * time.Second)
		p.say(&packet.Pingreq{})
		want[*packet.Pingresp](p)
	}
	w.pass(14 * time.Second)
	p.silent()
	w.pass(2 * time.Second)
	if d := want[*packet.Disconnect](p); d.Code != packet.KeepAliveTimeout {
		t.Errorf("got %v, want 0x8D", d.Code)
	}
	idle := w.dial(packet.V311)
	w.pass(16 * time.Second)
	if !idle.isClosed() {
		t.Error("connection without CONNECT is open after the idle timeout")
	}
}

func TestRetained(t *testing.T) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			w := newWorld(t)
			p := w.connect(v, "p")
			set := func(topic, payload string) {
				m := pub(topic, payload, 1, 1)
				m.Retain = true
				p.say(m)
				want[*packet.Ack](p)
			}
			set("r/1", "one")
			set("r/2", "two")
			set("r/3", "three")
			set("r/2", "")
			s := w.connect(v, "s")
			s.subscribe("r/+", 1)
			for _, m := range []*packet.Publish{s.expect("r/1", "one", 1), s.expect("r/3", "three", 1)} {
				if !m.Retain {
					t.Errorf("got %s, want retain", show(m))
				}
			}
			s.silent()
			set("r/1", "uno")
			if m := s.expect("r/1", "uno", 1); m.Retain {
				t.Errorf("got %s, want no retain", show(m))
			}
			if got := w.e.Metrics()[MessagesRetained]; got != 2 {
				t.Errorf("messages/retained: got %d, want 2", got)
			}
		})
	}
}
