package engine

import (
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Message is an application message. Once it is published nobody may change it, except a Publish hook while it is called.
// A Message that a hook is given, and what it points to, is valid during that call only: Clone it to keep it.
type Message struct {
	Topic   string
	Payload []byte
	QoS     packet.QoS
	Retain  bool
	Sys     bool // the broker's own: not counted, and delivered below $SYS without counting
	Dup     bool // as received; never passed on [MQTT-3.3.1-3]

	Inside      bool   // by Engine.Publish and by no client: From is a label then
	From        string // client id of the publisher, or a label for publishers that are no clients
	Username    string // of the publisher
	HasUsername bool
	At          time.Time // when the broker took it

	HasExpiry  bool
	Expiry     uint32 // message expiry interval, seconds from At [MQTT-3.3.2-5]
	Properties []byte // further MQTT 5.0 properties to forward, encoded, without topic alias, message expiry and identifiers

	stamp  Stamp    // of a retained message that other nodes hear of
	staged Position // what a hook that has taken the message over has staged for it
}

// Clone gives a copy of m that shares nothing with it but strings.
func (m *Message) Clone() *Message {
	c := *m
	c.Payload = append([]byte(nil), m.Payload...)
	if len(m.Properties) > 0 {
		c.Properties = append([]byte(nil), m.Properties...)
	}
	return &c
}

// Expired reports whether the message expiry interval of m is over at now [MQTT-3.3.2-5].
func (m *Message) Expired(now time.Time) bool {
	return m.HasExpiry && now.Sub(m.At) >= time.Duration(m.Expiry)*time.Second
}

// remaining is the message expiry interval that is left at now, ns since the epoch, in seconds; 0 when it is over
// [MQTT-3.3.2-6].
func (m *Message) remaining(now int64) uint32 {
	waited := (now - m.At.UnixNano()) / int64(time.Second)
	switch {
	case waited <= 0:
		return m.Expiry
	case waited >= int64(m.Expiry):
		return 0
	}
	return m.Expiry - uint32(waited)
}

// expired is Expired in ns since the epoch.
func (m *Message) expired(now int64) bool {
	return m.HasExpiry && now-m.At.UnixNano() >= int64(m.Expiry)*int64(time.Second)
}

// uncounted reports whether deliveries of m do not count in the metrics: those below $SYS do not.
func (m *Message) uncounted() bool { return isSys(m.Topic) }
