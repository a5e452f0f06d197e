package cluster

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// raftPatience bounds one call of raft; for snapshots raft takes more by their
// size.
const raftPatience = 5 * time.Second

// network is how raftstore reaches the other nodes.
type network struct{ c *Cluster }

// Secret implements [raftstore.Network].
func (n network) Secret() []byte { return n.c.o.Cookie }

// Transport implements [raftstore.Network].
func (n network) Transport(log hclog.Logger) (raft.Transport, error) {
	l := &layer{queue: newQueue(fixedAddr(n.c.self)), c: n.c, open: map[net.Conn]struct{}{}, waiting: map[raft.ServerAddress]int{}}
	l.ctx, l.stop = context.WithCancel(n.c.ctx)
	n.c.mu.Lock()
	n.c.raft = l
	n.c.mu.Unlock()
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l, MaxPool: 3, Timeout: raftPatience, Logger: log, MsgpackUseNewTimeFormat: true,
	}), nil
}

// Apply implements [raftstore.Network].
func (n network) Apply(ctx context.Context, leader string, command []byte) (raftstore.Applied, error) {
	return n.c.apply(ctx, leader, command)
}

// ReadIndex implements [raftstore.Network].
func (n network) ReadIndex(ctx context.Context, leader string) (uint64, error) {
	return n.c.readIndex(ctx, leader)
}

// layer carries raft for one run of it. The addresses that it dials are
// identities: the address book says where they are.
type layer struct {
	*queue
	c    *Cluster
	ctx  context.Context // ends with the layer
	stop context.CancelFunc

	mu      sync.Mutex
	open    map[net.Conn]struct{}      // guarded by mu
	closed  bool                       // guarded by mu
	waiting map[raft.ServerAddress]int // guarded by mu: calls that wait for a node to come back
}

const (
	waitEvery = 200 * time.Millisecond
	waitMost  = 10 * time.Minute
	maxWaits  = 8 // for one node; further calls fail at once
)

// Dial implements [raft.StreamLayer]. It waits for a node that is down: told of
// a failure, raft would wait longer from time to time, at last ten seconds, and a
// node that is back would be that much behind without a need.
func (l *layer) Dial(id raft.ServerAddress, patience time.Duration) (net.Conn, error) {
	conn, err := l.try(id, patience)
	if err == nil || !l.wait(id, 1) {
		return conn, err
	}
	defer l.wait(id, -1)
	for end := time.Now().Add(waitMost); time.Now().Before(end); {
		select {
		case <-l.ctx.Done():
			return nil, err
		case <-time.After(waitEvery):
		}
		if conn, err = l.try(id, patience); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (l *layer) try(id raft.ServerAddress, patience time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	return l.c.dialNode(ctx, string(id), Raft)
}

// wait counts a call that begins or ends to wait; false when there are enough.
func (l *layer) wait(id raft.ServerAddress, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[id]+n > maxWaits {
		return false
	}
	l.waiting[id] += n
	if l.waiting[id] == 0 {
		delete(l.waiting, id)
	}
	return true
}

// Accept implements [net.Listener].
func (l *layer) Accept() (net.Conn, error) {
	conn, err := l.queue.Accept()
	if err != nil {
		return nil, err
	}
	t := &layerConn{Conn: conn, l: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		conn.Close() // with all the others
		return nil, net.ErrClosed
	}
	l.open[t] = struct{}{}
	return t, nil
}

// Close ends the connections that were accepted too: raft reads from them
// without a deadline, and would not stop.
func (l *layer) Close() error {
	l.stop()
	l.mu.Lock()
	l.closed = true
	open := l.open
	l.open = map[net.Conn]struct{}{}
	l.mu.Unlock()
	for conn := range open {
		conn.Close() // raft is over
	}
	return l.queue.Close()
}

type layerConn struct {
	net.Conn
	l *layer
}

// Close implements [net.Conn].
func (t *layerConn) Close() error {
	t.l.mu.Lock()
	delete(t.l.open, t)
	t.l.mu.Unlock()
	return t.Conn.Close()
}

var (
	_ raftstore.Network = network{}
	_ raft.StreamLayer  = (*layer)(nil)
)
