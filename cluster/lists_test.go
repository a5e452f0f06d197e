package cluster_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stay connects an MQTT client that stays until the test ends.
func (b *box) stay(t *testing.T, id string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", b.mqtt, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	body := "\x00\x04MQTT\x04\x02\x00\x00" + string([]byte{0, byte(len(id))}) + id
	if _, err := c.Write([]byte("\x10" + string(rune(len(body))) + body)); err != nil {
		t.Fatal(err)
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(c, ack); err != nil || ack[3] != 0 {
		t.Fatalf("client %s: %x, %v", id, ack, err)
	}
}

// TestListsWithoutANode pauses and kills a node: lists go on without it, at once and
// when everybody has noticed, they say so, and have it again when it is back.
func TestListsWithoutANode(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	lead := f.leader(f.boxes[0])
	victim := f.others(lead)[0]
	var ids []string
	for i, b := range f.boxes {
		ids = append(ids, fmt.Sprint("client-", i))
		b.stay(t, ids[i])
	}
	has := func(a answered, id string) bool { return strings.Contains(a.body, `"`+id+`"`) }
	whole := func() {
		t.Helper()
		for _, b := range f.boxes {
			a := f.must(b, "GET", "/api/v3/connections", nil)
			for _, id := range ids {
				if !has(a, id) {
					t.Errorf("%s does not list %s: %s", b.name, id, a.body)
				}
			}
			if p := a.header.Get("X-Cluster-Partial"); p != "" {
				t.Errorf("%s lists without %s", b.name, p)
			}
		}
	}
	// without asks the two others and returns how long the slowest list took.
	without := func() (slowest time.Duration) {
		t.Helper()
		for _, b := range f.others(victim) {
			for _, path := range []string{"/api/v3/connections", "/api/v3/metrics", "/api/v2/routes"} {
				start := time.Now()
				a := f.must(b, "GET", path, nil)
				slowest = max(slowest, time.Since(start))
				if p := a.header.Get("X-Cluster-Partial"); p != victim.name {
					t.Errorf("%s: %s is without %q, want %q", b.name, path, p, victim.name)
				}
				for i, o := range f.boxes {
					if path == "/api/v3/connections" && has(a, ids[i]) != (o != victim) {
						t.Errorf("%s: %s: %s", b.name, path, a.body)
					}
				}
			}
			a, err := b.call("GET", "/api/v3/nodes/"+victim.name+"/connections", nil)
			if err != nil || a.status != 500 || !strings.Contains(a.body, `"nodedown"`) {
				t.Errorf("%s: the list of the node: %v %d %s", b.name, err, a.status, a.body)
			}
		}
		return slowest
	}
	down := func() {
		t.Helper()
		for _, b := range f.others(victim) {
			f.poll(b.name+" has noticed", 20*time.Second, func() bool {
				a, err := b.call("GET", "/api/v3/brokers", nil)
				return err == nil && count(a.body, "Stopped") == 1
			})
		}
	}
	whole()

	victim.cmd.Process.Signal(syscall.SIGSTOP)
	paused := without()
	down()
	noticed := without()
	victim.cmd.Process.Signal(syscall.SIGCONT)
	f.agree(3, f.boxes...)
	f.poll("lists have the node again", 20*time.Second, func() bool {
		a, err := f.others(victim)[0].call("GET", "/api/v3/connections", nil)
		return err == nil && a.header.Get("X-Cluster-Partial") == ""
	})
	whole()

	f.kill(victim)
	killed := without()
	down()
	without()
	t.Logf("the slowest list took %v while the node hung and nobody had noticed, %v after, %v after it was killed",
		paused.Round(time.Millisecond), noticed.Round(time.Millisecond), killed.Round(time.Millisecond))
	if paused > 4*time.Second { // one second for lengths; the machine may do other things too
		t.Errorf("a list took %v", paused)
	}
}
