package store

import (
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"slices"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/store/storetest"
)

// everyRecord is one record of each kind, each with all it can have.
func everyRecord() [][]byte {
	m := engine.Message{Topic: "t", Payload: []byte("p"), QoS: 2, Retain: true, HasExpiry: true, Expiry: 9, From: "f", Username: "u", Properties: []byte{1}}
	return [][]byte{
		appendSession(nil, 1, &engine.StoredSession{
			ClientID: "c", Username: "u", HasUsername: true, Zone: "z", Expiry: 7, Fence: engine.Fence{Epoch: 300, Count: 1}, Seq: 300, Begun: 200,
			Arrival:   &engine.StoredArrival{From: "a", Token: "t", Fence: engine.Fence{Epoch: 1, Count: 2}, Nodes: []string{"a", "b"}, Self: 1, Base: 9, Sure: true, Marked: 1, Done: 1, Later: 2},
			Departure: &engine.StoredDeparture{To: "a", Token: "u", Nodes: []string{"a", "b"}, Self: 1, Was: 4, Passed: 2},
			Will:      &engine.StoredWill{Message: m, Delay: 5, Author: &engine.ClientInfo{ClientID: "c", KeepAlive: 60, ProtoVer: 5}},
		}),
		appendUint([]byte{byte(kindSessionEnd)}, 1),
		appendSubscription(nil, 1, &engine.Subscription{Filter: "a/#", Share: "g", QoS: 1, RetainHandling: 2, ID: 500}),
		appendText(appendUint([]byte{byte(kindSubscriptionEnd)}, 1), "a/#"),
		appendMessage(nil, 300, &m, true),
		appendPublicationEnd(nil, 300, 1, 7, 8),
		appendDelivery(nil, 1, &engine.StoredDelivery{Seq: 3, Message: 300, QoS: 1, Retain: true, IDs: []uint32{1, 500}, Share: "g", At: -1}, true),
		appendPair(nil, kindDeliveryEnd, 1, 3),
		appendPair(nil, kindRecorded, 1, 3),
		appendPair(nil, kindBegun, 1, 3),
		appendRelease(nil, 1, 7, 8),
		appendReleaseEnd(nil, 1, 7),
		appendRetained(nil, 300, "t", engine.Stamp{}, true),
		appendRetained(nil, 300, "t", engine.Stamp{Time: 1 << 60, Node: 1 << 63}, true),
		appendRetainedClear(nil, "t", engine.Stamp{Time: 5, Node: 6}),
		appendText([]byte{byte(kindRetainedEnd)}, "t"),
		appendDelayed(nil, 300, 9, true),
		appendUint([]byte{byte(kindDelayedEnd)}, 300),
		{byte(kindBoot)}, {byte(kindOrderly)},
	}
}

// encode writes r as the store does.
func (r *record) encode() []byte {
	switch r.kind {
	case kindSession:
		return appendSession(nil, r.session, r.stored)
	case kindSubscription:
		return appendSubscription(nil, r.session, &r.subscription)
	case kindMessage:
		m := readBody(r.body)
		return appendMessage(nil, r.message, &m, r.open)
	case kindPublicationEnd:
		return appendPublicationEnd(nil, r.message, r.session, r.id, r.at)
	case kindDelivery:
		d := delivery{seq: r.seq, at: r.at, ids: r.ids, share: r.name, flags: r.flags}
		x := d.build()
		x.Message = r.message
		return appendDelivery(nil, r.session, &x, r.open)
	case kindDeliveryEnd, kindRecorded, kindBegun:
		return appendPair(nil, r.kind, r.session, r.seq)
	case kindSessionEnd:
		return appendUint([]byte{byte(r.kind)}, r.session)
	case kindSubscriptionEnd:
		return appendText(appendUint([]byte{byte(r.kind)}, r.session), string(r.name))
	case kindRelease:
		return appendRelease(nil, r.session, r.id, r.at)
	case kindReleaseEnd:
		return appendReleaseEnd(nil, r.session, r.id)
	case kindRetained:
		return appendRetained(nil, r.message, string(r.name), r.stamp, r.open)
	case kindRetainedClear:
		return appendRetainedClear(nil, string(r.name), r.stamp)
	case kindRetainedEnd:
		return appendText([]byte{byte(r.kind)}, string(r.name))
	case kindDelayed:
		return appendDelayed(nil, r.message, r.at, r.open)
	case kindDelayedEnd:
		return appendUint([]byte{byte(r.kind)}, r.message)
	}
	return []byte{byte(r.kind)}
}

// Every record comes back as it was, and cut short anywhere it is none.
func TestRecords(t *testing.T) {
	for _, b := range everyRecord() {
		var r record
		n, err := r.decode(b)
		if err != nil || n != len(b) {
			t.Errorf("kind %d: %d of %d bytes, %v", b[0], n, len(b), err)
			continue
		}
		if got := r.encode(); !slices.Equal(got, b) {
			t.Errorf("kind %d:\n got %x\nwant %x", b[0], got, b)
		}
		for i := range b {
			if _, err := r.decode(b[:i]); err == nil {
				t.Errorf("kind %d: %d of %d bytes are taken", b[0], i, len(b))
			}
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, b := range everyRecord() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again record
		n, err := r.decode(b)
		if err != nil {
			return
		}
		if n <= 0 || n > len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		// The shortest form may differ from b; it must mean the same.
		short := r.encode()
		if n, err := again.decode(short); err != nil || n != len(short) {
			t.Fatalf("again: %d of %d bytes, %v", n, len(short), err)
		}
		if got := again.encode(); !slices.Equal(got, short) {
			t.Fatalf("got %x, want %x", got, short)
		}
		if !reflect.DeepEqual(r.stored, again.stored) || r.subscription != again.subscription || r.session != again.session ||
			r.seq != again.seq || r.message != again.message || r.at != again.at || r.id != again.id || r.open != again.open || r.stamp != again.stamp {
			t.Fatalf("got %+v, want %+v", again, r)
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	b := make([]byte, segmentHeaderSize)
	(&segmentHeader{version: 2, base: 5, whole: 9, discard: 3, id: [16]byte{1}, length: 7}).put(b)
	f.Add(slices.Clone(b))
	(&segmentHeader{version: 1, base: 5, whole: 9, discard: 3, id: [16]byte{1}}).put(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed := slices.Clone(b)
		if len(sealed) >= segmentHeaderSize { // checksums would keep the fuzzer out
			binary.LittleEndian.PutUint32(sealed[12:], segmentChecksum(sealed))
		}
		for _, b := range [][]byte{b, sealed} {
			h, err := parseSegmentHeader(b)
			if err != nil {
				continue
			}
			again := make([]byte, segmentHeaderSize)
			h.put(again)
			if got, err := parseSegmentHeader(again); err != nil || got != h {
				t.Fatalf("got %+v, %v, want %+v", got, err, h)
			}
		}
	})
}

func FuzzGroup(f *testing.F) {
	for _, r := range everyRecord() {
		b := make([]byte, groupHeaderSize, groupHeaderSize+len(r))
		(&groupHeader{start: 9, durable: 8, discard: 7, time: 6, records: 1}).put(b, 5, r)
		f.Add(append(b, r...), uint32(5))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint32) {
		sealed := slices.Clone(b)
		if len(sealed) >= groupHeaderSize {
			binary.LittleEndian.PutUint32(sealed, groupMagic)
			binary.LittleEndian.PutUint32(sealed[12:], uint32(len(sealed)-groupHeaderSize))
			binary.LittleEndian.PutUint32(sealed[8:], crc32.Update(seed, castagnoli, sealed[groupHeaderSize:]))
			binary.LittleEndian.PutUint32(sealed[4:], crc32.Update(seed, castagnoli, sealed[8:groupHeaderSize]))
		}
		for _, b := range [][]byte{b, sealed} {
			h, payload, ok := parseGroup(b, seed)
			if !ok {
				continue
			}
			again := make([]byte, groupHeaderSize)
			h.put(again, seed, payload)
			if got, ok := parseGroupHeader(again, seed); !ok || got != h {
				t.Fatalf("got %+v, want %+v", got, h)
			}
			if unwind(h.checksum, payload) != seed {
				t.Fatal("the seed is not found again")
			}
			l := newReplay()
			if l.group(payload, h.start, h.records) == nil {
				l.finish()
			}
		}
	})
}

// FuzzLoad loads a directory of one file whose groups' checksums are right, and what that gives once more after it was written anew.
func FuzzLoad(f *testing.F) {
	var all []byte
	for _, b := range everyRecord() {
		f.Add(b)
		all = append(all, b...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, records []byte) {
		h := segmentHeader{version: 1, id: [16]byte{1}}
		file := make([]byte, segmentHeaderSize+groupHeaderSize)
		h.put(file)
		n := uint32(0)
		for rest := records; len(rest) > 0; n++ {
			var r record
			size, err := r.decode(rest)
			if err != nil {
				break
			}
			rest = rest[size:]
		}
		(&groupHeader{records: n}).put(file[segmentHeaderSize:], h.seed(), records)
		file = append(file, records...)
		m := image{testDir + "/" + segmentName(0): file}
		s, d, err := load(t, m.fs())
		if err != nil {
			_ = d.Close()
			return
		}
		d.Start(storetest.NewClient())
		putAll(d.journal, s)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		again, d, err := load(t, d.o.FS.(*faultFS).image())
		_ = d.Close()
		if err != nil {
			t.Fatalf("again: %v", err)
		}
		if len(again.Sessions) != len(s.Sessions) || len(again.Delayed) != len(s.Delayed) || len(again.Cleared) != len(s.Cleared) {
			t.Fatalf("got %d sessions and %d cleared topics, want %d and %d", len(again.Sessions), len(again.Cleared), len(s.Sessions), len(s.Cleared))
		}
	})
}
