package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/node"
)

// childVar makes the test binary a node with the settings that it holds.
const childVar = "LACEWING_CLUSTER_NODE"

func TestMain(m *testing.M) {
	if text := os.Getenv(childVar); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

// child runs a node until a signal ends it, or the test is gone.
func child(text string) int {
	var settings map[string]string
	if err := json.Unmarshal([]byte(text), &settings); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if at := os.Getenv(dnsVar); at != "" {
		useNameServer(at)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		io.Copy(io.Discard, os.Stdin) // until the parent has gone
		stop()
	}()
	n, err := node.Start(ctx, node.Options{Settings: settings, Output: os.Stderr, Release: "1.2.3"})
	if err == nil {
		err = n.Run(ctx)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return node.ExitCode(err)
}

// beat is the heartbeat of the clusters here: short, and long enough for a machine
// that does other things too.
const beat = 500 * time.Millisecond

// box is one node of a fleet: its process, and what stays when that ends.
type box struct {
	name, host string
	dir        string
	settings   map[string]string
	mqtt, http string // addresses

	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.Closer
	end chan struct{} // closed when the process has ended
	log bytes.Buffer  // guarded by mu
}

// Write takes the log of the process.
func (b *box) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

type fleet struct {
	t     *testing.T
	boxes []*box
}

// freePort finds a port below those that the system hands out, so that nobody
// gets it by accident before the node does.
func freePort(t *testing.T, host string) int {
	t.Helper()
	for range 1000 {
		port := 15000 + rand.IntN(15000)
		l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

// newFleet makes nodes that are not started, with the settings given over those
// of a small node; static seeds are all of them.
func newFleet(t *testing.T, size int, settings map[string]string) *fleet {
	t.Helper()
	f := &fleet{t: t}
	var seeds []string
	for i := range size {
		host := fmt.Sprint("127.0.0.", i+1)
		b := &box{name: fmt.Sprintf("n%d@%s", i+1, host), host: host, dir: filepath.Join(t.TempDir(), "data")}
		listen := fmt.Sprint(host, ":", freePort(t, host))
		b.mqtt, b.http = fmt.Sprint(host, ":", freePort(t, host)), fmt.Sprint(host, ":", freePort(t, host))
		seeds = append(seeds, fmt.Sprintf("n%d@%s", i+1, listen))
		b.settings = map[string]string{
			"node.name": b.name, "node.data_dir": b.dir, "node.cookie": "a cookie of this test", "log.level": "info",
			"cluster.listen": listen, "cluster.heartbeat": beat.String(), "cluster.start_wait": "1s",
			"listener.tcp.external": b.mqtt, "listener.tcp.internal": "off",
			"listener.ssl.external": "off", "listener.ws.external": "off", "listener.wss.external": "off",
			"management.listener.http": "off", "dashboard.listener.http": b.http,
		}
		f.boxes = append(f.boxes, b)
	}
	for _, b := range f.boxes {
		b.settings["cluster.discovery"], b.settings["cluster.static.seeds"] = "static", strings.Join(seeds, ",")
		maps.Copy(b.settings, settings)
	}
	t.Cleanup(func() {
		for _, b := range f.boxes {
			f.kill(b)
			if t.Failed() {
				t.Logf("%s:\n%s", b.name, b.log.String())
			}
		}
	})
	return f
}

func (f *fleet) start(boxes ...*box) {
	f.t.Helper()
	for _, b := range boxes {
		text, err := json.Marshal(b.settings)
		if err != nil {
			f.t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVar+"="+string(text))
		cmd.Stderr = b
		in, err := cmd.StdinPipe()
		if err != nil {
			f.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			f.t.Fatal(err)
		}
		end := make(chan struct{})
		b.cmd, b.in, b.end = cmd, in, end
		go func() {
			cmd.Wait() // how it ended is in its log
			close(end)
		}()
	}
}

// kill ends a node as a crash does.
func (f *fleet) kill(b *box) { f.signal(b, syscall.SIGKILL) }

// stop ends a node in order.
func (f *fleet) stop(b *box) { f.signal(b, syscall.SIGTERM) }

func (f *fleet) signal(b *box, s syscall.Signal) {
	if b.cmd == nil {
		return
	}
	b.cmd.Process.Signal(s) // it may have ended
	select {
	case <-b.end:
	case <-time.After(20 * time.Second):
		f.t.Errorf("%s does not end", b.name)
		b.cmd.Process.Kill()
		<-b.end
	}
	b.in.Close()
	b.cmd = nil
}

var client = &http.Client{Timeout: 15 * time.Second}

// answered is what a call came to.
type answered struct {
	status int
	header http.Header
	body   string
}

func (b *box) call(method, path string, body any) (answered, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return answered{}, err
	}
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://"+b.http+path, r)
	if err != nil {
		return answered{}, err
	}
	req.SetBasicAuth("admin", "public")
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, resp.Header, string(all)}, err
}

// must makes a call that has to succeed.
func (f *fleet) must(b *box, method, path string, body any) answered {
	f.t.Helper()
	a, err := b.call(method, path, body)
	if err != nil || a.status/100 != 2 {
		f.t.Fatalf("%s: %s %s: %v %d %s", b.name, method, path, err, a.status, a.body)
	}
	return a
}

func (f *fleet) poll(what string, within time.Duration, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func (b *box) status() (api.ClusterStatus, error) {
	var s api.ClusterStatus
	a, err := b.call("GET", "/api/node/cluster", nil)
	if err != nil {
		return s, err
	}
	if a.status != 200 {
		return s, fmt.Errorf("%d %s", a.status, a.body)
	}
	return s, json.Unmarshal([]byte(a.body), &s)
}

// agree waits until every one of these nodes has a leader, shows exactly these
// members running, with so many voters, and answers reads that are not stale.
func (f *fleet) agree(voters int, boxes ...*box) {
	f.t.Helper()
	var want []string
	for _, b := range boxes {
		want = append(want, b.name)
	}
	slices.Sort(want)
	for _, b := range boxes {
		last := ""
		defer func() {
			if f.t.Failed() {
				f.t.Logf("%s: %s", b.name, last)
			}
		}()
		f.poll(b.name+" is in the cluster", 40*time.Second, func() bool {
			s, err := b.status()
			last = fmt.Sprintf("%+v %v", s, err)
			if err != nil || s.Leader == nil {
				return false
			}
			var names []string
			vote := 0
			for _, m := range s.Members {
				if m.Running {
					names = append(names, m.Name)
				}
				if m.Role != api.Follower {
					vote++
				}
			}
			if !slices.Equal(names, want) || len(s.Members) != len(want) || vote != voters {
				return false
			}
			a, err := b.call("GET", "/api/v3/users", nil)
			last += fmt.Sprintf(" users: %v %d %v", err, a.status, a.header)
			return err == nil && a.status == 200 && a.header.Get("X-Cluster-Stale") == ""
		})
	}
}

// leader is the node that leads in the eyes of a node.
func (f *fleet) leader(of *box) *box {
	f.t.Helper()
	var found *box
	f.poll("there is a leader", 20*time.Second, func() bool {
		s, err := of.status()
		if err != nil || s.Leader == nil {
			return false
		}
		for _, b := range f.boxes {
			if b.name == *s.Leader && b.cmd != nil {
				found = b
			}
		}
		return found != nil
	})
	return found
}

func (f *fleet) addUser(b *box, name string) {
	f.t.Helper()
	f.must(b, "POST", "/api/v3/users", map[string]string{"username": name, "password": "password1", "tags": "t"})
}

func (b *box) hasUser(name string) bool {
	a, err := b.call("GET", "/api/v3/users", nil)
	return err == nil && a.status == 200 && strings.Contains(a.body, `"`+name+`"`)
}

func (f *fleet) others(b *box) []*box {
	var out []*box
	for _, o := range f.boxes {
		if o != b {
			out = append(out, o)
		}
	}
	return out
}
