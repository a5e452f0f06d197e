package engine

import (
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// The states of a slot.
const (
	slotQueued   = iota
	slotWaitAck  // PUBLISH of QoS 1 went out, or has to
	slotWaitRec  // PUBLISH of QoS 2 went out, or has to
	slotWaitComp // PUBREC came: PUBREL goes out, again after a reconnect
	slotFree     // acknowledged, but not yet at the front of the window
)

// slot is one delivery of a message to a session, in its queue or in its window. It owns a reference to its message.
type slot struct {
	m     *shared     // nil from slotWaitComp on
	ids   *[]uint32   // subscription identifiers to send; nil for none
	group *shareGroup // of a shared subscription; nil otherwise
	at    int64       // when it was sent last or queued, ns since the epoch
	seq   uint64      // number of the delivery in a durable session; 0: it is not stored
	id    uint16      // packet identifier, in the window only
	qos   packet.QoS  // of the delivery
	state uint8
	flags uint8
}

// The flags of a slot.
const (
	slotRetain = 1 << iota // goes out with RETAIN 1
	slotSent               // went out at least once: the next time is a repeat with DUP [MQTT-3.3.1-1]
	slotOpen               // went out on the present connection
)

// ring is a queue of slots in one array that grows by doubling.
type ring struct {
	buf  []slot
	head int
	n    int
}

func (r *ring) at(i int) *slot { return &r.buf[(r.head+i)&(len(r.buf)-1)] }

func (r *ring) push(s slot) *slot {
	if r.n == len(r.buf) {
		buf := make([]slot, max(4, 2*len(r.buf)))
		for i := range r.n {
			buf[i] = *r.at(i)
		}
		r.buf, r.head = buf, 0
	}
	p := r.at(r.n)
	*p = s
	r.n++
	return p
}

func (r *ring) pop() slot {
	p := r.at(0)
	s := *p
	*p = slot{}
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	return s
}

// trim gives back the array of an empty ring.
func (r *ring) trim() {
	if r.n == 0 {
		*r = ring{}
	}
}

// window holds the deliveries of QoS 1 and 2 that were begun and are not acknowledged, in the order in which they were begun
// [MQTT-4.6.0-1]. Identifiers are taken in ascending order, so that a lookup is a subtraction.
type window struct {
	ring
	live int    // slots that are not free
	last uint16 // the identifier given last
	wild bool   // identifiers are not ascending: one delivery has been open for more than 65000 others
}

// distance is how many identifiers id comes after from, going round from 65535 to 1.
func distance(from, id uint16) int {
	return (int(id) - int(from) + 65535) % 65535
}

// push takes s into the window with an unused identifier [MQTT-2.3.1-4] [MQTT-2.2.1-4]. The caller has made sure that live
// is below 65535.
func (w *window) push(s slot) *slot {
	if w.n == 0 {
		w.wild = false
	}
	for {
		if w.last++; w.last == 0 {
			w.last = 1
		}
		if w.n == 0 {
			break
		}
		if !w.wild && w.last == w.at(0).id {
			w.compact()
			w.wild = true
		}
		if !w.wild || w.find(w.last) == nil {
			break
		}
	}
	s.id = w.last
	w.live++
	return w.ring.push(s)
}

// pushNumbered is push for a delivery of a durable session, whose identifier follows from its number and is not in use.
func (w *window) pushNumbered(s slot) *slot {
	s.id = identifier(s.seq)
	if w.n == 0 {
		w.wild = false
	} else if first, last := w.at(0), w.at(w.n-1); !w.wild && (s.seq < last.seq || distance(first.id, s.id) < distance(first.id, last.id)) {
		w.compact()
		w.wild = w.n > 0
	}
	w.last = s.id
	w.live++
	return w.ring.push(s)
}

// find gives the slot with that identifier, free or not, or nil.
func (w *window) find(id uint16) *slot {
	if w.n == 0 {
		return nil
	}
	if w.wild {
		for i := range w.n {
			if p := w.at(i); p.id == id {
				return p
			}
		}
		return nil
	}
	d := distance(w.at(0).id, id)
	if d < w.n {
		if p := w.at(d); p.id == id {
			return p
		}
	}
	// Slots were compacted away: they still ascend.
	lo, hi := 0, min(w.n, d+1)
	for lo < hi {
		mid := (lo + hi) / 2
		if distance(w.at(0).id, w.at(mid).id) < d {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < w.n && w.at(lo).id == id {
		return w.at(lo)
	}
	return nil
}

// free ends the delivery in p, which is in the window. The caller has taken over the reference to its message.
func (w *window) free(p *slot) {
	*p = slot{id: p.id, seq: p.seq, state: slotFree}
	w.live--
	for w.n > 0 && w.at(0).state == slotFree {
		w.pop()
	}
	if w.n > 64 && w.n > 4*w.live {
		w.compact()
	}
}

// compact removes the free slots.
func (w *window) compact() {
	j := 0
	for i := range w.n {
		if p := w.at(i); p.state != slotFree {
			if i != j {
				*w.at(j) = *p
			}
			j++
		}
	}
	for i := j; i < w.n; i++ {
		*w.at(i) = slot{}
	}
	w.n = j
}
