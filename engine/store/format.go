package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// The layout of a segment file; all numbers are little endian. DESIGN.md has it as tables.
const (
	segmentMagic = "LWSTORE\n"
	// formatVersion is the newest version of the format that this release reads, and the one it writes.
	formatVersion     = 2
	segmentHeaderSize = 64 // the same in every version, with magic, version and checksum where they are

	groupMagic      = 0x9C4757E1
	groupHeaderSize = 56
)

var (
	castagnoli     = crc32.MakeTable(crc32.Castagnoli)
	groupMagicText = binary.LittleEndian.AppendUint32(nil, groupMagic)

	// ErrNewer is wrapped by errors about files that a newer release has written.
	ErrNewer = errors.New("a newer release has written it")

	errBadHeader = errors.New("its header is damaged")
)

// segmentHeader is the head of a file.
type segmentHeader struct {
	version uint16
	base    engine.Position // where its first group begins
	discard engine.Position // nothing before this is needed
	id      [16]byte        // of the store
	length  int64           // the file is at least that long, bytes; 0 in version 1, which does not tell
	whole   engine.Position // up to here everything was on the medium when the file got its name
}

// maxLength bounds lengths that are read.
const maxLength = 1 << 50

func (h *segmentHeader) put(b []byte) {
	clear(b[:segmentHeaderSize])
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint16(b[8:], h.version)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.base))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.discard))
	copy(b[32:], h.id[:])
	binary.LittleEndian.PutUint64(b[48:], uint64(h.length))
	binary.LittleEndian.PutUint64(b[56:], uint64(h.whole))
	binary.LittleEndian.PutUint32(b[12:], segmentChecksum(b))
}

func segmentChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:segmentHeaderSize])
}

// parseSegmentHeader reads the head of a file. The error is errBadHeader, or ErrNewer when only that is why it cannot be read.
func parseSegmentHeader(b []byte) (h segmentHeader, err error) {
	if len(b) < segmentHeaderSize || string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[12:]) != segmentChecksum(b) {
		return h, errBadHeader
	}
	h.version = binary.LittleEndian.Uint16(b[8:])
	if h.version > formatVersion {
		return h, ErrNewer
	}
	h.base = engine.Position(binary.LittleEndian.Uint64(b[16:]))
	h.discard = engine.Position(binary.LittleEndian.Uint64(b[24:]))
	copy(h.id[:], b[32:])
	if h.version > 1 {
		h.length = int64(binary.LittleEndian.Uint64(b[48:]))
	}
	h.whole = engine.Position(binary.LittleEndian.Uint64(b[56:]))
	if h.version == 0 || h.whole > maxPosition || h.base > h.whole || h.discard > h.base || h.length < 0 || h.length > maxLength {
		return h, errBadHeader
	}
	return h, nil
}

// maxPosition bounds positions that are read, so that adding to them cannot overflow.
const maxPosition = 1 << 62

// seed begins every checksum of a group, so that a group of another store, or one that a client has put into a message, is none.
func (h segmentHeader) seed() uint32 { return crc32.Checksum(h.id[:], castagnoli) }

// groupHeader is the head of a group.
type groupHeader struct {
	checksum uint32          // of the payload
	length   int             // of the payload, bytes
	start    engine.Position // of the payload
	durable  engine.Position // what was known to be on the medium when this was written
	discard  engine.Position // nothing before this is needed
	time     int64           // when it was written, ns since the epoch
	records  uint32
}

// end is the position behind the group.
func (h *groupHeader) end() engine.Position { return h.start + engine.Position(h.length) }

// put writes the header of payload into b.
func (h *groupHeader) put(b []byte, seed uint32, payload []byte) {
	binary.LittleEndian.PutUint32(b, groupMagic)
	binary.LittleEndian.PutUint32(b[8:], crc32.Update(seed, castagnoli, payload))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[16:], uint64(h.start))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.durable))
	binary.LittleEndian.PutUint64(b[32:], uint64(h.discard))
	binary.LittleEndian.PutUint64(b[40:], uint64(h.time))
	binary.LittleEndian.PutUint32(b[48:], h.records)
	binary.LittleEndian.PutUint32(b[52:], 0)
	binary.LittleEndian.PutUint32(b[4:], crc32.Update(seed, castagnoli, b[8:groupHeaderSize]))
}

// parseGroupHeader reads the head of a group; false: it is none.
func parseGroupHeader(b []byte, seed uint32) (h groupHeader, ok bool) {
	if len(b) < groupHeaderSize || binary.LittleEndian.Uint32(b) != groupMagic ||
		binary.LittleEndian.Uint32(b[4:]) != crc32.Update(seed, castagnoli, b[8:groupHeaderSize]) {
		return h, false
	}
	length := binary.LittleEndian.Uint32(b[12:])
	h = groupHeader{
		checksum: binary.LittleEndian.Uint32(b[8:]),
		length:   int(length),
		start:    engine.Position(binary.LittleEndian.Uint64(b[16:])),
		durable:  engine.Position(binary.LittleEndian.Uint64(b[24:])),
		discard:  engine.Position(binary.LittleEndian.Uint64(b[32:])),
		time:     int64(binary.LittleEndian.Uint64(b[40:])),
		records:  binary.LittleEndian.Uint32(b[48:]),
	}
	return h, length < 1<<30 && h.start <= maxPosition && h.durable <= h.start && h.discard <= h.start
}

// parseGroup reads the group that b begins with; false: it begins with none that is whole. The payload lies in b.
func parseGroup(b []byte, seed uint32) (h groupHeader, payload []byte, ok bool) {
	h, ok = parseGroupHeader(b, seed)
	if !ok || h.length > len(b)-groupHeaderSize {
		return h, nil, false
	}
	payload = b[groupHeaderSize : groupHeaderSize+h.length]
	return h, payload, crc32.Update(seed, castagnoli, payload) == h.checksum
}

// findHeader looks for the header of a group in b, from off on; -1: there is none.
func findHeader(b []byte, off int, seed uint32) (int, groupHeader) {
	for off < len(b) {
		i := bytes.Index(b[off:], groupMagicText)
		if i < 0 {
			break
		}
		off += i
		if h, ok := parseGroupHeader(b[off:], seed); ok {
			return off, h
		}
		off++
	}
	return -1, groupHeader{}
}

// claims are the greatest positions that headers tell of.
type claims struct{ durable, discard engine.Position }

// gather adds what all group headers in b from off on tell, whether their payloads are whole or not.
func (c *claims) gather(b []byte, off int, seed uint32) {
	for off < len(b) {
		h, ok := parseGroupHeader(b[off:], seed)
		if !ok {
			if off, h = findHeader(b, off+1, seed); off < 0 {
				return
			}
		}
		c.durable, c.discard = max(c.durable, h.durable), max(c.discard, h.discard)
		off += groupHeaderSize
		if h.length <= len(b)-off {
			if _, ok := parseGroupHeader(b[off+h.length:], seed); ok {
				off += h.length
			}
		}
	}
}

// used gives the length of b without the zeros at its end.
func used(b []byte) int {
	for len(b) >= len(zeros) && bytes.Equal(b[len(b)-len(zeros):], zeros[:]) {
		b = b[:len(b)-len(zeros)]
	}
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return len(b)
}

var zeros [4096]byte
