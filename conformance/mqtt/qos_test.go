package mqtt

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestAcksEchoPacketID goes through every exchange with unusual identifiers.
func TestAcksEchoPacketID(t *testing.T) {
	both(t, in311("MQTT-2.3.1-6", "MQTT-3.3.4-1", "MQTT-4.3.2-2", "MQTT-4.3.3-2"),
		in5("MQTT-2.2.1-5", "MQTT-3.3.4-1", "MQTT-4.3.2-4", "MQTT-4.3.3-8", "MQTT-4.3.3-11", "MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-3.7.2-1", "MQTT-2.2.2-1"),
		func(t *testing.T, v version) {
			c, topic := shared(t).connect(t, session{v: v}), unique()
			c.subscribe(topic, 0)
			for _, id := range []uint16{1, 2, 255, 256, 32768, 65535} {
				for qos := byte(0); qos < 3; qos++ {
					// publish compares the identifiers of PUBACK, PUBREC and PUBCOMP.
					if ack := c.publish(publish{topic: topic, payload: "x", qos: qos, id: id}); ack != nil && ack.code != 0 {
						t.Errorf("QoS %d: got %s, want code 0", qos, ack)
					}
					c.receive(topic, "x")
				}
			}
			c.ping() // QoS 0 was answered by nothing
		})
}

// TestNoMatchingSubscribers: 5.0 may tell the publisher that nobody listens.
func TestNoMatchingSubscribers(t *testing.T) {
	only5(t, "MQTT-3.4.2-1", "MQTT-3.5.2-1")
	c := shared(t).connect(t, session{v: v5})
	for qos := byte(1); qos < 3; qos++ {
		if ack := c.publish(publish{topic: unique(), payload: "x", qos: qos}); ack.code != 0 && ack.code != 0x10 {
			t.Errorf("QoS %d: got %s, want code 0x00 or 0x10", qos, ack)
		}
	}
}

// TestIncomingDupIsNotPassedOn publishes with DUP 1.
func TestIncomingDupIsNotPassedOn(t *testing.T) {
	both(t, in311("MQTT-3.3.1-3"), in5("MQTT-3.3.1-3"), func(t *testing.T, v version) {
		c, topic := shared(t).connect(t, session{v: v}), unique()
		c.subscribe(topic, 2)
		for qos := byte(1); qos < 3; qos++ {
			c.publish(publish{topic: topic, payload: "dup", qos: qos, dup: true})
			if p := c.receive(topic, "dup"); p.dup {
				t.Errorf("QoS %d: DUP was passed on", qos)
			}
		}
	})
}

// TestQoS1ReceiverTakesRepeatAsNew repeats a PUBLISH after its PUBACK.
func TestQoS1ReceiverTakesRepeatAsNew(t *testing.T) {
	both(t, in311("MQTT-4.3.2-2"), in5("MQTT-4.3.2-5"), func(t *testing.T, v version) {
		c, topic := shared(t).connect(t, session{v: v}), unique()
		c.subscribe(topic, 1)
		for i, dup := range []bool{false, true, false, true} {
			c.publish(publish{topic: topic, payload: fmt.Sprint(i), qos: 1, id: 5, dup: dup})
			c.receive(topic, fmt.Sprint(i))
		}
		c.silent(c)
	})
}

// TestQoS2ReceiverDeliversOnce repeats PUBLISH and PUBREL, on one connection
// and after a reconnect.
func TestQoS2ReceiverDeliversOnce(t *testing.T) {
	both(t, in311("MQTT-4.3.3-2", "MQTT-2.3.1-3"), in5("MQTT-4.3.3-8", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12", "MQTT-3.7.2-1"),
		func(t *testing.T, v version) {
			topic := unique()
			sub := shared(t).connect(t, session{v: v})
			sub.subscribe(topic, 2)
			s := session{v: v, id: unique(), persist: true}
			c := shared(t).connect(t, s)
			again := publish{topic: topic, payload: "once", qos: 2, id: 5}
			want := func(typ byte, codes ...byte) {
				t.Helper()
				if p := c.read(); p.typ != typ || p.id != 5 || !slices.Contains(append(codes, 0), p.code) {
					t.Fatalf("got %s, want %s for packet 5", p, typeNames[typ])
				}
			}
			c.write(again.bytes(v))
			want(typePubrec, 0x10)
			again.dup = true
			c.write(again.bytes(v))
			want(typePubrec, 0x10)
			c.drop()
			c = shared(t).connect(t, s)
			if !c.connack.present {
				t.Fatal("no session present")
			}
			c.write(again.bytes(v))
			want(typePubrec, 0x10)
			c.write(ackBytes(v, typePubrel, 5, 0, nil))
			want(typePubcomp)
			c.write(ackBytes(v, typePubrel, 5, 0, nil)) // a repeat, as after a lost PUBCOMP
			want(typePubcomp, 0x92)
			sub.receive(topic, "once")
			sub.silent(c)
			again.payload = "new"
			again.dup = false
			c.publish(again)
			sub.receive(topic, "new")
		})
}

// TestReleaseOfUnknownID is answered with PUBCOMP 0x92 in 5.0.
func TestReleaseOfUnknownID(t *testing.T) {
	both(t, in311("MQTT-4.3.3-2"), in5("MQTT-3.7.2-1", "MQTT-4.3.3-11"), func(t *testing.T, v version) {
		c := shared(t).connect(t, session{v: v})
		if comp := c.release(4711); v == v5 && comp.code != 0x92 {
			t.Errorf("got %s, want code 0x92", comp)
		}
	})
}

// TestAcksOfUnknownIDsDoNoHarm sends acknowledgements of what was never sent.
func TestAcksOfUnknownIDsDoNoHarm(t *testing.T) {
	both(t, in311("MQTT-7.0.0-2"), in5("MQTT-3.6.2-1"), func(t *testing.T, v version) {
		c, topic := shared(t).connect(t, session{v: v}), unique()
		c.write(ackBytes(v, typePuback, 4711, 0, nil))
		c.write(ackBytes(v, typePubcomp, 4711, 0, nil))
		c.ping()
		if v == v5 {
			c.write(ackBytes(v, typePubrec, 4711, 0, nil))
			if rel := c.expect(typePubrel); rel.id != 4711 || rel.code != 0x92 {
				t.Errorf("PUBREC of an unknown packet: got %s, want PUBREL 0x92", rel)
			}
			c.pubcomp(4711)
		}
		c.subscribe(topic, 1)
		c.send(topic, "works", 1)
		c.receive(topic, "works")
	})
}

// TestQoS1SenderHoldsUntilPuback: not acknowledged, the message comes again on
// the next connection with its packet id and DUP 1; acknowledged, never again.
func TestQoS1SenderHoldsUntilPuback(t *testing.T) {
	both(t, in311("MQTT-4.3.2-1", "MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-2.3.1-4", "MQTT-4.1.0-1"),
		in5("MQTT-4.3.2-1", "MQTT-4.3.2-2", "MQTT-4.3.2-3", "MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-2.2.1-4"), func(t *testing.T, v version) {
			topic := unique()
			s := session{v: v, id: unique(), persist: true}
			c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v})
			c.subscribe(topic, 1)
			pub.send(topic, "x", 1)
			first := c.message(topic, "x")
			if first.qos != 1 || first.dup {
				t.Fatalf("first delivery: %s, want QoS 1, DUP 0", first)
			}
			for range 2 {
				c.drop()
				c = shared(t).connect(t, s)
				again := c.message(topic, "x")
				if again.id != first.id || !again.dup || again.qos != 1 {
					t.Fatalf("re-delivery: %s, want packet id %d, DUP 1, QoS 1", again, first.id)
				}
			}
			c.puback(first.id, 0)
			c.ping()
			c.drop()
			c = shared(t).connect(t, s)
			c.silent(pub)
		})
}

// TestQoS2SenderSteps breaks the connection after each step.
func TestQoS2SenderSteps(t *testing.T) {
	both(t, in311("MQTT-4.3.3-1", "MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-2.3.1-6", "MQTT-2.3.1-4"),
		in5("MQTT-4.3.3-1", "MQTT-4.3.3-2", "MQTT-4.3.3-3", "MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT-4.3.3-6", "MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-3.6.2-1", "MQTT-2.2.1-5"),
		func(t *testing.T, v version) {
			topic := unique()
			s := session{v: v, id: unique(), persist: true}
			c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v})
			c.subscribe(topic, 2)
			pub.send(topic, "x", 2)
			first := c.message(topic, "x")
			if first.qos != 2 || first.dup {
				t.Fatalf("first delivery: %s, want QoS 2, DUP 0", first)
			}
			c.drop()
			c = shared(t).connect(t, s)
			if again := c.message(topic, "x"); again.id != first.id || !again.dup || again.qos != 2 {
				t.Fatalf("re-delivery: %s, want packet id %d, DUP 1, QoS 2", again, first.id)
			}
			c.pubrec(first.id, 0)
			if rel := c.expect(typePubrel); rel.id != first.id || rel.code != 0 {
				t.Fatalf("got %s, want PUBREL for packet %d", rel, first.id)
			}
			for range 2 {
				c.drop()
				c = shared(t).connect(t, s)
				// No PUBLISH again: the PUBREL only.
				if rel := c.read(); rel.typ != typePubrel || rel.id != first.id {
					t.Fatalf("after PUBREC and reconnect: got %s, want PUBREL for packet %d", rel, first.id)
				}
			}
			c.pubcomp(first.id)
			c.ping()
			c.drop()
			c = shared(t).connect(t, s)
			c.ping()
			c.silent(pub)
		})
}

// TestPubrecRepeated: the PUBREL comes for each PUBREC.
func TestPubrecRepeated(t *testing.T) {
	both(t, in311("MQTT-4.3.3-1"), in5("MQTT-4.3.3-4", "MQTT-3.6.2-1"), func(t *testing.T, v version) {
		c, topic := shared(t).connect(t, session{v: v}), unique()
		c.subscribe(topic, 2)
		c.send(topic, "x", 2)
		p := c.message(topic, "x")
		for range 2 {
			c.pubrec(p.id, 0)
			if rel := c.expect(typePubrel); rel.id != p.id {
				t.Errorf("got %s, want PUBREL for packet %d", rel, p.id)
			}
		}
		c.pubcomp(p.id)
		c.silent(c)
	})
}

// TestNegativeAckEndsDelivery: 0x80 and above in PUBACK or PUBREC.
func TestNegativeAckEndsDelivery(t *testing.T) {
	only5(t, "MQTT-4.4.0-2")
	topic := unique()
	s := session{v: v5, id: unique(), persist: true, props: props{num(propReceiveMaximum, 2)}}
	c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v5})
	c.subscribe(topic, 2)
	pub.send(topic, "one", 1)
	pub.send(topic, "two", 2)
	pub.send(topic, "three", 1)
	one, two := c.message(topic, "one"), c.message(topic, "two")
	c.puback(one.id, 0x97)
	c.pubrec(two.id, 0x83)
	three := c.message(topic, "three") // the negative acks gave quota back, and no PUBREL came
	c.puback(three.id, 0)
	c.ping()
	c.drop()
	c = shared(t).connect(t, s)
	c.ping()
	c.silent(pub)
}

// TestNoResendOnLiveConnection sets a short retry interval and shows that 5.0
// never uses it, and that older versions repeat with the same id and DUP 1.
func TestNoResendOnLiveConnection(t *testing.T) {
	both(t, in311("MQTT-3.3.1-1", "MQTT-2.3.1-4", "MQTT-4.3.2-1"), in5("MQTT-4.4.0-1"), func(t *testing.T, v version) {
		b := startBroker(t, map[string]string{"zone.external.retry_interval": "1s"})
		topic := unique()
		c, pub := b.connect(t, session{v: v}), b.connect(t, session{v: v})
		c.subscribe(topic, 2)
		pub.send(topic, "x", 1)
		first := c.message(topic, "x")
		for start := time.Now(); time.Since(start) < 2500*time.Millisecond; {
			c.write(pingBytes())
			for p := c.read(); p.typ != typePingresp; p = c.read() {
				if v == v5 {
					t.Fatalf("got %s on a live connection", p)
				}
				if p.typ != typePublish || p.id != first.id || !p.dup || p.payload != "x" {
					t.Fatalf("got %s, want the PUBLISH of packet %d with DUP 1", p, first.id)
				}
			}
			time.Sleep(50 * time.Millisecond) // the interval is the subject of this test
		}
		c.puback(first.id, 0)
	})
}

// TestBrokerPacketIDs lets the broker go once round its identifiers while one
// message stays unacknowledged: its identifier is never used for another.
func TestBrokerPacketIDs(t *testing.T) {
	both(t, in311("MQTT-2.3.1-4", "MQTT-2.3.1-1"), in5("MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1"), func(t *testing.T, v version) {
		topic := unique()
		c, pub := shared(t).connect(t, session{v: v}), shared(t).connect(t, session{v: v})
		c.subscribe(topic, 2)
		pub.send(topic, "held", 1)
		held := c.message(topic, "held")
		msg := publish{topic: topic, payload: "x", qos: 1}
		const batch, rounds = 16, 65600 / 16
		for range rounds {
			var out []byte
			for range batch {
				if msg.id++; msg.id == 0 {
					msg.id = 1
				}
				out = append(out, msg.bytes(v)...)
			}
			pub.write(out)
			out = out[:0]
			for range batch {
				p := c.expect(typePublish) // conn.check compares with what is in flight
				for v == v311 && p.id == held.id && p.dup {
					p = c.expect(typePublish) // re-sent on a live connection, as 3.1.1 allows
				}
				if p.topic != topic || p.payload != "x" {
					t.Fatalf("got %q on %q, want %q on %q", p.payload, p.topic, "x", topic)
				}
				delete(c.unacked, p.id)
				out = append(out, ackBytes(v, typePuback, p.id, 0, nil)...)
			}
			c.write(out)
			for range batch {
				pub.expect(typePuback)
			}
		}
		c.puback(held.id, 0)
		c.silent(pub)
	})
}

// TestOrder publishes a long run at each QoS to several kinds of subscriber.
func TestOrder(t *testing.T) {
	both(t, in311("MQTT-4.6.0-5", "MQTT-4.6.0-6"), in5("MQTT-4.6.0-5", "MQTT-4.6.0-6"), func(t *testing.T, v version) {
		for qos := range byte(3) {
			t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
				t.Parallel()
				base := unique()
				topic := base + "/x"
				pub := shared(t).connect(t, session{v: v})
				var subs []*conn
				for _, f := range []string{topic, base + "/+", base + "/#"} {
					c := shared(t).connect(t, session{v: v})
					c.subscribe(f, 2)
					subs = append(subs, c)
				}
				const n, chunk = 200, 10
				for i := 0; i < n; i += chunk {
					for j := i; j < i+chunk; j++ {
						pub.write(publish{topic: topic, payload: fmt.Sprint(j), qos: qos, id: uint16(j + 1)}.bytes(v))
					}
					for j := i; j < i+chunk; j++ {
						switch qos {
						case 1:
							pub.expect(typePuback)
						case 2:
							pub.release(pub.expect(typePubrec).id)
						}
					}
				}
				for _, c := range subs {
					for i := range n {
						c.receive(topic, fmt.Sprint(i))
					}
				}
			})
		}
	})
}

// TestResendOrder: unacknowledged messages come again in their first order,
// and what was queued behind them after that.
func TestResendOrder(t *testing.T) {
	both(t, in311("MQTT-4.6.0-1", "MQTT-4.6.0-6", "MQTT-4.4.0-1"), in5("MQTT-4.6.0-5", "MQTT-4.4.0-1"), func(t *testing.T, v version) {
		for qos := byte(1); qos < 3; qos++ {
			topic := unique()
			s := session{v: v, id: unique(), persist: true}
			c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v})
			c.subscribe(topic, qos)
			ids := map[int]uint16{}
			for i := range 8 {
				pub.send(topic, fmt.Sprint(i), qos)
				ids[i] = c.message(topic, fmt.Sprint(i)).id
			}
			c.disconnect() // the broker has ended the connection before it closes: what follows is queued
			for i := 8; i < 16; i++ {
				pub.send(topic, fmt.Sprint(i), qos)
			}
			c = shared(t).connect(t, s)
			var got []*packet
			for i := range 8 {
				p := c.message(topic, fmt.Sprint(i))
				if p.id != ids[i] || !p.dup {
					t.Errorf("QoS %d: message %d came again with packet id %d, DUP %v, want %d, DUP 1", qos, i, p.id, p.dup, ids[i])
				}
				got = append(got, p)
			}
			for i := 8; i < 16; i++ {
				p := c.message(topic, fmt.Sprint(i))
				if p.dup {
					t.Errorf("QoS %d: first delivery of message %d has DUP 1", qos, i)
				}
				got = append(got, p)
			}
			for _, p := range got {
				c.ack(p)
			}
			c.silent(pub)
		}
	})
}

// TestPubrelOrder: PUBRELs go in the order of the PUBRECs.
func TestPubrelOrder(t *testing.T) {
	both(t, in311("MQTT-4.6.0-4", "MQTT-4.6.0-6"), in5("MQTT-4.3.3-4"), func(t *testing.T, v version) {
		topic := unique()
		c, pub := shared(t).connect(t, session{v: v}), shared(t).connect(t, session{v: v})
		c.subscribe(topic, 2)
		var ids []uint16
		for i := range 6 {
			pub.send(topic, fmt.Sprint(i), 2)
			ids = append(ids, c.message(topic, fmt.Sprint(i)).id)
		}
		var out []byte
		for _, id := range ids {
			out = append(out, ackBytes(v, typePubrec, id, 0, nil)...)
		}
		c.write(out)
		for _, id := range ids {
			if rel := c.read(); rel.typ != typePubrel || rel.id != id {
				t.Fatalf("got %s, want PUBREL for packet %d", rel, id)
			}
		}
		for _, id := range ids {
			c.pubcomp(id)
		}
		c.silent(pub)
	})
}

// TestOrderBehindQueue: messages of QoS 0 that wait behind others in the queue
// of a session are not overtaken by later ones of their topic.
func TestOrderBehindQueue(t *testing.T) {
	both(t, in311("MQTT-4.6.0-5", "MQTT-4.6.0-6"), in5("MQTT-4.6.0-5", "MQTT-4.6.0-6"), func(t *testing.T, v version) {
		topic := unique()
		s := session{v: v, id: unique(), persist: true}
		c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v})
		c.subscribe(topic, 2)
		c.disconnect()
		const n = 60 // more than the broker delivers unacknowledged
		for i := range n {
			pub.send(topic, fmt.Sprint(i), 1)
		}
		pub.send(topic, "first", 0)
		c = shared(t).connect(t, s)
		pub.send(topic, "second", 0)
		pub.send(topic, "third", 0)
		next, rest := 0, []string{"first", "second", "third"}
		for next < n || len(rest) > 0 {
			p := c.expect(typePublish)
			c.ack(p)
			switch {
			case p.qos == 1 && p.payload == fmt.Sprint(next):
				next++
			case p.qos == 0 && len(rest) == 3 && p.payload == "second":
				rest = rest[2:] // a broker need not keep QoS 0 for an offline client
			case p.qos == 0 && len(rest) > 0 && p.payload == rest[0]:
				rest = rest[1:]
			default:
				t.Fatalf("got %q at QoS %d, want %d at QoS 1 or one of %q at QoS 0", p.payload, p.qos, next, rest)
			}
		}
		c.silent(pub)
	})
}
