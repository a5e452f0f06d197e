// Package packet is the codec of MQTT 3.1 (protocol name MQIsdp, level 3), 3.1.1 (level 4) and 5.0 (level 5).
//
// It does no I/O, takes no locks and knows no configuration. ParseHeader frames; every packet type is one small struct with
// Decode, which fills a struct owned by the caller from the body of a packet, and Append, which appends the whole packet,
// fixed header included, to a buffer. Decode of PUBLISH and of acknowledgements without a reason string or user properties,
// and every Append into a buffer that is large enough, allocate nothing. What Decode allocates otherwise is bounded by the
// length of its input.
//
// Errors are *Error values that are made once and hold the ReasonCode with which the connection ends; see CodeOf.
package packet

import "errors"

// Version is the protocol level byte of CONNECT. The zero Version stands for a connection that has not said CONNECT yet.
type Version byte

// The protocol levels that the codec knows.
const (
	V31  Version = 3 // MQTT 3.1, protocol name "MQIsdp"
	V311 Version = 4 // MQTT 3.1.1, protocol name "MQTT"
	V5   Version = 5 // MQTT 5.0, protocol name "MQTT"
)

// String gives the version as people write it: "3.1", "3.1.1" or "5.0"; "unknown" for any other level.
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return "unknown"
}

// Type is the control packet type, the upper four bits of the first byte of a packet.
type Type byte

// The control packet types. 0 is reserved and never valid.
const (
	TypeConnect     Type = 1
	TypeConnack     Type = 2
	TypePublish     Type = 3
	TypePuback      Type = 4
	TypePubrec      Type = 5
	TypePubrel      Type = 6
	TypePubcomp     Type = 7
	TypeSubscribe   Type = 8
	TypeSuback      Type = 9
	TypeUnsubscribe Type = 10
	TypeUnsuback    Type = 11
	TypePingreq     Type = 12
	TypePingresp    Type = 13
	TypeDisconnect  Type = 14
	TypeAuth        Type = 15 // MQTT 5.0 only
)

var typeNames = [16]string{"RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

// String gives the name of the type in capitals, as the specification prints it.
func (t Type) String() string { return typeNames[t&15] }

// QoS is a quality of service level, 0 to 2.
type QoS byte

// Valid reports whether q is 0, 1 or 2.
func (q QoS) Valid() bool { return q <= 2 }

// MaxRemaining is the largest remaining length that a fixed header can state, in bytes.
const MaxRemaining = 268_435_455

// MaxString is the largest length of a string or of binary data in a packet, in bytes. Append functions panic when a field
// is longer: its origin has to refuse it before.
const MaxString = 65_535

// Header is the fixed header of a packet.
type Header struct {
	Type      Type
	Flags     byte // the lower four bits of the first byte
	Remaining int  // length of the body, in bytes
}

// ErrIncomplete is returned by ParseHeader when buf ends within the fixed header and is right so far. It is no ReasonCode.
var ErrIncomplete = errors.New("packet: incomplete")

// ParseHeader reads the fixed header at the start of buf. n is its length, so that buf[n:n+h.Remaining] is the body, which
// need not be in buf yet. v is the version of the connection, 0 before CONNECT.
//
// The error is ErrIncomplete when more bytes are needed, else MalformedPacket: a reserved type, flags other than those of
// the table of the specification [MQTT-2.2.2-2] [MQTT-2.1.3-1], QoS 3 [MQTT-3.3.1-4], a remaining length of more than
// four bytes, and in 5.0 one that is not in its shortest form [MQTT-1.5.5-1].
func ParseHeader(v Version, buf []byte) (h Header, n int, err error) {
	if len(buf) == 0 {
		return h, 0, ErrIncomplete
	}
	h.Type, h.Flags = Type(buf[0]>>4), buf[0]&15
	if err := checkFlags(v, h.Type, h.Flags); err != nil {
		return h, 0, err
	}
	if len(buf) >= 2 && buf[1] < 0x80 {
		h.Remaining = int(buf[1])
		return h, 2, nil
	}
	for i := 1; i < len(buf); i++ {
		b := buf[i]
		h.Remaining |= int(b&0x7f) << (7 * (i - 1))
		if b < 0x80 {
			if b == 0 && v == V5 {
				return h, 0, errVarintForm
			}
			return h, i + 1, nil
		}
		if i == 4 {
			return h, 0, errVarintLong
		}
	}
	return h, 0, ErrIncomplete
}

// checkFlags holds the flags of a fixed header against the table of the specification.
func checkFlags(v Version, t Type, flags byte) error {
	switch t {
	case TypePublish:
		if flags&6 == 6 { // [MQTT-3.3.1-4]
			return errQoS3
		}
		return nil
	case TypePubrel, TypeSubscribe, TypeUnsubscribe: // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
		// In 3.1 these are sent at QoS 1 and may be sent again, with DUP.
		if flags == 2 || flags == 10 && v <= V31 {
			return nil
		}
		return errFlags
	case 0:
		return errType
	case TypeAuth:
		if v == V31 || v == V311 {
			return errType
		}
	}
	if flags != 0 {
		return errFlags
	}
	return nil
}

// Packet is what all packets have in common. Code that handles a known type uses that type itself.
type Packet interface {
	// Type is the control packet type.
	Type() Type
	// Decode fills the packet from the flags of the fixed header and the body.
	Decode(v Version, flags byte, body []byte) error
	// Append appends the encoded packet to dst.
	Append(dst []byte, v Version) []byte
}

// New gives an empty packet of type t to decode into, or nil if t is reserved.
func New(t Type) Packet {
	switch t {
	case TypeConnect:
		return new(Connect)
	case TypeConnack:
		return new(Connack)
	case TypePublish:
		return new(Publish)
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		return &Ack{Kind: t}
	case TypeSubscribe:
		return new(Subscribe)
	case TypeSuback:
		return new(Suback)
	case TypeUnsubscribe:
		return new(Unsubscribe)
	case TypeUnsuback:
		return new(Unsuback)
	case TypePingreq:
		return new(Pingreq)
	case TypePingresp:
		return new(Pingresp)
	case TypeDisconnect:
		return new(Disconnect)
	case TypeAuth:
		return new(Auth)
	}
	return nil
}
