package packet

import (
	"encoding/binary"
	"iter"
)

// PropertyID identifies a property of MQTT 5.0. All identifiers of the specification fit one byte.
type PropertyID byte

// The property identifiers.
const (
	PropPayloadFormat       PropertyID = 0x01
	PropMessageExpiry       PropertyID = 0x02
	PropContentType         PropertyID = 0x03
	PropResponseTopic       PropertyID = 0x08
	PropCorrelationData     PropertyID = 0x09
	PropSubscriptionID      PropertyID = 0x0B
	PropSessionExpiry       PropertyID = 0x11
	PropAssignedClientID    PropertyID = 0x12
	PropServerKeepAlive     PropertyID = 0x13
	PropAuthMethod          PropertyID = 0x15
	PropAuthData            PropertyID = 0x16
	PropRequestProblemInfo  PropertyID = 0x17
	PropWillDelay           PropertyID = 0x18
	PropRequestResponseInfo PropertyID = 0x19
	PropResponseInfo        PropertyID = 0x1A
	PropServerReference     PropertyID = 0x1C
	PropReasonString        PropertyID = 0x1F
	PropReceiveMaximum      PropertyID = 0x21
	PropTopicAliasMaximum   PropertyID = 0x22
	PropTopicAlias          PropertyID = 0x23
	PropMaximumQoS          PropertyID = 0x24
	PropRetainAvailable     PropertyID = 0x25
	PropUser                PropertyID = 0x26
	PropMaximumPacketSize   PropertyID = 0x27
	PropWildcardAvailable   PropertyID = 0x28
	PropSubIDAvailable      PropertyID = 0x29
	PropSharedSubAvailable  PropertyID = 0x2A

	propertyCount = 0x2B
)

// MaxSubscriptionID is the largest subscription identifier; the smallest is 1.
const MaxSubscriptionID = MaxRemaining

// DefaultReceiveMaximum is the receive maximum of a peer that states none.
const DefaultReceiveMaximum = 65_535

// UserProperty is one user property: a name and a value, both strings.
type UserProperty struct {
	Name, Value string
}

// Optional is a field that may be absent. The zero Optional is absent.
type Optional[T any] struct {
	Value T
	Set   bool
}

// Some gives an Optional that holds v.
func Some[T any](v T) Optional[T] { return Optional[T]{v, true} }

// Or gives the value, or def if it is absent.
func (o Optional[T]) Or(def T) T {
	if o.Set {
		return o.Value
	}
	return def
}

// kind is how the value of a property is encoded.
type kind byte

const (
	kindNone    kind = iota // no such property
	kindBool                // one byte, 0 or 1
	kindUint16              // two bytes
	kindCount16             // two bytes, not 0
	kindUint32              // four bytes
	kindCount32             // four bytes, not 0
	kindVarint              // variable byte integer, not 0
	kindString
	kindBinary
	kindPair // two strings
)

var propertyKinds = [propertyCount]kind{
	PropPayloadFormat:       kindBool,
	PropMessageExpiry:       kindUint32,
	PropContentType:         kindString,
	PropResponseTopic:       kindString,
	PropCorrelationData:     kindBinary,
	PropSubscriptionID:      kindVarint,
	PropSessionExpiry:       kindUint32,
	PropAssignedClientID:    kindString,
	PropServerKeepAlive:     kindUint16,
	PropAuthMethod:          kindString,
	PropAuthData:            kindBinary,
	PropRequestProblemInfo:  kindBool,
	PropWillDelay:           kindUint32,
	PropRequestResponseInfo: kindBool,
	PropResponseInfo:        kindString,
	PropServerReference:     kindString,
	PropReasonString:        kindString,
	PropReceiveMaximum:      kindCount16,
	PropTopicAliasMaximum:   kindUint16,
	PropTopicAlias:          kindCount16,
	PropMaximumQoS:          kindBool,
	PropRetainAvailable:     kindBool,
	PropUser:                kindPair,
	PropMaximumPacketSize:   kindCount32,
	PropWildcardAvailable:   kindBool,
	PropSubIDAvailable:      kindBool,
	PropSharedSubAvailable:  kindBool,
}

// propertySet is a set of property identifiers, one bit each.
type propertySet uint64

// property is one decoded property. Its byte fields alias the input.
type property struct {
	id    PropertyID
	n     uint32 // numbers and booleans
	data  []byte // strings, binary data, the name of a user property
	value []byte // the value of a user property
}

// properties walks the property block of a packet.
type properties struct {
	rest    []byte
	allowed propertySet // what the packet may have
	repeat  propertySet // what may be there more than once
	seen    propertySet
}

// cutProperties takes a property block with its length off the front of body. The properties in allowed may be there, those
// in repeat any number of times.
func cutProperties(body []byte, allowed, repeat propertySet) (p properties, rest []byte, err error) {
	n, rest, err := cutVarint(body)
	if err != nil {
		return p, nil, err
	}
	if n > len(rest) {
		return p, nil, errShort
	}
	return properties{rest: rest[:n:n], allowed: allowed, repeat: repeat}, rest[n:], nil
}

// next decodes the next property; there must be one left.
func (p *properties) next() (v property, err error) {
	b := p.rest
	v.id = PropertyID(b[0])
	b = b[1:]
	if v.id >= propertyCount || p.allowed&(1<<v.id) == 0 {
		return v, errPropUnknown
	}
	if p.seen&^p.repeat&(1<<v.id) != 0 {
		return v, errPropTwice
	}
	p.seen |= 1 << v.id
	switch propertyKinds[v.id] {
	case kindBool:
		if len(b) < 1 {
			return v, errShort
		}
		if b[0] > 1 {
			return v, errPropValue
		}
		v.n, b = uint32(b[0]), b[1:]
	case kindUint16, kindCount16:
		if len(b) < 2 {
			return v, errShort
		}
		v.n, b = uint32(binary.BigEndian.Uint16(b)), b[2:]
	case kindUint32, kindCount32:
		if len(b) < 4 {
			return v, errShort
		}
		v.n, b = binary.BigEndian.Uint32(b), b[4:]
	case kindVarint:
		var n int
		if n, b, err = cutVarint(b); err != nil {
			return v, err
		}
		v.n = uint32(n)
	case kindString:
		if v.data, b, err = cutUTF8(b); err != nil {
			return v, err
		}
	case kindBinary:
		if v.data, b, err = cutBytes(b); err != nil {
			return v, err
		}
	case kindPair: // [MQTT-1.5.7-1]
		if v.data, b, err = cutUTF8(b); err != nil {
			return v, err
		}
		if v.value, b, err = cutUTF8(b); err != nil {
			return v, err
		}
	}
	if v.n == 0 {
		switch propertyKinds[v.id] {
		case kindCount16, kindCount32, kindVarint:
			if v.id == PropTopicAlias { // [MQTT-3.3.2-8]
				return v, errAliasZero
			}
			return v, errPropValue
		}
	}
	if v.id == PropResponseTopic && (len(v.data) == 0 || checkTopicName(v.data) != nil) { // [MQTT-3.3.2-14]
		return v, errResponseTopic
	}
	p.rest = b
	return v, nil
}

// user gives a user property as a pair of strings.
func (v property) user() UserProperty { return UserProperty{string(v.data), string(v.value)} }

// Properties are the properties of a message that a server passes on unaltered, in wire form and in the order of the
// publisher: payload format indicator, content type, response topic, correlation data, user properties
// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
// A value that did not come from Decode is built with the AddX methods; each single one may be added once, and AddX panics
// on a field longer than MaxString. The zero value is no properties.
type Properties []byte

const forwarded = propertySet(1<<PropPayloadFormat | 1<<PropContentType | 1<<PropResponseTopic | 1<<PropCorrelationData | 1<<PropUser)

// find gives the first property with that identifier.
func (p Properties) find(id PropertyID) (v property, ok bool) {
	for r := (properties{rest: p, allowed: forwarded, repeat: forwarded}); len(r.rest) > 0; {
		v, err := r.next()
		if err != nil {
			return property{}, false
		}
		if v.id == id {
			return v, true
		}
	}
	return property{}, false
}

// UTF8Payload reports whether the payload format indicator says that the payload is UTF-8 text.
func (p Properties) UTF8Payload() bool {
	v, ok := p.find(PropPayloadFormat)
	return ok && v.n == 1
}

// ContentType gives the content type, nil if there is none. It aliases p.
func (p Properties) ContentType() []byte {
	v, _ := p.find(PropContentType)
	return v.data
}

// ResponseTopic gives the response topic, nil if there is none. It aliases p.
func (p Properties) ResponseTopic() []byte {
	v, _ := p.find(PropResponseTopic)
	return v.data
}

// CorrelationData gives the correlation data, nil if there are none. They alias p.
func (p Properties) CorrelationData() []byte {
	v, _ := p.find(PropCorrelationData)
	return v.data
}

// User iterates over the user properties, name and value, in order. Both alias p.
func (p Properties) User() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for r := (properties{rest: p, allowed: forwarded, repeat: forwarded}); len(r.rest) > 0; {
			v, err := r.next()
			if err != nil || v.id == PropUser && !yield(v.data, v.value) {
				return
			}
		}
	}
}

// AddPayloadFormat appends a payload format indicator: utf8 is 1, otherwise 0.
func (p Properties) AddPayloadFormat(utf8 bool) Properties {
	return appendBool(p, PropPayloadFormat, utf8)
}

// AddContentType appends a content type.
func (p Properties) AddContentType(s string) Properties {
	return appendStringProperty(p, PropContentType, s)
}

// AddResponseTopic appends a response topic, which must be a valid topic name.
func (p Properties) AddResponseTopic(s string) Properties {
	return appendStringProperty(p, PropResponseTopic, s)
}

// AddCorrelationData appends correlation data.
func (p Properties) AddCorrelationData(data []byte) Properties {
	return appendString(append(p, byte(PropCorrelationData)), data)
}

// AddUser appends a user property. There may be several, also of one name.
func (p Properties) AddUser(name, value string) Properties {
	return appendString(appendString(append(p, byte(PropUser)), name), value)
}

func appendBool(dst []byte, id PropertyID, v bool) []byte {
	if v {
		return append(dst, byte(id), 1)
	}
	return append(dst, byte(id), 0)
}

func appendUint16Property(dst []byte, id PropertyID, n uint16) []byte {
	return appendUint16(append(dst, byte(id)), n)
}

func appendUint32Property(dst []byte, id PropertyID, n uint32) []byte {
	return appendUint32(append(dst, byte(id)), n)
}

func appendStringProperty(dst []byte, id PropertyID, s string) []byte {
	return appendString(append(dst, byte(id)), s)
}

// appendText appends a string property unless it is empty.
func appendText(dst []byte, id PropertyID, s string) []byte {
	if s == "" {
		return dst
	}
	return appendStringProperty(dst, id, s)
}

func appendUsers(dst []byte, users []UserProperty) []byte {
	for _, u := range users {
		dst = appendString(appendStringProperty(dst, PropUser, u.Name), u.Value)
	}
	return dst
}
