package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// A stream drives one connection with a goroutine that reads. Output is queued
// up to streamMost and written by a second goroutine, which lives only while
// there is some: a net.Conn cannot be asked to write without waiting.
type stream struct {
	d     *Driver
	nc    net.Conn // what MQTT or the codec runs on
	codec Codec
	rest  []byte // read before the stream began
	conn  Endpoint

	call sync.Mutex // held while conn is called: one call at a time

	mu      sync.Mutex
	out     []byte        // under mu: output not yet given to the writer
	writing bool          // under mu: the writer goroutine lives
	full    bool          // under mu: a Write was cut short
	closing bool          // under mu: Close was called
	failed  error         // under mu: why a write failed
	wakeup  chan struct{} // one token: Resume was called, or the stream ends
	written chan struct{} // closed when the last writer after Close is done
}

const (
	streamMost   = 256 << 10 // bytes of output queued for a stream
	streamSmall  = 512       // bytes of the read buffer of an idle stream
	streamLarge  = 32 << 10  // bytes of the buffer borrowed while there is much input
	lastWordTime = 5 * time.Second
)

var largeBuffers = sync.Pool{New: func() any { return new([streamLarge]byte) }}

// outBuffers has buffers of outputs. Each burst begins with an empty output, as an idle stream has none: one that grows from nothing is copied
// and thrown away several times, which on links between nodes was most of the garbage (BenchmarkForward/goroutines).
var outBuffers = sync.Pool{New: func() any { return new([]byte) }}

const (
	outSmall = 2 << 10 // bytes of an output that is made to measure
	outHead  = 16      // bytes that a codec puts in front
	outKeep  = 2 * streamMost
)

// outBuffer gives an empty buffer for an output of n bytes, or some more.
func outBuffer(n int) []byte {
	if n <= outSmall {
		return make([]byte, 0, n)
	}
	p := outBuffers.Get().(*[]byte)
	buf := *p
	if cap(buf) < n {
		buf = make([]byte, 0, max(n, streamLarge))
	}
	return buf[:0]
}

// giveBack takes a buffer of outBuffer that nobody uses any more.
func giveBack(buf []byte) {
	if cap(buf) > outSmall && cap(buf) <= outKeep {
		outBuffers.Put(&buf)
	}
}

// stream lets a connection in and starts its goroutine.
func (d *Driver) stream(l *Listener, c *carrier, info engine.ConnInfo) error {
	return d.run(&stream{nc: c.conn(), codec: c.codec, rest: c.rest}, info, l.admit)
}

// Carry drives a connection that somebody else has made, who has read nothing
// of it that is not in first. The driver closes nc at its end; after an error
// that is the caller's to do.
func (d *Driver) Carry(nc net.Conn, first []byte, info engine.ConnInfo, accept AcceptFunc) error {
	return d.run(&stream{nc: nc, rest: first}, info, accept)
}

func (d *Driver) run(s *stream, info engine.ConnInfo, accept AcceptFunc) error {
	s.d, s.wakeup, s.written = d, make(chan struct{}, 1), make(chan struct{})
	conn, err := accept(info, s)
	if err != nil {
		return err
	}
	s.conn = conn
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.streams[s] = struct{}{}
		d.wg.Go(s.read)
	}
	d.mu.Unlock()
	if closed {
		d.withBatch(func(b *engine.Batch) { conn.Closed(b, nil) })
		return ErrClosed
	}
	return nil
}

// read is the goroutine of a stream.
func (s *stream) read() {
	err := s.readAll()
	s.mu.Lock()
	peer := s.failed == nil && (s.closing || errors.Is(err, errOurs)) // the peer is still there
	s.mu.Unlock()
	if peer {
		s.Close()
	}
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.d.mu.Lock()
	delete(s.d.streams, s)
	s.d.mu.Unlock()
	s.call.Lock()
	s.d.withBatch(func(b *engine.Batch) { s.conn.Closed(b, orderly(err)) })
	s.call.Unlock()
	if peer {
		s.linger()
	}
	_ = s.nc.Close() // the second time, mostly; it carries nothing any more
}

// readAll reads until the end and says what it was, io.EOF for the orderly one.
func (s *stream) readAll() error {
	var small [streamSmall]byte
	if len(s.rest) > 0 {
		if err := s.feed(s.rest); err != nil {
			return err
		}
		s.rest = nil
	}
	for {
		n, err := s.nc.Read(small[:])
		if n > 0 {
			if ferr := s.feed(small[:n]); ferr != nil {
				return ferr
			}
		}
		// A full buffer means that there is more: borrow a large one for it.
		if n == streamSmall && err == nil {
			err = s.readMuch()
		}
		if err != nil {
			return err
		}
	}
}

// readMuch reads with a large buffer as long as it is of use.
func (s *stream) readMuch() error {
	buf := largeBuffers.Get().(*[streamLarge]byte)
	defer largeBuffers.Put(buf)
	for {
		n, err := s.nc.Read(buf[:])
		if n > 0 {
			if ferr := s.feed(buf[:n]); ferr != nil {
				return ferr
			}
		}
		if err != nil {
			return err
		}
		if n < streamSmall {
			return nil
		}
	}
}

// errOurs marks ends that are not the peer's doing: the engine has closed the
// stream, or the codec did not like what it got.
var errOurs = errors.New("ended by us")

// orderly makes nil of what is no fault.
func orderly(err error) error {
	if err == io.EOF || err == errOurs || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// feed decodes p and gives it to the engine, and waits while that holds.
func (s *stream) feed(p []byte) error {
	if s.codec == nil {
		return s.give(p)
	}
	var answer []byte
	for len(p) > 0 {
		payload, used, answered, err := s.codec.Decode(p, answer[:0])
		if len(answered) > 0 {
			s.answer(answered)
		}
		answer, p = answered, p[used:]
		if len(payload) > 0 {
			if err := s.give(payload); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return errOurs
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errOurs, err)
		}
	}
	return nil
}

func (s *stream) give(p []byte) error {
	for {
		if s.isClosing() {
			return errOurs // the peer talks on after our end
		}
		next := engine.ReadOn
		s.call.Lock()
		s.d.withBatch(func(b *engine.Batch) { next = s.conn.Feed(b, p) })
		s.call.Unlock()
		switch next {
		case engine.ReadOn:
			return nil
		case engine.Stop:
			for !s.isClosing() { // the engine closes it, maybe after more output
				<-s.wakeup
			}
			return errOurs
		}
		<-s.wakeup
		p = nil // the engine has it; it works off what it kept
	}
}

// linger waits until the writer has finished, and then a moment for the peer to
// end too, so that our last words are not lost to a reset.
func (s *stream) linger() {
	<-s.written
	_ = s.nc.SetReadDeadline(time.Now().Add(lingerWait)) // fails only if closed already
	_, _ = io.Copy(io.Discard, io.LimitReader(s.nc, 1<<20))
}

func (s *stream) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing || s.failed != nil
}

// answer queues what the codec has to say.
func (s *stream) answer(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing && s.failed == nil && len(s.out)+len(p) <= streamMost {
		s.out = append(s.out, p...)
		s.startWriter()
	}
}

// Write queues output. See engine.Transport.
func (s *stream) Write(bufs [][]byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.failed != nil:
		return 0, s.failed
	case s.closing:
		return 0, ErrClosed
	}
	var scratch [16][]byte
	for len(bufs) > 0 {
		var head [][]byte
		var k int
		room := min(streamMost-len(s.out), frameMost)
		if room <= 0 {
			s.full = true
			break
		}
		head, bufs, k = take(scratch[:], bufs, room)
		if k == 0 {
			continue // empty pieces
		}
		if s.out == nil {
			s.out = outBuffer(k + outHead)
		}
		if s.codec != nil {
			s.out = s.codec.Encode(s.out, k)
		}
		for _, b := range head {
			s.out = append(s.out, b...)
		}
		n += k
	}
	if n > 0 {
		s.startWriter()
	}
	return n, nil
}

// startWriter starts the writer if it does not run. The caller holds mu.
func (s *stream) startWriter() {
	if !s.writing {
		s.writing = true
		s.d.wg.Go(s.write) // the reader lives still, so the group is not waited out
	}
}

// write writes what is queued, until there is nothing left.
func (s *stream) write() {
	for {
		s.mu.Lock()
		out := s.out
		s.out = nil
		if len(out) == 0 || s.failed != nil {
			s.writing = false
			last := s.closing
			s.mu.Unlock()
			if last { // Close started or found this writer, and no other follows
				s.endOutput()
				close(s.written)
			}
			return
		}
		s.mu.Unlock()
		_, err := s.nc.Write(out)
		giveBack(out)
		s.mu.Lock()
		if err != nil {
			s.failed = err
		}
		tell := s.full && !s.closing && err == nil
		s.full = false
		s.mu.Unlock()
		if err != nil {
			_ = s.nc.Close() // the reader hears of it and tells the engine
			s.wake()
		}
		if tell {
			s.call.Lock()
			if !s.isClosing() {
				s.d.withBatch(func(b *engine.Batch) { s.conn.Writable(b) })
			}
			s.call.Unlock()
		}
	}
}

// endOutput tells the peer that nothing more comes.
func (s *stream) endOutput() {
	type half interface{ CloseWrite() error }
	if c, ok := s.nc.(half); ok && c.CloseWrite() == nil {
		return
	}
	_ = s.nc.Close() // nothing is left to be written
}

// lingerWait is how long a stream that we closed waits for the peer's end.
const lingerWait = time.Second

// Resume reads on after Hold. See engine.Transport.
func (s *stream) Resume() { s.wake() }

func (s *stream) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default: // a token is there already
	}
}

// Close ends the connection when what Write took is written, or after a few
// seconds. See engine.Transport.
func (s *stream) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.closing = true
	if s.codec != nil {
		s.out = s.codec.Bye(s.out)
	}
	// These fail only if it is closed already.
	_ = s.nc.SetWriteDeadline(time.Now().Add(lastWordTime))
	_ = s.nc.SetReadDeadline(time.Now()) // wakes the reader
	s.startWriter()                      // also if there is nothing to write: it ends the output
	s.wake()
}
