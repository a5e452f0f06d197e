// Package cluster makes one cluster of nodes: the port between them, who is a
// member and where, who is down, and the way of the metadata to the leader.
//
// One port carries all that nodes say to each other. A connection proves first
// that it knows the cookie and then belongs to one of three speakers: raft, the
// node API, or MQTT links. Raft's configuration in [raftstore] is the only truth
// about membership; this package finds addresses, forms the first cluster, and
// has the leader take nodes in and out. That a node is silent changes nothing
// about who is a member.
package cluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// DefaultPort is that of the cluster port.
const DefaultPort = "5370"

// APIPath is where the node API is on the cluster port.
const APIPath = "/api/node"

// How a node finds others.
const (
	Manual = "manual" // it is told to join
	Static = "static" // a list of names
	DNS    = "dns"    // a name that resolves to all of them
)

// Options say what a node is to its cluster. Cluster, Node, Listen, Dir and
// Cookie are needed.
type Options struct {
	Cluster string // name of the cluster
	Node    string // name of the node, name@host
	Version string // release
	// Listen is the address of the cluster port, host:port. Others are told the
	// same, with the host of Node where this one is every address.
	Listen string
	// Dir is the data directory.
	Dir    string
	Cookie []byte
	TLS    *tls.Config // for both directions; nil is plain

	Discovery string   // Manual, Static or DNS
	Seeds     []string // of Static: name@host or name@host:port, all of the first cluster
	DNSName   string   // of DNS
	DNSType   string   // "a" (default port) or "srv"
	Expect    int      // of DNS: how many nodes form the first cluster

	// Beat is how often members are asked how they are; 0 is 1 s. One that has not
	// answered for three of them is down.
	Beat   time.Duration
	Logger *slog.Logger // nil: nothing is logged
}

// Cluster is a node's part in a cluster. Its methods may be called from any
// goroutine.
type Cluster struct {
	o        Options
	log      *slog.Logger
	self     string // identity of this node
	address  string // that others are told
	mux      *mux
	http     *http.Transport
	server   *http.Server
	incoming *queue // connections of the node API
	store    atomic.Pointer[raftstore.Store]
	alarms   atomic.Pointer[engine.Alarms]
	refused  refusals
	boot     string      // names this process
	ready    atomic.Bool // see Ready
	started  time.Time

	mu      sync.Mutex
	raft    *layer               // guarded by mu: of the present run of raft
	hints   map[string]string    // guarded by mu: identity to address, as nodes said themselves
	peers   map[string]*peer     // guarded by mu: the other members by identity
	note    string               // guarded by mu: what discovery waits for
	roll    string               // guarded by mu: see PeerState.Roll
	outcast time.Time            // guarded by mu: since when members say that this node is none; zero when it is one
	lease   lease                // guarded by mu: see marks.go
	orphans map[string]time.Time // of the leader's round: rows of the book without a member

	changing   sync.Mutex // held while this node changes its own membership or, leading, that of others
	background sync.WaitGroup
	stop       context.CancelFunc
	ctx        context.Context
	closeOnce  sync.Once
	closeErr   error
}

// Listen opens the cluster port. Nobody is let in before [Cluster.Network] was
// called, which raftstore does.
func Listen(o Options) (*Cluster, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Beat <= 0 {
		o.Beat = time.Second
	}
	if o.Discovery == "" {
		o.Discovery = Manual
	}
	socket, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, err
	}
	c := &Cluster{o: o, log: o.Logger, hints: map[string]string{}, peers: map[string]*peer{}, orphans: map[string]time.Time{}, boot: rand.Text(), started: time.Now()}
	c.lease.until = c.started
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.address = advertised(socket.Addr(), o.Node)
	c.mux = newMux(socket, o.TLS, o.Cookie, c.report)
	c.http = &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			id, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return c.dialNode(ctx, id, API)
		},
		MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, DisableCompression: true,
	}
	return c, nil
}

// advertised is the address that other nodes are told.
func advertised(bound net.Addr, node string) string {
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return bound.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = hostOf(node)
	}
	return net.JoinHostPort(host, port)
}

// Addr is the address of the cluster port as bound.
func (c *Cluster) Addr() string { return c.mux.socket.Addr().String() }

// Self is the identity of this node.
func (c *Cluster) Self() string { return c.self }

// Network implements raftstore.Options.Network: it lets connections in.
func (c *Cluster) Network(self string) (raftstore.Network, error) {
	c.self = self
	c.incoming = newQueue(fixedAddr(self))
	c.mux.handle(Raft, func(conn net.Conn, from Hello) {
		c.heard(from)
		c.mu.Lock()
		l := c.raft
		c.mu.Unlock()
		if l == nil {
			conn.Close() // raft is being restarted: it dials again
			return
		}
		l.give(conn)
	})
	c.mux.start(Hello{Cluster: c.o.Cluster, ID: self, Node: c.o.Node, Address: c.address, Version: c.o.Version, Level: Level})
	return network{c}, nil
}

// ServeAPI serves the node API on the cluster port. [PeerOf] tells the handler
// who asks.
func (c *Cluster) ServeAPI(h http.Handler) {
	c.server = &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if p, ok := conn.(*peerConn); ok {
				ctx = context.WithValue(ctx, peerKey{}, p.from)
			}
			return ctx
		},
	}
	c.background.Go(func() {
		if err := c.server.Serve(c.incoming); err != nil && !errors.Is(err, http.ErrServerClosed) && c.ctx.Err() == nil {
			c.log.Error("the node API stopped on the cluster port", "err", err)
		}
	})
	c.mux.handle(API, func(conn net.Conn, from Hello) {
		c.heard(from)
		c.incoming.give(&peerConn{conn, from})
	})
}

// Handle gives the connections of a purpose to f, which owns and closes them.
func (c *Cluster) Handle(p Purpose, f func(net.Conn, Hello)) { c.mux.handle(p, f) }

// Dial connects to a node by its identity. The connection is closed with the
// cluster at the latest.
func (c *Cluster) Dial(ctx context.Context, id string, p Purpose) (net.Conn, error) {
	return c.dialNode(ctx, id, p)
}

// SetAlarms says where alarms go.
func (c *Cluster) SetAlarms(a *engine.Alarms) { c.alarms.Store(a) }

// Start looks after the membership of this node from now on.
func (c *Cluster) Start(s *raftstore.Store) {
	c.store.Store(s)
	c.background.Go(func() { c.tend(c.ctx) })
	c.background.Go(func() { c.watch(c.ctx) })
	c.background.Go(func() { c.keepMarks(c.ctx) })
}

// Close ends the port and what goes on behind it. The store is closed after it:
// raft does not stop while its connections are open.
func (c *Cluster) Close() error {
	c.closeOnce.Do(func() {
		c.stop()
		var errs []error
		if c.server != nil {
			errs = append(errs, c.server.Close())
		}
		c.http.CloseIdleConnections()
		if err := c.mux.close(); err != nil {
			errs = append(errs, err)
		}
		if c.incoming != nil {
			c.incoming.Close() // never fails
		}
		c.background.Wait()
		c.http.CloseIdleConnections()
		if err := errors.Join(errs...); err != nil {
			c.closeErr = fmt.Errorf("close the cluster port: %w", err)
		}
	})
	return c.closeErr
}

type peerKey struct{}

// PeerOf returns the node that asks, for requests that came over the cluster
// port.
func PeerOf(ctx context.Context) (Hello, bool) {
	h, ok := ctx.Value(peerKey{}).(Hello)
	return h, ok
}

// peerConn is a connection with who is at its other end.
type peerConn struct {
	net.Conn
	from Hello
}

// own is this node's row of the address book.
func (c *Cluster) own() raftstore.Member {
	return raftstore.Member{ID: c.self, Name: c.o.Node, Address: c.address, Version: c.o.Version, Level: Level}
}
