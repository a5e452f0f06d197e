package packet

// Disconnect is a DISCONNECT packet. In 3.x only clients send it, and it says nothing.
type Disconnect struct {
	// 5.0 only.

	Code            ReasonCode
	SessionExpiry   Optional[uint32] // seconds; never sent by a server [MQTT-3.14.2-2]
	Reason          string           // reason string, "" for none
	User            []UserProperty
	ServerReference string // "" if absent
}

const disconnectAllowed = reasonAllowed | 1<<PropSessionExpiry | 1<<PropServerReference

// Type is TypeDisconnect.
func (d *Disconnect) Type() Type { return TypeDisconnect }

// Decode fills d from the flags of the fixed header and the body. Whether the sender may use the code and the session
// expiry interval is the receiver's question.
func (d *Disconnect) Decode(v Version, flags byte, body []byte) error {
	*d = Disconnect{}
	if flags != 0 { // [MQTT-3.14.1-1]
		return errFlags
	}
	if len(body) == 0 {
		return nil
	}
	if v < V5 {
		return errLeftover
	}
	d.Code = ReasonCode(body[0])
	if !disconnectCodeAllowed(d.Code) {
		return errCode
	}
	if len(body) == 1 {
		return nil
	}
	r, body, err := cutProperties(body[1:], disconnectAllowed, 1<<PropUser)
	if err != nil {
		return err
	}
	for len(r.rest) > 0 {
		p, err := r.next()
		if err != nil {
			return err
		}
		switch p.id {
		case PropSessionExpiry:
			d.SessionExpiry = Some(p.n)
		case PropReasonString:
			d.Reason = string(p.data)
		case PropServerReference:
			d.ServerReference = string(p.data)
		case PropUser:
			d.User = append(d.User, p.user())
		}
	}
	if len(body) > 0 {
		return errLeftover
	}
	return nil
}

// disconnectCodeAllowed knows the table of [MQTT-3.14.2-1].
func disconnectCodeAllowed(c ReasonCode) bool {
	switch c {
	case NormalDisconnection, DisconnectWithWill, UnspecifiedError, MalformedPacket, ProtocolError,
		ImplementationSpecificError, NotAuthorized, ServerBusy, ServerShuttingDown, BadAuthenticationMethod:
		return true // the table leaves the last one out, but section 2.4 has it for DISCONNECT
	}
	return c >= KeepAliveTimeout && c <= WildcardSubsNotSupported && c != PacketIdentifierInUse && c != PacketIdentifierNotFound
}

// Append appends the encoded packet to dst, in the shortest form that holds it.
func (d *Disconnect) Append(dst []byte, v Version) []byte {
	first := byte(TypeDisconnect) << 4
	if v != V5 {
		return append(dst, first, 0)
	}
	if !d.SessionExpiry.Set && d.Reason == "" && len(d.User) == 0 && d.ServerReference == "" {
		if d.Code == NormalDisconnection {
			return append(dst, first, 0)
		}
		return append(dst, first, 1, byte(d.Code))
	}
	at := len(dst)
	dst = append(dst, byte(d.Code))
	props := len(dst)
	if d.SessionExpiry.Set {
		dst = appendUint32Property(dst, PropSessionExpiry, d.SessionExpiry.Value)
	}
	dst = appendText(dst, PropReasonString, d.Reason)
	dst = appendUsers(dst, d.User)
	dst = appendText(dst, PropServerReference, d.ServerReference)
	return finish(insertVarint(dst, props, 0), at, first)
}
