package effects

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestBadPackets throws malformed and oversized packets of every type at the program, before and after CONNECT, in every
// version, and octets by chance. Each closes its own connection, and nothing else happens.
func TestBadPackets(t *testing.T) {
	p := launch(t, 0, nil)
	mqtt := p.address["mqtt:tcp external"]
	b := p.watch()
	memory := p.grownAtMost(96 << 20)
	closes := func(t *testing.T, d *device) {
		t.Helper()
		for {
			m, err := d.tryRead(patience)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				t.Errorf("still connected")
				return
			case err != nil:
				return
			case m.typ != tConnack && m.typ != tDisconnect:
				t.Errorf("got %s", m)
			}
		}
	}
	bad := map[string][]byte{
		"length of five octets": {0x30, 0xff, 0xff, 0xff, 0xff, 0x01},
		"QoS 3":                 frame(tPublish, 6, text("a"), u16(1)),
		"identifier 0":          frame(tPublish, 2, text("a"), u16(0)),
		"topic with wildcard":   frame(tPublish, 0, text("a/+")),
		"topic with NUL":        frame(tPublish, 0, text("a\x00b")),
		"topic no UTF-8":        frame(tPublish, 0, text("a\xff")),
		"topic too long":        {0x30, 3, 0xff, 0xff, 'a'},
		"no filter":             frame(tSubscribe, 2, u16(1)),
		"subscribe flags":       frame(tSubscribe, 0, u16(1), text("a"), []byte{0}),
		"QoS 3 in a filter":     frame(tSubscribe, 2, u16(1), text("a"), []byte{3}),
		"no filter to leave":    frame(tUnsubscribe, 2, u16(1)),
		"pubrel flags":          frame(tPubrel, 0, u16(1)),
		"short puback":          frame(tPuback, 0, []byte{0}),
		"ping with a body":      frame(tPingreq, 0, []byte{0}),
		"second connect":        (&device{v: 4}).connectBytes(hello{id: "x"}),
		"type 0":                {0, 0},
	}
	for _, typ := range []byte{tConnect, tConnack, tPublish, tPuback, tPubrec, tPubrel, tPubcomp, tSubscribe, tSuback, tUnsubscribe, tUnsuback, tDisconnect, tAuth} {
		flags := map[byte]byte{tPubrel: 2, tSubscribe: 2, tUnsubscribe: 2}[typ]
		bad[typeNames[typ]+" of 256 MB"] = []byte{typ<<4 | flags, 0xff, 0xff, 0xff, 0x7f}
		bad[typeNames[typ]+" of junk"] = frame(typ, flags, []byte{0xff, 0xff, 0xff})
	}
	for name, octets := range bad {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			for _, v := range []byte{3, 4, 5} {
				if typ := octets[0] >> 4; v == 4 && typ == tDisconnect && len(octets) < 8 { // either way the connection ends
					continue
				}
				d := dial(t, mqtt, v)
				if d.hello(hello{id: unique("bad")}) != 0 {
					t.Fatal("not let in")
				}
				d.write(octets)
				closes(t, d)
			}
			if octets[0]>>4 != tConnect || octets[1] == 0xff || len(octets) == 5 { // a good CONNECT is in the table too
				d := dial(t, mqtt, 4)
				d.write(octets)
				closes(t, d)
			}
		})
	}
	t.Run("chance", func(t *testing.T) {
		state := uint64(88172645463325252)
		for range 300 {
			junk := make([]byte, 64)
			for i := range junk {
				state ^= state << 13
				state ^= state >> 7
				state ^= state << 17
				junk[i] = byte(state)
			}
			d := dial(t, mqtt, 4)
			d.write(junk)
			d.drop()
			d = dial(t, mqtt, 5)
			if d.hello(hello{id: unique("junk")}) != 0 {
				t.Fatal("not let in")
			}
			d.write(junk)
			d.drop()
		}
	})
	t.Run("one large packet after the other", func(t *testing.T) { // each near the largest that is taken, never finished
		var held []*device
		for range 100 {
			d := dial(t, mqtt, 4)
			if d.hello(hello{id: unique("large")}) != 0 {
				t.Fatal("not let in")
			}
			held = append(held, d)
			d.write(append([]byte{0x30, 0xff, 0xff, 0x3e}, make([]byte, 64<<10)...)) // it says 1 MB less 16 kB
		}
		for _, d := range held { // it waits for the rest
			if _, err := d.tryRead(10 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want the connection to wait", err)
			}
		}
	})
	memory()
	b.undisturbed(t, 5*time.Second)
	p.manage()
	eventually(t, "only the bystander is left, who has gone", func() bool { return p.connections() <= 2+100 })
}

// TestHalfOpen opens connections that never become clients: silent, with half a CONNECT, with half a request on the
// WebSocket and TLS ports. They are closed when their time is over.
func TestHalfOpen(t *testing.T) {
	p := launch(t, 0, map[string]string{"zone.external.idle_timeout": "1s", "listener.ssl.external": "127.0.0.1:0",
		"listener.ssl.external.handshake_timeout": "1s", "listener.ws.external": "127.0.0.1:0"})
	eventually(t, "all five listen", func() bool {
		for _, m := range regexp.MustCompile(`listener="([^"]+)" address=(\S+)`).FindAllStringSubmatch(p.log.String(), -1) {
			p.address[m[1]] = m[2]
		}
		return len(p.address) >= 5
	})
	b := p.watch()
	memory := p.grownAtMost(64 << 20)
	var open []net.Conn
	for i := range 600 {
		listener := []string{"mqtt:tcp external", "mqtt:ssl external", "mqtt:ws external"}[i%3]
		nc, err := net.DialTimeout("tcp", p.address[listener], patience)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		switch i % 6 {
		case 0:
			half := (&device{v: 4}).connectBytes(hello{id: "half"})
			_, err = nc.Write(half[:len(half)/2])
		case 1:
			_, err = nc.Write([]byte{22, 3, 1}) // the beginning of a handshake
		case 2:
			_, err = io.WriteString(nc, "GET /mqtt HTTP/1.1\r\nHost:")
		}
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, nc)
	}
	p.manage()
	deadline := time.Now().Add(20 * time.Second)
	for i, nc := range open {
		nc.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is still open", i)
		}
	}
	memory()
	b.undisturbed(t, 5*time.Second)
}

// TestConnectStorm opens more connections than there are descriptors. MQTT connections are refused before the limit; the
// API, metadata and the clients that are there do not notice.
func TestConnectStorm(t *testing.T) {
	p := launch(t, 600, nil)
	b := p.watch()
	memory := p.grownAtMost(128 << 20)
	mqtt := p.address["mqtt:tcp external"]
	var mu sync.Mutex
	var in []*device
	refused := 0
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 150 {
				nc, err := net.DialTimeout("tcp", mqtt, patience)
				if err != nil {
					mu.Lock()
					refused++
					mu.Unlock()
					continue
				}
				d := newDevice(t, nc, 4)
				d.write(d.connectBytes(hello{id: fmt.Sprintf("storm-%d-%d", worker, i)}))
				ack, err := d.tryRead(patience)
				mu.Lock()
				if err == nil && ack.typ == tConnack && ack.code == 0 {
					in = append(in, d)
				} else {
					refused++
					nc.Close()
				}
				mu.Unlock()
				if i%30 == 0 {
					p.manage()
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d connected, %d refused, of 1200", len(in), refused)
	if len(in) < 200 || len(in) > 600 || refused == 0 {
		t.Errorf("%d connected and %d refused with 600 descriptors", len(in), refused)
	}
	p.manage()
	for _, d := range in { // all that were let in are served
		d.ping()
	}
	for _, d := range in {
		d.nc.Close()
	}
	eventually(t, "the storm is over", func() bool { return p.connections() == 2 })
	d := dial(t, mqtt, 4)
	if code := d.hello(hello{id: "after"}); code != 0 {
		t.Errorf("after the storm: got code %d, want 0", code)
	}
	d.bye()
	p.manage()
	memory()
	b.undisturbed(t, 5*time.Second)
}

// TestLargeBodies sends 100 MB to every way into the API. It is refused after the limit of 1 MB, whatever the request says
// of its length, and nothing of it is kept.
func TestLargeBodies(t *testing.T) {
	p := launch(t, 0, nil)
	b := p.watch()
	memory := p.grownAtMost(64 << 20)
	for _, c := range []struct {
		name, listener, path, user, pass string
		chunked                          bool
		status                           []int // 0: the connection is closed
	}{
		{"with its length", "http management", "/api/v3/mqtt/publish", appID, appSecret, false, []int{413, 0}},
		{"in chunks", "http management", "/api/v3/mqtt/publish", appID, appSecret, true, []int{413, 0}},
		{"v2", "http dashboard", "/api/v2/mqtt/publish", adminName, adminPass, true, []int{413, 0}},
		{"without credentials", "http management", "/api/v3/mqtt/publish", "", "", true, []int{401, 413, 0}},
		{"login", "http dashboard", "/api/v3/auth", "", "", true, []int{413, 0}},
		{"no such path", "http management", "/nowhere", "", "", true, []int{401, 404, 413, 0}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			const size = 100 << 20
			taken := &drip{left: size}
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+p.address[c.listener]+c.path, taken)
			if err != nil {
				t.Fatal(err)
			}
			if !c.chunked {
				req.ContentLength = size
			}
			if c.user != "" {
				req.SetBasicAuth(c.user, c.pass)
			}
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			status := 0
			resp, err := transport.RoundTrip(req)
			if err == nil {
				status = resp.StatusCode
				resp.Body.Close()
			}
			if !slices.Contains(c.status, status) {
				t.Errorf("got status %d, want one of %v", status, c.status)
			}
			if n := taken.given(); n > 32<<20 {
				t.Errorf("%d MB were taken before it was refused", n>>20)
			}
		})
	}
	memory()
	b.undisturbed(t, 5*time.Second)
	p.manage()
}

// drip is a body of zeros that counts what is read.
type drip struct {
	mu   sync.Mutex
	left int64
	read int64
}

func (d *drip) Read(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), d.left))
	clear(b[:n])
	d.left -= int64(n)
	d.read += int64(n)
	return n, nil
}

func (d *drip) given() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read
}

// TestSlowloris holds more connections to the API than it takes, each with a request that never ends, and as many to the
// MQTT port. Somebody with a whole request is served all the same.
func TestSlowloris(t *testing.T) {
	p := launch(t, 0, nil)
	b := p.watch()
	memory := p.grownAtMost(96 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var open []net.Conn
	for i := range 700 {
		listener := "http management"
		if i%7 == 6 {
			listener = "mqtt:tcp external"
		}
		nc, err := net.DialTimeout("tcp", p.address[listener], patience)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, nc)
		first := "GET /api/v3/nodes/ HTTP/1.1\r\nHost: x\r\n"
		if listener != "http management" {
			first = string((&device{v: 4}).connectBytes(hello{id: unique("slow"), will: &message{topic: "t", payload: strings.Repeat("x", 500)}})[:20])
		}
		if _, err := io.WriteString(nc, first); err != nil {
			continue // closed already, which is as good
		}
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			for _, nc := range open {
				nc.SetWriteDeadline(time.Now().Add(time.Second))
				_, _ = nc.Write([]byte("x")) // it may be closed: that is the point
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	slowest, calls := time.Duration(0), 0
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until); calls++ {
		begin := time.Now()
		http.DefaultClient.CloseIdleConnections()
		p.manage()
		slowest = max(slowest, time.Since(begin))
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%d times two calls on new connections, the slowest %v", calls, slowest.Round(time.Millisecond))
	if slowest > 12*time.Second { // a header may take ten seconds
		t.Errorf("two calls took %v", slowest)
	}
	cancel()
	wg.Wait()
	for _, nc := range open {
		nc.Close()
	}
	memory()
	b.undisturbed(t, 5*time.Second)
}

// TestGarbageRequests sends what is no HTTP, or hardly, to both listeners.
func TestGarbageRequests(t *testing.T) {
	p := launch(t, 0, nil)
	memory := p.grownAtMost(64 << 20)
	long := strings.Repeat("a", 80<<10)
	for name, octets := range map[string]string{
		"binary":           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
		"CONNECT of MQTT":  string((&device{v: 4}).connectBytes(hello{id: "lost"})) + "\r\n\r\n",
		"no version":       "GET /api/v3/\r\n\r\n",
		"method of junk":   "G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n",
		"header of junk":   "GET / HTTP/1.1\r\nHost: x\r\n\x00: \xff\r\n\r\n",
		"two lengths":      "POST /api/v3/mqtt/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"negative length":  "POST /api/v3/mqtt/publish HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"bad chunk":        "POST /api/v3/mqtt/publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"long line":        "GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"long header":      "GET / HTTP/1.1\r\nHost: x\r\nX: " + long + "\r\n\r\n",
		"many headers":     "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n",
		"path of escapes":  "GET /api/v3/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
		"broken escape":    "GET /api/v3/nodes/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"upgrade":          "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"junk credentials": "GET /api/v3/nodes/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \xff\xff\r\n\r\n",
	} {
		for _, listener := range []string{"http management", "http dashboard"} {
			t.Run(strings.ReplaceAll(name+"/"+listener, " ", "_"), func(t *testing.T) {
				nc, err := net.DialTimeout("tcp", p.address[listener], patience)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(patience))
				go func() { _, _ = io.WriteString(nc, octets) }() // it may be closed before it has all
				resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal("neither answered nor closed")
				}
				if err != nil {
					return // closed without an answer
				}
				// The dashboard listener has an open page at /, whatever else the request asks for.
				page := listener == "http dashboard" || name == "upgrade" || name == "no version"
				if resp.StatusCode >= 500 || resp.StatusCode < 400 && !page {
					t.Errorf("got status %d", resp.StatusCode)
				}
			})
		}
	}
	memory()
	p.manage()
}

// TestFailedLogins lets guessers from many addresses fail ten thousand times. Each is told to wait; nobody else is.
func TestFailedLogins(t *testing.T) {
	p := launch(t, 0, nil)
	b := p.watch()
	memory := p.grownAtMost(192 << 20)
	const guessers, each = 20, 500
	var mu sync.Mutex
	status := map[int]int{}
	waits := 0
	var wg sync.WaitGroup
	for g := range guessers {
		wg.Go(func() {
			from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(100+g))}
			transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: from, Timeout: patience}).DialContext}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: 60 * time.Second}
			target, user := "http://"+p.address["http management"]+"/api/v3/nodes/", appID
			if g%5 == 0 { // admin users have slow passwords
				target, user = "http://"+p.address["http dashboard"]+"/api/v3/users/", adminName
			}
			for i := range each {
				req, err := http.NewRequestWithContext(t.Context(), "GET", target, nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.SetBasicAuth(user, fmt.Sprintf("guess-%d-%d", g, i))
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("guesser %d: %v", g, err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body) // what it says does not matter
				resp.Body.Close()
				mu.Lock()
				status[resp.StatusCode]++
				if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") != "" {
					waits++
				}
				mu.Unlock()
			}
		})
	}
	guessed := make(chan struct{})
	go func() { wg.Wait(); close(guessed) }()
	slowest, calls := time.Duration(0), 0
	for begun := false; !begun; {
		begin := time.Now()
		p.manage()
		ask(t, "GET", "http://"+p.address["http dashboard"]+"/api/v3/users/", adminName, adminPass, nil).done()
		slowest = max(slowest, time.Since(begin))
		calls++
		select {
		case <-guessed:
			begun = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Logf("%d guesses: %v; the user beside them: %d times three calls, the slowest %v", guessers*each, status, calls, slowest.Round(time.Millisecond))
	if status[401]+status[429] != guessers*each || status[429] < guessers*each/2 || waits != status[429] {
		t.Errorf("got %v, %d with Retry-After; want 401, and 429 with Retry-After for most", status, waits)
	}
	if slowest > 10*time.Second {
		t.Errorf("the user beside them waited for %v", slowest)
	}
	memory()
	b.undisturbed(t, 5*time.Second)
}
