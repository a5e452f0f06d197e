package engine

import (
	"math/bits"
	"slices"
)

// A node is one member of a share group on the others, whatever members it has. How many these are is its weight there: a publication goes to
// each member of the cluster with the same chance. It travels as the subscription identifier of the SUBSCRIBE that tells the route, which
// a node that does not know of weights passes over: there every node counts as one. It is not stored: it is told anew on each connection.

// maxWeight bounds what a node may say of itself.
const maxWeight = 1 << 20

// toldWeight is what others are told of that number of members: exact up to 16, above that to an eighth, so that a large group that grows does
// not talk about each member.
func toldWeight(members int32) uint32 {
	n := uint32(max(members, 1))
	if drop := bits.Len32(n) - 4; n > 16 && drop > 0 {
		n = n >> drop << drop
	}
	return min(n, maxWeight)
}

// weighty is the share groups of which this node has several members, with the name of their subscription.
type weighty map[*shareGroup]string

// noteWeight notes that the group of u has now as many members here. r.mu and the node's lock are held.
func (r *router) noteWeight(u *sub, before, now int32) {
	if now > 1 && before <= 1 {
		if r.weighty == nil {
			r.weighty = weighty{}
		}
		r.weighty[u.group] = u.name
	} else if now <= 1 && before > 1 {
		delete(r.weighty, u.group)
	}
	if w := toldWeight(now); w != toldWeight(before) {
		r.links.noteWeight(u.name, w)
	}
}

// noteWeight notes what the nodes have to be told of a share group. router.mu is held.
func (l *links) noteWeight(name string, weight uint32) {
	if !l.on.Load() {
		return
	}
	l.mu.Lock()
	l.changed = append(l.changed, routeChange{name: name, there: true, weight: weight})
	l.version++
	l.mu.Unlock()
	l.pending.Store(true)
}

// weights is all that a node has to be told whose connection is new, those of one weight together. r.mu is held.
func (r *router) weights() []routeChange {
	var all []routeChange
	for g, name := range r.weighty {
		g.node.mu.Lock()
		all = append(all, routeChange{name: name, there: true, weight: toldWeight(g.here)})
		g.node.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b routeChange) int { return int(a.weight) - int(b.weight) })
	return all
}

// weigh sets the weight of a subscription of a node and reports whether there is such a subscription, to a share group.
func (s *Session) weigh(name string, weight uint32) bool {
	s.subMu.Lock()
	defer s.subMu.Unlock()
	u := s.subs.get(name)
	if u == nil || u.group == nil {
		return false
	}
	if weight == 0 {
		return true
	}
	u.node.mu.Lock()
	u.group.weigh(u, int32(min(weight, maxWeight)))
	u.node.mu.Unlock()
	return true
}

// weigh sets the weight of a member, which is a node or has the weight of one anyway. g.node.mu is held.
func (g *shareGroup) weigh(u *sub, weight int32) {
	before := max(u.weight, 1)
	if weight == before {
		return
	}
	g.extra += int(weight - before)
	u.weight = weight
	if i := slices.Index(g.heavy, u); i < 0 {
		g.heavy = append(g.heavy, u)
	} else if weight == 1 {
		g.heavy = slices.Delete(g.heavy, i, i+1)
	}
}

// at gives the member of a slot: each has one, in order, and behind them each node the rest of its weight. left is how many slots of that rest
// there are from this one on, 0 for one of the first kind. g.node.mu is held.
func (g *shareGroup) at(slot int) (m *sub, left int) {
	if slot < len(g.members) {
		return g.members[slot], 0
	}
	slot -= len(g.members)
	for _, m := range g.heavy {
		rest := int(m.weight) - 1
		if slot < rest {
			return m, rest - slot
		}
		slot -= rest
	}
	return g.members[0], 0 // unreachable: extra is the sum of what heavy has
}
