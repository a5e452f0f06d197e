package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

const homePause = 50 * time.Millisecond // before a call to another registry is tried again

// homePull asks one node for its clients, as long as shards wait for that.
type homePull struct{ more bool }

// startPull sees to it that a node is asked for the shards that wait for it.
func (r *Registry) startPull(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	if p := r.pulls[node]; p != nil {
		p.more = true
		return
	}
	p := &homePull{}
	r.pulls[node] = p
	r.background.Go(func() { r.pull(node, p) })
}

// pullAgain asks a node for all of its clients once more.
func (r *Registry) pullAgain(node string) {
	v := r.view.Load()
	for n := range r.shards {
		if v.owner(n) != r.o.Self && v.keeper(n, node) != r.o.Self {
			continue
		}
		sh := &r.shards[n]
		sh.mu.Lock()
		if sh.waits == nil {
			sh.waits = map[string]bool{}
		}
		sh.waits[node] = true
		sh.mu.Unlock()
	}
	r.startPull(node)
}

func (r *Registry) pull(node string, p *homePull) {
	for {
		v := r.view.Load()
		_, up := v.up[node]
		want, any := r.wanted(node)
		if !up || !any {
			r.mu.Lock()
			done := !p.more || r.ctx.Err() != nil
			if done {
				delete(r.pulls, node)
			}
			p.more = false
			r.mu.Unlock()
			if done {
				return
			}
			continue
		}
		err := r.pullPages(v, node, want)
		if err == nil {
			r.pulledAll(v, node, want)
			continue
		}
		r.log.Debug("clients of a node are not known yet", "id", node, "err", err)
		select {
		case <-r.ctx.Done():
		case <-time.After(homePause):
		}
		if r.ctx.Err() != nil {
			r.mu.Lock()
			delete(r.pulls, node)
			r.mu.Unlock()
			return
		}
	}
}

// wanted are the shards that wait for a node.
func (r *Registry) wanted(node string) (want ShardSet, any bool) {
	for n := range r.shards {
		sh := &r.shards[n]
		sh.mu.Lock()
		if sh.waits[node] {
			want.add(n)
			any = true
		}
		sh.mu.Unlock()
	}
	return want, any
}

// pullPages takes over what a node has of some shards.
func (r *Registry) pullPages(v *homeView, node string, want ShardSet) error {
	for from := ""; ; {
		r.touch(node, &want, true)
		page, err := r.page(v, node, want, from)
		if err == nil && r.view.Load() != v {
			err = fmt.Errorf("%w: other marks hold by now", ErrUnavailable)
		}
		if err == nil {
			for _, row := range page.Rows {
				r.merge(v, node, row)
			}
			r.stats.pulled.Add(int64(len(page.Rows)))
		}
		r.touch(node, &want, false)
		if err != nil {
			return err
		}
		if from = page.Next; from == "" {
			return nil
		}
	}
}

func (r *Registry) page(v *homeView, node string, want ShardSet, from string) (HomePage, error) {
	if node == r.o.Self {
		return r.ServePull(node, v.epoch, want, from)
	}
	ctx, cancel := context.WithTimeout(r.ctx, 5*homeCallWait)
	defer cancel()
	return r.o.Calls.Pull(ctx, node, v.epoch, want, from)
}

// touch begins or ends to note who is reported by a node while a page is on its way: that is newer than the page.
func (r *Registry) touch(node string, want *ShardSet, begin bool) {
	for n := range r.shards {
		if !want.has(n) {
			continue
		}
		sh := &r.shards[n]
		sh.mu.Lock()
		if begin {
			if sh.touched == nil {
				sh.touched = map[string]map[string]bool{}
			}
			sh.touched[node] = map[string]bool{}
		} else if delete(sh.touched, node); len(sh.touched) == 0 {
			sh.touched = nil
		}
		sh.mu.Unlock()
	}
}

// pulledAll notes that everything is known that a node had. What it had in a life before and has no more is gone.
func (r *Registry) pulledAll(v *homeView, node string, want ShardSet) {
	life := v.lives[node]
	for n := range r.shards {
		if !want.has(n) {
			continue
		}
		sh := &r.shards[n]
		sh.mu.Lock()
		if r.view.Load() == v && sh.turned == v.epoch {
			for id, e := range sh.entries {
				if e.home != life && e.home.Value().node == node {
					delete(sh.entries, id)
				}
			}
			if delete(sh.waits, node); len(sh.waits) == 0 {
				sh.waits, sh.fresh = nil, false
			}
		}
		sh.mu.Unlock()
	}
}

// merge takes over a client of a node. Of two nodes that have it, the one of the lesser fence is told to give it up.
func (r *Registry) merge(v *homeView, node string, row HomeRow) {
	n := shardOf(row.ClientID)
	sh := &r.shards[n]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	decides := v.keeper(n, node) == r.o.Self
	if !decides && v.owner(n) != r.o.Self || r.view.Load() != v || sh.touched[node][row.ClientID] {
		return
	}
	life := v.lives[node]
	e, known := sh.entries[row.ClientID]
	if row.Held && (decides || v.keeper(n, node) == "") {
		// Who knew the client in a life of its node that is over has taken its will over.
		switch same := known && e.fence == row.Fence && e.home.Value().node == node; {
		case !same:
			r.order(node, Publish, row.ClientID, row.Fence)
		case e.home != life:
			r.order(node, Drop, row.ClientID, row.Fence)
		}
	}
	if w := sh.wills[row.ClientID]; w != nil && (w.fence.Before(row.Fence) || w.fence == row.Fence && w.home.Value().boot == life.Value().boot) {
		delete(sh.wills, row.ClientID) // its client is there, or its node was only away
	}
	mine := homeEntry{row.Fence, life, newHomeWill(row.Presence, row.Fence, life)}
	switch {
	case !known:
		sh.put(row.ClientID, mine)
	case e.home.Value().node == node:
		if !row.Fence.Before(e.fence) {
			sh.put(row.ClientID, mine)
		}
	case e.fence.Before(row.Fence):
		if _, up := v.up[e.home.Value().node]; up {
			r.order(e.home.Value().node, Discard, row.ClientID, row.Fence)
		}
		sh.put(row.ClientID, mine)
	default:
		f := e.fence
		if f == row.Fence { // both were served without a claim
			f = engine.Fence{Epoch: f.Epoch, Count: f.Count + 1}
		}
		r.order(node, Discard, row.ClientID, f)
	}
}

// ServePull gives a page of the clients of this node.
func (r *Registry) ServePull(from string, epoch uint64, want ShardSet, begin string) (HomePage, error) {
	v := r.view.Load()
	if err := v.admits(from, epoch); err != nil {
		return HomePage{}, err
	}
	if l := v.up[r.o.Self]; l.Boot != r.o.Boot {
		return HomePage{}, fmt.Errorf("%w: %w", ErrUnavailable, errNotUp)
	}
	var p HomePage
	seen, bytes := 0, 0
	r.o.Sessions.ClaimsFrom(begin, func(id string, f engine.Fence, presence engine.Presence, held bool) bool {
		if seen++; seen > scanPerPage || len(p.Rows) >= rowsPerPage || bytes > bytesPerCall {
			p.Next = id
			return false
		}
		if want.has(shardOf(id)) {
			presence = r.kept(id, presence)
			bytes += len(id) + willSize(presence.Will)
			p.Rows = append(p.Rows, HomeRow{id, f, presence, held})
		}
		return true
	})
	return p, nil
}
