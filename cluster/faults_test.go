package cluster_test

import (
	"io"
	"net"
	"testing"
	"time"
)

// mqttAnswers reports whether a node takes an MQTT client in.
func mqttAnswers(b *box) bool {
	c, err := net.DialTimeout("tcp", b.mqtt, 2*time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Write([]byte("\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02c1")); err != nil {
		return false
	}
	ack := make([]byte, 4)
	_, err = io.ReadFull(c, ack)
	return err == nil && ack[0] == 0x20 && ack[3] == 0
}

// TestMinority leaves one node of three: it serves its clients, refuses to change
// metadata, says that what it shows may be old, and does not end; not when it is
// started again either. The lists show who is down.
func TestMinority(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.addUser(f.boxes[0], "kept")
	left := f.boxes[1]
	if !left.hasUser("kept") { // behind the leader's index: it has applied it now
		t.Fatal("the user is not there")
	}
	for _, b := range f.others(left) {
		f.kill(b)
	}
	killed := time.Now()
	check := func() {
		t.Helper()
		f.poll("it knows that it is alone", 20*time.Second, func() bool {
			a, err := left.call("GET", "/api/v3/users", nil)
			return err == nil && a.status == 200 && a.header.Get("X-Cluster-Stale") == "true"
		})
		if !left.hasUser("kept") {
			t.Error("it has forgotten what it knew")
		}
		a, err := left.call("POST", "/api/v3/users", map[string]string{"username": "late", "password": "password1", "tags": ""})
		if err != nil || a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("write: %v %d %s, want 503 with Retry-After", err, a.status, a.body)
		}
		f.poll("it takes MQTT clients in", 30*time.Second, func() bool { return mqttAnswers(left) })
	}
	check()
	f.poll("the lists show who is down", 20*time.Second, func() bool {
		v3, err := left.call("GET", "/api/v3/brokers/", nil)
		if err != nil {
			return false
		}
		v2, err := left.call("GET", "/api/v2/management/nodes", nil)
		return err == nil && count(v3.body, "Stopped") == 2 && count(v2.body, "Stopped") == 2
	})
	t.Logf("the lists said Stopped at the latest %v after the nodes were killed", time.Since(killed).Round(10*time.Millisecond))
	f.poll("alarms are raised", 20*time.Second, func() bool {
		a, err := left.call("GET", "/api/v3/alarms/", nil)
		return err == nil && count(a.body, "cluster_no_leader") > 0 && count(a.body, "node_down.") >= 2
	})
	f.kill(left)
	f.start(left)
	f.poll("it serves", 20*time.Second, func() bool { _, err := left.call("GET", "/status", nil); return err == nil })
	check()
	f.start(f.others(left)...)
	f.agree(3, f.boxes...)
	f.poll("the alarms are cleared", 20*time.Second, func() bool {
		a, err := left.call("GET", "/api/v3/alarms/", nil)
		return err == nil && count(a.body, "cluster_no_leader")+count(a.body, "node_down.") == 0
	})
	for _, b := range f.boxes {
		if !b.hasUser("kept") || b.hasUser("late") {
			t.Errorf("%s: kept %v, late %v", b.name, b.hasUser("kept"), b.hasUser("late"))
		}
	}
}

func count(text, word string) int {
	n := 0
	for i := 0; i+len(word) <= len(text); i++ {
		if text[i:i+len(word)] == word {
			n++
		}
	}
	return n
}

// TestStranger lets a node with another cookie, and one with another name of the
// cluster, try to join: both are refused, and the alarm says so.
func TestStranger(t *testing.T) {
	f := newFleet(t, 3, map[string]string{"cluster.discovery": "manual"})
	a, b, c := f.boxes[0], f.boxes[1], f.boxes[2]
	b.settings["node.cookie"] = "another cookie of this test"
	c.settings["cluster.name"] = "another"
	f.start(f.boxes...)
	f.agree(1, a)
	for _, stranger := range []*box{b, c} {
		f.agree(1, stranger)
		r, err := stranger.call("POST", "/api/node/cluster/join", map[string]any{"node": a.settings["cluster.listen"]})
		if err != nil || r.status != 409 {
			t.Errorf("%s: join: %v %d %s, want 409", stranger.name, err, r.status, r.body)
		}
		f.agree(1, stranger)
	}
	f.poll("the alarm is raised", 10*time.Second, func() bool {
		r, err := a.call("GET", "/api/v3/alarms/", nil)
		return err == nil && count(r.body, "cluster_refused") > 0
	})
	f.agree(1, a)
}
