package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/node"
)

// freePort finds a port below those that the system hands out, so that nobody
// gets it by accident before the node does.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprint("127.0.0.1:", 15000+rand.IntN(15000))
		l, err := net.Listen("tcp", address)
		if err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// threeNodes starts one cluster of three nodes in this process. The third speaks the
// other dialect of v3.
func threeNodes(t *testing.T) []*node.Node {
	t.Helper()
	nodes, errs := make([]*node.Node, 3), make([]error, 3)
	var seeds, listen []string
	for i := range nodes {
		listen = append(listen, freePort(t))
		seeds = append(seeds, fmt.Sprintf("n%d@%s", i+1, listen[i]))
	}
	var wg sync.WaitGroup
	for i := range nodes {
		settings := map[string]string{
			"node.name": fmt.Sprintf("n%d@127.0.0.1", i+1), "node.cookie": "a cookie of this test", "cluster.listen": listen[i],
			"cluster.discovery": "static", "cluster.static.seeds": strings.Join(seeds, ","), "cluster.heartbeat": "500ms",
			"management.v3_dialect": []string{"items", "items", "code"}[i],
		}
		wg.Go(func() { nodes[i], errs[i] = tryStart(t, settings) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		eventually(t, n.Name()+" is one of three", func() bool {
			all, err := n.Service().Nodes(t.Context())
			running := 0
			for _, i := range all {
				if i.Running {
					running++
				}
			}
			users, err2 := n.Service().Users(t.Context())
			return err == nil && err2 == nil && running == 3 && len(users) == 1
		})
	}
	return nodes
}

// reply is an answer of either version and dialect: its status, the header that
// names nodes, and what was asked for without its envelope.
type reply struct {
	status  int
	partial string
	code    float64 // of v2 and of the code dialect
	message string
	data    any
	count   int // of a page
}

// at asks a node.
func at(t *testing.T, n *node.Node, method, path string, body any) reply {
	t.Helper()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.Addr("http dashboard")+path, in)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "public")
	req.Close = true // no idle connection outlives the test
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, partial: resp.Header.Get("X-Cluster-Partial")}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if json.Unmarshal(text, &r.data) != nil {
		r.data = string(text)
	}
	m, ok := r.data.(map[string]any)
	if !ok {
		return r
	}
	r.code, _ = m["code"].(float64)
	r.message, _ = m["message"].(string)
	for _, page := range []any{m["meta"], m["result"]} {
		p, _ := page.(map[string]any)
		for _, member := range []string{"count", "total_num"} {
			if c, ok := p[member].(float64); ok {
				r.count = int(c)
			}
		}
	}
	for _, member := range []string{"items", "data", "result"} {
		if v, there := m[member]; there {
			r.data = v
			if in, ok := v.(map[string]any); ok && in["objects"] != nil {
				r.data = in["objects"]
			}
		}
	}
	return r
}

// good is at for calls that have to succeed on all nodes.
func good(t *testing.T, n *node.Node, method, path string, body any) reply {
	t.Helper()
	r := at(t, n, method, path, body)
	if r.status != 200 || r.code != 0 || r.partial != "" {
		t.Fatalf("%s: %s %s: %+v", n.Name(), method, path, r)
	}
	return r
}

// column reads one member of all rows.
func column(r reply, member string) (out []string) {
	rows, _ := r.data.([]any)
	for _, row := range rows {
		m, _ := row.(map[string]any)
		out = append(out, fmt.Sprint(m[member]))
	}
	return out
}

// TestListsOfACluster asks each of three nodes for what the others have, in both
// versions and dialects, and asks on when one of them is gone.
func TestListsOfACluster(t *testing.T) {
	nodes := threeNodes(t)
	clients := map[*node.Node][]string{nodes[0]: {"a1", "a2", "a3"}, nodes[1]: {"b1", "b2"}, nodes[2]: {"c1", "c2", "c3", "c4"}}
	all := slices.Concat(clients[nodes[0]], clients[nodes[1]], clients[nodes[2]])
	connected := map[string]*client{}
	for n, ids := range clients {
		for _, id := range ids {
			c := connect(t, n, id)
			c.subscribe(t, "of/"+id, 1)
			connected[id] = c
		}
	}
	next := func(i, by int) *node.Node { return nodes[(i+by)%len(nodes)] }

	t.Run("pages", func(t *testing.T) {
		for _, n := range nodes {
			for _, list := range []struct{ path, member, prefix string }{
				{"connections", "client_id", ""}, {"sessions", "client_id", ""}, {"subscriptions", "topic", "of/"}, {"routes", "topic", "of/"},
			} {
				for _, size := range []int{2, 4, 9, 10000} {
					var got []string
					for page := 1; page <= (len(all)+size-1)/size+1; page++ {
						r := good(t, n, "GET", fmt.Sprintf("/api/v3/%s/?_limit=%d&_page=%d", list.path, size, page), nil)
						if r.count != len(all) {
							t.Errorf("%s: %s has %d rows, want %d", n.Name(), list.path, r.count, len(all))
						}
						got = append(got, column(r, list.member)...)
					}
					var want []string
					for _, id := range all {
						want = append(want, list.prefix+id)
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s: %s in pages of %d: got %q, want %q", n.Name(), list.path, size, got, want)
					}
				}
			}
			if r := good(t, n, "GET", "/api/v2/routes?page_size=4&curr_page=2", nil); r.count != len(all) || !slices.Equal(column(r, "topic"), []string{"of/b2", "of/c1", "of/c2", "of/c3"}) {
				t.Errorf("%s: routes of v2: %+v", n.Name(), r)
			}
			for _, of := range nodes {
				for _, path := range []string{"v3/nodes/%s/connections", "v3/nodes/%s/sessions", "v3/nodes/%s/subscriptions", "v2/nodes/%s/clients", "v2/nodes/%s/sessions", "v2/nodes/%s/subscriptions"} {
					r := good(t, n, "GET", "/api/"+fmt.Sprintf(path, of.Name()), nil)
					if got := column(r, "client_id"); r.count != len(clients[of]) || !slices.Equal(got, clients[of]) {
						t.Errorf("%s: %s of %s: got %q of %d", n.Name(), path, of.Name(), got, r.count)
					}
				}
			}
		}
	})

	t.Run("look-ups", func(t *testing.T) {
		for _, n := range nodes {
			for of, ids := range clients {
				id := ids[0]
				for _, path := range []string{
					"v3/connections/" + id, "v3/sessions/" + id, "v3/subscriptions/" + id, "v2/clients/" + id, "v2/sessions/" + id, "v2/subscriptions/" + id,
					"v3/nodes/" + of.Name() + "/connections/" + id, "v2/nodes/" + of.Name() + "/clients/" + id, "v2/nodes/" + of.Name() + "/subscriptions/" + id,
				} {
					if got := column(good(t, n, "GET", "/api/"+path, nil), "client_id"); !slices.Equal(got, []string{id}) {
						t.Errorf("%s: %s: got %q", n.Name(), path, got)
					}
				}
				for _, path := range []string{"v3/routes/of%2F" + id, "v2/routes/of%2F" + id} {
					if got := column(good(t, n, "GET", "/api/"+path, nil), "node"); !slices.Equal(got, []string{of.Name()}) {
						t.Errorf("%s: %s: got %q", n.Name(), path, got)
					}
				}
			}
			if r := good(t, n, "GET", "/api/v3/connections/nobody", nil); len(column(r, "client_id")) != 0 {
				t.Errorf("%s: nobody: %+v", n.Name(), r)
			}
		}
	})

	t.Run("figures of nodes", func(t *testing.T) {
		for _, n := range nodes {
			for _, path := range []string{"v3/listeners", "v3/metrics", "v3/stats", "v3/configs", "v3/alarms", "v3/plugins", "v3/nodes", "v3/brokers"} {
				if got := column(good(t, n, "GET", "/api/"+path, nil), "node"); !slices.Equal(got, []string{"n1@127.0.0.1", "n2@127.0.0.1", "n3@127.0.0.1"}) {
					t.Errorf("%s: %s: got %q", n.Name(), path, got)
				}
			}
			for _, path := range []string{"v2/monitoring/listeners", "v2/monitoring/metrics", "v2/monitoring/stats", "v2/configs"} {
				if got, _ := good(t, n, "GET", "/api/"+path, nil).data.(map[string]any); len(got) != 3 {
					t.Errorf("%s: %s: got %v", n.Name(), path, slices.Collect(maps.Keys(got)))
				}
			}
			for _, of := range nodes {
				stats, _ := good(t, n, "GET", "/api/v3/nodes/"+of.Name()+"/stats", nil).data.(map[string]any)
				if got := stats["connections/count"]; got != float64(len(clients[of])) {
					t.Errorf("%s: stats of %s: %v", n.Name(), of.Name(), stats)
				}
				stats, _ = good(t, n, "GET", "/api/v2/monitoring/stats/"+of.Name(), nil).data.(map[string]any)
				if got := stats["clients/count"]; got != float64(len(clients[of])) {
					t.Errorf("%s: stats of %s in v2: %v", n.Name(), of.Name(), stats)
				}
				metrics, _ := good(t, n, "GET", "/api/v3/nodes/"+of.Name()+"/metrics", nil).data.(map[string]any)
				if got, _ := metrics["packets/connect"].(float64); got != float64(len(clients[of])) {
					t.Errorf("%s: metrics of %s: %v", n.Name(), of.Name(), metrics)
				}
				port := of.Addr("mqtt:tcp external")
				for _, path := range []string{"v3/nodes/" + of.Name() + "/listeners", "v2/monitoring/listeners/" + of.Name()} {
					if got := fmt.Sprint(good(t, n, "GET", "/api/"+path, nil).data); !strings.Contains(got, port[strings.LastIndex(port, ":"):]) {
						t.Errorf("%s: %s has no %s: %s", n.Name(), path, port, got)
					}
				}
				for _, path := range []string{"v3/nodes/" + of.Name(), "v3/brokers/" + of.Name(), "v2/management/nodes/" + of.Name(), "v2/monitoring/nodes/" + of.Name(),
					"v3/alarms/" + of.Name(), "v2/nodes/" + of.Name() + "/alarms", "v3/nodes/" + of.Name() + "/plugins", "v2/nodes/" + of.Name() + "/plugins"} {
					good(t, n, "GET", "/api/"+path, nil)
				}
			}
		}
	})

	value := func(n, of *node.Node, key string) string {
		r := good(t, n, "GET", "/api/v3/nodes/"+of.Name()+"/configs", nil)
		keys, values := column(r, "key"), column(r, "value")
		if i := slices.Index(keys, key); i >= 0 {
			return values[i]
		}
		return ""
	}
	const key = "mqtt.max_topic_levels"
	t.Run("configuration", func(t *testing.T) {
		for i, n := range nodes {
			of, all := fmt.Sprint(10+i), fmt.Sprint(20+i)
			good(t, n, "PUT", "/api/v3/configs/emqx", map[string]string{"key": key, "value": all})
			good(t, n, "PUT", "/api/v2/nodes/"+next(i, 1).Name()+"/configs/emqttd", map[string]string{"key": key, "value": of})
			good(t, n, "PUT", "/api/v3/nodes/"+next(i, 2).Name()+"/configs/emqx", map[string]string{"key": key, "value": of + "0"})
			for _, asked := range nodes {
				for of, want := range map[*node.Node]string{n: all, next(i, 1): of, next(i, 2): of + "0"} {
					if got := value(asked, of, key); got != want {
						t.Errorf("%s says that %s has %q, want %q", asked.Name(), of.Name(), got, want)
					}
				}
			}
			// A value that no node takes changes nothing.
			before := value(n, next(i, 1), key)
			if r := at(t, n, "PUT", "/api/v3/nodes/"+next(i, 1).Name()+"/configs/emqx", map[string]string{"key": key, "value": "x"}); r.status == 200 && r.code == 0 {
				t.Errorf("x was taken: %+v", r)
			}
			if got := value(n, next(i, 1), key); got != before {
				t.Errorf("%q, before a refusal %q", got, before)
			}
		}
	})

	active := func(n, of *node.Node, name string) bool {
		r := good(t, n, "GET", "/api/v3/nodes/"+of.Name()+"/plugins", nil)
		names, act := column(r, "name"), column(r, "active")
		return act[slices.Index(names, name)] == "true"
	}
	t.Run("plugins", func(t *testing.T) {
		for i, n := range nodes {
			of := next(i, 1)
			good(t, n, "PUT", "/api/v3/nodes/"+of.Name()+"/plugins/emqx_recon/unload", nil)
			for _, asked := range nodes {
				if active(asked, of, "emqx_recon") || !active(asked, n, "emqx_recon") {
					t.Errorf("%s: recon on %s: %v, on %s: %v", asked.Name(), of.Name(), active(asked, of, "emqx_recon"), n.Name(), active(asked, n, "emqx_recon"))
				}
			}
			again := at(t, n, "PUT", "/api/v3/nodes/"+of.Name()+"/plugins/emqx_recon/unload", nil)
			if again.message != "not_started" {
				t.Errorf("%s: unload again: %+v", n.Name(), again)
			}
			good(t, n, "PUT", "/api/v2/nodes/"+of.Name()+"/plugins/emq_recon", map[string]bool{"active": true})
			if r := at(t, n, "PUT", "/api/v2/nodes/"+of.Name()+"/plugins/emq_recon", map[string]bool{"active": true}); r.code != 110 {
				t.Errorf("%s: load again: %+v", n.Name(), r)
			}
			path := "/api/v3/nodes/" + of.Name() + "/plugin_configs/emqx_retainer"
			good(t, n, "PUT", path, map[string]string{"retainer.max_retained_messages": fmt.Sprint(100 + i)})
			for _, asked := range nodes {
				if r := good(t, asked, "GET", path, nil); !slices.Contains(column(r, "value"), fmt.Sprint(100+i)) {
					t.Errorf("%s: configuration of the retainer on %s: %v", asked.Name(), of.Name(), r.data)
				}
			}
		}
	})

	t.Run("actions", func(t *testing.T) {
		for i, n := range nodes {
			id := clients[next(i, 1)][1]
			version := func(v2, v3 string) string { return []string{v3, v2, v3}[i] }
			filter := fmt.Sprint("asked/", i)
			good(t, n, "POST", version("/api/v2", "/api/v3")+"/mqtt/subscribe", map[string]any{"client_id": id, "topic": filter, "qos": 1})
			if got := column(good(t, n, "GET", "/api/v3/subscriptions/"+id, nil), "topic"); !slices.Equal(got, []string{filter, "of/" + id}) {
				t.Errorf("%s: subscriptions of %s: %q", n.Name(), id, got)
			}
			connected[id].publish(t, filter, 1, false, "here")
			connected[id].want(t, filter, "here")
			good(t, n, "POST", version("/api/v3", "/api/v2")+"/mqtt/unsubscribe", map[string]any{"client_id": id, "topic": filter})
			if got := column(good(t, n, "GET", "/api/v2/subscriptions/"+id, nil), "topic"); !slices.Equal(got, []string{"of/" + id}) {
				t.Errorf("%s: subscriptions of %s: %q", n.Name(), id, got)
			}
			good(t, n, "PUT", "/api/v2/clients/"+id+"/clean_acl_cache", map[string]any{"topic": "t"})
			good(t, n, "DELETE", "/api/v3/connections/"+id+"/acl/t", nil)
			good(t, n, "DELETE", version("/api/v2/clients/", "/api/v3/connections/")+id, nil)
			if r := good(t, n, "GET", "/api/v2/clients/"+id, nil); len(column(r, "client_id")) != 0 {
				t.Errorf("%s: %s is still there: %v", n.Name(), id, r.data)
			}
			if r := at(t, n, "DELETE", "/api/v2/clients/"+id, nil); r.code != 112 {
				t.Errorf("%s: kick again: %+v", n.Name(), r)
			}
			if r := at(t, n, "POST", "/api/v3/mqtt/subscribe", map[string]any{"client_id": "nobody", "topic": "t"}); r.code != 112 {
				t.Errorf("%s: subscribe nobody: %+v", n.Name(), r)
			}
		}
	})

	t.Run("a node is gone", func(t *testing.T) {
		gone := nodes[1]
		stop(t, gone)
		left := []string{"a1", "a3", "c1", "c3", "c4"}
		check := func(t *testing.T) {
			for _, n := range []*node.Node{nodes[0], nodes[2]} {
				r := at(t, n, "GET", "/api/v3/connections", nil)
				if r.status != 200 || r.code != 0 || r.partial != gone.Name() || r.count != len(left) || !slices.Equal(column(r, "client_id"), left) {
					t.Errorf("%s: connections: %+v", n.Name(), r)
				}
				for _, path := range []string{
					"v3/sessions", "v3/subscriptions", "v3/routes", "v3/metrics", "v3/stats", "v3/listeners", "v3/configs", "v3/alarms", "v3/plugins",
					"v3/connections/a1", "v3/subscriptions/nobody", "v2/routes", "v2/clients/b1", "v2/monitoring/stats", "v2/monitoring/metrics", "v2/configs",
				} {
					if r := at(t, n, "GET", "/api/"+path, nil); r.status != 200 || r.code != 0 || r.partial != gone.Name() {
						t.Errorf("%s: %s: %+v", n.Name(), path, r)
					}
				}
				if r := at(t, n, "GET", "/api/v3/nodes/"+nodes[0].Name()+"/connections", nil); r.status != 200 || r.partial != "" {
					t.Errorf("%s: a list of one node that is there: %+v", n.Name(), r)
				}
				coded := n == nodes[2]
				for _, c := range []struct {
					method, path string
					body         any
				}{
					{"GET", "v3/nodes/%s/connections", nil}, {"GET", "v3/nodes/%s/sessions/x", nil}, {"GET", "v3/nodes/%s/metrics", nil}, {"GET", "v3/nodes/%s/configs", nil},
					{"GET", "v3/nodes/%s", nil}, {"GET", "v3/brokers/%s", nil}, {"GET", "v3/alarms/%s", nil},
					{"PUT", "v3/nodes/%s/plugins/emqx_recon/load", nil}, {"PUT", "v3/nodes/%s/configs/emqx", map[string]string{"key": key, "value": "5"}},
					{"GET", "v3/nodes/%s/plugin_configs/emqx_retainer", nil}, {"PUT", "v3/nodes/%s/plugin_configs/emqx_retainer", map[string]string{}},
					{"GET", "v2/nodes/%s/clients", nil}, {"GET", "v2/monitoring/stats/%s", nil}, {"GET", "v2/management/nodes/%s", nil}, {"GET", "v2/monitoring/nodes/%s", nil},
					{"PUT", "v2/nodes/%s/plugins/emq_recon", map[string]bool{"active": true}}, {"GET", "v2/nodes/%s/alarms", nil},
				} {
					r := at(t, n, c.method, "/api/"+fmt.Sprintf(c.path, gone.Name()), c.body)
					status, code := 500, 0.0
					switch {
					case strings.HasPrefix(c.path, "v2"):
						status, code = 200, 101
					case coded:
						status, code = 200, 102
					}
					if r.status != status || r.code != code || r.message != "nodedown" {
						t.Errorf("%s: %s %s: %+v", n.Name(), c.method, c.path, r)
					}
				}
				if r := at(t, n, "GET", "/api/v3/nodes/nobody@127.0.0.1/connections", nil); r.status != 404 {
					t.Errorf("%s: an unknown node: %+v", n.Name(), r)
				}
				if r := at(t, n, "DELETE", "/api/v2/clients/b1", nil); r.code != 112 || r.partial != gone.Name() {
					t.Errorf("%s: kick of a client of the node: %+v", n.Name(), r)
				}
				if r := at(t, n, "PUT", "/api/v3/configs/emqx", map[string]string{"key": key, "value": "30"}); r.status != 200 || r.code != 0 || r.partial != gone.Name() {
					t.Errorf("%s: a value for the cluster: %+v", n.Name(), r)
				}
			}
		}
		check(t) // nobody has noticed yet
		for _, n := range []*node.Node{nodes[0], nodes[2]} {
			eventually(t, "it is down for "+n.Name(), func() bool {
				i := slices.IndexFunc(n.Engine().Alarms().List(), func(a engine.Alarm) bool { return strings.Contains(a.Title, gone.Name()+" is down") })
				return i >= 0
			})
		}
		start := time.Now()
		check(t)
		t.Logf("all calls again, with a node known to be down: %v", time.Since(start))
	})
}
