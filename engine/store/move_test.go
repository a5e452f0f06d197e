package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// strand is one end of a link whose engine may write from any goroutine.
type strand struct {
	w    *world
	c    *engine.Conn
	mu   sync.Mutex
	out  []byte
	gone bool
}

func (s *strand) Write(bufs [][]byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range bufs {
		s.out = append(s.out, b...)
		n += len(b)
	}
	return n, nil
}
func (s *strand) Resume() {}
func (s *strand) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
}

// take takes up to n bytes.
func (s *strand) take(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(s.out))
	some := slices.Clone(s.out[:n])
	s.out = s.out[n:]
	return some
}

// fabric is nodes with links between all of them, and one registry.
type fabric struct {
	t      rapid.TB
	books  *books
	nodes  []*world
	ends   map[[2]int]*strand // of the first to the second; absent while the link is down
	epochs int

	mu      sync.Mutex
	engines []*engine.Engine // of the nodes that run
}

func newFabric(t rapid.TB, size int) *fabric {
	m := &fabric{t: t, books: newBooks(), ends: map[[2]int]*strand{}, engines: make([]*engine.Engine, size)}
	for range size {
		m.nodes = append(m.nodes, newWorld(t))
	}
	for i := range size {
		m.begin(i)
		for j := range i {
			m.connect(i, j)
		}
	}
	m.settle()
	return m
}

// seat is the registry as a node of a fabric sees it.
type seat struct {
	desk
	m *fabric
	e *engine.Engine
}

// other gives the engine of another node, if both run.
func (s seat) other(node string) (*engine.Engine, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	var i int
	fmt.Sscanf(node, "n%d", &i)
	if !slices.Contains(s.m.engines, s.e) || s.m.engines[i] == nil {
		return nil, errors.New("it cannot be reached")
	}
	return s.m.engines[i], nil
}

func (s seat) Claim(ctx context.Context, id string, durable bool) (engine.Claim, error) {
	if _, err := s.other(s.node); err != nil {
		return engine.Claim{}, err
	}
	return s.desk.Claim(ctx, id, durable)
}

func (s seat) BeginMove(ctx context.Context, node string, r engine.MoveRequest) (engine.MoveState, error) {
	e, err := s.other(node)
	if err != nil {
		return engine.MoveState{}, err
	}
	return e.BeginMove(ctx, r)
}

func (s seat) CommitMove(ctx context.Context, node string, r engine.MoveCommit) (engine.MoveResult, error) {
	e, err := s.other(node)
	if err != nil {
		return engine.MoveResult{}, err
	}
	res, err := e.CommitMove(ctx, r)
	if _, gone := s.other(node); err == nil && gone != nil {
		err = gone // the answer is lost
	}
	return res, err
}

// begin lets a node take part.
func (m *fabric) begin(i int) {
	e := m.nodes[i].e
	m.mu.Lock()
	m.engines[i] = e
	m.mu.Unlock()
	e.SetHomes(seat{desk{m.books, fmt.Sprint("n", i)}, m, e})
}

// connect makes the link between two nodes anew.
func (m *fabric) connect(i, j int) {
	m.t.Helper()
	m.cut(i, j)
	a, b := m.nodes[i].e, m.nodes[j].e
	epoch := a.LinkEpoch(fmt.Sprint("n", j))
	resume := epoch != "" && epoch == b.LinkEpoch(fmt.Sprint("n", i))
	if !resume {
		m.epochs++
		epoch = fmt.Sprint("epoch", m.epochs)
	}
	for _, p := range [][2]int{{i, j}, {j, i}} {
		w := m.nodes[p[0]]
		o := engine.LinkOptions{Peer: fmt.Sprint("n", p[1]), Epoch: epoch, Resume: resume}
		s := &strand{w: w}
		var err error
		if s.c, err = w.e.OpenLink(o, engine.ConnInfo{}, s); err != nil {
			m.t.Fatal(err)
		}
		m.ends[p] = s
		s.c.Feed(w.b, o.Hello())
		w.b.Flush()
	}
}

// cut ends a link without a word.
func (m *fabric) cut(i, j int) {
	for _, p := range [][2]int{{i, j}, {j, i}} {
		if s := m.ends[p]; s != nil {
			delete(m.ends, p)
			s.c.Closed(s.w.b, nil)
			s.w.b.Flush()
		}
	}
}

// crash crashes a node; its links are made anew by reach.
func (m *fabric) crash(i, more int) {
	m.mu.Lock()
	m.engines[i] = nil
	m.mu.Unlock()
	for j := range m.nodes {
		delete(m.ends, [2]int{i, j})
		if s := m.ends[[2]int{j, i}]; s != nil {
			delete(m.ends, [2]int{j, i})
			s.c.Closed(s.w.b, nil)
			s.w.b.Flush()
		}
	}
	m.nodes[i].crash(more)
}

// back lets a node that has crashed take part again.
func (m *fabric) back(i int) {
	m.begin(i)
	for j := range m.nodes {
		if j != i && m.engines[j] != nil {
			m.connect(i, j)
		}
	}
}

// carry takes at most n bytes from one node to another.
func (m *fabric) carry(i, j, n int) bool {
	from, to := m.ends[[2]int{i, j}], m.ends[[2]int{j, i}]
	if from == nil || to == nil {
		return false
	}
	some := from.take(n)
	if len(some) == 0 {
		return false
	}
	if to.c.Feed(to.w.b, some) == engine.Stop {
		m.t.Fatalf("node %d ends the link to %d", j, i)
	}
	to.w.b.Flush()
	return true
}

// work carries and commits what there is, once.
func (m *fabric) work() (moved bool) {
	for i, w := range m.nodes {
		if m.engines[i] == nil {
			continue
		}
		moved = w.m.Staged() > w.m.Committed() || moved
		w.commit()
		for j := range m.nodes {
			moved = m.carry(i, j, 1<<20) || moved
		}
	}
	return moved
}

// settle works until nothing moves.
func (m *fabric) settle() {
	for range 2000 {
		if !m.work() {
			return
		}
	}
	m.t.Fatal("the nodes do not come to rest")
}

// until works until something holds.
func (m *fabric) until(what string, done func() bool) {
	m.t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); {
		if !m.work() {
			time.Sleep(200 * time.Microsecond)
		}
		if time.Now().After(end) {
			m.t.Fatalf("no %s in 30 s", what)
		}
	}
}

// roamer is a client that may connect anywhere, with a memory of its own.
type roamer struct {
	m    *fabric
	id   string
	f    *far
	of   *engine.Engine    // that f is a connection of
	code packet.ReasonCode // of the last CONNACK
	got  []string
	held map[uint16]bool // QoS 2 identifiers

	next     int
	open     map[uint16]string // publications without PUBCOMP
	released map[uint16]bool

	connacked, present bool
	told               packet.ReasonCode // of the last DISCONNECT
}

func (m *fabric) roamer(id string) *roamer {
	return &roamer{m: m, id: id, held: map[uint16]bool{}, open: map[uint16]string{}, released: map[uint16]bool{}}
}

// enter connects at a node, and repeats what is open. It reports whether the client was let in.
func (r *roamer) enter(i int, change ...func(*packet.Connect)) bool {
	r.m.t.Helper()
	r.ask(i, change...)
	r.await()
	return r.code == packet.Success && r.connacked
}

// ask connects at a node and does not wait.
func (r *roamer) ask(i int, change ...func(*packet.Connect)) {
	if r.f != nil && !r.connacked {
		r.giveUp()
	}
	w := r.m.nodes[i]
	f := &far{w: w}
	var err error
	if f.c, err = w.l.Accept(engine.ConnInfo{}, f); err != nil {
		r.m.t.Fatal(err)
	}
	r.f, r.of, r.connacked = f, w.e, false
	p := &packet.Connect{Version: packet.V5, ClientID: r.id, ReceiveMaximum: packet.DefaultReceiveMaximum, SessionExpiry: 3600}
	for _, x := range change {
		x(p)
	}
	f.say(p)
}

// try connects at a node and does not wait long: a move may have to wait for what comes later.
func (r *roamer) try(i int) {
	r.ask(i)
	for end := time.Now().Add(100 * time.Millisecond); !r.connacked && !r.f.closed() && time.Now().Before(end); r.work() {
		if !r.m.work() {
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// giveUp ends the connection without a word. That of a node that has crashed has ended.
func (r *roamer) giveUp() {
	if r.f.closed() || r.of != r.f.w.e {
		return
	}
	b := r.f.w.e.NewBatch()
	r.f.c.Closed(b, nil)
	b.Flush()
}

func (r *roamer) await() {
	r.m.t.Helper()
	r.m.until("CONNACK for "+r.id, func() bool { r.work(); return r.connacked || r.f.closed() })
}

// again repeats what is open.
func (r *roamer) again() {
	if !r.present { // nobody knows these any more
		clear(r.held)
	}
	ids := make([]uint16, 0, len(r.open))
	for id := range r.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if r.released[id] {
			r.f.say(ack(packet.TypePubrel, id))
		} else {
			m := pub("from/"+r.id, r.open[id], 2, id)
			m.Dup = true
			r.f.say(m)
		}
	}
}

// publish publishes the next message of the client with QoS 2.
func (r *roamer) publish() {
	if r.f == nil || !r.connacked {
		return
	}
	r.next++
	id := uint16(r.next)
	r.open[id] = fmt.Sprint(r.id, ":", r.next)
	r.f.say(pub("from/"+r.id, r.open[id], 2, id))
}

// work takes what has come and acknowledges it.
func (r *roamer) work() {
	r.f.mu.Lock()
	in := r.f.in
	r.f.in = nil
	r.f.mu.Unlock()
	for len(in) > 0 {
		h, n, err := packet.ParseHeader(packet.V5, in)
		if err != nil || len(in) < n+h.Remaining {
			r.m.t.Fatalf("output % x: %v", in, err)
		}
		p := packet.New(h.Type)
		if err := p.Decode(packet.V5, h.Flags, slices.Clone(in[n:n+h.Remaining])); err != nil {
			r.m.t.Fatal(err)
		}
		in = in[n+h.Remaining:]
		r.take(p)
	}
}

func (r *roamer) take(p packet.Packet) {
	switch p := p.(type) {
	case *packet.Connack:
		r.connacked, r.code, r.present = true, p.Code, p.SessionPresent
		if p.Code == packet.Success {
			r.again()
		}
	case *packet.Disconnect:
		r.told = p.Code
	case *packet.Publish:
		switch {
		case p.QoS == 1:
			r.got = append(r.got, string(p.Payload))
			r.f.say(ack(packet.TypePuback, p.PacketID))
		case p.QoS == 2:
			if !r.held[p.PacketID] {
				r.held[p.PacketID] = true
				r.got = append(r.got, string(p.Payload))
			}
			r.f.say(ack(packet.TypePubrec, p.PacketID))
		default:
			r.got = append(r.got, string(p.Payload))
		}
	case *packet.Ack:
		switch p.Kind {
		case packet.TypePubrel:
			delete(r.held, p.PacketID)
			r.f.say(ack(packet.TypePubcomp, p.PacketID))
		case packet.TypePubrec:
			r.released[p.PacketID] = true
			r.f.say(ack(packet.TypePubrel, p.PacketID))
		case packet.TypePubcomp:
			delete(r.open, p.PacketID)
			delete(r.released, p.PacketID)
		}
	}
}

// from gives what came from one publisher.
func (r *roamer) from(id string) (list []string) {
	for _, x := range r.got {
		if strings.HasPrefix(x, id+":") {
			list = append(list, x)
		}
	}
	return list
}

// all checks that r got everything that another has published once, in order.
func (r *roamer) all(p *roamer) {
	r.m.t.Helper()
	got := r.from(p.id)
	for i := range max(p.next, len(got)) {
		if want := fmt.Sprint(p.id, ":", i+1); i >= p.next || i >= len(got) || got[i] != want {
			r.m.t.Fatalf("%s got %q, want 1 to %d of %s, each once", r.id, got, p.next, p.id)
		}
	}
}

// atRest checks that no move is left and nothing waits for another node.
func (m *fabric) atRest() {
	m.t.Helper()
	m.until("rest of the moves", func() bool {
		rest := true
		for i, w := range m.nodes {
			if m.engines[i] == nil {
				continue
			}
			w.pass(150 * time.Millisecond)
			in, out := w.e.Moves()
			rest = rest && in == 0 && out == 0
			for _, l := range w.e.Links() {
				rest = rest && l.Queue == 0
			}
		}
		return rest
	})
}

// finish has the clients come back to where they are, and go on until no move is left and r has as many messages as were published. What is
// missing then is lost.
func (m *fabric) finish(clients []*roamer, at map[*roamer]int, r *roamer, pubs []*roamer) {
	m.t.Helper()
	for range 300 {
		for _, c := range clients {
			if !c.connacked || c.code != packet.Success || c.f.closed() {
				c.enter(at[c])
			}
			c.work()
		}
		m.settle()
	}
	m.atRest()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		for _, c := range clients {
			c.work()
		}
		m.settle()
		missing := 0
		for _, p := range pubs {
			missing += p.next - len(r.from(p.id)) + len(p.open)
		}
		if missing <= 0 {
			break
		}
	}
	for _, c := range clients {
		c.work()
	}
	m.settle()
}

// homes checks that each client has one session, where it is.
func (m *fabric) homes(at map[*roamer]int) {
	m.t.Helper()
	want := make([]int, len(m.nodes))
	for _, i := range at {
		want[i]++
	}
	for i, w := range m.nodes {
		if _, n := w.e.Sessions(0, 10); n != want[i] {
			m.t.Fatalf("%d sessions at node %d, want %d", n, i, want[i])
		}
	}
}

// A session moves with its subscriptions, what waits, what is on its way to the client, and its QoS 2 identifiers; the old connection is
// told, and nothing stays behind.
func TestSessionMoves(t *testing.T) {
	m := newFabric(t, 3)
	s, p := m.roamer("s"), m.roamer("p")
	if !s.enter(0) || !p.enter(2) {
		t.Fatal("clients were not let in")
	}
	s.f.say(sub("from/p", 2))
	m.settle()
	for range 20 { // 4 go out, the rest waits
		p.publish()
	}
	m.settle()
	p.work()
	s.f.mu.Lock()
	s.f.in = nil // and none of it has reached the client
	s.f.mu.Unlock()
	old := s.f
	if !s.enter(1) || !s.present {
		t.Fatalf("code %v, session present %v at the other node", s.code, s.present)
	}
	until(t, "end of the old connection", old.closed)
	for range 20 {
		p.publish()
		m.work()
		s.work()
		p.work()
	}
	m.until("40 messages", func() bool { s.work(); p.work(); return len(s.got) >= 40 })
	s.all(p)
	m.atRest()
	if _, n := m.nodes[0].e.Sessions(0, 10); n != 0 {
		t.Errorf("%d sessions at the old node, want none", n)
	}
	if _, n := m.nodes[0].e.Subscriptions(0, 10); n != 0 {
		t.Errorf("%d subscriptions at the old node, want none", n)
	}
	if l := m.nodes[2].e.Links(); l[0].Routes != 0 || l[1].Routes != 1 {
		t.Errorf("links %+v, want the route at the new node only", l)
	}
}

// What a node sends straight to the new home waits there for what it had sent by way of the old one, however late that comes.
func TestMoveKeepsOrder(t *testing.T) {
	m := newFabric(t, 3)
	s, p := m.roamer("s"), m.roamer("p")
	if !s.enter(0) || !p.enter(2) {
		t.Fatal("clients were not let in")
	}
	s.f.say(sub("from/p", 2))
	m.settle()
	// But for the link from the publisher's node to the old home everything goes on.
	cut := false // the mark has gone straight to the new home
	work := func() (moved bool) {
		for i, w := range m.nodes {
			moved = w.m.Staged() > w.m.Committed() || moved
			w.commit()
			straight := m.ends[[2]int{2, 1}]
			straight.mu.Lock()
			cut = cut || bytes.Contains(straight.out, []byte("$cut/"))
			straight.mu.Unlock()
			for j := range m.nodes {
				moved = (i != 2 || j != 0) && m.carry(i, j, 1<<20) || moved
			}
		}
		s.work()
		p.work()
		return moved
	}
	for range 3 {
		p.publish()
	}
	s.ask(1)
	until(t, "CONNACK", func() bool { work(); return s.connacked })
	if s.code != packet.Success || !s.present {
		t.Fatalf("code %v, session present %v at the other node", s.code, s.present)
	}
	until(t, "cut", func() bool { work(); return cut })
	for range 3 {
		p.publish()
	}
	until(t, "messages at the new home", func() bool { return !work() && m.nodes[2].e.Links()[1].Queue == 0 })
	if len(s.got) != 0 {
		t.Fatalf("%q came, and what was sent before has not", s.got)
	}
	m.until("6 messages", func() bool { s.work(); p.work(); return len(s.got) >= 6 })
	s.all(p)
	m.atRest()
}

// Whatever breaks and crashes while a client goes from node to node, messages of QoS 2 come once and in order, to it and from it.
func TestMovesUnderFaults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newFabric(t, 3)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		s := m.roamer("s")
		s.enter(0)
		s.f.say(sub("from/#", 2))
		reader := m.roamer("reader")
		reader.enter(1)
		reader.f.say(sub("from/s", 2))
		m.settle()
		pubs := []*roamer{m.roamer("p0"), m.roamer("p1"), m.roamer("p2")}
		at := map[*roamer]int{s: 0, reader: 1}
		for i, p := range pubs {
			p.enter(i)
			at[p] = i
		}
		clients := append([]*roamer{s, reader}, pubs...)
		for range rapid.IntRange(20, 150).Draw(t, "steps") {
			switch k := r.IntN(40); {
			case k < 12:
				if p := pubs[r.IntN(3)]; len(p.open) < 20 {
					p.publish()
				}
			case k < 14 && len(s.open) < 10:
				s.publish()
			case k < 22:
				i := r.IntN(3)
				m.carry(i, (i+1+r.IntN(2))%3, 1+r.IntN(400))
			case k < 26:
				w := m.nodes[r.IntN(3)]
				w.commit()
			case k < 32:
				clients[r.IntN(len(clients))].work()
			case k < 36:
				at[s] = r.IntN(3)
				s.enter(at[s])
			case k < 38:
				i := r.IntN(3)
				m.connect(i, (i+1)%3)
			case k == 38:
				i := r.IntN(3)
				m.crash(i, r.IntN(4))
				m.back(i)
				for _, c := range clients {
					if at[c] == i {
						c.enter(i)
					}
				}
			}
		}
		m.finish(clients, at, s, append(pubs, s))
		for _, p := range append(pubs, s) {
			if len(p.open) > 0 {
				t.Fatalf("%s has %d publications open", p.id, len(p.open))
			}
			s.all(p)
		}
		reader.all(s)
		m.homes(at)
	})
}

// A client that does not wait for its session to move finds it at the next node all the same.
func TestMoveForClientThatGivesUp(t *testing.T) {
	m := newFabric(t, 3)
	s, p := m.roamer("s"), m.roamer("p")
	if !s.enter(0) || !p.enter(0) {
		t.Fatal("clients were not let in")
	}
	s.f.say(sub("from/p", 2))
	m.settle()
	s.giveUp()
	for range 20 {
		p.publish()
	}
	m.settle()
	s.ask(1)
	s.giveUp()
	m.until("move of the session", func() bool {
		p.work()
		_, left := m.nodes[0].e.Sessions(0, 10)
		_, come := m.nodes[1].e.Sessions(0, 10)
		return left == 1 && come == 1
	})
	m.atRest() // and the node before knows nothing of it
	if !s.enter(2) || !s.present {
		t.Fatalf("code %v, session present %v, want its session", s.code, s.present)
	}
	m.finish([]*roamer{s, p}, map[*roamer]int{s: 2, p: 0}, s, []*roamer{p})
	s.all(p)
}

// A session goes on from its new home to another while a node has not heard of the first move yet: what is published there comes once and in
// order, whichever link comes back first.
func TestMovesWhileNodeIsAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const away = 3
		m := newFabric(t, 4)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		s, p, q := m.roamer("s"), m.roamer("p"), m.roamer("q")
		at := map[*roamer]int{s: 0, p: away, q: 1}
		clients := []*roamer{s, p, q}
		for _, c := range clients {
			c.enter(at[c])
		}
		s.f.say(sub("from/#", 2))
		m.settle()
		var down []int
		for i := range away {
			if r.IntN(3) > 0 {
				m.cut(away, i)
				down = append(down, i)
			}
		}
		r.Shuffle(len(down), func(i, j int) { down[i], down[j] = down[j], down[i] })
		crashes := rapid.Bool().Draw(t, "crashes")
		for moves := 0; moves < 3 || len(down) > 0; {
			switch k := r.IntN(20); {
			case k < 6 && len(p.open) < 20:
				p.publish()
			case k < 8 && len(q.open) < 20:
				q.publish()
			case k < 12:
				m.carry(r.IntN(4), r.IntN(4), 1+r.IntN(400))
			case k < 14:
				for _, c := range clients {
					c.work()
				}
			case k < 15:
				m.nodes[r.IntN(4)].commit()
			case k < 17 && moves < 4:
				moves++
				at[s] = (at[s] + 1 + r.IntN(2)) % away
				s.try(at[s])
			case k < 18 && moves > 1 && len(down) > 0:
				m.connect(away, down[0])
				down = down[1:]
			case k == 18 && crashes:
				i := r.IntN(away)
				m.crash(i, r.IntN(4))
				m.begin(i)
				for j := range m.nodes {
					if j != i && (j != away || !slices.Contains(down, i)) {
						m.connect(i, j)
					}
				}
				for _, c := range clients {
					if at[c] == i {
						c.try(i)
					}
				}
			}
		}
		m.finish(clients, at, s, []*roamer{p, q})
		s.all(p)
		s.all(q)
		m.homes(at)
	})
}
