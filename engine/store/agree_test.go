package store_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/store"
)

// mesh is some nodes and the links between them.
type mesh struct {
	t      rapid.TB
	nodes  []*world
	ends   map[[2]int]*farEnd // of the link of the first to the second, while it is there
	told   map[[2]int]int     // bytes carried
	seen   func(from, to int, p []byte)
	old    map[[2]int]bool // the second is of a release that knows nothing of all this
	epochs int
}

func newMesh(t rapid.TB, size int) *mesh {
	m := &mesh{t: t, ends: map[[2]int]*farEnd{}, told: map[[2]int]int{}, old: map[[2]int]bool{}}
	for i := range size {
		w := &world{t: t, id: fmt.Sprint("n", i), m: store.NewMemory(false), clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
		w.boot()
		m.nodes = append(m.nodes, w)
	}
	return m
}

func (m *mesh) pairs(f func(i, j int)) {
	for i := range m.nodes {
		for j := range i {
			f(j, i)
		}
	}
}

// heal makes all links that are not there, and lets everything come to rest.
func (m *mesh) heal() {
	m.t.Helper()
	m.settle()
	m.pairs(func(i, j int) {
		if m.ends[[2]int{i, j}] == nil {
			m.connect(i, j)
		}
	})
	m.settle()
}

func (m *mesh) connect(i, j int) {
	m.t.Helper()
	m.cut(i, j)
	epoch := m.nodes[i].e.LinkEpoch(m.nodes[j].id)
	resume := epoch != "" && epoch == m.nodes[j].e.LinkEpoch(m.nodes[i].id)
	if !resume {
		m.epochs++
		epoch = fmt.Sprint("epoch", m.epochs)
	}
	for _, k := range [][2]int{{i, j}, {j, i}} {
		w := m.nodes[k[0]]
		o := engine.LinkOptions{Peer: m.nodes[k[1]].id, Epoch: epoch, Resume: resume, Retained: !m.old[[2]int{i, j}]}
		f := &farEnd{w: w}
		var err error
		if f.c, err = w.e.OpenLink(o, engine.ConnInfo{}, f); err != nil {
			m.t.Fatal(err)
		}
		m.ends[k] = f
		f.c.Feed(w.b, o.Hello())
		w.b.Flush()
	}
}

func (m *mesh) cut(i, j int) {
	for _, k := range [][2]int{{i, j}, {j, i}} {
		if f := m.ends[k]; f != nil {
			delete(m.ends, k)
			f.c.Closed(f.w.b, nil)
			f.w.b.Flush()
		}
	}
}

// crash crashes a node, and its links with it.
func (m *mesh) crash(i, more int) {
	m.t.Helper()
	for j, w := range m.nodes {
		if f := m.ends[[2]int{j, i}]; f != nil {
			f.c.Closed(w.b, nil)
			w.b.Flush()
		}
		delete(m.ends, [2]int{i, j})
		delete(m.ends, [2]int{j, i})
	}
	m.nodes[i].crash(more)
}

func (m *mesh) carry(i, j, n int) bool {
	f, to := m.ends[[2]int{i, j}], m.ends[[2]int{j, i}]
	if f == nil || to == nil {
		return false
	}
	if f.gone || to.gone { // one was silent for too long
		m.cut(i, j)
		return true
	}
	if len(f.out) == 0 {
		return false
	}
	n = min(n, len(f.out))
	some := slices.Clone(f.out[:n])
	f.out = f.out[n:]
	m.told[[2]int{i, j}] += n
	if m.seen != nil {
		m.seen(i, j, some)
	}
	if to.c.Feed(to.w.b, some) == engine.Stop {
		m.t.Fatalf("node %d ends the link of node %d", j, i)
	}
	to.w.b.Flush()
	if !f.full {
		f.c.Writable(f.w.b)
		f.w.b.Flush()
	}
	return true
}

// settle carries and commits until nothing moves.
func (m *mesh) settle() {
	m.t.Helper()
	for range 10000 {
		moved := false
		for _, w := range m.nodes {
			moved = w.m.Staged() > w.m.Committed() || moved
			w.commit()
		}
		for i := range m.nodes {
			for j := range m.nodes {
				moved = m.carry(i, j, 1<<20) || moved
			}
		}
		if !moved {
			return
		}
	}
	m.t.Fatal("the nodes do not come to rest")
}

// pass lets time pass on all nodes, a second at a time.
func (m *mesh) pass(seconds int) {
	m.t.Helper()
	for range seconds {
		for _, w := range m.nodes {
			w.pass(time.Second)
		}
		m.settle()
	}
}

// has gives what a node has retained.
func (m *mesh) has(i int) map[string]string {
	rows, n := m.nodes[i].e.Retained(0, 1<<20)
	got := make(map[string]string, len(rows))
	for _, r := range rows {
		got[r.Topic] = string(r.Payload)
	}
	if st := m.nodes[i].e.Stats().Retained.Count; len(got) != n || int(st) != n {
		m.t.Fatalf("node %d: %d retained messages, the list says %d and the gauge %d", i, len(got), n, st)
	}
	return got
}

// want fails unless all nodes have just that.
func (m *mesh) want(want map[string]string) {
	m.t.Helper()
	for i := range m.nodes {
		if got := m.has(i); !maps.Equal(got, want) {
			m.t.Fatalf("node %d has %s, want %s", i, brief(got), brief(want))
		}
	}
}

func brief(x map[string]string) string {
	if len(x) > 40 {
		return fmt.Sprintf("%d messages", len(x))
	}
	return fmt.Sprint(x)
}

func retained(topic, payload string, qos packet.QoS, id uint16) *packet.Publish {
	p := pub(topic, payload, qos, id)
	p.Retain = true
	return p
}

// set has an engine take a retained message.
func (m *mesh) set(i int, topic, payload string) {
	m.t.Helper()
	if _, err := m.nodes[i].e.Publish(&engine.Message{Topic: topic, Payload: []byte(payload), Retain: true, QoS: 1}); err != nil {
		m.t.Fatal(err)
	}
}

// Whatever way a retained message comes, goes or changes, all nodes hear of it, though nobody has subscribed.
func TestRetainedIsEverywhere(t *testing.T) {
	m := newMesh(t, 3)
	m.heal()
	a := m.nodes[0]
	p := a.connect(packet.V5, "p", clean)
	p.say(retained("q/0", "0", 0, 0), retained("q/1", "1", 1, 1), retained("q/2", "2", 2, 2), retained("gone", "x", 1, 3), retained("$SYS/x", "mine", 0, 0))
	m.settle()
	p.want("CONNACK 0x0 false", "PUBACK #1 0x10", "PUBREC #2 0x10", "PUBACK #3 0x10")
	for i := range m.nodes {
		got := m.has(i)
		delete(got, "$SYS/x")
		if want := map[string]string{"q/0": "0", "q/1": "1", "q/2": "2", "gone": "x"}; !maps.Equal(got, want) {
			t.Fatalf("node %d has %v, want %v", i, got, want)
		}
	}
	if got := m.has(1); got["$SYS/x"] != "" {
		t.Error("what is below $SYS crosses")
	}
	a.e.CleanRetained("$SYS/#")
	m.set(1, "q/0", "of another")
	m.set(2, "gone", "")
	w := a.connect(packet.V311, "w", func(c *packet.Connect) {
		c.CleanStart, c.Will = true, &packet.Will{Topic: "will", Payload: []byte("w"), Retain: true, QoS: 1}
	})
	a.commit()
	w.hangUp()
	if err := a.e.Delay(&engine.Message{Topic: "d", Payload: []byte("d"), Retain: true, At: a.now()}, "late", a.now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	m.pass(2)
	want := map[string]string{"q/0": "of another", "q/1": "1", "q/2": "2", "will": "w", "late": "d"}
	m.want(want)
	// A subscriber gets them from its node, with their QoS.
	s := m.nodes[2].connect(packet.V5, "s", clean)
	s.say(sub("q/+", 2))
	m.settle()
	s.want("CONNACK 0x0 false", "SUBACK 0x2", "PUBLISH q/0=of another q1 #1 retain", "PUBLISH q/1=1 q1 #2 retain", "PUBLISH q/2=2 q2 #3 retain")
	if n := m.nodes[1].e.CleanRetained("q/#"); n != 3 {
		t.Errorf("%d messages cleared, want 3", n)
	}
	m.settle()
	m.want(map[string]string{"will": "w", "late": "d"})
	for i, w := range m.nodes {
		if n := w.e.Metrics()[engine.RetainedRepaired]; n != 0 {
			t.Errorf("node %d: %d messages had to be repaired, want none", i, n)
		}
	}
}

// A message that goes to subscribers elsewhere is retained there by the way, and crosses once.
func TestRetainedCrossesOnce(t *testing.T) {
	m := newMesh(t, 3)
	m.heal()
	s := m.nodes[1].connect(packet.V5, "s", clean)
	s.say(&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "r/#", QoS: 2, RetainAsPublished: true}}})
	m.settle()
	s.all()
	m.set(0, "r/1", "before")
	m.settle()
	clear(m.told)
	crossed := map[[2]int]int{}
	m.seen = func(i, j int, p []byte) { crossed[[2]int{i, j}] += bytes.Count(p, []byte("the payload")) }
	p := m.nodes[0].connect(packet.V5, "p", clean)
	p.say(retained("r/1", "the payload", 1, 1))
	m.settle()
	s.want("PUBLISH r/1=before q1 #1 retain", "PUBLISH r/1=the payload q1 #2 retain")
	m.want(map[string]string{"r/1": "the payload"})
	if n := crossed[[2]int{0, 1}]; n != 1 {
		t.Errorf("the message crossed %d times to the node of the subscriber, want once", n)
	}
	if n := crossed[[2]int{0, 2}]; n != 1 {
		t.Errorf("the message crossed %d times to the other node, want once", n)
	}
	if n := crossed[[2]int{1, 2}] + crossed[[2]int{1, 0}] + crossed[[2]int{2, 0}] + crossed[[2]int{2, 1}]; n != 0 {
		t.Errorf("the message was passed on %d times, want never", n)
	}
	p.say(retained("r/1", "", 0, 0))
	m.settle()
	s.want("PUBLISH r/1= q0 #0 retain")
	m.want(map[string]string{})
}

// After a partition the later change of each topic is everywhere, and what was cleared stays so, whoever crashed meanwhile.
func TestRetainedHeals(t *testing.T) {
	for _, crashed := range []int{-1, 0, 1} {
		t.Run(fmt.Sprint(crashed), func(t *testing.T) {
			m := newMesh(t, 3)
			m.heal()
			for i := range 6 {
				m.set(0, fmt.Sprint("t/", i), "old")
			}
			m.settle()
			m.cut(0, 1)
			m.cut(0, 2)
			m.pass(1)
			m.set(0, "t/0", "of 0")
			m.set(0, "t/1", "") // and set again there, later
			m.set(0, "t/2", "set, and cleared there later")
			m.set(0, "t/3", "")
			m.set(0, "new/0", "x")
			m.set(0, "never", "")
			m.pass(1)
			m.set(1, "t/1", "of 1")
			m.set(1, "t/2", "")
			m.set(2, "new/2", "y")
			m.pass(20)
			if crashed >= 0 {
				m.crash(crashed, 0)
			}
			m.heal() // without a tick of the comparison
			m.want(map[string]string{"t/0": "of 0", "t/1": "of 1", "t/4": "old", "t/5": "old", "new/0": "x", "new/2": "y"})
			if got := m.nodes[0].e.Metrics()[engine.RetainedRepaired]; got < 3 {
				t.Errorf("node 0: %d repaired, want t/1, t/2 and new/2 at least", got)
			}
		})
	}
}

// A node that comes without anything gets everything, some at a time.
func TestRetainedForNewNode(t *testing.T) {
	m := newMesh(t, 2)
	const n = 20000
	want := map[string]string{}
	for i := range n {
		topic := fmt.Sprintf("site/%d/device/%d", i%7, i)
		want[topic] = strings.Repeat("x", i%50+1)
		m.set(i%2, topic, want[topic])
	}
	m.heal()
	m.want(want)
	if l := m.nodes[0].e.Links()[0]; !l.Retained || l.Differ != 256 {
		t.Errorf("link %+v, want 256 parts that differed", l)
	}
	m.pass(6)
	if l := m.nodes[0].e.Links()[0]; l.Differ != 0 {
		t.Errorf("link %+v, want none that differs", l)
	}
	t.Logf("%d bytes for %d messages each way", m.told[[2]int{0, 1}], n/2)
	m.crash(1, 0)
	m.nodes[1].m = store.NewMemory(false)
	m.nodes[1].boot()
	clear(m.told)
	m.heal()
	m.want(want)
	clear(m.told)
	m.set(1, "site/0/device/0", "changed")
	m.settle()
	m.pass(20)
	if n := m.told[[2]int{0, 1}]; n > 5*4000 {
		t.Errorf("%d bytes in 20 s in which one message changed, want four comparisons", n)
	}
	m.crash(0, 0)
	m.set(1, "site/0/device/1", "changed")
	clear(m.told)
	m.heal()
	want["site/0/device/0"], want["site/0/device/1"] = "changed", "changed"
	m.want(want)
	if n := m.told[[2]int{0, 1}] + m.told[[2]int{1, 0}]; n > 10000 {
		t.Errorf("%d bytes to find one difference among %d, want few", n, len(want))
	}
}

// What a node that is slow is to be told is the last state of each topic, and its output stays short.
func TestRetainedAtThePaceOfTheLink(t *testing.T) {
	m := newMesh(t, 2)
	m.heal()
	f := m.ends[[2]int{0, 1}]
	f.full = true
	big := strings.Repeat("x", 10<<10)
	for i := range 1000 {
		m.set(0, fmt.Sprint("t/", i%100), fmt.Sprint(i, big))
	}
	m.nodes[0].commit()
	f.full = false
	f.c.Writable(f.w.b)
	f.w.b.Flush()
	if len(f.out) > 300<<10 {
		t.Errorf("%d bytes wait in the output, want few", len(f.out))
	}
	m.settle()
	if n := m.told[[2]int{0, 1}]; n > 150*(10<<10) {
		t.Errorf("%d bytes for 100 topics, want the last state of each", n)
	}
	if !maps.Equal(m.has(0), m.has(1)) {
		t.Error("the nodes differ")
	}
	if n := m.nodes[1].e.Metrics()[engine.RetainedRepaired]; n != 0 {
		t.Errorf("%d messages had to be repaired, want none", n)
	}
}

// A message of QoS 0 that did not fit the output of the link is retained there all the same.
func TestRetainedThatWasDropped(t *testing.T) {
	m := newMesh(t, 2)
	m.heal()
	s := m.nodes[1].connect(packet.V5, "s", clean)
	s.say(sub("t/#", 0))
	m.settle()
	f := m.ends[[2]int{0, 1}]
	f.full = true
	big := strings.Repeat("x", 100<<10)
	want := map[string]string{}
	for i := range 20 {
		topic := fmt.Sprint("t/", i)
		want[topic] = big
		if _, err := m.nodes[0].e.Publish(&engine.Message{Topic: topic, Payload: []byte(big), Retain: true}); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.nodes[0].e.Metrics()[engine.OutputDropped]; n == 0 {
		t.Fatal("nothing was dropped")
	}
	f.full = false
	f.c.Writable(f.w.b)
	f.w.b.Flush()
	m.settle()
	m.want(want)
}

// A node of an earlier release hears nothing that it does not know, and others agree without it.
func TestRetainedWithOldNode(t *testing.T) {
	m := newMesh(t, 3)
	m.old[[2]int{0, 2}], m.old[[2]int{1, 2}] = true, true
	m.seen = func(i, j int, p []byte) {
		if i != 2 && j != 2 {
			return
		}
		for len(p) > 0 {
			h, n, err := packet.ParseHeader(packet.V5, p)
			if err != nil {
				t.Fatal(err)
			}
			if h.Type == packet.TypePublish {
				var x packet.Publish
				if err := x.Decode(packet.V5, h.Flags, p[n:n+h.Remaining]); err != nil {
					t.Fatal(err)
				}
				if user := x.Properties[3]; user < '0' || user > '3' { // the first byte of the first user property
					t.Errorf("a message to or of the old node has the flag %q", user)
				}
				if string(x.Properties) != "" && bytes.Count(x.Properties, []byte{byte(packet.PropUser), 0}) > 2 {
					t.Errorf("more than two properties: %q", x.Properties)
				}
			}
			p = p[n+h.Remaining:]
		}
	}
	m.heal()
	s := m.nodes[2].connect(packet.V5, "s", clean)
	s.say(sub("t/#", 1))
	m.settle()
	s.all()
	m.set(0, "t/1", "x")
	m.set(0, "u/1", "y")
	m.pass(6)
	s.want("PUBLISH t/1=x q1 #1")
	want := map[string]string{"t/1": "x", "u/1": "y"}
	for i := range 2 {
		if got := m.has(i); !maps.Equal(got, want) {
			t.Errorf("node %d has %v, want %v", i, got, want)
		}
	}
}

// A node whose clock is ahead does not decide for ever, and moves no other's clock by more than a minute.
func TestRetainedFromTheFuture(t *testing.T) {
	m := newMesh(t, 3)
	m.heal()
	m.nodes[0].pass(time.Hour)
	m.heal()
	m.set(0, "t/1", "from the future")
	m.set(0, "t/2", "from the future")
	m.settle()
	m.want(map[string]string{"t/1": "from the future", "t/2": "from the future"})
	if n := m.nodes[1].e.Metrics()[engine.RetainedAhead]; n == 0 {
		t.Error("stamps from the future are not counted")
	}
	m.set(1, "t/1", "later")
	m.set(2, "t/2", "")
	m.settle()
	m.want(map[string]string{"t/1": "later"})
	// The clock of node 1 has not followed: what the others set a little later, while they cannot hear of each other, is later.
	m.cut(0, 1)
	m.cut(1, 2)
	m.set(1, "t/3", "first")
	m.nodes[2].pass(2 * time.Minute)
	m.set(2, "t/3", "second")
	m.heal()
	m.want(map[string]string{"t/1": "later", "t/3": "second"})
}

// A restart does not take a node back in time, also if its clock is.
func TestRetainedAfterClockWentBack(t *testing.T) {
	for _, what := range []string{"set", "cleared"} {
		t.Run(what, func(t *testing.T) {
			m := newMesh(t, 2)
			m.heal()
			m.set(0, "t", "before")
			if what == "cleared" {
				m.set(0, "t", "")
			}
			m.settle()
			m.cut(0, 1)
			m.nodes[0].mu.Lock()
			m.nodes[0].clock = m.nodes[0].clock.Add(-2 * time.Hour)
			m.nodes[0].mu.Unlock()
			m.crash(0, 0)
			m.set(0, "t", "after")
			m.heal()
			m.want(map[string]string{"t": "after"})
		})
	}
}

// What was stored by an earlier release has the stamp of the time when it was taken.
func TestRetainedWithoutStamp(t *testing.T) {
	m := newMesh(t, 2)
	for i, w := range m.nodes {
		x := &engine.Message{Topic: "t", Payload: []byte(fmt.Sprint(i)), Retain: true, At: w.now().Add(-time.Duration(i) * time.Minute)}
		w.m.PutMessage(1000, x, false)
		w.m.PutRetained(1000, "t", engine.Stamp{})
		w.commit()
		m.crash(i, 0)
	}
	m.heal()
	m.want(map[string]string{"t": "0"})
}

// Limits are each node's own: what one cannot keep it is told of less and less often, and its operator too.
func TestRetainedAboveLimits(t *testing.T) {
	limits := map[string]engine.RetainerOptions{
		"count":   {MaxMessages: 10},
		"payload": {MaxPayload: 5},
		"expiry":  {Expiry: time.Second},
	}
	for name, o := range limits {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, 3)
			if err := m.nodes[1].e.EnableRetainer(o); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for i := range 500 {
				topic := fmt.Sprint("t/", i)
				want[topic] = "a payload"
				m.set(2*(i%2), topic, want[topic])
			}
			m.nodes[0].pass(2 * time.Second)
			m.nodes[1].pass(2 * time.Second)
			m.nodes[2].pass(2 * time.Second)
			m.heal()
			m.pass(40)
			clear(m.told)
			states := 0
			m.seen = func(i, j int, p []byte) {
				if j == 1 {
					states += bytes.Count(p, []byte("a payload"))
				}
			}
			m.pass(600)
			for _, i := range []int{0, 2} {
				if got := m.has(i); !maps.Equal(got, want) {
					t.Fatalf("node %d has %s, want all", i, brief(got))
				}
			}
			if got, most := len(m.has(1)), o.MaxMessages; got != most {
				t.Errorf("node 1 has %d messages, want %d", got, most)
			}
			if got := m.told[[2]int{0, 1}] / 120; got > 5000 {
				t.Errorf("%d bytes for each comparison that is in vain, want few", got)
			}
			if states > 500*2*7 {
				t.Errorf("messages that node 1 does not keep were told %d times in 10 minutes", states)
			}
			alarms := m.nodes[1].e.Alarms().List()
			if len(alarms) != 2 || !strings.HasPrefix(alarms[0].ID, "retained_limit.") {
				t.Errorf("alarms %+v, want one for each of the others", alarms)
			}
			t.Logf("%d bytes a comparison, %d messages in vain", m.told[[2]int{0, 1}]/120, states)
			if err := m.nodes[1].e.EnableRetainer(engine.RetainerOptions{}); err != nil {
				t.Fatal(err)
			}
			m.pass(11)
			m.want(want)
			if alarms := m.nodes[1].e.Alarms().List(); len(alarms) != 0 {
				t.Errorf("alarms %+v, want none", alarms)
			}
		})
	}
}

// A node that does not retain takes no part, and catches up when it does again.
func TestRetainedIsOff(t *testing.T) {
	m := newMesh(t, 2)
	m.heal()
	m.set(0, "t/1", "1")
	m.set(0, "t/2", "2")
	m.settle()
	for i := range 2 {
		m.nodes[i].e.DisableRetainer()
		m.set(1-i, "t/1", fmt.Sprint("without ", i))
		m.set(1-i, "t/2", "")
		m.set(1-i, "t/3", fmt.Sprint(i))
		m.pass(12)
		if err := m.nodes[i].e.EnableRetainer(engine.RetainerOptions{}); err != nil {
			t.Fatal(err)
		}
		m.pass(6)
		m.want(map[string]string{"t/1": fmt.Sprint("without ", i), "t/3": fmt.Sprint(i)})
	}
}

// That a topic was cleared is remembered for a day, also over restarts and when the store is cleaned, and not for longer.
func TestClearedIsRemembered(t *testing.T) {
	m := newMesh(t, 2)
	m.heal()
	m.set(0, "t", "x")
	m.settle()
	m.cut(0, 1)
	m.set(0, "t", "")
	m.nodes[0].commit()
	m.nodes[0].pass(23 * time.Hour)
	m.nodes[1].pass(23 * time.Hour)
	for range 2 {
		if !m.nodes[0].m.Clean() {
			t.Fatal("not cleaned")
		}
		m.crash(0, 0)
	}
	m.heal()
	m.want(map[string]string{})
	for i := range 2 {
		m.nodes[i].pass(25 * time.Hour)
		m.nodes[i].pass(time.Minute)
		m.nodes[i].commit()
		if !m.nodes[i].m.Clean() {
			t.Fatal("not cleaned")
		}
		m.nodes[i].commit()
		kept, err := m.nodes[i].m.Crash(0).Load()
		if err != nil || len(kept.Cleared) != 0 {
			t.Errorf("node %d: cleared topics in the store: %+v, %v, want none", i, kept.Cleared, err)
		}
	}
}

// Messages expire on each node by themselves, and do not come back from a node whose clock is behind.
func TestRetainedExpires(t *testing.T) {
	m := newMesh(t, 2)
	m.nodes[0].pass(3 * time.Second)
	m.heal()
	p := m.nodes[1].connect(packet.V5, "p", clean)
	x := retained("t", "x", 1, 1)
	x.HasExpiry, x.Expiry = true, 10
	p.say(x)
	m.settle()
	m.want(map[string]string{"t": "x"})
	for range 15 {
		before := len(m.has(0))
		m.pass(1)
		if now := len(m.has(0)); now > before {
			t.Error("the message came back")
		}
	}
	m.want(map[string]string{})
}

// Whatever the clocks of the nodes say, and wherever links break and nodes crash, in the end all have the same, and what is set then
// is everywhere.
func TestRetainedConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		m := newMesh(t, 3)
		for _, w := range m.nodes {
			w.pass(time.Duration(r.IntN(300)) * time.Second * time.Duration(r.IntN(2)))
		}
		m.heal()
		texts := map[string][]string{} // that topics have had
		next := 0
		topic := func() string { return fmt.Sprint("t/", r.IntN(6)) }
		change := func(i int, name string) string {
			next++
			text := ""
			if r.IntN(3) > 0 {
				text = fmt.Sprint(next)
			}
			texts[name] = append(texts[name], text)
			m.set(i, name, text)
			return text
		}
		subs := make([]*wire, 3)
		for range rapid.IntRange(10, 150).Draw(t, "steps") {
			i, j := r.IntN(3), r.IntN(3)
			switch k := r.IntN(20); {
			case k < 8:
				change(i, topic())
			case k < 12 && i != j:
				m.carry(i, j, 1+r.IntN(3000))
			case k == 12 && i != j:
				m.cut(i, j)
			case k == 13 && i != j:
				m.connect(min(i, j), max(i, j))
			case k == 14:
				m.crash(i, r.IntN(5))
				subs[i] = nil
			case k == 15:
				m.nodes[i].commit()
			case k == 16:
				m.nodes[i].pass(time.Duration(r.IntN(8000)) * time.Millisecond)
			case k == 17:
				if subs[i] = m.nodes[i].connect(packet.V5, "s", clean); r.IntN(2) == 0 {
					subs[i].say(sub("t/#", packet.QoS(r.IntN(3))))
				}
			case k == 18:
				m.nodes[i].commit()
				m.nodes[i].m.Clean()
			case k == 19:
				m.settle()
			}
		}
		m.heal()
		m.pass(7) // one comparison more: what a node heard between
		want := m.has(0)
		m.want(want)
		for name, text := range want {
			if !slices.Contains(texts[name], text) {
				t.Fatalf("%s has %q, which nobody has set", name, text)
			}
		}
		for i := range m.nodes { // what is stored is the same
			m.crash(i, 0)
			if got := m.has(i); !maps.Equal(got, want) {
				t.Fatalf("node %d has %v after a restart, want %v", i, got, want)
			}
		}
		m.heal()
		for i := range 6 {
			name := fmt.Sprint("t/", i)
			for range 2 {
				if want[name] = change(r.IntN(3), name); want[name] == "" {
					delete(want, name)
				}
				m.settle()
			}
		}
		m.want(want)
		m.pass(6)
		m.want(want)
		if l := m.nodes[0].e.Links(); l[0].Differ+l[1].Differ != 0 {
			t.Fatalf("links %+v, want no difference", l)
		}
	})
}

// That a topic was cleared goes to nodes that never had a message of it: what is set there later is later.
func TestClearedByNodeAhead(t *testing.T) {
	m := newMesh(t, 2)
	m.nodes[1].pass(5 * time.Minute)
	m.nodes[1].pass(0)
	m.set(1, "before there is a link", "")
	m.heal()
	m.cut(0, 1)
	m.set(1, "t", "")
	m.heal()
	m.set(0, "t", "later")
	m.pass(6)
	m.want(map[string]string{"t": "later"})
}
