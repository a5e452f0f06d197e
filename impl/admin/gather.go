package admin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// How long other nodes are waited for. A node that is down is not asked at all.
const (
	answerWait = time.Second      // for one of several, which is left out then
	nodeWait   = 5 * time.Second  // for the one that is asked, or is to find a client
	actWait    = 10 * time.Second // for a change of one node
)

// Absent collects the names of the nodes that an answer is without. Its methods
// may be called from any goroutine.
type Absent struct {
	mu    sync.Mutex
	names []string // guarded by mu: sorted
}

type absentKey struct{}

// WithAbsent returns a context that collects the nodes that answers are without,
// and what it collects into.
func WithAbsent(ctx context.Context) (context.Context, *Absent) {
	a := &Absent{}
	return context.WithValue(ctx, absentKey{}, a), a
}

// Names returns the nodes that did not answer so far, by name.
func (a *Absent) Names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.names)
}

func (a *Absent) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, there := slices.BinarySearch(a.names, name); !there {
		a.names = slices.Insert(a.names, at, name)
	}
}

// leaveOut notes that an answer is without a node.
func (s *Service) leaveOut(ctx context.Context, n Node, err error) {
	if a, ok := ctx.Value(absentKey{}).(*Absent); ok {
		a.add(n.Name())
	}
	level := slog.LevelDebug
	if KindOf(err) == Internal {
		level = slog.LevelWarn
	}
	s.log.Log(ctx, level, "an answer is without a node", "node", n.Name(), "err", err)
}

// lost reports whether an error says that another node could not be asked, and
// nothing about what it was asked.
func (s *Service) lost(n Node, err error) bool {
	k := KindOf(err)
	return err != nil && n != s.local && (k == NodeDown || k == Internal)
}

// answered is what a node said.
type answered[T any] struct {
	node  Node
	Value T
}

// gather asks nodes the same at the same time, for as long as wait, and returns
// what they said in their order. Other nodes that do not answer are left out and
// noted; the first other error in that order is returned.
func gather[T any](ctx context.Context, s *Service, nodes []Node, wait time.Duration, ask func(context.Context, Node) (T, error)) ([]answered[T], error) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	values, errs := make([]T, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { values[i], errs[i] = ask(limited, n) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all := make([]answered[T], 0, len(nodes))
	for i, n := range nodes {
		switch {
		case s.lost(n, errs[i]):
			s.leaveOut(ctx, n, errs[i])
		case errs[i] != nil:
			return nil, errs[i]
		default:
			all = append(all, answered[T]{n, values[i]})
		}
	}
	return all, nil
}

// onOwner runs an action on all nodes at the same time and succeeds when one of
// them owns what it is about. A node that does not answers with the kind absent.
// When none does, a node that could not be asked is left out; one that was asked
// and did not answer in time may have acted, and is NodeDown.
func (s *Service) onOwner(ctx context.Context, absent Kind, act func(context.Context, Node) error) error {
	nodes := s.nodes()
	if len(nodes) == 1 {
		return act(ctx, nodes[0])
	}
	limited, cancel := context.WithTimeout(ctx, nodeWait)
	defer cancel()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			if errs[i] = act(limited, n); errs[i] == nil {
				time.AfterFunc(answerWait, cancel) // the others have nothing to say
			}
		})
	}
	wg.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var none, silent error
	for i, n := range nodes {
		switch err := errs[i]; {
		case errors.Is(err, &Error{Kind: absent}):
			none = err
		case errors.Is(err, context.DeadlineExceeded):
			silent = err
		case s.lost(n, err):
			s.leaveOut(ctx, n, err)
		default:
			return err
		}
	}
	if silent != nil {
		return silent
	}
	return none
}

// onNode runs a change on the node of that name. UnknownNode, NodeDown.
func (s *Service) onNode(ctx context.Context, name string, act func(context.Context, Node) error) error {
	n, err := s.node(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, actWait)
	defer cancel()
	return act(ctx, n)
}
