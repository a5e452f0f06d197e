package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// run is raft from one start to its stop. A store has one after the other: raft
// cannot forget its log or change its timing while it runs.
type run struct {
	raft  *raft.Raft
	reach raft.Transport
	logs  *raftboltdb.BoltStore
	brisk bool          // with the timing of a node that is alone
	over  chan struct{} // closed when raft has stopped: it answers no command any more
	once  sync.Once
	// settled is the term of this node's leadership in which it has applied what the
	// leaders before it had acknowledged.
	settled atomic.Uint64
	marked  uint64 // what the mark on disk says; of keepMark and Close
}

// closeWait is how long raft may take to stop: it does not while the disk
// refuses to keep a vote.
const closeWait = 10 * time.Second

func (r *run) shutdown() error {
	defer r.once.Do(func() { close(r.over) })
	if c, ok := r.reach.(raft.WithClose); ok {
		c.Close() // what waits for other nodes would keep raft from stopping
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.raft.Shutdown().Error() }()
	select {
	case err := <-stopped:
		return err
	case <-time.After(closeWait):
		return errors.New("raft does not stop")
	}
}

func (s *Store) raftDir() string { return filepath.Join(s.dir.path, "raft") }

// turn starts raft on what is on disk. With form an empty directory becomes a
// cluster of one. Called at the start and with turning held.
func (s *Store) turn(form bool) error {
	if err := os.RemoveAll(s.raftDir() + ".old"); err != nil {
		return err
	}
	path := s.raftDir()
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	hlog := raftLogger(s.log, s.net == nil)
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(path, 2, hlog)
	if err != nil {
		return err
	}
	r := &run{over: make(chan struct{})}
	if r.logs, err = openLogs(path); err != nil {
		return err
	}
	if err := s.launch(r, path, snapshots, hlog, form); err != nil {
		return errors.Join(err, r.logs.Close())
	}
	s.run.Store(r)
	return nil
}

func (s *Store) launch(r *run, path string, snapshots raft.SnapshotStore, hlog hclog.Logger, form bool) error {
	if form {
		if err := s.formAlone(r, path, snapshots, hlog); err != nil {
			return err
		}
	}
	servers, err := storedServers(r.logs, snapshots)
	if err != nil {
		return err
	}
	r.brisk = len(servers) == 1 && servers[0].ID == raft.ServerID(s.NodeID())
	if !r.brisk {
		if err := s.foresee(r.logs, snapshots); err != nil {
			return err
		}
	}
	transport := raft.Transport(newLone(raft.ServerAddress(s.NodeID())))
	if s.net != nil {
		if transport, err = s.net.Transport(hlog); err != nil {
			return err
		}
	}
	stable := &steadyStore{StableStore: r.logs, log: s.log}
	if r.raft, err = raft.NewRaft(s.raftConfig(hlog, r.brisk), s.fsm, r.logs, stable, snapshots, transport); err != nil {
		if c, ok := transport.(raft.WithClose); ok {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	r.reach = transport
	s.fsm.runs.Store(true)
	return nil
}

// commitEvery is how soon followers hear, when nothing else is sent, that an
// entry is committed: writes and reads on followers wait for it. Raft's 50 ms
// would be felt in every one of them.
const commitEvery = 10 * time.Millisecond

func (s *Store) raftConfig(hlog hclog.Logger, brisk bool) *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(s.NodeID())
	cfg.Logger = hlog
	cfg.BatchApplyCh = true
	cfg.MaxAppendEntries = 512
	cfg.ShutdownOnRemove = false // who leaves is told by its own node, which has work to do
	cfg.CommitTimeout = commitEvery
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = s.o.Heartbeat, s.o.Heartbeat, s.o.Heartbeat/2
	if brisk {
		// Nobody else can lead, so there is nothing to wait for at the start.
		cfg.HeartbeatTimeout = 100 * time.Millisecond
		cfg.ElectionTimeout = cfg.HeartbeatTimeout
		cfg.LeaderLeaseTimeout = cfg.HeartbeatTimeout
	}
	if s.o.tune != nil {
		s.o.tune(cfg)
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

// server is a node in raft's configuration. Its address there is its identity:
// where it can be reached is in the address book.
func server(id string, suffrage raft.ServerSuffrage) raft.Server {
	return raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id), Suffrage: suffrage}
}

// isEmpty reports whether there is no cluster on disk.
func isEmpty(logs raft.LogStore, snapshots raft.SnapshotStore) (bool, error) {
	last, err := logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read the log: %w", err)
	}
	list, err := snapshots.List()
	if err != nil {
		return false, fmt.Errorf("read the snapshots: %w", err)
	}
	return last == 0 && len(list) == 0, nil
}

// formAlone makes a cluster of this node alone when there is none on disk.
func (s *Store) formAlone(r *run, path string, snapshots raft.SnapshotStore, hlog hclog.Logger) error {
	if empty, err := isEmpty(r.logs, snapshots); err != nil || !empty {
		return err
	}
	if some, err := raft.HasExistingState(r.logs, r.logs, snapshots); err != nil {
		return fmt.Errorf("read the log: %w", err)
	} else if some {
		// The node was killed while it formed the cluster: a vote but no entry.
		// Nothing was acknowledged; start anew.
		if err := errors.Join(r.logs.Close(), os.Remove(filepath.Join(path, "raft.db"))); err != nil {
			return err
		}
		if r.logs, err = openLogs(path); err != nil {
			return err
		}
	}
	self := raft.Configuration{Servers: []raft.Server{server(s.NodeID(), raft.Voter)}}
	if err := raft.BootstrapCluster(s.raftConfig(hlog, true), r.logs, r.logs, snapshots, newLone(raft.ServerAddress(s.NodeID())), self); err != nil {
		return fmt.Errorf("form a cluster of one: %w", err)
	}
	s.log.Info("metadata: formed a cluster of one", "id", s.NodeID())
	return nil
}

// storedServers is the newest configuration on disk, committed or not.
func storedServers(logs raft.LogStore, snapshots raft.SnapshotStore) ([]raft.Server, error) {
	list, err := snapshots.List()
	if err != nil {
		return nil, fmt.Errorf("read the snapshots: %w", err)
	}
	var servers []raft.Server
	after := uint64(0)
	if len(list) > 0 {
		servers, after = list[0].Configuration.Servers, list[0].Index
	}
	err = eachLog(logs, after+1, func(l *raft.Log) bool {
		if l.Type == raft.LogConfiguration {
			servers = raft.DecodeConfiguration(l.Data).Servers
		}
		return true
	})
	return servers, err
}

// eachLog calls f for the entries on disk from an index on, until it returns
// false.
func eachLog(logs raft.LogStore, from uint64, f func(*raft.Log) bool) error {
	first, err := logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	for i := max(first, from, 1); i <= last; i++ {
		var l raft.Log
		if err := logs.GetLog(i, &l); err != nil {
			return fmt.Errorf("read entry %d of the log: %w", i, err)
		}
		if !f(&l) {
			return nil
		}
	}
	return nil
}

// restart stops raft and starts it again: on what is on disk, on an empty
// directory (forget), or as what change makes of the disk. Calls that are under
// way find another leader or are tried again.
func (s *Store) restart(forget, form bool, change func() error) error {
	s.turning.Lock()
	defer s.turning.Unlock()
	select {
	case <-s.stopped:
		return ErrClosed
	default:
	}
	r := s.run.Load()
	if err := errors.Join(r.shutdown(), r.logs.Close()); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	if forget {
		// Renamed first: half a directory would be read as a whole one.
		if err := os.Rename(s.raftDir(), s.raftDir()+".old"); err != nil {
			return err
		}
	}
	if change != nil {
		if err := change(); err != nil {
			return errors.Join(err, s.turn(form))
		}
	}
	s.fsm.again(forget)
	return s.turn(form)
}
