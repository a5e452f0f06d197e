package mqtt

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPropertiesArePassedOn: what belongs to the message goes with it, to a
// subscriber, into the retained store and through the queue.
func TestPropertiesArePassedOn(t *testing.T) {
	only5(t, "MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18", "MQTT-3.3.2-20")
	for name, given := range map[string]props{
		"all": {num(propPayloadFormat, 1), text(propContentType, "text/plain; charset=utf-8"), text(propResponseTopic, "answers/\u00e9/1"),
			text(propCorrelationData, "\x00\x01\xff not text"), userProp("z", "1"), userProp("a", "2"), userProp("z", "1"), userProp("z", "0"),
			userProp("", "empty name"), userProp("empty value", "")},
		"none":                   nil,
		"payload not text":       {num(propPayloadFormat, 0)},
		"empty values":           {text(propContentType, ""), text(propCorrelationData, "")},
		"large":                  {userProp("k", strings.Repeat("v", 5000)), text(propCorrelationData, strings.Repeat("\x00", 3000))},
		"a byte order mark":      {userProp("\ufeffk", "\ufeffv"), text(propContentType, "\ufeff")},
		"many":                   slices.Repeat(props{userProp("same", "same"), userProp("other", "x")}, 60),
		"the correlation's peer": {text(propResponseTopic, "r"), text(propCorrelationData, strings.Repeat("\xfe", 200))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := unique()
			sub := session{v: v5, id: unique(), persist: true}
			c, pub, offline := shared(t).connect(t, session{v: v5}), shared(t).connect(t, session{v: v5}), shared(t).connect(t, sub)
			old := shared(t).connect(t, session{v: v311})
			for _, s := range []*conn{c, offline, old} {
				s.subscribe(base+"/+", 2)
			}
			offline.disconnect()
			check := func(way string, p *packet) {
				t.Helper()
				compareProps(t, p.props, given)
				for _, id := range []byte{propPayloadFormat, propContentType, propResponseTopic, propCorrelationData, propMessageExpiry} {
					if p.props.has(id) && !given.has(id) {
						t.Errorf("%s: property 0x%02x was added", way, id)
					}
				}
			}
			for qos := range byte(3) {
				pub.publish(publish{topic: base + "/x", payload: "text", qos: qos, props: given})
				check("delivered", c.receive(base+"/x", "text"))
				old.receive(base+"/x", "text")
			}
			pub.publish(publish{topic: base + "/kept", payload: "text", qos: 1, retain: true, props: given})
			check("delivered", c.receive(base+"/kept", "text"))
			offline = shared(t).connect(t, sub)
			for got := 0; got < 3; { // QoS 1, QoS 2 and the retained one; QoS 0 may be dropped
				p := offline.expect(typePublish)
				offline.ack(p)
				check("queued", p)
				if p.qos > 0 {
					got++
				}
			}
			late := shared(t).connect(t, session{v: v5})
			late.subscribe(base+"/kept", 1)
			check("retained", late.receive(base+"/kept", "text"))
		})
	}
}

// TestMessageExpiry: an expired message is not delivered, one that waited says
// for how long it is still good.
func TestMessageExpiry(t *testing.T) {
	only5(t, "MQTT-3.3.2-5", "MQTT-3.3.2-6")
	base := unique()
	s := session{v: v5, id: unique(), persist: true}
	c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v5})
	c.subscribe(base+"/#", 2)
	send := func(topic, payload string, qos byte, retain bool, seconds uint32) {
		t.Helper()
		pub.publish(publish{topic: base + topic, payload: payload, qos: qos, retain: retain, props: props{num(propMessageExpiry, seconds)}})
	}
	send("/now", "now", 1, false, 100)
	if got := c.receive(base+"/now", "now").props.num(propMessageExpiry, 0); got != 100 && got != 99 {
		t.Errorf("expiry %d without waiting, want 100", got)
	}
	c.disconnect()
	send("/short", "short 1", 1, false, 1)
	send("/short", "short 2", 2, false, 1)
	send("/kept/short", "short", 1, true, 1)
	send("/kept/long", "long", 1, true, 100)
	send("/long", "long", 1, false, 100)
	time.Sleep(2200 * time.Millisecond) // past the expiry, which is the subject
	c = shared(t).connect(t, s)
	check := func(p *packet) {
		t.Helper()
		if got := p.props.num(propMessageExpiry, 0); got < 92 || got > 98 {
			t.Errorf("%s: expiry %d after 2.2 s of 100, want 97 or 98", p.topic, got)
		}
	}
	check(c.receive(base+"/kept/long", "long"))
	check(c.receive(base+"/long", "long"))
	c.silent(pub)
	late := shared(t).connect(t, session{v: v5})
	late.subscribe(base+"/kept/#", 1)
	check(late.receive(base+"/kept/long", "long"))
	late.silent(pub)
}

// TestExpiryDoesNotStopQoS2: once begun, the exchange goes on to its end, on
// both sides.
func TestExpiryDoesNotStopQoS2(t *testing.T) {
	only5(t, "MQTT-4.3.3-7", "MQTT-4.3.3-13")
	topic := unique()
	s := session{v: v5, id: unique(), persist: true}
	c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v5})
	c.subscribe(topic, 2)
	soon := props{num(propMessageExpiry, 1)}
	// The broker as receiver: the PUBREL comes after the message has expired.
	pub.write(publish{topic: unique(), payload: "x", qos: 2, id: 9, props: soon}.bytes(v5))
	if rec := pub.expect(typePubrec); rec.code >= 0x80 {
		t.Fatalf("got %s", rec)
	}
	// The broker as sender: two messages, one left before PUBREC, one before PUBCOMP.
	pub.publish(publish{topic: topic, payload: "one", qos: 2, props: soon})
	pub.publish(publish{topic: topic, payload: "two", qos: 2, props: soon})
	one, two := c.message(topic, "one"), c.message(topic, "two")
	c.pubrec(two.id, 0)
	c.expect(typePubrel)
	time.Sleep(2200 * time.Millisecond) // past the expiry, which is the subject
	if comp := pub.release(9); comp.code != 0 {
		t.Errorf("PUBREL after the expiry: got %s, want code 0", comp)
	}
	c.drop()
	c = shared(t).connect(t, s)
	again := c.message(topic, "one")
	if again.id != one.id || !again.dup {
		t.Errorf("got %s, want packet id %d with DUP 1", again, one.id)
	}
	if rel := c.expect(typePubrel); rel.id != two.id {
		t.Errorf("got %s, want PUBREL of packet %d", rel, two.id)
	}
	c.pubcomp(two.id)
	c.ack(again)
	c.silent(pub)
}

// propertyViolations are packets of 5.0 whose properties break a rule.
func propertyViolations() []malformed {
	pub := func(p ...prop) func(version) []byte {
		return func(version) []byte { return publish{topic: "t/" + unique(), payload: "x", props: p}.bytes(v5) }
	}
	raw := func(list ...byte) func(version) []byte {
		return func(version) []byte {
			return frame(typePublish, 0, str("t/"+unique()), varint(uint32(len(list))), list, []byte("x"))
		}
	}
	sub := func(p ...prop) func(version) []byte {
		return func(version) []byte { return subscribeBytes(v5, 1, p, filter{"t/" + unique(), 0}) }
	}
	fault := []byte{0x81, 0x82}
	return []malformed{
		{name: "PUBLISH with a subscription identifier", bytes: pub(num(propSubscriptionID, 1)), new: []string{"MQTT-3.3.4-6"}, codes: []byte{0x82}},
		{name: "PUBLISH with response topic a/#", bytes: pub(text(propResponseTopic, "a/#")), new: []string{"MQTT-3.3.2-14"}, codes: []byte{0x81, 0x82, 0x90}},
		{name: "PUBLISH with response topic a/+/b", bytes: pub(text(propResponseTopic, "a/+/b")), new: []string{"MQTT-3.3.2-14"}, codes: []byte{0x81, 0x82, 0x90}},
		{name: "PUBLISH with topic alias 0", bytes: pub(num(propTopicAlias, 0)), new: []string{"MQTT-3.3.2-8"}, codes: []byte{0x94}},
		{name: "PUBLISH with two content types", bytes: pub(text(propContentType, "a"), text(propContentType, "a")), codes: fault},
		{name: "PUBLISH with two expiries", bytes: pub(num(propMessageExpiry, 1), num(propMessageExpiry, 1)), codes: fault},
		{name: "PUBLISH with payload format 2", bytes: pub(num(propPayloadFormat, 2)), codes: fault},
		{name: "PUBLISH with a CONNECT property", bytes: pub(num(propSessionExpiry, 2)), codes: fault},
		{name: "PUBLISH with an unknown property", bytes: raw(0x7f, 0), codes: fault},
		{name: "PUBLISH with property 0", bytes: raw(0x00), codes: fault},
		{name: "PUBLISH with a property cut off", bytes: raw(propMessageExpiry, 0, 0), codes: fault},
		{name: "PUBLISH with properties past the end", bytes: fixed(frame(typePublish, 0, str("t"), []byte{9, propPayloadFormat, 0})), codes: fault},
		{name: "PUBLISH with no property length", bytes: fixed(frame(typePublish, 0, str("t"))), new: []string{"MQTT-2.2.2-1"}, codes: fault},
		{name: "PUBLISH with a property length of five bytes", bytes: fixed(frame(typePublish, 0, str("t"), []byte{0x80, 0x80, 0x80, 0x80, 1})),
			new: []string{"MQTT-1.5.5-1"}},
		{name: "PUBLISH with a property length not in its shortest form", bytes: fixed(frame(typePublish, 0, str("t"), []byte{0x80, 0})),
			new: []string{"MQTT-1.5.5-1"}},
		{name: "SUBSCRIBE with subscription identifier 0", bytes: sub(num(propSubscriptionID, 0)), codes: fault},
		{name: "SUBSCRIBE with two subscription identifiers", bytes: sub(num(propSubscriptionID, 1), num(propSubscriptionID, 2)), codes: fault},
		{name: "SUBSCRIBE with a content type", bytes: sub(text(propContentType, "x")), codes: fault},
		{name: "SUBSCRIBE with no property length", bytes: fixed(frame(typeSubscribe, 2, u16(1))), new: []string{"MQTT-2.2.2-1"}, codes: fault},
		{name: "PUBACK with a code of another packet", bytes: fixed(ackBytes(v5, typePuback, 1, 0x92, nil)), new: []string{"MQTT-3.4.2-1"}, codes: fault},
		{name: "PUBREC with a code of another packet", bytes: fixed(ackBytes(v5, typePubrec, 1, 0x18, nil)), new: []string{"MQTT-3.5.2-1"}, codes: fault},
		{name: "PUBREL with a code of another packet", bytes: fixed(ackBytes(v5, typePubrel, 1, 0x10, nil)), new: []string{"MQTT-3.6.2-1"}, codes: fault},
		{name: "PUBCOMP with a code of another packet", bytes: fixed(ackBytes(v5, typePubcomp, 1, 0x80, nil)), new: []string{"MQTT-3.7.2-1"}, codes: fault},
		{name: "DISCONNECT with a code of another packet", bytes: fixed(disconnectBytes(v5, 0x18, nil)), new: []string{"MQTT-3.14.2-1"}, codes: fault},
		{name: "PUBACK with two reason strings", bytes: fixed(ackBytes(v5, typePuback, 1, 0, props{text(propReasonString, "a"), text(propReasonString, "b")})), codes: fault},
	}
}

func TestPropertyViolations(t *testing.T) {
	t.Parallel()
	for _, tc := range propertyViolations() {
		t.Run(tc.name, func(t *testing.T) {
			only5(t, append(tc.new, "MQTT-4.13.1-1", "MQTT-4.13.2-1")...)
			c := shared(t).connect(t, session{v: v5})
			c.write(tc.bytes(v5))
			if tc.codes == nil {
				c.closed(0x81)
			} else {
				c.closed(tc.codes...)
			}
		})
	}
}

func TestConnectPropertyViolations(t *testing.T) {
	t.Parallel()
	raw := func(list ...byte) []byte {
		return frame(typeConnect, 0, str("MQTT"), []byte{5, flagClean}, u16(0), varint(uint32(len(list))), list, str(unique()))
	}
	given := func(p ...prop) []byte { return session{v: v5, id: unique(), props: p}.bytes() }
	willWith := func(p ...prop) []byte {
		return session{v: v5, id: unique(), will: &will{topic: "t", props: p}}.bytes()
	}
	for name, b := range map[string][]byte{
		"receive maximum 0":                 given(num(propReceiveMaximum, 0)),
		"maximum packet size 0":             given(num(propMaximumPacketSize, 0)),
		"request problem information 2":     given(num(propRequestProblem, 2)),
		"request response information 2":    given(num(propRequestResponse, 2)),
		"two session expiries":              given(num(propSessionExpiry, 1), num(propSessionExpiry, 1)),
		"two receive maxima":                given(num(propReceiveMaximum, 1), num(propReceiveMaximum, 1)),
		"authentication data and no method": given(text(propAuthData, "x")),
		"a will property":                   given(num(propWillDelay, 1)),
		"a server's property":               given(num(propServerKeepAlive, 1)),
		"an unknown property":               raw(0x7e, 1),
		"a property cut off":                raw(propSessionExpiry, 0),
		"no property length":                frame(typeConnect, 0, str("MQTT"), []byte{5, flagClean}, u16(0)),
		"will with a topic alias":           willWith(num(propTopicAlias, 1)),
		"will with two delays":              willWith(num(propWillDelay, 1), num(propWillDelay, 1)),
		"will with payload format 2":        willWith(num(propPayloadFormat, 2)),
		"will with response topic a/#":      willWith(text(propResponseTopic, "a/#")),
	} {
		t.Run(name, func(t *testing.T) {
			only5(t, "MQTT-3.1.4-1", "MQTT-4.13.1-1", "MQTT-3.2.2-7")
			c := shared(t).dial(t, v5)
			c.write(b)
			c.closed(0x81, 0x82, 0x90)
		})
	}
}

// TestRequestResponseInformation: not asked for, it is not given.
func TestRequestResponseInformation(t *testing.T) {
	only5(t, "MQTT-3.1.2-28")
	for _, p := range []props{nil, {num(propRequestResponse, 0)}} {
		c := shared(t).connect(t, session{v: v5, props: p})
		if c.connack.props.has(propResponseInfo) {
			t.Errorf("%v: CONNACK has Response Information", p)
		}
	}
	// Asked for, it may be given or not.
	shared(t).connect(t, session{v: v5, props: props{num(propRequestResponse, 1)}}).ping()
}

// TestRequestProblemInformation: with 0, acknowledgements have no reason string
// and no user properties; PUBLISH keeps its own.
func TestRequestProblemInformation(t *testing.T) {
	only5(t, "MQTT-3.1.2-29")
	b := aclBroker(t)
	c := b.connect(t, session{v: v5, props: props{num(propRequestProblem, 0)}})
	topic := unique()
	bare := func(p *packet) {
		t.Helper()
		if p.props.has(propReasonString) || p.props.has(propUserProperty) {
			t.Errorf("%s has problem information", p)
		}
	}
	bare(c.trySubscribe(nil, filter{"denied/x", 1}, filter{topic, 2}))
	bare(c.unsubscribe("not/subscribed"))
	bare(c.publish(publish{topic: "denied/x", qos: 1}))
	bare(c.publish(publish{topic: "denied/x", qos: 2}))
	bare(c.release(4711))
	c.pubrec(4712, 0)
	bare(c.expect(typePubrel))
	c.pubcomp(4712)
	c.publish(publish{topic: topic, payload: "x", qos: 1, props: props{userProp("a", "b")}})
	if p := c.receive(topic, "x"); len(p.props.all(propUserProperty)) != 1 {
		t.Errorf("PUBLISH lost its user property")
	}
}

// TestClientProblemInformation: reason strings and user properties from the
// client are read and do no harm.
func TestClientProblemInformation(t *testing.T) {
	only5(t, "MQTT-4.3.3-4", "MQTT-2.2.2-1")
	c, topic := shared(t).connect(t, session{v: v5, props: props{userProp("app", "suite")}}), unique()
	info := props{text(propReasonString, "because"), userProp("k", "v"), userProp("k", "v")}
	c.trySubscribe(props{userProp("k", "v")}, filter{topic, 2})
	c.send(topic, "x", 1)
	p := c.message(topic, "x")
	c.write(ackBytes(v5, typePuback, p.id, 0, info))
	delete(c.unacked, p.id)
	c.send(topic, "y", 2)
	p = c.message(topic, "y")
	c.write(ackBytes(v5, typePubrec, p.id, 0, info))
	c.expect(typePubrel)
	c.write(ackBytes(v5, typePubcomp, p.id, 0, info))
	delete(c.unacked, p.id)
	// Code and no properties, with and without the property length.
	c.send(topic, "z", 1)
	p = c.message(topic, "z")
	c.write(frame(typePuback, 0, u16(p.id), []byte{0}))
	delete(c.unacked, p.id)
	c.send(topic, "z", 1)
	p = c.message(topic, "z")
	c.write(frame(typePuback, 0, u16(p.id), []byte{0x10, 0}))
	delete(c.unacked, p.id)
	c.silent(c)
	c.bye(0, info)
}
