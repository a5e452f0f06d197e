package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

func TestFormats(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0 seconds"},
		{-time.Second, "0 seconds"},
		{59*time.Second + 999*time.Millisecond, "59 seconds"},
		{time.Minute, "1 minutes, 0 seconds"},
		{time.Hour + 17*time.Minute + time.Second, "1 hours, 17 minutes, 1 seconds"},
		{24 * time.Hour, "1 days,0 hours, 0 minutes, 0 seconds"},
		{3*24*time.Hour + 18*time.Hour + 25*time.Minute + 11*time.Second, "3 days,18 hours, 25 minutes, 11 seconds"},
	} {
		if got := FormatUptime(tt.d); got != tt.want {
			t.Errorf("uptime %v is %q, want %q", tt.d, got, tt.want)
		}
	}
	for _, tt := range []struct {
		n    int64
		want string
	}{
		{0, "0.00K"}, {512, "0.50K"}, {1 << 20, "1024.00K"}, {72550973, "69.19M"}, {1<<30 + 1, "1.00G"}, {5 << 40, "5120.00G"},
	} {
		if got := FormatBytes(tt.n); got != tt.want {
			t.Errorf("%d bytes are %q, want %q", tt.n, got, tt.want)
		}
	}
	if got := FormatLoad(1.934); got != "1.93" {
		t.Errorf("load is %q", got)
	}
	at := time.Date(2018, 9, 4, 1, 2, 3, 999, time.Local)
	if got := FormatTime(at.UTC()); got != "2018-09-04 01:02:03" {
		t.Errorf("time is %q, want local time", got)
	}
}

func TestWindow(t *testing.T) {
	for _, tt := range []struct {
		w             Window
		offset, limit int
		bad           bool
	}{
		{w: Window{1, 20}, offset: 0, limit: 20},
		{w: Window{3, 20}, offset: 40, limit: 20},
		{w: Window{0, 20}, offset: 0, limit: 20},
		{w: Window{-5, 20}, offset: 0, limit: 20},
		{w: Window{2, 1 << 40}, offset: 100, limit: 100}, // the cap is 100: pages still join
		{w: Window{math.MaxInt64, math.MaxInt64}, offset: math.MaxInt32, limit: 100},
		{w: Window{1, 0}, bad: true},
		{w: Window{1, -1}, bad: true},
	} {
		offset, limit, err := tt.w.span(100)
		if (err != nil) != tt.bad || err == nil && (offset != tt.offset || limit != tt.limit) {
			t.Errorf("%+v: got %d, %d, %v, want %d, %d, bad %v", tt.w, offset, limit, err, tt.offset, tt.limit, tt.bad)
		}
	}
}

// cluster is a service over several nodes in one process, each with an engine
// of its own, and one store.
type cluster struct {
	*Service
	engines map[string]*engine.Engine
	store   *raftstore.Store
}

func newCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	table, err := config.NewTable(config.Core())
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(table, config.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := raftstore.Open(raftstore.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{engines: map[string]*engine.Engine{}, store: store}
	var nodes []Node
	for _, name := range names {
		e, err := engine.New(engine.Options{Node: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		c.engines[name] = e
		nodes = append(nodes, NewLocal(LocalOptions{
			Name: name, ID: store.NodeID(), Engine: e, Config: func() *config.Config { return cfg }, Started: time.Now(),
			Plugins:     plugins.NewSet(plugins.Options{Node: name, Engine: e, Store: store}),
			Reconfigure: func(context.Context) error { return nil },
		}))
	}
	// The node that answers is the last; lists are in the order of names.
	c.Service = New(Options{
		Local: nodes[len(nodes)-1], Peers: func() []Node { return nodes[:len(nodes)-1] },
		Store: store, Config: func() *config.Config { return cfg },
	})
	return c
}

type carrier struct{}

func (carrier) Write(bufs [][]byte) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	return n, nil
}
func (carrier) Resume() {}
func (carrier) Close()  {}

// connect puts clients on a node.
func (c *cluster) connect(t *testing.T, node string, ids ...string) {
	t.Helper()
	e := c.engines[node]
	l, err := e.AddListener(engine.ListenerOptions{Name: ids[0], Protocol: "mqtt:tcp"})
	if err != nil {
		t.Fatal(err)
	}
	b := e.NewBatch()
	for _, id := range ids {
		conn, err := l.Accept(engine.ConnInfo{Peer: netip.MustParseAddrPort("10.0.0.1:1")}, carrier{})
		if err != nil {
			t.Fatal(err)
		}
		conn.Feed(b, append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...))
		b.Flush()
		if _, there := e.Client(id); !there {
			t.Fatalf("%s is not connected", id)
		}
	}
}

func TestListsJoinNodes(t *testing.T) {
	c := newCluster(t, "a@x", "b@x", "c@x")
	ctx := context.Background()
	var want []string
	for i, node := range []string{"a@x", "b@x", "c@x"} {
		var ids []string
		for n := range []int{5, 0, 4}[i] {
			ids = append(ids, fmt.Sprintf("%s-%d", node[:1], n))
		}
		if len(ids) > 0 {
			c.connect(t, node, ids...)
		}
		want = append(want, ids...)
	}
	for size := int64(1); size <= 10; size++ {
		var got []string
		for page := int64(1); ; page++ {
			p, err := c.Clients(ctx, "", Window{page, size})
			if err != nil {
				t.Fatal(err)
			}
			if p.Total != len(want) || p.Pages != (len(want)+int(size)-1)/int(size) {
				t.Errorf("size %d: %d rows on %d pages", size, p.Total, p.Pages)
			}
			for _, r := range p.Rows {
				got = append(got, r.ID)
			}
			if len(p.Rows) < int(size) {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("size %d: got %q, want %q", size, got, want)
		}
	}
	if p, err := c.Clients(ctx, "b@x", Window{1, 10}); err != nil || p.Total != 0 || p.Pages != 0 {
		t.Errorf("an empty node: %+v, %v", p, err)
	}
	if _, err := c.Clients(ctx, "d@x", Window{1, 10}); KindOf(err) != UnknownNode {
		t.Errorf("unknown node: %v", err)
	}
	if _, err := c.Clients(ctx, "", Window{1, 0}); KindOf(err) != BadPage {
		t.Errorf("size 0: %v", err)
	}
	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes) != 3 || nodes[0].Name != "a@x" || nodes[2].Clients != 4 {
		t.Errorf("nodes: %+v, %v", nodes, err)
	}
}

func TestActionsFindTheOwner(t *testing.T) {
	c := newCluster(t, "a@x", "b@x")
	ctx := context.Background()
	c.connect(t, "a@x", "there")
	if rows, err := c.Client(ctx, "", "there"); err != nil || len(rows) != 1 || rows[0].Node != "a@x" {
		t.Errorf("lookup: %v, %v", rows, err)
	}
	if err := c.Subscribe(ctx, SubscribeRequest{ClientID: "there", Topics: []string{"bad#", "t/+"}, QoS: 1}); err != nil {
		t.Errorf("subscribe: %v", err)
	}
	if rows, err := c.SubscriptionsOf(ctx, "", "there"); err != nil || len(rows) != 1 || rows[0].Topic != "t/+" || rows[0].QoS != 1 {
		t.Errorf("subscriptions: %v, %v", rows, err)
	}
	if rows, err := c.RoutesOf(ctx, "t/+"); err != nil || len(rows) != 1 || rows[0].Node != "a@x" {
		t.Errorf("routes: %v, %v", rows, err)
	}
	if err := c.Unsubscribe(ctx, UnsubscribeRequest{ClientID: "there", Topics: []string{"t/+"}}); err != nil {
		t.Errorf("unsubscribe: %v", err)
	}
	if err := c.CleanACL(ctx, "there", "t"); err != nil {
		t.Errorf("clean: %v", err)
	}
	if err := c.Kick(ctx, "there"); err != nil {
		t.Errorf("kick: %v", err)
	}
	for what, err := range map[string]error{
		"kick":  c.Kick(ctx, "nobody"),
		"clean": c.CleanACL(ctx, "nobody", "t"),
	} {
		if KindOf(err) != ClientOffline {
			t.Errorf("%s of nobody: %v", what, err)
		}
	}
	if err := c.Subscribe(ctx, SubscribeRequest{ClientID: "nobody", Topics: []string{"t"}}); KindOf(err) != SessionNotFound {
		t.Errorf("subscribe nobody: %v", err)
	}
	for _, topics := range [][]string{nil, {""}, {"a#"}, {"$share/g"}, {strings.Repeat("x", maxTopic+1)}} {
		if err := c.Subscribe(ctx, SubscribeRequest{ClientID: "nobody", Topics: topics}); KindOf(err) != BadTopic {
			t.Errorf("subscribe %.20q: %v", topics, err)
		}
		if err := c.Publish(ctx, Publication{Topics: topics}); len(topics) > 0 && topics[0] != "$share/g" && KindOf(err) != BadTopic {
			t.Errorf("publish %.20q: %v", topics, err)
		}
	}
}

func TestKnownLogins(t *testing.T) {
	c := newCluster(t, "a@x")
	ctx := WithOrigin(context.Background(), netip.MustParseAddr("192.0.2.1"))
	if err := c.CreateUser(ctx, NewUser{"u", "right", ""}); err != nil {
		t.Fatal(err)
	}
	known := func(password string) bool { return c.KnownUser(ctx, "u", password) }
	if known("right") {
		t.Error("known before the first login")
	}
	if err := c.CheckUser(ctx, "u", "right"); err != nil || !known("right") || known("wrong") {
		t.Errorf("after a login: %v, known %v", err, known("right"))
	}
	if err := c.CheckUser(ctx, "u", "wrong"); KindOf(err) != LoginWrong || known("wrong") {
		t.Errorf("a wrong password: %v", err)
	}
	str := func(s string) *string { return &s }
	if err := c.ChangePassword(ctx, "u", PasswordPair{OldPwd: str("right"), NewPwd: str("new")}); err != nil {
		t.Fatal(err)
	}
	if known("right") {
		t.Error("the old password is still known")
	}
	if err := c.CheckUser(ctx, "u", "new"); err != nil || !known("new") {
		t.Errorf("the new password: %v", err)
	}
	if err := c.DeleteUser(ctx, "u"); err != nil {
		t.Fatal(err)
	}
	if known("new") {
		t.Error("a deleted user is still known")
	}
	secret, err := c.CreateApp(ctx, App{ID: "app", Status: true})
	if err != nil {
		t.Fatal(err)
	}
	if c.KnownApp("app", secret) || !c.CheckApp("app", secret) || !c.KnownApp("app", secret) || c.CheckApp("app", "x") || c.KnownApp("app", "x") {
		t.Error("applications are not remembered as they should be")
	}
	off := false
	if err := c.UpdateApp(ctx, AppChange{ID: "app", Status: &off}); err != nil || c.KnownApp("app", secret) {
		t.Errorf("a locked application is still known: %v", err)
	}
	if err := c.UpdateApp(ctx, AppChange{ID: "app", Name: "renamed"}); err != nil || c.CheckApp("app", secret) {
		t.Errorf("a change of name has let a locked application in again: %v", err)
	}
	// The table is bounded.
	for i := range knownLogins + 10 {
		c.logins.remember(c.logins.mac("x", fmt.Sprint(i)), "h")
	}
	if n := len(c.logins.right); n > knownLogins {
		t.Errorf("%d pairs are remembered, want at most %d", n, knownLogins)
	}
}

func TestLoginsWaitForTheirTurn(t *testing.T) {
	c := newCluster(t, "a@x")
	if err := c.CreateUser(context.Background(), NewUser{"u", "right", ""}); err != nil {
		t.Fatal(err)
	}
	for range cap(c.logins.slots) { // all turns are taken
		c.logins.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := c.CheckUser(ctx, "u", "right"); KindOf(err) != LoginLimited {
		t.Errorf("without a turn: %v", err)
	}
}

func TestKinds(t *testing.T) {
	if KindOf(errors.New("x")) != Internal || KindOf(fmt.Errorf("w: %w", fail(BadTopic, "x"))) != BadTopic || KindOf(context.DeadlineExceeded) != NodeDown {
		t.Error("kinds are not found")
	}
	if got := storeError(fmt.Errorf("%w: no", raftstore.ErrInvalid)); KindOf(got) != BadParam || got.(*Error).Message != "no" {
		t.Errorf("invalid: %v", got)
	}
	for _, err := range []error{raftstore.ErrNoLeader, raftstore.ErrClosed} {
		if KindOf(storeError(err)) != NoLeader {
			t.Errorf("%v is no NoLeader", err)
		}
	}
}
