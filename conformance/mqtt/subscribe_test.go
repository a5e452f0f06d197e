package mqtt

import (
	"bytes"
	"fmt"
	"testing"
)

// TestSubackCodes asks for several filters at once.
func TestSubackCodes(t *testing.T) {
	both(t, in311("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT-3.9.3-2", "MQTT-2.3.1-7"),
		in5("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.8.4-7", "MQTT-3.9.3-1", "MQTT-3.9.3-2", "MQTT-2.2.1-6", "MQTT-2.2.2-1"),
		func(t *testing.T, v version) {
			base := unique()
			c := shared(t).connect(t, session{v: v})
			for _, id := range []uint16{1, 0x00ff, 0x1234, 65535} {
				c.write(subscribeBytes(v, id, nil, filter{base + "/2", 2}, filter{base + "/0", 0}, filter{base + "/1", 1}, filter{base + "/2b", 2}))
				ack := c.expect(typeSuback)
				if ack.id != id || !bytes.Equal(ack.codes, []byte{2, 0, 1, 2}) {
					t.Errorf("got %s, want packet id %d and codes 02 00 01 02", ack, id)
				}
			}
			for topic, qos := range map[string]byte{"/0": 0, "/1": 1, "/2": 2, "/2b": 2} {
				c.send(base+topic, topic, 2)
				if p := c.receive(base+topic, topic); p.qos != qos {
					t.Errorf("%s: delivered at QoS %d, want %d", topic, p.qos, qos)
				}
			}
			c.ping()
		})
}

// TestSameFilterTwiceInOneSubscribe acts like two requests in sequence.
func TestSameFilterTwiceInOneSubscribe(t *testing.T) {
	both(t, in311("MQTT-3.8.4-4", "MQTT-3.8.4-3"), in5("MQTT-3.8.4-5", "MQTT-3.8.4-3"), func(t *testing.T, v version) {
		topic := unique()
		c := shared(t).connect(t, session{v: v})
		if ack := c.trySubscribe(nil, filter{topic, 2}, filter{topic, 1}); !bytes.Equal(ack.codes, []byte{2, 1}) {
			t.Errorf("codes % x, want 02 01", ack.codes)
		}
		c.send(topic, "x", 2)
		if p := c.receive(topic, "x"); p.qos != 1 {
			t.Errorf("delivered at QoS %d, want 1", p.qos)
		}
		c.silent(c)
	})
}

// TestRefusedFilterAmongOthers has one filter that the ACL refuses.
func TestRefusedFilterAmongOthers(t *testing.T) {
	both(t, in311("MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT-3.9.3-2"), in5("MQTT-3.8.4-7", "MQTT-3.9.3-1", "MQTT-3.9.3-2"), func(t *testing.T, v version) {
		c, base := aclBroker(t).connect(t, session{v: v}), unique()
		refused := byte(0x80)
		if v == v5 {
			refused = 0x87
		}
		ack := c.trySubscribe(nil, filter{base + "/a", 1}, filter{"denied/" + base, 1}, filter{base + "/b", 2})
		if !bytes.Equal(ack.codes, []byte{1, refused, 2}) {
			t.Errorf("codes % x, want 01 %02x 02", ack.codes, refused)
		}
		c.send(base+"/b", "x", 1)
		c.receive(base+"/b", "x")
	})
}

// TestResubscribe replaces a subscription while messages flow: the QoS
// changes, retained messages come again, nothing is lost or doubled.
func TestResubscribe(t *testing.T) {
	both(t, in311("MQTT-3.8.4-3"), in5("MQTT-3.8.4-3", "MQTT-3.8.4-4"), func(t *testing.T, v version) {
		topic := unique()
		c, pub := shared(t).connect(t, session{v: v}), shared(t).connect(t, session{v: v})
		pub.retain(topic, "kept")
		for qos := range byte(3) {
			c.subscribe(topic, qos)
			c.receive(topic, "kept")
			pub.send(topic, "live", 2)
			if p := c.receive(topic, "live"); p.qos != qos {
				t.Errorf("subscribed again with QoS %d: delivered at %d", qos, p.qos)
			}
			c.silent(pub)
		}
		// And without waiting. Where one replacement follows another before its
		// retained messages went out, sending them once for both is enough.
		const n, replacements = 60, 6
		for i := range n {
			if i%10 == 5 {
				c.write(subscribeBytes(v, c.packetID(), nil, filter{topic, byte(i/10) % 3}))
			}
			pub.write(publish{topic: topic, payload: fmt.Sprint(i), qos: 1, id: pub.packetID()}.bytes(v))
		}
		for range n {
			pub.expect(typePuback)
		}
		next, subacks, retained, last := 0, 0, 0, false
		for next < n || !last {
			p, err := c.tryRead()
			switch {
			case err != nil:
				t.Fatalf("after %d of %d messages, %d of %d SUBACKs and %d times the retained message: %v", next, n, subacks, replacements, retained, err)
			case p.typ == typeSuback:
				subacks++
			case p.typ == typePubrel:
				c.pubcomp(p.id)
			case p.typ != typePublish:
				t.Fatalf("got %s", p)
			case p.retain && p.payload == "kept":
				retained++
				last = subacks == replacements
			case !p.retain && p.payload == fmt.Sprint(next):
				next++
			default:
				t.Fatalf("got %q (RETAIN %v), want message %d", p.payload, p.retain, next)
			}
			switch {
			case p.typ != typePublish:
			case p.qos == 1:
				c.puback(p.id, 0)
			case p.qos == 2:
				c.pubrec(p.id, 0)
			}
		}
		if retained > replacements {
			t.Errorf("the retained message came %d times for %d replacements", retained, replacements)
		}
	})
}

// TestUnsubscribe deletes one of several subscriptions, by its exact text.
func TestUnsubscribe(t *testing.T) {
	both(t, in311("MQTT-3.10.4-1", "MQTT-3.10.4-2", "MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-2.3.1-7"),
		in5("MQTT-3.10.4-1", "MQTT-3.10.4-2", "MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.11.3-2", "MQTT-2.2.1-6"), func(t *testing.T, v version) {
			base := unique()
			c := shared(t).connect(t, session{v: v})
			c.subscribe(base+"/+", 1)
			// Each of these matches the topic or looks like the filter, and none is it.
			for _, other := range []string{base + "/a", base + "/#", base + "/+/", "+/+", base + "/b", "#"} {
				if ack := c.unsubscribe(other); v == v5 && ack.codes[0] != 0x11 {
					t.Errorf("UNSUBSCRIBE %q: code 0x%02x, want 0x11", other, ack.codes[0])
				}
			}
			c.send(base+"/a", "still", 1)
			c.receive(base+"/a", "still")
			if ack := c.unsubscribe(base + "/+"); v == v5 && ack.codes[0] != 0 {
				t.Errorf("code 0x%02x, want 0", ack.codes[0])
			}
			c.send(base+"/a", "gone", 1)
			c.silent(c)
			if ack := c.unsubscribe(base + "/+"); v == v5 && ack.codes[0] != 0x11 {
				t.Errorf("code 0x%02x for what is gone, want 0x11", ack.codes[0])
			}
		})
}

func TestUnsubscribeSeveral(t *testing.T) {
	both(t, in311("MQTT-3.10.4-6", "MQTT-3.10.4-4"), in5("MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2"), func(t *testing.T, v version) {
		base := unique()
		c := shared(t).connect(t, session{v: v})
		c.trySubscribe(nil, filter{base + "/a", 1}, filter{base + "/b", 1}, filter{base + "/c", 1})
		ack := c.unsubscribe(base+"/a", base+"/x", base+"/b", base+"/a")
		if v == v5 && !bytes.Equal(ack.codes, []byte{0, 0x11, 0, 0x11}) {
			t.Errorf("codes % x, want 00 11 00 11", ack.codes)
		}
		for _, topic := range []string{"/a", "/b", "/c"} {
			c.send(base+topic, topic, 1)
		}
		c.receive(base+"/c", "/c")
		c.silent(c)
	})
}

// TestUnsubscribeFinishesDeliveries: what is in flight goes on to its end.
func TestUnsubscribeFinishesDeliveries(t *testing.T) {
	both(t, in311("MQTT-3.10.4-3"), in5("MQTT-3.10.4-3"), func(t *testing.T, v version) {
		topic := unique()
		s := session{v: v, id: unique(), persist: true}
		c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v})
		c.subscribe(topic, 2)
		pub.send(topic, "one", 1)
		pub.send(topic, "two", 2)
		first, second := c.message(topic, "one"), c.message(topic, "two")
		c.unsubscribe(topic)
		// On this connection ...
		c.pubrec(second.id, 0)
		if rel := c.expect(typePubrel); rel.id != second.id {
			t.Errorf("PUBREL for packet %d, want %d", rel.id, second.id)
		}
		c.drop()
		// ... and on the next, for what was not acknowledged.
		back := shared(t).connect(t, s)
		again := back.message(topic, "one")
		if again.id != first.id || !again.dup {
			t.Errorf("re-sent with packet id %d, DUP %v, want %d, DUP 1", again.id, again.dup, first.id)
		}
		back.ack(again)
		if rel := back.expect(typePubrel); rel.id != second.id {
			t.Errorf("PUBREL for packet %d, want %d", rel.id, second.id)
		}
		back.pubcomp(second.id)
		back.silent(pub)
	})
}

func TestPing(t *testing.T) {
	both(t, in311("MQTT-3.12.4-1"), in5("MQTT-3.12.4-1"), func(t *testing.T, v version) {
		c := shared(t).connect(t, session{v: v})
		for range 3 {
			c.ping()
		}
		c.write(bytes.Repeat(pingBytes(), 100))
		for range 100 {
			if p := c.read(); p.typ != typePingresp {
				t.Fatalf("got %s, want PINGRESP", p)
			}
		}
	})
}

func TestNoLocal(t *testing.T) {
	only5(t, "MQTT-3.8.3-3")
	base := unique()
	s := session{v: v5, id: unique(), persist: true}
	c, other := shared(t).connect(t, s), shared(t).connect(t, session{v: v5})
	c.subscribe(base+"/quiet", 1|optNoLocal)
	c.subscribe(base+"/loud", 1)
	c.send(base+"/quiet", "own", 1)
	c.send(base+"/loud", "own", 1)
	c.receive(base+"/loud", "own")
	other.send(base+"/quiet", "of another", 1)
	c.receive(base+"/quiet", "of another")
	// The client identifier counts, not the connection: a message published by
	// one connection is not for a later one of the same client.
	c.drop()
	c = shared(t).connect(t, s)
	c.send(base+"/quiet", "own", 1)
	c.silent(c)
	// A retained message of another client comes at SUBSCRIBE as ever.
	other.retain(base+"/quiet", "kept")
	c.receive(base+"/quiet", "kept")
	c.subscribe(base+"/quiet", 1|optNoLocal)
	c.receive(base+"/quiet", "kept")
}

// TestSubscriptionIdentifiers: a message carries the identifiers of the
// subscriptions that matched, on one copy or one on each.
func TestSubscriptionIdentifiers(t *testing.T) {
	only5(t, "MQTT-3.3.4-3", "MQTT-3.3.4-4", "MQTT-3.3.4-5")
	base := unique()
	c := shared(t).connect(t, session{v: v5, id: unique(), persist: true})
	if c.connack.props.num(propSubIDAvailable, 1) == 0 {
		t.Fatal("the broker offers no subscription identifiers")
	}
	c.subscribe(base+"/a", 1, num(propSubscriptionID, 1))
	c.subscribe(base+"/+", 1, num(propSubscriptionID, 268435455))
	c.subscribe(base+"/#", 1)
	c.subscribe(base+"/b", 1, num(propSubscriptionID, 128))
	collect := func(c *conn, topic string) (copies int, ids map[uint32]int) {
		t.Helper()
		end := unique()
		c.subscribe(end, 1)
		c.send(topic, "x", 1)
		c.send(end, "end", 1)
		ids = map[uint32]int{}
		for {
			p := c.expect(typePublish)
			c.ack(p)
			if p.topic == end {
				return copies, ids
			}
			copies++
			for _, id := range p.props.all(propSubscriptionID) {
				ids[id.n]++
			}
		}
	}
	check := func(topic string, matching int, want ...uint32) {
		t.Helper()
		copies, ids := collect(c, topic)
		if copies != 1 && copies != matching {
			t.Errorf("%s: %d copies, want 1 or %d", topic, copies, matching)
		}
		ok := len(ids) == len(want)
		for _, id := range want {
			ok = ok && ids[id] == 1
		}
		if !ok {
			t.Errorf("%s: identifiers %v, want %v once each", topic, ids, want)
		}
	}
	check(base+"/a", 3, 1, 268435455)
	check(base+"/b", 3, 128, 268435455)
	check(base+"/c", 2, 268435455)
	check(base+"/c/d", 1)
	// The identifier is part of the session and of the latest SUBSCRIBE.
	c.drop()
	c = shared(t).connect(t, session{v: v5, id: c.id, persist: true})
	check(base+"/a", 3, 1, 268435455)
	c.subscribe(base+"/a", 1, num(propSubscriptionID, 7))
	check(base+"/a", 3, 7, 268435455)
	c.subscribe(base+"/+", 1)
	check(base+"/a", 3, 7)
	// A retained message sent for a subscription carries its identifier.
	c.retain(base+"/kept", "kept")
	c.receive(base+"/kept", "kept")
	other := shared(t).connect(t, session{v: v5})
	other.subscribe(base+"/kept", 1, num(propSubscriptionID, 9))
	if p := other.receive(base+"/kept", "kept"); len(p.props.all(propSubscriptionID)) != 1 || p.props.num(propSubscriptionID, 0) != 9 {
		t.Errorf("retained message with identifiers %v, want 9", p.props.all(propSubscriptionID))
	}
}
