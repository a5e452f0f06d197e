package mqtt

import (
	"testing"
	"time"
)

// watched returns a topic and a client that is subscribed to it.
func watched(t *testing.T, v version) (string, *conn) {
	t.Helper()
	topic := "will/" + unique()
	c := shared(t).connect(t, session{v: v})
	c.subscribe(topic, 2)
	return topic, c
}

func TestWillPublished(t *testing.T) {
	both(t, in311("MQTT-3.1.2-8", "MQTT-3.1.2-9", "MQTT-3.1.2-10", "MQTT-3.1.2-16"),
		in5("MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-9", "MQTT-3.1.2-10", "MQTT-3.1.2-14"), func(t *testing.T, v version) {
			for qos := range byte(3) {
				topic, watcher := watched(t, v)
				s := session{v: v, id: unique(), persist: true, will: &will{topic: topic, payload: "gone", qos: qos}}
				c := shared(t).connect(t, s)
				c.ping()
				watcher.silent(c)
				c.drop()
				if p := watcher.receive(topic, "gone"); p.qos != qos || p.retain {
					t.Errorf("will of QoS %d came with QoS %d, RETAIN %v", qos, p.qos, p.retain)
				}
				// Once published it is gone: the session goes on without it.
				s.will = nil
				c = shared(t).connect(t, s)
				c.drop()
				watcher.silent(shared(t).connect(t, session{v: v}))
				// Nothing was retained.
				late := shared(t).connect(t, session{v: v})
				late.subscribe(topic, 2)
				late.silent(watcher)
			}
		})
}

func TestWillRetained(t *testing.T) {
	both(t, in311("MQTT-3.1.2-17"), in5("MQTT-3.1.2-15"), func(t *testing.T, v version) {
		topic, watcher := watched(t, v)
		shared(t).connect(t, session{v: v, will: &will{topic: topic, payload: "gone", qos: 1, retain: true}}).drop()
		if p := watcher.receive(topic, "gone"); p.retain {
			t.Error("established subscription got RETAIN 1")
		}
		late := shared(t).connect(t, session{v: v})
		late.subscribe(topic, 1)
		if p := late.receive(topic, "gone"); !p.retain {
			t.Error("new subscription got RETAIN 0")
		}
	})
}

func TestNoWillAfterDisconnect(t *testing.T) {
	both(t, in311("MQTT-3.14.4-3", "MQTT-3.1.2-8", "MQTT-3.1.2-10"), in5("MQTT-3.14.4-3", "MQTT-3.1.2-8", "MQTT-3.1.2-10"), func(t *testing.T, v version) {
		topic, watcher := watched(t, v)
		s := session{v: v, id: unique(), persist: true, will: &will{topic: topic, payload: "gone", qos: 1, retain: true}}
		c := shared(t).connect(t, s)
		c.disconnect()
		other := shared(t).connect(t, session{v: v})
		watcher.silent(other)
		// The will is not kept in the session either.
		s.will = nil
		c = shared(t).connect(t, s)
		c.drop()
		watcher.silent(other)
		late := shared(t).connect(t, session{v: v})
		late.subscribe(topic, 1)
		late.silent(other)
	})
}

func TestNoWillNothingPublished(t *testing.T) {
	only311(t, "MQTT-3.1.2-12")
	watcher := shared(t).connect(t, session{v: v311})
	id := unique()
	watcher.subscribe("+/"+id+"/#", 1)
	watcher.subscribe(id+"/#", 1)
	shared(t).connect(t, session{v: v311, id: id}).drop()
	watcher.silent(shared(t).connect(t, session{v: v311}))
}

// TestWillOnTakeover: the older connection did not say goodbye.
func TestWillOnTakeover(t *testing.T) {
	both(t, in311("MQTT-3.1.2-8", "MQTT-3.1.4-2"), in5("MQTT-3.1.2-8", "MQTT-3.1.4-3"), func(t *testing.T, v version) {
		topic, watcher := watched(t, v)
		s := session{v: v, id: unique(), will: &will{topic: topic, payload: "taken over", qos: 1}}
		first := shared(t).connect(t, s)
		s.will = nil
		second := shared(t).connect(t, s)
		first.closed(0x8e)
		watcher.receive(topic, "taken over")
		second.ping()
	})
}

func TestDisconnectWithWill(t *testing.T) {
	only5(t, "MQTT-3.14.4-3", "MQTT-3.1.2-8")
	topic, watcher := watched(t, v5)
	c := shared(t).connect(t, session{v: v5, will: &will{topic: topic, payload: "on purpose", qos: 1}})
	c.bye(0x04, nil)
	watcher.receive(topic, "on purpose")
	// Any code but 0x00 keeps the will.
	c = shared(t).connect(t, session{v: v5, will: &will{topic: topic, payload: "on error", qos: 1}})
	c.bye(0x80, nil)
	watcher.receive(topic, "on error")
}

// TestWillDelay: the will waits for its delay or for the end of the session,
// and is dropped when the client is back before.
func TestWillDelay(t *testing.T) {
	only5(t, "MQTT-3.1.2-8", "MQTT-3.1.3-9", "MQTT-3.1.2-10")
	delayed := func(topic string, delay, expiry uint32) session {
		return session{v: v5, id: unique(), resume: true, props: props{num(propSessionExpiry, expiry)},
			will: &will{topic: topic, payload: "delayed", qos: 1, props: props{num(propWillDelay, delay)}}}
	}
	t.Run("after the delay", func(t *testing.T) {
		t.Parallel()
		topic, watcher := watched(t, v5)
		c := shared(t).connect(t, delayed(topic, 1, 300))
		start := time.Now() // before the broker can know: a busy machine only makes the wait longer
		c.drop()
		watcher.silent(shared(t).connect(t, session{v: v5}))
		watcher.receive(topic, "delayed")
		if waited := time.Since(start); waited < 900*time.Millisecond || waited > 5*time.Second {
			t.Errorf("will came after %v, want about 1 s", waited)
		}
	})
	t.Run("at the end of the session", func(t *testing.T) {
		t.Parallel()
		topic, watcher := watched(t, v5)
		shared(t).connect(t, delayed(topic, 300, 1)).drop()
		watcher.receive(topic, "delayed")
	})
	t.Run("session ends with the connection", func(t *testing.T) {
		t.Parallel()
		topic, watcher := watched(t, v5)
		shared(t).connect(t, delayed(topic, 300, 0)).drop()
		watcher.receive(topic, "delayed")
	})
	t.Run("session ended by a clean start", func(t *testing.T) {
		t.Parallel()
		topic, watcher := watched(t, v5)
		s := delayed(topic, 300, 300)
		shared(t).connect(t, s).drop()
		shared(t).connect(t, session{v: v5, id: s.id}).ping()
		watcher.receive(topic, "delayed")
	})
	t.Run("session ended by a clean start that takes over", func(t *testing.T) {
		t.Parallel()
		topic, watcher := watched(t, v5)
		s := delayed(topic, 300, 300)
		first := shared(t).connect(t, s)
		shared(t).connect(t, session{v: v5, id: s.id}).ping()
		first.closed(0x8e)
		watcher.receive(topic, "delayed")
	})
	for name, leave := range map[string]func(c *conn){
		"client back in time":    (*conn).drop,
		"client taken over from": func(*conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic, watcher := watched(t, v5)
			s := delayed(topic, 1, 300)
			leave(shared(t).connect(t, s))
			s.will = nil
			c := shared(t).connect(t, s)
			if !c.connack.present {
				t.Fatal("no session present")
			}
			for start := time.Now(); time.Since(start) < 2500*time.Millisecond; {
				c.ping()
				time.Sleep(100 * time.Millisecond) // past the delay, which is the subject
			}
			watcher.silent(c)
		})
	}
	t.Run("not after DISCONNECT", func(t *testing.T) {
		t.Parallel()
		topic, watcher := watched(t, v5)
		shared(t).connect(t, delayed(topic, 1, 300)).disconnect()
		c := shared(t).connect(t, session{v: v5})
		for start := time.Now(); time.Since(start) < 2500*time.Millisecond; {
			c.ping()
			time.Sleep(100 * time.Millisecond) // past the delay, which is the subject
		}
		watcher.silent(c)
	})
}

// TestWillProperties: they are those of the message published, in their order.
func TestWillProperties(t *testing.T) {
	only5(t, "MQTT-3.1.3-10", "MQTT-3.1.2-9")
	topic, watcher := watched(t, v5)
	given := props{num(propPayloadFormat, 1), text(propContentType, "text/plain"), text(propResponseTopic, "answer/here"),
		text(propCorrelationData, "\x00\xff"), userProp("b", "1"), userProp("a", "2"), userProp("b", "1"), userProp("", "")}
	shared(t).connect(t, session{v: v5, will: &will{topic: topic, payload: "gone", qos: 1, props: given.with(num(propMessageExpiry, 300))}}).drop()
	p := watcher.receive(topic, "gone")
	compareProps(t, p.props, given)
	if left := p.props.num(propMessageExpiry, 0); left == 0 || left > 300 {
		t.Errorf("message expiry %d, want 1 to 300", left)
	}
}

// compareProps fails unless got has the properties of want: user properties in
// the same order, each other one equal.
func compareProps(t *testing.T, got, want props) {
	t.Helper()
	for _, w := range want {
		if w.id == propUserProperty {
			continue
		}
		if g, ok := got.find(w.id); !ok || g != w {
			t.Errorf("property 0x%02x: got %+v, want %+v", w.id, g, w)
		}
	}
	g, w := got.all(propUserProperty), want.all(propUserProperty)
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Errorf("user properties: got %+v, want %+v", g, w)
			return
		}
	}
}
