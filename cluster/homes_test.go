//go:build !windows

package cluster_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// guest is a client of MQTT 5.0 that shows what it is told.
type guest struct {
	net.Conn
	in *bufio.Reader
	// known after CONNECT
	ack  packet.Connack
	ends chan packet.ReasonCode // the reason of DISCONNECT, or Success when the connection just ends
}

// visit connects a client once, and reads on until the connection ends.
func (b *box) visit(id string, change ...func(*packet.Connect)) (*guest, error) {
	g, err := b.knock(id, change...)
	if err == nil {
		go g.read()
	}
	return g, err
}

// knock connects a client once.
func (b *box) knock(id string, change ...func(*packet.Connect)) (*guest, error) {
	conn, err := net.DialTimeout("tcp", b.mqtt, 5*time.Second)
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: conn, in: bufio.NewReader(conn), ends: make(chan packet.ReasonCode, 1)}
	m := packet.Connect{Version: packet.V5, ClientID: id, CleanStart: true, ReceiveMaximum: packet.DefaultReceiveMaximum}
	for _, x := range change {
		x(&m)
	}
	if _, err := conn.Write(m.Append(nil, packet.V5)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	h, body, err := g.next()
	if err == nil && h.Type != packet.TypeConnack {
		err = fmt.Errorf("%v instead of CONNACK", h.Type)
	}
	if err == nil {
		err = g.ack.Decode(packet.V5, h.Flags, body)
	}
	if err == nil && g.ack.Code.Failed() {
		err = g.ack.Code
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return g, errors.Join(err, conn.Close())
	}
	return g, nil
}

func (g *guest) next() (packet.Header, []byte, error) {
	var head []byte
	for {
		c, err := g.in.ReadByte()
		if err != nil {
			return packet.Header{}, nil, err
		}
		head = append(head, c)
		h, _, err := packet.ParseHeader(packet.V5, head)
		if errors.Is(err, packet.ErrIncomplete) {
			continue
		}
		if err != nil {
			return h, nil, err
		}
		body := make([]byte, h.Remaining)
		_, err = io.ReadFull(g.in, body)
		return h, body, err
	}
}

// read goes on until the connection ends.
func (g *guest) read() {
	code := packet.Success
	defer func() { g.ends <- code }()
	for {
		h, body, err := g.next()
		if err != nil {
			return
		}
		if h.Type == packet.TypeDisconnect {
			var d packet.Disconnect
			if d.Decode(packet.V5, h.Flags, body) == nil {
				code = d.Code
			}
		}
	}
}

// over reports the end of the connection, if it has come.
func (g *guest) over() (packet.ReasonCode, bool) {
	select {
	case code := <-g.ends:
		g.ends <- code
		return code, true
	default:
		return 0, false
	}
}

// visitSoon is visit for a node that may not be ready yet.
func (f *fleet) visitSoon(b *box, id string, change ...func(*packet.Connect)) *guest {
	f.t.Helper()
	var g *guest
	last := error(nil)
	defer func() {
		if f.t.Failed() {
			f.t.Logf("%s at %s: %v", id, b.name, last)
		}
	}()
	f.poll(id+" is let in", 40*time.Second, func() bool {
		g, last = b.visit(id, change...)
		return last == nil
	})
	f.t.Cleanup(func() { g.Close() })
	return g
}

// figure is one of /metrics.
func (b *box) figure(name string) string {
	a, err := b.call("GET", "/metrics", nil)
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(a.body) {
		if v, is := strings.CutPrefix(line, name+" "); is {
			return strings.TrimSpace(v)
		}
	}
	return "none"
}

// registered waits until the registry of these nodes holds, with all of them up, and each knows what the others have.
func (f *fleet) registered(boxes ...*box) {
	f.t.Helper()
	f.poll("the registry holds", 40*time.Second, func() bool {
		epoch := boxes[0].figure("lacewing_registry_epoch")
		for i, b := range boxes {
			if epoch == "0" || b.figure("lacewing_registry_epoch") != epoch || b.figure("lacewing_registry_unready_shards") != "0" {
				return false
			}
			id := fmt.Sprint("probe", i)
			g, err := b.visit(id)
			if err != nil {
				return false
			}
			g.Close()
			if b.figure("lacewing_registry_claims_total") == "0" {
				return false
			}
		}
		return true
	})
}

// TestOneConnection connects a client here and there: the older connection is told, and of many at a time one stays.
func TestOneConnection(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	for i := range 12 {
		id := fmt.Sprint("mover", i)
		first := f.visitSoon(f.boxes[i%3], id)
		second := f.visitSoon(f.boxes[(i+1)%3], id)
		f.poll("the first is told", 10*time.Second, func() bool { _, over := first.over(); return over })
		if code, _ := first.over(); code != packet.SessionTakenOver {
			t.Errorf("%s: the first connection ended with %v, want 0x8E", id, code)
		}
		if code, over := second.over(); over {
			t.Errorf("%s: the second connection ended with %v", id, code)
		}
	}
	for round := range 5 {
		id := fmt.Sprint("many", round)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var in []*guest
		for i := range 6 {
			wg.Go(func() {
				g, err := f.boxes[i%3].visit(id)
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				in = append(in, g)
			})
		}
		wg.Wait()
		left := func() (n int) {
			for _, g := range in {
				if _, over := g.over(); !over {
					n++
				}
			}
			return n
		}
		f.poll("one stays", 10*time.Second, func() bool { return left() <= 1 })
		if n := left(); n != 1 {
			t.Errorf("%s: of %d that were let in %d are left, want 1", id, len(in), n)
		}
		for _, g := range in {
			g.Close()
		}
	}
}

// TestWillsOfDeadNode kills a node: the wills of its clients are published once by the others, and not again when it is back.
func TestWillsOfDeadNode(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	got := &seen{m: map[string]int{}}
	s := f.enter(f.boxes[1], "watcher", got)
	if token := s.Subscribe("wills/#", 1, nil); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	dead := f.boxes[0]
	var want []string
	for i := range 40 {
		text := fmt.Sprint("will", i)
		want = append(want, text)
		f.visitSoon(dead, text, func(m *packet.Connect) {
			m.Will = &packet.Will{Topic: "wills/x", Payload: []byte(text), QoS: 1}
			if i%2 == 0 {
				m.SessionExpiry = 3600
			}
			if i%4 == 0 {
				m.Will.Delay = 1
			}
		})
	}
	f.visitSoon(dead, "moved", func(m *packet.Connect) {
		m.Will = &packet.Will{Topic: "wills/x", Payload: []byte("moved")}
		m.Will.Delay = 3600
		m.SessionExpiry = 7200
	})
	f.poll("others know", 10*time.Second, func() bool { return dead.figure("lacewing_registry_outbox") == "0" })
	f.kill(dead)
	killed := time.Now()
	f.poll("all wills", 30*time.Second, func() bool { return len(got.misses(want)) == 0 })
	t.Logf("%d wills %v after the death of their node", len(want), time.Since(killed).Round(time.Millisecond))
	f.start(dead)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	last := f.visitSoon(dead, "marker", func(m *packet.Connect) { m.Will = &packet.Will{Topic: "wills/x", Payload: []byte("marker"), QoS: 1} })
	last.Close() // its will follows those that the node had still to publish
	f.poll("the marker", 20*time.Second, func() bool { return len(got.misses([]string{"marker"})) == 0 })
	got.mu.Lock()
	defer got.mu.Unlock()
	for _, text := range want {
		if n := got.m[text]; n != 1 {
			t.Errorf("%s: %d times", text, n)
		}
	}
	if n := got.m["moved"]; n != 0 {
		t.Errorf("a will before its time: %d times", n)
	}
}

// TestWillsOfStop stops a node in order: it publishes its wills itself, and the others do not.
func TestWillsOfStop(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	got := &seen{m: map[string]int{}}
	s := f.enter(f.boxes[1], "watcher", got)
	if token := s.Subscribe("wills/#", 1, nil); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	var want []string
	for i := range 20 {
		text := fmt.Sprint("will", i)
		want = append(want, text)
		f.visitSoon(f.boxes[0], text, func(m *packet.Connect) {
			m.Will = &packet.Will{Topic: "wills/x", Payload: []byte(text), QoS: 1}
			m.SessionExpiry = uint32(i%2) * 3600
		})
	}
	f.stop(f.boxes[0])
	f.poll("the others mark it down", 30*time.Second, func() bool {
		return strings.Contains(f.boxes[1].text()+f.boxes[2].text(), "node is marked down")
	})
	f.start(f.boxes[0])
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	f.poll("all wills, with what the node had not sent when it stopped", 20*time.Second, func() bool { return len(got.misses(want)) == 0 })
	got.mu.Lock()
	defer got.mu.Unlock()
	for _, text := range want {
		if n := got.m[text]; n != 1 {
			t.Errorf("%s: %d times", text, n)
		}
	}
}

// text is the log so far.
func (b *box) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// TestMinorityClients leaves one node of three: clients that want a session that stays are refused, others served, and those that were there
// stay.
func TestMinorityClients(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	stays := f.visitSoon(f.boxes[0], "stays", func(m *packet.Connect) { m.SessionExpiry = 3600 })
	f.kill(f.boxes[1])
	f.kill(f.boxes[2])
	f.visitSoon(f.boxes[0], "clean")
	if _, err := f.boxes[0].visit("durable", func(m *packet.Connect) { m.SessionExpiry = 3600 }); !errors.Is(err, packet.ServerUnavailable) {
		t.Errorf("a client that wants a session that stays: got %v, want 0x88", err)
	}
	if _, err := f.boxes[0].visit("resuming", func(m *packet.Connect) { m.CleanStart = false }); !errors.Is(err, packet.ServerUnavailable) {
		t.Errorf("a client that wants its session: got %v, want 0x88", err)
	}
	if code, over := stays.over(); over {
		t.Errorf("the client that was there: ended with %v", code)
	}
	f.start(f.boxes[1])
	f.agreeSome(f.boxes[0], f.boxes[1])
	f.visitSoon(f.boxes[0], "durable", func(m *packet.Connect) { m.SessionExpiry = 3600 })
	if code, over := stays.over(); over {
		t.Errorf("the client that was there, with the majority back: ended with %v", code)
	}
}

// agreeSome waits until these nodes, which are not all, have a leader.
func (f *fleet) agreeSome(boxes ...*box) {
	f.t.Helper()
	for _, b := range boxes {
		f.leader(b)
	}
}

// TestSessionFollows has a client with a session go from node to node: it finds what was published meanwhile, and its subscriptions.
func TestSessionFollows(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	got := &seen{m: map[string]int{}}
	c := f.enter(f.boxes[0], "wanderer", got)
	if token := c.Subscribe("way/#", 1, nil); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	p := f.enter(f.boxes[2], "p", nil)
	var sent []string
	for i := 1; i <= 6; i++ {
		c.Disconnect(0)
		for range 20 {
			text := fmt.Sprint(len(sent))
			sent = append(sent, text)
			if token := p.Publish("way/x", 1, false, text); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
				t.Fatalf("publish: %v", token.Error())
			}
		}
		c = f.enter(f.boxes[i%3], "wanderer", got)
		f.poll("everything that was published", 20*time.Second, func() bool { return len(got.misses(sent)) == 0 })
	}
}

// TestWillsOfQuickRestart kills a node and starts it at once, before anybody calls it down: the wills of its clients are published once, also of those
// whose sessions it does not have any more.
func TestWillsOfQuickRestart(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	got := &seen{m: map[string]int{}}
	s := f.enter(f.boxes[1], "watcher", got)
	if token := s.Subscribe("wills/#", 1, nil); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	var want []string
	for i := range 30 {
		text := fmt.Sprint("will", i)
		want = append(want, text)
		f.visitSoon(f.boxes[0], text, func(m *packet.Connect) {
			m.Will = &packet.Will{Topic: "wills/x", Payload: []byte(text), QoS: 1}
			m.SessionExpiry = uint32(i%2) * 3600
		})
	}
	f.poll("others know", 10*time.Second, func() bool { return f.boxes[0].figure("lacewing_registry_outbox") == "0" })
	f.kill(f.boxes[0])
	f.start(f.boxes[0])
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	f.poll("all wills", 20*time.Second, func() bool { return len(got.misses(want)) == 0 })
	last := f.visitSoon(f.boxes[0], "marker", func(m *packet.Connect) { m.Will = &packet.Will{Topic: "wills/x", Payload: []byte("marker"), QoS: 1} })
	last.Close() // its will follows those that the node had still to publish
	f.poll("the marker", 20*time.Second, func() bool { return len(got.misses([]string{"marker"})) == 0 })
	got.mu.Lock()
	defer got.mu.Unlock()
	for _, text := range want {
		if n := got.m[text]; n != 1 {
			t.Errorf("%s: %d times", text, n)
		}
	}
}

// TestPausedNode stops a node without ending it, and has its clients connect elsewhere: when it goes on, their old connections end.
func TestPausedNode(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	paused := f.boxes[2]
	var before, after []*guest
	persistent := func(m *packet.Connect) { m.SessionExpiry, m.CleanStart = 3600, false }
	for i := range 20 {
		before = append(before, f.visitSoon(paused, fmt.Sprint("c", i), persistent))
	}
	f.poll("others know", 10*time.Second, func() bool { return paused.figure("lacewing_registry_outbox") == "0" })
	if err := paused.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // first refused, until the node is marked down
		g := f.visitSoon(f.boxes[i%2], fmt.Sprint("c", i), persistent)
		if g.ack.SessionPresent {
			t.Errorf("c%d: the session of a node that is down is there", i)
		}
		after = append(after, g)
	}
	if err := paused.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	f.poll("the old connections end", 20*time.Second, func() bool {
		for _, g := range before {
			if _, over := g.over(); !over {
				return false
			}
		}
		return true
	})
	for i, g := range after {
		if code, over := g.over(); over {
			t.Errorf("c%d: the new connection ended with %v", i, code)
		}
	}
	f.agree(3, f.boxes...)
	f.poll("the node has given up the sessions", 20*time.Second, func() bool {
		a, err := paused.call("GET", "/api/v3/nodes/"+paused.name+"/sessions", nil)
		return err == nil && a.status == 200 && !strings.Contains(a.body, `"c1"`)
	})
}
