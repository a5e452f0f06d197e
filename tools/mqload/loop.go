//go:build linux

package main

import (
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"time"
	"unsafe"
)

// A loop drives every connection from one thread with epoll: no goroutine per
// connection, no locks, one shared read buffer, and all that is to be written
// to a connection during one round goes out in one write. That keeps the
// generator cheap, and leaves at least one core of two to the broker.
type loop struct {
	epfd  int
	conns []*conn // by file descriptor
	live  int
	dirty []*conn // connections with something to flush
	buf   []byte
	event []syscall.EpollEvent
	err   error // the first error of any connection

	// beforeFlush runs once a round, after all input and before the writes. It
	// returns how long the next round may wait for input at most.
	beforeFlush func() time.Duration
}

// conn is one client connection. packet is called for each packet; its body is
// only valid during the call.
type conn struct {
	lp      *loop
	fd      int
	version byte
	in      []byte // an incomplete packet left over from the last read
	out     []byte
	raw     []byte // with a layer: what goes on the wire
	layer   *layer // TLS or WebSocket; nil for plain TCP
	dirty   bool
	blocked bool // the socket is full; waiting for EPOLLOUT
	closed  bool
	packet  func(first byte, body []byte) error
}

func newLoop() (*loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &loop{epfd: fd, buf: make([]byte, 256<<10), event: make([]syscall.EpollEvent, 1024)}, nil
}

func (lp *loop) fail(err error) {
	if lp.err == nil {
		lp.err = err
	}
}

// dial connects (blocking: on loopback that is the kernel's handshake only)
// and queues the CONNECT. The caller keeps the number of unanswered dials
// below the broker's listen backlog.
func (lp *loop) dial(tg target, clientID string) (*conn, error) {
	var l *layer
	fd, err := -1, error(nil)
	if tg.carriage.tls || tg.carriage.ws {
		fd, l, err = dialLayer(tg.addr, tg.carriage)
	} else {
		fd, err = dialPlain(tg.addr)
	}
	if err != nil {
		return nil, fmt.Errorf("connect %v: %w", tg.addr, err)
	}
	c, err := lp.take(fd, tg.version)
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	c.layer = l
	c.out = appendConnect(c.out, tg.version, clientID)
	c.touch()
	return c, nil
}

func dialPlain(addr netip.AddrPort) (int, error) {
	family, sa := syscall.AF_INET, syscall.Sockaddr(nil)
	if addr.Addr().Is4() {
		sa = &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	} else {
		family, sa = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := syscall.Connect(fd, sa); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// take puts a connected socket on the loop.
func (lp *loop) take(fd int, version byte) (*conn, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return nil, err
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	if err := syscall.EpollCtl(lp.epfd, syscall.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return nil, err
	}
	c := &conn{lp: lp, fd: fd, version: version}
	for len(lp.conns) <= fd {
		lp.conns = append(lp.conns, nil)
	}
	lp.conns[fd] = c
	lp.live++
	return c, nil
}

// touch marks the connection for the flush at the end of the round.
func (c *conn) touch() {
	if !c.dirty {
		c.dirty = true
		c.lp.dirty = append(c.lp.dirty, c)
	}
}

func (c *conn) close() {
	if !c.closed {
		c.closed = true
		c.lp.conns[c.fd] = nil
		c.lp.live--
		syscall.Close(c.fd)
	}
}

func (lp *loop) closeAll() {
	for _, c := range lp.conns {
		if c != nil {
			c.out, c.blocked = append(c.out[:0], tDisconnect, 0), false
			c.flush()
			c.close()
		}
	}
	syscall.Close(lp.epfd)
}

const maxWait = 20 * time.Millisecond

// until runs rounds until done returns true, the deadline passes (reported as
// false) or a connection fails. done is asked once a round.
func (lp *loop) until(deadline time.Time, done func() bool) (bool, error) {
	for {
		wait := lp.finishRound()
		if lp.err != nil {
			return false, lp.err
		}
		if done() {
			return true, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		lp.round(min(left, wait))
	}
}

// round waits at most wait for events and handles them.
func (lp *loop) round(wait time.Duration) {
	for _, ev := range lp.event[:lp.poll(wait)] {
		c := lp.conns[ev.Fd]
		if c == nil {
			continue
		}
		if ev.Events&syscall.EPOLLOUT != 0 && !c.closed {
			c.unblock()
		}
		if ev.Events&^uint32(syscall.EPOLLOUT) != 0 && !c.closed {
			c.read()
		}
	}
}

func (lp *loop) finishRound() (wait time.Duration) {
	wait = maxWait
	if lp.beforeFlush != nil {
		wait = lp.beforeFlush()
	}
	for _, c := range lp.dirty {
		c.dirty = false
		c.flush()
	}
	lp.dirty = lp.dirty[:0]
	return wait
}

func (c *conn) read() {
	n, errno := rawRead(c.fd, c.lp.buf)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return
	case errno != 0:
		c.fail(errno)
		return
	case n == 0:
		c.fail(io.EOF)
		return
	}
	if c.layer == nil {
		c.input(c.lp.buf[:n])
		return
	}
	if err := c.layer.unpack(c.lp.buf[:n], c.input); err != nil && !c.closed {
		c.fail(err)
	}
}

// input takes MQTT bytes apart.
func (c *conn) input(data []byte) {
	if len(c.in) > 0 {
		c.in = append(c.in, data...)
		data = c.in
	}
	for !c.closed {
		first, body, used, err := nextPacket(data)
		if err == nil && used == 0 {
			break
		}
		if err == nil {
			err = c.packet(first, body)
		}
		if err != nil {
			c.fail(err)
			return
		}
		data = data[used:]
	}
	c.in = append(c.in[:0], data...) // data may be a tail of c.in: append moves it down
}

func (c *conn) fail(err error) {
	c.close()
	if err == io.EOF {
		err = fmt.Errorf("broker closed the connection")
	}
	c.lp.fail(err)
}

func (c *conn) flush() {
	if c.closed {
		return
	}
	out := &c.out
	if c.layer != nil {
		if len(c.out) > 0 {
			raw, err := c.layer.pack(c.raw, c.out)
			if err != nil {
				c.fail(err)
				return
			}
			c.raw, c.out = raw, c.out[:0]
		}
		out = &c.raw
	}
	if c.blocked || len(*out) == 0 {
		return
	}
	n, errno := rawWrite(c.fd, *out)
	if errno != 0 && errno != syscall.EAGAIN && errno != syscall.EINTR {
		c.fail(errno)
		return
	}
	if n > 0 {
		*out = (*out)[:copy(*out, (*out)[n:])]
	}
	if len(*out) > 0 {
		c.blocked = true
		c.want(syscall.EPOLLIN | syscall.EPOLLOUT)
	}
}

func (c *conn) unblock() {
	c.blocked = false
	c.want(syscall.EPOLLIN)
	c.touch()
}

func (c *conn) want(events uint32) {
	ev := syscall.EpollEvent{Events: events, Fd: int32(c.fd)}
	if err := syscall.EpollCtl(c.lp.epfd, syscall.EPOLL_CTL_MOD, c.fd, &ev); err != nil {
		c.fail(err)
	}
}

const sysEpollPwait2 = 441 // Linux 5.11; the same number on every architecture

// poll first asks without waiting, which spares the Go scheduler a blocking
// system call when there is work already; then it waits, to the nanosecond.
func (lp *loop) poll(wait time.Duration) int {
	n, _, _ := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(lp.epfd),
		uintptr(unsafe.Pointer(&lp.event[0])), uintptr(len(lp.event)), 0, 0, 0)
	if int(n) > 0 {
		return int(n)
	}
	ts := syscall.NsecToTimespec(int64(max(wait, 0)))
	n, _, errno := syscall.Syscall6(sysEpollPwait2, uintptr(lp.epfd),
		uintptr(unsafe.Pointer(&lp.event[0])), uintptr(len(lp.event)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno != 0 {
		if errno != syscall.EINTR {
			lp.fail(fmt.Errorf("epoll: %w", errno))
		}
		return 0
	}
	return int(n)
}

// The sockets are non-blocking, so these return at once and need not tell the
// Go scheduler.

func rawRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func rawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		n = 0
	}
	return int(n), errno
}
