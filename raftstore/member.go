package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Member is a node of the cluster: a row of the address book, and what raft's
// configuration says about it. The configuration is the truth about who is in the
// cluster; the row says what it is called and where it is.
type Member struct {
	ID      string `json:"id"`      // see [Store.NodeID]
	Name    string `json:"name"`    // unique in the cluster
	Address string `json:"address"` // of its cluster port, host:port
	Version string `json:"version"` // release
	Level   int    `json:"level"`   // of the features it knows
	Joined  int64  `json:"joined"`  // Unix seconds

	Voter  bool `json:"-"`
	Leader bool `json:"-"`
}

// MaxVoters is how many nodes vote at most; further ones only follow.
const MaxVoters = 5

// maxMembers bounds a cluster.
const maxMembers = 64

// servers is raft's configuration as this node knows it.
func (s *Store) servers() []raft.Server {
	f := s.run.Load().raft.GetConfiguration()
	if f.Error() != nil {
		return nil // raft has stopped
	}
	return f.Configuration().Servers
}

func (s *Store) isServer(id string) bool {
	return slices.ContainsFunc(s.servers(), func(v raft.Server) bool { return v.ID == raft.ServerID(id) })
}

// Members returns the nodes of the cluster by name. One whose row this node does
// not have yet has an identity alone.
func (s *Store) Members() []Member {
	rows, leader := s.fsm.view().members, s.Leader()
	var out []Member
	for _, v := range s.servers() {
		m, ok := rows.get(string(v.ID))
		if !ok {
			m = Member{ID: string(v.ID)}
		}
		m.Voter, m.Leader = v.Suffrage == raft.Voter, m.ID == leader
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
	return out
}

// FeatureLevel is what all members know: the least level of their rows, 0
// while the row of one is missing. What a level adds is not used below it.
func (s *Store) FeatureLevel() int {
	level := 0
	for i, m := range s.Members() {
		if i == 0 || m.Level < level {
			level = m.Level
		}
	}
	return level
}

// IsMember reports whether this node is in a cluster, be it one of its own.
func (s *Store) IsMember() bool { return s.isServer(s.NodeID()) }

// Book returns the row of a node in the address book, whether or not raft's
// configuration has it.
func (s *Store) Book(id string) (Member, bool) { return s.fsm.view().members.get(id) }

// BookRows returns the whole address book by identity.
func (s *Store) BookRows() []Member { return all(s.fsm.view().members) }

// IsEmpty reports whether this node has nothing of any cluster on disk.
func (s *Store) IsEmpty() bool {
	r := s.run.Load()
	return r.raft.LastIndex() == 0
}

// HasOwn reports whether somebody has stored something: users beyond the first,
// applications, bans, configuration, plugin configurations or credentials.
func (s *Store) HasOwn() bool {
	v := s.fsm.view()
	return v.users.len() > 1 || v.apps.len()+v.bans.len()+v.config.len()+v.plugins.len()+v.creds.len() > 0
}

// Form makes one cluster of nodes that have none, of which this is one. The
// caller has made sure that nobody else forms one of them. At most MaxVoters vote.
func (s *Store) Form(members []Member) error {
	var c raft.Configuration
	for i, m := range members {
		as := raft.Voter
		if i >= MaxVoters {
			as = raft.Nonvoter
		}
		c.Servers = append(c.Servers, server(m.ID, as))
	}
	if err := s.run.Load().raft.BootstrapCluster(c).Error(); err != nil {
		return fmt.Errorf("form a cluster of %d: %w", len(members), err)
	}
	return nil
}

// PutMember keeps the row of a node that is in the cluster: its own, mostly.
// Errors: [ErrExists] (the name is another's), [ErrNotFound], [ErrInvalid].
func (s *Store) PutMember(ctx context.Context, m Member, isNew bool) error {
	if err := checkMember(m); err != nil {
		return err
	}
	m.Joined = time.Now().Unix()
	return s.do(ctx, cmdPutMember, putMember{Member: m, Join: isNew, Max: maxMembers})
}

func checkMember(m Member) error {
	return firstOf(checkName("identity", m.ID, maxName), checkName("node name", m.Name, maxName), checkName("address", m.Address, maxName), checkText("version", m.Version, maxName))
}

// turnWait bounds the start of a node that is alone after a change.
const turnWait = 30 * time.Second

// changeWait bounds one change of raft's configuration.
const changeWait = 5 * time.Second

// AddMember takes a node into the cluster, to follow; it votes when somebody
// calls [Store.Promote]. It takes the place, the name and the own rows of the
// node that it replaces, if that is not "". This node has to lead. Errors:
// [ErrNotLeader], [ErrNoLeader], [ErrExists] (the name is another's), [ErrLimit].
func (s *Store) AddMember(ctx context.Context, m Member, replaces string) error {
	if err := checkMember(m); err != nil {
		return err
	}
	if !s.Leads() {
		return ErrNotLeader
	}
	if s.run.Load().brisk {
		// The timing of a node that is alone is too short for two.
		s.log.Info("metadata: another node joins")
		if err := s.restart(false, false, nil); err != nil {
			return err
		}
		// It leads again as soon as it is up: nobody else votes.
		if err := s.AwaitLeader(ctx, turnWait); err != nil {
			return err
		}
	}
	if replaces != "" && s.isServer(replaces) {
		if err := s.change(func(r *raft.Raft) raft.Future { return r.RemoveServer(raft.ServerID(replaces), 0, changeWait) }); err != nil {
			return err
		}
	}
	for _, o := range s.BookRows() {
		if o.Name == m.Name && o.ID != m.ID && o.ID != replaces {
			return ErrExists
		}
	}
	added := false
	if !s.isServer(m.ID) {
		if len(s.servers()) >= maxMembers {
			return ErrLimit
		}
		err := s.change(func(r *raft.Raft) raft.Future {
			return r.AddNonvoter(raft.ServerID(m.ID), raft.ServerAddress(m.ID), 0, changeWait)
		})
		if err != nil {
			return err
		}
		added = true
	}
	// A node without a row writes it itself; a name that somebody else has taken
	// meanwhile is the only refusal.
	m.Joined = time.Now().Unix()
	err := s.do(ctx, cmdPutMember, putMember{Member: m, Join: true, Replaces: replaces, Max: maxMembers})
	if errors.Is(err, ErrExists) && added {
		err = errors.Join(err, s.change(func(r *raft.Raft) raft.Future { return r.RemoveServer(raft.ServerID(m.ID), 0, changeWait) }))
	}
	return err
}

// Promote lets a member vote. This node has to lead.
func (s *Store) Promote(id string) error {
	return s.change(func(r *raft.Raft) raft.Future {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, changeWait)
	})
}

// RemoveMember takes a node out of the cluster, with what it had of its own.
// This node has to lead and be another. Errors: [ErrNotLeader], [ErrNoLeader],
// [ErrNotFound].
func (s *Store) RemoveMember(ctx context.Context, id string) error {
	_, known := s.Book(id)
	if !known && !s.isServer(id) {
		return ErrNotFound
	}
	if err := s.change(func(r *raft.Raft) raft.Future { return r.RemoveServer(raft.ServerID(id), 0, changeWait) }); err != nil {
		return err
	}
	return s.DropRow(ctx, id)
}

func (s *Store) change(f func(*raft.Raft) raft.Future) error {
	if err := f(s.run.Load().raft).Error(); err != nil {
		return translate(err)
	}
	return nil
}

// HandOver makes another voter the leader, if this node is it.
func (s *Store) HandOver() error {
	if !s.Leads() {
		return nil
	}
	return s.change(func(r *raft.Raft) raft.Future { return r.LeadershipTransfer() })
}

// Forget gives up all metadata and the membership in a cluster. The node waits
// then to be added to one, or with alone is a cluster of one.
func (s *Store) Forget(alone bool) error {
	if err := s.restart(true, alone, nil); err != nil {
		return fmt.Errorf("give up the metadata: %w", err)
	}
	if alone {
		return s.AwaitLeader(context.Background(), turnWait)
	}
	return nil
}

// Recover makes a cluster of this node alone of what it has, entries that were
// never committed included. The others must not come back with their data: they
// would be another cluster of the same history.
func (s *Store) Recover() error {
	err := s.restart(false, false, s.recoverAlone)
	if err != nil {
		return fmt.Errorf("recover the cluster: %w", err)
	}
	return s.AwaitLeader(context.Background(), turnWait)
}

func (s *Store) recoverAlone() error {
	hlog := raftLogger(s.log, true)
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(s.raftDir(), 2, hlog)
	if err != nil {
		return err
	}
	logs, err := openLogs(s.raftDir())
	if err != nil {
		return err
	}
	alone := raft.Configuration{Servers: []raft.Server{server(s.NodeID(), raft.Voter)}}
	err = raft.RecoverCluster(s.raftConfig(hlog, true), newFSM(), logs, logs, snapshots, newLone(raft.ServerAddress(s.NodeID())), alone)
	return errors.Join(err, logs.Close())
}

// AppliedIndex is how far this node has come in the log.
func (s *Store) AppliedIndex() uint64 { return s.run.Load().raft.AppliedIndex() }

// DropRow forgets the row of a node that is no member, with what it had of its
// own.
func (s *Store) DropRow(ctx context.Context, id string) error {
	if err := s.do(ctx, cmdDropMember, dropMember{id}); !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}
