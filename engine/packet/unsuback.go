package packet

// Unsuback is an UNSUBACK packet.
type Unsuback struct {
	PacketID uint16

	// 5.0 only.

	// Codes has one reason code for each filter of the UNSUBSCRIBE, in its order [MQTT-3.11.3-1]. Decode reuses the
	// slice.
	Codes  []ReasonCode
	Reason string // reason string, "" for none
	User   []UserProperty
}

// Type is TypeUnsuback.
func (u *Unsuback) Type() Type { return TypeUnsuback }

// Decode fills u from the flags of the fixed header and the body. Nothing in it aliases body.
func (u *Unsuback) Decode(v Version, flags byte, body []byte) (err error) {
	*u = Unsuback{Codes: u.Codes[:0]}
	if flags != 0 {
		return errFlags
	}
	if u.PacketID, body, err = cutPacketID(body); err != nil {
		return err
	}
	if v < V5 {
		if len(body) > 0 {
			return errLeftover
		}
		return nil
	}
	if u.Reason, u.User, body, err = cutReason(body); err != nil {
		return err
	}
	if len(body) == 0 {
		return errNoCodes
	}
	for _, c := range body {
		if c := ReasonCode(c); c != Success && c != NoSubscriptionExisted && !unsubackFailure(c) {
			return errCode
		}
		u.Codes = append(u.Codes, ReasonCode(c))
	}
	return nil
}

// unsubackFailure knows the failures of [MQTT-3.11.3-2].
func unsubackFailure(c ReasonCode) bool {
	switch c {
	case UnspecifiedError, ImplementationSpecificError, NotAuthorized, TopicFilterInvalid, PacketIdentifierInUse:
		return true
	}
	return false
}

// Append appends the encoded packet to dst.
func (u *Unsuback) Append(dst []byte, v Version) []byte {
	if v != V5 {
		return append(dst, byte(TypeUnsuback)<<4, 2, byte(u.PacketID>>8), byte(u.PacketID))
	}
	at := len(dst)
	dst = appendReason(appendUint16(dst, u.PacketID), u.Reason, u.User)
	for _, c := range u.Codes {
		dst = append(dst, byte(c))
	}
	return finish(dst, at, byte(TypeUnsuback)<<4)
}
