package engine

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// How nodes agree on retained messages: each change is told to all of them, with a stamp that says which of two is the later one, and every
// few seconds each two of them compare sums, list the parts that differ, and tell each other what is missing. DESIGN.md of package
// cluster says why that is enough.

// linkRetained is what the connection of a node has for retained messages. Its fields are guarded by mu, a leaf.
type linkRetained struct {
	mu    sync.Mutex
	tell  map[string]bool // topics whose state the node is to be told; true: it has asked
	order []string        // of them
	inbox []controlPacket // that wait until there is less to tell

	// Of the one of the two that asks.
	leaves  []uint16 // to be listed
	listed  int      // lists that were not answered
	waiting bool     // for the sums of leaves
	parts   [][]byte // of a leaf that is larger than a list
	differ  int      // buckets that differed when that was looked at last
	seen    [ledgerBuckets]bool

	refused  map[uint16]refusal // leaves that cannot be equal because of a limit of this node
	alarmed  bool
	repaired int // since the last look, here
}

// refusal says when a leaf that cannot be equal is looked at again.
type refusal struct {
	until int64
	pause time.Duration
}

// controlPacket is something about retained messages that is none of them.
type controlPacket struct {
	kind byte
	body []byte
}

// The kinds of control packets. All numbers in them are little endian.
const (
	controlSums   = 's' // sums of all buckets
	controlLeaves = 'l' // buckets that differ: 1 byte number, 8 bytes of leaves to leave out, sums of its leaves. Answers sums
	controlList   = 't' // a leaf, 2 bytes; from, to: the hashes that the list is about; entries
	controlReply  = 'r' // a leaf; 4 bytes number of hashes that are wanted; these; entries that the other may want. Answers a list
	controlWant   = 'w' // a leaf; hashes that are wanted. Answers a reply
)

const (
	controlTopic = LinkPrefix // of control packets; nobody looks at it
	entrySize    = 28

	listMost  = 1000     // entries of a list
	listsOpen = 4        // that were not answered
	tellMost  = 64 << 10 // topics that wait to be told; what is more is left to the comparison
	tellFew   = 1000     // below it the next list is looked at
	sweepMost = 100000   // cleared topics that are forgotten at a time
	inboxMost = 64       // control packets that wait: no node sends more
	leavesPer = 16       // buckets in one packet
	bucketLen = 1 + 8 + 8*bucketLeaves

	refusedFirst, refusedMost = 10 * time.Second, 10 * time.Minute
)

// spreads reports whether other nodes hear of m as a retained message.
func spreads(m *Message) bool {
	return !m.Sys && crosses(m.Topic) && len(m.Topic) <= packet.MaxString && (!m.Inside || packet.ValidString([]byte(m.Topic)))
}

// keepLedger begins to keep one.
func (r *retainer) keepLedger() {
	l := newLedger()
	r.names.Update("$", func(v *retained) *retained {
		if old := r.ledger.Load(); old != nil {
			l = nil
		} else {
			r.ledger.Store(l)
		}
		return v
	})
	if l == nil {
		return
	}
	r.eachSome(func(found []*retained) {
		for _, v := range found {
			r.names.Update(v.m.Topic, func(now *retained) *retained {
				if now != nil && now.m.stamp != (Stamp{}) && !l.has(now) {
					l.replace(nil, now)
				}
				return now
			})
		}
	})
}

// restamp takes over the stamp of a message that comes from the store. One that has none has that of the time when it was taken.
func (r *retainer) restamp(n *retained, s Stamp) {
	m := &n.m.Message
	if !spreads(m) {
		return
	}
	if s == (Stamp{}) {
		s = Stamp{max(stampTime(m.At.UnixNano()), 1), nodeStamp(r.e.id)}
	}
	m.stamp = s
	r.clock.observe(r.e.clock.Load(), s)
	if l := r.ledger.Load(); l != nil {
		l.replace(nil, n)
	}
}

// restoreCleared takes over which topics were cleared.
func (r *retainer) restoreCleared(b *Batch, list []StoredClear) {
	l, du := r.ledger.Load(), &r.e.durable
	for _, x := range list {
		if l == nil || x.Stamp.at()+int64(clearedFor) <= b.now {
			du.store.EndRetained(x.Topic)
			continue
		}
		r.clock.observe(b.now, x.Stamp)
		c, over := l.clear(x.Topic, x.Stamp)
		c.stored = true
		du.live.Add(int64(clearedSize + len(c.topic)))
		l.stagedAt(c, x.Position)
		for _, x := range over {
			b.counts[RetainedForgotten]++
			r.endCleared(b, x)
		}
	}
}

// rewriteCleared is Rewrite for topics that were cleared.
func (r *retainer) rewriteCleared(before Position) {
	l := r.ledger.Load()
	if l == nil {
		return
	}
	for some := range slices.Chunk(l.clearedBefore(before), feedChunk) {
		for _, c := range some {
			r.names.Update(c.topic, func(v *retained) *retained {
				if l.isThere(c) {
					l.stagedAt(c, r.e.durable.store.ClearRetained(c.topic, c.stamp))
				}
				return v
			})
		}
		if r.e.ctx.Err() != nil {
			return
		}
	}
}

// sweepCleared forgets topics that were cleared long ago.
func (e *Engine) sweepCleared() {
	r := &e.retainer
	l := r.ledger.Load()
	if l == nil {
		return
	}
	b := e.borrow()
	defer b.giveBack()
	for range sweepMost {
		c := l.due(b.now)
		if c == nil {
			return
		}
		r.names.Update(c.topic, func(v *retained) *retained {
			if l.drop(c) {
				r.endCleared(b, c)
			}
			return v
		})
	}
}

// merged is what became of a change of another node.
type merged byte

const (
	mergeKnown   merged = iota // it is not newer than what is here
	mergeTaken                 //
	mergeRefused               // a limit of this node refuses it
	mergeLater                 // nothing can be taken now
)

// merge takes a change of another node over, m with its stamp, if it is newer than what is known of the topic.
func (r *retainer) merge(b *Batch, m *Message) merged {
	o, store := r.options.Load(), r.e.durable.store
	if o == nil || !spreads(m) || r.ledger.Load() == nil {
		return mergeLater
	}
	if o.Volatile {
		store = nil
	}
	if r.clock.observe(b.now, m.stamp) {
		r.noteAhead(b, m)
	}
	if v := r.names.Get(m.Topic); v != nil && m.stamp.Compare(v.m.stamp) <= 0 { // most of what comes twice
		return mergeKnown
	}
	if store != nil && store.Err() != nil {
		return mergeLater
	}
	var n *retained
	why := ""
	if len(m.Payload) > 0 {
		n = &retained{}
		switch {
		case m.HasExpiry:
			n.expires = m.At.UnixNano() + int64(m.Expiry)*int64(time.Second)
		case o.Expiry > 0:
			n.expires = m.At.UnixNano() + int64(o.Expiry)
		}
		switch {
		case o.MaxPayload > 0 && len(m.Payload) > o.MaxPayload:
			why = "payload too large"
		case n.expires != 0 && n.expires <= b.now:
			why = "its time is over"
		default:
			n.m = keepMessage(m)
		}
	}
	result := mergeTaken
	var old *retained
	r.names.Update(m.Topic, func(v *retained) *retained {
		if m.stamp.Compare(r.known(m.Topic, v)) <= 0 {
			result = mergeKnown
			return v
		}
		if count := r.names.Len(); n != nil && why == "" && o.MaxMessages > 0 && (count > o.MaxMessages || count == o.MaxMessages && v == nil) {
			why = "too many retained messages"
		}
		old = v
		switch {
		case why != "": // what was here is not the message of the topic any more
			result = mergeRefused
			r.leave(b, m.Topic, v, Stamp{})
			return nil
		case n == nil:
			r.leave(b, m.Topic, v, m.stamp)
			return nil
		}
		r.enter(b, n, v, store)
		return n
	})
	switch {
	case result == mergeKnown:
	case why != "" || n == nil:
		if old != nil {
			r.forget(old)
		}
		if why != "" {
			r.refuse(b, m, why)
		}
	default:
		r.entered(n, old)
	}
	return result
}

// noteAhead counts a stamp from the future, and logs it now and then.
func (r *retainer) noteAhead(b *Batch, m *Message) {
	b.counts[RetainedAhead]++
	if last := r.warned.Load(); b.now-last > int64(time.Minute) && r.warned.CompareAndSwap(last, b.now) {
		at := time.UnixMilli(int64(m.stamp.Time >> stampCounter))
		r.e.log.Warn("a retained message is from the future: the clocks of nodes differ", "topic", m.Topic, "ahead", at.Sub(time.Unix(0, b.now)).Round(time.Second))
	}
}

// tellRetained tells the other nodes of the change of a retained message that this node has taken, unless the message itself goes there: en
// is where it goes, nil for nowhere.
func (b *Batch) tellRetained(en *topicEntry, m *Message) {
	l := &b.e.links
	if m.stamp == (Stamp{}) || l.retaining.Load() == 0 {
		return
	}
	l.mu.Lock()
	conns := l.conns
	l.mu.Unlock()
	for _, c := range conns {
		if !c.link.retains || en != nil && slices.ContainsFunc(en.links, func(d delivery) bool { return d.s == c.session }) {
			continue
		}
		if c.link.retained.idle() && c.hasRoom(b) {
			c.sendState(b, m.Topic, false)
		} else if c.link.retained.owe(m.Topic, false) {
			b.e.needPump(c.session)
		}
	}
}

// oweRetained notes that m, which was on its way to the node of s, was dropped.
func (b *Batch) oweRetained(s *Session, m *Message) {
	if c := s.conn.Load(); c != nil && m.Retain && m.stamp != (Stamp{}) && c.link.retains && c.link.retained.owe(m.Topic, false) {
		b.e.needPump(s)
	}
}

// idle reports whether nothing waits to be told.
func (k *linkRetained) idle() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.order) == 0
}

// owe notes that the node is to be told of a topic. It reports whether that is the first one.
func (k *linkRetained) owe(name string, asked bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if was, there := k.tell[name]; there {
		k.tell[name] = was || asked
		return false
	}
	if len(k.order) >= tellMost && !asked {
		return false
	}
	if k.tell == nil {
		k.tell = map[string]bool{}
	}
	k.tell[name] = asked
	k.order = append(k.order, name)
	return len(k.order) == 1
}

// next takes out the first topic that is to be told.
func (k *linkRetained) next() (name string, asked, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.order) == 0 {
		return "", false, false
	}
	name = k.order[0]
	asked = k.tell[name]
	delete(k.tell, name)
	k.order[0] = ""
	if k.order = k.order[1:]; len(k.order) == 0 {
		k.order, k.tell = nil, nil
	}
	return name, asked, true
}

// work gives what can be done besides telling: a control packet to look at, or a leaf to list.
func (k *linkRetained) work() (p controlPacket, leaf int, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case len(k.order) > tellFew:
	case len(k.inbox) > 0:
		p = k.inbox[0]
		if k.inbox = k.inbox[1:]; len(k.inbox) == 0 {
			k.inbox = nil
		}
		return p, 0, true
	case k.listed < listsOpen && len(k.parts) > 0:
		p = controlPacket{controlList, k.parts[0]}
		k.parts = k.parts[1:]
		k.listed++
		return p, 0, true
	case k.listed < listsOpen && len(k.leaves) > 0:
		leaf = int(k.leaves[0])
		if k.leaves = k.leaves[1:]; len(k.leaves) == 0 {
			k.leaves = nil
		}
		return p, leaf, true
	}
	return p, 0, false
}

// owesRetained reports whether feedNode has something to do.
func (c *Conn) owesRetained() bool {
	k := &c.link.retained
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.order)+len(k.inbox) > 0 || k.listed < listsOpen && len(k.leaves)+len(k.parts) > 0
}

// feedNode tells a node what it is to be told of retained messages, as far as its connection takes it, one chunk at most: the rest follows
// from Run, as for subscribers.
func (e *Engine) feedNode(b *Batch, s *Session) {
	c := s.conn.Load()
	if c == nil || !c.link.retains {
		return
	}
	for range feedChunk {
		if !c.hasRoom(b) { // its flush goes on
			return
		}
		if name, asked, ok := c.link.retained.next(); ok {
			c.sendState(b, name, asked)
			continue
		}
		p, leaf, ok := c.link.retained.work()
		switch {
		case !ok:
			return
		case p.kind == controlList && p.body != nil && c.asks():
			c.sendControl(b, p.kind, p.body)
		case p.kind != 0:
			if c.handleListed(b, p) != ReadOn {
				return
			}
		default:
			c.list(b, leaf)
		}
	}
	if c.owesRetained() {
		e.needPump(s)
	}
}

// sendState tells a node what a topic has: its message, or that it was cleared.
func (c *Conn) sendState(b *Batch, name string, asked bool) {
	r := &b.e.retainer
	m := &Message{Topic: name}
	if v := r.names.Get(name); v != nil {
		if m = &v.m.Message; v.expires != 0 && v.expires <= b.now {
			return
		}
	} else if l := r.ledger.Load(); l != nil {
		m.stamp = l.when(name)
	}
	if m.stamp == (Stamp{}) {
		return
	}
	b.origin = append(appendOrigin(b.origin[:0], m, nil, originState, asked), m.Properties...)
	p := packet.Publish{Topic: []byte(name), Payload: m.Payload, Retain: true, Properties: b.origin, HasExpiry: m.HasExpiry}
	if m.HasExpiry {
		p.Expiry = m.remaining(b.now)
	}
	b.bytes = p.Append(b.bytes[:0], c.version)
	c.mu.Lock()
	c.queue(b, b.bytes) // behind no acknowledgement: hasRoom does not see what waits for the store
	c.mu.Unlock()
}

// handleState takes over what a node tells of a topic.
func (c *Conn) handleState(b *Batch, m *Message, asked bool) Next {
	k := &c.link.retained
	switch b.e.retainer.merge(b, m) {
	case mergeTaken:
		if asked {
			b.counts[RetainedRepaired]++
			k.mu.Lock()
			k.repaired++
			k.mu.Unlock()
		}
	case mergeRefused:
		if asked {
			c.refuseLeaf(b, uint16(leafOf(topicHash(m.Topic))))
		}
	}
	return ReadOn
}

// refuseLeaf notes that a leaf cannot be equal because of a limit here. It is looked at less and less often.
func (c *Conn) refuseLeaf(b *Batch, leaf uint16) {
	k := &c.link.retained
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refused == nil {
		k.refused = map[uint16]refusal{}
	}
	x := k.refused[leaf]
	if x.until > b.now {
		return
	}
	x.pause = min(max(2*x.pause, refusedFirst), refusedMost)
	x.until = b.now + int64(x.pause)
	k.refused[leaf] = x
}

// acceptLeaves forgets refusals of leaves which are, or can be, equal.
func (k *linkRetained) acceptLeaves(which func(leaf uint16) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for leaf := range k.refused {
		if which(leaf) {
			delete(k.refused, leaf)
		}
	}
}

// left gives the leaves of a bucket that are not looked at now, a bit for each.
func (k *linkRetained) left(bucket int, now int64) (bits uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.refused) == 0 {
		return 0
	}
	for i := range bucketLeaves {
		if x, ok := k.refused[uint16(bucket*bucketLeaves+i)]; ok && x.until > now {
			bits |= 1 << i
		}
	}
	return bits
}

// asks reports whether it is this node that begins to compare. One of two does.
func (c *Conn) asks() bool { return c.l.e.id < c.link.peer }

// compareRetained begins to hold what this node has against what the node of c has, unless that is being done.
func (c *Conn) compareRetained(b *Batch) {
	r := &b.e.retainer
	l, o := r.ledger.Load(), r.options.Load()
	if !c.link.retains || l == nil {
		return
	}
	c.tellRepaired(b)
	if o == nil || !c.asks() || b.e.durable.store.Err() != nil {
		return
	}
	k := &c.link.retained
	k.mu.Lock()
	busy := k.waiting || k.listed+len(k.leaves)+len(k.parts) > 0
	if !busy {
		k.waiting, k.differ, k.seen = true, 0, [ledgerBuckets]bool{}
	}
	k.mu.Unlock()
	if busy {
		return
	}
	sums := l.bucketSums()
	body := make([]byte, 0, 8*len(sums))
	for _, x := range sums {
		body = binary.LittleEndian.AppendUint64(body, x)
	}
	c.sendControl(b, controlSums, body)
}

// tellRepaired logs what was put right, and raises or clears the alarm about what cannot be.
func (c *Conn) tellRepaired(b *Batch) {
	k := &c.link.retained
	k.mu.Lock()
	n, refused := k.repaired, len(k.refused)
	k.repaired = 0
	changed := k.alarmed != (refused > 0)
	k.alarmed = refused > 0
	k.mu.Unlock()
	if n > 0 {
		b.e.log.Info("retained messages were put right: another node had newer ones", "id", c.link.peer, "messages", n)
	}
	if changed && refused > 0 {
		b.e.alarms.Raise(Alarm{
			ID: retainedAlarmID + c.link.peer, Severity: "warning", Title: "Limits keep retained messages out",
			Summary: "another node has retained messages that are above the limits of this one",
		})
	} else if changed {
		b.e.alarms.Clear(retainedAlarmID + c.link.peer)
	}
}

const retainedAlarmID = "retained_limit." + LinkPrefix

// dropRetained ends what depends on the connection.
func (c *Conn) dropRetained(e *Engine) {
	k := &c.link.retained
	k.mu.Lock()
	alarmed := k.alarmed
	k.alarmed, k.refused = false, nil
	k.mu.Unlock()
	if alarmed {
		e.alarms.Clear(retainedAlarmID + c.link.peer)
	}
}

// sendControl sends a control packet.
func (c *Conn) sendControl(b *Batch, kind byte, body []byte) {
	b.origin = packet.Properties(b.origin[:0]).AddUser(originControl, string(kind))
	p := packet.Publish{Topic: []byte(controlTopic), Payload: body, Properties: b.origin}
	c.send(b, p.Append(nil, c.version))
}

// handleControl takes a control packet of a node.
func (c *Conn) handleControl(b *Batch, kind string, body []byte) Next {
	if !c.link.retains || len(kind) != 1 {
		return c.fail(b, packet.ProtocolError)
	}
	if answer := kind[0] == controlLeaves || kind[0] == controlReply; answer != c.asks() {
		return c.fail(b, packet.ProtocolError)
	}
	switch kind[0] {
	case controlSums:
		return c.handleSums(b, body)
	case controlLeaves:
		return c.handleLeaves(b, body)
	case controlList, controlReply, controlWant:
	default:
		return c.fail(b, packet.ProtocolError)
	}
	k := &c.link.retained
	k.mu.Lock()
	full := len(k.inbox) >= inboxMost
	if !full {
		k.inbox = append(k.inbox, controlPacket{kind[0], slices.Clone(body)})
	}
	k.mu.Unlock()
	if full {
		return c.fail(b, packet.ProtocolError)
	}
	b.e.needPump(c.session)
	return ReadOn
}

// handleSums answers which buckets differ here.
func (c *Conn) handleSums(b *Batch, body []byte) Next {
	if len(body) != 8*ledgerBuckets {
		return c.fail(b, packet.ProtocolError)
	}
	r, k := &b.e.retainer, &c.link.retained
	l := r.ledger.Load()
	if l == nil || r.options.Load() == nil || b.e.durable.store.Err() != nil {
		c.sendControl(b, controlLeaves, nil)
		return ReadOn
	}
	var equal [ledgerBuckets]bool
	var list []byte
	n := 0
	for i, mine := range l.bucketSums() {
		if equal[i] = binary.LittleEndian.Uint64(body[8*i:]) == mine; equal[i] {
			continue
		}
		if n++; n > 1 && n%leavesPer == 1 { // a packet that is full says by its length that more follow
			c.sendControl(b, controlLeaves, list)
			list = list[:0]
		}
		list = append(list, byte(i))
		list = binary.LittleEndian.AppendUint64(list, k.left(i, b.now))
		for _, x := range l.leafSums(i) {
			list = binary.LittleEndian.AppendUint64(list, x)
		}
	}
	if n > 0 && n%leavesPer == 0 {
		c.sendControl(b, controlLeaves, list)
		list = nil
	}
	c.sendControl(b, controlLeaves, list)
	k.acceptLeaves(func(leaf uint16) bool { return equal[leaf/bucketLeaves] })
	return ReadOn
}

// handleLeaves notes which leaves differ: they are listed.
func (c *Conn) handleLeaves(b *Batch, body []byte) Next {
	r, k := &b.e.retainer, &c.link.retained
	l := r.ledger.Load()
	if len(body)%bucketLen != 0 || len(body) > leavesPer*bucketLen || l == nil {
		return c.fail(b, packet.ProtocolError)
	}
	n := len(body) / bucketLen
	var leaves []uint16
	var seen [ledgerBuckets]bool
	for ; len(body) > 0; body = body[bucketLen:] {
		bucket := int(body[0])
		seen[bucket] = true
		out := binary.LittleEndian.Uint64(body[1:]) | k.left(bucket, b.now)
		for i, mine := range l.leafSums(bucket) {
			if out>>i&1 == 0 && binary.LittleEndian.Uint64(body[9+8*i:]) != mine {
				leaves = append(leaves, uint16(bucket*bucketLeaves+i))
			}
		}
	}
	k.mu.Lock()
	if !k.waiting { // nobody has asked
		k.mu.Unlock()
		return c.fail(b, packet.ProtocolError)
	}
	if k.leaves = append(k.leaves, leaves...); len(k.leaves) > ledgerBuckets*bucketLeaves {
		k.mu.Unlock()
		return c.fail(b, packet.ProtocolError)
	}
	k.differ += n
	for i := range seen {
		k.seen[i] = k.seen[i] || seen[i]
	}
	all := n < leavesPer
	if seen = k.seen; all {
		k.waiting = false
	}
	k.mu.Unlock()
	if all {
		k.acceptLeaves(func(leaf uint16) bool { return !seen[leaf/bucketLeaves] })
	}
	if len(leaves) > 0 {
		b.e.needPump(c.session)
	}
	return ReadOn
}

// list lists a leaf, in as many packets as it takes.
func (c *Conn) list(b *Batch, leaf int) {
	l := b.e.retainer.ledger.Load()
	all := l.entries(leaf, b.now)
	var parts [][]byte
	for from, done := uint64(0), false; !done; {
		n := min(len(all), listMost)
		to := ^uint64(0)
		if done = n == len(all); !done {
			for n < len(all) && all[n].hash == all[n-1].hash {
				n++
			}
			if done = n == len(all); !done {
				to = all[n].hash - 1
			}
		}
		p := binary.LittleEndian.AppendUint16(nil, uint16(leaf))
		p = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(p, from), to)
		parts = append(parts, appendEntries(p, all[:n]))
		all, from = all[n:], to+1
	}
	k := &c.link.retained
	k.mu.Lock()
	k.listed++
	k.parts = append(k.parts, parts[1:]...)
	k.mu.Unlock()
	c.sendControl(b, controlList, parts[0])
}

func appendEntries(p []byte, list []ledgerEntry) []byte {
	for i := range list {
		x := &list[i]
		size := x.size << 1
		if x.cleared {
			size = 1
		}
		p = binary.LittleEndian.AppendUint64(p, x.hash)
		p = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(p, x.stamp.Time), x.stamp.Node)
		p = binary.LittleEndian.AppendUint32(p, size)
	}
	return p
}

// readEntries reads what appendEntries has written: entries of a leaf, in order.
func readEntries(p []byte, leaf int) (list []ledgerEntry, ok bool) {
	if len(p)%entrySize != 0 {
		return nil, false
	}
	list = make([]ledgerEntry, 0, len(p)/entrySize)
	last := uint64(0)
	for ; len(p) > 0; p = p[entrySize:] {
		x := ledgerEntry{
			hash:  binary.LittleEndian.Uint64(p),
			stamp: Stamp{binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:])},
		}
		size := binary.LittleEndian.Uint32(p[24:])
		x.size, x.cleared = size>>1, size&1 != 0
		if leafOf(x.hash) != leaf || x.hash < last || x.stamp.Time == 0 || x.stamp.Time >= stampMost {
			return nil, false
		}
		last = x.hash
		list = append(list, x)
	}
	return list, true
}

// handleListed looks at a list, a reply or what is wanted.
func (c *Conn) handleListed(b *Batch, p controlPacket) Next {
	body := p.body
	if len(body) < 2 {
		return c.fail(b, packet.ProtocolError)
	}
	leaf := int(binary.LittleEndian.Uint16(body))
	body = body[2:]
	if leaf >= ledgerBuckets*bucketLeaves {
		return c.fail(b, packet.ProtocolError)
	}
	switch p.kind {
	case controlList:
		return c.handleList(b, leaf, body)
	case controlReply:
		return c.handleReply(b, leaf, body)
	}
	if len(body)%8 != 0 || len(body) > 8*listMost {
		return c.fail(b, packet.ProtocolError)
	}
	c.oweWanted(b, leaf, body)
	return ReadOn
}

// handleList holds the list of a part of a leaf against what is here: it wants what is newer there, and names what is newer here.
func (c *Conn) handleList(b *Batch, leaf int, body []byte) Next {
	l := b.e.retainer.ledger.Load()
	if l == nil || len(body) < 16 {
		return c.fail(b, packet.ProtocolError)
	}
	from, to := binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:])
	theirs, ok := readEntries(body[16:], leaf)
	if !ok {
		return c.fail(b, packet.ProtocolError)
	}
	var newer []ledgerEntry
	mine := l.entries(leaf, b.now)
	want := c.wanted(b, leaf, theirs, mine)
	for _, x := range mine {
		if x.hash < from || x.hash > to {
			continue
		}
		if len(newer) == listMost {
			break // the next comparison finds the rest
		}
		i, there := findEntry(theirs, x.hash)
		if !there || x.stamp.Compare(theirs[i].stamp) > 0 {
			newer = append(newer, x)
		}
	}
	p := binary.LittleEndian.AppendUint16(nil, uint16(leaf))
	p = binary.LittleEndian.AppendUint32(p, uint32(len(want)))
	for _, hash := range want {
		p = binary.LittleEndian.AppendUint64(p, hash)
	}
	c.sendControl(b, controlReply, appendEntries(p, newer))
	return ReadOn
}

// handleReply takes the answer to a list.
func (c *Conn) handleReply(b *Batch, leaf int, body []byte) Next {
	l, k := b.e.retainer.ledger.Load(), &c.link.retained
	k.mu.Lock()
	k.listed--
	bad := k.listed < 0
	k.mu.Unlock()
	if bad || l == nil || len(body) < 4 {
		return c.fail(b, packet.ProtocolError)
	}
	n := int(binary.LittleEndian.Uint32(body))
	if body = body[4:]; n > len(body)/8 {
		return c.fail(b, packet.ProtocolError)
	}
	c.oweWanted(b, leaf, body[:8*n])
	theirs, ok := readEntries(body[8*n:], leaf)
	if !ok {
		return c.fail(b, packet.ProtocolError)
	}
	p := binary.LittleEndian.AppendUint16(nil, uint16(leaf))
	for some := range slices.Chunk(c.wanted(b, leaf, theirs, l.entries(leaf, b.now)), listMost) {
		p = p[:2]
		for _, hash := range some {
			p = binary.LittleEndian.AppendUint64(p, hash)
		}
		c.sendControl(b, controlWant, p)
	}
	return ReadOn
}

func findEntry(list []ledgerEntry, hash uint64) (int, bool) {
	return slices.BinarySearchFunc(list, hash, func(x ledgerEntry, hash uint64) int {
		switch {
		case x.hash < hash:
			return -1
		case x.hash > hash:
			return 1
		}
		return 0
	})
}

// wanted gives the hashes of what is newer there and can be taken here. What was cleared there is cleared here at once.
func (c *Conn) wanted(b *Batch, leaf int, theirs, mine []ledgerEntry) (hashes []uint64) {
	r, k := &b.e.retainer, &c.link.retained
	o, l := r.options.Load(), r.ledger.Load()
	if o == nil || b.e.durable.store.Err() != nil {
		return nil
	}
	refused := false
	for _, x := range theirs {
		i, here := findEntry(mine, x.hash)
		if here && x.stamp.Compare(mine[i].stamp) <= 0 {
			continue
		}
		switch {
		case x.cleared && here:
			m := Message{Topic: mine[i].topic, stamp: x.stamp}
			if r.merge(b, &m) == mergeTaken {
				b.counts[RetainedRepaired]++
				k.mu.Lock()
				k.repaired++
				k.mu.Unlock()
			}
		case x.cleared:
			switch over, full := l.forgets(x.stamp, b.now); {
			case full:
				refused = true
			case !over:
				hashes = append(hashes, x.hash)
			}
		case o.MaxPayload > 0 && int64(x.size) > int64(o.MaxPayload), o.MaxMessages > 0 && !here && r.names.Len() >= o.MaxMessages:
			refused = true
		default:
			hashes = append(hashes, x.hash)
		}
	}
	if refused {
		c.refuseLeaf(b, uint16(leaf))
	} else if len(hashes) == 0 {
		k.acceptLeaves(func(x uint16) bool { return int(x) == leaf })
	}
	return hashes
}

// oweWanted notes what the node wants of a leaf.
func (c *Conn) oweWanted(b *Batch, leaf int, hashes []byte) {
	mine := b.e.retainer.ledger.Load().entries(leaf, b.now)
	for ; len(hashes) > 0; hashes = hashes[8:] {
		if i, ok := findEntry(mine, binary.LittleEndian.Uint64(hashes)); ok {
			c.link.retained.owe(mine[i].topic, true)
		}
	}
}

// describe gives how many buckets differed when that was looked at last.
func (k *linkRetained) describe() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.differ
}
