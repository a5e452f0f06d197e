package engine

import (
	"cmp"
	"container/heap"
	"slices"
	"sync"
	"time"
)

// ledger is what a node of a cluster knows of its retained messages so that it can be held against what another has: sums over parts of
// them, by the hash of the topic, and which topics were cleared, so that no node brings back what it did not hear the end of.
//
// Parts have two sizes: buckets, whose sums nodes compare all the time, and leaves, which are listed where they differ. A change costs the
// hash of its topic. Nodes alone have no ledger.
type ledger struct {
	mu      sync.Mutex // a leaf, taken after Names
	sums    [ledgerBuckets]uint64
	leaves  []ledgerLeaf
	cleared map[string]*clearedTopic
	oldest  clearedHeap
	bytes   int   // of cleared
	limit   int   // of bytes: the oldest is forgotten
	floor   Stamp // of those that were forgotten so, the greatest
}

const (
	ledgerBuckets = 256
	bucketLeaves  = 64
	leafBits      = 14 // ledgerBuckets * bucketLeaves

	// clearedFor is how long it is remembered that a topic was cleared: a node that is away for longer may bring its message back.
	clearedFor = 24 * time.Hour
	// clearedBytes bounds what is remembered of them.
	clearedBytes = 64 << 20
	clearedSize  = 160 // of one, besides its topic
)

// ledgerLeaf is one part: messages, topics that were cleared, and the sum of both.
type ledgerLeaf struct {
	sum     uint64
	live    []*retained
	cleared []*clearedTopic
}

// clearedTopic is a topic whose message was cleared.
type clearedTopic struct {
	topic  string
	stamp  Stamp
	slot   int      // in the leaf, from 0
	place  int      // in the heap; -1: it was forgotten, or has a message again
	stored bool     // the store has it
	at     Position // behind the record that says so
}

// due is when it is forgotten, ns since the epoch: the same on all nodes.
func (c *clearedTopic) due() int64 { return c.stamp.at() + int64(clearedFor) }

// clearedHeap has the one of the least stamp on top. It implements heap.Interface.
type clearedHeap []*clearedTopic

func (h clearedHeap) Len() int           { return len(h) }
func (h clearedHeap) Less(i, j int) bool { return h[i].stamp.Compare(h[j].stamp) < 0 }
func (h clearedHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}
func (h *clearedHeap) Push(x any) {
	c := x.(*clearedTopic)
	c.place = len(*h)
	*h = append(*h, c)
}
func (h *clearedHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	c.place = -1
	return c
}

// ledgerEntry is what a node tells of one topic. They are ordered by hash.
type ledgerEntry struct {
	hash    uint64
	stamp   Stamp
	size    uint32 // of the payload
	cleared bool
	topic   string // is not told
}

func newLedger() *ledger {
	return &ledger{leaves: make([]ledgerLeaf, ledgerBuckets*bucketLeaves), cleared: map[string]*clearedTopic{}, limit: clearedBytes}
}

// topicHash is the same on every node.
func topicHash(topic string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(topic) {
		h = (h ^ uint64(topic[i])) * 1099511628211
	}
	return spread(h)
}

func leafOf(hash uint64) int { return int(hash >> (64 - leafBits)) }

// share is what a message adds to sums.
func share(hash uint64, s Stamp) uint64 { return spread(hash ^ spread(s.Time^spread(s.Node))) }

// replace notes that now has taken the place of old; either may be nil. Names is locked.
func (l *ledger) replace(old, now *retained) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old != nil && old.slot > 0 {
		hash := topicHash(old.m.Topic)
		leaf := &l.leaves[leafOf(hash)]
		l.add(hash, -share(hash, old.m.stamp))
		last := leaf.live[len(leaf.live)-1]
		leaf.live[old.slot-1], last.slot = last, old.slot
		leaf.live[len(leaf.live)-1] = nil
		leaf.live = leaf.live[:len(leaf.live)-1]
		old.slot = 0
	}
	if now == nil {
		return
	}
	if c := l.cleared[now.m.Topic]; c != nil {
		l.forget(c)
	}
	hash := topicHash(now.m.Topic)
	leaf := &l.leaves[leafOf(hash)]
	l.add(hash, share(hash, now.m.stamp))
	leaf.live = append(leaf.live, now)
	now.slot = int32(len(leaf.live))
}

// add adds d to the sums of the parts with that hash. mu is held.
func (l *ledger) add(hash, d uint64) {
	i := leafOf(hash)
	l.leaves[i].sum += d
	l.sums[i/bucketLeaves] += d
}

// clear notes that a topic without a message was cleared. It gives what is to be remembered, and those that are forgotten for it, which it may be
// itself. Names is locked.
func (l *ledger) clear(topic string, s Stamp) (c *clearedTopic, over []*clearedTopic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.cleared[topic]; c != nil {
		l.forget(c)
	}
	hash := topicHash(topic)
	leaf := &l.leaves[leafOf(hash)]
	c = &clearedTopic{topic: topic, stamp: s, slot: len(leaf.cleared)}
	leaf.cleared = append(leaf.cleared, c)
	l.add(hash, share(hash, s))
	l.cleared[topic] = c
	heap.Push(&l.oldest, c)
	l.bytes += clearedSize + len(topic)
	for l.bytes > l.limit {
		first := l.oldest[0]
		l.forget(first)
		l.floor = first.stamp
		over = append(over, first)
	}
	return c, over
}

// forget takes c out. mu is held.
func (l *ledger) forget(c *clearedTopic) {
	hash := topicHash(c.topic)
	leaf := &l.leaves[leafOf(hash)]
	l.add(hash, -share(hash, c.stamp))
	last := leaf.cleared[len(leaf.cleared)-1]
	leaf.cleared[c.slot], last.slot = last, c.slot
	leaf.cleared[len(leaf.cleared)-1] = nil
	leaf.cleared = leaf.cleared[:len(leaf.cleared)-1]
	delete(l.cleared, c.topic)
	l.bytes -= clearedSize + len(c.topic)
	heap.Remove(&l.oldest, c.place)
}

// when gives the stamp of a topic that was cleared; zero: that is not known.
func (l *ledger) when(topic string) Stamp {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.cleared[topic]; c != nil {
		return c.stamp
	}
	return Stamp{}
}

// due gives a topic whose clearing may be forgotten at now, nil if there is none.
func (l *ledger) due(now int64) *clearedTopic {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.oldest) > 0 && l.oldest[0].due() <= now {
		return l.oldest[0]
	}
	return nil
}

// drop forgets c, unless that was done. Names is locked.
func (l *ledger) drop(c *clearedTopic) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.place < 0 {
		return false
	}
	l.forget(c)
	return true
}

// clearedBefore gives those that the store was told of at or before that Position.
func (l *ledger) clearedBefore(before Position) (list []*clearedTopic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.oldest {
		if c.stored && c.at <= before {
			list = append(list, c)
		}
	}
	return list
}

// stagedAt notes where the store was told of c. Names is locked.
func (l *ledger) stagedAt(c *clearedTopic, at Position) {
	l.mu.Lock()
	c.at = at
	l.mu.Unlock()
}

// has reports whether r is noted.
func (l *ledger) has(r *retained) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.slot > 0
}

// isThere reports whether c was not forgotten. Names is locked.
func (l *ledger) isThere(c *clearedTopic) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.place >= 0
}

// forgets reports whether the clearing of a topic with that stamp is not remembered here: it is too long ago, or there is too much.
func (l *ledger) forgets(s Stamp, now int64) (over, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.at()+int64(clearedFor) <= now+soon, s.Compare(l.floor) <= 0
}

// bucketSums reads the sums of all buckets.
func (l *ledger) bucketSums() [ledgerBuckets]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sums
}

// leafSums reads the sums of the leaves of a bucket.
func (l *ledger) leafSums(bucket int) (sums [bucketLeaves]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range sums {
		sums[i] = l.leaves[bucket*bucketLeaves+i].sum
	}
	return sums
}

// soon is how much longer a message has to last to be worth telling: nodes whose clocks differ would bring back what has just expired.
const soon = int64(5 * time.Second)

// entries gives what there is in a leaf, by hash.
func (l *ledger) entries(leaf int, now int64) []ledgerEntry {
	l.mu.Lock()
	p := &l.leaves[leaf]
	list := make([]ledgerEntry, 0, len(p.live)+len(p.cleared))
	for _, r := range p.live {
		if r.expires == 0 || r.expires > now+soon {
			list = append(list, ledgerEntry{topicHash(r.m.Topic), r.m.stamp, uint32(len(r.m.Payload)), false, r.m.Topic})
		}
	}
	for _, c := range p.cleared {
		if c.due() <= now+soon {
			continue
		}
		list = append(list, ledgerEntry{topicHash(c.topic), c.stamp, 0, true, c.topic})
	}
	l.mu.Unlock()
	slices.SortFunc(list, func(a, b ledgerEntry) int { return cmp.Compare(a.hash, b.hash) })
	return list
}
