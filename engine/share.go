package engine

import (
	"hash/maphash"
	"slices"
)

// shareGroup is a shared subscription: each message goes to one of its members. Its fields are guarded by node.mu.
type shareGroup struct {
	node    *filterNode
	name    string
	members []*sub
	next    uint32 // of round robin
	sticky  *sub
	here    int32  // members that other nodes are told of
	heavy   []*sub // the members that are nodes and have more than one member there
	extra   int    // what their weights have above one, together
	word    string // what a link tells in place of the name of a group; no group then
}

// groupOf gives the group of that name and makes it if need be. n.mu is held.
func (n *filterNode) groupOf(name string) *shareGroup {
	for _, g := range n.groups {
		if g.name == name {
			return g
		}
	}
	g := &shareGroup{node: n, name: name}
	n.groups = append(n.groups, g)
	return g
}

// dropGroup removes an empty group. n.mu is held.
func (n *filterNode) dropGroup(g *shareGroup) {
	if i := slices.Index(n.groups, g); i >= 0 {
		n.groups = slices.Delete(n.groups, i, i+1)
	}
}

var shareSeed = maphash.MakeSeed()

// maxShareScan is how many members a pick looks at to find a connected one. Groups with more disconnected members in a row
// get an occasional message into the queue of one of these.
const maxShareScan = 256

// shareDraws is how often a pick by chance draws before it looks at one member after the other.
const shareDraws = 8

// pick chooses a member for a message from that publisher, other than not: a connected one if there is any, else one whose
// session queues. A node counts as often as it has members. here leaves other nodes out, and what does not get
// messages of theirs. nil if there is none.
func (g *shareGroup) pick(b *Batch, strategy SharedStrategy, from string, not *Session, here bool) *sub {
	g.node.mu.Lock()
	defer g.node.mu.Unlock()
	n := len(g.members)
	if n == 0 {
		return nil
	}
	slots := n + g.extra
	if here {
		slots = n // nodes are left out
	}
	may := func(m *sub) bool { return m.s != not && !(here && m.counter() == nil) }
	start := 0
	switch strategy {
	case SharedRoundRobin:
		start = int(g.next % uint32(slots))
		for range len(g.heavy) { // a node that is away is passed over with all of its weight
			m, left := g.at(start)
			if left == 0 {
				break
			}
			if may(m) && m.s.conn.Load() != nil {
				g.next = uint32(start) + 1
				g.sticky = m
				return m
			}
			start = (start + left) % slots
		}
		g.next = uint32(start) + 1
		m, _ := g.at(start)
		start = m.pos
	case SharedHash:
		m, _ := g.at(int(maphash.String(shareSeed, from) % uint64(slots)))
		start = m.pos
	case SharedSticky:
		if g.sticky != nil && may(g.sticky) && g.sticky.s.conn.Load() != nil {
			return g.sticky
		}
		fallthrough
	default:
		// Another draw in place of who is away: what stands behind it would get its part.
		for range shareDraws {
			m, _ := g.at(int(b.random() % uint32(slots)))
			if start = m.pos; may(m) && m.s.conn.Load() != nil {
				g.sticky = m
				return m
			}
		}
	}
	var offline *sub
	for i := range min(n, maxShareScan) {
		m := g.members[(start+i)%n]
		if !may(m) {
			continue
		}
		if m.s.conn.Load() != nil {
			if strategy == SharedRoundRobin {
				g.next += uint32(i)
			}
			g.sticky = m
			return m
		}
		if offline == nil {
			offline = m
		}
	}
	return offline
}
