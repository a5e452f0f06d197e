package engine

import "testing"

// What may have gone out before a crash: as many as the client had at a time, of each priority, and again of the numbers after a gap.
func TestUnsaid(t *testing.T) {
	u := unsaid{most: 2}
	for i, tc := range []struct {
		seq      uint64
		priority int
		want     bool
	}{
		{1, 0, true}, {2, 0, true}, {3, 0, false}, {4, 1, true}, {5, 1, true}, {6, 1, false},
		{7 + moveGap, 0, true}, {8 + moveGap, 0, true}, {9 + moveGap, 0, false}, {10 + moveGap, 1, true},
	} {
		if got := u.may(tc.seq, tc.priority); got != tc.want {
			t.Errorf("%d: delivery %d of priority %d: got %v, want %v", i, tc.seq, tc.priority, got, tc.want)
		}
	}
	if u := new(unsaid); u.may(1, 0) {
		t.Error("a delivery of a client that was away may have gone out")
	}
}
