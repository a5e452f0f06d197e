package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// The scenarios. Each gets the operation that it is about and a client of the
// version that it runs through.

func (c client) v2() bool { return c.doc == openapi.V2 }

// nodePath is the node parameter, where an operation has it.
func nodePath(c client, op string, path map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, path)
	if strings.Contains(c.spec().ops[op].Path, "{node}") {
		out["node"] = nodeName
	}
	return out
}

func paging(c client, page, size int) url.Values {
	if c.v2() {
		return url.Values{"curr_page": {strconv.Itoa(page)}, "page_size": {strconv.Itoa(size)}}
	}
	return url.Values{"_page": {strconv.Itoa(page)}, "_limit": {strconv.Itoa(size)}}
}

// total is the number of rows of a paged answer's whole list.
func (a answer) total() int {
	a.t.Helper()
	n, ok := a.at("result", "total_num").(float64)
	if !ok {
		n, ok = a.at("meta", "count").(float64)
	}
	if !ok {
		a.t.Fatalf("%s: no total in %s", a.what, a.text)
	}
	return int(n)
}

// find returns the rows whose members are these.
func find(rows []map[string]any, want map[string]any) []map[string]any {
	var out []map[string]any
	for _, row := range rows {
		same := true
		for k, v := range want {
			if n, ok := v.(int); ok {
				v = float64(n)
			}
			same = same && row[k] == v
		}
		if same {
			out = append(out, row)
		}
	}
	return out
}

func unknownNode(c client, a answer) {
	c.t.Helper()
	if c.v2() {
		a.isText(404, "")
	} else {
		a.isText(404, "Not found.")
	}
}

func nodesListed(t *testing.T, w *world, c client, op string) {
	rows := c.call(request{op: op}).rows()
	if len(rows) != 1 {
		t.Fatalf("got %d nodes, want 1", len(rows))
	}
	key := "node"
	if c.v2() {
		key = "name"
	}
	if rows[0][key] != nodeName || rows[0]["node_status"] != "Running" {
		t.Errorf("got %v, want %s running", rows[0], nodeName)
	}
}

func nodeShown(t *testing.T, w *world, c client, op string) {
	v, _ := c.call(request{op: op, path: map[string]string{"node": nodeName}}).value().(map[string]any)
	if v["node_status"] != "Running" || v["node"] != nil {
		t.Errorf("got %v, want a running node without the member node", v)
	}
	unknownNode(c, c.call(request{op: op, path: map[string]string{"node": "nosuch@nowhere"}}))
}

// pagesOf walks a list page by page and returns the ids in their order.
func pagesOf(c client, op string, size int, id func(map[string]any) string) []string {
	c.t.Helper()
	var ids []string
	for page := 1; ; page++ {
		a := c.call(request{op: op, path: nodePath(c, op, nil), query: paging(c, page, size)})
		rows := a.rows()
		for _, r := range rows {
			ids = append(ids, id(r))
		}
		if len(rows) < size {
			if len(ids) != a.total() {
				c.t.Errorf("%s: %d rows on all pages, total says %d", op, len(ids), a.total())
			}
			return ids
		}
	}
}

func inOrder(t *testing.T, ids []string, want ...string) {
	t.Helper()
	if !slices.IsSorted(ids) {
		t.Errorf("the list is not in bytewise order: %q", ids)
	}
	for _, id := range want {
		if n := len(find2(ids, id)); n != 1 {
			t.Errorf("%s is listed %d times in %q", id, n, ids)
		}
	}
}

func find2(ids []string, id string) (out []string) {
	for _, i := range ids {
		if i == id {
			out = append(out, i)
		}
	}
	return out
}

func badPages(t *testing.T, c client, op string) {
	page, size := "_page", "_limit"
	if c.v2() {
		page, size = "curr_page", "page_size"
	}
	for _, q := range []url.Values{{page: {"x"}}, {size: {"x"}}, {size: {"0"}}, {size: {"-1"}}, {page: {"1.5"}}} {
		a := c.call(request{op: op, path: nodePath(c, op, nil), query: q})
		if c.v2() {
			a.isText(404, "")
		} else {
			a.isText(500, "Internal Error")
		}
	}
	first := c.call(request{op: op, path: nodePath(c, op, nil), query: url.Values{size: {"2"}}}).rows()
	for _, p := range []string{"0", "-3"} {
		a := c.call(request{op: op, path: nodePath(c, op, nil), query: url.Values{page: {p}, size: {"2"}}})
		if got := a.rows(); len(got) != len(first) {
			t.Errorf("page %s has %d rows, page 1 has %d", p, len(got), len(first))
		}
		n, _ := strconv.Atoi(p)
		if c.v2() {
			a.has(n, "result", "current_page")
		} else {
			a.has(n, "meta", "page")
		}
	}
	far := c.call(request{op: op, path: nodePath(c, op, nil), query: paging(c, 1000000, 7)})
	if got := far.rows(); len(got) != 0 {
		t.Errorf("a page past the end has %d rows", len(got))
	}
	if strings.Contains(c.spec().ops[op].Path, "{node}") {
		unknownNode(c, c.call(request{op: op, path: map[string]string{"node": "nosuch@nowhere"}}))
	}
}

func byClient(r map[string]any) string { return r["client_id"].(string) }

func clientsPaged(t *testing.T, w *world, c client, op string) {
	var want []string
	for range 5 {
		id := unique("page")
		want = append(want, id)
		w.connect(id)
	}
	inOrder(t, pagesOf(c, op, 2, byClient), want...)
	badPages(t, c, op)
}

func clientFound(t *testing.T, w *world, c client, op string) {
	id := unique("found")
	d := w.connect(id, login("somebody", "x"), func(o *paho.ClientOptions) {
		o.SetKeepAlive(42*time.Second).SetWill("will/topic", "gone", 1, false)
	})
	rows := c.call(request{op: op, path: nodePath(c, op, map[string]string{"clientid": id})}).rows()
	if len(rows) != 1 {
		t.Fatalf("got %v, want one row", rows)
	}
	want := map[string]any{"client_id": id, "username": "somebody", "ipaddress": "127.0.0.1", "keepalive": 42, "proto_ver": 4}
	if c.v2() {
		want["clean_sess"] = true
	} else {
		maps.Copy(want, map[string]any{
			"clean_start": true, "proto_name": "MQTT", "node": nodeName, "zone": "external", "mountpoint": "undefined",
			"is_super": false, "is_bridge": false, "peercert": "nossl", "will_topic": "will/topic",
		})
	}
	if len(find(rows, want)) != 1 {
		t.Errorf("got %v, want %v", rows[0], want)
	}
	anonymous := unique("anonymous")
	w.connect(anonymous)
	rows = c.call(request{op: op, path: nodePath(c, op, map[string]string{"clientid": anonymous})}).rows()
	if len(find(rows, map[string]any{"username": "undefined"})) != 1 {
		t.Errorf("got %v, want the user name undefined", rows)
	}
	d.Disconnect(100)
	eventually(t, "the row of a client that left is gone", func() bool {
		return len(c.call(request{op: op, path: nodePath(c, op, map[string]string{"clientid": id})}).rows()) == 0
	})
}

func clientKicked(t *testing.T, w *world, c client, op string) {
	id := unique("kick")
	watcher := w.connect(unique("watcher"))
	watcher.subscribe("will/"+id, 1)
	d := w.connect(id, persistent, func(o *paho.ClientOptions) { o.SetWill("will/"+id, "kicked", 1, false) })
	d.subscribe("kept/"+id, 1)
	path := map[string]string{"clientid": id}
	c.call(request{op: op, path: path}).done()
	lookup, session := "lookup_connections", "lookup_session"
	if c.v2() {
		lookup = "lookup_client"
	}
	if rows := c.call(request{op: lookup, path: path}).rows(); len(rows) != 0 {
		t.Errorf("the row is still there after success: %v", rows)
	}
	d.closed()
	if m := watcher.message(); string(m.Payload()) != "kicked" {
		t.Errorf("got %q, want the will", m.Payload())
	}
	if rows := c.call(request{op: session, path: path}).rows(); len(rows) != 1 {
		t.Errorf("the persistent session has gone: %v", rows)
	}
	offline(c, c.call(request{op: op, path: path}))
}

// offline fails unless an answer says that nobody is connected.
func offline(c client, a answer) {
	c.t.Helper()
	switch c.doc {
	case openapi.V2:
		a.is(200, `{"code":112}`)
	case openapi.V3Items:
		a.is(500, `{"message":"not_found"}`)
	default:
		a.is(200, `{"code":112,"message":"not_found"}`)
	}
}

func aclCleaned(t *testing.T, w *world, c client, op string) {
	id := unique("acl")
	w.connect(id)
	clean := func(id, topic string) answer {
		if c.v2() {
			return c.call(request{op: op, path: map[string]string{"clientid": id}, body: map[string]any{"topic": topic}})
		}
		return c.call(request{op: op, path: map[string]string{"clientid": id, "topic": topic}})
	}
	clean(id, "any/topic").done()
	clean(id, "never seen #").done()
	offline(c, clean("nobody", "any/topic"))
}

func sessionsPaged(t *testing.T, w *world, c client, op string) {
	var want []string
	for range 5 {
		id := unique("session")
		want = append(want, id)
		w.connect(id)
	}
	inOrder(t, pagesOf(c, op, 3, byClient), want...)
	badPages(t, c, op)
}

func sessionFound(t *testing.T, w *world, c client, op string) {
	id := unique("session")
	d := w.connect(id, persistent)
	d.subscribe("sessions/"+id, 1)
	d.Disconnect(100)
	path := nodePath(c, op, map[string]string{"clientid": id})
	var rows []map[string]any
	count, queue := "subscriptions_count", "mqueue_len"
	if c.v2() {
		count = "subscriptions"
	}
	eventually(t, "the session of a client that left stays", func() bool {
		rows = c.call(request{op: op, path: path}).rows()
		return len(rows) == 1 && len(c.call(request{op: map[bool]string{true: "lookup_client", false: "lookup_connections"}[c.v2()], path: map[string]string{"clientid": id}}).rows()) == 0
	})
	if rows[0][count] != 1.0 || rows[0][queue] != 0.0 {
		t.Errorf("got %v, want one subscription and an empty queue", rows[0])
	}
	w.connect(unique("publisher")).publish("sessions/"+id, 1, false, "kept")
	eventually(t, "the message is in the queue", func() bool {
		rows = c.call(request{op: op, path: path}).rows()
		return rows[0][queue] == 1.0
	})
	if !c.v2() && (rows[0]["binding"] != "local" || rows[0]["node"] != nodeName || rows[0]["expiry_interval"] != 7200.0) {
		t.Errorf("got %v, want a local session of %s with 7200 s", rows[0], nodeName)
	}
	if c.v2() && rows[0]["message_queue"] != 1.0 {
		t.Errorf("got %v, want both names of the queue's length", rows[0])
	}
	if rows := c.call(request{op: op, path: nodePath(c, op, map[string]string{"clientid": "nobody"})}).rows(); len(rows) != 0 {
		t.Errorf("got %v for a client that never was", rows)
	}
}

func subscriptionsPaged(t *testing.T, w *world, c client, op string) {
	d := w.connect(unique("subs"))
	var want []string
	for _, f := range []string{"b/+", "a/#", "c"} {
		d.subscribe(f, 1)
		want = append(want, d.id+"\x00"+f)
	}
	inOrder(t, pagesOf(c, op, 2, func(r map[string]any) string { return byClient(r) + "\x00" + r["topic"].(string) }), want...)
	badPages(t, c, op)
}

func subscriptionsFound(t *testing.T, w *world, c client, op string) {
	d := w.connect(unique("subs"))
	d.subscribe("plain/"+d.id, 2)
	d.subscribe("$share/group/shared/"+d.id, 1)
	rows := c.call(request{op: op, path: nodePath(c, op, map[string]string{"clientid": d.id})}).rows()
	for topic, qos := range map[string]int{"plain/" + d.id: 2, "shared/" + d.id: 1} {
		if len(find(rows, map[string]any{"client_id": d.id, "topic": topic, "qos": qos})) != 1 {
			t.Errorf("no row of %s with qos %d in %v", topic, qos, rows)
		}
	}
	if rows := c.call(request{op: op, path: nodePath(c, op, map[string]string{"clientid": "nobody"})}).rows(); len(rows) != 0 {
		t.Errorf("got %v for a client that never was", rows)
	}
}

func routesPaged(t *testing.T, w *world, c client, op string) {
	a, b := w.connect(unique("route")), w.connect(unique("route"))
	filter := "routes/" + a.id + "/+"
	a.subscribe(filter, 0)
	b.subscribe(filter, 0)
	b.subscribe("routes/"+b.id, 0)
	inOrder(t, pagesOf(c, op, 2, func(r map[string]any) string {
		if r["node"] != nodeName {
			t.Errorf("row of node %v", r["node"])
		}
		return r["topic"].(string)
	}), filter, "routes/"+b.id)
	badPages(t, c, op)
}

func routeFound(t *testing.T, w *world, c client, op string) {
	d := w.connect(unique("route"))
	filter := "/lookup/" + d.id + "/#"
	d.subscribe(filter, 0)
	rows := c.call(request{op: op, path: map[string]string{"topic": filter}}).rows()
	if len(rows) != 1 || rows[0]["topic"] != filter || rows[0]["node"] != nodeName {
		t.Errorf("got %v, want the route of %s", rows, filter)
	}
	// Nothing is matched: a name under the filter has no route of its own.
	if rows := c.call(request{op: op, path: map[string]string{"topic": "/lookup/" + d.id + "/x"}}).rows(); len(rows) != 0 {
		t.Errorf("got %v for a name without a route", rows)
	}
}

func published(t *testing.T, w *world, c client, op string) {
	d := w.connect(unique("sub"))
	topic := "published/" + d.id
	d.subscribe(topic, 1)
	c.call(request{op: op, body: map[string]any{"topic": topic, "payload": "hello", "qos": 2, "client_id": "label"}}).done()
	if m := d.message(); string(m.Payload()) != "hello" || m.Qos() != 1 || m.Retained() {
		t.Errorf("got %q qos %d retained %v, want hello qos 1", m.Payload(), m.Qos(), m.Retained())
	}
	c.call(request{op: op, body: map[string]any{"topic": topic}}).done()
	if m := d.message(); len(m.Payload()) != 0 || m.Qos() != 0 {
		t.Errorf("got %q qos %d, want an empty payload and qos 0", m.Payload(), m.Qos())
	}
	c.call(request{op: op, body: map[string]any{"topic": topic, "payload": "kept", "retain": true}}).done()
	d.message()
	late := w.connect(unique("late"))
	late.subscribe(topic, 1)
	if m := late.message(); string(m.Payload()) != "kept" || !m.Retained() {
		t.Errorf("got %q retained %v, want the retained message", m.Payload(), m.Retained())
	}
	c.call(request{op: op, body: map[string]any{"topic": topic, "retain": true}}).done()
	d.message()
	for _, bad := range []string{"a/#", "", "a/+/b", strings.Repeat("x", 4097)} {
		a := c.call(request{op: op, body: map[string]any{"topic": bad, "payload": "x"}})
		badTopic(c, a, "validate topic: "+bad+" fail")
	}
	missing(c, c.call(request{op: op, body: map[string]any{"payload": "x"}}), openapi.V2)
	for member, v := range map[string]any{"topic": 1, "payload": 1, "qos": 3, "retain": "yes", "client_id": 7} {
		body := map[string]any{"topic": topic, "payload": "x"}
		body[member] = v
		illTyped(c, c.call(request{op: op, body: body}))
	}
	notJSON(c, c.call(request{op: op, text: "topic=test"}))
	if !c.v2() {
		c.call(request{op: op, body: map[string]any{"topics": "a/#," + topic + ",b/+", "payload": "several"}}).done()
		if m := d.message(); string(m.Payload()) != "several" {
			t.Errorf("got %q, want the one valid topic of the list", m.Payload())
		}
	}
}

func badTopic(c client, a answer, v2 string) {
	c.t.Helper()
	switch c.doc {
	case openapi.V2:
		text, _ := json.Marshal(v2)
		a.is(200, fmt.Sprintf(`{"code":102,"message":%s}`, text))
	case openapi.V3Items:
		a.is(200, `{"code":115}`)
	default:
		a.is(200, `{"code":115,"message":"bad_topic"}`)
	}
}

// missing fails unless an answer says that a parameter is missing. In v3 a
// publish without any topic is a bad topic, so some calls are for v2 only.
func missing(c client, a answer, only ...openapi.Document) {
	c.t.Helper()
	if len(only) > 0 && !slices.Contains(only, c.doc) {
		return
	}
	switch c.doc {
	case openapi.V2:
		a.is(200, `{"code":107,"message":"params error"}`)
	case openapi.V3Items:
		a.has(107, "errorCode")
		if a.status != 422 {
			c.t.Errorf("%s: status %d, want 422", a.what, a.status)
		}
	default:
		a.has(107, "code")
	}
}

func illTyped(c client, a answer) {
	c.t.Helper()
	switch c.doc {
	case openapi.V2:
		a.is(200, `{"code":108,"message":"params type error"}`)
	case openapi.V3Items:
		a.has(108, "errorCode")
		if a.status != 422 {
			c.t.Errorf("%s: status %d, want 422", a.what, a.status)
		}
	default:
		a.has(108, "code")
	}
}

func notJSON(c client, a answer) {
	c.t.Helper()
	if c.v2() {
		a.is(200, `{"code":109,"message":"Body not json"}`)
	} else {
		a.isText(400, "Bad Request")
	}
}

func noSession(c client, a answer, id string) {
	c.t.Helper()
	switch c.doc {
	case openapi.V2:
		a.is(200, `{"code":102,"message":"Clientid: `+id+` not found"}`)
	case openapi.V3Items:
		a.is(200, `{"code":112}`)
	default:
		a.is(200, `{"code":112,"message":"session_not_found"}`)
	}
}

func subscribed(t *testing.T, w *world, c client, op string) {
	d := w.connect(unique("api-sub"), persistent)
	retained := "retained/" + d.id
	w.connect(unique("pub")).publish(retained, 1, true, "before")
	c.call(request{op: op, body: map[string]any{"client_id": d.id, "topic": retained, "qos": 1}}).done()
	if m := d.message(); string(m.Payload()) != "before" {
		t.Errorf("got %q, want the retained message", m.Payload())
	}
	wild := "wild/" + d.id + "/#"
	c.call(request{op: op, body: map[string]any{"client_id": d.id, "topic": wild}}).done()
	c.call(request{op: op, body: map[string]any{"client_id": d.id, "topic": wild, "qos": 2}}).done()
	w.connect(unique("pub")).publish("wild/"+d.id+"/x", 2, false, "deep")
	if m := d.message(); m.Qos() != 2 || string(m.Payload()) != "deep" {
		t.Errorf("got %q qos %d, want deep with the second qos", m.Payload(), m.Qos())
	}
	subs := map[bool]string{true: "lookup_subscriptions", false: "lookup_client_subscriptions"}[c.v2()]
	rows := c.call(request{op: subs, path: map[string]string{"clientid": d.id}}).rows()
	if len(rows) != 2 || len(find(rows, map[string]any{"topic": wild, "qos": 2})) != 1 {
		t.Errorf("got %v, want %s once with qos 2", rows, wild)
	}
	if rows := c.call(request{op: "lookup_routes", path: map[string]string{"topic": wild}}).rows(); len(rows) != 1 {
		t.Errorf("no route of %s", wild)
	}
	d.Disconnect(100)
	c.call(request{op: op, body: map[string]any{"client_id": d.id, "topic": "offline/" + d.id, "qos": 1}}).done()
	rows = c.call(request{op: subs, path: map[string]string{"clientid": d.id}}).rows()
	if len(find(rows, map[string]any{"topic": "offline/" + d.id})) != 1 {
		t.Errorf("an offline session was not subscribed: %v", rows)
	}
	noSession(c, c.call(request{op: op, body: map[string]any{"client_id": "nobody", "topic": "t"}}), "nobody")
	for _, bad := range []string{"a#", "#/a", "a/+b", ""} {
		badTopic(c, c.call(request{op: op, body: map[string]any{"client_id": d.id, "topic": bad}}), "validate topic: "+bad+" fail")
	}
	missing(c, c.call(request{op: op, body: map[string]any{"topic": "t"}}))
	illTyped(c, c.call(request{op: op, body: map[string]any{"client_id": d.id, "topic": "t", "qos": 3}}))
	illTyped(c, c.call(request{op: op, body: map[string]any{"client_id": nil, "topic": "t"}}))
}

func unsubscribed(t *testing.T, w *world, c client, op string) {
	d := w.connect(unique("api-unsub"))
	topic := "unsub/" + d.id
	d.subscribe(topic, 1)
	d.subscribe("stays/"+d.id, 1)
	c.call(request{op: op, body: map[string]any{"client_id": d.id, "topic": topic, "payload": 1, "qos": "x"}}).done()
	pub := w.connect(unique("pub"))
	pub.publish(topic, 1, false, "no")
	pub.publish("stays/"+d.id, 1, false, "yes")
	if m := d.message(); string(m.Payload()) != "yes" {
		t.Errorf("got %q on %s after unsubscribe", m.Payload(), m.Topic())
	}
	c.call(request{op: op, body: map[string]any{"client_id": d.id, "topic": "never/had"}}).done()
	noSession(c, c.call(request{op: op, body: map[string]any{"client_id": "nobody", "topic": "t"}}), "nobody")
	missing(c, c.call(request{op: op, body: map[string]any{"client_id": d.id}}))
}

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
