package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCredentials(t *testing.T) {
	w := start(t, nil)
	const v2Realm, v3Realm = `Basic Realm="emqx control center"`, `Basic Realm="minirest-server"`
	for _, l := range []struct {
		name, base, path, text, realm string
		user                          bool // admin users are let in, else applications
	}{
		{"v2 on the API listener", w.v2.base, "/api/v2/users", "", v2Realm, true},
		{"v2 on the dashboard listener", w.v2d.base, "/api/v2/users", "", v2Realm, true},
		{"v3 on the API listener", w.v3.base, "/api/v3/brokers/", "UNAUTHORIZED", v3Realm, false},
		{"v3 on the dashboard listener", w.v3d.base, "/api/v3/brokers/", "UNAUTHORIZED", v3Realm, true},
	} {
		t.Run(l.name, func(t *testing.T) {
			for name, header := range map[string]string{
				"none":            "",
				"another scheme":  "Bearer abc",
				"no base64":       "Basic %%%",
				"no colon":        "Basic YWRtaW4=",
				"nothing":         "Basic",
				"a wrong user":    basic("nobody", "public"),
				"a wrong secret":  basic(adminName, "wrong"),
				"the wrong kind":  map[bool]string{true: basic(appID, appSecret), false: basic(adminName, adminPass)}[l.user],
				"an empty secret": basic(adminName, ""),
				"an empty name":   basic("", "public"),
			} {
				for _, path := range []string{l.path, "/api/v" + l.path[6:7] + "/nosuch"} { // the check comes before routing
					resp, body := get(t, l.base+path, header)
					if resp.StatusCode != 401 || body != l.text || resp.Header.Get("WWW-Authenticate") != l.realm {
						t.Errorf("%s with %s: got %d %q %q, want 401 %q %q", path, name, resp.StatusCode, body, resp.Header.Get("WWW-Authenticate"), l.text, l.realm)
					}
				}
			}
			right := basic(adminName, adminPass)
			if !l.user {
				right = basic(appID, appSecret)
			}
			if resp, body := get(t, l.base+l.path, right); resp.StatusCode != 200 {
				t.Errorf("right credentials: got %d %q", resp.StatusCode, body)
			}
			if resp, body := get(t, l.base+"/api/v"+l.path[6:7]+"/nosuch", right); resp.StatusCode != 404 || body != map[bool]string{true: "", false: "Not found."}[l.text == ""] {
				t.Errorf("unknown path: got %d %q", resp.StatusCode, body)
			}
		})
	}
	t.Run("passwords with colons", func(t *testing.T) {
		c := w.v2.in(t)
		c.call(request{op: "create_user", body: map[string]any{"username": "colon", "password": "a:b::", "tags": ""}}).done()
		c.as("colon", "a:b::").call(request{op: "list_users"}).rows()
	})
	t.Run("forwarded headers say nothing", func(t *testing.T) {
		req, err := http.NewRequest("GET", w.v2.base+"/api/v2/users", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(adminName, adminPass)
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		req.Header.Set("Forwarded", "for=192.0.2.1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("got %d, want 200: the connection comes from loopback", resp.StatusCode)
		}
	})
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func get(t *testing.T, url, authorization string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestOpenPages(t *testing.T) {
	w := start(t, nil)
	open := w.v3.as("", "")
	for _, base := range []string{w.v3.base, w.v3d.base} {
		open.base = base
		open.send("GET", "/status", nil).isText(200, "Node "+nodeName+" is started\nemqx is running")
		open.send("HEAD", "/status", nil).isText(200, "")
		open.send("GET", "/livez", nil).isText(200, "ok")
		open.send("GET", "/readyz", nil).isText(200, "ok")
		open.send("POST", "/status", nil).isText(404, "Not found.")
		for _, path := range []string{"/api-docs/", "/api/v2/openapi.json", "/api/v3/openapi.json", "/api/v3/openapi.yaml"} {
			if a := open.send("GET", path, nil); a.status != 200 || len(a.text) < 100 {
				t.Errorf("%s: got %d %.80s", path, a.status, a.text)
			}
		}
		// This test comes from loopback, which needs no credentials.
		a := open.send("GET", "/metrics", nil)
		for _, name := range []string{"emqx_packets_publish_received ", "emqx_connections_count ", "emqx_bytes_received ", "emqx_message_forward ", "lacewing_raft_leader 1", `lacewing_http_requests_total{api="other",status="200"}`, "emqx_vm_cpu_use ", "go_goroutines "} {
			if !strings.Contains(a.text, "\n"+name) {
				t.Errorf("/metrics has no %s", name)
			}
		}
	}
	open.base = w.v3.base
	if a := open.send("GET", "/", nil); a.status != 200 || at(a.json, "paths", 0) == nil {
		t.Errorf("/ of the API listener: got %d %s", a.status, a.text)
	}
	if a := open.send("HEAD", "/", nil); a.status != 200 || a.text != "" {
		t.Errorf("HEAD /: got %d %q", a.status, a.text)
	}
	open.base = w.v3d.base
	if a := open.send("GET", "/", nil); a.status != 200 || !strings.Contains(a.text, `href="/api-docs/"`) {
		t.Errorf("/ of the dashboard listener: got %d %s", a.status, a.text)
	}
	// HEAD works nowhere else, other methods are unknown paths.
	for _, method := range []string{"HEAD", "PATCH", "OPTIONS", "TRACE", "DELETE"} {
		if a := w.v2.send(method, "/api/v2/users", nil); a.status != 404 || a.text != "" {
			t.Errorf("v2 %s: got %d %q", method, a.status, a.text)
		}
		want := "Not found."
		if method == "HEAD" {
			want = ""
		}
		if a := w.v3.send(method, "/api/v3/brokers/", nil); a.status != 404 || a.text != want {
			t.Errorf("v3 %s: got %d %q", method, a.status, a.text)
		}
	}
	w.v3.send("POST", "/api/v3/", nil).isText(400, "Bad Request")
}

// TestLargeBodies sends 100 MB to every kind of call, with a length and without.
func TestLargeBodies(t *testing.T) {
	w := start(t, nil)
	const size = 100 << 20
	for _, c := range []client{w.v2, w.v3, w.v2.as("", ""), w.v3.as("nobody", "x")} {
		for _, length := range []int64{size, -1} {
			req, err := http.NewRequest("POST", c.base+c.spec().prefix+"/mqtt/publish", io.LimitReader(spaces{}, size))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = length
			want := 413
			if c.user != adminName && c.user != appID {
				want = 401 // nothing is read for strangers
			}
			if c.user != "" {
				req.SetBasicAuth(c.user, c.secret)
			}
			began := memory()
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				// The server answers and closes while the client still writes; the
				// client may see the reset before the answer.
				if !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") && !errors.Is(err, io.EOF) {
					t.Errorf("%s %s: %v", c.doc, c.user, err)
				}
				continue
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s %q: got %d, want %d", c.doc, c.user, resp.StatusCode, want)
			}
			if grown := memory() - began; grown > 32<<20 {
				t.Errorf("%s %q: the heap has grown by %d MB", c.doc, c.user, grown>>20)
			}
		}
	}
	w.v2.call(request{op: "list_users"}).rows()
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestGarbage writes what is no HTTP, or strange HTTP, to both listeners.
func TestGarbage(t *testing.T) {
	w := start(t, nil)
	for _, addr := range []string{w.node.Addr("http management"), w.node.Addr("http dashboard")} {
		for _, text := range []string{
			"\x00\x01\x02\x03\r\n\r\n",
			"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // a TLS hello
			"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", // a CONNECT
			"GET\r\n\r\n",
			"GET / HTTP/9.9\r\n\r\n",
			"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /api/v2/users HTTP/1.1\r\n\r\n", // no host
			"GET /api/v2/users HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
			"POST /api/v2/auth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
			"POST /api/v2/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
			"GET /api/v3/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
			"GET /" + strings.Repeat("a/", 1<<19) + " HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET http://elsewhere/api/v2/users HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere:80\r\n\r\n",
		} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // a fresh connection takes deadlines
			_, _ = io.WriteString(conn, text)                      // it may be closed while we write
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.CloseWrite() // the same
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil {
				if resp.StatusCode < 400 {
					t.Errorf("%.40q: got %d", text, resp.StatusCode)
				}
				resp.Body.Close()
			}
			conn.Close()
		}
	}
	w.v2.call(request{op: "list_users"}).rows()
	w.v3.call(request{op: "list_brokers"}).rows()
}

// TestSlowClients opens connections that never finish their header, or their
// body, and checks that they are closed and disturb nobody.
func TestSlowClients(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for time-outs of 10 and 30 s")
	}
	// There are more of them than the listener takes.
	w := start(t, map[string]string{"management.listener.http.max_clients": "64"})
	addr := w.node.Addr("http management")
	dial := func(text string) net.Conn {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	began := time.Now()
	var headers []net.Conn
	for range 100 {
		headers = append(headers, dial("GET /status HTTP/1.1\r\nHost: x\r\nX: "))
	}
	body := dial("POST /api/v2/mqtt/publish HTTP/1.1\r\nHost: x\r\nAuthorization: " + basic(adminName, adminPass) + "\r\nContent-Length: 1000\r\n\r\n{")
	stop := make(chan struct{})
	var drip sync.WaitGroup
	drip.Go(func() { // a byte a second keeps no connection open
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				for _, c := range headers {
					_, _ = c.Write([]byte("a")) // it may be closed already
				}
				_, _ = body.Write([]byte(" ")) // the same
			}
		}
	})
	defer drip.Wait()
	defer close(stop)
	for range 20 {
		asked := time.Now()
		w.v2.call(request{op: "list_users"}).rows()
		if took := time.Since(asked); took > 2*time.Second {
			t.Errorf("a good client waited %v", took)
		}
	}
	ends := func(c net.Conn, most time.Duration) {
		t.Helper()
		_ = c.SetReadDeadline(began.Add(most)) // an open connection takes deadlines
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("still open after %v: %v", most, err)
		}
		c.Close()
	}
	for _, c := range headers {
		ends(c, 15*time.Second)
	}
	ends(body, 45*time.Second)
}

// TestFailedLogins tries 10 000 passwords from several addresses at once.
func TestFailedLogins(t *testing.T) {
	w := start(t, nil)
	w.v2.call(request{op: "list_users"}).rows() // good credentials, known from now on
	began := memory()
	const sources, tries = 8, 1250
	var refused, limited, other, retry atomic.Int64
	var guessers sync.WaitGroup
	for i := range sources {
		guessers.Go(func() {
			from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(10+i))}
			hc := &http.Client{Transport: &http.Transport{
				DialContext:         (&net.Dialer{LocalAddr: from}).DialContext,
				MaxIdleConnsPerHost: 4,
			}}
			defer hc.CloseIdleConnections()
			name := adminName
			if i > 0 {
				name = "nobody"
			}
			for n := range tries {
				url := w.v2.base + "/api/v2/users"
				if n%3 == 1 {
					url = w.v3.base + "/api/v3/brokers/"
				}
				req, err := http.NewRequestWithContext(context.Background(), "GET", url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.SetBasicAuth(name, fmt.Sprint("guess", n))
				if n%3 == 2 {
					req.Method, req.URL.Path = "POST", "/api/v2/auth"
					req.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"username":%q,"password":"guess%d"}`, name, n)))
				}
				resp, err := hc.Do(req)
				if err != nil {
					t.Errorf("from %v: %v", from, err)
					return
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				switch {
				case err != nil:
					t.Error(err)
				case resp.StatusCode == 401, resp.StatusCode == 200 && strings.Contains(string(text), `"code":103`):
					refused.Add(1)
				case resp.StatusCode == 429:
					limited.Add(1)
					if resp.Header.Get("Retry-After") != "" {
						retry.Add(1)
					}
				default:
					other.Add(1)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { guessers.Wait(); close(done) }()
	var slowest time.Duration
	for busy := true; busy; {
		asked := time.Now()
		w.v2.call(request{op: "list_users"}).rows() // from 127.0.0.1, which has not failed
		slowest = max(slowest, time.Since(asked))
		select {
		case <-done:
			busy = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	if total := refused.Load() + limited.Load(); total != sources*tries || other.Load() != 0 {
		t.Errorf("%d refused, %d limited, %d answered otherwise, want %d in the first two", refused.Load(), limited.Load(), other.Load(), sources*tries)
	}
	if limited.Load() < sources*tries/2 || retry.Load() != limited.Load() {
		t.Errorf("%d were limited, %d of them with Retry-After", limited.Load(), retry.Load())
	}
	if slowest > 3*time.Second {
		t.Errorf("a good client waited %v", slowest)
	}
	if grown := memory() - began; grown > 32<<20 {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
	t.Logf("%d refused, %d limited, slowest good request %v", refused.Load(), limited.Load(), slowest)
}
