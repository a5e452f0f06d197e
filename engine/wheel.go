package engine

import (
	"sync"
	"time"
)

// A wheel keeps many timers that mostly never fire: four rings of slots, each 64 times as coarse as the one before. Setting
// and stopping cost the same at any number. Timers fire at their tick or up to one tick late, in no order.
type wheel struct {
	mu    sync.Mutex
	now   int64 // the tick up to which timers have fired
	slots [wheelLevels][wheelSlots]*timer
}

const (
	wheelTick   = 100 * time.Millisecond
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 5 // 100 ms * 64^5: 3.4 years; later ones go round again
)

// timer is an entry of a wheel, embedded in what it belongs to.
type timer struct {
	next, prev *timer // guarded by wheel.mu
	slot       **timer
	when       int64 // tick
	owner      timerOwner
}

// timerOwner is called without locks when its timer fires. It may set the timer again.
type timerOwner interface {
	fire(b *Batch)
}

// tickOf is the first tick at or after t, ns since the epoch.
func tickOf(t int64) int64 { return (t + int64(wheelTick) - 1) / int64(wheelTick) }

// set makes t fire at when, ns since the epoch, or leaves it if it fires earlier anyway.
func (w *wheel) set(t *timer, when int64) {
	tick := tickOf(when)
	w.mu.Lock()
	if t.slot == nil || tick < t.when {
		if t.slot != nil {
			t.unlink()
		}
		t.when = tick
		w.link(t)
	}
	w.mu.Unlock()
}

// stop takes t out.
func (w *wheel) stop(t *timer) {
	w.mu.Lock()
	if t.slot != nil {
		t.unlink()
	}
	w.mu.Unlock()
}

// link puts t where it belongs; w.mu is held.
func (w *wheel) link(t *timer) {
	at := max(t.when, w.now+1)
	level := 0
	for d := at - w.now; level < wheelLevels-1 && d >= 1<<(wheelBits*(level+1)); {
		level++
	}
	if top := w.now + 1<<(wheelBits*wheelLevels) - 1; at > top {
		at = top
	}
	s := &w.slots[level][at>>(wheelBits*level)&(wheelSlots-1)]
	t.slot, t.prev, t.next = s, nil, *s
	if t.next != nil {
		t.next.prev = t
	}
	*s = t
}

// unlink takes t out of its slot; w.mu is held.
func (t *timer) unlink() {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		*t.slot = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.slot = nil, nil, nil
}

// advance moves the wheel to now, ns since the epoch, and appends the owners of the timers that are due to due.
func (w *wheel) advance(now int64, due []timerOwner) []timerOwner {
	target := now / int64(wheelTick)
	w.mu.Lock()
	defer w.mu.Unlock()
	if target-w.now > 1<<(wheelBits*2) { // a jump: look at everything once instead of turning tick by tick
		w.now = target
		var later []*timer
		for l := range w.slots {
			for i := range w.slots[l] {
				list := w.slots[l][i]
				w.slots[l][i] = nil
				for t := list; t != nil; {
					next := t.next
					t.next, t.prev, t.slot = nil, nil, nil
					if t.when <= target {
						due = append(due, t.owner)
					} else {
						later = append(later, t)
					}
					t = next
				}
			}
		}
		for _, t := range later {
			w.link(t)
		}
		return due
	}
	for w.now < target {
		w.now++
		for l := 1; l < wheelLevels && w.now&(1<<(wheelBits*l)-1) == 0; l++ {
			s := &w.slots[l][w.now>>(wheelBits*l)&(wheelSlots-1)]
			list := *s
			*s = nil
			for t := list; t != nil; {
				next := t.next
				t.next, t.prev, t.slot = nil, nil, nil
				if t.when <= w.now {
					due = append(due, t.owner)
				} else {
					w.link(t)
				}
				t = next
			}
		}
		s := &w.slots[0][w.now&(wheelSlots-1)]
		for t := *s; t != nil; {
			next := t.next
			t.unlink()
			if t.when <= w.now {
				due = append(due, t.owner)
			} else {
				w.link(t)
			}
			t = next
		}
	}
	return due
}
