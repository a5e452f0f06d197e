// Package engine is the MQTT broker: connections as state machines, sessions, routing, retained messages, wills, shared
// subscriptions, limits, hooks, and what management wants to read and do. It speaks MQTT 3.1, 3.1.1 and 5.0 and does no I/O:
// a driver (package engine/transport, a test, a fuzzer) hands it the bytes that arrive with Conn.Feed and carries away what it
// hands to Transport.Write. DESIGN.md says how it works and why.
//
//	e, err := engine.New(engine.Options{Node: "emqx@127.0.0.1"})
//	go e.Run(ctx)
//	l, err := e.AddListener(engine.ListenerOptions{Name: "external", Protocol: "mqtt:tcp"})
//	// for each connection: c, err := l.Accept(info, transport); c.Feed(batch, bytes); batch.Flush()
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// The errors of management operations.
var (
	ErrNotFound = errors.New("not found")
	ErrBadTopic = errors.New("bad topic")
	ErrQuota    = errors.New("quota exceeded")
	ErrExists   = errors.New("already exists")
	ErrStore    = errors.New("the store cannot be loaded") // wrapped by New, with what Store.Load says
)

// DefaultZoneName is the zone of listeners that name none. It always exists.
const DefaultZoneName = "external"

// Options are what New needs. The zero value works.
type Options struct {
	ID       string           // identity of the node in its cluster; nodes that have links to each other have different ones
	Node     string           // name of the node in $SYS topics; "": "emqx@127.0.0.1"
	Version  string           // shown in $SYS/brokers/{node}/version
	SysDescr string           // shown in $SYS/brokers/{node}/sysdescr; "": "Lacewing"
	Logger   *slog.Logger     // nil: logs are discarded
	Settings *Settings        // nil: DefaultSettings
	Zones    map[string]Zone  // "external" is made with DefaultZone if absent
	Store    Store            // keeps durable sessions, retained and delayed messages; nil: they end with the process. New loads it
	Now      func() time.Time // test seam; nil: time.Now
	// HoldWills keeps the wills of restored sessions back until ReleaseWill or ReleaseWills: another node may have published them.
	HoldWills bool
}

// Engine is one broker. All its methods may be called from any goroutine.
type Engine struct {
	id                   string
	node, version, descr string
	log                  *slog.Logger
	now                  func() time.Time
	started              int64
	clock                atomic.Int64 // ns since the epoch, renewed by Advance
	woke                 atomic.Int64 // end of the last step above stallLimit, ns since the epoch; no client counts as silent before it
	settings             atomic.Pointer[Settings]
	zones                zoneTable
	hooks                hookTable
	authenticators       chain[authLink]
	authorizers          chain[Authorizer]
	aclEpoch             atomic.Uint64
	methods              authMethods
	banCheck             atomic.Pointer[func(clientID, username string, ip netip.Addr) bool]
	router               router
	registry             registry
	retainer             retainer
	delayed              delayed
	durable              durability
	links                links
	homes                homes
	held                 heldWills
	moves                moves
	listeners            listenerTable
	wheel                wheel
	alarms               Alarms
	traces               atomic.Pointer[[]*trace]
	traceMu              sync.Mutex
	gauges               gauges
	counters             [counterShards]counterShard
	batches              sync.Pool
	batchCount           atomic.Uint32
	pumps                pumpList
	workers              workers
	sysDue, heartbeatDue int64 // used by Advance only
	sweepDue             int64
	sweeps               atomic.Uint32
	stepping             sync.Mutex
	closing              atomic.Bool
	ctx                  context.Context // of blocking authenticators
	cancel               context.CancelFunc
}

// New makes an engine. Nothing runs before Run or Advance is called.
func New(o Options) (*Engine, error) {
	e := &Engine{node: o.Node, version: o.Version, descr: o.SysDescr, log: o.Logger, now: o.Now}
	if e.node == "" {
		e.node = "emqx@127.0.0.1"
	}
	if e.descr == "" {
		e.descr = "Lacewing"
	}
	if strings.ContainsAny(e.node, "/+#\x00") {
		return nil, fmt.Errorf("%w: node name %q cannot be part of a topic", ErrBadSetting, e.node)
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.started = e.now().UnixNano()
	e.clock.Store(e.started)
	e.wheel.now = e.started / int64(wheelTick)
	e.batches.New = func() any { return e.NewBatch() }
	e.hooks.Store(&hookSet{})
	e.retainer.e = e
	e.id, e.retainer.clock.node = o.ID, nodeStamp(o.ID)|rand.Uint64()&processStamp
	e.alarms.e = e
	e.durable.progress = make(chan struct{}, 1)
	e.pumps.wake = make(chan struct{}, 1)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	settings := DefaultSettings()
	if o.Settings != nil {
		settings = *o.Settings
	}
	if err := e.Configure(settings); err != nil {
		return nil, err
	}
	zones := map[string]Zone{DefaultZoneName: DefaultZone()}
	maps.Copy(zones, o.Zones)
	for name, z := range zones {
		if err := e.SetZone(name, z); err != nil {
			return nil, err
		}
	}
	if err := e.beginLinks(); err != nil {
		return nil, err
	}
	if o.Store != nil {
		if err := e.restore(o.Store, o.HoldWills); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Configure replaces the settings. A bad value refuses all of it.
func (e *Engine) Configure(s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	old := e.settings.Swap(&s)
	if old != nil && (old.ACLNoMatch != s.ACLNoMatch || old.ACLCache != s.ACLCache) {
		e.CleanACLAll()
	}
	return nil
}

// Settings gives the settings that hold.
func (e *Engine) Settings() Settings { return *e.settings.Load() }

// maxOutput is the bound of the output of one connection, bytes.
func (s *Settings) maxOutput() int {
	if s.MaxOutput == 0 {
		return 1 << 20
	}
	return s.MaxOutput
}

// zoneRef is a zone as listeners and sessions refer to it: its values may be replaced at any time.
type zoneRef struct {
	name  string
	value atomic.Pointer[Zone]
}

func (r *zoneRef) load() *Zone { return r.value.Load() }

// zoneTable is all zones.
type zoneTable struct {
	mu sync.Mutex
	m  map[string]*zoneRef
}

// SetZone adds or replaces a zone. A bad value refuses all of it.
func (e *Engine) SetZone(name string, z Zone) error {
	if err := z.Validate(); err != nil {
		return fmt.Errorf("zone %s: %w", name, err)
	}
	z.QueuePriorities = maps.Clone(z.QueuePriorities)
	e.zones.mu.Lock()
	defer e.zones.mu.Unlock()
	if e.zones.m == nil {
		e.zones.m = map[string]*zoneRef{}
	}
	r := e.zones.m[name]
	if r == nil {
		r = &zoneRef{name: name}
		e.zones.m[name] = r
	}
	r.value.Store(&z)
	return nil
}

// Zone gives the zone that listeners with that name use.
func (e *Engine) Zone(name string) (Zone, bool) {
	r := e.zoneRef(name)
	if r == nil {
		return Zone{}, false
	}
	z := *r.load()
	z.QueuePriorities = maps.Clone(z.QueuePriorities)
	return z, true
}

func (e *Engine) zoneRef(name string) *zoneRef {
	e.zones.mu.Lock()
	defer e.zones.mu.Unlock()
	return e.zones.m[name]
}

// SetBanCheck sets the function that says who is banned; nil: nobody. It must not block.
func (e *Engine) SetBanCheck(check func(clientID, username string, ip netip.Addr) bool) {
	if check == nil {
		e.banCheck.Store(nil)
		return
	}
	e.banCheck.Store(&check)
}

// Uptime is the time since New.
func (e *Engine) Uptime() time.Duration { return time.Duration(e.now().UnixNano() - e.started) }

// Node is the name of the node.
func (e *Engine) Node() string { return e.node }

// Close ends all connections with DISCONNECT 0x8B, publishes wills as the standard says and ends all sessions that are not durable.
// Afterwards Accept refuses. What is staged then is the store's to commit: who has made it closes it. ctx bounds the waiting for
// handshakes in progress. Calls after the first return nil.
func (e *Engine) Close(ctx context.Context) error {
	if !e.closing.CompareAndSwap(false, true) {
		return nil
	}
	e.cancel()
	err := e.workers.wait(ctx)
	for from := ""; ; {
		some := e.sessionsFrom(from)
		if len(some) == 0 {
			break
		}
		from = some[len(some)-1].clientID + "\x00"
		b := e.borrow()
		for _, s := range some {
			if c := s.conn.Load(); c != nil {
				c.end(b, ending{reason: ReasonShutdown, code: packet.ServerShuttingDown, endSession: true})
			}
			if s.kept.Load() == nil {
				e.drop(b, s, ReasonShutdown)
			}
		}
		b.giveBack()
	}
	if err != nil {
		return fmt.Errorf("close: waiting for handshakes: %w", err)
	}
	return nil
}

// workers are the goroutines of blocking authenticators.
type workers struct {
	mu     sync.Mutex
	wg     sync.WaitGroup
	closed bool
}

// start runs f on a goroutine of its own, or reports false if no more are started.
func (w *workers) start(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		f()
	}()
	return true
}

// wait lets no more start and waits until all have ended.
func (w *workers) wait(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		w.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
