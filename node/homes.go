package node

import (
	"context"
	"errors"
	"time"

	"github.com/lacewing-mqtt/lacewing/cluster"
	"github.com/lacewing-mqtt/lacewing/engine"
	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/impl"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

const (
	homesLook  = 200 * time.Millisecond // how often it is looked whether the registry holds
	homesFlush = 2 * time.Second        // for what other nodes have to know of clients when this one stops
)

// startHomes makes the node's part in the registry of clients. It holds from the first connection on, where it held before a restart.
func (n *Node) startHomes() {
	cfg := n.cfg.Load()
	n.engine.SetWaitHome(cfg.Duration("cluster.takeover.wait_home"))
	if n.cluster == nil {
		return
	}
	n.registry = cluster.NewRegistry(cluster.RegistryOptions{
		Self: n.store.NodeID(), Boot: n.cluster.Boot(), Sessions: n.engine, Calls: n.cluster.HomeCalls(),
		Marks:   func() raftstore.Marks { return n.store.View().Marks() },
		Changed: func() <-chan struct{} { return n.store.Watch(raftstore.MarksTable) },
		Leased:  n.cluster.Leased, Alone: n.cluster.Alone, Member: n.isMember,
		Minority: cfg.String("cluster.minority.connect"), Logger: n.log,
	})
	if n.cluster.MarksHold() {
		n.engine.SetHomes(n.registry)
	}
}

// followHomes has the engine ask the registry while there are other members that know it.
func (n *Node) followHomes(ctx context.Context) {
	tick := time.NewTicker(homesLook)
	defer tick.Stop()
	for hold := n.setHomes(ctx, false); ; hold = n.setHomes(ctx, hold) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// setHomes puts the registry into effect, or out of it, and reports which. Without it nobody else publishes wills of clients here.
func (n *Node) setHomes(ctx context.Context, held bool) bool {
	holds := n.cluster.MarksHold()
	switch {
	case holds && !held:
		n.engine.SetHomes(n.registry)
	case !holds && held:
		n.engine.SetHomes(nil)
	}
	if !holds && n.engine.HoldsWills() && n.store.IsMember() && (len(n.store.Members()) == 1 || n.store.Sync(ctx) && !n.cluster.MarksHold()) {
		n.engine.ReleaseWills(true)
	}
	return holds
}

// stopHomes tells the other nodes what they do not know yet of clients here.
func (n *Node) stopHomes(ctx context.Context) {
	if n.registry == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, homesFlush)
	defer cancel()
	n.registry.Flush(ctx)
}

// homesFigures are those of the registry in /metrics.
func (n *Node) homesFigures() []impl.Figure {
	if n.registry == nil {
		return nil
	}
	s := n.registry.Stats()
	arriving, remnants := n.engine.Moves()
	gauge := func(name, help string, v int64) impl.Figure {
		return impl.Figure{Name: "lacewing_registry_" + name, Help: help, Value: float64(v)}
	}
	counter := func(name, help string, v int64) impl.Figure {
		f := gauge(name+"_total", help, v)
		f.Counter = true
		return f
	}
	return []impl.Figure{
		gauge("epoch", "Epoch of the marks that say which nodes are up.", int64(s.Epoch)),
		gauge("entries", "Clients whose node is known here, as owner or keeper.", s.Entries),
		gauge("unsettled", "Claims that are not settled.", s.Unsettled),
		gauge("outbox", "Reports on their way to other nodes.", s.Outbox),
		gauge("unready_shards", "Shards of which other nodes have not told what they know.", s.Unready),
		gauge("wills_waiting", "Wills of clients of nodes that are down, not due yet.", s.Waiting),
		counter("claims", "Clients of this node that were registered.", s.Claims),
		counter("claims_refused", "Clients of this node that could not be registered.", s.Refused),
		counter("claims_alone", "Clients that were served without a majority.", s.Alone),
		counter("grants", "Claims granted as owner.", s.Granted),
		counter("grants_busy", "Claims that had to come again.", s.Busy),
		counter("grants_lapsed", "Claims that were never settled.", s.Lapsed),
		counter("wills_published", "Wills published for clients of nodes that are down.", s.Published),
		counter("wills_too_large", "Wills that no other node keeps.", s.LargeWills),
		counter("discards_sent", "Sessions that other nodes were told to give up.", s.Discards),
		counter("discarded", "Sessions given up because their client is elsewhere.", s.Discarded),
		counter("pulled", "Clients taken over from other nodes after a change of owners.", s.Pulled),
		counter("overflows", "Outboxes given up for a new look at everything.", s.Overflows),
		counter("failed_calls", "Calls to other registries that failed.", s.FailedCalls),
		gauge("sessions_arriving", "Sessions that have moved here while messages still come by way of their old node.", int64(arriving)),
		gauge("sessions_leaving", "Sessions that have moved away while messages for them still come by way of here.", int64(remnants)),
		counter("homes_lost", "Clients that got a new session because their node was down.", n.engine.LostHomes()),
	}
}

var errNoHomes = errors.New("the node does not serve clients yet")

// homes is the registry, once everything listens.
func (c *control) homes() (*cluster.Registry, error) {
	select {
	case <-c.opened:
		return c.registry, nil
	default:
		return nil, errNoHomes
	}
}

func notYet(err error) api.UnavailableJSONResponse {
	return api.UnavailableJSONResponse{Message: err.Error()}
}

// PeerHomesClaim implements peer_homes_claim.
func (c *control) PeerHomesClaim(ctx context.Context, request api.PeerHomesClaimRequestObject) (api.PeerHomesClaimResponseObject, error) {
	from, _ := cluster.PeerOf(ctx)
	r, err := c.homes()
	if err != nil {
		return api.PeerHomesClaim503JSONResponse{UnavailableJSONResponse: notYet(err)}, nil
	}
	out, err := r.AnswerClaims(from.ID, *request.Body)
	if err != nil {
		return api.PeerHomesClaim503JSONResponse{UnavailableJSONResponse: notYet(err)}, nil
	}
	return api.PeerHomesClaim200JSONResponse(out), nil
}

// PeerHomesReport implements peer_homes_report.
func (c *control) PeerHomesReport(ctx context.Context, request api.PeerHomesReportRequestObject) (api.PeerHomesReportResponseObject, error) {
	from, _ := cluster.PeerOf(ctx)
	r, err := c.homes()
	if err == nil {
		err = r.AnswerReports(from.ID, *request.Body)
	}
	if err != nil {
		return api.PeerHomesReport503JSONResponse{UnavailableJSONResponse: notYet(err)}, nil
	}
	return api.PeerHomesReport204Response{}, nil
}

// PeerHomesPull implements peer_homes_pull.
func (c *control) PeerHomesPull(ctx context.Context, request api.PeerHomesPullRequestObject) (api.PeerHomesPullResponseObject, error) {
	from, _ := cluster.PeerOf(ctx)
	r, err := c.homes()
	if err != nil {
		return api.PeerHomesPull503JSONResponse{UnavailableJSONResponse: notYet(err)}, nil
	}
	out, err := r.AnswerPull(from.ID, *request.Body)
	if err != nil {
		return api.PeerHomesPull503JSONResponse{UnavailableJSONResponse: notYet(err)}, nil
	}
	return api.PeerHomesPull200JSONResponse(out), nil
}

// PeerMoveBegin implements peer_move_begin.
func (c *control) PeerMoveBegin(ctx context.Context, request api.PeerMoveBeginRequestObject) (api.PeerMoveBeginResponseObject, error) {
	from, _ := cluster.PeerOf(ctx)
	_, err := c.homes()
	var s engine.MoveState
	if err == nil {
		s, err = c.engine.BeginMove(ctx, cluster.MoveRequestIn(from.ID, *request.Body))
	}
	if err != nil {
		return api.PeerMoveBegin503JSONResponse{UnavailableJSONResponse: notYet(err)}, nil
	}
	return api.PeerMoveBegin200JSONResponse(cluster.MoveStateOut(s)), nil
}

// PeerMoveCommit implements peer_move_commit.
func (c *control) PeerMoveCommit(ctx context.Context, request api.PeerMoveCommitRequestObject) (api.PeerMoveCommitResponseObject, error) {
	from, _ := cluster.PeerOf(ctx)
	_, err := c.homes()
	var s engine.MoveResult
	if err == nil {
		s, err = c.engine.CommitMove(ctx, cluster.MoveCommitIn(from.ID, *request.Body))
	}
	if err != nil {
		return api.PeerMoveCommit503JSONResponse{UnavailableJSONResponse: notYet(err)}, nil
	}
	return api.PeerMoveCommit200JSONResponse(cluster.MoveResultOut(s)), nil
}
