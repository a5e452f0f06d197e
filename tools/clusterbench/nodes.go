//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/tools/internal/proc"
)

// node is one process of the broker.
type node struct {
	name             string
	mqtt, http, link string // addresses
	dir              string
	seeds            string // empty: it is alone
	cmd              *exec.Cmd
	end              chan struct{} // closed when the process has ended
	said             said
}

// said is the last of what a process has written.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buf.Len() > 1<<20 {
		s.buf.Reset()
	}
	return s.buf.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// freeAddress finds a port below those that the system hands out.
func freeAddress() (string, error) {
	for range 1000 {
		address := fmt.Sprint("127.0.0.1:", 15000+rand.IntN(15000))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no free port")
}

// prepare gives nodes that are not started. Seeds are the first seeds of them; 0 makes nodes that are alone.
func (b *bench) prepare(size, seeds int) (nodes []*node, err error) {
	dir, err := os.MkdirTemp(b.work, "nodes-")
	if err != nil {
		return nil, err
	}
	var list []string
	for i := range size {
		n := &node{name: fmt.Sprintf("n%d@127.0.0.1", i+1), dir: filepath.Join(dir, fmt.Sprint("n", i+1))}
		for _, a := range []*string{&n.mqtt, &n.http, &n.link} {
			if *a, err = freeAddress(); err != nil {
				return nil, err
			}
		}
		if nodes = append(nodes, n); i < seeds {
			list = append(list, fmt.Sprintf("n%d@%s", i+1, n.link))
		}
	}
	for _, n := range nodes {
		n.seeds = strings.Join(list, ",")
	}
	return nodes, nil
}

// start starts processes.
func (b *bench) start(nodes ...*node) error {
	for _, n := range nodes {
		args := []string{"--data-dir", n.dir}
		set := []string{
			"node.name=" + n.name, "node.cookie=a cookie of this benchmark", "listener.tcp.external=" + n.mqtt, "dashboard.listener.http=" + n.http,
			"listener.tcp.internal=off", "listener.ssl.external=off", "listener.ws.external=off", "listener.wss.external=off",
			"management.listener.http=off", "zone.external.max_mqueue_len=0", "zone.external.max_inflight=0", "mqtt.session.max_queue_bytes=0",
		}
		if n.seeds == "" {
			set = append(set, "cluster.listen=off")
		} else {
			set = append(set, "cluster.listen="+n.link, "cluster.discovery=static", "cluster.static.seeds="+n.seeds)
		}
		for _, s := range set {
			args = append(args, "--set", s)
		}
		n.cmd = exec.CommandContext(b.ctx, b.program, args...)
		n.cmd.Stdout, n.cmd.Stderr = &n.said, &n.said
		n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := n.cmd.Start(); err != nil {
			return err
		}
		end, cmd := make(chan struct{}), n.cmd
		n.end = end
		go func() {
			cmd.Wait() // how it ended is in what it said
			close(end)
		}()
	}
	return nil
}

// kill ends processes without notice.
func kill(nodes ...*node) {
	for _, n := range nodes {
		if n.cmd != nil && n.cmd.Process != nil {
			n.cmd.Process.Kill() // it may have ended
			<-n.end
			n.cmd = nil
		}
	}
}

var client = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}

// call asks a node something and decodes the answer into out, if there is one.
func (n *node) call(method, path string, in, out any) (status int, err error) {
	text, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequest(method, "http://"+n.http+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth("admin", "public")
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 == 2 && out != nil {
		err = json.Unmarshal(all, out)
	}
	return resp.StatusCode, err
}

func (n *node) status() (s api.ClusterStatus, err error) {
	code, err := n.call("GET", "/api/node/cluster", nil, &s)
	if err == nil && code != 200 {
		err = fmt.Errorf("status %d", code)
	}
	return s, err
}

// member is the row of another node.
func member(s api.ClusterStatus, of *node) (m api.ClusterMember) {
	for _, m := range s.Members {
		if m.Name == of.name {
			return m
		}
	}
	return m
}

// figure reads a figure of /metrics.
func (n *node) figure(name string) (v float64, err error) {
	resp, err := client.Get("http://" + n.http + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, is := strings.CutPrefix(lines.Text(), name+" "); is {
			v, err = strconv.ParseFloat(text, 64)
			if err != nil {
				return 0, err
			}
		}
	}
	return v, lines.Err()
}

// together waits until nodes are one cluster with all links up.
func (b *bench) together(nodes ...*node) error {
	for _, n := range nodes {
		last := ""
		_, err := b.wait(n.name+" is in the cluster", time.Minute, time.Now(), func() bool {
			s, err := n.status()
			last = fmt.Sprintf("%+v %v", s, err)
			if err != nil || s.Leader == nil || len(s.Members) != len(nodes) {
				return false
			}
			for _, m := range s.Members {
				if !m.Running || m.Link != nil && *m.Link != api.Up {
					return false
				}
			}
			return true
		})
		if err != nil {
			return fmt.Errorf("%w: %s\n%s", err, last, n.said.String())
		}
	}
	return nil
}

// used is resident memory of nodes, in bytes, and their processor time, in seconds.
func used(nodes []*node) (memory, cpu []float64, err error) {
	for _, n := range nodes {
		u, err := proc.Read(n.cmd.Process.Pid)
		if err != nil {
			return nil, nil, err
		}
		memory, cpu = append(memory, float64(u.RSSKB*1024)), append(cpu, u.CPU.Seconds())
	}
	return memory, cpu, nil
}

// mqtt is a client that waits for each answer.
type mqtt struct {
	net.Conn
	r *bufio.Reader
}

func dial(address, id string) (*mqtt, error) {
	return dialAs(address, packet.Connect{ClientID: id, CleanStart: true})
}

func dialAs(address string, p packet.Connect) (*mqtt, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &mqtt{conn, bufio.NewReaderSize(conn, 64<<10)}
	p.Version = packet.V311
	_, err = c.ask(p.Append(nil, packet.V311), packet.TypeConnack)
	return c, err
}

// ask writes a packet and gives the body of the answer, which has to be of that type.
func (c *mqtt) ask(p []byte, want packet.Type) ([]byte, error) {
	if _, err := c.Write(p); err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	return c.read(want)
}

func (c *mqtt) read(want packet.Type) ([]byte, error) {
	head, err := c.r.ReadByte()
	if err != nil {
		return nil, err
	}
	size := 0
	for shift := 0; ; shift += 7 {
		d, err := c.r.ReadByte()
		if err != nil {
			return nil, err
		}
		if size |= int(d&0x7f) << shift; d < 0x80 {
			break
		}
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return nil, err
	}
	if packet.Type(head>>4) != want {
		return nil, fmt.Errorf("a packet of type %d came, not %d", head>>4, want)
	}
	return body, nil
}
