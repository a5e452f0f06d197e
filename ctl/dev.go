package ctl

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacewing-mqtt/lacewing/config"
	nodeapi "github.com/lacewing-mqtt/lacewing/gen/node"
)

// devHost is where the nodes of a cluster to try out listen. They differ by their
// ports, because not every system has a second loopback address.
const devHost = "127.0.0.1"

// maxDevNodes is what the documents promise of a cluster.
const maxDevNodes = 9

// devPort is one port of a node: the key of its address, what it is for, and the
// number for the first node. Further nodes count up.
type devPort struct {
	key, what string
	first     int
}

var devPorts = [...]devPort{
	{"listener.tcp.external", "MQTT", 1883},
	{"dashboard.listener.http", "dashboard", 18083},
	{"management.listener.http", "API", 8080},
	{"cluster.listen", "cluster", 5370},
}

// Indexes of devPorts.
const (
	devMQTT = iota
	devDashboard
	devAPI
	devLink
)

// devNode is one node of a cluster to try out, a process of its own.
type devNode struct {
	short     string // n1
	conf, dir string
	ports     [len(devPorts)]int

	cmd *exec.Cmd
	in  io.Closer     // its standard input: closed, the node stops in order
	end chan struct{} // closed when the process has ended
	err error         // how, once end is closed
}

func (n *devNode) name() string                { return n.short + "@" + devHost }
func (n *devNode) address(of int) string       { return fmt.Sprint(devHost, ":", n.ports[of]) }
func (n *devNode) startAgain(me string) string { return me + " --config " + n.conf }

// devCluster is a run of the command.
type devCluster struct {
	nodes   []*devNode
	dir     string
	passing bool // dir is removed at the end
	verbose bool
	out     io.Writer

	mu    sync.Mutex
	begun bool         // the summary is out
	held  bytes.Buffer // lines of the nodes from before it
}

func (s *session) devCommand() *cobra.Command {
	var dir string
	var set []string
	var free, verbose bool
	var size int
	c := leaf("cluster", "Start a cluster on this machine to try things out, and stop it with Ctrl-C", func(cmd *cobra.Command, _ []string) error {
		if size < 1 || size > maxDevNodes {
			return fmt.Errorf("--nodes is 1 to %d", maxDevNodes)
		}
		return runDev(cmd, &devCluster{dir: dir, verbose: verbose, out: cmd.OutOrStdout()}, size, free, set)
	})
	c.Annotations = map[string]string{offline: "yes"}
	c.Long = fmt.Sprintf(`Start a cluster on this machine to try things out, and stop it with Ctrl-C.

Each node is a process of its own that listens on %s only: MQTT from port %d on, the dashboard
and the APIs for admin users from %d, the API for applications from %d, the cluster port from %d.
Without --dir the data are in a temporary directory, which is removed at the end. With it they
stay, and the cluster goes on with them the next time. Settings are those of --set; variables
of the environment are left out.`, devHost, devPorts[devMQTT].first, devPorts[devDashboard].first, devPorts[devAPI].first, devPorts[devLink].first)
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "keep the data of the nodes in `DIR`")
	f.IntVar(&size, "nodes", 3, "how many nodes")
	f.BoolVar(&free, "free-ports", false, "choose ports that are free instead of the usual ones")
	f.StringArrayVarP(&set, "set", "s", nil, "set a key of all nodes: `key=value`")
	f.BoolVarP(&verbose, "verbose", "v", false, "show what the nodes log while they start, too")
	return group("dev", "For those who develop and try things out", c)
}

// runDev starts the nodes, says how to use them, and waits.
func runDev(cmd *cobra.Command, d *devCluster, size int, free bool, set []string) (err error) {
	// A Ctrl-C goes to the nodes too; the end of their input is the same to them.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "lacewing-cluster-"); err != nil {
			return err
		}
		d.passing = true
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	} else if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	if err := d.prepare(size, free, set); err != nil {
		return err
	}
	me, err := os.Executable()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	for _, n := range d.nodes {
		if err := d.start(me, n); err != nil {
			return err
		}
	}
	if err := d.form(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		d.release()
		return err
	}
	stopped := make(chan *devNode)
	for _, n := range d.nodes {
		go func() {
			<-n.end
			select {
			case stopped <- n:
			case <-ctx.Done():
			}
		}()
	}
	if err := d.summary(me); err != nil {
		return err
	}
	for left := len(d.nodes); left > 0; left-- {
		select {
		case <-ctx.Done():
			fmt.Fprintln(d.out, "stopping") // whoever read it may be gone
			return nil
		case n := <-stopped:
			d.line("", fmt.Sprintf("%s has ended (%v); start it again in another terminal with: %s", n.short, ended(n.err), n.startAgain(me)))
		}
	}
	return errors.New("all nodes have ended")
}

// ended says how a process has ended.
func ended(err error) string {
	if err == nil {
		return "in order"
	}
	return err.Error()
}

// prepare makes the directories and the configurations of the nodes.
func (d *devCluster) prepare(size int, free bool, set []string) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	var seeds []string
	for i := range size {
		n := &devNode{short: fmt.Sprint("n", i+1)}
		n.conf, n.dir = filepath.Join(d.dir, n.short+".conf"), filepath.Join(d.dir, n.short)
		for of, p := range devPorts {
			port, err := p.first+i, error(nil)
			if free {
				port, err = d.freePort()
			} else {
				err = tryPort(port)
			}
			if err != nil {
				return fmt.Errorf("port %d, %s of %s, cannot be had (%w); end what uses it, or choose other ports with --free-ports", port, p.what, n.short, err)
			}
			n.ports[of] = port
		}
		d.nodes = append(d.nodes, n)
		seeds = append(seeds, n.short+"@"+n.address(devLink))
	}
	cookie, err := d.cookie()
	if err != nil {
		return err
	}
	for _, n := range d.nodes {
		lines := []string{
			"node.name = " + n.name(), "node.data_dir = " + n.dir, "node.cookie = " + cookie,
			"cluster.name = dev", "cluster.discovery = static", "cluster.static.seeds = " + strings.Join(seeds, ","),
			"listener.tcp.internal = off", "listener.ssl.external = off", "listener.ws.external = off", "listener.wss.external = off",
		}
		for of, p := range devPorts {
			lines = append(lines, p.key+" = "+n.address(of))
		}
		own := map[string]bool{}
		for _, l := range lines {
			key, _, _ := strings.Cut(l, " = ")
			own[key] = true
		}
		for _, s := range set {
			key, value, is := strings.Cut(s, "=")
			key = strings.TrimSpace(key)
			switch {
			case !is:
				return fmt.Errorf("--set %s has no =", s)
			case own[key] || strings.ContainsAny(s, "\r\n"):
				return fmt.Errorf("--set %s: that is chosen for each node", key)
			}
			lines = append(lines, key+" = "+value)
		}
		if err := os.WriteFile(n.conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// cookie is the one of the directory: what is stored there is sealed under it.
func (d *devCluster) cookie() (string, error) {
	path := filepath.Join(d.dir, "cookie")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text = []byte(rand.Text())
		err = os.WriteFile(path, text, 0o600)
	}
	return string(text), err
}

func tryPort(port int) error {
	l, err := net.Listen("tcp", fmt.Sprint(devHost, ":", port))
	if err != nil {
		if sys, is := errors.AsType[*os.SyscallError](err); is {
			err = sys.Err
		}
		return err
	}
	return l.Close()
}

// freePort finds a port below those that systems hand out, so that nobody gets it
// by accident before the node does.
func (d *devCluster) freePort() (port int, err error) {
	for range 1000 {
		port = 15000 + mathrand.IntN(15000)
		if err = tryPort(port); err == nil {
			return port, nil
		}
	}
	return port, err
}

// start starts the process of a node. Variables that set keys are meant for another
// node, and would go before what is in the file of this one.
func (d *devCluster) start(me string, n *devNode) error {
	n.cmd = exec.Command(me, "start", "--stop-on-eof", "--config", n.conf)
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if key, is := strings.CutPrefix(name, config.EnvPrefix); !is || !strings.Contains(key, "__") {
			n.cmd.Env = append(n.cmd.Env, v)
		}
	}
	in, err := n.cmd.StdinPipe()
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	n.cmd.Stdout, n.cmd.Stderr = w, w
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.in, n.end = in, make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReader(r)
		for {
			text, err := lines.ReadString('\n')
			if text = strings.TrimRight(text, "\r\n"); text != "" {
				d.line(n.short, text)
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		n.err = n.cmd.Wait()
		w.Close()
		<-read
		close(n.end)
	}()
	return nil
}

// line prints a line of a node, or of the command itself. Those of the start are
// kept, for when it fails.
func (d *devCluster) line(from, text string) {
	if from != "" {
		text = from + " | " + text
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begun || d.verbose {
		fmt.Fprintln(d.out, text) // whoever read it may be gone
		return
	}
	fmt.Fprintln(&d.held, text)
}

// release prints what was kept of the start.
func (d *devCluster) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun = true
	d.out.Write(d.held.Bytes()) // whoever read it may be gone
	d.held.Reset()
}

// devPatience bounds the forming of the cluster.
const devPatience = time.Minute

// form waits until the nodes are one cluster and messages cross.
func (d *devCluster) form(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	late := time.After(devPatience)
	for _, n := range d.nodes {
		s := &session{dataDir: n.dir}
		for why := "it does not answer"; why != ""; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-n.end:
				return fmt.Errorf("%s has ended (%s)", n.short, ended(n.err))
			case <-late:
				return fmt.Errorf("no cluster after %v: %s: %s", devPatience, n.short, why)
			case <-tick.C:
			}
			if s.node == nil && s.connect() != nil {
				continue
			}
			why = d.stands(ctx, s)
		}
	}
	return nil
}

// stands asks a node whether it is in the cluster with all others; "" is yes.
func (d *devCluster) stands(ctx context.Context, s *session) (why string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	a, err := fetch[nodeapi.ClusterStatus](s.node.ClusterStatus(ctx))
	if err != nil {
		return err.Error()
	}
	st := a.Value
	switch {
	case st.Note != nil:
		return *st.Note
	case st.Leader == nil:
		return "the cluster has no leader"
	case len(st.Members) != len(d.nodes):
		return fmt.Sprintf("the cluster has %d members, not %d", len(st.Members), len(d.nodes))
	}
	for _, m := range st.Members {
		if !m.Running || m.Link != nil && *m.Link != nodeapi.Up {
			return m.Name + " is not there yet"
		}
	}
	return ""
}

// summary says what runs where, and how to try it.
func (d *devCluster) summary(me string) error {
	var b bytes.Buffer
	stay := "kept"
	if d.passing {
		stay = "removed at the end"
	}
	fmt.Fprintf(&b, "One cluster of %d nodes. Data: %s (%s)\n\n", len(d.nodes), d.dir, stay)
	tab := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "NODE\tMQTT\tDASHBOARD, API (admin, public)\tAPI FOR APPLICATIONS\tPROCESS")
	for _, n := range d.nodes {
		fmt.Fprintf(tab, "%s\t%s\thttp://%s\thttp://%s\t%d\n", n.name(), n.address(devMQTT), n.address(devDashboard), n.address(devAPI), n.cmd.Process.Pid)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	first, second, last := d.nodes[0], d.nodes[min(1, len(d.nodes)-1)], d.nodes[len(d.nodes)-1]
	fmt.Fprintf(&b, `
In other terminals:
  mosquitto_sub -h %s -p %d -t 'hello/#' -v
  mosquitto_pub -h %s -p %d -t hello/world -q 1 -m 'from the other side'
  curl -u admin:public http://%s/api/v3/connections
  %s ctl --data-dir %s cluster status
  kill -9 %d    # a node; the others go on

Ctrl-C ends all. What the nodes log:
`, devHost, second.ports[devMQTT], devHost, last.ports[devMQTT], first.address(devDashboard), me, first.dir, last.cmd.Process.Pid)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun = true
	_, err := d.out.Write(b.Bytes())
	return err
}

// stop ends the nodes in order, and by force those that take too long.
func (d *devCluster) stop() error {
	var errs []error
	for _, n := range d.nodes {
		if n.cmd == nil || n.end == nil {
			continue
		}
		n.in.Close() // the node may have ended
	}
	late := time.After(devPatience)
	for _, n := range d.nodes {
		if n.end == nil {
			continue
		}
		select {
		case <-n.end:
		case <-late:
			errs = append(errs, fmt.Errorf("%s did not stop and was killed", n.short), n.cmd.Process.Kill())
			<-n.end
		}
	}
	return errors.Join(errs...)
}
