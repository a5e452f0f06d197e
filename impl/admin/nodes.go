package admin

import (
	"context"
	"sync"
)

// Nodes returns what every member of the cluster says about itself, in the order
// of their names. One that does not answer is not running.
func (s *Service) Nodes(ctx context.Context) ([]NodeInfo, error) {
	nodes := s.nodes()
	infos := make([]NodeInfo, len(nodes))
	limited, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			var err error
			if infos[i], err = n.Info(limited); err != nil {
				infos[i] = NodeInfo{Name: n.Name()}
			}
		})
	}
	wg.Wait()
	return infos, ctx.Err()
}

// Node returns what one member says about itself. UnknownNode, NodeDown.
func (s *Service) Node(ctx context.Context, name string) (NodeInfo, error) {
	return askOne(ctx, s, name, func(ctx context.Context, n Node) (NodeInfo, error) { return n.Info(ctx) })
}

// AllListeners returns the listeners of every node.
func (s *Service) AllListeners(ctx context.Context) ([]Of[[]Listener], error) {
	return each(ctx, s, func(ctx context.Context, n Node) ([]Listener, error) { return n.Listeners(ctx) })
}

// Listeners returns the listeners of one node. UnknownNode.
func (s *Service) Listeners(ctx context.Context, node string) ([]Listener, error) {
	return askOne(ctx, s, node, func(ctx context.Context, n Node) ([]Listener, error) { return n.Listeners(ctx) })
}

// AllMetrics returns the counters of every node.
func (s *Service) AllMetrics(ctx context.Context) ([]Of[Metrics], error) {
	return each(ctx, s, func(ctx context.Context, n Node) (Metrics, error) { return n.Metrics(ctx) })
}

// Metrics returns the counters of one node. UnknownNode.
func (s *Service) Metrics(ctx context.Context, node string) (Metrics, error) {
	return askOne(ctx, s, node, func(ctx context.Context, n Node) (Metrics, error) { return n.Metrics(ctx) })
}

// AllStats returns the gauges of every node.
func (s *Service) AllStats(ctx context.Context) ([]Of[Stats], error) {
	return each(ctx, s, func(ctx context.Context, n Node) (Stats, error) { return n.Stats(ctx) })
}

// Stats returns the gauges of one node. UnknownNode.
func (s *Service) Stats(ctx context.Context, node string) (Stats, error) {
	return askOne(ctx, s, node, func(ctx context.Context, n Node) (Stats, error) { return n.Stats(ctx) })
}

// AllAlarms returns the alarms that are raised on every node.
func (s *Service) AllAlarms(ctx context.Context) ([]Of[[]Alarm], error) {
	return each(ctx, s, func(ctx context.Context, n Node) ([]Alarm, error) { return n.Alarms(ctx) })
}

// Alarms returns the alarms that are raised on one node. UnknownNode.
func (s *Service) Alarms(ctx context.Context, node string) ([]Alarm, error) {
	return askOne(ctx, s, node, func(ctx context.Context, n Node) ([]Alarm, error) { return n.Alarms(ctx) })
}
