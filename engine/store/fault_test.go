package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/store/storetest"
)

// running is a started store with a client.
func running(t testing.TB, o Options) (*Disk, *storetest.Client) {
	t.Helper()
	d := disk(t, o)
	if _, err := d.Load(); err != nil {
		t.Fatal(err)
	}
	c := storetest.NewClient()
	d.Start(c)
	return d, c
}

// releases stages and commits PUBRELs that are awaited in session 1, from one number up to another.
func releases(t testing.TB, d *Disk, c *storetest.Client, from, to int) {
	t.Helper()
	d.PutSession(1, &engine.StoredSession{ClientID: "a"})
	for i := from; i < to; i++ {
		d.PutRelease(1, uint16(i), 1)
		c.Commit(t, d)
	}
}

// After one failed sync the file is never written again, and nothing that was in it and not committed is taken from it: not by this
// process and not by the next, though its pages look written.
func TestFailedSync(t *testing.T) {
	for _, durability := range []Durability{Fsync, Interval} {
		t.Run(string(durability), func(t *testing.T) {
			f := newFaultFS()
			d, c := running(t, Options{FS: f, Dir: testDir, Durability: durability, RetryInterval: time.Millisecond, SyncInterval: time.Millisecond})
			releases(t, d, c, 0, 3)
			synced := func(p engine.Position) func() bool {
				return func() bool {
					d.mu.Lock()
					defer d.mu.Unlock()
					return d.synced >= p
				}
			}
			waitFor(t, synced(d.Staged()))
			old := d.join(segmentName(0))
			var failed, touched atomic.Bool
			f.setFail(func(op, path string) error {
				if path != old {
					return nil
				}
				if failed.Load() && op != "remove" {
					touched.Store(true)
				}
				if op == "sync" {
					failed.Store(true)
					return syscall.EIO
				}
				return nil
			})
			d.PutRelease(1, 3, 1)
			p := d.Staged()
			d.Want(p)
			waitFor(t, func() bool { return d.Stats().Faults > 0 })
			if durability == Fsync && d.Refused() < p && d.Committed() < p {
				t.Fatalf("refused up to %d, want %d", d.Refused(), p)
			}
			waitFor(t, func() bool { return d.Err() == nil && d.Committed() >= p })
			releases(t, d, c, 4, 6)
			if touched.Load() {
				t.Error("the file was used again after its sync had failed")
			}
			waitFor(t, synced(p))
			s, _, err := load(t, f.powerLoss(func(int) int { return 0 }))
			if err != nil || len(s.Sessions) != 1 || len(s.Sessions[0].Releases) < 4 {
				t.Fatalf("got %v, %v", s, err)
			}
		})
	}
}

// A process that dies after a failed sync leaves pages that can be read and are not on the medium. The next one writes them anew before
// it relies on them.
func TestPagesThatOnlyLookWritten(t *testing.T) {
	f := newFaultFS()
	d, c := running(t, Options{FS: f, Dir: testDir, RetryInterval: time.Hour})
	releases(t, d, c, 0, 3)
	f.setFail(func(op, path string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	})
	d.PutRelease(1, 3, 1)
	d.Want(d.Staged())
	c.Await(t, "fault", func() bool { return d.Err() != nil })
	found := f.image() // the process is killed; the pages are there
	s, next, err := load(t, found)
	if err != nil || len(s.Sessions[0].Releases) != 4 {
		t.Fatalf("got %v, %v", s, err)
	}
	cn := storetest.NewClient()
	next.Start(cn)
	cn.Commit(t, next)
	s, _, err = load(t, found.powerLoss(func(int) int { return 0 }))
	if err != nil || len(s.Sessions[0].Releases) != 4 {
		t.Fatalf("after the power was gone: got %v, %v", s, err)
	}
}

// No room for the next segment is a fault like others, and ends without a restart.
func TestNoSpace(t *testing.T) {
	for _, failing := range []string{"create", "reserve", "write", "sync", "rename", "sync directory"} {
		t.Run(failing, func(t *testing.T) {
			f := newFaultFS()
			d, c := running(t, Options{FS: f, Dir: testDir, SegmentSize: minSegmentSize, RetryInterval: time.Millisecond})
			releases(t, d, c, 0, 3)
			f.setFail(func(op, path string) error {
				if op == failing {
					return syscall.ENOSPC
				}
				return nil
			})
			for i := 10; d.Err() == nil; i++ {
				d.PutRelease(1, uint16(i), 1)
				p := d.Staged()
				d.Want(p)
				c.Await(t, "commit or refusal", func() bool { return d.Committed() >= p || d.Refused() >= p && d.Err() != nil })
			}
			err := d.Err()
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), testDir) || !strings.Contains(err.Error(), "free some space") {
				t.Errorf("err: %v", err)
			}
			refused := d.Refused()
			d.PutRelease(1, 5000, 1)
			waitFor(t, func() bool { return d.Refused() > refused }) // every attempt that fails refuses what came since
			f.setFail(nil)
			c.Commit(t, d)
			c.Await(t, "recovery", func() bool { return d.Err() == nil })
			want := 0
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			s, _, err := load(t, f.powerLoss(func(int) int { return 0 }))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range s.Sessions[0].Releases {
				if r.ID == 5000 {
					want++
				}
			}
			if want != 1 || !s.Orderly {
				t.Fatalf("got %v, orderly %v", s.Sessions[0].Releases, s.Orderly)
			}
		})
	}
}

// A store at its limit says so, keeps taking removals, and has room again once what was removed is cleaned away.
func TestFull(t *testing.T) {
	f := newFaultFS()
	d := disk(t, Options{FS: f, Dir: testDir, MaxBytes: MinMaxBytes, RetryInterval: time.Millisecond})
	if _, err := d.Load(); err != nil {
		t.Fatal(err)
	}
	h := &holder{Client: storetest.NewClient(), d: d, live: map[uint64]bool{}}
	d.Start(h)
	d.PutSession(1, &engine.StoredSession{ClientID: "a"})
	n := uint64(0)
	for d.Err() == nil {
		n++
		h.put(n)
		if n%50 == 0 {
			h.Commit(t, d)
		}
		if n > 5000 {
			t.Fatal("never full")
		}
	}
	if err := d.Err(); !errors.Is(err, engine.ErrStoreFull) {
		t.Fatalf("err: %v", err)
	}
	for i := range n {
		h.end(i + 1)
		if i%50 == 0 {
			h.Commit(t, d)
		}
	}
	d.Want(d.Staged())
	h.Await(t, "room", func() bool { d.Want(d.Staged() + 1); return d.Err() == nil })
	most := int64(0)
	for _, data := range f.contents() {
		most += int64(len(data))
	}
	if most > MinMaxBytes {
		t.Errorf("%d bytes are on the medium, the limit is %d", most, MinMaxBytes)
	}
	h.stop()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// holder is a client with messages in one session.
type holder struct {
	*storetest.Client
	d    *Disk
	mu   sync.Mutex
	live map[uint64]bool
	over bool
}

var body = make([]byte, 1000)

func (h *holder) put(n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live[n] = true
	h.stage(n, true)
}

func (h *holder) stage(n uint64, open bool) {
	h.d.PutMessage(n, &engine.Message{Topic: "t", Payload: body}, open)
	h.d.PutDelivery(1, &engine.StoredDelivery{Seq: n, Message: n, QoS: 1})
	if open {
		h.d.EndPublication(n, 0, 0, 0)
	}
}

func (h *holder) end(n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.live, n)
	h.d.EndDelivery(1, n)
}

func (h *holder) stop() {
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
}

func (h *holder) Live() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(len(h.live)) * 1100
}

func (h *holder) Rewrite(engine.Position) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return false
	}
	h.d.PutSession(1, &engine.StoredSession{ClientID: "a"})
	for n := range h.live {
		h.stage(n, false)
	}
	return true
}

// The process dies at each named point, and the power with it or not. What was committed then is found.
func TestFailPoints(t *testing.T) {
	for _, point := range []string{"boot", "append", "written", "synced", "committed", "roll", "rewrite", "discard", "unlink", "close"} {
		for _, power := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, power lost %v", point, power), func(t *testing.T) {
				f := newFaultFS()
				var d *Disk
				type death struct {
					f         *faultFS
					committed engine.Position
				}
				var mu sync.Mutex
				var deaths []death
				o := Options{FS: f, Dir: testDir, SegmentSize: minSegmentSize, FailPoint: func(name string) {
					if name != point {
						return
					}
					at := death{committed: d.Committed()} // before what is found is looked at
					if power {
						at.f = f.powerLoss(func(n int) int { return n / 2 })
					} else {
						at.f = f.image()
					}
					mu.Lock()
					deaths = append(deaths, at)
					mu.Unlock()
				}}
				d = disk(t, o)
				if _, err := d.Load(); err != nil {
					t.Fatal(err)
				}
				h := &holder{Client: storetest.NewClient(), d: d, live: map[uint64]bool{}}
				d.Start(h)
				d.PutSession(1, &engine.StoredSession{ClientID: "a"})
				for n := range uint64(40) {
					h.put(n + 1)
					if n >= 4 {
						h.end(n - 3)
					}
					h.Commit(t, d)
				}
				waitFor(t, func() bool { return d.Stats().Rewrites > 0 })
				h.stop()
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if len(deaths) == 0 {
					t.Fatal("the point was not reached")
				}
				for i, at := range deaths {
					_, next, err := load(t, at.f)
					if err != nil {
						t.Fatalf("death %d: %v", i, err)
					}
					if next.Staged() < at.committed {
						t.Fatalf("death %d: found up to %d, committed were %d", i, next.Staged(), at.committed)
					}
					_ = next.Close()
				}
			})
		}
	}
}

func TestInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	d, _ := running(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("open: %v", err)
	}
	if _, err := Check(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("check: %v", err)
	}
	if _, err := Repair(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("repair: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Check(dir); err != nil || !r.Orderly || len(r.Damage) != 0 {
		t.Errorf("check: %+v, %v", r, err)
	}
}
