package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// Memory is a store whose medium is a slice of bytes: the journal of Disk without files. It is for tests, which say when it
// commits, fails and crashes. It forgets nothing but by Clean.
type Memory struct {
	*journal
	committed, refused atomic.Uint64
	failed             atomic.Pointer[error]

	client  engine.StoreClient
	loaded  bool
	closing sync.Once
	closed  error
	wake    chan struct{} // Auto: something is wanted
	done    chan struct{} // closed when the goroutine of Auto has ended; nil: there is none

	auto bool

	mu    sync.Mutex
	ended bool            // wake is closed
	base  engine.Position // of data
	data  []byte          // records, staged and taken
	stats engine.StoreStats
}

var _ engine.Store = (*Memory)(nil)

// NewMemory makes an empty store. If auto, a goroutine commits what is wanted; otherwise nothing is committed but by Commit and
// CommitAll.
func NewMemory(auto bool) *Memory {
	m := &Memory{auto: auto, wake: make(chan struct{}, 1)}
	m.journal = &journal{now: func() int64 { return time.Now().UnixNano() }}
	m.stats.Durability = "memory"
	return m
}

// Load gives what an earlier store has left: see Crash.
func (m *Memory) Load() (*engine.Stored, error) {
	if m.loaded {
		panic("store: Load comes once")
	}
	m.loaded = true
	r := newReplay()
	if err := r.all(m.data, m.base); err != nil {
		return nil, fmt.Errorf("load the store: %w", err)
	}
	r.giveUp()
	if lost := r.missing(); lost != (missing{}) {
		return nil, fmt.Errorf("load the store: lost: %v", lost)
	}
	s := r.finish()
	s.Bytes = int64(len(m.data))
	return s, nil
}

// Start begins the work in the background.
func (m *Memory) Start(c engine.StoreClient) {
	m.client = c
	m.committed.Store(uint64(m.note(kindBoot)))
	if m.auto {
		m.done = make(chan struct{})
		go m.run()
	}
}

func (m *Memory) run() {
	defer close(m.done)
	for range m.wake {
		_ = m.CommitAll() // Err tells
	}
}

// Want asks that everything up to p is committed soon.
func (m *Memory) Want(p engine.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.auto && !m.ended && p != never && uint64(p) > m.committed.Load() {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// CommitAll commits everything that is staged. The error is that of Fail.
func (m *Memory) CommitAll() error { return m.Commit(m.Staged()) }

// Commit commits what is staged up to p, the Position behind a change. The error is that of Fail.
func (m *Memory) Commit(p engine.Position) error {
	if err := m.Err(); err != nil {
		m.refused.Store(m.staged.Load())
		m.client.Progress()
		return err
	}
	m.commit(p)
	return nil
}

func (m *Memory) commit(p engine.Position) {
	m.mu.Lock()
	m.drain()
	if uint64(p) <= m.committed.Load() {
		m.mu.Unlock()
		return
	}
	m.committed.Store(uint64(p))
	m.stats.Commits++
	m.mu.Unlock()
	m.client.Progress()
}

// drain takes in what is staged. m.mu is held.
func (m *Memory) drain() {
	groups := m.take(nil)
	for _, g := range groups {
		m.data = append(m.data, g.payload()...)
		m.stats.Records += int64(g.records)
		m.stats.CommittedBytes += int64(len(g.payload()))
	}
	m.recycle(groups)
}

// Fail makes the store one that cannot commit, for err. nil: it can again.
func (m *Memory) Fail(err error) {
	if err == nil {
		m.failed.Store(nil)
	} else {
		m.failed.Store(&err)
		m.refused.Store(m.staged.Load())
		m.mu.Lock()
		m.stats.Faults++
		m.mu.Unlock()
	}
	if m.client != nil {
		m.client.Progress()
	}
	if err == nil {
		m.Want(m.Staged())
	}
}

// Crash gives the store that is found after m has stopped where it is: what was committed, and at most more changes of what was
// staged. m can be closed afterwards without being heard of again.
func (m *Memory) Crash(more int) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drain()
	c := NewMemory(m.auto)
	c.base = m.base
	n := int(engine.Position(m.committed.Load()) - m.base)
	for r := (record{}); more > 0 && n < len(m.data); more-- {
		size, err := r.decode(m.data[n:])
		if err != nil {
			panic(fmt.Sprintf("store: what was staged cannot be read: %v", err))
		}
		n += size
	}
	c.data = append(c.data, m.data[:n]...)
	end := uint64(c.base) + uint64(n)
	c.staged.Store(end)
	c.committed.Store(end)
	return c
}

// Clean has the engine stage again what holds, commits that and forgets what was staged before. It waits for publications that are
// open, and reports whether it could.
func (m *Memory) Clean() bool {
	before := m.Staged()
	stop := make(chan struct{})
	if !m.settle(before, stop) || !m.client.Rewrite(before) || !m.settle(m.Staged(), stop) || m.CommitAll() != nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = append([]byte(nil), m.data[before-m.base:]...)
	m.base = before
	m.stats.Rewrites += int64(m.Staged() - before)
	return true
}

// Committed is the Position up to which everything is kept.
func (m *Memory) Committed() engine.Position { return engine.Position(m.committed.Load()) }

// Refused is the Position up to which what is not committed has to be refused.
func (m *Memory) Refused() engine.Position { return engine.Position(m.refused.Load()) }

// Err gives the error of Fail.
func (m *Memory) Err() error {
	if err := m.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Stats reads the counters.
func (m *Memory) Stats() engine.StoreStats {
	m.mu.Lock()
	s := m.stats
	s.Bytes = int64(len(m.data))
	m.mu.Unlock()
	s.Staged, s.Committed = m.Staged(), m.Committed()
	if m.client != nil {
		s.Live = m.client.Live()
	}
	return s
}

// Close commits what is staged, unless the store fails, and ends the work in the background.
func (m *Memory) Close() error {
	m.closing.Do(func() {
		if m.client == nil {
			return
		}
		m.mu.Lock()
		m.ended = true
		m.mu.Unlock()
		close(m.wake)
		if m.done != nil {
			<-m.done
		}
		m.last(true)
		if m.closed = m.Err(); m.closed == nil {
			m.commit(m.Staged())
		} else {
			m.closed = fmt.Errorf("close the store: %w", m.closed)
		}
		m.failed.Store(&errClosed)
	})
	return m.closed
}
