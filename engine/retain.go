package engine

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// retainer keeps the last message with RETAIN of each topic [MQTT-3.3.1-5].
type retainer struct {
	e        *Engine
	options  atomic.Pointer[RetainerOptions] // nil: off
	names    topic.Names[retained]
	restored atomic.Bool // what the store had has no default expiry yet
	clock    stampClock
	ledger   atomic.Pointer[ledger] // nil: the node is alone
	warned   atomic.Int64           // when stamps from the future were logged last
}

// retained is one stored message. It never changes: the next message of the topic replaces it.
type retained struct {
	m       *shared       // never goes back to the pool, because deliveries in progress may refer to it
	timer   timer         // of the expiry
	expires int64         // ns since the epoch; 0 for never
	stored  bool          // the store has it
	at      atomic.Uint64 // Position behind the record that says so; its message may have been staged again by others
	slot    int32         // in the ledger, from 1; 0: it is not there. Guarded by ledger.mu
}

// stamp gives the stamp of a change of m's topic, which has v, that this node takes now; zero if other nodes do not hear of it. names is
// locked.
func (r *retainer) stamp(b *Batch, m *Message, v *retained) Stamp {
	if !spreads(m) {
		return Stamp{}
	}
	return r.clock.next(b.now, r.known(m.Topic, v))
}

// known gives the stamp of the last change of a topic, which has v, as far as that is known. names is locked.
func (r *retainer) known(name string, v *retained) Stamp {
	if v != nil {
		return v.m.stamp
	}
	if l := r.ledger.Load(); l != nil {
		return l.when(name)
	}
	return Stamp{}
}

// put stores or removes the retained message of m's topic. It gives m the stamp of the change, if others are to hear of it.
func (r *retainer) put(b *Batch, m *Message) {
	o := r.options.Load()
	if o == nil {
		return
	}
	if len(m.Payload) == 0 { // [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
		r.clear(b, m)
		return
	}
	store := r.e.durable.store
	if m.Sys || isSys(m.Topic) || o.Volatile {
		store = nil
	}
	if store != nil && store.Err() != nil && m.QoS == 0 { // with QoS 1 and 2 it was refused, or is a will
		r.refuse(b, m, "the store cannot keep it")
		return
	}
	if o.MaxPayload > 0 && len(m.Payload) > o.MaxPayload {
		r.refuse(b, m, "payload too large")
		return
	}
	n := &retained{m: keepMessage(m)}
	switch {
	case m.HasExpiry:
		n.expires = b.now + int64(m.Expiry)*int64(time.Second)
	case o.Expiry > 0 && !isSys(m.Topic):
		n.expires = b.now + int64(o.Expiry)
	}
	full := false
	var old *retained
	r.names.Update(m.Topic, func(v *retained) *retained {
		if n := r.names.Len(); o.MaxMessages > 0 && (n > o.MaxMessages || n == o.MaxMessages && v == nil) {
			full = true
			return v
		}
		old = v
		m.stamp = r.stamp(b, m, v)
		n.m.stamp = m.stamp
		r.enter(b, n, v, store)
		return n
	})
	if full {
		r.refuse(b, m, "too many retained messages")
		return
	}
	r.entered(n, old)
}

// enter stages that n takes the place of v, if it is to be stored, and notes it in the ledger. names is locked.
func (r *retainer) enter(b *Batch, n, v *retained, store Store) {
	if store != nil {
		r.stage(b, n)
		r.e.durable.hold(n.m)
		n.stored = true
	} else if v != nil && v.stored {
		b.stage(r.e.durable.store.EndRetained(n.m.Topic))
	}
	if l := r.ledger.Load(); l != nil {
		if n.m.stamp == (Stamp{}) {
			l.replace(v, nil)
		} else {
			l.replace(v, n)
		}
	}
}

// entered follows enter. names is not locked.
func (r *retainer) entered(n, old *retained) {
	if old != nil {
		r.forget(old)
	}
	if n.expires != 0 {
		n.timer.owner = &retainedExpiry{r, n}
		r.e.wheel.set(&n.timer, n.expires)
	}
	r.e.gauges.retained.set(int64(r.names.Len()))
}

// clear removes the retained message of m's topic. It gives m the stamp of the change, if others are to hear of it, and reports whether there was a
// message.
func (r *retainer) clear(b *Batch, m *Message) bool {
	var old *retained
	r.names.Update(m.Topic, func(v *retained) *retained {
		old = v
		m.stamp = r.stamp(b, m, v)
		r.leave(b, m.Topic, v, m.stamp)
		return nil
	})
	if old != nil {
		r.forget(old)
	}
	return old != nil
}

// leave stages that v, nil for none, is not the message of a topic any more, and notes it in the ledger. With a stamp, nodes that
// have not heard of it are told. names is locked.
func (r *retainer) leave(b *Batch, name string, v *retained, s Stamp) {
	du, l := &r.e.durable, r.ledger.Load()
	if l == nil || s == (Stamp{}) {
		if v != nil && v.stored {
			b.stage(du.store.EndRetained(name))
		}
		if l != nil {
			l.replace(v, nil)
		}
		return
	}
	l.replace(v, nil)
	c, over := l.clear(name, s)
	for _, x := range over {
		b.counts[RetainedForgotten]++
		r.endCleared(b, x)
	}
	o := r.options.Load()
	switch {
	case du.store != nil && l.isThere(c) && (o == nil || !o.Volatile):
		c.stored = true
		du.live.Add(int64(clearedSize + len(name)))
		at := b.stage(du.store.ClearRetained(name, s))
		l.stagedAt(c, at)
	case v != nil && v.stored:
		b.stage(du.store.EndRetained(name))
	}
}

// endCleared has the store forget a topic that was cleared and is out of the ledger. names is locked.
func (r *retainer) endCleared(b *Batch, c *clearedTopic) {
	if c.stored {
		r.e.durable.store.EndRetained(c.topic)
		r.e.durable.live.Add(-int64(clearedSize + len(c.topic)))
	}
}

func (r *retainer) refuse(b *Batch, m *Message, why string) {
	b.counts[RetainedDropped]++
	r.e.log.Debug("message not retained", "topic", m.Topic, "clientid", m.From, "err", why)
}

// stage stores n. names is locked, so that the store sees changes of a topic in their order.
func (r *retainer) stage(b *Batch, n *retained) {
	r.e.putMessage(b, n.m, false)
	n.at.Store(uint64(b.stage(r.e.durable.store.PutRetained(n.m.number.Load(), n.m.Topic, n.m.stamp))))
}

// expire takes v out, if it is there still: every node does that by itself.
func (r *retainer) expire(b *Batch, v *retained) {
	out := false
	r.names.Update(v.m.Topic, func(now *retained) *retained {
		if out = now == v; !out {
			return now
		}
		r.leave(b, v.m.Topic, v, Stamp{})
		return nil
	})
	if out {
		r.forget(v)
	}
}

// forget cleans up after a message that was taken out or replaced.
func (r *retainer) forget(old *retained) {
	if old.stored {
		r.e.durable.forget(old.m)
	}
	if old.expires != 0 {
		r.e.wheel.stop(&old.timer)
	}
	r.e.gauges.retained.set(int64(r.names.Len()))
}

// retainedExpiry takes a message out when its time is over.
type retainedExpiry struct {
	r *retainer
	n *retained
}

func (x *retainedExpiry) fire(b *Batch) {
	if b.now < x.n.expires {
		b.e.wheel.set(&x.n.timer, x.n.expires)
		return
	}
	x.r.expire(b, x.n)
}

// retainedFeed is a subscription that still gets retained messages. It is guarded by Session.mu, but for what feed uses
// while Session.feeding is set.
type retainedFeed struct {
	u       *sub
	cursor  topic.Cursor
	pending []*retained // found and not delivered
	done    bool        // there is nothing more to find
	ended   bool        // out of Session.feeds
	again   bool        // begin anew
}

// startFeed has u get the retained messages. If old, which u replaces, still gets its own, that begins anew: what a client that
// does not read can make grow is bounded by its subscriptions. s.mu is held.
func (s *Session) startFeed(u, old *sub) {
	if old != nil && old.feed != nil && !old.feed.ended {
		u.feed = old.feed
		u.feed.u, u.feed.again = u, true
		return
	}
	u.feed = &retainedFeed{u: u}
	s.feeds = append(s.feeds, u.feed)
}

// feedChunk is how many retained messages are looked up at a time.
const feedChunk = 256

// feed delivers retained messages to a session as far as its connection takes them, one chunk at most: the rest follows from
// Run, chunk by chunk, so that nobody waits for a subscriber to many.
func (e *Engine) feed(b *Batch, s *Session) {
	if s.link != nil {
		e.feedNode(b, s)
		return
	}
	s.mu.Lock()
	if len(s.feeds) == 0 || s.feeding || s.dead {
		s.mu.Unlock()
		return
	}
	s.feeding = true
	f := s.feeds[0]
	if f.again {
		*f = retainedFeed{u: f.u}
	}
	filter, _ := topic.CutLocal(f.u.Filter)
	s.mu.Unlock()

	if len(f.pending) == 0 && !f.done {
		if e.retainer.options.Load() == nil {
			f.done = true
		} else {
			f.pending, f.cursor = e.retainer.names.Match(filter, f.cursor, feedChunk, f.pending)
			f.done = f.cursor.Done()
			slices.SortStableFunc(f.pending, func(a, b *retained) int { return a.m.At.Compare(b.m.At) })
		}
	}

	s.mu.Lock()
	s.feeding = false
	more := false
	if c := s.conn.Load(); c != nil && len(s.feeds) > 0 && s.feeds[0] == f {
		more = s.feedLocked(b, c, f)
	} else {
		more = len(s.feeds) > 0 && c != nil
	}
	s.mu.Unlock()
	if more {
		e.needPump(s)
	}
}

// feedLocked delivers what f has pending. It reports whether feed can go on at once. s.mu is held.
func (s *Session) feedLocked(b *Batch, c *Conn, f *retainedFeed) (more bool) {
	z := s.policy()
	for i, r := range f.pending {
		if !c.hasRoom(b) || s.unsent > 0 {
			f.pending = f.pending[i:]
			return false
		}
		if f.u.QoS > 0 && r.m.QoS > 0 && (s.queue.n > 0 || s.window.live >= s.openMax(c, z)) {
			f.pending = f.pending[i:]
			return false // an acknowledgement goes on
		}
		if r.expires != 0 && r.expires <= b.now || f.u.NoLocal && r.m.From == s.clientID {
			continue
		}
		k := &b.fed
		k.begin(b, &r.m.Message, !r.m.uncounted())
		k.sh = r.m
		sl := slot{m: r.m, ids: f.u.ids, qos: min(r.m.QoS, f.u.QoS), flags: slotRetain, at: b.now} // [MQTT-3.3.1-8]
		if z.UpgradeQoS {
			sl.qos = f.u.QoS
		}
		b.e.acceptRetained(b, k, s, r, sl, z)
		k.sh = nil
	}
	f.pending = nil
	if f.again {
		return true
	}
	if f.done {
		f.ended = true
		s.feeds[0] = nil
		s.feeds = s.feeds[1:]
		if len(s.feeds) == 0 {
			s.feeds = nil
			return false
		}
	}
	return true
}

// acceptRetained is Session.accept for a retained message. If it is to be stored for the session, the store has it already as long as it
// is retained; so it must not be replaced meanwhile. s.mu is held.
func (e *Engine) acceptRetained(b *Batch, k *cast, s *Session, r *retained, sl slot, z *Zone) {
	if sl.qos == 0 || !r.stored || s.kept.Load() == nil {
		s.accept(b, k, sl, z)
		return
	}
	e.retainer.names.Update(r.m.Topic, func(now *retained) *retained {
		k.stored = now == r
		s.accept(b, k, sl, z)
		return now
	})
}

// hasRoom reports whether the output is short enough for bulk; if not, its flush goes on with it.
func (c *Conn) hasRoom(b *Batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || !c.ready {
		return false
	}
	if c.out != nil && c.out.size > min(b.e.settings.Load().maxOutput()/4, earlyFlush) {
		c.hungry = true
		c.touch(b)
		return false
	}
	return true
}

// EnableRetainer switches retained messages on, or changes the limits.
func (e *Engine) EnableRetainer(o RetainerOptions) error {
	if o.MaxMessages < 0 || o.MaxPayload < 0 || o.Expiry < 0 {
		return fmt.Errorf("%w: retainer limits are negative", ErrBadSetting)
	}
	e.retainer.options.Store(&o)
	e.links.mu.Lock()
	conns := e.links.conns
	e.links.mu.Unlock()
	for _, c := range conns { // what was above the old limits may be wanted now
		c.link.retained.acceptLeaves(func(uint16) bool { return true })
	}
	if o.Expiry > 0 && e.retainer.restored.CompareAndSwap(true, false) {
		e.retainer.age(o.Expiry)
	}
	return nil
}

// age gives those restored messages that bring no expiry interval the one of the options, from when they came.
func (r *retainer) age(expiry time.Duration) {
	r.eachSome(func(found []*retained) {
		for _, v := range found {
			if v.expires != 0 || !v.stored {
				continue
			}
			n := &retained{m: v.m, stored: true, expires: v.m.At.UnixNano() + int64(expiry)}
			n.timer.owner = &retainedExpiry{r, n}
			if now := r.names.Update(v.m.Topic, func(now *retained) *retained {
				if now != v {
					return now
				}
				if l := r.ledger.Load(); l != nil && v.m.stamp != (Stamp{}) {
					l.replace(v, n)
				}
				return n
			}); now == n {
				r.e.wheel.set(&n.timer, n.expires)
			}
		}
	})
}

// DisableRetainer switches retained messages off: they are neither stored nor delivered; what is stored stays.
func (e *Engine) DisableRetainer() { e.retainer.options.Store(nil) }

// eachSome gives all messages to f, some at a time.
func (r *retainer) eachSome(f func([]*retained)) {
	var cur topic.Cursor
	for !cur.Done() {
		var found []*retained
		found, cur = r.names.All(cur, feedChunk, nil)
		f(found)
	}
}

// Retained gives a page of the retained messages in the order of their topics. A page costs what lies before it too.
func (e *Engine) Retained(offset, limit int) (rows []*Message, total int) {
	total = e.retainer.names.Len()
	if offset < 0 || limit <= 0 {
		return nil, total
	}
	for _, filter := range []string{"#", "$SYS/#"} {
		var cur topic.Cursor
		for !cur.Done() && len(rows) < limit {
			var found []*retained
			found, cur = e.retainer.names.Match(filter, cur, feedChunk, nil)
			for _, r := range found {
				if offset > 0 {
					offset--
				} else if len(rows) < limit {
					rows = append(rows, &r.m.Message)
				}
			}
		}
	}
	return rows, total
}

// CleanRetained removes the retained messages whose topics match filter and says how many these were.
func (e *Engine) CleanRetained(filter string) int {
	if !topic.ValidFilter(filter) {
		return 0
	}
	b := e.borrow()
	defer b.giveBack()
	n := 0
	var cur topic.Cursor
	for !cur.Done() {
		var found []*retained
		found, cur = e.retainer.names.Match(filter, cur, feedChunk, nil)
		for _, r := range found {
			m := Message{Topic: r.m.Topic, Sys: r.m.Sys, Inside: true}
			if e.retainer.clear(b, &m) {
				n++
			}
			b.tellRetained(nil, &m)
		}
		b.writeTouched()
	}
	return n
}

// Retain stores m as the retained message of its topic without publishing it: for what was stored before a restart.
func (e *Engine) Retain(m *Message) error {
	if !topic.ValidName(m.Topic) || !m.QoS.Valid() {
		return ErrBadTopic
	}
	if e.retainer.options.Load() == nil {
		return errors.New("retainer is off")
	}
	b := e.borrow()
	defer b.giveBack()
	own := *m
	own.Retain = true
	if own.At.IsZero() {
		own.At = time.Unix(0, b.now)
	}
	e.retainer.put(b, &own)
	b.tellRetained(nil, &own)
	return nil
}
