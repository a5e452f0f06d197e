//go:build linux

package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestNextPacket(t *testing.T) {
	var b []byte
	for _, size := range []int{stampLen, 120, 200, 20000} {
		for _, version := range []byte{4, 5} {
			head := publishHead{version: version, qos: 1, pid: 77}
			b = append(head.append(b[:0], []byte("a/b"), size), make([]byte, size)...)
			putStamp(b[len(b)-size:], 3, 9, 1234)
			for cut := range min(len(b), 300) {
				if _, _, n, err := nextPacket(b[:cut]); n != 0 || err != nil {
					t.Fatalf("size %d cut at %d: %d %v", size, cut, n, err)
				}
			}
			first, body, n, err := nextPacket(append(b, 0xff))
			if err != nil || n != len(b) {
				t.Fatalf("size %d: n = %d of %d, %v", size, n, len(b), err)
			}
			pid, payload, err := parsePublish(version, first, body)
			if err != nil || pid != 77 || len(payload) != size {
				t.Fatalf("size %d: pid %d, %d bytes, %v", size, pid, len(payload), err)
			}
			if pub, seq, at, ok := getStamp(payload); !ok || pub != 3 || seq != 9 || at != 1234 {
				t.Fatal("stamp")
			}
		}
	}
	if _, _, _, err := nextPacket([]byte{0x30, 0x80, 0x80, 0x80, 0x80, 1}); err == nil {
		t.Fatal("overlong length accepted")
	}
}

func TestConnectAndSubscribe(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b := appendConnect(nil, version, "id")
		if _, _, n, err := nextPacket(b); err != nil || n != len(b) {
			t.Fatalf("CONNECT v%d: % x", version, b)
		}
		b = appendSubscribe(nil, version, 1, 1, []string{"a", "b/+"})
		if _, _, n, err := nextPacket(b); err != nil || n != len(b) {
			t.Fatalf("SUBSCRIBE v%d: % x", version, b)
		}
	}
	if codes, err := subackCodes(5, []byte{0, 1, 0, 1, 0x80}); err != nil || len(codes) != 2 {
		t.Fatal(codes, err)
	}
}

func TestSeqTracker(t *testing.T) {
	var tr seqTracker
	order := rand.New(rand.NewPCG(1, 2)).Perm(50000)
	for _, i := range order {
		if tr.add(uint32(i)) {
			t.Fatalf("%d reported as a duplicate", i)
		}
	}
	if tr.next != 50000 || tr.early != 0 {
		t.Fatalf("next %d, early %d", tr.next, tr.early)
	}
	for _, i := range order {
		if !tr.add(uint32(i)) {
			t.Fatalf("second %d not reported", i)
		}
	}
	// A hole that never fills must not stop later numbers from being checked.
	tr = seqTracker{}
	for i := uint32(1); i < 5*ringBits; i++ {
		if tr.add(i) || !tr.add(i) {
			t.Fatalf("%d", i)
		}
	}
}

func TestHistogram(t *testing.T) {
	for v := uint64(0); v < 1<<20; v++ {
		i := bucketOf(v)
		if up := upper(i); up < v || i > 0 && upper(i-1) >= v || up > v+v/32 {
			t.Fatalf("%d: bucket %d up to %d", v, i, up)
		}
	}
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i) * time.Microsecond)
	}
	if q := h.quantile(.5); q < 500*time.Microsecond || q > 516*time.Microsecond {
		t.Fatal(q)
	}
	if h.quantile(1) != 999*time.Microsecond {
		t.Fatal(h.quantile(1))
	}
}

func TestParseSpec(t *testing.T) {
	for _, p := range presets {
		if _, err := parseSpec(p.name); err != nil {
			t.Error(err)
		}
	}
	sp, err := parseSpec("p2p-q1:window=4,size=1024")
	if err != nil || sp.kind != "p2p" || sp.qos != 1 || sp.window != 4 || sp.size != 1024 || sp.n != 50 {
		t.Fatalf("%+v %v", sp, err)
	}
	for _, bad := range []string{"nope", "p2p:x=1", "p2p:qos=3", "p2p:size=4", "p2p:n=0"} {
		if _, err := parseSpec(bad); err == nil {
			t.Errorf("%s accepted", bad)
		}
	}
}
