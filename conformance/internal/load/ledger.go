package load

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Ledger is what was promised and what has arrived. Publishers write down what they send and what is acknowledged, audiences what
// reaches them; whatever contradicts a promise becomes a breach. It may be used from any goroutine.
type Ledger struct {
	mu       sync.Mutex
	clock    int64 // counts sendings and subscriptions, to tell what was first
	streams  map[string]*Stream
	breaches []string
	breached int // with those that are not kept
	acked    int // messages acknowledged
	arrived  int // messages that have reached an audience for the first time
	grown    chan struct{}
}

// NewLedger is a ledger in which nothing stands.
func NewLedger() *Ledger { return &Ledger{streams: map[string]*Stream{}, grown: make(chan struct{})} }

// Kind tells what is promised of a stream besides arrival.
type Kind int

const (
	Ordinary Kind = iota // order
	Kept                 // retained: the last value
	Later                // delayed: not before its time, in no order
	Will                 // one message each
)

// Stream is what one publisher sends to one topic with one QoS: the unit of order.
type Stream struct {
	name  string
	Topic string
	qos   byte
	kind  Kind
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

// Audience is whoever should get messages: a session, or the sessions of a shared subscription together.
type Audience struct {
	Name    string
	Shared  bool // no order
	Filters []*Interest
	got     map[string][]int32 // by stream: how often each message has reached the application
	top     map[string]int     // by stream: highest number so far, plus 1
}

// Interest is one subscription of an audience. Times are those of the clock; 0 is not yet.
type Interest struct {
	Prefix string // what topics begin with; the suite has no other filters
	QoS    byte
	since  int64 // SUBACK was there
	until  int64 // UNSUBACK was there
}

// NewAudience is an audience that nothing has reached.
func NewAudience(name string, shared bool) *Audience {
	return &Audience{Name: name, Shared: shared, got: map[string][]int32{}, top: map[string]int{}}
}

// breach writes down a broken promise. l.mu is held.
func (l *Ledger) breach(format string, args ...any) {
	if l.breached++; len(l.breaches) < 40 {
		l.breaches = append(l.breaches, fmt.Sprintf(format, args...))
	}
}

// Broken is breach for those who do not hold the lock.
func (l *Ledger) Broken(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breach(format, args...)
}

// Verdict is what is broken, in lines; "" if nothing is.
func (l *Ledger) Verdict() string {
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

// Counts gives the messages acknowledged and those that have reached an audience.
func (l *Ledger) Counts() (acked, arrived int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked, l.arrived
}

// Progress gives the messages acknowledged, and a channel that is closed when there are more.
func (l *Ledger) Progress() (int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked, l.grown
}

// Stream opens a stream.
func (l *Ledger) Stream(name, topic string, qos byte, k Kind) *Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Stream{name: name, Topic: topic, qos: qos, kind: k}
	l.streams[name] = s
	return s
}

// Send writes down that the next message of s is about to be sent, and gives its payload with so many bytes of filling. due is
// when a delayed message or will is to be published at the earliest.
func (l *Ledger) Send(s *Stream, filling int, due time.Time) (int, []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	s.sent = append(s.sent, sending{at: l.clock, time: time.Now(), due: due})
	return len(s.sent) - 1, Compose(s.name, len(s.sent)-1, filling)
}

// Ack writes down that the broker has answered for a message.
func (l *Ledger) Ack(s *Stream, n int, refused bool) {
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
func (l *Ledger) subscribed(x *Interest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	if x.since == 0 {
		x.since = l.clock
	}
}

// unsubscribed writes down that an UNSUBACK has come.
func (l *Ledger) unsubscribed(x *Interest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	x.until = l.clock
}

// arrive writes down that a message has reached the application of an audience.
func (l *Ledger) arrive(a *Audience, p *Packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name, n, ok := Parse(p.Payload)
	if !ok {
		l.breach("%s: damaged payload on %s: %.80q", a.Name, p.Topic, p.Payload)
		return
	}
	s := l.streams[name]
	if s == nil || n >= len(s.sent) {
		l.breach("%s: message %s %d was never sent", a.Name, name, n)
		return
	}
	if s.Topic != p.Topic {
		l.breach("%s: message %s %d on topic %s, want %s", a.Name, name, n, p.Topic, s.Topic)
	}
	x := a.interest(s.Topic)
	if x == nil {
		l.breach("%s: message %s %d on %s is for nobody here", a.Name, name, n, p.Topic)
		return
	}
	if x.until != 0 && s.sent[n].at > x.until {
		l.breach("%s: message %s %d was published after UNSUBACK", a.Name, name, n)
	}
	qos := min(s.qos, x.QoS)
	if p.QoS != qos {
		l.breach("%s: message %s %d with QoS %d, want %d", a.Name, name, n, p.QoS, qos)
	}
	if due := s.sent[n].due; !due.IsZero() && time.Now().Before(due) {
		l.breach("%s: message %s %d came %v before it was due", a.Name, name, n, time.Until(due).Round(time.Millisecond))
	}
	got := a.got[name]
	if n >= len(got) {
		got = append(got, make([]int32, n+1-len(got))...)
		a.got[name] = got
	}
	got[n]++
	if got[n] > 1 {
		if qos == 2 {
			l.breach("%s: message %s %d of QoS 2 came %d times", a.Name, name, n, got[n])
		}
		return
	}
	l.arrived++
	if n+1 < a.top[name] && !a.Shared && (s.kind == Ordinary || s.kind == Kept) {
		l.breach("%s: message %s %d came first after %d", a.Name, name, n, a.top[name]-1)
	}
	a.top[name] = max(a.top[name], n+1)
}

func (a *Audience) interest(topic string) *Interest {
	for _, x := range a.Filters {
		if strings.HasPrefix(topic, x.Prefix) {
			return x
		}
	}
	return nil
}

// Missing gives what the audience should have got and has not, as texts, at most so many, and how many they are in all. Of what is
// not due yet it says nothing.
func (l *Ledger) Missing(a *Audience, most int) (texts []string, count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for name, s := range l.streams {
		x := a.interest(s.Topic)
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

// LastDue is when the last delayed message or will that was acknowledged is due.
func (l *Ledger) LastDue() (last time.Time) {
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

// marks gives for each stream of retained messages below prefix the topic and the lowest number that a new subscriber may find there.
func (l *Ledger) marks(prefix string) map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	marks := map[string]int{}
	for _, s := range l.streams {
		if s.kind == Kept && s.acked > 0 && strings.HasPrefix(s.Topic, prefix) {
			marks[s.Topic] = s.acked - 1
		}
	}
	return marks
}

var checksums = crc32.MakeTable(crc32.Castagnoli)

// Compose is the payload of a message: stream, number, filling that follows from both, and a checksum of it all.
func Compose(name string, n, filling int) []byte {
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

// Parse is the way back.
func Parse(b []byte) (name string, n int, ok bool) {
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
