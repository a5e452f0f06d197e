package engine

import "sync/atomic"

// Stat is a gauge with its highest value since the start.
type Stat struct {
	Count, Max int64
}

// Stats is a reading of all gauges.
type Stats struct {
	Connections         Stat // clients connected
	Sessions            Stat
	SessionsPersistent  Stat // sessions of clients that connected without clean start
	Topics              Stat // distinct filters
	Subscribers         Stat // subscriber entries of filters; equal to Subscriptions on one node
	Subscriptions       Stat // pairs of session and filter
	SubscriptionsShared Stat // those of share groups among them
	Routes              Stat // route rows
	Retained            Stat
}

// gauge is a value and the highest it ever had.
type gauge struct {
	count, max atomic.Int64
}

func (g *gauge) set(n int64) {
	g.count.Store(n)
	g.mark(n)
}

func (g *gauge) add(d int64) { g.mark(g.count.Add(d)) }

func (g *gauge) mark(n int64) {
	for {
		m := g.max.Load()
		if n <= m || g.max.CompareAndSwap(m, n) {
			return
		}
	}
}

func (g *gauge) read() Stat {
	n := g.count.Load()
	return Stat{n, max(n, g.max.Load())}
}

// StoreStats reads what the store does, and why it can promise nothing now; nil while it can. Without a store Durability is "memory".
func (e *Engine) StoreStats() (StoreStats, error) {
	store := e.durable.store
	if store == nil {
		return StoreStats{Durability: "memory"}, nil
	}
	st := store.Stats()
	st.Live = e.durable.live.Load()
	return st, store.Err()
}

// gauges are the values behind Stats. They are renewed where something changes, so reading them costs nothing.
type gauges struct {
	connections, sessions, persistent, topics, subscriptions, shared, routes, retained gauge
}

// Stats reads all gauges.
func (e *Engine) Stats() Stats {
	g := &e.gauges
	return Stats{
		Connections: g.connections.read(), Sessions: g.sessions.read(), SessionsPersistent: g.persistent.read(),
		Topics: g.topics.read(), Subscribers: g.subscriptions.read(), Subscriptions: g.subscriptions.read(),
		SubscriptionsShared: g.shared.read(), Routes: g.routes.read(), Retained: g.retained.read(),
	}
}
