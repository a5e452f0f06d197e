package cluster

import (
	"net"
	"sync"
)

// fixedAddr is the address of what has no socket of its own.
type fixedAddr string

// Network implements [net.Addr].
func (fixedAddr) Network() string { return "cluster" }

// String implements [net.Addr].
func (a fixedAddr) String() string { return string(a) }

// queue is a [net.Listener] of connections that were accepted elsewhere. It
// holds none: who gives waits until somebody takes.
type queue struct {
	addr fixedAddr
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

func newQueue(addr fixedAddr) *queue {
	return &queue{addr: addr, in: make(chan net.Conn), done: make(chan struct{})}
}

// give hands a connection over, or closes it when nobody will take it any more.
func (q *queue) give(conn net.Conn) {
	select {
	case q.in <- conn:
	case <-q.done:
		conn.Close() // it was not promised anything
	}
}

// Accept implements [net.Listener].
func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.in:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements [net.Listener].
func (q *queue) Addr() net.Addr { return q.addr }
