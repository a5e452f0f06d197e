package engine

import (
	"fmt"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// sessionOf gives the session of a client id, or nil.
func (e *Engine) sessionOf(id string) *Session {
	if isLinkID(id) {
		return nil
	}
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	s, _ := e.registry.tree.Get(id)
	return s
}

// connOf gives the connection of a client id, or nil.
func (e *Engine) connOf(id string) *Conn {
	if s := e.sessionOf(id); s != nil {
		return s.conn.Load()
	}
	return nil
}

// Kick ends the connection of a client: its row is gone when Kick returns, its will is published, a persistent session stays.
func (e *Engine) Kick(id string) error {
	c := e.connOf(id)
	if c == nil {
		return fmt.Errorf("kick %q: %w", id, ErrNotFound)
	}
	b := e.borrow()
	defer b.giveBack()
	c.end(b, ending{reason: ReasonKicked, code: packet.AdministrativeAction})
	return nil
}

// DropSession ends a session, and its connection if there is one.
func (e *Engine) DropSession(id string) error {
	s := e.sessionOf(id)
	if s == nil {
		return fmt.Errorf("drop session %q: %w", id, ErrNotFound)
	}
	b := e.borrow()
	defer b.giveBack()
	if c := s.conn.Load(); c != nil {
		c.end(b, ending{reason: ReasonSessionEnded, code: packet.AdministrativeAction, endSession: true})
	}
	e.drop(b, s, ReasonSessionEnded)
	return nil
}

// drop ends a session without connection.
func (e *Engine) drop(b *Batch, s *Session, reason string) {
	e.registry.mu.Lock()
	s.mu.Lock()
	over := !s.dead && s.conn.Load() == nil
	if over {
		s.dead = true
		e.unregister(s)
	}
	s.mu.Unlock()
	e.registry.mu.Unlock()
	if over {
		e.terminate(b, s, reason)
	}
}

// Subscribe subscribes a session, connected or not, without asking authorizers and gates. Retained messages are delivered.
// The filter may have the prefix $share/ or $queue/. Errors: ErrNotFound, ErrBadTopic, ErrQuota.
func (e *Engine) Subscribe(id string, x Subscription) error {
	if x.Share == "" {
		group, filter, _, ok := topic.ParseShare(x.Filter)
		if !ok {
			return fmt.Errorf("subscribe %q to %q: %w", id, x.Filter, ErrBadTopic)
		}
		x.Share, x.Filter = group, filter
	}
	bare, _ := topic.CutLocal(x.Filter)
	if !topic.ValidFilter(bare) || !x.QoS.Valid() || x.RetainHandling > 2 || x.ID > packet.MaxSubscriptionID {
		return fmt.Errorf("subscribe %q to %q: %w", id, x.Filter, ErrBadTopic)
	}
	s := e.sessionOf(id)
	if s == nil {
		return fmt.Errorf("subscribe %q: %w", id, ErrNotFound)
	}
	if !s.policy().nameFits(x.Filter) {
		return fmt.Errorf("subscribe %q to %q: %w", id, x.Filter, ErrBadTopic)
	}
	b := e.borrow()
	defer b.giveBack()
	switch _, code := e.addSub(b, s, x); {
	case code == packet.QuotaExceeded:
		return fmt.Errorf("subscribe %q: %w", id, ErrQuota)
	case code.Failed(): // the session has ended meanwhile
		return fmt.Errorf("subscribe %q: %w", id, ErrNotFound)
	}
	e.weighSubs(s)
	e.feed(b, s)
	return nil
}

// Unsubscribe takes a subscription back; one that is not there is no error. Errors: ErrNotFound, ErrBadTopic.
func (e *Engine) Unsubscribe(id, filter string) error {
	group, bare, _, ok := topic.ParseShare(filter)
	if !ok {
		return fmt.Errorf("unsubscribe %q from %q: %w", id, filter, ErrBadTopic)
	}
	s := e.sessionOf(id)
	if s == nil {
		return fmt.Errorf("unsubscribe %q: %w", id, ErrNotFound)
	}
	b := e.borrow()
	defer b.giveBack()
	if e.cutSub(b, s, Subscription{Filter: bare, Share: group}.Name()) {
		e.weighSubs(s)
	}
	return nil
}
