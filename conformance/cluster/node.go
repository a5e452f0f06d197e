//go:build linux

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	api "github.com/lacewing-mqtt/lacewing/gen/node"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

const password = "a password of this suite"

// settings are those of nodes that lose nothing by a limit and do nothing by themselves.
var settings = map[string]string{
	"node.cookie":                     "a cookie of this suite",
	"cluster.discovery":               "static",
	"cluster.start_wait":              "1s",
	"listener.tcp.internal":           "off",
	"listener.ssl.external":           "off",
	"listener.ws.external":            "off",
	"listener.wss.external":           "off",
	"management.listener.http":        "off",
	"dashboard.default_user.password": password,
	"log.level":                       "info",
	"broker.sys_interval":             "0",
	"broker.sys_heartbeat":            "0",
	"zone.external.max_mqueue_len":    "0",
	"zone.external.retry_interval":    "0",
	"zone.external.max_awaiting_rel":  "0",
	"os_mon.cpu_check_interval":       "1h",
}

// Node is one node: its host, its process, and what stays when that ends.
type node struct {
	name, ip string
	dir      string
	program  string
	env      []string
	clock    string // file of the test build
	settings map[string]string
	host     *door
	place    *load.Place // where clients find it
	client   *http.Client

	mu      sync.Mutex
	log     bytes.Buffer
	starts  int
	command *exec.Cmd     // of the process that runs; nil: none
	ended   chan struct{} // closed when it has ended
	paused  bool
}

// Write takes the log of the process.
func (n *node) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.log.Len() > 8<<20 {
		n.log.Reset()
	}
	return n.log.Write(p)
}

// tail is the end of the log.
func (n *node) tail(most int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.log.Bytes()
	return string(b[max(0, len(b)-most):])
}

// logged counts lines of all processes of the node that have a text.
func (n *node) logged(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Count(n.log.Bytes(), []byte(text))
}

// newNodes makes the nodes of a cluster, which are not started.
func newNodes(net *network, dir, program string, more map[string]string) (nodes []*node) {
	var seeds []string
	for i := range net.hosts {
		seeds = append(seeds, fmt.Sprintf("n%d@%s", i+1, net.address(i)))
	}
	for i, h := range net.hosts {
		n := &node{name: seeds[i], ip: net.address(i), dir: filepath.Join(dir, fmt.Sprint("n", i+1)), program: program,
			host: h, place: load.NewPlace()}
		n.client = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 5 * time.Second}}
		n.settings = maps.Clone(settings)
		n.settings["cluster.static.seeds"] = strings.Join(seeds, ",")
		n.settings["node.name"], n.settings["node.data_dir"] = n.name, n.dir
		n.settings["listener.tcp.external"], n.settings["dashboard.listener.http"] = n.mqtt(), n.http()
		maps.Copy(n.settings, more)
		nodes = append(nodes, n)
	}
	return nodes
}

func (n *node) mqtt() string { return n.ip + ":1883" }
func (n *node) http() string { return n.ip + ":18083" }

// answers reports whether there is a process that is not paused.
func (n *node) answers() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.command != nil && !n.paused
}

// begin starts a process and returns at once. Clients try from now on.
func (n *node) begin() error {
	var args []string
	for _, k := range slices.Sorted(maps.Keys(n.settings)) {
		args = append(args, "--set", k+"="+n.settings[k])
	}
	c := exec.Command(n.program, args...)
	c.Env = append(os.Environ(), n.env...)
	c.Stdout, c.Stderr = n, n
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // with the thread of the host
	if err := n.host.in(c.Start); err != nil {
		return err
	}
	ended := make(chan struct{})
	n.mu.Lock()
	n.command, n.ended = c, ended
	n.starts++
	n.mu.Unlock()
	go func() {
		_ = c.Wait() // the exit code and the log tell
		close(ended)
	}()
	return nil
}

// listens waits until MQTT clients are taken and lets them come.
func (n *node) listens() error {
	for deadline := time.Now().Add(2 * load.Patience); ; time.Sleep(20 * time.Millisecond) {
		c, _, err := load.Connect(n.mqtt(), 5, load.Hello{ID: "knock-" + n.ip, Clean: true})
		if err == nil {
			n.place.Set(n.mqtt())
			return c.Bye()
		}
		select {
		case <-n.ended:
			return fmt.Errorf("%s has ended: %s\n%s", n.name, n.command.ProcessState, n.tail(4000))
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s takes no clients: %w\n%s", n.name, err, n.tail(4000))
		}
	}
}

// start starts a process and waits until clients are taken.
func (n *node) start() error {
	if err := n.begin(); err != nil {
		return err
	}
	return n.listens()
}

// kill ends the process as a crash does.
func (n *node) kill() {
	n.place.Set("")
	n.mu.Lock()
	c, ended := n.command, n.ended
	n.command, n.paused = nil, false
	n.mu.Unlock()
	if c == nil {
		return
	}
	_ = c.Process.Kill() // it may have ended
	<-ended
	n.client.CloseIdleConnections()
}

// stop ends the process in order.
func (n *node) stop() error {
	n.place.Set("")
	n.mu.Lock()
	c, ended := n.command, n.ended
	n.mu.Unlock()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s: %w\n%s", n.name, err, n.tail(4000))
	}
	select {
	case <-ended:
	case <-time.After(2 * load.Patience):
		n.kill()
		return fmt.Errorf("%s does not stop:\n%s", n.name, n.tail(4000))
	}
	code := c.ProcessState.ExitCode()
	n.kill()
	if code != 0 {
		return fmt.Errorf("%s stopped with exit code %d:\n%s", n.name, code, n.tail(4000))
	}
	return nil
}

// pause stops the process where it is; again lets it go on.
func (n *node) pause() error { return n.hold(true, syscall.SIGSTOP) }
func (n *node) again() error { return n.hold(false, syscall.SIGCONT) }

func (n *node) hold(paused bool, s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paused = paused
	return n.command.Process.Signal(s)
}

// wipe takes the disk of a node away that does not run.
func (n *node) wipe() error { return os.RemoveAll(n.dir) }

// answer is what a call came to.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// stale reports whether the answer says that it may be old.
func (a answer) stale() bool { return a.header.Get("X-Cluster-Stale") != "" }

// errDown is a call of a node that does not run or is paused: it is not made.
var errDown = errors.New("the node is down")

func (n *node) call(method, path string, body any) (answer, error) {
	if !n.answers() {
		return answer{}, errDown
	}
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		r = bytes.NewReader(text)
	}
	q, err := http.NewRequest(method, "http://"+n.http()+path, r)
	if err != nil {
		return answer{}, err
	}
	q.SetBasicAuth("admin", password)
	q.Header.Set("Content-Type", "application/json")
	p, err := n.client.Do(q)
	if err != nil {
		return answer{}, err
	}
	defer p.Body.Close()
	all, err := io.ReadAll(p.Body)
	return answer{p.StatusCode, p.Header, all}, err
}

// get reads into a value. stale says that it may be old.
func (n *node) get(path string, into any) (stale bool, err error) {
	a, err := n.call("GET", path, nil)
	if err != nil {
		return false, err
	}
	if a.status != http.StatusOK {
		return false, fmt.Errorf("%s: GET %s: %d %s", n.name, path, a.status, a.body)
	}
	return a.stale(), json.Unmarshal(a.body, into)
}

// status is how a node sees its cluster.
func (n *node) status() (s api.ClusterStatus, err error) {
	_, err = n.get("/api/node/cluster", &s)
	return s, err
}

// figures are what may not grow.
type figures struct {
	Goroutines, Descriptors, Heap, Resident int
}

// measure collects garbage and gives the figures of a node.
func (n *node) measure() (f figures, err error) {
	if a, err := n.call("POST", "/api/node/vm/gc", nil); err != nil || a.status/100 != 2 {
		return f, fmt.Errorf("%s: collect garbage: %w %d %s", n.name, err, a.status, a.body)
	}
	var vm api.VM
	if _, err := n.get("/api/node/vm", &vm); err != nil {
		return f, err
	}
	n.mu.Lock()
	process := filepath.Join("/proc", strconv.Itoa(n.command.Process.Pid))
	n.mu.Unlock()
	files, err := os.ReadDir(filepath.Join(process, "fd"))
	if err != nil {
		return f, err
	}
	text, err := os.ReadFile(filepath.Join(process, "statm"))
	if err != nil {
		return f, err
	}
	fields := strings.Fields(string(text))
	pages, err := strconv.Atoi(fields[1])
	return figures{int(vm.Scheduler.Goroutines), len(files), int(vm.Memory.Used), pages * os.Getpagesize()}, err
}
