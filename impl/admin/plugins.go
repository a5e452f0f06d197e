package admin

import "context"

// AllPlugins returns the plugins of every node.
func (s *Service) AllPlugins(ctx context.Context) ([]Of[[]Plugin], error) {
	return each(ctx, s, func(ctx context.Context, n Node) ([]Plugin, error) { return n.Plugins(ctx) })
}

// Plugins returns the plugins of one node. UnknownNode.
func (s *Service) Plugins(ctx context.Context, node string) ([]Plugin, error) {
	return askOne(ctx, s, node, func(ctx context.Context, n Node) ([]Plugin, error) { return n.Plugins(ctx) })
}

// LoadPlugin starts a plugin on one node. UnknownNode, and the errors of
// [Node.LoadPlugin].
func (s *Service) LoadPlugin(ctx context.Context, node, name string) error {
	return s.onNode(ctx, node, func(ctx context.Context, n Node) error { return n.LoadPlugin(ctx, name) })
}

// UnloadPlugin stops a plugin on one node.
func (s *Service) UnloadPlugin(ctx context.Context, node, name string) error {
	return s.onNode(ctx, node, func(ctx context.Context, n Node) error { return n.UnloadPlugin(ctx, name) })
}

// PluginConfig returns the keys of a plugin on one node.
func (s *Service) PluginConfig(ctx context.Context, node, name string) ([]PluginSetting, error) {
	return askOne(ctx, s, node, func(ctx context.Context, n Node) ([]PluginSetting, error) { return n.PluginConfig(ctx, name) })
}

// SetPluginConfig replaces the configuration of a plugin on one node.
func (s *Service) SetPluginConfig(ctx context.Context, node, name string, settings map[string]string) error {
	return s.onNode(ctx, node, func(ctx context.Context, n Node) error { return n.SetPluginConfig(ctx, name, settings) })
}
