package engine

import "testing"

// What is told of a group is never more than its members, and at most an eighth less.
func TestToldWeight(t *testing.T) {
	told, last := 0, uint32(0)
	for n := int32(1); n < 1<<17; n++ {
		w := toldWeight(n)
		if w > uint32(n) || w < last || n <= 16 && w != uint32(n) || w*8 < uint32(n)*7 {
			t.Fatalf("%d members are told as %d, the ones before as %d", n, w, last)
		}
		if w != last {
			told++
		}
		last = w
	}
	if told > 130 {
		t.Errorf("a group that grows to %d members was told %d times", 1<<17, told)
	}
	if toldWeight(0) != 1 || toldWeight(1<<30) != maxWeight {
		t.Errorf("got %d and %d, want 1 and %d", toldWeight(0), toldWeight(1<<30), maxWeight)
	}
}
