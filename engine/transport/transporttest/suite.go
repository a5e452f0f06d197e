// Package transporttest holds the suite that every driver of package transport
// passes, whatever lies between the socket and the engine: it checks the
// contract of engine.Transport clause by clause with a small core of its own.
package transporttest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
)

// A Carrier is one way to carry MQTT: an open listener and its client's side.
type Carrier struct {
	Listener *transport.Listener
	// Dial connects. What is written to the net.Conn arrives at the core, and
	// the other way round.
	Dial func() (net.Conn, error)
	// Reset ends a connection with a TCP reset; nil if the carrier has none.
	Reset func(net.Conn)
	// Close closes the driver and waits for it.
	Close func()
}

// patience bounds every wait of the suite.
const patience = 20 * time.Second

// Run runs the suite. open is called anew for each test.
func Run(t *testing.T, open func(t *testing.T) Carrier) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w *world)
	}{
		{"echo in pieces of all sizes", echoPieces},
		{"a megabyte both ways", megabyte},
		{"short writes to a slow reader", slowReader},
		{"hold and resume", holdResume},
		{"resume before the hold is answered", earlyResume},
		{"close delivers what was written before", closeAfterOutput},
		{"close from within Feed", closeInFeed},
		{"close during writes of others", closeDuringWrites},
		{"stop then close", stopThenClose},
		{"orderly end of the peer", peerEnds},
		{"reset by the peer", peerResets},
		{"refused by the core", refusedByCore},
		{"closing the listener leaves connections", listenerCloses},
		{"closing the driver ends connections", driverCloses},
		{"a thousand connections", thousand},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			w := &world{T: t, Carrier: open(t)}
			c.run(t, w)
			w.Carrier.Close()
			w.mu.Lock()
			defer w.mu.Unlock()
			for i, e := range w.ends {
				if n := e.closed.Load(); n != 1 {
					t.Errorf("connection %d of %d: Closed was called %d times, want 1", i, len(w.ends), n)
				}
				if e.late.Load() {
					t.Errorf("connection %d: called after Closed", i)
				}
				if e.overlap.Load() {
					t.Errorf("connection %d: two calls at a time", i)
				}
			}
			Eventually(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}

// Eventually polls until ok or patience is out.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 64<<10)
			t.Fatalf("not in %v: %s\n%s", patience, what, buf[:runtime.Stack(buf, true)])
		}
	}
}

// world is one test.
type world struct {
	*testing.T
	Carrier
	mu   sync.Mutex
	ends []*end // under mu
}

// serve starts accepting; make sets up the core's side of each connection.
func (w *world) serve(make func(e *end)) {
	w.Helper()
	err := w.Listener.ServeFunc(func(_ engine.ConnInfo, t engine.Transport) (transport.Endpoint, error) {
		e := &end{t: t, done: newSignal()}
		make(e)
		w.mu.Lock()
		w.ends = append(w.ends, e)
		w.mu.Unlock()
		return e, nil
	})
	if err != nil {
		w.Fatal("serve:", err)
	}
}

func (w *world) dial() net.Conn {
	w.Helper()
	c, err := w.Dial()
	if err != nil {
		w.Fatal("dial:", err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		w.Fatal("set deadline:", err)
	}
	return c
}

// end is the core's side of one connection.
type end struct {
	t    engine.Transport
	feed func(p []byte) engine.Next // nil: echo
	done *signal
	err  error // why it ended, once done

	inCall          atomic.Int32
	overlap, late   atomic.Bool
	closed          atomic.Int32
	feeds, writable atomic.Int64

	mu      sync.Mutex
	pending []byte // under mu: output that the carrier did not take
	failed  error  // under mu
}

type signal struct{ c chan struct{} }

func newSignal() *signal { return &signal{make(chan struct{})} }

func (s *signal) set() { close(s.c) }

func (s *signal) wait(t *testing.T, what string) {
	t.Helper()
	select {
	case <-s.c:
	case <-time.After(patience):
		buf := make([]byte, 64<<10)
		t.Fatalf("not in %v: %s\n%s", patience, what, buf[:runtime.Stack(buf, true)])
	}
}

func (e *end) enter() {
	if e.inCall.Add(1) != 1 {
		e.overlap.Store(true)
	}
	if e.closed.Load() != 0 {
		e.late.Store(true)
	}
}

// Feed echoes, or does what the test says.
func (e *end) Feed(_ *engine.Batch, p []byte) engine.Next {
	e.enter()
	defer e.inCall.Add(-1)
	e.feeds.Add(1)
	if e.feed != nil {
		return e.feed(p)
	}
	e.send(p)
	return engine.ReadOn
}

// Writable sends what is left.
func (e *end) Writable(*engine.Batch) {
	e.enter()
	defer e.inCall.Add(-1)
	e.writable.Add(1)
	e.send(nil)
}

// Closed notes the end.
func (e *end) Closed(_ *engine.Batch, err error) {
	e.enter()
	defer e.inCall.Add(-1)
	e.err = err
	if e.closed.Add(1) == 1 {
		e.done.set()
	}
}

// send writes p after what is pending, in two pieces to try vectors.
func (e *end) send(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return
	}
	if len(e.pending) > 0 {
		e.pending = append(e.pending, p...)
		p = e.pending
	}
	if len(p) == 0 {
		return
	}
	half := len(p) / 2
	n, err := e.t.Write([][]byte{p[:half], nil, p[half:]})
	e.failed = err
	e.pending = append([]byte(nil), p[n:]...)
}

func (e *end) left() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.pending)
}

// random is a reproducible text of n bytes.
func random(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// exchange writes out in pieces of at most most bytes, and reads back as much.
func exchange(t *testing.T, c net.Conn, out []byte, most int) {
	t.Helper()
	errc := make(chan error, 1)
	go func() {
		r := rand.New(rand.NewPCG(uint64(most), 3))
		for p := out; len(p) > 0; {
			n := min(1+r.IntN(most), len(p))
			if _, err := c.Write(p[:n]); err != nil {
				errc <- err
				return
			}
			p = p[n:]
		}
		errc <- nil
	}()
	got := make([]byte, len(out))
	n, err := io.ReadFull(c, got)
	if err != nil {
		t.Fatalf("read after %d of %d bytes: %v", n, len(out), err)
	}
	if err := <-errc; err != nil {
		t.Fatal("write:", err)
	}
	if !bytes.Equal(got, out) {
		t.Fatal("what came back is not what was sent")
	}
}

func echoPieces(t *testing.T, w *world) {
	w.serve(func(*end) {})
	c := w.dial()
	defer c.Close()
	for _, most := range []int{1, 7, 300, 5000, 100_000} {
		exchange(t, c, random(min(most*50, 400_000)), most)
	}
}

func megabyte(t *testing.T, w *world) {
	w.serve(func(*end) {})
	c := w.dial()
	defer c.Close()
	exchange(t, c, random(1<<20), 1<<20)
}

func slowReader(t *testing.T, w *world) {
	const total = 24 << 20 // more than socket buffers hold
	text := random(total)
	ready := newSignal()
	var e *end
	w.serve(func(n *end) {
		e = n
		e.feed = func([]byte) engine.Next { e.send(text); ready.set(); return engine.ReadOn }
	})
	c := w.dial()
	defer c.Close()
	if _, err := c.Write([]byte("go")); err != nil {
		t.Fatal(err)
	}
	ready.wait(t, "the core has written")
	if e.left() == 0 {
		t.Fatalf("the carrier took %d bytes at once although nobody reads: no bound", total)
	}
	got, buf := make([]byte, 0, total), make([]byte, 100_000)
	for len(got) < total {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			t.Fatalf("read after %d bytes: %v", len(got), err)
		}
	}
	if !bytes.Equal(got, text) {
		t.Fatal("what came is not what was written")
	}
	if e.writable.Load() == 0 {
		t.Fatal("Writable was never called")
	}
}

func holdResume(t *testing.T, w *world) {
	var e *end
	var got []byte
	var mu sync.Mutex
	held := newSignal()
	hold := true
	w.serve(func(n *end) {
		e = n
		e.feed = func(p []byte) engine.Next {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, p...)
			if hold {
				hold = false
				held.set()
				return engine.Hold
			}
			return engine.ReadOn
		}
	})
	c := w.dial()
	defer c.Close()
	text := random(300_000)
	go func() { _, _ = c.Write(text) }() // the reading side counts
	held.wait(t, "the core has held")
	length := func() int { mu.Lock(); defer mu.Unlock(); return len(got) }
	n := length()
	// Nothing may come now. That cannot be polled for: a moment has to do.
	time.Sleep(50 * time.Millisecond)
	if length() != n {
		t.Fatalf("%d bytes were fed after Hold", length()-n)
	}
	e.t.Resume()
	Eventually(t, "all is fed after Resume", func() bool { return length() == len(text) })
	if !bytes.Equal(got, text) {
		t.Fatal("what was fed is not what was sent")
	}
}

func earlyResume(t *testing.T, w *world) {
	var n atomic.Int64
	w.serve(func(e *end) {
		e.feed = func(p []byte) engine.Next {
			n.Add(int64(len(p)))
			if len(p) == 0 {
				return engine.ReadOn
			}
			e.t.Resume()
			return engine.Hold
		}
	})
	c := w.dial()
	defer c.Close()
	text := random(500_000)
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "all is fed", func() bool { return n.Load() == int64(len(text)) })
}

func closeAfterOutput(t *testing.T, w *world) {
	text := random(100_000)
	w.serve(func(e *end) {
		e.feed = func([]byte) engine.Next {
			e.send(text)
			e.t.Close()
			return engine.Stop
		}
	})
	c := w.dial()
	defer c.Close()
	// More than the core reads, so that the kernel has unread input on close.
	if _, err := c.Write(random(200_000)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(got), err)
	}
	if !bytes.Equal(got, text) {
		t.Fatalf("got %d bytes, want the %d that were written before Close", len(got), len(text))
	}
}

func closeInFeed(t *testing.T, w *world) {
	w.serve(func(e *end) {
		e.feed = func([]byte) engine.Next {
			e.t.Close()
			e.t.Close()
			if _, err := e.t.Write([][]byte{{1}}); err == nil {
				t.Error("Write after Close: no error")
			}
			return engine.Stop
		}
	})
	c := w.dial()
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
		t.Fatalf("got %d bytes, %v; want an orderly end", n, err)
	}
}

func closeDuringWrites(t *testing.T, w *world) {
	const conns, writers = 20, 4
	var wg sync.WaitGroup
	w.serve(func(e *end) {
		e.feed = func([]byte) engine.Next { return engine.ReadOn }
		for range writers {
			wg.Go(func() {
				for range 200 {
					e.send([]byte("some words of no importance"))
				}
			})
		}
		wg.Go(func() {
			time.Sleep(time.Millisecond) // somewhere among the writes
			e.t.Close()
		})
	})
	for range conns {
		c := w.dial()
		_, _ = io.Copy(io.Discard, c) // ends in any way
		_ = c.Close()
	}
	wg.Wait()
}

func stopThenClose(t *testing.T, w *world) {
	stopped := newSignal()
	var e *end
	w.serve(func(n *end) {
		e = n
		e.feed = func([]byte) engine.Next { stopped.set(); return engine.Stop }
	})
	c := w.dial()
	defer c.Close()
	for range 2 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	stopped.wait(t, "the core has stopped")
	e.send([]byte("bye"))
	e.t.Close()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "bye" {
		t.Fatalf("got %q, %v; want bye and an orderly end", got, err)
	}
	_ = c.Close()
	e.done.wait(t, "Closed is called")
	if n := e.feeds.Load(); n != 1 {
		t.Errorf("Feed was called %d times, want 1: not after Stop", n)
	}
}

func peerEnds(t *testing.T, w *world) {
	var e *end
	accepted := newSignal()
	w.serve(func(n *end) { e = n; accepted.set() })
	c := w.dial()
	exchange(t, c, []byte("hello"), 5)
	accepted.wait(t, "accepted")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	e.done.wait(t, "Closed is called")
	if e.err != nil {
		t.Fatalf("Closed with %v, want nil", e.err)
	}
}

func peerResets(t *testing.T, w *world) {
	if w.Reset == nil {
		t.Skip("this carrier has no reset")
	}
	var e *end
	accepted := newSignal()
	w.serve(func(n *end) { e = n; accepted.set() })
	c := w.dial()
	exchange(t, c, []byte("hello"), 5)
	accepted.wait(t, "accepted")
	w.Reset(c)
	e.done.wait(t, "Closed is called")
	if e.err == nil {
		t.Fatal("Closed without an error after a reset")
	}
}

func refusedByCore(t *testing.T, w *world) {
	err := w.Listener.ServeFunc(func(engine.ConnInfo, engine.Transport) (transport.Endpoint, error) {
		return nil, errors.New("full")
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		c, err := w.Dial()
		if err != nil {
			continue // refused in the handshake
		}
		_ = c.SetDeadline(time.Now().Add(patience)) // the read below has to end
		if n, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("read %d bytes, %v; want an end", n, err)
		}
		_ = c.Close()
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func listenerCloses(t *testing.T, w *world) {
	w.serve(func(*end) {})
	c := w.dial()
	defer c.Close()
	exchange(t, c, []byte("hello"), 5)
	for range 2 {
		if err := w.Listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if c2, err := w.Dial(); err == nil {
		_ = c2.Close()
		t.Error("a closed listener accepts")
	}
	exchange(t, c, []byte("still here"), 5)
}

func driverCloses(t *testing.T, w *world) {
	w.serve(func(*end) {})
	var cs []net.Conn
	for range 10 {
		c := w.dial()
		defer c.Close()
		exchange(t, c, []byte("hello"), 5)
		cs = append(cs, c)
	}
	var wg sync.WaitGroup
	for _, c := range cs {
		wg.Go(func() {
			if n, _ := io.Copy(io.Discard, c); n != 0 {
				t.Errorf("%d bytes from nowhere", n)
			}
			_ = c.Close()
		})
	}
	w.Carrier.Close()
	wg.Wait()
}

func thousand(t *testing.T, w *world) {
	const n = 1000
	w.serve(func(*end) {})
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				c, err := w.Dial()
				if err != nil {
					t.Error("dial:", err)
					return
				}
				conns[i] = c
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-time.After(patience):
			t.Fatal("dialling takes too long")
		}
	}
	close(next)
	wg.Wait()
	for round := range 3 {
		for i, c := range conns {
			if c == nil {
				t.FailNow()
			}
			_ = c.SetDeadline(time.Now().Add(patience)) // the read has to end
			if _, err := c.Write([]byte{byte(i), byte(round)}); err != nil {
				t.Fatal(err)
			}
		}
		var b [2]byte
		for i, c := range conns {
			if _, err := io.ReadFull(c, b[:]); err != nil || b != [2]byte{byte(i), byte(round)} {
				t.Fatalf("connection %d: got %v, %v", i, b, err)
			}
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	Eventually(t, "all have ended", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.ends {
			if e.closed.Load() == 0 {
				return false
			}
		}
		return len(w.ends) == n
	})
}
