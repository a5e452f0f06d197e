// Package transport carries MQTT connections between the network and the
// engine, which does no I/O itself. On Linux plain TCP, and what else can be
// decoded without waiting, runs on event loops (epoll): a loop reads all its
// ready sockets into one shared buffer, feeds the engine, and lets it write
// every connection it touched once at the end of the round; an idle connection
// holds no buffer and no goroutine. Every other net.Conn runs on a goroutine.
//
// A Driver owns the loops and all connections; a Listener is one bound address
// with its access rules, PROXY protocol and TLS. DESIGN.md of package engine
// has the figures that this shape was chosen by.
package transport

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// ErrClosed is returned by what is asked of a closed Driver, Listener or
// connection.
var ErrClosed = errors.New("transport: closed")

// ErrDescriptors means that a connection was refused because the descriptors
// that are left are reserved for other parts of the program.
var ErrDescriptors = errors.New("transport: descriptor limit reached")

// Options of a Driver. The zero value works.
type Options struct {
	// Logger receives refusals and failures, at most one line of a kind in ten
	// seconds. Nil discards them.
	Logger *slog.Logger
	// Loops is the number of event loops; 0 chooses by the number of processors.
	Loops int
	// Goroutines carries every connection by goroutines, as on systems without
	// epoll.
	Goroutines bool
	// ReadBuffer is the size of a loop's shared read buffer in bytes, the most
	// that is read from one connection in one round; 0 means 64 KiB.
	ReadBuffer int
	// ReserveFiles is the number of file descriptors, below the limit of the
	// process, that connections leave free for everything else (API, stored
	// metadata, logs). 0 means 256, or a quarter of the limit if that is less.
	ReserveFiles int
	// MaxHandshakes bounds TLS handshakes and WebSocket upgrades going on at a
	// time. One more closes the oldest, so that peers that do not get on with
	// theirs cannot keep others out. 0 means 1024.
	MaxHandshakes int
}

const (
	defaultReadBuffer = 64 << 10
	defaultReserve    = 256
	defaultHandshakes = 1024
)

// A Driver carries the connections of one engine. Its methods may be called
// from any goroutine.
type Driver struct {
	eng   batches
	log   *slog.Logger
	opts  Options
	loops *loops // nil where there are none
	files files

	mu        sync.Mutex
	closed    bool                   // under mu
	listeners map[*Listener]struct{} // under mu
	streams   map[*stream]struct{}   // under mu
	shaking   *list.List             // under mu: net.Conns in handshakes, the oldest first
	compute   chan struct{}          // a token for each handshake that may compute

	wg      sync.WaitGroup // goroutines of listeners and streams
	batchOf sync.Pool      // *engine.Batch for goroutines that come and go
}

// batches makes the scratch of a goroutine that feeds the engine.
type batches interface{ NewBatch() *engine.Batch }

// An Endpoint is the engine's side of a connection: *engine.Conn. Its methods
// are called one at a time.
type Endpoint interface {
	Feed(b *engine.Batch, p []byte) engine.Next
	Writable(b *engine.Batch)
	Closed(b *engine.Batch, err error)
}

// An AcceptFunc lets a connection in or refuses it, as engine.Listener.Accept does.
type AcceptFunc func(engine.ConnInfo, engine.Transport) (Endpoint, error)

// New starts a driver for e. The caller ends it with Close.
func New(e *engine.Engine, o Options) (*Driver, error) { return newDriver(e, o) }

func newDriver(e batches, o Options) (*Driver, error) {
	if o.Loops < 0 || o.ReadBuffer < 0 || o.ReserveFiles < 0 || o.MaxHandshakes < 0 {
		return nil, fmt.Errorf("transport options: negative number")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ReadBuffer == 0 {
		o.ReadBuffer = defaultReadBuffer
	}
	if o.MaxHandshakes == 0 {
		o.MaxHandshakes = defaultHandshakes
	}
	d := &Driver{eng: e, log: o.Logger, opts: o,
		listeners: map[*Listener]struct{}{}, streams: map[*stream]struct{}{}, shaking: list.New(),
		// Half of the processors, so that a flood of handshakes leaves the rest
		// to the traffic of those that are connected.
		compute: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	d.batchOf.New = func() any { return e.NewBatch() }
	d.files.setReserve(o.ReserveFiles)
	if !o.Goroutines {
		var err error
		if d.loops, err = startLoops(d); err != nil {
			// A kernel that is only made to look like Linux may lack them.
			d.loops = nil
			d.log.Warn("no event loops, goroutines carry all connections", "err", err)
		}
	}
	return d, nil
}

// MaxFiles is the limit of file descriptors that the process has, and the part
// of it that connections may use.
func (d *Driver) MaxFiles() (limit, usable int) { return d.files.limits() }

// Close closes all listeners and connections, tells the engine that each has
// ended, and waits for the goroutines. The engine should have said farewell to
// its clients before (Engine.Close). When ctx ends, Close returns its error
// and leaves the rest to finish by itself. It may be called again.
func (d *Driver) Close(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	var ls []*Listener
	for l := range d.listeners {
		ls = append(ls, l)
	}
	d.mu.Unlock()
	var errs []error
	for _, l := range ls {
		errs = append(errs, l.Close())
	}
	d.mu.Lock()
	for s := range d.streams {
		s.Close()
	}
	for el := d.shaking.Front(); el != nil; el = el.Next() {
		_ = el.Value.(net.Conn).Close() // its handshake fails and reports that
	}
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if d.loops != nil {
			d.loops.stop()
		}
		d.wg.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("close connections: %w", ctx.Err()))
	}
	return errors.Join(errs...)
}

// beginShake notes that nc is in its handshake. The oldest has to go when there
// are too many. It reports false after Close.
func (d *Driver) beginShake(nc net.Conn) (*list.Element, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, false
	}
	if d.shaking.Len() >= d.opts.MaxHandshakes {
		oldest := d.shaking.Front()
		_ = oldest.Value.(net.Conn).Close() // its handshake fails and reports that
		d.shaking.Remove(oldest)
	}
	return d.shaking.PushBack(nc), true
}

func (d *Driver) endShake(el *list.Element) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shaking.Remove(el) // does nothing if beginShake has removed it
}

// start adds a goroutine to those that Close waits for; false after Close.
func (d *Driver) start(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wg.Go(f)
	return true
}

// withBatch calls f with a borrowed batch and flushes it.
func (d *Driver) withBatch(f func(b *engine.Batch)) {
	b := d.batchOf.Get().(*engine.Batch)
	f(b)
	b.Flush()
	d.batchOf.Put(b)
}

// files watches the limit of file descriptors.
type files struct {
	reserve atomic.Int64
}

func (f *files) setReserve(n int) {
	if n == 0 {
		n = min(defaultReserve, fileLimit()/4)
	}
	f.reserve.Store(int64(n))
}

func (f *files) limits() (limit, usable int) {
	limit = fileLimit()
	return limit, max(0, limit-int(f.reserve.Load()))
}

// SetReserveFiles changes Options.ReserveFiles for connections to come.
func (d *Driver) SetReserveFiles(n int) error {
	if n < 0 {
		return fmt.Errorf("reserve of file descriptors: negative number")
	}
	d.files.setReserve(n)
	if d.loops != nil {
		d.loops.limitFiles()
	}
	return nil
}

// A sieve lets one line of a kind through in ten seconds and counts the rest.
type sieve struct {
	last    atomic.Int64 // unix nanoseconds
	dropped atomic.Int64
}

const sieveEvery = 10 * time.Second

// pass reports whether to log now, and how many lines were kept back before.
func (s *sieve) pass() (dropped int64, ok bool) {
	now := time.Now().UnixNano()
	last := s.last.Load()
	if now-last < int64(sieveEvery) || !s.last.CompareAndSwap(last, now) {
		s.dropped.Add(1)
		return 0, false
	}
	return s.dropped.Swap(0), true
}

// isTimeout reports whether an operation ended by its deadline.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
