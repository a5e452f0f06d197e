//go:build linux

package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// long is the part of the suite that make soak runs: what takes its time, and what needs the test build.
var long = []struct {
	name string
	test func(*testing.T)
}{
	{"orders", allOrders},
	{"five", five},
	{"clocks", clocks},
	{"snapshot", snapshot},
}

// TestLong runs the long part.
func TestLong(t *testing.T) {
	if *rounds == 0 {
		t.Log("this is the short set: LACEWING_CLUSTER_ROUNDS=1 or more runs orders, five nodes, clocks and snapshots")
		return
	}
	for _, l := range long {
		t.Run(l.name, l.test)
	}
}

// all six orders of a start of three nodes, with gaps.
func allOrders(t *testing.T) {
	w := build(t, 3, command(t), 4*time.Millisecond, nil)
	w.must(t, w.open())
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		w.must(t, w.suffer(fault{fmt.Sprint("a restart of all in the order ", order), true, func(w *world, _ *happening) error { return w.order(order) }}, beat()))
	}
	w.finish(t, "all six orders", 3000)
}

// five has all faults happen to five nodes: minorities of two.
func five(t *testing.T) {
	w := build(t, 5, command(t), 8*time.Millisecond, nil)
	w.must(t, w.open())
	for _, i := range w.random.Perm(len(faults)) {
		w.must(t, w.suffer(faults[i], beat()))
	}
	w.finish(t, "five nodes", 5000)
}

// tried makes a world of the test build.
func tried(t *testing.T, more map[string]string) *world {
	t.Helper()
	program, err := buildTest(programDir)
	if err != nil {
		t.Fatal(err)
	}
	w := build(t, 3, program, 4*time.Millisecond, more)
	for _, n := range w.nodes {
		w.must(t, n.giveClock())
	}
	return w
}

// clocks has clocks jump, ahead and back, of the leader, of others, of all, and of a node that does not run. Sessions end after an hour, so no two
// clocks are further apart.
func clocks(t *testing.T) {
	w := tried(t, nil)
	w.must(t, w.open())
	jump := func(n *node, shift time.Duration) error {
		if err := n.setClock(shift); err != nil || !n.answers() {
			return err
		}
		is, err := n.clockIs()
		if err == nil && (is-shift).Abs() > 5*time.Second {
			err = fmt.Errorf("the clock of %s is %v from that of the system, want %v", n.name, is, shift)
		}
		return err
	}
	span := func() time.Duration { return w.chance(-25*time.Minute, 25*time.Minute).Truncate(time.Second) }
	for _, f := range []fault{
		{"the clock of the leader is ahead", false, func(w *world, _ *happening) error {
			n, err := w.leader(w.anyone())
			if err != nil {
				return err
			}
			return jump(n, 20*time.Minute)
		}},
		{"the clock of the leader is behind", false, func(w *world, _ *happening) error {
			n, err := w.leader(w.anyone())
			if err != nil {
				return err
			}
			return jump(n, -20*time.Minute)
		}},
		{"clocks jump", false, func(w *world, _ *happening) error {
			for range 10 {
				if err := jump(w.anyone(), span()); err != nil {
					return err
				}
				w.rest(w.chance(0, 500*time.Millisecond))
			}
			return nil
		}},
		{"a clock jumps while its node does not run", true, func(w *world, f *happening) error {
			n := w.anyone()
			n.kill()
			if err := jump(n, span()); err != nil {
				return err
			}
			return n.start()
		}},
		{"clocks jump while the leader dies", true, func(w *world, f *happening) error {
			n, err := w.leader(w.anyone())
			if err != nil {
				return err
			}
			n.kill()
			for _, o := range w.nodes {
				if err := jump(o, span()); err != nil {
					return err
				}
			}
			return n.start()
		}},
		{"all clocks are right again", false, func(w *world, _ *happening) error {
			for _, n := range w.nodes {
				if err := jump(n, 0); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		w.must(t, w.suffer(f, beat()))
	}
	w.finish(t, "clocks", 1000)
}

// snapshot keeps nodes away until the log that they miss is gone, and has them catch up under load.
func snapshot(t *testing.T) {
	w := tried(t, map[string]string{"log.level": "debug"})
	w.must(t, w.open())
	installed := func() (n int) {
		for _, x := range w.nodes {
			n += x.logged("Installed remote snapshot")
		}
		return n
	}
	for i := range 3 {
		before := installed()
		w.must(t, w.suffer(fault{"a node that is far behind", true, func(w *world, f *happening) error {
			n, err := w.follower()
			if err != nil {
				return err
			}
			cutOff := i == 1
			if cutOff {
				err = w.net.filter(w.between([]*node{n}, w.others(n), drop))
			} else {
				n.kill()
			}
			if err != nil {
				return err
			}
			through := w.others(n)
			for k := range 300 {
				if a, err := ban(through[k%len(through)], fmt.Sprintf("many-%d-%d", i, k), "many"); err != nil || a.status/100 != 2 {
					return fmt.Errorf("ban: %w %d %s", err, a.status, a.body)
				}
			}
			w.rest(3 * time.Second) // of which every second may have a snapshot
			if cutOff {
				return w.net.heal()
			}
			return n.start()
		}}, beat()))
		w.must(t, w.poll("a snapshot was installed", load.Patience, func() (bool, string) { return installed() > before, fmt.Sprint(before) }))
	}
	w.finish(t, "snapshots", 1000)
}
