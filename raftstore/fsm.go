package raftstore

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// reached is a state and the index of the last entry in it.
type reached struct {
	state *state
	index uint64
}

// fsm hands entries of the log to the processor. Raft calls it from one
// goroutine; views are read from any.
type fsm struct {
	current atomic.Pointer[reached]
	// ahead is what current will have come to, where that is known before raft
	// tells it. It is shown meanwhile.
	ahead atomic.Pointer[reached]
	// runs is false while raft starts: a snapshot that is restored then is the one
	// on disk, a later one is newer than all that was known.
	runs atomic.Bool

	mu    sync.Mutex
	watch [tableCount]chan struct{} // guarded by mu
	moved chan struct{}             // guarded by mu; closed at the next entry, nil while nobody waits
}

func newFSM() *fsm {
	f := &fsm{}
	f.current.Store(&reached{state: &state{}})
	for i := range f.watch {
		f.watch[i] = make(chan struct{})
	}
	return f
}

// view is the state to show.
func (f *fsm) view() *state {
	if a := f.ahead.Load(); a != nil {
		return a.state
	}
	return f.current.Load().state
}

// foresee shows a state until the log has come to it.
func (f *fsm) foresee(s *state, index uint64) {
	f.ahead.Store(&reached{s, index})
	f.wake(^changes(0))
}

// again begins anew for another run of raft, which applies what is on disk once
// more. Until it is through, what was known stays to be seen, unless it is to be
// forgotten.
func (f *fsm) again(forget bool) {
	if now := f.current.Load(); !forget && f.ahead.Load() == nil {
		f.ahead.Store(now)
	}
	if forget {
		f.ahead.Store(nil)
	}
	f.runs.Store(false)
	f.current.Store(&reached{state: &state{}})
	f.wake(^changes(0))
}

// reach makes a state the current one.
func (f *fsm) reach(s *state, index uint64, ch changes) {
	f.current.Store(&reached{s, index})
	if a := f.ahead.Load(); a != nil {
		if a.index > index {
			ch = 0
		} else {
			f.ahead.Store(nil)
			ch = ^changes(0)
		}
	}
	f.wake(ch)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

// index is that of the last entry that was applied.
func (f *fsm) index() uint64 { return f.current.Load().index }

// next returns a channel that is closed when the next entry has been applied.
func (f *fsm) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.moved == nil {
		f.moved = make(chan struct{})
	}
	return f.moved
}

// Apply applies one entry and returns its outcome.
func (f *fsm) Apply(l *raft.Log) any {
	next, out, ch := apply(f.current.Load().state, l.Data)
	f.reach(next, l.Index, ch)
	return out
}

// Snapshot captures the state, which never changes.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return &snapshot{f.current.Load().state}, nil
}

// Restore replaces the state by that of a snapshot. Raft does not say at which
// index it stands: who waits for one looks at raft too.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close() // only read
	s, _, err := readStream(r)
	if err != nil {
		return fmt.Errorf("restore metadata: the snapshot %w", err)
	}
	if f.runs.Load() {
		f.ahead.Store(nil)
	}
	f.reach(s, f.index(), ^changes(0))
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
