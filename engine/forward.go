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
// that subscription.

// appendOrigin appends these properties of a message.
func appendOrigin(dst packet.Properties, m *Message, g *shareGroup) packet.Properties {
	flags := byte('0')
	if m.HasUsername {
		flags |= 1
	}
	if m.Inside {
		flags |= 2
	}
	share := ""
	if g != nil {
		share = g.subscription()
	}
	var scratch [32]byte
	stamp := strconv.AppendInt(append(scratch[:0], flags), m.At.UnixNano(), 36)
	dst = dst.AddUser(string(stamp), text(m.From))
	return dst.AddUser(text(m.Username), share)
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

// cutOrigin takes the properties of appendOrigin off m and gives the name of the shared subscription, "" for none.
func cutOrigin(m *Message, now int64) (share string, ok bool) {
	stamp, from, rest, ok1 := cutUser(m.Properties)
	user, group, rest, ok2 := cutUser(rest)
	if !ok1 || !ok2 || len(stamp) < 2 {
		return "", false
	}
	at, err := strconv.ParseInt(string(stamp[1:]), 36, 64)
	if err != nil {
		return "", false
	}
	at = min(at, now) // the clock there may be ahead
	m.From, m.Username = string(from), string(user)
	m.HasUsername, m.Inside = stamp[0]&1 != 0, stamp[0]&2 != 0
	m.At = time.Unix(0, at)
	if m.HasExpiry { // what is left, counted from now
		m.Expiry = uint32(min(int64(m.Expiry)+(now-at)/int64(time.Second), 0xFFFFFFFF))
	}
	m.Properties = rest
	return string(group), true
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
	var ok bool
	b.share, ok = cutOrigin(m, b.now)
	if !ok {
		return c.fail(b, packet.ProtocolError)
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
