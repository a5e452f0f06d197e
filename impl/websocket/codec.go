package websocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/gobwas/ws"

	"github.com/lacewing-mqtt/lacewing/engine/transport"
)

// The reasons for which a connection is ended that does not keep to the
// protocol. The client gets the close code that RFC 6455 has for each.
var (
	ErrFrame    = errors.New("malformed websocket frame")
	ErrNoBinary = errors.New("websocket frame is not binary")
	ErrTooLarge = errors.New("websocket frame is too large")
)

const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	finBit     = 0x80
	maskBit    = 0x80
	maxControl = 125 // bytes in a control frame
	maxHeader  = 14
)

// codec is the state of one connection between two reads: the frame that is
// being read. It is a transport.Codec.
type codec struct {
	maxFrame int64

	header  [maxHeader]byte // the part of a header that has come
	have    uint8           // bytes in header
	op      byte            // of the current frame
	inFrame bool            // the header is complete; left bytes of payload are to come
	inData  bool            // a message was begun and its last frame has not come
	left    int64
	mask    [4]byte
	at      int    // bytes of the payload seen, for the mask
	control []byte // the payload of a control frame so far
	closed  atomic.Bool
}

// Decode takes frames apart. MQTT packets and frames have nothing to do with
// each other [MQTT-6.0.0-2].
func (c *codec) Decode(p, answer []byte) (payload []byte, used int, answered []byte, err error) {
	if !c.inFrame {
		used = c.readHeader(p)
		if !c.inFrame {
			return nil, used, answer, nil
		}
		if err := c.checkHeader(); err != nil {
			return nil, used, c.refuse(answer, err), err
		}
		p = p[used:]
	}
	n := int(min(int64(len(p)), c.left))
	payload = p[:n]
	used += n
	ws.Cipher(payload, c.mask, c.at)
	c.at += n
	c.left -= int64(n)
	if c.op >= opClose {
		c.control = append(c.control, payload...)
		payload = nil
	}
	if c.left == 0 {
		c.inFrame, c.have, c.at = false, 0, 0
		if c.op >= opClose {
			answer, err = c.answerControl(answer)
			c.control = nil
		}
	}
	return payload, used, answer, err
}

// readHeader collects a header and returns how much of p belongs to it.
func (c *codec) readHeader(p []byte) (used int) {
	for {
		need := 2
		if c.have >= 2 {
			need = headerLen(c.header[1])
		}
		n := copy(c.header[c.have:need], p[used:])
		c.have += uint8(n)
		used += n
		if int(c.have) < need {
			return used
		}
		if need == headerLen(c.header[1]) {
			c.inFrame = true
			return used
		}
	}
}

// headerLen is the length of a header whose second byte is b.
func headerLen(b byte) int {
	n := 2
	switch b &^ maskBit {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if b&maskBit != 0 {
		n += 4
	}
	return n
}

// checkHeader reads the header and judges it.
func (c *codec) checkHeader() error {
	h := c.header[:]
	fin, masked := h[0]&finBit != 0, h[1]&maskBit != 0
	c.op = h[0] & 0x0f
	at := 2
	switch n := h[1] &^ maskBit; n {
	case 126:
		c.left = int64(binary.BigEndian.Uint16(h[2:]))
		at = 4
	case 127:
		v := binary.BigEndian.Uint64(h[2:])
		if v>>63 != 0 {
			return fmt.Errorf("%w: length has its first bit set", ErrFrame)
		}
		c.left = int64(v)
		at = 10
	default:
		c.left = int64(n)
	}
	switch {
	case h[0]&0x70 != 0:
		return fmt.Errorf("%w: reserved bits without an extension", ErrFrame)
	case !masked:
		return fmt.Errorf("%w: not masked", ErrFrame)
	case c.op >= opClose && (!fin || c.left > maxControl):
		return fmt.Errorf("%w: control frame in parts or too long", ErrFrame)
	}
	c.mask = [4]byte(h[at:])
	switch c.op {
	case opText:
		return ErrNoBinary // [MQTT-6.0.0-1]
	case opBinary, opContinuation:
		if (c.op == opContinuation) != c.inData {
			return fmt.Errorf("%w: continuation out of place", ErrFrame)
		}
		c.inData = !fin
	case opClose, opPing, opPong:
	default:
		return fmt.Errorf("%w: unknown opcode %d", ErrFrame, c.op)
	}
	if c.left > c.maxFrame {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, c.left)
	}
	return nil
}

// answerControl appends the answer to a complete control frame.
func (c *codec) answerControl(answer []byte) ([]byte, error) {
	switch c.op {
	case opPing:
		return append(append(answer, finBit|opPong, byte(len(c.control))), c.control...), nil
	case opClose:
		code := ws.StatusNormalClosure
		if len(c.control) > 0 {
			if len(c.control) == 1 {
				err := fmt.Errorf("%w: close code in one byte", ErrFrame)
				return c.refuse(answer, err), err
			}
			if code = ws.StatusCode(binary.BigEndian.Uint16(c.control)); !sendable(code) {
				code = ws.StatusProtocolError
			}
		}
		return c.appendClose(answer, code), io.EOF
	}
	return answer, nil
}

// sendable reports whether a close frame may carry the code.
func sendable(code ws.StatusCode) bool {
	return code >= 1000 && code < 5000 && code != 1004 && code != 1005 && code != 1006 && code != 1015
}

// refuse appends the close frame for an error.
func (c *codec) refuse(answer []byte, err error) []byte {
	code := ws.StatusProtocolError
	switch {
	case errors.Is(err, ErrNoBinary):
		code = ws.StatusUnsupportedData
	case errors.Is(err, ErrTooLarge):
		code = ws.StatusMessageTooBig
	}
	return c.appendClose(answer, code)
}

// appendClose appends a close frame, if none was sent yet.
func (c *codec) appendClose(dst []byte, code ws.StatusCode) []byte {
	if c.closed.Swap(true) {
		return dst
	}
	return binary.BigEndian.AppendUint16(append(dst, finBit|opClose, 2), uint16(code))
}

// Encode appends the header of a binary frame [MQTT-6.0.0-1].
func (c *codec) Encode(dst []byte, n int) []byte {
	dst = append(dst, finBit|opBinary)
	switch {
	case n < 126:
		return append(dst, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
}

// Bye appends a close frame: the broker ends the connection.
func (c *codec) Bye(dst []byte) []byte { return c.appendClose(dst, ws.StatusNormalClosure) }

var _ transport.Codec = (*codec)(nil)
