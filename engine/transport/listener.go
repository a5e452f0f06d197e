package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

var errAccess = errors.New("address is not allowed by the access rules")

// ListenOptions describe a listening address.
type ListenOptions struct {
	// Name is the listener's name in log lines, such as "mqtt:tcp:external".
	Name string
	// Address is what ParseAddress reads. It cannot change while the listener
	// is open; all else can, for connections to come.
	Address string
	// Access says who may connect, by the address of the socket: behind a load
	// balancer that is the balancer's, whose PROXY header is believed only then.
	Access Access
	// ProxyProtocol expects a PROXY protocol header, version 1 or 2, before
	// anything else; connections without one are refused.
	ProxyProtocol bool
	// ProxyTimeout is the time for that header; 0 means 3 s.
	ProxyTimeout time.Duration
	// TLS encrypts; nil is plain. A listener cannot change from one to the other.
	TLS *TLS
	// Upgrader makes connections speak another protocol below MQTT; nil: none.
	Upgrader Upgrader
	// HandshakeTimeout is the time for the TLS handshake and the upgrade together; 0 means 15 s.
	HandshakeTimeout time.Duration

	// Backlog is the length of the kernel's queue of connections that are not
	// accepted yet; 0 means 1024. The kernel cuts it to net.core.somaxconn,
	// which is what listeners with TLS or an Upgrader have in any case.
	Backlog int
	// Delay leaves Nagle's algorithm on (TCP_NODELAY off).
	Delay bool
	// ReceiveBuffer and SendBuffer are SO_RCVBUF and SO_SNDBUF in bytes; 0
	// leaves them to the kernel, which sizes them by need.
	ReceiveBuffer, SendBuffer int
}

func (o *ListenOptions) backlog() int {
	if o.Backlog == 0 {
		return 1024
	}
	return o.Backlog
}

func (o *ListenOptions) proxyTimeout() time.Duration {
	if o.ProxyTimeout == 0 {
		return 3 * time.Second
	}
	return o.ProxyTimeout
}

func (o *ListenOptions) handshakeTimeout() time.Duration {
	if o.HandshakeTimeout == 0 {
		return 15 * time.Second
	}
	return o.HandshakeTimeout
}

func (o *ListenOptions) check() error {
	if _, _, err := ParseAddress(o.Address); err != nil {
		return err
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"proxy timeout", int64(o.ProxyTimeout)}, {"handshake timeout", int64(o.HandshakeTimeout)}, {"backlog", int64(o.Backlog)},
		{"receive buffer", int64(o.ReceiveBuffer)}, {"send buffer", int64(o.SendBuffer)}} {
		if n.value < 0 {
			return fmt.Errorf("listener %s: %s must not be negative", o.Name, n.name)
		}
	}
	return nil
}

// A Listener is one bound address. It is made by Driver.Open, accepts from
// Serve on, and ends with Close; connections it has accepted stay.
type Listener struct {
	d    *Driver
	addr net.Addr
	eng  AcceptFunc
	tls  *certificates // nil: plain

	set atomic.Pointer[ListenOptions]

	tcp *acceptor    // on an event loop, or
	net net.Listener // with a goroutine

	mu      sync.Mutex
	serving bool
	closed  bool

	sieves map[error]*sieve
	refusals
}

// refusals counts connections that a driver closed before the engine saw them.
type refusals struct {
	byAccess, byFiles, byProxy, byTLS, other atomic.Int64
}

// RefusalCounts is a reading of a listener's refusals.
type RefusalCounts struct {
	Access      int64 // by the access rules
	Descriptors int64 // because the rest of the descriptors is reserved
	Proxy       int64 // no or malformed PROXY header, or not in time
	Handshake   int64 // TLS or WebSocket handshake failed or not in time
	Other       int64 // the system refused
}

// Refused reads the counters.
func (l *Listener) Refused() RefusalCounts {
	return RefusalCounts{l.byAccess.Load(), l.byFiles.Load(), l.byProxy.Load(), l.byTLS.Load(), l.other.Load()}
}

// Open binds the address and, with TLS, reads the certificates. Connections
// queue up in the kernel until Serve. The error names what is wrong: a bad option, the address
// in use (syscall.EADDRINUSE), an unreadable certificate.
func (d *Driver) Open(o ListenOptions) (*Listener, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	ln := &Listener{d: d,
		sieves: map[error]*sieve{errAccess: {}, ErrDescriptors: {}, ErrProxyHeader: {}, errHandshake: {}, errOther: {}}}
	ln.set.Store(&o)
	if o.TLS != nil {
		c, err := loadCertificates(*o.TLS)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", o.Name, err)
		}
		ln.tls = c
	}
	network, address, err := ParseAddress(o.Address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	if network == "tcp" && ln.tls == nil && o.Upgrader == nil && d.loops != nil {
		if ln.tcp, err = d.loops.listenTCP(ln, address, o); err != nil {
			return nil, err
		}
		ln.addr = net.TCPAddrFromAddrPort(ln.tcp.bound)
	} else {
		if ln.net, err = listenNet(network, address); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		ln.addr = ln.net.Addr()
	}
	d.listeners[ln] = struct{}{}
	return ln, nil
}

// Addr is the address that is really bound: the port that the system chose in
// place of 0, and 0.0.0.0 or [::] for all addresses.
func (l *Listener) Addr() net.Addr { return l.addr }

// Serve begins to accept connections for the engine's listener. It returns at
// once, and may be called once.
func (l *Listener) Serve(e *engine.Listener) error {
	return l.ServeFunc(func(i engine.ConnInfo, t engine.Transport) (Endpoint, error) {
		c, err := e.Accept(i, t)
		if err != nil {
			return nil, err
		}
		return c, nil
	})
}

// ServeFunc is Serve with another core than the engine behind it: a test, or
// something that wraps connections.
func (l *Listener) ServeFunc(a AcceptFunc) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.serving:
		return errors.New("transport: listener serves already")
	}
	l.eng = a
	if l.tcp != nil {
		if err := l.tcp.start(); err != nil {
			return fmt.Errorf("listener %s: %w", l.options().Name, err)
		}
	} else if !l.d.start(l.acceptNet) {
		return ErrClosed
	}
	l.serving = true
	return nil
}

// Close stops listening; connections stay. It returns when the address is free
// again. Calls after the first do nothing.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.d.mu.Lock()
	delete(l.d.listeners, l)
	l.d.mu.Unlock()
	if l.tcp != nil {
		l.tcp.stop()
		return nil
	}
	if err := l.net.Close(); err != nil {
		return fmt.Errorf("close listener %s: %w", l.options().Name, err)
	}
	return nil
}

func (l *Listener) options() *ListenOptions { return l.set.Load() }

// Options gives the options that hold.
func (l *Listener) Options() ListenOptions { return *l.set.Load() }

// Configure changes the options for connections to come. It refuses a change
// of the address, of plain to TLS or back, and what Open refuses; then
// everything stays as it was. New certificates are read.
func (l *Listener) Configure(o ListenOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.options()
	switch {
	case l.closed:
		return ErrClosed
	case o.Address != old.Address:
		return fmt.Errorf("listener %s: the address cannot change while it is open", o.Name)
	case (o.Upgrader == nil) != (old.Upgrader == nil):
		return fmt.Errorf("listener %s: the protocol cannot change while it is open", o.Name)
	case (o.TLS == nil) != (old.TLS == nil):
		return fmt.Errorf("listener %s: TLS cannot be switched while it is open", o.Name)
	}
	if o.TLS != nil {
		if err := l.tls.replace(*o.TLS); err != nil {
			return fmt.Errorf("listener %s: %w", o.Name, err)
		}
	}
	l.set.Store(&o)
	return nil
}

// Reload reads the certificate, key and CA files again; handshakes from now on
// use them. After an error the old ones stay. A plain listener has nothing to
// reload.
func (l *Listener) Reload() error {
	if l.tls == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.tls.replace(*l.options().TLS); err != nil {
		return fmt.Errorf("listener %s: %w", l.options().Name, err)
	}
	return nil
}

var (
	errHandshake = errors.New("handshake failed")
	errOther     = errors.New("not accepted")
)

// refused counts a connection that is not let in, and logs some of them.
func (l *Listener) refused(peer netip.AddrPort, err error) {
	kind, n := errOther, &l.other
	switch {
	case errors.Is(err, errAccess):
		kind, n = errAccess, &l.byAccess
	case errors.Is(err, ErrDescriptors):
		kind, n = ErrDescriptors, &l.byFiles
	case errors.Is(err, ErrProxyHeader):
		kind, n = ErrProxyHeader, &l.byProxy
	case errors.Is(err, errHandshake):
		kind, n = errHandshake, &l.byTLS
	}
	n.Add(1)
	if dropped, ok := l.sieves[kind].pass(); ok {
		l.d.log.Warn("connection refused", "listener", l.options().Name, "peer", peer, "err", err, "dropped", dropped)
	}
}

// admit asks the engine to let a connection in. The engine counts and logs
// those that it refuses.
func (l *Listener) admit(info engine.ConnInfo, t engine.Transport) (Endpoint, error) {
	return l.eng(info, t)
}
