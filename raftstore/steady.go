package raftstore

import (
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

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
