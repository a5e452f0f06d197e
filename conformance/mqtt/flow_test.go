package mqtt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestReceiveMaximumOfClient: the broker keeps within it, and goes on with
// everything else meanwhile.
func TestReceiveMaximumOfClient(t *testing.T) {
	only5(t, "MQTT-3.3.4-9", "MQTT-3.3.4-10", "MQTT-4.9.0-1", "MQTT-4.9.0-2", "MQTT-4.9.0-3")
	topic := unique()
	c := shared(t).connect(t, session{v: v5, id: unique(), persist: true, props: props{num(propReceiveMaximum, 3)}})
	pub := shared(t).connect(t, session{v: v5})
	c.subscribe(topic, 2)
	for i := range 8 {
		pub.send(topic, fmt.Sprint(i), 1+byte(i%2))
	}
	var first []*packet
	for i := range 3 {
		first = append(first, c.message(topic, fmt.Sprint(i)))
	}
	// The quota is used up: no further PUBLISH of QoS above 0 (conn.check counts
	// them), while PINGRESP, SUBACK, UNSUBACK, PUBACK, PUBREC and PUBCOMP come as ever.
	c.ping()
	other := unique()
	c.subscribe(other, 0)
	c.unsubscribe("x")
	c.send("nobody/"+other, "x", 1)
	c.send("nobody/"+other, "x", 2)
	// A PUBREC frees nothing; the PUBREL for it comes at quota 0.
	c.pubrec(first[1].id, 0)
	if rel := c.read(); rel.typ != typePubrel {
		t.Fatalf("got %s, want PUBREL", rel)
	}
	c.ping()
	// PUBACK and PUBCOMP free one place each.
	c.puback(first[0].id, 0)
	c.message(topic, "3")
	c.ping()
	c.pubcomp(first[1].id)
	p := c.message(topic, "4")
	c.puback(first[2].id, 0)
	five := c.message(topic, "5")
	c.ping()
	// A PUBREC of 0x80 and above frees one, too.
	c.pubrec(five.id, 0x80)
	c.message(topic, "6")
	c.puback(p.id, 0)
	c.message(topic, "7")
	c.ping()
}

// TestReceiveMaximumAfterReconnect: what is re-sent counts as well.
func TestReceiveMaximumAfterReconnect(t *testing.T) {
	only5(t, "MQTT-3.3.4-9", "MQTT-4.9.0-1")
	topic := unique()
	s := session{v: v5, id: unique(), persist: true, props: props{num(propReceiveMaximum, 6)}}
	c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v5})
	c.subscribe(topic, 1)
	for i := range 8 {
		pub.send(topic, fmt.Sprint(i), 1)
	}
	for i := range 6 {
		c.message(topic, fmt.Sprint(i))
	}
	c.drop()
	s.props = props{num(propReceiveMaximum, 2), num(propSessionExpiry, 300)}
	c = shared(t).connect(t, s)
	for i := range 8 {
		p := c.message(topic, fmt.Sprint(i)) // conn.check counts those in flight
		if i > 0 {
			c.ping() // and with two in flight nothing else comes
		}
		if i < 7 {
			continueAfter(c, p, i)
		}
	}
}

// continueAfter acknowledges message i once a second one is in flight.
func continueAfter(c *conn, p *packet, i int) {
	if i > 0 {
		for id := range c.unacked {
			if id != p.id {
				c.puback(id, 0)
				return
			}
		}
	}
}

// TestReceiveMaximumOfBroker exceeds it.
func TestReceiveMaximumOfBroker(t *testing.T) {
	only5(t, "MQTT-3.3.4-7", "MQTT-4.13.1-1")
	b := startBroker(t, map[string]string{"zone.external.max_awaiting_rel": "16"})
	c := b.connect(t, session{v: v5})
	limit := c.connack.props.num(propReceiveMaximum, 65535)
	if limit == 65535 {
		t.Fatal("CONNACK announces no Receive Maximum below 65535")
	}
	for id := range limit {
		c.write(publish{topic: "t/" + c.id, qos: 2, id: uint16(id + 1)}.bytes(v5))
	}
	for range limit {
		if rec := c.expect(typePubrec); rec.code >= 0x80 {
			t.Fatalf("within the limit of %d: got %s", limit, rec)
		}
	}
	c.ping()
	c.write(publish{topic: "t/" + c.id, qos: 2, id: uint16(limit + 1)}.bytes(v5))
	c.closed(0x93)
}

// TestMaximumPacketSizeOfClient: what is too large is dropped for this client,
// and counts as delivered.
func TestMaximumPacketSizeOfClient(t *testing.T) {
	only5(t, "MQTT-3.1.2-24", "MQTT-3.1.2-25")
	topic := unique()
	s := session{v: v5, id: unique(), persist: true, props: props{num(propMaximumPacketSize, 128), num(propReceiveMaximum, 2)}}
	c, all, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v5}), shared(t).connect(t, session{v: v5})
	c.subscribe(topic, 2)
	all.subscribe(topic, 2)
	large, fits := strings.Repeat("x", 128), "fits"
	for qos := range byte(3) {
		for range 3 { // more than the receive maximum: dropped messages hold no place
			pub.send(topic, large, qos)
			all.receive(topic, large)
		}
		pub.publish(publish{topic: topic, payload: fits, qos: qos, props: props{userProp("k", strings.Repeat("v", 128))}})
		all.receive(topic, fits)
		pub.send(topic, fits, qos)
		all.receive(topic, fits)
		c.receive(topic, fits)
	}
	// A packet of exactly the maximum fits: 2 header, 2+n topic, 2 id, 1 properties.
	exact := strings.Repeat("y", 128-2-2-len(topic)-2-1)
	pub.send(topic, exact, 1)
	if p := c.receive(topic, exact); p.size != 128 {
		t.Errorf("packet of %d bytes, want 128", p.size)
	}
	pub.send(topic, exact+"y", 1)
	c.silent(pub)
	// Dropped is dropped: with a larger maximum on the next connection it does not come.
	c.disconnect()
	pub.send(topic, large, 1)
	s.props = props{num(propSessionExpiry, 300)}
	c = shared(t).connect(t, s)
	c.receive(topic, large) // this one waited for a connection that can take it
	c.silent(pub)
	// Retained messages that are too large are left out, too.
	pub.retain(topic, large)
	c.receive(topic, large)
	small := shared(t).connect(t, session{v: v5, props: props{num(propMaximumPacketSize, 64)}})
	small.subscribe(topic, 1)
	small.silent(pub)
}

// TestReasonStringsFit provokes acknowledgements of every kind under every small
// Maximum Packet Size; conn.check fails on a packet that is too large.
func TestReasonStringsFit(t *testing.T) {
	only5(t, "MQTT-3.2.2-19", "MQTT-3.2.2-20", "MQTT-3.4.2-2", "MQTT-3.4.2-3", "MQTT-3.5.2-2", "MQTT-3.5.2-3", "MQTT-3.6.2-2", "MQTT-3.6.2-3",
		"MQTT-3.7.2-2", "MQTT-3.7.2-3", "MQTT-3.9.2-1", "MQTT-3.9.2-2", "MQTT-3.11.2-1", "MQTT-3.11.2-2", "MQTT-3.14.2-3", "MQTT-3.14.2-4")
	b := aclBroker(t)
	exchanges := 0
	for size := uint32(5); size < 80; size++ {
		limit := props{num(propMaximumPacketSize, size), num(propRequestProblem, 1)}
		// A refused CONNECT.
		c := b.open(t, session{v: v5, props: limit.with(text(propAuthMethod, "no such method"))})
		c.closed(0x8c, 0x87)
		// An accepted one, unless its CONNACK cannot be made small enough.
		c = b.open(t, session{v: v5, props: limit})
		p, err := c.tryRead()
		if err != nil || p.code != 0 {
			var end closedError
			if err != nil && !errors.As(err, &end) {
				t.Fatal(err)
			}
			continue
		}
		exchanges++
		c.trySubscribe(nil, filter{"denied/x", 1})
		c.unsubscribe("not/subscribed")
		c.publish(publish{topic: "denied/x", qos: 1})
		c.publish(publish{topic: "denied/x", qos: 2})
		c.release(4711)
		c.pubrec(4712, 0)
		c.expect(typePubrel)
		c.pubcomp(4712)
		c.write(subscribeBytes(v5, 9, nil)) // a protocol error: DISCONNECT
		c.closed(0x82)
	}
	if exchanges == 0 {
		t.Error("no connection was accepted under a maximum of 79 bytes")
	}
}

// TestLongAnswersFit: SUBACK and UNSUBACK have a code for each filter and
// nothing that can be left out; the broker sends none that is too large.
func TestLongAnswersFit(t *testing.T) {
	only5(t, "MQTT-3.1.2-24")
	var subscribe []filter
	var unsubscribe []string
	for i := range 100 {
		name := fmt.Sprint("t/", unique(), i)
		subscribe, unsubscribe = append(subscribe, filter{name, 0}), append(unsubscribe, name)
	}
	for _, b := range [][]byte{subscribeBytes(v5, 1, nil, subscribe...), unsubscribeBytes(v5, 1, nil, unsubscribe...)} {
		c := shared(t).connect(t, session{v: v5, props: props{num(propMaximumPacketSize, 64)}})
		c.write(b)
		c.closed(0x95, 0x97, 0x80, 0x83)
	}
}

// TestMaximumPacketSizeOfBroker exceeds it, with PUBLISH and with CONNECT.
func TestMaximumPacketSizeOfBroker(t *testing.T) {
	only5(t, "MQTT-3.2.2-15", "MQTT-4.13.1-1")
	const limit = 1024
	b := startBroker(t, map[string]string{"zone.external.max_packet_size": fmt.Sprint(limit)})
	c := b.connect(t, session{v: v5})
	if got := c.connack.props.num(propMaximumPacketSize, 0); got != limit {
		t.Fatalf("CONNACK announces a Maximum Packet Size of %d, want %d", got, limit)
	}
	topic := unique()
	c.subscribe(topic, 1)
	exact := strings.Repeat("x", limit-3-2-len(topic)-2-1)
	c.send(topic, exact, 1)
	c.receive(topic, exact)
	c.write(publish{topic: topic, payload: exact + "x", qos: 1, id: 9}.bytes(v5))
	c.closed(0x95)
	// The header alone is enough to refuse it: nothing like the announced length is sent.
	c = b.connect(t, session{v: v5})
	c.write([]byte{typePublish << 4, 0xff, 0xff, 0xff, 0x7f})
	c.closed(0x95)
	c = b.open(t, session{v: v5, props: props{userProp("k", strings.Repeat("v", limit))}})
	c.closed(0x95)
}

// TestPacketThatTheBrokerCannotHold: before 5.0 there is no announced maximum;
// a packet that the broker has no room for ends the connection.
func TestPacketThatTheBrokerCannotHold(t *testing.T) {
	only311(t, "MQTT-4.8.0-2")
	b := startBroker(t, map[string]string{"zone.external.max_packet_size": "1024"})
	c := b.connect(t, session{v: v311})
	other := b.connect(t, session{v: v311})
	topic := unique()
	other.subscribe(topic, 1)
	c.write(publish{topic: topic, payload: strings.Repeat("x", 1024), qos: 1, id: 1}.bytes(v311))
	c.closed()
	other.silent(b.connect(t, session{v: v311}))
}

// TestTopicAliasOfBroker: no alias above the client's maximum, none at all
// without one; conn.check resolves and counts them.
func TestTopicAliasOfBroker(t *testing.T) {
	only5(t, "MQTT-3.1.2-26", "MQTT-3.1.2-27", "MQTT-3.3.2-7", "MQTT-3.3.2-8", "MQTT-3.3.2-11")
	base := unique()
	pub := shared(t).connect(t, session{v: v5})
	for _, p := range []props{nil, {num(propTopicAliasMaximum, 0)}, {num(propTopicAliasMaximum, 1)}, {num(propTopicAliasMaximum, 3)}, {num(propTopicAliasMaximum, 65535)}} {
		s := session{v: v5, id: unique(), persist: true, props: p}
		for range 2 { // the second connection begins with no aliases
			c := shared(t).connect(t, s)
			c.subscribe(base+"/#", 2)
			for i := range 30 {
				topic := fmt.Sprint(base, "/", i%5)
				pub.send(topic, fmt.Sprint(i), byte(i%3))
				c.receive(topic, fmt.Sprint(i))
			}
			c.drop()
		}
	}
}

// aliasBroker is a broker that takes a few aliases.
func aliasBroker(t *testing.T) (*broker, uint32) {
	t.Helper()
	b := startBroker(t, map[string]string{"zone.external.max_topic_alias": "5"})
	limit := b.connect(t, session{v: v5}).connack.props.num(propTopicAliasMaximum, 0)
	if limit == 0 || limit > 1000 {
		t.Fatalf("Topic Alias Maximum %d in CONNACK, want 5", limit)
	}
	return b, limit
}

func TestTopicAliasOfClient(t *testing.T) {
	only5(t, "MQTT-3.3.2-12", "MQTT-3.3.2-7", "MQTT-3.3.2-1")
	b, limit := aliasBroker(t)
	base := unique()
	sub := b.connect(t, session{v: v5})
	sub.subscribe(base+"/#", 2)
	old := b.connect(t, session{v: v311})
	old.subscribe(base+"/#", 2)
	s := session{v: v5, id: unique(), persist: true}
	c := b.connect(t, s)
	send := func(topic string, alias uint32, qos byte, want string) {
		t.Helper()
		c.publish(publish{topic: topic, payload: want, qos: qos, props: props{num(propTopicAlias, alias)}})
		sub.receive(want, want)
		old.receive(want, want)
	}
	for alias := uint32(1); alias <= limit; alias++ {
		send(fmt.Sprint(base, "/", alias), alias, byte(alias%3), fmt.Sprint(base, "/", alias))
	}
	for alias := limit; alias > 0; alias-- {
		send("", alias, byte(alias%3), fmt.Sprint(base, "/", alias))
	}
	send(base+"/other", 1, 1, base+"/other") // a new topic for the alias
	send("", 1, 1, base+"/other")
	send("", 2, 1, base+"/2")
	send(base+"/2", limit, 1, base+"/2") // two aliases for one topic
	send("", 2, 1, base+"/2")
	// They end with the connection, and belong to it alone.
	c.drop()
	c = b.connect(t, s)
	c.write(publish{topic: "", payload: "x", props: props{num(propTopicAlias, 1)}}.bytes(v5))
	c.closed(0x82)
	sub.silent(b.connect(t, session{v: v5}))
}

func TestTopicAliasTooLarge(t *testing.T) {
	only5(t, "MQTT-3.2.2-17", "MQTT-3.3.2-9", "MQTT-3.3.2-8", "MQTT-4.13.1-1")
	b, limit := aliasBroker(t)
	for _, alias := range []uint32{0, limit + 1, 65535} {
		c := b.connect(t, session{v: v5})
		c.write(publish{topic: "a/" + unique(), payload: "x", props: props{num(propTopicAlias, alias)}}.bytes(v5))
		c.closed(0x94)
	}
	// An alias that was never given a topic.
	c := b.connect(t, session{v: v5})
	c.write(publish{topic: "", payload: "x", props: props{num(propTopicAlias, 1)}}.bytes(v5))
	c.closed(0x82)
}

// TestNoTopicAliases: a broker that announces none takes none.
func TestNoTopicAliases(t *testing.T) {
	only5(t, "MQTT-3.2.2-18")
	b := startBroker(t, map[string]string{"zone.external.max_topic_alias": "0"})
	c := b.connect(t, session{v: v5})
	if got := c.connack.props.num(propTopicAliasMaximum, 0); got != 0 {
		t.Fatalf("CONNACK announces a Topic Alias Maximum of %d, want none", got)
	}
	c.write(publish{topic: "a/" + unique(), payload: "x", props: props{num(propTopicAlias, 1)}}.bytes(v5))
	c.closed(0x94)
}

// TestMaximumQoS: a broker that serves QoS 0 or 1 only says so, grants less and
// refuses more.
func TestMaximumQoS(t *testing.T) {
	only5(t, "MQTT-3.2.2-9", "MQTT-3.2.2-10", "MQTT-3.2.2-11", "MQTT-3.2.2-12")
	for limit := range byte(2) {
		b := startBroker(t, map[string]string{"zone.external.max_qos_allowed": fmt.Sprint(limit)})
		c, topic := b.connect(t, session{v: v5}), unique()
		if got := c.connack.props.num(propMaximumQoS, 2); got != uint32(limit) {
			t.Fatalf("CONNACK announces a Maximum QoS of %d, want %d", got, limit)
		}
		for qos := range byte(3) {
			if ack := c.subscribe(topic, qos); ack.codes[0] > min(qos, limit) {
				t.Errorf("maximum %d: SUBSCRIBE QoS %d granted %d", limit, qos, ack.codes[0])
			}
		}
		c.send(topic, "x", limit)
		c.receive(topic, "x")
		for qos := limit + 1; qos < 3; qos++ {
			c := b.connect(t, session{v: v5})
			c.write(publish{topic: topic, qos: qos, id: 1}.bytes(v5))
			c.closed(0x9b)
			c = b.open(t, session{v: v5, will: &will{topic: topic, qos: qos}})
			c.closed(0x9b)
		}
		b.connect(t, session{v: v5, will: &will{topic: topic, qos: limit}}).disconnect()
	}
}

// TestRetainNotAvailable refuses retained messages and wills.
func TestRetainNotAvailable(t *testing.T) {
	only5(t, "MQTT-3.2.2-13", "MQTT-3.2.2-14")
	b := startBroker(t, map[string]string{"zone.external.retain_available": "false"})
	c := b.connect(t, session{v: v5})
	if got := c.connack.props.num(propRetainAvailable, 1); got != 0 {
		t.Fatalf("CONNACK announces Retain Available %d, want 0", got)
	}
	c.write(publish{topic: unique(), payload: "x", retain: true}.bytes(v5))
	c.closed(0x9a)
	b.open(t, session{v: v5, will: &will{topic: unique(), retain: true}}).closed(0x9a)
	b.connect(t, session{v: v5, will: &will{topic: unique()}}).disconnect()
}

// TestWildcardsNotAvailable refuses wildcards and serves other filters.
func TestWildcardsNotAvailable(t *testing.T) {
	both(t, in311("MQTT-3.8.3-2"), in5("MQTT-3.9.3-2"), func(t *testing.T, v version) {
		b := startBroker(t, map[string]string{"zone.external.wildcard_subscription": "false"})
		c, base := b.connect(t, session{v: v}), unique()
		refused := byte(0x80)
		if v == v5 {
			refused = 0xa2
			if got := c.connack.props.num(propWildcardAvailable, 1); got != 0 {
				t.Errorf("CONNACK announces wildcards %d, want 0", got)
			}
		}
		ack := c.trySubscribe(nil, filter{base + "/#", 1}, filter{base + "/x", 1}, filter{"+/" + base, 1})
		if ack.codes[0] != refused || ack.codes[1] != 1 || ack.codes[2] != refused {
			t.Errorf("codes % x, want %02x 01 %02x", ack.codes, refused, refused)
		}
		c.send(base+"/y", "x", 1)
		c.silent(c)
		c.send(base+"/x", "x", 1)
		c.receive(base+"/x", "x")
	})
}
