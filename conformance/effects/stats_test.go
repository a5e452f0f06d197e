package effects

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// The stats that the documents list, each with /count and /max.
var (
	statsV2 = strings.Fields("clients sessions topics subscribers subscriptions routes retained")
	statsV3 = strings.Fields("connections sessions sessions/persistent topics subscribers subscriptions subscriptions/shared routes retained")
)

// level is what the stats are: by the names of 3.0.
type level map[string]int64

// statViews are where stats are read.
var statViews = []struct {
	setting  string // of management.metric_names
	one, all string
	in       []any // where the object is in the answer about all nodes
	result   []any // where it is in the answer about one
	names    func() map[string]string
}{
	{"slash", "v2/monitoring/stats/" + nodeName, "v2/monitoring/stats", []any{"result", nodeName}, []any{"result"}, func() map[string]string {
		m := map[string]string{}
		for _, n := range statsV2 {
			m[n+"/"] = n
		}
		m["clients/"] = "connections"
		return m
	}},
	{"slash", "v3/nodes/" + nodeName + "/stats/", "v3/stats/", []any{0}, nil, func() map[string]string {
		m := map[string]string{}
		for _, n := range statsV3 {
			m[n+"/"] = n
		}
		return m
	}},
	{"dot", "v3/nodes/" + nodeName + "/stats/", "v3/stats/", []any{0}, nil, func() map[string]string {
		m := map[string]string{"suboptions.": "subscriptions"}
		for _, n := range statsV3 {
			m[strings.ReplaceAll(n, "/", ".")+"."] = n
		}
		return m
	}},
}

// TestStats moves every stat up and down and compares all of them, value and highest value, in all places after every step.
func TestStats(t *testing.T) {
	for _, setting := range []string{"slash", "dot"} {
		t.Run(setting, func(t *testing.T) {
			w := start(t, map[string]string{"management.metric_names": setting})
			var a, b, c *device
			highest := level{}
			for _, step := range []struct {
				name string
				do   func()
				want level
			}{
				{"nothing yet", func() {}, level{}},
				{"two clients", func() {
					a = w.connect(hello{id: "a"})
					b = w.connect(hello{id: "b", persist: true})
				}, level{"connections": 2, "sessions": 2, "sessions/persistent": 1}},
				{"subscriptions", func() {
					a.subscribe("x/1", 0)
					a.subscribe("x/#", 0)
					b.subscribe("x/1", 1)
					b.subscribe("x/1", 2) // the same again
				}, level{"connections": 2, "sessions": 2, "sessions/persistent": 1, "topics": 2, "routes": 2, "subscribers": 3, "subscriptions": 3}},
				{"shared subscriptions", func() {
					a.subscribe("$share/g/x/2", 0)
					b.subscribe("$share/g/x/2", 0)
				}, level{"connections": 2, "sessions": 2, "sessions/persistent": 1, "topics": 3, "routes": 3, "subscribers": 5,
					"subscriptions": 5, "subscriptions/shared": 2}},
				{"by the API", func() {
					w.api("POST", "v3/mqtt/subscribe", body{"client_id": "b", "topic": "x/3", "qos": 1}).done()
				}, level{"connections": 2, "sessions": 2, "sessions/persistent": 1, "topics": 4, "routes": 4, "subscribers": 6,
					"subscriptions": 6, "subscriptions/shared": 2}},
				{"retained messages", func() {
					c = w.connect(hello{id: "c", v: 5})
					c.publish(message{topic: "r/1", payload: "x", qos: 1, retain: true})
					c.publish(message{topic: "r/2", payload: "x", qos: 1, retain: true})
					c.publish(message{topic: "r/2", payload: "y", qos: 1, retain: true})
					c.publish(message{topic: "r/1", qos: 1, retain: true})
					c.bye()
					highest["connections"], highest["sessions"], highest["retained"] = 3, 3, 2 // c and r/1 have come and gone
				}, level{"connections": 2, "sessions": 2, "sessions/persistent": 1, "topics": 4, "routes": 4, "subscribers": 6,
					"subscriptions": 6, "subscriptions/shared": 2, "retained": 1}},
				{"one leaves for good, one for a while", func() {
					a.bye()
					b.bye()
				}, level{"sessions": 1, "sessions/persistent": 1, "topics": 3, "routes": 3, "subscribers": 3,
					"subscriptions": 3, "subscriptions/shared": 1, "retained": 1}},
				{"one comes back and unsubscribes", func() {
					b = w.connect(hello{id: "b", persist: true})
					b.unsubscribe("$share/g/x/2")
					b.unsubscribe("x/1")
				}, level{"connections": 1, "sessions": 1, "sessions/persistent": 1, "topics": 1, "routes": 1, "subscribers": 1,
					"subscriptions": 1, "retained": 1}},
				{"everything gone", func() {
					b.bye()
					b = w.connect(hello{id: "b"})
					b.publish(message{topic: "r/2", qos: 1, retain: true})
					b.bye()
				}, level{}},
			} {
				step.do()
				for k, v := range step.want {
					highest[k] = max(highest[k], v)
				}
				w.levels(t, setting, step.name, step.want, highest)
			}
			for _, name := range statsV3 {
				if highest[name] == 0 {
					t.Errorf("no step moves %s", name)
				}
			}
		})
	}
}

// levels compares all stats.
func (w *world) levels(t *testing.T, setting, step string, count, highest level) {
	t.Helper()
	for _, v := range statViews {
		if v.setting != setting {
			continue
		}
		want := map[string]int64{}
		for prefix, name := range v.names() {
			want[prefix+"count"], want[prefix+"max"] = count[name], highest[name]
		}
		var got map[string]int64
		read := func() map[string]int64 { return numbers(t, w.api("GET", v.one, nil).done().at(v.result...)) }
		for deadline := time.Now().Add(time.Second); ; time.Sleep(2 * time.Millisecond) {
			if got = read(); maps.Equal(got, want) || time.Now().After(deadline) {
				break
			}
		}
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if n, there := got[k]; !there || n != want[k] {
				t.Errorf("%s, %s: %s is %d, want %d", step, v.one, k, n, want[k])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %s lists %d stats, want %d", step, v.one, len(got), len(want))
		}
		all, ok := w.api("GET", v.all, nil).done().at(v.in...).(map[string]any)
		if !ok {
			t.Fatalf("%s lists no stats of %s", v.all, nodeName)
		}
		delete(all, "node")
		if whole := numbers(t, any(all)); !maps.Equal(whole, want) {
			t.Errorf("%s: %s says %v, want %v", step, v.all, whole, want)
		}
	}
	// The lists agree with the figures.
	for path, name := range map[string]string{"connections/": "connections", "sessions/": "sessions", "subscriptions/": "subscriptions", "routes/": "routes"} {
		if rows := w.api("GET", "v3/"+path, nil).rows(); int64(len(rows)) != count[name] {
			t.Errorf("%s: %s has %d rows, want %d", step, path, len(rows), count[name])
		}
	}
}
