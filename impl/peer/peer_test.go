package peer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
	"github.com/lacewing-mqtt/lacewing/impl/peer"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const name = "emqx@127.0.0.1"

// parts are those of one node, as the suite drives them from behind.
type parts struct {
	local  *admin.Local
	engine *engine.Engine
	synced int   // calls of Sync
	refuse error // of Reconfigure
}

// states is plugins.States without a disk.
type states struct {
	base, now *config.Config
	active    map[string]bool
}

func (s *states) Active(name string) (bool, bool) { a, ok := s.active[name]; return a, ok }

func (s *states) SetActive(_ context.Context, name string, active bool) error {
	s.active[name] = active
	return nil
}
func (s *states) Stored(string) (map[string]string, bool) { return nil, false }
func (s *states) Config() *config.Config                  { return s.now }
func (s *states) Preview(name string, set map[string]string) (*config.Config, error) {
	return s.base.With(config.Overrides{Plugin: maps.Clone(set), Replaced: []string{name}})
}
func (s *states) Store(_ context.Context, name string, set map[string]string) (err error) {
	s.now, err = s.Preview(name, set)
	return err
}

// quiet is a plugin that does nothing.
type quiet struct{}

func (quiet) Start(context.Context, plugins.Env) error { return nil }
func (quiet) Stop(context.Context) error               { return nil }

func newParts(t testing.TB) *parts {
	t.Helper()
	key := config.Key{Name: "retainer.n", Type: config.Integer, Default: "1", Max: 9, Plugin: "retainer", Doc: "A number.", Hot: true}
	table, err := config.NewTable(config.Core(), []config.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(table, config.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Options{Node: name})
	if err != nil {
		t.Fatal(err)
	}
	s := &states{base: cfg, now: cfg, active: map[string]bool{}}
	set := plugins.NewSet(plugins.Options{Node: name, Engine: e, Logger: slog.New(slog.DiscardHandler), States: s}, plugins.Descriptor{
		Name: "retainer", V3: plugins.Listing{Version: "3.0", Description: "a <plugin> & more"}, New: func() plugins.Plugin { return quiet{} },
	})
	t.Cleanup(func() {
		if err := errors.Join(set.Close(context.Background()), e.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	p := &parts{engine: e}
	p.local = admin.NewLocal(admin.LocalOptions{
		Name: name, ID: "id", Release: "1.2.3", Engine: e, Plugins: set, Config: s.Config, Started: time.Now().Add(-time.Hour),
		Reconfigure: func(context.Context) error { return p.refuse },
		HTTPListeners: func() []admin.Listener {
			return []admin.Listener{{Service: admin.ServiceAPI, Protocol: "http", Address: "8080", Shutdowns: map[string]int64{"overload": 3}}}
		},
	})
	return p
}

type rest struct{ api.StrictServerInterface }

// serve answers for a node as the cluster port does.
func (p *parts) serve(t testing.TB) *api.APIClient {
	t.Helper()
	h := &peer.Handlers{
		Node: func() (admin.Node, error) { return p.local, nil },
		Sync: func(context.Context) bool { p.synced++; return true },
	}
	e := echo.New()
	api.RegisterHandlersWithBaseURL(e, api.NewStrictHandler(struct {
		rest
		*peer.Handlers
	}{Handlers: h}, []api.StrictMiddlewareFunc{h.Failures}), "/api/node")
	return client(t, e)
}

func client(t testing.TB, h http.Handler) *api.APIClient {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := api.NewClient(s.URL+"/api/node", api.WithHTTPClient(s.Client()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *parts) remote(t testing.TB) admin.Node {
	return peer.New(peer.Options{Name: name, ID: "id", Client: p.serve(t)})
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

// connect puts clients with a name and a will into the engine.
func (p *parts) connect(t testing.TB, ids ...string) {
	t.Helper()
	l, err := p.engine.AddListener(engine.ListenerOptions{Name: "external", Protocol: "mqtt:tcp", Address: "1883", Acceptors: 4})
	if err != nil {
		t.Fatal(err)
	}
	field := func(s string) string { return string([]byte{0, byte(len(s))}) + s }
	b := p.engine.NewBatch()
	for i, id := range ids {
		conn, err := l.Accept(engine.ConnInfo{Peer: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), uint16(i+1))}, carrier{})
		if err != nil {
			t.Fatal(err)
		}
		body := field("MQTT") + "\x04\x86\x00\x3c" + field(id) + field("will") + field("w") + field("user")
		conn.Feed(b, []byte(string([]byte{0x10, byte(len(body))})+body))
		b.Flush()
		if _, there := p.engine.Client(id); !there {
			t.Fatalf("%q is not connected", id)
		}
	}
}

// odd are client identifiers with what paths, queries and JSON treat in their own way.
var odd = []string{"a b", "a%2Fb", "a/b?c=d&e", "a+b,c;d", "quote\"<\\", "ü\u2028"}

// same compares answers; times are equal when they are the same instant.
func same(a, b any) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && reflect.TypeOf(a) == reflect.TypeOf(b) && string(x) == string(y)
}

// suite is what every admin.Node has to do. p are the parts of the node that n is.
func suite(t *testing.T, p *parts, n admin.Node) {
	ctx := t.Context()
	kind := func(what string, err error, want admin.Kind) {
		t.Helper()
		if admin.KindOf(err) != want || err == nil {
			t.Errorf("%s: got %v, want kind %d", what, err, want)
		}
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if n.Name() != name || n.ID() != "id" {
		t.Errorf("it is %q, %q", n.Name(), n.ID())
	}
	ids := slices.Sorted(slices.Values(odd))
	p.connect(t, ids...)

	info, err := n.Info(ctx)
	must("info", err)
	if info.Name != name || !info.Running || info.Release != "1.2.3" || info.Clients != len(ids) || info.Uptime < time.Hour || info.Tasks == 0 || info.MemoryTotal == 0 ||
		time.Since(info.Now).Abs() > time.Minute {
		t.Errorf("info: %+v", info)
	}

	// Lists and rows, in order and over the borders of pages.
	rows, total, err := n.Clients(ctx, 0, 0)
	if must("length", err); len(rows) != 0 || total != len(ids) {
		t.Errorf("a limit of 0: %d rows of %d", len(rows), total)
	}
	var got []string
	for offset := 0; offset < len(ids); offset += 4 {
		rows, total, err := n.Clients(ctx, offset, 4)
		must("clients", err)
		want, _, _ := p.local.Clients(ctx, offset, 4)
		if total != len(ids) || !same(rows, want) {
			t.Errorf("clients from %d: got %d, %+v, want %+v", offset, total, rows, want)
		}
		for _, r := range rows {
			got = append(got, r.ID)
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("clients: %q, want %q", got, ids)
	}
	if rows, total, err := n.Clients(ctx, 1<<30, 5); err != nil || len(rows) != 0 || total != len(ids) {
		t.Errorf("past the end: %v, %d, %v", rows, total, err)
	}
	for _, id := range ids {
		c, err := n.Client(ctx, id)
		if must("client", err); len(c) != 1 || c[0].ID != id || c[0].Node != name || c[0].Username != "user" || c[0].WillTopic != "will" || c[0].Peer.Addr() != netip.MustParseAddr("2001:db8::1") {
			t.Errorf("client %q: %+v", id, c)
		}
		filter := "f/" + strings.NewReplacer("+", "", "#", "").Replace(id)
		must("subscribe", n.Subscribe(ctx, id, filter, 2))
		must("subscribe", n.Subscribe(ctx, id, "all/+/#", 1))
		of, err := n.SubscriptionsOf(ctx, id)
		if must("subscriptions of", err); len(of) != 2 || of[1] != (admin.Subscription{Node: name, ClientID: id, Topic: filter, QoS: 2}) {
			t.Errorf("subscriptions of %q: %+v", id, of)
		}
		s, err := n.Session(ctx, id)
		want, _ := p.local.Session(ctx, id)
		if must("session", err); !same(s, want) || len(s) != 1 || s[0].ClientID != id || s[0].Subscriptions != 2 {
			t.Errorf("session %q: got %+v, want %+v", id, s, want)
		}
		route, err := n.RoutesOf(ctx, filter)
		if must("routes of", err); len(route) != 1 || route[0] != (admin.Route{Topic: filter, Node: name}) {
			t.Errorf("routes of %q: %+v", filter, route)
		}
		must("unsubscribe", n.Unsubscribe(ctx, id, filter))
		must("unsubscribe twice", n.Unsubscribe(ctx, id, filter))
		must("clean acl", n.CleanACL(ctx, id, "t"))
	}
	for _, nobody := range []string{"nobody", "a"} {
		c, err := n.Client(ctx, nobody)
		s, err2 := n.Session(ctx, nobody)
		f, err3 := n.SubscriptionsOf(ctx, nobody)
		r, err4 := n.RoutesOf(ctx, nobody)
		if err := errors.Join(err, err2, err3, err4); err != nil || len(c)+len(s)+len(f)+len(r) != 0 {
			t.Errorf("%q: %v %v %v %v, %v", nobody, c, s, f, r, err)
		}
		kind("kick", n.Kick(ctx, nobody), admin.ClientOffline)
		kind("clean acl", n.CleanACL(ctx, nobody, "t"), admin.ClientOffline)
		kind("subscribe", n.Subscribe(ctx, nobody, "t", 0), admin.SessionNotFound)
		kind("unsubscribe", n.Unsubscribe(ctx, nobody, "t"), admin.SessionNotFound)
	}
	kind("subscribe", n.Subscribe(ctx, ids[0], "a#", 0), admin.BadTopic)
	if e, ok := errors.AsType[*admin.Error](n.Kick(ctx, "nobody")); !ok || e.Subject != "nobody" || e.Message == "" {
		t.Errorf("a failure without its words: %+v", e)
	}

	sessions, total, err := n.Sessions(ctx, 1, 3)
	wantSessions, _, _ := p.local.Sessions(ctx, 1, 3)
	if must("sessions", err); total != len(ids) || !same(sessions, wantSessions) {
		t.Errorf("sessions: got %+v of %d", sessions, total)
	}
	subs, total, err := n.Subscriptions(ctx, 0, 100)
	wantSubs, _, _ := p.local.Subscriptions(ctx, 0, 100)
	if must("subscriptions", err); total != len(ids) || !same(subs, wantSubs) {
		t.Errorf("subscriptions: got %+v of %d", subs, total)
	}
	routes, total, err := n.Routes(ctx, 0, 100)
	if must("routes", err); total != 1 || len(routes) != 1 || routes[0] != (admin.Route{Topic: "all/+/#", Node: name}) {
		t.Errorf("routes: got %+v of %d", routes, total)
	}

	// Messages.
	must("publish", n.Publish(ctx, admin.Message{Topic: "all/x", Payload: []byte{0, 255, '"'}, QoS: 1, From: "me"}))
	must("publish nothing", n.Publish(ctx, admin.Message{Topic: "all/x"}))
	kind("publish", n.Publish(ctx, admin.Message{Topic: "all/#"}), admin.BadTopic)
	if q := p.engine.Metrics(); q[engine.MessagesReceived] == 0 && q[engine.MessagesSent] == 0 {
		t.Error("nothing was published")
	}

	must("kick", n.Kick(ctx, ids[0]))
	if _, there := p.engine.Client(ids[0]); there {
		t.Error("the client is still there")
	}

	// Plugins.
	list := func() admin.Plugin {
		all, err := n.Plugins(ctx)
		if must("plugins", err); len(all) != 1 {
			t.Fatalf("plugins: %+v", all)
		}
		return all[0]
	}
	if got, want := list(), (admin.Plugin{Name: "retainer", V3: admin.Listing{Version: "3.0", Description: "a <plugin> & more"}}); got != want {
		t.Errorf("plugins: got %+v, want %+v", got, want)
	}
	kind("unload", n.UnloadPlugin(ctx, "emqx_retainer"), admin.PluginStopped)
	must("load", n.LoadPlugin(ctx, "emqx_retainer"))
	kind("load", n.LoadPlugin(ctx, "emqx_retainer"), admin.PluginStarted)
	kind("load", n.LoadPlugin(ctx, "emqx_nonsense"), admin.UnknownPlugin)
	kind("load", n.LoadPlugin(ctx, "emqx_recon"), admin.PluginAbsent)
	if !list().Active {
		t.Error("the plugin does not run")
	}
	settings := func() []admin.PluginSetting {
		rows, err := n.PluginConfig(ctx, "emqx_retainer")
		must("plugin config", err)
		return rows
	}
	before := settings()
	if len(before) != 1 || before[0].Key != "retainer.n" || before[0].Value != "1" {
		t.Errorf("plugin config: %+v", before)
	}
	must("set plugin config", n.SetPluginConfig(ctx, "emqx_retainer", map[string]string{"retainer.n": "7"}))
	if after := settings(); len(after) != 1 || after[0].Value != "7" || !after[0].Required {
		t.Errorf("plugin config: %+v", after)
	}
	must("set plugin config to nothing", n.SetPluginConfig(ctx, "emqx_retainer", nil))
	kind("set plugin config", n.SetPluginConfig(ctx, "emqx_retainer", map[string]string{"retainer.n": "x"}), admin.PluginRefused)
	_, err = n.PluginConfig(ctx, "nonsense")
	kind("plugin config", err, admin.UnknownPlugin)
	must("unload", n.UnloadPlugin(ctx, "emqx_retainer"))

	// Figures.
	listeners, err := n.Listeners(ctx)
	wantListeners, _ := p.local.Listeners(ctx)
	if must("listeners", err); !same(listeners, wantListeners) || len(listeners) != 2 || listeners[1].Shutdowns["overload"] != 3 {
		t.Errorf("listeners: got %+v, want %+v", listeners, wantListeners)
	}
	metrics, err := n.Metrics(ctx)
	wantMetrics, _ := p.local.Metrics(ctx)
	if must("metrics", err); !same(metrics, wantMetrics) || metrics["packets/connect"] != int64(len(ids)) {
		t.Errorf("metrics: got %v, want %v", metrics, wantMetrics)
	}
	stats, err := n.Stats(ctx)
	wantStats, _ := p.local.Stats(ctx)
	if must("stats", err); !same(stats, wantStats) || stats["connections/max"] != int64(len(ids)) {
		t.Errorf("stats: got %v, want %v", stats, wantStats)
	}
	for _, v := range []admin.Version{admin.V2, admin.V3} {
		rows, err := n.Settings(ctx, v)
		want, _ := p.local.Settings(ctx, v)
		if must("settings", err); len(rows) == 0 || !same(rows, want) {
			t.Errorf("settings of v%d: got %+v, want %+v", v, rows, want)
		}
	}
	storage, err := n.Storage(ctx)
	wantStorage, _ := p.local.Storage(ctx)
	if must("storage", err); !same(storage, wantStorage) || storage.Durability != "memory" {
		t.Errorf("storage: got %+v, want %+v", storage, wantStorage)
	}
	p.engine.Alarms().Raise(engine.Alarm{ID: "high", Severity: "critical", Title: "a title", Summary: "more"})
	alarms, err := n.Alarms(ctx)
	wantAlarms, _ := p.local.Alarms(ctx)
	if must("alarms", err); !same(alarms, wantAlarms) || len(alarms) != 1 || alarms[0].ID != "high" || alarms[0].At.IsZero() {
		t.Errorf("alarms: got %+v, want %+v", alarms, wantAlarms)
	}
	must("reconfigure", n.Reconfigure(ctx))
	p.refuse = errors.New("the port is taken")
	err = n.Reconfigure(ctx)
	kind("reconfigure", err, admin.ConfigRefused)
	if err == nil || !strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("reconfigure without a reason: %v", err)
	}
}

// TestNodes runs one suite over both implementations of admin.Node.
func TestNodes(t *testing.T) {
	t.Run("local", func(t *testing.T) {
		p := newParts(t)
		suite(t, p, p.local)
	})
	t.Run("remote", func(t *testing.T) {
		p := newParts(t)
		suite(t, p, p.remote(t))
		if p.synced == 0 {
			t.Error("a reconfiguration did not wait for what was stored")
		}
	})
}

// TestLargePages asks for more rows than one call brings.
func TestLargePages(t *testing.T) {
	p := newParts(t)
	n := p.remote(t)
	p.connect(t, "c")
	const filters = 25_000
	for i := range filters {
		if err := p.local.Subscribe(t.Context(), "c", fmt.Sprintf("f/%06d", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{9_999, 10_000, 20_000, 24_999, 30_000} {
		rows, total, err := n.Routes(t.Context(), 7, limit)
		want, _, _ := p.local.Routes(t.Context(), 7, limit)
		if err != nil || total != filters || !slices.Equal(rows, want) {
			t.Errorf("%d rows: got %d of %d, %v, want %d", limit, len(rows), total, err, len(want))
		}
	}
}

// TestAnswers says what a Node makes of answers that are not those of the document.
func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   admin.Kind
	}{
		{"it starts", 503, `{"message":"the node is starting"}`, admin.NodeDown},
		{"it does not know the call", 404, `{"message":"no such call"}`, admin.NodeDown},
		{"a fault", 500, `{"message":"nil pointer"}`, admin.Internal},
		{"no JSON", 200, `<html>`, admin.Internal},
		{"another JSON", 200, `{"items":7}`, admin.Internal},
		{"a refusal without JSON", 409, `x`, admin.Internal},
		{"a kind of a later release", 409, `{"kind":"too_blue","message":"no"}`, admin.Internal},
		{"a kind", 409, `{"kind":"quota","message":"no","subject":"s"}`, admin.Quota},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := peer.New(peer.Options{Name: name, Client: client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				fmt.Fprint(w, tc.body)
			}))})
			_, _, err := n.Clients(t.Context(), 0, 1)
			if err == nil || admin.KindOf(err) != tc.want {
				t.Errorf("got %v of kind %d, want kind %d", err, admin.KindOf(err), tc.want)
			}
		})
	}
	called := false
	count := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true })
	down := peer.New(peer.Options{Name: name, Client: client(t, count), Down: true})
	if _, err := down.Info(t.Context()); admin.KindOf(err) != admin.NodeDown || called {
		t.Errorf("a node that is down: %v, asked %v", err, called)
	}
	hangs := client(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := peer.New(peer.Options{Name: name, Client: hangs}).Stats(ctx); admin.KindOf(err) != admin.NodeDown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a node that hangs: %v", err)
	}
}
