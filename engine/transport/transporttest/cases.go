package transporttest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
)

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
	wg.Add(conns) // before any is served: the count may not begin anew beside Wait
	w.serve(func(e *end) {
		defer wg.Done()
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

// peerEndsSpeaking has the driver find input and the end behind it at one look:
// the input must not be taken for all there is.
func peerEndsSpeaking(t *testing.T, w *world) {
	entered, sent := newSignal(), newSignal()
	var e *end
	var got []byte
	accepted := newSignal()
	w.serve(func(n *end) {
		n.feed = func(p []byte) engine.Next {
			if len(got) == 0 {
				entered.set()
				<-sent.c
			}
			got = append(got, p...)
			return engine.ReadOn
		}
		e = n
		accepted.set()
	})
	c := w.dial()
	release := sync.OnceFunc(sent.set)
	defer release() // when the test fails before
	if _, err := c.Write([]byte("one ")); err != nil {
		t.Fatal(err)
	}
	entered.wait(t, "the first words are fed")
	if _, err := c.Write([]byte("and last")); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	release()
	accepted.wait(t, "accepted")
	e.done.wait(t, "Closed is called")
	if string(got) != "one and last" || e.err != nil {
		t.Fatalf("got %q, Closed with %v; want one and last, nil", got, e.err)
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
