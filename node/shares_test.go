package node_test

import (
	"fmt"
	"testing"
	"time"
)

// Members of a share group get the same part of what any node takes, wherever they are, and when a node goes the others get its part.
func TestShareGroupOfThreeNodes(t *testing.T) {
	c := newMesh(t)
	var members []*client
	for i, count := range []int{1, 3, 1} {
		for k := range count {
			m := connect(t, c.nodes[i], fmt.Sprint("m", i, k))
			m.subscribe(t, "$share/g/work/#", 1)
			members = append(members, m)
		}
	}
	publish := func(from int, word string, n int) {
		t.Helper()
		p := connect(t, c.nodes[from], fmt.Sprint("p", from, word))
		for k := range n {
			p.publish(t, "work/"+word, 1, false, fmt.Sprint(k))
		}
	}
	// collect gives what each of these members got of n messages, each of which has to come once.
	collect := func(n int, members ...*client) []int {
		t.Helper()
		got, seen := make([]int, len(members)), map[message]bool{}
		for end := time.Now().Add(20 * time.Second); len(seen) < n; {
			moved := false
			for i, m := range members {
				select {
				case x := <-m.got:
					if seen[x] {
						t.Fatalf("%v came twice", x)
					}
					seen[x], moved = true, true
					got[i]++
				default:
				}
			}
			if !moved {
				if time.Now().After(end) {
					t.Fatalf("%d messages came, want %d", len(seen), n)
				}
				time.Sleep(time.Millisecond)
			}
		}
		return got
	}
	const n = 500
	for from := range c.nodes {
		publish(from, "all", n)
		for i, got := range collect(n, members...) {
			if got < n/10 || got > n*3/10 { // chance moves it by 9
				t.Errorf("published on node %d: member %d of 5 got %d of %d messages, want about %d", from+1, i, got, n, n/5)
			}
		}
	}
	stop(t, c.nodes[1])
	c.linked(0, 2)
	publish(0, "left", n)
	for i, got := range collect(n, members[0], members[4]) {
		if got < n*3/10 || got > n*7/10 {
			t.Errorf("node 2 is away: member %d of 2 got %d of %d messages, want about half", i, got, n)
		}
	}
}
