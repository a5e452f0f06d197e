package node_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/lacewing-mqtt/lacewing/node"
)

// mesh is three nodes of one cluster.
type mesh struct {
	t        *testing.T
	settings [3]map[string]string
	nodes    [3]*node.Node
}

// clusterPort finds a port below those that the system hands out.
func clusterPort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 15000 + rand.IntN(15000)
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	c := &mesh{t: t}
	var seeds []string
	for i := range c.settings {
		listen := fmt.Sprint("127.0.0.1:", clusterPort(t))
		seeds = append(seeds, fmt.Sprintf("n%d@%s", i+1, listen))
		c.settings[i] = map[string]string{
			"node.name": fmt.Sprintf("n%d@127.0.0.1", i+1), "node.data_dir": filepath.Join(t.TempDir(), "data"),
			"node.cookie": "a cookie of this test", "cluster.listen": listen, "cluster.discovery": "static", "cluster.heartbeat": "500ms", "zone.external.max_mqueue_len": "0",
			"cluster.link.suback_wait": "5s", // a busy machine must not break the promise
		}
	}
	var wg sync.WaitGroup
	for i, s := range c.settings {
		s["cluster.static.seeds"] = strings.Join(seeds, ",")
		wg.Go(func() {
			n, err := tryStart(t, s)
			if err != nil {
				t.Error(err)
			}
			c.nodes[i] = n
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	c.linked(0, 1, 2)
	return c
}

// linked waits until these nodes have links to each other.
func (c *mesh) linked(which ...int) {
	c.t.Helper()
	for _, i := range which {
		up := 0
		within(c.t, 20*time.Second, fmt.Sprintf("node %d has its links", i+1), func() bool {
			up = 0
			for _, l := range c.nodes[i].Engine().Links() {
				if l.Up && !l.Late {
					up++
				}
			}
			return up == len(which)-1
		})
	}
}

// within polls for as long as it takes on a busy machine.
func within(t *testing.T, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A message that any node takes reaches the subscribers of all.
func TestLinks(t *testing.T) {
	c := newMesh(t)
	var subs, pubs [3]*client
	for i, n := range c.nodes {
		subs[i], pubs[i] = connect(t, n, fmt.Sprint("s", i)), connect(t, n, fmt.Sprint("p", i))
		subs[i].subscribe(t, "all/+/#", 2)
		subs[i].subscribe(t, fmt.Sprint("only/", i), 1)
	}
	t.Run("every QoS from everywhere", func(t *testing.T) {
		for i := range pubs {
			for qos := range byte(3) {
				topic, text := fmt.Sprintf("all/%d/x", i), fmt.Sprint("qos ", qos)
				pubs[i].publish(t, topic, qos, false, text)
				for _, s := range subs {
					s.want(t, topic, text)
				}
			}
			for j := range subs {
				pubs[i].publish(t, fmt.Sprint("only/", j), 1, false, fmt.Sprint(i))
				subs[j].want(t, fmt.Sprint("only/", j), fmt.Sprint(i))
			}
		}
		for _, s := range subs {
			s.wantNothing(t, "after each message came once")
		}
	})
	t.Run("SUBACK is the promise", func(t *testing.T) {
		for i := range 200 {
			topic := fmt.Sprint("promise/", i)
			subs[0].subscribe(t, topic, byte(i%2))
			pubs[1+i%2].publish(t, topic, byte(i%2), false, "there")
			subs[0].want(t, topic, "there")
		}
	})
	t.Run("one member of a group", func(t *testing.T) {
		var members [3]*client
		for i, n := range c.nodes {
			members[i] = connect(t, n, fmt.Sprint("m", i))
			members[i].subscribe(t, "$share/g/work/#", 1)
		}
		const each = 60
		for i, p := range pubs {
			for k := range each {
				p.publish(t, fmt.Sprint("work/", i), 1, false, fmt.Sprint(k))
			}
		}
		seen := map[message]int{}
		for range 3 * each {
			select {
			case m := <-members[0].got:
				seen[m]++
			case m := <-members[1].got:
				seen[m]++
			case m := <-members[2].got:
				seen[m]++
			case <-time.After(10 * time.Second):
				t.Fatalf("%d messages came, want %d", len(seen), 3*each)
			}
		}
		for _, m := range members {
			m.wantNothing(t, "after all of them came")
		}
		if len(seen) != 3*each {
			t.Errorf("%d messages came, %d of them more than once", len(seen), 3*each-len(seen))
		}
	})
	t.Run("full in both directions", func(t *testing.T) {
		// Much more than the outputs and the buffers of the sockets between them take.
		const each = 3000
		payload := strings.Repeat("x", 4000)
		var flows sync.WaitGroup
		for i := range 2 {
			in := connect(t, c.nodes[1-i], fmt.Sprint("in", i))
			var got atomic.Int32
			done := make(chan struct{})
			token := in.Subscribe(fmt.Sprint("flood/", i), 1, func(mqtt.Client, mqtt.Message) {
				if got.Add(1) == each {
					close(done)
				}
			})
			if !token.WaitTimeout(5*time.Second) || token.Error() != nil {
				t.Fatal(token.Error())
			}
			out := connect(t, c.nodes[i], fmt.Sprint("out", i))
			flows.Go(func() {
				var last mqtt.Token
				for range each {
					last = out.Publish(fmt.Sprint("flood/", i), 1, false, payload)
				}
				if !last.WaitTimeout(30*time.Second) || last.Error() != nil {
					t.Errorf("publish: %v", last.Error())
				}
				select {
				case <-done:
				case <-time.After(30 * time.Second):
					t.Errorf("%d messages came, want %d", got.Load(), each)
				}
			})
		}
		flows.Wait()
	})
	t.Run("the APIs know clients only", func(t *testing.T) {
		for i, n := range c.nodes {
			if got := fmt.Sprint(expect(t, n, 200, "GET", "/api/v3/stats", nil), expect(t, n, 200, "GET", "/api/v3/sessions/", nil)); strings.Contains(got, "$node") {
				t.Errorf("node %d shows sessions of nodes: %s", i+1, got)
			}
		}
	})
}

// What a node misses while it is away waits for it, and it is not told of what nobody there wants.
func TestLinkToNodeThatIsAway(t *testing.T) {
	c := newMesh(t)
	durable := func(o *mqtt.ClientOptions) { o.SetCleanSession(false) }
	s := connect(t, c.nodes[2], "s", durable)
	s.subscribe(t, "d/#", 2)
	p := connect(t, c.nodes[0], "p")
	p.publish(t, "d/1", 2, false, "before")
	s.want(t, "d/1", "before")
	stop(t, c.nodes[2])
	const n = 50
	for i := range n {
		p.publish(t, "d/1", byte(1+i%2), false, fmt.Sprint(i))
	}
	var err error
	if c.nodes[2], err = tryStart(t, c.settings[2]); err != nil {
		t.Fatal(err)
	}
	c.linked(0, 1, 2)
	within(t, 30*time.Second, "the node lets its client in again", func() bool {
		var err error
		s, err = dial(t, c.nodes[2], "s", durable)
		return err == nil
	})
	seen := map[string]int{}
	for range n {
		select {
		case m := <-s.got:
			seen[m.payload]++
		case <-time.After(10 * time.Second):
			t.Fatalf("%d messages came, want %d", len(seen), n)
		}
	}
	if len(seen) != n {
		t.Errorf("%d messages came, the rest more than once", len(seen))
	}
	p.publish(t, "d/1", 2, false, "after")
	s.want(t, "d/1", "after")
}
