//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	api "github.com/lacewing-mqtt/lacewing/gen/node"
)

// faults ends one of three nodes, the leader by a crash and by a pause and one that does not lead by a crash, and looks at how soon the others
// know it and go on.
func (b *bench) faults() error {
	nodes, err := b.prepare(3, 3)
	if err != nil {
		return err
	}
	defer kill(nodes...)
	if err := b.start(nodes...); err != nil {
		return err
	}
	if err := b.together(nodes...); err != nil {
		return err
	}
	for _, kind := range []string{"killed", "paused", "follower"} {
		var elected, written, down, published times
		for round := range b.rounds {
			s, err := nodes[0].status()
			if err != nil || s.Leader == nil {
				return fmt.Errorf("no leader: %w", err)
			}
			var dead *node
			var left []*node
			for _, n := range nodes {
				if (n.name == *s.Leader) == (kind != "follower") && dead == nil {
					dead = n
				} else {
					left = append(left, n)
				}
			}
			at := left[round%2]
			if err := b.settled(nodes); err != nil {
				return err
			}
			topic := fmt.Sprint("gone/", kind, round)
			watcher, err := dial(at.mqtt, "watcher")
			if err != nil {
				return err
			}
			defer watcher.Close()
			if _, err := watcher.ask((&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: topic}}}).Append(nil, packet.V311), packet.TypeSuback); err != nil {
				return err
			}
			victim, err := dialAs(dead.mqtt, packet.Connect{ClientID: "victim", CleanStart: true, Will: &packet.Will{Topic: topic}})
			if err != nil {
				return err
			}
			defer victim.Close()
			if err := b.settled(nodes); err != nil { // its will is known elsewhere
				return err
			}
			begin := time.Now()
			if kind != "paused" {
				kill(dead)
			} else if err := dead.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				return err
			}
			// A write waits for a leader by itself; what waits longer than that is asked again.
			type answer struct {
				took time.Duration
				err  error
			}
			write := make(chan answer, 1)
			go func() {
				took, err := b.wait("a write succeeds", 30*time.Second, begin, func() bool {
					code, err := at.call("POST", "/api/v3/banned", map[string]any{
						"who": fmt.Sprint(kind, round), "as": "client_id", "reason": "a benchmark", "desc": "", "until": 4102444800,
					}, nil)
					return err == nil && code/100 == 2
				})
				write <- answer{took, err}
			}()
			steps := []struct {
				what string
				to   *times
				ok   func() bool
			}{
				{"another leads", &elected, func() bool {
					s, err := at.status()
					return err == nil && s.Leader != nil && *s.Leader != dead.name
				}},
				{"it is shown as down", &down, func() bool {
					s, err := at.status()
					return err == nil && !member(s, dead).Running
				}},
			}
			will := make(chan answer, 1)
			go func() {
				watcher.SetReadDeadline(begin.Add(30 * time.Second))
				_, err := watcher.read(packet.TypePublish)
				will <- answer{time.Since(begin), err}
			}()
			for _, step := range steps {
				took, err := b.wait(step.what, 30*time.Second, begin, step.ok)
				if err != nil {
					return err
				}
				*step.to = append(*step.to, took)
			}
			for _, a := range []struct {
				from <-chan answer
				to   *times
			}{{write, &written}, {will, &published}} {
				got := <-a.from
				if got.err != nil {
					return got.err
				}
				*a.to = append(*a.to, got.took)
			}
			if kind != "paused" {
				err = b.start(dead)
			} else {
				err = dead.cmd.Process.Signal(syscall.SIGCONT)
			}
			if err != nil {
				return err
			}
			if err := b.together(nodes...); err != nil {
				return err
			}
		}
		if kind == "follower" {
			fmt.Printf("one of three that does not lead killed (heartbeat 1s): a write is answered after %v, the node is shown as down after %v, the will of a client of it comes from another node after %v\n",
				written, down, published)
			continue
		}
		fmt.Printf("leader of three %s (heartbeat 1s): another leads after %v, a write is answered after %v, the node is shown as down after %v, the will of a client of it comes from another node after %v\n",
			kind, elected, written, down, published)
	}
	return nil
}

// settled waits until who is up has not changed for longer than it takes to be noticed, and nothing is on its way to other registries.
func (b *bench) settled(nodes []*node) error {
	last, since := "", time.Now()
	_, err := b.wait("the nodes agree who is up", time.Minute, since, func() bool {
		now := ""
		for _, n := range nodes {
			for _, name := range []string{"epoch", "outbox", "unready_shards"} {
				v, err := n.figure("lacewing_registry_" + name)
				if err != nil || name != "epoch" && v != 0 {
					since = time.Now()
					return false
				}
				now += fmt.Sprint(v, " ")
			}
		}
		if now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 1500*time.Millisecond
	})
	return err
}

// sample is what mqload says of one round.
type sample struct {
	Rate   float64 `json:"rate"`
	CPU    float64 `json:"cpu_us"`
	Lost   int64   `json:"lost"`
	Error  string  `json:"error"`
	Double int64   `json:"duplicates"`
	Order  int64   `json:"reordered"`
}

// load runs mqload once: publishers on one node, subscribers on another or on the same.
func (b *bench) load(from, to *node, qos int) (s sample, err error) {
	args := []string{"-json", "-d", b.seconds.String(), "-warmup", "500ms", "-addr", from.mqtt, "-pid", strconv.Itoa(from.cmd.Process.Pid)}
	if to != from {
		args = append(args, "-to", to.mqtt, "-to-pid", strconv.Itoa(to.cmd.Process.Pid))
	}
	out, err := exec.CommandContext(b.ctx, b.mqload, append(args, fmt.Sprint("p2p:window=32,qos=", qos))...).Output()
	if err2 := json.Unmarshal(bytes.TrimSpace(out), &s); err2 != nil {
		return s, errors.Join(err, err2)
	}
	if s.Error != "" || s.Lost != 0 || s.Double != 0 || s.Order != 0 {
		return s, fmt.Errorf("mqload found a fault: %s", out)
	}
	return s, err
}

// forward sends messages from one node to another, beside delivery on the node itself and on a node that is alone.
func (b *bench) forward() error {
	nodes, err := b.prepare(3, 3)
	if err != nil {
		return err
	}
	lone, err := b.prepare(1, 0)
	if err != nil {
		return err
	}
	defer kill(append(nodes, lone...)...)
	if err := b.start(append(nodes, lone...)...); err != nil {
		return err
	}
	if err := b.together(nodes...); err != nil {
		return err
	}
	if _, err := b.wait("the lone node answers", time.Minute, time.Now(), func() bool {
		c, err := dial(lone[0].mqtt, "probe")
		if err != nil {
			return false
		}
		c.Close()
		return true
	}); err != nil {
		return err
	}
	ways := []struct {
		name     string
		from, to *node
	}{{"on a node that is alone", lone[0], lone[0]}, {"on one node of three", nodes[0], nodes[0]}, {"from one node to another", nodes[0], nodes[1]}}
	for qos := range 2 {
		rates, cpus := make([][]float64, len(ways)), make([][]float64, len(ways))
		for range b.rounds {
			for i, w := range ways {
				s, err := b.load(w.from, w.to, qos)
				if err != nil {
					return fmt.Errorf("QoS %d %s: %w", qos, w.name, err)
				}
				rates[i], cpus[i] = append(rates[i], s.Rate/1000), append(cpus[i], s.CPU)
			}
		}
		for i, w := range ways {
			fmt.Printf("QoS %d, 50 pairs, 32 in flight, %s: %s thousand messages/s, %s us of processor each", qos, w.name, spread(rates[i], "%.0f"), spread(cpus[i], "%.2f"))
			if i > 0 {
				fmt.Printf("; %.2f of the rate and %.2f of the processor of a node that is alone", ratio(rates[i], rates[0]), ratio(cpus[i], cpus[0]))
			}
			fmt.Println()
		}
	}
	return nil
}

// ratio is the median of the ratios of rounds.
func ratio(a, b []float64) float64 {
	var all []float64
	for i := range a {
		all = append(all, a[i]/b[i])
	}
	return median(all)
}

const (
	joinClients = 100
	joinFilters = 500 // in a SUBSCRIBE
)

// join lets a node with nothing join three that have no routes, then three that have many.
func (b *bench) join() error {
	nodes, err := b.prepare(5, 3)
	if err != nil {
		return err
	}
	defer kill(nodes...)
	first, empty, full := nodes[:3], nodes[3], nodes[4]
	if err := b.start(first...); err != nil {
		return err
	}
	if err := b.together(first...); err != nil {
		return err
	}
	enter := func(n *node, with []*node) (time.Duration, error) {
		begin := time.Now()
		if err := b.start(n); err != nil {
			return 0, err
		}
		took, err := b.wait(n.name+" has joined", 5*time.Minute, begin, func() bool {
			for _, o := range append(with, n) {
				s, err := o.status()
				if err != nil || len(s.Members) != len(with)+1 {
					return false
				}
				for _, m := range s.Members {
					if m.Name != o.name && (m.Link == nil || *m.Link != api.Up) {
						return false
					}
				}
			}
			return true
		})
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, n.said.String())
		}
		return took, err
	}
	none, err := enter(empty, first)
	if err != nil {
		return err
	}
	four := append(append([]*node(nil), first...), empty)
	before, worked, err := used(four)
	if err != nil {
		return err
	}
	begin := time.Now()
	clients := make([]*mqtt, joinClients)
	for i := range clients {
		if clients[i], err = dial(nodes[0].mqtt, fmt.Sprint("subscriber", i)); err != nil {
			return err
		}
		defer clients[i].Close()
	}
	for i := 0; i < b.routes; i += joinFilters {
		m := &packet.Subscribe{PacketID: 1}
		for k := i; k < min(i+joinFilters, b.routes); k++ {
			m.Filters = append(m.Filters, packet.Subscription{Filter: route(k), QoS: 1})
		}
		if _, err := clients[i/joinFilters%joinClients].ask(m.Append(nil, packet.V311), packet.TypeSuback); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	if err := b.together(four...); err != nil {
		return err
	}
	told := time.Since(begin)
	grown, work, err := used(four)
	if err != nil {
		return err
	}
	for i := range four {
		grown[i] = (grown[i] - before[i]) / float64(b.routes)
		work[i] = (work[i] - worked[i]) / float64(b.routes) * 1e6
	}
	with, err := enter(full, four)
	if err != nil {
		return err
	}
	// That it has them is shown by messages.
	p, err := dial(full.mqtt, "publisher")
	if err != nil {
		return err
	}
	defer p.Close()
	for range 100 {
		k := rand.IntN(b.routes)
		m := &packet.Publish{Topic: []byte(strings.ReplaceAll(route(k), "+", "x")), QoS: 0}
		if _, err := p.Write(m.Append(nil, packet.V311)); err != nil {
			return err
		}
		c := clients[k/joinFilters%joinClients]
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.read(packet.TypePublish); err != nil {
			return fmt.Errorf("a message of the node that has joined: %w", err)
		}
	}
	size, entry, err := used([]*node{full})
	if err != nil {
		return err
	}
	fmt.Printf("a node joins, from the start of its process until all links are up: %v without routes, %v with %d routes\n", none.Round(10*time.Millisecond), with.Round(10*time.Millisecond), b.routes)
	fmt.Printf("%d subscriptions of %d clients of one node, until three others have acknowledged the routes: %v, %.1f us each\n",
		b.routes, joinClients, told.Round(10*time.Millisecond), float64(told.Microseconds())/float64(b.routes))
	fmt.Printf("resident memory for each of these: %.0f bytes at the node of the clients, %.0f, %.0f and %.0f at the others, %.0f at the one that has joined, which has all of its memory counted\n",
		grown[0], grown[1], grown[2], grown[3], size[0]/float64(b.routes))
	fmt.Printf("processor time for each: %.1f us at the node of the clients, %.1f, %.1f and %.1f at the others, %.1f at the one that has joined\n",
		work[0], work[1], work[2], work[3], entry[0]/float64(b.routes)*1e6)
	return nil
}

// route is the filter of a number; one in eight has a wildcard.
func route(i int) string {
	if i%8 == 0 {
		return fmt.Sprintf("site/%d/device/%d/+/state", i%1000, i)
	}
	return fmt.Sprintf("site/%d/device/%d/state", i%1000, i)
}

// inside runs the benchmarks of the packages, and says what their figures are.
func (b *bench) inside() error {
	for _, part := range []struct {
		pkg, bench, time string
		say              map[string]string // name of the benchmark and its unit: what it is
	}{
		{"./engine", "^BenchmarkGate$", "20x", map[string]string{
			"Gate/QoS1 ns/msg-alone":   "a publication of QoS 1 in process, without the gate of a cluster: %.0f ns",
			"Gate/QoS1 ns/msg-cluster": "a publication of QoS 1 in process, with it: %.0f ns",
			"Gate/QoS2 ns/msg-alone":   "a publication of QoS 2 in process, without it: %.0f ns",
			"Gate/QoS2 ns/msg-cluster": "a publication of QoS 2 in process, with it: %.0f ns",
		}},
		{"./engine/store", "^BenchmarkLink(Routes)?$", "2s", map[string]string{
			"Link/QoS0 ns/msg":    "a message from one node to another in process, store in memory, QoS 0: %.0f ns",
			"Link/QoS1 ns/msg":    "a message from one node to another in process, store in memory, QoS 1: %.0f ns",
			"LinkRoutes ns/route": "a route told to a node that comes, both ends: %.0f ns",
			"LinkRoutes B/route":  "a route of another node, in memory: %.0f bytes",
		}},
		{"./cluster", "^BenchmarkRegistryEntry$", "300000x", map[string]string{
			"RegistryEntry/memory B/entry":   "an entry of the registry at its owner, identifier of 23 characters: %.0f bytes",
			"RegistryEntry/claim ns/op":      "a claim and its settlement, three nodes: %.0f ns",
			"RegistryEntry/claim-here ns/op": "a claim and its settlement where the owner is the node itself: %.0f ns",
		}},
		{"./impl/peer", "^BenchmarkClusterPages$", "300ms", map[string]string{
			"ClusterPages/nodes=1/first20 ns/op":     "the first page of 20 of 100 000 clients on one node: %.0f ns",
			"ClusterPages/nodes=1/last20 ns/op":      "the last page, one node: %.0f ns",
			"ClusterPages/nodes=3/first20 ns/op":     "the first page of 20 of 100 000 clients on three nodes: %.0f ns",
			"ClusterPages/nodes=3/middle20 ns/op":    "the page in the middle, three nodes: %.0f ns",
			"ClusterPages/nodes=3/last20 ns/op":      "the last page, three nodes: %.0f ns",
			"ClusterPages/nodes=1/border10000 ns/op": "a page of 10 000 clients, one node: %.0f ns",
			"ClusterPages/nodes=3/border10000 ns/op": "a page of 10 000 clients that two of three nodes share: %.0f ns",
		}},
	} {
		cmd := exec.CommandContext(b.ctx, "go", "test", "-run", "^$", "-bench", part.bench, "-benchtime", part.time, part.pkg)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("go test %s: %w\n%s", part.pkg, err, out)
		}
		said := 0
		lines := bufio.NewScanner(bytes.NewReader(out))
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
				continue
			}
			name := strings.TrimPrefix(f[0], "Benchmark")
			if i := strings.LastIndexByte(name, '-'); i > 0 {
				name = name[:i] // the number of processors
			}
			for i := 2; i+1 < len(f); i += 2 {
				text, there := part.say[name+" "+f[i+1]]
				if !there {
					continue
				}
				v, err := strconv.ParseFloat(f[i], 64)
				if err != nil {
					return err
				}
				said++
				fmt.Printf(text+"\n", v)
			}
		}
		if said != len(part.say) {
			return fmt.Errorf("go test -bench %s %s gave %d of %d figures:\n%s", part.bench, part.pkg, said, len(part.say), out)
		}
	}
	return nil
}
