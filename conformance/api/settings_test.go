package api

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// prefix is that of plugin names and applications.
func (c client) prefix() string {
	if c.v2() {
		return "emq_"
	}
	return "emqx_"
}

func pluginRows(c client, op string) []map[string]any {
	a := c.call(request{op: op, path: nodePath(c, op, nil)})
	if op != "list_all_plugins" {
		return a.rows()
	}
	var rows []map[string]any
	for _, e := range at(a.value(), 0, "plugins").([]any) {
		rows = append(rows, e.(map[string]any))
	}
	return rows
}

func pluginsListed(t *testing.T, w *world, c client, op string) {
	rows := pluginRows(c, op)
	var names []string
	for _, r := range rows {
		names = append(names, r["name"].(string))
	}
	if !slices.IsSorted(names) || len(names) == 0 {
		t.Errorf("got %q, want plugins in the order of their names", names)
	}
	for _, n := range names {
		if !strings.HasPrefix(n, c.prefix()) {
			t.Errorf("plugin %s has not the prefix of this version", n)
		}
	}
	if len(find(rows, map[string]any{"name": c.prefix() + "retainer", "active": true})) != 1 {
		t.Errorf("no active retainer in %v", rows)
	}
}

// turn loads or unloads a plugin.
func turn(c client, op, name string, on bool) answer {
	c.t.Helper()
	if c.v2() {
		return c.call(request{op: op, path: nodePath(c, op, map[string]string{"name": name}), body: map[string]any{"active": on}})
	}
	op = map[bool]string{true: "load_plugin", false: "unload_plugin"}[on]
	return c.call(request{op: op, path: map[string]string{"node": nodeName, "plugin": name}})
}

func pluginSwitched(t *testing.T, w *world, c client, op string) {
	name := c.prefix() + "auth_clientid"
	active := func() bool {
		return len(find(pluginRows(c, "list_node_plugins"), map[string]any{"name": name, "active": true})) == 1
	}
	if active() {
		t.Fatal("the plugin is active already")
	}
	refused := func(a answer, v2 int, word string) {
		t.Helper()
		switch c.doc {
		case openapi.V2:
			a.is(200, fmt.Sprintf(`{"code":%d,"message":%q}`, v2, word))
		case openapi.V3Items:
			a.is(500, fmt.Sprintf(`{"message":%q}`, word))
		default:
			a.is(200, fmt.Sprintf(`{"code":102,"message":%q}`, word))
		}
	}
	refused(turn(c, op, name, false), 111, "not_started")
	turn(c, op, name, true).done()
	if !active() {
		t.Error("the plugin is not active after loading it")
	}
	refused(turn(c, op, name, true), 110, "already_started")
	turn(c, op, map[bool]string{true: "emqx_", false: "emq_"}[c.v2()]+"auth_clientid", false).done() // the other prefix is taken too
	if active() {
		t.Error("the plugin is active after unloading it")
	}
	unknown := turn(c, op, c.prefix()+"nosuch", true)
	if c.v2() {
		unknown.is(200, `{"code":102,"message":"unknown"}`)
	} else {
		unknown.isText(404, "Not found.")
	}
	absent := turn(c, op, c.prefix()+"lwm2m", true)
	if c.v2() {
		absent.is(200, `{"code":102,"message":"unknown"}`)
		illTyped(c, c.call(request{op: op, path: nodePath(c, op, map[string]string{"name": name}), body: map[string]any{"active": "true"}}))
	} else {
		refused(absent, 0, "not_found")
	}
}

func pluginConfigured(t *testing.T, w *world, c client, op string) {
	path := map[string]string{"node": nodeName, "plugin": c.prefix() + "retainer"}
	get := func() []map[string]any { return c.call(request{op: "get_plugin_configs", path: path}).rows() }
	before := map[string]any{}
	for _, r := range get() {
		if r["required"] == true {
			before[r["key"].(string)] = r["value"]
		}
	}
	changed := maps.Clone(before)
	changed["retainer.max_payload_size"] = "16B"
	c.call(request{op: "update_plugin_configs", path: path, body: changed}).done()
	if len(find(get(), map[string]any{"key": "retainer.max_payload_size", "value": "16B"})) != 1 {
		t.Errorf("got %v, want the raw text that was set", get())
	}
	topic := "configured/" + unique("t")
	pub := w.connect(unique("pub"))
	pub.publish(topic+"/long", 1, true, "more than sixteen bytes")
	pub.publish(topic+"/short", 1, true, "short")
	sub := w.connect(unique("sub"))
	sub.subscribe(topic+"/#", 1)
	if m := sub.message(); string(m.Payload()) != "short" {
		t.Errorf("got %q, want only what the limit lets in", m.Payload())
	}
	c.call(request{op: "update_plugin_configs", path: path, body: before}).done()
	bad := c.call(request{op: "update_plugin_configs", path: path, body: map[string]any{"retainer.max_payload_size": "many"}})
	if c.doc == openapi.V3Items {
		if bad.status != 500 {
			t.Errorf("got %d %s, want a refusal", bad.status, bad.text)
		}
	} else {
		bad.has(102, "code")
	}
	unknown := c.call(request{op: "get_plugin_configs", path: map[string]string{"node": nodeName, "plugin": c.prefix() + "nosuch"}})
	if c.v2() {
		unknown.is(200, `{"code":102,"message":"unknown"}`)
	} else {
		unknown.isText(404, "Not found.")
	}
}

// ofNode is what an answer says about the node, in the form of one node or of
// all.
func ofNode(c client, a answer, member string) any {
	v := a.value()
	if m, ok := v.(map[string]any); ok {
		if of, ok := m[nodeName]; ok {
			return of
		}
		return v
	}
	if l, ok := v.([]any); ok && len(l) == 1 {
		if m, ok := l[0].(map[string]any); ok && m["node"] == nodeName {
			if member == "" {
				return m
			}
			return m[member]
		}
	}
	return v
}

func listenersListed(t *testing.T, w *world, c client, op string) {
	w.connect(unique("counted"))
	list, ok := ofNode(c, c.call(request{op: op, path: nodePath(c, op, nil)}), "listeners").([]any)
	if !ok {
		t.Fatal("no listeners")
	}
	var protocols []string
	for _, e := range list {
		l := e.(map[string]any)
		protocols = append(protocols, l["protocol"].(string))
		address, current := l["listen_on"], l["current_conns"]
		if c.v2() {
			address, current = l["listen"], l["current_clients"]
		}
		if l["protocol"] == "mqtt:tcp" && (address != w.node.Addr("mqtt:tcp external") || current.(float64) < 1) {
			t.Errorf("got %v, want the real address %s and a connection", l, w.node.Addr("mqtt:tcp external"))
		}
	}
	want := []string{"mqtt:tcp", "http:management", "http:dashboard"}
	if c.v2() {
		want = []string{"mqtt:tcp", "mqtt:api", "dashboard:http"}
	}
	for _, p := range want {
		if !slices.Contains(protocols, p) {
			t.Errorf("no %s in %q", p, protocols)
		}
	}
	if len(protocols) != len(want) {
		t.Errorf("got %q, want only what is open: %q", protocols, want)
	}
}

func counters(c client, op, member string) map[string]float64 {
	v, _ := ofNode(c, c.call(request{op: op, path: nodePath(c, op, nil)}), member).(map[string]any)
	out := map[string]float64{}
	for k, n := range v {
		if f, ok := n.(float64); ok {
			out[k] = f
		}
	}
	return out
}

func metricsCounted(t *testing.T, w *world, c client, op string) {
	d := w.connect(unique("counted"))
	before := counters(c, op, "metrics")
	if want := map[bool]int{true: 38, false: 43}[c.v2()]; len(before) != want {
		t.Errorf("got %d metrics, want %d", len(before), want)
	}
	d.publish("counted/"+d.id, 1, false, "x") // nobody listens: dropped
	eventually(t, "the packet is counted", func() bool {
		after := counters(c, op, "metrics")
		return after["packets/publish/received"] >= before["packets/publish/received"]+1 &&
			after["messages/qos1/received"] >= before["messages/qos1/received"]+1 &&
			after["packets/puback/sent"] >= before["packets/puback/sent"]+1 &&
			after["messages/dropped"] >= before["messages/dropped"]+1 &&
			after["bytes/received"] > before["bytes/received"]
	})
}

func statsCounted(t *testing.T, w *world, c client, op string) {
	name := map[bool]string{true: "clients/count", false: "connections/count"}[c.v2()]
	before := counters(c, op, "")
	if want := map[bool]int{true: 14, false: 18}[c.v2()]; len(before) != want {
		t.Errorf("got %d stats, want %d: %v", len(before), want, before)
	}
	d := w.connect(unique("counted"))
	d.subscribe("stat/"+d.id, 0)
	eventually(t, "the client is counted", func() bool {
		after := counters(c, op, "")
		return after[name] >= 1 && after[strings.Replace(name, "count", "max", 1)] >= after[name] &&
			after["subscriptions/count"] >= 1 && after["routes/count"] >= 1 && after["topics/count"] >= 1
	})
}

func userLife(t *testing.T, w *world, c client, op string) {
	name := unique("user ü/")
	path := map[string]string{"username": name, "name": name}
	refused := func(a answer, code int, v2, v3 string) {
		t.Helper()
		switch c.doc {
		case openapi.V2:
			a.is(200, fmt.Sprintf(`{"code":%d,"message":%q}`, code, v2))
		case openapi.V3Items:
			a.is(500, fmt.Sprintf(`{"message":%q}`, v3))
		default:
			a.is(200, fmt.Sprintf(`{"code":102,"message":%q}`, v3))
		}
	}
	body := map[string]any{"username": name, "password": "first", "tags": "user"}
	c.call(request{op: "create_user", body: body}).done()
	refused(c.call(request{op: "create_user", body: body}), 113, "User already exist", "username already exist")
	rows := c.call(request{op: "list_users"}).rows()
	if len(find(rows, map[string]any{"username": name, "tags": "user"})) != 1 || rows[0]["password"] != nil {
		t.Errorf("got %v, want %s without a password", rows, name)
	}
	c.call(request{op: "update_user", path: path, body: map[string]any{"tags": "other", "password": "ignored"}}).done()
	if c.v2() {
		c.call(request{op: "lookup_user", path: path}).has("other", "result", "tags")
		c.call(request{op: "lookup_user", path: map[string]string{"username": "nobody"}}).is(200, `{"code":0,"result":[]}`)
	}
	nobody := c.as("", "")
	auth := func(password string) answer {
		return nobody.call(request{op: "auth_user", body: map[string]any{"username": name, "password": password}})
	}
	auth("first").done()
	refused(auth("wrong"), 103, "Password error", "Password Error")
	refused(nobody.call(request{op: "auth_user", body: map[string]any{"username": "nobody", "password": "x"}}), 103, "User not found", "Username Not Found")
	refused(auth(""), 104, "Username or password undefined", "Username or password undefined")
	change := func(body map[string]any) answer { return c.call(request{op: "change_pwd", path: path, body: body}) }
	refused(change(map[string]any{"old_pwd": "nope", "new_pwd": "x"}), 114, "OldPassword error", "Password Error")
	change(map[string]any{"old_pwd": "first", "new_pwd": "second"}).done()
	change(map[string]any{"oldpassword": "second", "password": "third"}).done()
	missing(c, change(map[string]any{"old_pwd": "third", "password": "x"}))
	missing(c, change(nil))
	refused(auth("first"), 103, "Password error", "Password Error")
	auth("third").done()
	// The new password works for the next request, the old one no more.
	c.as(name, "third").call(request{op: "list_users"}).rows()
	if a := c.as(name, "first").call(request{op: "list_users"}); a.status != 401 {
		t.Errorf("the old password still works: %d", a.status)
	}
	refused(c.call(request{op: "change_pwd", path: map[string]string{"username": "nobody"}, body: map[string]any{"old_pwd": "a", "new_pwd": "b"}}), 105, "User not found", "Username Not Found")
	refused(c.call(request{op: "update_user", path: map[string]string{"username": "nobody", "name": "nobody"}, body: map[string]any{"tags": "x"}}), 105, "User not found", "Username Not Found")
	refused(c.call(request{op: "create_user", body: map[string]any{"username": "", "password": "x", "tags": ""}}), 104, "Username or password undefined", "Username or password undefined")
	missing(c, c.call(request{op: "create_user", body: map[string]any{"username": "x"}}))
	c.call(request{op: "delete_user", path: path}).done()
	if a := c.as(name, "third").call(request{op: "list_users"}); a.status != 401 {
		t.Errorf("a deleted user still works: %d", a.status)
	}
	refused(c.call(request{op: "delete_user", path: path}), 105, "User not found", "Username Not Found")
	refused(c.call(request{op: "delete_user", path: map[string]string{"username": "admin", "name": "admin"}}), 106, "admin cannot be deleted", "Cannot delete admin")
}

func configRows(c client, op string) []map[string]any {
	list, _ := ofNode(c, c.call(request{op: op, path: nodePath(c, op, nil)}), "config").([]any)
	var rows []map[string]any
	for _, e := range list {
		rows = append(rows, e.(map[string]any))
	}
	return rows
}

func configListed(t *testing.T, w *world, c client, op string) {
	rows := configRows(c, op)
	want := map[string]any{"key": "mqtt.allow_anonymous", "value": "true", "app": map[bool]string{true: "emqttd", false: "emqx"}[c.v2()]}
	if len(find(rows, want)) != 1 {
		t.Errorf("no row %v in %v", want, rows)
	}
	for _, r := range rows {
		if _, ok := r["datatpye"].(string); !ok || len(r) != 4 {
			t.Errorf("row %v has not the four members", r)
		}
	}
	if len(find(rows, map[string]any{"key": "retainer.max_payload_size", "app": c.prefix() + "retainer"})) != 1 {
		t.Errorf("no key of the active retainer in %v", rows)
	}
}

func configSet(t *testing.T, w *world, c client, op string) {
	app := map[bool]string{true: "emqttd", false: "emqx"}[c.v2()]
	set := func(app, key string, value any) answer {
		t.Helper()
		return c.call(request{op: op, path: nodePath(c, op, map[string]string{"app": app}), body: map[string]any{"key": key, "value": value}})
	}
	stays := w.connect(unique("stays"))
	set(app, "mqtt.allow_anonymous", "false").done()
	if d, err := w.dial(unique("anonymous")); err == nil {
		t.Errorf("anonymous client %s was let in", d.id)
	}
	if !stays.IsConnectionOpen() {
		t.Error("a client that was connected has been cut off")
	}
	if rows := configRows(c, "get_node_configs"); len(find(rows, map[string]any{"key": "mqtt.allow_anonymous", "value": "false"})) != 1 {
		t.Error("the list does not show the new value")
	}
	set(app, "mqtt.allow_anonymous", "true").done()
	w.connect(unique("anonymous"))
	for name, a := range map[string]answer{
		"unknown key":       set(app, "no.such", "1"),
		"other application": set(c.prefix()+"retainer", "mqtt.allow_anonymous", "true"),
		"bad value":         set(app, "mqtt.allow_anonymous", "perhaps"),
		"unknown app":       set("nosuch", "mqtt.allow_anonymous", "true"),
	} {
		switch c.doc {
		case openapi.V2:
			if a.has(102, "code"); a.at("message") != nil {
				t.Errorf("%s: got a message %s", name, a.text)
			}
		case openapi.V3Items:
			if a.status != 500 || a.at("message") == nil {
				t.Errorf("%s: got %d %s", name, a.status, a.text)
			}
		default:
			a.has(102, "code")
		}
	}
	illTyped(c, set(app, "mqtt.allow_anonymous", true))
	missing(c, c.call(request{op: op, path: nodePath(c, op, map[string]string{"app": app}), body: map[string]any{"key": "mqtt.allow_anonymous"}}))
}

func alarmsListed(t *testing.T, w *world, c client, op string) {
	v := c.call(request{op: op, path: nodePath(c, op, nil)})
	if op == "list_all_alarms" {
		if at(v.value(), 0, "node") != nodeName {
			t.Errorf("got %s, want alarms by node", v.text)
		}
		return
	}
	v.rows()
	unknownNode(c, c.call(request{op: op, path: map[string]string{"node": "nosuch@nowhere"}}))
}

func indexShown(t *testing.T, w *world, c client, op string) {
	rows := c.call(request{op: op}).rows()
	if len(rows) < 55 {
		t.Fatalf("got %d entries, want the 55 documented ones at least", len(rows))
	}
	for _, want := range []map[string]any{
		{"name": "list_node_connections", "method": "GET", "path": "nodes/:node/connections/", "descr": "A list of connections on a node"},
		{"name": "kickout_connection", "method": "DELETE", "path": "/connections/:clientid"},
		{"name": "get_all_configs", "path": "/nodes/:node/configs/"},
	} {
		if len(find(rows[:55], want)) != 1 {
			t.Errorf("no entry %v among the documented ones", want)
		}
	}
}

func banLife(t *testing.T, w *world, c client, op string) {
	id, name := unique("ban/ned"), unique("banned user")
	until := time.Now().Add(time.Hour).Unix()
	created := map[openapi.Document]int{openapi.V3Items: 201, openapi.V3Code: 200}[c.doc]
	body := map[string]any{"who": id, "as": "client_id", "reason": "r", "until": until, "extra": "echoed"}
	a := c.call(request{op: "create_banned", body: body})
	if got := a.value(); a.status != created || fmt.Sprint(at(got, "extra")) != "echoed" || at(got, "by") != nil {
		t.Errorf("got %d %s, want the request echoed with %d", a.status, a.text, created)
	}
	if _, err := w.dial(id); err == nil {
		t.Error("a banned client id was let in")
	}
	c.call(request{op: "create_banned", body: map[string]any{"who": name, "as": "username"}})
	if _, err := w.dial(unique("x"), login(name, "x")); err == nil {
		t.Error("a banned user name was let in")
	}
	rows := c.call(request{op: "list_banned", query: paging(c, 1, 1000)}).rows()
	if len(find(rows, map[string]any{"who": id, "as": "client_id", "reason": "r", "by": "undefined", "desc": "undefined", "until": int(until)})) != 1 ||
		len(find(rows, map[string]any{"who": name, "as": "username", "until": "undefined"})) != 1 {
		t.Errorf("got %v, want both bans", rows)
	}
	badPages(t, c, "list_banned")
	c.call(request{op: "delete_banned", path: map[string]string{"who": id}, query: url.Values{"as": {"client_id"}}}).done()
	c.call(request{op: "delete_banned", path: map[string]string{"who": name}, body: map[string]any{"as": "username"}}).done()
	c.call(request{op: "delete_banned", path: map[string]string{"who": "nobody"}, query: url.Values{"as": {"username"}}}).done()
	missing(c, c.call(request{op: "delete_banned", path: map[string]string{"who": id}}))
	illTyped(c, c.call(request{op: "delete_banned", path: map[string]string{"who": id}, query: url.Values{"as": {"nick"}}}))
	w.connect(id)
	words := func(a answer, code int, message string) {
		t.Helper()
		if c.doc == openapi.V3Items {
			a.is(422, fmt.Sprintf(`{"message":%q,"errorCode":%d}`, message, code))
		} else {
			a.is(200, fmt.Sprintf(`{"code":%d,"message":%q}`, code, message))
		}
	}
	words(c.call(request{op: "create_banned", body: map[string]any{"who": "x"}}), 107, "missing mandatory params: ['who', 'as']")
	words(c.call(request{op: "create_banned", body: map[string]any{"who": "x", "as": "nick"}}), 108, "value of 'as' must be one of: ['client_id', 'username', 'ip_address']")
	illTyped(c, c.call(request{op: "create_banned", body: map[string]any{"who": "not an address", "as": "ip_address"}}))
	// A ban ends at its time, and its row with it.
	short := unique("short")
	c.call(request{op: "create_banned", body: map[string]any{"who": short, "as": "client_id", "until": time.Now().Unix() + 1}})
	eventually(t, "the ban has ended", func() bool {
		return len(find(c.call(request{op: "list_banned", query: paging(c, 1, 1000)}).rows(), map[string]any{"who": short})) == 0
	})
	w.connect(short)
}

func appLife(t *testing.T, w *world, c client, op string) {
	id := unique("app/ä")
	path := map[string]string{"appid": id}
	a := c.call(request{op: "add_app", body: map[string]any{"app_id": id, "name": "n", "desc": "d", "status": true, "expired": nil}})
	secret, _ := at(a.value(), "secret").(string)
	if len(secret) < 20 {
		t.Errorf("got the secret %q, want a long one", secret)
	}
	refused := func(a answer, word string) {
		t.Helper()
		if c.doc == openapi.V3Items {
			a.is(500, fmt.Sprintf(`{"message":%q}`, word))
		} else {
			a.is(200, fmt.Sprintf(`{"code":102,"message":%q}`, word))
		}
	}
	refused(c.call(request{op: "add_app", body: map[string]any{"app_id": id, "name": "n"}}), "alread_existed")
	rows := c.call(request{op: "list_apps"}).rows()
	listed := find(rows, map[string]any{"app_id": id, "name": "n", "desc": "d", "status": true, "expired": "undefined"})
	if len(listed) != 1 || listed[0]["secret"] != nil {
		t.Errorf("got %v, want the application without its secret", rows)
	}
	if got := at(c.call(request{op: "lookup_app", path: path}).value(), "secret"); got != secret {
		t.Errorf("lookup shows the secret %v, want %s", got, secret)
	}
	caller := w.v3.as(id, secret)
	may := func(want int) {
		t.Helper()
		if a := caller.call(request{op: "list_brokers"}); a.status != want {
			t.Errorf("the application gets %d, want %d", a.status, want)
		}
	}
	may(200)
	change := func(body map[string]any) {
		t.Helper()
		c.call(request{op: "update_app", path: path, body: body}).done()
	}
	change(map[string]any{"name": "m", "desc": "", "status": false})
	may(401)
	change(map[string]any{"name": "m", "desc": "", "status": true, "expired": 1})
	may(401)
	change(map[string]any{"name": "m", "desc": "", "status": true, "expired": time.Now().Add(time.Hour).Unix()})
	may(200)
	refused(c.call(request{op: "update_app", path: map[string]string{"appid": "nobody"}, body: map[string]any{"name": "x"}}), "ont_found")
	c.call(request{op: "del_app", path: path}).done()
	may(401)
	c.call(request{op: "del_app", path: path}).done()
	if v, ok := c.call(request{op: "lookup_app", path: path}).value().([]any); !ok || len(v) != 0 {
		t.Error("an unknown application is no empty list")
	}
	missing(c, c.call(request{op: "add_app", body: map[string]any{"name": "x"}}))
	illTyped(c, c.call(request{op: "add_app", body: map[string]any{"app_id": "x", "status": "yes"}}))
	fixed := unique("fixed")
	if got := at(c.call(request{op: "add_app", body: map[string]any{"app_id": fixed, "name": "f", "secret": "chosen"}}).value(), "secret"); got != "chosen" {
		t.Errorf("got the secret %v, want the one that was sent", got)
	}
}

func clientidLife(t *testing.T, w *world, c client, op string) {
	credentialLife(t, w, c, "clientid", "auth_clientid", func(id, password string) error {
		_, err := w.dial(id, login("anybody", password))
		return err
	})
}

func usernameLife(t *testing.T, w *world, c client, op string) {
	credentialLife(t, w, c, "username", "auth_username", func(id, password string) error {
		_, err := w.dial(unique("c"), login(id, password))
		return err
	})
}

func credentialLife(t *testing.T, w *world, c client, member, plugin string, connect func(id, password string) error) {
	name := unique("cred/")
	path := map[string]string{member: name}
	list, lookup, add, update, remove := "list_"+member, "lookup_"+member, "add_"+member, "update_"+member, "delete_"+member
	c.call(request{op: list}).isText(404, "Not found.") // served while the plugin is loaded
	turn(c, "", "emqx_"+plugin, true).done()
	defer func() { turn(c, "", "emqx_"+plugin, false).done() }()
	c.call(request{op: add, body: map[string]any{member: name, "password": "first"}}).done()
	if err := connect(name, "first"); err != nil {
		t.Errorf("the right password: %v", err)
	}
	if err := connect(name, "wrong"); err == nil {
		t.Error("a wrong password was taken")
	}
	if v, _ := c.call(request{op: list}).value().([]any); !slices.Contains(v, any(name)) {
		t.Errorf("%s is not listed in %v", name, v)
	}
	hash, _ := at(c.call(request{op: lookup, path: path}).value(), "password").(string)
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(hash) {
		t.Errorf("got %q, want the stored hash", hash)
	}
	c.call(request{op: update, path: path, body: map[string]any{"password": "second"}}).done()
	if err := connect(name, "second"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if err := connect(name, "first"); err == nil {
		t.Error("the old password was taken")
	}
	missing(c, c.call(request{op: add, body: map[string]any{member: "x"}}))
	c.call(request{op: remove, path: path}).done()
	if err := connect(name, "anything"); err != nil {
		t.Errorf("an unknown %s is not left to the next plugin: %v", member, err)
	}
}
