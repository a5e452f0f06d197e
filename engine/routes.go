package engine

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// The routes of a node are what its clients have subscribed to: each filter once, and each share group of a filter once. Other nodes
// hold them as subscriptions of the session that they have for the node.

// routeChange is a route that is new, or gone, or a share group that has another number of members.
type routeChange struct {
	name   string
	there  bool
	weight uint32 // of the share group; 0 says nothing of it
}

// routeSum stands for a set of routes. Equal sums are taken for equal sets.
type routeSum struct {
	count int
	hash  uint64 // of the names, added up
}

func (r *routeSum) change(name string, there bool) {
	h := fnv.New64a()
	h.Write([]byte(name)) // never fails
	x := spread(h.Sum64())
	if there {
		r.count++
		r.hash += x
	} else {
		r.count--
		r.hash -= x
	}
}

// The names by which nodes speak about all routes, in UNSUBSCRIBE: nobody can have subscribed to them.
const (
	routesBegin = LinkPrefix + "begin" // all routes follow
	routesEnd   = LinkPrefix + "end"   // these were all
	routesEqual = LinkPrefix + "equal/"
)

// probeName asks whether r is what the other node has.
func (r routeSum) probeName() string {
	return routesEqual + strconv.Itoa(r.count) + "/" + strconv.FormatUint(r.hash, 16)
}

// crosses reports whether other nodes are told of subscriptions to the filter, which has no prefix of a shared subscription.
func crosses(filter string) bool {
	_, local := topic.CutLocal(filter)
	return !local && !isSys(filter)
}

// counter gives where the subscription u counts for the routes of this node, nil if it does not. node.mu is held.
func (u *sub) counter() *int32 {
	if u.s.link != nil || !crosses(u.Filter) {
		return nil
	}
	if u.group != nil {
		return &u.group.here
	}
	return &u.node.plain
}

// noteRoute notes a change of the routes of this node. router.mu is held.
func (l *links) noteRoute(name string, there bool) {
	if !l.on.Load() {
		return
	}
	l.mu.Lock()
	l.changed = append(l.changed, routeChange{name: name, there: there})
	l.version++
	l.routes.change(name, there)
	l.mu.Unlock()
	l.pending.Store(true)
}

// noteRoutes begins to note changes of routes.
func (e *Engine) noteRoutes() {
	l := &e.links
	e.router.mu.Lock()
	defer e.router.mu.Unlock()
	if l.on.Load() {
		return
	}
	l.mu.Lock()
	for name := range e.router.routes {
		l.routes.change(name, true)
	}
	l.mu.Unlock()
	l.on.Store(true)
}

// routes gives the routes of this node, for a range loop. r.mu is held.
func (r *router) routes(yield func(string) bool) {
	r.rowsMu.RLock()
	defer r.rowsMu.RUnlock()
	for filter := range r.rows.Ascend(anyWeight, "") {
		if !crosses(filter) {
			continue
		}
		node := r.trie.Get(filter)
		if node == nil {
			continue
		}
		node.mu.Lock()
		var names []string
		if node.plain > 0 {
			names = append(names, filter)
		}
		for _, g := range node.groups {
			if g.here > 0 {
				names = append(names, Subscription{Filter: filter, Share: g.name}.Name())
			}
		}
		node.mu.Unlock()
		for _, name := range names {
			if !yield(name) {
				return
			}
		}
	}
}

// routeVersion gives what a node has to have acknowledged so that it knows all routes as they are now; 0: there are no other nodes.
func (e *Engine) routeVersion() uint64 {
	l := &e.links
	if !l.on.Load() {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version
}

// sendRoutes tells all nodes what has changed, and those that are new, or have something else, all.
func (e *Engine) sendRoutes(b *Batch) {
	l := &e.links
	l.sending.Lock()
	defer l.sending.Unlock()
	if !l.pending.Swap(false) {
		return
	}
	l.mu.Lock()
	whole := slices.ContainsFunc(l.conns, func(c *Conn) bool { return c.link.resync })
	fresh := slices.ContainsFunc(l.conns, func(c *Conn) bool { return !c.link.begun })
	l.mu.Unlock()
	var all []string
	var weights []routeChange
	if whole || fresh {
		e.router.mu.Lock() // all of them and what has changed are one state
		weights = e.router.weights()
	}
	if whole {
		for name := range e.router.routes {
			all = append(all, name)
		}
	}
	l.mu.Lock()
	changed, version, sum, conns := l.changed, l.version, l.routes, l.conns
	l.changed = nil
	var again []*Conn
	if whole {
		for _, c := range conns {
			if c.link.resync {
				c.link.resync = false
				again = append(again, c)
			}
		}
	}
	l.mu.Unlock()
	if whole || fresh {
		e.router.mu.Unlock()
	}
	for _, c := range conns {
		c.mu.Lock()
		ready := c.ready
		c.mu.Unlock()
		switch {
		case !ready:
		case !c.link.begun:
			c.link.begun = true
			c.askChanges(b, weights, 0)
			c.ask(b, nil, []string{sum.probeName()}, version, true)
			c.compareRetained(b)
		case slices.Contains(again, c):
			c.ask(b, nil, []string{routesBegin}, 0, false)
			c.askAll(b, all, true, 0, 0)
			c.askChanges(b, weights, 0)
			c.ask(b, nil, []string{routesEnd}, version, true)
		case len(changed) > 0:
			c.askChanges(b, changed, version)
		}
	}
}

// probeRoutes compares the routes of this node with what the others have, unless they are being told.
func (e *Engine) probeRoutes(b *Batch) {
	l := &e.links
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	quiet, sum, version, conns := len(l.changed) == 0, l.routes, l.version, l.conns
	l.mu.Unlock()
	if !quiet {
		return
	}
	for _, c := range conns {
		if c.link.begun {
			c.ask(b, nil, []string{sum.probeName()}, version, true)
		}
	}
}

// Bounds of a SUBSCRIBE or UNSUBSCRIBE between nodes.
const (
	askMost  = 1000
	askBytes = 64 << 10
)

// askChanges tells the node of c what has changed, in order. links.sending is held.
func (c *Conn) askChanges(b *Batch, changed []routeChange, version uint64) {
	for from := 0; from < len(changed); {
		to := from + 1
		for to < len(changed) && changed[to].there == changed[from].there && changed[to].weight == changed[from].weight {
			to++
		}
		names := make([]string, 0, to-from)
		for _, x := range changed[from:to] {
			names = append(names, x.name)
		}
		last := uint64(0)
		if to == len(changed) {
			last = version
		}
		c.askAll(b, names, changed[from].there, changed[from].weight, last)
		from = to
	}
}

// askAll subscribes to names, all with a weight, or takes them back, in as many packets as it takes. links.sending is held.
func (c *Conn) askAll(b *Batch, names []string, there bool, weight uint32, version uint64) {
	for len(names) > 0 {
		n, size := 0, 0
		for n < len(names) && n < askMost && (n == 0 || size+len(names[n]) < askBytes) {
			size += len(names[n])
			n++
		}
		last := uint64(0)
		if n == len(names) {
			last = version
		}
		if there {
			c.askWeighed(b, names[:n], nil, weight, last, false)
		} else {
			c.ask(b, nil, names[:n], last, false)
		}
		names = names[n:]
	}
}

// ask sends one SUBSCRIBE or UNSUBSCRIBE. whole says that the node knows all routes of version when it answers, if it says that they are equal.
// links.sending is held.
func (c *Conn) ask(b *Batch, subscribe, unsubscribe []string, version uint64, whole bool) {
	c.askWeighed(b, subscribe, unsubscribe, 0, version, whole)
}

// askWeighed is ask with a weight for what is subscribed to. links.sending is held.
func (c *Conn) askWeighed(b *Batch, subscribe, unsubscribe []string, weight uint32, version uint64, whole bool) {
	k := c.link
	probe := whole && unsubscribe[0] != routesEnd
	if k.id++; k.id == 0 {
		k.id = 1
	}
	var p []byte
	if subscribe != nil {
		s := packet.Subscribe{PacketID: k.id, SubscriptionID: weight}
		for _, name := range subscribe {
			s.Filters = append(s.Filters, packet.Subscription{Filter: name, QoS: 2, RetainAsPublished: true, RetainHandling: packet.RetainSendNever})
		}
		p = s.Append(nil, packet.V5)
	} else {
		u := packet.Unsubscribe{PacketID: k.id, Filters: unsubscribe}
		p = u.Append(nil, packet.V5)
	}
	l := &b.e.links
	l.mu.Lock()
	k.asked = append(k.asked, askedNode{k.id, probe, whole, version, b.now})
	l.mu.Unlock()
	c.send(b, p)
}

// answered handles SUBACK and UNSUBACK of a node.
func (c *Conn) answered(b *Batch, id uint16, codes []packet.ReasonCode) Next {
	l, k := &b.e.links, c.link
	l.mu.Lock()
	if len(k.asked) == 0 || k.asked[0].id != id {
		l.mu.Unlock()
		return c.fail(b, packet.ProtocolError)
	}
	a := k.asked[0]
	k.asked = k.asked[1:]
	if slices.ContainsFunc(codes, packet.ReasonCode.Failed) { // its store refuses: all is tried again on the next connection
		l.mu.Unlock()
		c.end(b, ending{reason: ReasonBusy, code: packet.ServerBusy})
		return Stop
	}
	if a.probe && codes[0] != packet.Success {
		k.resync = true
		l.pending.Store(true)
		if k.up {
			b.e.log.Warn("a node has other routes of this one than it should: it is told all of them", "id", k.peer)
		}
	} else {
		k.known = max(k.known, a.version)
		if a.whole && !k.up {
			k.up = true
			b.e.moves.asking.Store(true)
		}
	}
	if len(k.asked) == 0 || b.now-k.asked[0].at < l.patience.Load() {
		k.late = false
	}
	l.settle()
	l.mu.Unlock()
	b.e.Progress()
	return ReadOn
}

// askedAbout handles what an UNSUBSCRIBE of a node says about all its routes. handled is false for a route.
func (c *Conn) askedAbout(b *Batch, name string) (code packet.ReasonCode, handled bool) {
	if !strings.HasPrefix(name, LinkPrefix) {
		return 0, false
	}
	if code, handled := c.askedCut(b, name); handled {
		return code, true
	}
	s := c.session
	switch {
	case name == routesBegin:
		c.link.given = map[string]struct{}{}
	case name == routesEnd:
		s.subMu.Lock()
		all := s.subs.all()
		s.subMu.Unlock()
		for _, u := range all {
			if _, there := c.link.given[u.name]; !there {
				b.e.cutSub(b, s, u.name)
			}
		}
		c.link.given = nil
	default:
		s.subMu.Lock()
		equal := name == s.link.routes.probeName()
		s.subMu.Unlock()
		if !equal {
			return packet.NoSubscriptionExisted, true
		}
	}
	return packet.Success, true
}

// unsubscribeLink handles one filter of the UNSUBSCRIBE of a node.
func (c *Conn) unsubscribeLink(b *Batch, name string) packet.ReasonCode {
	if code, handled := c.askedAbout(b, name); handled {
		return code
	}
	b.e.cutSub(b, c.session, name)
	if c.link.given != nil {
		delete(c.link.given, name)
	}
	return packet.Success
}

// handleAnswer handles what only servers send to clients, and nodes to each other.
func (c *Conn) handleAnswer(b *Batch, h packet.Header, body []byte) Next {
	switch h.Type {
	case packet.TypeSuback:
		var p packet.Suback
		if err := p.Decode(c.version, h.Flags, body); err != nil {
			return c.fail(b, err)
		}
		return c.answered(b, p.PacketID, p.Codes)
	case packet.TypeUnsuback:
		var p packet.Unsuback
		if err := p.Decode(c.version, h.Flags, body); err != nil {
			return c.fail(b, err)
		}
		return c.answered(b, p.PacketID, p.Codes)
	case packet.TypePingresp:
		return ReadOn
	}
	return c.fail(b, packet.ProtocolError)
}

// subscribeLink handles one filter of the SUBSCRIBE of a node, with the weight of a share group or 0.
func (c *Conn) subscribeLink(b *Batch, f packet.Subscription, weight uint32) packet.ReasonCode {
	group, filter, _, ok := topic.ParseShare(f.Filter)
	if !ok || !crosses(filter) {
		return packet.TopicFilterInvalid
	}
	x := Subscription{Filter: filter, Share: group, QoS: f.QoS, RetainAsPublished: true, RetainHandling: packet.RetainSendNever}
	if weight == 0 || !c.session.weigh(f.Filter, weight) { // what only has another weight is not stored again
		if _, code := b.e.addSub(b, c.session, x); code.Failed() {
			return code
		}
		c.session.weigh(f.Filter, weight)
	}
	if c.link.given != nil {
		c.link.given[f.Filter] = struct{}{}
	}
	return packet.ReasonCode(x.QoS)
}
