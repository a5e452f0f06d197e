package mqtt

import (
	"testing"
)

// TestTopicMatching publishes to topics and compares who gets them with the
// rules of section 4.7.
func TestTopicMatching(t *testing.T) {
	both(t, in311("MQTT-3.3.2-3", "MQTT-4.5.0-1", "MQTT-4.7.1-2", "MQTT-4.7.1-3"),
		in5("MQTT-3.3.2-3", "MQTT-4.5.0-1", "MQTT-4.7.1-1", "MQTT-4.7.1-2"), func(t *testing.T, v version) {
			for _, tc := range []struct {
				filter    string
				match, no []string
			}{
				{"sport/tennis/player1/#", []string{"sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"},
					[]string{"sport/tennis/player10", "sport/tennis", "sport/tennis/Player1/x"}},
				{"sport/#", []string{"sport", "sport/", "sport//", "sport/a/b/c/d/e/f/g/h"}, []string{"sports", "/sport"}},
				{"sport/tennis/+", []string{"sport/tennis/player1", "sport/tennis/"}, []string{"sport/tennis/player1/ranking", "sport/tennis"}},
				{"sport/+", []string{"sport/"}, []string{"sport"}},
				{"+/+", []string{"/finance", "a/b"}, []string{"finance", "a/b/c"}},
				{"/+", []string{"/finance", "/"}, []string{"//", "finance"}},
				{"+/tennis/#", []string{"/tennis", "x/tennis/y"}, []string{"tennis", "x/y/tennis"}},
				{"a/+/c", []string{"a/b/c", "a//c"}, []string{"a/b/d", "a/b/c/d", "a/c"}},
				{"a/b", []string{"a/b"}, []string{"a/b/", "/a/b", "a", "A/b", "a/bb"}},
				{"a//b", []string{"a//b"}, []string{"a/b", "a///b"}},
				{"#", []string{"", "a", "/", "a/b/c"}, nil},
				{"+/#", []string{"", "a/b"}, nil},
			} {
				t.Run(tc.filter, func(t *testing.T) {
					t.Parallel()
					// A root level of its own keeps the case apart from other tests.
					root := unique() + "/"
					sub, pub := shared(t).connect(t, session{v: v}), shared(t).connect(t, session{v: v})
					sub.subscribe(root+tc.filter, 1)
					for _, topic := range tc.no {
						pub.send(root+topic, "no", 1)
					}
					for _, topic := range tc.match {
						pub.send(root+topic, "yes", 1)
						sub.receive(root+topic, "yes")
					}
					sub.silent(pub)
				})
			}
		})
}

// TestDollarTopics shows that a leading wildcard does not match a leading $.
func TestDollarTopics(t *testing.T) {
	both(t, in311("MQTT-4.7.2-1"), in5("MQTT-4.7.2-1"), func(t *testing.T, v version) {
		b := shared(t)
		sub, exact, pub := b.connect(t, session{v: v}), b.connect(t, session{v: v}), b.connect(t, session{v: v})
		name := unique()
		topic := "$" + name + "/" + name
		sub.subscribe("+/"+name, 1)
		sub.subscribe("+/"+name+"/#", 1)
		hash := b.connect(t, session{v: v})
		hash.subscribe("#", 0)
		exact.subscribe(topic, 1)
		below := b.connect(t, session{v: v})
		below.subscribe("$"+name+"/#", 1)
		pub.send(topic, "dollar", 1)
		exact.receive(topic, "dollar")
		below.receive(topic, "dollar")
		sub.silent(pub)
		// Everything else on this broker reaches the subscriber of #, but not this.
		end := "end/" + name
		pub.send(end, "end", 1)
		for {
			p := hash.expect(typePublish)
			hash.ack(p)
			if p.topic != "" && p.topic[0] == '$' {
				t.Fatalf("# matched %q", p.topic)
			}
			if p.topic == end {
				break
			}
		}
	})
}

// TestEverySubscriberGetsIt counts the copies of one message.
func TestEverySubscriberGetsIt(t *testing.T) {
	both(t, in311("MQTT-4.5.0-1", "MQTT-4.3.1-1", "MQTT-2.3.1-5", "MQTT-3.3.1-2"),
		in5("MQTT-4.5.0-1", "MQTT-4.3.1-1", "MQTT-2.2.1-2", "MQTT-3.3.1-2"), func(t *testing.T, v version) {
			topic, pub := unique(), shared(t).connect(t, session{v: v})
			var subs []*conn
			for range 5 {
				c := shared(t).connect(t, session{v: v})
				c.subscribe(topic, 2)
				subs = append(subs, c)
			}
			offline := session{v: v, id: unique(), persist: true}
			c := shared(t).connect(t, offline)
			c.subscribe(topic, 2)
			c.disconnect()
			for qos := range byte(3) {
				pub.send(topic, "to all", qos)
			}
			back := shared(t).connect(t, offline)
			for qos := range byte(3) {
				for _, c := range subs {
					// The decoder refuses QoS 0 with DUP, and the payload would show a packet id.
					if p := c.receive(topic, "to all"); p.qos != qos || p.dup {
						t.Errorf("got QoS %d, DUP %v, want QoS %d, DUP 0", p.qos, p.dup, qos)
					}
				}
			}
			got := map[byte]int{}
			for got[1]+got[2] < 2 { // a QoS 0 message may be kept for an offline client or not
				got[back.receive(topic, "to all").qos]++
			}
			if got[1] != 1 || got[2] != 1 {
				t.Errorf("messages of QoS 1 and 2 for the offline client: %d and %d, want 1 and 1", got[1], got[2])
			}
			for _, c := range subs {
				c.silent(pub)
			}
		})
}

// TestDeliveryQoS goes through all pairs of published and granted QoS.
func TestDeliveryQoS(t *testing.T) {
	both(t, in311("MQTT-3.8.4-6", "MQTT-3.8.4-5", "MQTT-3.3.4-1"), in5("MQTT-3.8.4-8", "MQTT-3.8.4-7", "MQTT-3.3.4-1"),
		func(t *testing.T, v version) {
			c := shared(t).connect(t, session{v: v})
			for granted := range byte(3) {
				topic := unique()
				if ack := c.subscribe(topic, granted); ack.codes[0] != granted {
					t.Fatalf("SUBACK 0x%02x, want %d", ack.codes[0], granted)
				}
				for sent := range byte(3) {
					c.send(topic, "x", sent)
					if p := c.receive(topic, "x"); p.qos != min(sent, granted) {
						t.Errorf("published %d, granted %d: delivered at %d", sent, granted, p.qos)
					}
				}
			}
			c.ping()
		})
}

// TestOverlappingSubscriptions accepts one copy or one for each subscription;
// the highest QoS must be among them.
func TestOverlappingSubscriptions(t *testing.T) {
	both(t, in311("MQTT-3.3.5-1"), in5("MQTT-3.3.4-2"), func(t *testing.T, v version) {
		c, base := shared(t).connect(t, session{v: v}), unique()
		c.subscribe(base+"/#", 0)
		c.subscribe(base+"/+", 2)
		c.subscribe(base+"/a", 1)
		c.send(base+"/a", "x", 2)
		best, end := byte(0), unique()
		c.subscribe(end, 1)
		c.send(end, "end", 1)
		copies := 0
		for {
			p := c.expect(typePublish)
			c.ack(p)
			if p.topic == end {
				break
			}
			copies++
			best = max(best, p.qos)
		}
		if best != 2 || copies > 3 {
			t.Errorf("%d copies, highest QoS %d, want 1 to 3 copies, highest QoS 2", copies, best)
		}
	})
}

func TestRetained(t *testing.T) {
	both(t, in311("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8", "MQTT-3.3.1-9"), in5("MQTT-3.3.1-5", "MQTT-3.3.1-9", "MQTT-3.3.1-12"),
		func(t *testing.T, v version) {
			base := unique()
			established, pub := shared(t).connect(t, session{v: v}), shared(t).connect(t, session{v: v})
			established.subscribe(base+"/#", 2)
			for qos := range byte(3) {
				topic := base + "/" + string('0'+rune(qos))
				for _, payload := range []string{"first", "last"} {
					pub.publish(publish{topic: topic, payload: payload, qos: qos, retain: true})
					if p := established.receive(topic, payload); p.retain {
						t.Errorf("RETAIN 1 to an established subscription")
					}
				}
				late := shared(t).connect(t, session{v: v})
				late.subscribe(topic, 2)
				if p := late.receive(topic, "last"); !p.retain || p.qos != qos {
					t.Errorf("QoS %d: retained message came with RETAIN %v and QoS %d", qos, p.retain, p.qos)
				}
				lower := shared(t).connect(t, session{v: v})
				lower.subscribe(topic, 1)
				if p := lower.receive(topic, "last"); p.qos != min(qos, 1) {
					t.Errorf("retained QoS %d to a subscription of QoS 1 came at %d", qos, p.qos)
				}
				late.silent(pub)
			}
			// A wildcard subscription gets the last message of every matching topic.
			wild, got := shared(t).connect(t, session{v: v}), map[string]string{}
			wild.subscribe(base+"/+", 2)
			for range 3 {
				p := wild.expect(typePublish)
				wild.ack(p)
				got[p.topic] = p.payload
				if !p.retain {
					t.Errorf("%s: RETAIN 0 on a new subscription", p.topic)
				}
			}
			for _, topic := range []string{base + "/0", base + "/1", base + "/2"} {
				if got[topic] != "last" {
					t.Errorf("retained on %s: got %q, want %q", topic, got[topic], "last")
				}
			}
			wild.silent(pub)
		})
}

func TestRetainedIsDeleted(t *testing.T) {
	both(t, in311("MQTT-3.3.1-10", "MQTT-3.3.1-11"), in5("MQTT-3.3.1-6", "MQTT-3.3.1-7"), func(t *testing.T, v version) {
		for qos := range byte(3) {
			topic := unique()
			pub, established := shared(t).connect(t, session{v: v}), shared(t).connect(t, session{v: v})
			pub.retain(topic, "kept")
			established.subscribe(topic, 2)
			established.receive(topic, "kept")
			for range 2 { // a second deletion finds nothing and stores nothing
				pub.publish(publish{topic: topic, qos: qos, retain: true})
				if p := established.receive(topic, ""); p.retain {
					t.Errorf("QoS %d: deletion was forwarded with RETAIN 1", qos)
				}
				late := shared(t).connect(t, session{v: v})
				late.subscribe(topic, 2)
				late.silent(pub)
			}
		}
	})
}

func TestNotRetained(t *testing.T) {
	both(t, in311("MQTT-3.3.1-12"), in5("MQTT-3.3.1-8"), func(t *testing.T, v version) {
		kept, none := unique(), unique()
		pub := shared(t).connect(t, session{v: v})
		pub.retain(kept, "kept")
		for _, payload := range []string{"passing", ""} {
			pub.send(kept, payload, 1)
			pub.send(none, payload, 1)
		}
		late := shared(t).connect(t, session{v: v})
		late.subscribe(kept, 1)
		late.receive(kept, "kept")
		late.subscribe(none, 1)
		late.silent(pub)
	})
}

// TestRetainedQoS0Replaces: the older message must be gone; the new one is kept
// by this broker, which the standard recommends.
func TestRetainedQoS0Replaces(t *testing.T) {
	only311(t, "MQTT-3.3.1-7")
	topic, pub := unique(), shared(t).connect(t, session{v: v311})
	pub.retain(topic, "old")
	pub.publish(publish{topic: topic, payload: "new", retain: true})
	late := shared(t).connect(t, session{v: v311})
	late.subscribe(topic, 1)
	if p := late.receive(topic, "new"); p.qos != 0 || !p.retain {
		t.Errorf("got QoS %d, RETAIN %v, want 0 and 1", p.qos, p.retain)
	}
}

// TestRetainedOutlivesSession: retained messages belong to no session.
func TestRetainedOutlivesSession(t *testing.T) {
	both(t, in311("MQTT-3.1.2-7"), in5("MQTT-4.1.0-2"), func(t *testing.T, v version) {
		topic := unique()
		pub := shared(t).connect(t, session{v: v, id: unique()})
		pub.retain(topic, "kept")
		pub.disconnect()
		again := shared(t).connect(t, session{v: v, id: pub.id}) // a clean start drops the session once more
		again.subscribe(topic, 1)
		again.receive(topic, "kept")
	})
}

// TestRetainHandling goes through the three values for a new and for an
// existing subscription.
func TestRetainHandling(t *testing.T) {
	only5(t, "MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11", "MQTT-3.8.4-4")
	for _, tc := range []struct {
		name             string
		opts             byte
		fresh, resubbing bool
	}{
		{"0", 0, true, true},
		{"1", optRetainIfNew, true, false},
		{"2", optRetainNever, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			topic := unique()
			c := shared(t).connect(t, session{v: v5, id: unique(), persist: true})
			c.retain(topic, "kept")
			expect := func(when string, want bool) {
				t.Helper()
				c.subscribe(topic, 1|tc.opts)
				if want {
					if p := c.receive(topic, "kept"); !p.retain {
						t.Errorf("%s: RETAIN 0", when)
					}
				}
				c.silent(c)
			}
			expect("new subscription", tc.fresh)
			expect("existing subscription", tc.resubbing)
			c.unsubscribe(topic)
			expect("after UNSUBSCRIBE", tc.fresh)
			c.drop()
			c = shared(t).connect(t, session{v: v5, id: c.id, persist: true})
			expect("existing subscription of a resumed session", tc.resubbing)
		})
	}
}

func TestRetainAsPublished(t *testing.T) {
	only5(t, "MQTT-3.3.1-12", "MQTT-3.3.1-13")
	base := unique()
	c, keep := shared(t).connect(t, session{v: v5}), shared(t).connect(t, session{v: v5})
	c.subscribe(base+"/#", 1)
	keep.subscribe(base+"/#", 1|optRetainAsPublished)
	for _, retain := range []bool{true, false} {
		topic := base + "/" + unique()
		c.publish(publish{topic: topic, payload: "x", qos: 1, retain: retain})
		if p := c.receive(topic, "x"); p.retain {
			t.Errorf("Retain As Published 0, published with RETAIN %v: forwarded with RETAIN 1", retain)
		}
		if p := keep.receive(topic, "x"); p.retain != retain {
			t.Errorf("Retain As Published 1, published with RETAIN %v: forwarded with RETAIN %v", retain, p.retain)
		}
	}
}

// TestLargePayloads sends payloads around the borders of the length encoding
// and larger than any read buffer.
func TestLargePayloads(t *testing.T) {
	both(t, in311("MQTT-7.1.1-1"), in5("MQTT-4.2.0-1", "MQTT-1.5.5-1"), func(t *testing.T, v version) {
		c, topic := shared(t).connect(t, session{v: v}), unique()
		c.subscribe(topic, 1)
		for _, n := range []int{0, 1, 127 - len(topic) - 4, 128 - len(topic) - 4, 127, 128, 16383 - len(topic) - 4, 16384 - len(topic) - 4, 16384, 60000} {
			payload := make([]byte, n)
			for i := range payload {
				payload[i] = byte(i * 7)
			}
			c.send(topic, string(payload), 1)
			if p := c.expect(typePublish); p.payload != string(payload) {
				t.Errorf("payload of %d bytes came back changed (%d bytes)", n, len(p.payload))
			} else {
				c.ack(p)
			}
		}
	})
}
