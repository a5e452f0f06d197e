package node

import (
	"context"
	"maps"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// pluginStates keeps the states and configurations of this node's plugins in the
// replicated store.
type pluginStates Node

var _ plugins.States = (*pluginStates)(nil)

// Active implements plugins.States.
func (s *pluginStates) Active(name string) (active, known bool) {
	active, known = s.store.View().PluginStates(s.store.NodeID())[name]
	return active, known
}

// SetActive implements plugins.States.
func (s *pluginStates) SetActive(ctx context.Context, name string, active bool) error {
	return s.store.SetPluginState(ctx, s.store.NodeID(), name, active)
}

// Stored implements plugins.States.
func (s *pluginStates) Stored(name string) (map[string]string, bool) {
	pairs, known := s.store.View().PluginConfig(s.store.NodeID(), name)
	return pairMap(pairs), known
}

// Store implements plugins.States. The caller has brought the plugin to the new
// values already.
func (s *pluginStates) Store(ctx context.Context, name string, set map[string]string) error {
	n := (*Node)(s)
	set = n.overCluster(name, set)
	var keys []string
	for _, k := range n.table.Keys() {
		if k.Plugin != name {
			continue
		}
		keys = append(keys, k.Name)
	}
	for key := range set {
		keys = append(keys, key) // instances of patterns
	}
	if err := n.store.SetPluginConfig(ctx, n.store.NodeID(), name, mapPairs(set), keys); err != nil {
		return err
	}
	// Not under applying: a reconfiguration waits for the plugins, whose lock the
	// caller holds. It looks again when something was written meanwhile.
	next, err := n.withOverrides(n.overrides())
	n.warnOverrides(err)
	n.cfg.Store(next)
	return nil
}

// Config implements plugins.States.
func (s *pluginStates) Config() *config.Config { return s.cfg.Load() }

// Preview implements plugins.States.
func (s *pluginStates) Preview(name string, set map[string]string) (*config.Config, error) {
	n := (*Node)(s)
	o := n.overrides()
	set = n.overCluster(name, set)
	for key := range o.Plugin {
		if k, _, ok := n.table.Lookup(key); ok && k.Plugin == name {
			delete(o.Plugin, key)
		}
	}
	for key := range o.Node { // the last write holds
		if k, _, ok := n.table.Lookup(key); ok && k.Plugin == name {
			delete(o.Node, key)
		}
	}
	for key, value := range set {
		o.Plugin[key] = value
	}
	o.Replaced = append(o.Replaced, name)
	next, err := n.withOverrides(o)
	if err != nil { // what is stored was good when it was stored: the new values are not
		return nil, err
	}
	return next, nil
}

// overCluster completes the configuration of a plugin by the defaults of keys that
// have a value for the whole cluster: a key left out has its default, and what the
// cluster is told later holds over both.
func (n *Node) overCluster(name string, set map[string]string) map[string]string {
	out := maps.Clone(set)
	for key := range n.store.View().Config(raftstore.Cluster) {
		k, canonical, ok := n.table.Lookup(key)
		if _, given := set[canonical]; ok && k.Plugin == name && !given && out != nil {
			out[canonical] = k.Default
		}
	}
	return out
}

func pairMap(pairs []raftstore.Pair) map[string]string {
	set := make(map[string]string, len(pairs))
	for _, p := range pairs {
		set[p.Key] = p.Value
	}
	return set
}

func mapPairs(set map[string]string) []raftstore.Pair {
	pairs := make([]raftstore.Pair, 0, len(set))
	for _, key := range sortedKeys(set) {
		pairs = append(pairs, raftstore.Pair{Key: key, Value: set[key]})
	}
	return pairs
}
