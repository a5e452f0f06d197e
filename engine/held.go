package engine

import (
	"sync"
	"sync/atomic"
)

// heldWills are the wills of sessions that the store has brought back, while it is not known whether another node has published them:
// see Options.HoldWills.
type heldWills struct {
	n  atomic.Int64
	mu sync.Mutex // a leaf
	m  map[*Session]heldWill
}

type heldWill struct {
	w  *will
	at int64 // when it is due
}

// hold takes the will of a session that is being restored. What the store has of it stays.
func (h *heldWills) hold(s *Session) {
	if s.will == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		h.m = map[*Session]heldWill{}
	}
	h.m[s] = heldWill{s.will, s.willAt}
	h.n.Add(1)
	s.will, s.willAt = nil, 0
}

// of is what is held of a session.
func (h *heldWills) of(s *Session) (heldWill, bool) {
	if h.n.Load() == 0 {
		return heldWill{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w, ok := h.m[s]
	return w, ok
}

// drop forgets what is held of a session: its client is back, or it has ended.
func (h *heldWills) drop(s *Session) (heldWill, bool) {
	if h.n.Load() == 0 {
		return heldWill{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w, ok := h.m[s]
	if ok {
		delete(h.m, s)
		h.n.Add(-1)
	}
	return w, ok
}

// ReleaseWill ends the hold of the will of one session, if that is of this fence: it is published when it is due, or forgotten because
// another node has done so.
func (e *Engine) ReleaseWill(clientID string, f Fence, publish bool) {
	if e.held.n.Load() == 0 {
		return
	}
	s := e.sessionOf(clientID)
	if s == nil {
		return
	}
	s.mu.Lock()
	same := s.fence == f
	s.mu.Unlock()
	if same {
		e.releaseWill(s, publish)
	}
}

// HoldsWills reports whether wills are held.
func (e *Engine) HoldsWills() bool { return e.held.n.Load() > 0 }

// ReleaseWills is ReleaseWill for all sessions.
func (e *Engine) ReleaseWills(publish bool) {
	e.held.mu.Lock()
	all := make([]*Session, 0, len(e.held.m))
	for s := range e.held.m {
		all = append(all, s)
	}
	e.held.mu.Unlock()
	for _, s := range all {
		e.releaseWill(s, publish)
	}
}

func (e *Engine) releaseWill(s *Session, publish bool) {
	b := e.borrow()
	defer b.giveBack()
	e.registry.mu.RLock()
	s.mu.Lock()
	h, held := e.held.drop(s)
	live := held && !s.dead && s.conn.Load() == nil && s.will == nil
	if live && publish {
		s.will, s.willAt = h.w, h.at
		e.wheel.set(&s.timer, s.willAt)
	}
	if live {
		s.putSession(b)
	}
	s.mu.Unlock()
	e.registry.mu.RUnlock()
	if live && publish {
		e.tellHome(s)
	}
}

// ClaimsFrom is Claims from a client id on, and says whether the will of the session is held.
func (e *Engine) ClaimsFrom(from string, yield func(clientID string, f Fence, p Presence, held bool) bool) {
	type row struct {
		id   string
		f    Fence
		p    Presence
		held bool
	}
	for {
		some := e.sessionsFrom(from)
		if len(some) == 0 {
			return
		}
		from = some[len(some)-1].clientID + "\x00"
		rows := make([]row, 0, len(some))
		e.registry.mu.RLock()
		for _, s := range some {
			if s.link != nil {
				continue
			}
			s.mu.Lock()
			if !s.dead {
				_, held := e.held.of(s)
				rows = append(rows, row{s.clientID, s.fence, s.presenceLocked(), held})
			}
			s.mu.Unlock()
		}
		e.registry.mu.RUnlock()
		for _, r := range rows {
			if !yield(r.id, r.f, r.p, r.held) {
				return
			}
		}
	}
}
