package mqtt

import (
	"slices"
	"testing"
)

// flagged is a packet with fixed-header flags other than its type's own.
func flagged(flags byte, packet func(v version) []byte) func(version) []byte {
	return func(v version) []byte {
		b := slices.Clone(packet(v)) // cases run in parallel
		b[0] = b[0]&0xf0 | flags
		return b
	}
}

func fixed(b []byte) func(version) []byte { return func(version) []byte { return b } }

// violations are packets of a connected client that the broker must answer by
// closing.
func violations() []malformed {
	pub := func(p publish) func(version) []byte {
		return func(v version) []byte { return p.bytes(v) }
	}
	sub := func(v version) []byte { return subscribeBytes(v, 1, nil, filter{"a", 0}) }
	unsub := func(v version) []byte { return unsubscribeBytes(v, 1, nil, "a") }
	ack := func(typ byte) func(version) []byte {
		return func(v version) []byte { return ackBytes(v, typ, 1, 0, nil) }
	}
	options := func(opts byte) func(version) []byte {
		return func(v version) []byte { return subscribeBytes(v, 1, nil, filter{"a/" + unique(), opts}) }
	}
	violation := []string{"MQTT-4.8.0-1"}
	malformedFlags := []string{"MQTT-2.2.2-1", "MQTT-2.2.2-2"}
	flags5 := []string{"MQTT-2.1.3-1"}
	anyFault := []byte{0x81, 0x82}
	return []malformed{
		{"PUBACK flags 0001", flagged(1, ack(typePuback)), malformedFlags, flags5, nil},
		{"PUBREC flags 1000", flagged(8, ack(typePubrec)), malformedFlags, flags5, nil},
		{"PUBREL flags 0000", flagged(0, ack(typePubrel)), append(malformedFlags, "MQTT-3.6.1-1"), append(flags5, "MQTT-3.6.1-1"), nil},
		{"PUBREL flags 0011", flagged(3, ack(typePubrel)), append(malformedFlags, "MQTT-3.6.1-1"), append(flags5, "MQTT-3.6.1-1"), nil},
		{"PUBCOMP flags 0010", flagged(2, ack(typePubcomp)), malformedFlags, flags5, nil},
		{"SUBSCRIBE flags 0000", flagged(0, sub), append(malformedFlags, "MQTT-3.8.1-1"), append(flags5, "MQTT-3.8.1-1"), nil},
		{"SUBSCRIBE flags 1010", flagged(10, sub), append(malformedFlags, "MQTT-3.8.1-1"), append(flags5, "MQTT-3.8.1-1"), nil},
		{"UNSUBSCRIBE flags 0000", flagged(0, unsub), append(malformedFlags, "MQTT-3.10.1-1"), append(flags5, "MQTT-3.10.1-1"), nil},
		{"UNSUBSCRIBE flags 0110", flagged(6, unsub), append(malformedFlags, "MQTT-3.10.1-1"), append(flags5, "MQTT-3.10.1-1"), nil},
		{"PINGREQ flags 0001", flagged(1, fixed(pingBytes())), malformedFlags, flags5, nil},
		{"DISCONNECT flags 0001", flagged(1, fixed(frame(typeDisconnect, 0))), append(malformedFlags, "MQTT-3.14.1-1"), append(flags5, "MQTT-3.14.1-1"), nil},
		{"AUTH flags 0001", flagged(1, fixed(authBytes(0x18, nil))), nil, []string{"MQTT-2.1.3-1", "MQTT-3.15.1-1"}, nil},
		{"packet type 0", fixed([]byte{0, 0}), violation, nil, anyFault},
		{"packet type 15", fixed([]byte{0xf0, 0}), violation, []string{"MQTT-4.12.0-7"}, anyFault},
		{"CONNACK from a client", fixed(frame(typeConnack, 0, []byte{0, 0, 0})), violation, nil, anyFault},
		{"SUBACK from a client", fixed(frame(typeSuback, 0, []byte{0, 1, 0, 0})), violation, nil, anyFault},
		{"UNSUBACK from a client", fixed(frame(typeUnsuback, 0, []byte{0, 1, 0, 0})), violation, nil, anyFault},
		{"PINGRESP from a client", fixed(frame(typePingresp, 0)), violation, nil, anyFault},
		{"PINGREQ with a body", fixed(frame(typePingreq, 0, []byte{0})), violation, nil, anyFault},
		{"remaining length of five bytes", fixed([]byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x01}), violation, []string{"MQTT-1.5.5-1"}, anyFault},

		{"PUBLISH QoS 3", flagged(6, pub(publish{topic: "a", qos: 1, id: 1})), []string{"MQTT-3.3.1-4"}, []string{"MQTT-3.3.1-4"}, nil},
		{"PUBLISH QoS 0 with DUP", flagged(8, pub(publish{topic: "a"})), []string{"MQTT-3.3.1-2"}, []string{"MQTT-3.3.1-2"}, anyFault},
		{"PUBLISH QoS 1 with packet id 0", pub(publish{topic: "a", qos: 1}), []string{"MQTT-2.3.1-1"}, []string{"MQTT-2.2.1-3"}, anyFault},
		{"PUBLISH QoS 2 with packet id 0", pub(publish{topic: "a", qos: 2}), []string{"MQTT-2.3.1-1"}, []string{"MQTT-2.2.1-3"}, anyFault},
		{"SUBSCRIBE with packet id 0", func(v version) []byte { return subscribeBytes(v, 0, nil, filter{"a", 0}) },
			[]string{"MQTT-2.3.1-1"}, []string{"MQTT-2.2.1-3"}, anyFault},
		{"UNSUBSCRIBE with packet id 0", func(v version) []byte { return unsubscribeBytes(v, 0, nil, "a") },
			[]string{"MQTT-2.3.1-1"}, []string{"MQTT-2.2.1-3"}, anyFault},
		{"PUBLISH to a topic with +", pub(publish{topic: "a/+"}), []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"},
			[]string{"MQTT-3.3.2-2", "MQTT-4.7.0-1"}, []byte{0x81, 0x82, 0x90}},
		{"PUBLISH to a topic with #", pub(publish{topic: "a/#"}), []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"},
			[]string{"MQTT-3.3.2-2", "MQTT-4.7.0-1"}, []byte{0x81, 0x82, 0x90}},
		{"PUBLISH to a topic with + inside a level", pub(publish{topic: "a+b"}), []string{"MQTT-3.3.2-2", "MQTT-4.7.1-1"},
			[]string{"MQTT-3.3.2-2", "MQTT-4.7.0-1"}, []byte{0x81, 0x82, 0x90}},
		{"PUBLISH to an empty topic", pub(publish{topic: ""}), []string{"MQTT-4.7.3-1"}, []string{"MQTT-4.7.3-1"}, []byte{0x81, 0x82, 0x90}},
		{"PUBLISH with no topic field", fixed(frame(typePublish, 0)), []string{"MQTT-3.3.2-1"}, []string{"MQTT-3.3.2-1"}, nil},
		{"PUBLISH whose topic runs past the end", fixed(frame(typePublish, 0, []byte{0, 9, 'a'})), []string{"MQTT-3.3.2-1"}, []string{"MQTT-3.3.2-1"}, nil},
		{"PUBLISH QoS 1 with no packet id", fixed(frame(typePublish, 2, str("a"))), []string{"MQTT-2.3.1-1"}, []string{"MQTT-4.13.1-1"}, nil},
		{"PUBACK with one byte", fixed(frame(typePuback, 0, []byte{1})), violation, []string{"MQTT-4.13.1-1"}, nil},

		{"SUBSCRIBE with no filter", func(v version) []byte { return subscribeBytes(v, 1, nil) },
			[]string{"MQTT-3.8.3-3"}, []string{"MQTT-3.8.3-2"}, []byte{0x82}},
		{"SUBSCRIBE with a filter and no options", func(v version) []byte {
			return frame(typeSubscribe, 2, u16(1), propsIf(v, nil), str("a"))
		}, []string{"MQTT-3.8.3-3"}, []string{"MQTT-3.8.3-2"}, anyFault},
		{"SUBSCRIBE QoS 3", options(3), []string{"MQTT-3.8.3-4"}, []string{"MQTT-3.8.3-5"}, anyFault},
		{"SUBSCRIBE reserved bit 6", options(0x40), []string{"MQTT-3.8.3-4"}, []string{"MQTT-3.8.3-5"}, anyFault},
		{"SUBSCRIBE reserved bit 7", options(0x80), []string{"MQTT-3.8.3-4"}, []string{"MQTT-3.8.3-5"}, anyFault},
		{"SUBSCRIBE bit 2", options(0x04), []string{"MQTT-3.8.3-4"}, nil, nil},
		{"SUBSCRIBE bit 5", options(0x20), []string{"MQTT-3.8.3-4"}, nil, nil},
		{"SUBSCRIBE Retain Handling 3", options(0x30), nil, []string{"MQTT-3.8.3-5"}, anyFault},
		{"UNSUBSCRIBE with no filter", func(v version) []byte { return unsubscribeBytes(v, 1, nil) },
			[]string{"MQTT-3.10.3-2"}, []string{"MQTT-3.10.3-2"}, []byte{0x82}},
		{"SUBSCRIBE to an empty filter", func(v version) []byte { return subscribeBytes(v, 1, nil, filter{"", 0}) },
			[]string{"MQTT-4.7.3-1"}, nil, nil},
		{"UNSUBSCRIBE from an empty filter", func(v version) []byte { return unsubscribeBytes(v, 1, nil, "") },
			[]string{"MQTT-4.7.3-1"}, nil, nil},
	}
}

func TestViolations(t *testing.T) {
	t.Parallel()
	for _, tc := range violations() {
		for _, v := range []version{v311, v5} {
			ids := tc.old
			if v == v5 {
				ids = append(slices.Clone(tc.new), "MQTT-4.13.1-1")
				if tc.new == nil && tc.codes == nil {
					continue // not a violation in 5.0
				}
			} else if tc.old == nil {
				continue
			}
			t.Run(v.String()+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				covers(t, v, ids...)
				c := shared(t).connect(t, session{v: v})
				bystander := shared(t).connect(t, session{v: v})
				c.write(tc.bytes(v))
				switch {
				case v == v311:
					c.closed()
				case tc.codes == nil:
					c.closed(0x81)
				default:
					c.closed(tc.codes...)
				}
				bystander.ping()
			})
		}
	}
}

// TestViolationPublishesWill shows that a connection closed for a violation did
// not end by the client's DISCONNECT.
func TestViolationPublishesWill(t *testing.T) {
	both(t, in311("MQTT-3.1.2-8", "MQTT-4.8.0-1"), in5("MQTT-3.1.2-8", "MQTT-4.13.1-1"), func(t *testing.T, v version) {
		topic := unique()
		watcher := shared(t).connect(t, session{v: v})
		watcher.subscribe(topic, 1)
		c := shared(t).connect(t, session{v: v, will: &will{topic: topic, payload: "gone", qos: 1}})
		c.write([]byte{0, 0})
		c.closed(0x81, 0x82)
		watcher.receive(topic, "gone")
	})
}

func TestWillTopicInvalid(t *testing.T) {
	both(t, in311("MQTT-4.7.1-1", "MQTT-4.7.3-1"), in5("MQTT-4.7.0-1", "MQTT-4.7.3-1"), func(t *testing.T, v version) {
		for _, topic := range []string{"a/#", "+/a", ""} {
			c := shared(t).open(t, session{v: v, will: &will{topic: topic, payload: "x"}})
			c.closed(0x81, 0x82, 0x90)
		}
	})
}

// TestInvalidFilters subscribes to filters with misplaced wildcards. The broker
// may close or refuse the filter; it must not grant it.
func TestInvalidFilters(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		filter   string
		old, new string
	}{
		{"a/#/b", "MQTT-4.7.1-2", "MQTT-4.7.1-1"},
		{"#/a", "MQTT-4.7.1-2", "MQTT-4.7.1-1"},
		{"a#", "MQTT-4.7.1-2", "MQTT-4.7.1-1"},
		{"a/b#", "MQTT-4.7.1-2", "MQTT-4.7.1-1"},
		{"##", "MQTT-4.7.1-2", "MQTT-4.7.1-1"},
		{"a/#/", "MQTT-4.7.1-2", "MQTT-4.7.1-1"},
		{"a+", "MQTT-4.7.1-3", "MQTT-4.7.1-2"},
		{"+a/b", "MQTT-4.7.1-3", "MQTT-4.7.1-2"},
		{"a/b+/c", "MQTT-4.7.1-3", "MQTT-4.7.1-2"},
		{"++", "MQTT-4.7.1-3", "MQTT-4.7.1-2"},
		{"+#", "MQTT-4.7.1-3", "MQTT-4.7.1-2"},
		{"", "MQTT-4.7.3-1", "MQTT-4.7.3-1"},
	} {
		t.Run(tc.filter, func(t *testing.T) {
			both(t, in311(tc.old, "MQTT-4.8.0-1"), in5(tc.new), func(t *testing.T, v version) {
				notGranted(t, shared(t), v, tc.filter, 0)
			})
		})
	}
}

// notGranted subscribes to a filter that the broker must refuse, by SUBACK or
// by closing.
func notGranted(t *testing.T, b *broker, v version, name string, opts byte) {
	t.Helper()
	c := b.connect(t, session{v: v})
	c.write(subscribeBytes(v, 1, nil, filter{name, opts}))
	p, err := c.tryRead()
	switch {
	case err != nil:
		return // closed
	case p.typ == typeDisconnect && p.code >= 0x80:
		c.closed()
	case p.typ == typeSuback && len(p.codes) == 1 && p.codes[0] >= 0x80:
		c.ping()
	default:
		t.Errorf("filter %q: got %s, want it refused", name, p)
	}
}

// TestInvalidUnsubscribeFilter has no subscription to delete; the broker may
// close or say so.
func TestInvalidUnsubscribeFilter(t *testing.T) {
	both(t, in311("MQTT-4.7.1-2", "MQTT-4.7.1-3"), in5("MQTT-4.7.1-1", "MQTT-4.7.1-2"), func(t *testing.T, v version) {
		for _, name := range []string{"a#", "a/#/b", "a+/b"} {
			c := shared(t).connect(t, session{v: v})
			c.write(unsubscribeBytes(v, 1, nil, name))
			p, err := c.tryRead()
			switch {
			case err != nil:
			case p.typ == typeDisconnect && p.code >= 0x80:
				c.closed()
			case p.typ == typeUnsuback && (v == v311 || len(p.codes) == 1 && p.codes[0] != 0):
				c.ping()
			default:
				t.Errorf("filter %q: got %s, want it refused", name, p)
			}
		}
	})
}

// TestTornPackets sends packets in single bytes, and many in one write.
func TestTornPackets(t *testing.T) {
	both(t, in311("MQTT-7.1.1-1", "MQTT-3.12.4-1"), in5("MQTT-4.2.0-1", "MQTT-3.12.4-1"), func(t *testing.T, v version) {
		topic := unique()
		s := session{v: v, id: unique()}
		c := shared(t).dial(t, v)
		for _, b := range s.bytes() {
			c.write([]byte{b})
		}
		c.accepted()
		for _, b := range cat(subscribeBytes(v, 1, nil, filter{topic, 1}), publish{topic: topic, payload: "torn", qos: 1, id: 2}.bytes(v)) {
			c.write([]byte{b})
		}
		c.expect(typeSuback)
		c.expect(typePuback)
		c.receive(topic, "torn")
		var many []byte
		for i := range 200 {
			many = cat(many, publish{topic: topic, payload: string(rune('a' + i%26))}.bytes(v), pingBytes())
		}
		c.write(many)
		for i := range 200 {
			c.receive(topic, string(rune('a'+i%26)))
			c.expect(typePingresp)
		}
	})
}

// TestDisconnectFromBroker provokes DISCONNECTs: each is the last packet, has
// no Session Expiry Interval (the decoder refuses one) and a code of its list,
// and the connection ends.
func TestDisconnectFromBroker(t *testing.T) {
	only5(t, "MQTT-3.14.2-1", "MQTT-3.14.2-2", "MQTT-3.14.4-1", "MQTT-3.14.4-2", "MQTT-4.13.2-1")
	for name, b := range map[string][]byte{
		"SUBSCRIBE with no filter":            subscribeBytes(v5, 1, nil),
		"PUBLISH QoS 3":                       frame(typePublish, 6, str("a"), u16(1), []byte{0}),
		"AUTH with no method":                 frame(typeAuth, 0),
		"PUBLISH with a subscription id":      publish{topic: "a", props: props{num(propSubscriptionID, 1)}}.bytes(v5),
		"CONNECT again":                       session{v: v5, id: unique()}.bytes(),
		"PUBLISH with an unknown topic alias": publish{props: props{num(propTopicAlias, 9)}}.bytes(v5),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := shared(t).connect(t, session{v: v5, id: unique(), persist: true})
			// What follows the fault is not answered any more.
			c.write(cat(b, pingBytes(), publish{topic: "t/" + c.id, qos: 1, id: 1}.bytes(v5)))
			if p := c.read(); p.typ != typeDisconnect || p.code < 0x80 {
				t.Fatalf("got %s, want DISCONNECT with a code of 0x80 or above", p)
			}
			c.closed()
		})
	}
}

// TestNothingAfterDisconnect: packets behind a client's DISCONNECT are not
// processed, and the broker closes.
func TestNothingAfterDisconnect(t *testing.T) {
	only5(t, "MQTT-3.14.4-1", "MQTT-3.14.4-2")
	topic := unique()
	watcher := shared(t).connect(t, session{v: v5})
	watcher.subscribe(topic, 1)
	c := shared(t).connect(t, session{v: v5})
	c.write(cat(disconnectBytes(v5, 0, nil), publish{topic: topic, payload: "late"}.bytes(v5), pingBytes()))
	c.closed()
	watcher.silent(shared(t).connect(t, session{v: v5}))
}
