package store

import "slices"

// delivery is a delivery while the journal is read.
type delivery struct {
	seq     uint64
	at      int64
	message *message // nil after PUBREC
	ids     []byte   // encoded
	share   []byte
	flags   byte
	dead    bool
}

// deliveries are those of one session: sorted runs, each more than twice as long as the next. Numbers nearly always ascend, so
// that there is one run; what is put again out of order opens another. No run holds a number that another has.
type deliveries struct {
	runs [][]delivery
	dead int
	all  int // dead ones too
}

// find gives the delivery of a number, dead or not; nil: there is none.
func (d *deliveries) find(seq uint64) *delivery {
	for i := len(d.runs) - 1; i >= 0; i-- {
		run := d.runs[i]
		if seq < run[0].seq || seq > run[len(run)-1].seq {
			continue
		}
		if at, ok := slices.BinarySearchFunc(run, seq, func(x delivery, seq uint64) int {
			switch {
			case x.seq < seq:
				return -1
			case x.seq > seq:
				return 1
			}
			return 0
		}); ok {
			return &run[at]
		}
	}
	return nil
}

// add takes a delivery whose number is not there.
func (d *deliveries) add(x delivery) {
	d.all++
	n := len(d.runs)
	if n > 0 {
		if last := d.runs[n-1]; last[len(last)-1].seq < x.seq {
			d.runs[n-1] = append(last, x)
			d.fold()
			return
		}
	}
	d.runs = append(d.runs, append(make([]delivery, 0, 4), x))
	d.fold()
}

// fold merges the last runs until each is more than twice as long as the next.
func (d *deliveries) fold() {
	for n := len(d.runs); n > 1 && len(d.runs[n-2]) <= 2*len(d.runs[n-1]); n-- {
		d.runs[n-2] = merge(d.runs[n-2], d.runs[n-1])
		d.runs = d.runs[:n-1]
	}
}

// merge joins two sorted runs.
func merge(a, b []delivery) []delivery {
	if a[len(a)-1].seq < b[0].seq {
		return append(a, b...)
	}
	out := make([]delivery, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].seq < b[0].seq {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// kill takes a delivery out. What is dead is thrown out once it is the greater part, so that a long queue costs no more for each
// acknowledgement than a short one.
func (d *deliveries) kill(x *delivery) {
	*x = delivery{seq: x.seq, dead: true}
	if d.dead++; d.dead > 16 && 2*d.dead > d.all {
		d.runs, d.all, d.dead = d.live(), d.all-d.dead, 0
	}
}

// live gives what is not dead as one run at most.
func (d *deliveries) live() [][]delivery {
	if d.dead == 0 && len(d.runs) < 2 {
		return d.runs
	}
	var all []delivery
	for i, run := range d.runs {
		run = slices.DeleteFunc(run, func(x delivery) bool { return x.dead })
		switch {
		case len(run) == 0:
		case i == 0 || all == nil:
			all = run
		default:
			all = merge(all, run)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return [][]delivery{all}
}
