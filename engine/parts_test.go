package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

type alarmClock struct {
	timer
	due   int64
	fired []int64
	now   *int64
}

func (a *alarmClock) fire(b *Batch) { a.fired = append(a.fired, *a.now) }

// Timers fire once, not before their time and at most one tick after it, also when time jumps.
func TestWheel(t *testing.T) {
	for _, step := range []time.Duration{100 * time.Millisecond, 350 * time.Millisecond, 7 * time.Second, 20 * time.Minute} {
		r := rand.New(rand.NewPCG(1, uint64(step)))
		start := int64(1_700_000_000_000_000_000)
		w := &wheel{now: start / int64(wheelTick)}
		now := start
		var all []*alarmClock
		for i := range 2000 {
			a := &alarmClock{now: &now}
			a.timer.owner = a
			a.due = start + r.Int64N([]int64{int64(time.Second), int64(time.Minute), int64(24 * time.Hour), int64(30 * 24 * time.Hour)}[i%4])
			w.set(&a.timer, a.due)
			all = append(all, a)
		}
		for _, a := range all[:100] {
			w.stop(&a.timer)
			a.due = 0
		}
		for _, a := range all[100:200] {
			w.set(&a.timer, a.due+int64(time.Hour)) // later: stays
			w.set(&a.timer, start+int64(time.Second))
			a.due = min(a.due, start+int64(time.Second))
		}
		end := start + int64(31*24*time.Hour)
		if step < time.Minute {
			end = start + int64(3*time.Hour)
		}
		for now < end {
			now += int64(step)
			for _, o := range w.advance(now, nil) {
				o.fire(nil)
			}
		}
		for i, a := range all {
			switch {
			case a.due == 0 && len(a.fired) != 0:
				t.Fatalf("step %v: stopped timer %d fired", step, i)
			case a.due == 0 || a.due > end:
			case len(a.fired) != 1:
				t.Fatalf("step %v: timer %d fired %d times", step, i, len(a.fired))
			case a.fired[0] < a.due || a.fired[0] > a.due+int64(step)+int64(wheelTick):
				t.Fatalf("step %v: timer %d fired %v late", step, i, time.Duration(a.fired[0]-a.due))
			}
		}
	}
}

// The window against a plain list, with identifiers going round and deliveries that stay open for long.
func TestWindow(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, stuck := range []bool{false, true} {
		var w window
		var model []uint16 // open identifiers in order
		for i := range 400_000 {
			if len(model) < 1+r.IntN(40) {
				p := w.push(slot{state: slotWaitAck})
				if p.id == 0 || slices.Contains(model, p.id) {
					t.Fatalf("identifier %d is 0 or in use", p.id)
				}
				model = append(model, p.id)
			} else {
				j := r.IntN(min(len(model), 1+r.IntN(4)))
				if stuck && j == 0 && len(model) > 1 {
					j = 1 // the first delivery stays open
				}
				id := model[j]
				p := w.find(id)
				if p == nil || p.id != id || p.state != slotWaitAck {
					t.Fatalf("identifier %d: got %+v", id, p)
				}
				w.free(p)
				model = slices.Delete(model, j, j+1)
				if p := w.find(id); p != nil && p.state != slotFree {
					t.Fatalf("identifier %d is open after free", id)
				}
			}
			if w.live != len(model) {
				t.Fatalf("live: got %d, want %d", w.live, len(model))
			}
			if w.n > 1000 {
				t.Fatalf("%d slots for %d deliveries", w.n, w.live)
			}
			if i%1000 == 0 {
				var got []uint16
				for k := range w.n {
					if p := w.at(k); p.state != slotFree {
						got = append(got, p.id)
					}
				}
				if !slices.Equal(got, model) {
					t.Fatalf("order: got %v, want %v", got, model)
				}
			}
		}
	}
}

func TestQueueOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	m := &shared{Message: Message{Topic: "t", Payload: []byte("ab")}}
	for _, priorities := range []int{1, 4} {
		var q queue
		model := map[int][]uint16{}
		n := 0
		for i := range 20_000 {
			switch {
			case r.IntN(3) > 0 && n < 50:
				p := r.IntN(priorities)
				q.push(p, slot{m: m, id: uint16(i)})
				model[p] = append(model[p], uint16(i))
				n++
			case n > 0 && r.IntN(2) == 0:
				want := -1
				for p := priorities - 1; p >= 0 && want < 0; p-- {
					if len(model[p]) > 0 {
						want = p
					}
				}
				if f := q.front(); f.id != model[want][0] {
					t.Fatalf("front: got %d, want %d", f.id, model[want][0])
				}
				if s := q.pop(); s.id != model[want][0] {
					t.Fatalf("pop: got %d, want %d", s.id, model[want][0])
				}
				model[want] = model[want][1:]
				n--
			case n > 0:
				p := r.IntN(priorities)
				want := -1
				for l := 0; l <= p && want < 0; l++ {
					if len(model[l]) > 0 {
						want = l
					}
				}
				s, ok := q.evict(p)
				if ok != (want >= 0) || ok && s.id != model[want][0] {
					t.Fatalf("evict for %d: got %d %v, want level %d", p, s.id, ok, want)
				}
				if ok {
					model[want] = model[want][1:]
					n--
				}
			}
			if q.n != n || q.bytes != 3*n {
				t.Fatalf("length: got %d messages, %d bytes; want %d, %d", q.n, q.bytes, n, 3*n)
			}
		}
	}
}
