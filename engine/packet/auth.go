package packet

// Auth is an AUTH packet, which only 5.0 has.
type Auth struct {
	Code   ReasonCode // Success, ContinueAuthentication or ReAuthenticate
	Method string     // "" if absent: a protocol error, unless Code is Success
	Data   []byte     // nil if absent; aliases the body
	Reason string     // reason string, "" for none
	User   []UserProperty
}

const authAllowed = reasonAllowed | 1<<PropAuthMethod | 1<<PropAuthData

// Type is TypeAuth.
func (a *Auth) Type() Type { return TypeAuth }

// Decode fills a from the flags of the fixed header and the body.
func (a *Auth) Decode(v Version, flags byte, body []byte) error {
	*a = Auth{}
	if v < V5 {
		return errType
	}
	if flags != 0 { // [MQTT-3.15.1-1]
		return errFlags
	}
	if len(body) == 0 {
		return nil
	}
	a.Code = ReasonCode(body[0])
	if a.Code != Success && a.Code != ContinueAuthentication && a.Code != ReAuthenticate { // [MQTT-3.15.2-1]
		return errCode
	}
	r, body, err := cutProperties(body[1:], authAllowed, 1<<PropUser)
	if err != nil {
		return err
	}
	for len(r.rest) > 0 {
		p, err := r.next()
		if err != nil {
			return err
		}
		switch p.id {
		case PropAuthMethod:
			if len(p.data) == 0 {
				return errNoMethod
			}
			a.Method = string(p.data)
		case PropAuthData:
			a.Data = p.data
		case PropReasonString:
			a.Reason = string(p.data)
		case PropUser:
			a.User = append(a.User, p.user())
		}
	}
	if len(body) > 0 {
		return errLeftover
	}
	if a.Method == "" && (a.Code != Success || a.Data != nil) {
		return errNoMethod
	}
	return nil
}

// Append appends the encoded packet to dst.
func (a *Auth) Append(dst []byte, _ Version) []byte {
	first := byte(TypeAuth) << 4
	if a.Code == Success && a.Method == "" && a.Data == nil && a.Reason == "" && len(a.User) == 0 {
		return append(dst, first, 0)
	}
	at := len(dst)
	dst = append(dst, byte(a.Code))
	props := len(dst)
	dst = appendAuth(dst, a.Method, a.Data)
	dst = appendText(dst, PropReasonString, a.Reason)
	dst = appendUsers(dst, a.User)
	return finish(insertVarint(dst, props, 0), at, first)
}
