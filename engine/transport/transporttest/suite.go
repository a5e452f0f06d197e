// Package transporttest holds the suite that every driver of package transport
// passes, whatever lies between the socket and the engine: it checks the
// contract of engine.Transport clause by clause with a small core of its own.
package transporttest

import (
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
		{"last words and end of the peer together", peerEndsSpeaking},
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
