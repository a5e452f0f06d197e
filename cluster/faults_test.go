package cluster_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// register is an admin user whose tags are written and read through any node.
type registerInput struct {
	write bool
	value int
}

// registerModel is a register; unknown is the output of a write that failed: it
// may have been done, now, later or never.
var registerModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		in := input.(registerInput)
		if in.write {
			return true, in.value
		}
		return output.(int) == state.(int), state
	},
	DescribeOperation: func(input, output any) string {
		if in := input.(registerInput); in.write {
			return fmt.Sprint("write ", in.value)
		}
		return fmt.Sprint("read ", output)
	},
}

// TestLinearizable writes and reads one value through all nodes while leaders
// are killed, paused and started again: the history is that of one register, and
// nothing is lost that was answered. Reads that are marked stale promise nothing.
func TestLinearizable(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.must(f.boxes[0], "POST", "/api/v3/users", map[string]string{"username": "reg", "password": "password1", "tags": "0"})

	var (
		mu       sync.Mutex
		history  []porcupine.Operation
		written  atomic.Int64
		answered int
		stale    int
		stop     = make(chan struct{})
		clients  sync.WaitGroup
	)
	zero := time.Now()
	for c := range 6 {
		rng := rand.New(rand.NewPCG(seed, uint64(c)))
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				b := f.boxes[rng.IntN(len(f.boxes))]
				op := porcupine.Operation{ClientId: c, Input: registerInput{}, Call: int64(time.Since(zero))}
				known, old := false, false
				if rng.IntN(2) == 0 {
					v := int(written.Add(1))
					op.Input = registerInput{true, v}
					a, err := b.call("PUT", "/api/v3/users/reg", map[string]string{"tags": strconv.Itoa(v)})
					known = err == nil && a.status == 200
				} else {
					v, isOld, err := readRegister(b)
					op.Output, known, old = v, err == nil, isOld
				}
				op.Return = int64(time.Since(zero))
				mu.Lock()
				switch {
				case old:
					stale++
				case known:
					answered++
					history = append(history, op)
				case op.Input.(registerInput).write: // it may be done whenever
					op.Return = int64(time.Hour)
					history = append(history, op)
				}
				mu.Unlock()
			}
		})
	}
	rng := rand.New(rand.NewPCG(seed, 99))
	faults := 4
	if testing.Short() {
		faults = 2
	}
	for i := range faults {
		time.Sleep(time.Duration(500+rng.IntN(500)) * time.Millisecond) // load between faults
		l := f.leader(f.boxes[rng.IntN(3)])
		if i%2 == 0 {
			f.kill(l)
			f.leader(f.others(l)[0])
			f.start(l)
		} else {
			l.cmd.Process.Signal(syscall.SIGSTOP) // as long as it takes to choose another
			o := f.others(l)[0]
			f.poll("another node leads", 20*time.Second, func() bool {
				s, err := o.status()
				return err == nil && s.Leader != nil && *s.Leader != l.name
			})
			l.cmd.Process.Signal(syscall.SIGCONT)
		}
		f.agree(3, f.boxes...)
	}
	close(stop)
	clients.Wait()
	t.Logf("%d operations answered, %d of unknown end, %d stale reads", answered, len(history)-answered, stale)
	if answered < 100 {
		t.Errorf("only %d operations were answered: the test says nothing", answered)
	}
	if result := porcupine.CheckOperationsTimeout(registerModel, history, 60*time.Second); result != porcupine.Ok {
		t.Errorf("the history is not that of one register: %v", result)
	}
	last, _, err := readRegister(f.boxes[0])
	for _, b := range f.boxes[1:] {
		if v, old, e := readRegister(b); err != nil || e != nil || old || v != last {
			t.Errorf("%s reads %d (%v), %s %d (%v)", b.name, v, e, f.boxes[0].name, last, err)
		}
	}
}

func readRegister(b *box) (v int, stale bool, err error) {
	a, err := b.call("GET", "/api/v3/users", nil)
	if err != nil {
		return 0, false, err
	}
	var users []struct{ Username, Tags string }
	if a.status != 200 || json.Unmarshal([]byte(a.body), &users) != nil {
		return 0, false, fmt.Errorf("%d %s", a.status, a.body)
	}
	for _, u := range users {
		if u.Username == "reg" {
			v, err = strconv.Atoi(u.Tags)
			return v, a.header.Get("X-Cluster-Stale") != "", err
		}
	}
	return 0, false, fmt.Errorf("no such user: %s", a.body)
}

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
		if !mqttAnswers(left) {
			t.Error("it does not take MQTT clients in")
		}
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
