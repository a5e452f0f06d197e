package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// A session moves to another node while messages for it are on their way from every node. Which of them goes by the old home and
// which straight to the new one is decided by the node that publishes it, at one moment, the cut: it puts the same mark into what
// goes to either of them, while no publication is in progress. Before the mark the old home takes the message, and passes it on; behind
// it the new one does. Links keep the order and deliver once, so nothing is compared or remembered. DESIGN.md tells it whole.

// gates is how many locks the publications of QoS 1 and 2 are spread over.
const gates = 8

// moves is what the engine has around sessions that move between nodes.
type moves struct {
	on      atomic.Bool // publications of QoS 1 and 2 hold a gate
	gates   [gates]routeGate
	asking  atomic.Bool // nodes may have to be asked for cuts
	looking atomic.Bool // resolveAll is in progress
	looked  int64       // used by Advance only: when it began last

	mu       sync.Mutex          // a leaf
	arriving map[string]*Session // by the token of the move
	left     map[string]*Session // the remnants of sessions that have moved away, likewise
}

// routeGate is a lock on a cache line of its own.
type routeGate struct {
	sync.RWMutex
	_ [40]byte
}

// halt waits for the publications in progress and keeps others from beginning until resume.
func (m *moves) halt() {
	for i := range m.gates {
		m.gates[i].Lock()
	}
}

func (m *moves) resume() {
	for i := range m.gates {
		m.gates[i].Unlock()
	}
}

// moving says that a session is on its way: here, from here, or both. It is replaced as a whole with registry.mu and Session.mu held.
type moving struct {
	in  *arrival
	out *departure
}

// origins are the nodes whose cut a move waits for, as bits.
type origins struct {
	nodes []string // identities, sorted, at most 64
	self  int      // of them
}

func (o *origins) bit(peer string) uint64 {
	i := o.self
	if peer != "" {
		var ok bool
		if i, ok = slices.BinarySearch(o.nodes, peer); !ok {
			return 0
		}
	}
	return 1 << i
}

func (o *origins) all() uint64 { return 1<<len(o.nodes) - 1 }

// arrival is the coming of a session from another node.
type arrival struct {
	origins
	from    string        // the home so far
	token   string        // of the move
	fence   Fence         // of the claim
	base    uint64        // deliveries of this node's own have greater numbers than those that were begun there
	version uint64        // of the routes that the nodes have to know
	sure    atomic.Bool   // the old home has given it up
	marked  atomic.Uint64 // nodes whose messages come straight from now on; changed with Session.mu held
	done    atomic.Uint64 // nodes of which nothing comes by way of the old home any more; likewise
	later   atomic.Uint64 // nodes whose cut of the move before has to come first; likewise

	// Guarded by Session.mu.
	ready  uint64 // nodes of which that has been heard
	heard  int64  // when something came by way of the old home last; 0: not in this process
	low    uint64 // number of what has come by way of the old home last
	behind ring   // messages that came straight, and wait for those by way of the old home
	free   bool   // the old home is away, or says nothing: nothing waits for it

	resolving atomic.Bool // somebody asks the old home

	asked uint64 // nodes that were asked for their cut; guarded by links.sending
	lost  int64  // since when the old home is away; used by Advance only
}

// blocked reports whether what comes straight has to wait. Session.mu is held.
func (a *arrival) blocked() bool { return !a.free && a.marked.Load()&^a.done.Load() != 0 }

// complete reports whether the move is over.
func (a *arrival) complete() bool {
	return a.sure.Load() && a.marked.Load() == a.all() && a.done.Load() == a.all()
}

// departure is the leaving of a session to another node. What is left here is a remnant: in no table of clients, it passes on what it gets.
type departure struct {
	origins
	to     string
	token  string
	was    uint64        // number of the session in the store before it left
	passed atomic.Uint64 // nodes that send nothing more by way of here; changed with Session.mu held
	link   *Session      // of the node to

	// Guarded by Session.mu: what the new home was told.
	said  uint64 // nodes of which nothing more comes by way of here
	later uint64 // nodes of which it has still to hear that the cut of the move before is made
}

// takes reports whether a message of that node, "" for this one, is the session's business here.
func (m *moving) takes(peer string) bool {
	if in := m.in; in != nil {
		if bit := in.bit(peer); bit != 0 && in.marked.Load()&bit == 0 {
			return false
		}
	}
	if out := m.out; out != nil {
		bit := out.bit(peer)
		return bit != 0 && out.passed.Load()&bit == 0
	}
	return true
}

// What crosses a link for a move stands where the name of a share group does.
const (
	directPrefix = "$to/"  // a message or a word for the session that arrives by that token
	markPrefix   = "$cut/" // the mark of a cut
	stopPrefix   = "$end/" // the session that moved has ended
	cutPrefix    = LinkPrefix + "cut/"
	moveTopic    = "$node" // of messages without one
)

// The kinds of what goes to a session that arrives.
const (
	directQueued = 'q'
	directSent   = 's' // it went out: the client may have it
	directComp   = 'c' // PUBREC came, PUBREL goes out
	directDone   = 'd' // nothing more comes of a node
	directReady  = 'r' // a node has made the cut of the move before
)

// direct is what a message to an arriving session says besides the message.
type direct struct {
	token string
	kind  byte
	seq   uint64
	qos   packet.QoS
	flags uint8    // slotRetain
	ids   []uint32 // subscription identifiers
	name  string   // of the shared subscription; of a node, for directDone and directReady
}

func (d *direct) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s/%c/%x/%d/%d/", directPrefix, d.token, d.kind, d.seq, d.qos, d.flags)
	for i, id := range d.ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(id), 10))
	}
	b.WriteByte('/')
	b.WriteString(d.name)
	return b.String()
}

// parseDirect reads what String has written.
func parseDirect(text string) (d direct, ok bool) {
	rest, ok := strings.CutPrefix(text, directPrefix)
	f := strings.SplitN(rest, "/", 7)
	if !ok || len(f) != 7 || f[0] == "" || len(f[1]) != 1 {
		return d, false
	}
	d.token, d.kind, d.name = f[0], f[1][0], f[6]
	seq, err1 := strconv.ParseUint(f[2], 16, 64)
	qos, err2 := strconv.ParseUint(f[3], 10, 2)
	flags, err3 := strconv.ParseUint(f[4], 10, 8)
	if err1 != nil || err2 != nil || err3 != nil || qos > 2 || flags&^slotRetain != 0 {
		return d, false
	}
	d.seq, d.qos, d.flags = seq, packet.QoS(qos), uint8(flags)
	if f[5] != "" {
		for _, s := range strings.Split(f[5], ",") {
			id, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return d, false
			}
			d.ids = append(d.ids, uint32(id))
		}
	}
	switch d.kind {
	case directSent, directComp:
		ok = seq != 0
	case directQueued, directDone, directReady:
	default:
		ok = false
	}
	return d, ok
}

// wordGroup stands for a share group where a link tells something else.
func wordGroup(text string) *shareGroup { return &shareGroup{word: text} }

// isWord reports whether what stands where a share group does is none.
func isWord(share string) bool {
	return strings.HasPrefix(share, directPrefix) || strings.HasPrefix(share, markPrefix) || strings.HasPrefix(share, stopPrefix)
}

// relay passes sl, a delivery of a remnant, on to where the session is. s.mu is held.
func (s *Session) relay(b *Batch, out *departure, k *cast, sl slot, kind byte) bool {
	return s.pass(b, out, k, out.direct(&sl, kind))
}

// pass sends the message of k on with d. s.mu is held.
func (s *Session) pass(b *Batch, out *departure, k *cast, d direct) bool {
	out.link.mu.Lock()
	defer out.link.mu.Unlock()
	return s.passLocked(b, out, k, d)
}

// passLocked is pass with the mu of the link held too.
func (s *Session) passLocked(b *Batch, out *departure, k *cast, d direct) bool {
	if !packet.ValidString([]byte(k.m.Topic)) {
		b.dropped(s, k.shared(), DropSessionEnded)
		return true
	}
	d.token = out.token
	l := out.link
	return l.accept(b, k, slot{m: k.shared(), qos: 2, at: b.now, flags: d.flags, group: wordGroup(d.String())}, l.policy())
}

// word begins the publication of something that has no message.
func (b *Batch) word() *cast {
	k := &b.cast
	k.begin(b, &Message{Topic: moveTopic, QoS: 2, At: time.Unix(0, b.now), Inside: true}, false)
	k.open = true
	return k
}

// say is the whole publication of a word: to puts it into sessions.
func (b *Batch) say(to func(k *cast)) {
	k := b.word()
	to(k)
	k.closePublication(b, nil, 0)
	k.end()
}

// mark puts the mark of a move into what goes to the nodes of these sessions. The gates are shut.
func (b *Batch) mark(token string, links ...*Session) {
	b.say(func(k *cast) {
		for _, l := range links {
			if l != nil {
				l.mu.Lock()
				l.acceptMark(b, k, token)
				l.mu.Unlock()
			}
		}
	})
}

// acceptMark takes the mark of a move, at the session of a node. s.mu is held.
func (s *Session) acceptMark(b *Batch, k *cast, token string) {
	s.accept(b, k, slot{m: k.shared(), qos: 2, at: b.now, group: wordGroup(markPrefix + token)}, s.policy())
}

// handleWord handles a PUBLISH of another node that belongs to a move.
func (c *Conn) handleWord(b *Batch, p *packet.Publish, m *Message) Next {
	e := b.e
	if p.QoS != 2 {
		return c.fail(b, packet.ProtocolError)
	}
	if store := e.durable.store; store.Err() != nil { // the other node keeps it
		return c.refuseKept(b, p)
	}
	publisher := c.durable(p)
	mark, isMark := strings.CutPrefix(b.share, markPrefix)
	stop, isEnd := strings.CutPrefix(b.share, stopPrefix)
	if isMark || isEnd {
		if isMark {
			e.marked(b, mark, c.link.peer)
		} else {
			e.stopped(b, stop, c.link.peer)
		}
		k := b.word()
		k.closePublication(b, publisher, p.PacketID)
		k.end()
		c.acknowledge(b, p, packet.Success, nil)
		return ReadOn
	}
	d, ok := parseDirect(b.share)
	if !ok {
		return c.fail(b, packet.ProtocolError)
	}
	m.Topic, m.QoS = string(p.Topic), d.qos
	k := &b.cast
	k.begin(b, m, false)
	k.open = true
	s := e.arrivingSession(d.token)
	if s != nil {
		group := s.groupNamed(d.name)
		e.registry.mu.RLock()
		s.mu.Lock()
		s.arrive(b, k, &d, group)
		s.mu.Unlock()
		e.registry.mu.RUnlock()
	}
	k.closePublication(b, publisher, p.PacketID)
	k.end()
	if s != nil && (d.kind == directDone || d.kind == directReady) {
		e.arrived(b, s)
	}
	c.acknowledge(b, p, packet.Success, nil)
	return ReadOn
}

// arrivingSession gives the session that arrives by a token, or nil.
func (e *Engine) arrivingSession(token string) *Session {
	e.moves.mu.Lock()
	defer e.moves.mu.Unlock()
	return e.moves.arriving[token]
}

// groupNamed gives the share group of a subscription that s has, or nil.
func (s *Session) groupNamed(name string) *shareGroup {
	s.subMu.Lock()
	defer s.subMu.Unlock()
	if u := s.subs.get(name); u != nil {
		return u.group
	}
	return nil
}

// arrive takes what the old home of s has passed on. registry.mu and s.mu are held.
func (s *Session) arrive(b *Batch, k *cast, d *direct, group *shareGroup) {
	mv := s.moving.Load()
	if s.dead || mv == nil || mv.in == nil {
		return
	}
	mv.in.heard = b.now
	if bit := mv.in.named(d.name); d.kind == directDone || d.kind == directReady {
		if d.kind == directDone {
			mv.in.done.Store(mv.in.done.Load() | bit)
		}
		mv.in.ready |= bit
		mv.in.later.Store(mv.in.later.Load() &^ bit)
		s.putSession(b)
		b.e.moves.asking.Store(true)
		return
	}
	if mv.out != nil {
		s.pass(b, mv.out, k, *d)
		return
	}
	sl := slot{seq: d.seq, qos: d.qos, flags: d.flags, at: b.now, group: group}
	if len(d.ids) > 0 {
		sl.ids = &d.ids
	}
	kept := s.kept.Load()
	if d.kind == directQueued {
		sl.seq = s.lowNumber(mv.in)
	}
	begun := d.kind != directQueued && s.unused(sl.seq)
	mv.in.low = max(mv.in.low, sl.seq)
	switch {
	case d.kind == directComp && !begun: // it cannot be told the client any more
		return
	case d.kind == directComp:
		sl.state, sl.flags, sl.group = slotWaitComp, slotSent, nil
		s.comp++
	default:
		sl.m = k.shared()
		if sl.qos > 0 && kept != nil {
			k.store(b)
		}
		if begun {
			sl.state, sl.flags = slotWaitAck, sl.flags|slotSent
			if sl.qos == 2 {
				sl.state = slotWaitRec
			}
		}
	}
	if (kept == nil || sl.qos == 0) && !begun {
		sl.seq = 0
	}
	if kept != nil && sl.qos > 0 {
		s.putArrived(b, kept, &sl, begun)
	}
	if !begun {
		s.arriveQueued(b, sl)
	} else {
		if sl.m != nil {
			sl.m.hold()
		}
		p := s.window.pushNumbered(sl)
		if kept == nil {
			p.seq = 0
		}
		s.unsent++
	}
	if c := s.conn.Load(); c != nil {
		s.pumpLocked(b, c)
	}
}

// unused reports whether the packet identifier of a number is free. s.mu is held.
func (s *Session) unused(seq uint64) bool {
	p := s.window.find(identifier(seq))
	return p == nil || p.state == slotFree
}

// lowNumber gives the next of what comes by way of the old home its number. s.mu is held.
func (s *Session) lowNumber(in *arrival) uint64 {
	seq := in.low + 1
	for !s.unused(seq) {
		seq++
	}
	return seq
}

// putArrived stages a delivery that has come from another node. s.mu is held.
func (s *Session) putArrived(b *Batch, d *kept, sl *slot, begun bool) {
	if begun {
		d.begun = max(d.begun, sl.seq)
	}
	if sl.m == nil {
		d.last = b.stage(b.e.durable.store.PutDelivery(d.number, sl.record(&b.delivery)))
		b.e.durable.live.Add(sizeDelivery)
		return
	}
	s.putDelivery(b, d, sl)
	if begun { // the client may have it: it goes out without waiting
		if i, ok := d.barrierOf(sl.seq); ok {
			d.lift(i)
		}
	}
}

// arriveQueued puts sl into the queue, whatever its limit: the old home had one. s.mu is held.
func (s *Session) arriveQueued(b *Batch, sl slot) {
	z := s.policy()
	sl.state, sl.at = slotQueued, b.now
	sl.m.hold()
	if sl.qos == 0 {
		s.queued0.Add(1)
	}
	s.queue.push(z.priority(sl.m.Topic), sl)
	s.enqueued++
	s.noteExpiry(b, sl.m)
	if !s.alarmed {
		s.alarm(b, z)
	}
}

// setBehind has sl, which has come straight, wait for those by way of the old home. s.mu is held.
func (s *Session) setBehind(b *Batch, in *arrival, sl slot, z *Zone) {
	if z.MaxQueueLen > 0 && in.behind.n >= z.MaxQueueLen {
		old := in.behind.pop()
		s.lost++
		b.dropped(s, old.m, DropQueueFull)
		s.endDelivery(b, old.seq, old.m)
		old.m.release()
	}
	sl.state, sl.at = slotQueued, b.now
	sl.m.hold()
	in.behind.push(sl)
}

// named gives the bit of a node by its identity.
func (o *origins) named(node string) uint64 {
	if node == "" {
		return 0
	}
	return o.bit(node)
}

// unblock gives out what has waited behind, if it need not wait any more. s.mu is held.
func (s *Session) unblock(b *Batch) {
	mv := s.moving.Load()
	if mv == nil || mv.in == nil || mv.in.blocked() {
		return
	}
	if mv.out != nil {
		s.giveBehind(b, mv)
		return
	}
	z := s.policy()
	for mv.in.behind.n > 0 {
		sl := mv.in.behind.pop()
		s.queue.push(z.priority(sl.m.Topic), sl)
		s.enqueued++
		s.noteExpiry(b, sl.m)
	}
	mv.in.behind.trim()
	if !s.alarmed {
		s.alarm(b, z)
	}
	if c := s.conn.Load(); c != nil {
		s.pumpLocked(b, c)
	}
}

// giveBehind passes on what has waited behind at a remnant. s.mu is held.
func (s *Session) giveBehind(b *Batch, mv *moving) {
	link := mv.out.link
	link.mu.Lock()
	defer link.mu.Unlock()
	from := link.newest()
	for mv.in.behind.n > 0 {
		sl := mv.in.behind.pop()
		s.give(b, mv.out, &sl, directQueued)
		s.endDelivery(b, sl.seq, sl.m)
		sl.m.release()
	}
	mv.in.behind.trim()
	if d := s.kept.Load(); d != nil {
		link.holdBack(from, d.last)
	}
}

// newest is the number of the last delivery of s, 0 if none is stored. s.mu is held.
func (s *Session) newest() uint64 {
	if k := s.kept.Load(); k != nil {
		return k.seq
	}
	return 0
}

// holdBack keeps deliveries of s with greater numbers than from until that position is committed. s.mu is held.
func (s *Session) holdBack(from uint64, at Position) {
	if k := s.kept.Load(); k != nil {
		for i := range k.barriers {
			if k.barriers[i].seq > from {
				k.barriers[i].at = at
			}
		}
	}
}

// report tells the new home of a remnant what it may go by: of which nodes nothing more comes by way of here, and which have made the cut
// of the move before. s.mu and that of the link are held.
func (s *Session) report(b *Batch, mv *moving) {
	in, out := mv.in, mv.out
	say := func(kind byte, node string) {
		b.say(func(k *cast) { s.passLocked(b, out, k, direct{kind: kind, name: node}) })
	}
	for i, node := range out.nodes {
		bit, before := uint64(1)<<i, uint64(0)
		if in != nil {
			before = in.named(node)
		}
		switch {
		case out.said&bit != 0:
		case out.passed.Load()&bit != 0 && (in == nil || in.done.Load()&before == before && in.behind.n == 0):
			out.said |= bit
			say(directDone, node)
		case out.later&bit != 0 && (in == nil || in.marked.Load()&before == before):
			out.later &^= bit
			say(directReady, node)
		}
	}
}

// tell is report where the link is not locked. s.mu is held.
func (s *Session) tell(b *Batch) {
	if mv := s.moving.Load(); mv != nil && mv.out != nil && mv.out.link != nil && !s.dead {
		mv.out.link.mu.Lock()
		s.report(b, mv)
		mv.out.link.mu.Unlock()
	}
}

// arrived goes on with s after something has changed of its arrival.
func (e *Engine) arrived(b *Batch, s *Session) {
	e.registry.mu.RLock()
	s.mu.Lock()
	mv := s.moving.Load()
	over := !s.dead && mv != nil && mv.in != nil && mv.in.complete()
	s.unblock(b)
	s.tell(b)
	if over {
		var next *moving
		if mv.out != nil {
			next = &moving{out: mv.out}
		}
		s.moving.Store(next)
		s.putSession(b)
	}
	s.mu.Unlock()
	e.registry.mu.RUnlock()
	if !over {
		return
	}
	e.moves.mu.Lock()
	delete(e.moves.arriving, mv.in.token)
	e.moves.mu.Unlock()
	if mv.out != nil {
		e.passed(b, s, mv.out, 0)
	}
}

// marked handles the mark of a cut that a node has made.
func (e *Engine) marked(b *Batch, token, peer string) {
	e.moves.mu.Lock()
	in, out := e.moves.arriving[token], e.moves.left[token]
	e.moves.mu.Unlock()
	if in != nil {
		e.registry.mu.RLock()
		in.mu.Lock()
		if mv := in.moving.Load(); mv != nil && mv.in != nil && mv.in.token == token {
			mv.in.marked.Store(mv.in.marked.Load() | mv.in.named(peer))
			in.putSession(b)
		}
		in.mu.Unlock()
		e.registry.mu.RUnlock()
		e.arrived(b, in)
	}
	if out != nil {
		if mv := out.moving.Load(); mv != nil && mv.out != nil {
			e.passed(b, out, mv.out, mv.out.named(peer))
		}
	}
}

// passed notes that a node, whose bit is given, sends nothing more by way of the remnant s, says so to the new home once nothing of that node
// is on its way here either, and ends s when that holds of all. It may come again.
func (e *Engine) passed(b *Batch, s *Session, out *departure, bit uint64) {
	e.registry.mu.RLock()
	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		e.registry.mu.RUnlock()
		return
	}
	out.passed.Store(out.passed.Load() | bit)
	s.tell(b) // before the record: a crash between the two repeats it
	over := out.passed.Load() == out.all() && s.moving.Load().in == nil
	if !over {
		s.putSession(b)
	}
	s.mu.Unlock()
	e.registry.mu.RUnlock()
	if over {
		e.endRemnant(b, s)
	}
}

// endRemnant ends what is left of a session that has moved away.
func (e *Engine) endRemnant(b *Batch, s *Session) {
	mv := s.moving.Load()
	e.moves.mu.Lock()
	if mv != nil && mv.out != nil {
		delete(e.moves.left, mv.out.token)
	}
	if mv != nil && mv.in != nil {
		delete(e.moves.arriving, mv.in.token)
	}
	e.moves.mu.Unlock()
	s.subMu.Lock()
	s.closed = true
	for _, u := range s.subs.all() {
		e.dropSub(s, u)
	}
	s.subMu.Unlock()
	s.mu.Lock()
	if !s.dead {
		if mv != nil && mv.in != nil {
			for mv.in.behind.n > 0 {
				sl := mv.in.behind.pop()
				s.endDelivery(b, sl.seq, sl.m)
				sl.m.release()
			}
		}
		s.dead = true
		s.letGo(b)
	}
	s.mu.Unlock()
	e.wheel.stop(&s.timer)
}

// cut makes the cut of a move for this node: from is the old home, requested by the new one, whose session is given.
func (e *Engine) cut(b *Batch, from string, to *Session, token string) {
	old := e.linkSessionOf(from)
	e.moves.halt()
	b.mark(token, old, to)
	e.moves.resume()
}

// askedCut handles what an UNSUBSCRIBE of a node says about a move. handled is false for something else.
func (c *Conn) askedCut(b *Batch, name string) (code packet.ReasonCode, handled bool) {
	rest, ok := strings.CutPrefix(name, cutPrefix)
	if !ok {
		return 0, false
	}
	from, token, ok := strings.Cut(rest, "/")
	if !ok || from == "" || token == "" || strings.Contains(token, "/") {
		return packet.TopicFilterInvalid, true
	}
	if store := b.e.durable.store; store.Err() != nil {
		return packet.QuotaExceeded, true
	}
	b.e.cut(b, from, c.session, token)
	return packet.Success, true
}

// askCuts asks nodes for the cuts that moves to this one wait for.
func (e *Engine) askCuts(b *Batch) {
	m, l := &e.moves, &e.links
	if !m.asking.Swap(false) {
		return
	}
	m.mu.Lock()
	list := make([]*arrival, 0, len(m.arriving))
	for _, s := range m.arriving {
		if mv := s.moving.Load(); mv != nil && mv.in != nil && mv.in.sure.Load() {
			list = append(list, mv.in)
		}
	}
	m.mu.Unlock()
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	quiet := len(l.changed) == 0
	conns := slices.Clone(l.conns)
	ready := make([]bool, len(conns))
	known := make([]uint64, len(conns))
	for i, c := range conns {
		ready[i], known[i] = c.link.up && !c.link.resync, c.link.known
	}
	l.mu.Unlock()
	if !quiet { // routes first
		m.asking.Store(true)
		return
	}
	for i, c := range conns {
		if !ready[i] || !c.link.begun {
			continue
		}
		var names []string
		for _, a := range list {
			bit := a.named(c.link.peer)
			if bit == 0 || c.link.peer == a.from || (a.marked.Load()|a.later.Load()|a.asked)&bit != 0 {
				continue
			}
			if known[i] < a.version {
				m.asking.Store(true)
				continue
			}
			a.asked |= bit
			names = append(names, cutPrefix+a.from+"/"+a.token)
		}
		c.askAll(b, names, false, 0, 0)
	}
}

// forgetAsked has a node asked again for cuts: it may not have got the question.
func (e *Engine) forgetAsked(peer string) {
	m := &e.moves
	e.links.sending.Lock()
	m.mu.Lock()
	for _, s := range m.arriving {
		if mv := s.moving.Load(); mv != nil && mv.in != nil {
			mv.in.asked &^= mv.in.named(peer)
		}
	}
	any := len(m.arriving) > 0
	m.mu.Unlock()
	e.links.sending.Unlock()
	if any {
		m.asking.Store(true)
	}
}

// homeAway is how long the old home of a session is away until what comes straight does not wait for it any more.
const homeAway = int64(3 * time.Second)

// homeSilent is how long nothing comes by way of the old home until what comes straight does not wait for it any more: a home before it may
// be away.
const homeSilent = int64(10 * time.Second)

// tickMoves asks for cuts, and gives up waiting for old homes that are away. e.stepping is held.
func (e *Engine) tickMoves(now int64) {
	m := &e.moves
	m.mu.Lock()
	if len(m.arriving) == 0 {
		m.mu.Unlock()
		return
	}
	list := make([]*Session, 0, len(m.arriving))
	for _, s := range m.arriving {
		list = append(list, s)
	}
	m.mu.Unlock()
	e.links.mu.Lock()
	up := map[string]bool{}
	for _, c := range e.links.conns {
		up[c.link.peer] = true
	}
	e.links.mu.Unlock()
	b := e.borrow()
	defer b.giveBack()
	unsure := false
	for _, s := range list {
		mv := s.moving.Load()
		if mv == nil || mv.in == nil {
			continue
		}
		unsure = unsure || !mv.in.sure.Load()
		if up[mv.in.from] {
			mv.in.lost = 0
		} else if mv.in.lost == 0 {
			mv.in.lost = now
		}
		e.registry.mu.RLock()
		s.mu.Lock()
		if !mv.in.blocked() || mv.in.heard == 0 {
			mv.in.heard = now
		} else if mv.in.lost != 0 && now-mv.in.lost >= homeAway || now-mv.in.heard >= homeSilent {
			mv.in.free = true
			s.unblock(b)
			s.tell(b)
		}
		s.mu.Unlock()
		e.registry.mu.RUnlock()
	}
	e.askCuts(b)
	if unsure && e.home() != nil && now-m.looked >= int64(time.Second) && m.looking.CompareAndSwap(false, true) {
		m.looked = now
		if !e.workers.start(func() { defer m.looking.Store(false); e.resolveAll(list) }) {
			m.looking.Store(false)
		}
	}
}

// resolveAll finds out about arrivals of which a crash, or a lost answer, has left open whether they came about.
func (e *Engine) resolveAll(list []*Session) {
	for _, s := range list {
		mv := s.moving.Load()
		if mv == nil || mv.in == nil || mv.in.sure.Load() || !mv.in.resolving.CompareAndSwap(false, true) {
			continue
		}
		ctx, cancel := context.WithTimeout(e.ctx, claimTime)
		e.resolve(ctx, s)
		cancel()
		mv.in.resolving.Store(false)
	}
}

// nodeGone has no move wait any more for a node that has lost its session here, or is no member.
func (e *Engine) nodeGone(b *Batch, peer string) {
	m := &e.moves
	m.mu.Lock()
	var in, out []*Session
	for _, s := range m.arriving {
		in = append(in, s)
	}
	for _, s := range m.left {
		out = append(out, s)
	}
	m.mu.Unlock()
	for _, s := range in {
		e.registry.mu.RLock()
		s.mu.Lock()
		if mv := s.moving.Load(); mv != nil && mv.in != nil && !s.dead {
			bit := mv.in.named(peer)
			mv.in.later.Store(mv.in.later.Load() &^ bit)
			if mv.in.from == peer { // nothing more comes from there
				mv.in.done.Store(mv.in.all())
				mv.in.later.Store(0)
				m.asking.Store(true)
			}
			mv.in.marked.Store(mv.in.marked.Load() | bit)
			mv.in.done.Store(mv.in.done.Load() | bit)
			s.putSession(b)
		}
		s.mu.Unlock()
		e.registry.mu.RUnlock()
		e.arrived(b, s)
	}
	for _, s := range out {
		mv := s.moving.Load()
		switch {
		case mv == nil || mv.out == nil:
		case mv.out.to == peer:
			e.endRemnant(b, s)
		case mv.out.named(peer) != 0:
			e.passed(b, s, mv.out, mv.out.named(peer))
		}
	}
}
