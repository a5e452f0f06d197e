package engine

import (
	"container/heap"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// DelayedOptions are the limits of delayed messages. Zero values do not limit.
type DelayedOptions struct {
	MaxMessages int   // a message above it is refused
	MaxBytes    int64 // of topics, payloads and properties
}

// delayed holds the messages that are to be published later. They are durable like retained ones.
type delayed struct {
	options atomic.Pointer[DelayedOptions] // nil: off; what waits goes on waiting
	next    atomic.Int64                   // when the first is due, ns since the epoch; 0: none waits

	mu      sync.Mutex
	waiting delayedHeap
	inHand  *held // being published
	bytes   int64
	refused int64
}

// held is a message that waits.
type held struct {
	due int64
	m   *shared // its number orders those that are due at one time
}

// delayedHeap has the first that is due on top.
type delayedHeap []held

func (h delayedHeap) Len() int { return len(h) }
func (h delayedHeap) Less(i, j int) bool {
	if h[i].due == h[j].due {
		return h[i].m.number.Load() < h[j].m.number.Load()
	}
	return h[i].due < h[j].due
}
func (h delayedHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *delayedHeap) Push(x any)   { *h = append(*h, x.(held)) }
func (h *delayedHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = held{}
	*h = old[:len(old)-1]
	return x
}

// EnableDelayed switches delayed messages on, or changes the limits; what waits already stays.
func (e *Engine) EnableDelayed(o DelayedOptions) error {
	if o.MaxMessages < 0 || o.MaxBytes < 0 {
		return fmt.Errorf("%w: limits of delayed messages are negative", ErrBadSetting)
	}
	e.delayed.options.Store(&o)
	return nil
}

// DisableDelayed switches delayed messages off: none is taken, and what waits goes on waiting until they are on again.
func (e *Engine) DisableDelayed() { e.delayed.options.Store(nil) }

// Delayed gives how many messages wait, and how many were refused at a limit since the start.
func (e *Engine) Delayed() (waiting int, refused int64) {
	d := &e.delayed
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting), d.refused
}

// Delay takes m over for a Publish hook, which returns handled: a copy of it is published under another topic when it is due, through
// hooks, retainer and routing, and with the time of m for its expiry. The publisher is answered when the store has it. Errors: ErrBadTopic;
// ErrQuota at a limit, when the store cannot keep it, or when delayed messages are off.
func (e *Engine) Delay(m *Message, name string, due time.Time) error {
	if !topic.ValidName(name) || !m.QoS.Valid() {
		return ErrBadTopic
	}
	d, du := &e.delayed, &e.durable
	o := d.options.Load()
	if o == nil || du.store != nil && du.store.Err() != nil {
		return ErrQuota
	}
	sh := keepMessage(m)
	sh.Topic, sh.staged = name, 0
	size := int64(sh.queued())
	d.mu.Lock()
	defer d.mu.Unlock()
	if o.MaxMessages > 0 && len(d.waiting) >= o.MaxMessages || o.MaxBytes > 0 && d.bytes+size > o.MaxBytes {
		d.refused++
		return ErrQuota
	}
	du.name(sh)
	if du.store != nil {
		sh.at.Store(uint64(du.store.PutMessage(sh.number.Load(), &sh.Message, false)))
		m.staged = du.store.PutDelayed(sh.number.Load(), due.UnixNano())
		du.hold(sh)
	}
	d.push(held{due.UnixNano(), sh})
	return nil
}

// push adds x. d.mu is held.
func (d *delayed) push(x held) {
	heap.Push(&d.waiting, x)
	d.bytes += int64(x.m.queued())
	d.next.Store(d.waiting[0].due)
}

// runDelayed publishes what is due at now.
func (e *Engine) runDelayed(now int64) {
	d := &e.delayed
	for {
		if next := d.next.Load(); next == 0 || next > now || d.options.Load() == nil {
			return
		}
		b := e.borrow()
		for n := 0; n < 1000; n++ { // flush now and then
			x, ok := d.pop(now)
			if !ok {
				break
			}
			if _, err := b.inject(&x.m.Message, true); err != nil {
				e.log.Warn("delayed message not published", "topic", x.m.Topic, "err", err)
			}
			if du := &e.durable; du.store != nil { // last: a crash between the two repeats the message, and does not lose it
				d.mu.Lock()
				du.store.EndDelayed(x.m.number.Load())
				d.inHand = nil
				d.mu.Unlock()
				du.forget(x.m)
			}
		}
		b.giveBack()
	}
}

// pop takes the first message that is due at now.
func (d *delayed) pop(now int64) (held, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiting) == 0 || d.waiting[0].due > now {
		return held{}, false
	}
	x := heap.Pop(&d.waiting).(held)
	d.inHand = &x
	d.bytes -= int64(x.m.queued())
	d.next.Store(0)
	if len(d.waiting) > 0 {
		d.next.Store(d.waiting[0].due)
	}
	return x, true
}

// rewrite stages again what was staged at or before that Position.
func (d *delayed) rewrite(b *Batch, before Position) {
	du := &b.e.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	again := func(x held) {
		if Position(x.m.at.Load()) <= before {
			b.e.putMessage(b, x.m, false)
			b.stage(du.store.PutDelayed(x.m.number.Load(), x.due))
		}
	}
	for _, x := range d.waiting {
		again(x)
	}
	if d.inHand != nil {
		again(*d.inHand)
	}
}
