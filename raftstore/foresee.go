package raftstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// Raft learns what of its log is committed from the leader alone: a node that
// starts where there is no majority would know its last snapshot and nothing
// after it. The mark, a file beside the log, says how far the log was known to be
// committed; the entries up to it never change. What they come to is shown until
// raft has got as far.

// markEvery is how often the mark follows the log.
const markEvery = time.Second

func (s *Store) markFile() string { return filepath.Join(s.raftDir(), "committed") }

// keepMark writes the mark as the log goes on.
func (s *Store) keepMark(ctx context.Context) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.turning.Lock()
		select {
		case <-s.stopped:
		default:
			s.writeMark(s.run.Load())
		}
		s.turning.Unlock()
	}
}

// writeMark is called with turning held. A mark that is old, or gone, costs
// what it says and no more.
func (s *Store) writeMark(r *run) {
	at := r.raft.CommitIndex()
	if at <= r.marked {
		return
	}
	name := s.markFile()
	err := os.WriteFile(name+".new", binary.BigEndian.AppendUint64(nil, at), 0o600)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		s.log.Debug("metadata: the mark is not written", "err", err)
		return
	}
	r.marked = at
}

// foresee shows what the disk is known to come to.
func (s *Store) foresee(logs raft.LogStore, snapshots raft.SnapshotStore) error {
	b, err := os.ReadFile(s.markFile())
	if err != nil || len(b) != 8 {
		return nil // nothing is known
	}
	mark := binary.BigEndian.Uint64(b)
	st, after := &state{}, uint64(0)
	list, err := snapshots.List()
	if err != nil {
		return fmt.Errorf("read the snapshots: %w", err)
	}
	if len(list) > 0 {
		meta, r, err := snapshots.Open(list[0].ID)
		if err != nil {
			return nil // raft tries the one before
		}
		st, _, err = readStream(r)
		r.Close() // only read
		if err != nil {
			return nil // as above
		}
		after = meta.Index
	}
	at := uint64(0)
	err = eachLog(logs, after+1, func(l *raft.Log) bool {
		if l.Index > mark {
			return false
		}
		if l.Type == raft.LogCommand {
			st, _, _ = apply(st, l.Data)
			at = l.Index
		}
		return true
	})
	if err != nil || at == 0 { // without entries it is the snapshot, which raft restores
		return err
	}
	s.fsm.foresee(st, at)
	return nil
}
