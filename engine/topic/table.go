package topic

import (
	"hash/maphash"
	"sync/atomic"
)

// node is one entry of a table: a whole name or filter without wildcards (parent is nil), or one level of a filter with
// wildcards below its parent level. 64 bytes, one cache line.
type node[T any] struct {
	parent   *node[T]
	key      string
	hash     uint64
	value    atomic.Pointer[T]       // of the name or filter that ends here
	rest     atomic.Pointer[T]       // of the filter that ends with # below here
	plus     atomic.Pointer[node[T]] // the level + below here
	literals atomic.Int32            // levels below here that are in the table
}

// shardBits is how many bits of a hash choose the shard.
const shardBits = 8

// table is a hash table of nodes by parent and key. Readers take no lock; writers are serialised by the owner of the table. It
// is cut into shards so that growing, which copies the slots of a shard, is short work also among millions of nodes.
type table[T any] struct {
	shards [1 << shardBits]atomic.Pointer[slots[T]]
}

// slots is one generation of a shard: open addressing with linear probing. A slot gets a node once in the life of the
// generation and afterwards is at most buried; so a reader sees any node either as it is or not at all.
type slots[T any] struct {
	slot []slot[T] // a power of two; nil nodes end a probe
	used int       // slots that have had a node; writers only
	live int       // of these, not buried; writers only
	dead node[T]   // stands in buried slots and equals nothing
}

type slot[T any] struct {
	node atomic.Pointer[node[T]]
	tag  atomic.Uint32 // part of the hash, so that a probe need not look at other nodes
}

const minSlots = 8

// seed makes the hashes unpredictable: strangers choose the keys.
var seed = maphash.MakeSeed()

// hashOf hashes a key below a parent.
func hashOf[T any, S text](parent *node[T], key S) uint64 {
	var h uint64
	switch k := any(key).(type) {
	case string:
		h = maphash.String(seed, k)
	case []byte:
		h = maphash.Bytes(seed, k)
	}
	if parent != nil {
		h ^= parent.hash
		h *= 0x9E3779B97F4A7C15
		h ^= h >> 32
	}
	return h
}

// find gives the node with that hash, parent and key, or nil.
func find[T any, S text](t *table[T], h uint64, parent *node[T], key S) *node[T] {
	s := t.shards[h>>(64-shardBits)].Load()
	if s == nil {
		return nil
	}
	mask := uint64(len(s.slot) - 1)
	for i := h >> 20; ; i++ {
		slot := &s.slot[i&mask]
		n := slot.node.Load()
		if n == nil {
			return nil
		}
		if slot.tag.Load() == uint32(h) && n.parent == parent && n.key == string(key) {
			return n
		}
	}
}

// insert adds a node that is not in the table. The caller excludes other writers.
func (t *table[T]) insert(n *node[T]) {
	shard := &t.shards[n.hash>>(64-shardBits)]
	s := shard.Load()
	if s == nil || s.used >= len(s.slot)/4*3 {
		s = s.grow()
		s.put(n)
		shard.Store(s)
		return
	}
	s.put(n)
}

// put stores n in the first free slot. The tag goes first, because a reader looks at it after the node.
func (s *slots[T]) put(n *node[T]) {
	mask := uint64(len(s.slot) - 1)
	i := n.hash >> 20
	for s.slot[i&mask].node.Load() != nil {
		i++
	}
	s.slot[i&mask].tag.Store(uint32(n.hash))
	s.slot[i&mask].node.Store(n)
	s.used++
	s.live++
}

// grow gives a copy of s without the buried slots and with room for as many nodes again.
func (s *slots[T]) grow() *slots[T] {
	size, live := minSlots, 0
	if s != nil {
		live = s.live
	}
	for size/4*3 <= live+live/2 {
		size *= 2
	}
	c := &slots[T]{slot: make([]slot[T], size)}
	c.dead.parent = &c.dead
	if s != nil {
		for i := range s.slot {
			if n := s.slot[i].node.Load(); n != nil && n != &s.dead {
				c.put(n)
			}
		}
	}
	return c
}

// remove takes a node out that is in the table. The caller excludes other writers.
func (t *table[T]) remove(n *node[T]) {
	shard := &t.shards[n.hash>>(64-shardBits)]
	s := shard.Load()
	mask := uint64(len(s.slot) - 1)
	i := n.hash >> 20
	for s.slot[i&mask].node.Load() != n {
		i++
	}
	s.slot[i&mask].node.Store(&s.dead)
	s.live--
	switch {
	case s.live == 0:
		shard.Store(nil)
	case len(s.slot) > minSlots && s.live < len(s.slot)/8:
		shard.Store(s.grow())
	}
}
