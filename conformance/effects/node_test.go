package effects

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/node"
)

const (
	nodeName  = "emqx@127.0.0.1"
	adminName = "admin"
	adminPass = "public"
	appID     = "effects"
	appSecret = "effects-secret"
)

// world is a running node and what the tests know of it.
type world struct {
	t        testing.TB
	node     *running // shared by the worlds of subtests
	settings map[string]string
	log      *record
	devices  *[]*device
	listener string           // whom devices dial; "" is external
	baseline map[string]int64 // metrics before a scenario
}

// running is the node that runs now; a restart replaces it.
type running struct{ *node.Node }

// quiet are the settings of a node that does nothing by itself.
var quiet = map[string]string{
	"node.name":                       nodeName,
	"listener.tcp.external":           "127.0.0.1:0",
	"listener.tcp.internal":           "off",
	"listener.ssl.external":           "off",
	"listener.ws.external":            "off",
	"listener.wss.external":           "off",
	"cluster.listen":                  "127.0.0.1:0",
	"management.listener.http":        "127.0.0.1:0",
	"dashboard.listener.http":         "127.0.0.1:0",
	"management.bootstrap_app.id":     appID,
	"management.bootstrap_app.secret": appSecret,
	"broker.sys_interval":             "0",
	"broker.sys_heartbeat":            "0",
	"log.level":                       "none",
}

// start runs a node with these settings on top of the quiet ones.
func start(t testing.TB, settings map[string]string) *world {
	t.Helper()
	w := &world{t: t, settings: maps.Clone(quiet), log: &record{}, devices: new([]*device), node: &running{}}
	maps.Copy(w.settings, settings)
	if w.settings["node.data_dir"] == "" {
		w.settings["node.data_dir"] = t.TempDir()
	}
	w.run()
	t.Cleanup(w.stop)
	return w
}

func (w *world) run() {
	w.t.Helper()
	n, err := node.Start(context.Background(), node.Options{Settings: w.settings, Output: w.log})
	if err != nil {
		w.t.Fatalf("start node: %v\n%s", err, w.log)
	}
	w.node.Node = n
}

func (w *world) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.node.Close(ctx); err != nil {
		w.t.Errorf("close node: %v", err)
	}
}

// restart stops the node and runs it again on the same data.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.run()
}

// in returns the world for a subtest.
func (w *world) in(t testing.TB) *world {
	c := *w
	c.t, c.devices = t, new([]*device)
	return &c
}

// record keeps the log of a node.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.b.Len() > 4<<20 {
		r.b.Reset()
	}
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

var serial atomic.Int64

// unique returns a name that nothing else has.
func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, serial.Add(1)) }

// dial opens a connection and sends nothing.
func (w *world) dial(v byte) *device {
	w.t.Helper()
	if v == 0 {
		v = 4
	}
	d := dial(w.t, w.node.Addr("mqtt:tcp "+cmp.Or(w.listener, "external")), v)
	*w.devices = append(*w.devices, d)
	return d
}

// connect connects a client that must be let in.
func (w *world) connect(h hello) *device {
	w.t.Helper()
	if h.id == "" {
		h.id = unique("client")
	}
	d := w.dial(h.v)
	if code := d.hello(h); code != 0 {
		w.t.Fatalf("connect %s: got code 0x%02x, want 0", h.id, code)
	}
	return d
}

// refused connects a client and returns the code with which it is refused; 0 says that it is not.
func (w *world) refused(h hello) byte {
	w.t.Helper()
	if h.id == "" {
		h.id = unique("client")
	}
	d := w.dial(h.v)
	code := d.hello(h)
	if code == 0 {
		d.bye()
		return 0
	}
	d.closed()
	return code
}

// wire is how many octets the clients of this world have sent and read.
func (w *world) wire() (out, in int64) {
	for _, d := range *w.devices {
		out += d.out
		in += d.in
	}
	return out, in
}

// answer is what an API said.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	text   string
	json   any
}

// api asks: path begins with v2/ or v3/; an application asks the API listener for v3, an admin user for v2 and, with
// path d/v3/, the dashboard's listener.
func (w *world) api(method, path string, body any) answer {
	w.t.Helper()
	listener, user, pass := "http management", appID, appSecret
	if rest, ok := strings.CutPrefix(path, "d/"); ok {
		listener, path = "http dashboard", rest
		user, pass = adminName, adminPass
	}
	if strings.HasPrefix(path, "v2/") {
		user, pass = adminName, adminPass
	}
	return ask(w.t, method, "http://"+w.node.Addr(listener)+"/api/"+path, user, pass, body)
}

// ask sends one request as a user.
func ask(t testing.TB, method, target, user, pass string, body any) answer {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, r)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, pass)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	a := answer{t: t, what: method + " " + target, status: resp.StatusCode, header: resp.Header, text: string(b)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(b, &a.json); err != nil {
			t.Fatalf("%s: %v in %s", a.what, err, b)
		}
	}
	return a
}

// body is a JSON object.
type body map[string]any

// is fails unless status and body are these.
func (a answer) is(status int, want string) answer {
	a.t.Helper()
	var v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		a.t.Fatalf("bad expectation %s: %v", want, err)
	}
	if a.status != status || !reflect.DeepEqual(a.json, v) {
		a.t.Errorf("%s: got %d %s, want %d %s", a.what, a.status, strings.TrimSpace(a.text), status, want)
	}
	return a
}

// done fails unless the answer is success.
func (a answer) done() answer {
	a.t.Helper()
	ok := a.status == http.StatusOK || a.status == http.StatusCreated
	if m, is := a.json.(map[string]any); is {
		if code, there := m["code"]; there && code != 0.0 {
			ok = false
		}
	}
	if !ok {
		a.t.Fatalf("%s: got %d %s", a.what, a.status, a.text)
	}
	return a
}

// at returns what is under these keys and indexes; nil where nothing is.
func (a answer) at(path ...any) any {
	v := a.json
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// rows are the rows of a list, in either version.
func (a answer) rows() []map[string]any {
	a.t.Helper()
	a.done()
	v := a.json
	for _, key := range []string{"result", "objects", "items"} {
		if m, ok := v.(map[string]any); ok {
			if in, ok := m[key]; ok {
				v = in
			}
		}
	}
	l, ok := v.([]any)
	if !ok {
		a.t.Fatalf("%s: no list in %s", a.what, a.text)
	}
	rows := []map[string]any{}
	for _, e := range l {
		m, _ := e.(map[string]any)
		rows = append(rows, m)
	}
	return rows
}

// numbers are a JSON object of integers.
func numbers(t testing.TB, v any) map[string]int64 {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("no object of numbers: %v", v)
	}
	out := make(map[string]int64, len(m))
	for k, n := range m {
		f, ok := n.(float64)
		if !ok {
			t.Fatalf("%s is %v, want a number", k, n)
		}
		out[k] = int64(f)
	}
	return out
}

// eventually polls until f reports true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// segment escapes a name for a path.
func segment(s string) string { return url.PathEscape(s) }
