//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// fault is something that happens to a cluster of three or five nodes under load, and is over when it returns.
type fault struct {
	name string
	ends bool // processes: the figures of those that come after say nothing about growth
	do   func(w *world, f *happening) error
}

// happening is what is known of a fault while it lasts.
type happening struct {
	newcomers newcomers
	steady    map[*node][]int // connections of the clients that have to stay
	beat      time.Duration
}

// faults are all that can be done to a cluster that stays one.
var faults = []fault{
	{"kill -9 of the leader", true, func(w *world, f *happening) error {
		n, err := w.leader(w.anyone())
		if err != nil {
			return err
		}
		return w.die(f, n, w.chance(0, 1500*time.Millisecond))
	}},
	{"kill -9 of a follower", true, func(w *world, f *happening) error {
		n, err := w.follower()
		if err != nil {
			return err
		}
		return w.die(f, n, w.chance(0, 1500*time.Millisecond))
	}},
	{"kill -9 of a node, away until it counts as down", true, func(w *world, f *happening) error {
		return w.die(f, w.anyone(), 4*f.beat+w.chance(0, time.Second))
	}},
	{"kill -9 during the start", true, func(w *world, f *happening) error {
		n := w.anyone()
		n.kill()
		for range 2 {
			if err := n.begin(); err != nil {
				return err
			}
			time.Sleep(w.chance(0, 400*time.Millisecond)) // the instant of the kill
			n.kill()
		}
		return n.start()
	}},
	{"a pause of the leader", false, func(w *world, f *happening) error {
		n, err := w.leader(w.anyone())
		if err != nil {
			return err
		}
		return w.hold(f, n, w.chance(f.beat/2, 2*f.beat))
	}},
	{"a pause of the leader until it counts as down", false, func(w *world, f *happening) error {
		n, err := w.leader(w.anyone())
		if err != nil {
			return err
		}
		return w.hold(f, n, 5*f.beat+w.chance(0, time.Second))
	}},
	{"a pause of a follower until it counts as down", false, func(w *world, f *happening) error {
		n, err := w.follower()
		if err != nil {
			return err
		}
		return w.hold(f, n, 5*f.beat+w.chance(0, time.Second))
	}},
	{"a partition with the leader in the minority", false, func(w *world, f *happening) error {
		n, err := w.leader(w.anyone())
		if err != nil {
			return err
		}
		return w.part(f, n)
	}},
	{"a partition with followers in the minority", false, func(w *world, f *happening) error {
		n, err := w.leader(w.anyone())
		if err != nil {
			return err
		}
		return w.part(f, w.others(n)[:(len(w.nodes)-1)/2]...)
	}},
	{"a partition with everybody alone", false, func(w *world, f *happening) error {
		if err := w.net.filter(w.between(w.nodes, w.nodes, drop)); err != nil {
			return err
		}
		return w.minority(f, w.nodes, nil)
	}},
	{"a leader that is not heard", false, func(w *world, f *happening) error { return w.oneWay(f, true) }},
	{"a leader that does not hear", false, func(w *world, f *happening) error { return w.oneWay(f, false) }},
	{"a partition that comes and goes", false, func(w *world, f *happening) error {
		for i := range 8 {
			a := w.anyone()
			b := w.others(a)[w.random.IntN(len(w.nodes)-1)]
			filter := []string{drop, reject}[i%2]
			if err := w.net.filter(w.between([]*node{a}, []*node{b}, filter)); err != nil {
				return err
			}
			w.rest(w.chance(50*time.Millisecond, 1500*time.Millisecond))
			if err := w.net.heal(); err != nil {
				return err
			}
			w.rest(w.chance(20*time.Millisecond, 500*time.Millisecond))
		}
		return nil
	}},
	{"connections that are reset", false, func(w *world, f *happening) error {
		for range 5 {
			if err := w.net.filter(w.between(w.nodes, w.nodes, reject)); err != nil {
				return err
			}
			w.rest(w.chance(20*time.Millisecond, 200*time.Millisecond))
			if err := w.net.heal(); err != nil {
				return err
			}
			w.rest(w.chance(200*time.Millisecond, 900*time.Millisecond))
		}
		return nil
	}},
	{"loss of packets", false, func(w *world, f *happening) error {
		if err := w.net.filter(w.between(w.nodes, w.nodes, lose(5+w.random.IntN(20)))); err != nil {
			return err
		}
		w.rest(4 * time.Second)
		return w.net.heal()
	}},
	{"links that are open at one end only", true, func(w *world, f *happening) error {
		n := w.anyone()
		if err := w.net.filter(w.between([]*node{n}, w.others(n), drop)); err != nil {
			return err
		}
		n.kill() // nobody is told
		if err := f.newcomers.come(w); err != nil {
			return err
		}
		if err := n.start(); err != nil {
			return err
		}
		w.rest(w.chance(0, time.Second))
		return w.net.heal()
	}},
	{"a restart of one node after the other", true, func(w *world, f *happening) error {
		for _, n := range w.nodes {
			if err := n.stop(); err != nil {
				w.ledger.Broken("%v", err)
			}
			if err := n.start(); err != nil {
				return err
			}
			if err := w.formed(w.nodes); err != nil {
				return err
			}
		}
		return nil
	}},
	{"a restart of all nodes with gaps", true, func(w *world, f *happening) error {
		return w.order(w.random.Perm(len(w.nodes)))
	}},
}

// chance is a time between two.
func (w *world) chance(from, to time.Duration) time.Duration {
	return from + time.Duration(w.random.Int64N(int64(to-from)))
}

// suffer has a fault happen under load, and checks what has to hold afterwards.
func (w *world) suffer(f fault, beat time.Duration) error {
	if err := w.acked(50 + w.random.IntN(100)); err != nil {
		return fmt.Errorf("before %s: %w", f.name, err)
	}
	h := &happening{beat: beat, newcomers: newcomers{topic: fmt.Sprint("new/", w.random.Uint32())}, steady: w.connects()}
	defer h.newcomers.close()
	if err := f.do(w, h); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if !f.ends {
		w.stayed(f.name, h.steady)
	}
	if err := w.healed(f.name, &h.newcomers); err != nil {
		return err
	}
	if err := w.acked(50); err != nil {
		return fmt.Errorf("after %s: %w", f.name, err)
	}
	return nil
}

// newcomers are clients that have subscribed while a fault lasted, on every node that took them in: everything has to reach them after it.
type newcomers struct {
	topic string
	ends  []*load.Conn
}

func (x *newcomers) come(w *world) error {
	for _, n := range w.nodes {
		if !n.answers() {
			continue
		}
		c, _, err := load.Connect(n.mqtt(), 5, load.Hello{ID: "newcomer-" + n.ip, Clean: true})
		if err != nil {
			return fmt.Errorf("%s takes no new client: %w", n.name, err)
		}
		x.ends = append(x.ends, c)
		if err := c.Subscribe(x.topic, 1); err != nil {
			return err
		}
	}
	return nil
}

func (x *newcomers) reached(w *world) error {
	if len(x.ends) == 0 { // then they come now
		if err := x.come(w); err != nil {
			return err
		}
	}
	return w.crosses(x.topic, x.ends)
}

func (x *newcomers) close() {
	for _, c := range x.ends {
		_ = c.Close() // it has served
	}
}

// die kills a node and starts it again after a while.
func (w *world) die(f *happening, n *node, away time.Duration) error {
	n.kill()
	if err := f.newcomers.come(w); err != nil {
		return err
	}
	w.rest(away)
	return n.start()
}

// hold pauses a node for a while.
func (w *world) hold(f *happening, n *node, d time.Duration) error {
	if err := n.pause(); err != nil {
		return err
	}
	defer func() { _ = n.again() }() // on the way of an error; else it goes on already
	if err := f.newcomers.come(w); err != nil {
		return err
	}
	w.rest(d)
	return n.again()
}

// between gives the same filter for both directions between two sets of nodes.
func (w *world) between(a, b []*node, filter string) map[pair]string {
	all := map[pair]string{}
	for _, x := range a {
		for _, y := range b {
			if i, k := w.index(x), w.index(y); i != k {
				all[pair{i, k}], all[pair{k, i}] = filter, filter
			}
		}
	}
	return all
}

// part cuts nodes off that are no majority.
func (w *world) part(f *happening, few ...*node) error {
	if err := w.net.filter(w.between(few, w.others(few...), drop)); err != nil {
		return err
	}
	return w.minority(f, few, w.others(few...))
}

// oneWay takes one direction between the leader and all others away.
func (w *world) oneWay(f *happening, deaf bool) error {
	n, err := w.leader(w.anyone())
	if err != nil {
		return err
	}
	cut := map[pair]string{}
	for _, o := range w.others(n) {
		p := pair{w.index(n), w.index(o)}
		if !deaf {
			p = pair{p.to, p.from}
		}
		cut[p] = drop
	}
	if err := w.net.filter(cut); err != nil {
		return err
	}
	return w.minority(f, []*node{n}, w.others(n))
}

// minority checks what a partition leaves: those without a majority serve their clients, refuse to change metadata and say that what they
// show may be old, the others can be written again. Then it heals the partition.
func (w *world) minority(f *happening, few, many []*node) error {
	err := each(few, func(n *node) error {
		return w.poll(n.name+" refuses writes and marks reads", load.Patience, func() (bool, string) {
			a, err := ban(n, "refused", "refused")
			if err != nil || a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				return false, fmt.Sprintf("write: %v %d %s %v", err, a.status, a.body, a.header)
			}
			_, stale, err := bans(n)
			return err == nil && stale, fmt.Sprintf("read: stale %t, %v", stale, err)
		})
	})
	if err != nil {
		return err
	}
	if err := f.newcomers.come(w); err != nil {
		return err
	}
	if err := each(many, func(n *node) error {
		return w.poll(n.name+" takes writes", load.Patience, func() (bool, string) {
			a, err := ban(n, "taken", "taken")
			return err == nil && a.status/100 == 2, fmt.Sprintf("write: %v %d %s", err, a.status, a.body)
		})
	}); err != nil {
		return err
	}
	if err := each(few, func(n *node) error { // publishers there go on
		for _, p := range w.groups[w.index(n)].publishers {
			before, _ := p.Acknowledged()
			if err := w.poll("publications on "+n.name+" are acknowledged", load.Patience, func() (bool, string) {
				now, _ := p.Acknowledged()
				return now >= before+20, fmt.Sprintf("%s: %d more", p.ID, now-before)
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	w.rest(w.chance(0, time.Second))
	return w.net.heal()
}

// each does something for all of these nodes at the same time.
func each(nodes []*node, f func(*node) error) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = f(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// connects counts the connections of all clients that do not drop them themselves.
func (w *world) connects() map[*node][]int {
	all := map[*node][]int{}
	for _, c := range w.groups {
		for _, p := range c.publishers {
			_, n := p.Acknowledged()
			all[c.node] = append(all[c.node], n)
		}
		for _, s := range c.subscribers {
			if s.Patience == 0 {
				all[c.node] = append(all[c.node], s.Connects())
			}
		}
	}
	return all
}

// stayed checks that no client has lost its connection.
func (w *world) stayed(what string, before map[*node][]int) {
	now := w.connects()
	for n, counts := range before {
		if !slices.Equal(counts, now[n]) {
			w.ledger.Broken("%s: clients of %s have lost their connections: %v, then %v", what, n.name, counts, now[n])
		}
	}
}

// order kills all nodes and starts them again in an order, with gaps.
func (w *world) order(order []int) error {
	for _, n := range w.nodes {
		n.kill()
	}
	var errs []error
	for _, i := range order {
		w.rest(w.chance(0, 3*time.Second))
		errs = append(errs, w.nodes[i].begin())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, i := range order {
		if err := w.nodes[i].listens(); err != nil {
			return err
		}
	}
	return nil
}
