package admin

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Member is another node of the cluster, as far as the lists of nodes show it.
type Member interface {
	// Name is the node's name in the cluster.
	Name() string
	// Info returns the facts of the node and its figures now. An error is a node
	// that does not answer.
	Info(ctx context.Context) (NodeInfo, error)
}

// infoWait is how long the lists of nodes wait for one of them.
const infoWait = time.Second

// Nodes returns what every member of the cluster says about itself, in the order
// of their names. One that does not answer is not running.
func (s *Service) Nodes(ctx context.Context) ([]NodeInfo, error) {
	members := append(s.others(), s.local)
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name(), b.Name()) })
	infos := make([]NodeInfo, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { infos[i] = info(ctx, m) })
	}
	wg.Wait()
	return infos, ctx.Err()
}

// Node returns what one member says about itself. UnknownNode.
func (s *Service) Node(ctx context.Context, name string) (NodeInfo, error) {
	for _, m := range s.others() {
		if m.Name() == name {
			return info(ctx, m), ctx.Err()
		}
	}
	return askOne(ctx, s, name, func(ctx context.Context, n Node) (NodeInfo, error) { return n.Info(ctx) })
}

func info(ctx context.Context, m Member) NodeInfo {
	ctx, cancel := context.WithTimeout(ctx, infoWait)
	defer cancel()
	i, err := m.Info(ctx)
	if err != nil {
		return NodeInfo{Name: m.Name()}
	}
	return i
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
