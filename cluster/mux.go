package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Limits of the cluster port.
const (
	maxHalfOpen  = 64   // connections that have not proven themselves yet
	maxConns     = 4096 // connections altogether
	proofTimeout = 5 * time.Second
	dialTimeout  = 3 * time.Second
)

// owner takes the connections of a purpose.
type owner func(net.Conn, Hello)

// mux is the cluster port: one listener, whose connections go to the owner of
// their purpose once they have proven that they know the cookie.
type mux struct {
	socket net.Listener
	tls    *tls.Config // nil: plain
	cookie []byte
	report func(remote string, err error) // of what was refused

	mu      sync.Mutex
	own     Hello              // guarded by mu
	owners  map[Purpose]owner  // guarded by mu
	conns   map[*conn]struct{} // guarded by mu: all that are open, dialed or accepted
	closed  bool               // guarded by mu
	half    chan struct{}      // a place for each half-open connection
	serving sync.WaitGroup     // the accept loop and half-open connections
	begun   context.CancelFunc // ends dials; nil before start
	ctx     context.Context
}

// conn is a connection of the mux, which closes it at its end at the latest.
type conn struct {
	net.Conn
	m    *mux
	once sync.Once
	err  error
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.once.Do(func() {
		c.m.mu.Lock()
		delete(c.m.conns, c)
		c.m.mu.Unlock()
		c.err = c.Conn.Close()
	})
	return c.err
}

func newMux(socket net.Listener, t *tls.Config, cookie []byte, report func(string, error)) *mux {
	m := &mux{
		socket: socket, tls: t, cookie: cookie, report: report, owners: map[Purpose]owner{}, conns: map[*conn]struct{}{},
		half: make(chan struct{}, maxHalfOpen),
	}
	m.ctx, m.begun = context.WithCancel(context.Background())
	return m
}

// start lets connections in.
func (m *mux) start(own Hello) {
	m.mu.Lock()
	m.own = own
	m.mu.Unlock()
	m.serving.Go(m.accept)
}

// handle gives the connections of a purpose to f; nil refuses them.
func (m *mux) handle(p Purpose, f owner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f == nil {
		delete(m.owners, p)
		return
	}
	m.owners[p] = f
}

func (m *mux) ownerOf(p Purpose) owner {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owners[p]
}

func (m *mux) hello(p Purpose) Hello {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.own
	h.Purpose = p
	return h
}

func (m *mux) accept() {
	for {
		raw, err := m.socket.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-m.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond): // no descriptors: some will be free
			}
			continue
		}
		select {
		case m.half <- struct{}{}:
			m.serving.Go(func() {
				defer func() { <-m.half }()
				m.admit(raw)
			})
		default:
			raw.Close() // who proves nothing has no claim to an answer
			m.report(raw.RemoteAddr().String(), errors.New("too many connections that have not proven themselves"))
		}
	}
}

// admit hears a connection out and hands it to its owner.
func (m *mux) admit(raw net.Conn) {
	remote := raw.RemoteAddr().String()
	if m.tls != nil {
		raw = tls.Server(raw, m.tls)
	}
	c, err := m.track(raw)
	if err != nil {
		raw.Close() // nothing was promised
		return
	}
	peer, err := receive(raw, m.cookie, m.hello(""), func(p Purpose) bool { return m.ownerOf(p) != nil }, proofTimeout)
	if err == nil {
		if f := m.ownerOf(peer.Purpose); f != nil {
			f(c, peer)
			return
		}
		err = &RefusedError{Verdict: noService, Peer: peer, Here: true}
	}
	c.Close() // the error before matters
	if m.ctx.Err() == nil {
		m.report(remote, err)
	}
}

func (m *mux) track(raw net.Conn) (*conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, net.ErrClosed
	}
	if len(m.conns) >= maxConns {
		return nil, fmt.Errorf("more than %d connections", maxConns)
	}
	c := &conn{Conn: raw, m: m}
	m.conns[c] = struct{}{}
	return c, nil
}

// dial connects to the cluster port at an address and returns who answers.
func (m *mux) dial(ctx context.Context, address string, p Purpose) (net.Conn, Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stop := context.AfterFunc(m.ctx, cancel)
	defer stop()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, Hello{}, err
	}
	if m.tls != nil {
		cfg := m.tls.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(address)
		raw = tls.Client(raw, cfg)
	}
	c, err := m.track(raw)
	if err != nil {
		return nil, Hello{}, errors.Join(err, raw.Close())
	}
	patience := proofTimeout
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline))
	}
	peer, err := greet(raw, m.cookie, m.hello(p), patience)
	if err != nil {
		c.Close() // the error before matters
		return nil, peer, err
	}
	return c, peer, nil
}

// close ends the port and everything that came or went through it.
func (m *mux) close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	open := make([]*conn, 0, len(m.conns))
	for c := range m.conns {
		open = append(open, c)
	}
	m.mu.Unlock()
	m.begun()
	err := m.socket.Close()
	for _, c := range open {
		c.Close() // whatever they were about is over
	}
	m.serving.Wait()
	return err
}
