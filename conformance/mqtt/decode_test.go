package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// packet is a control packet from the broker, decoded.
type packet struct {
	typ     byte
	flags   byte
	size    int // whole packet in bytes
	id      uint16
	topic   string // after topic alias resolution by conn
	payload string
	qos     byte
	dup     bool
	retain  bool
	present bool   // CONNACK Session Present
	code    byte   // reason or return code
	codes   []byte // of SUBACK and UNSUBACK
	props   props
	raw     []byte
}

func (p *packet) String() string {
	if p == nil {
		return "nothing"
	}
	s := fmt.Sprintf("%s % x", typeNames[p.typ], p.raw)
	if len(s) > 160 {
		s = s[:160] + "..."
	}
	return s
}

// reasonCodes lists, for each packet a server sends in 5.0, the reason codes of
// its table (sections 3.2.2.2, 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1, 3.9.3,
// 3.11.3, 3.14.2.1, 3.15.2.1); codes that only a client sends are left out.
var reasonCodes = map[byte][]byte{
	typeConnack: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c,
		0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f},
	typePuback:   {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	typePubrec:   {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	typePubrel:   {0x00, 0x92},
	typePubcomp:  {0x00, 0x92},
	typeSuback:   {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2},
	typeUnsuback: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91},
	typeDisconnect: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94,
		0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2},
	typeAuth: {0x00, 0x18},
}

// allowedProps lists the properties of each packet that a server sends.
var allowedProps = map[byte][]byte{
	typeConnack: {propSessionExpiry, propReceiveMaximum, propMaximumQoS, propRetainAvailable, propMaximumPacketSize,
		propAssignedClientID, propTopicAliasMaximum, propReasonString, propUserProperty, propWildcardAvailable,
		propSubIDAvailable, propSharedAvailable, propServerKeepAlive, propResponseInfo, propServerReference,
		propAuthMethod, propAuthData},
	typePublish: {propPayloadFormat, propMessageExpiry, propTopicAlias, propResponseTopic, propCorrelationData,
		propUserProperty, propSubscriptionID, propContentType},
	typePuback:   {propReasonString, propUserProperty},
	typePubrec:   {propReasonString, propUserProperty},
	typePubrel:   {propReasonString, propUserProperty},
	typePubcomp:  {propReasonString, propUserProperty},
	typeSuback:   {propReasonString, propUserProperty},
	typeUnsuback: {propReasonString, propUserProperty},
	// Session Expiry Interval is a client's alone [MQTT-3.14.2-2].
	typeDisconnect: {propReasonString, propUserProperty, propServerReference},
	typeAuth:       {propAuthMethod, propAuthData, propReasonString, propUserProperty},
}

var errShort = errors.New("field runs past the end of the packet")

// cursor reads fields from a packet body.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) take(n int) []byte {
	if c.err != nil || n > len(c.b) {
		c.fail(errShort)
		return make([]byte, min(n, 4)) // enough for the fixed-size fields
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *cursor) byte() byte     { return c.take(1)[0] }
func (c *cursor) u16() uint16    { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cursor) binary() string { return string(c.take(int(c.u16()))) }

// text is a UTF-8 string field, held to the rules of sections 1.5.3 (3.1.1) and
// 1.5.4 (5.0).
func (c *cursor) text() string {
	s := c.binary()
	if !utf8.ValidString(s) {
		c.fail(fmt.Errorf("string % x is not well-formed UTF-8", s))
	}
	if strings.ContainsRune(s, 0) {
		c.fail(fmt.Errorf("string %q has U+0000", s))
	}
	return s
}

func (c *cursor) varint() uint32 {
	var n uint32
	for i := range 4 {
		b := c.byte()
		n |= uint32(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				c.fail(errors.New("variable byte integer is not in its shortest form [MQTT-1.5.5-1]"))
			}
			return n
		}
	}
	c.fail(errors.New("variable byte integer is longer than four bytes [MQTT-1.5.5-1]"))
	return 0
}

func (c *cursor) props(typ byte) props {
	body := cursor{b: c.take(int(c.varint()))}
	var out props
	for len(body.b) > 0 && body.err == nil && c.err == nil {
		p := prop{id: body.byte()}
		switch propKinds[p.id] {
		case kindByte:
			p.n = uint32(body.byte())
		case kindU16:
			p.n = uint32(body.u16())
		case kindU32:
			p.n = binary.BigEndian.Uint32(body.take(4))
		case kindVarint:
			p.n = body.varint()
		case kindString:
			p.s = body.text()
		case kindBinary:
			p.s = body.binary()
		case kindPair:
			p.s, p.v = body.text(), body.text()
		default:
			body.fail(fmt.Errorf("unknown property 0x%02x", p.id))
		}
		if !slices.Contains(allowedProps[typ], p.id) {
			body.fail(fmt.Errorf("property 0x%02x does not belong in a server's %s", p.id, typeNames[typ]))
		}
		if out.has(p.id) && p.id != propUserProperty && !(typ == typePublish && p.id == propSubscriptionID) {
			body.fail(fmt.Errorf("property 0x%02x twice", p.id))
		}
		out = append(out, p)
	}
	if body.err != nil {
		c.fail(fmt.Errorf("properties: %w", body.err))
	}
	return out
}

// readRaw reads the bytes of one packet.
func readRaw(r *bufio.Reader) ([]byte, int, error) {
	head, err := r.ReadByte()
	if err != nil {
		return nil, 0, err
	}
	raw := []byte{head}
	var n uint32
	for i := range 4 {
		b, err := r.ReadByte()
		if err != nil {
			return nil, 0, fmt.Errorf("remaining length cut off after % x: %w", raw, err)
		}
		raw = append(raw, b)
		n |= uint32(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				return nil, 0, fmt.Errorf("remaining length % x is not in its shortest form", raw[1:])
			}
			body := make([]byte, n)
			if got, err := io.ReadFull(r, body); err != nil {
				return nil, 0, fmt.Errorf("packet cut off after % x: %w", append(raw, body[:got]...), err)
			}
			return append(raw, body...), len(raw), nil
		}
	}
	return nil, 0, fmt.Errorf("remaining length % x is longer than four bytes", raw[1:])
}

// decode reads one packet that a server sent, with every rule of form that the
// standard lays on it. It returns an error for whatever breaks one.
func decode(v version, raw []byte, head int) (*packet, error) {
	p := &packet{typ: raw[0] >> 4, flags: raw[0] & 0x0f, size: len(raw), raw: raw}
	c := &cursor{b: raw[head:]}
	switch p.typ {
	case typePublish:
		decodePublish(v, p, c)
	case typePubrel:
		if p.flags != 2 {
			c.fail(fmt.Errorf("flags %04b, want 0010 [MQTT-3.6.1-1]", p.flags))
		}
	default:
		if p.flags != 0 {
			c.fail(fmt.Errorf("flags %04b, want 0000 [MQTT-2.2.2-1]", p.flags))
		}
	}
	switch p.typ {
	case typePublish:
	case typeConnack:
		flags := c.byte()
		if flags > 1 {
			c.fail(fmt.Errorf("acknowledge flags 0x%02x: bits 7 to 1 are reserved [MQTT-3.2.2-1]", flags))
		}
		p.present, p.code = flags == 1, c.byte()
		if v == v5 {
			p.props = c.props(p.typ)
		} else if p.code > 5 {
			c.fail(fmt.Errorf("return code %d is not defined", p.code))
		}
		if p.present && p.code != 0 {
			c.fail(errors.New("session present in a refusal"))
		}
	case typePuback, typePubrec, typePubrel, typePubcomp:
		p.id = c.u16()
		if v == v5 && len(c.b) > 0 {
			p.code = c.byte()
			if len(c.b) > 0 {
				p.props = c.props(p.typ)
			}
		}
	case typeSuback, typeUnsuback:
		p.id = c.u16()
		if v == v5 {
			p.props = c.props(p.typ)
		}
		if v == v5 || p.typ == typeSuback {
			p.codes = c.take(len(c.b))
			if len(p.codes) == 0 {
				c.fail(errors.New("no reason code"))
			}
		}
		for _, code := range p.codes {
			if v != v5 && code > 2 && code != 0x80 {
				c.fail(fmt.Errorf("SUBACK code 0x%02x is not defined [MQTT-3.9.3-2]", code))
			}
		}
	case typePingresp:
	case typeDisconnect:
		if v != v5 {
			c.fail(errors.New("a server sends no DISCONNECT before 5.0"))
			break
		}
		if len(c.b) > 0 {
			p.code = c.byte()
			if len(c.b) > 0 {
				p.props = c.props(p.typ)
			}
		}
	case typeAuth:
		if v != v5 {
			c.fail(errors.New("AUTH before 5.0"))
			break
		}
		if len(c.b) > 0 {
			p.code = c.byte()
			p.props = c.props(p.typ)
		}
	default:
		c.fail(errors.New("a server does not send this packet"))
	}
	if v == v5 {
		if list, ok := reasonCodes[p.typ]; ok {
			for _, code := range append([]byte{p.code}, p.codes...) {
				if !slices.Contains(list, code) {
					c.fail(fmt.Errorf("reason code 0x%02x is not one of a server's %s", code, typeNames[p.typ]))
				}
			}
		}
	}
	if p.id == 0 && p.typ >= typePuback && p.typ <= typeUnsuback {
		c.fail(errors.New("packet identifier 0"))
	}
	if c.err == nil && len(c.b) > 0 {
		c.fail(fmt.Errorf("%d surplus bytes", len(c.b)))
	}
	if c.err != nil {
		return nil, fmt.Errorf("malformed %s: %w", p, c.err)
	}
	return p, nil
}

func decodePublish(v version, p *packet, c *cursor) {
	p.dup, p.qos, p.retain = p.flags&8 != 0, p.flags>>1&3, p.flags&1 != 0
	if p.qos == 3 {
		c.fail(errors.New("QoS 3 [MQTT-3.3.1-4]"))
	}
	if p.qos == 0 && p.dup {
		c.fail(errors.New("QoS 0 with DUP 1 [MQTT-3.3.1-2]"))
	}
	p.topic = c.text()
	if strings.ContainsAny(p.topic, "+#") {
		c.fail(fmt.Errorf("wildcard in topic name %q [MQTT-3.3.2-2]", p.topic))
	}
	if p.qos > 0 {
		if p.id = c.u16(); p.id == 0 {
			c.fail(errors.New("packet identifier 0 [MQTT-2.2.1-4]"))
		}
	}
	if v == v5 {
		p.props = c.props(typePublish)
		if a, ok := p.props.find(propTopicAlias); ok && a.n == 0 {
			c.fail(errors.New("topic alias 0 [MQTT-3.3.2-8]"))
		}
	}
	if p.topic == "" && !p.props.has(propTopicAlias) {
		c.fail(errors.New("empty topic name with no alias [MQTT-4.7.3-1]"))
	}
	p.payload = string(c.b)
	c.b = nil
}
