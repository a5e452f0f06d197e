package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// wires joins stores of one process.
type wires struct {
	mu     sync.Mutex
	stores map[string]*Store
	trans  map[string]*raft.InmemTransport
	cut    map[string]bool
	tune   func(*raft.Config)
}

func newWires() *wires {
	return &wires{stores: map[string]*Store{}, trans: map[string]*raft.InmemTransport{}, cut: map[string]bool{}}
}

// wire is one store's end.
type wire struct {
	w    *wires
	self string
}

func (n wire) Secret() []byte { return []byte("secret") }

func (n wire) Transport(hclog.Logger) (raft.Transport, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	_, tr := raft.NewInmemTransportWithTimeout(raft.ServerAddress(n.self), 500*time.Millisecond)
	n.w.trans[n.self] = tr
	n.w.connect()
	return tr, nil
}

// connect is called with mu held.
func (w *wires) connect() {
	for a, x := range w.trans {
		for b, y := range w.trans {
			if a != b && !w.cut[a] && !w.cut[b] {
				x.Connect(raft.ServerAddress(b), y)
			} else {
				x.Disconnect(raft.ServerAddress(b))
			}
		}
	}
}

func (w *wires) setCut(id string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[id] = cut
	w.connect()
}

func (n wire) other(id string) (*Store, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	s := n.w.stores[id]
	if s == nil || n.w.cut[id] || n.w.cut[n.self] {
		return nil, fmt.Errorf("%w: cut", ErrNoLeader)
	}
	return s, nil
}

func (n wire) Apply(ctx context.Context, leader string, command []byte) (Applied, error) {
	s, err := n.other(leader)
	if err != nil {
		return Applied{}, err
	}
	return s.Apply(ctx, command)
}

func (n wire) ReadIndex(ctx context.Context, leader string) (uint64, error) {
	s, err := n.other(leader)
	if err != nil {
		return 0, err
	}
	return s.ReadIndex(ctx)
}

func (w *wires) open(t *testing.T, o Options) *Store {
	t.Helper()
	o.Network = func(self string) (Network, error) { return wire{w, self}, nil }
	o.tune = w.tune
	o.Heartbeat = 200 * time.Millisecond
	s := open(t, o)
	w.mu.Lock()
	w.stores[s.NodeID()] = s
	w.mu.Unlock()
	return s
}

// three makes a cluster of three: the first alone, the others added to it.
func (w *wires) three(t *testing.T) []*Store {
	t.Helper()
	stores := []*Store{w.open(t, Options{})}
	for i := range 3 {
		if i > 0 {
			stores = append(stores, w.open(t, Options{Wait: true}))
		}
		s := stores[i]
		m := Member{ID: s.NodeID(), Name: fmt.Sprint("n", i), Address: "a:1"}
		w.lead(t, nil, func(l *Store) error { return l.AddMember(t.Context(), m, "") })
		poll(t, "it follows", func() bool { return s.Sync(t.Context()) })
		w.lead(t, nil, func(l *Store) error { return l.Promote(s.NodeID()) })
	}
	return stores
}

// leader waits until a store leads that is not the one excepted.
func (w *wires) leader(t *testing.T, except *Store) *Store {
	t.Helper()
	var found *Store
	poll(t, "a node leads", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range w.stores {
			if s != except && !s.isClosed() && s.Leads() {
				found = s
				return true
			}
			if s == except && !s.isClosed() && s.Leads() {
				go s.HandOver() // whoever leads then
			}
		}
		return false
	})
	return found
}

// lead has the leader do something, and the next one if it is none any more.
func (w *wires) lead(t *testing.T, except *Store, f func(*Store) error) *Store {
	t.Helper()
	for {
		l := w.leader(t, except)
		err := f(l)
		if err == nil {
			return l
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrNoLeader) {
			t.Fatal(err)
		}
	}
}

// TestPeers adds two nodes to a cluster of one, writes through each, stops the
// one that leads, and looks for every acknowledged write on the others.
func TestPeers(t *testing.T) {
	ctx := t.Context()
	w := newWires()
	stores := w.three(t)
	if n := len(stores[0].Members()); n != 3 {
		t.Fatalf("members: got %d, want 3", n)
	}
	for i, s := range stores {
		key := fmt.Sprint("k", i)
		if err := s.SetConfig(ctx, Cluster, key, "v"); err != nil {
			t.Fatal(err)
		}
		if got := s.View().Config(Cluster)[key]; got != "v" {
			t.Errorf("node %d does not read its own write: got %q", i, got)
		}
		for j, o := range stores {
			if !o.Sync(ctx) || o.View().Config(Cluster)[key] != "v" {
				t.Errorf("node %d does not read what was written through node %d", j, i)
			}
		}
	}
	// A secret that one node sealed can be read on all.
	secret, err := stores[1].CreateApplication(ctx, Application{ID: "a", Status: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range stores {
		poll(t, "the secret can be read", func() bool { return s.Sync(ctx) && s.View().CheckApplication("a", secret, time.Now()) })
		if err := s.CreateUser(ctx, "u", "p", ""); i > 0 && !errors.Is(err, ErrExists) {
			t.Errorf("refusal through node %d: got %v, want %v", i, err, ErrExists)
		}
	}
	leader := w.leader(t, nil)
	if err := leader.Close(); err != nil {
		t.Fatal(err)
	}
	var left []*Store
	for _, s := range stores {
		if s != leader {
			left = append(left, s)
		}
	}
	if err := left[0].SetConfig(ctx, Cluster, "k", "x"); err != nil {
		t.Fatalf("write over a change of the leader: %v", err)
	}
	if !left[1].Sync(ctx) || left[1].View().Config(Cluster)["k"] != "x" {
		t.Error("the third node does not have it")
	}
}

// TestMinority cuts nodes off: they refuse writes, show what they know, and say
// that it may be old; a restart changes nothing of that.
func TestMinority(t *testing.T) {
	ctx := t.Context()
	w := newWires()
	stores := w.three(t)
	if err := stores[0].SetConfig(ctx, Cluster, "k", "v"); err != nil {
		t.Fatal(err)
	}
	last := stores[2]
	if !last.Sync(ctx) {
		t.Fatal("no answer in a whole cluster")
	}
	last.o.WriteWait = 300 * time.Millisecond
	w.setCut(last.NodeID(), true)
	if err := last.SetConfig(ctx, Cluster, "k", "x"); !errors.Is(err, ErrNoLeader) {
		t.Errorf("write: got %v, want %v", err, ErrNoLeader)
	}
	poll(t, "it knows that there is no leader", func() bool { return !last.HasLeader() })
	if last.Sync(ctx) {
		t.Error("what it shows counts as new")
	}
	if got := last.View().Config(Cluster)["k"]; got != "v" {
		t.Errorf("got %q, want v", got)
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	again := w.open(t, Options{Dir: last.dir.path, Wait: true})
	if got := again.View().Config(Cluster)["k"]; got != "v" || again.Sync(ctx) {
		t.Errorf("after a restart: got %q, want v that may be old", got)
	}
	if err := stores[1].SetConfig(ctx, Cluster, "k", "w"); err != nil {
		t.Fatal(err)
	}
	w.setCut(last.NodeID(), false)
	poll(t, "it is back", func() bool { return again.Sync(ctx) && again.View().Config(Cluster)["k"] == "w" })
}

// TestLeaveAndRecover takes nodes out, and makes a cluster of what is left when
// there is no majority any more.
func TestLeaveAndRecover(t *testing.T) {
	ctx := t.Context()
	w := newWires()
	stores := w.three(t)
	if err := stores[1].SetConfig(ctx, stores[1].NodeID(), "k", "own"); err != nil {
		t.Fatal(err)
	}
	leader := w.lead(t, stores[1], func(l *Store) error { return l.RemoveMember(ctx, stores[1].NodeID()) })
	if got := leader.View().Config(stores[1].NodeID()); len(got) != 0 {
		t.Errorf("what the node had of its own is left: %v", got)
	}
	if err := stores[1].Forget(true); err != nil {
		t.Fatal(err)
	}
	if n := len(stores[1].Members()); n != 1 || !stores[1].Leads() {
		t.Errorf("the node that has left: %d members, leads %v", n, stores[1].Leads())
	}
	if err := stores[1].SetConfig(ctx, Cluster, "k", "v"); err != nil {
		t.Error(err)
	}
	if err := stores[2].SetConfig(ctx, Cluster, "k", "w"); err != nil {
		t.Fatal(err)
	}
	if err := stores[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := stores[2].Recover(); err != nil {
		t.Fatal(err)
	}
	if got := stores[2].View().Config(Cluster)["k"]; got != "w" || !stores[2].Leads() {
		t.Errorf("recovered: got %q, leads %v", got, stores[2].Leads())
	}
}

// TestReplace lets a node that lost its disk come back under its name.
func TestReplace(t *testing.T) {
	ctx := t.Context()
	w := newWires()
	stores := w.three(t)
	old := stores[2].NodeID()
	if err := stores[2].SetConfig(ctx, old, "k", "own"); err != nil {
		t.Fatal(err)
	}
	if err := stores[2].Close(); err != nil {
		t.Fatal(err)
	}
	fresh := w.open(t, Options{Wait: true})
	m := Member{ID: fresh.NodeID(), Name: "n2", Address: "a:2"}
	w.lead(t, nil, func(l *Store) error {
		err := l.AddMember(ctx, m, "")
		if errors.Is(err, ErrExists) {
			return nil
		}
		return fmt.Errorf("a name that is taken: got %w, want %w", err, ErrExists)
	})
	w.lead(t, nil, func(l *Store) error { return l.AddMember(ctx, m, old) })
	poll(t, "it is in", func() bool { return fresh.Sync(ctx) })
	if got := fresh.View().Config(fresh.NodeID())["k"]; got != "own" {
		t.Errorf("configuration of the node: got %q, want own", got)
	}
	var names []string
	for _, m := range fresh.Members() {
		names = append(names, fmt.Sprint(m.Name, m.Voter))
	}
	if got := strings.Join(names, " "); got != "n0true n1true n2false" {
		t.Errorf("members: %s", got)
	}
}

// TestFarBehind stops a node until the others have dropped what it misses from
// their logs: it comes back by a snapshot while writes go on.
func TestFarBehind(t *testing.T) {
	ctx := t.Context()
	w := newWires()
	w.tune = oftenSnapshots
	stores := w.three(t)
	behind := stores[2]
	at := behind.AppliedIndex()
	if err := behind.Close(); err != nil {
		t.Fatal(err)
	}
	alive := stores[0]
	for i := range 300 {
		if err := alive.SetConfig(ctx, Cluster, fmt.Sprint("k", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
			}
			if err := alive.SetConfig(ctx, Cluster, fmt.Sprint("l", n), "v"); err != nil {
				t.Error(err)
				<-stop
				stopped <- n
				return
			}
			n++
		}
	}()
	again := w.open(t, Options{Dir: behind.dir.path, Wait: true})
	poll(t, "it has what it missed", func() bool { return again.Sync(ctx) && again.View().Config(Cluster)["k299"] == "v" })
	close(stop)
	n := <-stopped
	if !again.Sync(ctx) {
		t.Fatal("no answer")
	}
	if got := again.View().Config(Cluster); len(got) != 300+n {
		t.Errorf("values: got %d, want %d", len(got), 300+n)
	}
	if err := again.run.Load().logs.GetLog(at+10, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry that it missed is in its log: no snapshot was installed (%v)", err)
	}
	t.Logf("%d writes went on", n)
}
