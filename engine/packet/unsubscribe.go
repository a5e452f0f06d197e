package packet

// Unsubscribe is an UNSUBSCRIBE packet.
type Unsubscribe struct {
	PacketID uint16
	User     []UserProperty // 5.0 only
	Filters  []string       // at least one, none of them empty; Decode reuses the slice
}

// Type is TypeUnsubscribe.
func (u *Unsubscribe) Type() Type { return TypeUnsubscribe }

// Decode fills u from the flags of the fixed header and the body. Nothing in it aliases body.
func (u *Unsubscribe) Decode(v Version, flags byte, body []byte) (err error) {
	*u = Unsubscribe{Filters: u.Filters[:0]}
	if err := checkFlags(v, TypeUnsubscribe, flags); err != nil {
		return err
	}
	if u.PacketID, body, err = cutPacketID(body); err != nil {
		return err
	}
	if v >= V5 {
		var r properties
		if r, body, err = cutProperties(body, 1<<PropUser, 1<<PropUser); err != nil {
			return err
		}
		for len(r.rest) > 0 {
			p, err := r.next()
			if err != nil {
				return err
			}
			u.User = append(u.User, p.user())
		}
	}
	if len(body) == 0 { // [MQTT-3.10.3-2]
		return errNoFilters
	}
	for len(body) > 0 {
		var filter string
		if filter, body, err = cutString(body); err != nil { // [MQTT-3.10.3-1]
			return err
		}
		if filter == "" { // [MQTT-4.7.3-1]
			return errFilterEmpty
		}
		u.Filters = append(u.Filters, filter)
	}
	return nil
}

// Append appends the encoded packet to dst.
func (u *Unsubscribe) Append(dst []byte, v Version) []byte {
	at := len(dst)
	dst = appendUint16(dst, u.PacketID)
	if v == V5 {
		props := len(dst)
		dst = insertVarint(appendUsers(dst, u.User), props, 0)
	}
	for _, f := range u.Filters {
		dst = appendString(dst, f)
	}
	return finish(dst, at, byte(TypeUnsubscribe)<<4|2)
}
