// Package store keeps an engine's durable state: engine.Store as a journal on disk, and as one in memory for tests.
//
// A Disk appends what the engine stages to segment files, many changes with one write and one sync, reads them once at the start,
// and drops old segments after it has had the engine stage again what still holds. DESIGN.md has the format of the files, what
// is promised when, and why.
package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// Durability says when a change counts as committed.
type Durability string

const (
	// Fsync: once it is on the medium. Nothing committed is lost, whatever stops.
	Fsync Durability = "fsync"
	// Interval: once the operating system has it; the medium has it within SyncInterval. When the machine stops, as much is lost.
	Interval Durability = "interval"
	// Off: once the operating system has it. When the machine stops, anything since the last segment began may be lost.
	Off Durability = "off"
)

// Defaults and bounds of Options.
const (
	DefaultSegmentSize   = 32 << 20
	DefaultSyncInterval  = time.Second
	DefaultRetryInterval = 250 * time.Millisecond

	// MinMaxBytes is the least limit that leaves room to work in.
	MinMaxBytes = 1 << 20

	minSegmentSize = 4 << 10
	maxSegmentSize = 1 << 30

	// linger is how long a change waits that nobody wants.
	linger = 50 * time.Millisecond
	// markAfter is how long after a commit the store writes down that there was one, if nothing else says so before.
	markAfter = 100 * time.Millisecond
	// maxUnsynced bounds what Interval keeps in memory, bytes: it syncs earlier.
	maxUnsynced = 32 << 20
	// stagedAlarm is what may be staged and not written before the log says so.
	stagedAlarm = 256 << 20
)

// Options are what a Disk needs to know. The zero value of all but Dir works.
type Options struct {
	Dir          string        // the store's own; its lock is Dir with ".lock" behind it
	Durability   Durability    // default Fsync
	SyncInterval time.Duration // of Interval; default DefaultSyncInterval
	SegmentSize  int64         // bytes, default DefaultSegmentSize; at most an eighth of MaxBytes
	MaxBytes     int64         // on the medium; 0: no limit. At least MinMaxBytes
	Logger       *slog.Logger  // default: nothing is logged

	RetryInterval time.Duration // between attempts to write after a fault; default DefaultRetryInterval
	Now           func() time.Time
	FS            FS
	// FailPoint is called by tests' wish at named points: "boot", "append", "written", "synced", "committed" (it can be
	// acknowledged, and nothing was), "roll", "rewrite", "discard", "unlink", "close". nil: not at all.
	FailPoint func(name string)
}

func (o *Options) fill() error {
	if o.Dir == "" {
		return errors.New("the store has no directory")
	}
	switch o.Durability {
	case "":
		o.Durability = Fsync
	case Fsync, Interval, Off:
	default:
		return fmt.Errorf("durability %q is none of %s, %s, %s", o.Durability, Fsync, Interval, Off)
	}
	if o.MaxBytes != 0 && o.MaxBytes < MinMaxBytes {
		return fmt.Errorf("the limit of the store is %d bytes, at least %d are needed", o.MaxBytes, MinMaxBytes)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	o.SegmentSize = min(max(o.SegmentSize, minSegmentSize), maxSegmentSize)
	if o.MaxBytes > 0 {
		o.SegmentSize = min(o.SegmentSize, o.MaxBytes/8)
	}
	if o.SyncInterval <= 0 {
		o.SyncInterval = DefaultSyncInterval
	}
	if o.RetryInterval <= 0 {
		o.RetryInterval = DefaultRetryInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FS == nil {
		o.FS = systemFS{}
	}
	if o.FailPoint == nil {
		o.FailPoint = func(string) {}
	}
	return nil
}

// Disk is a store in a directory.
type Disk struct {
	*journal
	o      Options
	lock   io.Closer
	client engine.StoreClient

	committed, refused atomic.Uint64
	failed             atomic.Pointer[error] // what Err says

	wake  chan struct{} // the committer has something to do
	kick  chan struct{} // the cleaner has
	stop  chan struct{} // the committer ends
	idle  chan struct{} // the cleaner ends
	tasks sync.WaitGroup
	// lazy wakes the committer for what nobody wants. armed is guarded by journal.mu.
	lazy  *time.Timer
	armed bool

	loaded, started bool
	plain           bool // Close says nothing of an orderly stop
	closing         sync.Once
	closed          error

	writer // the committer's alone, once Start was called

	mu         sync.Mutex      // a leaf; guards what follows
	segments   []segment       // by base; the last one may take more
	used       int64           // bytes of them
	syncTo     engine.Position // has to be on the medium soon, whatever the durability
	synced     engine.Position // is
	discarding engine.Position // nothing before it is needed; has to be written down
	dropped    engine.Position // is
	changed    chan struct{}   // closed and replaced when synced or dropped has grown
	stats      engine.StoreStats
}

// segment is a file of the journal.
type segment struct {
	name string
	base engine.Position
	size int64 // used
}

var _ engine.Store = (*Disk)(nil)

// Open takes the directory of a store, making it if it is not there. Nothing is read before Load. The error wraps ErrInUse when
// somebody else has it.
func Open(o Options) (*Disk, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	lock, err := o.FS.Lock(lockName(o.Dir))
	if err != nil {
		if merr := o.FS.MkdirAll(filepath.Dir(o.Dir)); merr != nil {
			return nil, fmt.Errorf("open the store: %w", merr)
		}
		if lock, err = o.FS.Lock(lockName(o.Dir)); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	if err = settleRepair(o.FS, o.Dir); err == nil {
		err = o.FS.MkdirAll(o.Dir)
	}
	if err == nil { // a loss of power must not take the directory with all that is in it
		err = o.FS.SyncDir(filepath.Dir(o.Dir))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), lock.Close())
	}
	return open(o, lock), nil
}

// lockName is beside the directory: a repair puts another directory in its place while it holds the lock.
func lockName(dir string) string { return filepath.Clean(dir) + ".lock" }

// open makes the store of filled options.
func open(o Options, lock io.Closer) *Disk {
	d := &Disk{
		o: o, lock: lock,
		wake: make(chan struct{}, 1), kick: make(chan struct{}, 1), stop: make(chan struct{}), idle: make(chan struct{}),
		changed: make(chan struct{}),
	}
	d.journal = &journal{now: func() int64 { return o.Now().UnixNano() }, awake: d.arm}
	d.stats.Durability, d.stats.MaxBytes = string(o.Durability), o.MaxBytes
	return d
}

// arm sees to it that what is staged is written though nobody wants it. journal.mu is held.
func (d *Disk) arm() {
	if d.lazy != nil && !d.armed {
		d.armed = true
		d.lazy.Reset(linger)
	}
}

// Start begins the work in the background. That a process has begun is on the medium when it returns, unless that fails: otherwise
// a crash soon after would look like the orderly stop before it.
func (d *Disk) Start(c engine.StoreClient) {
	if !d.loaded || d.started {
		panic("store: Start comes once, after Load")
	}
	d.client, d.started = nothing{}, true
	d.lazy = time.AfterFunc(linger, func() {
		d.journal.mu.Lock()
		d.armed = false
		d.journal.mu.Unlock()
		d.rouse()
	})
	d.note(kindBoot)
	d.o.FailPoint("boot")
	d.round(false)
	d.client = c
	d.rouse() // for the times that round would have come again
	d.tasks.Add(2)
	go d.clean()
	go d.commit()
}

func (d *Disk) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Want asks that everything up to p is committed soon.
func (d *Disk) Want(p engine.Position) {
	if uint64(p) > d.committed.Load() && p != never {
		d.rouse()
	}
}

// Committed is the Position up to which everything is kept.
func (d *Disk) Committed() engine.Position { return engine.Position(d.committed.Load()) }

// Refused is the Position up to which what is not committed has to be refused.
func (d *Disk) Refused() engine.Position { return engine.Position(d.refused.Load()) }

// Err says why nothing new can be promised.
func (d *Disk) Err() error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Stats reads the counters.
func (d *Disk) Stats() engine.StoreStats {
	d.mu.Lock()
	s := d.stats
	s.Bytes, s.Segments = d.used, len(d.segments)
	d.mu.Unlock()
	s.Staged, s.Committed = d.Staged(), d.Committed()
	if d.started {
		s.Live = d.client.Live()
	}
	return s
}

// Close commits what is staged and ends the work in the background. It gives the error that keeps the last changes from being
// committed, if there is one.
func (d *Disk) Close() error {
	d.closing.Do(func() {
		if d.started {
			d.o.FailPoint("close")
			close(d.idle)
			d.last(!d.plain)
			close(d.stop)
			d.tasks.Wait()
			d.lazy.Stop()
		} else if d.file != nil {
			_ = d.file.Close() // nothing was written
		}
		err := d.Err()
		if err != nil && !errors.Is(err, engine.ErrStoreFull) {
			d.closed = fmt.Errorf("close the store: %w", err)
		}
		d.failed.Store(&errClosed)
		d.closed = errors.Join(d.closed, d.lock.Close())
	})
	return d.closed
}
