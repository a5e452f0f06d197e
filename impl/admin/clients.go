package admin

import "context"

// Clients lists the open connections of one node, or of all for node "".
func (s *Service) Clients(ctx context.Context, node string, w Window) (Page[Client], error) {
	return list(ctx, s, node, w, func(ctx context.Context, n Node, offset, limit int) ([]Client, int, error) {
		return n.Clients(ctx, offset, limit)
	})
}

// Client returns the connection of a client id on one node, or on any for
// node "": one row or none.
func (s *Service) Client(ctx context.Context, node, id string) ([]Client, error) {
	return askAll(ctx, s, node, func(ctx context.Context, n Node) ([]Client, error) { return n.Client(ctx, id) })
}

// Kick closes the connection of a client id, wherever it is. ClientOffline.
func (s *Service) Kick(ctx context.Context, id string) error {
	return s.onOwner(ctx, ClientOffline, func(ctx context.Context, n Node) error { return n.Kick(ctx, id) })
}

// CleanACL forgets the cached decisions of a connection on one topic.
// ClientOffline.
func (s *Service) CleanACL(ctx context.Context, id, topic string) error {
	return s.onOwner(ctx, ClientOffline, func(ctx context.Context, n Node) error { return n.CleanACL(ctx, id, topic) })
}

// Sessions lists the sessions of one node, or of all for node "".
func (s *Service) Sessions(ctx context.Context, node string, w Window) (Page[Session], error) {
	return list(ctx, s, node, w, func(ctx context.Context, n Node, offset, limit int) ([]Session, int, error) {
		return n.Sessions(ctx, offset, limit)
	})
}

// Session returns the session of a client id on one node, or on any for node
// "": one row or none.
func (s *Service) Session(ctx context.Context, node, id string) ([]Session, error) {
	return askAll(ctx, s, node, func(ctx context.Context, n Node) ([]Session, error) { return n.Session(ctx, id) })
}

// Subscriptions lists the subscriptions of one node, or of all for node "".
func (s *Service) Subscriptions(ctx context.Context, node string, w Window) (Page[Subscription], error) {
	return list(ctx, s, node, w, func(ctx context.Context, n Node, offset, limit int) ([]Subscription, int, error) {
		return n.Subscriptions(ctx, offset, limit)
	})
}

// SubscriptionsOf returns the subscriptions of a client id on one node, or on
// any for node "".
func (s *Service) SubscriptionsOf(ctx context.Context, node, id string) ([]Subscription, error) {
	return askAll(ctx, s, node, func(ctx context.Context, n Node) ([]Subscription, error) { return n.SubscriptionsOf(ctx, id) })
}

// Routes lists the routes of the cluster: one row for each filter and node.
func (s *Service) Routes(ctx context.Context, w Window) (Page[Route], error) {
	return list(ctx, s, "", w, func(ctx context.Context, n Node, offset, limit int) ([]Route, int, error) {
		return n.Routes(ctx, offset, limit)
	})
}

// RoutesOf returns the routes of exactly this filter; nothing is matched.
func (s *Service) RoutesOf(ctx context.Context, filter string) ([]Route, error) {
	return askAll(ctx, s, "", func(ctx context.Context, n Node) ([]Route, error) { return n.RoutesOf(ctx, filter) })
}
