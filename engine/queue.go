package engine

import "slices"

// queue holds the deliveries that a session cannot begin yet: first in, first out for each priority. Most sessions have one
// priority and so one ring.
type queue struct {
	first ring    // of the default priority while there is no other
	more  []level // by falling priority; replaces first once two priorities are in use
	n     int
	bytes int // of the messages
}

// queued is what m counts for in the bytes of a queue.
func (m *Message) queued() int { return len(m.Topic) + len(m.Payload) + len(m.Properties) }

type level struct {
	priority int
	ring
}

func (q *queue) push(priority int, s slot) {
	q.n++
	q.bytes += s.m.queued()
	if q.more == nil && priority == 0 {
		q.first.push(s)
		return
	}
	if q.more == nil {
		q.more = []level{{0, q.first}}
		q.first = ring{}
	}
	i, ok := slices.BinarySearchFunc(q.more, priority, func(l level, p int) int { return p - l.priority })
	if !ok {
		q.more = slices.Insert(q.more, i, level{priority: priority})
	}
	q.more[i].push(s)
}

// front gives the slot that is next, or nil.
func (q *queue) front() *slot {
	if q.n == 0 {
		return nil
	}
	if q.more == nil {
		return q.first.at(0)
	}
	for i := range q.more {
		if q.more[i].n > 0 {
			return q.more[i].at(0)
		}
	}
	return nil
}

// pop takes the slot that is next; the queue is not empty.
func (q *queue) pop() slot {
	s := q.take()
	q.bytes -= s.m.queued()
	return s
}

func (q *queue) take() slot {
	q.n--
	if q.more == nil {
		return q.first.pop()
	}
	for i := range q.more {
		if q.more[i].n > 0 {
			s := q.more[i].pop()
			if q.n == 0 {
				q.more = nil
			}
			return s
		}
	}
	panic("engine: queue count is wrong")
}

// evict takes the slot that a full queue gives up for one of the given priority: the oldest of the lowest priority. ok is
// false if everything in the queue has a higher priority than the new one, which is then dropped itself.
func (q *queue) evict(priority int) (s slot, ok bool) {
	if q.more == nil {
		if q.first.n == 0 || priority < 0 {
			return slot{}, false
		}
		q.n--
		s = q.first.pop()
		q.bytes -= s.m.queued()
		return s, true
	}
	for i := len(q.more) - 1; i >= 0; i-- {
		if q.more[i].n > 0 {
			if q.more[i].priority > priority {
				return slot{}, false
			}
			q.n--
			s = q.more[i].pop()
			q.bytes -= s.m.queued()
			return s, true
		}
	}
	return slot{}, false
}

// each calls f for every slot, by falling priority.
func (q *queue) each(f func(*slot)) {
	for i := range q.first.n {
		f(q.first.at(i))
	}
	for l := range q.more {
		for i := range q.more[l].n {
			f(q.more[l].at(i))
		}
	}
}

// remove takes out the slots that gone says so of.
func (q *queue) remove(gone func(*slot) bool) {
	cut := func(r *ring) {
		kept := 0
		for i := range r.n {
			p := r.at(i)
			if gone(p) {
				q.n--
				q.bytes -= p.m.queued()
				continue
			}
			if i != kept {
				*r.at(kept) = *p
			}
			kept++
		}
		for i := kept; i < r.n; i++ {
			*r.at(i) = slot{}
		}
		r.n = kept
	}
	cut(&q.first)
	for i := range q.more {
		cut(&q.more[i].ring)
	}
	if q.n == 0 {
		q.more = nil
	}
}

// trim gives back the memory of an empty queue.
func (q *queue) trim() {
	if q.n == 0 {
		*q = queue{}
	}
}
