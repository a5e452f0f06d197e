package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// replay makes the state out of changes. It refers to the bytes that it is given and copies only what there is at the end.
//
// Once old segments are gone, a change may come before what it refers to is put again. Sessions and messages are made up then;
// finish counts those that never came.
type replay struct {
	sessions map[uint64]*session
	messages map[uint64]*message
	retained map[string]*topicStack
	cleared  map[string]cleared // topics, also of some that have a message again
	delayed  map[uint64]*delayed
	open     []*message // whose publication has not ended

	lastSession, lastMessage uint64
	orderly                  bool
	records                  int64

	fresh  bool     // the change at hand has a higher number of a message than any before: it is not in messages
	madeUp bool     // something was referred to before it was put
	latest *message // that was looked up; changes of one publication follow each other

	slab         []message // not used yet
	spare        []*message
	publications []*publication // to use again
}

// session is a session while the journal is read.
type session struct {
	stored        *engine.StoredSession // nil: not put yet
	seq, begun    uint64
	subscriptions map[string]engine.Subscription
	deliveries    deliveries
	releases      map[uint16]int64
}

// message is a message while the journal is read.
type message struct {
	number   uint64
	body     []byte // nil: not put yet
	position engine.Position
	refs     int
	at       int          // in replay.open
	stamp    engine.Stamp // as a retained message
	open     *publication // nil: its publication has ended
	stored   *engine.StoredMessage
}

// publication is what refers to an open message.
type publication struct {
	deliveries []deliveryKey
	topics     []*topicStack
}

type deliveryKey struct{ session, seq uint64 }

// topicStack holds the retained messages of one topic: the last one whose publication has ended, and those put after it whose
// publications are open.
type topicStack struct {
	topic string
	list  []*message
}

// cleared is when a topic was cleared, and the Position behind the record that says so.
type cleared struct {
	stamp engine.Stamp
	at    engine.Position
}

type delayed struct {
	message *message
	due     int64
}

func newReplay() *replay {
	return &replay{
		sessions: map[uint64]*session{}, messages: map[uint64]*message{}, retained: map[string]*topicStack{}, cleared: map[string]cleared{}, delayed: map[uint64]*delayed{},
	}
}

// group applies the payload of a group, which begins at start.
func (l *replay) group(payload []byte, start engine.Position, records uint32) error {
	before := l.records
	if err := l.all(payload, start); err != nil {
		return err
	}
	if l.records-before != int64(records) {
		return errRecord
	}
	return nil
}

// all applies records that begin at start.
func (l *replay) all(records []byte, start engine.Position) error {
	var r record
	for off := 0; off < len(records); {
		n, err := r.decode(records[off:])
		if err != nil {
			return err
		}
		off += n
		l.apply(&r, start+engine.Position(off))
	}
	return nil
}

// apply makes the change r; at is the Position behind it.
func (l *replay) apply(r *record, at engine.Position) {
	l.records++
	l.fresh = r.message > l.lastMessage
	l.lastSession, l.lastMessage = max(l.lastSession, r.session), max(l.lastMessage, r.message)
	l.orderly = r.kind == kindOrderly
	switch r.kind {
	case kindSession:
		s := l.sessions[r.session]
		if s == nil {
			s = &session{}
			l.sessions[r.session] = s
		}
		s.stored = r.stored
		s.seq, s.begun = max(s.seq, r.stored.Seq), max(s.begun, r.stored.Begun)
	case kindSessionEnd:
		if s := l.sessions[r.session]; s != nil {
			for _, run := range s.deliveries.runs {
				for i := range run {
					l.release(run[i].message)
				}
			}
			delete(l.sessions, r.session)
		}
	case kindSubscription:
		s := l.session(r.session)
		if s.subscriptions == nil {
			s.subscriptions = map[string]engine.Subscription{}
		}
		s.subscriptions[r.subscription.Name()] = r.subscription
	case kindSubscriptionEnd:
		if s := l.sessions[r.session]; s != nil {
			delete(s.subscriptions, string(r.name))
		}
	case kindMessage:
		m := l.message(r.message)
		m.body, m.position = r.body, at
		if r.open {
			l.begin(m)
		} else {
			l.end(m)
		}
	case kindPublicationEnd:
		if m := l.known(r.message); m != nil {
			l.end(m)
			l.hold(m)
			l.release(m) // it is not there any more unless something refers to it
		}
		if r.session != 0 {
			l.session(r.session).release(r.id, r.at)
		}
	case kindDelivery:
		l.deliver(r)
	case kindDeliveryEnd:
		if s, d := l.delivery(r.session, r.seq); d != nil {
			m := d.message
			s.deliveries.kill(d)
			l.release(m)
		}
	case kindRecorded:
		if _, d := l.delivery(r.session, r.seq); d != nil {
			l.release(d.message)
			d.message, d.flags = nil, d.flags|deliveryRecorded
		}
	case kindBegun:
		if s := l.sessions[r.session]; s != nil {
			s.begun = max(s.begun, r.seq)
		}
	case kindRelease:
		l.session(r.session).release(r.id, r.at)
	case kindReleaseEnd:
		if s := l.sessions[r.session]; s != nil {
			delete(s.releases, r.id)
		}
	case kindRetained:
		l.retain(r)
	case kindRetainedEnd:
		l.unretain(r)
		delete(l.cleared, string(r.name))
	case kindRetainedClear:
		l.unretain(r)
		l.cleared[string(r.name)] = cleared{r.stamp, at}
	case kindDelayed:
		m := l.refer(r)
		if d := l.delayed[r.message]; d != nil {
			d.due = r.at
			break
		}
		l.hold(m)
		l.delayed[r.message] = &delayed{m, r.at}
	case kindDelayedEnd:
		l.undelay(r.message)
	case kindBoot:
		l.giveUp()
	}
}

// session gives the session of a number; it is made up when it is not there.
func (l *replay) session(number uint64) *session {
	s := l.sessions[number]
	if s == nil {
		s = &session{}
		l.sessions[number] = s
		l.madeUp = true
	}
	return s
}

func (s *session) release(id uint16, at int64) {
	if s.releases == nil {
		s.releases = map[uint16]int64{}
	}
	s.releases[id] = at
}

// message gives the message of a number; it is made up when it is not there.
func (l *replay) message(number uint64) *message {
	m := l.known(number)
	if m == nil {
		if n := len(l.spare); n > 0 {
			m, l.spare = l.spare[n-1], l.spare[:n-1]
			*m = message{}
		} else {
			if len(l.slab) == 0 {
				l.slab = make([]message, 128)
			}
			m, l.slab = &l.slab[0], l.slab[1:]
		}
		m.number = number
		l.messages[number] = m
		l.latest = m
	}
	return m
}

// known gives the message of a number, or nil.
func (l *replay) known(number uint64) *message {
	if l.latest != nil && l.latest.number == number {
		return l.latest
	}
	if l.fresh {
		return nil
	}
	m := l.messages[number]
	if m != nil {
		l.latest = m
	}
	return m
}

// refer gives the message that a change refers to.
func (l *replay) refer(r *record) *message {
	m := l.message(r.message)
	if m.body == nil {
		l.madeUp = true
		if r.open {
			l.begin(m)
		}
	}
	return m
}

func (l *replay) hold(m *message) {
	if m != nil {
		m.refs++
	}
}

// release takes a reference back. The last one takes the message with it.
func (l *replay) release(m *message) {
	if m == nil {
		return
	}
	if m.refs--; m.refs == 0 && m.open == nil {
		delete(l.messages, m.number)
		if l.latest == m {
			l.latest = nil
		}
		l.spare = append(l.spare, m)
	}
}

// begin notes that the publication of m is open.
func (l *replay) begin(m *message) {
	if m.open != nil {
		return
	}
	if n := len(l.publications); n > 0 {
		m.open, l.publications = l.publications[n-1], l.publications[:n-1]
	} else {
		m.open = &publication{}
	}
	m.at = len(l.open)
	l.open = append(l.open, m)
}

// end notes that the publication of m has ended: what it retains takes the place of what was retained before.
func (l *replay) end(m *message) {
	p := m.open
	if p == nil {
		return
	}
	l.close(m)
	for _, t := range p.topics {
		for i := len(t.list) - 1; i >= 0; i-- {
			if t.list[i] == m {
				l.cut(t, i)
				break
			}
		}
	}
	l.reuse(p)
}

// close takes m out of the open ones.
func (l *replay) close(m *message) {
	last := l.open[len(l.open)-1]
	l.open[m.at], last.at = last, m.at
	l.open = l.open[:len(l.open)-1]
	m.open = nil
}

func (l *replay) reuse(p *publication) {
	clear(p.topics)
	p.deliveries, p.topics = p.deliveries[:0], p.topics[:0]
	if len(l.publications) < 16 {
		l.publications = append(l.publications, p)
	}
}

// cut takes the n oldest messages of t away.
func (l *replay) cut(t *topicStack, n int) {
	for _, m := range t.list[:n] {
		l.release(m)
	}
	t.list = slices.Delete(t.list, 0, n)
}

// giveUp takes all open publications back.
func (l *replay) giveUp() {
	for len(l.open) > 0 {
		m := l.open[len(l.open)-1]
		p := m.open
		for _, k := range p.deliveries {
			if s, d := l.delivery(k.session, k.seq); d != nil && d.message == m {
				s.deliveries.kill(d)
				l.release(m)
			}
		}
		for _, t := range p.topics {
			t.list = slices.DeleteFunc(t.list, func(x *message) bool {
				if x == m {
					l.release(m)
				}
				return x == m
			})
			if len(t.list) == 0 && l.retained[t.topic] == t {
				delete(l.retained, t.topic)
			}
		}
		l.undelay(m.number)
		l.close(m)
		l.reuse(p)
		l.hold(m)
		l.release(m)
	}
}

func (l *replay) delivery(number, seq uint64) (*session, *delivery) {
	s := l.sessions[number]
	if s == nil {
		return nil, nil
	}
	d := s.deliveries.find(seq)
	if d == nil || d.dead {
		return s, nil
	}
	return s, d
}

func (l *replay) deliver(r *record) {
	s := l.session(r.session)
	s.seq = max(s.seq, r.seq)
	d := delivery{seq: r.seq, at: r.at, ids: r.ids, share: r.name, flags: r.flags}
	if r.message != 0 && r.flags&deliveryRecorded == 0 {
		m := l.refer(r)
		d.message = m
		l.hold(m)
		if m.open != nil {
			m.open.deliveries = append(m.open.deliveries, deliveryKey{r.session, r.seq})
		}
	}
	old := s.deliveries.find(r.seq)
	if old == nil {
		s.deliveries.add(d)
		return
	}
	if old.dead {
		s.deliveries.dead--
	}
	m := old.message
	*old = d
	l.release(m)
}

func (l *replay) retain(r *record) {
	t := l.retained[string(r.name)]
	if t == nil {
		t = &topicStack{topic: string(r.name)}
		l.retained[t.topic] = t
	}
	m := l.refer(r)
	l.hold(m)
	m.stamp = r.stamp
	t.list = append(t.list, m)
	if m.open != nil {
		m.open.topics = append(m.open.topics, t)
	} else {
		l.cut(t, len(t.list)-1)
	}
}

func (l *replay) unretain(r *record) {
	if t := l.retained[string(r.name)]; t != nil {
		delete(l.retained, t.topic)
		l.cut(t, len(t.list))
	}
}

func (l *replay) undelay(number uint64) {
	if d := l.delayed[number]; d != nil {
		delete(l.delayed, number)
		l.release(d.message)
	}
}

// missing says what is referred to and was never put.
type missing struct{ sessions, messages int }

func (m missing) String() string {
	return fmt.Sprintf("%s and %s that changes refer to", count(m.sessions, "session"), count(m.messages, "message"))
}

// giveIn ends all open publications: what says so may be lost, and what was acknowledged is worth more than what was not.
func (l *replay) giveIn() {
	for len(l.open) > 0 {
		l.end(l.open[len(l.open)-1])
	}
}

// missing counts what is referred to and was never put.
func (l *replay) missing() (lost missing) {
	if !l.madeUp {
		return missing{}
	}
	for _, m := range l.messages {
		if m.refs > 0 && m.body == nil {
			lost.messages++
		}
	}
	for _, s := range l.sessions {
		if s.stored == nil {
			lost.sessions++
		}
	}
	return lost
}

// finish gives up what is open and makes the result. What is missing, and what refers to it, is left out.
func (l *replay) finish() *engine.Stored {
	l.giveUp()
	out := &engine.Stored{LastSession: l.lastSession, LastMessage: l.lastMessage, Orderly: l.orderly}
	numbers := slices.Sorted(maps.Keys(l.sessions))
	out.Sessions = make([]*engine.StoredSession, 0, len(numbers))
	for _, n := range numbers {
		if s := l.sessions[n]; s.stored != nil {
			out.Sessions = append(out.Sessions, s.build())
		}
	}
	for _, t := range l.retained {
		delete(l.cleared, t.topic) // it has a message again
		if m := t.list[len(t.list)-1]; m.body != nil {
			x := m.build()
			x.Stamp = m.stamp
			out.Retained = append(out.Retained, x)
		}
	}
	slices.SortFunc(out.Retained, byNumber)
	for topic, x := range l.cleared {
		out.Cleared = append(out.Cleared, engine.StoredClear{Topic: topic, Stamp: x.stamp, Position: x.at})
	}
	slices.SortFunc(out.Cleared, func(a, b engine.StoredClear) int { return cmp.Compare(a.Position, b.Position) })
	for _, d := range l.delayed {
		if d.message.body != nil {
			out.Delayed = append(out.Delayed, engine.StoredDelayed{StoredMessage: d.message.build(), Due: d.due})
		}
	}
	slices.SortFunc(out.Delayed, func(a, b engine.StoredDelayed) int { return byNumber(a.StoredMessage, b.StoredMessage) })
	return out
}

func byNumber(a, b *engine.StoredMessage) int {
	if a.Number < b.Number {
		return -1
	}
	return 1
}

func (m *message) build() *engine.StoredMessage {
	if m.stored == nil {
		m.stored = &engine.StoredMessage{Number: m.number, Position: m.position, Message: readBody(m.body)}
	}
	return m.stored
}

func (s *session) build() *engine.StoredSession {
	out := s.stored
	out.Seq, out.Begun = s.seq, s.begun
	if len(s.subscriptions) > 0 {
		out.Subscriptions = make([]engine.Subscription, 0, len(s.subscriptions))
		for _, name := range slices.Sorted(maps.Keys(s.subscriptions)) {
			out.Subscriptions = append(out.Subscriptions, s.subscriptions[name])
		}
	}
	if len(s.releases) > 0 {
		out.Releases = make([]engine.StoredRelease, 0, len(s.releases))
		for _, id := range slices.Sorted(maps.Keys(s.releases)) {
			out.Releases = append(out.Releases, engine.StoredRelease{ID: id, At: s.releases[id]})
		}
	}
	for _, run := range s.deliveries.live() {
		out.Deliveries = make([]engine.StoredDelivery, 0, len(run))
		for i := range run {
			if d := run[i]; d.message == nil || d.message.body != nil {
				out.Deliveries = append(out.Deliveries, d.build())
			}
		}
	}
	return out
}

func (d *delivery) build() engine.StoredDelivery {
	out := engine.StoredDelivery{
		Seq: d.seq, At: d.at, QoS: packet.QoS(d.flags & flagQoS), Retain: d.flags&deliveryRetain != 0,
		Recorded: d.flags&deliveryRecorded != 0, IDs: readIDs(d.ids), Share: string(d.share),
	}
	if d.message != nil {
		out.Body = d.message.build()
		out.Message = out.Body.Number
	}
	return out
}
