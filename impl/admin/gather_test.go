package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// faulty is another node whose calls fail, or hang until their context ends.
type faulty struct {
	Node
	id    string
	err   error
	hangs bool
	rows  bool // only calls for rows fail, those for a length are answered
	calls atomic.Int32
}

func (f *faulty) ID() string { return f.id }

func (f *faulty) fault(ctx context.Context) error {
	f.calls.Add(1)
	if f.hangs {
		<-ctx.Done()
		return Away(f.Name(), ctx.Err())
	}
	return f.err
}

func (f *faulty) Clients(ctx context.Context, offset, limit int) ([]Client, int, error) {
	if !f.rows || limit > 0 {
		if err := f.fault(ctx); err != nil {
			return nil, 0, err
		}
	}
	return f.Node.Clients(ctx, offset, limit)
}

func (f *faulty) Client(ctx context.Context, id string) ([]Client, error) {
	if err := f.fault(ctx); err != nil {
		return nil, err
	}
	return f.Node.Client(ctx, id)
}

func (f *faulty) Metrics(ctx context.Context) (Metrics, error) {
	if err := f.fault(ctx); err != nil {
		return nil, err
	}
	return f.Node.Metrics(ctx)
}

func (f *faulty) Info(ctx context.Context) (NodeInfo, error) {
	if err := f.fault(ctx); err != nil {
		return NodeInfo{}, err
	}
	return f.Node.Info(ctx)
}

func (f *faulty) Kick(ctx context.Context, id string) error {
	if err := f.fault(ctx); err != nil {
		return err
	}
	return f.Node.Kick(ctx, id)
}

func (f *faulty) Plugins(ctx context.Context) ([]Plugin, error) {
	if err := f.fault(ctx); err != nil {
		return nil, err
	}
	return f.Node.Plugins(ctx)
}

func (f *faulty) Reconfigure(ctx context.Context) error {
	if err := f.fault(ctx); err != nil {
		return err
	}
	return f.Node.Reconfigure(ctx)
}

// fail puts a fault around one of the peers.
func (c *cluster) fail(name string, f *faulty) *faulty {
	peers := c.peers()
	at := slices.IndexFunc(peers, func(n Node) bool { return n.Name() == name })
	f.Node, f.id = peers[at], "the id of "+name
	peers[at] = f
	c.peers = func() []Node { return peers }
	return f
}

var errGone = Away("b@x", errors.New("connection refused"))

func ids(rows []Client) (out []string) {
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

func TestListsLeaveNodesOut(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault func() *faulty
	}{
		{"away", func() *faulty { return &faulty{err: errGone} }},
		{"broken", func() *faulty { return &faulty{err: errors.New("answer of node b@x: it is no JSON")} }},
		{"away when asked for rows", func() *faulty { return &faulty{err: errGone, rows: true} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCluster(t, "a@x", "b@x", "c@x")
			for _, node := range []string{"a@x", "b@x", "c@x"} {
				c.connect(t, node, node[:1]+"-1", node[:1]+"-2")
			}
			c.fail("b@x", tc.fault())
			want := []string{"a-1", "a-2", "c-1", "c-2"}
			for size := int64(1); size <= 5; size++ {
				var got []string
				for page := int64(1); page <= 4; page++ {
					ctx, absent := WithAbsent(t.Context())
					p, err := c.Clients(ctx, "", Window{page, size})
					if err != nil {
						t.Fatalf("page %d of %d: %v", page, size, err)
					}
					got = append(got, ids(p.Rows)...)
					if names := absent.Names(); !slices.Equal(names, []string{"b@x"}) && !tc.fault().rows || p.Total != 4 && !tc.fault().rows {
						t.Errorf("page %d of %d: %d rows without %q", page, size, p.Total, names)
					}
				}
				if !tc.fault().rows && !slices.Equal(got, want) {
					t.Errorf("pages of %d: got %q, want %q", size, got, want)
				}
			}
			// A page on the border: the node goes away between length and rows.
			ctx, absent := WithAbsent(t.Context())
			p, err := c.Clients(ctx, "", Window{1, 3})
			if err != nil || !slices.Equal(ids(p.Rows), want[:3]) || p.Total != 4 || p.Pages != 2 || !slices.Equal(absent.Names(), []string{"b@x"}) {
				t.Errorf("got %q of %d, %v, without %q", ids(p.Rows), p.Total, err, absent.Names())
			}
			if tc.fault().rows {
				return
			}
			ctx, absent = WithAbsent(t.Context())
			rows, err := c.Client(ctx, "", "c-1")
			if err != nil || len(rows) != 1 || !slices.Equal(absent.Names(), []string{"b@x"}) {
				t.Errorf("lookup: %v, %v, without %q", rows, err, absent.Names())
			}
			ctx, absent = WithAbsent(t.Context())
			metrics, err := c.AllMetrics(ctx)
			if err != nil || len(metrics) != 2 || metrics[0].Node != "a@x" || metrics[1].Node != "c@x" || !slices.Equal(absent.Names(), []string{"b@x"}) {
				t.Errorf("metrics: %d, %v, without %q", len(metrics), err, absent.Names())
			}
			nodes, err := c.Nodes(t.Context())
			if err != nil || len(nodes) != 3 || nodes[1].Name != "b@x" || nodes[1].Running || !nodes[2].Running {
				t.Errorf("nodes: %+v, %v", nodes, err)
			}
			for what, err := range map[string]error{
				"clients": second(c.Clients(t.Context(), "b@x", Window{1, 10})),
				"client":  second(c.Client(t.Context(), "b@x", "b-1")),
				"metrics": second(c.Metrics(t.Context(), "b@x")),
				"node":    second(c.Node(t.Context(), "b@x")),
			} {
				if err == nil || tc.name == "away" && KindOf(err) != NodeDown {
					t.Errorf("%s of the node alone: %v", what, err)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// TestListsDoNotWait has a node that hangs: lists are there after a second, and a
// caller that goes away is not told about nodes.
func TestListsDoNotWait(t *testing.T) {
	c := newCluster(t, "a@x", "b@x", "c@x")
	c.connect(t, "a@x", "a-1")
	c.connect(t, "c@x", "c-1")
	synctest.Test(t, func(t *testing.T) {
		c.fail("b@x", &faulty{hangs: true})
		start := time.Now()
		ctx, absent := WithAbsent(context.Background())
		p, err := c.Clients(ctx, "", Window{1, 10})
		if d := time.Since(start); err != nil || len(p.Rows) != 2 || !slices.Equal(absent.Names(), []string{"b@x"}) || d != answerWait {
			t.Errorf("after %v: %d rows, %v, without %q", d, len(p.Rows), err, absent.Names())
		}
		start = time.Now()
		if _, err := c.Metrics(context.Background(), "b@x"); KindOf(err) != NodeDown || time.Since(start) != nodeWait {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		ctx, absent = WithAbsent(context.Background())
		ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if _, err := c.Clients(ctx, "", Window{1, 10}); !errors.Is(err, context.DeadlineExceeded) || len(absent.Names()) > 0 {
			t.Errorf("a caller that has gone: %v, without %q", err, absent.Names())
		}
		// A change that may have been made is no success and no "not there".
		start = time.Now()
		if err := c.Kick(context.Background(), "b-1"); KindOf(err) != NodeDown || time.Since(start) != nodeWait {
			t.Errorf("kick: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		if err := c.Kick(context.Background(), "a-1"); err != nil || time.Since(start) > answerWait {
			t.Errorf("kick elsewhere: %v after %v", err, time.Since(start))
		}
	})
}

func TestActionsWithoutANode(t *testing.T) {
	c := newCluster(t, "a@x", "b@x", "c@x")
	c.connect(t, "a@x", "a-1")
	c.fail("b@x", &faulty{err: errGone})
	ctx, absent := WithAbsent(t.Context())
	if err := c.Kick(ctx, "nobody"); KindOf(err) != ClientOffline || !slices.Equal(absent.Names(), []string{"b@x"}) {
		t.Errorf("kick of nobody: %v, without %q", err, absent.Names())
	}
	ctx, absent = WithAbsent(t.Context())
	if err := c.Kick(ctx, "a-1"); err != nil || len(absent.Names()) > 0 {
		t.Errorf("kick: %v, without %q", err, absent.Names())
	}
}

// TestConfigOfNodes sets keys with nodes that are away, and that refuse.
func TestConfigOfNodes(t *testing.T) {
	const app, key = "emqx", "mqtt.max_topic_levels"
	stored := func(c *cluster, scope string) map[string]string { return c.store.View().Config(scope) }
	c := newCluster(t, "a@x", "b@x", "c@x")
	b := c.fail("b@x", &faulty{err: errGone})
	if err := c.SetConfig(t.Context(), "b@x", app, key, "7"); KindOf(err) != NodeDown || len(stored(c, b.id)) > 0 {
		t.Errorf("a node that is away: %v, stored %v", err, stored(c, b.id))
	}
	ctx, absent := WithAbsent(t.Context())
	if err := c.SetConfig(ctx, "", app, key, "7"); err != nil || len(stored(c, raftstore.Cluster)) != 1 || !slices.Equal(absent.Names(), []string{"b@x"}) {
		t.Errorf("all: %v, stored %v, without %q", err, stored(c, raftstore.Cluster), absent.Names())
	}
	b.err = nil
	if err := c.SetConfig(t.Context(), "b@x", app, key, "8"); err != nil || stored(c, b.id)[key] != "8" || stored(c, raftstore.Cluster)[key] != "7" {
		t.Errorf("another node: %v, stored %v", err, stored(c, b.id))
	}
	if n := b.calls.Load(); n < 4 {
		t.Errorf("the node was asked %d times: it was not reconfigured", n)
	}
	// Only what puts values into effect is refused.
	b.Node = refuses{b.Node}
	before := fmt.Sprint(stored(c, b.id), stored(c, raftstore.Cluster))
	for _, node := range []string{"b@x", ""} {
		if err := c.SetConfig(t.Context(), node, app, key, "9"); KindOf(err) != ConfigRefused {
			t.Errorf("a node that refuses, asked as %q: %v", node, err)
		}
	}
	if after := fmt.Sprint(stored(c, b.id), stored(c, raftstore.Cluster)); after != before {
		t.Errorf("refused values are stored: %s, before %s", after, before)
	}
	if err := c.SetConfig(t.Context(), "d@x", app, key, "7"); KindOf(err) != UnknownNode {
		t.Errorf("an unknown node: %v", err)
	}
}

type refuses struct{ Node }

func (refuses) Reconfigure(context.Context) error { return fail(ConfigRefused, "the port is taken") }
