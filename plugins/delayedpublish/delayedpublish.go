// Package delayedpublish is the plugin that holds messages back: what is published
// to $delayed/{seconds}/{topic} reaches the subscribers of {topic} that many seconds
// later.
package delayedpublish

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// Prefix begins the topics that the plugin takes.
const Prefix = "$delayed/"

// MaxDelay is the longest delay in seconds. A larger number is a Unix time, which may
// lie at most that far ahead.
const MaxDelay = 4294967

// Descriptor describes the plugin. EMQ 2.3 does not list it.
func Descriptor() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "delayed_publish",
		V3:      plugins.Listing{Version: "3.0", Description: "EMQ X Delayed Publish"},
		Default: true,
		Keys:    keys,
		New:     func() plugins.Plugin { return new(Delayed) },
	}
}

var keys = []config.Key{
	{
		Name: "delayed_publish.max_messages", Type: config.Integer, Default: "100000", Min: 1, Plugin: "delayed_publish",
		Doc: "The most messages that wait at a time; a further one is refused.",
	},
	{
		Name: "delayed_publish.max_bytes", Type: config.Bytesize, Default: "64MB", Min: 1, Plugin: "delayed_publish",
		Doc: "The most bytes of topics, payloads and properties that wait at a time; a message beyond is refused.",
	},
}

// Delayed is the running plugin. Waiting messages are kept in memory.
type Delayed struct {
	engine *engine.Engine
	log    *slog.Logger
	remove func()
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // holds one: the first message has changed

	mu       sync.Mutex // guards what follows
	waiting  queue
	bytes    int
	seq      uint64
	maxCount int
	maxBytes int
	refused  int64
}

// Start takes the topics over.
func (d *Delayed) Start(_ context.Context, env plugins.Env) error {
	d.engine, d.log = env.Engine, env.Logger
	d.done, d.wake = make(chan struct{}), make(chan struct{}, 1)
	if err := d.Configure(context.Background(), env.Config); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	go d.run(ctx)
	d.remove = env.Engine.AddHooks("delayed_publish", engine.Hooks{Publish: d.take})
	return nil
}

// Configure sets the limits; what waits already stays.
func (d *Delayed) Configure(_ context.Context, cfg *config.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.maxCount, d.maxBytes = cfg.Int("delayed_publish.max_messages"), int(cfg.Bytes("delayed_publish.max_bytes"))
	return nil
}

// Stop drops what waits: without the plugin nobody would publish it.
func (d *Delayed) Stop(context.Context) error {
	d.remove()
	d.cancel()
	<-d.done
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.waiting); n > 0 {
		d.log.Warn("delayed messages dropped with the plugin", "messages", n)
	}
	d.waiting, d.bytes = nil, 0
	return nil
}

// Waiting returns how many messages wait, and how many were refused at a limit since
// the start.
func (d *Delayed) Waiting() (messages int, refused int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting), d.refused
}

// errDelay says what is wrong with the topic of a delayed message.
var errDelay = errors.New("bad delay")

// parse splits $delayed/{seconds}/{topic}. The topic is used as it stands: one that
// begins with a slash keeps it, and $SYS is allowed.
func parse(name string, now time.Time) (to string, due time.Time, err error) {
	rest, ok := strings.CutPrefix(name, Prefix)
	if !ok {
		return "", time.Time{}, fmt.Errorf("%w: no delayed topic", errDelay)
	}
	number, to, ok := strings.Cut(rest, "/")
	if !ok || !topic.ValidName(to) {
		return "", time.Time{}, fmt.Errorf("%w: no topic behind the seconds", errDelay)
	}
	seconds, err := strconv.ParseUint(number, 10, 33)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("%w: %q is no number of seconds", errDelay, number)
	}
	if seconds < MaxDelay {
		return to, now.Add(time.Duration(seconds) * time.Second), nil
	}
	due = time.Unix(int64(seconds), 0)
	if due.After(now.Add(MaxDelay * time.Second)) {
		return "", time.Time{}, fmt.Errorf("%w: more than %d s ahead", errDelay, MaxDelay)
	}
	return to, due, nil
}

// take is the publish hook.
func (d *Delayed) take(m *engine.Message) (bool, packet.ReasonCode) {
	if !strings.HasPrefix(m.Topic, Prefix) {
		return false, packet.Success
	}
	now := time.Now()
	to, due, err := parse(m.Topic, now)
	if err != nil || strings.HasPrefix(to, Prefix) {
		return true, packet.TopicNameInvalid
	}
	// The delay may not open a way to topics that the client may not publish to.
	if !plugins.MayPublish(d.engine, m, to) {
		return true, packet.NotAuthorized
	}
	held := m.Clone()
	held.Topic = to
	if !d.hold(held, due) {
		return true, packet.QuotaExceeded
	}
	return true, packet.Success
}

// hold queues a message; false where a limit is reached.
func (d *Delayed) hold(m *engine.Message, due time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	size := len(m.Topic) + len(m.Payload) + len(m.Properties)
	if len(d.waiting) >= d.maxCount || d.bytes+size > d.maxBytes {
		d.refused++
		return false
	}
	d.bytes += size
	d.seq++
	heap.Push(&d.waiting, &item{due: due, seq: d.seq, size: size, message: m})
	if d.waiting[0].seq == d.seq {
		select {
		case d.wake <- struct{}{}:
		default: // a wake-up is on its way
		}
	}
	return true
}

// run publishes what is due. Timers run by the monotonic clock and due times by the
// wall clock, so it looks again at least once a minute.
func (d *Delayed) run(ctx context.Context) {
	defer close(d.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Minute
		for {
			m, next := d.next(time.Now())
			if m == nil {
				wait = min(wait, max(next, 0))
				break
			}
			if _, err := d.engine.Publish(m); err != nil {
				d.log.Warn("delayed message not published", "topic", m.Topic, "err", err)
			}
			if ctx.Err() != nil {
				return
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// next takes the first message that is due, or says how long it is until one is.
func (d *Delayed) next(now time.Time) (*engine.Message, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 {
		return nil, time.Hour
	}
	if first := d.waiting[0]; first.due.After(now) {
		return nil, first.due.Sub(now)
	}
	it := heap.Pop(&d.waiting).(*item)
	d.bytes -= it.size
	return it.message, 0
}

// item is a message that waits.
type item struct {
	due     time.Time
	seq     uint64 // order of arrival among those due at one time
	size    int
	message *engine.Message
}

// queue is a heap, the first due on top.
type queue []*item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].seq < q[j].seq
	}
	return q[i].due.Before(q[j].due)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*item)) }
func (q *queue) Pop() any {
	old := *q
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return it
}

var (
	_ plugins.Plugin     = (*Delayed)(nil)
	_ plugins.Configurer = (*Delayed)(nil)
)
