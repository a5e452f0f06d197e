package mqtt

import (
	"fmt"
	"testing"
)

// MQTT 3.1 (MQIsdp) numbers no statements; these tests show that its clients
// are served.

func TestLegacyMessages(t *testing.T) {
	t.Parallel()
	c, modern := shared(t).connect(t, session{v: v31}), shared(t).connect(t, session{v: v5})
	if c.connack.raw[2] != 0 {
		t.Errorf("CONNACK % x: the first byte is reserved in 3.1", c.connack.raw)
	}
	topic := unique()
	for granted := range byte(3) {
		if ack := c.subscribe(topic, granted); ack.codes[0] != granted {
			t.Errorf("granted %d, want %d", ack.codes[0], granted)
		}
		modern.subscribe(topic, granted)
		for qos := range byte(3) {
			for _, pub := range []*conn{c, modern} {
				payload := fmt.Sprint(granted, qos, pub.v)
				pub.send(topic, payload, qos)
				for _, sub := range []*conn{c, modern} {
					if p := sub.receive(topic, payload); p.qos != min(granted, qos) {
						t.Errorf("QoS %d, granted %d: delivered to %v at %d", qos, granted, sub.v, p.qos)
					}
				}
			}
		}
	}
	c.unsubscribe(topic)
	modern.send(topic, "gone", 1)
	c.silent(modern)
	c.disconnect()
}

func TestLegacySession(t *testing.T) {
	t.Parallel()
	s := session{v: v31, id: unique(), persist: true}
	topic := unique()
	c, pub := shared(t).connect(t, s), shared(t).connect(t, session{v: v31})
	c.subscribe(topic, 2)
	pub.send(topic, "in flight", 2)
	first := c.message(topic, "in flight")
	c.drop()
	pub.send(topic, "queued", 1)
	c = shared(t).connect(t, s)
	if again := c.message(topic, "in flight"); again.id != first.id || !again.dup {
		t.Errorf("got %s, want packet %d with DUP 1", again, first.id)
	} else {
		c.ack(again)
	}
	c.receive(topic, "queued")
	c.disconnect()
	c = shared(t).connect(t, session{v: v31, id: s.id})
	pub.send(topic, "lost", 1)
	c.silent(pub)
}

func TestLegacyRetainAndWill(t *testing.T) {
	t.Parallel()
	topic := unique()
	c := shared(t).connect(t, session{v: v31, will: &will{topic: topic, payload: "gone", qos: 1, retain: true}})
	c.drop()
	for { // the will may take a moment to be stored
		late := shared(t).connect(t, session{v: v31})
		late.subscribe(topic, 1)
		p := late.receive(topic, "gone")
		if p.retain {
			return
		}
	}
}

// TestLegacyConnect: what 3.1 refuses.
func TestLegacyConnect(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"empty client identifier":      session{v: v31}.bytes(),
		"level 4 with the old name":    frame(typeConnect, 0, str("MQIsdp"), []byte{4, flagClean}, u16(0), str(unique())),
		"level 3 with the new name":    frame(typeConnect, 0, str("MQTT"), []byte{3, flagClean}, u16(0), str(unique())),
		"level 5 with the old name":    frame(typeConnect, 0, str("MQIsdp"), []byte{5, flagClean}, u16(0), []byte{0}, str(unique())),
		"will flag and no will":        frame(typeConnect, 0, connectHead(v31, flagClean|flagWill, 0, nil), str(unique())),
		"ill-formed client identifier": session{v: v31, id: illFormed}.bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := shared(t).dial(t, v31)
			c.write(b)
			c.closed(1, 2)
		})
	}
	// 3.1.1 introduced the bits that 3.1 leaves unused; a user name without a
	// password and the like is served as ever.
	c := shared(t).connect(t, session{v: v31, hasUser: true, user: "u"})
	c.ping()
}
