package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/store/storetest"
)

// BenchmarkStage stages a delivery, with a committer that writes what comes together in 50 ms.
func BenchmarkStage(b *testing.B) {
	d, _ := benchDisk(b, Options{Durability: Off})
	x := engine.StoredDelivery{Message: 7, QoS: 1, At: 1}
	b.ReportAllocs()
	for b.Loop() {
		x.Seq++
		d.PutDelivery(1, &x)
	}
}

func benchDisk(b *testing.B, o Options) (*Disk, *waiters) {
	if o.Dir = filepath.Join(b.TempDir(), "store"); o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	d := disk(b, o)
	if _, err := d.Load(); err != nil {
		b.Fatal(err)
	}
	w := &waiters{d: d}
	w.cond.L = &w.mu
	d.Start(w)
	d.PutSession(1, &engine.StoredSession{ClientID: "a"})
	return d, w
}

// waiters is a client on which goroutines wait for positions.
type waiters struct {
	d    *Disk
	mu   sync.Mutex
	cond sync.Cond
	seen engine.Position
}

func (w *waiters) Progress() {
	w.mu.Lock()
	w.seen = w.d.Committed()
	w.mu.Unlock()
	w.cond.Broadcast()
}
func (w *waiters) Rewrite(engine.Position) bool { return true }
func (w *waiters) Live() int64                  { return 0 }

func (w *waiters) wait(p engine.Position) {
	w.d.Want(p)
	w.mu.Lock()
	for w.seen < p {
		w.cond.Wait()
	}
	w.mu.Unlock()
}

// BenchmarkCommit has 1, 64 and 1024 publishers that each stage a message of 64 bytes with its delivery and wait until it is committed,
// beside a loop that appends as much to a file and syncs it. ns/op is for each message, "bare ns" for each turn of the loop.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bare := bareLoop(b, 300, 110)
			d, w := benchDisk(b, Options{})
			var seq, left atomic.Int64
			left.Store(int64(b.N))
			payload := make([]byte, 64)
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range n {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						m := uint64(seq.Add(1))
						d.PutMessage(m, &engine.Message{Topic: "a/b/c", Payload: payload, QoS: 1, From: "publisher", At: time.Unix(1, 1)}, true)
						d.PutDelivery(1, &engine.StoredDelivery{Seq: m, Message: m, QoS: 1, At: 1})
						w.wait(d.EndPublication(m, 0, 0, 0))
						d.EndDelivery(1, m)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			s := d.Stats()
			b.ReportMetric(float64(bare.Nanoseconds()), "bare-ns")
			b.ReportMetric(float64(s.CommittedBytes)/float64(b.N), "B/message")
			b.ReportMetric(float64(b.N)/max(float64(s.Syncs), 1), "messages/sync")
		})
	}
}

// bareLoop appends size bytes and syncs, n times, and gives the time of one turn.
func bareLoop(b *testing.B, n, size int) time.Duration {
	f, err := systemFS{}.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Reserve(DefaultSegmentSize); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, size)
	for i := range buf {
		buf[i] = 1
	}
	begin := time.Now()
	for i := range n {
		if _, err := f.WriteAt(buf, int64(i*size)); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin) / time.Duration(n)
}

// BenchmarkLoad loads a million messages of 64 bytes that are queued in 100 000 sessions.
func BenchmarkLoad(b *testing.B) {
	const sessions, each = 100_000, 10
	dir := filepath.Join(b.TempDir(), "store")
	o := Options{Dir: dir, Durability: Off}
	d := disk(b, o)
	if _, err := d.Load(); err != nil {
		b.Fatal(err)
	}
	c := storetest.NewClient()
	c.OnRewrite = func(engine.Position) bool { return false }
	d.Start(c)
	payload := make([]byte, 64)
	for i := range uint64(sessions) {
		d.PutSession(i+1, &engine.StoredSession{ClientID: fmt.Sprint("client", i), Zone: "external", Expiry: 3600, CreatedAt: 1})
		d.PutSubscription(i+1, &engine.Subscription{Filter: fmt.Sprint("topic/", i), QoS: 1})
	}
	for k := range uint64(each) {
		for i := range uint64(sessions) {
			m := k*sessions + i + 1
			d.PutMessage(m, &engine.Message{Topic: fmt.Sprint("topic/", i), Payload: payload, QoS: 1, From: "publisher", At: time.Unix(1, 1)}, true)
			d.PutDelivery(i+1, &engine.StoredDelivery{Seq: k + 1, Message: m, QoS: 1, At: 1})
			d.EndPublication(m, 0, 0, 0)
		}
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		d := disk(b, o)
		s, err := d.Load()
		if err != nil || len(s.Sessions) != sessions || len(s.Sessions[5].Deliveries) != each {
			b.Fatalf("%v", err)
		}
		b.ReportMetric(float64(s.Bytes)/1e6, "MB")
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
	_ = os.RemoveAll(dir) // a few hundred megabytes
}
