package store

import (
	"errors"
	"fmt"
	"math/bits"
	"syscall"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// writer is what the committer knows of the file it writes.
type writer struct {
	id   [16]byte
	seed uint32 // of the checksums

	file File // nil: what comes next begins a new one
	path string
	head segmentHeader   // of the file
	off  int64           // where the next group goes
	end  engine.Position // behind everything that was written

	filled fullFile // the one before, until the new one has its name

	// kept are the groups that are not on the medium for certain, in order; the first written ones are in the file. With Off they
	// are let go once they are written.
	kept    []*group
	written int

	durable engine.Position // on the medium
	claimed engine.Position // the greatest durable that a header in a file tells
	discard engine.Position // told by headers: nothing before it is needed

	faulty  bool
	full    bool
	faultAt time.Time
	retryAt time.Time
	syncAt  time.Time // when Interval syncs
	markAt  time.Time // when claimed catches up, if nothing is written before
	kickAt  time.Time // the cleaner is not asked earlier
	alarmAt time.Time
}

// commit is the committer: it alone writes.
func (d *Disk) commit() {
	defer d.tasks.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		final := false
		select {
		case <-d.wake:
		case <-timer.C:
		case <-d.stop:
			final = true
		}
		wait := d.round(final)
		if final {
			return
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// round writes what is staged and tells how it went. It gives the time until it has to come again unasked, or 0.
func (d *Disk) round(final bool) time.Duration {
	now := time.Now()
	if d.faulty && !final && now.Before(d.retryAt) {
		return d.retryAt.Sub(now)
	}
	err := d.flush(now, final)
	if err == nil {
		err = d.tell(now, final)
	}
	if err == nil && final {
		err = d.finish()
	}
	if err != nil {
		d.fault(err)
	} else if d.faulty {
		d.faulty = false
		d.o.Logger.Info("the store can write again", "dir", d.o.Dir, "after", time.Since(d.faultAt).Round(time.Millisecond))
		d.say(nil)
	}
	d.publish()
	d.measure()
	return d.next(time.Now())
}

// next gives the time until the committer has something to do unasked, or 0.
func (d *Disk) next(now time.Time) time.Duration {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	switch {
	case d.faulty:
		sooner(d.retryAt)
	case d.durable < d.end && d.o.Durability == Interval:
		sooner(d.syncAt)
	}
	if !d.faulty && d.file != nil && d.claimed < d.durable {
		sooner(d.markAt)
	}
	if at.IsZero() {
		return 0
	}
	return max(at.Sub(now), time.Microsecond)
}

// flush writes what is staged, and syncs it if it has to be.
func (d *Disk) flush(now time.Time, final bool) error {
	d.kept = d.take(d.kept)
	if d.written < len(d.kept) {
		d.o.FailPoint("append")
	}
	for d.written < len(d.kept) {
		groups := d.kept[d.written:]
		if d.file == nil {
			if err := d.create(groups[:fit(groups, segmentHeaderSize, d.o.SegmentSize)]); err != nil {
				return err
			}
			continue
		}
		n := fit(groups, d.off, d.o.SegmentSize)
		if n == 0 {
			if err := d.seal(); err != nil {
				return err
			}
			continue
		}
		if err := d.append(groups[:n], now); err != nil {
			return err
		}
	}
	if d.faulty && d.file == nil {
		return d.create(nil) // shows that it can write again
	}
	if d.durable == d.end {
		return nil
	}
	d.mu.Lock()
	asked := d.syncTo > d.durable
	d.mu.Unlock()
	due := false
	switch d.o.Durability {
	case Fsync:
		due = true
	case Interval:
		due = !now.Before(d.syncAt) || keptBytes(d.kept) > maxUnsynced
	}
	if due || asked || final {
		return d.sync()
	}
	return nil
}

func keptBytes(groups []*group) int64 {
	n := int64(0)
	for _, g := range groups {
		n += int64(len(g.buf))
	}
	return n
}

// fit is the number of groups that a segment takes from off on. An empty one takes a group of any size.
func fit(groups []*group, off, size int64) int {
	for i, g := range groups {
		if off += int64(len(g.buf)); off > size && (i > 0 || off-int64(len(g.buf)) > segmentHeaderSize) {
			return i
		}
	}
	return len(groups)
}

// begin writes the header of g.
func (d *Disk) begin(g *group) {
	h := groupHeader{
		start: g.start, durable: min(d.durable, g.start), discard: d.discard, time: d.o.Now().UnixNano(), records: uint32(g.records),
	}
	h.put(g.buf, d.seed, g.payload())
}

// append writes groups behind what the file has.
func (d *Disk) append(groups []*group, now time.Time) error {
	for _, g := range groups {
		d.begin(g)
		if _, err := d.file.WriteAt(g.buf, d.off); err != nil {
			return fmt.Errorf("write %s: %w", d.path, err)
		}
		d.off += int64(len(g.buf))
		if d.durable == d.end {
			d.syncAt = now.Add(d.o.SyncInterval)
		}
		d.end = g.end()
		d.written++
	}
	d.claimed = max(d.claimed, d.durable)
	d.o.FailPoint("written")
	if d.o.Durability == Off {
		d.drop()
	}
	return nil
}

// sync returns when everything that was written is on the medium.
func (d *Disk) sync() error {
	begin := time.Now()
	err := d.file.Sync()
	d.mu.Lock()
	d.stats.Syncs++
	d.stats.SyncTime += time.Since(begin)
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("sync %s: %w", d.path, err)
	}
	d.o.FailPoint("synced")
	d.settled()
	return nil
}

// settled notes that everything written is on the medium.
func (d *Disk) settled() {
	d.durable = d.end
	d.markAt = time.Now().Add(markAfter)
	d.drop()
}

// drop lets the groups go that were written.
func (d *Disk) drop() {
	if d.written == 0 {
		return
	}
	d.count(d.kept[:d.written])
	d.recycle(d.kept[:d.written])
	n := copy(d.kept, d.kept[d.written:])
	clear(d.kept[n:])
	d.kept, d.written = d.kept[:n], 0
}

// count adds groups to the statistics that are committed just now.
func (d *Disk) count(groups []*group) {
	now := d.o.Now().UnixNano()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range groups {
		if uint64(g.end()) <= d.committed.Load() {
			continue
		}
		d.stats.Commits++
		d.stats.Records += int64(g.records)
		d.stats.CommittedBytes += int64(len(g.buf))
		add(&d.stats.GroupSizes, int64(g.records))
		add(&d.stats.CommitTimes, max(now-g.first, 0)/1000)
	}
}

func add(h *engine.Histogram, v int64) {
	h.Counts[min(bits.Len64(uint64(v)), len(h.Counts)-1)]++
	h.Sum += v
}

// base is where a new file begins: at the first thing that is not on the medium for certain.
func (d *Disk) base() engine.Position {
	if len(d.kept) > 0 {
		return d.kept[0].start
	}
	return d.end
}

// create begins a new file with groups, the first of what is kept. It gets its name when all of it is on the medium, so that a
// file that has its name is whole: what an earlier file holds from its base on is void from then on.
func (d *Disk) create(groups []*group) error {
	base := d.base()
	name := segmentName(base)
	path := d.join(name)
	head, off, err := d.fill(path+tempSuffix, base, groups)
	if err != nil {
		return errors.Join(err, ignoreMissing(d.o.FS.Remove(path+tempSuffix)))
	}
	if err := d.o.FS.Rename(path+tempSuffix, path); err != nil {
		return fmt.Errorf("name %s: %w", path, err)
	}
	if err := d.o.FS.SyncDir(d.o.Dir); err != nil {
		return fmt.Errorf("sync %s: %w", d.o.Dir, err)
	}
	f, err := d.o.FS.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	d.filled.trim()
	d.file, d.path, d.head, d.off, d.end, d.written = f, path, head, off, base, len(groups)
	if len(groups) > 0 {
		d.end = groups[len(groups)-1].end()
	}
	d.mu.Lock()
	if n := len(d.segments); n > 0 && d.segments[n-1].base == base {
		d.used -= d.segments[n-1].size
		d.segments = d.segments[:n-1]
	}
	d.segments = append(d.segments, segment{name: name, base: base, size: off})
	d.used += off
	d.mu.Unlock()
	d.o.FailPoint("synced")
	d.settled()
	d.claimed = d.durable
	return nil
}

// fill writes and syncs a new file.
func (d *Disk) fill(path string, base engine.Position, groups []*group) (h segmentHeader, off int64, err error) {
	f, err := d.o.FS.Create(path)
	if err != nil {
		return h, 0, fmt.Errorf("create %s: %w", path, err)
	}
	head := make([]byte, segmentHeaderSize)
	h = segmentHeader{
		version: formatVersion, base: base, whole: base, discard: min(d.discard, base), id: d.id,
		length: max(d.o.SegmentSize, segmentHeaderSize+keptBytes(groups)),
	}
	if len(groups) > 0 {
		h.whole = groups[len(groups)-1].end()
	}
	h.put(head)
	write := func(b []byte) {
		if err == nil {
			_, err = f.WriteAt(b, off)
			off += int64(len(b))
		}
	}
	err = f.Reserve(h.length)
	write(head)
	for _, g := range groups {
		d.begin(g)
		write(g.buf)
	}
	if err == nil {
		d.o.FailPoint("written")
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return h, 0, fmt.Errorf("write %s: %w", path, err)
	}
	return h, off, nil
}

// fullFile is a file that is full: what it has no use for is given up once another one follows. Before, a file that is shorter than its
// header says is one that has lost its end.
type fullFile struct {
	file File // nil: there is none
	off  int64
}

// trim gives up the room that the file does not use. If that fails it stays taken; nothing else depends on it.
func (f *fullFile) trim() {
	if f.file == nil {
		return
	}
	_ = f.file.Truncate(f.off)
	_ = f.file.Close() // it was synced
	*f = fullFile{}
}

// seal ends the file. All of it is on the medium then, whatever the durability: only the last file may have a torn end.
func (d *Disk) seal() error {
	d.o.FailPoint("roll")
	if d.durable < d.end {
		if err := d.sync(); err != nil {
			return err
		}
	}
	d.setAside()
	return nil
}

// setAside ends writing to the file, which was synced. It keeps its length until filled is trimmed.
func (d *Disk) setAside() { d.filled, d.file = fullFile{d.file, d.off}, nil }

// tell writes down what the cleaner wants to be known, and lazily up to where everything is on the medium.
func (d *Disk) tell(now time.Time, final bool) error {
	d.mu.Lock()
	to, known := d.discarding, d.dropped
	d.mu.Unlock()
	if known < to {
		d.discard = to
		d.o.FailPoint("discard")
		if d.file == nil {
			if err := d.create(nil); err != nil {
				return err
			}
		}
		if err := d.claim(); err != nil {
			return err
		}
		if err := d.sync(); err != nil {
			return err
		}
		d.mu.Lock()
		d.dropped = to
		d.notify()
		d.mu.Unlock()
	}
	if d.file != nil && d.claimed < d.durable && (final || !now.Before(d.markAt)) {
		return d.claim()
	}
	return nil
}

// claim writes an empty group: its header tells what is on the medium, so that damage there can be told from a torn end.
func (d *Disk) claim() error {
	g := &group{buf: make([]byte, groupHeaderSize), start: d.end}
	d.begin(g)
	if _, err := d.file.WriteAt(g.buf, d.off); err != nil {
		return fmt.Errorf("write %s: %w", d.path, err)
	}
	d.off += groupHeaderSize
	d.claimed = d.durable
	return nil
}

// finish leaves the file as the next process wants it.
func (d *Disk) finish() error {
	if d.file == nil {
		return nil
	}
	if err := d.sync(); err != nil {
		return err
	}
	// In this order a file is never shorter than its header says, whenever the machine stops.
	if err := d.promise(d.off); err != nil {
		return err
	}
	d.setAside()
	d.filled.trim()
	return nil
}

// promise writes into the header of the file how long it is at least, and syncs that.
func (d *Disk) promise(length int64) error {
	d.head.length = length
	b := make([]byte, segmentHeaderSize)
	d.head.put(b)
	if _, err := d.file.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write %s: %w", d.path, err)
	}
	if err := d.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", d.path, err)
	}
	return nil
}

// fault gives up the file: after a failed write or sync nobody knows what it holds from then on. What is not on the medium stays
// in memory and goes to a new file.
func (d *Disk) fault(err error) {
	if d.file != nil {
		_ = d.file.Close() // there is a worse error
		d.file = nil
	}
	if d.filled.file != nil { // nobody knows whether another one follows it
		_ = d.filled.file.Close() // it was synced
		d.filled = fullFile{}
	}
	d.end = d.base()
	d.written = 0
	now := time.Now()
	if !d.faulty {
		d.faulty, d.faultAt = true, now
		d.o.Logger.Error("the store cannot write; what is to be kept is refused", "dir", d.o.Dir, "err", err)
	}
	d.retryAt = now.Add(d.o.RetryInterval)
	hint := "check the medium"
	if errors.Is(err, syscall.ENOSPC) {
		hint = "free some space there"
	}
	d.mu.Lock()
	d.stats.Faults++
	d.mu.Unlock()
	d.refused.Store(uint64(d.Staged()))
	d.say(fmt.Errorf("the store cannot write: %w; %s, it is tried again every %v", err, hint, d.o.RetryInterval))
	if n := keptBytes(d.kept) + d.waiting(); n > stagedAlarm && now.After(d.alarmAt) {
		d.alarmAt = now.Add(time.Minute)
		d.o.Logger.Warn("the store keeps much in memory that it cannot write", "dir", d.o.Dir, "bytes", n)
	}
}

// say sets what Err gives, and tells the engine. nil leaves ErrStoreFull if the store is full.
func (d *Disk) say(err error) {
	switch {
	case err != nil:
		d.failed.Store(&err)
	case d.full:
		err = fmt.Errorf("%w: %d bytes", engine.ErrStoreFull, d.o.MaxBytes)
		d.failed.Store(&err)
	default:
		d.failed.Store(nil)
	}
	d.client.Progress()
}

// publish tells what is committed now.
func (d *Disk) publish() {
	p := d.durable
	if d.o.Durability != Fsync && !d.faulty {
		p = d.end
	}
	if uint64(p) > d.committed.Load() {
		d.count(d.kept[:d.written])
		d.committed.Store(uint64(p))
		d.o.FailPoint("committed")
		d.client.Progress()
	}
	d.mu.Lock()
	if d.durable > d.synced {
		d.synced = d.durable
		d.notify()
	}
	d.mu.Unlock()
}

// notify wakes the cleaner where it waits. d.mu is held.
func (d *Disk) notify() {
	close(d.changed)
	d.changed = make(chan struct{})
}
