package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Session is all state of one client id: subscriptions, queue, window, will. It outlives connections; a connection borrows it.
type Session struct {
	e           *Engine
	clientID    string
	zone        atomic.Pointer[zoneRef]
	createdAt   int64
	timer       timer
	conn        atomic.Pointer[Conn]   // changed with registry.mu and mu held
	link        *linkSession           // of another node; nil for clients
	moving      atomic.Pointer[moving] // it is on its way from a node to another; nil mostly
	kept        atomic.Pointer[kept]   // what the store has of it; nil for a session that ends with its connection; changed with mu held
	delivered   atomic.Int64
	username    string // these three as of the last connection; guarded by registry.mu
	hasUsername bool
	cleanStart  bool
	fence       Fence // of the claim to the client id; zero: there was none. Changed with registry.mu and mu held

	mu       sync.Mutex
	dead     bool // ended: takes nothing any more
	alarmed  bool // queue_high_watermark is raised
	armed    bool // the timer is set for retry or trim
	feeding  bool // somebody looks up the first feed's messages
	queue    queue
	window   window
	unsent   int32            // slots of the window that did not go out on the present connection
	comp     int32            // slots that wait for PUBCOMP
	rel      map[uint16]int64 // QoS 2 publications of the client that wait for PUBREL: id and when it came
	feeds    []*retainedFeed  // retained messages that are still to be delivered
	expiry   uint32           // session expiry interval of the last connection, seconds
	expireAt int64            // when the session ends, ns since the epoch; 0 while connected or never
	will     *will            // waits for its delay
	willAt   int64
	enqueued int64
	lost     int64        // dropped from the queue
	sweepAt  int64        // when to look for messages in the queue that have expired; 0: none can
	queued0  atomic.Int32 // QoS 0 deliveries in the queue: while there are any, later ones go behind them [MQTT-4.6.0-6]

	subMu  sync.Mutex // excludes changes of subscriptions; taken before router.mu and registry.mu
	subs   subTable
	closed bool // no subscription is accepted any more
}

// policy is the zone of the last connection.
func (s *Session) policy() *Zone { return s.zone.Load().load() }

// enqueue puts sl into the queue and makes room for it if need be. It takes its own reference to the message, and reports false
// when it is sl that had to go. s.mu is held.
func (s *Session) enqueue(b *Batch, sl slot, z *Zone) bool {
	priority := z.priority(sl.m.Topic)
	size := sl.m.queued()
	for z.MaxQueueLen > 0 && s.queue.n >= z.MaxQueueLen || z.MaxQueueBytes > 0 && s.queue.n > 0 && s.queue.bytes+size > z.MaxQueueBytes {
		old, ok := s.queue.evict(priority)
		s.lost++
		if !ok {
			b.dropped(s, sl.m, DropQueueFull)
			return false
		}
		if old.qos == 0 {
			s.queued0.Add(-1)
		}
		b.dropped(s, old.m, DropQueueFull)
		s.endDelivery(b, old.seq, old.m)
		old.m.release()
	}
	sl.state = slotQueued
	sl.at = b.now
	sl.m.hold()
	if sl.qos == 0 {
		s.queued0.Add(1)
	}
	s.queue.push(priority, sl)
	s.enqueued++
	s.noteExpiry(b, sl.m)
	if s.link != nil {
		s.limitLink(b)
	} else if !s.alarmed {
		s.alarm(b, z)
	}
	return true
}

// expireEvery is how long a session leaves messages in its queue at most that have expired.
const expireEvery = int64(10 * time.Second)

// noteExpiry has fire look after a message in the queue that expires, whether its client comes back or not [MQTT-3.3.2-5]. s.mu is held.
func (s *Session) noteExpiry(b *Batch, m *shared) {
	if !m.HasExpiry {
		return
	}
	at := m.At.UnixNano() + int64(m.Expiry)*int64(time.Second) + expireEvery
	if s.sweepAt == 0 || at < s.sweepAt {
		s.sweepAt = at
		b.e.wheel.set(&s.timer, at)
	}
}

// dropExpired takes messages out of the queue that have expired. s.mu is held.
func (s *Session) dropExpired(b *Batch) {
	s.sweepAt = 0
	var gone []slot
	s.queue.remove(func(p *slot) bool {
		if !p.m.expired(b.now) {
			return false
		}
		gone = append(gone, *p)
		return true
	})
	for _, sl := range gone {
		if sl.qos == 0 {
			s.queued0.Add(-1)
		}
		b.dropped(s, sl.m, DropExpired)
		s.endDelivery(b, sl.seq, sl.m)
		sl.m.release()
	}
	if len(gone) > 0 {
		s.relaxed(b, s.policy())
	}
	s.queue.each(func(p *slot) { s.noteExpiry(b, p.m) })
}

// alarm raises the alarm of a queue that has become long. s.mu is held.
func (s *Session) alarm(b *Batch, z *Zone) {
	high := b.e.settings.Load().QueueHighMark
	reason := ""
	if mark := high * float64(z.MaxQueueLen); z.MaxQueueLen > 0 && float64(s.queue.n) > mark {
		reason = fmt.Sprintf("queue len %d > high_watermark %.0f", s.queue.n, mark)
	} else if mark := high * float64(z.MaxQueueBytes); z.MaxQueueBytes > 0 && float64(s.queue.bytes) > mark {
		reason = fmt.Sprintf("queue bytes %d > high_watermark %.0f", s.queue.bytes, mark)
	}
	if reason != "" {
		s.alarmed = true
		b.events = append(b.events, event{kind: evQueueAlarm, s: s, alarm: true, reason: reason})
	}
}

// priority gives the priority of a topic in the queue.
func (z *Zone) priority(name string) int {
	if z.QueuePriorities == nil {
		return 0
	}
	if p, ok := z.QueuePriorities[name]; ok {
		return p
	}
	return z.DefaultPriority
}

// dequeue takes the front of the queue once it is in the output, or is dropped. s.mu is held.
func (s *Session) dequeue() slot {
	sl := s.queue.pop()
	if sl.qos == 0 {
		s.queued0.Add(-1)
	}
	return sl
}

// relaxed clears the alarm of a queue that has become short. s.mu is held.
func (s *Session) relaxed(b *Batch, z *Zone) {
	if !s.alarmed {
		return
	}
	if s.link != nil {
		s.relaxLink(b)
		return
	}
	low := b.e.settings.Load().QueueLowMark
	if (z.MaxQueueLen == 0 || float64(s.queue.n) <= low*float64(z.MaxQueueLen)) &&
		(z.MaxQueueBytes == 0 || float64(s.queue.bytes) <= low*float64(z.MaxQueueBytes)) {
		s.alarmed = false
		b.events = append(b.events, event{kind: evQueueAlarm, s: s})
	}
}

// pump sends what waits for c: repeats first, then the queue, then retained messages.
func (s *Session) pump(b *Batch, c *Conn) {
	s.mu.Lock()
	s.pumpLocked(b, c)
	s.mu.Unlock()
}

// pumpLocked is pump with s.mu held.
func (s *Session) pumpLocked(b *Batch, c *Conn) {
	if s.conn.Load() != c {
		return
	}
	z := s.policy()
	if s.unsent > 0 && !s.repeat(b, c, z) {
		return
	}
	k := &b.fed
	for s.queue.n > 0 {
		f := s.queue.front()
		if f.m.expired(b.now) { // [MQTT-3.3.2-5]
			b.dropped(s, f.m, DropExpired)
			s.giveUp(b)
			continue
		}
		if f.seq != 0 && f.qos == 2 {
			if f.m.refused.Load() {
				s.giveUp(b)
				continue
			}
			if !s.mayBegin(b, f.seq) {
				break
			}
		}
		k.begin(b, &f.m.Message, !f.m.uncounted())
		k.sh = f.m
		out := s.begin(b, c, k, *f, z)
		k.sh = nil
		if out == dropped {
			s.giveUp(b)
			continue
		}
		if out != sent {
			break
		}
		s.dequeue().m.release()
	}
	s.relaxed(b, z)
	if s.queue.n == 0 && len(s.queue.first.buf) > longQueue {
		s.queue.trim()
	}
	if len(s.feeds) > 0 && s.queue.n == 0 || c.link != nil && c.owesRetained() {
		b.e.needPump(s)
	}
}

// giveUp drops the front of the queue for good. s.mu is held.
func (s *Session) giveUp(b *Batch) {
	sl := s.dequeue()
	s.endDelivery(b, sl.seq, sl.m)
	sl.m.release()
}

// repeat sends the slots of the window that the present connection has not seen, in their order [MQTT-4.4.0-1]
// [MQTT-4.6.0-1]. It reports whether that is all done. s.mu is held.
func (s *Session) repeat(b *Batch, c *Conn, z *Zone) bool {
	limit := s.openMax(c, z)
	for i := 0; i < s.window.n && s.unsent > 0; i++ {
		p := s.window.at(i)
		if p.state == slotFree || p.flags&slotOpen != 0 {
			continue
		}
		if s.window.live-int(s.unsent) >= limit {
			return false
		}
		if !s.resend(b, c, p) {
			return false
		}
		if p.flags&slotOpen == 0 { // freed: compaction may have moved the rest
			i = -1
		}
	}
	return s.unsent == 0
}

// resend sends the slot p, again if it went out before. It reports false when the output is full or gone. A PUBLISH that is
// too large for the client is given up. s.mu is held.
func (s *Session) resend(b *Batch, c *Conn, p *slot) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || !c.ready {
		return false
	}
	if c.out != nil && c.out.size > b.e.settings.Load().maxOutput() {
		c.hungry = true
		return false
	}
	if p.state == slotWaitComp {
		b.bytes = packet.AppendAck(b.bytes[:0], c.version, packet.TypePubrel, p.id, packet.Success)
		c.queueAt(b, s.storedTo(), b.bytes)
		b.counts[PacketsPubrelSent]++
	} else {
		k := &b.fed
		k.begin(b, &p.m.Message, !p.m.uncounted())
		k.sh, k.group = p.m, p.group
		out := c.write(b, k, p.ids, p.qos, p.flags&slotRetain != 0, p.id, p.flags&slotSent != 0)
		k.sh = nil
		switch out {
		case dropped:
			if p.flags&slotOpen == 0 {
				s.unsent--
			}
			m := p.m
			s.endDelivery(b, p.seq, m)
			s.window.free(p)
			m.release()
			return true
		case sent:
			if p.flags&slotSent == 0 {
				s.delivered.Add(1)
			}
		default:
			return false
		}
	}
	if p.flags&slotOpen == 0 {
		s.unsent--
	}
	p.flags |= slotSent | slotOpen
	p.at = b.now
	return true
}

// attached prepares the session for its new connection. s.mu is held.
func (s *Session) attached() {
	s.expireAt = 0
	s.window.compact()
	s.unsent = int32(s.window.live)
	for i := range s.window.n {
		s.window.at(i).flags &^= slotOpen
	}
}

// longQueue is the queue, slots, whose memory goes back as soon as it is empty.
const longQueue = 64

// trimAfter is how long a session keeps the memory of a window and a queue that have become empty.
const trimAfter = int64(20 * time.Second)

// armRetry sees to it that fire looks after the window. s.mu is held.
func (s *Session) armRetry(b *Batch, c *Conn, z *Zone) {
	if s.armed {
		return
	}
	s.armed = true
	d := trimAfter
	if c.version != packet.V5 && z.RetryInterval > 0 {
		d = min(d, int64(z.RetryInterval))
	}
	b.e.wheel.set(&s.timer, b.now+d)
}

// fire is called by the wheel: retries, time-outs of PUBREL, will delay, session expiry, trimming.
func (s *Session) fire(b *Batch) {
	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		return
	}
	z := s.policy()
	s.armed = false
	next := int64(0)
	due := func(at int64) bool {
		if at == 0 {
			return false
		}
		if at <= b.now {
			return true
		}
		if next == 0 || at < next {
			next = at
		}
		return false
	}
	if due(s.expireAt) {
		s.mu.Unlock()
		b.e.expire(b, s)
		return
	}
	var w *will
	if due(s.willAt) { // [MQTT-3.1.2-8]
		w, s.will, s.willAt = s.will, nil, 0
	}
	if c := s.conn.Load(); c != nil && c.version != packet.V5 && z.RetryInterval > 0 {
		stuck := c.stuck() // what it was sent has not left yet: a repeat would only be longer
		for i := 0; i < s.window.n; i++ {
			p := s.window.at(i)
			if p.state == slotFree || p.flags&slotOpen == 0 {
				continue
			}
			if due(p.at+int64(z.RetryInterval)) && (stuck || !s.resend(b, c, p)) {
				due(b.now + int64(z.RetryInterval))
				break
			}
		}
	}
	if due(s.sweepAt) {
		s.dropExpired(b)
		due(s.sweepAt)
	}
	if timeout := int64(z.AwaitRelTimeout); timeout > 0 {
		for id, at := range s.rel {
			if due(at + timeout) {
				delete(s.rel, id)
				if d := s.kept.Load(); d != nil {
					d.last = b.e.durable.store.EndRelease(d.number, id)
				}
				b.counts[MessagesQoS2Expired]++
			}
		}
	}
	if len(s.rel) == 0 {
		s.rel = nil
	}
	s.window.trim()
	s.queue.trim()
	if s.window.n > 0 {
		due(b.now + trimAfter)
	}
	s.armed = next != 0
	s.mu.Unlock()
	if next != 0 {
		b.e.wheel.set(&s.timer, next)
	}
	if w != nil {
		b.e.publishWill(b, s, w)
		b.e.renew(b, s) // not before: a crash between the two repeats the will, and does not lose it
		b.e.tellHome(s)
	}
}
