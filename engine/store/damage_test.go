package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/store/storetest"
)

const testDir = "/data/store"

// image is what a directory holds.
type image map[string][]byte

func (f *faultFS) contents() image {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := image{}
	for name, x := range f.names {
		out[name] = slices.Clone(x.data)
	}
	return out
}

// fs gives a file system that holds m, all of it on the medium.
func (m image) fs() *faultFS {
	f := newFaultFS()
	for name, data := range m {
		f.names[name] = &faultFile{data: slices.Clone(data), synced: slices.Clone(data)}
		f.synced[name] = f.names[name]
	}
	return f
}

func (m image) clone() image {
	out := image{}
	for name, data := range m {
		out[name] = slices.Clone(data)
	}
	return out
}

// names gives the segments in order.
func (m image) names() []string {
	var list []string
	for name := range m {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// load loads what f holds.
func load(t testing.TB, f *faultFS) (*engine.Stored, *Disk, error) {
	t.Helper()
	d := disk(t, Options{FS: f, Dir: testDir, SegmentSize: minSegmentSize})
	s, err := d.Load()
	return s, d, err
}

// small makes a journal of several segments and groups, and stops it as kill -9 would, after the last change was committed and
// before anything says so. It gives the files and what they hold.
func small(t testing.TB) (image, *engine.Stored, *Disk) {
	t.Helper()
	f := newFaultFS()
	d := disk(t, Options{FS: f, Dir: testDir, SegmentSize: minSegmentSize})
	if _, err := d.Load(); err != nil {
		t.Fatal(err)
	}
	c := storetest.NewClient()
	d.Start(c)
	d.PutSession(1, &engine.StoredSession{ClientID: "a", Connected: true})
	for i := range uint64(12) {
		d.PutMessage(i+1, &engine.Message{Topic: "t", Payload: make([]byte, 400), QoS: 1}, true)
		d.PutDelivery(1, &engine.StoredDelivery{Seq: i + 1, Message: i + 1, QoS: 1})
		d.EndPublication(i+1, 0, 0, 0)
		c.Commit(t, d)
	}
	m := f.contents()
	s, _, err := load(t, m.fs())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m); n < 2 {
		t.Fatalf("%d files", n)
	}
	return m, s, d
}

// same compares what was loaded, but for how many bytes were read.
func same(a, b *engine.Stored) bool {
	x, y := *a, *b
	x.Bytes, y.Bytes = 0, 0
	return reflect.DeepEqual(&x, &y)
}

// prefixes gives what a journal may hold whose end was cut: for each number of deliveries, the state.
func isPrefix(got, whole *engine.Stored, least int) error {
	if len(got.Sessions) == 0 {
		if least > 0 {
			return errors.New("the session is gone")
		}
		return nil
	}
	a, b := got.Sessions[0].Deliveries, whole.Sessions[0].Deliveries
	if len(a) < least || len(a) > len(b) {
		return fmt.Errorf("%d of %d deliveries, at least %d", len(a), len(b), least)
	}
	for i := range a {
		if !reflect.DeepEqual(a[i], b[i]) {
			return fmt.Errorf("delivery %d differs", i)
		}
	}
	return nil
}

// Zeros where something was not known to be acknowledged are the end, and zeros before that are refused. A file that is shorter than it
// was made has lost its end, wherever that is.
func TestTornTails(t *testing.T) {
	m, whole, _ := small(t)
	names := m.names()
	last := names[len(names)-1]
	n := used(m[last])
	first, _, _ := parseGroup(m[last][segmentHeaderSize:], headerOf(t, m[last]).seed())
	whole0 := segmentHeaderSize + groupHeaderSize + first.length // the file had that when it got its name
	for _, kind := range []string{"short", "zeros"} {
		if kind == "zeros" {
			whole0 = used(m[last][:whole0]) // zeros in place of zeros are no damage
		}
		for at := range n {
			torn := m.clone()
			if torn[last] = torn[last][:at]; kind == "zeros" {
				torn[last] = append(torn[last][:at:at], make([]byte, len(m[last])-at)...)
			}
			got, d, err := load(t, torn.fs())
			var damage *DamageError
			switch {
			case err == nil:
				if kind == "short" {
					t.Fatalf("short at %d: a file that has lost its end is taken", at)
				}
				if at < whole0 {
					t.Fatalf("%s at %d: a file without what it had from the beginning is taken", kind, at)
				}
				if e := isPrefix(got, whole, 1); e != nil {
					t.Fatalf("%s at %d: %v", kind, at, e)
				}
				// It can go on, and what it has then is found again.
				c := storetest.NewClient()
				d.Start(c)
				d.PutRelease(1, 9, 9)
				c.Commit(t, d)
				again, _, err := load(t, d.o.FS.(*faultFS).powerLoss(func(int) int { return 0 }))
				if err != nil || len(again.Sessions[0].Releases) != 1 || len(again.Sessions[0].Deliveries) != len(got.Sessions[0].Deliveries) {
					t.Fatalf("%s at %d: goes on to %v, %v", kind, at, again, err)
				}
			case !errors.As(err, &damage):
				t.Fatalf("%s at %d: %v", kind, at, err)
			case at >= whole0 && kind == "zeros":
				t.Fatalf("%s at %d: refused: %v", kind, at, err)
			}
			_ = d.Close()
		}
	}
}

// Each byte of each file is turned over: what was known to be acknowledged is never silently different.
func TestFlippedBytes(t *testing.T) {
	m, whole, _ := small(t)
	names := m.names()
	for _, name := range names {
		last := name == names[len(names)-1]
		for at := range used(m[name]) + 40 {
			if at >= len(m[name]) {
				break
			}
			bad := m.clone()
			bad[name][at] ^= 1 << (at % 8)
			got, d, err := load(t, bad.fs())
			_ = d.Close()
			if err == nil {
				if !last && !same(got, whole) {
					t.Fatalf("%s, byte %d: different without a word", name, at)
				}
				if e := isPrefix(got, whole, len(whole.Sessions[0].Deliveries)-1); e != nil {
					t.Fatalf("%s, byte %d: %v", name, at, e)
				}
				continue
			}
			var damage *DamageError
			if !errors.As(err, &damage) {
				t.Fatalf("%s, byte %d: %v", name, at, err)
				continue
			}
			if !strings.HasSuffix(name, damage.File) && damage.More == 0 || !strings.Contains(err.Error(), "lacewing ctl store repair --data-dir /data") {
				t.Fatalf("%s, byte %d: %v", name, at, err)
			}
		}
	}
}

// Once the store was idle for a moment, even its last group is known to be acknowledged.
func TestDamageInTheLastGroup(t *testing.T) {
	f := newFaultFS()
	d := disk(t, Options{FS: f, Dir: testDir})
	if _, err := d.Load(); err != nil {
		t.Fatal(err)
	}
	c := storetest.NewClient()
	d.Start(c)
	d.PutSession(1, &engine.StoredSession{ClientID: "a"})
	c.Commit(t, d)
	d.PutRelease(1, 1, 1)
	c.Commit(t, d)
	name := d.join(segmentName(0))
	seed := headerOf(t, f.contents()[name]).seed()
	waitFor(t, func() bool {
		var c claims
		c.gather(f.contents()[name], segmentHeaderSize, seed)
		return c.durable == d.Staged()
	})
	m := f.contents()
	for off := segmentHeaderSize; ; {
		h, payload, _ := parseGroup(m[name][off:], seed)
		if off += groupHeaderSize + h.length; h.end() == d.Staged() {
			payload[0] ^= 1
			break
		}
	}
	_, _, err := load(t, m.fs())
	var damage *DamageError
	if !errors.As(err, &damage) || !strings.Contains(damage.Lost, "1 group of 1 change") {
		t.Fatalf("got %v", err)
	}
}

// A file that was ended in order may not be shorter either, also where an earlier end in order was.
func TestShortAfterAnOrderlyStop(t *testing.T) {
	f := newFaultFS()
	for n := range uint64(3) {
		d := disk(t, Options{FS: f, Dir: testDir})
		if _, err := d.Load(); err != nil {
			t.Fatal(err)
		}
		c := storetest.NewClient()
		d.Start(c)
		d.PutSession(n+1, &engine.StoredSession{ClientID: "a"})
		c.Commit(t, d)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m := f.contents()
	if len(m) != 1 {
		t.Fatalf("%d files, want one that was continued", len(m))
	}
	name := m.names()[0]
	for at := range m[name] {
		short := image{name: m[name][:at]}
		var damage *DamageError
		if _, _, err := load(t, short.fs()); !errors.As(err, &damage) {
			t.Fatalf("cut at %d of %d: got %v", at, len(m[name]), err)
		}
	}
	s, _, err := load(t, m.fs())
	if err != nil || len(s.Sessions) != 3 || !s.Orderly {
		t.Fatalf("got %+v, %v", s, err)
	}
}

// The machine stops at each operation of two lives of a store: it can be loaded, and has what was committed.
func TestLengthsWhateverStops(t *testing.T) {
	for most := 0; ; most++ {
		f := newFaultFS()
		done, stopped := 0, false
		f.setFail(func(op, path string) error {
			if op == "read" || op == "open" || path == filepath.Dir(testDir) {
				return nil
			}
			if done++; done > most {
				stopped = true
				return errors.New("the machine has stopped")
			}
			return nil
		})
		committed := engine.Position(0)
		for life := range uint64(2) {
			d := disk(t, Options{FS: f, Dir: testDir, SegmentSize: minSegmentSize, RetryInterval: time.Hour})
			if _, err := d.Load(); stopped && err != nil {
				break // it could not tidy up
			} else if err != nil {
				t.Fatal(err)
			}
			c := storetest.NewClient()
			d.Start(c)
			d.PutSession(life+1, &engine.StoredSession{ClientID: "a"})
			for n := range uint64(6) {
				d.PutMessage(life*6+n+1, &engine.Message{Topic: "t", Payload: make([]byte, 900)}, false)
				d.PutDelivery(life+1, &engine.StoredDelivery{Seq: n + 1, Message: life*6 + n + 1, QoS: 1})
				to := d.Staged()
				d.Want(to)
				c.Await(t, "an answer", func() bool { return d.Committed() >= to || d.Err() != nil })
			}
			_ = d.Close() // fails from where the machine has stopped
			committed = max(committed, d.Committed())
		}
		for i := range 8 {
			r := rand.New(rand.NewPCG(uint64(most), uint64(i)))
			_, d, err := load(t, f.powerLoss(r.IntN))
			if err != nil {
				t.Fatalf("after %d operations: %v", most, err)
			}
			if d.Staged() < committed {
				t.Fatalf("after %d operations: found up to %d, committed were %d", most, d.Staged(), committed)
			}
		}
		if !stopped {
			if most < 40 {
				t.Fatalf("%d operations in all", most)
			}
			return
		}
	}
}

// Files of the first version do not tell their length. They are read, and not continued.
func TestFirstVersion(t *testing.T) {
	m, whole, _ := small(t)
	for name, data := range m {
		h := headerOf(t, data)
		h.version, h.length = 1, 0
		h.put(data)
		m[name] = data
	}
	f := m.fs()
	got, d, err := load(t, f)
	if err != nil || !same(got, whole) {
		t.Fatalf("got %+v, %v", got, err)
	}
	c := storetest.NewClient()
	d.Start(c)
	d.PutRelease(1, 9, 9)
	c.Commit(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	after := f.contents()
	names := after.names()
	if h := headerOf(t, after[names[len(names)-1]]); h.version != formatVersion || int(h.length) != len(after[names[len(names)-1]]) {
		t.Fatalf("the last of %v is %+v", names, h)
	}
	again, _, err := load(t, f)
	if err != nil || len(again.Sessions[0].Releases) != 1 {
		t.Fatalf("again: %v, %v", again, err)
	}
}

func TestMissingFiles(t *testing.T) {
	m, _, _ := small(t)
	for i, name := range m.names() { // the last too: the one before it is shorter than it was made
		less := m.clone()
		delete(less, name)
		var damage *DamageError
		if _, _, err := load(t, less.fs()); !errors.As(err, &damage) {
			t.Fatalf("file %d: got %v", i, err)
		}
	}
}

func headerOf(t testing.TB, data []byte) segmentHeader {
	t.Helper()
	h, err := parseSegmentHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestNewerFormat(t *testing.T) {
	m, _, _ := small(t)
	name := m.names()[1]
	h := headerOf(t, m[name])
	h.version = formatVersion + 1
	h.put(m[name])
	if _, _, err := load(t, m.fs()); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), name) {
		t.Fatalf("got %v", err)
	}
}

// waitFor waits for what the committer does in its own time.
func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	timer, ticker := time.NewTimer(20*time.Second), time.NewTicker(time.Millisecond)
	defer timer.Stop()
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-timer.C:
			t.Fatal("not within 20 s")
		}
	}
}
