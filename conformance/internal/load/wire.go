package load

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The packet types.
const (
	TypeConnect = iota + 1
	TypeConnack
	TypePublish
	TypePuback
	TypePubrec
	TypePubrel
	TypePubcomp
	TypeSubscribe
	TypeSuback
	TypeUnsubscribe
	TypeUnsuback
	TypePingreq
	TypePingresp
	TypeDisconnect
)

// Properties of 5.0 that the clients send.
const (
	pSessionExpiry  = 0x11
	pWillDelay      = 0x18
	pReceiveMaximum = 0x21
)

// Reason codes of 5.0 that the suite asks for.
const (
	CodeQuota    = 0x97 // quota exceeded
	codeNotFound = 0x92 // packet identifier not found
)

// Packet is what came from the broker.
type Packet struct {
	Type    byte
	Dup     bool
	Retain  bool
	QoS     byte
	ID      uint16
	Topic   string
	Payload []byte
	Session bool   // CONNACK: session present
	Code    byte   // of CONNACK, acknowledgements and DISCONNECT; 0 before 5.0
	Codes   []byte // of SUBACK and UNSUBACK
}

// Publication is a PUBLISH of a client.
type Publication struct {
	Topic       string
	Payload     []byte
	QoS         byte
	Retain, Dup bool
	ID          uint16
}

// Hello is a CONNECT. Without clean, a session of 5.0 has an expiry of an hour.
type Hello struct {
	ID        string
	Clean     bool
	Window    uint16 // receive maximum; 0: not told
	Will      *Publication
	WillDelay uint32 // seconds
}

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendVarint(b []byte, n int) []byte {
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func frame(head byte, body []byte) []byte {
	return append(appendVarint([]byte{head}, len(body)), body...)
}

// properties puts the length before properties; before 5.0 there are none.
func properties(b []byte, v byte, p []byte) []byte {
	if v < 5 {
		return b
	}
	return append(appendVarint(b, len(p)), p...)
}

func connectBytes(v byte, h Hello) []byte {
	b := appendText(nil, "MQTT")
	var flags byte
	if h.Clean {
		flags = 2
	}
	if h.Will != nil {
		flags |= 4 | h.Will.QoS<<3
	}
	b = append(b, v, flags, 0, 0) // no keep alive: the suite ends connections itself
	var p []byte
	if !h.Clean {
		p = binary.BigEndian.AppendUint32(append(p, pSessionExpiry), 3600)
	}
	if h.Window > 0 {
		p = binary.BigEndian.AppendUint16(append(p, pReceiveMaximum), h.Window)
	}
	b = appendText(properties(b, v, p), h.ID)
	if h.Will != nil {
		b = properties(b, v, binary.BigEndian.AppendUint32([]byte{pWillDelay}, h.WillDelay))
		b = appendText(appendText(b, h.Will.Topic), h.Will.Payload)
	}
	return frame(TypeConnect<<4, b)
}

func PublishBytes(v byte, m Publication) []byte {
	head := byte(TypePublish<<4) | m.QoS<<1
	if m.Retain {
		head |= 1
	}
	if m.Dup {
		head |= 8
	}
	b := appendText(nil, m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, m.ID)
	}
	return frame(head, append(properties(b, v, nil), m.Payload...))
}

func AckBytes(typ byte, id uint16) []byte {
	head := typ << 4
	if typ == TypePubrel {
		head |= 2
	}
	return frame(head, binary.BigEndian.AppendUint16(nil, id))
}

func SubscribeBytes(v byte, id uint16, filter string, qos byte) []byte {
	b := properties(binary.BigEndian.AppendUint16(nil, id), v, nil)
	return frame(TypeSubscribe<<4|2, append(appendText(b, filter), qos))
}

func unsubscribeBytes(v byte, id uint16, filter string) []byte {
	b := properties(binary.BigEndian.AppendUint16(nil, id), v, nil)
	return frame(TypeUnsubscribe<<4|2, appendText(b, filter))
}

var errMalformed = errors.New("malformed packet")

// readPacket reads one packet of the broker.
func readPacket(r *bufio.Reader, v byte) (*Packet, error) {
	head, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > 1<<28 {
		return nil, errMalformed
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	p, ok := decode(head, body, v)
	if !ok {
		return nil, fmt.Errorf("%w: %#x % x", errMalformed, head, body)
	}
	return p, nil
}

// body is what is left of a packet; bad says that it was too short.
type body struct {
	b   []byte
	bad bool
}

func (r *body) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *body) u8() byte    { return r.take(1)[0] }
func (r *body) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }

// skip passes over the properties.
func (r *body) skip(v byte) {
	if v < 5 {
		return
	}
	n, k := binary.Uvarint(r.b)
	if k <= 0 || n > uint64(len(r.b)-k) {
		r.bad = true
		return
	}
	r.b = r.b[k+int(n):]
}

func decode(head byte, b []byte, v byte) (*Packet, bool) {
	p, r := &Packet{Type: head >> 4}, &body{b: b}
	switch p.Type {
	case TypeConnack:
		p.Session = r.u8() == 1
		p.Code = r.u8()
	case TypePublish:
		p.Dup, p.QoS, p.Retain = head&8 != 0, head>>1&3, head&1 != 0
		p.Topic = string(r.take(int(r.u16())))
		if p.QoS > 0 {
			p.ID = r.u16()
		}
		r.skip(v)
		p.Payload = r.b
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		if p.ID = r.u16(); len(r.b) > 0 {
			p.Code = r.u8()
		}
	case TypeSuback, TypeUnsuback:
		p.ID = r.u16()
		r.skip(v)
		p.Codes = r.b
	case TypeDisconnect:
		if len(r.b) > 0 {
			p.Code = r.u8()
		}
	}
	return p, !r.bad
}
