package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

func TestWill(t *testing.T) {
	const v5 = packet.V5
	with := func(delay uint32) func(*packet.Connect) {
		return func(c *packet.Connect) {
			persistent(c)
			c.Will = &packet.Will{Topic: "w", Payload: []byte("gone"), QoS: 1, Delay: delay}
		}
	}
	tests := []struct {
		name  string
		delay uint32
		do    func(w *world, p *client)
		want  bool // published at once
		later bool // or after the delay
	}{
		{"carrier ends", 0, func(w *world, p *client) { p.hangUp() }, true, false},
		{"DISCONNECT 0x00", 0, func(w *world, p *client) { p.say(&packet.Disconnect{}) }, false, false},
		{"DISCONNECT 0x04", 0, func(w *world, p *client) { p.say(&packet.Disconnect{Code: packet.DisconnectWithWill}) }, true, false},
		{"bad packet", 0, func(w *world, p *client) { p.raw([]byte{0x00, 0x00}) }, true, false},
		{"delay", 10, func(w *world, p *client) { p.hangUp() }, false, true},
		{"back within the delay", 10, func(w *world, p *client) { p.hangUp(); w.connect(v5, "c", with(10)) }, false, false},
		{"clean start within the delay", 10, func(w *world, p *client) { p.hangUp(); w.connect(v5, "c") }, true, false},
		{"taken over, no delay", 0, func(w *world, p *client) { w.connect(v5, "c", with(0)) }, true, false},
		{"taken over, delay", 10, func(w *world, p *client) { w.connect(v5, "c", with(10)) }, false, false},
		{"session ends within the delay", 3600, func(w *world, p *client) { p.hangUp(); w.e.DropSession("c") }, true, false},
		{"expiry 0 at DISCONNECT 0x04", 10, func(w *world, p *client) {
			p.say(&packet.Disconnect{Code: packet.DisconnectWithWill, SessionExpiry: packet.Some(uint32(0))})
		}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			watch := w.connect(v5, "watch")
			watch.subscribe("w", 1)
			p := w.connect(v5, "c", with(tt.delay))
			if info, _ := w.e.Client("c"); info.WillTopic != "w" {
				t.Errorf("will topic: got %q", info.WillTopic)
			}
			tt.do(w, p)
			if tt.want {
				watch.expect("w", "gone", 1)
			}
			watch.silent()
			w.pass(time.Duration(tt.delay+1) * time.Second)
			if tt.later {
				watch.expect("w", "gone", 1)
			}
			w.pass(2 * time.Hour)
			watch.silent()
		})
	}
}

func TestSharedSubscriptions(t *testing.T) {
	for _, strategy := range []SharedStrategy{SharedRandom, SharedRoundRobin, SharedSticky, SharedHash} {
		for _, prefix := range []string{"$share/g/", "$queue/"} {
			t.Run(string(strategy)+" "+prefix, func(t *testing.T) {
				w := newWorld(t, settings(func(s *Settings) { s.SharedStrategy = strategy }))
				var members []*client
				for i := range 3 {
					m := w.connect(packet.V5, fmt.Sprint("m", i))
					m.subscribe(prefix+"t", 1)
					members = append(members, m)
				}
				p := w.connect(packet.V5, "p")
				total := 0
				counts := map[int]int{}
				for i := range 30 {
					p.say(pub("t", fmt.Sprint(i), 1, 1))
					for j, m := range members {
						for x := m.next(); x != nil; x = m.next() {
							m.say(ack(packet.TypePuback, x.(*packet.Publish).PacketID))
							counts[j]++
							total++
						}
					}
				}
				if total != 30 {
					t.Errorf("got %d deliveries, want 30", total)
				}
				switch strategy {
				case SharedRoundRobin:
					if counts[0] != 10 || counts[1] != 10 || counts[2] != 10 {
						t.Errorf("got %v, want 10 each", counts)
					}
				case SharedSticky, SharedHash:
					if len(counts) != 1 {
						t.Errorf("got %v, want all at one", counts)
					}
				case SharedRandom:
					if len(counts) != 3 {
						t.Errorf("got %v, want some at each", counts)
					}
				}
			})
		}
	}
}

// What a member did not acknowledge goes to another when its session ends, but for QoS 2 deliveries that were begun
// [MQTT-4.8.2-5].
func TestSharedRedispatch(t *testing.T) {
	w := newWorld(t, settings(func(s *Settings) { s.SharedStrategy = SharedSticky }), zone(func(z *Zone) { z.MaxInflight = 2 }))
	a := w.connect(packet.V5, "a")
	a.subscribe("$share/g/t", 2)
	p := w.connect(packet.V5, "p")
	p.say(pub("t", "1", 1, 1), pub("t", "2", 2, 2), pub("t", "3", 2, 3))
	want[*packet.Publish](a)
	want[*packet.Publish](a)
	a.silent() // the third waits in the queue
	b := w.connect(packet.V5, "b")
	b.subscribe("$share/g/t", 2)
	a.hangUp()
	b.expect("t", "1", 1)
	b.expect("t", "3", 2)
	b.silent()
	if got := w.e.Metrics()[SharedRedelivered]; got != 2 {
		t.Errorf("redelivered: got %d, want 2", got)
	}
}

func TestOverlap(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V5, "s")
	id := func(n uint32) func(*packet.Subscribe) { return func(p *packet.Subscribe) { p.SubscriptionID = n } }
	s.subscribe("a/+", 0, id(1))
	s.subscribe("a/#", 2, id(2))
	s.subscribe("a/b", 1)
	w.connect(packet.V5, "p").say(pub("a/b", "x", 2, 1))
	m := s.expect("a/b", "x", 2)
	if len(m.SubscriptionIDs) != 2 || m.SubscriptionIDs[0]+m.SubscriptionIDs[1] != 3 {
		t.Errorf("identifiers: got %v, want 1 and 2", m.SubscriptionIDs)
	}
	s.silent()
}

func TestSubscriptionOptions(t *testing.T) {
	w := newWorld(t)
	p := w.connect(packet.V5, "p")
	option := func(c *client, f packet.Subscription) {
		t.Helper()
		c.say(&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{f}})
		want[*packet.Suback](c)
	}
	set := pub("t", "r", 0, 0)
	set.Retain = true
	p.say(set)
	a := w.connect(packet.V5, "a")
	option(a, packet.Subscription{Filter: "t", RetainHandling: packet.RetainSendNever})
	a.silent()
	option(a, packet.Subscription{Filter: "t", RetainHandling: packet.RetainSendIfNew})
	a.silent()
	option(a, packet.Subscription{Filter: "t"})
	a.expect("t", "r", 0)
	b := w.connect(packet.V5, "b")
	option(b, packet.Subscription{Filter: "t", RetainHandling: packet.RetainSendIfNew, RetainAsPublished: true})
	b.expect("t", "r", 0)
	p.say(set)
	if m := a.expect("t", "r", 0); m.Retain {
		t.Error("retain without retain as published")
	}
	if m := b.expect("t", "r", 0); !m.Retain {
		t.Error("no retain with retain as published")
	}
	option(p, packet.Subscription{Filter: "#", NoLocal: true, RetainHandling: packet.RetainSendNever})
	p.say(pub("own", "x", 0, 0))
	p.silent()
	option(p, packet.Subscription{Filter: "own", QoS: 1})
	p.say(pub("own", "y", 1, 9))
	p.fetch(packet.TypePuback)
	p.expect("own", "y", 1) // through the subscription that is not no-local
	p.silent()
	a.say(pub("own", "z", 0, 0))
	p.expect("own", "z", 0)
	p.silent()
}

func TestTopicAlias(t *testing.T) {
	w := newWorld(t, zone(func(z *Zone) { z.MaxTopicAlias, z.MaxTopicAliasOut = 3, 2 }))
	s := w.connect(packet.V5, "s", func(c *packet.Connect) { c.TopicAliasMaximum = 10 })
	s.subscribe("#", 0)
	p := w.connect(packet.V5, "p")
	first := pub("a", "1", 0, 0)
	first.TopicAlias = 3
	again := pub("", "2", 0, 0)
	again.TopicAlias = 3
	p.say(first, again, pub("b", "3", 0, 0), pub("c", "4", 0, 0))
	for i, want1 := range []struct {
		topic string
		alias uint16
	}{{"a", 1}, {"", 1}, {"b", 2}, {"c", 0}} {
		m := want[*packet.Publish](s)
		if string(m.Topic) != want1.topic || m.TopicAlias != want1.alias || string(m.Payload) != fmt.Sprint(i+1) {
			t.Errorf("number %d: got %q alias %d %q, want %q alias %d", i, m.Topic, m.TopicAlias, m.Payload, want1.topic, want1.alias)
		}
	}
	for name, m := range map[string]*packet.Publish{"above the maximum": pub("a", "", 0, 0), "unknown": pub("", "", 0, 0)} {
		c := w.connect(packet.V5, "bad")
		m.TopicAlias = 4
		code := packet.TopicAliasInvalid
		if name == "unknown" {
			m.TopicAlias, code = 2, packet.ProtocolError
		}
		c.say(m)
		if d := want[*packet.Disconnect](c); d.Code != code {
			t.Errorf("%s: got %v, want %v", name, d.Code, code)
		}
	}
}

func TestPacketSizes(t *testing.T) {
	w := newWorld(t, zone(func(z *Zone) { z.MaxPacketSize = 100 }))
	s := w.connect(packet.V5, "s", func(c *packet.Connect) { c.MaximumPacketSize = 40 })
	s.subscribe("t", 1)
	p := w.connect(packet.V5, "p")
	p.say(pub("t", strings.Repeat("x", 60), 1, 1), pub("t", "small", 1, 2))
	s.expect("t", "small", 1)
	s.silent()
	if info, _ := w.e.Session("s"); info.Inflight != 0 {
		t.Errorf("inflight: got %d, want 0", info.Inflight)
	}
	for _, v := range versions {
		c := w.connect(v, "big")
		c.say(pub("t", strings.Repeat("x", 100), 0, 0))
		if v == packet.V5 {
			if d := want[*packet.Disconnect](c); d.Code != packet.PacketTooLarge {
				t.Errorf("got %v, want 0x95", d.Code)
			}
		}
		c.silent()
		if !c.isClosed() {
			t.Errorf("%s: open after a packet that is too large", v)
		}
	}
}

func TestExpiry(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V5, "s", persistent)
	s.subscribe("t", 1)
	s.hangUp()
	p := w.connect(packet.V5, "p")
	short, long := pub("t", "short", 1, 1), pub("t", "long", 1, 2)
	short.HasExpiry, short.Expiry = true, 5
	long.HasExpiry, long.Expiry = true, 60
	p.say(short, long)
	w.pass(10 * time.Second)
	s = w.connect(packet.V5, "s", persistent)
	if m := s.expect("t", "long", 1); m.Expiry != 50 {
		t.Errorf("expiry: got %d, want 50", m.Expiry)
	}
	s.silent()
	if got := w.e.Metrics()[MessagesExpired]; got != 1 {
		t.Errorf("messages/expired: got %d, want 1", got)
	}
	short.Retain = true
	p.say(short)
	if got := w.e.Stats().Retained; got.Count != 1 {
		t.Errorf("retained: got %d, want 1", got.Count)
	}
	w.pass(6 * time.Second)
	if got := w.e.Stats().Retained; got.Count != 0 || got.Max != 1 {
		t.Errorf("retained: got %+v, want 0, once 1", got)
	}
}

func TestReceiveMaximum(t *testing.T) {
	w := newWorld(t, zone(func(z *Zone) { z.ReceiveMaximum = 2; z.MaxAwaitingRel = 10 }))
	s := w.connect(packet.V5, "s", func(c *packet.Connect) { c.ReceiveMaximum = 2 })
	s.subscribe("t", 2)
	p := w.connect(packet.V5, "p")
	for i := range 4 {
		p.say(pub("t", fmt.Sprint(i), 1, uint16(i+1)))
	}
	m := want[*packet.Publish](s)
	want[*packet.Publish](s)
	s.silent()
	s.say(&packet.Pingreq{}) // not held back [MQTT-3.3.4-10]
	want[*packet.Pingresp](s)
	s.say(ack(packet.TypePuback, m.PacketID))
	if m := want[*packet.Publish](s); string(m.Payload) != "2" {
		t.Errorf("got %s, want the third", show(m))
	}
	s.silent()
	q := w.dial(packet.V5)
	if a := q.hello("q"); a.ReceiveMaximum != 2 {
		t.Errorf("announced: got %d, want 2", a.ReceiveMaximum)
	}
	q.say(pub("x", "", 2, 1), pub("x", "", 2, 2), pub("x", "", 2, 3))
	q.fetch(packet.TypePubrec)
	q.fetch(packet.TypePubrec)
	if d := want[*packet.Disconnect](q); d.Code != packet.ReceiveMaximumExceeded {
		t.Errorf("got %v, want 0x93", d.Code)
	}
}

func TestRetry(t *testing.T) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			w := newWorld(t)
			s := w.connect(v, "s", func(c *packet.Connect) { c.KeepAlive = 0 })
			s.subscribe("t", 2)
			p := w.connect(v, "p")
			p.say(pub("t", "1", 1, 1), pub("t", "2", 2, 2))
			m1, m2 := want[*packet.Publish](s), want[*packet.Publish](s)
			s.say(ack(packet.TypePubrec, m2.PacketID))
			want[*packet.Ack](s)
			w.pass(21 * time.Second)
			if v == packet.V5 { // [MQTT-4.4.0-1]
				s.silent()
				return
			}
			if r := want[*packet.Publish](s); !r.Dup || r.PacketID != m1.PacketID {
				t.Errorf("got %s, want a repeat of %d", show(r), m1.PacketID)
			}
			if r := want[*packet.Ack](s); r.Kind != packet.TypePubrel || r.PacketID != m2.PacketID {
				t.Errorf("got %s, want PUBREL %d", show(r), m2.PacketID)
			}
			s.say(ack(packet.TypePuback, m1.PacketID), ack(packet.TypePubcomp, m2.PacketID))
			w.pass(60 * time.Second)
			s.silent()
		})
	}
}

func TestAwaitingRel(t *testing.T) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		t.Run(v.String(), func(t *testing.T) {
			w := newWorld(t, zone(func(z *Zone) { z.MaxAwaitingRel, z.ReceiveMaximum, z.AwaitRelTimeout = 2, 10, 30*time.Second }))
			p := w.connect(v, "p")
			p.say(pub("t", "", 2, 1), pub("t", "", 2, 2), pub("t", "", 2, 3))
			want[*packet.Ack](p)
			want[*packet.Ack](p)
			if v == packet.V5 {
				if a := want[*packet.Ack](p); a.Code != packet.QuotaExceeded {
					t.Errorf("got %s, want 0x97", show(a))
				}
			}
			p.silent()
			m := w.e.Metrics()
			if m[MessagesQoS2Dropped] != 1 {
				t.Errorf("messages/qos2/dropped: got %d, want 1", m[MessagesQoS2Dropped])
			}
			if s, _ := w.e.Session("p"); s.AwaitingRel != 2 {
				t.Errorf("awaiting rel: got %d, want 2", s.AwaitingRel)
			}
			w.pass(31 * time.Second)
			if s, _ := w.e.Session("p"); s.AwaitingRel != 0 || w.e.Metrics()[MessagesQoS2Expired] != 2 {
				t.Errorf("awaiting rel: got %d after the time-out, expired %d", s.AwaitingRel, w.e.Metrics()[MessagesQoS2Expired])
			}
		})
	}
}

func TestQueueLimits(t *testing.T) {
	w := newWorld(t, zone(func(z *Zone) {
		z.MaxQueueLen = 10
		z.QueuePriorities = map[string]int{"high": 9, "mid": 5}
	}))
	s := w.connect(packet.V311, "s", persistent)
	s.subscribe("#", 1)
	s.hangUp()
	p := w.connect(packet.V311, "p")
	for i := range 8 {
		p.say(pub("low", fmt.Sprint(i), 1, 1))
	}
	p.say(pub("mid", "m", 1, 1), pub("high", "h", 0, 0))
	if al := w.e.Alarms().List(); len(al) != 1 || al[0].ID != "queue_high_watermark.s" {
		t.Errorf("alarms: got %v", al)
	}
	p.say(pub("mid", "m2", 1, 1))
	info, _ := w.e.Session("s")
	if info.QueueLen != 10 || info.QueueDropped != 1 || info.Enqueued != 11 {
		t.Errorf("session: got %+v", info)
	}
	if got := w.e.Metrics()[MessagesDropped]; got != 1 {
		t.Errorf("messages/dropped: got %d, want 1", got)
	}
	s = w.connect(packet.V311, "s", persistent)
	s.expect("high", "h", 0)
	s.expect("mid", "m", 1)
	s.expect("mid", "m2", 1)
	for i := 1; i < 8; i++ {
		s.expect("low", fmt.Sprint(i), 1)
	}
	s.silent()
	if al := w.e.Alarms().List(); len(al) != 0 {
		t.Errorf("alarms: got %v after the queue was worked off", al)
	}
	if h := w.e.Alarms().History(); len(h) != 1 || h[0].ClearedAt.IsZero() {
		t.Errorf("alarm history: got %v", h)
	}
}

// A client that does not take its output costs itself only.
func TestSlowConsumer(t *testing.T) {
	w := newWorld(t, settings(func(s *Settings) { s.MaxOutput = 2000 }))
	slow := w.connect(packet.V311, "slow")
	slow.subscribe("t", 1)
	fast := w.connect(packet.V311, "fast")
	fast.subscribe("t", 1)
	slow.mu.Lock()
	slow.room = 10
	slow.mu.Unlock()
	p := w.connect(packet.V311, "p")
	payload := strings.Repeat("x", 100)
	for range 50 {
		p.say(pub("t", payload, 0, 0))
		fast.expect("t", payload, 0)
	}
	if got := w.e.Metrics()[OutputDropped]; got < 25 || got > 40 {
		t.Errorf("dropped: got %d of 50 with room for about 20", got)
	}
	for i := range 5 {
		p.say(pub("t", fmt.Sprint(i), 1, 1))
		fast.expect("t", fmt.Sprint(i), 1)
	}
	slow.writable(-1)
	n := 0
	for m := slow.next(); m != nil; m = slow.next() {
		x := m.(*packet.Publish)
		if x.QoS == 1 {
			if string(x.Payload) != fmt.Sprint(n) {
				t.Errorf("got %s, want number %d", show(x), n)
			}
			slow.say(ack(packet.TypePuback, x.PacketID))
			n++
		}
	}
	if n != 5 {
		t.Errorf("got %d QoS 1 messages, want all 5", n)
	}
	// What it asks for is not bounded by dropping: it is not read any more.
	slow.mu.Lock()
	slow.room = 0
	slow.mu.Unlock()
	next := ReadOn
	for i := 0; i < 10000 && next == ReadOn; i++ {
		next = slow.say(&packet.Pingreq{})
	}
	if next != Hold {
		t.Fatalf("got %v for a client that does not read, want Hold", next)
	}
	slow.writable(-1)
	if slow.resumed != 1 {
		t.Errorf("resumed: got %d, want 1", slow.resumed)
	}
}

func TestLimits(t *testing.T) {
	t.Run("publish rate", func(t *testing.T) {
		w := newWorld(t, zone(func(z *Zone) { z.PublishLimit = RateLimit{Rate: 10, Burst: 5} }))
		p := w.connect(packet.V311, "p")
		for i := range 6 {
			next := p.say(pub("t", "", 0, 0))
			if want := map[bool]Next{false: ReadOn, true: Hold}[i == 5]; next != want {
				t.Fatalf("publication %d: got %v, want %v", i, next, want)
			}
		}
		w.pass(time.Second)
		if p.resumed != 1 {
			t.Errorf("resumed: got %d, want 1", p.resumed)
		}
		if next := p.say(pub("t", "", 0, 0)); next != ReadOn {
			t.Errorf("got %v after the pause, want ReadOn", next)
		}
	})
	t.Run("connections", func(t *testing.T) {
		w := newWorld(t)
		l, err := w.e.AddListener(ListenerOptions{Name: "two", Protocol: "mqtt:tcp", MaxConnections: 2})
		if err != nil {
			t.Fatal(err)
		}
		w.l = l
		p := w.connect(packet.V311, "a")
		w.connect(packet.V311, "b")
		if _, err := l.Accept(ConnInfo{}, &sink{}); err != ErrListenerFull {
			t.Errorf("got %v, want ErrListenerFull", err)
		}
		p.hangUp()
		w.connect(packet.V311, "c")
		if i := l.Info(); i.CurrentConnections != 2 || i.Accepted != 3 || i.Refused != 1 || i.ShutdownCount[ReasonClosed] != 1 {
			t.Errorf("info: got %+v", i)
		}
	})
	t.Run("connection rate", func(t *testing.T) {
		w := newWorld(t)
		l, err := w.e.AddListener(ListenerOptions{Name: "slow", Protocol: "mqtt:tcp", MaxConnRate: 3})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			_, err := l.Accept(ConnInfo{}, &sink{})
			if i < 3 && err != nil || i == 3 && err != ErrAcceptRate {
				t.Errorf("connection %d: got %v", i, err)
			}
		}
		w.pass(time.Second)
		if _, err := l.Accept(ConnInfo{}, &sink{}); err != nil {
			t.Errorf("got %v a second later", err)
		}
	})
	t.Run("sessions and subscriptions", func(t *testing.T) {
		w := newWorld(t, settings(func(s *Settings) { s.MaxSessions = 1 }), zone(func(z *Zone) { z.MaxSubscriptions = 1 }))
		p := w.connect(packet.V5, "a")
		if a := w.dial(packet.V5).hello("b"); a.Code != packet.QuotaExceeded {
			t.Errorf("got %v, want 0x97", a.Code)
		}
		p.subscribe("x", 1)
		p.subscribe("x", 0)
		p.say(&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "y"}}})
		if a := want[*packet.Suback](p); a.Codes[0] != packet.QuotaExceeded {
			t.Errorf("got %v, want 0x97", a.Codes[0])
		}
	})
	t.Run("topics", func(t *testing.T) {
		w := newWorld(t, zone(func(z *Zone) { z.MaxTopicLevels, z.MaxTopicLen = 3, 20 }))
		p := w.connect(packet.V5, "a")
		for _, name := range []string{"a/b/c/d", strings.Repeat("x", 21)} {
			p.say(pub(name, "", 1, 1))
			if a := want[*packet.Ack](p); a.Code != packet.TopicNameInvalid {
				t.Errorf("publish to %q: got %v, want 0x90", name, a.Code)
			}
			p.say(&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: name}}})
			if a := want[*packet.Suback](p); a.Codes[0] != packet.TopicFilterInvalid {
				t.Errorf("subscribe to %q: got %v, want 0x8F", name, a.Codes[0])
			}
		}
	})
	t.Run("levels behind a mountpoint", func(t *testing.T) {
		w := newWorld(t, zone(func(z *Zone) { z.MaxTopicLevels, z.Mountpoint = 3, "m/n/" }))
		p := w.connect(packet.V5, "a")
		p.subscribe("a/b/c", 1)
		p.say(pub("a/b/c", "x", 1, 1), pub("a/b/c/d", "x", 1, 2))
		p.expect("a/b/c", "x", 1)
		for _, code := range []packet.ReasonCode{packet.Success, packet.TopicNameInvalid} {
			if a := want[*packet.Ack](p); a.Code != code {
				t.Errorf("got %s, want %v", show(a), code)
			}
		}
	})
	t.Run("payload format", func(t *testing.T) {
		for _, strict := range []bool{false, true} {
			w := newWorld(t, zone(func(z *Zone) { z.StrictMode = strict }))
			p := w.connect(packet.V5, "a")
			p.subscribe("t", 0)
			m := pub("t", "\xff", 1, 1)
			m.Properties = packet.Properties(nil).AddPayloadFormat(true)
			p.say(m)
			if a := p.fetch(packet.TypePuback); a.Code.Failed() != strict {
				t.Errorf("strict %v: got %s", strict, show(a))
			}
		}
	})
	t.Run("long topics", func(t *testing.T) {
		w := newWorld(t, zone(func(z *Zone) { z.MaxTopicLen = 0 }))
		p := w.connect(packet.V5, "a")
		p.subscribe("#", 1)
		name := strings.Repeat("x/", 20000)
		p.say(pub(name, "y", 1, 1))
		p.fetch(packet.TypePuback)
		p.expect(name, "y", 1)
	})
}
