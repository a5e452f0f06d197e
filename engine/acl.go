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

// aclCache holds decisions of the access rules for one connection: a list, which is small for clients with few topics, and an
// index of it once it is long. It is empty while there are no decisions.
type aclCache struct {
	mu    sync.Mutex
	list  []aclEntry
	index map[aclKey]int32 // nil while the list has at most fewDecisions
	next  int              // of a full list, the entry that goes next: the oldest
	epoch uint64           // of the engine when the entries were made
}

type aclEntry struct {
	aclKey
	allow bool
	at    int64 // ns since the epoch
}

const fewDecisions = 32

// find gives the entry of key, or nil. mu is held.
func (a *aclCache) find(key aclKey) *aclEntry {
	if a.index != nil {
		if i, ok := a.index[key]; ok {
			return &a.list[i]
		}
		return nil
	}
	for i := range a.list {
		if a.list[i].aclKey == key {
			return &a.list[i]
		}
	}
	return nil
}

// put adds an entry or renews it; of more than size the oldest goes. mu is held.
func (a *aclCache) put(en aclEntry, size int) {
	if old := a.find(en.aclKey); old != nil {
		*old = en
		return
	}
	if len(a.list) > size { // the size has become smaller
		a.empty()
	}
	i := len(a.list)
	if i < size {
		a.list = append(a.list, en)
	} else {
		i = a.next
		a.next = (i + 1) % size
		if a.index != nil {
			delete(a.index, a.list[i].aclKey)
		}
		a.list[i] = en
	}
	switch {
	case a.index != nil:
		a.index[en.aclKey] = int32(i)
	case len(a.list) > fewDecisions:
		a.index = make(map[aclKey]int32, len(a.list))
		for i := range a.list {
			a.index[a.list[i].aclKey] = int32(i)
		}
	}
}

// forget makes the decision about key be asked anew. mu is held.
func (a *aclCache) forget(key aclKey) {
	if en := a.find(key); en != nil {
		en.at = forgotten
	}
}

const forgotten = -1

// empty forgets everything. mu is held.
func (a *aclCache) empty() { a.list, a.index, a.next = nil, nil, 0 }

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
	cached := cfg.Enabled && cfg.Size > 0
	cache := c.acl.Load()
	if cached && cache == nil {
		c.acl.CompareAndSwap(nil, new(aclCache))
		cache = c.acl.Load()
	}
	key := aclKey{topic, action}
	epoch := e.aclEpoch.Load()
	if cached {
		cache.mu.Lock()
		if cache.epoch != epoch {
			cache.empty()
			cache.epoch = epoch
		}
		if en := cache.find(key); en != nil && en.at != forgotten && (cfg.TTL == 0 || b.now-en.at < int64(cfg.TTL)) {
			allow := en.allow
			cache.mu.Unlock()
			return allow
		}
		cache.mu.Unlock()
	}
	info := &b.info
	c.describeTo(info)
	allow := e.walk(links, settings, info, action, topic)
	if cached {
		cache.mu.Lock()
		if cache.epoch == epoch {
			cache.put(aclEntry{key, allow, b.now}, cfg.Size)
		}
		cache.mu.Unlock()
	}
	return allow
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
	if cache := c.acl.Load(); cache != nil {
		cache.mu.Lock()
		defer cache.mu.Unlock()
		cache.forget(aclKey{topic, ActionPublish})
		cache.forget(aclKey{topic, ActionSubscribe})
	}
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
