package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// world is one test's store, through all its restarts.
type world struct {
	*model
	t      T
	medium *Medium
	client *Client

	turn sync.Mutex // whoever stages holds it; the model has one user at a time
	over bool       // the store is being stopped: nothing is written anew any more
}

func newWorld(t T, medium *Medium) *world {
	w := &world{model: &model{}, t: t, medium: medium}
	w.start()
	return w
}

// start opens what the medium holds and compares it with what was staged up to there.
func (w *world) start() *engine.Stored {
	w.t.Helper()
	w.turn.Lock()
	defer w.turn.Unlock()
	w.over = false
	w.s = w.medium.Open()
	got, err := w.s.Load()
	if err != nil {
		w.t.Fatalf("load: %v", err)
	}
	if end := w.s.Staged(); !w.cut(end) {
		w.t.Fatalf("load: ends at %d, where no change ends", end)
	}
	w.compare(got)
	w.client = NewClient()
	w.client.OnRewrite = func(engine.Position) bool {
		w.turn.Lock()
		defer w.turn.Unlock()
		if !w.over {
			w.rewrite()
		}
		return !w.over
	}
	w.s.Start(w.client)
	w.boot()
	return got
}

// quit sees to it that nothing is staged any more.
func (w *world) quit() {
	w.turn.Lock()
	w.over = true
	w.turn.Unlock()
}

// compare fails unless got is what the model holds.
func (w *world) compare(got *engine.Stored) {
	w.t.Helper()
	want := w.state(false)
	for _, s := range want.Sessions {
		if got.LastSession < s.Number {
			w.t.Fatalf("load: session %d is above LastSession, %d", s.Number, got.LastSession)
		}
	}
	want.LastSession, want.LastMessage, want.Orderly, want.Bytes = got.LastSession, got.LastMessage, got.Orderly, got.Bytes
	if len(got.Sessions) == 0 {
		got.Sessions = nil
	}
	if n := len(w.ops); got.Orderly != (n > 0 && w.ops[n-1].kind == "orderly") {
		w.t.Fatalf("load: orderly is %v", got.Orderly)
	}
	if !reflect.DeepEqual(got, want) {
		w.t.Fatalf("load:\n got %s\nwant %s", show(got), show(want))
	}
}

func show(s *engine.Stored) string {
	text := ""
	for _, x := range s.Sessions {
		text += fmt.Sprintf("\n  session %+v", *x)
		for _, d := range x.Deliveries {
			text += fmt.Sprintf("\n    delivery %d of %+v", d.Seq, d.Body)
		}
	}
	for _, m := range s.Retained {
		text += fmt.Sprintf("\n  retained %+v", *m)
	}
	for _, m := range s.Delayed {
		text += fmt.Sprintf("\n  delayed %d %+v", m.Due, *m.StoredMessage)
	}
	return text
}

// stop closes the store.
func (w *world) stop() {
	w.t.Helper()
	w.quit()
	if err := w.s.Close(); err != nil {
		w.t.Fatalf("close: %v", err)
	}
	w.note(op{kind: "orderly"}, w.s.Staged())
}

func (w *world) restart() *engine.Stored {
	w.t.Helper()
	w.stop()
	return w.start()
}

// crash ends the store; of what was not committed, random decides how much is found.
func (w *world) crash(random func(int) int) *engine.Stored {
	w.t.Helper()
	w.quit()
	kept := w.s.Committed()
	w.medium.Crash(w.s, random)
	got := w.start()
	if len(w.ops) < 2 && kept > 0 || len(w.ops) >= 2 && w.ops[len(w.ops)-2].at < kept {
		w.t.Fatalf("crash: committed up to %d, found less", kept)
	}
	return got
}

func (w *world) commit() { w.t.Helper(); w.client.Commit(w.t, w.s) }

// nothing of what is uncommitted survives, or as much as can.
func nothing(int) int { return 0 }
func most(n int) int  { return n - 1 }

func text(topic, payload string) engine.Message {
	m := engine.Message{Topic: topic, QoS: 1, From: "publisher", At: time.Unix(1700000000, 5)}
	if payload != "" {
		m.Payload = []byte(payload)
	}
	return m
}

func sessionOf(clientID string) engine.StoredSession {
	return engine.StoredSession{ClientID: clientID, Zone: "external", CreatedAt: 1, Expiry: 3600, Connected: true}
}

func deliveryOf(seq, message uint64) engine.StoredDelivery {
	return engine.StoredDelivery{Seq: seq, Message: message, QoS: 2, At: int64(seq)}
}

// publish stages a message for sessions, as one publication.
func (w *world) publish(message uint64, seq uint64, sessions ...uint64) {
	w.putMessage(message, text("t", fmt.Sprint(message)), true)
	for _, s := range sessions {
		w.putDelivery(s, deliveryOf(seq, message))
	}
	w.endPublication(message, 0, 0, 0)
}

var clauses = []struct {
	name string
	run  func(w *world)
}{
	{"an empty medium gives nothing", func(w *world) {
		if got := w.restart(); len(got.Sessions)+len(got.Retained)+len(got.Delayed) != 0 {
			w.t.Fatalf("got %s", show(got))
		}
	}},
	{"every field comes back", everyField},
	{"positions ascend with what is staged", func(w *world) {
		last := w.s.Staged()
		w.putSession(1, sessionOf("a"))
		for i := range 50 {
			w.putRelease(1, uint16(i+1), 1)
		}
		for _, o := range w.ops[1:] {
			if o.at <= last {
				w.t.Fatalf("%s: %d is not behind %d", o.kind, o.at, last)
			}
			last = o.at
		}
		if w.s.Staged() != last {
			w.t.Fatalf("staged: got %d, want %d", w.s.Staged(), last)
		}
	}},
	{"a put takes the place of the one before", func(w *world) {
		w.putSession(1, sessionOf("a"))
		s := sessionOf("a")
		s.Connected, s.ExpireAt, s.Seq = false, 77, 9
		w.putSession(1, s)
		w.putSubscription(1, engine.Subscription{Filter: "x", QoS: 1})
		w.putSubscription(1, engine.Subscription{Filter: "x", QoS: 2})
		w.putSubscription(1, engine.Subscription{Filter: "x", Share: "g", QoS: 1})
		w.putMessage(1, text("r", "one"), false)
		w.putRetained(1, "r")
		w.putMessage(2, text("r", "two"), false)
		w.putRetained(2, "r")
		w.putRelease(1, 5, 1)
		w.putRelease(1, 5, 2)
		w.restart()
	}},
	{"the end of a session ends everything it has", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.putSession(2, sessionOf("b"))
		w.putSubscription(1, engine.Subscription{Filter: "x"})
		w.putRelease(1, 5, 1)
		w.publish(1, 1, 1, 2)
		w.endSession(1)
		w.restart()
	}},
	{"each removal removes what it names", func(w *world) {
		w.putSession(1, sessionOf("a"))
		for i := range uint64(4) {
			w.putSubscription(1, engine.Subscription{Filter: fmt.Sprint(i), Share: "g"})
			w.putRelease(1, uint16(i), 1)
			w.publish(i+1, i+1, 1)
			w.putMessage(i+10, text(fmt.Sprint(i), ""), false)
			w.putRetained(i+10, fmt.Sprint(i))
			w.putDelayed(i+10, 99)
		}
		w.endSubscription(1, "$share/g/2")
		w.endRelease(1, 2)
		w.endDelivery(1, 2)
		w.endRetained("2")
		w.endDelayed(11)
		w.restart()
		w.endSession(9) // nobody knows it
		w.endDelivery(1, 99)
		w.endSubscription(8, "x")
		w.restart()
	}},
	{"a message lasts while something refers to it", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.putSession(2, sessionOf("b"))
		w.putMessage(1, text("t", "x"), true)
		w.putRetained(1, "t")
		w.putDelayed(1, 9)
		w.putDelivery(1, deliveryOf(1, 1))
		w.endDelivery(1, 1)
		w.putDelivery(2, deliveryOf(1, 1))
		w.endPublication(1, 0, 0, 0)
		w.endRetained("t")
		w.endDelayed(1)
		w.restart()
		w.recorded(2, 1)
		w.restart()
	}},
	{"PUBREC lets the message go and keeps the delivery", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.publish(1, 1, 1)
		w.recorded(1, 1)
		got := w.restart()
		if d := got.Sessions[0].Deliveries[0]; !d.Recorded || d.Message != 0 || d.Body != nil {
			w.t.Fatalf("got %+v", d)
		}
	}},
	{"deliveries of one message share it", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.putSession(2, sessionOf("b"))
		w.publish(1, 1, 1, 2)
		got := w.restart()
		if a, b := got.Sessions[0].Deliveries[0].Body, got.Sessions[1].Deliveries[0].Body; a != b {
			w.t.Fatalf("got two of it")
		}
	}},
	{"numbers that were in use are known", func(w *world) {
		w.putSession(7, sessionOf("a"))
		w.publish(30, 5, 7)
		w.endDelivery(7, 5)
		w.putSession(9, sessionOf("b"))
		w.endSession(9)
		got := w.restart()
		if got.LastSession != 9 || got.LastMessage != 30 || got.Sessions[0].Seq != 5 {
			w.t.Fatalf("got session %d, message %d, delivery %d", got.LastSession, got.LastMessage, got.Sessions[0].Seq)
		}
	}},
	{"an open publication is taken back", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.putMessage(1, text("t", "before"), false)
		w.putRetained(1, "t")
		w.putMessage(2, text("t", "open"), true)
		w.putRetained(2, "t")
		w.putDelivery(1, deliveryOf(1, 2))
		w.putDelayed(2, 9)
		w.commit()
		got := w.crash(most)
		if len(got.Retained) != 1 || string(got.Retained[0].Message.Payload) != "before" {
			w.t.Fatalf("retained: got %s", show(got))
		}
		w.putRelease(1, 1, 1)
		w.restart() // and stays so
	}},
	{"publications of one topic end in any order", func(w *world) {
		for i := range uint64(3) {
			w.putMessage(i+1, text("t", fmt.Sprint(i)), true)
			w.putRetained(i+1, "t")
		}
		w.endPublication(2, 0, 0, 0)
		w.endPublication(1, 0, 0, 0)
		w.commit()
		got := w.crash(most)
		if string(got.Retained[0].Message.Payload) != "1" {
			w.t.Fatalf("got %s", show(got))
		}
	}},
	{"the end of a publication notes its identifier", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.putMessage(1, text("t", ""), true)
		w.endPublication(1, 1, 77, 5)
		got := w.restart()
		if r := got.Sessions[0].Releases; len(r) != 1 || r[0] != (engine.StoredRelease{ID: 77, At: 5}) {
			w.t.Fatalf("got %v", r)
		}
	}},
	{"what was committed survives a crash", func(w *world) {
		w.putSession(1, sessionOf("a"))
		for i := range uint64(20) {
			w.publish(i+1, i+1, 1)
			w.commit()
		}
		if got := w.crash(nothing); len(got.Sessions[0].Deliveries) != 20 {
			w.t.Fatalf("got %d deliveries", len(got.Sessions[0].Deliveries))
		}
	}},
	{"only an orderly stop is one", func(w *world) {
		w.putSession(1, sessionOf("a"))
		if got := w.restart(); !got.Orderly {
			w.t.Fatalf("after Close: not orderly")
		}
		w.commit()
		if got := w.crash(most); got.Orderly {
			w.t.Fatalf("after a crash: orderly")
		}
	}},
	{"what cannot be written is refused, and may be written later", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.commit()
		cause := errors.New("no medium")
		w.medium.Fail(w.s, cause)
		w.putRelease(1, 1, 1)
		p := w.s.Staged()
		w.s.Want(p)
		w.client.Await(w.t, "refusal", func() bool { return w.s.Err() != nil && (w.s.Refused() >= p || w.s.Committed() >= p) })
		if err := w.s.Err(); !errors.Is(err, cause) {
			w.t.Fatalf("err: got %v", err)
		}
		w.putRelease(1, 2, 1)
		w.medium.Fail(w.s, nil)
		w.commit()
		w.client.Await(w.t, "recovery", func() bool { return w.s.Err() == nil })
		if got := w.crash(nothing); len(got.Sessions[0].Releases) != 2 {
			w.t.Fatalf("got %s", show(got))
		}
		if n := w.s.Stats().Faults; n != 0 {
			w.t.Fatalf("faults of the new store: %d", n)
		}
	}},
	{"a fault that lasts beyond Close is told", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.commit()
		cause := errors.New("no medium")
		w.medium.Fail(w.s, cause)
		w.putRelease(1, 1, 1)
		if err := w.s.Close(); !errors.Is(err, cause) {
			w.t.Fatalf("close: got %v", err)
		}
	}},
	{"nothing is kept that is staged after Close", func(w *world) {
		w.putSession(1, sessionOf("a"))
		w.stop()
		p := w.s.EndSession(1)
		w.s.Want(p)
		if w.s.Committed() >= p || w.s.Err() == nil {
			w.t.Fatalf("committed %d, staged %d, err %v", w.s.Committed(), p, w.s.Err())
		}
		if err := w.s.Close(); err != nil {
			w.t.Fatalf("second close: %v", err)
		}
		w.start()
	}},
	{"what still holds survives cleaning, and no more is kept", cleaning},
}

func everyField(w *world) {
	at := time.Unix(1700000000, 123)
	m := engine.Message{
		Topic: "topic", Payload: []byte("payload"), QoS: 2, Retain: true, Sys: true, Dup: true, Inside: true, From: "from",
		Username: "user", HasUsername: true, At: at, HasExpiry: true, Expiry: 0xFFFFFFFF, Properties: []byte{1, 2, 3},
	}
	will := m
	will.At = time.Time{}
	w.putSession(1<<40, engine.StoredSession{
		ClientID: "client", Username: "user", HasUsername: true, CleanStart: true, Zone: "zone", CreatedAt: -1, Expiry: 0xFFFFFFFF,
		ExpireAt: 1 << 60, Connected: true, Seq: 12, WillAt: 5, Begun: 11, Fence: engine.Fence{Epoch: 3, Count: 1 << 40},
		Arrival:   &engine.StoredArrival{From: "a", Token: "t", Fence: engine.Fence{Epoch: 1, Count: 2}, Nodes: []string{"a", "b"}, Self: 1, Base: 9, Sure: true, Marked: 3, Done: 1},
		Departure: &engine.StoredDeparture{To: "a", Token: "u", Nodes: []string{"a", "b"}, Self: 1, Was: 4, Passed: 2},
		Will: &engine.StoredWill{Message: will, Delay: 0xFFFFFFFF, Author: &engine.ClientInfo{
			ClientID: "client", Username: "user", HasUsername: true, CleanStart: true, Peer: netip.MustParseAddrPort("127.0.0.1:5"),
			Local: netip.MustParseAddrPort("[fe80::1%lo]:6"), ProtoName: "MQTT", ProtoVer: packet.V5, KeepAlive: 60, ConnectedAt: at,
			Zone: "zone", Listener: "listener", Protocol: "mqtt:tcp", Mountpoint: "mount", Superuser: true, Bridge: true, WillTopic: "will",
		}},
	})
	w.putSession(2, engine.StoredSession{ClientID: "plain", Will: &engine.StoredWill{Message: engine.Message{Topic: "x"}}})
	w.putSubscription(2, engine.Subscription{
		Filter: "a/+", Share: "g", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, ID: 268435455,
	})
	w.putSubscription(2, engine.Subscription{Filter: "#", Share: "$queue/", RetainHandling: 1})
	w.putMessage(1, m, false)
	w.putDelivery(2, engine.StoredDelivery{
		Seq: 1 << 50, Message: 1, QoS: 2, Retain: true, IDs: []uint32{1, 268435455}, Share: "$share/g/a/+", At: -5,
	})
	w.putDelivery(2, engine.StoredDelivery{Seq: 3, QoS: 1, Recorded: true, Share: "s"})
	w.begun(2, 17)
	w.putRelease(2, 65535, 1<<62)
	w.putRetained(1, "topic")
	w.putDelayed(1, 99)
	w.restart()
}

// cleaning writes many times what holds.
func cleaning(w *world) {
	w.putSession(1, sessionOf("a"))
	w.putSession(2, sessionOf("b"))
	w.putSubscription(1, engine.Subscription{Filter: "x"})
	w.publish(1, 1, 1, 2)
	w.putMessage(2, text("t", "retained"), false)
	w.putRetained(2, "t")
	w.commit()
	payload := string(make([]byte, 200))
	for i := range uint64(2000) {
		w.turn.Lock()
		n := i + 3
		w.putMessage(n, text("t", payload), true)
		w.putDelivery(1, deliveryOf(n, n))
		w.endPublication(n, 0, 0, 0)
		w.endDelivery(1, n)
		w.turn.Unlock()
		if i%20 == 0 {
			w.commit()
		}
		if w.medium.Clean != nil && i%200 == 0 {
			w.medium.Clean(w.s)
		}
	}
	w.client.Await(w.t, "cleaning", func() bool {
		w.s.Want(w.s.Staged())
		return w.s.Stats().Bytes < int64(w.s.Staged())/4
	})
	w.quit()
	if w.s.Stats().Rewrites == 0 {
		w.t.Fatalf("nothing was written anew")
	}
	w.restart()
}

// Run runs the suite. medium makes one for each test.
func Run(t *testing.T, medium func(t testing.TB) *Medium) {
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, medium(t))
			t.Cleanup(func() { _ = w.s.Close() }) // where the test did not, it does not matter how
			c.run(w)
		})
	}
}
