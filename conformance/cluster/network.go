//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// enteredVar marks the run of the test program that has a network of its own.
const enteredVar = "LACEWING_CLUSTER_ENTERED"

// errNoNetwork says that network namespaces cannot be made here.
var errNoNetwork = errors.New("no network namespaces here")

// enter runs the test program once more, in a network namespace of its own, where it has its bridges and is alone with them; everything is gone
// with the process. Who is not root is root in a user namespace, where the system allows that.
func enter() (code int, err error) {
	runtime.LockOSThread() // the program is ended with this thread
	defer runtime.UnlockOSThread()
	again := exec.Command(os.Args[0], os.Args[1:]...)
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.Env = append(os.Environ(), enteredVar+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := again.Start(); err != nil {
		return 0, fmt.Errorf("%w: %v", errNoNetwork, err)
	}
	if err := again.Wait(); again.ProcessState.ExitCode() < 0 {
		return 1, err
	}
	return again.ProcessState.ExitCode(), nil
}

// probe says whether the tools for a network are here and work.
func probe() error {
	for _, name := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w: %v", errNoNetwork, err)
		}
	}
	n, err := newNetwork(1)
	if err == nil {
		err = errors.Join(n.cut(pair{0, 0}, drop), n.redirect(pair{0, 0}, 1))
		n.close()
	}
	if err != nil {
		return fmt.Errorf("%w: %s", errNoNetwork, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// door is a network namespace: a thread that lives in it.
type door struct {
	do  chan func()
	tid int
}

func newDoor() (*door, error) {
	d := &door{do: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		d.tid = syscall.Gettid()
		made <- err
		if err != nil {
			return
		}
		for f := range d.do {
			f()
		}
	}()
	return d, <-made
}

// in runs f in the namespace: what it starts is there, and ends when the door is closed if it asks for that.
func (d *door) in(f func() error) error {
	done := make(chan error)
	d.do <- func() { done <- f() }
	return <-done
}

func (d *door) close() { close(d.do) }

// tool runs a command of the system.
func tool(input string, command ...string) error {
	c := exec.Command(command[0], command[1:]...)
	c.Stdin = strings.NewReader(input)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// pair is a direction between two hosts.
type pair struct{ from, to int }

// What a filter does with packets.
const (
	drop   = "drop"
	reject = "meta l4proto tcp reject with tcp reset"
)

// lose is a filter that drops so many packets in a hundred.
func lose(percent int) string { return fmt.Sprintf("numgen random mod 100 < %d drop", percent) }

// network is a bridge with hosts, each in its namespace. The test is on the bridge and reaches all of them, whatever is cut.
type network struct {
	bridge string
	prefix string // of the addresses
	hosts  []*door

	mu        sync.Mutex
	filters   map[pair]string
	redirects map[pair]int // port of the test that gets what goes to the cluster port
	proxies   []*proxy
}

// networks counts the networks of this process.
var networks struct {
	sync.Mutex
	n int
}

// clusterPort is that of every node.
const clusterPort = 5370

// newNetwork makes a network.
func newNetwork(size int) (*network, error) {
	networks.Lock()
	networks.n++
	id := networks.n
	networks.Unlock()
	n := &network{bridge: fmt.Sprint("br", id), prefix: fmt.Sprintf("10.89.%d.", id), filters: map[pair]string{}, redirects: map[pair]int{}}
	err := errors.Join(
		tool("", "ip", "link", "set", "lo", "up"),
		tool("", "ip", "link", "add", "name", n.bridge, "type", "bridge"),
		tool("", "ip", "addr", "add", n.here()+"/24", "dev", n.bridge),
		tool("", "ip", "link", "set", n.bridge, "up"))
	for i := 0; i < size && err == nil; i++ {
		err = n.add(id, i)
	}
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *network) add(id, i int) error {
	d, err := newDoor()
	if err != nil {
		return err
	}
	n.hosts = append(n.hosts, d)
	end := fmt.Sprintf("h%d-%d", id, i)
	if err := errors.Join(
		tool("", "ip", "link", "add", "name", end, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(d.tid)),
		tool("", "ip", "link", "set", end, "master", n.bridge, "up"),
	); err != nil {
		return err
	}
	return d.in(func() error {
		return errors.Join(
			tool("", "ip", "link", "set", "lo", "up"),
			tool("", "ip", "addr", "add", n.address(i)+"/24", "dev", "eth0"),
			tool("", "ip", "link", "set", "eth0", "up"))
	})
}

// here is the address of the test, address that of a host.
func (n *network) here() string         { return n.prefix + "254" }
func (n *network) address(i int) string { return n.prefix + fmt.Sprint(i+1) }

func (n *network) close() {
	for _, p := range n.proxies {
		p.close()
	}
	for _, d := range n.hosts {
		d.close()
	}
	_ = tool("", "ip", "link", "del", n.bridge) // it goes with the process at the latest
}

// cut filters what goes in one direction.
func (n *network) cut(p pair, filter string) error { return n.filter(map[pair]string{p: filter}) }

// filter sets filters; "" takes one away.
func (n *network) filter(filters map[pair]string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := map[int]bool{}
	for p, f := range filters {
		if n.filters[p] == f {
			continue
		}
		n.filters[p] = f
		changed[p.to] = true
	}
	return n.apply(changed)
}

// heal takes all filters away.
func (n *network) heal() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := map[int]bool{}
	for p := range n.filters {
		changed[p.to] = true
	}
	clear(n.filters)
	return n.apply(changed)
}

// redirect sends new connections from a host to the cluster port of another to a port of the test; 0 ends that.
func (n *network) redirect(p pair, port int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.redirects[p] = port
	return n.apply(map[int]bool{p.from: true})
}

// apply makes the rules of hosts what they should be, at once for each. n.mu is held.
func (n *network) apply(hosts map[int]bool) error {
	var errs []error
	for _, i := range slices.Sorted(maps.Keys(hosts)) {
		var b strings.Builder
		b.WriteString("add table ip faults\ndelete table ip faults\ntable ip faults {\n")
		b.WriteString("chain input {\ntype filter hook input priority 0;\n")
		for p, f := range n.filters {
			if p.to == i && f != "" {
				fmt.Fprintf(&b, "ip saddr %s %s\n", n.address(p.from), f)
			}
		}
		b.WriteString("}\nchain output {\ntype nat hook output priority -100;\n")
		for p, port := range n.redirects {
			if p.from == i && port != 0 {
				fmt.Fprintf(&b, "ip daddr %s tcp dport %d dnat to %s:%d\n", n.address(p.to), clusterPort, n.here(), port)
			}
		}
		b.WriteString("}\n}\n")
		errs = append(errs, n.hosts[i].in(func() error { return tool(b.String(), "nft", "-f", "-") }))
	}
	return errors.Join(errs...)
}

// slow delays what one host sends and gets on connections to another that begin from now on.
func (n *network) slow(p pair, delay time.Duration) error {
	x, err := newProxy(n.here()+":0", fmt.Sprintf("%s:%d", n.address(p.to), clusterPort), delay)
	if err != nil {
		return err
	}
	n.proxies = append(n.proxies, x)
	return n.redirect(p, x.port())
}
