package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// storeClient is what the store sees of the engine.
type storeClient struct{ e *Engine }

func (c storeClient) Progress()   { c.e.Progress() }
func (c storeClient) Live() int64 { return c.e.durable.live.Load() }

// Rewrite stages what holds and was staged at or before that Position once more: sessions with all they have, retained and delayed messages.
// It looks at everything, some at a time, and holds no lock between.
func (c storeClient) Rewrite(before Position) bool {
	e := c.e
	du := &e.durable
	select {
	case <-du.restored:
	case <-e.ctx.Done():
		return false
	}
	du.rewritten.Store(uint64(before)) // first: deliveries that are begun meanwhile see it
	for from := ""; e.ctx.Err() == nil; {
		some := e.sessionsFrom(from)
		if len(some) == 0 {
			break
		}
		from = some[len(some)-1].clientID + "\x00"
		for _, s := range some {
			if !e.rewriteSession(s, before) {
				return false
			}
		}
	}
	for _, s := range e.remnants() {
		if !e.rewriteSession(s, before) {
			return false
		}
	}
	if !e.rewriteRetained(before) {
		return false
	}
	b := e.borrow()
	e.delayed.rewrite(b, before)
	b.giveBack()
	return e.awaitEnding()
}

// awaitEnding waits until the sessions that have died so far are out of the store: what they leave behind may be staged before that
// Position still.
func (e *Engine) awaitEnding() bool {
	du := &e.durable
	du.mu.Lock()
	list := slices.Collect(maps.Keys(du.ending))
	du.mu.Unlock()
	for _, s := range list {
		for s.kept.Load() != nil {
			select {
			case <-e.ctx.Done():
				return false
			case <-time.After(time.Millisecond):
			}
		}
	}
	return true
}

// rewriteSession is Rewrite for one session. A publication in progress is waited for: what is staged again stands for itself.
func (e *Engine) rewriteSession(s *Session, before Position) bool {
	for {
		d := s.kept.Load()
		if d == nil {
			return true
		}
		b := e.borrow()
		done := s.rewrite(b, d, before)
		b.giveBack()
		if done {
			return true
		}
		select {
		case <-e.ctx.Done():
			return false
		case <-time.After(time.Millisecond):
		}
	}
}

// rewrite stages s and all it has, if that was staged at or before that Position in part. It reports false if it has to be tried again.
func (s *Session) rewrite(b *Batch, d *kept, before Position) bool {
	e := b.e
	du := &e.durable
	s.subMu.Lock()
	defer s.subMu.Unlock()
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead || s.kept.Load() != d || d.oldest > before {
		return true
	}
	open := false
	s.eachStored(func(p *slot) { open = open || p.m != nil && p.m.end.Load() == 0 })
	if open {
		return false
	}
	oldest := du.store.Staged()
	s.putSession(b)
	for _, u := range s.subs.all() {
		du.store.PutSubscription(d.number, &u.Subscription)
	}
	for id, at := range s.rel {
		du.store.PutRelease(d.number, id, at)
	}
	s.eachStored(func(p *slot) {
		if p.m != nil {
			if Position(p.m.at.Load()) <= before {
				e.putMessage(b, p.m, false)
			}
			oldest = min(oldest, Position(p.m.at.Load()-1))
		}
		du.store.PutDelivery(d.number, p.record(&b.delivery))
	})
	d.last = b.stage(du.store.Begun(d.number, d.begun))
	d.oldest = oldest
	return true
}

// rewriteRetained is Rewrite for the retained messages.
func (e *Engine) rewriteRetained(before Position) bool {
	var cur topic.Cursor
	for !cur.Done() {
		var found []*retained
		found, cur = e.retainer.names.All(cur, feedChunk, nil)
		b := e.borrow()
		for _, r := range found {
			if !r.stored || Position(r.at.Load()) > before {
				continue
			}
			e.retainer.names.Update(r.m.Topic, func(now *retained) *retained {
				if now == r {
					e.retainer.stage(b, r)
				}
				return now
			})
		}
		b.giveBack()
		if e.ctx.Err() != nil {
			return false
		}
	}
	e.retainer.rewriteCleared(before)
	return true
}
