package engine

import (
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/internal/ordered"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// registry is the table of sessions in the order of client ids.
type registry struct {
	mu         sync.RWMutex
	tree       ordered.Tree[string, *Session]
	persistent int // sessions of clients that connected without clean start
}

// The weights of a session in the registry.
const (
	dimSession   = iota // 1
	dimConnected        // 1 while a client is connected
	dimSubs             // number of subscriptions
)

// weigh puts a session in, or renews its weights. registry.mu is held.
func (e *Engine) weigh(s *Session) {
	e.registry.tree.Set(s.clientID, s, s.weights())
	e.gaugeSessions()
}

func (s *Session) weights() (w ordered.Weights) {
	if s.link != nil { // it is in no list
		return w
	}
	w[dimSession] = 1
	if s.conn.Load() != nil {
		w[dimConnected] = 1
	}
	w[dimSubs] = uint32(s.subs.len.Load())
	return w
}

// gaugeSessions renews the gauges that the registry knows. registry.mu is held.
func (e *Engine) gaugeSessions() {
	t := &e.registry.tree
	e.gauges.sessions.set(t.Total(dimSession))
	e.gauges.connections.set(t.Total(dimConnected))
	e.gauges.persistent.set(int64(e.registry.persistent))
}

// unregister takes a dead session out. registry.mu is held.
func (e *Engine) unregister(s *Session) {
	e.durable.end(s)
	e.held.drop(s)
	e.registry.tree.Delete(s.clientID)
	if !s.cleanStart && s.link == nil {
		e.registry.persistent--
	}
	e.gaugeSessions()
}

// opened is what open found.
type opened struct {
	present bool     // the session was there and goes on
	old     *Conn    // its connection so far
	orphan  *Session // the session that the new one takes the place of
	reason  string   // why the orphan ends
	anew    bool     // it is that of another node, and new
	will    *will    // what waited for its delay
}

// open gives c its session: the stored one, or a new one [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6]. From then on the
// connection can be found, so everything that others read of it is set.
func (e *Engine) open(b *Batch, c *Conn, hs *handshake) (o opened, code packet.ReasonCode) {
	id := hs.req.ClientID
	r := &e.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.ended.Load() || e.closing.Load() {
		return o, packet.ServerShuttingDown
	}
	if isLinkID(id) != (c.link != nil) {
		return o, packet.ClientIdentifierNotValid
	}
	s, found := r.tree.Get(id)
	if found {
		o.old = s.conn.Load()
		s.mu.Lock()
		expired := s.expireAt != 0 && s.expireAt <= b.now // [MQTT-4.1.0-2]
		s.mu.Unlock()
		if o.old != nil { // a session that ends with its connection is not handed on [MQTT-3.1.2-6]
			o.old.mu.Lock()
			expired = o.old.expiry == 0
			o.old.mu.Unlock()
		}
		o.present = !hs.connect.CleanStart && !expired
		o.reason = ReasonTakenOver
		if expired && o.old == nil {
			o.reason = ReasonExpired
		}
	} else if limit := e.settings.Load().MaxSessions; limit > 0 && int(r.tree.Total(dimSession)) >= limit && c.link == nil {
		b.counts[SessionsRefused]++
		return o, packet.QuotaExceeded
	}
	if c.link != nil && !hs.connect.CleanStart && !o.present { // it has ended since the nodes agreed to go on with it
		return opened{}, packet.ServerUnavailable
	}
	if store := e.durable.store; store != nil && !o.present && c.expiry > 0 && store.Err() != nil {
		b.counts[SessionsRefused]++
		return opened{}, packet.QuotaExceeded
	}
	if !o.present {
		if found {
			s.mu.Lock()
			s.dead = true
			s.conn.Store(nil)
			s.mu.Unlock()
			e.durable.end(s)
			e.held.drop(s)
			o.orphan = s
		}
		s = &Session{e: e, clientID: id, createdAt: b.now}
		s.timer.owner = s
		if c.link != nil {
			s.link = &linkSession{}
		}
		if c.expiry > 0 && e.durable.store != nil {
			e.keep(s)
		}
	}
	if c.link == nil {
		if o.present && !s.cleanStart || o.orphan != nil && !o.orphan.cleanStart {
			r.persistent--
		}
		if !hs.connect.CleanStart {
			r.persistent++
		}
	}
	c.session = s // before the connection can be found
	s.mu.Lock()
	s.zone.Store(c.zone)
	s.username, s.hasUsername, s.cleanStart = hs.req.Username, hs.req.HasUsername, hs.connect.CleanStart
	if hs.claim != (Fence{}) {
		s.fence = hs.claim
	}
	s.expiry = c.expiry
	s.conn.Store(c)
	s.attached()
	o.will, s.will, s.willAt = s.will, nil, 0 // [MQTT-3.1.3-9]
	e.held.drop(s)
	if c.expiry == 0 { // it ends with the connection, whatever happens
		s.letGo(b)
	}
	s.putSession(b)
	s.mu.Unlock()
	e.weigh(s)
	if c.link != nil {
		e.links.add(c)
		o.anew = !o.present
	}
	return o, packet.Success
}

// leave takes the session of c away from it. mine is false when another connection has taken it over before; over says that
// the session ends. w is the will to publish now.
func (e *Engine) leave(b *Batch, c *Conn, x ending) (s *Session, mine, over bool, w *will) {
	r := &e.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if s = c.session; s == nil {
		return nil, false, false, nil
	}
	c.mu.Lock()
	expiry := c.expiry
	w, c.will = c.will, nil
	c.mu.Unlock()
	if x.noWill {
		w = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.Load() != c {
		// Taken over: a will with a delay is not sent if the session goes on [MQTT-3.1.3-9].
		if w != nil && w.delay > 0 && !s.dead {
			w = nil
		}
		return s, false, false, w
	}
	s.conn.Store(nil)
	s.expiry = expiry
	over = expiry == 0 || x.endSession && (x.reason != ReasonShutdown || s.kept.Load() == nil)
	if over {
		s.dead = true
		e.unregister(s)
		return s, true, true, w
	}
	e.weigh(s)
	if expiry != packet.SessionNeverExpires {
		s.expireAt = b.now + int64(expiry)*int64(time.Second)
		e.wheel.set(&s.timer, s.expireAt)
	}
	if w != nil && w.delay > 0 {
		s.will, s.willAt = w, b.now+int64(w.delay)*int64(time.Second)
		e.wheel.set(&s.timer, s.willAt)
		w = nil
	}
	if d := s.kept.Load(); d != nil {
		if w != nil { // until it is published: see Conn.end
			s.will, s.willAt = w, b.now
		}
		s.putSession(b)
		if w != nil {
			s.will, s.willAt = nil, 0
		}
		d.last = b.stage(e.durable.store.Begun(d.number, d.begun))
	}
	return s, true, false, w
}

// expire ends a session whose time is over, unless its client came back.
func (e *Engine) expire(b *Batch, s *Session) {
	e.registry.mu.Lock()
	s.mu.Lock()
	over := !s.dead && s.conn.Load() == nil && s.expireAt != 0 && s.expireAt <= b.now
	if over {
		s.dead = true
		e.unregister(s)
	}
	s.mu.Unlock()
	e.registry.mu.Unlock()
	if over {
		b.counts[SessionsDropped]++
		e.terminate(b, s, ReasonExpired)
	}
}

// terminate gives up everything that a dead session has, which is out of the registry already.
func (e *Engine) terminate(b *Batch, s *Session, reason string) {
	e.wheel.stop(&s.timer)
	s.subMu.Lock()
	s.closed = true
	subs := s.subs.all()
	for _, u := range subs {
		e.dropSub(s, u)
	}
	s.subMu.Unlock()

	s.mu.Lock()
	w := s.will
	s.will, s.willAt = nil, 0
	alarmed := s.alarmed
	var rest []slot
	for i := range s.window.n {
		if p := s.window.at(i); p.m != nil {
			// A QoS 2 delivery that was begun goes to nobody else [MQTT-4.8.2-5].
			if p.qos == 2 && p.flags&slotSent != 0 {
				p.group = nil
			}
			rest = append(rest, *p)
		}
	}
	for s.queue.n > 0 {
		rest = append(rest, s.dequeue())
	}
	if mv := s.moving.Load(); mv != nil && mv.in != nil {
		for mv.in.behind.n > 0 {
			rest = append(rest, mv.in.behind.pop())
		}
	}
	if s.kept.Load() != nil {
		e.durable.live.Add(-sizeDelivery * int64(s.comp))
	}
	s.window, s.queue, s.rel, s.feeds = window{}, queue{}, nil, nil
	s.unsent, s.comp = 0, 0
	s.mu.Unlock()

	for _, sl := range rest {
		if sl.group != nil && sl.qos > 0 && sl.group.word == "" {
			b.redispatch(s, sl)
		} else {
			b.dropped(s, sl.m, DropSessionEnded)
		}
		if sl.seq != 0 {
			e.durable.live.Add(-sizeDelivery)
			e.durable.forget(sl.m)
		}
		sl.m.release()
	}
	b.settle()
	if alarmed {
		e.queueAlarm(s, false, "")
	}
	if w != nil { // the session ends before the delay does [MQTT-3.1.2-8]
		e.publishWill(b, s, w)
	}
	s.mu.Lock()
	s.letGo(b) // last: a crash leaves what goes to others with one of them at least
	s.mu.Unlock()
	if s.link != nil {
		if s.link.full.Swap(false) {
			e.links.full.Add(-1)
		}
		return
	}
	b.forgetMove(s)
	e.forgetHome(s)
	for _, h := range e.hooks.Load().sessionTerminated {
		h(s.clientID, reason)
	}
}
