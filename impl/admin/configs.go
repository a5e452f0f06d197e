package admin

import (
	"context"
	"errors"
	"slices"

	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// AllSettings returns the hot configuration of every node, as a version shows
// it.
func (s *Service) AllSettings(ctx context.Context, v Version) ([]Of[[]Setting], error) {
	return each(ctx, s, func(ctx context.Context, n Node) ([]Setting, error) { return n.Settings(ctx, v) })
}

// Settings returns the hot configuration of one node. UnknownNode.
func (s *Service) Settings(ctx context.Context, v Version, node string) ([]Setting, error) {
	return askOne(ctx, s, node, func(ctx context.Context, n Node) ([]Setting, error) { return n.Settings(ctx, v) })
}

// SetConfig changes one hot key on one node, or on all for node "". It is
// checked against the table of keys, stored, and in effect when SetConfig
// returns; a value that a node refuses to run with is taken back. For all
// nodes, one that does not answer is left out: it finds the value in the store
// when it is back. UnknownNode, NodeDown, ConfigRefused.
func (s *Service) SetConfig(ctx context.Context, node, app, key, value string) error {
	nodes, scope := s.nodes(), raftstore.Cluster
	if node != "" {
		n, err := s.node(node)
		if err != nil {
			return err
		}
		nodes, scope = []Node{n}, n.ID()
	}
	canonical, keep, err := s.config().Update(app, key, value)
	if err != nil {
		return failBy(ConfigRefused, err.Error(), err)
	}
	if err := s.appRuns(ctx, node, app); err != nil {
		return err
	}
	before := s.store.View()
	if err := s.store.SetConfig(ctx, scope, canonical, keep); err != nil {
		return storeError(err)
	}
	err = s.reconfigure(ctx, node, nodes)
	if err == nil || KindOf(err) == NodeDown {
		return err
	}
	err = errors.Join(err, s.restore(ctx, before, scope, nodes, canonical), s.reconfigure(ctx, node, nodes))
	return fail(ConfigRefused, err.Error())
}

// restore stores a key as it was. A value for the cluster has replaced those of
// nodes.
func (s *Service) restore(ctx context.Context, before raftstore.View, scope string, nodes []Node, key string) error {
	var err error
	if value, had := before.Config(scope)[key]; had {
		err = s.store.SetConfig(ctx, scope, key, value)
	} else {
		err = s.store.DeleteConfig(ctx, scope, key)
	}
	if scope != raftstore.Cluster {
		return err
	}
	for _, n := range nodes {
		if value, had := before.Config(n.ID())[key]; had {
			err = errors.Join(err, s.store.SetConfig(ctx, n.ID(), key, value))
		}
	}
	return err
}

// appRuns refuses the keys of a plugin that is active nowhere in scope: nothing
// would change. For one node it asks that node, which has to be there.
func (s *Service) appRuns(ctx context.Context, node, app string) error {
	all, err := askAll(ctx, s, node, func(ctx context.Context, n Node) ([]Plugin, error) { return n.Plugins(ctx) })
	if err != nil {
		return err
	}
	is := func(p Plugin) bool { return p.Name == plugins.BareName(app) }
	if slices.ContainsFunc(all, is) && !slices.ContainsFunc(all, func(p Plugin) bool { return is(p) && p.Active }) {
		return failOn(ConfigRefused, app, "the plugin is not active")
	}
	return nil
}

// reconfigure puts what is stored into effect on one node, or on all for node "".
func (s *Service) reconfigure(ctx context.Context, node string, nodes []Node) error {
	act := func(ctx context.Context, n Node) (struct{}, error) { return struct{}{}, n.Reconfigure(ctx) }
	if node != "" {
		ctx, cancel := context.WithTimeout(ctx, actWait)
		defer cancel()
		_, err := act(ctx, nodes[0])
		return err
	}
	_, err := gather(ctx, s, nodes, nodeWait, act)
	return err
}
