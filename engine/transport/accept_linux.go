package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// An acceptor takes connections from one listening socket on an event loop.
type acceptor struct {
	ln    *Listener
	loop  *loop
	fd    int
	spare int // a descriptor to give up when there is none left; -1 without
	bound netip.AddrPort
	done  chan struct{} // closed when the socket is
}

// acceptsAtOnce bounds the connections taken in one round, so that a storm of
// them does not stop the traffic of those that are there.
const acceptsAtOnce = 64

// listenTCP binds the address for an event loop; open starts to accept.
func (ls *loops) listenTCP(ln *Listener, address string, o ListenOptions) (*acceptor, error) {
	ap, err := resolve(address)
	if err != nil {
		return nil, err
	}
	fd, err := bind(ap, o)
	if err != nil && ap.Addr() == netip.IPv6Unspecified() && !errors.Is(err, syscall.EADDRINUSE) {
		// "All addresses" on a machine without IPv6.
		ap = netip.AddrPortFrom(netip.IPv4Unspecified(), ap.Port())
		fd, err = bind(ap, o)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	a := &acceptor{ln: ln, loop: ls.least(), fd: fd, spare: -1, done: make(chan struct{})}
	if sa, err := syscall.Getsockname(fd); err == nil {
		a.bound = fromSockaddr(sa)
	}
	a.openSpare()
	return a, nil
}

func bind(ap netip.AddrPort, o ListenOptions) (fd int, err error) {
	family, sa := syscall.AF_INET, syscall.Sockaddr(nil)
	if ap.Addr().Is4() {
		sa = &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	} else {
		family, sa = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	}
	fd, err = syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	set := func(level, option, value int) {
		if e := syscall.SetsockoptInt(fd, level, option, value); e != nil && err == nil {
			err = os.NewSyscallError("setsockopt", e)
		}
	}
	set(syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) // restart while old connections are in TIME_WAIT
	// What accepted sockets inherit is set once, here.
	if !o.Delay {
		set(syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	}
	if o.ReceiveBuffer > 0 {
		set(syscall.SOL_SOCKET, syscall.SO_RCVBUF, o.ReceiveBuffer)
	}
	if o.SendBuffer > 0 {
		set(syscall.SOL_SOCKET, syscall.SO_SNDBUF, o.SendBuffer)
	}
	if family == syscall.AF_INET6 {
		v6only := 1
		if ap.Addr().IsUnspecified() {
			v6only = 0
		}
		set(syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, v6only)
	}
	if err == nil {
		err = os.NewSyscallError("bind", syscall.Bind(fd, sa))
	}
	if err == nil {
		err = os.NewSyscallError("listen", syscall.Listen(fd, o.backlog()))
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func fromSockaddr(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// start begins to accept.
func (a *acceptor) start() error {
	errc := make(chan error, 1)
	ok := a.loop.do(func() {
		a.loop.accepts[int32(a.fd)] = a
		errno := epollControl(a.loop.epfd, syscall.EPOLL_CTL_ADD, a.fd, syscall.EPOLLIN, 0)
		if errno != 0 {
			delete(a.loop.accepts, int32(a.fd))
			errc <- fmt.Errorf("epoll: %w", errno)
			return
		}
		errc <- nil
	})
	if !ok {
		return ErrClosed
	}
	return <-errc
}

// stop closes the listening socket and returns when that is done.
func (a *acceptor) stop() {
	if !a.loop.do(a.close) {
		// The loop is ending and closes what it accepts from; an acceptor
		// that never started is not among those.
		return
	}
	<-a.done
}

// close runs on the loop's goroutine.
func (a *acceptor) close() {
	select {
	case <-a.done:
		return
	default:
	}
	delete(a.loop.accepts, int32(a.fd))
	_ = syscall.Close(a.fd) // a listening socket holds nothing that could be lost
	if a.spare >= 0 {
		_ = syscall.Close(a.spare)
	}
	a.loop.forget(a)
	close(a.done)
}

func (l *loop) forget(a *acceptor) {
	keep := l.paused[:0]
	for _, p := range l.paused {
		if p != a {
			keep = append(keep, p)
		}
	}
	l.paused = keep
}

// accept takes what has queued up.
func (a *acceptor) accept() {
	for range acceptsAtOnce {
		fd, sa, err := syscall.Accept4(a.fd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		switch err {
		case nil:
			a.admit(fd, sa)
		case syscall.EAGAIN:
			return
		case syscall.EMFILE, syscall.ENFILE:
			if !a.shed() {
				a.pause(err)
				return
			}
		case syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM:
			a.pause(err)
			return
		default:
			// The connection was broken before it was taken, or a signal came.
			// Those that wait behind it are not concerned.
		}
	}
}

// shed refuses one connection although no descriptor is left, by giving up the
// spare one for it: it would stay in the queue otherwise, the loop would
// be told of it again and again, and the peer would wait for nothing.
func (a *acceptor) shed() bool {
	if a.spare < 0 {
		return false
	}
	_ = syscall.Close(a.spare) // only there to be closed
	fd, sa, err := syscall.Accept4(a.fd, syscall.SOCK_CLOEXEC)
	if err == nil {
		a.ln.refused(fromSockaddr(sa), ErrDescriptors)
		_ = syscall.Close(fd) // refused
	}
	a.openSpare()
	return err == nil
}

func (a *acceptor) openSpare() {
	fd, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		fd = -1 // tried again when it is needed
	}
	a.spare = fd
}

// pause stops accepting until the next sweep of the loop.
func (a *acceptor) pause(err error) {
	a.ln.refused(netip.AddrPort{}, fmt.Errorf("accept: %w", err))
	epollControl(a.loop.epfd, syscall.EPOLL_CTL_DEL, a.fd, 0, 0)
	a.loop.paused = append(a.loop.paused, a)
}

func (a *acceptor) resume() {
	if a.spare < 0 {
		a.openSpare()
	}
	if errno := epollControl(a.loop.epfd, syscall.EPOLL_CTL_ADD, a.fd, syscall.EPOLLIN, 0); errno != 0 {
		a.loop.paused = append(a.loop.paused, a)
	}
}

// admit puts an accepted socket on a loop, or refuses it.
func (a *acceptor) admit(fd int, sa syscall.Sockaddr) {
	peer := fromSockaddr(sa)
	if int64(fd) >= a.loop.ls.maxFD.Load() {
		a.ln.refused(peer, ErrDescriptors)
		_ = syscall.Close(fd)
		return
	}
	o := a.ln.options()
	if !o.Access.Allows(peer.Addr()) {
		a.ln.refused(peer, errAccess)
		_ = syscall.Close(fd)
		return
	}
	local := a.bound
	if local.Addr().IsUnspecified() {
		if sa, err := syscall.Getsockname(fd); err == nil {
			local = fromSockaddr(sa)
		}
	}
	s := a.loop.ls.newSock(fd)
	if o.ProxyProtocol {
		s.early = &early{ln: a.ln, peer: peer, local: local}
		s.loop = a.loop // whose timers begin to run here
		s.begin()
		s.expireIn(o.proxyTimeout())
		return
	}
	conn, err := a.ln.admit(engine.ConnInfo{Peer: peer, Local: local}, s)
	if err != nil {
		_ = syscall.Close(fd)
		return
	}
	if s.loop == a.loop {
		s.launch(conn, nil)
	} else if !s.loop.do(func() { s.launch(conn, nil) }) {
		_ = syscall.Close(fd)
		a.ln.d.withBatch(func(b *engine.Batch) { conn.Closed(b, nil) })
	}
}

// newSock makes a socket of the least busy loop; begin starts it.
func (ls *loops) newSock(fd int) *sock {
	gen := ls.gens.Add(1)
	for gen == 0 { // 0 marks descriptors that are no sockets
		gen = ls.gens.Add(1)
	}
	return &sock{loop: ls.least(), fd: int32(fd), gen: gen}
}
