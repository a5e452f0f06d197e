package admin

import (
	"context"
	"errors"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// LocalOptions are the parts of this node that management works on.
type LocalOptions struct {
	Name    string // node name, such as emqx@127.0.0.1
	ID      string // of the node in the replicated store
	Release string // version of Lacewing
	Engine  *engine.Engine
	Plugins *plugins.Set
	// Config returns the configuration in effect.
	Config func() *config.Config
	// Reconfigure puts the stored configuration into effect.
	Reconfigure func(ctx context.Context) error
	// HTTPListeners lists the listeners of the API and the dashboard.
	HTTPListeners func() []Listener
	Started       time.Time
}

// Local is the node that this process runs, straight on its parts.
type Local struct{ o LocalOptions }

// NewLocal makes a Local.
func NewLocal(o LocalOptions) *Local { return &Local{o} }

// Name implements [Node].
func (l *Local) Name() string { return l.o.Name }

// ID implements [Node].
func (l *Local) ID() string { return l.o.ID }

// Info implements [Node].
func (l *Local) Info(context.Context) (NodeInfo, error) {
	now := time.Now()
	f := readFigures()
	_, clients := l.o.Engine.Clients(0, 0)
	return NodeInfo{
		Name: l.o.Name, Running: true, Release: l.o.Release,
		Uptime: now.Sub(l.o.Started), Now: now,
		MemoryTotal: f.memoryTotal, MemoryUsed: f.memoryUsed,
		Tasks: f.tasks, MaxFiles: f.maxFiles, Load: f.load, Clients: clients,
	}, nil
}

// Clients implements [Node].
func (l *Local) Clients(_ context.Context, offset, limit int) ([]Client, int, error) {
	rows, total := l.o.Engine.Clients(offset, limit)
	return convert(rows, l.client), total, nil
}

// Client implements [Node].
func (l *Local) Client(_ context.Context, id string) ([]Client, error) {
	c, ok := l.o.Engine.Client(id)
	if !ok {
		return nil, nil
	}
	return []Client{l.client(c)}, nil
}

// Kick implements [Node].
func (l *Local) Kick(_ context.Context, id string) error {
	return engineError(l.o.Engine.Kick(id), ClientOffline, id)
}

// CleanACL implements [Node].
func (l *Local) CleanACL(_ context.Context, id, topic string) error {
	return engineError(l.o.Engine.CleanACL(id, topic), ClientOffline, id)
}

// Sessions implements [Node].
func (l *Local) Sessions(_ context.Context, offset, limit int) ([]Session, int, error) {
	rows, total := l.o.Engine.Sessions(offset, limit)
	return convert(rows, l.session), total, nil
}

// Session implements [Node].
func (l *Local) Session(_ context.Context, id string) ([]Session, error) {
	s, ok := l.o.Engine.Session(id)
	if !ok {
		return nil, nil
	}
	return []Session{l.session(s)}, nil
}

// Subscriptions implements [Node].
func (l *Local) Subscriptions(_ context.Context, offset, limit int) ([]Subscription, int, error) {
	rows, total := l.o.Engine.Subscriptions(offset, limit)
	return convert(rows, l.subscription), total, nil
}

// SubscriptionsOf implements [Node].
func (l *Local) SubscriptionsOf(_ context.Context, id string) ([]Subscription, error) {
	return convert(l.o.Engine.SubscriptionsOf(id), l.subscription), nil
}

// Subscribe implements [Node].
func (l *Local) Subscribe(_ context.Context, id, filter string, qos byte) error {
	return engineError(l.o.Engine.Subscribe(id, engine.Subscription{Filter: filter, QoS: packet.QoS(qos)}), SessionNotFound, id)
}

// Unsubscribe implements [Node].
func (l *Local) Unsubscribe(_ context.Context, id, filter string) error {
	return engineError(l.o.Engine.Unsubscribe(id, filter), SessionNotFound, id)
}

// Routes implements [Node].
func (l *Local) Routes(_ context.Context, offset, limit int) ([]Route, int, error) {
	rows, total := l.o.Engine.Routes(offset, limit)
	return convert(rows, l.route), total, nil
}

// RoutesOf implements [Node].
func (l *Local) RoutesOf(_ context.Context, filter string) ([]Route, error) {
	return convert(l.o.Engine.RoutesOf(filter), l.route), nil
}

// Publish implements [Node].
func (l *Local) Publish(ctx context.Context, m Message) error {
	if !topic.ValidName(m.Topic) {
		return failOn(BadTopic, m.Topic, "bad topic")
	}
	_, err := l.o.Engine.PublishStored(ctx, &engine.Message{
		Topic: m.Topic, Payload: m.Payload, QoS: packet.QoS(m.QoS), Retain: m.Retain, From: m.From,
	})
	if code, refused := errors.AsType[packet.ReasonCode](err); refused {
		if code == packet.TopicNameInvalid {
			return failOn(BadTopic, m.Topic, "bad topic")
		}
		if code == packet.QuotaExceeded {
			return failBy(Quota, "the message cannot be stored", err)
		}
		return failBy(PublishRefused, code.Error(), err)
	}
	return engineError(err, SessionNotFound, m.Topic)
}

// Storage implements [Node].
func (l *Local) Storage(context.Context) (Storage, error) {
	st, err := l.o.Engine.StoreStats()
	d := func(h engine.Histogram) Distribution { return Distribution{Counts: h.Counts[:], Sum: h.Sum} }
	s := Storage{
		Durability: st.Durability, Promise: promises[st.Durability],
		Bytes: st.Bytes, MaxBytes: st.MaxBytes, LiveBytes: st.Live, Segments: st.Segments,
		Staged: int64(st.Staged), Committed: int64(st.Committed), Commits: st.Commits, Changes: st.Records,
		CommittedBytes: st.CommittedBytes, Syncs: st.Syncs, SyncTime: st.SyncTime, RewrittenBytes: st.Rewrites, Faults: st.Faults,
		GroupSizes: d(st.GroupSizes), CommitTimes: d(st.CommitTimes),
	}
	if err != nil {
		s.Fault = err.Error()
	}
	return s, nil
}

// promises says what an acknowledged message survives.
var promises = map[string]string{
	"fsync":    "an acknowledged message survives a crash and a loss of power",
	"interval": "an acknowledged message survives a crash; a loss of power can lose those of the last store.sync_interval",
	"off":      "an acknowledged message survives a crash; a loss of power can lose any that the operating system has not written",
	"memory":   "messages and sessions end with the process",
}

// Plugins implements [Node].
func (l *Local) Plugins(context.Context) ([]Plugin, error) {
	return convert(l.o.Plugins.List(), func(s plugins.Status) Plugin {
		return Plugin{
			Name: s.Name, Active: s.Active,
			V2: Listing{s.V2.Version, s.V2.Description}, V3: Listing{s.V3.Version, s.V3.Description},
		}
	}), nil
}

// LoadPlugin implements [Node].
func (l *Local) LoadPlugin(ctx context.Context, name string) error {
	return pluginError(l.o.Plugins.Load(ctx, name), name)
}

// UnloadPlugin implements [Node].
func (l *Local) UnloadPlugin(ctx context.Context, name string) error {
	return pluginError(l.o.Plugins.Unload(ctx, name), name)
}

// PluginConfig implements [Node].
func (l *Local) PluginConfig(_ context.Context, name string) ([]PluginSetting, error) {
	rows, err := l.o.Plugins.Config(name)
	if err != nil {
		return nil, pluginError(err, name)
	}
	return convert(rows, func(r config.PluginRow) PluginSetting { return PluginSetting(r) }), nil
}

// SetPluginConfig implements [Node]. The plugin has its values when SetConfig
// returns, but a reconfiguration that was under way may bring back the old ones
// until it looks again; the one asked for here comes after it.
func (l *Local) SetPluginConfig(ctx context.Context, name string, settings map[string]string) error {
	if err := l.o.Plugins.SetConfig(ctx, name, settings); err != nil {
		return pluginError(err, name)
	}
	return pluginError(l.o.Reconfigure(ctx), name)
}

// Listeners implements [Node].
func (l *Local) Listeners(context.Context) ([]Listener, error) {
	rows := convert(l.o.Engine.Listeners(), func(i engine.ListenerInfo) Listener {
		return Listener{
			Protocol: i.Protocol, Address: i.Address, Acceptors: i.Acceptors,
			MaxConnections: i.MaxConnections, Connections: i.CurrentConnections, Shutdowns: i.ShutdownCount,
		}
	})
	if l.o.HTTPListeners != nil {
		rows = append(rows, l.o.HTTPListeners()...)
	}
	return rows, nil
}

// Metrics implements [Node].
func (l *Local) Metrics(context.Context) (Metrics, error) {
	read := l.o.Engine.Metrics()
	m := make(Metrics, len(read))
	for i, v := range read {
		m[engine.Metric(i).Name()] = v
	}
	return m, nil
}

// Stats implements [Node].
func (l *Local) Stats(context.Context) (Stats, error) {
	s := l.o.Engine.Stats()
	out := make(Stats, 18)
	for name, g := range map[string]engine.Stat{
		"connections": s.Connections, "sessions": s.Sessions, "sessions/persistent": s.SessionsPersistent,
		"topics": s.Topics, "subscribers": s.Subscribers, "subscriptions": s.Subscriptions,
		"subscriptions/shared": s.SubscriptionsShared, "routes": s.Routes, "retained": s.Retained,
	} {
		out[name+"/count"], out[name+"/max"] = g.Count, g.Max
	}
	return out, nil
}

// Settings implements [Node].
func (l *Local) Settings(_ context.Context, v Version) ([]Setting, error) {
	running := make(map[string]bool)
	for _, p := range l.o.Plugins.List() {
		running[p.Name] = p.Active
	}
	active := func(plugin string) bool { return running[plugin] }
	rows := l.o.Config().HotV3(active)
	if v == V2 {
		rows = l.o.Config().HotV2(active)
	}
	return convert(rows, func(r config.Row) Setting { return Setting(r) }), nil
}

// Reconfigure implements [Node].
func (l *Local) Reconfigure(ctx context.Context) error {
	err := l.o.Reconfigure(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return fail(ConfigRefused, err.Error())
}

// Alarms implements [Node].
func (l *Local) Alarms(context.Context) ([]Alarm, error) {
	return convert(l.o.Engine.Alarms().List(), alarm), nil
}

func (l *Local) client(c engine.ClientInfo) Client {
	row := Client{
		Node: l.o.Name, ID: c.ClientID, Username: Undefined, Peer: c.Peer, CleanStart: c.CleanStart,
		Protocol: c.ProtoName, Version: int(c.ProtoVer), KeepAlive: int(c.KeepAlive), ConnectedAt: c.ConnectedAt,
		Zone: c.Zone, Mountpoint: c.Mountpoint, Superuser: c.Superuser, Bridge: c.Bridge, WillTopic: c.WillTopic,
	}
	if c.HasUsername {
		row.Username = c.Username
	}
	if c.PeerCert != nil {
		row.PeerCert = c.PeerCert.Subject
	}
	return row
}

func (l *Local) session(s engine.SessionInfo) Session {
	row := Session{
		Node: l.o.Name, ClientID: s.ClientID, Username: Undefined, CleanStart: s.CleanStart, Connected: s.Connected,
		Expiry: int64(s.Expiry), CreatedAt: s.CreatedAt, Subscriptions: s.Subscriptions, MaxSubscriptions: s.MaxSubscriptions,
		Inflight: s.Inflight, MaxInflight: s.MaxInflight, Queue: s.QueueLen, MaxQueue: s.MaxQueue, Dropped: s.QueueDropped,
		AwaitingRel: s.AwaitingRel, MaxAwaitingRel: s.MaxAwaitingRel, AwaitingAck: s.AwaitingAck, AwaitingComp: s.AwaitingComp,
		Delivered: s.Delivered, Enqueued: s.Enqueued,
	}
	if s.HasUsername {
		row.Username = s.Username
	}
	// The document shows the interval of the configuration for sessions of 3.x
	// that end with their connection: those protocols cannot say another.
	if !s.Persistent && s.Connected {
		if c, ok := l.o.Engine.Client(s.ClientID); ok && c.ProtoVer < 5 {
			row.Expiry = int64(l.o.Config().Duration("zone."+c.Zone+".session_expiry_interval") / time.Second)
		}
	}
	return row
}

func (l *Local) subscription(s engine.SubscriptionInfo) Subscription {
	return Subscription{Node: l.o.Name, ClientID: s.ClientID, Topic: s.Filter, QoS: byte(s.QoS)}
}

func (l *Local) route(r engine.RouteInfo) Route { return Route{Topic: r.Filter, Node: l.o.Name} }

func alarm(a engine.Alarm) Alarm {
	return Alarm{ID: a.ID, Severity: a.Severity, Title: a.Title, Summary: a.Summary, At: a.RaisedAt}
}

// engineError translates an error of the engine; absent is what its "not
// found" means for the operation.
func engineError(err error, absent Kind, subject string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, engine.ErrNotFound):
		return failOn(absent, subject, "not found")
	case errors.Is(err, engine.ErrBadTopic):
		return failOn(BadTopic, subject, "bad topic")
	case errors.Is(err, engine.ErrQuota):
		return failOn(Quota, subject, "quota exceeded")
	}
	return err
}

// pluginError translates an error of the plugins.
func pluginError(err error, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, plugins.ErrUnknown):
		return failOn(UnknownPlugin, name, "unknown plugin")
	case errors.Is(err, plugins.ErrNotInstalled):
		return failOn(PluginAbsent, name, "plugin is not installed")
	case errors.Is(err, plugins.ErrAlreadyStarted):
		return failOn(PluginStarted, name, "plugin is already started")
	case errors.Is(err, plugins.ErrNotStarted):
		return failOn(PluginStopped, name, "plugin is not started")
	}
	if e := storeError(err); KindOf(e) == NoLeader {
		return e
	}
	return failBy(PluginRefused, err.Error(), err)
}

func convert[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}

var _ Node = (*Local)(nil)
