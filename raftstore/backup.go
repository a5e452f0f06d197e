package raftstore

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// Backup writes all metadata as one file that [Store.Restore] reads. The file
// opens the secrets of applications: it is to be kept as the data directory
// is.
func (s *Store) Backup(w io.Writer) error {
	out := newStreamWriter(w)
	out.record(recBackup, backupRecord{Node: s.NodeID(), SealKey: s.dir.seal.Load().key, Time: time.Now().Unix()})
	st := *s.fsm.view()
	st.members, st.key, st.marks = tree[Member]{}, clusterKey{}, Marks{} // of this cluster, not of what it keeps
	st.recent, st.recentAge = tree[request]{}, tree[string]{}
	st.write(out)
	if err := out.end(); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// restoreWait bounds a restore.
const restoreWait = 60 * time.Second

// Restore replaces all metadata by those of a backup. A file that is damaged,
// cut short, or of a newer release changes nothing. What the backup holds for
// the node that wrote it holds for this node afterwards. Errors: [ErrInvalid],
// [ErrNewer], [ErrNoLeader], [ErrNotLeader].
func (s *Store) Restore(r io.Reader) error {
	st, from, err := readStream(r)
	if err != nil {
		return fmt.Errorf("%w: the backup %w", ErrInvalid, err)
	}
	if from == nil {
		return invalid("the file is no backup")
	}
	if err := s.adopt(st, from); err != nil {
		return fmt.Errorf("restore backup: %w", err)
	}
	var b bytes.Buffer
	out := newStreamWriter(&b)
	st.write(out)
	if err := out.end(); err != nil {
		return fmt.Errorf("restore backup: %w", err)
	}
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Size: int64(b.Len())}
	if err := s.run.Load().raft.Restore(meta, &b, restoreWait); err != nil {
		return translate(err)
	}
	return nil
}

// adopt makes the metadata of another node this one's: secrets are sealed with
// this node's key, and rows of the other node are renamed.
func (s *Store) adopt(st *state, from *backupRecord) error {
	now := s.fsm.view()
	st.members, st.key, st.marks = now.members, now.key, now.marks
	st.marks.Epoch += marksAhead
	theirs, err := newSealer(from.SealKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for _, a := range all(st.apps) {
		secret, err := theirs.open(a.Sealed, a.ID)
		if err != nil {
			return fmt.Errorf("%w: secret of application %q: %w", ErrInvalid, a.ID, err)
		}
		a.Sealed = s.dir.seal.Load().seal(secret, a.ID)
		st.apps = st.apps.put(a.ID, a)
	}
	st.config = renamed(st.config, from.Node, s.NodeID())
	st.states = renamed(st.states, from.Node, s.NodeID())
	st.plugins = renamed(st.plugins, from.Node, s.NodeID())
	return nil
}

// marksAhead keeps a restore from going back to an epoch that has been used: marks that are written while it goes on are fewer.
const marksAhead = 16

func all[V any](t tree[V]) []V {
	rows, _ := page(t, 0, -1)
	return rows
}

// renamed moves the rows of a node.
func renamed[V any](t tree[V], from, to string) tree[V] {
	if from == to {
		return t
	}
	t.walk(0, func(k string, v V) bool {
		if node, rest := splitKey(k); node == from {
			t = t.drop(k).put(pairKey(to, rest), v)
		}
		return true
	})
	return t
}
