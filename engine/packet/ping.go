package packet

// Pingreq is a PINGREQ packet.
type Pingreq struct{}

// Type is TypePingreq.
func (*Pingreq) Type() Type { return TypePingreq }

// Decode checks that flags are 0 and that there is no body.
func (*Pingreq) Decode(v Version, flags byte, body []byte) error {
	return checkBare(v, TypePingreq, flags, body)
}

// Append appends the encoded packet to dst.
func (*Pingreq) Append(dst []byte, _ Version) []byte { return append(dst, byte(TypePingreq)<<4, 0) }

// Pingresp is a PINGRESP packet.
type Pingresp struct{}

// Type is TypePingresp.
func (*Pingresp) Type() Type { return TypePingresp }

// Decode checks that flags are 0 and that there is no body.
func (*Pingresp) Decode(v Version, flags byte, body []byte) error {
	return checkBare(v, TypePingresp, flags, body)
}

// Append appends the encoded packet to dst.
func (*Pingresp) Append(dst []byte, _ Version) []byte { return append(dst, byte(TypePingresp)<<4, 0) }

func checkBare(v Version, t Type, flags byte, body []byte) error {
	if err := checkFlags(v, t, flags); err != nil {
		return err
	}
	if len(body) > 0 {
		return errLeftover
	}
	return nil
}
