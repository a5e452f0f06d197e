package engine

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// The sums of a ledger are those of what it holds, however that came there, and what is cleared stays within its bound.
func TestLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger()
		l.limit = 20 * (clearedSize + 1)
		live, last := map[string]*retained{}, Stamp{}
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			topic := fmt.Sprintf("%c", 'a'+rapid.IntRange(0, 49).Draw(t, "topic"))
			last = Stamp{last.Time + 1, uint64(rapid.IntRange(0, 3).Draw(t, "node"))}
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				now := &retained{m: &shared{Message: Message{Topic: topic, stamp: last}}}
				l.replace(live[topic], now)
				live[topic] = now
			case 2:
				l.replace(live[topic], nil)
				delete(live, topic)
				for _, x := range second(l.clear(topic, last)) {
					if x.stamp.Compare(l.floor) > 0 {
						t.Fatalf("%+v is forgotten, and the floor is %+v", x, l.floor)
					}
				}
			case 3:
				if c := l.due(last.at() + int64(clearedFor)); c != nil {
					l.drop(c)
				}
			}
		}
		var sums [ledgerBuckets]uint64
		entries, bytes := 0, 0
		for i := range ledgerBuckets * bucketLeaves {
			sum := uint64(0)
			for _, x := range l.entries(i, -int64(clearedFor)) {
				if s := l.when(x.topic); x.cleared && s != x.stamp || !x.cleared && live[x.topic].m.stamp != x.stamp {
					t.Fatalf("%+v is not what it should be", x)
				}
				if x.cleared {
					bytes += clearedSize + len(x.topic)
				}
				sum += share(x.hash, x.stamp)
				entries++
			}
			if sum != l.leafSums(i / bucketLeaves)[i%bucketLeaves] {
				t.Fatalf("leaf %d has another sum", i)
			}
			sums[i/bucketLeaves] += sum
		}
		if sums != l.bucketSums() || entries != len(live)+len(l.cleared) || len(l.oldest) != len(l.cleared) || bytes != l.bytes || bytes > l.limit {
			t.Fatalf("%d entries of %d messages and %d cleared topics in %d bytes, or other sums", entries, len(live), len(l.cleared), l.bytes)
		}
	})
}

func second[A, B any](_ A, b B) B { return b }

// Stamps only grow, whatever the clock does; those of others from the future are followed for their topic alone.
func TestStampClock(t *testing.T) {
	c := stampClock{node: 7}
	const minute = int64(60e9)
	now := 1000 * minute
	a := c.next(now, Stamp{})
	if b := c.next(now-10*minute, Stamp{}); b.Compare(a) <= 0 {
		t.Errorf("%v after %v, when the clock went back", b, a)
	}
	near := Stamp{stampTime(now + minute/2), 9}
	if c.observe(now, near) {
		t.Error("half a minute is too far ahead")
	}
	if b := c.next(now, Stamp{}); b.Compare(near) <= 0 {
		t.Errorf("%v after one has heard of %v", b, near)
	}
	far := Stamp{stampTime(now + 100*minute), 9}
	if !c.observe(now, far) {
		t.Error("100 minutes are not too far ahead")
	}
	if b := c.next(now, far); b.Compare(far) <= 0 {
		t.Errorf("%v on a topic that has %v", b, far)
	}
	if b := c.next(now, Stamp{}); b.Compare(far) >= 0 {
		t.Errorf("%v on another topic: the clock has followed %v", b, far)
	}
	if s, ok := parseStamp(string(far.append(nil))); !ok || s != far {
		t.Errorf("got %v, %v, want %v", s, ok, far)
	}
	for _, text := range []string{"", "-", "1", "1-", "-1", "0-1", "1-1-1", "zzzzzzzzzzzzzzzz-1", "3w5e11264sgsf-1"} {
		if s, ok := parseStamp(text); ok {
			t.Errorf("%q is taken for %v", text, s)
		}
	}
}
