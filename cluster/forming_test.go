package cluster_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
)

// orders are the ways to start three nodes one after the other.
var orders = [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}

// TestForm starts three nodes with empty disks in each order: they form one
// cluster, a user that one made is on all, and a restart of all in each order
// brings the same cluster back.
func TestForm(t *testing.T) {
	some := orders
	if testing.Short() {
		some = orders[3:4]
	}
	for _, order := range some {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			f := newFleet(t, 3, nil)
			begin := func() {
				for _, i := range order {
					f.start(f.boxes[i])
					// The next one comes when this one serves, be it alone: it lets nobody in who is
					// not in the metadata yet.
					f.poll("it serves", 20*time.Second, func() bool { _, err := f.boxes[i].call("GET", "/status", nil); return err == nil })
				}
			}
			begin()
			f.agree(3, f.boxes...)
			for i, b := range f.boxes {
				name := fmt.Sprint("user", i)
				f.addUser(b, name)
				for _, o := range f.boxes {
					if !o.hasUser(name) {
						t.Errorf("%s does not have at once what %s has acknowledged", o.name, b.name)
					}
				}
			}
			ids := f.ids(f.boxes[0])
			for _, b := range f.boxes {
				f.kill(b)
			}
			begin()
			f.agree(3, f.boxes...)
			if again := f.ids(f.boxes[0]); again != ids {
				t.Errorf("members: got %s, want %s as before", again, ids)
			}
			for i := range f.boxes {
				if !f.boxes[2-i].hasUser(fmt.Sprint("user", i)) {
					t.Errorf("user%d is lost", i)
				}
			}
		})
	}
}

// ids are the identities of the members.
func (f *fleet) ids(b *box) string {
	f.t.Helper()
	s, err := b.status()
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, m := range s.Members {
		out = append(out, m.Id)
	}
	return strings.Join(out, " ")
}

// TestSixth starts six nodes: five vote, and the sixth does when one leaves.
func TestSixth(t *testing.T) {
	if testing.Short() {
		t.Skip("six processes; the long run has it")
	}
	f := newFleet(t, 6, nil)
	f.start(f.boxes...)
	f.agree(5, f.boxes...)
	leaving := f.leader(f.boxes[0])
	f.addUser(leaving, "kept")
	f.must(leaving, "POST", "/api/node/cluster/leave", nil)
	f.agree(5, f.others(leaving)...)
	if s, err := leaving.status(); err != nil || len(s.Members) != 1 || leaving.hasUser("kept") {
		t.Errorf("the node that has left: %+v %v, has the user of the cluster: %v", s, err, leaving.hasUser("kept"))
	}
	for _, b := range f.others(leaving) {
		if !b.hasUser("kept") {
			t.Errorf("%s has lost the user", b.name)
		}
	}
	// It stays out over a restart, and comes back when it is told to.
	f.stop(leaving)
	f.start(leaving)
	f.agree(1, leaving)
	back := f.others(leaving)[0]
	f.must(leaving, "POST", "/api/node/cluster/join", map[string]any{"node": strings.Split(back.name, "@")[0] + "@" + back.settings["cluster.listen"]})
	f.agree(5, f.boxes...)
	if !leaving.hasUser("kept") {
		t.Error("the node that is back does not have the user")
	}
}

// TestJoin lets nodes that are alone join another by hand.
func TestJoin(t *testing.T) {
	f := newFleet(t, 2, map[string]string{"cluster.discovery": "manual"})
	a, b := f.boxes[0], f.boxes[1]
	f.start(a, b)
	f.agree(1, a)
	f.agree(1, b)
	f.addUser(a, "of-a")
	f.addUser(b, "of-b")
	join := map[string]any{"node": a.settings["cluster.listen"]}
	if r, err := b.call("POST", "/api/node/cluster/join", join); err != nil || r.status != 409 || !b.hasUser("of-b") {
		t.Errorf("join of a node with data: %v %d %s", err, r.status, r.body)
	}
	join["force"] = true
	f.must(b, "POST", "/api/node/cluster/join", join)
	f.agree(2, a, b)
	if !b.hasUser("of-a") || a.hasUser("of-b") || b.hasUser("of-b") {
		t.Error("the metadata are not those of the cluster that was joined")
	}
	if r, err := b.call("POST", "/api/node/cluster/join", join); err != nil || r.status != 409 {
		t.Errorf("join of a member: %v %d %s", err, r.status, r.body)
	}
	// A secret that one node keeps can be read on the other.
	f.must(a, "POST", "/api/v3/apps", map[string]any{"app_id": "app", "name": "n", "secret": "s3cret"})
	if r := f.must(b, "GET", "/api/v3/apps/app", nil); !strings.Contains(r.body, "s3cret") {
		t.Errorf("application on the other node: %s", r.body)
	}
}

// TestMoved gives nodes other addresses: first one, then all at a time.
func TestMoved(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.addUser(f.boxes[0], "kept")
	move := func(boxes ...*box) {
		for _, b := range boxes {
			f.stop(b)
		}
		for _, b := range boxes {
			old := b.settings["cluster.listen"]
			at := net.JoinHostPort(b.host, fmt.Sprint(freePort(t, b.host)))
			b.settings["cluster.listen"] = at
			for _, o := range f.boxes { // where discovery looks, for those that start after it
				o.settings["cluster.static.seeds"] = strings.ReplaceAll(o.settings["cluster.static.seeds"], old, at)
			}
		}
		f.start(boxes...)
		f.agree(3, f.boxes...)
		for _, b := range f.boxes {
			if !b.hasUser("kept") {
				t.Errorf("%s has lost the user", b.name)
			}
			f.poll("the address book has "+b.name+" where it is", 10*time.Second, func() bool {
				s, err := f.boxes[0].status()
				if err != nil {
					return false
				}
				return slices.ContainsFunc(s.Members, func(m api.ClusterMember) bool {
					return m.Name == b.name && m.Address == b.settings["cluster.listen"]
				})
			})
		}
	}
	move(f.boxes[2])
	move(f.boxes...)
}

// TestWiped lets a node come back under its name without its disk.
func TestWiped(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.addUser(f.boxes[0], "kept")
	for _, b := range []*box{f.boxes[0], f.boxes[2]} { // the one that forms clusters, and another
		f.kill(b)
		if err := os.RemoveAll(b.dir); err != nil {
			t.Fatal(err)
		}
		f.start(b)
		f.agree(3, f.boxes...)
		if !b.hasUser("kept") {
			t.Errorf("%s does not have the user", b.name)
		}
	}
}

// TestForceLeaveAndRecover loses two nodes of three for good, one after the other.
func TestForceLeaveAndRecover(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	a, b, c := f.boxes[0], f.boxes[1], f.boxes[2]
	begin := time.Now()
	f.addUser(a, "kept")
	// Alone, it will know its users by what its disk says is committed, which follows once a second.
	f.poll("its disk knows the users", 20*time.Second, func() bool {
		mark, err := os.Stat(filepath.Join(c.dir, "raft", "committed"))
		return err == nil && mark.ModTime().After(begin)
	})
	if r, err := a.call("DELETE", "/api/node/cluster/members/"+c.name, nil); err != nil || r.status != 409 {
		t.Errorf("force-leave of a node that runs: %v %d %s", err, r.status, r.body)
	}
	if r, err := a.call("POST", "/api/node/cluster/recover", map[string]any{"force": true}); err != nil || r.status != 409 {
		t.Errorf("recover with a leader: %v %d %s", err, r.status, r.body)
	}
	f.kill(c)
	f.poll("it is down", 20*time.Second, func() bool {
		r, err := a.call("DELETE", "/api/node/cluster/members/"+c.name, nil)
		return err == nil && r.status == 204
	})
	f.agree(2, a, b)
	f.kill(b)
	f.poll("there is no leader", 20*time.Second, func() bool { s, err := a.status(); return err == nil && s.Leader == nil })
	if r, err := a.call("POST", "/api/node/cluster/recover", map[string]any{"force": false}); err != nil || r.status != 409 {
		t.Errorf("recover without force: %v %d %s", err, r.status, r.body)
	}
	f.must(a, "POST", "/api/node/cluster/recover", map[string]any{"force": true})
	f.agree(1, a)
	if !a.hasUser("kept") {
		t.Error("the user is lost")
	}
	f.addUser(a, "after")
	// The node that was taken out is told so when it comes back, and can join anew.
	f.start(c)
	f.poll("it knows that it is out", 30*time.Second, func() bool {
		s, err := c.status()
		return err == nil && s.State == "removed"
	})
	f.must(c, "POST", "/api/node/cluster/join", map[string]any{"node": a.settings["cluster.listen"]})
	f.agree(2, a, c)
	if !c.hasUser("after") {
		t.Error("the node that is back does not have the user")
	}
}
