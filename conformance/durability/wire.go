package durability

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The packet types.
const (
	tConnect = iota + 1
	tConnack
	tPublish
	tPuback
	tPubrec
	tPubrel
	tPubcomp
	tSubscribe
	tSuback
	tUnsubscribe
	tUnsuback
	tPingreq
	tPingresp
	tDisconnect
)

// Properties of 5.0 that the clients send.
const (
	pSessionExpiry  = 0x11
	pWillDelay      = 0x18
	pReceiveMaximum = 0x21
)

// Reason codes of 5.0 that the suite asks for.
const (
	codeQuota    = 0x97 // quota exceeded
	codeNotFound = 0x92 // packet identifier not found
)

// packet is what came from the broker.
type packet struct {
	typ     byte
	dup     bool
	retain  bool
	qos     byte
	id      uint16
	topic   string
	payload []byte
	session bool   // CONNACK: session present
	code    byte   // of CONNACK, acknowledgements and DISCONNECT; 0 before 5.0
	codes   []byte // of SUBACK and UNSUBACK
}

// publication is a PUBLISH of a client.
type publication struct {
	topic       string
	payload     []byte
	qos         byte
	retain, dup bool
	id          uint16
}

// hello is a CONNECT. Without clean, a session of 5.0 has an expiry of an hour.
type hello struct {
	id        string
	clean     bool
	window    uint16 // receive maximum; 0: not told
	will      *publication
	willDelay uint32 // seconds
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

func connectBytes(v byte, h hello) []byte {
	b := appendText(nil, "MQTT")
	var flags byte
	if h.clean {
		flags = 2
	}
	if h.will != nil {
		flags |= 4 | h.will.qos<<3
	}
	b = append(b, v, flags, 0, 0) // no keep alive: the suite ends connections itself
	var p []byte
	if !h.clean {
		p = binary.BigEndian.AppendUint32(append(p, pSessionExpiry), 3600)
	}
	if h.window > 0 {
		p = binary.BigEndian.AppendUint16(append(p, pReceiveMaximum), h.window)
	}
	b = appendText(properties(b, v, p), h.id)
	if h.will != nil {
		b = properties(b, v, binary.BigEndian.AppendUint32([]byte{pWillDelay}, h.willDelay))
		b = appendText(appendText(b, h.will.topic), h.will.payload)
	}
	return frame(tConnect<<4, b)
}

func publishBytes(v byte, m publication) []byte {
	head := byte(tPublish<<4) | m.qos<<1
	if m.retain {
		head |= 1
	}
	if m.dup {
		head |= 8
	}
	b := appendText(nil, m.topic)
	if m.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, m.id)
	}
	return frame(head, append(properties(b, v, nil), m.payload...))
}

func ackBytes(typ byte, id uint16) []byte {
	head := typ << 4
	if typ == tPubrel {
		head |= 2
	}
	return frame(head, binary.BigEndian.AppendUint16(nil, id))
}

func subscribeBytes(v byte, id uint16, filter string, qos byte) []byte {
	b := properties(binary.BigEndian.AppendUint16(nil, id), v, nil)
	return frame(tSubscribe<<4|2, append(appendText(b, filter), qos))
}

func unsubscribeBytes(v byte, id uint16, filter string) []byte {
	b := properties(binary.BigEndian.AppendUint16(nil, id), v, nil)
	return frame(tUnsubscribe<<4|2, appendText(b, filter))
}

var errMalformed = errors.New("malformed packet")

// readPacket reads one packet of the broker.
func readPacket(r *bufio.Reader, v byte) (*packet, error) {
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

func decode(head byte, b []byte, v byte) (*packet, bool) {
	p, r := &packet{typ: head >> 4}, &body{b: b}
	switch p.typ {
	case tConnack:
		p.session = r.u8() == 1
		p.code = r.u8()
	case tPublish:
		p.dup, p.qos, p.retain = head&8 != 0, head>>1&3, head&1 != 0
		p.topic = string(r.take(int(r.u16())))
		if p.qos > 0 {
			p.id = r.u16()
		}
		r.skip(v)
		p.payload = r.b
	case tPuback, tPubrec, tPubrel, tPubcomp:
		if p.id = r.u16(); len(r.b) > 0 {
			p.code = r.u8()
		}
	case tSuback, tUnsuback:
		p.id = r.u16()
		r.skip(v)
		p.codes = r.b
	case tDisconnect:
		if len(r.b) > 0 {
			p.code = r.u8()
		}
	}
	return p, !r.bad
}
