package transport

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"time"
)

// An Upgrader makes connections speak another protocol before MQTT begins, as
// WebSocket does with an HTTP request.
type Upgrader interface {
	// Upgrade does the handshake on nc, which has a deadline, and returns the
	// codec for what follows and the bytes behind the handshake that it has
	// read already. It must not close nc, but should answer on it what is wrong.
	Upgrade(nc net.Conn) (c Codec, rest []byte, err error)
}

// A Codec packs MQTT bytes into the frames of another protocol. It does no
// I/O and keeps no more state than a frame needs. Decode is called by one
// goroutine at a time, and so are Encode and Bye, but the former and the latter
// may run at the same time.
type Codec interface {
	// Decode looks at the next bytes of the peer and returns the MQTT bytes
	// among them up to some boundary: payload may lie in p, which may be
	// changed in place, and may be empty. used is how much of p that was, at
	// least 1. What is to be answered at once (a pong) is appended to answer.
	// An error ends the connection after the answer was sent; io.EOF is an
	// orderly end.
	Decode(p, answer []byte) (payload []byte, used int, answered []byte, err error)
	// Encode appends what goes before n MQTT bytes of output; nothing goes
	// behind them.
	Encode(dst []byte, n int) []byte
	// Bye appends what says that the connection ends.
	Bye(dst []byte) []byte
}

// frameMost is the number of MQTT bytes put into one frame, and so what a
// connection buffers at most when the kernel does not take it.
const frameMost = 64 << 10

// take splits the first max bytes off bufs, without copying: head is valid as
// long as scratch and bufs are.
func take(scratch, bufs [][]byte, max int) (head, rest [][]byte, n int) {
	head = scratch[:0]
	for len(bufs) > 0 && n < max {
		b := bufs[0]
		if n+len(b) > max {
			k := max - n
			rest = append(rest, b[k:])
			rest = append(rest, bufs[1:]...)
			return append(head, b[:k]), rest, max
		}
		n += len(b)
		head, bufs = append(head, b), bufs[1:]
	}
	return head, bufs, n
}

// A wire is the net.Conn below a TLS connection. While handshakes go on it
// reads and writes the socket; when an event loop has taken over, input is what
// the loop has read, and output is collected for it.
type wire struct {
	net.Conn               // nil once an event loop has taken over
	in       []byte        // of the reader: read before Conn is
	borrowed bool          // of the reader: in is the loop's buffer
	tokens   chan struct{} // of the reader: one of these is held, but not while waiting for input

	mu  sync.Mutex
	out []byte // under mu: collected without Conn
}

var wireBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// give lends p to the readers of the wire until keep is called.
func (w *wire) give(p []byte) {
	switch {
	case len(p) == 0:
	case len(w.in) > 0:
		w.in = append(w.in, p...)
	default:
		w.in, w.borrowed = p, true
	}
}

// keep copies what was lent and not read.
func (w *wire) keep() {
	if w.borrowed {
		w.in, w.borrowed = bytes.Clone(w.in), false
	}
	if len(w.in) == 0 {
		w.in = nil
	}
}

// pending reports whether there is output.
func (w *wire) pending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.out) > 0
}

// take returns the output collected and forgets it. release may be called with
// it when it is not needed any more.
func (w *wire) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.out
	w.out = nil
	return out
}

func (w *wire) release(out []byte) {
	if cap(out) > 0 && cap(out) <= 2*frameMost {
		out = out[:0]
		wireBuffers.Put(&out)
	}
}

// errAgain is what a wire answers when it has nothing to read. TLS keeps its
// state over an error that is temporary.
var errAgain error = againError{}

type againError struct{}

func (againError) Error() string   { return "no input yet" }
func (againError) Timeout() bool   { return true }
func (againError) Temporary() bool { return true }

func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) > 0 {
		n := copy(p, w.in)
		if w.in = w.in[n:]; len(w.in) == 0 {
			w.in = nil
		}
		return n, nil
	}
	if w.Conn == nil {
		return 0, errAgain
	}
	if w.tokens != nil {
		<-w.tokens
		defer func() { w.tokens <- struct{}{} }()
	}
	return w.Conn.Read(p)
}

// computing calls f, which reads from the wire and computes in between, and
// bounds by tokens how many such functions compute at a time.
func (w *wire) computing(tokens chan struct{}, f func() error) error {
	tokens <- struct{}{}
	w.tokens = tokens
	err := f()
	w.tokens = nil
	<-tokens
	return err
}

func (w *wire) Write(p []byte) (int, error) {
	if w.Conn == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.out == nil {
			w.out = *wireBuffers.Get().(*[]byte)
		}
		w.out = append(w.out, p...)
		return len(p), nil
	}
	return w.Conn.Write(p)
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.Conn == nil {
		return nil
	}
	return w.Conn.SetWriteDeadline(t)
}

// CloseWrite ends the output, if the socket can do that alone.
func (w *wire) CloseWrite() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (w *wire) Close() error {
	if w.Conn == nil {
		return nil
	}
	return w.Conn.Close()
}
