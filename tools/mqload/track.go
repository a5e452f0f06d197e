//go:build linux

package main

import (
	"math/bits"
	"time"
)

// A seqTracker notes which of the sequence numbers 0, 1, 2, … have arrived. It
// costs one comparison for a number that is the next one, and a bit in a ring
// for one that came early.
type seqTracker struct {
	next  uint32   // everything below has arrived, or was given up
	ring  []uint64 // arrivals at or above next, one bit each; nil until needed
	early int      // bits set in ring
}

const ringBits = 1 << 16

// add notes an arrival and reports whether it was there already.
func (t *seqTracker) add(seq uint32) (duplicate bool) {
	if seq == t.next && t.early == 0 {
		t.next++
		return false
	}
	if seq < t.next {
		return true
	}
	if t.ring == nil {
		t.ring = make([]uint64, ringBits/64)
	}
	for seq-t.next >= ringBits { // too far ahead: give up on the oldest holes
		t.step()
	}
	word, bit := &t.ring[seq%ringBits/64], uint64(1)<<(seq%64)
	if *word&bit != 0 {
		return true
	}
	*word |= bit
	t.early++
	for t.early > 0 && t.ring[t.next%ringBits/64]>>(t.next%64)&1 != 0 {
		t.step()
	}
	return false
}

func (t *seqTracker) step() {
	word, bit := &t.ring[t.next%ringBits/64], uint64(1)<<(t.next%64)
	if *word&bit != 0 {
		*word &^= bit
		t.early--
	}
	t.next++
}

// A histogram counts durations in buckets at most 1/32 wide relative to their
// value, so a quantile is at most about 3 % too high.
type histogram struct {
	count  uint64
	max    time.Duration
	bucket [64 * 32]uint64
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.count++
	h.max = max(h.max, d)
	h.bucket[bucketOf(uint64(d))]++
}

func bucketOf(v uint64) int {
	if v < 32 {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return shift*32 + int(v>>shift)
}

// upper is the largest value that falls into bucket i.
func upper(i int) uint64 {
	if i < 64 {
		return uint64(i)
	}
	shift := i/32 - 1
	return (uint64(i%32+32)+1)<<shift - 1
}

func (h *histogram) quantile(q float64) time.Duration {
	left := uint64(q * float64(h.count))
	for i, n := range h.bucket {
		if n > left {
			return min(time.Duration(upper(i)), h.max)
		}
		left -= n
	}
	return h.max
}
