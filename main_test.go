package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/node"
)

// asCommand makes the test binary behave as the command: the tests below run it as
// a process of its own, which can be killed.
const asCommand = "LACEWING_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// process is a running command.
type process struct {
	*exec.Cmd
	mu     sync.Mutex
	out    bytes.Buffer
	stderr bytes.Buffer
	done   chan struct{}
	err    error
}

// Write collects standard output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// launch runs the command with arguments and variables of the environment.
func launch(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return launchWith(t, nil, env, args...)
}

// launchWith is launch with a standard input.
func launchWith(t *testing.T, stdin io.Reader, env []string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	p.Env = append(append(os.Environ(), asCommand+"=1"), env...)
	p.Stdin, p.Stdout, p.Stderr = stdin, p, &p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.Cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		select {
		case <-p.done:
		default:
			if err := p.Process.Kill(); err != nil {
				t.Errorf("kill: %v", err)
			}
			<-p.done
		}
	})
	return p
}

// wait waits for the end and returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		t.Fatalf("still running after 20 s; output:\n%s", p.output())
		return -1
	}
}

// say waits until the output matches and returns the first group.
func (p *process) say(t *testing.T, expr string) string {
	t.Helper()
	return p.sayWithin(t, 20*time.Second, expr)
}

func (p *process) sayWithin(t *testing.T, d time.Duration, expr string) string {
	t.Helper()
	re := regexp.MustCompile(expr)
	deadline := time.Now().Add(d)
	for {
		if m := re.FindStringSubmatch(p.output()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-p.done:
			t.Fatalf("ended with %d before it said %s; output:\n%s%s", p.ProcessState.ExitCode(), expr, p.output(), p.stderr.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("did not say %s; output:\n%s", expr, p.output())
		}
	}
}

// loopback are flags of a node on free ports.
func loopback(data string, more ...string) []string {
	args := []string{"--data-dir", data}
	for _, set := range append([]string{
		"listener.tcp.external=127.0.0.1:0", "listener.tcp.internal=off", "listener.ssl.external=off", "listener.ws.external=off",
		"listener.wss.external=off", "cluster.listen=127.0.0.1:0", "management.listener.http=127.0.0.1:0", "dashboard.listener.http=127.0.0.1:0",
	}, more...) {
		args = append(args, "--set", set)
	}
	return args
}

const dashboardAddress = `listener="http dashboard" address=(\S+)`

func request(t *testing.T, method, url, body string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "public")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func TestFirstRun(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := launch(t, nil, loopback(data, "listener.tcp.second=0.0.0.0:0")...)
	p.say(t, "may connect: mqtt.allow_anonymous")
	out := p.output()
	for _, want := range []string{
		"Lacewing " + version() + " serves", "node=emqx@127.0.0.1", `listener="mqtt:tcp external"`, "descriptors=", "cores=", "memory=",
		"/api-docs/", "ctl --data-dir " + data + " mgmt insert myapp MyApp", "good from this machine only", "anyone who reaches",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the log does not say %q:\n%s", want, out)
		}
	}
	// What it says works as it is written.
	c := launch(t, nil, "ctl", "--data-dir", data, "mgmt", "insert", "myapp", "MyApp")
	if code := c.wait(t); code != 0 || !strings.HasPrefix(c.output(), "AppSecret: ") {
		t.Errorf("ctl mgmt insert: got %d %s%s", code, c.output(), c.stderr.String())
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != node.ExitOK {
		t.Errorf("SIGTERM: got exit code %d, want %d", code, node.ExitOK)
	}
	if !strings.Contains(p.output(), "msg=stopped") {
		t.Errorf("the log does not end with stopped:\n%s", p.output())
	}
	p = launch(t, nil, loopback(data)...)
	p.say(t, "first password")
	if strings.Contains(p.output(), "no application") {
		t.Error("the second start says that there is no application")
	}
}

func TestSignals(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl.conf")
	rules := func(text string) {
		if err := os.WriteFile(acl, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules("{allow, all}.")
	p := launch(t, nil, loopback(filepath.Join(t.TempDir(), "data"), "mqtt.acl_file="+acl, "log.format=json")...)
	p.say(t, `"listener":"http dashboard"`)
	p.say(t, "first password")
	signal := func(s syscall.Signal) {
		if err := p.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	rules("{deny, all}.")
	signal(syscall.SIGHUP)
	p.say(t, "read again: acl, certificates")
	rules("{deny, al")
	signal(syscall.SIGHUP)
	p.say(t, "acl.conf:1: ")
	signal(syscall.SIGINT)
	if code := p.wait(t); code != node.ExitOK {
		t.Errorf("SIGINT: got exit code %d, want %d", code, node.ExitOK)
	}
}

func TestStopWithRequestsUnderWay(t *testing.T) {
	for _, c := range []struct {
		name    string
		signals int
		code    int
	}{{"one signal", 1, node.ExitOK}, {"two signals", 2, node.ExitForced}} {
		t.Run(c.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			p := launch(t, nil, loopback(data)...)
			p.say(t, "first password")
			trace := launch(t, nil, "ctl", "--data-dir", data, "trace", "topic", "#")
			profile := launch(t, nil, "ctl", "--data-dir", data, "vm", "profile", "cpu", "--seconds", "60", "--output", filepath.Join(data, "cpu"))
			for limit := time.Now().Add(20 * time.Second); ; {
				look := launch(t, nil, "ctl", "--data-dir", data, "vm", "profile", "goroutine", "--debug", "1", "--output", "-")
				look.wait(t)
				if strings.Contains(look.output(), "pprof.profileWriter") { // it has begun
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("no profile is being taken: %s", profile.stderr.String())
				}
			}
			begin := time.Now()
			for i := range c.signals {
				if i > 0 {
					p.say(t, "msg=stopping")
				}
				if err := p.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			if got := p.wait(t); got != c.code {
				t.Errorf("exit code: got %d, want %d; output:\n%s%s", got, c.code, p.output(), p.stderr.String())
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("stopped after %v", took)
			}
			trace.wait(t)
			profile.wait(t)
		})
	}
}

func TestSupervisorIsTold(t *testing.T) {
	dir, err := os.MkdirTemp("", "lw") // short: the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hear := func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		for {
			if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	p := launch(t, []string{"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=200000"}, loopback(filepath.Join(t.TempDir(), "data"))...)
	hear("READY=1")
	hear("WATCHDOG=1")
	hear("WATCHDOG=1")
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hear("STOPPING=1")
	p.wait(t)
}

// TestKilled answers metadata writes, kills the node without warning at some moment
// of a stream of them, and looks whether everything that was answered is there.
func TestKilled(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	const rounds, least = 3, 5
	answered := 0
	for round := range rounds {
		p := launch(t, nil, loopback(data)...)
		base := "http://" + p.say(t, dashboardAddress)
		p.say(t, "first password")
		for i := range answered {
			if status, body, err := request(t, "GET", fmt.Sprintf("%s/api/v3/apps/app%d", base, i), ""); err != nil || status != 200 || !strings.Contains(body, `"secret"`) {
				t.Fatalf("round %d: application app%d was answered and is gone: %d %s %v", round, i, status, body, err)
			}
		}
		if round == 0 {
			if status, body, err := request(t, "PUT", base+"/api/v3/nodes/emqx@127.0.0.1/plugins/emqx_recon/unload", ""); err != nil || status != 200 {
				t.Fatalf("unload: %d %s %v", status, body, err)
			}
		}
		if _, body, err := request(t, "GET", base+"/api/v3/nodes/emqx@127.0.0.1/plugins", ""); err != nil || !regexp.MustCompile(`"active":false[^}]*"emqx_recon"`).MatchString(body) {
			t.Fatalf("round %d: the plugin is active again: %s %v", round, body, err)
		}
		before := answered
		for {
			if answered-before == least { // some more come until it happens
				time.AfterFunc(time.Duration(20+17*round)*time.Millisecond, func() { _ = p.Process.Kill() })
			}
			status, _, err := request(t, "POST", base+"/api/v3/apps/", fmt.Sprintf(`{"app_id":"app%d","name":"n"}`, answered))
			if err != nil {
				break // killed
			}
			if status != 200 && status != 500 { // the last of a round may be there without an answer
				t.Fatalf("round %d: add_app: %d", round, status)
			}
			answered++
		}
		p.wait(t)
		if answered-before < least {
			t.Fatalf("round %d: only %d answers, too few to say anything", round, answered-before)
		}
	}
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "lacewing.conf")
	if err := os.WriteFile(file, []byte("# a comment\nmqtt.allow_anonymos = true\nlistener.tcp.external = nowhere:x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string // lines of standard error, each a part
	}{
		{"unknown command", []string{"strat"}, node.ExitUsage, []string{`unknown command "strat"; did you mean start?`}},
		{"unknown flag", []string{"--nosuch"}, node.ExitUsage, []string{"unknown flag: --nosuch"}},
		{"faults of a file", []string{"--config", file}, node.ExitConfig, []string{
			"lacewing.conf:2: mqtt.allow_anonymos: unknown key; the nearest is mqtt.allow_anonymous", "lacewing.conf:3: listener.tcp.external: ",
		}},
		{"no file", []string{"--config", filepath.Join(dir, "nosuch.conf")}, node.ExitConfig, []string{"nosuch.conf: no such file or directory"}},
		{"--set without =", []string{"--set", "x"}, node.ExitConfig, []string{"--set x: has no ="}},
		{"ctl without a node", []string{"ctl", "--data-dir", dir, "status"}, node.ExitFault, []string{"no node runs on the data directory " + dir}},
		{"ctl unknown", []string{"ctl", "nosuch"}, node.ExitFault, []string{`unknown command "nosuch"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if got := run(c.args, &out, &errs); got != c.code {
				t.Errorf("exit code: got %d, want %d", got, c.code)
			}
			lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("got %d lines %q, want %d", len(lines), lines, len(c.want))
			}
			for i, want := range c.want {
				if !strings.HasPrefix(lines[i], "lacewing: ") || !strings.Contains(lines[i], want) {
					t.Errorf("line %d: got %q, want %q in it", i, lines[i], want)
				}
			}
		})
	}
	t.Run("version", func(t *testing.T) {
		var out bytes.Buffer
		if code := run([]string{"version"}, &out, io.Discard); code != 0 || !strings.HasPrefix(out.String(), "lacewing "+version()+" ") {
			t.Errorf("got %d %q", code, out.String())
		}
	})
	t.Run("reference", func(t *testing.T) {
		committed, err := os.ReadFile("docs/config.md")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := run([]string{"config", "reference"}, &out, io.Discard); code != 0 || out.String() != string(committed) {
			t.Errorf("docs/config.md is not what lacewing config reference prints (exit code %d)", code)
		}
	})
}

func TestRefusedStartsAreOneLine(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := launch(t, nil, loopback(data)...)
	address := p.say(t, `listener="mqtt:tcp external" address=(\S+)`)
	p.say(t, "first password")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"second node", loopback(data), node.ExitData, "is in use by another node"},
		{"address", loopback(filepath.Join(t.TempDir(), "data"), "listener.tcp.external="+address), node.ExitListen, address + " is in use by another program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := launch(t, nil, c.args...)
			if got := p.wait(t); got != c.code {
				t.Errorf("exit code: got %d, want %d", got, c.code)
			}
			if got := strings.TrimSpace(p.stderr.String()); !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
				t.Errorf("got %q, want one line with %q", got, c.want)
			}
		})
	}
	// The first is not disturbed.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if conn, err := new(net.Dialer).DialContext(ctx, "tcp", address); err != nil {
		t.Errorf("the first node does not answer: %v", err)
	} else {
		conn.Close()
	}
}
