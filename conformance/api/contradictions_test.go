package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// Where the two documents contradict themselves, each other or the server they
// describe. The names are those of the list of contradictions that this
// project keeps; each test says what was decided.

// TestContradictions runs the tests that can share a node in each dialect.
func TestContradictions(t *testing.T) {
	items := start(t, nil)
	code := start(t, map[string]string{
		"management.v3_dialect": "code", "management.v2_aggregates": "array", "management.metric_names": "dot",
	})
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, items, code *world)
	}{
		{"C1 v2 sessions of a node under node/ and nodes/", c1},
		{"C2 v2 plugin switch without a node", c2},
		{"C3 two pairs of names to change a password", c3},
		{"C4 v2 aggregates as object or as array", c4},
		{"C5 v2 session row with both sets of names", c5},
		{"C6 plugins sorted by name", c6},
		{"C7 config entries spell datatpye", c7},
		{"C8 publish without payload", c8},
		{"C9 ids and topics in the path", c9},
		{"C10 v2 subscribes to wildcards", c10},
		{"C11 v3 lists routes under routes", c11},
		{"C12 v3 lists the configs of a node", c12},
		{"C13 v3 unload stops a plugin", c13},
		{"C14 v3 unsubscribe ignores other members", c14},
		{"C15 v3 alarms of one node and of all", c15},
		{"C16 applications and users are not for applications", c16},
		{"C17 v3 index keeps the documented spelling", c17},
		{"C18 v3 memory as text in the list, as bytes alone", c18},
		{"C19 v3 failures are 500 or 200", c19},
		{"C20 uptime has no blank after the days", c20},
		{"C21 v2 plugin body is a boolean", c21},
		{"C22 v3 create answers 201 or 200", c22},
		{"C23 v3 kick of an unknown client", c23},
		{"C24 names of metrics and stats", c24},
		{"C25 node and name", c25},
		{"C26 sysdescr", c26},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, items.in(t), code.in(t)) })
	}
}

func c1(t *testing.T, w, _ *world) {
	d := w.connect(unique("c1"), persistent)
	node := map[string]string{"node": nodeName}
	one := map[string]string{"node": nodeName, "clientid": d.id}
	for spelling, alias := range map[string]string{"list_node_sessions": "list_node_sessions_alias", "lookup_node_session": "lookup_node_session_alias"} {
		path := node
		if strings.HasPrefix(spelling, "lookup") {
			path = one
		}
		a, b := w.v2.call(request{op: spelling, path: path}), w.v2.call(request{op: alias, path: path})
		if a.text != b.text || len(a.rows()) == 0 {
			t.Errorf("%s gives %s, %s gives %s", spelling, a.text, alias, b.text)
		}
	}
}

func c2(t *testing.T, w, _ *world) {
	name := map[string]string{"name": "emq_auth_username"}
	w.v2.call(request{op: "switch_plugin", path: name, body: map[string]any{"active": true}}).is(200, `{"code":0,"result":[]}`)
	rows := w.v2.call(request{op: "list_node_plugins", path: map[string]string{"node": nodeName}}).rows()
	if len(find(rows, map[string]any{"name": "emq_auth_username", "active": true})) != 1 {
		t.Errorf("the short form did not act on the node that answers: %v", rows)
	}
	name["node"] = nodeName
	w.v2.call(request{op: "switch_node_plugin", path: name, body: map[string]any{"active": false}}).is(200, `{"code":0,"result":[]}`)
}

func c3(t *testing.T, w, _ *world) {
	for _, c := range []client{w.v2, w.v3d} {
		name := unique("c3")
		c.call(request{op: "create_user", body: map[string]any{"username": name, "password": "one", "tags": "x"}}).done()
		change := func(body map[string]any) answer {
			return c.call(request{op: "change_pwd", path: map[string]string{"username": name}, body: body})
		}
		change(map[string]any{"oldpassword": "one", "password": "two"}).done()
		change(map[string]any{"old_pwd": "two", "new_pwd": "three"}).done()
		for _, half := range []map[string]any{{"old_pwd": "three", "password": "x"}, {"oldpassword": "three", "new_pwd": "x"}, {"new_pwd": "x"}, {}} {
			missing(c, change(half))
		}
	}
}

func c4(t *testing.T, object, array *world) {
	for _, op := range []string{"list_listeners", "list_metrics", "list_stats"} {
		if object.v2.call(request{op: op}).at("result", nodeName) == nil {
			t.Errorf("%s has no object keyed by node", op)
		}
		if a := array.v2.call(request{op: op}); a.at("result", 0, nodeName) == nil {
			t.Errorf("%s is no array that holds the object: %s", op, a.text)
		}
	}
	for _, w := range []*world{object, array} {
		if w.v2.call(request{op: "get_configs"}).at("result", nodeName) == nil {
			t.Error("configs is no object")
		}
	}
}

func c5(t *testing.T, w, _ *world) {
	d := w.connect(unique("c5"))
	rows := w.v2.call(request{op: "lookup_session", path: map[string]string{"clientid": d.id}}).rows()
	for _, name := range strings.Fields(`client_id clean_sess created_at
		max_inflight inflight_queue message_queue message_dropped awaiting_rel awaiting_ack awaiting_comp
		subscriptions inflight_len mqueue_len mqueue_dropped awaiting_rel_len deliver_msg enqueue_msg`) {
		if _, ok := rows[0][name]; !ok {
			t.Errorf("the row has no %s", name)
		}
	}
	if rows[0]["max_inflight"] != 32.0 {
		t.Errorf("max_inflight is %v, want 32", rows[0]["max_inflight"])
	}
}

func c6(t *testing.T, w, _ *world) {
	for _, c := range []client{w.v2, w.v3} {
		var names []string
		for _, r := range c.call(request{op: "list_node_plugins", path: map[string]string{"node": nodeName}}).rows() {
			names = append(names, r["name"].(string))
		}
		if !slices.IsSorted(names) || len(names) < 5 {
			t.Errorf("%s: %q", c.doc, names)
		}
	}
}

func c7(t *testing.T, w, _ *world) {
	for _, c := range []client{w.v2, w.v3} {
		for _, r := range c.call(request{op: "get_node_configs", path: map[string]string{"node": nodeName}}).rows() {
			if _, right := r["datatype"]; right || r["datatpye"] == nil {
				t.Errorf("%s: row %v", c.doc, r)
			}
		}
	}
}

func c8(t *testing.T, w, code *world) {
	for _, c := range []client{w.v2, w.v3, code.v3} {
		c.call(request{op: "mqtt_publish", body: map[string]any{"topic": "c8"}}).done()
		for _, payload := range []any{1, true, map[string]any{"a": 1}, []any{}, nil} {
			illTyped(c, c.call(request{op: "mqtt_publish", body: map[string]any{"topic": "c8", "payload": payload}}))
		}
	}
}

func c9(t *testing.T, w, _ *world) {
	d := w.connect(unique("c9"))
	for _, f := range []string{"/test9", "test9", "a9/+/b", "a9/#", "with blank/ü", "100%/9", "a//9", "at@9", "q?9"} {
		d.subscribe(f, 0)
	}
	for path, want := range map[string]string{
		"routes//test9":              "/test9",
		"routes/%2Ftest9":            "/test9",
		"routes/%2ftest9":            "/test9",
		"routes//test9/":             "/test9",
		"routes/test9":               "test9",
		"routes/test9/":              "test9",
		"routes/a9/+/b":              "a9/+/b",
		"routes/a9/%2B/b":            "a9/+/b",
		"routes/a9%2F+%2Fb":          "a9/+/b",
		"routes/a9/%23":              "a9/#",
		"routes/with%20blank/%C3%BC": "with blank/ü",
		"routes/100%25/9":            "100%/9",
		"routes/a//9":                "a//9",
		"routes/at@9":                "at@9",
		"routes/at%409":              "at@9",
		"routes/q%3F9":               "q?9",
		"routes/%74est9":             "test9",
		"routes/nosuch9":             "",
		"routes/a9/x/b":              "", // no wildcard matching
		"routes/%252Ftest9":          "", // decoded exactly once
		"routes/with+blank/%C3%BC":   "", // a plus sign stays one
	} {
		for _, c := range []client{w.v2, w.v3} {
			rows := c.call(request{op: "lookup_routes", raw: c.spec().prefix + "/" + path}).rows()
			switch {
			case want == "" && len(rows) != 0:
				t.Errorf("%s %s: got %v, want nothing", c.doc, path, rows)
			case want != "" && (len(rows) != 1 || rows[0]["topic"] != want):
				t.Errorf("%s %s: got %v, want %q", c.doc, path, rows, want)
			}
		}
	}
	// The same for client ids, in every call that has one.
	for _, id := range []string{"c9/a/b", "/c9/a", "c9+a", "c9#a?", "c9 100%", "c9%2Fa", "cé9@x", "c9/acl/x", "c9/clean_acl_cache", "c9{topic}", "c9;a=b,c", "c9:$&'()*!~"} {
		w.connect(id)
		for _, raw := range []string{url.PathEscape(id), strings.ReplaceAll(url.PathEscape(id), "%2F", "/"), strings.ReplaceAll(url.QueryEscape(id), "+", "%20")} {
			for _, call := range []struct {
				c        client
				op, path string
			}{
				{w.v2, "lookup_client", "clients/" + raw},
				{w.v2, "lookup_node_client", "nodes/emqx%40127.0.0.1/clients/" + raw + "/"},
				{w.v2, "lookup_session", "sessions/" + raw},
				{w.v2, "lookup_node_session_alias", "node/" + nodeName + "/sessions/" + raw},
				{w.v3, "lookup_connections", "connections/" + raw},
				{w.v3, "lookup_node_connections", "nodes/" + nodeName + "/connections/" + raw},
				{w.v3, "lookup_session", "sessions/" + raw + "/"},
			} {
				rows := call.c.call(request{op: call.op, raw: call.c.spec().prefix + "/" + call.path}).rows()
				if len(rows) != 1 || rows[0]["client_id"] != id {
					t.Errorf("%s %s: got %v, want the row of %q", call.c.doc, call.path, rows, id)
				}
			}
		}
		w.v2.call(request{op: "clean_acl_cache", path: map[string]string{"clientid": id}, body: map[string]any{"topic": "a/b"}}).done()
		if !strings.Contains(id, "/acl/") { // the first one splits
			w.v3.call(request{op: "clean_acl_cache", raw: "/api/v3/connections/" + url.PathEscape(id) + "/acl/a/acl/b"}).done()
		}
	}
	w.v3.call(request{op: "kickout_connection", raw: "/api/v3/connections/c9/a/b"}).done()
	w.v2.call(request{op: "kick_client", raw: "/api/v2/clients//c9/a"}).done()
	// v3 joins repeated slashes where they cannot belong to an id or topic.
	w.v3.call(request{op: "list_brokers", raw: "/api/v3//brokers//"}).rows()
	w.v3.call(request{op: "get_node", raw: "/api/v3//nodes///" + nodeName}).value()
}

func c10(t *testing.T, w, _ *world) {
	d := w.connect(unique("c10"))
	for _, f := range []string{"c10/+", "c10/#", "+/+", "#", "$share/g/c10/+"} {
		w.v2.call(request{op: "mqtt_subscribe", body: map[string]any{"client_id": d.id, "topic": f}}).done()
	}
	for _, f := range []string{"a#", "#/a", "a/+b", "", "$share//a", "$share/g"} {
		w.v2.call(request{op: "mqtt_subscribe", body: map[string]any{"client_id": d.id, "topic": f}}).has(102, "code")
	}
}

func c11(t *testing.T, w, _ *world) {
	d := w.connect(unique("c11"))
	d.subscribe("c11", 0)
	a := w.v3.call(request{op: "list_routes", raw: "/api/v3/routes/"})
	if len(find(a.rows(), map[string]any{"topic": "c11", "node": nodeName})) != 1 || a.at("meta", "count") == nil {
		t.Errorf("got %s, want paged routes", a.text)
	}
	if rows := w.v3.call(request{op: "list_nodes", raw: "/api/v3/nodes/"}).rows(); rows[0]["memory_total"] == nil {
		t.Errorf("got %v, want nodes", rows)
	}
}

func c12(t *testing.T, w, code *world) {
	for _, c := range []client{w.v3, code.v3} {
		rows := c.call(request{op: "get_node_configs", path: map[string]string{"node": nodeName}}).rows()
		all := configRows(c, "get_all_configs")
		if len(rows) == 0 || fmt.Sprint(rows) != fmt.Sprint(all) {
			t.Errorf("%s: got %v, want what get_all_configs has for the node", c.doc, rows)
		}
	}
}

func c13(t *testing.T, w, _ *world) {
	turn(w.v3, "", "emqx_reloader", true).done()
	w.v3.call(request{op: "unload_plugin", raw: "/api/v3/nodes/" + nodeName + "/plugins/emqx_reloader/unload"}).is(200, `"ok"`)
	rows := w.v3.call(request{op: "list_node_plugins", path: map[string]string{"node": nodeName}}).rows()
	if len(find(rows, map[string]any{"name": "emqx_reloader", "active": false})) != 1 {
		t.Errorf("the plugin still runs: %v", rows)
	}
}

func c14(t *testing.T, w, _ *world) {
	d := w.connect(unique("c14"))
	d.subscribe("c14", 1)
	w.v3.call(request{op: "mqtt_unsubscribe", body: map[string]any{
		"topic": "c14", "payload": map[string]any{}, "qos": "one", "retain": 7, "client_id": d.id,
	}}).is(200, `{"code":0}`)
}

func c15(t *testing.T, w, _ *world) {
	w.v3.call(request{op: "list_node_alarms", raw: "/api/v3/alarms/" + nodeName}).is(200, `[]`)
	w.v3.call(request{op: "list_all_alarms", raw: "/api/v3/alarms/"}).is(200, `[{"node":"`+nodeName+`","alarms":[]}]`)
}

func c16(t *testing.T, w, _ *world) {
	for _, call := range [][2]string{
		{"GET", "apps/"}, {"POST", "apps/"}, {"GET", "apps/" + appID}, {"PUT", "apps/x"}, {"DELETE", "apps/x"},
		{"GET", "users/"}, {"POST", "users/"}, {"PUT", "users/x"}, {"DELETE", "users/x"}, {"POST", "auth"}, {"PUT", "change_pwd/admin"},
	} {
		w.v3.send(call[0], "/api/v3/"+call[1], strings.NewReader(`{}`)).isText(404, "Not found.")
		w.v3.as(adminName, adminPass).send(call[0], "/api/v3/"+call[1], nil).isText(401, "UNAUTHORIZED")
		w.v3.as("", "").send(call[0], "/api/v3/"+call[1], nil).isText(401, "UNAUTHORIZED")
		w.v3d.as(appID, appSecret).send(call[0], "/api/v3/"+call[1], nil)
	}
	w.v3d.call(request{op: "list_apps"}).rows()
	w.v3d.call(request{op: "list_users"}).rows()
	w.v3d.as(appID, appSecret).send("GET", "/api/v3/apps/", nil).isText(401, "UNAUTHORIZED")
	// With one listener only, admin users get there, and applications do not.
	one := start(t, map[string]string{"dashboard.listener.http": "off"})
	user := one.v3.as(adminName, adminPass)
	user.call(request{op: "list_apps"}).rows()
	user.call(request{op: "create_user", body: map[string]any{"username": "one", "password": "x"}}).done()
	user.as("", "").call(request{op: "auth_user", body: map[string]any{"username": "one", "password": "x"}}).done()
	one.v3.send("GET", "/api/v3/apps/", nil).isText(401, "UNAUTHORIZED")
	user.send("GET", "/api/v3/brokers/", nil).isText(401, "UNAUTHORIZED")
	one.v3.call(request{op: "list_brokers"}).rows()
}

func c17(t *testing.T, w, _ *world) {
	example := specs[openapi.V3Items].doc.Components.Examples["v3.list_all_api"].Value.Value
	text, err := json.Marshal(example)
	if err != nil {
		t.Fatal(err)
	}
	var want []map[string]any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != 55 {
		t.Fatalf("the document has %d entries, want 55", len(want))
	}
	for _, c := range []client{w.v3, w.v3d} {
		rows := c.call(request{op: "list_all_api"}).rows()
		for i, entry := range want {
			if !maps.Equal(rows[i], entry) {
				t.Errorf("entry %d: got %v, want %v", i, rows[i], entry)
			}
		}
	}
}

func c18(t *testing.T, w, _ *world) {
	row := w.v3.call(request{op: "list_nodes"}).rows()[0]
	one, _ := w.v3.call(request{op: "get_node", path: map[string]string{"node": nodeName}}).value().(map[string]any)
	text := regexp.MustCompile(`^\d+\.\d\d[KMG]$`)
	for _, m := range []string{"memory_total", "memory_used"} {
		if s, ok := row[m].(string); !ok || !text.MatchString(s) {
			t.Errorf("in the list %s is %v", m, row[m])
		}
		if n, ok := one[m].(float64); !ok || n < 1<<20 {
			t.Errorf("alone %s is %v", m, one[m])
		}
	}
	if v2 := w.v2.call(request{op: "list_monitoring_nodes"}).rows()[0]["memory_used"]; !text.MatchString(fmt.Sprint(v2)) {
		t.Errorf("in v2 memory_used is %v", v2)
	}
}

func c19(t *testing.T, items, code *world) {
	path := map[string]string{"node": nodeName, "plugin": "emqx_recon"}
	items.v3.call(request{op: "load_plugin", path: path}).is(500, `{"message":"already_started"}`)
	code.v3.call(request{op: "load_plugin", path: path}).is(200, `{"code":102,"message":"already_started"}`)
}

func c20(t *testing.T, w, _ *world) {
	pattern := regexp.MustCompile(`^(((\d+ days,)?\d+ hours, )?\d+ minutes, )?\d+ seconds$`)
	for _, got := range []any{
		w.v2.call(request{op: "list_nodes"}).rows()[0]["uptime"],
		w.v3.call(request{op: "list_brokers"}).rows()[0]["uptime"],
		w.v3.call(request{op: "list_nodes"}).rows()[0]["uptime"],
	} {
		if !pattern.MatchString(fmt.Sprint(got)) {
			t.Errorf("uptime is %q", got)
		}
	}
}

func c21(t *testing.T, w, _ *world) {
	path := map[string]string{"node": nodeName, "name": "emq_reloader"}
	for _, bad := range []any{"true", 1, nil, []any{}} {
		illTyped(w.v2, w.v2.call(request{op: "switch_node_plugin", path: path, body: map[string]any{"active": bad}}))
	}
	missing(w.v2, w.v2.call(request{op: "switch_node_plugin", path: path}))
	for _, active := range []bool{true, false} {
		w.v2.call(request{op: "switch_node_plugin", path: path, body: map[string]any{"active": active}}).done()
	}
}

func c22(t *testing.T, items, code *world) {
	body := map[string]any{"who": "c22", "as": "username"}
	items.v3.call(request{op: "create_banned", body: body}).is(201, `{"who":"c22","as":"username"}`)
	code.v3.call(request{op: "create_banned", body: body}).is(200, `{"code":0,"data":{"who":"c22","as":"username"}}`)
}

func c23(t *testing.T, items, code *world) {
	path := map[string]string{"clientid": "nobody"}
	items.v3.call(request{op: "kickout_connection", path: path}).is(500, `{"message":"not_found"}`)
	code.v3.call(request{op: "kickout_connection", path: path}).is(200, `{"code":112,"message":"not_found"}`)
}

func c24(t *testing.T, slash, dot *world) {
	names := func(c client, op string) []string {
		var out []string
		for n := range counters(c, op, map[bool]string{true: "metrics"}[strings.Contains(op, "metrics")]) {
			out = append(out, n)
		}
		return out
	}
	for _, tt := range []struct {
		c    client
		op   string
		n    int
		sign string
	}{
		{slash.v2, "list_node_metrics", 38, "/"}, {slash.v3, "list_node_metrics", 43, "/"}, {dot.v3, "list_node_metrics", 52, "."},
		{dot.v3, "list_all_metrics", 52, "."}, {dot.v2, "list_node_metrics", 38, "/"},
		{slash.v2, "list_node_stats", 14, "/"}, {slash.v3, "lookup_node_stats", 18, "/"}, {dot.v3, "lookup_node_stats", 20, "."},
		{dot.v3, "list_stats", 20, "."},
	} {
		got := names(tt.c, tt.op)
		if len(got) != tt.n {
			t.Errorf("%s %s: got %d names, want %d", tt.c.doc, tt.op, len(got), tt.n)
		}
		for _, n := range got {
			if !strings.Contains(n, tt.sign) {
				t.Errorf("%s %s: name %s", tt.c.doc, tt.op, n)
			}
		}
	}
	// The names of 3.2 count the same things.
	d := dot.connect(unique("c24"))
	before := counters(dot.v3, "list_node_metrics", "")
	d.publish("c24", 1, false, "x")
	eventually(t, "the packets are counted under the names of 3.2", func() bool {
		after := counters(dot.v3, "list_node_metrics", "")
		return after["packets.publish.received"] > before["packets.publish.received"] &&
			after["packets.puback.sent"] > before["packets.puback.sent"] &&
			after["packets.connect.received"] > 0 && after["packets.connack.sent"] > 0 && after["auth.mqtt.anonymous"] > 0
	})
}

func c25(t *testing.T, w, _ *world) {
	has := func(row map[string]any, present, absent string) {
		t.Helper()
		for name := range strings.FieldsSeq(present) {
			if row[name] != nodeName {
				t.Errorf("%s is %v", name, row[name])
			}
		}
		for name := range strings.FieldsSeq(absent) {
			if row[name] != nil {
				t.Errorf("there is a %s", name)
			}
		}
	}
	node := map[string]string{"node": nodeName}
	one := func(c client, op string) map[string]any {
		v, _ := c.call(request{op: op, path: node}).value().(map[string]any)
		return v
	}
	has(w.v2.call(request{op: "list_nodes"}).rows()[0], "name", "node")
	has(one(w.v2, "get_node"), "", "name node")
	has(w.v2.call(request{op: "list_monitoring_nodes"}).rows()[0], "name", "node")
	has(one(w.v2, "get_monitoring_node"), "name", "node")
	has(w.v3.call(request{op: "list_brokers"}).rows()[0], "node", "name")
	has(one(w.v3, "get_broker"), "", "name node")
	has(w.v3.call(request{op: "list_nodes"}).rows()[0], "name node", "")
	has(one(w.v3, "get_node"), "name", "node")
}

func c26(t *testing.T, w, _ *world) {
	v2, v3 := w.v2.call(request{op: "list_nodes"}).rows()[0]["sysdescr"], w.v3.call(request{op: "list_brokers"}).rows()[0]["sysdescr"]
	for _, s := range []any{v2, v3} {
		if !strings.Contains(fmt.Sprint(s), "Lacewing") {
			t.Errorf("sysdescr is %v", s)
		}
	}
	if !strings.HasPrefix(fmt.Sprint(v3), "EMQ X Broker") {
		t.Errorf("sysdescr of v3 is %v", v3)
	}
}

// TestDecided has one test for each row of the table of what was decided where
// the documents leave a choice. The cases that take more than a request have
// tests of their own: bodies that are too large and failed logins in
// TestLargeBodies and TestFailedLogins, no leader in package impl.
func TestDecided(t *testing.T) {
	items := start(t, nil)
	code := start(t, map[string]string{"management.v3_dialect": "code", "mqtt.allow_anonymous": "false"})
	t.Run("unknown node in v2 is 404 without a body", func(t *testing.T) {
		for _, op := range []string{"get_node", "get_monitoring_node", "list_node_clients", "list_node_sessions", "list_node_subscriptions", "list_node_plugins", "list_node_listeners", "list_node_metrics", "list_node_stats", "get_node_configs", "list_node_alarms"} {
			items.v2.in(t).call(request{op: op, path: map[string]string{"node": "nosuch@nowhere"}}).isText(404, "")
		}
	})
	t.Run("bad page is 404 in v2 and Internal Error in v3", func(t *testing.T) {
		badPages(t, items.v2.in(t), "list_routes")
		badPages(t, items.v3.in(t), "list_routes")
		badPages(t, code.v3.in(t), "list_routes")
		items.v3.in(t).call(request{op: "list_routes", query: url.Values{"_page": {"99999999999999999999"}}}).isText(500, "Internal Error")
		items.v2.in(t).call(request{op: "list_routes", query: url.Values{"page_size": {"1e99"}}}).isText(404, "")
	})
	t.Run("outside both prefixes is 404", func(t *testing.T) {
		for _, path := range []string{"/nosuch", "/api", "/api/", "/api/v1/nodes", "/api/v4/nodes", "/api/v30", "/api/v3x/", "/static/x"} {
			items.v3.in(t).send("GET", path, nil).isText(404, "Not found.")
		}
	})
	t.Run("missing or ill-typed member in v3", func(t *testing.T) {
		for _, w := range []*world{items, code} {
			c := w.v3d.in(t)
			missing(c, c.call(request{op: "update_config", path: map[string]string{"app": "emqx"}, body: map[string]any{"key": "x"}}))
			illTyped(c, c.call(request{op: "update_config", path: map[string]string{"app": "emqx"}, body: map[string]any{"key": "x", "value": 1}}))
			missing(c, c.call(request{op: "mqtt_unsubscribe", text: `[]`}))
			missing(c, c.call(request{op: "mqtt_unsubscribe", text: `"text"`}))
			missing(c, c.call(request{op: "mqtt_unsubscribe"}))
		}
	})
	t.Run("payload that is no string is 108", func(t *testing.T) {
		for _, c := range []client{items.v2, items.v3, code.v3} {
			illTyped(c, c.in(t).call(request{op: "mqtt_publish", body: map[string]any{"topic": "t", "payload": 1}}))
		}
	})
	t.Run("ip ban of text that is no address is 108", func(t *testing.T) {
		for _, c := range []client{items.v3, code.v3} {
			illTyped(c.in(t), c.in(t).call(request{op: "create_banned", body: map[string]any{"who": "10.0.0.0/8", "as": "ip_address"}}))
		}
	})
	t.Run("update of an unknown application is ont_found", func(t *testing.T) {
		path, body := map[string]string{"appid": "nobody"}, map[string]any{"name": "n"}
		items.v3d.in(t).call(request{op: "update_app", path: path, body: body}).is(500, `{"message":"ont_found"}`)
		code.v3d.in(t).call(request{op: "update_app", path: path, body: body}).is(200, `{"code":102,"message":"ont_found"}`)
	})
	t.Run("anonymous client refused with CONNACK 5", func(t *testing.T) {
		if _, err := code.in(t).dial(unique("anonymous")); err == nil || !strings.Contains(strings.ToLower(err.Error()), "not author") {
			t.Errorf("got %v, want not authorized", err)
		}
	})
	t.Run("Content-Type is not looked at", func(t *testing.T) {
		for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=latin1", ";;;"} {
			for _, c := range []client{items.v2, items.v3} {
				req, err := http.NewRequest("POST", c.base+c.spec().prefix+"/mqtt/publish", strings.NewReader(`{"topic":"t"}`))
				if err != nil {
					t.Fatal(err)
				}
				req.SetBasicAuth(c.user, c.secret)
				req.Header.Set("Content-Type", contentType)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("%s with %q: %d", c.doc, contentType, resp.StatusCode)
				}
			}
		}
	})
	t.Run("parameters of v3 in the query", func(t *testing.T) {
		w := items.in(t)
		d := w.connect(unique("query"))
		d.subscribe("query/t", 1)
		w.v3.call(request{op: "mqtt_publish", query: url.Values{"topic": {"query/t"}, "payload": {"q"}, "qos": {"1"}}, body: map[string]any{"topic": "other"}}).done()
		if m := d.message(); string(m.Payload()) != "q" || m.Qos() != 1 {
			t.Errorf("got %q qos %d", m.Payload(), m.Qos())
		}
		illTyped(w.v3, w.v3.call(request{op: "mqtt_publish", query: url.Values{"topic": {"t"}, "qos": {"x"}}}))
	})
	t.Run("bodies that are no JSON", func(t *testing.T) {
		for _, text := range []string{"{", `{"topic":"t"} x`, `{"topic":"t",}`, "\xff", `{"topic":"` + "\xff" + `"}`, "topic=t&payload=x", "nul", strings.Repeat("[", 20000)} {
			for _, c := range []client{items.v2, items.v3, code.v3} {
				notJSON(c.in(t), c.in(t).call(request{op: "mqtt_publish", text: text}))
			}
		}
	})
	t.Run("members are told apart by case, unknown ones ignored", func(t *testing.T) {
		missing(items.v2, items.v2.in(t).call(request{op: "mqtt_publish", body: map[string]any{"Topic": "t"}}))
		items.v2.in(t).call(request{op: "mqtt_publish", body: map[string]any{"topic": "t", "unknown": 1}, query: url.Values{"timestamps": {"1"}}}).done()
	})
}
