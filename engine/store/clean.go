package store

import (
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

const (
	// leastSegments are kept before anything is cleaned; reserveSegments are what a full store keeps free, for rewriting and for
	// acknowledgements.
	leastSegments   = 4
	reserveSegments = 2
	// mostSegments is the number of files from which on small ones are put together, however little they hold.
	mostSegments = 24

	kickAfter = 100 * time.Millisecond
)

// measure counts the bytes on the medium, says if they are too many, and asks the cleaner to look when they may be.
func (d *Disk) measure() {
	d.mu.Lock()
	if n := len(d.segments); n > 0 && d.file != nil {
		d.used += d.off - d.segments[n-1].size
		d.segments[n-1].size = d.off
	}
	used, files := d.used, len(d.segments)
	d.mu.Unlock()
	if limit := d.o.MaxBytes; limit > 0 {
		taken := used + reserveSegments*d.o.SegmentSize
		switch {
		case !d.full && taken > limit:
			d.full = true
			d.o.Logger.Error("the store is full; what is to be kept is refused", "dir", d.o.Dir, "max_bytes", limit)
			if !d.faulty {
				d.say(nil)
			}
		case d.full && taken+d.o.SegmentSize/2 <= limit:
			d.full = false
			d.o.Logger.Info("the store has room again", "dir", d.o.Dir, "bytes", used)
			if !d.faulty {
				d.say(nil)
			}
		}
	}
	if d.faulty || files < 2 || used <= leastSegments*d.o.SegmentSize && files <= mostSegments && !d.near(used) {
		return
	}
	if now := time.Now(); now.After(d.kickAt) {
		d.kickAt = now.Add(kickAfter)
		select {
		case d.kick <- struct{}{}:
		default:
		}
	}
}

// near reports whether the limit is near.
func (d *Disk) near(used int64) bool {
	return d.o.MaxBytes > 0 && used+(reserveSegments+1)*d.o.SegmentSize > d.o.MaxBytes
}

// clean is the cleaner. It has old segments written anew and takes them away, one step at a time.
func (d *Disk) clean() {
	defer d.tasks.Done()
	for {
		select {
		case <-d.kick:
		case <-d.idle:
			return
		}
		for {
			old, before := d.choose()
			if len(old) == 0 {
				break
			}
			fruitful, ok := d.cleanStep(old, before)
			if !ok {
				break
			}
			if !fruitful && !d.pause(time.Second) {
				return
			}
		}
	}
}

// pause waits; false: the end has come first.
func (d *Disk) pause(t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.idle:
		return false
	}
}

// choose gives the oldest segments, about one full one, and where the next begins, if there is enough to gain.
func (d *Disk) choose() ([]segment, engine.Position) {
	size, live := d.o.SegmentSize, d.client.Live()
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.segments)
	switch {
	case n < 2:
		return nil, 0
	case d.used > max(leastSegments*size, 2*live+2*size):
	case n > mostSegments+2*int(d.used/size):
	case d.near(d.used) && d.used-live > size:
	default:
		return nil, 0
	}
	k, sum := 1, d.segments[0].size
	for k < n-1 && sum+d.segments[k].size <= size {
		sum += d.segments[k].size
		k++
	}
	return append([]segment(nil), d.segments[:k]...), d.segments[k].base
}

// cleanStep frees the segments old, which end at before. It reports whether that gained anything worth the work; ok is false when
// it was interrupted.
func (d *Disk) cleanStep(old []segment, before engine.Position) (fruitful, ok bool) {
	// A publication that is open is nobody's yet, so the engine need not know how to write it anew.
	if !d.settle(before, d.idle) {
		return false, false
	}
	d.o.FailPoint("rewrite")
	from := d.Staged()
	if !d.client.Rewrite(before) || d.ended() {
		return false, false
	}
	to := d.Staged()
	// What an open publication replaces is not written anew any more, but is needed until that publication has ended.
	if !d.settle(to, d.idle) {
		return false, false
	}
	to = d.Staged()
	if !d.await(func() bool {
		d.syncTo = max(d.syncTo, to)
		return d.synced >= to
	}) || !d.await(func() bool {
		d.discarding = max(d.discarding, before)
		return d.dropped >= before
	}) {
		return false, false
	}
	d.o.FailPoint("unlink")
	freed := int64(0)
	for _, s := range old {
		freed += s.size
		if err := d.o.FS.Remove(d.join(s.name)); err != nil {
			d.o.Logger.Warn("the store cannot delete a segment; it is deleted at the next start", "file", d.join(s.name), "err", err)
		}
	}
	if err := d.o.FS.SyncDir(d.o.Dir); err != nil {
		d.o.Logger.Warn("the store cannot sync its directory", "dir", d.o.Dir, "err", err) // deleted files may come back: they are known
	}
	again := min(int64(to-from), freed)
	d.mu.Lock()
	d.segments = d.segments[len(old):]
	d.used -= freed
	d.stats.Rewrites += again
	d.mu.Unlock()
	d.rouse() // to see whether the store is still full
	return again*10 < freed*9, true
}

func (d *Disk) ended() bool {
	select {
	case <-d.idle:
		return true
	default:
		return false
	}
}

// await asks the committer until done, which is called with d.mu held. false: the end has come first.
func (d *Disk) await(done func() bool) bool {
	for {
		d.mu.Lock()
		ok, changed := done(), d.changed
		d.mu.Unlock()
		if ok {
			return true
		}
		d.rouse()
		select {
		case <-changed:
		case <-d.idle:
			return false
		}
	}
}
