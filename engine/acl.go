package engine

import (
	"slices"
	"sync"
	"sync/atomic"
)

// chain is an ordered list that is read often and changed seldom.
type chain[T any] struct {
	mu    sync.Mutex
	links atomic.Pointer[[]link[T]]
	next  int
}

type link[T any] struct {
	sequence, number int
	value            T
}

// add puts v behind those with a higher sequence number and before all others, until remove is called.
func (c *chain[T]) add(sequence int, v T) (remove func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	number := c.next
	links := slices.Clone(c.get())
	i := 0
	for i < len(links) && links[i].sequence > sequence {
		i++
	}
	links = slices.Insert(links, i, link[T]{sequence, number, v})
	c.links.Store(&links)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		links := slices.DeleteFunc(slices.Clone(c.get()), func(l link[T]) bool { return l.number == number })
		c.links.Store(&links)
	}
}

func (c *chain[T]) get() []link[T] {
	if p := c.links.Load(); p != nil {
		return *p
	}
	return nil
}

// aclKey is what a decision is about.
type aclKey struct {
	topic  string
	action Action
}

// aclCache holds decisions of the access rules for one connection. It is empty while there are none.
type aclCache struct {
	mu      sync.Mutex
	entries map[aclKey]aclEntry
	epoch   uint64 // of the engine when the entries were made
}

type aclEntry struct {
	allow bool
	at    int64
}

// allowed asks whether the client may do that: superuser, zone, cache, chain, ACLNoMatch.
func (c *Conn) allowed(b *Batch, action Action, topic string) bool {
	e := b.e
	if c.superuser || !c.zone.load().EnableACL {
		return true
	}
	links := e.authorizers.get()
	settings := e.settings.Load()
	if len(links) == 0 {
		return settings.ACLNoMatch == Allow
	}
	cfg := &settings.ACLCache
	cache := &c.acl
	key := aclKey{topic, action}
	epoch := e.aclEpoch.Load()
	if cfg.Enabled && cfg.Size > 0 {
		cache.mu.Lock()
		if cache.epoch != epoch {
			clear(cache.entries)
			cache.epoch = epoch
		}
		en, ok := cache.entries[key]
		cache.mu.Unlock()
		if ok && (cfg.TTL == 0 || b.now-en.at < int64(cfg.TTL)) {
			return en.allow
		}
	}
	info := &b.info
	c.describeTo(info)
	allow := e.walk(links, settings, info, action, topic)
	if cfg.Enabled && cfg.Size > 0 {
		cache.mu.Lock()
		if cache.epoch == epoch {
			cache.put(key, aclEntry{allow, b.now}, cfg.Size)
		}
		cache.mu.Unlock()
	}
	return allow
}

// put adds an entry and makes room for it: the oldest goes. mu is held.
func (a *aclCache) put(key aclKey, en aclEntry, size int) {
	if a.entries == nil {
		a.entries = map[aclKey]aclEntry{}
	}
	if _, there := a.entries[key]; !there && len(a.entries) >= size {
		var oldest aclKey
		first := true
		var at int64
		for k, v := range a.entries {
			if first || v.at < at {
				oldest, at, first = k, v.at, false
			}
		}
		delete(a.entries, oldest)
	}
	a.entries[key] = en
}

// walk asks the chain of authorizers.
func (e *Engine) walk(links []link[Authorizer], settings *Settings, c *ClientInfo, action Action, topic string) bool {
	for _, l := range links {
		switch l.value.Authorize(c, action, topic) {
		case Allow:
			return true
		case Deny:
			return false
		}
	}
	return settings.ACLNoMatch == Allow
}

// permitted is allowed for somebody who need not be connected any more, without a cache.
func (e *Engine) permitted(c *ClientInfo, action Action, topic string) bool {
	if c.Superuser {
		return true
	}
	if z, ok := e.Zone(c.Zone); ok && !z.EnableACL {
		return true
	}
	return e.walk(e.authorizers.get(), e.settings.Load(), c, action, topic)
}

// Authorized asks the access rules about a topic that a plugin puts in the place of the one that the client named (rewrite,
// delayed publish): superuser, zone, cache, chain and ACLNoMatch, as for a packet of the client.
func (e *Engine) Authorized(c *ClientInfo, action Action, topic string) bool {
	if conn := e.connOf(c.ClientID); conn != nil {
		b := e.borrow()
		defer b.giveBack()
		return conn.allowed(b, action, topic)
	}
	return e.permitted(c, action, topic)
}

// AddAuthorizer adds a link to the chain of authorizers, in the same order, and empties the caches of decisions.
func (e *Engine) AddAuthorizer(name string, sequence int, a Authorizer) (remove func()) {
	undo := e.authorizers.add(sequence, a)
	e.CleanACLAll()
	return func() {
		undo()
		e.CleanACLAll()
	}
}

// CleanACL forgets the cached decisions of a connected client for exactly that topic. ErrNotFound without such a client.
func (e *Engine) CleanACL(id, topic string) error {
	c := e.connOf(id)
	if c == nil {
		return ErrNotFound
	}
	c.acl.mu.Lock()
	defer c.acl.mu.Unlock()
	delete(c.acl.entries, aclKey{topic, ActionPublish})
	delete(c.acl.entries, aclKey{topic, ActionSubscribe})
	return nil
}

// CleanACLAll forgets all cached decisions.
func (e *Engine) CleanACLAll() { e.aclEpoch.Add(1) }

// authLink is one authenticator of the chain.
type authLink struct {
	a        Authenticator
	blocking bool
}

// AddAuthenticator adds a link to the chain of authenticators. Higher sequence numbers are asked first, of equal ones the
// latest.
func (e *Engine) AddAuthenticator(name string, sequence int, a Authenticator) (remove func()) {
	bl, ok := a.(Blocking)
	return e.authenticators.add(sequence, authLink{a, ok && bl.Blocking()})
}
