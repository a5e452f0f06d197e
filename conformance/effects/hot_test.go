package effects

import (
	"cmp"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// hotKey is one key of the hot configuration and what it changes. observe does something with a running node and says in
// a word what was seen: was before the key is set, now afterwards.
type hotKey struct {
	key     string // as v3 lists it, zone.$.name for a key of all zones
	app     string // without prefix; "" for the broker
	value   string // what is set
	shown   string // how it is shown then
	reset   string // what takes it back
	bad     string // what is refused
	v2      []v2Key
	was     string
	now     string
	observe func(w *world) string
	prepare []setting // what has to be set before
	first   bool      // it is seen once: the first look of a monitor
	alone   bool      // not to be set together with others: it disturbs what they observe
	zones   map[string]swap
}

// v2Key is a name that v2 has for the key. Empty fields are as in v3.
type v2Key struct{ key, value, shown, reset string }

// setting is a key of the broker and its value; $ stands for the zone.
type setting struct{ key, value string }

// swap is for a zone that has another default.
type swap struct{ value, shown, reset, was, now string }

// of returns the key in a zone; keys without zone are as they are.
func (k hotKey) of(zone string) hotKey {
	k.key = strings.Replace(k.key, "$", zone, 1)
	var p []setting
	for _, s := range k.prepare {
		p = append(p, setting{strings.Replace(s.key, "$", zone, 1), s.value})
	}
	k.prepare = p
	if s, ok := k.zones[zone]; ok {
		k.value, k.shown, k.reset, k.was, k.now = s.value, s.shown, s.reset, s.was, s.now
	}
	return k
}

// rules are the access rules of the nodes here: other topics than those below t and denied are for acl_nomatch.
const rules = `{deny, all, pubsub, ["denied/#"]}.
{allow, all, pubsub, ["t/#", "m/#"]}.
`

// hotNode starts a node with two zones for the keys.
func hotNode(t testing.TB) (w *world, second string) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "acl.conf"), filepath.Join(dir, "second.conf")
	for name, text := range map[string]string{first: rules, second: `{deny, all, pubsub, ["t/second"]}.` + "\n" + rules} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w = start(t, map[string]string{
		"mqtt.acl_file": first, "listener.tcp.internal": "127.0.0.1:0", "listener.ws.external": "127.0.0.1:0",
	})
	return w, second
}

// list returns the rows of the hot configuration by key, as a version shows them.
func (w *world) list(version string) map[string]map[string]any {
	w.t.Helper()
	rows := map[string]map[string]any{}
	for _, r := range w.api("GET", version+"/nodes/"+nodeName+"/configs", nil).rows() {
		key, _ := r["key"].(string)
		if rows[key] != nil {
			w.t.Errorf("%s lists %s twice", version, key)
		}
		if len(r) != 4 || r["app"] == nil || r["datatpye"] == nil {
			w.t.Errorf("%s: row %v, want key, value, datatpye, app", version, r)
		}
		rows[key] = r
	}
	return rows
}

// shows fails unless the lists of the node and of all nodes show a value.
func (w *world) shows(version, key, want string) {
	w.t.Helper()
	if got := w.list(version)[key]["value"]; got != want {
		w.t.Errorf("%s: %s of the node shows %v, want %q", version, key, got, want)
	}
	all := w.api("GET", version+"/configs", nil).done()
	list := all.at("result", nodeName)
	if version == "v3" {
		list = all.at(0, "config")
	}
	rows, _ := list.([]any)
	for _, r := range rows {
		if m, _ := r.(map[string]any); m["key"] == key {
			if m["value"] != want {
				w.t.Errorf("%s: %s of all nodes shows %v, want %q", version, key, m["value"], want)
			}
			return
		}
	}
	w.t.Errorf("%s: the list of all nodes lacks %s", version, key)
}

// apps are the applications of the versions.
func appName(version, app string) string {
	switch {
	case version == "v2" && app == "":
		return "emqttd"
	case version == "v2":
		return "emq_" + app
	case app == "":
		return "emqx"
	}
	return "emqx_" + app
}

// configure sets a key through a version, on node or on all for "".
func (w *world) configure(version, node, app, key, value string) answer {
	w.t.Helper()
	path := version + "/configs/" + appName(version, app)
	if node != "" {
		path = version + "/nodes/" + node + "/configs/" + appName(version, app)
	}
	return w.api("PUT", path, body{"key": key, "value": value})
}

// refusesValue fails unless a value is refused and nothing changes.
func (w *world) refusesValue(version, app, key, bad, shown string) {
	w.t.Helper()
	scopes := []string{nodeName}
	if version == "v2" {
		scopes = []string{"", nodeName}
	}
	for _, scope := range scopes {
		a := w.configure(version, scope, app, key, bad)
		if version == "v2" {
			a.is(http.StatusOK, `{"code":102}`)
		} else if a.status != http.StatusInternalServerError || a.at("message") == nil {
			w.t.Errorf("%s = %q: got %d %s, want 500 with a message", key, bad, a.status, a.text)
		}
	}
	w.shows(version, key, shown)
}

// sees fails unless the observation is want. What the API has set holds at once: there is no second look.
func (w *world) sees(k hotKey, when, want string) {
	w.t.Helper()
	if got := k.observe(w); got != want {
		w.t.Errorf("%s %s: saw %q, want %q", k.key, when, got, want)
	}
}

// prepared sets what a key needs before.
func (w *world) prepared(k hotKey) {
	w.t.Helper()
	for _, s := range k.prepare {
		w.set(s.key, s.value)
	}
}

// TestHotKeys sets every key that v2 and v3 list, for the cluster and for the node, and looks at what it changes. It fails
// when a listed key has no case, or a case is not listed.
func TestHotKeys(t *testing.T) {
	global, second := hotNode(t)
	table := hotKeys(second)

	cases := map[string]map[string]bool{"v2": {}, "v3": {}}
	for _, k := range table {
		for _, v2 := range k.v2 {
			cases["v2"][v2.key] = true
		}
		if !strings.Contains(k.key, "$") {
			cases["v3"][k.key] = true
			continue
		}
		for _, zone := range []string{"external", "internal"} {
			cases["v3"][k.of(zone).key] = true
		}
	}
	for version, want := range cases {
		listed := global.in(t).list(version)
		for key := range listed {
			if !want[key] {
				t.Errorf("%s lists %s, of which no case says what it changes", version, key)
			}
		}
		for key := range want {
			if listed[key] == nil {
				t.Errorf("%s does not list %s", version, key)
			}
		}
	}

	// A node for each group: what is prepared for one key would change another. Most of the time is waiting, so they run
	// beside each other whatever the number of processors.
	var groups sync.WaitGroup
	defer groups.Wait()
	group := func(name string, run func(t *testing.T)) { groups.Go(func() { t.Run(name, run) }) }
	group("broker", func(t *testing.T) {
		for _, k := range table {
			if !strings.Contains(k.key, "$") && !k.first {
				t.Run(k.key, func(t *testing.T) { global.in(t).turn(k) })
			}
		}
	})
	group("v2", func(t *testing.T) {
		w, second := hotNode(t)
		for _, k := range hotKeys(second) {
			for _, v2 := range k.v2 { // the keys of v2 are those of the broker, or of the zone external
				t.Run(v2.key, func(t *testing.T) { w.in(t).turnV2(k.of("external"), v2) })
			}
		}
	})
	for _, zone := range []string{"external", "internal"} {
		group(zone, func(t *testing.T) {
			w, _ := hotNode(t)
			w.listener = zone
			for _, k := range table {
				if strings.Contains(k.key, "$") {
					t.Run(k.of(zone).key, func(t *testing.T) { w.in(t).turn(k.of(zone)) })
				}
			}
		})
	}
	group("restart", func(t *testing.T) {
		w, second := hotNode(t)
		var together []hotKey
		for _, k := range hotKeys(second) {
			if k = k.of("external"); !k.alone && !k.first {
				together = append(together, k)
			}
		}
		w.survive(together...)
		for _, k := range table {
			if k.alone && !k.first {
				w.survive(k.of("external"))
			}
		}
	})
	group("intervals", func(t *testing.T) {
		w, _ := hotNode(t)
		for _, k := range table {
			if k.first {
				t.Run(k.key, func(t *testing.T) { w.in(t).turnFirst(k) })
			}
		}
		w.restart()
		w.in(t).connect(hello{})
		for _, k := range table {
			if k.first {
				w.in(t).sees(k, "after a restart", k.now)
				w.in(t).shows("v3", k.key, k.shown)
			}
		}
	})
}

// turnFirst sets a key of which nothing can be seen any more once it had its effect: it is not set back.
func (w *world) turnFirst(k hotKey) {
	w.connect(hello{})
	w.prepared(k)
	w.sees(k, "at first", k.was)
	w.configure("v3", "", k.app, k.key, k.value).is(http.StatusOK, `"ok"`)
	w.shows("v3", k.key, k.shown)
	w.refusesValue("v3", k.app, k.key, k.bad, k.shown)
	w.sees(k, "set for the cluster", k.now)
	w.configure("v3", nodeName, k.app, k.key, k.value).is(http.StatusOK, `"ok"`)
}

// process is held while something is observed that all nodes of the process share.
var process sync.Mutex

// only keeps other groups from disturbing what the key changes.
func (k hotKey) only() (release func()) {
	if k.app != "recon" {
		return func() {}
	}
	process.Lock()
	return process.Unlock
}

// turn sets a key through v3 and looks.
func (w *world) turn(k hotKey) {
	defer k.only()()
	w.prepared(k)
	w.sees(k, "at first", k.was)
	w.configure("v3", "", k.app, k.key, k.value).is(http.StatusOK, `"ok"`)
	w.shows("v3", k.key, k.shown)
	w.sees(k, "set for the cluster", k.now)
	w.refusesValue("v3", k.app, k.key, k.bad, k.shown)
	w.configure("v3", nodeName, k.app, k.key, k.reset).is(http.StatusOK, `"ok"`)
	if w.listener != "internal" { // it has been seen with external
		w.sees(k, "set back for the node, which goes before the cluster", k.was)
	}
}

// turnV2 sets a key through v2 and looks.
func (w *world) turnV2(k hotKey, v2 v2Key) {
	defer k.only()()
	w.prepared(k)
	w.sees(k, "at first", k.was)
	reset := cmp.Or(v2.reset, k.reset)
	w.configure("v2", "", k.app, v2.key, cmp.Or(v2.value, k.value)).is(http.StatusOK, `{"code":0,"result":[]}`)
	w.shows("v2", v2.key, cmp.Or(v2.shown, k.shown))
	w.refusesValue("v2", k.app, v2.key, k.bad, cmp.Or(v2.shown, k.shown))
	w.sees(k, "set for the cluster by v2", k.now)
	w.configure("v2", "", k.app, v2.key, reset).is(http.StatusOK, `{"code":0,"result":[]}`)
	w.configure("v2", nodeName, k.app, v2.key, cmp.Or(v2.value, k.value)).is(http.StatusOK, `{"code":0,"result":[]}`)
	w.sees(k, "set for the node by v2", k.now)
	w.configure("v2", nodeName, k.app, v2.key, reset).is(http.StatusOK, `{"code":0,"result":[]}`)
}

// survive sets keys for the node and looks after a restart.
func (w *world) survive(keys ...hotKey) {
	defer keys[0].only()()
	for _, k := range keys {
		w.prepared(k)
	}
	for _, k := range keys {
		w.configure("v3", nodeName, k.app, k.key, k.value).done()
	}
	w.restart()
	for _, k := range keys {
		w.shows("v3", k.key, k.shown)
		w.sees(k, "after a restart", k.now)
	}
	for _, k := range keys {
		w.configure("v3", nodeName, k.app, k.key, k.reset).done()
	}
}
