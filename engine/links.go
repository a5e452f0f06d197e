package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// A link carries messages to another node and from it. It is the connection of a durable session, like that of a client, with the
// engine of the other node at its far end: what one of them writes the other reads. PUBLISH and its acknowledgements mean the same
// in both directions, so the session of the node holds what is on the way to it, and the QoS 2 identifiers of what it sends.
// DESIGN.md of package cluster says what crosses and how.

// LinkPrefix begins the client ids of the sessions of other nodes. Clients may not use it.
const LinkPrefix = "$node/"

// The defaults of SetLinkQueue and SetLinkPatience.
const (
	DefaultLinkQueue    = 256 << 20
	DefaultLinkPatience = 100 * time.Millisecond
)

// links is all sessions of other nodes and their connections.
type links struct {
	zone     *zoneRef
	listener *Listener
	on       atomic.Bool  // routes are noted: there is a session of another node, or was
	limit    atomic.Int64 // bytes that may wait for one node
	patience atomic.Int64 // how long SUBACKs wait for a node, ns
	full     atomic.Int32 // sessions that have reached it
	// retaining is how many nodes with connections agree with this one on retained messages.
	retaining atomic.Int32
	pending   atomic.Bool   // there is something for sendRoutes
	settled   atomic.Uint64 // every node that is up knows the routes up to this version
	pinged    int64         // used by Advance only: when the nodes were asked last
	probed    int64         // used by Advance only: when the routes were compared last

	sending sync.Mutex // one sendRoutes at a time; taken before router.mu and Conn.mu

	mu      sync.Mutex // a leaf
	conns   []*Conn
	changed []routeChange // what nobody was told yet
	version uint64        // counts changes of routes
	routes  routeSum      // of the routes of this node
}

// linkSession is what the session of a node has more than those of clients.
type linkSession struct {
	routes routeSum    // of the node, which are the subscriptions of the session; guarded by Session.subMu
	full   atomic.Bool // it counts in links.full
}

// linkConn is what the connection of a node has more than those of clients.
type linkConn struct {
	peer     string
	retains  bool // it agrees with this one on retained messages
	retained linkRetained

	// Guarded by links.sending.
	begun bool
	id    uint16 // of the SUBSCRIBE or UNSUBSCRIBE sent last

	// Guarded by links.mu.
	resync bool        // the node has other routes than this one thinks
	asked  []askedNode // what it has not acknowledged, in order
	known  uint64      // version of the routes that it has acknowledged
	up     bool        // it has once had all
	late   bool        // it is not waited for

	given map[string]struct{} // routes of the node that came since it began to tell all; used by Feed only
}

// askedNode is a SUBSCRIBE or UNSUBSCRIBE that a node has to acknowledge.
type askedNode struct {
	id      uint16
	probe   bool   // compares the routes
	whole   bool   // with the version the node knows all of them
	version uint64 // that the node knows then; 0: more follows
	at      int64
}

// LinkOptions say whose link it is.
type LinkOptions struct {
	// Peer is the identity of the other node.
	Peer string
	// Epoch names the pair of sessions, here and there. Both ends have to agree on it.
	Epoch string
	// Resume goes on with the session of that epoch; else a new one takes its place, and what waits in the old one is lost.
	Resume bool
	// Retained says that both ends tell each other of retained messages.
	Retained bool
}

// LinkInfo describes the link to a node.
type LinkInfo struct {
	Peer       string
	Connected  bool
	Up         bool // it is connected and knows the routes of this node
	Late       bool // it owes an acknowledgement of routes, and SUBACKs do not wait for it
	Routes     int  // that it has
	Queue      int  // messages of QoS 1 and 2 that wait for it or for its acknowledgement
	QueueBytes int  // of those that have not been sent yet
	Retained   bool // the nodes tell each other of retained messages
	Differ     int  // parts of them, of 256, that differed when this node looked at it last; only one of the two does
}

// beginLinks prepares what is there whether or not there are other nodes.
func (e *Engine) beginLinks() error {
	l := &e.links
	l.limit.Store(DefaultLinkQueue)
	l.patience.Store(int64(DefaultLinkPatience))
	l.settled.Store(math.MaxUint64)
	z := Zone{
		IdleTimeout: 5 * time.Second, KeepAliveBackoff: 0.75, WildcardSubscription: true, SharedSubscription: true,
		RetainAvailable: true, MaxQoS: 2,
	}
	if err := z.Validate(); err != nil {
		return err
	}
	l.zone = &zoneRef{name: LinkPrefix}
	l.zone.value.Store(&z)
	l.listener = &Listener{e: e, shutdown: map[string]int64{}}
	l.listener.opts.Store(&listenerState{ListenerOptions{Name: "link", Protocol: "mqtt:link"}, l.zone})
	e.router.links = l
	return nil
}

// OpenLink makes the connection of another node, which is not held against access rules and hooks: who calls it knows who is there. The
// driver feeds o.Hello before what comes from the other end. It needs a store.
func (e *Engine) OpenLink(o LinkOptions, info ConnInfo, t Transport) (*Conn, error) {
	if e.durable.store == nil {
		return nil, fmt.Errorf("link: %w", ErrStore)
	}
	e.noteRoutes()
	e.retainer.keepLedger()
	c, err := e.links.listener.Accept(info, t)
	if err != nil {
		return nil, err
	}
	c.link = &linkConn{peer: o.Peer, retains: o.Retained}
	return c, nil
}

// Hello is the CONNECT of the link.
func (o LinkOptions) Hello() []byte {
	p := packet.Connect{
		Version: packet.V5, ClientID: LinkPrefix + o.Peer, HasUsername: true, Username: o.Epoch, CleanStart: !o.Resume,
		KeepAlive: linkPatience, SessionExpiry: packet.SessionNeverExpires, ReceiveMaximum: packet.DefaultReceiveMaximum,
	}
	return p.Append(nil, packet.V5)
}

const (
	linkPatience = 2                      // keep alive, seconds: a node that is silent for 3 s is away
	linkPing     = int64(time.Second)     // how often a node is asked
	linkProbe    = int64(5 * time.Second) // how often the routes are compared
)

// linkSessionOf gives the session of a node, or nil.
func (e *Engine) linkSessionOf(peer string) *Session {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	s, _ := e.registry.tree.Get(LinkPrefix + peer)
	return s
}

// LinkEpoch gives the epoch of the session of a node, "" if there is none.
func (e *Engine) LinkEpoch(peer string) string {
	s := e.linkSessionOf(peer)
	if s == nil {
		return ""
	}
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	return s.username
}

// DropLink ends the session of a node that is none of the cluster any more, with its routes and with what waits for it. What a share
// group has given to it goes to other members.
func (e *Engine) DropLink(peer string) {
	s := e.linkSessionOf(peer)
	if s == nil {
		return
	}
	b := e.borrow()
	defer b.giveBack()
	if c := s.conn.Load(); c != nil {
		c.end(b, ending{reason: ReasonSessionEnded, code: packet.AdministrativeAction, endSession: true})
	}
	e.drop(b, s, ReasonSessionEnded)
	e.nodeGone(b, peer)
}

// SetLinkQueue sets how many bytes may wait for one node; 0: no limit. At it publishers whose messages would have to wait for the node
// are refused.
func (e *Engine) SetLinkQueue(bytes int64) {
	if bytes <= 0 {
		bytes = math.MaxInt64
	}
	e.links.limit.Store(bytes)
}

// SetLinkPatience sets how long the SUBACKs of clients wait for a node that has not acknowledged the subscription, to a tick of 100 ms.
func (e *Engine) SetLinkPatience(d time.Duration) { e.links.patience.Store(int64(d)) }

// Links describes the links in the order of the identities.
func (e *Engine) Links() (all []LinkInfo) {
	for _, s := range e.sessionsFrom(LinkPrefix) {
		if s.link == nil {
			break
		}
		i := LinkInfo{Peer: strings.TrimPrefix(s.clientID, LinkPrefix), Routes: int(s.subs.len.Load())}
		s.mu.Lock()
		i.Queue, i.QueueBytes = s.queue.n+s.window.live, s.queue.bytes
		c := s.conn.Load()
		s.mu.Unlock()
		if c != nil {
			e.links.mu.Lock()
			i.Connected, i.Up, i.Late = true, c.link.up, c.link.late
			e.links.mu.Unlock()
			i.Retained, i.Differ = c.link.retains, c.link.retained.describe()
		}
		all = append(all, i)
	}
	return all
}

// add takes a new connection in, whose session is open.
func (l *links) add(c *Conn) {
	l.mu.Lock()
	l.conns = append(slices.Clone(l.conns), c)
	l.mu.Unlock()
	if c.link.retains {
		l.retaining.Add(1)
	}
}

// drop forgets a connection that has ended.
func (e *Engine) dropLinkConn(c *Conn) {
	l := &e.links
	l.mu.Lock()
	was := c.link.retains && slices.Contains(l.conns, c)
	l.conns = slices.DeleteFunc(slices.Clone(l.conns), func(o *Conn) bool { return o == c })
	c.link.up = false
	l.settle()
	l.mu.Unlock()
	if was {
		l.retaining.Add(-1)
	}
	c.dropRetained(e)
	e.Progress()
	e.forgetAsked(c.link.peer)
}

// settle renews settled. l.mu is held.
func (l *links) settle() {
	least := uint64(math.MaxUint64)
	for _, c := range l.conns {
		if c.link.up && !c.link.late {
			least = min(least, c.link.known)
		}
	}
	l.settled.Store(least)
}

// tickLinks asks the nodes whether they are there, compares routes, and gives up waiting for those that are late. e.stepping is held.
func (e *Engine) tickLinks(now int64) {
	l := &e.links
	if !l.on.Load() {
		return
	}
	l.mu.Lock()
	conns := l.conns
	late := 0
	for _, c := range conns {
		k := c.link
		if k.up && !k.late && len(k.asked) > 0 && now-k.asked[0].at >= l.patience.Load() {
			k.late = true
			late++
			e.log.Warn("a node has not acknowledged routes in time: subscriptions do not wait for it", "id", k.peer)
		}
	}
	if late > 0 {
		l.settle()
	}
	l.mu.Unlock()
	if late > 0 {
		e.Progress()
	}
	e.tickMoves(now)
	if len(conns) == 0 || now-l.pinged < linkPing {
		return
	}
	l.pinged = now
	probe := now-l.probed >= linkProbe
	if probe {
		l.probed = now
	}
	b := e.borrow()
	defer b.giveBack()
	for _, c := range conns {
		c.mu.Lock()
		ready := c.ready
		c.mu.Unlock()
		if ready {
			c.send(b, (*packet.Pingreq)(nil).Append(nil, packet.V5))
		}
	}
	if probe {
		e.probeRoutes(b)
		for _, c := range conns {
			c.compareRetained(b)
		}
	}
}

// limitLink notes that so much waits for the node of s that publishers have to stop. s.mu is held.
func (s *Session) limitLink(b *Batch) {
	l := &b.e.links
	limit := l.limit.Load()
	if int64(s.queue.bytes) < limit || s.link.full.Swap(true) {
		return
	}
	l.full.Add(1)
	s.alarmed = true
	b.events = append(b.events, event{kind: evQueueAlarm, s: s, alarm: true, reason: fmt.Sprintf("%d bytes wait for the node: publications that it should get are refused", s.queue.bytes)})
}

// relaxLink undoes limitLink when enough has gone out. s.mu is held.
func (s *Session) relaxLink(b *Batch) {
	if !s.link.full.Load() || int64(s.queue.bytes) > b.e.links.limit.Load()/10*9 {
		return
	}
	s.link.full.Store(false)
	b.e.links.full.Add(-1)
	s.alarmed = false
	b.events = append(b.events, event{kind: evQueueAlarm, s: s})
}

// linkFull reports whether a message would have to wait for a node for which as much waits as may.
func (b *Batch) linkFull(m *Message, en *topicEntry) bool {
	if m.QoS == 0 || b.e.links.full.Load() == 0 {
		return false
	}
	b.route(en)
	return slices.ContainsFunc(en.links, func(d delivery) bool { return d.s.link.full.Load() })
}
