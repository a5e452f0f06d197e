//go:build linux

package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// TestSubscribed has packets between nodes take their time, and publishes through one node as soon as another has answered a SUBSCRIBE.
func TestSubscribed(t *testing.T) {
	w := build(t, 3, command(t), 20*time.Millisecond, map[string]string{
		"cluster.link.suback_wait": "20s", // a busy machine is not what is tried
	})
	w.must(t, w.slowDown(10*time.Millisecond, 30*time.Millisecond))
	w.must(t, w.open())
	w.must(t, w.subscriptions(30))
	if w.ledger.Verdict() == "" {
		w.must(t, w.wiped())
		w.must(t, w.subscriptions(10))
	}
	w.settle()
	w.metadata.check()
	w.enough(t, "slow links, and a node that has lost its disk", 500)
}

// slowDown has everything between the nodes take a time between two, on connections that begin from now on.
func (w *world) slowDown(from, to time.Duration) error {
	for p := range w.between(w.nodes, w.nodes, drop) {
		if err := w.net.slow(p, w.chance(from, to)); err != nil {
			return err
		}
	}
	return nil
}

// subscriptions subscribes so many times through nodes by chance and publishes at once through another.
func (w *world) subscriptions(times int) error {
	ctx, cancel := context.WithTimeout(w.ctx, 4*load.Patience)
	defer cancel()
	var subs, pubs []*load.Conn
	for i, n := range w.nodes {
		for _, list := range []*[]*load.Conn{&subs, &pubs} {
			c, _, err := load.Connect(n.mqtt(), 5, load.Hello{ID: fmt.Sprintf("quick-%d-%d", i, len(subs)-len(pubs)), Clean: true})
			if err != nil {
				return err
			}
			defer c.Close()
			*list = append(*list, c)
		}
	}
	for range times {
		i := w.random.IntN(len(subs))
		k := (i + 1 + w.random.IntN(len(subs)-1)) % len(subs)
		w.probes++
		topic := fmt.Sprint("quick/", w.probes)
		if err := subs[i].Subscribe(topic, 1); err != nil {
			return err
		}
		if err := pubs[k].Publish(topic, []byte("at once"), false); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, agreeWithin/3)
		p, err := subs[i].Await(short)
		cancel()
		if err != nil {
			w.ledger.Broken("G1: %s had answered SUBSCRIBE to %s, and what %s acknowledged after that has not come: %v", w.nodes[i].name, topic, w.nodes[k].name, err)
			return nil
		}
		if p.Type != load.TypePublish || p.Topic != topic {
			return fmt.Errorf("%s: packet of type %d on %s", w.nodes[i].name, p.Type, p.Topic)
		}
		if err := subs[i].Acknowledge(p); err != nil {
			return err
		}
	}
	return nil
}

// wiped takes a node's disk away, with the sessions of its clients, and starts it again under its name, while clients of the others go on.
// What is owed to its own clients is settled before, and share groups with members there are given up.
func (w *world) wiped() error {
	n := w.nodes[1+w.random.IntN(len(w.nodes)-1)]
	c := w.groups[w.index(n)]
	if err := w.retire(c); err != nil {
		return err
	}
	if err := w.acked(50); err != nil {
		return err
	}
	n.kill()
	if err := n.wipe(); err != nil {
		return err
	}
	w.rest(w.chance(0, 2*time.Second))
	if err := n.start(); err != nil {
		return err
	}
	if err := w.healed("a node has lost its disk", &newcomers{topic: "new/wiped"}); err != nil {
		return err
	}
	if v, err := voters(n); err != nil || v != len(w.nodes) {
		if err := w.poll("it votes again", load.Patience, func() (bool, string) {
			v, err := voters(n)
			return err == nil && v == len(w.nodes), fmt.Sprint(v, err)
		}); err != nil {
			return err
		}
	}
	fresh := &crew{node: n}
	w.groups[w.index(n)] = fresh
	fresh.publisher(w, "again", 5, 8, 20*time.Millisecond)
	fresh.late = fresh.subscriber(w, "again-late", 4, 2, "t/p1a/")
	fresh.subscriber(w, "again-all", 5, 2, "t/")
	if err := w.subscribe(fresh); err != nil {
		return err
	}
	w.publish(fresh)
	return w.acked(50)
}

// retire lets the clients of a node have what they are owed, and ends them.
func (w *world) retire(c *crew) error {
	for _, p := range c.publishers {
		p.Drain()
	}
	c.late.Come()
	for _, p := range c.publishers {
		if err := w.poll(p.ID+" has ended", load.Patience, func() (bool, string) { return p.Over(), "" }); err != nil {
			return err
		}
	}
	if err := w.mark(); err != nil {
		return err
	}
	var rest []*load.Audience
	for _, a := range w.audiences {
		own := false
		for _, s := range c.subscribers {
			own = own || s.Audience == a
		}
		if !own {
			rest = append(rest, a)
			continue
		}
		// Others go on, so what was sent a moment ago may be on its way: what is missing twice is lost.
		if a.Shared {
			continue
		}
		missing := map[string]bool{}
		texts, _ := w.ledger.Missing(a, 1000)
		for _, x := range texts {
			missing[x] = true
		}
		if err := w.mark(); err != nil {
			return err
		}
		texts, _ = w.ledger.Missing(a, 1000)
		var lost []string
		for _, x := range texts {
			if missing[x] {
				lost = append(lost, x)
			}
		}
		if len(lost) > 0 {
			w.ledger.Broken("%s: %d messages that were acknowledged are lost: %s", a.Name, len(lost), strings.Join(lost, ", "))
		}
	}
	w.audiences = rest
	for _, s := range c.subscribers {
		s.Go()
	}
	return nil
}
