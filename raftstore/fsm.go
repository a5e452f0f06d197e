package raftstore

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// fsm hands entries of the log to the processor. Raft calls it from one
// goroutine; views are read from any.
type fsm struct {
	current atomic.Pointer[state]

	mu    sync.Mutex
	watch [tableCount]chan struct{} // guarded by mu
}

func newFSM() *fsm {
	f := &fsm{}
	f.current.Store(&state{})
	for i := range f.watch {
		f.watch[i] = make(chan struct{})
	}
	return f
}

// Apply applies one entry and returns its outcome.
func (f *fsm) Apply(l *raft.Log) any {
	next, out, ch := apply(f.current.Load(), l.Data)
	f.current.Store(next)
	f.wake(ch)
	return out
}

// Snapshot captures the state, which never changes.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return &snapshot{f.current.Load()}, nil
}

// Restore replaces the state by that of a snapshot.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close() // only read
	s, _, err := readStream(r)
	if err != nil {
		return fmt.Errorf("restore metadata: the snapshot %w", err)
	}
	f.current.Store(s)
	f.wake(^changes(0))
	return nil
}

// wake wakes the watchers of the changed tables. It is called after the new
// state can be read.
func (f *fsm) wake(ch changes) {
	if ch == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for t := range tableCount {
		if ch&changed(t) != 0 {
			close(f.watch[t])
			f.watch[t] = make(chan struct{})
		}
	}
}

func (f *fsm) watcher(t Table) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watch[t]
}

type snapshot struct{ s *state }

// Persist streams the state; a snapshot that was not written whole is given
// up.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	w := newStreamWriter(sink)
	s.s.write(w)
	err := w.end()
	if err == nil {
		err = sink.Close()
	}
	if err != nil {
		sink.Cancel() // the error that matters is the one before
		return fmt.Errorf("write snapshot of metadata: %w", err)
	}
	return nil
}

// Release has nothing to let go of.
func (s *snapshot) Release() {}

var (
	_ raft.FSM         = (*fsm)(nil)
	_ raft.FSMSnapshot = (*snapshot)(nil)
)
