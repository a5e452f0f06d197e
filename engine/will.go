package engine

import (
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// will is the message that a client leaves behind [MQTT-3.1.2-8] [MQTT-3.1.2-7]. It belongs to the connection, and to the
// session while it waits for its delay.
type will struct {
	m     Message
	delay uint32      // seconds
	info  *ClientInfo // who left it, for the access rules; nil where there are none
}

// newWill copies the will of a CONNECT.
func newWill(w *packet.Will, mountpoint string, r *ConnectRequest) *will {
	return &will{
		delay: w.Delay,
		m: Message{
			Topic: mountpoint + w.Topic, Payload: append([]byte(nil), w.Payload...), QoS: w.QoS, Retain: w.Retain,
			From: r.ClientID, Username: r.Username, HasUsername: r.HasUsername,
			HasExpiry: w.HasExpiry, Expiry: w.Expiry, Properties: append([]byte(nil), w.Properties...),
		},
	}
}

// signWill notes who leaves the will, if there are rules to ask.
func (c *Conn) signWill(e *Engine) {
	c.mu.Lock()
	w, ready := c.will, c.ready
	c.mu.Unlock()
	if w != nil && ready && e.asksRules() {
		info := c.describe()
		w.info = &info
	}
}

// asksRules reports whether there are access rules that a will has to be held against.
func (e *Engine) asksRules() bool {
	return len(e.authorizers.get()) > 0 || e.settings.Load().ACLNoMatch == Deny
}

// publishWill publishes a will once its time has come; the access rules are asked now.
func (e *Engine) publishWill(b *Batch, s *Session, w *will) {
	m := &w.m
	if len(m.Topic) > packet.MaxString || !topic.ValidName(m.Topic) {
		return
	}
	m.At = time.Unix(0, b.now)
	if w.info != nil && !e.permitted(w.info, ActionPublish, m.Topic) {
		e.log.Debug("will denied", "clientid", s.clientID, "topic", m.Topic)
		b.counts[PublishAuthError]++
		return
	}
	if _, err := b.inject(m, true); err != nil {
		e.log.Debug("will refused", "clientid", s.clientID, "topic", m.Topic, "err", err)
	}
}
