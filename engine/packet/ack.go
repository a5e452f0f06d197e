package packet

import "encoding/binary"

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP packet: all have the same shape.
type Ack struct {
	Kind     Type // which of the four; to be set before Decode as well
	PacketID uint16
	Code     ReasonCode // always Success in 3.x

	// 5.0 only.
	Reason string // reason string, "" for none
	User   []UserProperty
}

const reasonAllowed = propertySet(1<<PropReasonString | 1<<PropUser)

// Type is a.Kind.
func (a *Ack) Type() Type { return a.Kind }

// Decode fills a from the flags of the fixed header and the body; a.Kind must be set. It allocates for a reason string and
// user properties only.
func (a *Ack) Decode(v Version, flags byte, body []byte) error {
	*a = Ack{Kind: a.Kind}
	if err := checkFlags(v, a.Kind, flags); err != nil {
		return err
	}
	if len(body) < 2 {
		return errShort
	}
	if a.PacketID = binary.BigEndian.Uint16(body); a.PacketID == 0 {
		return errPacketID
	}
	if len(body) == 2 {
		return nil
	}
	if v < V5 {
		return errLeftover
	}
	a.Code = ReasonCode(body[2])
	if !ackCodeAllowed(a.Kind, a.Code) {
		return errCode
	}
	if len(body) == 3 {
		return nil
	}
	var err error
	a.Reason, a.User, body, err = cutReason(body[3:])
	if err == nil && len(body) > 0 {
		err = errLeftover
	}
	return err
}

// ackCodeAllowed knows the tables of [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1] and [MQTT-3.7.2-1].
func ackCodeAllowed(kind Type, c ReasonCode) bool {
	if c == Success {
		return true
	}
	if kind == TypePubrel || kind == TypePubcomp {
		return c == PacketIdentifierNotFound
	}
	switch c {
	case NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized, TopicNameInvalid,
		PacketIdentifierInUse, QuotaExceeded, PayloadFormatInvalid:
		return true
	}
	return false
}

// cutReason takes a property block of reason string and user properties off the front of body.
func cutReason(body []byte) (reason string, users []UserProperty, rest []byte, err error) {
	r, rest, err := cutProperties(body, reasonAllowed, 1<<PropUser)
	if err != nil {
		return "", nil, nil, err
	}
	for len(r.rest) > 0 {
		v, err := r.next()
		if err != nil {
			return "", nil, nil, err
		}
		if v.id == PropReasonString {
			reason = string(v.data)
		} else {
			users = append(users, v.user())
		}
	}
	return reason, users, rest, nil
}

// Append appends the encoded packet to dst, in the shortest form that holds it.
func (a *Ack) Append(dst []byte, v Version) []byte {
	if v != V5 || a.Reason == "" && len(a.User) == 0 {
		return AppendAck(dst, v, a.Kind, a.PacketID, a.Code)
	}
	at := len(dst)
	dst = append(appendUint16(dst, a.PacketID), byte(a.Code))
	dst = appendReason(dst, a.Reason, a.User)
	return finish(dst, at, byte(a.Kind)<<4|ackFlags(a.Kind))
}

// appendReason appends a property block of reason string and user properties.
func appendReason(dst []byte, reason string, users []UserProperty) []byte {
	at := len(dst)
	dst = appendText(dst, PropReasonString, reason)
	dst = appendUsers(dst, users)
	return insertVarint(dst, at, 0)
}

func ackFlags(kind Type) byte {
	if kind == TypePubrel { // [MQTT-3.6.1-1]
		return 2
	}
	return 0
}

// AppendAck appends an encoded PUBACK, PUBREC, PUBREL or PUBCOMP without properties to dst. The code is left out in 3.x.
func AppendAck(dst []byte, v Version, kind Type, id uint16, code ReasonCode) []byte {
	first := byte(kind)<<4 | ackFlags(kind)
	if v != V5 || code == Success {
		return append(dst, first, 2, byte(id>>8), byte(id))
	}
	return append(dst, first, 3, byte(id>>8), byte(id), byte(code))
}
