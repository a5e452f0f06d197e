package impl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// bench is a server over a real engine and store, without sockets.
type bench struct {
	server *Server
	engine *engine.Engine
	store  *raftstore.Store
	cfg    atomic.Pointer[config.Config]
	logged bytes.Buffer
	ready  error
}

// states are those of a node without plugins.
type states struct {
	plugins.States
	b *bench
}

func newBench(t testing.TB, settings ...string) *bench {
	t.Helper()
	b := &bench{}
	table, err := config.NewTable(config.Core())
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(table, config.LoadOptions{Set: settings})
	if err != nil {
		t.Fatal(err)
	}
	b.cfg.Store(cfg)
	b.store, err = raftstore.Open(raftstore.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.store.Close() }) // a test may have closed it
	if err := b.store.CreateUser(context.Background(), "admin", "public", "administrator"); err != nil {
		t.Fatal(err)
	}
	if b.engine, err = engine.New(engine.Options{Node: "emqx@127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.engine.Close(context.Background()) }) // nothing to drain
	logger := slog.New(slog.NewTextHandler(&b.logged, nil))
	set := plugins.NewSet(plugins.Options{Node: "emqx@127.0.0.1", Engine: b.engine, Store: b.store, Logger: logger, States: states{b: b}})
	service := admin.New(admin.Options{
		Local: admin.NewLocal(admin.LocalOptions{
			Name: "emqx@127.0.0.1", ID: b.store.NodeID(), Engine: b.engine, Plugins: set, Config: b.cfg.Load, Started: time.Now(),
			Reconfigure: func(context.Context) error { return nil },
		}),
		Store: b.store, Config: b.cfg.Load, Logger: logger,
	})
	b.server, err = New(Options{Admin: service, Config: b.cfg.Load, Logger: logger, Ready: func() error { return b.ready }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask sends a request from an address to a listener of a kind.
func (b *bench) ask(k Kind, from, method, path, body string, credentials ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = from + ":40000"
	if len(credentials) == 2 {
		r.SetBasicAuth(credentials[0], credentials[1])
	}
	w := httptest.NewRecorder()
	b.server.Handler(k).ServeHTTP(w, r)
	return w
}

const (
	near = "127.0.0.1"
	far  = "192.0.2.7"
)

func TestDefaultPasswordIsForThisMachine(t *testing.T) {
	b := newBench(t)
	for _, from := range []string{near, "127.8.8.8", "[::1]", "[::ffff:127.0.0.1]"} {
		if w := b.ask(API, from, "GET", "/api/v2/users", "", "admin", "public"); w.Code != 200 {
			t.Errorf("from %s: got %d, want 200", from, w.Code)
		}
	}
	if err := b.store.CreateUser(context.Background(), "other", "public", ""); err != nil {
		t.Fatal(err)
	}
	login := `{"username":"admin","password":"public"}`
	for _, from := range []string{far, "[2001:db8::1]"} {
		for _, path := range []string{"/api/v2/users", "/api/v3/brokers/"} {
			w := b.ask(Dashboard, from, "GET", path, "", "admin", "public")
			if w.Code != 401 || !strings.Contains(w.Body.String(), "default password") || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s from %s: got %d %q, want 401 and the reason", path, from, w.Code, w.Body)
			}
		}
		if w := b.ask(API, from, "POST", "/api/v2/auth", login); w.Code != 200 || !strings.Contains(w.Body.String(), `"code":103,"message":"the default password`) {
			t.Errorf("v2 auth from %s: got %d %s", from, w.Code, w.Body)
		}
		if w := b.ask(Dashboard, from, "POST", "/api/v3/auth", login); w.Code != 500 || !strings.Contains(w.Body.String(), `"message":"the default password`) {
			t.Errorf("v3 auth from %s: got %d %s", from, w.Code, w.Body)
		}
		// What a request says of its origin does not count.
		r := httptest.NewRequest("GET", "/api/v2/users", nil)
		r.RemoteAddr = from + ":1"
		r.SetBasicAuth("admin", "public")
		for _, h := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Client-Ip"} {
			r.Header.Set(h, near)
		}
		w := httptest.NewRecorder()
		b.server.Handler(API).ServeHTTP(w, r)
		if w.Code != 401 {
			t.Errorf("with forwarded headers from %s: got %d, want 401", from, w.Code)
		}
		if w := b.ask(API, from, "GET", "/api/v2/users", "", "other", "public"); w.Code != 200 {
			t.Errorf("another user from %s: got %d, want 200", from, w.Code)
		}
	}
	if w := b.ask(API, near, "PUT", "/api/v2/change_pwd/admin", `{"old_pwd":"public","new_pwd":"s3cret"}`, "admin", "public"); w.Code != 200 {
		t.Fatalf("change: got %d %s", w.Code, w.Body)
	}
	if w := b.ask(API, far, "GET", "/api/v2/users", "", "admin", "s3cret"); w.Code != 200 {
		t.Errorf("with a password of its own: got %d, want 200", w.Code)
	}
	if w := b.ask(API, near, "GET", "/api/v2/users", "", "admin", "public"); w.Code != 401 {
		t.Errorf("the old password: got %d, want 401", w.Code)
	}
}

func TestMetricsNeedCredentials(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	secret, err := b.store.CreateApplication(ctx, raftstore.Application{ID: "scraper", Status: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.CreateUser(ctx, "viewer", "pw", ""); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, from string
		as         []string
		want       int
	}{
		{"loopback", near, nil, 200},
		{"nobody", far, nil, 401},
		{"an application", far, []string{"scraper", secret}, 200},
		{"a user", far, []string{"viewer", "pw"}, 200},
		{"a wrong secret", far, []string{"scraper", "x"}, 401},
	} {
		for _, k := range []Kind{API, Dashboard} {
			if w := b.ask(k, tt.from, "GET", "/metrics", "", tt.as...); w.Code != tt.want {
				t.Errorf("%s: got %d, want %d", tt.name, w.Code, tt.want)
			}
		}
	}
}

func TestNoLeader(t *testing.T) {
	b := newBench(t)
	if w := b.ask(API, near, "GET", "/api/v2/users", "", "admin", "public"); w.Code != 200 {
		t.Fatalf("got %d", w.Code)
	}
	b.server.timeout = 100 * time.Millisecond
	if err := b.store.Close(); err != nil { // a store that takes no write, whatever the reason
		t.Fatal(err)
	}
	for _, dialect := range []string{"items", "code"} {
		set, err := config.Load(b.cfg.Load().Table(), config.LoadOptions{Set: []string{"management.v3_dialect=" + dialect}})
		if err != nil {
			t.Fatal(err)
		}
		b.cfg.Store(set)
		for _, tt := range []struct{ path, items, code string }{
			{"/api/v2/users", `{"code":101,"message":"no leader"}`, `{"code":101,"message":"no leader"}`},
			{"/api/v3/users/", `{"message":"no_leader"}`, `{"code":101,"message":"no_leader"}`},
		} {
			w := b.ask(Dashboard, near, "POST", tt.path, `{"username":"a","password":"b","tags":""}`, "admin", "public")
			want := map[string]string{"items": tt.items, "code": tt.code}[dialect]
			if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.TrimSpace(w.Body.String()) != want {
				t.Errorf("%s in %s: got %d %q %s, want 503 with Retry-After and %s", tt.path, dialect, w.Code, w.Header().Get("Retry-After"), w.Body, want)
			}
		}
	}
	// Reads go on.
	if w := b.ask(API, near, "GET", "/api/v2/users", "", "admin", "public"); w.Code != 200 {
		t.Errorf("a read: got %d, want 200", w.Code)
	}
	b.ready = errors.New("no leader")
	if w := b.ask(API, far, "GET", "/readyz", ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("readyz: got %d", w.Code)
	}
	if w := b.ask(API, far, "GET", "/livez", ""); w.Code != 200 {
		t.Errorf("livez: got %d", w.Code)
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		number int
		path   string
		status int
		body   string
	}{{2, "/api/v2/users", 404, ""}, {3, "/api/v3/users/", 500, "Internal Error"}} {
		for _, v := range b.server.versions {
			if v.number == tt.number {
				v.router = nil // the next request that gets so far panics
			}
		}
		w := b.ask(Dashboard, near, "GET", tt.path, "", "admin", "public")
		if w.Code != tt.status || w.Body.String() != tt.body || w.Header().Get("Content-Type") != "text/plain" {
			t.Errorf("%s: got %d %q %q, want %d %q", tt.path, w.Code, w.Body, w.Header().Get("Content-Type"), tt.status, tt.body)
		}
	}
	if !strings.Contains(b.logged.String(), "request failed") {
		t.Error("the panic is not in the log")
	}
}

func TestFailuresAreLimited(t *testing.T) {
	f := newFailures(3, time.Second, 2)
	now := time.Unix(1000, 0)
	a, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range 3 {
		if d := f.wait(a, now); d != 0 {
			t.Fatalf("failure %d: must wait %v", i, d)
		}
		f.failed(a, now)
	}
	if d := f.wait(a, now); d != time.Second {
		t.Errorf("after three failures: wait %v, want 1s", d)
	}
	if d := f.wait(other, now); d != 0 {
		t.Errorf("another source must wait %v", d)
	}
	if d := f.wait(a, now.Add(time.Second)); d != 0 {
		t.Errorf("a second later: wait %v, want 0", d)
	}
	// IPv6 sources count by /64, IPv4-mapped ones as IPv4, and the table is bounded.
	for i := range 3 {
		f.failed(netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i)), now)
	}
	if d := f.wait(netip.MustParseAddr("2001:db8::ffff"), now); d == 0 {
		t.Error("another address of the same /64 need not wait")
	}
	f.failed(netip.MustParseAddr("::ffff:192.0.2.2"), now)
	if n := f.size(); n != 2 {
		t.Errorf("%d sources are remembered, want 2", n)
	}
	if d := f.wait(a, now); d != 0 {
		t.Errorf("the source that was quiet for the longest is still remembered")
	}
}

// carrier is the transport of a client that never reads.
type carrier struct{}

func (carrier) Write(bufs [][]byte) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	return n, nil
}
func (carrier) Resume() {}
func (carrier) Close()  {}

// crowd puts clients with so many subscriptions each, all different, into the engine.
func (b *bench) crowd(t testing.TB, clients, each int) *engine.Listener {
	t.Helper()
	l, err := b.engine.AddListener(engine.ListenerOptions{Name: "external", Protocol: "mqtt:tcp", Address: "1883"})
	if err != nil {
		t.Fatal(err)
	}
	batch := b.engine.NewBatch()
	for i := range clients {
		var subs []packet.Subscription
		for k := range each {
			subs = append(subs, packet.Subscription{Filter: fmt.Sprintf("site/%d/device/%d/%d", i%1000, i, k), QoS: 1})
		}
		b.enter(t, l, batch, fmt.Sprintf("client-%07d", i), i, subs...)
	}
	if _, total := b.engine.Clients(0, 0); total != clients {
		t.Fatalf("%d clients are connected, want %d", total, clients)
	}
	if _, total := b.engine.Subscriptions(0, 0); total != clients*each {
		t.Fatalf("%d subscriptions, want %d", total, clients*each)
	}
	return l
}

// enter connects one client.
func (b *bench) enter(t testing.TB, l *engine.Listener, batch *engine.Batch, id string, n int, subs ...packet.Subscription) *engine.Conn {
	t.Helper()
	peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 40000)
	c, err := l.Accept(engine.ConnInfo{Peer: peer, Local: peer}, carrier{})
	if err != nil {
		t.Fatal(err)
	}
	p := (&packet.Connect{Version: packet.V311, CleanStart: true, ClientID: id}).Append(nil, packet.V311)
	if len(subs) > 0 {
		p = (&packet.Subscribe{PacketID: 1, Filters: subs}).Append(p, packet.V311)
	}
	if next := c.Feed(batch, p); next != engine.ReadOn {
		t.Fatalf("client %s: %v", id, next)
	}
	batch.Flush()
	return c
}

// BenchmarkClientPages asks for pages at both ends of a list of 100 000: the
// cost is that of the page, wherever it is.
func BenchmarkClientPages(b *testing.B) {
	s := newBench(b)
	s.crowd(b, 100_000, 0)
	for _, page := range []int{1, 10, 5000} {
		for _, call := range []struct{ name, path string }{
			{"v3-10000-rows", "/api/v3/connections/?_page=%d"},
			{"v2", "/api/v2/nodes/emqx@127.0.0.1/clients?page_size=20&curr_page=%d"},
			{"v3", "/api/v3/connections/?_limit=20&_page=%d"},
			{"v3-sessions", "/api/v3/sessions/?_limit=20&_page=%d"},
		} {
			if large := strings.HasSuffix(call.name, "rows"); large && page == 5000 || !large && page == 10 {
				continue // past the end, or no end
			}
			b.Run(fmt.Sprintf("%s/page=%d", call.name, page), func(b *testing.B) {
				h, path := s.server.Handler(Dashboard), fmt.Sprintf(call.path, page)
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequest("GET", path, nil)
					r.RemoteAddr = near + ":1"
					r.SetBasicAuth("admin", "public")
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					if w.Code != http.StatusOK || w.Body.Len() < 20*100 {
						b.Fatalf("got %d %s", w.Code, w.Body)
					}
				}
			})
		}
	}
}

// TestPagesOfManyClients walks all pages of a large list.
func TestPagesOfManyClients(t *testing.T) {
	const n = 2500
	b := newBench(t)
	b.crowd(t, n, 0)
	seen := 0
	for page := 1; ; page++ {
		w := b.ask(Dashboard, near, "GET", fmt.Sprintf("/api/v3/connections/?_limit=999&_page=%d", page), "", "admin", "public")
		rows := strings.Count(w.Body.String(), `"client_id":"client-`)
		if want := fmt.Sprintf(`"client_id":"client-%07d"`, seen); rows > 0 && !strings.Contains(w.Body.String(), want) {
			t.Errorf("page %d has no %s", page, want)
		}
		if seen += rows; rows < 999 {
			break
		}
	}
	if seen != n {
		t.Errorf("%d rows on all pages, want %d", seen, n)
	}
}
