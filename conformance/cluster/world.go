//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	api "github.com/lacewing-mqtt/lacewing/gen/node"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// world is a cluster, the clients that load it, and the ledger of what it owes them.
type world struct {
	net      *network
	nodes    []*node
	ledger   *load.Ledger
	metadata *metadata
	random   *rand.Rand
	seed     uint64

	groups      []*crew          // by node
	audiences   []*load.Audience // that have to get everything
	probes      int
	slowest     time.Duration // from the end of a fault until all nodes agree
	slowestWhat string
	base        map[*node]figures // before the load

	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	drained sync.WaitGroup // publishers
}

// crew is the clients of one node. They stay there, with their sessions.
type crew struct {
	node        *node
	publishers  []*load.Publisher
	subscribers []*load.Subscriber
	late        *load.Subscriber // connects at the end only
}

// agreeWithin is how long after a fault all nodes have to agree (G7): 10 s, and three times that where the test is not alone on the machine.
var agreeWithin = 30 * time.Second

// newWorld makes nodes and clients. Nothing runs before open.
func newWorld(net *network, nodes []*node, seed uint64, pause time.Duration) *world {
	w := &world{net: net, nodes: nodes, ledger: load.NewLedger(), seed: seed, random: rand.New(rand.NewPCG(seed, 1))}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.metadata = newMetadata(nodes, w.ledger, seed)
	shared := load.NewAudience("group of all nodes", true)
	shared.Filters = []*load.Interest{{Prefix: "s/", QoS: 2}}
	w.audiences = append(w.audiences, shared)
	for i, n := range nodes {
		c := &crew{node: n}
		w.groups = append(w.groups, c)
		for k, v := range []byte{4, 5} {
			c.publisher(w, fmt.Sprintf("p%d%c", i+1, 'a'+k), v, []int{6, 16}[k], pause)
		}
		id := func(what string) string { return fmt.Sprint(what, "-", i+1) }
		// Every message of every node, in both versions and both qualities of service; one narrow window, one that drops its connections.
		c.subscriber(w, id("all"), byte(4+i%2), 2, "t/")
		c.subscriber(w, id("once"), byte(5-i%2), 1, "t/")
		c.subscriber(w, id("kept"), 5, 2, "r/")
		narrow := c.subscriber(w, id("narrow"), 5, 2, fmt.Sprintf("t/p%da/", 1+(i+1)%len(nodes)))
		narrow.Window = 2
		unsteady := c.subscriber(w, id("unsteady"), 4, 2, fmt.Sprintf("t/p%db/", 1+(i+1)%len(nodes)))
		unsteady.Patience = 97
		c.late = c.subscriber(w, id("late"), byte(4+i%2), 2, fmt.Sprintf("t/p%da/", 1+(i+2)%len(nodes)))
		c.member(w, id("member"), "g", shared)
	}
	// A group that only the first node has members of.
	one := load.NewAudience("group of one node", true)
	one.Filters = []*load.Interest{{Prefix: "s/", QoS: 2}}
	w.audiences = append(w.audiences, one)
	for k := range 2 {
		w.groups[0].member(w, fmt.Sprint("single-", k+1), "one", one)
	}
	return w
}

func (c *crew) publisher(w *world, id string, v byte, window int, pause time.Duration) {
	p := &load.Publisher{ID: id, Version: v, Window: window, Pause: pause, Ledger: w.ledger, Place: c.node.place,
		Random: rand.New(rand.NewPCG(w.seed, uint64(100+len(w.groups)*10+len(c.publishers))))}
	add := func(topic string, qos byte, k load.Kind, weight int) {
		topic += fmt.Sprint("/q", qos)
		s := w.ledger.Stream(strings.ReplaceAll(topic, "/", "-"), topic, qos, k)
		p.Sources = append(p.Sources, load.Source{Stream: s, Weight: weight})
	}
	for qos := byte(1); qos <= 2; qos++ {
		add("t/"+id+"/a", qos, load.Ordinary, 30)
		add("t/"+id+"/b", qos, load.Ordinary, 10)
		add("s/"+id, qos, load.Ordinary, 8)
		add("r/"+id+"/x", qos, load.Kept, 3)
	}
	c.publishers = append(c.publishers, p)
}

// subscriber makes a subscriber to everything that begins with prefix, and to the markers. "" is for members of a group.
func (c *crew) subscriber(w *world, id string, v, qos byte, prefix string) *load.Subscriber {
	s := &load.Subscriber{ID: id, Version: v, Audience: load.NewAudience(id, false), Ledger: w.ledger, Place: c.node.place}
	s.Filters = []*load.Filter{{Name: "m/#", Interest: &load.Interest{Prefix: "m/", QoS: qos}}}
	if prefix != "" {
		x := &load.Interest{Prefix: prefix, QoS: qos}
		s.Audience.Filters = []*load.Interest{x}
		s.Filters = append(s.Filters, &load.Filter{Name: prefix + "#", Interest: x})
		w.audiences = append(w.audiences, s.Audience)
	}
	s.Prepare()
	c.subscribers = append(c.subscribers, s)
	return s
}

// member makes a member of a share group.
func (c *crew) member(w *world, id, group string, of *load.Audience) {
	s := c.subscriber(w, id, 5, 2, "")
	s.Audience = of
	s.Filters = append(s.Filters, &load.Filter{Name: "$share/" + group + "/s/#", Interest: of.Filters[0]})
}

// open starts the nodes and lets the clients in: subscribers first, and the publishers once all of those have their SUBACK.
func (w *world) open() error {
	var errs []error
	for _, n := range w.nodes {
		errs = append(errs, n.begin())
	}
	for _, n := range w.nodes {
		errs = append(errs, n.listens())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := w.formed(w.nodes); err != nil {
		return err
	}
	if err := w.crossing(); err != nil {
		return err
	}
	if err := w.metadata.begin(); err != nil {
		return err
	}
	for _, c := range w.groups {
		if err := w.subscribe(c); err != nil {
			return err
		}
	}
	if err := w.baseline(); err != nil {
		return err
	}
	for _, c := range w.groups {
		w.publish(c)
	}
	for k := range metaWrites {
		w.tasks.Go(func() { w.metadata.run(w.ctx, k) })
	}
	return nil
}

// subscribe connects the subscribers of a node and waits for their SUBACKs.
func (w *world) subscribe(c *crew) error {
	ctx, cancel := context.WithTimeout(w.ctx, load.Patience)
	defer cancel()
	for _, s := range c.subscribers {
		s.Come()
		w.tasks.Go(func() { s.Run(w.ctx) })
	}
	for _, s := range c.subscribers {
		if err := s.Settled(ctx); err != nil {
			return err
		}
	}
	c.late.Go()
	return nil
}

// publish lets the publishers of a node begin.
func (w *world) publish(c *crew) {
	for _, p := range c.publishers {
		w.drained.Add(1)
		w.tasks.Go(func() {
			defer w.drained.Done()
			p.Run(w.ctx)
		})
	}
}

// close ends everything.
func (w *world) close() {
	w.cancel()
	for _, n := range w.nodes {
		n.kill()
	}
	w.tasks.Wait()
	w.net.close()
}

// poll waits for something that has to come.
func (w *world) poll(what string, within time.Duration, ready func() (bool, string)) error {
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		ok, last := ready()
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %s: %s", within, what, last)
		}
	}
}

// formed waits until these nodes all see each other, all of them running, and read metadata that are not stale.
func (w *world) formed(nodes []*node) error {
	return w.poll("the nodes are one cluster", 2*load.Patience, func() (bool, string) { return together(nodes) })
}

// together reports whether nodes are one cluster, and what is missing.
func together(nodes []*node) (ok bool, missing string) {
	leader := ""
	for _, n := range nodes {
		s, err := n.status()
		if err != nil {
			return false, err.Error()
		}
		if s.Leader == nil {
			return false, n.name + " has no leader"
		}
		if leader != "" && *s.Leader != leader {
			return false, fmt.Sprintf("%s follows %s, others %s", n.name, *s.Leader, leader)
		}
		leader = *s.Leader
		running := 0
		for _, m := range s.Members {
			if m.Running && slices.ContainsFunc(nodes, func(n *node) bool { return n.name == m.Name }) {
				running++
			}
		}
		if running != len(nodes) {
			return false, fmt.Sprintf("%s sees %d of %d nodes running", n.name, running, len(nodes))
		}
		if _, stale, err := bans(n); err != nil || stale {
			return false, fmt.Sprintf("%s reads metadata: stale %t, %v", n.name, stale, err)
		}
	}
	return true, ""
}

// crossing waits until messages cross between all nodes.
func (w *world) crossing() error {
	w.probes++
	topic := fmt.Sprint("probe/", w.probes)
	var ends []*load.Conn
	defer func() {
		for _, c := range ends {
			_ = c.Close() // it has served
		}
	}()
	for i, n := range w.nodes {
		c, _, err := load.Connect(n.mqtt(), 5, load.Hello{ID: fmt.Sprint("probe-", i), Clean: true})
		if err != nil {
			return err
		}
		ends = append(ends, c)
		if err := c.Subscribe(topic, 0); err != nil {
			return err
		}
	}
	return w.crosses(topic, ends)
}

// crosses publishes through every node until each of these, which are subscribed, has what came through each.
func (w *world) crosses(topic string, ends []*load.Conn) error {
	const again = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(w.ctx, agreeWithin)
	defer cancel()
	var sending, receiving sync.WaitGroup
	said := make([]string, len(w.nodes))
	for i, n := range w.nodes {
		c, _, err := load.Connect(n.mqtt(), 5, load.Hello{ID: fmt.Sprint("prober-", i), Clean: true})
		if err != nil {
			return err
		}
		defer c.Close()
		sending.Go(func() {
			for sent := 0; ctx.Err() == nil; sent++ {
				if err := c.Publish(topic, []byte(n.name), false); err != nil {
					said[i] = fmt.Sprintf("%s has acknowledged %d messages and then: %v", n.name, sent, err)
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(again):
				}
			}
		})
	}
	missing := make([]string, len(ends))
	for i, c := range ends {
		receiving.Go(func() {
			got := map[string]bool{}
			for len(got) < len(w.nodes) {
				p, err := c.Await(ctx)
				if err != nil {
					missing[i] = fmt.Sprintf("a subscriber has got only what came through %v: %v", slices.Sorted(maps.Keys(got)), err)
					return
				}
				if p.Type == load.TypePublish && p.Topic == topic {
					got[string(p.Payload)] = true
					if p.QoS == 1 {
						_ = c.Acknowledge(p) // reading tells
					}
				}
			}
		})
	}
	receiving.Wait()
	cancel()
	sending.Wait()
	if text := strings.TrimSpace(strings.Join(append(missing, said...), " ")); text != "" {
		return errors.New(text)
	}
	return nil
}

// leader is the node that leads in the eyes of another.
func (w *world) leader(of *node) (found *node, err error) {
	err = w.poll("there is a leader", load.Patience, func() (bool, string) {
		s, err := of.status()
		if err != nil || s.Leader == nil {
			return false, fmt.Sprint(s, err)
		}
		i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.name == *s.Leader && n.answers() })
		if i < 0 {
			return false, *s.Leader + " does not run"
		}
		found = w.nodes[i]
		return true, ""
	})
	return found, err
}

// others are the nodes that are not among these.
func (w *world) others(these ...*node) (rest []*node) {
	for _, n := range w.nodes {
		if !slices.Contains(these, n) {
			rest = append(rest, n)
		}
	}
	return rest
}

// follower is a node that does not lead, by chance.
func (w *world) follower() (*node, error) {
	l, err := w.leader(w.nodes[0])
	if err != nil {
		return nil, err
	}
	rest := w.others(l)
	return rest[w.random.IntN(len(rest))], nil
}

// anyone is a node by chance.
func (w *world) anyone() *node { return w.nodes[w.random.IntN(len(w.nodes))] }

func (w *world) index(n *node) int { return slices.Index(w.nodes, n) }

// acked waits until so many more messages are acknowledged.
func (w *world) acked(more int) error {
	first, _ := w.ledger.Counts()
	for {
		now, grown := w.ledger.Progress()
		if now >= first+more {
			return nil
		}
		select {
		case <-grown:
		case <-time.After(load.Patience):
			return fmt.Errorf("nothing was acknowledged for %v, %d of %d were", load.Patience, now-first, more)
		}
	}
}

// rest lets the load run for a while: how long a fault lasts.
func (w *world) rest(d time.Duration) { time.Sleep(d) }

// healed waits until the nodes agree again and says how long that took.
func (w *world) healed(what string, newcomers *newcomers) error {
	begun := time.Now()
	if err := w.poll("the nodes are one cluster after "+what, agreeWithin, func() (bool, string) { return together(w.nodes) }); err != nil {
		w.ledger.Broken("G7: %v", err)
		return nil
	}
	if err := newcomers.reached(w); err != nil {
		w.ledger.Broken("G7: routes after %s: %v", what, err)
	}
	if err := w.sameMetadata(); err != nil {
		w.ledger.Broken("G7: %v after %s", err, what)
	}
	if took := time.Since(begun); took > w.slowest {
		w.slowest, w.slowestWhat = took, what
	}
	return nil
}

// sameMetadata holds what the nodes answer against each other.
func (w *world) sameMetadata() error {
	return w.poll("metadata are equal", agreeWithin, func() (bool, string) {
		var first map[string]bool
		for _, n := range w.nodes {
			all, stale, err := bans(n)
			if err != nil || stale {
				return false, fmt.Sprintf("%s: stale %t, %v", n.name, stale, err)
			}
			names := map[string]bool{}
			for who := range all {
				names[who] = true
			}
			if first == nil {
				first = names
			}
			for who := range first { // bans are made meanwhile, and none is taken back
				if !names[who] {
					return false, fmt.Sprintf("%s does not have the ban of %s", n.name, who)
				}
			}
		}
		return true, ""
	})
}

// settle ends the load, lets everybody have what is for them and writes down what has not come. All nodes run.
func (w *world) settle() {
	for _, c := range w.groups {
		for _, p := range c.publishers {
			p.Drain()
		}
	}
	done := make(chan struct{})
	go func() {
		w.drained.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(load.Patience):
		w.ledger.Broken("publications are not acknowledged after the last fault")
	}
	for _, c := range w.groups {
		c.late.Come()
	}
	if err := w.mark(); err != nil {
		w.ledger.Broken("%v", err)
	}
	for _, a := range w.audiences {
		// What was sent through a node before its marker has come now, unless its quality of service is another, or it is shared.
		for limit := time.Now().Add(10 * time.Second); ; {
			texts, count := w.ledger.Missing(a, 5)
			if count == 0 {
				break
			}
			if time.Now().After(limit) {
				w.ledger.Broken("%s: %d messages that were acknowledged are lost: %s", a.Name, count, strings.Join(texts, ", "))
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// mark publishes a message through every node and waits until all subscribers that are there have all of them: what was sent before
// through a node is before its marker.
func (w *world) mark() error {
	ctx, cancel := context.WithTimeout(w.ctx, 2*load.Patience)
	defer cancel()
	w.probes++
	var markers []string
	for i, n := range w.nodes {
		c, _, err := load.Connect(n.mqtt(), 5, load.Hello{ID: fmt.Sprint("marker-", i), Clean: true})
		if err != nil {
			return err
		}
		marker := fmt.Sprintf("%d-%d", w.probes, i)
		markers = append(markers, marker)
		err = c.Publish("m/"+marker, nil, false)
		if err = errors.Join(err, c.Bye()); err != nil {
			return err
		}
	}
	var errs []error
	for _, c := range w.groups {
		for _, s := range c.subscribers {
			if !s.Online() {
				continue
			}
			for _, m := range markers {
				errs = append(errs, s.Marked(ctx, m))
			}
		}
	}
	return errors.Join(errs...)
}

// voters counts the members that vote in the eyes of a node.
func voters(n *node) (count int, err error) {
	s, err := n.status()
	for _, m := range s.Members {
		if m.Role != api.Follower {
			count++
		}
	}
	return count, err
}

// report is the last line of a run.
func (w *world) report(what string) string {
	acked, arrived := w.ledger.Counts()
	return fmt.Sprintf("%s: seed %d, %d messages acknowledged, %d arrivals checked, %s; agreed %v after a fault at the latest (%s)", what, w.seed, acked, arrived,
		w.metadata.report(), w.slowest.Round(10*time.Millisecond), w.slowestWhat)
}
