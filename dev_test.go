package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/node"
)

// clusterSection are the commands of the README's section about clusters.
func clusterSection(t *testing.T) (commands []string) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## A cluster\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if command, is := strings.CutPrefix(line, "    "); is {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return commands
}

// TestDevCluster does what the README says about a cluster, word by word but for the ports.
func TestDevCluster(t *testing.T) {
	for _, program := range []string{"mosquitto_sub", "mosquitto_pub"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed (see tools/setup.sh)", program)
			}
			t.Skipf("%s is not installed (see tools/setup.sh)", program)
		}
	}
	commands := clusterSection(t)
	var subscribe, publish string
	for _, c := range commands {
		switch {
		case strings.HasPrefix(c, "mosquitto_sub "):
			subscribe = c
		case strings.HasPrefix(c, "mosquitto_pub "):
			publish = c
		}
	}
	if commands[0] != "make cluster" || !strings.Contains(subscribe, " -p 1884 ") || !strings.Contains(publish, " -p 1885 ") {
		t.Fatalf("the README says %q", commands)
	}
	if makefile, err := os.ReadFile("Makefile"); err != nil || !strings.Contains(string(makefile), "\ncluster:\n\tgo run . ctl dev cluster ") {
		t.Errorf("make cluster does not run the command: %v", err)
	}

	dir := t.TempDir()
	// A variable that is meant for a node is none of these.
	p := launch(t, []string{"LACEWING_NODE__NAME=other@127.0.0.1"}, "ctl", "dev", "cluster", "--free-ports", "--dir", dir)
	port := func(row string) string {
		return p.sayWithin(t, time.Minute, `(?m)^n`+row+`@127\.0\.0\.1 +127\.0\.0\.1:(\d+) `)
	}
	second, third := port("2"), port("3")
	p.say(t, "Ctrl-C ends all")

	sub := exec.Command("sh", "-c", "exec "+strings.Replace(subscribe, "1884", second, 1)+" -C 1 -W 60")
	got := make(chan string, 1)
	go func() {
		out, err := sub.CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		got <- string(out)
	}()
	send := strings.Replace(publish, "1885", third, 1)
	for arrived := ""; arrived == ""; {
		if out, err := exec.Command("sh", "-c", send).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", send, err, out)
		}
		select {
		case arrived = <-got: // the first may have been before the subscription
		case <-time.After(time.Second):
			continue
		}
		if arrived != "hello/world from the third\n" {
			t.Errorf("%s: got %q", subscribe, arrived)
		}
	}

	// The status command of the summary is right, and so is what it says about a node that has ended.
	c := launch(t, nil, strings.Fields(p.say(t, `(?m)^  \S+ (ctl .*cluster status)$`))...)
	if code := c.wait(t); code != 0 || strings.Count(c.output(), " running ") != 3 || strings.Count(c.output(), " up") != 2 {
		t.Errorf("cluster status: %d\n%s%s", code, c.output(), c.stderr.String())
	}
	kill := p.say(t, `(?m)^  (kill -9 \d+) `)
	if out, err := exec.Command("sh", "-c", kill).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", kill, err, out)
	}
	again := p.say(t, `n3 has ended \(signal: killed\); start it again in another terminal with: \S+ (.*)`)
	n3 := launch(t, nil, strings.Fields(again)...)
	n3.say(t, "serves")
	n3.say(t, dashboardAddress)
	if err := n3.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n3.wait(t)

	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != node.ExitOK {
		t.Errorf("Ctrl-C: got exit code %d\n%s", code, p.stderr.String())
	}
	if n := strings.Count(p.output(), "msg=stopped"); n != 2 {
		t.Errorf("%d nodes say that they have stopped, want 2:\n%s", n, p.output())
	}
	if strings.Contains(p.output(), "ERROR") {
		t.Errorf("errors were logged:\n%s", p.output())
	}
}

// What is wrong with the flags, or keeps a node from starting, ends the command with a line that says so, and with every node.
func TestDevClusterRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--set", "listener.tcp.external=127.0.0.1:0"}, "--set listener.tcp.external: that is chosen for each node"},
		{[]string{"--set", "nonsense"}, "--set nonsense has no ="},
		{[]string{"--nodes", "10"}, "--nodes is 1 to 9"},
		{[]string{"--set", "no.such.key=1"}, "has ended (exit status 3)"},
	} {
		p := launch(t, nil, append([]string{"ctl", "dev", "cluster", "--free-ports", "--dir", t.TempDir()}, c.args...)...)
		if code := p.wait(t); code == node.ExitOK || !strings.Contains(p.stderr.String(), c.want) {
			t.Errorf("%q: got %d %q, want %q", c.args, code, p.stderr.String(), c.want)
		}
		if c.args[1] == "no.such.key=1" && !strings.Contains(p.output(), "n1 | lacewing: ") {
			t.Errorf("%q: what the node said is not shown:\n%s", c.args, p.output())
		}
	}
}

// TestStopOnEOF starts a node as a program does that wants none left behind.
func TestStopOnEOF(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := launchWith(t, r, nil, append(loopback(t.TempDir()), "--stop-on-eof")...)
	p.say(t, dashboardAddress)
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != node.ExitOK || !strings.Contains(p.output(), "msg=stopped") {
		t.Errorf("got exit code %d, want %d\n%s", code, node.ExitOK, p.output())
	}
}
