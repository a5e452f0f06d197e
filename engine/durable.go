package engine

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// kept is what the store has of a durable session: one that outlives its connection. Its fields are guarded by Session.mu.
//
// Everything about a session is staged while its mu is held and it is not dead, so that its records stand in the order of its
// changes. EndSession is staged last, when what it leaves behind has been dealt with.
type kept struct {
	number   uint64    // of the session in the store; does not change
	seq      uint64    // number given to a delivery of QoS 1 or 2 last
	begun    uint64    // deliveries up to it have gone out
	last     Position  // of what was staged for the session last
	oldest   Position  // all that holds of the session was staged behind it
	barriers []barrier // QoS 2 deliveries in the queue that may not go out yet, by seq
	subs     int64     // estimated bytes of subscriptions
	listed   bool      // in durability.gated
}

// barrier holds a QoS 2 delivery back until it is committed, and the whole publication with it. If it went out earlier, a crash would
// make the broker forget that, and the client would get it again when the publisher repeats it [MQTT-4.3.3-2].
type barrier struct {
	seq uint64
	at  Position
	m   *shared // held
}

// durability is what the engine has around its store.
type durability struct {
	store    Store // nil: nothing is durable
	sessions atomic.Uint64
	messages atomic.Uint64 // numbers given last
	live     atomic.Int64  // bytes of what holds, estimated
	progress chan struct{} // holds one: the store has moved on
	restored chan struct{} // closed when everything that was stored is in the tables
	// rewritten is the Position up to which the store may forget what was staged: a message that was staged before it, and gets another
	// delivery, is staged again.
	rewritten atomic.Uint64

	releasing sync.Mutex            // excludes calls of release
	mu        sync.Mutex            // a leaf
	pending   []*Conn               // have output that waits
	gated     []*Session            // have deliveries that wait, and a client
	callers   []caller              // wait for a position
	ending    map[*Session]struct{} // dead, out of the registry, and still in the store
}

// What records take on the medium, about, bytes.
const (
	sizeSession  = 128
	sizeDelivery = 32
	sizeMessage  = 96
)

// identifier is the packet identifier of a stored delivery. It follows from the number of the delivery, so that it goes out again
// under the identifier that it had before a crash [MQTT-4.4.0-1].
func identifier(seq uint64) uint16 { return uint16((seq-1)%65535) + 1 }

// stored is what m takes on the medium, about, bytes.
func (m *Message) stored() int64 {
	return int64(sizeMessage + len(m.Topic) + len(m.Payload) + len(m.Properties) + len(m.From) + len(m.Username))
}

// maxBehind is how much may be staged and not committed, bytes, before nothing is taken any more that a failing store might refuse.
const maxBehind = 64 << 20

// behind is how much is staged and not committed, bytes.
func (du *durability) behind() Position {
	return du.store.Staged() - min(du.store.Committed(), du.store.Staged())
}

// stage notes that something was staged which what the packet in hand is answered with has to wait for.
func (b *Batch) stage(p Position) Position {
	b.staged = max(b.staged, p)
	b.wanted = max(b.wanted, p)
	return p
}

// keep makes s, which is new, a durable session. The caller stages it.
func (e *Engine) keep(s *Session) {
	du := &e.durable
	s.kept.Store(&kept{number: du.sessions.Add(1), oldest: du.store.Staged()})
	du.live.Add(sizeSession)
}

// putSession stages what s is, if it is durable. s.mu and registry.mu are held.
func (s *Session) putSession(b *Batch) {
	d := s.kept.Load()
	if d == nil || s.dead {
		return
	}
	d.last = b.stage(s.e.durable.store.PutSession(d.number, s.record(d)))
}

// renew is putSession for callers without locks.
func (e *Engine) renew(b *Batch, s *Session) {
	e.registry.mu.RLock()
	s.mu.Lock()
	s.putSession(b)
	s.mu.Unlock()
	e.registry.mu.RUnlock()
}

// record is s for the store. s.mu and registry.mu are held.
func (s *Session) record(d *kept) *StoredSession {
	c := s.conn.Load()
	r := &StoredSession{
		ClientID: s.clientID, Username: s.username, HasUsername: s.hasUsername, CleanStart: s.cleanStart, Zone: s.zone.Load().name,
		CreatedAt: s.createdAt, Expiry: s.expiry, ExpireAt: s.expireAt, Connected: c != nil, Seq: d.seq, Begun: d.begun, WillAt: s.willAt,
		Fence: s.fence,
	}
	if mv := s.moving.Load(); mv != nil {
		r.Arrival, r.Departure = mv.records()
	}
	if w, author := s.willOf(); w != nil {
		r.Will = &StoredWill{Message: w.m, Delay: w.delay, Author: author}
	} else if h, held := s.e.held.of(s); held {
		r.Will, r.WillAt = &StoredWill{Message: h.w.m, Delay: h.w.delay, Author: h.w.info}, h.at
	}
	return r
}

// letGo ends what the store has of s, which is dead or goes on without the store. s.mu is held.
func (s *Session) letGo(b *Batch) {
	d := s.kept.Load()
	if d == nil {
		return
	}
	du := &b.e.durable
	d.dropBarriers()
	forget := func(p *slot) {
		du.live.Add(-sizeDelivery)
		if p.m != nil {
			du.forget(p.m)
		}
		p.seq = 0
	}
	s.eachStored(forget)
	s.kept.Store(nil)
	du.live.Add(-sizeSession - d.subs)
	b.stage(du.store.EndSession(d.number))
	du.ended(s)
}

// eachStored calls f for every delivery of s that the store has. s.mu is held.
func (s *Session) eachStored(f func(*slot)) {
	stored := func(p *slot) {
		if p.seq != 0 && p.state != slotFree {
			f(p)
		}
	}
	for i := range s.window.n {
		stored(s.window.at(i))
	}
	s.queue.each(stored)
	if mv := s.moving.Load(); mv != nil && mv.in != nil {
		for i := range mv.in.behind.n {
			stored(mv.in.behind.at(i))
		}
	}
}

// putSub stages a subscription of s that takes the place of old, nil for none. s.subMu is held.
func (s *Session) putSub(b *Batch, u, old *sub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.kept.Load(); d != nil && !s.dead {
		d.last = b.stage(b.e.durable.store.PutSubscription(d.number, &u.Subscription))
		size := u.stored()
		if old != nil {
			size = 0
		}
		d.subs += size
		b.e.durable.live.Add(size)
	}
}

// stored is what u takes on the medium, about, bytes.
func (u *sub) stored() int64 { return int64(32 + len(u.name)) }

// number gives the next delivery of s its number. Identifiers that a delivery in the window has are passed over. s.mu is held.
func (s *Session) number(d *kept) uint64 {
	for {
		d.seq++
		if p := s.window.find(identifier(d.seq)); p == nil || p.state == slotFree {
			return d.seq
		}
	}
}

// end marks s, which has died, until the store knows. registry.mu is held.
func (du *durability) end(s *Session) {
	if s.kept.Load() == nil {
		return
	}
	du.mu.Lock()
	defer du.mu.Unlock()
	if du.ending == nil {
		du.ending = map[*Session]struct{}{}
	}
	du.ending[s] = struct{}{}
}

// ended undoes end.
func (du *durability) ended(s *Session) {
	du.mu.Lock()
	defer du.mu.Unlock()
	delete(du.ending, s)
}

// putDelivery stages the delivery sl of s, whose message is stored. s.mu is held.
func (s *Session) putDelivery(b *Batch, d *kept, sl *slot) {
	du := &b.e.durable
	if sl.m.at.Load() <= du.rewritten.Load() {
		b.e.putMessage(b, sl.m, sl.m.end.Load() == 0)
	}
	d.last = b.stage(du.store.PutDelivery(d.number, sl.record(&b.delivery)))
	d.oldest = min(d.oldest, Position(sl.m.at.Load()-1))
	du.hold(sl.m)
	du.live.Add(sizeDelivery)
	if sl.qos == 2 {
		g := barrier{sl.seq, d.last, sl.m.hold()}
		if n := len(d.barriers); n > 0 && d.barriers[n-1].seq > sl.seq { // it has come from another node, behind this node's own
			i, _ := d.barrierOf(sl.seq)
			d.barriers = slices.Insert(d.barriers, i, g)
		} else {
			d.barriers = append(d.barriers, g)
		}
		if s.conn.Load() != nil {
			b.e.listGated(s, d)
		}
	}
}

// record fills r with sl for the store.
func (sl *slot) record(r *StoredDelivery) *StoredDelivery {
	*r = StoredDelivery{Seq: sl.seq, QoS: sl.qos, Retain: sl.flags&slotRetain != 0, At: sl.at, Recorded: sl.state == slotWaitComp}
	if sl.m != nil {
		r.Message = sl.m.number.Load()
	}
	if sl.ids != nil {
		r.IDs = *sl.ids
	}
	if sl.group != nil {
		r.Share = sl.group.subscription()
	}
	return r
}

// endDelivery has the store forget a delivery that is over. m is its message, nil after PUBREC. s.mu is held.
func (s *Session) endDelivery(b *Batch, seq uint64, m *shared) {
	d := s.kept.Load()
	if d == nil || seq == 0 || s.dead {
		return
	}
	du := &b.e.durable
	d.last = du.store.EndDelivery(d.number, seq)
	du.live.Add(-sizeDelivery)
	if m != nil {
		du.forget(m)
	}
	if i, ok := d.barrierOf(seq); ok {
		d.lift(i)
	}
}

// noteRecorded stages that PUBREC has come for a delivery: PUBREL waits for it. If it went out earlier, a crash could make the client
// get the message again after it has forgotten the identifier. s.mu is held.
func (s *Session) noteRecorded(b *Batch, seq uint64, m *shared) {
	d := s.kept.Load()
	if d == nil || seq == 0 || s.dead {
		return
	}
	d.last = b.stage(b.e.durable.store.Recorded(d.number, seq))
	b.e.durable.forget(m)
}

// storedTo is the position of everything that was staged for s. s.mu is held.
func (s *Session) storedTo() Position {
	if d := s.kept.Load(); d != nil {
		return d.last
	}
	return 0
}

func (d *kept) barrierOf(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(d.barriers, seq, func(g barrier, seq uint64) int { return cmp.Compare(g.seq, seq) })
}

// lift takes the i-th barrier away.
func (d *kept) lift(i int) {
	d.barriers[i].m.release()
	if d.barriers = slices.Delete(d.barriers, i, i+1); len(d.barriers) == 0 {
		d.barriers = nil
	}
}

func (d *kept) dropBarriers() {
	for i := range d.barriers {
		d.barriers[i].m.release()
	}
	d.barriers = nil
}

// mayBegin reports whether a QoS 2 delivery in the queue may go out; if not, release goes on with it. s.mu is held.
func (s *Session) mayBegin(b *Batch, seq uint64) bool {
	d := s.kept.Load()
	if d == nil {
		return true
	}
	i, ok := d.barrierOf(seq)
	if !ok {
		return true
	}
	g := &d.barriers[i]
	end, committed := Position(g.m.end.Load()), b.e.durable.store.Committed()
	if end == 0 || end > committed || g.at > committed {
		b.e.listGated(s, d)
		return false
	}
	d.lift(i)
	return true
}

// listGated has release pump s. s.mu is held.
func (e *Engine) listGated(s *Session, d *kept) {
	if d.listed {
		return
	}
	d.listed = true
	du := &e.durable
	du.mu.Lock()
	du.gated = append(du.gated, s)
	du.mu.Unlock()
}

// hold counts something that the store has m for.
func (du *durability) hold(m *shared) {
	if m.keeps.Add(1) == 1 {
		du.live.Add(m.stored())
	}
}

// forget undoes hold.
func (du *durability) forget(m *shared) {
	if m.keeps.Add(-1) == 0 {
		du.live.Add(-m.stored())
	}
}

// store has the store take the message of k, once, for the deliveries that follow.
func (k *cast) store(b *Batch) {
	if k.stored {
		return
	}
	k.stored = true
	m := k.shared()
	b.e.putMessage(b, m, k.open)
}

// putMessage stages m. open says that EndPublication follows.
func (e *Engine) putMessage(b *Batch, m *shared, open bool) {
	du := &e.durable
	du.name(m)
	at := uint64(b.stage(du.store.PutMessage(m.number.Load(), &m.Message, open)))
	m.at.Store(at)
	if !open {
		m.end.CompareAndSwap(0, at)
	}
}

// name gives m a number if it has none.
func (du *durability) name(m *shared) {
	if m.number.Load() == 0 {
		m.number.CompareAndSwap(0, du.messages.Add(1))
	}
}

// closePublication ends the publication of k: a crash leaves all of it or nothing. With it the identifier of a QoS 2 publication is noted
// for publisher, a durable session; nil for others.
func (k *cast) closePublication(b *Batch, publisher *Session, id uint16) {
	du := &b.e.durable
	var number uint64
	if publisher != nil {
		publisher.mu.Lock()
		defer publisher.mu.Unlock()
		if d := publisher.kept.Load(); d != nil && !publisher.dead {
			number = d.number
			defer func() { d.last = b.staged }()
		}
	}
	switch {
	case k.stored && k.open:
		k.sh.end.Store(uint64(b.stage(du.store.EndPublication(k.sh.number.Load(), number, id, b.now))))
	case number != 0:
		b.stage(du.store.PutRelease(number, id, b.now))
	}
}

// unkept reports whether a message has to be stored, but the store can promise nothing now: it is refused before anything is done
// with it. publisher is as for closePublication.
func (b *Batch) unkept(m *Message, en *topicEntry, publisher *Session) bool {
	store := b.e.durable.store
	if store == nil || m.QoS == 0 || store.Err() == nil {
		return false
	}
	if publisher != nil || m.Retain && b.e.retainer.options.Load() != nil {
		return true
	}
	b.route(en)
	if len(en.links) > 0 {
		return true
	}
	for i := range en.deliveries {
		if d := &en.deliveries[i]; d.qos > 0 && d.s.kept.Load() != nil {
			return true
		}
	}
	for _, g := range en.groups {
		if g.durable() {
			return true
		}
	}
	return false
}

// durable reports whether a member of the group is a durable session.
func (g *shareGroup) durable() bool {
	g.node.mu.Lock()
	defer g.node.mu.Unlock()
	return slices.ContainsFunc(g.members, func(u *sub) bool { return u.s.kept.Load() != nil })
}
