package engine

import (
	"fmt"
	"strings"
	"time"
)

// restore takes over what the store has kept, before anybody can connect.
func (e *Engine) restore(store Store, hold bool) error {
	begin := time.Now()
	kept, err := store.Load()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	du := &e.durable
	du.store = store
	du.restored = make(chan struct{})
	defer close(du.restored)
	du.sessions.Store(kept.LastSession)
	du.messages.Store(kept.LastMessage)
	store.Start(storeClient{e})
	b := e.borrow()
	defer b.giveBack()
	r := restoring{e: e, b: b, orderly: kept.Orderly, hold: hold, newest: map[string]uint64{}, void: map[string]bool{}}
	there := map[uint64]bool{}
	for _, x := range kept.Sessions {
		if x.Departure == nil {
			r.newest[x.ClientID] = max(r.newest[x.ClientID], x.Number)
			there[x.Number] = true
		}
	}
	for _, x := range kept.Sessions {
		if x.Departure != nil && there[x.Departure.Was] { // it has not left
			r.void[x.Departure.Token] = true
		}
	}
	deliveries := 0
	for _, x := range kept.Sessions {
		deliveries += len(x.Deliveries)
		r.session(x)
	}
	e.gaugeRoutes()
	if r.links {
		e.noteRoutes()
		e.retainer.keepLedger()
	}
	e.resumeMoves(b)
	for _, x := range kept.Retained {
		r.retained(x)
	}
	e.retainer.restoreCleared(b, kept.Cleared)
	e.retainer.restored.Store(len(kept.Retained) > 0)
	e.gauges.retained.set(int64(e.retainer.names.Len()))
	for _, x := range kept.Delayed {
		m := r.message(x.StoredMessage)
		du.hold(m)
		e.delayed.push(held{x.Due, m})
	}
	if len(kept.Sessions)+len(kept.Retained)+len(kept.Delayed) > 0 {
		e.log.Info("store loaded", "sessions", len(kept.Sessions), "deliveries", deliveries, "retained", len(kept.Retained),
			"delayed", len(kept.Delayed), "orderly", kept.Orderly, "bytes", kept.Bytes, "took", time.Since(begin).Round(time.Millisecond))
	}
	return nil
}

// restoring is a restore in progress.
type restoring struct {
	e       *Engine
	b       *Batch
	newest  map[string]uint64 // number of the session that a client id has; a crash may have left an older one
	void    map[string]bool   // tokens of moves that have not come about
	orderly bool
	hold    bool     // see Options.HoldWills
	links   bool     // there are sessions of other nodes
	slab    []shared // messages to come: one allocation for many
}

// message gives the message in the form that sessions hold. Each holder has to hold it; the restore itself holds it once for good, so
// that it never goes to the pool.
func (r *restoring) message(x *StoredMessage) *shared {
	m := x.held
	if m == nil {
		if len(r.slab) == 0 {
			r.slab = make([]shared, 64)
		}
		m, r.slab = &r.slab[0], r.slab[1:]
		m.Message = x.Message
		m.number.Store(x.Number)
		m.at.Store(uint64(x.Position))
		m.end.Store(uint64(x.Position))
		m.refs.Store(1)
		x.held = m
	}
	return m
}

// session brings a session back, as that of a client that is away.
func (r *restoring) session(x *StoredSession) {
	e, b, now := r.e, r.b, r.b.now
	du := &e.durable
	if x.Departure == nil && x.Number != r.newest[x.ClientID] || x.Departure != nil && r.void[x.Departure.Token] {
		du.store.EndSession(x.Number)
		return
	}
	zone := e.zoneRef(x.Zone)
	if zone == nil {
		zone = e.zoneRef(DefaultZoneName)
	}
	s := &Session{
		e: e, clientID: x.ClientID, createdAt: x.CreatedAt, username: x.Username, hasUsername: x.HasUsername, cleanStart: x.CleanStart,
		expiry: x.Expiry, expireAt: x.ExpireAt, fence: x.Fence,
	}
	if isLinkID(x.ClientID) {
		s.link, zone, r.links = &linkSession{}, e.links.zone, true
	}
	s.zone.Store(zone)
	s.timer.owner = s
	d := &kept{number: x.Number, seq: x.Seq, begun: x.Begun}
	if n := len(x.Deliveries); n > 0 {
		d.seq = max(d.seq, x.Deliveries[n-1].Seq)
	}
	s.kept.Store(d)
	s.moving.Store(restoredMove(x))
	du.live.Add(sizeSession)
	if w := x.Will; w != nil {
		s.will, s.willAt = &will{m: w.Message, delay: w.Delay, info: w.Author}, x.WillAt
	}
	for i := range x.Subscriptions {
		r.subscription(s, d, x.Subscriptions[i])
	}
	for _, rel := range x.Releases {
		if s.rel == nil {
			s.rel = make(map[uint16]int64, len(x.Releases))
		}
		s.rel[rel.ID] = rel.At
	}
	z := zone.load()
	var maybe unsaid
	if x.Connected && !r.orderly {
		if maybe.most = z.MaxInflight; maybe.most == 0 {
			maybe.most = 65534
		}
	}
	for i := range x.Deliveries {
		r.delivery(s, d, &x.Deliveries[i], &maybe, z)
	}
	if n := s.window.n; n > 0 {
		s.window.last = s.window.at(n - 1).id
	}
	changed := false
	if x.Connected { // the connection ended with the process
		if changed = true; s.expiry != 0xFFFFFFFF {
			s.expireAt = now + int64(s.expiry)*int64(time.Second)
		}
		if s.will != nil {
			s.willAt = now + int64(s.will.delay)*int64(time.Second)
		}
	}
	if mv := s.moving.Load(); mv != nil {
		e.moves.mu.Lock()
		if e.moves.arriving == nil {
			e.moves.arriving, e.moves.left = map[string]*Session{}, map[string]*Session{}
		}
		if mv.in != nil {
			e.moves.arriving[mv.in.token] = s
		}
		if mv.out != nil {
			e.moves.left[mv.out.token] = s
		}
		e.moves.mu.Unlock()
		if mv.out != nil { // it is in no table
			return
		}
	}
	e.registry.mu.Lock()
	if !s.cleanStart && s.link == nil {
		e.registry.persistent++
	}
	e.weigh(s)
	if changed {
		s.putSession(b)
	}
	if r.hold {
		e.held.hold(s)
	}
	e.registry.mu.Unlock()
	for _, at := range []int64{s.expireAt, s.willAt} {
		if at != 0 {
			e.wheel.set(&s.timer, at)
		}
	}
	if timeout := int64(z.AwaitRelTimeout); timeout > 0 && len(s.rel) > 0 {
		e.wheel.set(&s.timer, now+timeout)
	}
}

func (r *restoring) subscription(s *Session, d *kept, x Subscription) {
	e := r.e
	u := &sub{Subscription: x, name: x.Name(), s: s}
	if x.ID != 0 {
		u.ids = &[]uint32{x.ID}
	}
	e.router.insert(u, nil)
	s.subs.put(u)
	e.gaugeSub(u, 1)
	d.subs += u.stored()
	e.durable.live.Add(u.stored())
}

// unsaid finds the deliveries that may have gone out though nothing says so: the first ones, of each priority, and of the numbers that a
// session has been given at its new home as of those from the old one, as these may have come later.
type unsaid struct {
	most int         // how many a client had at a time
	last uint64      // number
	left map[int]int // by priority
}

// may reports whether the delivery with that number, greater than the last one, may have gone out.
func (u *unsaid) may(seq uint64, priority int) bool {
	if u.most == 0 {
		return false
	}
	if u.left == nil || seq-u.last > moveGap/2 {
		u.left = map[int]int{}
	}
	u.last = seq
	if u.left[priority] == u.most {
		return false
	}
	u.left[priority]++
	return true
}

// delivery puts a delivery into the window if it has gone out, or may have before all in the queue, and into the queue otherwise.
func (r *restoring) delivery(s *Session, d *kept, x *StoredDelivery, maybe *unsaid, z *Zone) {
	sl := slot{seq: x.Seq, qos: x.QoS, at: x.At}
	if len(x.IDs) > 0 {
		sl.ids = &x.IDs
	}
	if x.Retain {
		sl.flags |= slotRetain
	}
	if s.link != nil && isWord(x.Share) {
		if w, ok := parseDirect(x.Share); ok && r.void[w.token] || r.void[strings.TrimPrefix(x.Share, markPrefix)] {
			r.e.durable.store.EndDelivery(d.number, x.Seq)
			return
		}
	}
	if x.Share != "" {
		if u := s.subs.get(x.Share); u != nil {
			sl.group = u.group
		} else if s.link != nil { // the node has no member any more, but has to be told whose the message is
			sl.group = farGroup(x.Share)
		}
	}
	r.e.durable.live.Add(sizeDelivery)
	if x.Recorded {
		sl.state, sl.group = slotWaitComp, nil
		sl.flags |= slotSent
		s.comp++
		s.window.pushNumbered(sl)
		return
	}
	m := r.message(x.Body)
	sl.m = m.hold()
	r.e.durable.hold(m)
	if mv := s.moving.Load(); mv != nil && mv.in != nil && x.Seq > mv.in.base && (mv.out != nil || mv.in.blocked()) {
		sl.state = slotQueued
		mv.in.behind.push(sl)
		return
	}
	priority := z.priority(sl.m.Topic)
	begun := x.Seq <= d.begun
	if begun || maybe.may(x.Seq, priority) {
		sl.flags |= slotSent
		if begun || s.queue.n == 0 {
			d.begun = max(d.begun, x.Seq)
			sl.state = slotWaitAck
			if x.QoS == 2 {
				sl.state = slotWaitRec
			}
			s.window.pushNumbered(sl)
			return
		}
	}
	sl.state = slotQueued
	s.queue.push(priority, sl)
	s.noteExpiry(r.b, sl.m)
}

func (r *restoring) retained(x *StoredMessage) {
	e := r.e
	n := &retained{m: r.message(x), stored: true}
	if m := &n.m.Message; m.HasExpiry {
		n.expires = m.At.UnixNano() + int64(m.Expiry)*int64(time.Second)
	}
	e.durable.hold(n.m)
	e.retainer.restamp(n, x.Stamp)
	e.retainer.names.Set(n.m.Topic, n)
	if n.expires != 0 {
		n.timer.owner = &retainedExpiry{&e.retainer, n}
		e.wheel.set(&n.timer, n.expires)
	}
}

// storeAlarm raises or clears the alarm of a store that can promise nothing.
func (e *Engine) storeAlarm() {
	err := e.durable.store.Err()
	if err == nil {
		e.alarms.Clear(storeAlarmID)
		return
	}
	e.alarms.Raise(Alarm{ID: storeAlarmID, Severity: "critical", Title: "The store refuses messages", Summary: fmt.Sprint(err)})
}

const storeAlarmID = "store_failed"
