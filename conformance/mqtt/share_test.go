package mqtt

import (
	"fmt"
	"testing"
)

func TestInvalidSharedFilters(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ filter, id string }{
		{"$share/", "MQTT-4.8.2-1"},
		{"$share//a", "MQTT-4.8.2-1"},
		{"$share/g", "MQTT-4.8.2-2"},
		{"$share/g/", "MQTT-4.8.2-2"},
		{"$share/+/a", "MQTT-4.8.2-2"},
		{"$share/#", "MQTT-4.8.2-2"},
		{"$share/#/a", "MQTT-4.8.2-2"},
		{"$share/g+/a", "MQTT-4.8.2-2"},
		{"$share/g#/a", "MQTT-4.8.2-2"},
		{"$share/g/a#", "MQTT-4.7.1-1"},
		{"$share/g/a/#/b", "MQTT-4.7.1-1"},
		{"$share/g/a+", "MQTT-4.7.1-2"},
	} {
		t.Run(tc.filter, func(t *testing.T) {
			only5(t, tc.id)
			notGranted(t, shared(t), v5, tc.filter, 0)
		})
	}
}

func TestNoLocalOnSharedSubscription(t *testing.T) {
	only5(t, "MQTT-3.8.3-4", "MQTT-4.13.1-1")
	c := shared(t).connect(t, session{v: v5})
	c.write(subscribeBytes(v5, 1, nil, filter{"$share/g/" + unique(), 1 | optNoLocal}))
	c.closed(0x82)
}

// TestSharedDelivery: each message goes to one member of each group, at the QoS
// granted to that member, and to every subscriber outside.
func TestSharedDelivery(t *testing.T) {
	only5(t, "MQTT-4.8.2-1", "MQTT-4.8.2-3", "MQTT-3.9.3-2")
	base := unique()
	pub, outside := shared(t).connect(t, session{v: v5}), shared(t).connect(t, session{v: v5})
	outside.subscribe(base+"/+", 2)
	groups := map[string][]*conn{}
	for _, g := range []string{"one", "two"} {
		for qos := range byte(3) {
			c := shared(t).connect(t, session{v: v5})
			if ack := c.subscribe(fmt.Sprintf("$share/%s%s/%s/+", g, base, base), qos); ack.codes[0] != qos {
				t.Errorf("granted 0x%02x, want %d", ack.codes[0], qos)
			}
			groups[g] = append(groups[g], c)
		}
	}
	const n = 30
	for i := range n {
		pub.send(base+"/x", fmt.Sprint(i), 2)
		outside.receive(base+"/x", fmt.Sprint(i))
	}
	for g, members := range groups {
		seen := map[string]int{}
		for granted, c := range members {
			end := unique()
			c.subscribe(end, 1)
			pub.send(end, "end", 1)
			for {
				p := c.expect(typePublish)
				c.ack(p)
				if p.topic == end {
					break
				}
				seen[p.payload]++
				if p.qos != byte(granted) {
					t.Errorf("group %s: delivered at QoS %d to a member granted %d", g, p.qos, granted)
				}
			}
		}
		for i := range n {
			if seen[fmt.Sprint(i)] != 1 {
				t.Errorf("group %s got message %d %d times, want once", g, i, seen[fmt.Sprint(i)])
			}
		}
	}
	// Without one member the others get everything.
	groups["one"][0].unsubscribe(fmt.Sprintf("$share/one%s/%s/+", base, base))
	groups["one"][1].disconnect()
	pub.send(base+"/x", "last", 2)
	groups["one"][2].receive(base+"/x", "last")
}

// cutOff has a shared QoS 2 delivery to a lone member cut off, either before
// or after its PUBREC, and lets another member join.
func cutOff(t *testing.T, released bool) (s session, topic string, id uint16, other, pub *conn) {
	t.Helper()
	topic = unique()
	s = session{v: v5, id: unique(), persist: true}
	group := "$share/g" + topic + "/" + topic
	pub = shared(t).connect(t, session{v: v5})
	c := shared(t).connect(t, s)
	c.subscribe(group, 2)
	pub.send(topic, "cut off", 2)
	p := c.message(topic, "cut off")
	if released {
		c.pubrec(p.id, 0)
		c.expect(typePubrel)
	}
	other = shared(t).connect(t, session{v: v5})
	other.subscribe(group, 2)
	c.drop()
	return s, topic, p.id, other, pub
}

func TestSharedQoS2IsFinishedWithTheSameClient(t *testing.T) {
	only5(t, "MQTT-4.8.2-4")
	for _, released := range []bool{false, true} {
		s, topic, id, other, pub := cutOff(t, released)
		other.silent(pub)
		c := shared(t).connect(t, s)
		if released {
			if rel := c.expect(typePubrel); rel.id != id {
				t.Errorf("got %s, want PUBREL of packet %d", rel, id)
			}
			c.pubcomp(id)
		} else {
			p := c.message(topic, "cut off")
			if p.id != id || !p.dup {
				t.Errorf("got %s, want packet %d with DUP 1", p, id)
			}
			c.ack(p)
		}
		c.silent(pub)
		other.silent(pub)
	}
}

func TestSharedQoS2OfEndedSession(t *testing.T) {
	only5(t, "MQTT-4.8.2-5")
	for _, released := range []bool{false, true} {
		s, _, _, other, pub := cutOff(t, released)
		shared(t).connect(t, session{v: v5, id: s.id}).ping() // a clean start ends the session
		other.silent(pub)
	}
}

func TestSharedNegativeAck(t *testing.T) {
	only5(t, "MQTT-4.8.2-6")
	topic := unique()
	group := "$share/g" + topic + "/" + topic
	pub, c := shared(t).connect(t, session{v: v5}), shared(t).connect(t, session{v: v5})
	c.subscribe(group, 2)
	pub.send(topic, "one", 1)
	pub.send(topic, "two", 2)
	one, two := c.message(topic, "one"), c.message(topic, "two")
	other := shared(t).connect(t, session{v: v5})
	other.subscribe(group, 2)
	c.puback(one.id, 0x97)
	c.pubrec(two.id, 0x80)
	c.ping()
	c.disconnect()
	other.silent(pub)
}

func TestSharedSubscriptionsNotAvailable(t *testing.T) {
	only5(t, "MQTT-3.9.3-2")
	b := startBroker(t, map[string]string{"zone.external.shared_subscription": "false"})
	c, topic := b.connect(t, session{v: v5}), unique()
	if got := c.connack.props.num(propSharedAvailable, 1); got != 0 {
		t.Errorf("CONNACK announces shared subscriptions %d, want 0", got)
	}
	ack := c.trySubscribe(nil, filter{"$share/g/" + topic, 1}, filter{topic, 1})
	if ack.codes[0] != 0x9e || ack.codes[1] != 1 {
		t.Errorf("codes % x, want 9e 01", ack.codes)
	}
}
