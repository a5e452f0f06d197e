// Package admin holds every management operation once, in domain terms: the
// union of what the REST APIs v2 and v3 can do. The adapters of the versions
// translate requests and results and decide nothing; this package never asks
// which version called, except where the documents name different keys.
//
// [Service] works on the whole cluster. It asks each [Node] for what that node
// owns (connections, sessions, routes, figures) and the replicated store for
// what all nodes share (users, applications, bans, configuration). The node
// that it runs on is [Local]; package impl/peer has the others.
package admin

import (
	"context"
	"log/slog"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Options are the parts of a [Service]. All but Peers, Logger and Now are needed.
type Options struct {
	Local Node
	// Peers returns the other nodes of the cluster by name, those that are down too;
	// nil for none.
	Peers func() []Node
	Store *raftstore.Store
	// Config returns the configuration in effect on this node.
	Config func() *config.Config
	Logger *slog.Logger
	Now    func() time.Time
}

// Service is the management of a cluster, asked at one of its nodes. Its
// methods may be called from any goroutine.
type Service struct {
	local  Node
	peers  func() []Node
	store  *raftstore.Store
	config func() *config.Config
	log    *slog.Logger
	now    func() time.Time
	logins *logins
}

// New makes a Service.
func New(o Options) *Service {
	s := &Service{local: o.Local, peers: o.Peers, store: o.Store, config: o.Config, log: o.Logger, now: o.Now}
	if s.peers == nil {
		s.peers = func() []Node { return nil }
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.logins = newLogins()
	return s
}

// NodeName returns the name of the node that answers.
func (s *Service) NodeName() string { return s.local.Name() }

// nodes returns all nodes in the order of their names: the order of every list
// that shows more than one.
func (s *Service) nodes() []Node {
	peers := s.peers()
	all := make([]Node, 0, len(peers)+1)
	placed := false
	for _, p := range peers {
		if !placed && s.local.Name() < p.Name() {
			all, placed = append(all, s.local), true
		}
		all = append(all, p)
	}
	if !placed {
		all = append(all, s.local)
	}
	return all
}

// node finds a node by name; "" is the one that answers.
func (s *Service) node(name string) (Node, error) {
	if name == "" || name == s.local.Name() {
		return s.local, nil
	}
	for _, p := range s.peers() {
		if p.Name() == name {
			return p, nil
		}
	}
	return nil, failOn(UnknownNode, name, "unknown node")
}

// askAll asks the node of that name for a list, or all for "" and joins their
// lists.
func askAll[T any](ctx context.Context, s *Service, node string, ask func(context.Context, Node) ([]T, error)) ([]T, error) {
	if node != "" {
		return askOne(ctx, s, node, ask)
	}
	of, err := gather(ctx, s, s.nodes(), answerWait, ask)
	var all []T
	for _, o := range of {
		all = append(all, o.Value...)
	}
	return all, err
}

// askOne asks the node of that name, "" for the one that answers. UnknownNode,
// NodeDown.
func askOne[T any](ctx context.Context, s *Service, node string, ask func(context.Context, Node) (T, error)) (T, error) {
	n, err := s.node(node)
	if err != nil {
		var none T
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, nodeWait)
	defer cancel()
	return ask(ctx, n)
}

// list asks the node of that name for one page of its list, or all for "" for one
// page of their joined list.
func list[T any](ctx context.Context, s *Service, node string, w Window, ask lister[T]) (Page[T], error) {
	if node == "" {
		return paged(ctx, s, w, ask)
	}
	offset, limit, err := w.span(s.maxRows())
	if err != nil {
		return Page[T]{}, err
	}
	return askOne(ctx, s, node, func(ctx context.Context, n Node) (Page[T], error) {
		rows, total, err := ask(ctx, n, offset, limit)
		return Page[T]{Rows: rows, Total: total, Pages: pages(total, limit)}, err
	})
}

func (s *Service) maxRows() int { return s.config().Int("management.max_row_limit") }

// Of is what a node said, where an answer names the node.
type Of[T any] struct {
	Node  string
	Value T
}

// each asks every node and keeps the names.
func each[T any](ctx context.Context, s *Service, ask func(context.Context, Node) (T, error)) ([]Of[T], error) {
	of, err := gather(ctx, s, s.nodes(), answerWait, ask)
	return convert(of, func(o answered[T]) Of[T] { return Of[T]{o.node.Name(), o.Value} }), err
}

// RaftInfo is where this node stands in the replicated metadata.
type RaftInfo struct {
	Leads     bool
	HasLeader bool
}

// Storage returns the figures of this node's store of sessions and messages.
func (s *Service) Storage(ctx context.Context) (Storage, error) { return s.local.Storage(ctx) }

// Raft returns where this node stands in the replicated metadata.
func (s *Service) Raft() RaftInfo {
	return RaftInfo{Leads: s.store.Leads(), HasLeader: s.store.HasLeader()}
}

// MaxRows is how many rows one page holds at most.
func (s *Service) MaxRows() int { return s.maxRows() }
