package packet

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Publish is a PUBLISH packet, decoded or about to be encoded. One value can be used for any number of packets.
type Publish struct {
	Dup      bool
	Retain   bool
	QoS      QoS
	PacketID uint16 // 0 with QoS 0, never 0 otherwise

	// Topic is the topic name. Decode has checked it: UTF-8 without U+0000 and wildcards; and not empty, but in 5.0 with a
	// TopicAlias, where the receiver knows the name from before. It aliases the body.
	Topic []byte
	// Payload is the application message. It aliases the body.
	Payload []byte

	// The fields below exist in 5.0 only; for other versions Decode clears and Append ignores them.

	// Properties are those that a server passes on unaltered. They alias the body, or memory of the Publish: either way they
	// are good until the next Decode.
	Properties Properties
	// TopicAlias is 1 to 65535, 0 for none. Its upper limit is the receiver's to check (TopicAliasInvalid).
	TopicAlias uint16
	// HasExpiry tells that there is a message expiry interval.
	HasExpiry bool
	// Expiry is the message expiry interval in seconds.
	Expiry uint32
	// SubscriptionIDs are those of the matching subscriptions, each 1 to MaxSubscriptionID. A server must refuse a PUBLISH from a
	// client that has any with ProtocolError [MQTT-3.3.4-6]; the codec accepts them, because clients and servers share it.
	// Decode reuses the slice.
	SubscriptionIDs []uint32

	// Known is a topic name that Decode need not check, because it was checked before; empty for none.
	Known string

	scratch []byte // holds Properties that do not lie together in the body
}

const publishAllowed = forwarded | 1<<PropMessageExpiry | 1<<PropTopicAlias | 1<<PropSubscriptionID

// Type is TypePublish.
func (p *Publish) Type() Type { return TypePublish }

// Decode fills p from the flags of the fixed header and the body. The byte fields alias body. It allocates only when the
// properties to forward do not lie together, or there are subscription identifiers, and then only until p has room for them.
func (p *Publish) Decode(v Version, flags byte, body []byte) error {
	qos := QoS(flags >> 1 & 3)
	p.Dup, p.QoS, p.Retain = flags&8 != 0, qos, flags&1 != 0
	p.PacketID = 0
	p.Properties, p.TopicAlias, p.HasExpiry, p.Expiry = nil, 0, false, 0
	p.SubscriptionIDs = p.SubscriptionIDs[:0]
	if qos == 3 { // [MQTT-3.3.1-4]
		return errQoS3
	}
	if qos == 0 && p.Dup && v != V31 { // [MQTT-3.3.1-2]
		return errDup
	}
	if len(body) < 2 {
		return errShort
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if len(body) < n {
		return errShort
	}
	p.Topic = body[2:n:n]           // [MQTT-3.3.2-1]
	if string(p.Topic) != p.Known { // BenchmarkForward of the engine: one topic comes many times in a row
		if err := checkTopicName(p.Topic); err != nil {
			return err
		}
	}
	body = body[n:]
	if qos > 0 { // [MQTT-2.3.1-5] [MQTT-2.2.1-2]
		if len(body) < 2 {
			return errShort
		}
		if p.PacketID = binary.BigEndian.Uint16(body); p.PacketID == 0 { // [MQTT-2.3.1-1] [MQTT-2.2.1-3]
			return errPacketID
		}
		body = body[2:]
	}
	if v < V5 {
		if n == 2 { // [MQTT-4.7.3-1]
			return errTopicEmpty
		}
		p.Payload = body
		return nil
	}
	if len(body) > 0 && body[0] == 0 {
		body = body[1:]
	} else {
		var err error
		if body, err = p.decodeProperties(body); err != nil {
			return err
		}
	}
	if n == 2 && p.TopicAlias == 0 {
		return errTopicMissing
	}
	p.Payload = body
	return nil
}

// decodeProperties takes the property block off the front of body.
func (p *Publish) decodeProperties(body []byte) (rest []byte, err error) {
	r, rest, err := cutProperties(body, publishAllowed, 1<<PropUser|1<<PropSubscriptionID)
	if err != nil {
		return nil, err
	}
	var f forwardCollector
	f.scratch = p.scratch
	for len(r.rest) > 0 {
		at := r.rest
		v, err := r.next()
		if err != nil {
			return nil, err
		}
		switch v.id {
		case PropMessageExpiry:
			p.HasExpiry, p.Expiry = true, v.n
		case PropTopicAlias:
			p.TopicAlias = uint16(v.n)
		case PropSubscriptionID:
			p.SubscriptionIDs = append(p.SubscriptionIDs, v.n)
		default:
			f.add(at[:len(at)-len(r.rest)])
		}
	}
	p.Properties, p.scratch = f.result, f.scratch
	return rest, nil
}

// forwardCollector gathers the encoded properties that are to be forwarded: without a copy as long as they lie together.
type forwardCollector struct {
	result  []byte
	scratch []byte
	copied  bool
}

// add takes the next encoded property; all are of one block of memory and come in order.
func (f *forwardCollector) add(b []byte) {
	switch {
	case f.result == nil:
		f.result = b
	case f.copied:
		f.scratch = append(f.scratch, b...)
		f.result = f.scratch
	case cap(f.result) > len(f.result) && &f.result[:len(f.result)+1][len(f.result)] == &b[0]:
		f.result = f.result[:len(f.result)+len(b)]
	default:
		f.scratch = append(append(f.scratch[:0], f.result...), b...)
		f.result, f.copied = f.scratch, true
	}
}

// CheckPayload returns PayloadFormatInvalid if the properties say that the payload is UTF-8 and it is not. Decode does not
// look at the payload: a server may check it, and need not.
func (p *Publish) CheckPayload() error {
	if len(p.Properties) > 0 && p.Properties.UTF8Payload() && !utf8.Valid(p.Payload) {
		return errPayloadFormat
	}
	return nil
}

// propertiesSize is the length of the property block in 5.0 without the length field.
func (p *Publish) propertiesSize() int {
	n := len(p.Properties)
	if p.HasExpiry {
		n += 5
	}
	if p.TopicAlias != 0 {
		n += 3
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + varintSize(int(id))
	}
	return n
}

// remaining is the remaining length of the encoded packet and the length of its property block.
func (p *Publish) remaining(v Version) (n, props int) {
	n = 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	if v == V5 {
		props = p.propertiesSize()
		n += varintSize(props) + props
	}
	return n, props
}

// Size is the length in bytes of the packet that Append makes: what counts against the maximum packet size of the receiver.
func (p *Publish) Size(v Version) int {
	n, _ := p.remaining(v)
	return 1 + varintSize(n) + n
}

// Append appends the encoded packet to dst. With TopicAlias set, Topic may be empty. It panics when the topic is longer than
// MaxString or the packet than a fixed header can say.
func (p *Publish) Append(dst []byte, v Version) []byte {
	dst = slices.Grow(dst, p.Size(v))
	return append(p.AppendHead(dst, v), p.Payload...)
}

// AppendPlain is Append for 3.x, with packet identifier 0 and without DUP. id is the offset of the identifier, 0 with QoS 0.
// BenchmarkForward of the engine is why it stands beside Append.
func AppendPlain(dst []byte, qos QoS, retain bool, topic string, payload []byte) (frame []byte, id int) {
	if len(topic) > MaxString {
		panic(fmt.Sprintf("packet: field of %d bytes", len(topic)))
	}
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	first := byte(TypePublish)<<4 | byte(qos)<<1
	if retain {
		first |= 1
	}
	dst = appendVarint(append(slices.Grow(dst, 5+n), first), n)
	dst = append(append(dst, byte(len(topic)>>8), byte(len(topic))), topic...)
	if qos > 0 {
		id = len(dst)
		dst = append(dst, 0, 0)
	}
	return append(dst, payload...), id
}

// AppendHead is Append without the payload, whose length the packet states nevertheless: the caller sends
// the payload behind it from where it lies.
func (p *Publish) AppendHead(dst []byte, v Version) []byte {
	n, props := p.remaining(v)
	first := byte(TypePublish)<<4 | byte(p.QoS)<<1
	if p.Dup {
		first |= 8
	}
	if p.Retain {
		first |= 1
	}
	dst = appendVarint(append(dst, first), n)
	dst = appendString(dst, p.Topic)
	if p.QoS > 0 {
		dst = appendUint16(dst, p.PacketID)
	}
	if v != V5 {
		return dst
	}
	dst = appendVarint(dst, props) // [MQTT-2.2.2-1]
	if p.HasExpiry {
		dst = appendUint32Property(dst, PropMessageExpiry, p.Expiry)
	}
	if p.TopicAlias != 0 {
		dst = appendUint16Property(dst, PropTopicAlias, p.TopicAlias)
	}
	for _, id := range p.SubscriptionIDs {
		dst = appendVarint(append(dst, byte(PropSubscriptionID)), int(id))
	}
	return append(dst, p.Properties...)
}

// PacketIDOffset gives the offset of the packet identifier in frame, an encoded PUBLISH of QoS 1 or 2 (its head is enough).
// Copies of one frame for many subscribers differ in these two bytes only. It returns 0 for QoS 0 and for anything that is no
// PUBLISH.
func PacketIDOffset(frame []byte) int {
	if len(frame) < 4 || frame[0]>>4 != byte(TypePublish) || frame[0]&6 == 0 {
		return 0
	}
	i := 1
	for frame[i] >= 0x80 && i < 4 {
		i++
	}
	i++
	if len(frame) < i+2 {
		return 0
	}
	i += 2 + int(binary.BigEndian.Uint16(frame[i:]))
	if len(frame) < i+2 {
		return 0
	}
	return i
}

// SetPacketID writes a packet identifier into frame at the offset that PacketIDOffset gave for it.
func SetPacketID(frame []byte, offset int, id uint16) {
	binary.BigEndian.PutUint16(frame[offset:], id)
}

// SetDup sets the DUP flag in frame, an encoded PUBLISH of QoS 1 or 2 that is sent again [MQTT-3.3.1-1].
func SetDup(frame []byte) { frame[0] |= 8 }
