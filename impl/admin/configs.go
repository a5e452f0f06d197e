package admin

import (
	"context"
	"errors"

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
// returns; a value that the node refuses to run with is taken back.
// UnknownNode, ConfigRefused.
func (s *Service) SetConfig(ctx context.Context, node, app, key, value string) error {
	nodes, err := s.scope(node)
	if err != nil {
		return err
	}
	canonical, keep, err := s.config().Update(app, key, value)
	if err != nil {
		return failBy(ConfigRefused, err.Error(), err)
	}
	if err := s.appRuns(ctx, app); err != nil {
		return err
	}
	scope := raftstore.Cluster
	if node != "" {
		scope = nodes[0].ID()
	}
	before, had := s.store.View().Config(scope)[canonical]
	if err := s.store.SetConfig(ctx, scope, canonical, keep); err != nil {
		return storeError(err)
	}
	err = reconfigure(ctx, nodes)
	if err == nil {
		return nil
	}
	undo := func() error { return s.store.DeleteConfig(ctx, scope, canonical) }
	if had {
		undo = func() error { return s.store.SetConfig(ctx, scope, canonical, before) }
	}
	err = errors.Join(err, undo(), reconfigure(ctx, nodes))
	return failBy(ConfigRefused, err.Error(), err)
}

// appRuns refuses the keys of a plugin that is not active: nothing would
// change.
func (s *Service) appRuns(ctx context.Context, app string) error {
	all, err := s.local.Plugins(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Name == plugins.BareName(app) && !p.Active {
			return failOn(ConfigRefused, app, "the plugin is not active")
		}
	}
	return nil
}

func reconfigure(ctx context.Context, nodes []Node) error {
	_, err := gather(ctx, nodes, func(ctx context.Context, n Node) (struct{}, error) { return struct{}{}, n.Reconfigure(ctx) })
	return err
}
