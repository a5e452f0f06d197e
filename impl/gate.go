package impl

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// Gate bounds the connections of one HTTP listener. When all are taken, a new
// connection takes the place of the one that has been without a request for the
// longest, be it that its header never ends or that it is kept for later: whoever
// opens connections to block the others blocks himself. While every connection
// is being answered, a new one waits.
//
// A Gate is wired to a server by its listener and by http.Server.ConnState.
type Gate struct {
	max int // 0: no limit

	mu      sync.Mutex
	changed sync.Cond // a connection has become idle or closed, or the listener has
	open    map[net.Conn]*list.Element
	idle    list.List // of net.Conn, the longest idle first
	evicted int64
	closed  bool
}

// NewGate makes a Gate for at most max connections; 0 is no limit.
func NewGate(max int) *Gate {
	g := &Gate{max: max, open: make(map[net.Conn]*list.Element)}
	g.changed.L = &g.mu
	return g
}

// Listener returns l behind the gate.
func (g *Gate) Listener(l net.Listener) net.Listener { return &gatedListener{l, g} }

// Open is how many connections there are.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}

// Evicted is how many connections had to make room.
func (g *Gate) Evicted() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.evicted
}

// ConnState follows the connections of a server.
func (g *Gate) ConnState(c net.Conn, s http.ConnState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	el, known := g.open[c]
	if known && el != nil {
		g.idle.Remove(el)
		g.open[c] = nil
	}
	switch s {
	case http.StateNew:
		g.open[c] = g.idle.PushBack(c)
	case http.StateIdle:
		if known { // else it was evicted
			g.open[c] = g.idle.PushBack(c)
		}
	case http.StateClosed, http.StateHijacked:
		delete(g.open, c)
	}
	g.changed.Signal()
}

// room waits until one more connection may come; false when the listener is
// closed.
func (g *Gate) room() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.max > 0 && len(g.open) >= g.max && !g.closed {
		oldest := g.idle.Front()
		if oldest == nil {
			g.changed.Wait()
			continue
		}
		c := g.idle.Remove(oldest).(net.Conn)
		delete(g.open, c)
		g.evicted++
		// Not the close of TLS, which says goodbye to a peer that may not read.
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		_ = c.Close() // the server finds it closed
	}
	return !g.closed
}

func (g *Gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.changed.Signal()
}

// gatedListener hands over a connection when there is room for it.
type gatedListener struct {
	net.Listener
	gate *Gate
}

// Accept implements [net.Listener].
func (l *gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.gate.room() {
		return nil, closedBy(c)
	}
	return c, nil
}

// closedBy closes a connection that came too late.
func closedBy(c net.Conn) error {
	_ = c.Close() // nothing was said on it
	return net.ErrClosed
}

// Close implements [net.Listener].
func (l *gatedListener) Close() error {
	l.gate.close()
	return l.Listener.Close()
}

var _ net.Listener = (*gatedListener)(nil)
