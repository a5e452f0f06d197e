package engine

import (
	"context"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// deferred is the output of a connection that waits for the store: acknowledgements, in their order, and what may not overtake them
// [MQTT-4.6.0-2] [MQTT-4.6.0-3]. Connections have one only while something waits. It is guarded by Conn.mu.
type deferred struct {
	buf  []byte // encoded packets
	list []wait
	head int // first of list that waits
	off  int // of its packet in buf
}

// wait is one packet that may go out when the store has committed what it acknowledges, and for SUBACK when the other nodes know of it.
type wait struct {
	at   Position
	know uint64      // version of the routes that other nodes have to know
	end  int         // of the packet in buf
	kind packet.Type // PUBACK and PUBREC may become refusals, deliveries follow CONNACK, retained messages SUBACK; 0: others
	id   uint16
	m    *shared // of a PUBREC; held. nil: the publication cannot be taken back
}

// queueAt is queue for a packet that has to wait until the store has committed at. c.mu is held.
func (c *Conn) queueAt(b *Batch, at Position, p []byte) { c.queueWait(b, wait{at: at}, p) }

// sendAt is queueAt without c.mu.
func (c *Conn) sendAt(b *Batch, at Position, p []byte) {
	c.mu.Lock()
	c.queueWait(b, wait{at: at}, p)
	c.mu.Unlock()
}

// queueWait queues p, or has it wait as w says. c.mu is held.
func (c *Conn) queueWait(b *Batch, w wait, p []byte) {
	if c.dead {
		return
	}
	if c.wait == nil {
		if (w.at == 0 || w.at <= b.e.durable.store.Committed()) && (w.know == 0 || w.know <= b.e.links.settled.Load()) {
			c.queue(b, p)
			c.wentOut(w.kind)
			return
		}
		c.wait = new(deferred)
		du := &b.e.durable
		du.mu.Lock()
		du.pending = append(du.pending, c)
		du.mu.Unlock()
	}
	b.wanted = max(b.wanted, w.at)
	if w.know != 0 && b.e.links.settled.Load() >= w.know { // release may have been before there was something to release
		b.e.Progress()
	}
	q := c.wait
	q.buf = append(q.buf, p...)
	w.end = len(q.buf)
	if w.m != nil {
		w.m.hold()
	}
	q.list = append(q.list, w)
}

// wentOut does what follows a packet. c.mu is held.
func (c *Conn) wentOut(kind packet.Type) {
	if kind == packet.TypeConnack && !c.ended.Load() {
		c.ready = true
		if c.link != nil { // its node is asked about the routes
			c.l.e.links.pending.Store(true)
		}
	}
}

// size is how many bytes wait.
func (q *deferred) size() int {
	if q == nil {
		return 0
	}
	return len(q.buf) - q.off
}

// compact forgets what does not wait any more: under load there is always something that does.
func (q *deferred) compact() {
	q.buf = q.buf[:copy(q.buf, q.buf[q.off:])]
	q.list = q.list[:copy(q.list, q.list[q.head:])]
	for i := range q.list {
		q.list[i].end -= q.off
	}
	q.head, q.off = 0, 0
}

// refuse takes out the acknowledgements of publications that could not be stored up to that Position. What cannot be refused goes on
// waiting; of each kind the order stays [MQTT-4.6.0-2] [MQTT-4.6.0-3].
func (q *deferred) refuse(refused Position) (out []wait) {
	q.compact()
	list, size, from := q.list[:0], 0, 0
	waits := false // a PUBREC that cannot be refused
	for _, w := range q.list {
		p := q.buf[from:w.end]
		from = w.end
		if w.at != 0 && w.at <= refused && (w.kind == packet.TypePuback || w.kind == packet.TypePubrec && w.m != nil && !waits) {
			out = append(out, w)
			continue
		}
		waits = waits || w.kind == packet.TypePubrec
		size += copy(q.buf[size:], p)
		w.end = size
		list = append(list, w)
	}
	clear(q.list[len(list):])
	q.list, q.buf = list, q.buf[:size]
	return out
}

// drop gives up what waits. c.mu of its connection is held.
func (q *deferred) drop() {
	for i := q.head; i < len(q.list); i++ {
		if m := q.list[i].m; m != nil {
			m.release()
		}
	}
}

// release sends what the store has committed, refuses what it has not been able to write, and goes on with the deliveries that have waited.
func (e *Engine) release() {
	du := &e.durable
	if du.store == nil {
		return
	}
	du.releasing.Lock()
	defer du.releasing.Unlock()
	du.mu.Lock()
	conns, sessions, callers := du.pending, du.gated, du.callers
	du.pending, du.gated, du.callers = nil, nil, nil
	du.mu.Unlock()
	committed, refused := du.store.Committed(), du.store.Refused()
	b := e.borrow()
	var later []*Conn
	for _, c := range conns {
		if c.releaseWaiting(b, committed, refused) {
			later = append(later, c)
		}
		if len(b.touched) >= manyTouched {
			b.writeTouched()
		}
	}
	for _, s := range sessions {
		s.mu.Lock()
		if d := s.kept.Load(); d != nil {
			d.listed = false
		}
		if c := s.conn.Load(); c != nil {
			s.pumpLocked(b, c)
		}
		s.mu.Unlock()
		if len(b.touched) >= manyTouched {
			b.writeTouched()
		}
	}
	b.giveBack()
	var calls []caller
	for _, w := range callers {
		switch {
		case w.at <= committed:
			w.done <- nil
		case w.at <= refused:
			w.done <- packet.QuotaExceeded
		default:
			calls = append(calls, w)
		}
	}
	if len(later)+len(calls) > 0 {
		du.mu.Lock()
		du.pending = append(du.pending, later...)
		du.callers = append(du.callers, calls...)
		du.mu.Unlock()
	}
}

// releaseWaiting sends what may go out. It reports whether more waits. No lock but durability.releasing is held.
func (c *Conn) releaseWaiting(b *Batch, committed, refused Position) (more bool) {
	c.mu.Lock()
	q := c.wait
	if q == nil || c.dead || c.ended.Load() {
		if q != nil {
			q.drop()
			c.wait = nil
		}
		c.mu.Unlock()
		return false
	}
	from := q.off
	ready := c.ready
	packets := 0
	subscribed := false
	known := b.e.links.settled.Load()
	for q.head < len(q.list) && q.list[q.head].at <= committed && q.list[q.head].know <= known {
		w := &q.list[q.head]
		c.wentOut(w.kind)
		subscribed = subscribed || w.kind == packet.TypeSuback
		if w.m != nil {
			w.m.release()
			w.m = nil
		}
		q.off = w.end
		q.head++
		packets++
	}
	if packets > 0 {
		c.queue(b, q.buf[from:q.off])
		c.sent.packets += int64(packets - 1)
		if c.link == nil {
			b.counts[PacketsSent] += int64(packets - 1)
		}
	}
	pump := c.ready && !ready
	var refusals []wait
	if refused > committed {
		refusals = q.refuse(refused)
	}
	more = q.head < len(q.list)
	if more {
		q.compact()
	} else {
		c.wait = nil
	}
	c.mu.Unlock()
	if len(refusals) > 0 && !c.refuseStored(b, refusals) {
		return false
	}
	if pump || subscribed {
		c.session.pump(b, c)
	}
	if subscribed {
		b.e.feed(b, c.session)
	}
	return more
}

// refuseStored answers publications that could not be stored: with 0x97 in 5.0; a 3.x client, which has no such answer, and a node are cut off
// and keep what was not acknowledged. It reports whether the connection goes on.
func (c *Conn) refuseStored(b *Batch, list []wait) bool {
	b.counts[PublishError] += int64(len(list))
	for _, w := range list {
		if w.m == nil {
			continue
		}
		w.m.refused.Store(true) // before the identifier is free for another message
		s := c.session
		s.mu.Lock()
		if _, known := s.rel[w.id]; known && s.conn.Load() == c {
			delete(s.rel, w.id)
			if d := s.kept.Load(); d != nil && !s.dead {
				d.last = b.e.durable.store.EndRelease(d.number, w.id)
			}
		}
		s.mu.Unlock()
		w.m.release()
	}
	if c.version != packet.V5 || c.link != nil {
		c.end(b, ending{reason: ReasonBusy})
		return false
	}
	c.mu.Lock()
	for _, w := range list {
		b.bytes = packet.AppendAck(b.bytes[:0], c.version, w.kind, w.id, packet.QuotaExceeded)
		c.queue(b, b.bytes)
	}
	c.mu.Unlock()
	return true
}

// caller waits for a position.
type caller struct {
	at   Position
	done chan error // of capacity 1
}

// PublishStored is Publish, and waits until what the message has changed is committed. It must not be called by hooks. The error is also
// packet.QuotaExceeded when the store cannot keep the message, or ctx.Err(), after which it may have been kept.
func (e *Engine) PublishStored(ctx context.Context, m *Message) (matched int, err error) {
	b := e.borrow()
	b.staged = 0
	inside := *m
	inside.Inside = true
	matched, err = b.inject(&inside, false)
	at := b.staged
	b.giveBack()
	if err != nil || m.QoS == 0 || at == 0 {
		return matched, err
	}
	return matched, e.await(ctx, at)
}

// await waits until the store has committed at.
func (e *Engine) await(ctx context.Context, at Position) error {
	du := &e.durable
	if at <= du.store.Committed() {
		return nil
	}
	w := caller{at, make(chan error, 1)}
	du.mu.Lock()
	du.callers = append(du.callers, w)
	du.mu.Unlock()
	du.store.Want(at)
	e.Progress() // it may have been committed before it was in the list
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Progress is what the store calls when it has moved on.
func (e *Engine) Progress() {
	select {
	case e.durable.progress <- struct{}{}:
	default: // release has it still to come
	}
}
