package storetest

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// op is a change that was staged.
type op struct {
	kind    string
	at      engine.Position
	session uint64
	seq     uint64
	message uint64
	open    bool
	id      uint16
	time    int64
	name    string // topic or subscription
	stored  engine.StoredSession
	sub     engine.Subscription
	stamp   engine.Stamp
	msg     engine.Message
	del     engine.StoredDelivery
}

// model stages changes and remembers them. What a store must hold at a Position follows from the list of what was staged up to
// there, as naively as can be.
type model struct {
	s   engine.Store
	ops []op
}

func (m *model) note(o op, at engine.Position) { o.at = at; m.ops = append(m.ops, o) }

func (m *model) putSession(n uint64, s engine.StoredSession) {
	m.note(op{kind: "session", session: n, stored: s}, m.s.PutSession(n, &s))
}
func (m *model) endSession(n uint64) { m.note(op{kind: "end session", session: n}, m.s.EndSession(n)) }
func (m *model) putSubscription(n uint64, x engine.Subscription) {
	m.note(op{kind: "subscription", session: n, sub: x, name: x.Name()}, m.s.PutSubscription(n, &x))
}
func (m *model) endSubscription(n uint64, name string) {
	m.note(op{kind: "end subscription", session: n, name: name}, m.s.EndSubscription(n, name))
}
func (m *model) putMessage(n uint64, x engine.Message, open bool) {
	m.note(op{kind: "message", message: n, msg: x, open: open}, m.s.PutMessage(n, &x, open))
}
func (m *model) endPublication(n, session uint64, id uint16, at int64) {
	m.note(op{kind: "end publication", message: n, session: session, id: id, time: at}, m.s.EndPublication(n, session, id, at))
}
func (m *model) putDelivery(n uint64, d engine.StoredDelivery) {
	d.Body = nil
	m.note(op{kind: "delivery", session: n, seq: d.Seq, message: d.Message, del: d}, m.s.PutDelivery(n, &d))
}
func (m *model) endDelivery(n, seq uint64) {
	m.note(op{kind: "end delivery", session: n, seq: seq}, m.s.EndDelivery(n, seq))
}
func (m *model) recorded(n, seq uint64) {
	m.note(op{kind: "recorded", session: n, seq: seq}, m.s.Recorded(n, seq))
}
func (m *model) begun(n, seq uint64) {
	m.note(op{kind: "begun", session: n, seq: seq}, m.s.Begun(n, seq))
}
func (m *model) putRelease(n uint64, id uint16, at int64) {
	m.note(op{kind: "release", session: n, id: id, time: at}, m.s.PutRelease(n, id, at))
}
func (m *model) endRelease(n uint64, id uint16) {
	m.note(op{kind: "end release", session: n, id: id}, m.s.EndRelease(n, id))
}
func (m *model) putRetained(n uint64, topic string, stamp engine.Stamp) {
	m.note(op{kind: "retained", message: n, name: topic, stamp: stamp}, m.s.PutRetained(n, topic, stamp))
}
func (m *model) clearRetained(topic string, stamp engine.Stamp) {
	m.note(op{kind: "clear retained", name: topic, stamp: stamp}, m.s.ClearRetained(topic, stamp))
}
func (m *model) endRetained(topic string) {
	m.note(op{kind: "end retained", name: topic}, m.s.EndRetained(topic))
}
func (m *model) putDelayed(n uint64, due int64) {
	m.note(op{kind: "delayed", message: n, time: due}, m.s.PutDelayed(n, due))
}
func (m *model) endDelayed(n uint64) {
	m.note(op{kind: "end delayed", message: n}, m.s.EndDelayed(n))
}

// boot notes that a process has begun: m.s is a store that was just started.
func (m *model) boot() { m.note(op{kind: "boot"}, m.s.Staged()) }

// cut forgets what was staged behind p. false: no change ends there.
func (m *model) cut(p engine.Position) bool {
	n := len(m.ops)
	for n > 0 && m.ops[n-1].at > p {
		n--
	}
	m.ops = m.ops[:n]
	return p == 0 && n == 0 || n > 0 && m.ops[n-1].at == p
}

type modelSession struct {
	stored     engine.StoredSession
	seq, begun uint64
	subs       map[string]engine.Subscription
	deliveries map[uint64]engine.StoredDelivery
	releases   map[uint16]int64
}

// void gives the changes that do not count: those that refer to a publication that has not ended before the process did. With now
// set the publications that are open at the end count.
func (m *model) void(now bool) []bool {
	void := make([]bool, len(m.ops))
	open := map[uint64][]int{}
	giveUp := func() {
		for _, list := range open {
			for _, i := range list {
				void[i] = true
			}
		}
		clear(open)
	}
	for i, o := range m.ops {
		switch o.kind {
		case "message":
			if o.open {
				open[o.message] = append(open[o.message], i)
			} else {
				delete(open, o.message)
			}
		case "delivery", "retained", "delayed":
			if list, ok := open[o.message]; ok && o.message != 0 {
				open[o.message] = append(list, i)
			}
		case "end publication":
			delete(open, o.message)
		case "boot":
			giveUp()
		}
	}
	if !now {
		giveUp()
	}
	return void
}

// state is what must be stored. now: the view of the process that runs, which sees its open publications.
func (m *model) state(now bool) *engine.Stored {
	void := m.void(now)
	sessions := map[uint64]*modelSession{}
	messages := map[uint64]*engine.StoredMessage{}
	retained := map[string]op{}
	cleared := map[string]op{}
	delayed := map[uint64]int64{}
	for i, o := range m.ops {
		s := sessions[o.session]
		if o.kind == "delivery" && s != nil {
			s.seq = max(s.seq, o.seq)
		}
		if void[i] {
			continue
		}
		if _, removes := strings.CutPrefix(o.kind, "end "); s == nil && removes && o.kind != "end publication" {
			s = &modelSession{}
		}
		if s == nil && o.session != 0 {
			s = &modelSession{subs: map[string]engine.Subscription{}, deliveries: map[uint64]engine.StoredDelivery{}, releases: map[uint16]int64{}}
			sessions[o.session] = s
		}
		switch o.kind {
		case "session":
			s.stored = o.stored
			s.stored.Number = o.session
			s.seq, s.begun = max(s.seq, o.stored.Seq), max(s.begun, o.stored.Begun)
		case "end session":
			delete(sessions, o.session)
		case "subscription":
			s.subs[o.name] = o.sub
		case "end subscription":
			delete(s.subs, o.name)
		case "message":
			messages[o.message] = &engine.StoredMessage{Number: o.message, Position: o.at, Message: o.msg}
		case "end publication":
			if o.session != 0 {
				s.releases[o.id] = o.time
			}
		case "delivery":
			s.deliveries[o.seq] = o.del
		case "end delivery":
			delete(s.deliveries, o.seq)
		case "recorded":
			if d, ok := s.deliveries[o.seq]; ok {
				d.Recorded, d.Message = true, 0
				s.deliveries[o.seq] = d
			}
		case "begun":
			s.begun = max(s.begun, o.seq)
		case "release":
			s.releases[o.id] = o.time
		case "end release":
			delete(s.releases, o.id)
		case "retained":
			retained[o.name] = o
			delete(cleared, o.name)
		case "clear retained":
			delete(retained, o.name)
			cleared[o.name] = o
		case "end retained":
			delete(retained, o.name)
			delete(cleared, o.name)
		case "delayed":
			delayed[o.message] = o.time
		case "end delayed":
			delete(delayed, o.message)
		}
	}
	out := &engine.Stored{}
	for _, n := range slices.Sorted(maps.Keys(sessions)) {
		s := sessions[n]
		x := s.stored
		x.Seq, x.Begun = s.seq, s.begun
		for _, name := range slices.Sorted(maps.Keys(s.subs)) {
			x.Subscriptions = append(x.Subscriptions, s.subs[name])
		}
		for _, seq := range slices.Sorted(maps.Keys(s.deliveries)) {
			d := s.deliveries[seq]
			if d.Recorded {
				d.Message = 0
			} else {
				d.Body = messages[d.Message]
			}
			x.Deliveries = append(x.Deliveries, d)
		}
		for _, id := range slices.Sorted(maps.Keys(s.releases)) {
			x.Releases = append(x.Releases, engine.StoredRelease{ID: id, At: s.releases[id]})
		}
		out.Sessions = append(out.Sessions, &x)
	}
	for _, o := range slices.SortedFunc(maps.Values(retained), func(a, b op) int { return cmp.Compare(a.message, b.message) }) {
		messages[o.message].Stamp = o.stamp
		out.Retained = append(out.Retained, messages[o.message])
	}
	for _, o := range slices.SortedFunc(maps.Values(cleared), func(a, b op) int { return cmp.Compare(a.at, b.at) }) {
		out.Cleared = append(out.Cleared, engine.StoredClear{Topic: o.name, Stamp: o.stamp, Position: o.at})
	}
	for _, n := range slices.Sorted(maps.Keys(delayed)) {
		out.Delayed = append(out.Delayed, engine.StoredDelayed{StoredMessage: messages[n], Due: delayed[n]})
	}
	return out
}

// rewrite stages everything again that holds, as an engine does: it knows nothing of what an open publication has replaced, and
// leaves open publications alone.
func (m *model) rewrite() {
	open := map[uint64]bool{}
	for _, o := range m.ops {
		switch o.kind {
		case "message":
			open[o.message] = o.open
		case "end publication":
			delete(open, o.message)
		case "boot":
			clear(open)
		}
	}
	put := map[uint64]bool{}
	message := func(x *engine.StoredMessage) bool {
		if open[x.Number] {
			return false
		}
		if !put[x.Number] {
			put[x.Number] = true
			m.putMessage(x.Number, x.Message, false)
		}
		return true
	}
	state := m.state(true)
	for _, s := range state.Sessions {
		x := *s
		x.Subscriptions, x.Deliveries, x.Releases = nil, nil, nil
		m.putSession(s.Number, x)
		for _, sub := range s.Subscriptions {
			m.putSubscription(s.Number, sub)
		}
		for _, d := range s.Deliveries {
			if d.Body == nil || message(d.Body) {
				m.putDelivery(s.Number, d)
			}
		}
		for _, r := range s.Releases {
			m.putRelease(s.Number, r.ID, r.At)
		}
	}
	for _, x := range state.Retained {
		if message(x) {
			m.putRetained(x.Number, x.Message.Topic, x.Stamp)
		}
	}
	for _, x := range state.Cleared {
		m.clearRetained(x.Topic, x.Stamp)
	}
	for _, x := range state.Delayed {
		if message(x.StoredMessage) {
			m.putDelayed(x.Number, x.Due)
		}
	}
}
