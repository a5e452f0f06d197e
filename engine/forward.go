package engine

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// A message crosses a link as a PUBLISH, with what MQTT has no place for in two user properties in front of its own: the first is
// when it was taken and by which way, and its publisher; the second the publisher's user name, and for a share group the name of
// that subscription. A third one follows for a retained message, with its stamp: the node keeps it as well as giving it to its clients.
// What a topic has is told in the same form, and goes to no client; the third has the QoS of the message then.

// Flags of the first property.
const (
	originUsername = 1 << 0
	originInside   = 1 << 1
	originStamp    = 1 << 2 // there is a third
	originState    = 1 << 3 // it is not published, but what its topic has

	originControl = "8" // the name of the first property where there is no message
	originAsked   = "?" // the node has asked for it; behind the QoS
)

// appendOrigin appends these properties of a message. with is originStamp, originState or 0.
func appendOrigin(dst packet.Properties, m *Message, g *shareGroup, with byte, asked bool) packet.Properties {
	flags := byte('0') | with
	if m.HasUsername {
		flags |= originUsername
	}
	if m.Inside {
		flags |= originInside
	}
	share := ""
	if g != nil {
		share = g.subscription()
	}
	var scratch [32]byte
	stamp := strconv.AppendInt(append(scratch[:0], flags), m.At.UnixNano(), 36)
	dst = dst.AddUser(string(stamp), text(m.From))
	dst = dst.AddUser(text(m.Username), share)
	if with == 0 {
		return dst
	}
	more := string(rune('0' + m.QoS))
	if asked {
		more += originAsked
	}
	return dst.AddUser(string(m.stamp.append(scratch[:0])), more)
}

// subscription is the name under which members subscribe, or the word that stands for it.
func (g *shareGroup) subscription() string {
	if g.word != "" {
		return g.word
	}
	return Subscription{Filter: g.node.filter, Share: g.name}.Name()
}

// text gives s if it can be sent.
func text(s string) string {
	if len(s) > packet.MaxString || !packet.ValidString([]byte(s)) {
		return ""
	}
	return s
}

// cutUser takes a user property off the front of encoded properties.
func cutUser(p []byte) (name, value, rest []byte, ok bool) {
	if len(p) == 0 || packet.PropertyID(p[0]) != packet.PropUser {
		return nil, nil, nil, false
	}
	p = p[1:]
	for _, f := range []*[]byte{&name, &value} {
		if len(p) < 2 {
			return nil, nil, nil, false
		}
		n := 2 + int(binary.BigEndian.Uint16(p))
		if len(p) < n {
			return nil, nil, nil, false
		}
		*f, p = p[2:n], p[n:]
	}
	return name, value, p, true
}

// origin is what the properties of appendOrigin say besides the message.
type origin struct {
	share string // name of the shared subscription, "" for none
	state bool   // it is what the topic has
	asked bool   // this node has asked for it
}

// cutOrigin takes the properties of appendOrigin off m.
func cutOrigin(m *Message, now int64) (o origin, ok bool) {
	stamp, from, rest, ok1 := cutUser(m.Properties)
	user, group, rest, ok2 := cutUser(rest)
	if !ok1 || !ok2 || len(stamp) < 2 {
		return o, false
	}
	at, err := strconv.ParseInt(string(stamp[1:]), 36, 64)
	if err != nil {
		return o, false
	}
	flags := stamp[0]
	if o.share, o.state = string(group), flags&originState != 0; o.state || flags&originStamp != 0 {
		var change, more []byte
		if change, more, rest, ok = cutUser(rest); !ok || len(more) == 0 || more[0]-'0' > 2 {
			return o, false
		}
		if m.stamp, ok = parseStamp(string(change)); !ok {
			return o, false
		}
		if o.state {
			m.QoS, o.asked = packet.QoS(more[0]-'0'), string(more[1:]) == originAsked
		}
	}
	at = min(at, now) // the clock there may be ahead
	m.From, m.Username = string(from), string(user)
	m.HasUsername, m.Inside = flags&originUsername != 0, flags&originInside != 0
	m.At = time.Unix(0, at)
	if m.HasExpiry { // what is left, counted from now
		m.Expiry = uint32(min(int64(m.Expiry)+(now-at)/int64(time.Second), 0xFFFFFFFF))
	}
	m.Properties = rest
	return o, true
}

// handleForward handles a PUBLISH of another node: it goes to the clients of this one, and to no other node.
func (c *Conn) handleForward(b *Batch, flags byte, body []byte) Next {
	p := &b.in
	if err := p.Decode(c.version, flags, body); err != nil {
		return c.fail(b, err)
	}
	if p.TopicAlias != 0 || len(p.SubscriptionIDs) > 0 {
		return c.fail(b, packet.ProtocolError)
	}
	m := &b.msg
	*m = Message{
		Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Dup: p.Dup,
		HasExpiry: p.HasExpiry, Expiry: p.Expiry, Properties: p.Properties,
	}
	if name, kind, _, ok := cutUser(p.Properties); ok && string(name) == originControl {
		return c.handleControl(b, string(kind), p.Payload)
	}
	o, ok := cutOrigin(m, b.now)
	if !ok || !c.link.retains && m.stamp != (Stamp{}) {
		return c.fail(b, packet.ProtocolError)
	}
	b.share = o.share
	if o.state {
		m.Topic = string(p.Topic)
		return c.handleState(b, m, o.asked)
	}
	if p.QoS == 2 {
		known, code := c.take(b, p.PacketID, c.zone.load())
		if code != packet.Success {
			return c.fail(b, code)
		}
		if known {
			c.acknowledge(b, p, packet.Success, nil)
			return ReadOn
		}
	}
	if isWord(b.share) {
		return c.handleWord(b, p, m)
	}
	en := b.lookupCrossed(p.Topic)
	m.Topic = en.topic
	b.route(en)
	publisher := c.durable(p)
	b.peer = c.link.peer
	defer func() { b.peer = "" }()
	if b.unkept(m, en, publisher) { // the other node keeps it
		return c.refuseKept(b, p)
	}
	if m.Retain && m.stamp != (Stamp{}) {
		b.e.retainer.merge(b, m)
	}
	_, sh := b.publish(m, en, publisher, p.PacketID)
	c.acknowledge(b, p, packet.Success, sh)
	if sh != nil {
		sh.release()
	}
	return ReadOn
}

// crossed gives who gets a message of another node: the clients of this one, or for a share group a member of that alone.
func (b *Batch) crossed(en *topicEntry) ([]delivery, []*shareGroup) {
	if b.share == "" {
		return en.deliveries, nil
	}
	name, filter, _, _ := topic.ParseShare(b.share)
	for i, g := range en.groups {
		if g.name == name && g.node.filter == filter {
			return nil, en.groups[i : i+1]
		}
	}
	return nil, nil
}

// farGroup stands for a share group that a node has no member of any more, while messages are on the way to it.
func farGroup(share string) *shareGroup {
	if isWord(share) {
		return wordGroup(share)
	}
	name, filter, _, _ := topic.ParseShare(share)
	return &shareGroup{node: &filterNode{filter: filter}, name: name}
}

// feedLink is Feed for a node. Its packets do not count. It is read whatever waits for it: two nodes that do not read because the other
// does not would wait for ever. What waits is bounded all the same, deliveries as for clients, and answers by the window of the other.
func (c *Conn) feedLink(b *Batch, p []byte) Next {
	var before [MessagesReceived]int64
	copy(before[:], b.counts[:])
	sent, bytes, published := b.counts[PacketsSent], b.counts[BytesSent], b.counts[PacketsPublishSent]
	next := c.parse(b, p)
	sent, bytes, published = b.counts[PacketsSent]-sent, b.counts[BytesSent]-bytes, b.counts[PacketsPublishSent]-published
	if b.counts[PacketsReceived] != before[PacketsReceived] {
		c.lastSeen.Store(b.now)
	}
	before[BytesReceived] -= int64(len(p))
	copy(b.counts[:], before[:])
	b.counts[PacketsSent] += sent
	b.counts[BytesSent] += bytes
	b.counts[PacketsPublishSent] += published
	return next
}

// isLinkID reports whether a client id is that of the session of a node.
func isLinkID(id string) bool { return strings.HasPrefix(id, LinkPrefix) }
