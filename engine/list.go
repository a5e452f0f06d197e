package engine

import (
	"github.com/lacewing-mqtt/lacewing/engine/internal/ordered"
)

const anyWeight = ordered.Any

// page gives at most limit sessions from the offset-th on that have weight dim, and how many have it.
func (e *Engine) page(dim, offset, limit int) (some []*Session, total int) {
	r := &e.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := &r.tree
	total = int(t.Total(dim))
	if offset < 0 || limit <= 0 {
		return nil, total
	}
	from, _, ok := t.Seek(dim, int64(offset))
	if !ok {
		return nil, total
	}
	some = make([]*Session, 0, min(limit, total-offset))
	for _, s := range t.Ascend(dim, from) {
		if len(some) == limit {
			break
		}
		some = append(some, s)
	}
	return some, total
}

// sessionsFrom gives some sessions from that client id on, in order; none at the end.
func (e *Engine) sessionsFrom(id string) (some []*Session) {
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	for _, s := range e.registry.tree.Ascend(anyWeight, id) {
		if some = append(some, s); len(some) == 1000 {
			break
		}
	}
	return some
}

// Clients gives a page of the connected clients in the bytewise order of their ids, and how many there are.
func (e *Engine) Clients(offset, limit int) (rows []ClientInfo, total int) {
	some, total := e.page(dimConnected, offset, limit)
	rows = make([]ClientInfo, 0, len(some))
	for _, s := range some {
		if c := s.conn.Load(); c != nil { // it may have gone since
			rows = append(rows, c.describe())
		}
	}
	return rows, total
}

// Client gives a connected client.
func (e *Engine) Client(id string) (ClientInfo, bool) {
	if c := e.connOf(id); c != nil {
		return c.describe(), true
	}
	return ClientInfo{}, false
}

// ClientsByUsername gives the connected clients with that user name in the order of their ids. It looks at all clients, some
// at a time.
func (e *Engine) ClientsByUsername(name string) (rows []ClientInfo) {
	for from := ""; ; {
		var some []*Session
		e.registry.mu.RLock()
		for _, s := range e.registry.tree.Ascend(dimConnected, from) {
			if some = append(some, s); len(some) == 1000 {
				break
			}
		}
		e.registry.mu.RUnlock()
		for _, s := range some {
			if c := s.conn.Load(); c != nil && c.hasUsername && c.username == name {
				rows = append(rows, c.describe())
			}
		}
		if len(some) < 1000 {
			return rows
		}
		from = some[len(some)-1].clientID + "\x00"
	}
}

// Sessions gives a page of the sessions in the order of their client ids, and how many there are.
func (e *Engine) Sessions(offset, limit int) (rows []SessionInfo, total int) {
	some, total := e.page(dimSession, offset, limit)
	rows = make([]SessionInfo, 0, len(some))
	for _, s := range some {
		rows = append(rows, s.describe())
	}
	return rows, total
}

// Session gives a session.
func (e *Engine) Session(id string) (SessionInfo, bool) {
	if s := e.sessionOf(id); s != nil {
		return s.describe(), true
	}
	return SessionInfo{}, false
}

// Subscriptions gives a page of all subscriptions in the order of client id and filter, and how many there are. The filter
// counts with its prefix of a shared subscription.
func (e *Engine) Subscriptions(offset, limit int) (rows []SubscriptionInfo, total int) {
	r := &e.registry
	r.mu.RLock()
	total = int(r.tree.Total(dimSubs))
	var some []*Session
	var skip int64
	if offset >= 0 && limit > 0 {
		from, remainder, ok := r.tree.Seek(dimSubs, int64(offset))
		skip = remainder
		if ok {
			n := -int(remainder)
			for _, s := range r.tree.Ascend(dimSubs, from) {
				some = append(some, s)
				if n += int(s.subs.len.Load()); n >= limit {
					break
				}
			}
		}
	}
	r.mu.RUnlock()
	for _, s := range some {
		rows = s.appendSubs(rows, int(skip), limit-len(rows))
		skip = 0
	}
	return rows, total
}

// appendSubs appends a page of the subscriptions of s.
func (s *Session) appendSubs(rows []SubscriptionInfo, offset, limit int) []SubscriptionInfo {
	s.subMu.Lock()
	defer s.subMu.Unlock()
	for _, u := range s.subs.page(offset, limit) {
		rows = append(rows, SubscriptionInfo{s.clientID, u.Subscription})
	}
	return rows
}

// SubscriptionsOf gives the subscriptions of a session in the order of their filters.
func (e *Engine) SubscriptionsOf(id string) []SubscriptionInfo {
	s := e.sessionOf(id)
	if s == nil {
		return nil
	}
	return s.appendSubs(nil, 0, int(s.subs.len.Load())+1)
}

// Routes gives a page of the filters that are subscribed to, in their order, and how many there are.
func (e *Engine) Routes(offset, limit int) (rows []RouteInfo, total int) {
	r := &e.router
	r.rowsMu.RLock()
	defer r.rowsMu.RUnlock()
	total = r.rows.Len()
	if offset < 0 || limit <= 0 {
		return nil, total
	}
	from, _, ok := r.rows.Seek(0, int64(offset))
	if !ok {
		return nil, total
	}
	for filter := range r.rows.Ascend(anyWeight, from) {
		if len(rows) == limit {
			break
		}
		rows = append(rows, RouteInfo{filter})
	}
	return rows, total
}

// RoutesOf gives the route of exactly that filter, if there is one.
func (e *Engine) RoutesOf(filter string) []RouteInfo {
	r := &e.router
	r.rowsMu.RLock()
	defer r.rowsMu.RUnlock()
	if _, ok := r.rows.Get(filter); ok {
		return []RouteInfo{{filter}}
	}
	return nil
}
