package cluster

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// shardCount is how many parts the client identifiers are divided into.
const shardCount = 1024

// ShardSet is a bit for each shard.
type ShardSet [shardCount / 8]byte

func (s *ShardSet) add(n int)      { s[n/8] |= 1 << (n % 8) }
func (s *ShardSet) has(n int) bool { return s[n/8]&(1<<(n%8)) != 0 }

// fnv is FNV-1a with the bits mixed once more: all nodes have to come to the same.
func fnv(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}

func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

const fnvStart = 14695981039346656037

func shardOf(clientID string) int { return int(mix(fnv(fnvStart, clientID)) % shardCount) }

// homeLife is one life of a node. What was told in one that is over is of a node that is down, even if it runs again.
type homeLife struct {
	node  string
	since uint64
	boot  string
}

// homeView is who is up, and what follows from it. It never changes.
type homeView struct {
	epoch uint64
	up    map[string]raftstore.Life
	lives map[string]unique.Handle[homeLife]
	top   [shardCount][2]string // the owner of each shard, and who would be it without that; "" for none
}

func newHomeView(m raftstore.Marks) *homeView {
	v := &homeView{epoch: m.Epoch, up: m.Up, lives: make(map[string]unique.Handle[homeLife], len(m.Up))}
	for id, l := range m.Up {
		v.lives[id] = unique.Make(homeLife{id, l.Since, l.Boot})
	}
	for n := range v.top {
		var best [2]uint64
		top := &v.top[n]
		for id := range m.Up {
			// Rendezvous: a node that goes leaves its shards to the next one of each, and nothing else moves.
			switch w := mix(fnv(fnvStart, id) + uint64(n)*0x9e3779b97f4a7c15); {
			case top[0] == "" || w > best[0] || w == best[0] && id > top[0]:
				best, *top = [2]uint64{w, best[0]}, [2]string{id, top[0]}
			case top[1] == "" || w > best[1] || w == best[1] && id > top[1]:
				best[1], top[1] = w, id
			}
		}
	}
	return v
}

func (v *homeView) owner(n int) string { return v.top[n][0] }

// keeper is who has to know a client of a node besides that node: the owner of the shard, or who would be it without the node.
func (v *homeView) keeper(n int, home string) string {
	if v.top[n][0] != home {
		return v.top[n][0]
	}
	return v.top[n][1]
}

func (v *homeView) isUp(h unique.Handle[homeLife]) bool {
	return v.lives[h.Value().node] == h
}

// admits reports whether a node may call for something of an epoch.
func (v *homeView) admits(from string, epoch uint64) error {
	if _, up := v.up[from]; !up || v.epoch != epoch {
		return fmt.Errorf("%w: the marks here are of epoch %d", ErrUnavailable, v.epoch)
	}
	return nil
}

// homeShard is what this node knows of a shard: as its owner of all clients, as keeper of those of the owner.
type homeShard struct {
	mu      sync.Mutex
	turned  uint64 // epoch that it is made ready for
	entries map[string]homeEntry
	claims  map[string]*homeClaim      // not settled
	wills   map[string]*homeWill       // that this node publishes
	waits   map[string]bool            // nodes that have not told what they know
	fresh   bool                       // the shard is new here: nothing is granted while it waits
	until   time.Time                  // for how long
	due     atomic.Int64               // when to look at wills, ns since the epoch; 0: never
	touched map[string]map[string]bool // by node that is asked for its clients: who has been reported meanwhile
}

// homeEntry is the place of a client.
type homeEntry struct {
	fence engine.Fence
	home  unique.Handle[homeLife]
	will  *homeWill // nil: it has none
}

// homeWill is a will, and when it is due: 0 for as long after the end of its node as it says.
type homeWill struct {
	w     engine.StoredWill
	at    int64
	fence engine.Fence // of the session
	home  unique.Handle[homeLife]
}

// homeClaim is a claim that is not settled.
type homeClaim struct {
	node, token string
	grant       HomeGrant
	until       time.Time
}

func newHomeWill(p engine.Presence, f engine.Fence, home unique.Handle[homeLife]) *homeWill {
	if p.Will == nil {
		return nil
	}
	return &homeWill{w: *p.Will, at: p.WillAt, fence: f, home: home}
}

// nextFence gives fences in order, after a restart too.
func (r *Registry) nextFence(epoch uint64) engine.Fence {
	for {
		was := r.fences.Load()
		next := max(was+1, uint64(max(r.now().UnixNano(), 0)))
		if r.fences.CompareAndSwap(was, next) {
			return engine.Fence{Epoch: epoch, Count: next}
		}
	}
}

// ServeClaims answers the claims of another node.
func (r *Registry) ServeClaims(from string, epoch uint64, claims []HomeClaim) ([]HomeGrant, error) {
	v := r.view.Load()
	if err := v.admits(from, epoch); err != nil {
		return nil, err
	}
	if len(claims) > claimsPerCall {
		return nil, fmt.Errorf("%w: more than %d claims", ErrRefused, claimsPerCall)
	}
	if !r.o.Leased(v.epoch) {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errNoLease)
	}
	out := make([]HomeGrant, len(claims))
	for i, c := range claims {
		out[i] = r.grant(v, from, c)
	}
	return out, nil
}

// grant answers a claim as the owner.
func (r *Registry) grant(v *homeView, from string, c HomeClaim) HomeGrant {
	n := shardOf(c.ClientID)
	sh := &r.shards[n]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if v.owner(n) != r.o.Self || sh.turned != v.epoch || r.view.Load() != v {
		return HomeGrant{State: Refused}
	}
	now := r.now()
	if p := sh.claims[c.ClientID]; p != nil {
		switch {
		case p.node == from && p.token == c.Token:
			return p.grant
		case now.Before(p.until):
			r.stats.busy.Add(1)
			return HomeGrant{State: Busy}
		}
		r.stats.lapsed.Add(1)
		delete(sh.claims, c.ClientID)
	}
	e, known := sh.entries[c.ClientID]
	lost := known && !v.isUp(e.home)
	if len(sh.waits) > 0 && now.Before(sh.until) && (sh.fresh || lost && sh.waits[e.home.Value().node]) {
		r.stats.busy.Add(1)
		return HomeGrant{State: Busy}
	}
	g := HomeGrant{State: Granted, Fence: r.nextFence(v.epoch)}
	if known && e.home.Value().node != from {
		g.Holder, g.Held, g.Lost = e.home.Value().node, e.fence, lost
	}
	if sh.claims == nil {
		sh.claims = map[string]*homeClaim{}
	}
	sh.claims[c.ClientID] = &homeClaim{from, c.Token, g, now.Add(claimLapse)}
	r.stats.granted.Add(1)
	return g
}

// note takes a report about a client, as owner or keeper.
func (r *Registry) note(from string, p HomeReport) {
	n := shardOf(p.ClientID)
	sh := &r.shards[n]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	v := r.view.Load()
	if p.Kind == Lost {
		r.noteLost(v, n, sh, p)
		return
	}
	life, up := v.lives[from]
	if !up || v.owner(n) != r.o.Self && v.keeper(n, from) != r.o.Self {
		return
	}
	if t := sh.touched[from]; t != nil && p.Kind != Left {
		t[p.ClientID] = true
	}
	claim := sh.claims[p.ClientID]
	if claim != nil && (claim.node != from || claim.grant.Fence != p.Fence) {
		claim = nil
	}
	if claim != nil {
		delete(sh.claims, p.ClientID)
	}
	e, known := sh.entries[p.ClientID]
	switch p.Kind {
	case Gone:
		if known && e.home.Value().node == from && !p.Fence.Before(e.fence) {
			delete(sh.entries, p.ClientID)
		}
	case Have:
		holder := ""
		if known {
			holder = e.home.Value().node
		}
		if known && p.Fence.Before(e.fence) {
			if holder != from {
				r.order(from, Discard, p.ClientID, e.fence)
			}
			return
		}
		// The claimer has moved the session of a holder that it was told of, unless that was down.
		if told := claim != nil && claim.grant.Holder == holder && !claim.grant.Lost; known && holder != from && !told && v.up[holder].Since > 0 {
			r.order(holder, Discard, p.ClientID, p.Fence)
		}
		sh.put(p.ClientID, homeEntry{p.Fence, life, newHomeWill(p.Presence, p.Fence, life)})
		if w := sh.wills[p.ClientID]; w != nil && w.fence.Before(p.Fence) { // its client is back
			delete(sh.wills, p.ClientID)
		}
	}
}

// noteLost takes over the client of a node that is down from who has kept it.
func (r *Registry) noteLost(v *homeView, n int, sh *homeShard, p HomeReport) {
	home := unique.Make(homeLife{p.Home, p.Since, p.Boot})
	if v.owner(n) != r.o.Self {
		return
	}
	e, known := sh.entries[p.ClientID]
	switch {
	case known && p.Fence.Before(e.fence):
		return // it is at home elsewhere since
	case known && e.home == home && p.Fence == e.fence && p.Presence.Will != nil && sh.wills[p.ClientID] == nil && e.will == nil:
		return // repeated, and published meanwhile
	case !known && (v.up[p.Home].Since == 0 || sh.waits[p.Home] && !v.isUp(home)): // else it has told itself what it has
		sh.put(p.ClientID, homeEntry{fence: p.Fence, home: home})
	}
	if w := newHomeWill(p.Presence, p.Fence, home); w != nil {
		r.adopt(sh, p.ClientID, w)
	}
}

func (sh *homeShard) put(clientID string, e homeEntry) {
	if sh.entries == nil {
		sh.entries = map[string]homeEntry{}
	}
	sh.entries[clientID] = e
}

// adopt has this node publish a will when it is due.
func (r *Registry) adopt(sh *homeShard, clientID string, w *homeWill) {
	if w.at == 0 {
		w.at = r.now().UnixNano() + int64(w.w.Delay)*int64(time.Second)
	}
	if sh.wills == nil {
		sh.wills = map[string]*homeWill{}
	}
	sh.wills[clientID] = w
	if due := sh.due.Load(); due == 0 || w.at < due {
		sh.due.Store(max(w.at, 1))
	}
}

// turn goes over to the marks of another epoch.
func (r *Registry) turn(m raftstore.Marks) {
	r.turning.Lock()
	defer r.turning.Unlock()
	old, v := r.view.Load(), newHomeView(m)
	if old == nil {
		old = newHomeView(raftstore.Marks{})
	} else if v.epoch == old.epoch && maps.Equal(v.up, old.up) {
		return
	}
	r.view.Store(v)
	if v.epoch == 0 || v.epoch <= old.epoch { // the node has left a cluster: nothing of it holds
		r.forgetAll()
	}
	if v.epoch == 0 {
		return
	}
	left := map[string]bool{}
	for node := range old.up {
		_, up := v.up[node]
		left[node] = !up && !r.o.Member(node)
	}
	var move []HomeReport // what the new owners have to know
	for n := range r.shards {
		sh := &r.shards[n]
		sh.mu.Lock()
		move = r.turnShard(old, v, n, sh, left, move)
		sh.turned = v.epoch
		sh.mu.Unlock()
	}
	r.mu.Lock()
	for _, b := range r.boxes {
		move = append(move, b.take(v)...)
	}
	r.mu.Unlock()
	for _, p := range move {
		r.tell(p)
	}
	for node := range v.up {
		r.startPull(node)
	}
	if old.epoch > 0 {
		r.log.Info("clients have other owners", "epoch", v.epoch, "up", len(v.up))
	}
}

// forgetAll forgets everything.
func (r *Registry) forgetAll() {
	for n := range r.shards {
		sh := &r.shards[n]
		sh.mu.Lock()
		sh.entries, sh.claims, sh.wills, sh.waits, sh.fresh = nil, nil, nil, nil, false
		sh.due.Store(0)
		sh.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.boxes {
		b.clear()
	}
}

// turnShard makes a shard ready for a view. It appends what has to go to the owner. The nodes that are left are no members any more.
func (r *Registry) turnShard(old, v *homeView, n int, sh *homeShard, left map[string]bool, move []HomeReport) []HomeReport {
	self := r.o.Self
	// A node that was down, or has missed marks, does not know what became of its shards meanwhile.
	on := v.epoch == old.epoch+1 && v.up[self] == old.up[self]
	owns, owned := v.owner(n) == self, on && old.owner(n) == self
	keeps := v.top[n][1] == self
	keptOf := v.owner(n) // whose clients it keeps then
	now := r.now()
	for id, c := range sh.claims {
		if !owns || v.up[c.node] != old.up[c.node] {
			delete(sh.claims, id)
		}
	}
	for id, e := range sh.entries {
		home := e.home.Value()
		up := v.isUp(e.home)
		if left[home.node] { // it goes on with its clients elsewhere, wills included
			delete(sh.entries, id)
			continue
		}
		if !up && e.will != nil {
			w := e.will
			e.will = nil
			sh.entries[id] = e
			r.adopt(sh, id, w)
		}
		switch {
		case up && !on:
			delete(sh.entries, id) // it is asked for again
		case owns || keeps && home.node == keptOf:
		case up:
			delete(sh.entries, id)
		default:
			p := HomeReport{Kind: Lost, ClientID: id, Fence: e.fence, Home: home.node, Since: home.since, Boot: home.boot}
			// With its will, in one report: the owner could not tell a will that follows from one that it has published.
			if w := sh.wills[id]; w != nil && w.home == e.home && w.at > r.now().UnixNano() {
				p.Presence = engine.Presence{Will: &w.w, WillAt: w.at}
				delete(sh.wills, id)
			}
			move = append(move, p)
			delete(sh.entries, id)
		}
	}
	if !owns {
		for id, w := range sh.wills {
			if w.at > r.now().UnixNano() {
				l := w.home.Value()
				move = append(move, HomeReport{Kind: Lost, ClientID: id, Fence: w.fence, Presence: engine.Presence{Will: &w.w, WillAt: w.at}, Home: l.node, Since: l.since, Boot: l.boot})
				delete(sh.wills, id)
			}
		}
	}
	// Whom to ask.
	switch {
	case owns && !owned:
		sh.fresh, sh.until, sh.waits = true, now.Add(shardWait), map[string]bool{}
		for node := range v.up {
			sh.waits[node] = true
		}
	case owns, keeps:
		again := keeps && (!on || old.top[n][1] != self || old.owner(n) != keptOf)
		for node := range sh.waits {
			if _, up := v.up[node]; !up || keeps && node != keptOf {
				delete(sh.waits, node)
			}
		}
		for node, l := range v.up {
			if (owns || node == keptOf) && (again || old.up[node] != l) {
				if sh.waits == nil {
					sh.waits = map[string]bool{}
				}
				sh.waits[node], sh.until = true, now.Add(shardWait)
			}
		}
		sh.fresh = sh.fresh && owns && len(sh.waits) > 0
	default:
		sh.waits, sh.fresh = nil, false
	}
	return move
}

// runWills publishes wills when they are due, and forgets clients of nodes that are no members any more.
func (r *Registry) runWills() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	checked := r.now()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		r.publishDue()
		if now := r.now(); now.Sub(checked) > memberCheck {
			checked = now
			r.forgetLeft()
		}
	}
}

// willPatience is how long a will waits for a claim of its client to be settled.
const willPatience = 500 * time.Millisecond

func (r *Registry) publishDue() {
	count := 0
	for n := range r.shards {
		sh := &r.shards[n]
		now := r.now().UnixNano()
		if due := sh.due.Load(); due == 0 || due > now {
			continue
		}
		ready := map[string]*homeWill{}
		next := int64(0)
		sh.mu.Lock()
		for id, w := range sh.wills {
			if w.at <= now && sh.claims[id] != nil {
				w.at = now + int64(willPatience)
			}
			if w.at <= now {
				ready[id] = w
				delete(sh.wills, id)
			} else if next == 0 || w.at < next {
				next = w.at
			}
		}
		sh.due.Store(next)
		sh.mu.Unlock()
		for id, w := range ready {
			r.o.Sessions.PublishWill(id, w.w)
			r.stats.published.Add(1)
			count++
		}
	}
	if count > 0 {
		r.log.Info("wills of clients of nodes that are down published", "wills", count)
	}
}

// forgetLeft drops the clients of nodes that have left the cluster for good.
func (r *Registry) forgetLeft() {
	v := r.view.Load()
	left := map[string]bool{}
	for n := range r.shards {
		sh := &r.shards[n]
		sh.mu.Lock()
		for id, e := range sh.entries {
			if v.isUp(e.home) {
				continue
			}
			node := e.home.Value().node
			gone, asked := left[node]
			if !asked {
				gone = !r.o.Member(node)
				left[node] = gone
			}
			if gone {
				delete(sh.entries, id)
			}
		}
		sh.mu.Unlock()
	}
}
