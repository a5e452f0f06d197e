package store

import (
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/store/storetest"
)

// A publication that was open when cleaning began is not asked for, and one that is open when it could end keeps what it replaces on
// the medium: both keep the cleaner waiting.
func TestCleaningWaitsForOpenPublications(t *testing.T) {
	var rewritten, discarded atomic.Int64
	d := disk(t, Options{FS: newFaultFS(), Dir: testDir, SegmentSize: minSegmentSize, FailPoint: func(name string) {
		if name == "discard" {
			discarded.Add(1)
		}
	}})
	if _, err := d.Load(); err != nil {
		t.Fatal(err)
	}
	c := storetest.NewClient()
	c.OnRewrite = func(engine.Position) bool {
		rewritten.Add(1)
		d.PutSession(1, &engine.StoredSession{ClientID: "a"})
		return true
	}
	d.Start(c)
	m := engine.Message{Topic: "t", Payload: make([]byte, 500)}
	traffic := func(n int, until func() bool) {
		for i := 0; i < n && !until(); i++ {
			d.PutMessage(100, &m, true)
			d.EndPublication(100, 0, 0, 0)
			c.Commit(t, d)
		}
	}
	d.PutSession(1, &engine.StoredSession{ClientID: "a"})
	d.PutMessage(1, &m, true) // open in the first segment
	traffic(200, func() bool { return rewritten.Load() > 0 })
	if rewritten.Load() > 0 {
		t.Fatal("asked to write anew while a publication of an old segment was open")
	}
	d.PutMessage(2, &m, true)
	d.EndPublication(1, 0, 0, 0)
	traffic(2000, func() bool { return rewritten.Load() > 0 })
	traffic(200, func() bool { return discarded.Load() > 0 })
	if rewritten.Load() == 0 || discarded.Load() > 0 {
		t.Fatalf("%d rewrites, %d discards while a publication was open", rewritten.Load(), discarded.Load())
	}
	d.EndPublication(2, 0, 0, 0)
	traffic(2000, func() bool { return discarded.Load() > 0 })
	if discarded.Load() == 0 {
		t.Fatal("nothing was discarded afterwards")
	}
}

// What referred to an open publication is taken back though the message itself was in a segment that is gone.
func TestOpenPublicationWithoutItsMessage(t *testing.T) {
	j := &journal{now: func() int64 { return 0 }}
	j.PutSession(1, &engine.StoredSession{ClientID: "a"})
	j.PutMessage(1, &engine.Message{Topic: "t", Payload: []byte("before")}, false)
	j.PutRetained(1, "t", engine.Stamp{})
	from := j.PutMessage(2, &engine.Message{Topic: "t"}, true)
	j.PutDelivery(1, &engine.StoredDelivery{Seq: 1, Message: 2, QoS: 1})
	j.PutRetained(2, "t", engine.Stamp{})
	j.PutDelayed(2, 5)
	j.note(kindBoot)
	j.PutSession(1, &engine.StoredSession{ClientID: "a"})
	j.PutMessage(1, &engine.Message{Topic: "t", Payload: []byte("before")}, false)
	j.PutRetained(1, "t", engine.Stamp{})
	l := newReplay()
	if err := l.all(j.take(nil)[0].payload()[from:], from); err != nil {
		t.Fatal(err)
	}
	if lost := l.missing(); lost != (missing{}) {
		t.Fatalf("lost %v", lost)
	}
	s := l.finish()
	if len(s.Sessions[0].Deliveries)+len(s.Delayed) != 0 || len(s.Retained) != 1 || s.Retained[0].Number != 1 {
		t.Fatalf("got %+v", s)
	}
}

// The deliveries of a session are those of a map, in whatever order they come and go.
func TestDeliveries(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var d deliveries
		want := map[uint64]int64{}
		for i := range rapid.IntRange(1, 300).Draw(rt, "steps") {
			seq := uint64(rapid.IntRange(1, 200).Draw(rt, "seq"))
			x := d.find(seq)
			if _, ok := want[seq]; ok != (x != nil && !x.dead) {
				rt.Fatalf("%d: found %v, want %v", seq, x, ok)
			}
			switch {
			case x == nil:
				d.add(delivery{seq: seq, at: int64(i)})
				want[seq] = int64(i)
			case !x.dead:
				if x.at != want[seq] {
					rt.Fatalf("%d: got %d, want %d", seq, x.at, want[seq])
				}
				d.kill(x)
				delete(want, seq)
			}
		}
		runs := d.live()
		n, last := 0, uint64(0)
		for _, run := range runs {
			for _, x := range run {
				if x.seq <= last {
					rt.Fatalf("%d after %d", x.seq, last)
				}
				n, last = n+1, x.seq
			}
		}
		if n != len(want) || len(runs) > 1 {
			rt.Fatalf("%d in %d runs, want %d", n, len(runs), len(want))
		}
	})
}
