package raftstore

import (
	"context"
	"maps"
)

// Marks say which members are up, for all nodes alike: the leader writes what it sees. What depends on it, the places of clients, changes
// with the epoch.
type Marks struct {
	Epoch uint64          `json:"epoch"` // counts the writes; 0: there was none yet
	Up    map[string]Life `json:"up"`    // by identity; never changed in place
}

// Life is one life of a process, as long as it was up without a break.
type Life struct {
	Since uint64 `json:"since"` // epoch with which it was marked up
	Boot  string `json:"boot"`  // names the process
}

type putMarks struct {
	From uint64            `json:"from"` // epoch that they follow on: what was seen meanwhile is not written over
	Up   map[string]string `json:"up"`   // identity to boot
}

// Marks returns the marks. The map is shared: it must not be changed.
func (v View) Marks() Marks { return v.s.marks }

// PutMarks marks these nodes up, named by identity with the boot of their process, and all others down. From is the epoch that the caller
// has seen. Error: [ErrExists] when there is a later one.
func (s *Store) PutMarks(ctx context.Context, from uint64, up map[string]string) error {
	if len(up) > maxMembers {
		return invalid("more than %d nodes", maxMembers)
	}
	for id, boot := range up {
		if err := firstOf(checkName("identity", id, maxName), checkName("boot", boot, maxName)); err != nil {
			return err
		}
	}
	return s.do(ctx, cmdPutMarks, putMarks{from, maps.Clone(up)})
}

// putMarks makes the marks of the next epoch. A process that goes on being up keeps its life.
func (s *state) putMarks(c *putMarks) (outcome, changes) {
	if c.From != s.marks.Epoch {
		return exists, 0
	}
	next := Marks{Epoch: c.From + 1, Up: make(map[string]Life, len(c.Up))}
	for id, boot := range c.Up {
		life, was := s.marks.Up[id]
		if !was || life.Boot != boot {
			life = Life{Since: next.Epoch, Boot: boot}
		}
		next.Up[id] = life
	}
	s.marks = next
	return done, changed(MarksTable)
}
