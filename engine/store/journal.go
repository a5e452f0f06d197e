package store

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lacewing-mqtt/lacewing/engine"
)

const (
	// groupTarget is the payload from which on a group takes no further record.
	groupTarget = 1 << 20
	// Buffers up to spareSize are kept for the next groups, spareGroups of them.
	spareSize, spareGroups = 2 << 20, 4

	// never is the Position of what is staged after Close: it is not reached.
	never = engine.Position(math.MaxUint64)
)

// group is a number of records that are written together. Its buffer has room for the header in front.
type group struct {
	buf     []byte
	start   engine.Position
	records int
	first   int64 // when the first record was staged, ns since the epoch
}

func (g *group) payload() []byte      { return g.buf[groupHeaderSize:] }
func (g *group) end() engine.Position { return g.start + engine.Position(len(g.buf)-groupHeaderSize) }

// journal collects records in groups; it is the half of a store that does not know the medium.
type journal struct {
	now   func() int64
	awake func() // called with mu held when the first record of a group is staged

	staged atomic.Uint64 // changed with mu held

	mu     sync.Mutex
	cur    *group   // takes records; nil: none is begun
	whole  []*group // take no more
	size   int64    // of the whole ones
	spare  []*group
	open   []openPublication // few: as many as goroutines publish
	quiet  chan struct{}     // told when a publication ends; nil: nobody asks
	closed bool
}

// openPublication is a message whose publication has not ended, and the Position behind it.
type openPublication struct {
	message uint64
	at      engine.Position
}

// enter locks the journal and gives the group to append one record to.
func (j *journal) enter() *group {
	j.mu.Lock()
	if j.cur == nil {
		j.cur = j.fresh()
	}
	return j.cur
}

// leave counts the record and unlocks. It gives the Position behind it.
func (j *journal) leave() engine.Position {
	g := j.cur
	if j.closed {
		g.buf = g.buf[:groupHeaderSize]
		j.mu.Unlock()
		return never
	}
	g.records++
	p := g.end()
	if len(g.buf) >= groupTarget {
		j.whole, j.size, j.cur = append(j.whole, g), j.size+int64(len(g.buf)), nil
	}
	j.staged.Store(uint64(p))
	j.mu.Unlock()
	return p
}

func (j *journal) fresh() *group {
	var g *group
	if n := len(j.spare); n > 0 {
		g, j.spare = j.spare[n-1], j.spare[:n-1]
	} else {
		g = &group{buf: make([]byte, groupHeaderSize, 16<<10)}
	}
	g.start, g.records, g.first = engine.Position(j.staged.Load()), 0, j.now()
	if j.awake != nil && !j.closed {
		j.awake()
	}
	return g
}

// take appends what is staged to list.
func (j *journal) take(list []*group) []*group {
	j.mu.Lock()
	defer j.mu.Unlock()
	list = append(list, j.whole...)
	clear(j.whole)
	j.whole, j.size = j.whole[:0], 0
	if j.cur != nil && j.cur.records > 0 {
		list = append(list, j.cur)
		j.cur = nil
	}
	return list
}

// recycle takes groups back that nobody needs any more.
func (j *journal) recycle(list []*group) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, g := range list {
		if cap(g.buf) <= spareSize && len(j.spare) < spareGroups {
			g.buf = g.buf[:groupHeaderSize]
			j.spare = append(j.spare, g)
		}
	}
}

// waiting is the number of bytes that are staged and not taken.
func (j *journal) waiting() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := j.size
	if j.cur != nil {
		n += int64(len(j.cur.buf))
	}
	return n
}

// last stages, if orderly, that the stop is orderly, and makes the journal throw away what comes after.
func (j *journal) last(orderly bool) {
	g := j.enter()
	if orderly && !j.closed {
		g.buf = append(g.buf, byte(kindOrderly))
		g.records++
		j.staged.Store(uint64(g.end()))
	}
	if len(g.buf) > groupHeaderSize {
		j.whole, j.size = append(j.whole, g), j.size+int64(len(g.buf))
	}
	j.cur, j.closed = nil, true
	j.mu.Unlock()
}

// isOpen reports whether the publication of message is open. mu is held.
func (j *journal) isOpen(message uint64) bool {
	for i := range j.open {
		if j.open[i].message == message {
			return true
		}
	}
	return false
}

// endOpen notes that a publication is not open any more. mu is held.
func (j *journal) endOpen(message uint64) {
	for i := range j.open {
		if j.open[i].message == message {
			j.open = slices.Delete(j.open, i, i+1)
			if j.quiet != nil {
				select {
				case j.quiet <- struct{}{}:
				default:
				}
			}
			return
		}
	}
}

// settle waits until every publication that was begun at or before p has ended. false: stop came first.
func (j *journal) settle(p engine.Position, stop <-chan struct{}) bool {
	quiet := make(chan struct{}, 1)
	defer func() {
		j.mu.Lock()
		j.quiet = nil
		j.mu.Unlock()
	}()
	for {
		j.mu.Lock()
		j.quiet = quiet
		open := slices.ContainsFunc(j.open, func(o openPublication) bool { return o.at <= p })
		j.mu.Unlock()
		if !open {
			return true
		}
		select {
		case <-quiet:
		case <-stop:
			return false
		}
	}
}

// Staged is the Position behind everything that was staged.
func (j *journal) Staged() engine.Position { return engine.Position(j.staged.Load()) }

// PutSession stages the state of a session, without its lists.
func (j *journal) PutSession(session uint64, s *engine.StoredSession) engine.Position {
	g := j.enter()
	g.buf = appendSession(g.buf, session, s)
	return j.leave()
}

// EndSession stages the end of a session and of everything it has.
func (j *journal) EndSession(session uint64) engine.Position {
	g := j.enter()
	g.buf = appendUint(append(g.buf, byte(kindSessionEnd)), session)
	return j.leave()
}

// PutSubscription stages a subscription of a session.
func (j *journal) PutSubscription(session uint64, x *engine.Subscription) engine.Position {
	g := j.enter()
	g.buf = appendSubscription(g.buf, session, x)
	return j.leave()
}

// EndSubscription stages the end of a subscription, known by its name.
func (j *journal) EndSubscription(session uint64, name string) engine.Position {
	g := j.enter()
	g.buf = appendText(appendUint(append(g.buf, byte(kindSubscriptionEnd)), session), name)
	return j.leave()
}

// PutMessage stages a message; open: EndPublication has to follow.
func (j *journal) PutMessage(message uint64, m *engine.Message, open bool) engine.Position {
	g := j.enter()
	g.buf = appendMessage(g.buf, message, m, open)
	switch known := j.isOpen(message); {
	case open && !known && !j.closed:
		j.open = append(j.open, openPublication{message, g.end()})
	case !open && known:
		j.endOpen(message)
	}
	return j.leave()
}

// EndPublication stages the end of an open publication.
func (j *journal) EndPublication(message, session uint64, id uint16, at int64) engine.Position {
	g := j.enter()
	g.buf = appendPublicationEnd(g.buf, message, session, id, at)
	j.endOpen(message)
	return j.leave()
}

// PutDelivery stages a delivery.
func (j *journal) PutDelivery(session uint64, d *engine.StoredDelivery) engine.Position {
	g := j.enter()
	g.buf = appendDelivery(g.buf, session, d, j.isOpen(d.Message))
	return j.leave()
}

// EndDelivery stages the end of a delivery.
func (j *journal) EndDelivery(session, seq uint64) engine.Position {
	return j.pair(kindDeliveryEnd, session, seq)
}

// Recorded stages that PUBREC has come for a delivery.
func (j *journal) Recorded(session, seq uint64) engine.Position {
	return j.pair(kindRecorded, session, seq)
}

// Begun stages that deliveries up to seq have gone out.
func (j *journal) Begun(session, seq uint64) engine.Position {
	return j.pair(kindBegun, session, seq)
}

func (j *journal) pair(k kind, session, seq uint64) engine.Position {
	g := j.enter()
	g.buf = appendPair(g.buf, k, session, seq)
	return j.leave()
}

// PutRelease stages a QoS 2 publication that waits for PUBREL.
func (j *journal) PutRelease(session uint64, id uint16, at int64) engine.Position {
	g := j.enter()
	g.buf = appendRelease(g.buf, session, id, at)
	return j.leave()
}

// EndRelease stages that it waits no more.
func (j *journal) EndRelease(session uint64, id uint16) engine.Position {
	g := j.enter()
	g.buf = appendReleaseEnd(g.buf, session, id)
	return j.leave()
}

// PutRetained stages that a message is the retained one of topic.
func (j *journal) PutRetained(message uint64, topic string, stamp engine.Stamp) engine.Position {
	g := j.enter()
	g.buf = appendRetained(g.buf, message, topic, stamp, j.isOpen(message))
	return j.leave()
}

// ClearRetained stages that topic has no retained message since that stamp.
func (j *journal) ClearRetained(topic string, stamp engine.Stamp) engine.Position {
	g := j.enter()
	g.buf = appendRetainedClear(g.buf, topic, stamp)
	return j.leave()
}

// EndRetained stages that nothing is known of the retained message of topic.
func (j *journal) EndRetained(topic string) engine.Position {
	g := j.enter()
	g.buf = appendText(append(g.buf, byte(kindRetainedEnd)), topic)
	return j.leave()
}

// PutDelayed stages that a message is published at due.
func (j *journal) PutDelayed(message uint64, due int64) engine.Position {
	g := j.enter()
	g.buf = appendDelayed(g.buf, message, due, j.isOpen(message))
	return j.leave()
}

// EndDelayed stages that it is not any more.
func (j *journal) EndDelayed(message uint64) engine.Position {
	g := j.enter()
	g.buf = appendUint(append(g.buf, byte(kindDelayedEnd)), message)
	return j.leave()
}

// note stages a record that is only its kind.
func (j *journal) note(k kind) engine.Position {
	g := j.enter()
	g.buf = append(g.buf, byte(k))
	return j.leave()
}
