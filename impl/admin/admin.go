// Package admin holds every management operation once, in domain terms: the
// union of what the REST APIs v2 and v3 can do. The adapters of the versions
// translate requests and results and decide nothing; this package never asks
// which version called, except where the documents name different keys.
//
// [Service] works on the whole cluster. It asks each [Node] for what that node
// owns (connections, sessions, routes, figures) and the replicated store for
// what all nodes share (users, applications, bans, configuration). The node
// that it runs on is [Local].
package admin

import (
	"context"
	"log/slog"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Options are the parts of a [Service]. All but Peers, Members, Logger and Now are
// needed.
type Options struct {
	Local Node
	// Peers returns the other nodes of the cluster that can be asked everything, by
	// name; nil for none.
	Peers func() []Node
	// Members returns all other nodes of the cluster, by name; nil for Peers.
	Members func() []Member
	Store   *raftstore.Store
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
	others func() []Member
	store  *raftstore.Store
	config func() *config.Config
	log    *slog.Logger
	now    func() time.Time
	logins *logins
}

// New makes a Service.
func New(o Options) *Service {
	s := &Service{local: o.Local, peers: o.Peers, others: o.Members, store: o.Store, config: o.Config, log: o.Logger, now: o.Now}
	if s.peers == nil {
		s.peers = func() []Node { return nil }
	}
	if s.others == nil {
		s.others = func() []Member { return convert(s.peers(), func(n Node) Member { return n }) }
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

// scope is one node, or all of them for the name "".
func (s *Service) scope(name string) ([]Node, error) {
	if name == "" {
		return s.nodes(), nil
	}
	n, err := s.node(name)
	if err != nil {
		return nil, err
	}
	return []Node{n}, nil
}

// askAll asks the nodes in scope for lists and joins them.
func askAll[T any](ctx context.Context, s *Service, node string, ask func(context.Context, Node) ([]T, error)) ([]T, error) {
	nodes, err := s.scope(node)
	if err != nil {
		return nil, err
	}
	return concat(ctx, nodes, ask)
}

// askOne asks the node of that name.
func askOne[T any](ctx context.Context, s *Service, node string, ask func(context.Context, Node) (T, error)) (T, error) {
	n, err := s.node(node)
	if err != nil {
		var none T
		return none, err
	}
	return ask(ctx, n)
}

// list asks the nodes in scope for one page of their joined list.
func list[T any](ctx context.Context, s *Service, node string, w Window, ask lister[T]) (Page[T], error) {
	nodes, err := s.scope(node)
	if err != nil {
		return Page[T]{}, err
	}
	return paged(ctx, nodes, w, s.maxRows(), ask)
}

func (s *Service) maxRows() int { return s.config().Int("management.max_row_limit") }

// Of is what a node said, where an answer names the node.
type Of[T any] struct {
	Node  string
	Value T
}

// each asks every node in scope and keeps the names.
func each[T any](ctx context.Context, s *Service, ask func(context.Context, Node) (T, error)) ([]Of[T], error) {
	return gather(ctx, s.nodes(), func(ctx context.Context, n Node) (Of[T], error) {
		v, err := ask(ctx, n)
		return Of[T]{n.Name(), v}, err
	})
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
