package raftstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Applied is what has become of a command: where it stands in the log, and its
// outcome there.
type Applied struct {
	Index   uint64
	Outcome uint8
}

const (
	enqueueWait  = 5 * time.Second         // for raft to take a command in
	attemptWait  = 1500 * time.Millisecond // for the answer of the leader, before another is looked for
	betweenTries = 20 * time.Millisecond
)

// do has a command applied, wherever the leader is, and returns its refusal.
// When it returns, this node has applied it too. Over changes of the leader it is
// tried again under the same request id, so that it is done once.
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
	within, cancel := context.WithTimeout(ctx, s.o.WriteWait)
	defer cancel()
	for {
		a, err := s.propose(within, entry)
		if err == nil {
			if err := s.awaitIndex(within, a.Index); err != nil {
				return gaveUp(ctx, err)
			}
			return outcome(a.Outcome).err()
		}
		if s.net == nil || !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrNotLeader) {
			return gaveUp(ctx, err)
		}
		select {
		case <-within.Done():
			return gaveUp(ctx, fmt.Errorf("%w within %v: %w", ErrNoLeader, s.o.WriteWait, err))
		case <-s.stopped:
			return ErrClosed
		case <-time.After(betweenTries):
		}
	}
}

// gaveUp tells the end of the caller's patience from that of the store.
func gaveUp(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the write may still be applied: %w", ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: the write may still be applied: %w", ErrNoLeader, err)
	}
	return err
}

// propose hands a command to the leader, once.
func (s *Store) propose(ctx context.Context, entry []byte) (Applied, error) {
	select {
	case <-s.stopped:
		return Applied{}, ErrClosed
	default:
	}
	r := s.run.Load()
	if r.raft.State() == raft.Leader {
		return s.applyHere(ctx, r, entry)
	}
	_, leader := r.raft.LeaderWithID()
	switch {
	case leader == "" || string(leader) == s.NodeID():
		return Applied{}, ErrNoLeader
	case s.net == nil:
		return Applied{}, ErrNotLeader
	}
	once, cancel := context.WithTimeout(ctx, attemptWait)
	defer cancel()
	a, err := s.net.Apply(once, string(leader), entry)
	if err != nil && once.Err() != nil && ctx.Err() == nil {
		return a, fmt.Errorf("%w: the leader does not answer: %w", ErrNoLeader, err)
	}
	return a, err
}

// applyHere has raft apply a command on this node, which leads.
func (s *Store) applyHere(ctx context.Context, r *run, entry []byte) (Applied, error) {
	future := r.raft.Apply(entry, enqueueWait)
	applied := make(chan error, 1)
	go func() { applied <- future.Error() }()
	var err error
	select {
	case err = <-applied:
	case <-r.over: // raft may have taken the command in and stopped before it looked at it
		err = raft.ErrRaftShutdown
	case <-ctx.Done():
		return Applied{}, ctx.Err()
	}
	if err == nil {
		return Applied{future.Index(), uint8(future.Response().(outcome))}, nil
	}
	if err = translate(err); errors.Is(err, ErrClosed) && !s.isClosed() { // raft is being restarted
		err = fmt.Errorf("%w: %w", ErrNoLeader, raft.ErrRaftShutdown)
	}
	return Applied{}, err
}

func (s *Store) isClosed() bool {
	select {
	case <-s.stopped:
		return true
	default:
		return false
	}
}

func translate(err error) error {
	switch {
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case errors.Is(err, raft.ErrNotLeader):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrAbortedByRestore):
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	return fmt.Errorf("write metadata: %w", err)
}

// Apply applies a command that another node has encoded. A command that this
// release cannot read is refused: no node could go on after it. Errors:
// [ErrNotLeader], [ErrNoLeader], [ErrInvalid], [ErrClosed].
func (s *Store) Apply(ctx context.Context, command []byte) (Applied, error) {
	d, err := decode(command)
	if err != nil {
		return Applied{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	r := s.run.Load()
	if r.raft.State() != raft.Leader {
		return Applied{}, ErrNotLeader
	}
	if m, is := d.body.(*putMember); is && !s.isServer(m.Member.ID) {
		return Applied{}, invalid("node %s is no member", m.Member.Name)
	}
	return s.applyHere(ctx, r, command)
}

// awaitIndex waits until this node has applied the command at an index.
func (s *Store) awaitIndex(ctx context.Context, index uint64) error {
	for {
		next := s.fsm.next()
		if s.fsm.index() >= index {
			return nil
		}
		if s.has(index) {
			return nil
		}
		select {
		case <-next:
		case <-time.After(50 * time.Millisecond): // a snapshot may have brought it
		case <-s.stopped:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// has reports whether this node has applied all commands up to an index of the
// log, which need not be that of a command.
func (s *Store) has(index uint64) bool {
	if s.fsm.index() >= index {
		return true
	}
	r := s.run.Load()
	if r.raft.AppliedIndex() < index {
		return false
	}
	// Raft counts an entry as applied once it has handed it on. What is not in the
	// log any more came with a snapshot, and that is restored before it counts.
	for i := index; i > 0; i-- {
		if s.fsm.index() >= i {
			return true
		}
		var l raft.Log
		if err := r.logs.GetLog(i, &l); err != nil {
			return errors.Is(err, raft.ErrLogNotFound)
		}
		if l.Type == raft.LogCommand {
			return s.fsm.index() >= i
		}
	}
	return true
}

// rounds joins questions for the read index: those that come while one is under
// way wait for the next, all together, as the answer to the first may be older
// than they are.
type rounds struct {
	mu   sync.Mutex
	busy bool   // guarded by mu
	next *round // guarded by mu
}

type round struct {
	done  chan struct{}
	index uint64
	err   error
}

// readIndex is an index up to which everything is in the log that was
// acknowledged before the call.
func (s *Store) readIndex(ctx context.Context) (uint64, error) {
	s.reads.mu.Lock()
	r := s.reads.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		s.reads.next = r
	}
	if !s.reads.busy {
		s.reads.busy = true
		go s.ask()
	}
	s.reads.mu.Unlock()
	select {
	case <-r.done:
		return r.index, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// ask asks as long as somebody wants to know. It is bounded by the patience of
// one question, and so not waited for.
func (s *Store) ask() {
	for {
		s.reads.mu.Lock()
		r := s.reads.next
		s.reads.next = nil
		if r == nil {
			s.reads.busy = false
			s.reads.mu.Unlock()
			return
		}
		s.reads.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), s.o.ReadWait)
		r.index, r.err = s.askOnce(ctx)
		cancel()
		close(r.done)
	}
}

func (s *Store) askOnce(ctx context.Context) (uint64, error) {
	if s.isClosed() {
		return 0, ErrClosed
	}
	r := s.run.Load()
	if r.raft.State() == raft.Leader {
		return s.leaderIndex(r)
	}
	leader := s.Leader()
	if leader == "" || s.net == nil || leader == s.NodeID() {
		return 0, ErrNoLeader
	}
	return s.net.ReadIndex(ctx, leader)
}

// leaderIndex is the index to which this node has committed, if it leads still
// after it was read: then nobody else has acknowledged anything.
func (s *Store) leaderIndex(r *run) (uint64, error) {
	term := r.raft.CurrentTerm()
	if r.settled.Load() != term {
		// A new leader does not know how far the one before it had committed until it
		// has committed something itself.
		if err := r.raft.Barrier(s.o.ReadWait).Error(); err != nil {
			return 0, translate(err)
		}
		r.settled.Store(term)
	}
	index := r.raft.CommitIndex()
	if err := r.raft.VerifyLeader().Error(); err != nil {
		return 0, translate(err)
	}
	return index, nil
}

// ReadIndex is what the leader answers to a node that reads. Errors:
// [ErrNotLeader], [ErrNoLeader], [ErrClosed].
func (s *Store) ReadIndex(ctx context.Context) (uint64, error) {
	if !s.Leads() {
		return 0, ErrNotLeader
	}
	return s.readIndex(ctx)
}

// Sync waits until [Store.View] has everything that was acknowledged anywhere
// before the call. It reports false when that cannot be known, because there is no
// leader or it does not answer in time: what View shows may be old then.
func (s *Store) Sync(ctx context.Context) bool {
	if s.net == nil && s.Leads() {
		return true // who is acknowledged is in the view
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.ReadWait)
	defer cancel()
	for s.HasLeader() {
		index, err := s.readIndex(ctx)
		for err == nil {
			if s.has(index) {
				return true
			}
			if !pause(ctx, time.Millisecond) {
				return false
			}
		}
		if errors.Is(err, ErrClosed) || !pause(ctx, betweenTries) {
			return false
		}
	}
	return false
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
