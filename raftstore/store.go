// Package raftstore keeps the metadata that several nodes may write: admin
// users, applications, bans, configuration, states and configuration of
// plugins, credentials of the built-in authentication plugins. It is a
// replicated state machine on hashicorp/raft: a write that was acknowledged is
// on disk and in the next [View]. A node without peers is a cluster of one.
package raftstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
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

	// Transport reaches the peers. Nil is a node without peers, which forms a
	// cluster of one at its first start.
	Transport raft.Transport

	// LeaderWait is how long Open waits for a leader; 0 is 30 s. A node without
	// peers that does not lead by then fails; one with peers goes on without.
	LeaderWait time.Duration

	join bool               // do not form a cluster: wait to be added to one
	tune func(*raft.Config) // for tests
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
	raft   *raft.Raft
	logs   *raftboltdb.BoltStore
	alone  bool

	stopped   chan struct{} // closed when raft has stopped: it answers no command any more
	closeOnce sync.Once
	closeErr  error
}

// Open takes the data directory and starts the store. It returns when the node
// leads (without peers) or knows a leader, and every write that was ever
// acknowledged can be read. Errors: [ErrInUse], [ErrNewer], [ErrNoLeader], and
// those of the file system.
func Open(o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LeaderWait <= 0 {
		o.LeaderWait = 30 * time.Second
	}
	dir, err := holdDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	s := &Store{log: o.Logger, limits: o.Limits.withDefaults(), dir: dir, fsm: newFSM(), alone: o.Transport == nil,
		stopped: make(chan struct{})}
	if err := s.start(o); err != nil {
		return nil, fmt.Errorf("open metadata in %s: %w", o.Dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Store) start(o Options) error {
	path := filepath.Join(s.dir.path, "raft")
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	hlog := raftLogger(s.log, s.alone)
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(path, 2, hlog)
	if err != nil {
		return err
	}
	transport := o.Transport
	if s.alone {
		transport = newLone(raft.ServerAddress(s.dir.nodeID))
	}
	cfg := s.raftConfig(hlog)
	if o.tune != nil {
		o.tune(cfg)
	}
	if s.logs, err = openLogs(path); err != nil {
		return err
	}
	if s.alone || !o.join {
		if err := s.form(cfg, path, snapshots, transport); err != nil {
			return err
		}
	}
	stable := &steadyStore{StableStore: s.logs, log: s.log}
	if s.raft, err = raft.NewRaft(cfg, s.fsm, s.logs, stable, snapshots, transport); err != nil {
		return err
	}
	return s.awaitLeader(o.LeaderWait)
}

func (s *Store) raftConfig(hlog hclog.Logger) *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(s.dir.nodeID)
	cfg.Logger = hlog
	cfg.BatchApplyCh = true
	cfg.MaxAppendEntries = 512
	if s.alone {
		// Nobody else can lead, so there is nothing to wait for at the start.
		cfg.HeartbeatTimeout = 100 * time.Millisecond
		cfg.ElectionTimeout = cfg.HeartbeatTimeout
		cfg.LeaderLeaseTimeout = cfg.HeartbeatTimeout
	}
	return cfg
}

func openLogs(path string) (*raftboltdb.BoltStore, error) {
	logs, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(path, "raft.db"),
		BoltOptions: &bbolt.Options{
			Timeout: time.Second,
			// The list of free pages is made at start by reading the file,
			// which is small, and not written with every entry.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return logs, nil
}

// form makes a cluster of this node alone when there is none on disk.
func (s *Store) form(cfg *raft.Config, path string, snapshots raft.SnapshotStore, t raft.Transport) error {
	last, err := s.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	list, err := snapshots.List()
	if err != nil {
		return fmt.Errorf("read the snapshots: %w", err)
	}
	if last > 0 || len(list) > 0 {
		return nil
	}
	if some, err := raft.HasExistingState(s.logs, s.logs, snapshots); err != nil {
		return fmt.Errorf("read the log: %w", err)
	} else if some {
		// The node was killed while it formed the cluster: a vote but no entry.
		// Nothing was acknowledged; start anew.
		if err := errors.Join(s.logs.Close(), os.Remove(filepath.Join(path, "raft.db"))); err != nil {
			return err
		}
		if s.logs, err = openLogs(path); err != nil {
			return err
		}
	}
	self := raft.Configuration{Servers: []raft.Server{{ID: cfg.LocalID, Address: t.LocalAddr()}}}
	if err := raft.BootstrapCluster(cfg, s.logs, s.logs, snapshots, t, self); err != nil {
		return fmt.Errorf("form a cluster of one: %w", err)
	}
	s.log.Info("metadata: formed a cluster of one", "id", s.dir.nodeID)
	return nil
}

// awaitLeader waits until the node leads, or knows who does, and has applied
// what was committed.
func (s *Store) awaitLeader(most time.Duration) error {
	deadline := time.Now().Add(most)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	said := time.Now()
	for {
		if s.raft.State() == raft.Leader {
			if err := s.raft.Barrier(time.Until(deadline)).Error(); err == nil {
				return nil
			}
		} else if addr, _ := s.raft.LeaderWithID(); addr != "" {
			return nil
		}
		now := <-poll.C
		if now.Sub(said) > 5*time.Second {
			said = now
			s.log.Info("metadata: waiting for a leader", "left", deadline.Sub(now).Round(time.Second))
		}
		if now.Before(deadline) {
			continue
		}
		if s.alone {
			return fmt.Errorf("%w after %v", ErrNoLeader, most)
		}
		s.log.Warn("metadata: no leader yet, writes are refused until there is one", "waited", most)
		return nil
	}
}

// Close stops the store and lets go of the data directory. It is idempotent.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		var errs []error
		if s.raft != nil {
			errs = append(errs, s.shutdown())
		}
		close(s.stopped)
		if s.logs != nil {
			errs = append(errs, s.logs.Close())
		}
		errs = append(errs, s.dir.release())
		if err := errors.Join(errs...); err != nil {
			s.closeErr = fmt.Errorf("close metadata: %w", err)
		}
	})
	return s.closeErr
}

// closeWait is how long raft may take to stop: it does not while the disk
// refuses to keep a vote.
const closeWait = 10 * time.Second

func (s *Store) shutdown() error {
	stopped := make(chan error, 1)
	go func() { stopped <- s.raft.Shutdown().Error() }()
	select {
	case err := <-stopped:
		return err
	case <-time.After(closeWait):
		return errors.New("raft does not stop")
	}
}

// NodeID is the identity of this node: a UUID made at its first start. It is
// the scope of the node's own configuration and plugins.
func (s *Store) NodeID() string { return s.dir.nodeID }

// Leads reports whether this node leads the cluster.
func (s *Store) Leads() bool { return s.raft.State() == raft.Leader }

// HasLeader reports whether the cluster has a leader that this node knows.
func (s *Store) HasLeader() bool {
	addr, _ := s.raft.LeaderWithID()
	return addr != ""
}

// View returns the state of all metadata as this node knows it. A write of
// this store that has returned without an error is in it.
func (s *Store) View() View { return View{s: s.fsm.current.Load(), seal: s.dir.seal} }

// Watch returns a channel that is closed at the next change of a table. Take
// the channel first and the view after it: then no change is missed.
func (s *Store) Watch(t Table) <-chan struct{} { return s.fsm.watcher(t) }

// enqueueWait bounds the wait for raft to take a command in.
const enqueueWait = 5 * time.Second

// do has a command applied and returns its refusal.
func (s *Store) do(ctx context.Context, k kind, body any) error {
	var id [requestIDSize]byte
	rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	entry, err := encode(k, id, body)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.stopped:
		return ErrClosed
	default:
	}
	future := s.raft.Apply(entry, enqueueWait)
	applied := make(chan error, 1)
	go func() { applied <- future.Error() }()
	select {
	case err = <-applied:
	case <-s.stopped: // raft may have taken the command in and stopped before it looked at it
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("the write may still be applied: %w", ctx.Err())
	}
	if err != nil {
		return s.translate(err)
	}
	return future.Response().(outcome).err()
}

func (s *Store) translate(err error) error {
	switch {
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case errors.Is(err, raft.ErrNotLeader) && s.HasLeader() && !s.Leads():
		return ErrNotLeader
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrAbortedByRestore):
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	return fmt.Errorf("write metadata: %w", err)
}

// steadyStore does not give up on a vote or term that the disk refuses: raft
// would end the process, and a node whose disk is full serves its clients on.
// Writes are refused meanwhile, as there is no leader.
type steadyStore struct {
	raft.StableStore
	log *slog.Logger
}

// SetUint64 stores a number, however often the disk refuses.
func (s *steadyStore) SetUint64(key []byte, val uint64) error {
	s.until(func() error { return s.StableStore.SetUint64(key, val) })
	return nil
}

// Set stores a value, however often the disk refuses.
func (s *steadyStore) Set(key, val []byte) error {
	s.until(func() error { return s.StableStore.Set(key, val) })
	return nil
}

func (s *steadyStore) until(try func() error) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := try()
		if err == nil {
			return
		}
		s.log.Error("metadata: the disk does not take a vote, writes are refused until it does", "err", err)
		time.Sleep(wait)
	}
}
