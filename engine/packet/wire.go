package packet

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"
)

// cutUint16 takes a two byte integer off the front of b.
func cutUint16(b []byte) (n uint16, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, errShort
	}
	return binary.BigEndian.Uint16(b), b[2:], nil
}

// cutBytes takes binary data with its two byte length off the front of b. The data alias b and never is nil.
func cutBytes(b []byte) (data, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, errShort
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, nil, errShort
	}
	return b[2:n:n], b[n:], nil
}

// cutUTF8 is cutBytes with the rules for strings [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func cutUTF8(b []byte) (s, rest []byte, err error) {
	s, rest, err = cutBytes(b)
	if err == nil && !ValidString(s) {
		err = errUTF8
	}
	return s, rest, err
}

// cutString is cutUTF8 with a copy of the string.
func cutString(b []byte) (s string, rest []byte, err error) {
	u, rest, err := cutUTF8(b)
	if err != nil {
		return "", nil, err
	}
	return string(u), rest, nil
}

// cutVarint takes a variable byte integer off the front of b.
func cutVarint(b []byte) (n int, rest []byte, err error) {
	for i, c := range b {
		n |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 { // [MQTT-1.5.5-1]
				return 0, nil, errVarintForm
			}
			return n, b[i+1:], nil
		}
		if i == 3 {
			return 0, nil, errVarintLong
		}
	}
	return 0, nil, errShort
}

// cutPacketID takes a packet identifier off the front of b; 0 is an error [MQTT-2.3.1-1] [MQTT-2.2.1-3].
func cutPacketID(b []byte) (id uint16, rest []byte, err error) {
	id, rest, err = cutUint16(b)
	if err == nil && id == 0 {
		err = errPacketID
	}
	return id, rest, err
}

// High and low bit of each byte of a word, for looking at eight bytes at once.
const (
	highs = 0x8080808080808080
	lows  = 0x0101010101010101
)

// zeroes has the high bit of the lowest zero byte of w set, and is 0 if there is none.
func zeroes(w uint64) uint64 { return (w - lows) &^ w & highs }

// ValidString reports whether s may stand as a UTF-8 string in a packet: well-formed, no surrogates, no U+0000. U+FEFF is a
// character like any other [MQTT-1.5.3-3] [MQTT-1.5.4-3].
func ValidString(s []byte) bool {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		if w&highs|zeroes(w) != 0 {
			return validTail(s[i:])
		}
	}
	for ; i < len(s); i++ {
		if s[i] == 0 || s[i] >= 0x80 {
			return validTail(s[i:])
		}
	}
	return true
}

func validTail(s []byte) bool {
	return utf8.Valid(s) && !slices.Contains(s, 0)
}

// checkTopicName finds out in one pass whether topic is a string without wildcards. The empty topic passes.
func checkTopicName(topic []byte) error {
	i := 0
	for ; i+8 <= len(topic); i += 8 {
		w := binary.LittleEndian.Uint64(topic[i:])
		if w&highs|zeroes(w)|zeroes(w^'#'*lows)|zeroes(w^'+'*lows) != 0 {
			break
		}
	}
	for ; i < len(topic); i++ {
		switch c := topic[i]; {
		case c == '#' || c == '+': // [MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.0-1]
			if !validTail(topic[i:]) {
				return errUTF8
			}
			return errTopicWildcard
		case c == 0:
			return errUTF8
		case c >= 0x80:
			if !validTail(topic[i:]) {
				return errUTF8
			}
			for _, c := range topic[i:] {
				if c == '#' || c == '+' {
					return errTopicWildcard
				}
			}
			return nil
		}
	}
	return nil
}

// varintSize is the encoded length of n, in bytes.
func varintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// appendVarint appends n as a variable byte integer in its shortest form [MQTT-1.5.5-1].
func appendVarint(dst []byte, n int) []byte {
	if n < 0 || n > MaxRemaining {
		panic(fmt.Sprintf("packet: %d does not fit a variable byte integer", n))
	}
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func appendUint16(dst []byte, n uint16) []byte { return append(dst, byte(n>>8), byte(n)) }

func appendUint32(dst []byte, n uint32) []byte {
	return append(dst, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// appendString appends a string or binary data with its length.
func appendString[S string | []byte](dst []byte, s S) []byte {
	if len(s) > MaxString {
		panic(fmt.Sprintf("packet: field of %d bytes", len(s)))
	}
	return append(appendUint16(dst, uint16(len(s))), s...)
}

// insertVarint puts the length of dst[at:] as a variable byte integer before dst[at:], with room bytes left free before it.
// Packets that are not sent for each message are encoded body first, so that their size needs no second function.
func insertVarint(dst []byte, at, room int) []byte {
	n := len(dst) - at
	shift := room + varintSize(n)
	dst = slices.Grow(dst, shift)[:len(dst)+shift]
	copy(dst[at+shift:], dst[at:])
	appendVarint(dst[:at+room], n)
	return dst
}

// finish makes dst[at:], the body of a packet, a whole packet with the first byte given.
func finish(dst []byte, at int, first byte) []byte {
	dst = insertVarint(dst, at, 1)
	dst[at] = first
	return dst
}
