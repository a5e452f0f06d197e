//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// Control packet types, already shifted into the high nibble of the first byte.
const (
	tConnect    = 1 << 4
	tConnack    = 2 << 4
	tPublish    = 3 << 4
	tPuback     = 4 << 4
	tPubrec     = 5 << 4
	tPubrel     = 6<<4 | 2
	tPubcomp    = 7 << 4
	tSubscribe  = 8<<4 | 2
	tSuback     = 9 << 4
	tDisconnect = 14 << 4
)

var errMalformed = errors.New("malformed packet")

// nextPacket splits the first complete control packet off b. n is its full
// length, or 0 when b does not hold a complete packet yet.
func nextPacket(b []byte) (first byte, body []byte, n int, err error) {
	length, shift := 0, 0
	for i := 1; i < len(b); i++ {
		length |= int(b[i]&0x7f) << shift
		if b[i] < 0x80 {
			n = i + 1 + length
			if len(b) < n {
				return 0, nil, 0, nil
			}
			return b[0], b[i+1 : n], n, nil
		}
		if shift += 7; shift > 21 {
			return 0, nil, 0, errMalformed
		}
	}
	return 0, nil, 0, nil
}

// uvarint reads MQTT's variable byte integer; n is 0 when b is malformed.
func uvarint(b []byte) (v, n int) {
	for i := 0; i < len(b) && i < 4; i++ {
		v |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

func appendUvarint(b []byte, v int) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// appendConnect adds a clean-session CONNECT without keep-alive. version is 4
// (3.1.1) or 5.
func appendConnect(b []byte, version byte, clientID string) []byte {
	length := 2 + 4 + 1 + 1 + 2 + 2 + len(clientID)
	if version == 5 {
		length++
	}
	b = appendUvarint(append(b, tConnect), length)
	b = appendString(b, "MQTT")
	b = append(b, version, 0x02, 0, 0)
	if version == 5 {
		b = append(b, 0)
	}
	return appendString(b, clientID)
}

// appendSubscribe adds one SUBSCRIBE for all filters.
func appendSubscribe(b []byte, version byte, pid uint16, qos byte, filters []string) []byte {
	length := 2
	if version == 5 {
		length++
	}
	for _, f := range filters {
		length += 2 + len(f) + 1
	}
	b = appendUvarint(append(b, tSubscribe), length)
	b = binary.BigEndian.AppendUint16(b, pid)
	if version == 5 {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = append(appendString(b, f), qos)
	}
	return b
}

// publishHead is everything of a PUBLISH before its payload.
type publishHead struct {
	version, qos byte
	retain       bool
	pid          uint16
}

func (h publishHead) append(b, topic []byte, payloadLen int) []byte {
	length := 2 + len(topic) + payloadLen
	if h.qos > 0 {
		length += 2
	}
	if h.version == 5 {
		length++
	}
	first := byte(tPublish) | h.qos<<1
	if h.retain {
		first |= 1
	}
	b = appendUvarint(append(b, first), length)
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	if h.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, h.pid)
	}
	if h.version == 5 {
		b = append(b, 0)
	}
	return b
}

// parsePublish returns what a subscriber needs of a PUBLISH body.
func parsePublish(version, first byte, body []byte) (pid uint16, payload []byte, err error) {
	if len(body) < 2 {
		return 0, nil, errMalformed
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	if first>>1&3 > 0 {
		if len(body) < at+2 {
			return 0, nil, errMalformed
		}
		pid = binary.BigEndian.Uint16(body[at:])
		at += 2
	}
	if version == 5 {
		if len(body) < at {
			return 0, nil, errMalformed
		}
		n, used := uvarint(body[at:])
		if used == 0 {
			return 0, nil, errMalformed
		}
		at += used + n
	}
	if len(body) < at {
		return 0, nil, errMalformed
	}
	return pid, body[at:], nil
}

// appendAck adds a PUBACK, PUBREC, PUBREL or PUBCOMP in its short form.
func appendAck(b []byte, typ byte, pid uint16) []byte {
	return append(b, typ, 2, byte(pid>>8), byte(pid))
}

// parseAck reads the packet identifier of a PUBACK and its relatives.
func parseAck(body []byte) (pid uint16, err error) {
	if len(body) < 2 {
		return 0, errMalformed
	}
	pid = binary.BigEndian.Uint16(body)
	if len(body) > 2 && body[2] >= 0x80 {
		return pid, errors.New("acknowledgement with reason code " + strconv.Itoa(int(body[2])))
	}
	return pid, nil
}

// subackCodes returns the reason codes of a SUBACK.
func subackCodes(version byte, body []byte) ([]byte, error) {
	at := 2
	if version == 5 && len(body) > at {
		n, used := uvarint(body[at:])
		if used == 0 {
			return nil, errMalformed
		}
		at += used + n
	}
	if len(body) < at {
		return nil, errMalformed
	}
	return body[at:], nil
}

// Every payload starts with a stamp: the run it belongs to, who sent it, which
// one it is, and when it was due to be sent. The rest is filler.
const stampLen = 20

// runTag tells this run's messages from another's that a broker still held.
var runTag uint32

func putStamp(payload []byte, pub, seq uint32, at int64) {
	binary.LittleEndian.PutUint32(payload, pub)
	binary.LittleEndian.PutUint32(payload[4:], seq)
	binary.LittleEndian.PutUint64(payload[8:], uint64(at))
	binary.LittleEndian.PutUint32(payload[16:], runTag)
}

func getStamp(payload []byte) (pub, seq uint32, at int64, ok bool) {
	if len(payload) < stampLen || binary.LittleEndian.Uint32(payload[16:]) != runTag {
		return 0, 0, 0, false
	}
	return binary.LittleEndian.Uint32(payload), binary.LittleEndian.Uint32(payload[4:]),
		int64(binary.LittleEndian.Uint64(payload[8:])), true
}
