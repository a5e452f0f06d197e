package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// homeBox is what is on its way to one node: claims in calls one after the other, each with what has come meanwhile, and reports until
// they are taken.
type homeBox struct {
	r    *Registry
	node string

	mu      sync.Mutex
	reports map[reportKey]HomeReport // guarded by mu: the last one for a client
	again   bool                     // guarded by mu: reports were lost
	epoch   uint64                   // guarded by mu: that it was last looked through for
	claims  []*claimWait             // guarded by mu

	report, ask chan struct{} // wake the two senders
}

// reportKey tells apart what does not supersede each other.
type reportKey struct {
	clientID string
	about    byte
}

func keyOf(p HomeReport) reportKey {
	switch p.Kind {
	case Left:
		return reportKey{p.ClientID, 'l'}
	case Lost:
		return reportKey{p.ClientID, 'o'}
	case Discard:
		return reportKey{p.ClientID, 'd'}
	case Publish, Drop:
		return reportKey{p.ClientID, 'w'}
	}
	return reportKey{p.ClientID, 'h'}
}

// claimWait is a claim that waits for its answer.
type claimWait struct {
	c     HomeClaim
	ctx   context.Context
	done  chan struct{}
	grant HomeGrant
	err   error
	over  bool // guarded by homeBox.mu: it was answered
	left  bool // guarded by homeBox.mu: nobody waits for it any more
}

// box gives the box of a node.
func (r *Registry) box(node string) *homeBox {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.boxes[node]
	if b == nil {
		b = &homeBox{r: r, node: node, reports: map[reportKey]HomeReport{}, report: make(chan struct{}, 1), ask: make(chan struct{}, 1)}
		b.epoch = r.view.Load().epoch
		r.boxes[node] = b
		if r.ctx.Err() == nil {
			r.background.Go(b.sendReports)
			r.background.Go(b.sendClaims)
		}
	}
	return b
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake
	}
}

// put adds a report. What a later claim has brought stays. It reports false when the node was chosen by marks of an epoch that is over: a
// report that stayed here could go out again after later ones.
func (b *homeBox) put(p HomeReport, epoch uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if epoch < b.epoch {
		return false
	}
	k := keyOf(p)
	if was, there := b.reports[k]; there && (p.Fence.Before(was.Fence) || p.Fence == was.Fence && was.Kind == Gone) {
		return true // what has ended does not begin again with the same fence
	} else if !there && len(b.reports) >= maxOutbox {
		b.r.stats.overflows.Add(1)
		b.r.log.Warn("too many reports wait for a node: it asks for everything instead", "id", b.node, "reports", len(b.reports))
		clear(b.reports)
		b.again = true
	}
	b.reports[k] = p
	wake(b.report)
	return true
}

// take takes out what may have to go elsewhere under a view, and drops what a node that is down would be told.
func (b *homeBox) take(v *homeView) (out []HomeReport) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch = v.epoch
	_, up := v.up[b.node]
	for k, p := range b.reports {
		switch p.Kind {
		case Have, Gone, Left, Lost:
			out = append(out, p)
		default:
			if up {
				continue
			}
		}
		delete(b.reports, k)
	}
	b.again = b.again && up
	return out
}

// clear forgets all reports.
func (b *homeBox) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.reports)
	b.again, b.epoch = false, 0
}

func (b *homeBox) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.reports)
}

// part is what goes with the next call.
func (b *homeBox) part() (some map[reportKey]HomeReport, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	some = make(map[reportKey]HomeReport, min(len(b.reports), reportsPerCall))
	bytes := 0
	for k, p := range b.reports {
		if len(some) == reportsPerCall || bytes > bytesPerCall {
			break
		}
		some[k] = p
		bytes += willSize(p.Presence.Will)
	}
	return some, b.again
}

// taken forgets reports, except those that a later one has superseded.
func (b *homeBox) taken(some map[reportKey]HomeReport, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, p := range some {
		if b.reports[k] == p {
			delete(b.reports, k)
		}
	}
	b.again = b.again && !again
	if len(b.reports) == 0 && !b.again {
		b.reports = map[reportKey]HomeReport{} // one that was large stays so
		return
	}
	wake(b.report)
}

func (b *homeBox) sendReports() {
	r := b.r
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-b.report:
		}
		some, again := b.part()
		if len(some) == 0 && !again {
			continue
		}
		list := make([]HomeReport, 0, len(some))
		for _, p := range some {
			list = append(list, p)
		}
		if b.node == r.o.Self {
			for _, p := range list {
				r.obey(p)
			}
			b.taken(some, again)
			continue
		}
		v := r.view.Load()
		err := errNotUp
		if _, up := v.up[b.node]; up {
			ctx, cancel := context.WithTimeout(r.ctx, homeCallWait)
			err = r.o.Calls.Report(ctx, b.node, v.epoch, again, list)
			cancel()
		}
		if err == nil {
			r.stats.ok.Add(int64(len(list)))
			b.taken(some, again)
			continue
		}
		r.stats.failedCalls.Add(1)
		r.log.Debug("reports are not taken", "id", b.node, "err", err)
		select {
		case <-r.ctx.Done():
			return
		case <-time.After(homePause):
		}
		wake(b.report)
	}
}

// claim has the node asked for a client.
func (b *homeBox) claim(ctx context.Context, c HomeClaim) (HomeGrant, error) {
	w := &claimWait{c: c, ctx: ctx, done: make(chan struct{})}
	b.mu.Lock()
	b.claims = append(b.claims, w)
	b.mu.Unlock()
	wake(b.ask)
	select {
	case <-w.done:
		return w.grant, w.err
	case <-ctx.Done():
	case <-b.r.ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.over {
		return w.grant, w.err
	}
	w.left = true
	return HomeGrant{}, errors.Join(ctx.Err(), b.r.ctx.Err())
}

func (b *homeBox) sendClaims() {
	r := b.r
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-b.ask:
		}
		b.mu.Lock()
		some := b.claims[:min(len(b.claims), claimsPerCall)]
		if b.claims = b.claims[len(some):]; len(b.claims) > 0 {
			wake(b.ask)
		} else {
			b.claims = nil
		}
		b.mu.Unlock()
		live := make([]*claimWait, 0, len(some))
		claims := make([]HomeClaim, 0, len(some))
		for _, w := range some {
			if w.ctx.Err() == nil {
				live, claims = append(live, w), append(claims, w.c)
			}
		}
		if len(live) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, homeCallWait)
		grants, err := r.o.Calls.Claim(ctx, b.node, r.view.Load().epoch, claims)
		cancel()
		if err == nil && len(grants) != len(claims) {
			err = fmt.Errorf("%d answers to %d claims", len(grants), len(claims))
		}
		if err != nil {
			r.stats.failedCalls.Add(1)
		}
		for i, w := range live {
			b.mu.Lock()
			if w.err = err; err == nil {
				w.grant = grants[i]
			}
			w.over = true
			lost := w.left && w.grant.State == Granted
			close(w.done)
			b.mu.Unlock()
			if lost {
				r.tell(HomeReport{Kind: Left, ClientID: w.c.ClientID, Fence: w.grant.Fence})
			}
		}
	}
}
