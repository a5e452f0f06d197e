package packet

// AppendWithin appends the encoded packet p to dst like p.Append, but holds it to limit, the maximum packet size of the
// receiver in bytes (0 for none): user properties are left out if they make the packet too large, and then the reason string
// [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4].
// A packet that is too large even so must not be sent [MQTT-3.1.2-24]: then dst comes back as it was.
func AppendWithin(dst []byte, v Version, p Packet, limit uint32) []byte {
	at := len(dst)
	dst = p.Append(dst, v)
	if limit == 0 || uint64(len(dst)-at) <= uint64(limit) {
		return dst
	}
	for _, q := range trimmed(p) {
		dst = q.Append(dst[:at], v)
		if uint64(len(dst)-at) <= uint64(limit) {
			return dst
		}
	}
	return dst[:at]
}

// trimmed gives copies of p that say less: without user properties, and without a reason string as well.
func trimmed(p Packet) []Packet {
	switch p := p.(type) {
	case *Connack:
		a, b := *p, *p
		a.User, b.User, b.Reason = nil, nil, ""
		return []Packet{&a, &b}
	case *Ack:
		a, b := *p, *p
		a.User, b.User, b.Reason = nil, nil, ""
		return []Packet{&a, &b}
	case *Suback:
		a, b := *p, *p
		a.User, b.User, b.Reason = nil, nil, ""
		return []Packet{&a, &b}
	case *Unsuback:
		a, b := *p, *p
		a.User, b.User, b.Reason = nil, nil, ""
		return []Packet{&a, &b}
	case *Disconnect:
		a, b := *p, *p
		a.User, b.User, b.Reason = nil, nil, ""
		return []Packet{&a, &b}
	case *Auth:
		a, b := *p, *p
		a.User, b.User, b.Reason = nil, nil, ""
		return []Packet{&a, &b}
	}
	return nil
}
