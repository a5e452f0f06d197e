package raftstore

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// A stream of records holds all metadata: snapshots and backups are made of
// it.
//
//	magic    "LACEMETA", version byte
//	record   type byte, length (uvarint), JSON
//	...
//	end      type byte 0, number of records (uvarint), CRC-32C of all before (4 bytes, big endian)
//
// Record types are never reused. A reader refuses a type that it does not
// know: leaving it out would lose metadata.
const (
	streamMagic   = "LACEMETA"
	streamVersion = 1
)

type record uint8

const (
	recEnd          record = 0
	recUser         record = 1
	recApplication  record = 2
	recBan          record = 3
	recConfig       record = 4
	recPluginState  record = 5
	recPluginConfig record = 6
	recCredential   record = 7
	recRequest      record = 8
	recBackup       record = 9 // first record of a backup: where it comes from
	recMember       record = 10
	recClusterKey   record = 11
	recMarks        record = 12
)

// maxRecord bounds a record that is read.
const maxRecord = 16 << 20

type (
	configRecord struct {
		Scope string `json:"scope"`
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	stateRecord struct {
		Node   string `json:"node"`
		Plugin string `json:"plugin"`
		Loaded bool   `json:"loaded"`
	}
	pluginRecord struct {
		Node   string `json:"node"`
		Plugin string `json:"plugin"`
		Pairs  []Pair `json:"pairs"`
	}
	requestRecord struct {
		ID      []byte  `json:"id"`
		Age     uint64  `json:"age"`
		Outcome outcome `json:"outcome"`
	}
	backupRecord struct {
		Node    string `json:"node"`
		SealKey []byte `json:"seal_key"`
		Time    int64  `json:"time"`
	}
)

// streamWriter writes records; the first error stays and is reported by end.
type streamWriter struct {
	w   *bufio.Writer
	crc uint32
	n   uint64
	err error
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newStreamWriter(w io.Writer) *streamWriter {
	s := &streamWriter{w: bufio.NewWriter(w)}
	s.bytes(append([]byte(streamMagic), streamVersion))
	return s
}

func (s *streamWriter) bytes(b []byte) {
	if s.err != nil {
		return
	}
	s.crc = crc32.Update(s.crc, castagnoli, b)
	_, s.err = s.w.Write(b)
}

func (s *streamWriter) record(t record, v any) bool {
	j, err := json.Marshal(v)
	if s.err == nil {
		s.err = err
	}
	s.bytes(binary.AppendUvarint([]byte{byte(t)}, uint64(len(j))))
	s.bytes(j)
	s.n++
	return s.err == nil
}

func (s *streamWriter) end() error {
	s.bytes(binary.AppendUvarint([]byte{byte(recEnd)}, s.n))
	s.bytes(binary.BigEndian.AppendUint32(nil, s.crc))
	if s.err == nil {
		s.err = s.w.Flush()
	}
	return s.err
}

// write streams all records of a state in a fixed order: equal states give
// equal bytes.
func (s *state) write(w *streamWriter) {
	s.users.walk(0, func(_ string, u User) bool { return w.record(recUser, u) })
	s.apps.walk(0, func(_ string, a Application) bool { return w.record(recApplication, a) })
	s.bans.walk(0, func(_ string, b Ban) bool { return w.record(recBan, b) })
	s.config.walk(0, func(k, v string) bool {
		scope, key := splitKey(k)
		return w.record(recConfig, configRecord{scope, key, v})
	})
	s.states.walk(0, func(k string, v bool) bool {
		node, plugin := splitKey(k)
		return w.record(recPluginState, stateRecord{node, plugin, v})
	})
	s.plugins.walk(0, func(k string, v []Pair) bool {
		node, plugin := splitKey(k)
		return w.record(recPluginConfig, pluginRecord{node, plugin, v})
	})
	s.creds.walk(0, func(_ string, c Credential) bool { return w.record(recCredential, c) })
	s.members.walk(0, func(_ string, m Member) bool { return w.record(recMember, m) })
	if s.key.ID != "" {
		w.record(recClusterKey, s.key)
	}
	if s.marks.Epoch > 0 {
		w.record(recMarks, s.marks)
	}
	s.recentAge.walk(0, func(_, id string) bool {
		r, _ := s.recent.get(id)
		return w.record(recRequest, requestRecord{[]byte(id), r.Age, r.Outcome})
	})
}

// readStream reads records into a new state. The backup record is returned
// when the stream has one.
func readStream(in io.Reader) (*state, *backupRecord, error) {
	r := &streamReader{r: bufio.NewReader(in)}
	head := r.bytes(len(streamMagic) + 1)
	switch {
	case r.err != nil || string(head[:len(streamMagic)]) != streamMagic:
		return nil, nil, errors.New("is not a file of metadata")
	case head[len(streamMagic)] != streamVersion:
		return nil, nil, fmt.Errorf("%w: version %d of metadata, this release reads %d", ErrNewer, head[len(streamMagic)], streamVersion)
	}
	s := &state{}
	var backup *backupRecord
	for n := uint64(0); ; n++ {
		t := r.bytes(1)
		size := r.uvarint()
		if r.err == nil && record(t[0]) == recEnd {
			want := r.crc
			sum := r.bytes(4)
			switch {
			case r.err != nil:
			case size != n:
				return nil, nil, fmt.Errorf("has %d records of %d", n, size)
			case binary.BigEndian.Uint32(sum) != want:
				return nil, nil, errors.New("is damaged: the checksum is wrong")
			default:
				return s, backup, nil
			}
		}
		if r.err == nil && size > maxRecord {
			r.err = fmt.Errorf("has a record of %d bytes", size)
		}
		var j []byte
		if r.err == nil {
			j = r.bytes(int(size))
		}
		if r.err != nil {
			if errors.Is(r.err, io.EOF) || errors.Is(r.err, io.ErrUnexpectedEOF) {
				return nil, nil, fmt.Errorf("is cut short after %d records", n)
			}
			return nil, nil, r.err
		}
		var err error
		if record(t[0]) == recBackup {
			backup = &backupRecord{}
			err = json.Unmarshal(j, backup)
		} else {
			err = s.read(record(t[0]), j)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("record %d: %w", n+1, err)
		}
	}
}

// read adds a record to a state that is being filled.
func (s *state) read(t record, j []byte) error {
	switch t {
	case recUser:
		return readInto(j, func(u User) { s.users = s.users.put(u.Name, u) })
	case recApplication:
		return readInto(j, func(a Application) { s.apps = s.apps.put(a.ID, a) })
	case recBan:
		return readInto(j, func(b Ban) { s.putBan(&putBan{Ban: b, Max: s.bans.len() + 1}) })
	case recConfig:
		return readInto(j, func(c configRecord) { s.config = s.config.put(pairKey(c.Scope, c.Key), c.Value) })
	case recPluginState:
		return readInto(j, func(p stateRecord) { s.states = s.states.put(pairKey(p.Node, p.Plugin), p.Loaded) })
	case recPluginConfig:
		return readInto(j, func(p pluginRecord) { s.plugins = s.plugins.put(pairKey(p.Node, p.Plugin), p.Pairs) })
	case recCredential:
		return readInto(j, func(c Credential) { s.creds = s.creds.put(pairKey(c.Kind, c.ID), c) })
	case recMember:
		return readInto(j, func(m Member) { s.members = s.members.put(m.ID, m) })
	case recClusterKey:
		return readInto(j, func(k clusterKey) { s.key = k })
	case recMarks:
		return readInto(j, func(m Marks) { s.marks = m })
	case recRequest:
		return readInto(j, func(r requestRecord) {
			s.recent = s.recent.put(string(r.ID), request{r.Age, r.Outcome})
			s.recentAge = s.recentAge.put(ageKey(r.Age), string(r.ID))
			s.clock = max(s.clock, r.Age+1)
		})
	default:
		return fmt.Errorf("%w: record of unknown type %d", ErrNewer, t)
	}
}

func readInto[T any](j []byte, f func(T)) error {
	var v T
	if err := json.Unmarshal(j, &v); err != nil {
		return err
	}
	f(v)
	return nil
}

type streamReader struct {
	r   *bufio.Reader
	crc uint32
	err error
}

// bytes reads n bytes; after an error they are 0. A length that lies costs no
// more memory than there is input.
func (s *streamReader) bytes(n int) []byte {
	const chunk = 64 << 10
	b := make([]byte, 0, min(n, chunk))
	for len(b) < n && s.err == nil {
		at := len(b)
		b = slices.Grow(b, min(n-at, chunk))[:at+min(n-at, chunk)]
		_, s.err = io.ReadFull(s.r, b[at:])
	}
	if s.err != nil {
		return make([]byte, min(n, chunk))
	}
	s.crc = crc32.Update(s.crc, castagnoli, b)
	return b
}

func (s *streamReader) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b := s.bytes(1)[0]
		v |= uint64(b&0x7f) << shift
		if b < 0x80 || s.err != nil {
			return v
		}
	}
	if s.err == nil {
		s.err = errors.New("has a length that is none")
	}
	return 0
}
