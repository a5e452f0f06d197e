package packet

// Suback is a SUBACK packet.
type Suback struct {
	PacketID uint16
	// Codes has one reason code for each filter of the SUBSCRIBE, in its order [MQTT-3.9.3-1]: the QoS granted, or a failure.
	// In 3.x every failure is sent as 0x80 [MQTT-3.9.3-2]; 3.1 knows no failure and has to be answered as granted. Decode reuses
	// the slice.
	Codes []ReasonCode

	// 5.0 only.
	Reason string // reason string, "" for none
	User   []UserProperty
}

// Type is TypeSuback.
func (s *Suback) Type() Type { return TypeSuback }

// Decode fills s from the flags of the fixed header and the body. Nothing in it aliases body.
func (s *Suback) Decode(v Version, flags byte, body []byte) (err error) {
	*s = Suback{Codes: s.Codes[:0]}
	if flags != 0 {
		return errFlags
	}
	if s.PacketID, body, err = cutPacketID(body); err != nil {
		return err
	}
	if v >= V5 {
		if s.Reason, s.User, body, err = cutReason(body); err != nil {
			return err
		}
	}
	if len(body) == 0 {
		return errNoCodes
	}
	for _, c := range body {
		if c := ReasonCode(c); c > GrantedQoS2 && c != UnspecifiedError && (v < V5 || !subackFailure(c)) {
			return errCode
		}
		s.Codes = append(s.Codes, ReasonCode(c))
	}
	return nil
}

// subackFailure knows the failures of [MQTT-3.9.3-2].
func subackFailure(c ReasonCode) bool {
	switch c {
	case SharedSubsNotSupported, SubscriptionIDsNotSupported, WildcardSubsNotSupported, QuotaExceeded:
		return true
	}
	return unsubackFailure(c)
}

// Append appends the encoded packet to dst.
func (s *Suback) Append(dst []byte, v Version) []byte {
	at := len(dst)
	dst = appendUint16(dst, s.PacketID)
	if v == V5 {
		dst = appendReason(dst, s.Reason, s.User)
	}
	for _, c := range s.Codes {
		if v != V5 && c.Failed() {
			c = UnspecifiedError
		}
		dst = append(dst, byte(c))
	}
	return finish(dst, at, byte(TypeSuback)<<4)
}
