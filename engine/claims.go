package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// homes is what the engine has around the registry of the cluster.
type homes struct {
	registry atomic.Pointer[Homes] // nil: there is none
	wait     atomic.Int64          // how long a client is refused whose home is lost, ns
	lostN    atomic.Int64          // clients whose home was lost

	mu   sync.Mutex           // a leaf
	lost map[string]time.Time // nodes that claims have named as lost, and since when
}

// claimTime bounds a claim.
const claimTime = 10 * time.Second

// SetHomes sets the registry of the cluster, which is asked about every client that connects from then on. nil: there is none.
func (e *Engine) SetHomes(h Homes) {
	if h == nil {
		e.homes.registry.Store(nil)
		return
	}
	e.moves.on.Store(true)
	e.homes.registry.Store(&h)
}

// SetWaitHome sets how long a client is refused whose session is on a node that is lost, until it gets a new one.
func (e *Engine) SetWaitHome(d time.Duration) { e.homes.wait.Store(int64(d)) }

// home is the registry, or nil.
func (e *Engine) home() Homes {
	if h := e.homes.registry.Load(); h != nil {
		return *h
	}
	return nil
}

// claimHome makes this node the home of the client that connects, off this goroutine, and goes on with it.
func (c *Conn) claimHome(b *Batch, hs *handshake) Next {
	e, id := b.e, hs.req.ClientID
	a := asking{clientID: id, clean: hs.connect.CleanStart, durable: c.expiry > 0 || !hs.connect.CleanStart, zone: c.zone}
	return c.handOver(b, func() func(*Batch) Next {
		claim, code := e.claim(e.ctx, &a)
		return func(b *Batch) Next {
			if code != packet.Success {
				return c.refuse(b, code)
			}
			hs.claim = claim
			return c.enter(b, hs)
		}
	})
}

// claim asks the registry for a client. A fence that is not zero has to be settled.
func (e *Engine) claim(ctx context.Context, a *asking) (Fence, packet.ReasonCode) {
	id := a.clientID
	h := e.home()
	if h == nil {
		return Fence{}, packet.Success
	}
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	cl, err := h.Claim(ctx, id, a.durable)
	if err != nil {
		e.log.Debug("client cannot be registered", "clientid", id, "err", err)
		return Fence{}, packet.ServerUnavailable
	}
	if cl.Fence == (Fence{}) {
		return Fence{}, packet.Success
	}
	if code := e.homeElsewhere(ctx, h, a, cl); code != packet.Success {
		h.Settle(id, cl.Fence, false, Presence{})
		return Fence{}, code
	}
	return cl.Fence, packet.Success
}

// asking is a client that asks for its session.
type asking struct {
	clientID       string
	clean, durable bool
	zone           *zoneRef
}

// settle ends the claim of c, which has got its session or not.
func (c *Conn) settle(b *Batch, hs *handshake, taken bool) {
	f := hs.claim
	h := b.e.home()
	if h == nil || f == (Fence{}) {
		return
	}
	id, s := hs.req.ClientID, c.session
	if !taken {
		if s = b.e.movedHere(id, f); s == nil {
			h.Settle(id, f, false, Presence{})
			return
		}
	}
	h.Settle(id, f, true, s.presence())
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	if dead { // it has ended before the registry knew of it
		h.Forget(id, f)
	}
}

// movedHere gives the session that has moved here for a claim, if it has, although the client has not stayed for it.
func (e *Engine) movedHere(clientID string, f Fence) *Session {
	s := e.sessionOf(clientID)
	if s == nil {
		return nil
	}
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	if s.dead || s.fence != f {
		return nil
	}
	return s
}

// presence is what others have to know of s.
func (s *Session) presence() (p Presence) {
	s.e.registry.mu.RLock()
	defer s.e.registry.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.presenceLocked()
}

// presenceLocked is presence with registry.mu and s.mu held.
func (s *Session) presenceLocked() (p Presence) {
	w, author := s.willOf()
	if w == nil {
		return p
	}
	return Presence{Will: &StoredWill{Message: w.m, Delay: w.delay, Author: author}, WillAt: s.willAt}
}

// willOf is the will of s, or of its connection, and who leaves it. s.mu is held.
func (s *Session) willOf() (*will, *ClientInfo) {
	c := s.conn.Load()
	w := s.will
	if c != nil {
		c.mu.Lock()
		w = c.will
		c.mu.Unlock()
	}
	if w == nil {
		return nil, nil
	}
	author := w.info
	if author == nil && c != nil && s.e.asksRules() {
		info := c.describe()
		author = &info
	}
	return w, author
}

// tellHome tells the registry that the will of s has changed. No lock is held.
func (e *Engine) tellHome(s *Session) {
	h := e.home()
	if h == nil {
		return
	}
	e.registry.mu.RLock()
	s.mu.Lock()
	f, p, dead := s.fence, s.presenceLocked(), s.dead
	s.mu.Unlock()
	e.registry.mu.RUnlock()
	if !dead && f != (Fence{}) {
		h.Renew(s.clientID, f, p)
	}
}

// forgetHome tells the registry that s has ended. No lock is held.
func (e *Engine) forgetHome(s *Session) {
	h := e.home()
	if h == nil || s.link != nil {
		return
	}
	s.mu.Lock()
	f := s.fence
	s.mu.Unlock()
	if f != (Fence{}) {
		h.Forget(s.clientID, f)
	}
}

// Claims calls yield for every session of a client here, with its fence and what others have to know of it, until that says false. The
// fence of one that was never claimed is zero.
func (e *Engine) Claims(yield func(clientID string, f Fence, p Presence) bool) {
	type row struct {
		id string
		f  Fence
		p  Presence
	}
	for from := ""; ; {
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
			if mv := s.moving.Load(); !s.dead && (mv == nil || mv.in == nil || mv.in.sure.Load()) {
				rows = append(rows, row{s.clientID, s.fence, s.presenceLocked()})
			}
			s.mu.Unlock()
		}
		e.registry.mu.RUnlock()
		for _, r := range rows {
			if !yield(r.id, r.f, r.p) {
				return
			}
		}
	}
}

// Discard ends the session of a client that lives elsewhere since: one whose fence was given before f. Its connection is told 0x8E, and
// its will is nobody's any more. It reports whether there was one.
func (e *Engine) Discard(clientID string, f Fence) bool {
	b := e.borrow()
	defer b.giveBack()
	s := e.sessionOf(clientID)
	if s == nil {
		return false
	}
	s.mu.Lock()
	older := s.fence.Before(f)
	s.mu.Unlock()
	if !older {
		return false
	}
	if c := s.conn.Load(); c != nil {
		c.end(b, ending{reason: ReasonTakenOver, code: packet.SessionTakenOver, noWill: true, endSession: true})
	}
	s.mu.Lock()
	s.will, s.willAt = nil, 0
	s.mu.Unlock()
	e.drop(b, s, ReasonTakenOver)
	return true
}

// PublishWill publishes the will of a client whose node has died: as its own node would have, rules and hooks included.
func (e *Engine) PublishWill(clientID string, w StoredWill) {
	b := e.borrow()
	defer b.giveBack()
	e.publishWill(b, &Session{e: e, clientID: clientID}, &will{m: *w.Message.Clone(), delay: w.Delay, info: w.Author})
}

// homeElsewhere says whether a client may come in although the registry names another node, if it does. What this node has of it is
// from before.
func (e *Engine) homeElsewhere(ctx context.Context, h Homes, a *asking, cl Claim) packet.ReasonCode {
	id := a.clientID
	if code := e.settleArrival(ctx, id); code != packet.Success {
		return code
	}
	if cl.Holder == "" && e.sessionOf(id) == nil { // or the registry has not heard of a move
		cl.Holder = e.movedTo(id)
	}
	if cl.Holder == "" {
		return packet.Success
	}
	if cl.Lost {
		if code := e.homeLost(id, cl); code != packet.Success {
			return code
		}
		e.Discard(id, cl.Held)
		return packet.Success
	}
	e.homeFound(cl.Holder)
	return e.fetch(ctx, h, a, cl)
}

// homeLost says what becomes of a client whose home is a node that is down.
func (e *Engine) homeLost(id string, cl Claim) packet.ReasonCode {
	hm := &e.homes
	now := e.now()
	hm.mu.Lock()
	since, known := hm.lost[cl.Holder]
	if !known {
		if hm.lost == nil {
			hm.lost = map[string]time.Time{}
		}
		since = now
		hm.lost[cl.Holder] = now
	}
	hm.mu.Unlock()
	if wait := time.Duration(hm.wait.Load()); now.Sub(since) < wait {
		e.log.Debug("client refused: its home is away", "clientid", id, "id", cl.Holder)
		return packet.ServerUnavailable
	}
	hm.lostN.Add(1)
	e.log.Warn("the home of a client is away: it gets a new session", "clientid", id, "id", cl.Holder)
	return packet.Success
}

// homeFound undoes homeLost.
func (e *Engine) homeFound(node string) {
	e.homes.mu.Lock()
	delete(e.homes.lost, node)
	e.homes.mu.Unlock()
}

// LostHomes counts the clients that got a new session because the node that had theirs was down.
func (e *Engine) LostHomes() int64 { return e.homes.lostN.Load() }

// String gives the fence as logs show it.
func (f Fence) String() string { return fmt.Sprintf("%d.%d", f.Epoch, f.Count) }
