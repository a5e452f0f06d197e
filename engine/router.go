package engine

import (
	"sync"
	"sync/atomic"

	"github.com/lacewing-mqtt/lacewing/engine/internal/ordered"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// sub is one subscription of a session. Its options never change: another SUBSCRIBE to the filter replaces it.
type sub struct {
	Subscription
	name string // as the client wrote it, behind the mountpoint
	s    *Session
	feed *retainedFeed // of retained messages; guarded by Session.mu
	ids  *[]uint32     // the identifier as deliveries want it; nil without one

	node  *filterNode
	group *shareGroup // nil for an ordinary subscription
	pos   int         // in node.subs or group.members; guarded by node.mu
	// weight is how many members of the group the node has whose subscription it is; 0 is one. Guarded by node.mu.
	weight int32
}

// filterNode is what the trie holds for a filter: everybody who subscribed to it.
type filterNode struct {
	filter string // without $local/

	mu     sync.Mutex
	subs   []*sub
	groups []*shareGroup
	local  int32 // how many of the clients' subs and members of groups have the prefix $local/
	global int32 // the others
	plain  int32 // how many of the clients' subs other nodes are told of
	far    int32 // how many of subs and members of groups are those of other nodes
}

// foreign reports whether nobody but other nodes wants the filter. n.mu is held.
func (n *filterNode) foreign() bool { return n.local+n.global == 0 }

// router finds the subscriptions of a topic.
type router struct {
	trie topic.Trie[filterNode]
	// generation changes after each change of a subscription; results of match are current as long as it does not.
	generation atomic.Uint64
	mu         sync.Mutex // excludes changes
	foreign    int        // filters that nobody but other nodes wants; guarded by mu
	weighty    weighty    // guarded by mu
	links      *links

	rowsMu sync.RWMutex // taken after mu
	rows   ordered.Tree[string, struct{}]
}

// row adds or removes a row of the table of routes. r.mu is held.
func (r *router) row(filter string, there bool) {
	r.rowsMu.Lock()
	defer r.rowsMu.Unlock()
	if there {
		r.rows.Set(filter, struct{}{}, ordered.Weights{1})
	} else {
		r.rows.Delete(filter)
	}
}

func (r *router) rowCount() int64 {
	r.rowsMu.RLock()
	defer r.rowsMu.RUnlock()
	return int64(r.rows.Len())
}

// insert adds n, or puts it in the place of old, which has the same name and session.
func (r *router) insert(n, old *sub) {
	filter, local := topic.CutLocal(n.Filter)
	r.mu.Lock()
	defer r.mu.Unlock()
	node, _ := r.trie.GetOrInsert(filter, func() *filterNode { return &filterNode{filter: filter} })
	n.node = node
	node.mu.Lock()
	list := &node.subs
	if n.Share != "" {
		n.group = node.groupOf(n.Share)
		list = &n.group.members
	}
	if old != nil {
		n.pos = old.pos
		(*list)[n.pos] = n
		if g := n.group; g != nil && g.sticky == old {
			g.sticky = n
		}
		if old.weight > 1 {
			n.group.weigh(old, 1)
			n.group.weigh(n, old.weight)
		}
	} else {
		n.pos = len(*list)
		*list = append(*list, n)
		r.count(n, local, 1)
	}
	node.mu.Unlock()
	r.generation.Add(1)
}

// remove takes o out, which is in.
func (r *router) remove(o *sub) {
	_, local := topic.CutLocal(o.Filter)
	r.mu.Lock()
	defer r.mu.Unlock()
	node := o.node
	node.mu.Lock()
	list := &node.subs
	if o.group != nil {
		list = &o.group.members
	}
	last := len(*list) - 1
	(*list)[o.pos] = (*list)[last]
	(*list)[o.pos].pos = o.pos
	(*list)[last] = nil
	*list = (*list)[:last]
	if cap(*list) > 64 && cap(*list) > 4*last {
		*list = append(make([]*sub, 0, 2*last), *list...)
	}
	if g := o.group; g != nil {
		g.weigh(o, 1)
		if g.sticky == o {
			g.sticky = nil
		}
		if last == 0 {
			node.dropGroup(g)
		}
	}
	r.count(o, local, -1)
	empty := node.foreign() && node.far == 0
	node.mu.Unlock()
	if empty {
		r.trie.Delete(node.filter)
	}
	r.generation.Add(1)
}

// count notes that u has come, d = 1, or goes, d = -1: in the table of routes and, for other nodes, in the routes of this one.
// r.mu and node.mu are held.
func (r *router) count(u *sub, local bool, d int32) {
	node := u.node
	before := node.foreign() && node.far > 0
	switch {
	case u.s.link != nil:
		node.far += d
	case local:
		if node.local += d; node.local == max(d, 0) {
			r.row(u.Filter, d > 0)
		}
	default:
		if node.global += d; node.global == max(d, 0) {
			r.row(u.Filter, d > 0)
		}
	}
	if here := u.counter(); here != nil {
		if *here += d; *here == max(d, 0) {
			r.links.noteRoute(u.name, d > 0)
		} else if u.group != nil {
			r.noteWeight(u, *here-d, *here)
		}
	}
	if after := node.foreign() && node.far > 0; after && !before {
		r.foreign++
	} else if before && !after {
		r.foreign--
	}
}

// topics is how many filters clients have subscribed to, without $local/.
func (r *router) topics() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(r.trie.Len() - r.foreign)
}

// delivery is one session of a match result, with what its matching subscriptions come to.
type delivery struct {
	s   *Session
	ids *[]uint32 // subscription identifiers [MQTT-3.3.4-3] [MQTT-3.3.4-4]
	// self holds in place of this one for the publisher's own session, when some but not all subscriptions are no-local.
	self    *delivery
	qos     packet.QoS
	noLocal bool // not to the publisher's own session [MQTT-3.8.3-3]
	rap     bool // retain as published
}

// match fills en with the current subscriptions of its topic.
func (r *router) match(b *Batch, en *topicEntry) {
	en.generation = r.generation.Load()
	en.empty()
	b.name = append(b.name[:0], en.topic...)
	nodes := r.trie.Match(b.name, b.nodes[:0])
	several := len(nodes) > 1
	for _, node := range nodes {
		node.mu.Lock()
		for _, u := range node.subs {
			if u.s.link != nil || en.crossed && !crosses(u.Filter) {
				en.far(u)
			} else if several {
				b.overlap(en, u)
			} else {
				en.deliveries = append(en.deliveries, u.delivery())
			}
		}
		en.groups = append(en.groups, node.groups...)
		node.mu.Unlock()
	}
	if several {
		clear(b.seen)
	}
	clear(nodes)
	b.nodes = nodes[:0]
}

func (u *sub) delivery() delivery {
	return delivery{s: u.s, ids: u.ids, qos: u.QoS, noLocal: u.NoLocal, rap: u.RetainAsPublished}
}

// overlap adds u to the deliveries of en, or to that of its session if there is one: a session gets one copy with the highest
// QoS and all identifiers [MQTT-3.3.5-1] [MQTT-3.3.4-2] [MQTT-3.3.4-4].
func (b *Batch) overlap(en *topicEntry, u *sub) {
	i, there := b.seen[u.s]
	if !there {
		b.seen[u.s] = int32(len(en.deliveries))
		en.deliveries = append(en.deliveries, u.delivery())
		return
	}
	d := &en.deliveries[i]
	n := u.delivery()
	switch {
	case d.noLocal && !n.noLocal:
		self := n
		d.self = &self
	case !d.noLocal && n.noLocal && d.self == nil:
		self := *d
		d.self = &self
	case d.self != nil && !n.noLocal:
		d.self.merge(n)
	}
	noLocal := d.noLocal && n.noLocal
	d.merge(n)
	d.noLocal = noLocal
}

func (d *delivery) merge(n delivery) {
	d.qos = max(d.qos, n.qos)
	d.rap = d.rap || n.rap
	if n.ids == nil {
		return
	}
	if d.ids == nil {
		d.ids = n.ids
		return
	}
	ids := append(append(make([]uint32, 0, len(*d.ids)+len(*n.ids)), *d.ids...), *n.ids...)
	d.ids = &ids
}
