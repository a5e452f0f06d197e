package engine

import (
	"context"
	"sync"
	"time"
)

// stallLimit is the step of the clock from which on it says nothing about the clients: the process did not run, or somebody set
// the time. What clients sent meanwhile may not have been read yet.
const stallLimit = time.Second

// Run does the housekeeping (clock, timers, $SYS topics, paced deliveries) until ctx ends, and returns nil then.
func (e *Engine) Run(ctx context.Context) error {
	tick := time.NewTicker(wheelTick)
	defer tick.Stop()
	var wg sync.WaitGroup
	wg.Go(func() { e.runRelease(ctx) })
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			now := e.now()
			if now.UnixNano()-e.clock.Load() > int64(stallLimit) {
				e.woke.Store(now.UnixNano())
			}
			e.Advance(now)
		case <-e.pumps.wake:
			e.stepping.Lock()
			e.runPumps(1)
			e.stepping.Unlock()
		}
	}
}

// runRelease follows the store on a goroutine of its own: acknowledgements wait for nothing but the disk.
func (e *Engine) runRelease(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.durable.progress:
			e.release()
			e.storeAlarm()
		}
	}
}

// time is the present, ns since the epoch. It does not go back, and it is right even when Run comes late because the processor
// is busy: a will, an expiry or a keep alive that began with an old clock would end too early.
func (e *Engine) time() int64 { return max(e.clock.Load(), e.now().UnixNano()) }

// Advance does the housekeeping that is due at now, once: for tests and for programs that have a loop of their own. Time does
// not go back.
func (e *Engine) Advance(now time.Time) {
	e.stepping.Lock()
	defer e.stepping.Unlock()
	t := now.UnixNano()
	if t < e.clock.Load() {
		t = e.clock.Load()
	}
	e.clock.Store(t)
	due := e.wheel.advance(t, nil)
	for len(due) > 0 {
		b := e.borrow()
		n := min(len(due), 1000) // flush now and then
		for _, o := range due[:n] {
			o.fire(b)
		}
		due = due[n:]
		b.giveBack()
	}
	if t >= e.sweepDue {
		e.sweepDue = t + sweepInterval
		e.sweeps.Add(1)
		e.sweepCleared()
	}
	e.runDelayed(t)
	e.tickLinks(t)
	e.release()
	e.sysTick(t)
	e.runPumps(maxPumps)
}

// maxPumps bounds the chunks of retained messages of one Advance.
const maxPumps = 1000

// pumpList is the sessions that can take more retained messages.
type pumpList struct {
	mu   sync.Mutex
	list []*Session
	wake chan struct{}
}

// needPump has Run go on with the retained messages of s.
func (e *Engine) needPump(s *Session) {
	p := &e.pumps
	p.mu.Lock()
	p.list = append(p.list, s)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// runPumps gives each session of the list one chunk, for as many rounds. e.stepping is held.
func (e *Engine) runPumps(rounds int) {
	for range rounds {
		e.pumps.mu.Lock()
		list := e.pumps.list
		e.pumps.list = nil
		e.pumps.mu.Unlock()
		if len(list) == 0 {
			return
		}
		b := e.borrow()
		for _, s := range list {
			e.feed(b, s)
			b.Flush()
			b.begin()
		}
		b.giveBack()
	}
}
