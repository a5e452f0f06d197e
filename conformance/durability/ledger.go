package durability

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ledger is what was promised and what has arrived. Publishers write down what they send and what is acknowledged, audiences what
// reaches them; whatever contradicts a promise becomes a breach. It may be used from any goroutine.
type ledger struct {
	mu       sync.Mutex
	clock    int64 // counts sendings and subscriptions, to tell what was first
	streams  map[string]*stream
	breaches []string
	breached int // with those that are not kept
	acked    int // messages acknowledged
	arrived  int // messages that have reached an audience for the first time
	grown    chan struct{}
}

func newLedger() *ledger { return &ledger{streams: map[string]*stream{}, grown: make(chan struct{})} }

// kind tells what is promised of a stream besides arrival.
type kind int

const (
	ordinary kind = iota // order
	kept                 // retained: the last value
	later                // delayed: not before its time, in no order
	will                 // one message each
)

// stream is what one publisher sends to one topic with one QoS: the unit of order.
type stream struct {
	name  string
	topic string
	qos   byte
	kind  kind
	sent  []sending
	acked int // highest number acknowledged, plus 1
}

// sending is one message of a stream.
type sending struct {
	at      int64     // clock, when it was sent first
	time    time.Time // the same
	due     time.Time // of delayed messages and wills
	acked   bool
	refused bool // answered with an error: it may arrive or not
}

// audience is whoever should get messages: a session, or the sessions of a shared subscription together.
type audience struct {
	name    string
	shared  bool // no order
	filters []*interest
	got     map[string][]int32 // by stream: how often each message has reached the application
	top     map[string]int     // by stream: highest number so far, plus 1
}

// interest is one subscription of an audience. Times are those of the clock; 0 is not yet.
type interest struct {
	prefix string // what topics begin with; the suite has no other filters
	qos    byte
	since  int64 // SUBACK was there
	until  int64 // UNSUBACK was there
}

func newAudience(name string, shared bool) *audience {
	return &audience{name: name, shared: shared, got: map[string][]int32{}, top: map[string]int{}}
}

// breach writes down a broken promise. ledger.mu is held.
func (l *ledger) breach(format string, args ...any) {
	if l.breached++; len(l.breaches) < 40 {
		l.breaches = append(l.breaches, fmt.Sprintf(format, args...))
	}
}

// broken is breach for those who do not hold the lock.
func (l *ledger) broken(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breach(format, args...)
}

// verdict is what is broken, in lines; "" if nothing is.
func (l *ledger) verdict() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.breached == 0 {
		return ""
	}
	s := strings.Join(l.breaches, "\n")
	if more := l.breached - len(l.breaches); more > 0 {
		s += fmt.Sprintf("\nand %d more", more)
	}
	return s
}

// counts gives the messages acknowledged and those that have reached an audience.
func (l *ledger) counts() (acked, arrived int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked, l.arrived
}

// progress gives the messages acknowledged, and a channel that is closed when there are more.
func (l *ledger) progress() (int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked, l.grown
}

// stream opens a stream.
func (l *ledger) stream(name, topic string, qos byte, k kind) *stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &stream{name: name, topic: topic, qos: qos, kind: k}
	l.streams[name] = s
	return s
}

// send writes down that the next message of s is about to be sent, and gives its payload with so many bytes of filling. due is
// when a delayed message or will is to be published at the earliest.
func (l *ledger) send(s *stream, filling int, due time.Time) (int, []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	s.sent = append(s.sent, sending{at: l.clock, time: time.Now(), due: due})
	return len(s.sent) - 1, compose(s.name, len(s.sent)-1, filling)
}

// ack writes down that the broker has answered for a message.
func (l *ledger) ack(s *stream, n int, refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &s.sent[n]
	if refused {
		m.refused = true
		return
	}
	if m.acked {
		return
	}
	m.acked = true
	s.acked = max(s.acked, n+1)
	l.acked++
	close(l.grown)
	l.grown = make(chan struct{})
}

// subscribed writes down that a SUBACK has come.
func (l *ledger) subscribed(x *interest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	if x.since == 0 {
		x.since = l.clock
	}
}

// unsubscribed writes down that an UNSUBACK has come.
func (l *ledger) unsubscribed(x *interest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	x.until = l.clock
}

// arrive writes down that a message has reached the application of an audience.
func (l *ledger) arrive(a *audience, p *packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name, n, ok := parse(p.payload)
	if !ok {
		l.breach("%s: damaged payload on %s: %.80q", a.name, p.topic, p.payload)
		return
	}
	s := l.streams[name]
	if s == nil || n >= len(s.sent) {
		l.breach("%s: message %s %d was never sent", a.name, name, n)
		return
	}
	if s.topic != p.topic {
		l.breach("%s: message %s %d on topic %s, want %s", a.name, name, n, p.topic, s.topic)
	}
	x := a.interest(s.topic)
	if x == nil {
		l.breach("%s: message %s %d on %s is for nobody here", a.name, name, n, p.topic)
		return
	}
	if x.until != 0 && s.sent[n].at > x.until {
		l.breach("%s: message %s %d was published after UNSUBACK", a.name, name, n)
	}
	qos := min(s.qos, x.qos)
	if p.qos != qos {
		l.breach("%s: message %s %d with QoS %d, want %d", a.name, name, n, p.qos, qos)
	}
	if due := s.sent[n].due; !due.IsZero() && time.Now().Before(due) {
		l.breach("%s: message %s %d came %v before it was due", a.name, name, n, time.Until(due).Round(time.Millisecond))
	}
	got := a.got[name]
	if n >= len(got) {
		got = append(got, make([]int32, n+1-len(got))...)
		a.got[name] = got
	}
	got[n]++
	if got[n] > 1 {
		if qos == 2 {
			l.breach("%s: message %s %d of QoS 2 came %d times", a.name, name, n, got[n])
		}
		return
	}
	l.arrived++
	if n+1 < a.top[name] && !a.shared && (s.kind == ordinary || s.kind == kept) {
		l.breach("%s: message %s %d came first after %d", a.name, name, n, a.top[name]-1)
	}
	a.top[name] = max(a.top[name], n+1)
}

func (a *audience) interest(topic string) *interest {
	for _, x := range a.filters {
		if strings.HasPrefix(topic, x.prefix) {
			return x
		}
	}
	return nil
}

// missing gives what the audience should have got and has not, as texts, at most so many, and how many they are in all. Of what is
// not due yet it says nothing.
func (l *ledger) missing(a *audience, most int) (texts []string, count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for name, s := range l.streams {
		x := a.interest(s.topic)
		if x == nil || x.since == 0 {
			continue
		}
		got := a.got[name]
		for n := range s.sent {
			m := &s.sent[n]
			if !m.acked || m.at < x.since || x.until != 0 || n < len(got) && got[n] > 0 || m.due.After(now) {
				continue
			}
			if count++; len(texts) < most {
				texts = append(texts, fmt.Sprintf("%s %d (QoS %d)", name, n, s.qos))
			}
		}
	}
	slices.Sort(texts)
	return texts, count
}

// lastDue is when the last delayed message or will that was acknowledged is due.
func (l *ledger) lastDue() (last time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.streams {
		for _, m := range s.sent {
			if m.acked && m.due.After(last) {
				last = m.due
			}
		}
	}
	return last
}

// marks gives for each stream of retained messages the topic and the lowest number that a new subscriber may find there.
func (l *ledger) marks() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	marks := map[string]int{}
	for _, s := range l.streams {
		if s.kind == kept && s.acked > 0 {
			marks[s.topic] = s.acked - 1
		}
	}
	return marks
}

var checksums = crc32.MakeTable(crc32.Castagnoli)

// compose is the payload of a message: stream, number, filling that follows from both, and a checksum of it all.
func compose(name string, n, filling int) []byte {
	b := append([]byte(name), ' ')
	b = append(strconv.AppendInt(b, int64(n), 10), ' ')
	x := uint32(n)*2654435761 + uint32(len(name))
	for range filling {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b = append(b, 'a'+byte(x>>8)%26)
	}
	return fmt.Appendf(b, " %08x", crc32.Checksum(b, checksums))
}

// parse is the way back.
func parse(b []byte) (name string, n int, ok bool) {
	if len(b) < 9 {
		return "", 0, false
	}
	text, sum := b[:len(b)-9], b[len(b)-8:]
	if fmt.Sprintf("%08x", crc32.Checksum(text, checksums)) != string(sum) {
		return "", 0, false
	}
	name, rest, ok := strings.Cut(string(text), " ")
	number, _, ok2 := strings.Cut(rest, " ")
	n, err := strconv.Atoi(number)
	return name, n, ok && ok2 && err == nil && n >= 0
}
