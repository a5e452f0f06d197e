package engine

import (
	"cmp"
	"hash/fnv"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Stamp orders the changes of a retained message in a cluster: the greatest one wins on every node. The zero Stamp is that of a message
// which was stored before there were stamps.
type Stamp struct {
	// Time is a hybrid logical clock: milliseconds since the epoch in the upper 48 bits, and below them a counter.
	Time uint64
	// Node stands for the node that took the change, in the upper 32 bits, and for its process.
	Node uint64
}

// Compare gives a negative number if s is less than t, 0 if they are equal.
func (s Stamp) Compare(t Stamp) int {
	if c := cmp.Compare(s.Time, t.Time); c != 0 {
		return c
	}
	return cmp.Compare(s.Node, t.Node)
}

// at is the moment that s tells, ns since the epoch.
func (s Stamp) at() int64 {
	return int64(min(s.Time>>stampCounter, stampLast)) * int64(time.Millisecond)
}

const (
	stampLast    = 1 << 42 // milliseconds: in the year 2109
	stampCounter = 16      // bits of Stamp.Time below the milliseconds
	stampMost    = 1 << 62 // no Time that a node gives by its clock, or takes from another, is as great
)

// stampAhead is how far a stamp may be ahead of this node's time and still move its clock.
const stampAhead = time.Minute

// stampTime is the Time of a moment, ns since the epoch.
func stampTime(at int64) uint64 {
	return uint64(max(at, 0)/int64(time.Millisecond)) << stampCounter & (stampMost - 1)
}

// nodeStamp is the Node of an identity, without that of a process.
func nodeStamp(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(id)) // never fails
	return spread(h.Sum64()) &^ processStamp
}

// processStamp is the bits of Stamp.Node that stand for the process: what a crash has taken back may have been told already, so another
// change must not have its stamp.
const processStamp = 1<<32 - 1

// spread makes sums of similar hashes differ.
func spread(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// stampClock gives stamps. Its time does not go back while the process lives, and is never more than stampAhead before the node's own unless
// that went back.
type stampClock struct {
	node uint64
	last atomic.Uint64
}

// next gives a stamp at now that is greater than after, and than every one before unless after is from the future: such a stamp is
// followed for its topic alone.
func (c *stampClock) next(now int64, after Stamp) Stamp {
	for wall := stampTime(now); ; {
		last := c.last.Load()
		t := max(wall, last+1)
		if !c.last.CompareAndSwap(last, t) {
			continue
		}
		if t <= after.Time {
			t = min(after.Time+1, stampMost-1)
		}
		return Stamp{t, c.node}
	}
}

// observe takes note of a stamp of another node. It reports whether that is too far ahead: the clock does not follow it then.
func (c *stampClock) observe(now int64, s Stamp) (ahead bool) {
	if s.Time > stampTime(now+int64(stampAhead)) {
		return true
	}
	for {
		last := c.last.Load()
		if s.Time <= last || c.last.CompareAndSwap(last, s.Time) {
			return false
		}
	}
}

// append writes s as nodes tell it: two numbers of base 36, "-" between them.
func (s Stamp) append(b []byte) []byte {
	return strconv.AppendUint(append(strconv.AppendUint(b, s.Time, 36), '-'), s.Node, 36)
}

// parseStamp reads what append has written.
func parseStamp(text string) (s Stamp, ok bool) {
	first, second, ok := strings.Cut(text, "-")
	if !ok {
		return s, false
	}
	var err1, err2 error
	s.Time, err1 = strconv.ParseUint(first, 36, 63)
	s.Node, err2 = strconv.ParseUint(second, 36, 64)
	return s, err1 == nil && err2 == nil && s.Time > 0 && s.Time < stampMost
}
