// Package raftstore keeps the metadata that several nodes may write: admin
// users, applications, bans, configuration, states and configuration of
// plugins, credentials of the built-in authentication plugins. It is a
// replicated state machine on hashicorp/raft: a write that was acknowledged is
// on disk and in the next [View]. A node without peers is a cluster of one.
package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Cluster is the configuration scope of all nodes.
const Cluster = ""

// Options say where a store is and how large it may grow. Dir is needed.
type Options struct {
	// Dir is the data directory; made when it is not there. The store locks it
	// as long as it is open. Its own there are lock, format, node_id, seal.key
	// and raft.
	Dir    string
	Logger *slog.Logger // nil: nothing is logged
	Limits Limits

	// Network makes what reaches the other nodes, given the identity of this one.
	// Nil is a node that has no others.
	Network func(self string) (Network, error)
	// Wait keeps a node with an empty directory from forming a cluster of one: it
	// waits for [Store.Form], or to be added to a cluster.
	Wait bool

	// LeaderWait is how long Open waits until the node leads; 0 is 30 s. With
	// Network it does not wait: see [Store.AwaitLeader].
	LeaderWait time.Duration
	// WriteWait is how long a write is tried over changes of the leader; 0 is 5 s.
	WriteWait time.Duration
	// ReadWait is how long [Store.Sync] waits for the leader; 0 is 1 s.
	ReadWait time.Duration
	// Heartbeat is after how long a silent leader is replaced, and twice the lease
	// of a leader that hears nobody; 0 is 1 s. It is the same on all nodes.
	Heartbeat time.Duration

	tune func(*raft.Config) // for tests
}

// Network reaches the stores of the other nodes.
type Network interface {
	// Secret is known to all nodes of the cluster and to nobody else: under it the
	// key of sealed secrets goes from node to node.
	Secret() []byte
	// Transport makes the transport of one run of raft, which closes it. The
	// addresses that raft dials are identities of nodes.
	Transport(log hclog.Logger) (raft.Transport, error)
	// Apply has [Store.Apply] of the node that leads called. An error that
	// another try may cure is an [ErrNoLeader] or [ErrNotLeader].
	Apply(ctx context.Context, leader string, command []byte) (Applied, error)
	// ReadIndex has [Store.ReadIndex] of the node that leads called.
	ReadIndex(ctx context.Context, leader string) (uint64, error)
}

// Limits bound what can be stored. Zero values are the defaults, in brackets.
type Limits struct {
	Users        int // [1 000]
	Applications int // [10 000]
	Bans         int // [100 000]
	Overrides    int // values of the configuration in all scopes [10 000]
	Plugins      int // states and configurations, each, of plugins on nodes [10 000]
	Credentials  int // [1 000 000]
}

func (l Limits) withDefaults() Limits {
	set := func(n *int, def int) {
		if *n <= 0 {
			*n = def
		}
	}
	set(&l.Users, 1000)
	set(&l.Applications, 10_000)
	set(&l.Bans, 100_000)
	set(&l.Overrides, 10_000)
	set(&l.Plugins, 10_000)
	set(&l.Credentials, 1_000_000)
	return l
}

// Store is the metadata of a node. Its methods may be called from any
// goroutine.
type Store struct {
	log    *slog.Logger
	limits Limits
	dir    *dataDir
	fsm    *fsm
	net    Network // nil: there are no other nodes
	wrap   *sealer // of Network.Secret
	o      Options
	reads  rounds

	turning sync.Mutex // held while run is replaced
	run     atomic.Pointer[run]

	background sync.WaitGroup
	stop       context.CancelFunc
	stopped    chan struct{} // closed when the store stops for good
	closeOnce  sync.Once
	closeErr   error
}

// Open takes the data directory and starts the store. Without Network it returns
// when the node leads and every write that was ever acknowledged can be read.
// Errors: [ErrInUse], [ErrNewer], [ErrNoLeader], and those of the file system.
func Open(o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{{&o.LeaderWait, 30 * time.Second}, {&o.WriteWait, 5 * time.Second}, {&o.ReadWait, time.Second}, {&o.Heartbeat, time.Second}} {
		if *d.at <= 0 {
			*d.at = d.def
		}
	}
	dir, err := holdDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	s := &Store{log: o.Logger, limits: o.Limits.withDefaults(), dir: dir, fsm: newFSM(), o: o, stopped: make(chan struct{}), stop: func() {}}
	if err := s.start(); err != nil {
		return nil, fmt.Errorf("open metadata in %s: %w", o.Dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Store) start() error {
	if s.o.Network != nil {
		var err error
		if s.net, err = s.o.Network(s.NodeID()); err != nil {
			return err
		}
		if s.wrap, err = newWrap(s.net.Secret()); err != nil {
			return err
		}
	}
	if err := s.turn(!s.o.Wait); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.background.Go(func() { s.keepMark(ctx) })
	if s.net != nil {
		s.background.Go(func() { s.keepKey(ctx) })
		return nil
	}
	return s.AwaitLeader(ctx, s.o.LeaderWait)
}

// AwaitLeader waits until the node leads, or knows who does, and every write that
// was ever acknowledged can be read. Error: [ErrNoLeader] when that is not so in
// time; the store goes on without.
func (s *Store) AwaitLeader(ctx context.Context, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		if r := s.run.Load(); r.raft.State() == raft.Leader {
			if deadline, _ := ctx.Deadline(); r.raft.Barrier(time.Until(deadline)).Error() == nil {
				return nil
			}
		} else if s.Sync(ctx) {
			return nil
		}
		if !pause(ctx, 5*time.Millisecond) {
			return fmt.Errorf("%w after %v", ErrNoLeader, most)
		}
	}
}

// Close stops the store and lets go of the data directory. It is idempotent.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		var errs []error
		s.stop()
		s.background.Wait()
		s.turning.Lock()
		defer s.turning.Unlock()
		r := s.run.Load()
		if r != nil {
			s.writeMark(r)
			errs = append(errs, r.shutdown())
		}
		close(s.stopped)
		if r != nil {
			errs = append(errs, r.logs.Close())
		}
		errs = append(errs, s.dir.release())
		if err := errors.Join(errs...); err != nil {
			s.closeErr = fmt.Errorf("close metadata: %w", err)
		}
	})
	return s.closeErr
}

// NodeID is the identity of this node: a UUID made at its first start. It is
// the scope of the node's own configuration and plugins.
func (s *Store) NodeID() string { return s.dir.nodeID }

// Leads reports whether this node leads the cluster.
func (s *Store) Leads() bool { return s.run.Load().raft.State() == raft.Leader }

// Term is raft's term as this node knows it: there is one leader in it at most.
func (s *Store) Term() uint64 { return s.run.Load().raft.CurrentTerm() }

// Leader is the identity of the node that leads, as this node knows it; "" when
// it knows none.
func (s *Store) Leader() string {
	_, id := s.run.Load().raft.LeaderWithID()
	return string(id)
}

// HasLeader reports whether the cluster has a leader that this node knows.
func (s *Store) HasLeader() bool { return s.Leader() != "" }

// View returns the state of all metadata as this node knows it. A write of
// this store that has returned without an error is in it.
func (s *Store) View() View { return View{s: s.fsm.view(), seal: s.dir.seal.Load()} }

// Watch returns a channel that is closed at the next change of a table. Take
// the channel first and the view after it: then no change is missed.
func (s *Store) Watch(t Table) <-chan struct{} { return s.fsm.watcher(t) }
