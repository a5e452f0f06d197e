package packet

// Connect is a CONNECT packet.
type Connect struct {
	// Version is the protocol level. After an error it is what the client asked for, if Decode came that far, and so the
	// level with which a refusal can be encoded: V5 for reason codes, anything else for the return codes of 3.x.
	Version    Version
	CleanStart bool   // called Clean Session in 3.x
	KeepAlive  uint16 // seconds, 0 for none
	ClientID   string // may be empty; which ones are acceptable is the server's rule
	Will       *Will  // nil for none

	HasUsername bool
	Username    string
	HasPassword bool
	Password    []byte // aliases the body

	// 5.0 only.

	SessionExpiry     uint32 // seconds, SessionNeverExpires for ever; absent means 0
	ReceiveMaximum    uint16 // DefaultReceiveMaximum if absent; Append leaves that out, and 0 too
	MaximumPacketSize uint32 // bytes, 0 if absent: no limit
	TopicAliasMaximum uint16 // absent means 0
	RequestResponse   bool   // the client asks for response information
	NoProblemInfo     bool   // Request Problem Information is there and 0 [MQTT-3.1.2-29]
	User              []UserProperty
	AuthMethod        string // "" for none
	AuthData          []byte // nil if absent; aliases the body
}

// SessionNeverExpires is the session expiry interval that means for ever.
const SessionNeverExpires = 0xFFFFFFFF

// Will is the will message in a CONNECT.
type Will struct {
	Topic   string // a valid topic name
	Payload []byte // aliases the body
	QoS     QoS
	Retain  bool

	// 5.0 only.

	Delay      uint32     // will delay interval, seconds; absent means 0
	HasExpiry  bool       // there is a message expiry interval
	Expiry     uint32     // message expiry interval, seconds
	Properties Properties // passed on unaltered [MQTT-3.1.3-10]; aliases the body or is a copy
}

const (
	connectAllowed = propertySet(1<<PropSessionExpiry | 1<<PropReceiveMaximum | 1<<PropMaximumPacketSize |
		1<<PropTopicAliasMaximum | 1<<PropRequestResponseInfo | 1<<PropRequestProblemInfo | 1<<PropUser |
		1<<PropAuthMethod | 1<<PropAuthData)
	willAllowed = forwarded | 1<<PropWillDelay | 1<<PropMessageExpiry
)

// The bits of the connect flags.
const (
	connectReserved   = 0x01
	connectCleanStart = 0x02
	connectWill       = 0x04
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUsername   = 0x80
)

// Type is TypeConnect.
func (c *Connect) Type() Type { return TypeConnect }

// Decode fills c from the flags of the fixed header and the body; the version argument is not used, the body says it.
// Byte fields alias body. A protocol name or level that is not known gives UnsupportedProtocolVersion
// [MQTT-3.1.2-1] [MQTT-3.1.2-2]; see Version for how to answer.
func (c *Connect) Decode(_ Version, flags byte, body []byte) error {
	*c = Connect{}
	if flags != 0 {
		return errFlags
	}
	name, body, err := cutUTF8(body)
	if err != nil {
		return err
	}
	if len(body) < 1 {
		return errShort
	}
	level := Version(body[0])
	c.Version = level
	switch string(name) {
	case "MQTT":
		if level == V31 { // the level of the other name
			return errProtocolLevel
		}
	case "MQIsdp":
		if level != V31 {
			c.Version = V31
			return errProtocolLevel
		}
	default:
		return errProtocolName
	}
	if level < V31 || level > V5 {
		return errProtocolLevel
	}
	if len(body) < 4 {
		return errShort
	}
	bits := body[1]
	c.KeepAlive = uint16(body[2])<<8 | uint16(body[3])
	body = body[4:]
	if err := checkConnectFlags(level, bits); err != nil {
		return err
	}
	c.CleanStart = bits&connectCleanStart != 0
	if level == V5 {
		if body, err = c.decodeProperties(body); err != nil {
			return err
		}
	} else {
		c.ReceiveMaximum = DefaultReceiveMaximum
	}
	if c.ClientID, body, err = cutString(body); err != nil { // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
		return err
	}
	if bits&connectWill != 0 { // [MQTT-3.1.2-9]
		c.Will = &Will{QoS: QoS(bits >> 3 & 3), Retain: bits&connectWillRetain != 0}
		if body, err = c.Will.decode(level, body); err != nil {
			return err
		}
	}
	// In 3.1 the remaining length takes precedence over these two flags: the fields may be missing.
	missing := level == V31 && len(body) == 0
	if bits&connectUsername != 0 && !missing { // [MQTT-3.1.2-19] [MQTT-3.1.3-11] [MQTT-3.1.3-12]
		c.HasUsername = true
		if c.Username, body, err = cutString(body); err != nil {
			return err
		}
	}
	missing = level == V31 && len(body) == 0
	if bits&connectPassword != 0 && !missing { // [MQTT-3.1.2-21]
		c.HasPassword = true
		if c.Password, body, err = cutBytes(body); err != nil {
			return err
		}
	}
	if len(body) > 0 { // [MQTT-3.1.2-18] [MQTT-3.1.2-20] [MQTT-3.1.2-11]
		return errLeftover
	}
	return nil
}

func checkConnectFlags(v Version, bits byte) error {
	if bits>>3&3 == 3 { // [MQTT-3.1.2-14] [MQTT-3.1.2-12]
		return errWillQoS
	}
	if bits&connectPassword != 0 && bits&connectUsername == 0 && v != V5 { // [MQTT-3.1.2-22]
		return errPasswordAlone
	}
	if v == V31 { // bit 0, and the will bits without a will, mean nothing in 3.1
		return nil
	}
	if bits&connectReserved != 0 { // [MQTT-3.1.2-3]
		return errConnectFlags
	}
	if bits&connectWill == 0 && bits&(0x18|connectWillRetain) != 0 { // [MQTT-3.1.2-13] [MQTT-3.1.2-15] [MQTT-3.1.2-11]
		return errWillFlags
	}
	return nil
}

func (c *Connect) decodeProperties(body []byte) (rest []byte, err error) {
	r, rest, err := cutProperties(body, connectAllowed, 1<<PropUser)
	if err != nil {
		return nil, err
	}
	c.ReceiveMaximum = DefaultReceiveMaximum
	for len(r.rest) > 0 {
		v, err := r.next()
		if err != nil {
			return nil, err
		}
		switch v.id {
		case PropSessionExpiry:
			c.SessionExpiry = v.n
		case PropReceiveMaximum:
			c.ReceiveMaximum = uint16(v.n)
		case PropMaximumPacketSize:
			c.MaximumPacketSize = v.n
		case PropTopicAliasMaximum:
			c.TopicAliasMaximum = uint16(v.n)
		case PropRequestResponseInfo:
			c.RequestResponse = v.n == 1
		case PropRequestProblemInfo:
			c.NoProblemInfo = v.n == 0
		case PropUser:
			c.User = append(c.User, v.user())
		case PropAuthMethod:
			if len(v.data) == 0 {
				return nil, errAuthMethod
			}
			c.AuthMethod = string(v.data)
		case PropAuthData:
			c.AuthData = v.data
		}
	}
	if c.AuthData != nil && c.AuthMethod == "" {
		return nil, errAuthData
	}
	return rest, nil
}

// decode takes the will fields off the front of body.
func (w *Will) decode(v Version, body []byte) (rest []byte, err error) {
	if v == V5 {
		var r properties
		if r, body, err = cutProperties(body, willAllowed, 1<<PropUser); err != nil {
			return nil, err
		}
		var f forwardCollector
		for len(r.rest) > 0 {
			at := r.rest
			p, err := r.next()
			if err != nil {
				return nil, err
			}
			switch p.id {
			case PropWillDelay:
				w.Delay = p.n
			case PropMessageExpiry:
				w.HasExpiry, w.Expiry = true, p.n
			default:
				f.add(at[:len(at)-len(r.rest)])
			}
		}
		w.Properties = f.result
	}
	topic, body, err := cutBytes(body)
	if err != nil {
		return nil, err
	}
	if err := checkTopicName(topic); err != nil { // [MQTT-3.1.3-10] [MQTT-3.1.3-11]
		return nil, err
	}
	if len(topic) == 0 { // [MQTT-4.7.3-1]
		return nil, errTopicEmpty
	}
	w.Topic = string(topic)
	w.Payload, body, err = cutBytes(body)
	return body, err
}

// Append appends the encoded packet to dst. The version is c.Version; the argument is not used.
func (c *Connect) Append(dst []byte, _ Version) []byte {
	at := len(dst)
	if c.Version == V31 {
		dst = appendString(dst, "MQIsdp")
	} else {
		dst = appendString(dst, "MQTT")
	}
	var bits byte
	if c.CleanStart {
		bits |= connectCleanStart
	}
	if c.HasUsername {
		bits |= connectUsername
	}
	if c.HasPassword {
		bits |= connectPassword
	}
	if w := c.Will; w != nil {
		bits |= connectWill | byte(w.QoS)<<3
		if w.Retain {
			bits |= connectWillRetain
		}
	}
	dst = appendUint16(append(dst, byte(c.Version), bits), c.KeepAlive)
	if c.Version == V5 {
		dst = c.appendProperties(dst)
	}
	dst = appendString(dst, c.ClientID) // [MQTT-3.1.3-1]
	if w := c.Will; w != nil {
		if c.Version == V5 {
			props := len(dst)
			if w.Delay != 0 {
				dst = appendUint32Property(dst, PropWillDelay, w.Delay)
			}
			if w.HasExpiry {
				dst = appendUint32Property(dst, PropMessageExpiry, w.Expiry)
			}
			dst = insertVarint(append(dst, w.Properties...), props, 0)
		}
		dst = appendString(appendString(dst, w.Topic), w.Payload)
	}
	if c.HasUsername {
		dst = appendString(dst, c.Username)
	}
	if c.HasPassword {
		dst = appendString(dst, c.Password)
	}
	return finish(dst, at, byte(TypeConnect)<<4)
}

func (c *Connect) appendProperties(dst []byte) []byte {
	at := len(dst)
	if c.SessionExpiry != 0 {
		dst = appendUint32Property(dst, PropSessionExpiry, c.SessionExpiry)
	}
	if c.ReceiveMaximum != 0 && c.ReceiveMaximum != DefaultReceiveMaximum {
		dst = appendUint16Property(dst, PropReceiveMaximum, c.ReceiveMaximum)
	}
	if c.MaximumPacketSize != 0 {
		dst = appendUint32Property(dst, PropMaximumPacketSize, c.MaximumPacketSize)
	}
	if c.TopicAliasMaximum != 0 {
		dst = appendUint16Property(dst, PropTopicAliasMaximum, c.TopicAliasMaximum)
	}
	if c.RequestResponse {
		dst = appendBool(dst, PropRequestResponseInfo, true)
	}
	if c.NoProblemInfo {
		dst = appendBool(dst, PropRequestProblemInfo, false)
	}
	dst = appendUsers(dst, c.User)
	dst = appendAuth(dst, c.AuthMethod, c.AuthData)
	return insertVarint(dst, at, 0)
}

// appendAuth appends the properties of enhanced authentication that are there.
func appendAuth(dst []byte, method string, data []byte) []byte {
	dst = appendText(dst, PropAuthMethod, method)
	if data != nil {
		dst = appendString(append(dst, byte(PropAuthData)), data)
	}
	return dst
}
