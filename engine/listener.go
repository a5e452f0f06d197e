package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// The errors of Listener.Accept.
var (
	ErrListenerFull = errors.New("listener has its maximum of connections")
	ErrAcceptRate   = errors.New("listener accepts too many connections a second")
	ErrClosed       = errors.New("engine is closed")
)

// PeerCertUse says which part of a client certificate becomes the user name.
type PeerCertUse string

// The uses of a client certificate.
const (
	PeerCertNone       PeerCertUse = ""
	PeerCertCommonName PeerCertUse = "cn"
	PeerCertSubject    PeerCertUse = "dn"
)

// ListenerOptions describe the engine's side of one listening address.
type ListenerOptions struct {
	Name           string // "external", "internal", ...; with Protocol unique
	Protocol       string // "mqtt:tcp", "mqtt:ssl", "mqtt:ws", "mqtt:wss"
	Address        string // as shown, such as "0.0.0.0:1883"
	Acceptors      int    // shown, and for the driver
	MaxConnections int    // 0: no limit
	MaxConnRate    int    // connections a second; 0: no limit
	Zone           string // "": "external"
	Mountpoint     string // overrides that of the zone
	// ByteLimit and MessageLimit bound what one connection may send. At them it is not read for a while.
	ByteLimit          RateLimit
	MessageLimit       RateLimit
	PeerCertAsUsername PeerCertUse
}

// ListenerInfo describes a listener and what it has.
type ListenerInfo struct {
	ListenerOptions
	CurrentConnections int
	Accepted           int64
	Refused            int64            // by MaxConnections and MaxConnRate
	ShutdownCount      map[string]int64 // ended connections by reason; see the Reason constants
}

// Listener is the engine's side of one listening address: limits and counters.
type Listener struct {
	e        *Engine
	opts     atomic.Pointer[listenerState]
	current  atomic.Int64
	accepted atomic.Int64
	refused  atomic.Int64
	removed  atomic.Bool

	mu       sync.Mutex
	shutdown map[string]int64
	rate     bucket // of MaxConnRate
}

type listenerState struct {
	ListenerOptions
	zone *zoneRef
}

// AddListener adds a listener; ErrExists if there is one with that protocol and name.
func (e *Engine) AddListener(o ListenerOptions) (*Listener, error) {
	e.listeners.mu.Lock()
	defer e.listeners.mu.Unlock()
	key := listenerKey{o.Protocol, o.Name}
	if e.listeners.m[key] != nil {
		return nil, fmt.Errorf("listener %s %s: %w", o.Protocol, o.Name, ErrExists)
	}
	l := &Listener{e: e, shutdown: map[string]int64{}}
	if err := l.set(o); err != nil {
		return nil, err
	}
	if e.listeners.m == nil {
		e.listeners.m = map[listenerKey]*Listener{}
	}
	e.listeners.m[key] = l
	return l, nil
}

type listenerKey struct{ protocol, name string }

// listenerTable is all listeners.
type listenerTable struct {
	mu sync.Mutex
	m  map[listenerKey]*Listener
}

// set checks and takes over options.
func (l *Listener) set(o ListenerOptions) error {
	if o.Zone == "" {
		o.Zone = DefaultZoneName
	}
	z := l.e.zoneRef(o.Zone)
	switch {
	case z == nil:
		return fmt.Errorf("listener %s %s: %w: zone %q does not exist", o.Protocol, o.Name, ErrBadSetting, o.Zone)
	case o.MaxConnections < 0 || o.MaxConnRate < 0 || o.ByteLimit.Rate < 0 || o.ByteLimit.Burst < 0 || o.MessageLimit.Rate < 0 || o.MessageLimit.Burst < 0:
		return fmt.Errorf("listener %s %s: %w: a limit is negative", o.Protocol, o.Name, ErrBadSetting)
	case o.PeerCertAsUsername != PeerCertNone && o.PeerCertAsUsername != PeerCertCommonName && o.PeerCertAsUsername != PeerCertSubject:
		return fmt.Errorf("listener %s %s: %w: PeerCertAsUsername is unknown", o.Protocol, o.Name, ErrBadSetting)
	case strings.ContainsAny(o.Mountpoint, "+#\x00"):
		return fmt.Errorf("listener %s %s: %w: mountpoint has a wildcard", o.Protocol, o.Name, ErrBadSetting)
	}
	l.opts.Store(&listenerState{o, z})
	return nil
}

// Remove takes the listener out of the lists and refuses further connections; those it has stay.
func (l *Listener) Remove() {
	l.removed.Store(true)
	o := l.options()
	t := &l.e.listeners
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := (listenerKey{o.Protocol, o.Name}); t.m[key] == l {
		delete(t.m, key)
	}
}

// Info describes the listener.
func (l *Listener) Info() ListenerInfo {
	l.mu.Lock()
	shutdown := maps.Clone(l.shutdown)
	l.mu.Unlock()
	return ListenerInfo{
		ListenerOptions: *l.options(), CurrentConnections: int(l.current.Load()), Accepted: l.accepted.Load(),
		Refused: l.refused.Load(), ShutdownCount: shutdown,
	}
}

// Configure changes limits and zone for further connections. Name and protocol cannot change.
func (l *Listener) Configure(o ListenerOptions) error {
	now := l.options()
	if o.Name != now.Name || o.Protocol != now.Protocol {
		return fmt.Errorf("listener %s %s: %w: name and protocol cannot change", now.Protocol, now.Name, ErrBadSetting)
	}
	return l.set(o)
}

// Accept makes the state machine of a new connection. The error says why the driver has to close the carrier instead.
func (l *Listener) Accept(info ConnInfo, t Transport) (*Conn, error) {
	e := l.e
	if e.closing.Load() || l.removed.Load() {
		return nil, ErrClosed
	}
	st := l.opts.Load()
	now := e.time()
	if st.MaxConnRate > 0 {
		l.mu.Lock()
		ok := l.rate.take(now, RateLimit{Rate: float64(st.MaxConnRate)}, 1)
		l.mu.Unlock()
		if !ok {
			l.refused.Add(1)
			return nil, ErrAcceptRate
		}
	}
	if n := l.current.Add(1); st.MaxConnections > 0 && n > int64(st.MaxConnections) {
		l.current.Add(-1)
		l.refused.Add(1)
		return nil, ErrListenerFull
	}
	l.accepted.Add(1)
	c := &Conn{l: l, t: t, info: info, zone: st.zone, connectedAt: now}
	c.timer.owner = c
	c.lastSeen.Store(now)
	if idle := st.zone.load().IdleTimeout; idle > 0 {
		e.wheel.set(&c.timer, now+int64(idle))
	}
	return c, nil
}

// count notes the end of a connection.
func (l *Listener) count(reason string) {
	l.current.Add(-1)
	l.mu.Lock()
	l.shutdown[reason]++
	l.mu.Unlock()
}

func (l *Listener) options() *ListenerOptions { return &l.opts.Load().ListenerOptions }

func (l *Listener) name() string { return l.options().Name }

func (l *Listener) mountpoint(z *Zone) string {
	if m := l.options().Mountpoint; m != "" {
		return m
	}
	return z.Mountpoint
}

// Listeners describes the listeners in the order of protocol, address and name.
func (e *Engine) Listeners() []ListenerInfo {
	e.listeners.mu.Lock()
	all := slices.Collect(maps.Values(e.listeners.m))
	e.listeners.mu.Unlock()
	infos := make([]ListenerInfo, len(all))
	for i, l := range all {
		infos[i] = l.Info()
	}
	slices.SortFunc(infos, func(a, b ListenerInfo) int {
		if n := strings.Compare(a.Protocol, b.Protocol); n != 0 {
			return n
		}
		if n := strings.Compare(a.Address, b.Address); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
	return infos
}
