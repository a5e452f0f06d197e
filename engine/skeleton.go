package engine

import (
	"context"
	"net/netip"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Engine is one broker. All its methods may be called from any goroutine.
type Engine struct{}

// New makes an engine. Nothing runs before Run or Advance is called.
func New(o Options) (*Engine, error) { return &Engine{}, nil }

// Run does the housekeeping (clock, timers, $SYS topics, alarms, paced deliveries) until ctx ends.
func (e *Engine) Run(ctx context.Context) error { return nil }

// Advance does the housekeeping that is due at now, once: for tests and for programs that have a loop of their own.
func (e *Engine) Advance(now time.Time) {}

// Close ends all connections with DISCONNECT 0x8B, publishes wills as the standard says and ends all sessions. Afterwards
// Accept refuses. ctx bounds the waiting for output to drain. Calls after the first return nil.
func (e *Engine) Close(ctx context.Context) error { return nil }

// Configure replaces the settings. A bad value refuses all of it.
func (e *Engine) Configure(s Settings) error { return nil }

// Settings gives the settings that hold.
func (e *Engine) Settings() Settings { return Settings{} }

// SetZone adds or replaces a zone. A bad value refuses all of it.
func (e *Engine) SetZone(name string, z Zone) error { return nil }

// Zone gives the zone that listeners with that name use.
func (e *Engine) Zone(name string) (Zone, bool) { return Zone{}, false }

// NewBatch makes the scratch of one driver goroutine.
func (e *Engine) NewBatch() *Batch { return nil }

// Batch is the scratch of one driver goroutine, which alone may use it: counters, touched connections and caches of one
// round of input.
type Batch struct{}

// Flush publishes the counters and writes every connection that has output since the last Flush once.
func (b *Batch) Flush() {}

// Listener is the engine's side of one listening address: limits and counters.
type Listener struct{}

// AddListener adds a listener; ErrExists if there is one with that protocol and name.
func (e *Engine) AddListener(o ListenerOptions) (*Listener, error) { return nil, nil }

// Remove takes the listener out of the lists and refuses further connections; those it has stay.
func (l *Listener) Remove() {}

// Info describes the listener.
func (l *Listener) Info() ListenerInfo { return ListenerInfo{} }

// Configure changes limits and zone for further connections. Name and protocol cannot change.
func (l *Listener) Configure(o ListenerOptions) error { return nil }

// Accept makes the state machine of a new connection. The error says why the driver has to close the carrier instead.
func (l *Listener) Accept(info ConnInfo, t Transport) (*Conn, error) { return nil, nil }

// Conn is the state machine of one connection. Feed, Writable and Closed of one Conn are called one at a time.
type Conn struct{}

// Feed takes bytes that arrived. p may be reused when it returns.
func (c *Conn) Feed(b *Batch, p []byte) Next { return ReadOn }

// Writable says that the carrier can take output again after a short Write.
func (c *Conn) Writable(b *Batch) {}

// Closed says that the carrier has ended: err is nil after an orderly end of the stream. It is called once; nothing else is
// called afterwards.
func (c *Conn) Closed(b *Batch, err error) {}

// Publish publishes a message from inside: it goes through the hooks, the retainer and routing, and is not counted as
// received. matched is the number of sessions that took it. The error is ErrBadTopic or the packet.ReasonCode of a hook.
func (e *Engine) Publish(m *Message) (matched int, err error) { return 0, nil }

// AddHooks registers hooks until remove is called.
func (e *Engine) AddHooks(name string, h Hooks) (remove func()) { return func() {} }

// AddAuthenticator adds a link to the chain of authenticators. Higher sequence numbers are asked first, of equal ones the
// latest.
func (e *Engine) AddAuthenticator(name string, sequence int, a Authenticator) (remove func()) {
	return func() {}
}

// AddAuthorizer adds a link to the chain of authorizers, in the same order, and empties the caches of decisions.
func (e *Engine) AddAuthorizer(name string, sequence int, a Authorizer) (remove func()) {
	return func() {}
}

// AddAuthMethod adds a method of enhanced authentication.
func (e *Engine) AddAuthMethod(name string, m AuthMethod) (remove func()) { return func() {} }

// SetBanCheck sets the function that says who is banned; nil: nobody. It must not block.
func (e *Engine) SetBanCheck(check func(clientID, username string, ip netip.Addr) bool) {}

// EnableRetainer switches retained messages on, or changes the limits.
func (e *Engine) EnableRetainer(o RetainerOptions) error { return nil }

// DisableRetainer switches retained messages off: they are neither stored nor delivered; what is stored stays.
func (e *Engine) DisableRetainer() {}

// Retained gives a page of the retained messages in the order of their topics.
func (e *Engine) Retained(offset, limit int) (rows []*Message, total int) { return nil, 0 }

// CleanRetained removes the retained messages whose topics match filter and says how many these were.
func (e *Engine) CleanRetained(filter string) int { return 0 }

// Clients gives a page of the connected clients in the bytewise order of their ids, and how many there are.
func (e *Engine) Clients(offset, limit int) (rows []ClientInfo, total int) { return nil, 0 }

// Client gives a connected client.
func (e *Engine) Client(id string) (ClientInfo, bool) { return ClientInfo{}, false }

// ClientsByUsername gives the connected clients with that user name in the order of their ids.
func (e *Engine) ClientsByUsername(name string) []ClientInfo { return nil }

// Sessions gives a page of the sessions in the order of their client ids, and how many there are.
func (e *Engine) Sessions(offset, limit int) (rows []SessionInfo, total int) { return nil, 0 }

// Session gives a session.
func (e *Engine) Session(id string) (SessionInfo, bool) { return SessionInfo{}, false }

// Subscriptions gives a page of all subscriptions in the order of client id and filter, and how many there are.
func (e *Engine) Subscriptions(offset, limit int) (rows []SubscriptionInfo, total int) { return nil, 0 }

// SubscriptionsOf gives the subscriptions of a session in the order of their filters.
func (e *Engine) SubscriptionsOf(id string) []SubscriptionInfo { return nil }

// Routes gives a page of the filters that are subscribed to, in their order, and how many there are.
func (e *Engine) Routes(offset, limit int) (rows []RouteInfo, total int) { return nil, 0 }

// RoutesOf gives the route of exactly that filter, if there is one.
func (e *Engine) RoutesOf(filter string) []RouteInfo { return nil }

// Kick ends the connection of a client: its row is gone when Kick returns, its will is published, a persistent session stays.
func (e *Engine) Kick(id string) error { return nil }

// Subscribe subscribes a session, connected or not, without asking authorizers and gates. Retained messages are delivered.
// The filter may have the prefix $share/ or $queue/. Errors: ErrNotFound, ErrBadTopic, ErrQuota.
func (e *Engine) Subscribe(id string, s Subscription) error { return nil }

// Unsubscribe takes a subscription back; one that is not there is no error. Errors: ErrNotFound, ErrBadTopic.
func (e *Engine) Unsubscribe(id, filter string) error { return nil }

// Authorized asks the access rules about a topic that a plugin puts in the place of the one that the client named (rewrite,
// delayed publish): superuser, zone, cache, chain and ACLNoMatch, as for a packet of the client.
func (e *Engine) Authorized(c *ClientInfo, action Action, topic string) bool { return true }

// CleanACL forgets the cached decisions of a connected client for exactly that topic. ErrNotFound without such a client.
func (e *Engine) CleanACL(id, topic string) error { return nil }

// CleanACLAll forgets all cached decisions.
func (e *Engine) CleanACLAll() {}

// DropSession ends a session, and its connection if there is one.
func (e *Engine) DropSession(id string) error { return nil }

// Metrics reads all metrics.
func (e *Engine) Metrics() (m Metrics) { return m }

// Stats reads all gauges.
func (e *Engine) Stats() Stats { return Stats{} }

// Listeners describes the listeners in the order of protocol, address and name.
func (e *Engine) Listeners() []ListenerInfo { return nil }

// Alarms gives the table of alarms.
func (e *Engine) Alarms() *Alarms { return nil }

// Alarms is the table of alarms. Raising and clearing is published below $SYS/brokers/{node}/alarms/.
type Alarms struct{}

// Raise raises an alarm, or does nothing if one with that ID is raised already.
func (a *Alarms) Raise(al Alarm) {}

// Clear clears an alarm; it reports whether it was raised.
func (a *Alarms) Clear(id string) bool { return false }

// List gives the raised alarms in the order of their IDs.
func (a *Alarms) List() []Alarm { return nil }

// History gives the cleared alarms, the latest first, as many as Settings.AlarmHistory.
func (a *Alarms) History() []Alarm { return nil }

// Trace calls w for each packet that filter selects until stop is called. w is called without locks and must not block.
func (e *Engine) Trace(filter TraceFilter, w func(TraceEvent)) (stop func()) { return func() {} }

// Uptime is the time since New.
func (e *Engine) Uptime() time.Duration { return 0 }

var _ = packet.Success
