package packet

// Connack is a CONNACK packet.
type Connack struct {
	SessionPresent bool
	// Code is the reason code; for 3.x Append sends what its ReturnCode gives, and Decode what FromReturnCode makes of it.
	Code ReasonCode

	// 5.0 only.

	SessionExpiry         Optional[uint32] // seconds; absent: what CONNECT said
	ReceiveMaximum        uint16           // DefaultReceiveMaximum if absent; Append leaves that out, and 0 too
	MaximumQoS            Optional[QoS]    // 0 or 1; absent: 2
	RetainUnavailable     bool
	MaximumPacketSize     uint32 // bytes, 0 if absent: no limit
	AssignedClientID      string // "" if absent
	TopicAliasMaximum     uint16 // absent means 0
	Reason                string // reason string, "" for none
	User                  []UserProperty
	WildcardUnavailable   bool
	SubIDsUnavailable     bool
	SharedSubsUnavailable bool
	ServerKeepAlive       Optional[uint16] // seconds
	ResponseInformation   string           // "" if absent
	ServerReference       string           // "" if absent
	AuthMethod            string           // "" if absent
	AuthData              []byte           // nil if absent; aliases the body
}

const connackAllowed = propertySet(1<<PropSessionExpiry | 1<<PropReceiveMaximum | 1<<PropMaximumQoS | 1<<PropRetainAvailable |
	1<<PropMaximumPacketSize | 1<<PropAssignedClientID | 1<<PropTopicAliasMaximum | 1<<PropReasonString | 1<<PropUser |
	1<<PropWildcardAvailable | 1<<PropSubIDAvailable | 1<<PropSharedSubAvailable | 1<<PropServerKeepAlive |
	1<<PropResponseInfo | 1<<PropServerReference | 1<<PropAuthMethod | 1<<PropAuthData)

// Type is TypeConnack.
func (c *Connack) Type() Type { return TypeConnack }

// Decode fills c from the flags of the fixed header and the body.
func (c *Connack) Decode(v Version, flags byte, body []byte) error {
	*c = Connack{ReceiveMaximum: DefaultReceiveMaximum}
	if flags != 0 {
		return errFlags
	}
	if len(body) < 2 {
		return errShort
	}
	if body[0] > 1 && v != V31 { // [MQTT-3.2.2-1]; 3.1 leaves the byte undefined
		return errConnackFlags
	}
	c.SessionPresent = body[0]&1 != 0 && v != V31
	code := body[1]
	body = body[2:]
	if v < V5 {
		c.Code = FromReturnCode(code)
		if len(body) > 0 {
			return errLeftover
		}
		if code > 5 {
			return errCode
		}
	} else {
		c.Code = ReasonCode(code)
		if !connackCodeAllowed(c.Code) {
			return errCode
		}
	}
	if c.SessionPresent && c.Code != Success { // [MQTT-3.2.2-4] [MQTT-3.2.2-6]
		return errSessionPresent
	}
	if v < V5 {
		return nil
	}
	r, body, err := cutProperties(body, connackAllowed, 1<<PropUser)
	if err != nil {
		return err
	}
	for len(r.rest) > 0 {
		p, err := r.next()
		if err != nil {
			return err
		}
		if err := c.set(p); err != nil {
			return err
		}
	}
	if c.AuthData != nil && c.AuthMethod == "" {
		return errAuthData
	}
	if len(body) > 0 {
		return errLeftover
	}
	return nil
}

// set takes one property over.
func (c *Connack) set(p property) error {
	switch p.id {
	case PropSessionExpiry:
		c.SessionExpiry = Some(p.n)
	case PropReceiveMaximum:
		c.ReceiveMaximum = uint16(p.n)
	case PropMaximumQoS:
		c.MaximumQoS = Some(QoS(p.n))
	case PropRetainAvailable:
		c.RetainUnavailable = p.n == 0
	case PropMaximumPacketSize:
		c.MaximumPacketSize = p.n
	case PropAssignedClientID:
		c.AssignedClientID = string(p.data)
	case PropTopicAliasMaximum:
		c.TopicAliasMaximum = uint16(p.n)
	case PropReasonString:
		c.Reason = string(p.data)
	case PropUser:
		c.User = append(c.User, p.user())
	case PropWildcardAvailable:
		c.WildcardUnavailable = p.n == 0
	case PropSubIDAvailable:
		c.SubIDsUnavailable = p.n == 0
	case PropSharedSubAvailable:
		c.SharedSubsUnavailable = p.n == 0
	case PropServerKeepAlive:
		c.ServerKeepAlive = Some(uint16(p.n))
	case PropResponseInfo:
		c.ResponseInformation = string(p.data)
	case PropServerReference:
		c.ServerReference = string(p.data)
	case PropAuthMethod:
		if len(p.data) == 0 {
			return errAuthMethod
		}
		c.AuthMethod = string(p.data)
	case PropAuthData:
		c.AuthData = p.data
	}
	return nil
}

// connackCodeAllowed knows the table of [MQTT-3.2.2-8].
func connackCodeAllowed(c ReasonCode) bool {
	switch c {
	case Success, UnspecifiedError, MalformedPacket, ProtocolError, ImplementationSpecificError, UnsupportedProtocolVersion,
		ClientIdentifierNotValid, BadUserNameOrPassword, NotAuthorized, ServerUnavailable, ServerBusy, Banned,
		BadAuthenticationMethod, TopicNameInvalid, PacketTooLarge, QuotaExceeded, PayloadFormatInvalid, RetainNotSupported,
		QoSNotSupported, UseAnotherServer, ServerMoved, ConnectionRateExceeded:
		return true
	}
	return false
}

// Append appends the encoded packet to dst. For 3.x it appends nothing if no return code stands for c.Code [MQTT-3.2.2-6].
// Any version below V5 that is not V31 is encoded as 3.1.1.
func (c *Connack) Append(dst []byte, v Version) []byte {
	var present byte
	if c.SessionPresent && c.Code == Success && v != V31 { // [MQTT-3.2.2-4] [MQTT-3.2.2-6]
		present = 1
	}
	if v != V5 {
		code, ok := c.Code.ReturnCode()
		if !ok {
			return dst
		}
		return append(dst, byte(TypeConnack)<<4, 2, present, code)
	}
	at := len(dst)
	dst = append(dst, present, byte(c.Code))
	props := len(dst)
	if c.SessionExpiry.Set {
		dst = appendUint32Property(dst, PropSessionExpiry, c.SessionExpiry.Value)
	}
	if c.ReceiveMaximum != 0 && c.ReceiveMaximum != DefaultReceiveMaximum {
		dst = appendUint16Property(dst, PropReceiveMaximum, c.ReceiveMaximum)
	}
	if c.MaximumQoS.Set && c.MaximumQoS.Value < 2 {
		dst = append(dst, byte(PropMaximumQoS), byte(c.MaximumQoS.Value))
	}
	if c.RetainUnavailable {
		dst = appendBool(dst, PropRetainAvailable, false)
	}
	if c.MaximumPacketSize != 0 {
		dst = appendUint32Property(dst, PropMaximumPacketSize, c.MaximumPacketSize)
	}
	dst = appendText(dst, PropAssignedClientID, c.AssignedClientID)
	if c.TopicAliasMaximum != 0 {
		dst = appendUint16Property(dst, PropTopicAliasMaximum, c.TopicAliasMaximum)
	}
	dst = appendText(dst, PropReasonString, c.Reason)
	dst = appendUsers(dst, c.User)
	if c.WildcardUnavailable {
		dst = appendBool(dst, PropWildcardAvailable, false)
	}
	if c.SubIDsUnavailable {
		dst = appendBool(dst, PropSubIDAvailable, false)
	}
	if c.SharedSubsUnavailable {
		dst = appendBool(dst, PropSharedSubAvailable, false)
	}
	if c.ServerKeepAlive.Set {
		dst = appendUint16Property(dst, PropServerKeepAlive, c.ServerKeepAlive.Value)
	}
	dst = appendText(dst, PropResponseInfo, c.ResponseInformation)
	dst = appendText(dst, PropServerReference, c.ServerReference)
	dst = appendAuth(dst, c.AuthMethod, c.AuthData)
	return finish(insertVarint(dst, props, 0), at, byte(TypeConnack)<<4)
}
