package engine

import (
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Batch is the scratch of one driver goroutine, which alone may use it: counters, touched connections and caches of one
// round of input. Drivers with a goroutine for each connection share a few from a pool: a Batch that was flushed belongs to
// nobody.
type Batch struct {
	e       *Engine
	shard   *counterShard     // where Flush adds counts
	counts  [NumMetrics]int64 // of this round
	swept   uint32            // Engine.sweeps when sweep ran last
	now     int64             // ns since the epoch, read once a round; 0 between rounds
	touched []*Conn           // have output that this Batch will write
	urgent  []*Conn           // of these, those that have much
	vec     [][]byte          // what Transport.Write gets
	staged  Position          // what the answers to the packet in hand wait for
	wanted  Position          // what this round waits for

	topics   []*topicEntry // cache of match results, by hash of the topic; nil until used
	recent   *topicEntry   // of topics, used last
	crossing []*topicEntry // the same for messages of other nodes
	peer     string        // node that the message in hand has come from; "" for this one
	gate     *routeGate    // that publications of QoS 1 and 2 hold
	share    string        // name of the shared subscription that a message of another node is for; "" for none
	nodes    []*filterNode // scratch of match
	seen     map[*Session]int32
	name     []byte // scratch: a topic name
	alias    []byte // scratch: the topic of an alias

	in     packet.Publish // decoded
	ack    packet.Ack
	out    packet.Publish    // encoded for one receiver
	origin packet.Properties // scratch: the properties of a message to another node
	msg    Message           // the message in hand, for hooks
	info   ClientInfo
	cast   cast   // of the publication in hand
	fed    cast   // of what a queue or the retainer gives out
	bytes  []byte // scratch: one encoded packet
	events []event

	delivery StoredDelivery // scratch
	lines    []traceLine    // of traces
	rand     *rand.Rand
}

// NewBatch makes the scratch of one driver goroutine.
func (e *Engine) NewBatch() *Batch {
	shard := &e.counters[e.batchCount.Add(1)%counterShards]
	return &Batch{e: e, shard: shard, gate: &e.moves.gates[e.batchCount.Load()%gates], seen: map[*Session]int32{}}
}

// borrow gives a Batch for work outside of drivers; giveBack flushes it.
func (e *Engine) borrow() *Batch {
	b := e.batches.Get().(*Batch)
	b.begin()
	return b
}

func (b *Batch) giveBack() {
	b.Flush()
	b.e.batches.Put(b)
}

// begin starts a round if none is in progress.
func (b *Batch) begin() {
	if b.now == 0 {
		b.now = b.e.time()
	}
}

// Flush publishes the counters and writes every connection that has output since the last Flush once.
func (b *Batch) Flush() {
	b.begin()
	b.settle()
	if b.e.links.pending.Load() {
		b.e.sendRoutes(b)
	}
	if b.wanted != 0 {
		b.want()
	}
	b.writeTouched()
	b.settle()
	b.publishCounts()
	if n := b.e.sweeps.Load(); n != b.swept {
		b.swept = n
		b.sweep()
	}
	b.now = 0
}

// want has the store commit what this round waits for.
func (b *Batch) want() {
	store := b.e.durable.store
	store.Want(b.wanted)
	if store.Committed() >= b.wanted { // release may have been before there was something to release
		b.e.Progress()
	}
	b.wanted = 0
}

// manyTouched is how many connections may have output before the round ends: each of them borrows memory for it.
const manyTouched = 16 << 10

// writeTouched writes every connection that has output. No lock is held.
func (b *Batch) writeTouched() {
	for i := 0; i < len(b.touched); i++ { // flush may append
		b.touched[i].flush(b)
	}
	clear(b.touched)
	clear(b.urgent)
	b.touched, b.urgent = b.touched[:0], b.urgent[:0]
}

// sweepInterval is how often a Batch that is in use forgets match results that are out of date, and so the sessions in them.
const sweepInterval = int64(10 * time.Second)

// sweep forgets match results that are out of date.
func (b *Batch) sweep() {
	now := b.e.router.generation.Load()
	for _, en := range b.topics {
		if en != nil && en.generation != now {
			en.matched = false
			en.empty()
		}
	}
	for _, en := range b.crossing {
		if en != nil && en.generation != now {
			en.matched = false
			en.empty()
		}
	}
	clear(b.nodes[:cap(b.nodes)])
	if len(b.topics) > 0 && cap(b.touched) > 1024 {
		b.touched, b.urgent = nil, nil
	}
}

// flushUrgent writes the connections with much output before the round ends. No lock is held.
func (b *Batch) flushUrgent() {
	for i := 0; i < len(b.urgent); i++ {
		b.urgent[i].flush(b)
	}
	clear(b.urgent)
	b.urgent = b.urgent[:0]
}

// publishCounts adds the counters of the round to the engine's.
func (b *Batch) publishCounts() {
	shard := b.shard
	for i, n := range b.counts {
		if n != 0 {
			shard[i].Add(n)
			b.counts[i] = 0
		}
	}
}

func (b *Batch) random() uint32 {
	if b.rand == nil {
		b.rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return b.rand.Uint32()
}

// topicEntry is what a Batch remembers of a topic: that its name is valid, and who gets it.
type topicEntry struct {
	topic      string
	hash       uint64
	generation uint64 // of the router when deliveries and groups were found
	matched    bool
	sys        bool // below $SYS
	levels     int
	crossed    bool // of messages of other nodes
	deliveries []delivery
	links      []delivery // other nodes
	groups     []*shareGroup
}

// empty forgets who gets the topic.
func (en *topicEntry) empty() {
	clear(en.deliveries)
	clear(en.links)
	clear(en.groups)
	en.deliveries, en.links, en.groups = en.deliveries[:0], en.links[:0], en.groups[:0]
}

// far adds u to the nodes that get the topic, once each, unless its messages come from a node themselves.
func (en *topicEntry) far(u *sub) {
	if en.crossed || slices.ContainsFunc(en.links, func(d delivery) bool { return d.s == u.s }) {
		return
	}
	en.links = append(en.links, u.delivery())
}

// longTopic is the length in bytes from which on a topic is not remembered.
const longTopic = 1 << 10

// topicSlots is the size of the cache of topics of a Batch, a power of two. A topic has two places.
const topicSlots = 2048

var topicSeed = maphash.MakeSeed()

// lookup gives the entry of a topic name, which is valid. It is good until the next lookup of another topic.
func (b *Batch) lookup(name []byte) *topicEntry {
	if en := b.recent; en != nil && en.topic == string(name) { // BenchmarkForward: a round has mostly one topic
		return en
	}
	if b.topics == nil {
		b.topics = make([]*topicEntry, topicSlots)
	}
	en := lookup(b.topics, name)
	if len(name) < longTopic {
		b.recent = en
	}
	return en
}

// lookupCrossed is lookup for messages of other nodes.
func (b *Batch) lookupCrossed(name []byte) *topicEntry {
	if b.crossing == nil {
		b.crossing = make([]*topicEntry, topicSlots)
	}
	en := lookup(b.crossing, name)
	en.crossed = true
	return en
}

func lookup(topics []*topicEntry, name []byte) *topicEntry {
	if len(name) >= longTopic {
		return &topicEntry{topic: string(name), sys: isSys(name), levels: levels(name)}
	}
	h := maphash.Bytes(topicSeed, name)
	i := h & (topicSlots - 1)
	en := topics[i]
	if en != nil && en.hash == h && en.topic == string(name) {
		return en
	}
	other := topics[i^1]
	if other != nil && other.hash == h && other.topic == string(name) {
		return other
	}
	// The older of the two places goes: what is in i moves on, its neighbour is used again.
	if other == nil {
		other = new(topicEntry)
	}
	topics[i^1], topics[i] = en, other
	other.empty()
	*other = topicEntry{topic: string(name), hash: h, deliveries: other.deliveries, links: other.links, groups: other.groups}
	other.sys = isSys(other.topic)
	other.levels = levels(other.topic)
	return other
}

// route makes the match result of en current.
func (b *Batch) route(en *topicEntry) {
	if r := &b.e.router; !en.matched || en.generation != r.generation.Load() {
		r.match(b, en)
		en.matched = true
	}
}

// event is something that happened while a lock was held and is told to hooks without one.
type event struct {
	kind   eventKind
	s      *Session
	m      *shared // held
	slot   slot    // of evRedispatch
	reason string  // of evDropped; summary of evQueueAlarm
	alarm  bool
}

type eventKind byte

const (
	evDelivered eventKind = iota
	evAcked
	evDropped
	evQueueAlarm
	evRedispatch
)

// settle tells what has happened. No lock is held.
func (b *Batch) settle() {
	if len(b.lines) > 0 {
		b.tellTraces()
	}
	for i := 0; i < len(b.events); i++ { // hooks may add to it
		ev := b.events[i]
		b.events[i] = event{}
		switch ev.kind {
		case evDelivered:
			for _, h := range b.e.hooks.Load().delivered {
				h(ev.s.clientID, &ev.m.Message)
			}
		case evAcked:
			for _, h := range b.e.hooks.Load().acked {
				h(ev.s.clientID, &ev.m.Message)
			}
		case evDropped:
			for _, h := range b.e.hooks.Load().dropped {
				h(ev.s.clientID, &ev.m.Message, ev.reason)
			}
		case evQueueAlarm:
			b.e.queueAlarm(ev.s, ev.alarm, ev.reason)
		case evRedispatch:
			b.redispatch(ev.s, ev.slot)
		}
		if ev.m != nil {
			ev.m.release()
		}
	}
	b.events = b.events[:0]
}

// dropped counts a delivery that will not be and notes it for the hooks. m is held by the caller and stays so.
func (b *Batch) dropped(s *Session, m *shared, reason string) {
	switch reason {
	case DropExpired:
		b.counts[MessagesExpired]++
	case DropQueueFull, DropOutputFull:
		b.counts[MessagesDropped]++
	case DropOffline:
		if s.link != nil {
			b.counts[MessagesDropped]++
		}
	}
	if s.link != nil {
		b.oweRetained(s, &m.Message)
	} else if len(b.e.hooks.Load().dropped) > 0 {
		b.events = append(b.events, event{kind: evDropped, s: s, m: m.hold(), reason: reason})
	}
}
