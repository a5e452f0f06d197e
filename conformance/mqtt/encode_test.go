package mqtt

import (
	"encoding/binary"
	"fmt"
)

// version is the protocol level byte of a CONNECT.
type version byte

const (
	v31  version = 3 // MQIsdp
	v311 version = 4
	v5   version = 5
)

func (v version) String() string {
	switch v {
	case v31:
		return "3.1"
	case v311:
		return "3.1.1"
	case v5:
		return "5.0"
	}
	return fmt.Sprintf("level %d", byte(v))
}

// Control packet types, as the upper four bits of the first byte.
const (
	typeConnect     byte = 1
	typeConnack     byte = 2
	typePublish     byte = 3
	typePuback      byte = 4
	typePubrec      byte = 5
	typePubrel      byte = 6
	typePubcomp     byte = 7
	typeSubscribe   byte = 8
	typeSuback      byte = 9
	typeUnsubscribe byte = 10
	typeUnsuback    byte = 11
	typePingreq     byte = 12
	typePingresp    byte = 13
	typeDisconnect  byte = 14
	typeAuth        byte = 15
)

var typeNames = [16]string{
	"RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// Property identifiers of MQTT 5.0, section 2.2.2.2.
const (
	propPayloadFormat     byte = 0x01
	propMessageExpiry     byte = 0x02
	propContentType       byte = 0x03
	propResponseTopic     byte = 0x08
	propCorrelationData   byte = 0x09
	propSubscriptionID    byte = 0x0b
	propSessionExpiry     byte = 0x11
	propAssignedClientID  byte = 0x12
	propServerKeepAlive   byte = 0x13
	propAuthMethod        byte = 0x15
	propAuthData          byte = 0x16
	propRequestProblem    byte = 0x17
	propWillDelay         byte = 0x18
	propRequestResponse   byte = 0x19
	propResponseInfo      byte = 0x1a
	propServerReference   byte = 0x1c
	propReasonString      byte = 0x1f
	propReceiveMaximum    byte = 0x21
	propTopicAliasMaximum byte = 0x22
	propTopicAlias        byte = 0x23
	propMaximumQoS        byte = 0x24
	propRetainAvailable   byte = 0x25
	propUserProperty      byte = 0x26
	propMaximumPacketSize byte = 0x27
	propWildcardAvailable byte = 0x28
	propSubIDAvailable    byte = 0x29
	propSharedAvailable   byte = 0x2a
)

// propKind is the wire type of a property.
type propKind int

const (
	kindByte propKind = iota + 1
	kindU16
	kindU32
	kindVarint
	kindString
	kindBinary
	kindPair
)

var propKinds = map[byte]propKind{
	propPayloadFormat: kindByte, propMessageExpiry: kindU32, propContentType: kindString,
	propResponseTopic: kindString, propCorrelationData: kindBinary, propSubscriptionID: kindVarint,
	propSessionExpiry: kindU32, propAssignedClientID: kindString, propServerKeepAlive: kindU16,
	propAuthMethod: kindString, propAuthData: kindBinary, propRequestProblem: kindByte,
	propWillDelay: kindU32, propRequestResponse: kindByte, propResponseInfo: kindString,
	propServerReference: kindString, propReasonString: kindString, propReceiveMaximum: kindU16,
	propTopicAliasMaximum: kindU16, propTopicAlias: kindU16, propMaximumQoS: kindByte,
	propRetainAvailable: kindByte, propUserProperty: kindPair, propMaximumPacketSize: kindU32,
	propWildcardAvailable: kindByte, propSubIDAvailable: kindByte, propSharedAvailable: kindByte,
}

// prop is one property: n for numbers, s for strings and binary data, s and v
// for the name and value of a User Property.
type prop struct {
	id byte
	n  uint32
	s  string
	v  string
}

type props []prop

// num, text and pair build one property each.
func num(id byte, n uint32) prop        { return prop{id: id, n: n} }
func text(id byte, s string) prop       { return prop{id: id, s: s} }
func userProp(name, value string) prop  { return prop{id: propUserProperty, s: name, v: value} }
func (p props) has(id byte) bool        { _, ok := p.find(id); return ok }
func (p props) with(more ...prop) props { return append(append(props(nil), p...), more...) }
func (p props) find(id byte) (prop, bool) {
	for _, x := range p {
		if x.id == id {
			return x, true
		}
	}
	return prop{}, false
}

// num returns the number of property id, or def where it is absent.
func (p props) num(id byte, def uint32) uint32 {
	if x, ok := p.find(id); ok {
		return x.n
	}
	return def
}

// all returns every property of one id, in order.
func (p props) all(id byte) props {
	var out props
	for _, x := range p {
		if x.id == id {
			out = append(out, x)
		}
	}
	return out
}

// body is the property list without its length.
func (p props) body() []byte {
	var b []byte
	for _, x := range p {
		b = append(b, x.id)
		switch propKinds[x.id] {
		case kindByte:
			b = append(b, byte(x.n))
		case kindU16:
			b = binary.BigEndian.AppendUint16(b, uint16(x.n))
		case kindU32:
			b = binary.BigEndian.AppendUint32(b, x.n)
		case kindVarint:
			b = append(b, varint(x.n)...)
		case kindString, kindBinary:
			b = append(b, str(x.s)...)
		case kindPair:
			b = append(append(b, str(x.s)...), str(x.v)...)
		default:
			panic(fmt.Sprintf("property 0x%02x has no kind", x.id))
		}
	}
	return b
}

// bytes is the property list behind its length.
func (p props) bytes() []byte {
	b := p.body()
	return append(varint(uint32(len(b))), b...)
}

// varint is a variable byte integer in its shortest form.
func varint(n uint32) []byte {
	var b []byte
	for {
		d := byte(n % 128)
		n /= 128
		if n > 0 {
			b = append(b, d|0x80)
			continue
		}
		return append(b, d)
	}
}

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// str is a length-prefixed string or binary field; the content is not checked,
// so that ill-formed strings can be sent.
func str(s string) []byte { return append(u16(uint16(len(s))), s...) }

func cat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// frame puts a fixed header (type, flags, remaining length) before the parts.
func frame(typ, flags byte, parts ...[]byte) []byte {
	body := cat(parts...)
	return cat([]byte{typ<<4 | flags}, varint(uint32(len(body))), body)
}

// propsIf is the property list for 5.0 and nothing for older versions.
func propsIf(v version, p props) []byte {
	if v == v5 {
		return p.bytes()
	}
	return nil
}

// will is a will message of a CONNECT.
type will struct {
	topic   string
	payload string
	qos     byte
	retain  bool
	props   props
}

// CONNECT flag bits.
const (
	flagReserved   byte = 0x01
	flagClean      byte = 0x02
	flagWill       byte = 0x04
	flagWillQoS1   byte = 0x08
	flagWillQoS2   byte = 0x10
	flagWillRetain byte = 0x20
	flagPassword   byte = 0x40
	flagUsername   byte = 0x80
)

// connectHead is the variable header of a CONNECT.
func connectHead(v version, flags byte, keepAlive uint16, p props) []byte {
	name := "MQTT"
	if v == v31 {
		name = "MQIsdp"
	}
	return cat(str(name), []byte{byte(v), flags}, u16(keepAlive), propsIf(v, p))
}

// session describes a CONNECT: what the client asks of the broker.
type session struct {
	v         version
	id        string // client identifier; one is made up when empty and !anonymous
	anonymous bool   // send an empty client identifier
	resume    bool   // clean session / clean start 0
	persist   bool   // resume, and in 5.0 a session expiry of five minutes
	keepAlive uint16
	will      *will
	user      string
	pass      string
	hasUser   bool
	hasPass   bool
	props     props
}

func (s session) bytes() []byte {
	flags := byte(0)
	if !s.resume {
		flags |= flagClean
	}
	payload := str(s.id)
	if w := s.will; w != nil {
		flags |= flagWill | w.qos<<3
		if w.retain {
			flags |= flagWillRetain
		}
		payload = cat(payload, propsIf(s.v, w.props), str(w.topic), str(w.payload))
	}
	if s.hasUser {
		flags |= flagUsername
		payload = cat(payload, str(s.user))
	}
	if s.hasPass {
		flags |= flagPassword
		payload = cat(payload, str(s.pass))
	}
	return frame(typeConnect, 0, connectHead(s.v, flags, s.keepAlive, s.props), payload)
}

// publish describes a PUBLISH from the client.
type publish struct {
	topic   string
	payload string
	qos     byte
	retain  bool
	dup     bool
	id      uint16
	props   props
}

func (p publish) bytes(v version) []byte {
	flags := p.qos << 1
	if p.retain {
		flags |= 1
	}
	if p.dup {
		flags |= 8
	}
	var id []byte
	if p.qos > 0 {
		id = u16(p.id)
	}
	return frame(typePublish, flags, str(p.topic), id, propsIf(v, p.props), []byte(p.payload))
}

// filter is one topic filter of a SUBSCRIBE with its options byte.
type filter struct {
	name string
	opts byte
}

// Subscription option bits of 5.0; the lower two are the QoS in all versions.
const (
	optNoLocal           byte = 0x04
	optRetainAsPublished byte = 0x08
	optRetainIfNew       byte = 0x10 // Retain Handling 1
	optRetainNever       byte = 0x20 // Retain Handling 2
)

func subscribeBytes(v version, id uint16, p props, filters ...filter) []byte {
	var list []byte
	for _, f := range filters {
		list = cat(list, str(f.name), []byte{f.opts})
	}
	return frame(typeSubscribe, 2, u16(id), propsIf(v, p), list)
}

func unsubscribeBytes(v version, id uint16, p props, filters ...string) []byte {
	var list []byte
	for _, f := range filters {
		list = cat(list, str(f))
	}
	return frame(typeUnsubscribe, 2, u16(id), propsIf(v, p), list)
}

// ackBytes is a PUBACK, PUBREC, PUBREL or PUBCOMP; code and properties are
// written for 5.0 only, and only where they say something.
func ackBytes(v version, typ byte, id uint16, code byte, p props) []byte {
	flags := byte(0)
	if typ == typePubrel {
		flags = 2
	}
	if v != v5 || code == 0 && len(p) == 0 {
		return frame(typ, flags, u16(id))
	}
	return frame(typ, flags, u16(id), []byte{code}, p.bytes())
}

func disconnectBytes(v version, code byte, p props) []byte {
	if v != v5 || code == 0 && len(p) == 0 {
		return frame(typeDisconnect, 0)
	}
	return frame(typeDisconnect, 0, []byte{code}, p.bytes())
}

func authBytes(code byte, p props) []byte {
	return frame(typeAuth, 0, []byte{code}, p.bytes())
}

func pingBytes() []byte { return frame(typePingreq, 0) }
