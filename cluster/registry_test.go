package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// hall is several registries over a network in memory, and the marks that all of them see.
type hall struct {
	t     testing.TB
	wills willBook
	skew  atomic.Int64 // of all clocks, ns

	mu      sync.Mutex
	marks   raftstore.Marks            // guarded by mu
	changed chan struct{}              // guarded by mu
	rooms   map[string]*room           // guarded by mu
	cut     map[[2]string]bool         // guarded by mu: who does not reach whom
	frozen  map[string]raftstore.Marks // guarded by mu: nodes that see no later marks
	boots   int
	gone    map[string]bool // guarded by mu: nodes that have left
}

// willBook counts wills by text.
type willBook struct {
	mu   sync.Mutex
	seen map[string]int
}

func (w *willBook) add(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]int{}
	}
	w.seen[text]++
}

func (w *willBook) of(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[text]
}

// room is a node: its registry and its sessions.
type room struct {
	h     *hall
	id    string
	reg   *Registry
	lease atomic.Bool
	alone atomic.Bool

	mu       sync.Mutex
	sessions map[string]*fakeSession // guarded by mu
}

type fakeSession struct {
	f       engine.Fence
	p       engine.Presence
	held    *engine.StoredWill
	durable bool
}

func newHall(t testing.TB) *hall {
	return &hall{t: t, changed: make(chan struct{}), rooms: map[string]*room{}, cut: map[[2]string]bool{}, frozen: map[string]raftstore.Marks{}, gone: map[string]bool{}}
}

// open starts a node, with the durable sessions of one before it.
func (h *hall) open(id string, before *room) *room {
	h.mu.Lock()
	h.boots++
	boot := fmt.Sprint("boot", h.boots)
	h.mu.Unlock()
	m := &room{h: h, id: id, sessions: map[string]*fakeSession{}}
	m.lease.Store(true)
	if before != nil {
		before.mu.Lock()
		for c, s := range before.sessions {
			if s.durable {
				m.sessions[c] = &fakeSession{f: s.f, held: s.p.Will, durable: true}
			}
		}
		before.mu.Unlock()
	}
	m.reg = NewRegistry(RegistryOptions{
		Self: id, Boot: boot, Sessions: m, Calls: wires{h, id},
		Marks: func() raftstore.Marks {
			h.mu.Lock()
			defer h.mu.Unlock()
			if f, is := h.frozen[id]; is {
				return f
			}
			return h.marks
		},
		Changed: func() <-chan struct{} {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.changed
		},
		Leased: func(epoch uint64) bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			_, frozen := h.frozen[id]
			return m.lease.Load() && !frozen && h.marks.Epoch == epoch
		},
		Alone: m.alone.Load,
		Member: func(node string) bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return !h.gone[node]
		},
		Minority: RefusePersistent,
		Now:      func() time.Time { return time.Now().Add(time.Duration(h.skew.Load())) },
	})
	h.mu.Lock()
	h.rooms[id] = m
	h.mu.Unlock()
	h.t.Cleanup(m.reg.Close)
	return m
}

// mark marks exactly these nodes up.
func (h *hall) mark(up ...*room) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := raftstore.Marks{Epoch: h.marks.Epoch + 1, Up: map[string]raftstore.Life{}}
	for _, m := range up {
		l, was := h.marks.Up[m.id]
		if !was || l.Boot != m.reg.o.Boot {
			l = raftstore.Life{Since: next.Epoch, Boot: m.reg.o.Boot}
		}
		next.Up[m.id] = l
	}
	h.marks = next
	close(h.changed)
	h.changed = make(chan struct{})
}

// kill ends a node.
func (h *hall) kill(m *room) {
	h.mu.Lock()
	if h.rooms[m.id] == m {
		delete(h.rooms, m.id)
	}
	h.mu.Unlock()
	m.reg.Close()
}

// sever cuts a node off, or lets it back.
func (h *hall) sever(id string, off bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for o := range h.rooms {
		h.cut[[2]string{id, o}], h.cut[[2]string{o, id}] = off, off
	}
	if off {
		h.frozen[id] = h.marks
		return
	}
	delete(h.frozen, id)
	close(h.changed)
	h.changed = make(chan struct{})
}

var errCut = errors.New("no way")

// wires are the calls of a node.
type wires struct {
	h    *hall
	from string
}

func (w wires) to(node string) (*Registry, error) {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	m := w.h.rooms[node]
	if m == nil || w.h.cut[[2]string{w.from, node}] {
		return nil, errCut
	}
	return m.reg, nil
}

func (w wires) Claim(_ context.Context, node string, epoch uint64, claims []HomeClaim) ([]HomeGrant, error) {
	r, err := w.to(node)
	if err != nil {
		return nil, err
	}
	return r.ServeClaims(w.from, epoch, claims)
}

func (w wires) Report(_ context.Context, node string, epoch uint64, again bool, reports []HomeReport) error {
	r, err := w.to(node)
	if err != nil {
		return err
	}
	return r.ServeReports(w.from, epoch, again, reports)
}

func (w wires) Pull(_ context.Context, node string, epoch uint64, shards ShardSet, from string) (HomePage, error) {
	r, err := w.to(node)
	if err != nil {
		return HomePage{}, err
	}
	return r.ServePull(w.from, epoch, shards, from)
}

func (w wires) BeginMove(context.Context, string, engine.MoveRequest) (engine.MoveState, error) {
	return engine.MoveState{}, errCut
}

func (w wires) CommitMove(context.Context, string, engine.MoveCommit) (engine.MoveResult, error) {
	return engine.MoveResult{}, errCut
}

// ClaimsFrom implements Sessions.
func (m *room) ClaimsFrom(from string, yield func(string, engine.Fence, engine.Presence, bool) bool) {
	m.mu.Lock()
	all := maps.Clone(m.sessions)
	m.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(all)) {
		m.mu.Lock()
		s := m.sessions[id]
		var row fakeSession
		if s != nil {
			row = *s
		}
		m.mu.Unlock()
		if id >= from && s != nil && !yield(id, row.f, row.p, row.held != nil) {
			return
		}
	}
}

// Discard implements Sessions.
func (m *room) Discard(id string, f engine.Fence) bool {
	m.mu.Lock()
	s := m.sessions[id]
	if s == nil || !s.f.Before(f) {
		m.mu.Unlock()
		return false
	}
	delete(m.sessions, id)
	m.mu.Unlock()
	m.reg.Forget(id, s.f)
	return true
}

// PublishWill implements Sessions.
func (m *room) PublishWill(_ string, w engine.StoredWill) { m.h.wills.add(string(w.Message.Payload)) }

// ReleaseWill implements Sessions.
func (m *room) ReleaseWill(id string, f engine.Fence, publish bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[id]
	if s == nil || s.f != f || s.held == nil {
		return
	}
	if publish {
		m.h.wills.add(string(s.held.Message.Payload))
	}
	s.held = nil
}

var errElsewhere = errors.New("another node has the session")

// connect does what the engine does with a client: a session that another node has is moved, which is to say that it ends there.
func (m *room) connect(ctx context.Context, id string, durable bool, w *engine.StoredWill) (engine.Claim, error) {
	c, err := m.reg.Claim(ctx, id, durable)
	if err != nil {
		return c, err
	}
	if c.Holder != "" && !c.Lost {
		m.h.mu.Lock()
		o := m.h.rooms[c.Holder]
		cut := m.h.cut[[2]string{m.id, c.Holder}]
		m.h.mu.Unlock()
		if o == nil || cut {
			m.reg.Settle(id, c.Fence, false, engine.Presence{})
			return c, errElsewhere
		}
		o.Discard(id, c.Fence)
	}
	m.mu.Lock()
	p := engine.Presence{Will: w}
	m.sessions[id] = &fakeSession{f: c.Fence, p: p, durable: durable}
	m.mu.Unlock()
	if c.Fence != (engine.Fence{}) {
		m.reg.Settle(id, c.Fence, true, p)
		m.mu.Lock()
		s := m.sessions[id]
		m.mu.Unlock()
		if s == nil || s.f != c.Fence { // it has ended before the registry knew of it
			m.reg.Forget(id, c.Fence)
		}
	}
	return c, nil
}

func (m *room) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[id] != nil
}

// end ends a session as a client does.
func (m *room) end(id string) {
	m.mu.Lock()
	s := m.sessions[id]
	delete(m.sessions, id)
	m.mu.Unlock()
	if s != nil {
		m.reg.Forget(id, s.f)
	}
}

func will(text string, delay uint32) *engine.StoredWill {
	return &engine.StoredWill{Message: engine.Message{Topic: "w", Payload: []byte(text)}, Delay: delay}
}

func (h *hall) poll(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			for id, m := range h.rooms {
				h.t.Logf("%s: %+v", id, m.reg.Stats())
				m.mu.Lock()
				for c, s := range m.sessions {
					h.t.Logf("%s has %s %v", id, c, s.f)
				}
				m.mu.Unlock()
				for n := range m.reg.shards {
					sh := &m.reg.shards[n]
					sh.mu.Lock()
					for c, e := range sh.entries {
						h.t.Logf("%s knows %s at %v with %v", id, c, e.home.Value(), e.fence)
					}
					sh.mu.Unlock()
				}
			}
			h.t.Fatalf("not in time: %s", what)
		}
	}
}

// settled waits until these nodes know everything of each other.
func (h *hall) settled(up ...*room) {
	h.t.Helper()
	h.poll("the registries are ready", func() bool {
		for _, m := range up {
			h.mu.Lock()
			epoch := h.marks.Epoch
			h.mu.Unlock()
			if s := m.reg.Stats(); s.Epoch != epoch || s.Unready > 0 || s.Outbox > 0 || s.Unsettled > 0 {
				return false
			}
		}
		return true
	})
}

func three(t testing.TB) (*hall, []*room) {
	h := newHall(t)
	rooms := []*room{h.open("a", nil), h.open("b", nil), h.open("c", nil)}
	h.mark(rooms...)
	h.settled(rooms...)
	return h, rooms
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// ownedBy finds a client identifier of a shard of one node, which another would get.
func ownedBy(r *Registry, owner, next string) string {
	for i := 0; ; i++ {
		id := fmt.Sprint("client", i)
		if v := r.view.Load(); v.owner(shardOf(id)) == owner && (next == "" || v.keeper(shardOf(id), owner) == next) {
			return id
		}
	}
}

// TestOnePlace has a client go from node to node: each is told who has it, and one has it in the end.
func TestOnePlace(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	for _, owner := range n {
		id := ownedBy(n[0].reg, owner.id, "")
		last := engine.Fence{}
		for i := range 12 {
			at, before := n[i%3], n[(i+2)%3]
			c, err := at.connect(ctx, id, i%2 == 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := before.id
			if i == 0 {
				want = ""
			}
			if c.Holder != want || c.Lost || i > 0 && c.Held != last || !last.Before(c.Fence) {
				t.Fatalf("claim %d of a shard of %s: got %+v, want holder %q with fence %v", i, owner.id, c, want, last)
			}
			last = c.Fence
		}
		if c, err := n[2].connect(ctx, id, false, nil); err != nil || c.Holder != "" {
			t.Errorf("a claim by the node that has the client: got %+v, %v", c, err)
		}
		n[2].end(id)
		h.settled(n...)
		if c, err := n[0].connect(ctx, id, false, nil); err != nil || c.Holder != "" {
			t.Errorf("a claim after the session has ended: got %+v, %v", c, err)
		}
		h.settled(n...)
		// The owner and, where it is the home, the keeper know it: nobody else.
		known := 0
		for _, m := range n {
			sh := &m.reg.shards[shardOf(id)]
			sh.mu.Lock()
			known += len(sh.entries)
			sh.mu.Unlock()
		}
		if want := 1 + len("x")*map[bool]int{true: 1, false: 0}[owner == n[0]]; known != want {
			t.Errorf("shard of %s, home %s: %d entries, want %d", owner.id, n[0].id, known, want)
		}
	}
}

// TestClaimsSerialised has clients connect everywhere at a time: between a claim and its end nobody else gets one.
func TestClaimsSerialised(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	var inside [5]atomic.Int32
	var wg sync.WaitGroup
	for w := range 24 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range 30 {
				k, m := rng.IntN(len(inside)), n[rng.IntN(3)]
				id := fmt.Sprint("c", k)
				c, err := m.reg.Claim(ctx, id, true)
				if err != nil {
					t.Error(err)
					return
				}
				if inside[k].Add(1) != 1 {
					t.Error("two claims at a time")
				}
				inside[k].Add(-1)
				m.reg.Settle(id, c.Fence, rng.IntN(2) == 0, engine.Presence{})
			}
		})
	}
	wg.Wait()
	h.settled(n...)
}

// TestLapse lets a claim go unsettled: after its time the next one is granted, and the late end of the first changes nothing.
func TestLapse(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	id := ownedBy(n[0].reg, "c", "")
	first, err := n[0].reg.Claim(ctx, id, true)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if c, err := n[1].reg.Claim(short, id, true); !errors.Is(err, errBusy) {
		t.Fatalf("a claim while another is not settled: got %+v, %v", c, err)
	}
	h.skew.Store(int64(claimLapse))
	second, err := n[1].connect(ctx, id, true, nil)
	if err != nil || !first.Fence.Before(second.Fence) {
		t.Fatalf("after the lapse: got %+v, %v", second, err)
	}
	n[0].mu.Lock()
	n[0].sessions[id] = &fakeSession{f: first.Fence}
	n[0].mu.Unlock()
	n[0].reg.Settle(id, first.Fence, true, engine.Presence{})
	h.poll("the late one is told to give it up", func() bool { return !n[0].has(id) })
	if !n[1].has(id) {
		t.Error("the later claim has lost its session")
	}
}

// TestOwnerDies kills owners: what the others have is pulled before anybody is let in.
func TestOwnerDies(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	ids := map[string]engine.Fence{}
	for i := range 300 {
		id := fmt.Sprint("x", i)
		c, err := n[i%2].connect(ctx, id, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = c.Fence
	}
	h.kill(n[2])
	h.mark(n[0], n[1])
	for id, f := range ids {
		at := n[0]
		if n[0].has(id) {
			at = n[1]
		}
		c, err := at.reg.Claim(ctx, id, true)
		if err != nil {
			t.Fatal(err)
		}
		if c.Holder == "" || c.Holder == at.id || c.Lost || c.Held != f || !f.Before(c.Fence) {
			t.Fatalf("%s: got %+v, want the other node with %v", id, c, f)
		}
		at.reg.Settle(id, c.Fence, false, engine.Presence{})
	}
	// The third node is back, and owns a part of the shards again.
	n[2] = h.open("c", nil)
	h.mark(n...)
	for id, f := range ids {
		c, err := n[2].reg.Claim(ctx, id, true)
		if err != nil || c.Held != f {
			t.Fatalf("%s, after the node is back: got %+v, %v, want %v", id, c, err, f)
		}
		n[2].reg.Settle(id, c.Fence, false, engine.Presence{})
	}
	h.settled(n...)
}

// TestShardWait cuts a node off that is still marked up: claims of shards that are new wait for it, and not for ever.
func TestShardWait(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	id := ownedBy(n[0].reg, "c", "a")
	if _, err := n[1].connect(ctx, id, true, nil); err != nil {
		t.Fatal(err)
	}
	h.settled(n...)
	h.kill(n[2])
	h.mu.Lock()
	h.cut[[2]string{"a", "b"}] = true
	h.mu.Unlock()
	h.mark(n[0], n[1])
	short, cancel := context.WithTimeout(ctx, shardWait/4)
	defer cancel()
	if c, err := n[0].reg.Claim(short, id, true); err == nil {
		t.Fatalf("a claim was granted before the other node was asked: %+v", c)
	}
	c, err := n[0].reg.Claim(ctx, id, true)
	if err != nil || c.Holder != "" {
		t.Fatalf("a claim after the wait: got %+v, %v", c, err)
	}
	n[0].reg.Settle(id, c.Fence, true, engine.Presence{})
	h.mu.Lock()
	h.cut[[2]string{"a", "b"}] = false
	h.mu.Unlock()
	h.poll("the session that was not known is discarded", func() bool { return !n[1].has(id) })
}

// TestLost kills a home: who connects elsewhere is told that it is lost, and when the node is back its session is discarded.
func TestLost(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	ids := []string{ownedBy(n[0].reg, "a", ""), ownedBy(n[0].reg, "b", ""), ownedBy(n[0].reg, "c", "a"), ownedBy(n[0].reg, "c", "b")}
	for _, id := range ids {
		if _, err := n[2].connect(ctx, id, true, nil); err != nil {
			t.Fatal(err)
		}
	}
	h.settled(n...)
	h.kill(n[2])
	h.mark(n[0], n[1])
	for _, id := range ids {
		c, err := n[0].connect(ctx, id, true, nil)
		if err != nil || c.Holder != "c" || !c.Lost {
			t.Fatalf("%s: got %+v, %v, want c, lost", id, c, err)
		}
	}
	back := h.open("c", n[2])
	h.mark(n[0], n[1], back)
	for _, id := range ids {
		h.poll("the orphan is discarded", func() bool { return !back.has(id) })
		if !n[0].has(id) {
			t.Errorf("%s: the new session is gone", id)
		}
	}
	h.settled(n[0], n[1], back)
}

// TestLostAcrossOwners has a shard go to a node that has never heard of a home that is down.
func TestLostAcrossOwners(t *testing.T) {
	h := newHall(t)
	a, b, c := h.open("a", nil), h.open("b", nil), h.open("c", nil)
	h.mark(a, b)
	h.settled(a, b)
	ctx := within(t)
	ids := map[string]bool{}
	for i := range 200 {
		id := fmt.Sprint("l", i)
		ids[id] = true
		if _, err := b.connect(ctx, id, true, will(id, 3600)); err != nil {
			t.Fatal(err)
		}
	}
	h.settled(a, b)
	h.kill(b)
	h.mark(a)
	h.settled(a)
	h.mark(a, c)
	h.settled(a, c)
	h.poll("both have the wills of their shards", func() bool {
		return a.reg.Stats().Waiting+c.reg.Stats().Waiting == 200 && c.reg.Stats().Waiting > 0
	})
	for id := range ids {
		if cl, err := c.connect(ctx, id, true, nil); err != nil || !cl.Lost {
			t.Fatalf("%s: got %+v, %v", id, cl, err)
		}
	}
	h.settled(a, c)
	if s := a.reg.Stats().Waiting + c.reg.Stats().Waiting; s != 0 {
		t.Errorf("%d wills wait although their clients are back", s)
	}
}

// TestSplit cuts a node off, with clients that come to both sides, and heals it: the later one stays.
func TestSplit(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	for i := range 60 {
		if _, err := n[2].connect(ctx, fmt.Sprint("s", i), true, nil); err != nil {
			t.Fatal(err)
		}
	}
	h.settled(n...)
	h.sever("c", true)
	n[2].alone.Store(true)
	h.mark(n[0], n[1])
	if _, err := n[2].connect(ctx, "s-new", true, nil); !errors.Is(err, errMinority) {
		t.Errorf("a client with a session that stays, without a majority: got %v", err)
	}
	if c, err := n[2].connect(ctx, "s-clean", false, nil); err != nil || c != (engine.Claim{}) {
		t.Errorf("a clean client without a majority: got %+v, %v", c, err)
	}
	for i := range 30 {
		if c, err := n[i%2].connect(ctx, fmt.Sprint("s", i), true, nil); err != nil || !c.Lost {
			t.Fatalf("s%d: got %+v, %v", i, c, err)
		}
	}
	if _, err := n[0].connect(ctx, "s-clean", false, nil); err != nil {
		t.Fatal(err)
	}
	n[2].alone.Store(false)
	h.sever("c", false)
	h.mark(n...)
	h.poll("clients that went to the other side are gone here", func() bool {
		for i := range 30 {
			if n[2].has(fmt.Sprint("s", i)) {
				return false
			}
		}
		return !n[2].has("s-clean")
	})
	for i := range 60 {
		count := 0
		for _, m := range n {
			if m.has(fmt.Sprint("s", i)) {
				count++
			}
		}
		if count != 1 {
			t.Errorf("s%d: %d sessions", i, count)
		}
	}
	if !n[0].has("s-clean") {
		t.Error("the clean client of the majority is gone")
	}
	h.settled(n...)
}

// TestStaleOwner has an owner that is cut off: it grants nothing, whatever its marks say.
func TestStaleOwner(t *testing.T) {
	h, n := three(t)
	id := ownedBy(n[0].reg, "c", "")
	h.sever("c", true)
	h.mark(n[0], n[1])
	short, cancel := context.WithTimeout(within(t), 200*time.Millisecond)
	defer cancel()
	if c, err := n[2].reg.Claim(short, id, true); !errors.Is(err, errNoLease) {
		t.Errorf("got %+v, %v, want %v", c, err, errNoLease)
	}
	if _, err := n[2].reg.ServeClaims("a", 1, []HomeClaim{{id, "t"}}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want %v", err, ErrUnavailable)
	}
	if _, err := n[0].reg.ServeClaims("c", 2, []HomeClaim{{id, "t"}}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a node that is marked down: got %v, want %v", err, ErrUnavailable)
	}
}

// TestRepeatedClaim repeats a claim whose answer was lost: it is granted once.
func TestRepeatedClaim(t *testing.T) {
	_, n := three(t)
	id := ownedBy(n[0].reg, "c", "")
	var got [2]HomeGrant
	for i := range got {
		g, err := n[2].reg.ServeClaims("a", 1, []HomeClaim{{id, "t"}})
		if err != nil {
			t.Fatal(err)
		}
		got[i] = g[0]
	}
	if got[0] != got[1] || got[0].State != Granted {
		t.Errorf("got %+v and %+v", got[0], got[1])
	}
	g, err := n[2].reg.ServeClaims("a", 1, []HomeClaim{{id, "another"}})
	if err != nil || g[0].State != Busy {
		t.Errorf("another claim: got %+v, %v", g, err)
	}
}

// TestWillsOnce kills nodes with wills, also together with the owner of their clients, and brings them back: each will is published once.
func TestWillsOnce(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	texts := []string{}
	enter := func(m *room, durable bool, delay uint32) {
		for i := range 100 {
			text := fmt.Sprint(m.id, durable, delay, "-", i)
			texts = append(texts, text)
			if _, err := m.connect(ctx, text, durable, will(text, delay)); err != nil {
				t.Fatal(err)
			}
		}
	}
	enter(n[2], true, 0)
	enter(n[2], false, 0)
	enter(n[2], true, 1)
	moved, ended := "moved", "ended"
	for _, id := range []string{moved, ended} {
		if _, err := n[2].connect(ctx, id, true, will(id, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n[0].connect(ctx, moved, true, will(moved+"-a", 0)); err != nil {
		t.Fatal(err)
	}
	n[2].end(ended)
	h.settled(n...)
	h.kill(n[2])
	h.mark(n[0], n[1])
	h.settled(n[0], n[1])
	back := h.open("c", n[2]) // before the delay of some is over
	h.mark(n[0], n[1], back)
	all := func(want int) func() bool {
		return func() bool {
			for _, text := range texts {
				if h.wills.of(text) < want {
					return false
				}
			}
			return true
		}
	}
	h.poll("all wills", all(1))
	h.settled(n[0], n[1], back)
	h.poll("it is known what becomes of the wills of the node that is back", func() bool {
		back.mu.Lock()
		defer back.mu.Unlock()
		for _, s := range back.sessions {
			if s.held != nil {
				return false
			}
		}
		return true
	})
	for _, text := range texts {
		if got := h.wills.of(text); got != 1 {
			t.Fatalf("%s: %d times", text, got)
		}
	}
	for _, text := range []string{moved, moved + "-a", ended} {
		if got := h.wills.of(text); got != 0 {
			t.Errorf("%s: %d times", text, got)
		}
	}
}

// TestLeft has a node leave: it goes on with its clients, and what the others have known of them is gone. The node forgets the others.
func TestLeft(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	for i := range 60 {
		id := fmt.Sprint("l", i)
		if _, err := n[i%3].connect(ctx, id, true, will(id, 0)); err != nil {
			t.Fatal(err)
		}
	}
	h.settled(n...)
	h.mu.Lock()
	h.gone["c"] = true
	h.frozen["c"] = raftstore.Marks{}
	h.mu.Unlock()
	h.mark(n[0], n[1])
	h.settled(n[0], n[1])
	h.poll("the node knows nobody", func() bool { s := n[2].reg.Stats(); return s.Epoch == 0 && s.Entries == 0 && s.Outbox == 0 })
	if c, err := n[2].reg.Claim(ctx, "l0", true); err != nil || c != (engine.Claim{}) {
		t.Errorf("a claim of a node that is alone: got %+v, %v", c, err)
	}
	for i := range 60 {
		c, err := n[0].reg.Claim(ctx, fmt.Sprint("l", i), true)
		if err != nil || c.Lost || (c.Holder == "") != (i%3 != 1) {
			t.Fatalf("l%d: got %+v, %v", i, c, err)
		}
		n[0].reg.Settle(fmt.Sprint("l", i), c.Fence, false, engine.Presence{})
		if got := h.wills.of(fmt.Sprint("l", i)); got != 0 {
			t.Errorf("l%d: will %d times", i, got)
		}
	}
}

// TestWillsOfAll restarts all nodes: nobody knows of the wills of the others any more, and each node publishes its own.
func TestWillsOfAll(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	for i := range 90 {
		text := fmt.Sprint("w", i)
		if _, err := n[i%3].connect(ctx, text, true, will(text, 0)); err != nil {
			t.Fatal(err)
		}
	}
	h.settled(n...)
	for _, m := range n {
		h.kill(m)
	}
	a, b := h.open("a", n[0]), h.open("b", n[1])
	h.mark(a, b)
	h.settled(a, b)
	c := h.open("c", n[2])
	h.mark(a, b, c)
	h.poll("all wills", func() bool {
		for i := range 90 {
			if h.wills.of(fmt.Sprint("w", i)) == 0 {
				return false
			}
		}
		return true
	})
	h.settled(a, b, c)
	for i := range 90 {
		if got := h.wills.of(fmt.Sprint("w", i)); got != 1 {
			t.Fatalf("w%d: %d times", i, got)
		}
	}
}

// TestQuickRestart has a node restart before anybody calls it down: its sessions that do not stay are gone, and their wills are published.
func TestQuickRestart(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	for i := range 60 {
		text := fmt.Sprint("q", i)
		if _, err := n[2].connect(ctx, text, i%2 == 0, will(text, 0)); err != nil {
			t.Fatal(err)
		}
	}
	h.settled(n...)
	h.kill(n[2])
	back := h.open("c", n[2])
	h.mark(n[0], n[1], back)
	h.settled(n[0], n[1], back)
	for i := range 60 {
		h.poll("the will", func() bool { return h.wills.of(fmt.Sprint("q", i)) > 0 })
		c, err := n[0].reg.Claim(ctx, fmt.Sprint("q", i), true)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if i%2 == 0 {
			want = "c"
		}
		if c.Holder != want || c.Lost {
			t.Errorf("q%d: got %+v, want holder %q", i, c, want)
		}
		n[0].reg.Settle(fmt.Sprint("q", i), c.Fence, false, engine.Presence{})
		if got := h.wills.of(fmt.Sprint("q", i)); got != 1 {
			t.Errorf("q%d: will %d times", i, got)
		}
	}
}

// TestOverflow gives an outbox up: the node asks for everything instead.
func TestOverflow(t *testing.T) {
	h, n := three(t)
	ctx := within(t)
	id := ownedBy(n[0].reg, "c", "")
	h.mu.Lock()
	h.cut[[2]string{"a", "c"}] = true
	h.mu.Unlock()
	b := n[0].reg.box("c")
	n[0].mu.Lock()
	n[0].sessions[id] = &fakeSession{f: engine.Fence{Epoch: 1, Count: 5}}
	n[0].mu.Unlock()
	n[0].reg.Renew(id, engine.Fence{Epoch: 1, Count: 5}, engine.Presence{})
	b.mu.Lock()
	clear(b.reports)
	b.again = true
	b.mu.Unlock()
	h.mu.Lock()
	h.cut[[2]string{"a", "c"}] = false
	h.mu.Unlock()
	wake(b.report)
	h.poll("the owner knows the client", func() bool {
		c, err := n[1].reg.Claim(ctx, id, true)
		if err != nil {
			t.Fatal(err)
		}
		n[1].reg.Settle(id, c.Fence, false, engine.Presence{})
		return c.Holder == "a"
	})
}

// TestRegistryModel has clients connect and end anywhere while nodes are killed, cut off and brought back at random. When everything is
// quiet again each client has one session, and the registry knows it.
func TestRegistryModel(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %d", seed)
			model(t, rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

func model(t *testing.T, rng *rand.Rand) {
	h := newHall(t)
	names := []string{"a", "b", "c", "d"}
	rooms := map[string]*room{}
	for _, id := range names {
		rooms[id] = h.open(id, nil)
	}
	living := map[string]bool{"a": true, "b": true, "c": true, "d": true}
	mark := func() {
		var up []*room
		for _, id := range names {
			if living[id] {
				up = append(up, rooms[id])
			}
		}
		h.mark(up...)
	}
	mark()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex // rooms
	at := func(i int) *room {
		mu.Lock()
		defer mu.Unlock()
		return rooms[names[i]]
	}
	var connects atomic.Int64
	for w := range 8 {
		src := rand.New(rand.NewPCG(rng.Uint64(), uint64(w)))
		wg.Go(func() {
			for ctx.Err() == nil {
				m := at(src.IntN(len(names)))
				id := fmt.Sprint("c", src.IntN(60))
				if src.IntN(6) == 0 {
					m.end(id)
					continue
				}
				part, stop := context.WithTimeout(ctx, 300*time.Millisecond)
				if _, err := m.connect(part, id, src.IntN(2) == 0, nil); err == nil {
					connects.Add(1)
				}
				stop()
			}
		})
	}
	severed := ""
	for range 12 {
		time.Sleep(time.Duration(20+rng.IntN(80)) * time.Millisecond) // the clients go on meanwhile
		id := names[rng.IntN(len(names))]
		switch {
		case severed != "":
			h.sever(severed, false)
			living[severed] = true
			severed = ""
		case !living[id]:
			m := h.open(id, rooms[id])
			mu.Lock()
			rooms[id] = m
			mu.Unlock()
			living[id] = true
		case rng.IntN(3) == 0:
			h.sever(id, true)
			severed, living[id] = id, false
		default:
			h.kill(rooms[id])
			if rng.IntN(2) == 0 {
				living[id] = false
			} else {
				m := h.open(id, rooms[id])
				mu.Lock()
				rooms[id] = m
				mu.Unlock()
			}
		}
		mark()
	}
	if severed != "" {
		h.sever(severed, false)
		living[severed] = true
	}
	for _, id := range names {
		if !living[id] {
			m := h.open(id, rooms[id])
			mu.Lock()
			rooms[id] = m
			mu.Unlock()
			living[id] = true
		}
	}
	mark()
	time.Sleep(50 * time.Millisecond) // some more clients
	cancel()
	wg.Wait()
	var all []*room
	for _, id := range names {
		all = append(all, rooms[id])
	}
	// Claims whose client has given up lapse; time goes on for everybody.
	for _, m := range all {
		for n := range m.reg.shards {
			sh := &m.reg.shards[n]
			sh.mu.Lock()
			clear(sh.claims)
			sh.mu.Unlock()
		}
	}
	h.settled(all...)
	wrong := func() string {
		for i := range 60 {
			id := fmt.Sprint("c", i)
			var homes []string
			var fence engine.Fence
			for _, m := range all {
				m.mu.Lock()
				if s := m.sessions[id]; s != nil {
					homes, fence = append(homes, m.id), s.f
				}
				m.mu.Unlock()
			}
			if len(homes) > 1 {
				text := fmt.Sprintf("%s is at %v", id, homes)
				for _, m := range all {
					m.mu.Lock()
					if s := m.sessions[id]; s != nil {
						text += fmt.Sprintf(", %s has %v", m.id, s.f)
					}
					m.mu.Unlock()
					sh := &m.reg.shards[shardOf(id)]
					sh.mu.Lock()
					if e, known := sh.entries[id]; known {
						text += fmt.Sprintf(", %s knows %v with %v", m.id, e.home.Value(), e.fence)
					}
					sh.mu.Unlock()
				}
				return text
			}
			v := all[0].reg.view.Load()
			n := shardOf(id)
			sh := &rooms[v.owner(n)].reg.shards[n]
			sh.mu.Lock()
			e, known := sh.entries[id]
			sh.mu.Unlock()
			switch {
			case len(homes) == 0 && known:
				return fmt.Sprintf("%s has ended and is known at %v", id, e.home.Value())
			case len(homes) == 1 && (!known || e.home.Value().node != homes[0] || e.fence != fence):
				return fmt.Sprintf("%s is at %v with %v; the owner knows %v %v", id, homes, fence, known, e)
			}
		}
		return ""
	}
	last := ""
	defer func() {
		if t.Failed() {
			t.Log(last)
		}
	}()
	h.poll("one place for each client", func() bool {
		last = wrong()
		return last == ""
	})
	t.Logf("%d connects", connects.Load())
}

// TestMinorityPolicies has clients connect to a node without a majority under each policy.
func TestMinorityPolicies(t *testing.T) {
	h, n := three(t)
	h.sever("c", true)
	n[2].alone.Store(true)
	for _, tc := range []struct {
		policy         string
		durable, clean error
	}{
		{RefusePersistent, errMinority, nil},
		{RefuseAll, errMinority, errMinority},
		{AllowAll, nil, nil},
	} {
		n[2].reg.o.Minority = tc.policy
		for durable, want := range map[bool]error{true: tc.durable, false: tc.clean} {
			c, err := n[2].reg.Claim(within(t), "client", durable)
			if !errors.Is(err, want) || (want == nil) != (err == nil) || c != (engine.Claim{}) {
				t.Errorf("%s, durable %v: got %+v, %v, want %v", tc.policy, durable, c, err, want)
			}
		}
	}
	if s := n[2].reg.Stats(); s.Alone != 3 || s.Refused != 3 {
		t.Errorf("counted: %d served, %d refused, want 3 each", s.Alone, s.Refused)
	}
}
