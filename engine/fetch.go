package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// The two sides of a move: how a node gives a session, and how another takes it.

// moveGap is how far the numbers that a session has at its new home are ahead of those from the old one, and moveTurn by how much their
// packet identifiers differ from what would follow, so that they rarely meet.
const (
	moveGap  = 65535 << 16
	moveTurn = 32768
)

// moveWait bounds how long a move waits for the one before it, and for nodes to know the routes.
const moveWait = 2 * time.Second

var errMove = errors.New("session cannot be moved now")

// BeginMove ends the connection of a client, which connects at another node, and gives what its session is. Nothing else changes before
// CommitMove. The error says that it has to be tried again.
func (e *Engine) BeginMove(ctx context.Context, r MoveRequest) (st MoveState, err error) {
	if code := e.settleArrival(ctx, r.ClientID); code != packet.Success {
		return st, fmt.Errorf("%w: its last move is not settled", errMove)
	}
	s := e.sessionOf(r.ClientID)
	if s == nil {
		st.Moved = e.movedTo(r.ClientID)
		return st, nil
	}
	s.mu.Lock()
	older := s.fence.Before(r.Fence)
	s.mu.Unlock()
	if !older {
		return st, fmt.Errorf("%w: a later claim has it", errMove)
	}
	if err := e.disconnectFor(ctx, s, r.End); err != nil || r.End {
		return st, err
	}
	if err := s.awaitUnblocked(ctx, r.To); err != nil {
		return st, err
	}
	s.subMu.Lock()
	e.registry.mu.RLock()
	s.mu.Lock()
	d := s.kept.Load()
	if !s.dead && s.conn.Load() == nil && d != nil {
		st = MoveState{
			Found: true, Username: s.username, HasUsername: s.hasUsername, CleanStart: s.cleanStart, CreatedAt: s.createdAt,
			Expiry: s.expiry, Seq: d.seq,
		}
		for _, u := range s.subs.all() {
			st.Subscriptions = append(st.Subscriptions, u.Subscription)
		}
		for id, at := range s.rel {
			st.Releases = append(st.Releases, StoredRelease{id, at})
		}
	} else if !s.dead {
		err = fmt.Errorf("%w: its client has come back", errMove)
	}
	s.mu.Unlock()
	e.registry.mu.RUnlock()
	s.subMu.Unlock()
	if err == nil { // what the new home takes for known has to be
		err = e.await(ctx, e.durable.store.Staged())
	}
	return st, err
}

// disconnectFor ends the connection of s for one elsewhere, and the session if it is not to go on, and waits until a publication of
// QoS 2 that is in progress has been routed.
func (e *Engine) disconnectFor(ctx context.Context, s *Session, end bool) error {
	b := e.borrow()
	c := s.conn.Load()
	if c != nil {
		c.end(b, ending{reason: ReasonTakenOver, code: packet.SessionTakenOver, endSession: end})
	}
	if end {
		e.drop(b, s, ReasonTakenOver)
	}
	b.giveBack()
	for c != nil && c.publishing.Load() {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pause waits a moment.
func pause(ctx context.Context) error {
	select {
	case <-time.After(time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitUnblocked waits until nothing of s waits for the old home of a move before, and the node that it is to go to has made its cut for that.
func (s *Session) awaitUnblocked(ctx context.Context, to string) error {
	ctx, cancel := context.WithTimeout(ctx, moveWait)
	defer cancel()
	for {
		s.mu.Lock()
		mv := s.moving.Load()
		waits := mv != nil && mv.in != nil && (mv.in.blocked() || !mv.in.cutBy(to))
		s.mu.Unlock()
		if !waits {
			return nil
		}
		if pause(ctx) != nil {
			return fmt.Errorf("%w: its last move is not over", errMove)
		}
	}
}

// cutBy reports whether a node has made its cut, or need not.
func (a *arrival) cutBy(node string) bool {
	bit := a.named(node)
	return a.marked.Load()&bit == bit
}

// movedTo gives the node that a client's session has moved to, as far as this one knows.
func (e *Engine) movedTo(clientID string) (node string) {
	newest := uint64(0)
	for _, s := range e.remnants() {
		mv, d := s.moving.Load(), s.kept.Load()
		if s.clientID == clientID && mv != nil && mv.out != nil && d != nil && d.number > newest {
			node, newest = mv.out.to, d.number
		}
	}
	return node
}

// remnants gives what is left of sessions that have moved away.
func (e *Engine) remnants() (all []*Session) {
	e.moves.mu.Lock()
	defer e.moves.mu.Unlock()
	for _, s := range e.moves.left {
		all = append(all, s)
	}
	return all
}

// moveNodes is this node and all that it has sessions of, in order.
func (e *Engine) moveNodes(self string) []string {
	nodes := []string{self}
	for _, l := range e.Links() {
		nodes = append(nodes, l.Peer)
	}
	slices.Sort(nodes)
	return nodes
}

// CommitMove gives a session up to the node that has begun to take it. From then on what comes for it here is passed on. It may be repeated.
// After an error it is not known whether it was done.
func (e *Engine) CommitMove(ctx context.Context, r MoveCommit) (res MoveResult, err error) {
	h, du := e.home(), &e.durable
	if h == nil || du.store == nil {
		return res, errMove
	}
	e.moves.mu.Lock()
	s := e.moves.left[r.Token]
	e.moves.mu.Unlock()
	if s != nil { // it was done before
		if mv := s.moving.Load(); mv != nil && mv.out != nil {
			s.mu.Lock()
			res = MoveResult{Done: true, Except: mv.in.uncut(r.Nodes)}
			s.mu.Unlock()
		}
		return res, e.await(ctx, du.store.Staged())
	}
	s = e.sessionOf(r.ClientID)
	if s == nil {
		return MoveResult{Gone: true}, nil
	}
	link := e.linkSessionOf(r.To)
	nodes := e.moveNodes(h.Self())
	if link == nil || len(nodes) > 64 || !slices.Equal(nodes, r.Nodes) || du.store.Err() != nil {
		return res, nil
	}
	b := e.borrow()
	e.moves.halt()
	res, at := s.depart(b, r, link, h.Self())
	e.moves.resume()
	if res.Done {
		e.wheel.stop(&s.timer)
		e.stayBehind(b, s)
	}
	b.giveBack()
	if !res.Done {
		return res, nil
	}
	e.log.Debug("session has moved", "clientid", r.ClientID, "id", r.To)
	return res, e.await(ctx, at)
}

// uncut gives those of nodes that have still to make their cut for a.
func (a *arrival) uncut(nodes []string) (out []string) {
	for _, n := range nodes {
		if a != nil && !a.cutBy(n) {
			out = append(out, n)
		}
	}
	return out
}

// depart makes s a remnant and passes on what it has. The gates are shut.
func (s *Session) depart(b *Batch, r MoveCommit, link *Session, self string) (res MoveResult, at Position) {
	e := b.e
	store := e.durable.store
	s.subMu.Lock()
	defer s.subMu.Unlock()
	e.registry.mu.Lock()
	defer e.registry.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.kept.Load()
	if s.dead || old == nil || !s.fence.Before(r.Fence) {
		res.Gone = true
		return res, 0
	}
	mv := s.moving.Load()
	if s.conn.Load() != nil || mv != nil && (mv.out != nil || !mv.in.sure.Load() || mv.in.blocked() || !mv.in.cutBy(r.To)) {
		return res, 0
	}
	next := &moving{}
	out := &departure{to: r.To, token: r.Token, was: old.number, link: link}
	out.nodes = r.Nodes
	out.self, _ = slices.BinarySearch(out.nodes, self)
	if mv != nil {
		next.in = mv.in
		res.Except = mv.in.uncut(r.Nodes)
	}
	for _, n := range res.Except {
		out.later |= out.named(n)
	}
	out.passed.Store(out.bit(""))
	next.out = out
	s.moving.Store(next)

	// In the store the remnant is a session of its own: until the old one has ended, which is staged last, it is void.
	d := &kept{number: e.durable.sessions.Add(1), seq: old.seq, begun: old.begun, oldest: store.Staged(), subs: old.subs}
	s.kept.Store(d)
	s.will, s.willAt, s.expireAt = nil, 0, 0
	s.rel, s.feeds = nil, nil
	s.putSession(b)
	for _, u := range s.subs.all() {
		d.last = b.stage(store.PutSubscription(d.number, &u.Subscription))
	}
	link.mu.Lock()
	from := link.newest()
	s.passAll(b, out)
	s.report(b, next)
	b.say(func(k *cast) { link.acceptMark(b, k, out.token) })
	at = b.stage(store.EndSession(old.number))
	d.last = at
	link.holdBack(from, at) // none of it goes out before all of it is kept
	link.mu.Unlock()
	old.dropBarriers()

	e.registry.tree.Delete(s.clientID)
	if !s.cleanStart {
		e.registry.persistent--
	}
	e.gaugeSessions()
	e.moves.mu.Lock()
	if e.moves.left == nil {
		e.moves.left = map[string]*Session{}
	}
	e.moves.left[out.token] = s
	e.moves.mu.Unlock()
	res.Done = true
	return res, at
}

// passAll passes on the deliveries of s, and leaves it without. s.mu and that of the link are held.
func (s *Session) passAll(b *Batch, out *departure) {
	du := &b.e.durable
	give := func(p *slot, kind byte) {
		s.give(b, out, p, kind)
		if p.seq != 0 {
			du.live.Add(-sizeDelivery)
			if p.m != nil {
				du.forget(p.m)
			}
		}
		if p.m != nil {
			p.m.release()
		}
	}
	for i := range s.window.n {
		switch p := s.window.at(i); {
		case p.state == slotFree:
		case p.state == slotWaitComp:
			give(p, directComp)
		case p.flags&slotSent != 0:
			give(p, directSent)
		default:
			give(p, directQueued)
		}
	}
	sent, i := 0, 0 // none of the queue goes out before what may have gone out before a restart, and keeps its number for that
	s.queue.each(func(p *slot) {
		if i++; p.flags&slotSent != 0 {
			sent = i
		}
	})
	s.queue.each(func(p *slot) {
		if sent--; sent >= 0 && p.seq != 0 {
			give(p, directSent)
		} else {
			give(p, directQueued)
		}
	})
	s.window, s.queue = window{}, queue{}
	s.unsent, s.comp = 0, 0
	s.queued0.Store(0)
	if s.alarmed {
		s.alarmed = false
		b.events = append(b.events, event{kind: evQueueAlarm, s: s})
	}
}

// give passes one delivery on. s.mu and that of the link are held.
func (s *Session) give(b *Batch, out *departure, p *slot, kind byte) {
	var k *cast
	if p.m == nil {
		k = b.word()
	} else {
		k = &b.cast
		k.begin(b, &p.m.Message, !p.m.uncounted())
		k.sh = p.m.hold()
		k.stored = p.seq != 0
	}
	s.passLocked(b, out, k, out.direct(p, kind))
	if p.m == nil {
		k.closePublication(b, nil, 0)
	}
	k.end()
}

// stayBehind takes back the subscriptions of a remnant that need not wait for cuts: messages for share groups go to one node only, and
// local ones do not come from elsewhere.
func (e *Engine) stayBehind(b *Batch, s *Session) {
	s.subMu.Lock()
	defer s.subMu.Unlock()
	for _, u := range s.subs.all() {
		if u.Share == "" && crosses(u.Filter) {
			continue
		}
		e.dropSub(s, u)
		s.mu.Lock()
		if d := s.kept.Load(); d != nil && !s.dead {
			d.last = b.stage(e.durable.store.EndSubscription(d.number, u.name))
			d.subs -= u.stored()
			e.durable.live.Add(-u.stored())
		}
		s.mu.Unlock()
	}
}

// fetch takes the session of a client over from its home, if there is one.
func (e *Engine) fetch(ctx context.Context, h Homes, a *asking, cl Claim) packet.ReasonCode {
	for range 5 {
		code, again := e.tryFetch(ctx, h, a, cl)
		if !again {
			return code
		}
		select { // nodes come and go just now
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return packet.ServerUnavailable
		}
	}
	return packet.ServerUnavailable
}

func (e *Engine) tryFetch(ctx context.Context, h Homes, a *asking, cl Claim) (code packet.ReasonCode, again bool) {
	self, node := h.Self(), cl.Holder
	refused := func(err error) packet.ReasonCode {
		e.log.Info("client refused: its session is on a node that does not give it up", "clientid", a.clientID, "id", node, "err", err)
		return packet.ServerUnavailable
	}
	r := MoveRequest{ClientID: a.clientID, Fence: cl.Fence, To: self, End: a.clean}
	st, err := h.BeginMove(ctx, node, r)
	for hops := 0; err == nil && st.Moved != "" && st.Moved != self; hops++ {
		if hops == 8 {
			return refused(errMove), false
		}
		node = st.Moved
		st, err = h.BeginMove(ctx, node, r)
	}
	switch {
	case err != nil:
		return refused(err), errors.Is(err, errMove)
	case st.Moved == self:
		return packet.Success, false // and the registry has not heard of it
	}
	e.Discard(a.clientID, cl.Held)
	if !st.Found || e.sessionOf(a.clientID) != nil {
		return packet.Success, false
	}
	nodes := e.moveNodes(self)
	if !slices.Contains(nodes, node) || len(nodes) > 64 {
		return refused(errors.New("there is no link to it")), false
	}
	s, code := e.install(a, cl, node, nodes, &st)
	if s == nil {
		return code, false
	}
	in := s.moving.Load().in
	defer in.resolving.Store(false)
	if err := e.awaitRoutes(ctx, node, in.version); err != nil {
		e.abandon(s)
		return refused(err), false
	}
	res, err := h.CommitMove(ctx, node, MoveCommit{ClientID: a.clientID, Fence: cl.Fence, To: self, Token: in.token, Nodes: nodes})
	switch {
	case err != nil: // it may have been done; see resolve
		return refused(err), false
	case res.Done:
		e.resolved(s, res.Except)
		return packet.Success, false
	}
	e.abandon(s)
	return packet.Success, !res.Gone
}

// install makes the session of a client that comes from node: it gets the messages of no node before it is resolved.
func (e *Engine) install(a *asking, cl Claim, node string, nodes []string, st *MoveState) (*Session, packet.ReasonCode) {
	store := e.durable.store
	b := e.borrow()
	defer b.giveBack()
	var random [12]byte
	rand.Read(random[:]) // never fails
	in := &arrival{from: node, token: hex.EncodeToString(random[:]), fence: cl.Fence, base: st.Seq + moveGap + moveTurn, low: st.Seq}
	in.nodes = nodes
	in.self, _ = slices.BinarySearch(nodes, e.home().Self())
	in.resolving.Store(true)
	s := &Session{e: e, clientID: a.clientID, createdAt: st.CreatedAt, username: st.Username, hasUsername: st.HasUsername, cleanStart: st.CleanStart, expiry: st.Expiry}
	s.timer.owner = s
	s.zone.Store(a.zone)
	s.moving.Store(&moving{in: in})
	if st.Expiry != packet.SessionNeverExpires {
		s.expireAt = b.now + int64(st.Expiry)*int64(time.Second)
	}
	r := &e.registry
	s.subMu.Lock()
	r.mu.Lock()
	_, there := r.tree.Get(a.clientID)
	limit := e.settings.Load().MaxSessions
	if there || store == nil || store.Err() != nil || e.closing.Load() || limit > 0 && int(r.tree.Total(dimSession)) >= limit {
		b.counts[SessionsRefused]++
		r.mu.Unlock()
		s.subMu.Unlock()
		return nil, packet.QuotaExceeded
	}
	s.mu.Lock()
	e.keep(s)
	d := s.kept.Load()
	d.seq = in.base
	s.putSession(b)
	for _, rel := range st.Releases {
		if s.rel == nil {
			s.rel = make(map[uint16]int64, len(st.Releases))
		}
		s.rel[rel.ID] = rel.At
		d.last = b.stage(store.PutRelease(d.number, rel.ID, rel.At))
	}
	s.mu.Unlock()
	if !s.cleanStart {
		r.persistent++
	}
	e.weigh(s)
	r.mu.Unlock()
	for _, x := range st.Subscriptions {
		u := &sub{Subscription: x, name: x.Name(), s: s}
		if x.ID != 0 {
			u.ids = &[]uint32{x.ID}
		}
		if s.subs.get(u.name) != nil {
			continue
		}
		s.putSub(b, u, nil)
		e.router.insert(u, nil)
		s.subs.put(u)
		e.gaugeSub(u, 1)
	}
	s.subMu.Unlock()
	e.gaugeRoutes()
	e.weighSubs(s)
	if s.expireAt != 0 {
		e.wheel.set(&s.timer, s.expireAt)
	}
	in.version = e.routeVersion()
	e.moves.mu.Lock()
	if e.moves.arriving == nil {
		e.moves.arriving = map[string]*Session{}
	}
	e.moves.arriving[in.token] = s
	e.moves.mu.Unlock()
	return s, packet.Success
}

// awaitRoutes waits until every node that is up, and that one, knows the routes of version.
func (e *Engine) awaitRoutes(ctx context.Context, node string, version uint64) error {
	ctx, cancel := context.WithTimeout(ctx, moveWait)
	defer cancel()
	l := &e.links
	for {
		l.mu.Lock()
		knows := slices.ContainsFunc(l.conns, func(c *Conn) bool { return c.link.peer == node && c.link.up && c.link.known >= version })
		l.mu.Unlock()
		if knows && l.settled.Load() >= version {
			return nil
		}
		if pause(ctx) != nil {
			return errors.New("it does not acknowledge routes")
		}
	}
}

// resolved makes s the session of its client: the old home has given it up. except are nodes whose cut of
// the move before has to come first.
func (e *Engine) resolved(s *Session, except []string) {
	mv := s.moving.Load()
	if mv == nil || mv.in == nil || mv.in.sure.Load() {
		return
	}
	in := mv.in
	old := e.linkSessionOf(in.from)
	b := e.borrow()
	defer b.giveBack()
	e.moves.halt()
	e.registry.mu.Lock()
	s.mu.Lock()
	bits := uint64(0)
	for _, n := range except {
		bits |= in.named(n)
	}
	in.later.Store(bits &^ in.ready)
	in.marked.Store(in.marked.Load() | in.bit(""))
	in.heard = b.now
	in.sure.Store(true)
	s.fence = in.fence
	s.putSession(b)
	s.mu.Unlock()
	e.registry.mu.Unlock()
	b.mark(in.token, old)
	e.moves.resume()
	e.moves.asking.Store(true)
	e.askCuts(b)
	e.log.Info("session taken over", "clientid", s.clientID, "id", in.from)
}

// settleArrival finds out about the session of a client that was on its way here when this node ended, or lost the answer.
func (e *Engine) settleArrival(ctx context.Context, clientID string) packet.ReasonCode {
	s := e.sessionOf(clientID)
	if s == nil {
		return packet.Success
	}
	mv := s.moving.Load()
	if mv == nil || mv.in == nil || mv.in.sure.Load() {
		return packet.Success
	}
	for !mv.in.resolving.CompareAndSwap(false, true) {
		if pause(ctx) != nil {
			return packet.ServerUnavailable
		}
	}
	defer mv.in.resolving.Store(false)
	if !e.resolve(ctx, s) {
		return packet.ServerUnavailable
	}
	return packet.Success
}

// resolve asks the old home of s whether it has given it up: that makes s the session of its client, or ends it. It reports whether that
// is known now. The caller has set resolving.
func (e *Engine) resolve(ctx context.Context, s *Session) bool {
	h, mv := e.home(), s.moving.Load()
	if mv == nil || mv.in == nil || mv.in.sure.Load() {
		return true
	}
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	if h == nil || dead { // to ask again for a session that was not given up would have it given up to nobody
		return false
	}
	in := mv.in
	res, err := h.CommitMove(ctx, in.from, MoveCommit{ClientID: s.clientID, Fence: in.fence, To: h.Self(), Token: in.token, Nodes: in.nodes})
	switch {
	case err != nil:
		return false
	case res.Done:
		e.resolved(s, res.Except)
		h.Settle(s.clientID, in.fence, true, s.presence())
	default:
		e.abandon(s)
	}
	return true
}

// abandon ends a session that was to come here and does not.
func (e *Engine) abandon(s *Session) {
	b := e.borrow()
	defer b.giveBack()
	e.registry.mu.Lock()
	s.mu.Lock()
	over := !s.dead && s.conn.Load() == nil
	if over {
		s.dead = true
		e.unregister(s)
	}
	s.mu.Unlock()
	e.registry.mu.Unlock()
	if !over {
		return
	}
	e.wheel.stop(&s.timer)
	s.subMu.Lock()
	s.closed = true
	for _, u := range s.subs.all() {
		e.dropSub(s, u)
	}
	s.subMu.Unlock()
	if mv := s.moving.Load(); mv != nil && mv.in != nil {
		e.moves.mu.Lock()
		delete(e.moves.arriving, mv.in.token)
		e.moves.mu.Unlock()
	}
	s.mu.Lock()
	s.letGo(b)
	s.mu.Unlock()
}

// forgetMove tells the old home of a session that has ended while it came from there that nothing has to be passed on.
func (b *Batch) forgetMove(s *Session) {
	mv := s.moving.Load()
	if mv == nil || mv.in == nil {
		return
	}
	m := &b.e.moves
	m.mu.Lock()
	delete(m.arriving, mv.in.token)
	m.mu.Unlock()
	if l := b.e.linkSessionOf(mv.in.from); l != nil {
		k := b.word()
		l.mu.Lock()
		l.accept(b, k, slot{m: k.shared(), qos: 2, at: b.now, group: wordGroup(stopPrefix + mv.in.token)}, l.policy())
		l.mu.Unlock()
		k.closePublication(b, nil, 0)
		k.end()
	}
}

// stopped ends a remnant whose session has ended at its new home.
func (e *Engine) stopped(b *Batch, token, peer string) {
	e.moves.mu.Lock()
	s := e.moves.left[token]
	e.moves.mu.Unlock()
	if s == nil {
		return
	}
	if mv := s.moving.Load(); mv != nil && mv.out != nil && mv.out.to == peer {
		b.forgetMove(s)
		e.endRemnant(b, s)
	}
}

// records gives what the store has of a move.
func (m *moving) records() (a *StoredArrival, d *StoredDeparture) {
	if in := m.in; in != nil {
		a = &StoredArrival{
			From: in.from, Token: in.token, Fence: in.fence, Nodes: in.nodes, Self: in.self, Base: in.base, Sure: in.sure.Load(),
			Marked: in.marked.Load(), Done: in.done.Load(), Later: in.later.Load(),
		}
	}
	if out := m.out; out != nil {
		d = &StoredDeparture{To: out.to, Token: out.token, Nodes: out.nodes, Self: out.self, Was: out.was, Passed: out.passed.Load()}
	}
	return a, d
}

// restoredMove is the move of a session that is restored.
func restoredMove(x *StoredSession) *moving {
	if x.Arrival == nil && x.Departure == nil {
		return nil
	}
	m := &moving{}
	if a := x.Arrival; a != nil {
		m.in = &arrival{origins: origins{a.Nodes, a.Self}, from: a.From, token: a.Token, fence: a.Fence, base: a.Base, low: a.Base - moveGap - moveTurn}
		for i := range x.Deliveries {
			if seq := x.Deliveries[i].Seq; seq <= a.Base {
				m.in.low = max(m.in.low, seq)
			}
		}
		m.in.sure.Store(a.Sure)
		m.in.marked.Store(a.Marked)
		m.in.done.Store(a.Done)
		m.in.later.Store(a.Later)
	}
	if d := x.Departure; d != nil {
		m.out = &departure{origins: origins{d.Nodes, d.Self}, to: d.To, token: d.Token, was: d.Was}
		m.out.passed.Store(d.Passed)
		if m.out.said = d.Passed; m.in != nil { // it may not have been said
			m.out.said, m.out.later = 0, m.out.all()
		}
	}
	return m
}

// resumeMoves goes on with the moves that a restart has interrupted, before anybody can publish.
func (e *Engine) resumeMoves(b *Batch) {
	for _, s := range e.remnants() {
		mv := s.moving.Load()
		if mv.out.link = e.linkSessionOf(mv.out.to); mv.out.link == nil {
			e.endRemnant(b, s)
			continue
		}
		e.registry.mu.RLock()
		s.mu.Lock()
		s.forgetGiven(b, mv)
		s.unblock(b)
		s.tell(b)
		s.mu.Unlock()
		e.registry.mu.RUnlock()
	}
	e.moves.mu.Lock()
	var list []*Session
	for _, s := range e.moves.arriving {
		list = append(list, s)
	}
	e.moves.mu.Unlock()
	for _, s := range list {
		// The cut of this node, once more: that of before may not have been kept, and nothing behind it then.
		if mv := s.moving.Load(); mv.in.sure.Load() {
			b.mark(mv.in.token, e.linkSessionOf(mv.in.from))
			e.moves.asking.Store(true)
		}
	}
	if len(list) > 0 {
		e.moves.on.Store(true)
	}
}

// forgetGiven ends what the restored remnant s had passed on when the process ended, and had not ended. s.mu is held.
func (s *Session) forgetGiven(b *Batch, mv *moving) {
	if mv.in == nil || mv.in.behind.n == 0 {
		return
	}
	given := map[*shared]bool{}
	note := func(p *slot) {
		if p.m != nil && p.group != nil && strings.HasPrefix(p.group.word, directPrefix+mv.out.token+"/") {
			given[p.m] = true
		}
	}
	link := mv.out.link
	link.mu.Lock()
	for i := range link.window.n {
		note(link.window.at(i))
	}
	link.queue.each(note)
	link.mu.Unlock()
	for range mv.in.behind.n {
		sl := mv.in.behind.pop()
		if !given[sl.m] {
			mv.in.behind.push(sl)
			continue
		}
		s.endDelivery(b, sl.seq, sl.m)
		sl.m.release()
	}
}

// direct says what a slot is at the new home.
func (out *departure) direct(p *slot, kind byte) direct {
	d := direct{token: out.token, kind: kind, seq: p.seq, qos: p.qos, flags: p.flags & slotRetain}
	if p.ids != nil {
		d.ids = *p.ids
	}
	if p.group != nil {
		d.name = p.group.subscription()
	}
	return d
}

// Moves counts the sessions that are coming from other nodes, and what is left of those that have gone to others.
func (e *Engine) Moves() (coming, left int) {
	e.moves.mu.Lock()
	defer e.moves.mu.Unlock()
	return len(e.moves.arriving), len(e.moves.left)
}
