package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
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
		if n := times(ids, id); n != 1 {
			t.Errorf("%s is listed %d times in %q", id, n, ids)
		}
	}
}

// times is how often id is in ids.
func times(ids []string, id string) (n int) {
	for _, i := range ids {
		if i == id {
			n++
		}
	}
	return n
}

// badPages asks a paged list for what is no page.
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
