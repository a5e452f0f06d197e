package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Every step moves exactly the metrics that it names.
func TestMetrics(t *testing.T) {
	w := newWorld(t)
	before := w.e.Metrics()
	var a, b *client
	step := func(name string, do func(), moved map[Metric]int64) {
		t.Helper()
		do()
		now := w.e.Metrics()
		for m := range NumMetrics {
			if m == BytesReceived || m == BytesSent {
				continue
			}
			if d := now[m] - before[m]; d != moved[m] {
				t.Errorf("%s: %s moved by %d, want %d", name, m.Name(), d, moved[m])
			}
		}
		before = now
	}
	packets := func(in, out int64, rest map[Metric]int64) map[Metric]int64 {
		rest[PacketsReceived], rest[PacketsSent] = in, out
		return rest
	}
	type m = map[Metric]int64
	step("connect", func() { a = w.connect(packet.V311, "a"); b = w.connect(packet.V5, "b") },
		packets(2, 2, m{PacketsConnect: 2, PacketsConnack: 2, AuthAnonymous: 2}))
	step("subscribe", func() { a.subscribe("t", 2) }, packets(1, 1, m{PacketsSubscribe: 1, PacketsSuback: 1}))
	step("QoS 0", func() { b.say(pub("t", "x", 0, 0)); a.expect("t", "x", 0) }, packets(1, 1, m{
		PacketsPublishReceived: 1, MessagesReceived: 1, MessagesQoS0Received: 1, PacketsPublishSent: 1, MessagesSent: 1, MessagesQoS0Sent: 1}))
	step("QoS 1", func() { b.say(pub("t", "x", 1, 1)); a.expect("t", "x", 1) }, packets(2, 2, m{
		PacketsPublishReceived: 1, MessagesReceived: 1, MessagesQoS1Received: 1, PacketsPubackSent: 1,
		PacketsPublishSent: 1, MessagesSent: 1, MessagesQoS1Sent: 1, PacketsPubackReceived: 1}))
	step("QoS 2", func() {
		b.say(pub("t", "x", 2, 1))
		a.expect("t", "x", 2)
		b.say(ack(packet.TypePubrel, 1))
	}, packets(4, 4, m{
		PacketsPublishReceived: 1, MessagesReceived: 1, MessagesQoS2Received: 1, PacketsPubrecSent: 1, PacketsPubrelReceived: 1, PacketsPubcompSent: 1,
		PacketsPublishSent: 1, MessagesSent: 1, MessagesQoS2Sent: 1, PacketsPubrecReceived: 1, PacketsPubrelSent: 1, PacketsPubcompReceived: 1}))
	step("nobody wants it", func() { b.say(pub("none", "x", 0, 0)) }, packets(1, 0, m{
		PacketsPublishReceived: 1, MessagesReceived: 1, MessagesQoS0Received: 1, MessagesDropped: 1}))
	step("missed", func() {
		a.say(ack(packet.TypePuback, 9), ack(packet.TypePubrec, 9), ack(packet.TypePubrel, 9), ack(packet.TypePubcomp, 9))
		a.fetch(packet.TypePubrel)
		a.fetch(packet.TypePubcomp)
	}, packets(4, 2, m{PacketsPubackReceived: 1, PacketsPubrecReceived: 1, PacketsPubrelReceived: 1, PacketsPubcompReceived: 1,
		PacketsPubackMissed: 1, PacketsPubrecMissed: 1, PacketsPubrelMissed: 1, PacketsPubcompMissed: 1, PacketsPubrelSent: 1, PacketsPubcompSent: 1}))
	step("from inside", func() { w.e.Publish(&Message{Topic: "t", Payload: []byte("x"), QoS: 1}); a.expect("t", "x", 1) }, packets(1, 1, m{
		PacketsPublishSent: 1, MessagesSent: 1, MessagesQoS1Sent: 1, PacketsPubackReceived: 1}))
	step("retained", func() {
		x := pub("r", "x", 0, 0)
		x.Retain = true
		b.say(x)
	}, packets(1, 0, m{PacketsPublishReceived: 1, MessagesReceived: 1, MessagesQoS0Received: 1, MessagesDropped: 1, MessagesRetained: 1}))
	step("$SYS", func() { a.subscribe("$SYS/#", 0); w.e.publishSys("x", []byte("1"), false) }, packets(1, 1, m{PacketsSubscribe: 1, PacketsSuback: 1}))
	step("unsubscribe", func() { a.say(&packet.Unsubscribe{PacketID: 1, Filters: []string{"t"}}) }, packets(1, 1, m{PacketsUnsubscribe: 1, PacketsUnsuback: 1}))
	step("ping", func() { a.say(&packet.Pingreq{}) }, packets(1, 1, m{PacketsPingreq: 1, PacketsPingresp: 1}))
	step("DISCONNECT received", func() { a.say(&packet.Disconnect{}) }, packets(1, 0, m{PacketsDisconnectReceived: 1}))
	step("DISCONNECT sent", func() { w.e.Kick("b") }, packets(0, 1, m{PacketsDisconnectSent: 1}))
	if got := before[BytesReceived]; got == 0 || before[BytesSent] == 0 {
		t.Errorf("bytes: got %d and %d", got, before[BytesSent])
	}
	names := map[string]bool{}
	for m := range NumMetrics {
		if m.Name() == "" || names[m.Name()] {
			t.Errorf("metric %d: name %q is empty or double", m, m.Name())
		}
		names[m.Name()] = true
	}
	if NumMetricsV30 != 43 {
		t.Errorf("metrics of 3.0: got %d, want 43", NumMetricsV30)
	}
}

func TestStats(t *testing.T) {
	w := newWorld(t)
	a := w.connect(packet.V5, "a", persistent)
	b := w.connect(packet.V5, "b")
	a.subscribe("t", 1)
	a.subscribe("$share/g/t", 1)
	b.subscribe("t", 1)
	b.subscribe("$local/t", 1)
	check := func(want ...Stat) {
		t.Helper()
		for i, g := range w.e.Stats().Named() {
			if g.Stat != want[i] {
				t.Errorf("%s: got %+v, want %+v", g.Name, g.Stat, want[i])
			}
		}
	}
	check(Stat{2, 2}, Stat{2, 2}, Stat{1, 1}, Stat{1, 1}, Stat{4, 4}, Stat{4, 4}, Stat{1, 1}, Stat{2, 2}, Stat{0, 0})
	if rows, n := w.e.Routes(0, 10); n != 2 || rows[0].Filter != "$local/t" || rows[1].Filter != "t" {
		t.Errorf("routes: got %v of %d", rows, n)
	}
	if rows := w.e.RoutesOf("t"); len(rows) != 1 {
		t.Errorf("routes of t: got %v", rows)
	}
	b.hangUp()
	a.hangUp()
	check(Stat{0, 2}, Stat{1, 2}, Stat{1, 1}, Stat{1, 1}, Stat{2, 4}, Stat{2, 4}, Stat{1, 1}, Stat{1, 2}, Stat{0, 0})
	w.e.DropSession("a")
	check(Stat{0, 2}, Stat{0, 2}, Stat{0, 1}, Stat{0, 1}, Stat{0, 4}, Stat{0, 4}, Stat{0, 1}, Stat{0, 2}, Stat{0, 0})
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	for _, i := range []int{5, 3, 9, 1, 7} {
		p := w.connect(packet.V5, fmt.Sprint("c", i), persistent)
		for j := range i {
			p.subscribe(fmt.Sprint("f", j), 1)
		}
		if i == 3 {
			p.hangUp()
		}
	}
	ids := func(rows []ClientInfo) (s []string) {
		for _, r := range rows {
			s = append(s, r.ClientID)
		}
		return s
	}
	rows, n := w.e.Clients(1, 2)
	if n != 4 || !slices.Equal(ids(rows), []string{"c5", "c7"}) {
		t.Errorf("clients: got %v of %d", ids(rows), n)
	}
	sessions, n := w.e.Sessions(1, 2)
	if n != 5 || len(sessions) != 2 || sessions[0].ClientID != "c3" || sessions[0].Connected || sessions[1].ClientID != "c5" {
		t.Errorf("sessions: got %v of %d", sessions, n)
	}
	var all []string
	for offset := 0; ; offset += 4 {
		page, n := w.e.Subscriptions(offset, 4)
		if n != 25 {
			t.Fatalf("subscriptions: got %d, want 25", n)
		}
		for _, r := range page {
			all = append(all, r.ClientID+" "+r.Filter)
		}
		if len(page) < 4 {
			break
		}
	}
	if len(all) != 25 || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != 25 {
		t.Errorf("subscriptions: got %v", all)
	}
	if rows, n := w.e.Clients(4, 10); n != 4 || len(rows) != 0 {
		t.Errorf("page past the end: got %v of %d", rows, n)
	}
	if rows, _ := w.e.Clients(-1, 10); len(rows) != 0 {
		t.Errorf("negative offset: got %v", rows)
	}
	if rows, n := w.e.Routes(2, 3); n != 9 || len(rows) != 3 || rows[0].Filter != "f2" {
		t.Errorf("routes: got %v of %d", rows, n)
	}
}

func TestManagedSubscriptions(t *testing.T) {
	w := newWorld(t)
	p := w.connect(packet.V311, "p")
	m := pub("r", "kept", 1, 1)
	m.Retain = true
	p.say(m)
	s := w.connect(packet.V311, "s", persistent)
	if err := w.e.Subscribe("s", Subscription{Filter: "r", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if m := s.expect("r", "kept", 1); !m.Retain {
		t.Errorf("got %s, want retain", show(m))
	}
	s.silent() // no SUBACK
	s.hangUp()
	if err := w.e.Subscribe("s", Subscription{Filter: "$share/g/o", QoS: 2}); err != nil {
		t.Fatal(err)
	}
	if subs := w.e.SubscriptionsOf("s"); len(subs) != 2 || subs[0].Share != "g" || subs[0].Filter != "o" {
		t.Errorf("got %+v", subs)
	}
	p.say(pub("o", "x", 1, 2))
	s = w.connect(packet.V311, "s", persistent)
	s.expect("o", "x", 1)
	for _, tt := range []struct {
		err  error
		want error
	}{
		{w.e.Subscribe("none", Subscription{Filter: "a"}), ErrNotFound},
		{w.e.Subscribe("s", Subscription{Filter: "a/#/b"}), ErrBadTopic},
		{w.e.Subscribe("s", Subscription{Filter: ""}), ErrBadTopic},
		{w.e.Subscribe("s", Subscription{Filter: "a", QoS: 3}), ErrBadTopic},
		{w.e.Unsubscribe("none", "a"), ErrNotFound},
		{w.e.Unsubscribe("s", "a/#/b"), ErrBadTopic},
		{w.e.Unsubscribe("s", "never"), nil},
		{w.e.Unsubscribe("s", "$share/g/o"), nil},
	} {
		if !errors.Is(tt.err, tt.want) || tt.want == nil && tt.err != nil {
			t.Errorf("got %v, want %v", tt.err, tt.want)
		}
	}
	if subs := w.e.SubscriptionsOf("s"); len(subs) != 1 {
		t.Errorf("got %+v", subs)
	}
	if _, err := w.e.Publish(&Message{Topic: "a/+"}); !errors.Is(err, ErrBadTopic) {
		t.Errorf("publish to a filter: got %v", err)
	}
}

func TestHooks(t *testing.T) {
	w := newWorld(t)
	var log []string
	note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	remove := w.e.AddHooks("x", Hooks{
		ClientConnected:     func(c ClientInfo) { note("connected %s", c.ClientID) },
		ClientDisconnected:  func(c ClientInfo, r string) { note("disconnected %s %s", c.ClientID, r) },
		ClientRefused:       func(c ClientInfo, code packet.ReasonCode) { note("refused %q %v", c.ClientID, code) },
		SessionCreated:      func(s SessionInfo) { note("created %s", s.ClientID) },
		SessionResumed:      func(s SessionInfo) { note("resumed %s", s.ClientID) },
		SessionSubscribed:   func(id string, s Subscription) { note("subscribed %s %s", id, s.Name()) },
		SessionUnsubscribed: func(id, f string) { note("unsubscribed %s %s", id, f) },
		SessionTerminated:   func(id, r string) { note("terminated %s %s", id, r) },
		Subscribe: func(c *ClientInfo, s *Subscription) packet.ReasonCode {
			if s.Filter == "no" {
				return packet.NotAuthorized
			}
			s.Filter = strings.Replace(s.Filter, "old/", "new/", 1)
			return packet.Success
		},
		Unsubscribe: func(c *ClientInfo, f *string) { *f = strings.Replace(*f, "old/", "new/", 1) },
		Publish: func(m *Message) (bool, packet.ReasonCode) {
			switch m.Topic {
			case "taken":
				return true, packet.Success
			case "refused":
				return false, packet.QuotaExceeded
			}
			m.Topic = strings.Replace(m.Topic, "old/", "new/", 1)
			return false, packet.Success
		},
		Delivered: func(id string, m *Message) { note("delivered %s %s", id, m.Topic) },
		Acked:     func(id string, m *Message) { note("acked %s %s", id, m.Topic) },
		Dropped:   func(id string, m *Message, r string) { note("dropped %q %s %s", id, m.Topic, r) },
	})
	p := w.connect(packet.V5, "p", persistent)
	p.subscribe("old/t", 1)
	p.say(&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "no"}}})
	if a := want[*packet.Suback](p); a.Codes[0] != packet.NotAuthorized {
		t.Errorf("got %v", a.Codes)
	}
	p.say(pub("old/t", "x", 1, 1))
	p.fetch(packet.TypePuback)
	p.expect("new/t", "x", 1)
	p.say(pub("taken", "x", 1, 2), pub("refused", "x", 1, 3), pub("none", "x", 1, 4))
	for i, code := range []packet.ReasonCode{packet.Success, packet.QuotaExceeded, packet.NoMatchingSubscribers} {
		if a := want[*packet.Ack](p); a.Code != code {
			t.Errorf("PUBACK %d: got %v, want %v", i, a.Code, code)
		}
	}
	p.say(&packet.Unsubscribe{PacketID: 1, Filters: []string{"old/t"}})
	want[*packet.Unsuback](p)
	p.hangUp()
	p = w.connect(packet.V5, "p", persistent)
	p.say(&packet.Disconnect{SessionExpiry: packet.Some(uint32(0))})
	w.e.Configure(func() Settings { s := w.e.Settings(); s.AllowAnonymous = false; return s }())
	w.dial(packet.V5).hello("r")
	remove()
	w.e.Configure(func() Settings { s := w.e.Settings(); s.AllowAnonymous = true; return s }())
	w.connect(packet.V5, "later")
	want := []string{
		"connected p", "created p", "subscribed p new/t", "delivered p new/t", "acked p new/t",
		`dropped "" refused denied`, `dropped "" none no_subscribers`, "unsubscribed p new/t", "disconnected p closed",
		"connected p", "resumed p", "disconnected p normal", "terminated p normal", `refused "r" not authorized`,
	}
	if !slices.Equal(log, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
}

func TestSys(t *testing.T) {
	w := newWorld(t, settings(func(s *Settings) { s.SysInterval, s.SysHeartbeat = time.Minute, 30*time.Second }))
	w.pass(time.Second)
	p := w.connect(packet.V311, "p")
	p.subscribe("$SYS/#", 1)
	got := map[string]string{}
	retained := 0
	collect := func() {
		for m := p.next(); m != nil; m = p.next() {
			x := m.(*packet.Publish)
			got[string(x.Topic)] = string(x.Payload)
			if x.Retain {
				retained++
			}
		}
	}
	collect()
	if retained != 3 || got["$SYS/brokers"] != "n@h" || got["$SYS/brokers/n@h/version"] != "1" {
		t.Errorf("retained: got %d, %v", retained, got)
	}
	w.pass(time.Minute)
	collect()
	for _, name := range []string{"uptime", "datetime", "metrics/packets/connect", "stats/connections/count", "stats/connections/max"} {
		if got["$SYS/brokers/n@h/"+name] == "" {
			t.Errorf("nothing at %s", name)
		}
	}
	q := w.connect(packet.V311, "q")
	q.subscribe("#", 1)
	w.pass(time.Minute)
	q.silent() // [MQTT-4.7.2-1]
	w.e.Alarms().Raise(Alarm{ID: "x", Severity: "warning", Title: "T"})
	w.e.Alarms().Raise(Alarm{ID: "x"})
	w.e.Alarms().Clear("x")
	w.e.Alarms().Clear("x")
	collect()
	if !strings.Contains(got["$SYS/brokers/n@h/alarms/x/alert"], `"severity":"warning"`) || got["$SYS/brokers/n@h/alarms/x/clear"] != `{"id":"x"}` {
		t.Errorf("alarms: got %v", got)
	}
	for d, want := range map[time.Duration]string{
		59 * time.Second: "59 seconds", time.Minute: "1 minutes, 0 seconds", time.Hour + 17*time.Minute + time.Second: "1 hours, 17 minutes, 1 seconds",
		3*24*time.Hour + 18*time.Hour + 25*time.Minute + 11*time.Second: "3 days,18 hours, 25 minutes, 11 seconds",
	} {
		if got := FormatUptime(d); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTrace(t *testing.T) {
	w := newWorld(t)
	var byClient, byTopic []string
	stop1 := w.e.Trace(TraceFilter{ClientID: "p"}, func(e TraceEvent) { byClient = append(byClient, strings.TrimSpace(fmt.Sprintln(e.Type, e.Sent))) })
	stop2 := w.e.Trace(TraceFilter{Topic: "a/#"}, func(e TraceEvent) {
		byTopic = append(byTopic, fmt.Sprintln(e.ClientID, e.Sent, e.Topic, e.QoS, e.Size))
	})
	s := w.connect(packet.V311, "s")
	s.subscribe("#", 0)
	p := w.connect(packet.V311, "p")
	p.say(pub("a/b", "xyz", 1, 1), pub("b", "", 0, 0), &packet.Pingreq{})
	stop1()
	stop2()
	p.say(&packet.Pingreq{}, &packet.Disconnect{})
	if got := strings.Join(byClient, " "); got != "CONNECT false CONNACK true PUBLISH false PUBACK true PUBLISH false PINGREQ false" {
		t.Errorf("by client: got %s", got)
	}
	if got := strings.Join(byTopic, ""); got != "p false a/b 1 3\ns true a/b 0 3\n" {
		t.Errorf("by topic: got %s", got)
	}
	if w.e.traces.Load() != nil {
		t.Error("traces are left")
	}
}

// Many retained messages go out at the pace of the subscriber, and others are served meanwhile.
func TestManyRetained(t *testing.T) {
	w := newWorld(t)
	for i := range 5000 {
		if err := w.e.Retain(&Message{Topic: fmt.Sprintf("r/%04d", i), Payload: make([]byte, 100), QoS: packet.QoS(i % 2)}); err != nil {
			t.Fatal(err)
		}
	}
	s := w.connect(packet.V311, "s")
	s.mu.Lock()
	s.room = 100
	s.mu.Unlock()
	s.say(&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "#", QoS: 1}}})
	s.c.mu.Lock()
	size := s.c.out.size
	s.c.mu.Unlock()
	if size > 2*earlyFlush {
		t.Errorf("%d bytes wait for a client that does not read", size)
	}
	w.connect(packet.V311, "p").say(pub("live", "x", 0, 0))
	s.mu.Lock()
	s.room = -1
	s.mu.Unlock()
	s.writable(-1)
	seen := map[string]bool{}
	live := false
	for range 2000 {
		for m := s.next(); m != nil; m = s.next() {
			x, ok := m.(*packet.Publish)
			if !ok {
				continue
			}
			if string(x.Topic) == "live" {
				live = true
				continue
			}
			if seen[string(x.Topic)] || !x.Retain {
				t.Fatalf("got %s again or without retain", show(x))
			}
			seen[string(x.Topic)] = true
			if x.QoS == 1 {
				s.say(ack(packet.TypePuback, x.PacketID))
			}
		}
		if len(seen) == 5000 {
			break
		}
		w.e.Advance(w.now())
	}
	if len(seen) != 5000 || !live {
		t.Errorf("got %d of 5000, live message %v", len(seen), live)
	}
	rows, total := w.e.Retained(4998, 10)
	if total != 5000 || len(rows) != 2 || rows[0].Topic != "r/4998" {
		t.Errorf("page: got %d rows of %d", len(rows), total)
	}
	if n := w.e.CleanRetained("r/1+"); n != 0 {
		t.Errorf("cleaned by an invalid filter: %d", n)
	}
	if n := w.e.CleanRetained("r/+"); n != 5000 || w.e.Stats().Retained.Count != 0 {
		t.Errorf("cleaned: got %d", n)
	}
}

func TestRetainerLimits(t *testing.T) {
	w := newWorld(t)
	if err := w.e.EnableRetainer(RetainerOptions{MaxMessages: 2, MaxPayload: 5, Expiry: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	s := w.connect(packet.V5, "s")
	s.subscribe("+", 0)
	p := w.connect(packet.V5, "p")
	set := func(topic, payload string) {
		m := pub(topic, payload, 0, 0)
		m.Retain = true
		p.say(m)
		s.expect(topic, payload, 0) // routed whatever the retainer does
	}
	set("a", "1")
	set("b", "toolong")
	set("b", "2")
	set("c", "3")
	set("a", "4")
	if got := w.e.Stats().Retained.Count; got != 2 {
		t.Errorf("retained: got %d, want 2", got)
	}
	if got := w.e.Metrics()[RetainedDropped]; got != 2 {
		t.Errorf("not retained: got %d, want 2", got)
	}
	w.e.DisableRetainer()
	q := w.connect(packet.V5, "q")
	q.subscribe("#", 0)
	q.silent()
	w.pass(11 * time.Second)
	if got := w.e.Stats().Retained.Count; got != 0 {
		t.Errorf("retained: got %d after the expiry, want 0", got)
	}
}

func TestClose(t *testing.T) {
	w := newWorld(t)
	a := w.connect(packet.V5, "a", persistent)
	b := w.connect(packet.V311, "b", persistent)
	b.hangUp()
	for range 2 {
		if err := w.e.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if d := want[*packet.Disconnect](a); d.Code != packet.ServerShuttingDown {
		t.Errorf("got %v, want 0x8B", d.Code)
	}
	if !a.isClosed() || w.e.Stats().Sessions.Count != 0 {
		t.Errorf("closed %v, sessions %d", a.isClosed(), w.e.Stats().Sessions.Count)
	}
	if _, err := w.l.Accept(ConnInfo{}, &sink{}); err != ErrClosed {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestBadSettings(t *testing.T) {
	w := newWorld(t)
	s := w.e.Settings()
	s.QueueLowMark = 0.9
	z, _ := w.e.Zone(DefaultZoneName)
	z.MaxQoS = 3
	errs := []error{
		w.e.Configure(s), w.e.SetZone("external", z), w.e.EnableRetainer(RetainerOptions{MaxPayload: -1}),
		w.l.Configure(ListenerOptions{Name: "external", Protocol: "mqtt:tcp", Zone: "none"}),
		w.l.Configure(ListenerOptions{Name: "other", Protocol: "mqtt:tcp"}),
	}
	_, err := New(Options{Node: "a/b"})
	for i, err := range append(errs, err) {
		if !errors.Is(err, ErrBadSetting) {
			t.Errorf("number %d: got %v, want ErrBadSetting", i, err)
		}
	}
	if _, err := w.e.AddListener(ListenerOptions{Name: "external", Protocol: "mqtt:tcp"}); !errors.Is(err, ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	if got := w.e.Settings().QueueLowMark; got != 0.2 {
		t.Errorf("a refused value holds: %v", got)
	}
	w.l.Remove()
	if got := w.e.Listeners(); len(got) != 0 {
		t.Errorf("listeners: got %v", got)
	}
}
