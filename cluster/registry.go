package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// What becomes of clients that connect to a node without a majority.
const (
	RefusePersistent = "refuse_persistent" // those that ask for a session that stays
	RefuseAll        = "refuse_all"
	AllowAll         = "allow"
)

const (
	claimLapse     = 15 * time.Second // an unsettled claim is over
	shardWait      = 2 * time.Second  // for what other nodes know of a shard that is new here
	homeCallWait   = 2 * time.Second  // for the answer to one call
	claimsPerCall  = 256
	reportsPerCall = 1024
	rowsPerPage    = 2000
	scanPerPage    = 100_000 // sessions that are looked at for a page
	bytesPerCall   = 4 << 20 // of wills in one call
	maxKeptWill    = 4 << 20 // a larger will dies with its node
	maxOutbox      = 1 << 20 // reports that wait for one node
	memberCheck    = 30 * time.Second
)

// Sessions is what the registry asks of the engine of its node.
type Sessions interface {
	// ClaimsFrom calls yield for every session from a client id on, in order, until that says false. held: it had a will before a restart and
	// waits for ReleaseWill.
	ClaimsFrom(from string, yield func(clientID string, f engine.Fence, p engine.Presence, held bool) bool)
	Discard(clientID string, f engine.Fence) bool
	PublishWill(clientID string, w engine.StoredWill)
	// ReleaseWill publishes the held will of a session when it is due, or forgets it.
	ReleaseWill(clientID string, f engine.Fence, publish bool)
}

// HomeCalls reaches the registries of other nodes, known by their identities. The Serve methods of [Registry] are the other end.
type HomeCalls interface {
	Claim(ctx context.Context, node string, epoch uint64, claims []HomeClaim) ([]HomeGrant, error)
	Report(ctx context.Context, node string, epoch uint64, again bool, reports []HomeReport) error
	Pull(ctx context.Context, node string, epoch uint64, shards ShardSet, from string) (HomePage, error)
	BeginMove(ctx context.Context, node string, r engine.MoveRequest) (engine.MoveState, error)
	CommitMove(ctx context.Context, node string, r engine.MoveCommit) (engine.MoveResult, error)
}

// HomeClaim asks for a client identifier. Who repeats a claim repeats its token.
type HomeClaim struct{ ClientID, Token string }

// HomeGrant is what a claim came to.
type HomeGrant struct {
	State  GrantState
	Fence  engine.Fence
	Holder string // see engine.Claim
	Held   engine.Fence
	Lost   bool
}

// GrantState says whether a claim was granted.
type GrantState string

// The states of a claim.
const (
	Granted GrantState = "granted"
	Busy    GrantState = "busy"    // another claim is not settled, or the shard is not ready
	Refused GrantState = "refused" // this node is not the owner
)

// HomeReport tells another node what has become of a client.
type HomeReport struct {
	Kind     ReportKind
	ClientID string
	Fence    engine.Fence
	Presence engine.Presence // of Have and Lost
	Home     string          // of Lost
	Since    uint64          // of Lost
	Boot     string          // of Lost
}

// ReportKind is what a report says.
type ReportKind string

// The kinds of reports: to owner and keeper, and below from them.
const (
	Have ReportKind = "have" // the client is here
	Gone ReportKind = "gone" // its session has ended
	Left ReportKind = "left" // the claim came to nothing
	Lost ReportKind = "lost" // a client of a node that is down, from who has kept it so far

	Discard ReportKind = "discard" // the session is elsewhere since
	Publish ReportKind = "publish" // the will that it had before a restart is to be published
	Drop    ReportKind = "drop"    // that will is not
)

// HomePage is a part of the clients of a node.
type HomePage struct {
	Rows []HomeRow
	Next string // where the next page begins; "" at the end
}

// HomeRow is a client of a node.
type HomeRow struct {
	ClientID string
	Fence    engine.Fence
	Presence engine.Presence
	Held     bool // see Sessions.ClaimsFrom
}

// RegistryOptions say what a registry stands on. All but Logger and Now are needed.
type RegistryOptions struct {
	Self, Boot string // identity of the node and name of its process
	Sessions   Sessions
	Calls      HomeCalls
	Marks      func() raftstore.Marks
	Changed    func() <-chan struct{} // closed at the next change of Marks; taken before Marks is called
	Leased     func(epoch uint64) bool
	Alone      func() bool
	Member     func(node string) bool // whether it is in the cluster
	Minority   string                 // RefusePersistent, RefuseAll or AllowAll
	Logger     *slog.Logger
	Now        func() time.Time
}

// Registry is a node's part in the registry of clients: see DESIGN.md. It implements [engine.Homes]. Its methods may be called from any
// goroutine.
type Registry struct {
	o      RegistryOptions
	log    *slog.Logger
	now    func() time.Time
	view   atomic.Pointer[homeView]
	shards [shardCount]homeShard
	fences atomic.Uint64 // the last count given
	tokens atomic.Uint64
	stats  homeCounters

	turning sync.Mutex // held while the view changes
	mu      sync.Mutex
	boxes   map[string]*homeBox // guarded by mu: by node
	pulls   map[string]*homePull

	background sync.WaitGroup
	ctx        context.Context
	stop       context.CancelFunc
}

var _ engine.Homes = (*Registry)(nil)

// NewRegistry makes the registry of a node. It works until Close.
func NewRegistry(o RegistryOptions) *Registry {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Registry{o: o, log: o.Logger, now: o.Now, boxes: map[string]*homeBox{}, pulls: map[string]*homePull{}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	changed := o.Changed()
	r.turn(o.Marks())
	r.background.Go(func() { r.follow(changed) })
	r.background.Go(r.runWills)
	return r
}

// Close ends what goes on in the background.
func (r *Registry) Close() {
	r.mu.Lock()
	r.stop()
	r.mu.Unlock()
	r.background.Wait()
}

// Flush waits until the other nodes know what they were told, or ctx ends.
func (r *Registry) Flush(ctx context.Context) {
	for r.Stats().Outbox > 0 {
		select {
		case <-ctx.Done():
			return
		case <-r.ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// follow keeps the view up with the marks.
func (r *Registry) follow(changed <-chan struct{}) {
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-changed:
		}
		changed = r.o.Changed()
		r.turn(r.o.Marks())
	}
}

var (
	errMinority = errors.New("this node has no majority")
	errNotUp    = errors.New("this node is not marked up yet")
	errBusy     = errors.New("another connection of the client is being made, or its shard is not ready")
	errNotOwner = errors.New("another node is the owner")
	errNoLease  = errors.New("the owner is not sure of its part")
)

// Self implements [engine.Homes].
func (r *Registry) Self() string { return r.o.Self }

// Claim implements [engine.Homes].
func (r *Registry) Claim(ctx context.Context, clientID string, durable bool) (engine.Claim, error) {
	token := r.o.Boot + "." + strconv.FormatUint(r.tokens.Add(1), 36)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		v := r.view.Load()
		if v.epoch == 0 {
			return engine.Claim{}, nil
		}
		if !r.o.Leased(v.epoch) && r.o.Alone() {
			return r.claimAlone(durable)
		}
		err := errNotUp
		if v.up[r.o.Self].Boot == r.o.Boot {
			var g HomeGrant
			g, err = r.ask(ctx, v, HomeClaim{clientID, token})
			switch {
			case err != nil:
			case g.State == Granted:
				r.stats.claims.Add(1)
				return engine.Claim{Fence: g.Fence, Holder: g.Holder, Held: g.Held, Lost: g.Lost}, nil
			case g.State == Busy:
				err = errBusy
			default:
				err = errNotOwner
			}
		}
		select {
		case <-ctx.Done():
			r.stats.refused.Add(1)
			return engine.Claim{}, fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-r.ctx.Done():
			return engine.Claim{}, r.ctx.Err()
		case <-time.After(pause):
		}
	}
}

// claimAlone is the answer of a node that has no majority.
func (r *Registry) claimAlone(durable bool) (engine.Claim, error) {
	if r.o.Minority == RefuseAll || durable && r.o.Minority != AllowAll {
		r.stats.refused.Add(1)
		return engine.Claim{}, errMinority
	}
	r.stats.alone.Add(1)
	return engine.Claim{}, nil
}

// ask asks the owner for a client.
func (r *Registry) ask(ctx context.Context, v *homeView, c HomeClaim) (HomeGrant, error) {
	owner := v.owner(shardOf(c.ClientID))
	if owner == r.o.Self {
		if !r.o.Leased(v.epoch) {
			return HomeGrant{}, errNoLease
		}
		return r.grant(v, owner, c), nil
	}
	return r.box(owner).claim(ctx, c)
}

// Settle implements [engine.Homes].
func (r *Registry) Settle(clientID string, f engine.Fence, taken bool, p engine.Presence) {
	if taken {
		r.tell(HomeReport{Kind: Have, ClientID: clientID, Fence: f, Presence: r.kept(clientID, p)})
		return
	}
	r.tell(HomeReport{Kind: Left, ClientID: clientID, Fence: f})
}

// Renew implements [engine.Homes].
func (r *Registry) Renew(clientID string, f engine.Fence, p engine.Presence) {
	r.tell(HomeReport{Kind: Have, ClientID: clientID, Fence: f, Presence: r.kept(clientID, p)})
}

// Forget implements [engine.Homes].
func (r *Registry) Forget(clientID string, f engine.Fence) {
	r.tell(HomeReport{Kind: Gone, ClientID: clientID, Fence: f})
}

// kept is what other nodes are told of a presence.
func (r *Registry) kept(clientID string, p engine.Presence) engine.Presence {
	if p.Will != nil && willSize(p.Will) > maxKeptWill {
		r.stats.willsLeft.Add(1)
		r.log.Debug("will is too large to be kept by another node", "clientid", clientID)
		return engine.Presence{}
	}
	return p
}

func willSize(w *engine.StoredWill) int {
	if w == nil {
		return 0
	}
	return len(w.Message.Payload) + len(w.Message.Properties) + len(w.Message.Topic)
}

// BeginMove implements [engine.Homes].
func (r *Registry) BeginMove(ctx context.Context, node string, m engine.MoveRequest) (engine.MoveState, error) {
	return r.o.Calls.BeginMove(ctx, node, m)
}

// CommitMove implements [engine.Homes].
func (r *Registry) CommitMove(ctx context.Context, node string, m engine.MoveCommit) (engine.MoveResult, error) {
	return r.o.Calls.CommitMove(ctx, node, m)
}

// tell brings a report of this node to those that have to know it.
func (r *Registry) tell(p HomeReport) {
	for {
		v := r.view.Load()
		if v.up[r.o.Self].Boot != r.o.Boot {
			return // they ask for everything once it is up
		}
		n := shardOf(p.ClientID)
		to := v.owner(n)
		if to == r.o.Self {
			r.note(r.o.Self, p)
			if to = v.keeper(n, r.o.Self); p.Kind == Left || p.Kind == Lost {
				to = ""
			}
		}
		if (to == "" || r.box(to).put(p, v.epoch)) && r.view.Load() == v {
			return
		} // else it has gone where nobody wants it any more, maybe
	}
}

// order tells a node what to do with a session.
func (r *Registry) order(node string, kind ReportKind, clientID string, f engine.Fence) {
	p := HomeReport{Kind: kind, ClientID: clientID, Fence: f}
	if kind == Discard {
		r.stats.discards.Add(1)
	}
	r.box(node).put(p, math.MaxUint64) // for this node too: a shard may be locked now
}

// obey does what an owner or keeper asks of this node.
func (r *Registry) obey(p HomeReport) {
	switch p.Kind {
	case Discard:
		if r.o.Sessions.Discard(p.ClientID, p.Fence) {
			r.stats.discarded.Add(1)
			r.log.Info("session discarded: the client is at home elsewhere since", "clientid", p.ClientID)
		}
	case Publish, Drop:
		r.o.Sessions.ReleaseWill(p.ClientID, p.Fence, p.Kind == Publish)
	}
}

// ServeReports notes what another node says.
func (r *Registry) ServeReports(from string, epoch uint64, again bool, reports []HomeReport) error {
	v := r.view.Load()
	if err := v.admits(from, epoch); err != nil {
		return err
	}
	if len(reports) > reportsPerCall {
		return fmt.Errorf("%w: more than %d reports", ErrRefused, reportsPerCall)
	}
	for _, p := range reports {
		switch p.Kind {
		case Have, Gone, Left, Lost:
			r.note(from, p)
		case Discard, Publish, Drop:
			r.obey(p)
		}
	}
	if again {
		r.pullAgain(from)
	}
	return nil
}

// homeCounters count since the start.
type homeCounters struct {
	claims, refused, alone, granted, busy      atomic.Int64
	published, discards, discarded, willsLeft  atomic.Int64
	pulled, overflows, lapsed, failedCalls, ok atomic.Int64
}

// HomeStats are the figures of a registry.
type HomeStats struct {
	Epoch     uint64
	Entries   int64 // clients whose place this node knows for others
	Unsettled int64 // claims
	Waiting   int64 // wills of clients of nodes that are down, not due yet
	Outbox    int64 // reports on their way
	Unready   int64 // shards for which other nodes have not told what they know

	Claims, Refused, Alone  int64 // of clients of this node: granted, refused, served without a majority
	Granted, Busy, Lapsed   int64 // as owner
	Published               int64 // wills of clients of other nodes
	Discards, Discarded     int64 // sessions that others were told to give up, and those given up here
	Pulled                  int64 // clients that other nodes were asked for
	Overflows, LargeWills   int64 // outboxes given up for a new pull; wills that are kept by nobody
	FailedCalls, DoneReport int64
}

// Stats returns the figures.
func (r *Registry) Stats() HomeStats {
	c := &r.stats
	s := HomeStats{
		Epoch: r.view.Load().epoch, Claims: c.claims.Load(), Refused: c.refused.Load(), Alone: c.alone.Load(), Granted: c.granted.Load(),
		Busy: c.busy.Load(), Lapsed: c.lapsed.Load(), Published: c.published.Load(), Discards: c.discards.Load(), Discarded: c.discarded.Load(),
		Pulled: c.pulled.Load(), Overflows: c.overflows.Load(), LargeWills: c.willsLeft.Load(), FailedCalls: c.failedCalls.Load(), DoneReport: c.ok.Load(),
	}
	for n := range r.shards {
		sh := &r.shards[n]
		sh.mu.Lock()
		s.Entries += int64(len(sh.entries))
		s.Unsettled += int64(len(sh.claims))
		s.Waiting += int64(len(sh.wills))
		if len(sh.waits) > 0 {
			s.Unready++
		}
		sh.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.boxes {
		s.Outbox += int64(b.waiting())
	}
	return s
}
