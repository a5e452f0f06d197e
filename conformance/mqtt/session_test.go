package mqtt

import (
	"fmt"
	"testing"
	"time"
)

// TestSessionPresent goes through clean and resumed connections.
func TestSessionPresent(t *testing.T) {
	both(t, in311("MQTT-3.1.2-4", "MQTT-3.1.2-6", "MQTT-3.1.4-3", "MQTT-3.2.2-1", "MQTT-3.2.2-2", "MQTT-3.2.2-3", "MQTT-3.1.3-2"),
		in5("MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.1.2-6", "MQTT-3.1.4-4", "MQTT-3.2.2-2", "MQTT-3.2.2-3", "MQTT-3.1.3-2", "MQTT-3.1.2-23"),
		func(t *testing.T, v version) {
			id, topic := unique(), unique()
			pub := shared(t).connect(t, session{v: v})
			kept, clean := session{v: v, id: id, persist: true}, session{v: v, id: id}
			step := func(name string, s session, present, subscribed bool) *conn {
				t.Helper()
				c := shared(t).connect(t, s)
				if c.connack.present != present {
					t.Fatalf("%s: session present %v, want %v", name, c.connack.present, present)
				}
				pub.send(topic, name, 1)
				if subscribed {
					c.receive(topic, name)
				}
				c.silent(pub)
				return c
			}
			c := step("first connection", kept, false, false)
			c.subscribe(topic, 1)
			c.drop()
			c = step("resumed after a broken connection", kept, true, true)
			c.disconnect()
			c = step("resumed after DISCONNECT", kept, true, true)
			step("resumed by takeover", kept, true, true)
			c.closed(0x8e)
			c = step("clean start", clean, false, false)
			c.subscribe(topic, 1)
			c.disconnect()
			c = step("not clean after a clean session", kept, false, false)
			c.disconnect()
			c = step("another client", session{v: v, id: id + "-other", persist: true}, false, false)
			c.disconnect()
			step("clean start drops a stored session", clean, false, false).disconnect()
			step("and it stays dropped", kept, false, false)
		})
}

// TestCleanSessionDropsInflight: the messages of a dropped session are gone.
func TestCleanSessionDropsInflight(t *testing.T) {
	both(t, in311("MQTT-3.1.2-6"), in5("MQTT-3.1.2-4"), func(t *testing.T, v version) {
		s := session{v: v, id: unique(), persist: true}
		topic := unique()
		c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v})
		c.subscribe(topic, 2)
		pub.send(topic, "in flight", 1)
		c.message(topic, "in flight")
		c.drop()
		pub.send(topic, "queued", 2)
		c = shared(t).connect(t, session{v: v, id: s.id})
		c.ping()
		c.silent(pub)
		c.disconnect()
		c = shared(t).connect(t, s)
		c.silent(pub)
	})
}

// TestOfflineQueue: what is published while the client is away waits for it.
func TestOfflineQueue(t *testing.T) {
	both(t, in311("MQTT-3.1.2-5", "MQTT-4.1.0-1", "MQTT-4.5.0-1"), in5("MQTT-3.1.2-23", "MQTT-4.1.0-1", "MQTT-4.5.0-1"), func(t *testing.T, v version) {
		s := session{v: v, id: unique(), persist: true}
		topic := unique()
		c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v})
		c.subscribe(topic, 2)
		c.disconnect()
		const n = 40
		for i := range n {
			pub.send(topic, fmt.Sprint(i), 1+byte(i%2))
		}
		c = shared(t).connect(t, s)
		next := map[byte]int{1: 0, 2: 1} // order holds for each QoS
		for range n {
			p := c.expect(typePublish)
			if p.payload != fmt.Sprint(next[p.qos]) || p.dup || p.topic != topic {
				t.Fatalf("got %q (QoS %d, DUP %v), want %d, DUP 0", p.payload, p.qos, p.dup, next[p.qos])
			}
			next[p.qos] += 2
			c.ack(p)
		}
		c.silent(pub)
	})
}

// TestSessionLastsAsLongAsConnection: a session with no life of its own is
// whole while the connection is open.
func TestSessionLastsAsLongAsConnection(t *testing.T) {
	both(t, in311("MQTT-4.1.0-2"), in5("MQTT-4.1.0-1"), func(t *testing.T, v version) {
		topic := unique()
		s := session{v: v}
		if v == v5 {
			s.props = props{num(propSessionExpiry, 1)}
		}
		c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v})
		c.subscribe(topic, 2)
		pub.send(topic, "held", 2)
		held := c.message(topic, "held")
		for start := time.Now(); time.Since(start) < 2500*time.Millisecond; {
			c.ping()
			time.Sleep(100 * time.Millisecond) // longer than the expiry: time is the subject
		}
		c.ack(held)
		pub.send(topic, "later", 1)
		c.receive(topic, "later")
	})
}

// TestSessionExpiry waits for sessions to end. The broker may take its time:
// the test polls until the session is gone.
func TestSessionExpiry(t *testing.T) {
	only5(t, "MQTT-4.1.0-2", "MQTT-3.1.2-23")
	gone := func(t *testing.T, s session, after time.Duration) {
		t.Helper()
		// A resumed session must not live on through the test's own looking: ask
		// for the same expiry and give it the same time again.
		s.resume = true
		time.Sleep(after) // expiry is the subject of this test
		for deadline := time.Now().Add(patience); ; {
			c := shared(t).connect(t, s)
			present := c.connack.present
			c.disconnect()
			if !present {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the session does not end")
			}
			time.Sleep(after)
		}
	}
	connect := func(t *testing.T, p ...prop) (*conn, session) {
		s := session{v: v5, id: unique(), props: p}
		c := shared(t).connect(t, s)
		c.subscribe("t/"+s.id, 1)
		return c, s
	}
	t.Run("absent", func(t *testing.T) {
		t.Parallel()
		c, s := connect(t)
		c.drop()
		gone(t, s, 0)
	})
	t.Run("0", func(t *testing.T) {
		t.Parallel()
		c, s := connect(t, num(propSessionExpiry, 0))
		c.disconnect()
		gone(t, s, 0)
	})
	t.Run("one second", func(t *testing.T) {
		t.Parallel()
		c, s := connect(t, num(propSessionExpiry, 1))
		c.disconnect()
		gone(t, s, 1500*time.Millisecond)
	})
	t.Run("set by DISCONNECT to 0", func(t *testing.T) {
		t.Parallel()
		c, s := connect(t, num(propSessionExpiry, 300))
		c.bye(0, props{num(propSessionExpiry, 0)})
		gone(t, s, 0)
	})
	t.Run("set by DISCONNECT to more", func(t *testing.T) {
		t.Parallel()
		c, s := connect(t, num(propSessionExpiry, 1))
		c.bye(0, props{num(propSessionExpiry, 300)})
		time.Sleep(2500 * time.Millisecond) // past the first expiry, which is the subject
		s.resume = true
		if !shared(t).connect(t, s).connack.present {
			t.Error("session gone, though DISCONNECT gave it 300 s")
		}
	})
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		c, s := connect(t, num(propSessionExpiry, 0xffffffff))
		c.disconnect()
		s.resume = true
		if !shared(t).connect(t, s).connack.present {
			t.Error("session gone")
		}
	})
}

// TestSessionExpiryInDisconnectAfterZero: a session that was to end with its
// connection cannot be given a life by DISCONNECT (section 3.14.2.2.2).
func TestSessionExpiryInDisconnectAfterZero(t *testing.T) {
	only5(t, "MQTT-4.13.1-1")
	c := shared(t).connect(t, session{v: v5})
	c.write(disconnectBytes(v5, 0, props{num(propSessionExpiry, 10)}))
	c.closed(0x82)
}

// TestResumedBetweenVersions: a session of 3.1.1 is one for 5.0, and back.
func TestResumedBetweenVersions(t *testing.T) {
	both(t, in311("MQTT-3.1.3-2", "MQTT-3.2.2-2"), in5("MQTT-3.1.3-2", "MQTT-3.2.2-3"), func(t *testing.T, v version) {
		topic, id := unique(), unique()
		c := shared(t).connect(t, session{v: v, id: id, persist: true})
		c.subscribe(topic, 1)
		c.disconnect()
		pub := shared(t).connect(t, session{v: v})
		pub.publish(publish{topic: topic, payload: "x", qos: 1})
		c = shared(t).connect(t, session{v: v311 + v5 - v, id: id, persist: true})
		if !c.connack.present {
			t.Fatal("no session present")
		}
		c.receive(topic, "x")
	})
}
