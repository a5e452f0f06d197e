package packet

import "bytes"

// Subscribe is a SUBSCRIBE packet.
type Subscribe struct {
	PacketID       uint16
	SubscriptionID uint32 // 5.0 only: 1 to MaxSubscriptionID, 0 for none
	User           []UserProperty
	Filters        []Subscription // at least one; Decode reuses the slice
}

// Subscription is one topic filter of a SUBSCRIBE with its options. The zero options are those of QoS 0 in 3.x.
type Subscription struct {
	// Filter is not empty and valid UTF-8; whether it is a valid filter is a question for package topic, because the answer is
	// a reason code in SUBACK.
	Filter            string
	QoS               QoS
	NoLocal           bool // 5.0 only
	RetainAsPublished bool // 5.0 only
	RetainHandling    byte // 5.0 only: one of the RetainX constants
}

// The values of Retain Handling: when retained messages are sent.
const (
	RetainSend      = 0 // at every SUBSCRIBE [MQTT-3.3.1-9]
	RetainSendIfNew = 1 // if the subscription did not exist [MQTT-3.3.1-10]
	RetainSendNever = 2 // [MQTT-3.3.1-11]
)

// Type is TypeSubscribe.
func (s *Subscribe) Type() Type { return TypeSubscribe }

// Decode fills s from the flags of the fixed header and the body. Nothing in it aliases body.
func (s *Subscribe) Decode(v Version, flags byte, body []byte) error {
	*s = Subscribe{Filters: s.Filters[:0]}
	if err := checkFlags(v, TypeSubscribe, flags); err != nil {
		return err
	}
	var err error
	if s.PacketID, body, err = cutPacketID(body); err != nil {
		return err
	}
	if v >= V5 {
		var r properties
		if r, body, err = cutProperties(body, 1<<PropSubscriptionID|1<<PropUser, 1<<PropUser); err != nil {
			return err
		}
		for len(r.rest) > 0 {
			p, err := r.next()
			if err != nil {
				return err
			}
			if p.id == PropSubscriptionID {
				s.SubscriptionID = p.n
			} else {
				s.User = append(s.User, p.user())
			}
		}
	}
	if len(body) == 0 { // [MQTT-3.8.3-3] [MQTT-3.8.3-2]
		return errNoFilters
	}
	for len(body) > 0 {
		var filter []byte
		if filter, body, err = cutUTF8(body); err != nil { // [MQTT-3.8.3-1]
			return err
		}
		if len(filter) == 0 { // [MQTT-4.7.3-1]
			return errFilterEmpty
		}
		if len(body) == 0 {
			return errShort
		}
		sub, err := decodeOptions(v, body[0], filter)
		if err != nil {
			return err
		}
		body = body[1:]
		s.Filters = append(s.Filters, sub)
	}
	return nil
}

// decodeOptions splits the options byte behind a filter.
func decodeOptions(v Version, o byte, filter []byte) (s Subscription, err error) {
	switch v {
	case V31:
		o &= 3 // the upper bits mean nothing in 3.1
	case V5:
		if o&0xC0 != 0 { // [MQTT-3.8.3-5]
			return s, errOptions
		}
	default:
		if o&0xFC != 0 { // [MQTT-3.8.3-4]
			return s, errOptions
		}
	}
	if o&3 == 3 {
		if v == V5 {
			return s, errOptionsQoS
		}
		return s, errQoS3
	}
	if o>>4&3 == 3 {
		return s, errRetainHandling
	}
	if o&4 != 0 && bytes.HasPrefix(filter, []byte("$share/")) { // [MQTT-3.8.3-4]
		return s, errNoLocalShared
	}
	return Subscription{string(filter), QoS(o & 3), o&4 != 0, o&8 != 0, o >> 4 & 3}, nil
}

// Append appends the encoded packet to dst.
func (s *Subscribe) Append(dst []byte, v Version) []byte {
	at := len(dst)
	dst = appendUint16(dst, s.PacketID)
	if v == V5 {
		props := len(dst)
		if s.SubscriptionID != 0 {
			dst = appendVarint(append(dst, byte(PropSubscriptionID)), int(s.SubscriptionID))
		}
		dst = insertVarint(appendUsers(dst, s.User), props, 0)
	}
	for _, f := range s.Filters {
		o := byte(f.QoS)
		if v == V5 {
			o |= f.RetainHandling << 4
			if f.NoLocal {
				o |= 4
			}
			if f.RetainAsPublished {
				o |= 8
			}
		}
		dst = append(appendString(dst, f.Filter), o)
	}
	return finish(dst, at, byte(TypeSubscribe)<<4|2)
}
