package transport

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// A sock is one socket on an event loop: the engine's Transport. It is kept
// small, for there is one for each idle connection.
type sock struct {
	loop  *loop
	conn  Endpoint // nil before a PROXY header
	early *early   // what is known and read before there is a conn; nil after
	layer *layer   // TLS or WebSocket between socket and engine; nil for plain MQTT
	gen   uint32   // tells this use of the descriptor from the one before
	phase phase    // of the loop's goroutine
	eaten uint16   // KiB thrown away while lingering

	mu    sync.Mutex
	fd    int32    // under mu, until flags has gone
	flags sockFlag // under mu
	errno uint16   // under mu: why a write failed
}

// phase is how far a socket has come.
type phase uint8

const (
	heralded  phase = iota // waits for its PROXY header
	carrying               // carries MQTT
	lingering              // the engine has let go; the peer is to see the end
	ended                  // closed
)

type sockFlag uint8

const (
	wantIn  sockFlag = 1 << iota // the loop waits for input
	wantOut                      // the loop waits for room for output
	full                         // the kernel took less than there was
	held                         // the engine wants no input for now
	resumed                      // the engine wants input again
	closing                      // the engine wants it closed
	gone                         // the descriptor is closed
)

const (
	// lingerTime is how long a socket that we closed waits for the peer's end,
	// so that input still on its way does not make the kernel reset the
	// connection and destroy our last words (a CONNACK or DISCONNECT that says
	// why) on the peer's side.
	lingerTime = time.Second
	lingerMost = 1024 // KiB of input thrown away meanwhile
	lingerers  = 4096 // sockets of a loop that may have deadlines at a time
)

// inputEvents is what is waited for to read. EPOLLRDHUP tells an end that has come with the input, and so that one short
// read was not all.
const inputEvents = syscall.EPOLLIN | syscall.EPOLLRDHUP

// begin puts a socket on its loop. The descriptor belongs to the sock from here
// on.
func (s *sock) begin() {
	fd := int(s.fd)
	s.loop.count.Add(1)
	s.loop.ls.table.set(fd, s)
	s.mu.Lock()
	s.flags |= wantIn
	errno := epollControl(s.loop.epfd, syscall.EPOLL_CTL_ADD, fd, inputEvents, s.gen)
	if errno != 0 {
		s.errno = uint16(errno) // out of memory or epoll watches
	}
	s.mu.Unlock()
	if errno != 0 {
		s.Close()
	}
}

// launch starts a socket that the engine has let in. first is what was read from
// it already. It runs on the loop's goroutine, as do the others of this file
// that do not say otherwise.
func (s *sock) launch(conn Endpoint, first []byte) {
	s.conn, s.phase = conn, carrying
	s.begin()
	s.mu.Lock()
	asked := s.flags&closing != 0
	s.mu.Unlock()
	if asked { // before it was launched
		s.farewell(nil)
		return
	}
	if s.layer != nil && s.layer.tls != nil {
		s.layer.plain, first = first, nil // it was decrypted already
	}
	if len(first) == 0 && s.layer == nil {
		return
	}
	if next := s.feed(first); next != engine.ReadOn {
		s.hold()
	}
}

// arm changes what the loop waits for to what f says. The caller holds mu.
func (s *sock) arm(f sockFlag) {
	s.flags = f
	var events uint32
	if f&wantIn != 0 {
		events |= inputEvents
	}
	if f&wantOut != 0 {
		events |= syscall.EPOLLOUT
	}
	if errno := epollControl(s.loop.epfd, syscall.EPOLL_CTL_MOD, int(s.fd), events, s.gen); errno != 0 {
		shutdown(int(s.fd), syscall.SHUT_RDWR)
	}
}

// Write hands output to the kernel without waiting. See engine.Transport.
func (s *sock) Write(bufs [][]byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flags&(gone|closing) != 0 {
		return 0, ErrClosed
	}
	if s.flags&full != 0 {
		return 0, nil // the loop waits already, and will call Writable
	}
	if s.layer != nil {
		return s.writeLayer(bufs)
	}
	n, short, errno := writeVector(int(s.fd), bufs)
	if errno != 0 {
		return n, s.fail(errno)
	}
	if short {
		s.wait()
	}
	return n, nil
}

// wait arms the wake-up for room. The caller holds mu.
func (s *sock) wait() {
	if s.flags |= full; s.flags&wantOut == 0 {
		s.arm(s.flags | wantOut)
	}
}

// fail notes that a write failed and makes the loop hear of it. The caller
// holds mu.
func (s *sock) fail(errno syscall.Errno) error {
	s.errno = uint16(errno)
	shutdown(int(s.fd), syscall.SHUT_RDWR) // the loop gets EPOLLHUP
	return fmt.Errorf("write: %w", errno)
}

// Resume reads on after the engine answered Hold. See engine.Transport.
func (s *sock) Resume() { s.ask(resumed) }

// Close ends the connection; see engine.Transport. All that Write has taken is
// with the kernel already, or waits in the layer and is tried once more.
func (s *sock) Close() { s.ask(closing) }

func (s *sock) ask(f sockFlag) {
	s.mu.Lock()
	told := s.flags&(f|gone) != 0
	s.flags |= f
	s.mu.Unlock()
	if !told {
		s.loop.post(s)
	}
}

// attend does what was asked of the socket.
func (s *sock) attend() {
	s.mu.Lock()
	f := s.flags
	s.flags &^= resumed
	s.mu.Unlock()
	switch {
	case f&gone != 0 || s.phase >= lingering:
	case s.conn == nil: // launch will look
	case f&closing != 0:
		s.farewell(nil)
	case f&resumed != 0 && f&held != 0:
		s.readOn()
	}
}

// readOn lets the engine work off what it kept, and then reads again.
func (s *sock) readOn() {
	next := s.conn.Feed(s.loop.batch, nil)
	if next == engine.ReadOn && s.layer != nil {
		next = s.feed(nil)
	}
	if next != engine.ReadOn {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flags&gone == 0 {
		s.arm(s.flags&^held | wantIn)
	}
}

// drain tells the engine that there is room for output.
func (s *sock) drain() {
	s.mu.Lock()
	s.flags &^= full
	if s.layer != nil && s.flags&gone == 0 {
		s.flushLayer()
		if s.phase == lingering && len(s.layer.out) == 0 {
			shutdown(int(s.fd), syscall.SHUT_WR)
		}
	}
	room := s.flags&(gone|closing|full) == 0
	s.mu.Unlock()
	s.loop.drained = append(s.loop.drained, s)
	if room && s.phase == carrying {
		s.conn.Writable(s.loop.batch)
	}
}

// input reads once. A second read would mostly find nothing; when it does not,
// epoll says so again in the next round, and other sockets have their turn.
func (s *sock) input(events uint32) {
	if s.phase == ended {
		return
	}
	if events&(syscall.EPOLLIN|syscall.EPOLLERR|syscall.EPOLLHUP) > syscall.EPOLLIN && s.isHeld() {
		// The connection is dead in both directions, and what the peer sent
		// before that nobody may be given.
		s.end(io.ErrUnexpectedEOF)
		return
	}
	n, errno := rawRead(int(s.fd), s.loop.buf)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return
	case errno != 0:
		s.end(fmt.Errorf("read: %w", errno))
		return
	case n == 0:
		s.end(nil)
		return
	}
	s.loop.spent = events == syscall.EPOLLIN && n < len(s.loop.buf)
	p := s.loop.buf[:n]
	switch s.phase {
	case heralded:
		if p = s.herald(p); len(p) == 0 {
			return
		}
	case lingering:
		if s.eaten += uint16(n>>10 + 1); s.eaten > lingerMost {
			s.end(nil)
		}
		return
	}
	if next := s.feed(p); next != engine.ReadOn {
		s.hold()
	}
}

func (s *sock) feed(p []byte) engine.Next {
	if s.layer != nil {
		return s.feedLayer(p)
	}
	return s.conn.Feed(s.loop.batch, p)
}

func (s *sock) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flags&held != 0
}

// hold stops reading.
func (s *sock) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flags&gone != 0 {
		return
	}
	s.arm(s.flags&^wantIn | held)
}

// farewell ends a connection from our side: the engine gets its Closed now; the
// peer, if it is still there, a moment to see the end.
func (s *sock) farewell(err error) {
	s.phase = lingering
	s.conn.Closed(s.loop.batch, err)
	s.mu.Lock()
	s.flags |= closing
	if s.errno != 0 || len(s.loop.timed) >= lingerers {
		s.mu.Unlock()
		s.end(nil)
		return
	}
	if s.layer == nil || s.closeLayer() {
		shutdown(int(s.fd), syscall.SHUT_WR)
		s.arm(s.flags&^(wantOut|held) | wantIn)
	} else {
		s.arm(s.flags&^held | wantIn)
	}
	s.mu.Unlock()
	s.expireIn(lingerTime)
	s.input(0) // often the peer's end is there already
}

// expireIn gives the socket a deadline for its phase.
func (s *sock) expireIn(d time.Duration) {
	s.loop.timed = append(s.loop.timed, timer{s, s.phase, time.Now().Add(d)})
}

// expire is called when the deadline has passed.
func (s *sock) expire() {
	if s.phase == heralded {
		s.early.ln.refused(s.early.peer, fmt.Errorf("%w: not in time", ErrProxyHeader))
	}
	s.end(nil)
}

// end closes the descriptor and tells the engine, once.
func (s *sock) end(err error) {
	if s.phase == ended {
		return
	}
	was := s.phase
	s.phase = ended
	s.mu.Lock()
	if s.errno != 0 && err == nil {
		err = fmt.Errorf("write: %w", syscall.Errno(s.errno))
	}
	fd := int(s.fd)
	s.flags |= gone
	s.early, s.layer = nil, nil
	// First out of the table, then closed: the number may be taken at once.
	s.loop.ls.table.set(fd, nil)
	_ = syscall.Close(fd) // what was written is with the kernel; there is nobody to tell
	s.mu.Unlock()
	s.loop.count.Add(-1)
	if was == carrying {
		s.conn.Closed(s.loop.batch, err)
	}
}

// early is what a socket needs before the engine has let it in.
type early struct {
	ln          *Listener
	peer, local netip.AddrPort
	got         []byte // an incomplete PROXY header
}

// herald works on the PROXY header, and returns what lies behind it once the
// engine has let the connection in.
func (s *sock) herald(p []byte) []byte {
	e := s.early
	if len(e.got) > 0 {
		e.got = append(e.got, p...)
		p = e.got
	}
	h, used, err := parseProxy(p)
	if err != nil {
		e.ln.refused(e.peer, err)
		s.end(nil)
		return nil
	}
	if used == 0 {
		if len(e.got) == 0 {
			e.got = append(e.got, p...)
		}
		return nil
	}
	if !h.local {
		e.peer, e.local = h.src, h.dst
	}
	conn, err := e.ln.admit(engine.ConnInfo{Peer: e.peer, Local: e.local}, s)
	if err != nil {
		s.end(nil)
		return nil
	}
	s.conn, s.early, s.phase = conn, nil, carrying
	return p[used:]
}
