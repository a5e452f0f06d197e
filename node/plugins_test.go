package node_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/node"
)

func TestRetainer(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	settings := map[string]string{"node.data_dir": data, "broker.sys_interval": "0"} // the topics of $SYS are retained too
	n := start(t, settings)
	pub := connect(t, n, "pub")
	pub.publish(t, "r/1", 1, true, "kept")
	sub := connect(t, n, "sub")
	sub.subscribe(t, "r/#", 1)
	sub.want(t, "r/1", "kept")

	t.Run("limits are hot", func(t *testing.T) {
		expect(t, n, 200, "PUT", "/api/v3/configs/emqx_retainer", map[string]string{"key": "retainer.max_payload_size", "value": "4"})
		pub.publish(t, "r/big", 1, true, "12345")
		sub.want(t, "r/big", "12345") // routed all the same
		late := connect(t, n, "late")
		late.subscribe(t, "r/big", 1)
		late.wantNothing(t, "payload above retainer.max_payload_size")
	})
	t.Run("plugin_configs replaces all of it", func(t *testing.T) {
		expect(t, n, 200, "PUT", "/api/v2/nodes/"+n.Name()+"/plugin_configs/emq_retainer", map[string]string{"retainer.max_message_num": "1"})
		pub.publish(t, "r/big", 1, true, "12345") // the size has its default again, the number has not
		sub.want(t, "r/big", "12345")
		late := connect(t, n, "late2")
		late.subscribe(t, "r/+", 1)
		late.want(t, "r/1", "kept")
		late.wantNothing(t, "topic above retainer.max_retained_messages")
	})
	t.Run("a bad value changes nothing", func(t *testing.T) {
		path := "/api/v3/nodes/" + n.Name() + "/plugin_configs/emqx_retainer"
		before := expect(t, n, 200, "GET", path, nil)
		if status, _ := call(t, n, "PUT", path, map[string]string{"retainer.max_payload_size": "much"}); status == 200 {
			t.Error("a size of \"much\" was taken")
		}
		if after := expect(t, n, 200, "GET", path, nil); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("got %v, want %v as before", after, before)
		}
	})
	t.Run("off is off, over a restart too", func(t *testing.T) {
		plugin(t, n, "emqx_retainer", "unload")
		pub.publish(t, "r/2", 1, true, "lost")
		sub.want(t, "r/2", "lost")
		late := connect(t, n, "late3")
		late.subscribe(t, "r/#", 1)
		late.wantNothing(t, "retainer is off")
		stop(t, n)
		n = start(t, settings)
		for _, p := range n.Plugins().List() {
			if p.Name == "retainer" && p.Active {
				t.Error("the retainer is active after a restart, and was unloaded before")
			}
		}
		plugin(t, n, "emq_retainer", "load") // either prefix
		late = connect(t, n, "late4")
		late.subscribe(t, "r/#", 1)
		late.want(t, "r/1", "kept") // what was stored stays while the plugin is off and the node is down
		pub := connect(t, n, "pub2")
		pub.publish(t, "r/1", 1, true, "again")
		late.want(t, "r/1", "again")
		late = connect(t, n, "late5")
		late.subscribe(t, "r/#", 1)
		late.want(t, "r/1", "again")
		rows := expect(t, n, 200, "GET", "/api/v3/nodes/"+n.Name()+"/plugin_configs/emqx_retainer", nil)
		for _, want := range []string{"key:retainer.max_retained_messages required:true value:1]", "key:retainer.max_payload_size required:true value:1MB]"} {
			if !strings.Contains(fmt.Sprint(rows), want) {
				t.Errorf("got %v, want %s as before the restart", rows, want)
			}
		}
	})
}

func TestPresence(t *testing.T) {
	n := start(t, nil)
	watch := connect(t, n, "watch")
	watch.subscribe(t, "$SYS/brokers/+/clients/c1/#", 1)
	c := connect(t, n, "c1", credentials("u", "p"))
	var m message
	select {
	case m = <-watch.got:
	case <-time.After(5 * time.Second):
		t.Fatal("no message about the new client")
	}
	if want := "$SYS/brokers/" + n.Name() + "/clients/c1/connected"; m.topic != want {
		t.Errorf("got topic %q, want %q", m.topic, want)
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(m.payload), &body); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"clientid": "c1", "username": "u", "ipaddress": "127.0.0.1", "connack": 0.0, "proto_name": "MQTT",
		"proto_ver": 4.0, "keepalive": 30.0, "clean_start": true,
	} {
		if body[key] != want {
			t.Errorf("%s: got %v, want %v", key, body[key], want)
		}
	}
	if ts, _ := body["ts"].(float64); time.Since(time.Unix(int64(ts), 0)).Abs() > time.Minute {
		t.Errorf("ts: got %v, want now", body["ts"])
	}
	c.Disconnect(50)
	select {
	case m = <-watch.got:
	case <-time.After(5 * time.Second):
		t.Fatal("no message about the client that left")
	}
	if !strings.HasSuffix(m.topic, "/c1/disconnected") || !strings.Contains(m.payload, `"reason":"normal"`) {
		t.Errorf("got %v, want disconnected with reason normal", m)
	}
	plugin(t, n, "emqx_modules", "unload")
	connect(t, n, "c1")
	watch.wantNothing(t, "modules are unloaded")
}

func TestAutomaticSubscription(t *testing.T) {
	n := start(t, map[string]string{
		"module.subscription": "on", "module.subscription.1.topic": "$client/%c", "module.subscription.1.qos": "1",
		"module.subscription.2.topic": "user/%u",
	})
	c := connect(t, n, "c1", credentials("u1", "x"))
	rows := expect(t, n, 200, "GET", "/api/v3/subscriptions/c1", nil)
	want := fmt.Sprintf("[map[client_id:c1 node:%[1]s qos:1 topic:$client/c1] map[client_id:c1 node:%[1]s qos:1 topic:user/u1]]", n.Name())
	if fmt.Sprint(rows) != want {
		t.Errorf("got %v, want %v", rows, want)
	}
	connect(t, n, "other").publish(t, "$client/c1", 1, false, "hello")
	c.want(t, "$client/c1", "hello")
}

func TestRewrite(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl.conf")
	writeFile(t, acl, `{deny, all, pubsub, ["secret/#"]}. {allow, all}.`)
	n := start(t, map[string]string{
		"module.rewrite": "on", "module.rewrite.rule.1": "x/# ^x/y/(.+)$ z/y/$1", "module.rewrite.rule.2": "s/+ ^s/(.+)$ secret/$1",
		"mqtt.acl_file": acl,
	})
	sub, pub := connect(t, n, "sub"), connect(t, n, "pub")
	sub.subscribe(t, "x/y/1", 1) // becomes z/y/1
	pub.publish(t, "x/y/1", 1, false, "rewritten")
	sub.want(t, "z/y/1", "rewritten")
	pub.publish(t, "x/other", 1, false, "the rule's expression does not match")
	sub.subscribe(t, "#", 1)
	pub.publish(t, "s/1", 1, false, "the target is denied")
	sub.wantNothing(t, "a rewrite may not go around the access rules")

	// The label of an API call is no client, whatever client has the same name.
	writeFile(t, acl, `{deny, {client, "http"}, publish, ["z/#"]}. {allow, all}.`)
	expect(t, n, 200, "POST", "/api/node/reload", nil)
	connect(t, n, "http").publish(t, "x/y/2", 1, false, "of the client")
	expect(t, n, 200, "POST", "/api/v3/mqtt/publish", map[string]any{"topic": "x/y/2", "payload": "of the API", "client_id": "http"})
	sub.want(t, "z/y/2", "of the API")
}

func TestDelayedPublish(t *testing.T) {
	n := start(t, map[string]string{"delayed_publish.max_messages": "2"})
	sub, pub := connect(t, n, "sub"), connect(t, n, "pub")
	sub.subscribe(t, "d/#", 1)
	begin := time.Now()
	pub.publish(t, "$delayed/1/d/late", 1, false, "later")
	pub.publish(t, "d/now", 1, false, "first")
	sub.want(t, "d/now", "first")
	sub.want(t, "d/late", "later")
	if d := time.Since(begin); d < 900*time.Millisecond {
		t.Errorf("delivered after %v, want 1 s", d)
	}
	pub.publish(t, "$delayed/x/d/bad", 1, false, "no number")
	for i := range 5 {
		pub.publish(t, "$delayed/3600/d/many", 1, false, fmt.Sprint(i)) // three of them are refused
	}
	sub.wantNothing(t, "delayed by an hour")
	plugin(t, n, "emqx_delayed_publish", "unload")
	if waiting, _ := n.Engine().Delayed(); waiting != 2 {
		t.Errorf("got %d messages that wait, want the 2 that were taken", waiting)
	}
	expect(t, n, 200, "PUT", "/api/v3/nodes/"+n.Name()+"/plugin_configs/emqx_delayed_publish", map[string]string{"delayed_publish.max_messages": "3"})
	plugin(t, n, "emqx_delayed_publish", "load")
	pub.publish(t, "$delayed/0/d/zero", 1, false, "at once")
	sub.want(t, "d/zero", "at once")
}

func TestRecon(t *testing.T) {
	n := start(t, nil)
	vm := expect(t, n, 200, "GET", "/api/node/vm", nil)
	if g := vm.(map[string]any)["scheduler"].(map[string]any)["goroutines"].(float64); g < 5 {
		t.Errorf("got %v goroutines", g)
	}
	expect(t, n, 200, "POST", "/api/node/vm/gc", nil)
	if p := expect(t, n, 200, "GET", "/api/node/vm/profiles/goroutine?debug=1", nil); !strings.Contains(fmt.Sprint(p), "goroutine profile:") {
		t.Errorf("got %.80v, want a profile of goroutines", p)
	}
	expect(t, n, 400, "GET", "/api/node/vm/profiles/cpu?seconds=1000", nil)
	if got, _ := callOn(t, "http://"+n.Addr("http management"), "GET", "/api/node/vm", nil); got != 401 && got != 404 {
		t.Errorf("the API listener answers %d, want the node API kept off it", got)
	}
	plugin(t, n, "emqx_recon", "unload")
	expect(t, n, 409, "GET", "/api/node/vm", nil)
}

func TestReloader(t *testing.T) {
	dir := t.TempDir()
	acl, file := filepath.Join(dir, "acl.conf"), filepath.Join(dir, "lacewing.conf")
	writeFile(t, acl, "{allow, all}.\n")
	writeFile(t, file, "mqtt.allow_anonymous = true\n")
	load := func() (*config.Config, error) {
		return config.Load(node.Table(), config.LoadOptions{File: file, Set: []string{
			"node.data_dir=" + filepath.Join(dir, "data"), "listener.tcp.external=127.0.0.1:0", "listener.tcp.internal=off",
			"listener.ssl.external=off", "listener.ws.external=off", "listener.wss.external=off", "cluster.listen=127.0.0.1:0",
			"management.listener.http=127.0.0.1:0", "dashboard.listener.http=127.0.0.1:0",
			"mqtt.acl_file=" + acl, "reloader.interval=100ms",
		}})
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	n, err := run(t, node.Options{Config: cfg, Load: load, ConfigFile: file})
	if err != nil {
		t.Fatal(err)
	}
	plugin(t, n, "emqx_reloader", "load")

	sub, pub := connect(t, n, "sub"), connect(t, n, "pub")
	sub.subscribe(t, "a/#", 1)
	pub.publish(t, "a/1", 1, false, "allowed")
	sub.want(t, "a/1", "allowed")
	writeFile(t, acl, "{deny, all, publish, [\"a/#\"]}.\n{allow, all}.\n")
	topics := 1
	eventually(t, "the new rules deny", func() bool {
		for {
			select {
			case <-sub.got:
				continue
			default:
			}
			break
		}
		topics++ // what was allowed once is remembered
		pub.publish(t, fmt.Sprint("a/", topics), 1, false, "?")
		time.Sleep(20 * time.Millisecond)
		return len(sub.got) == 0
	})
	writeFile(t, acl, "{deny all.") // refused: the old rules stay
	writeFile(t, file, "# changed\nmqtt.allow_anonymous = false\n")
	eventually(t, "the new configuration is in effect", func() bool { return !n.Config().Bool("mqtt.allow_anonymous") })
	if _, err := dial(t, n, "anonymous"); err == nil {
		t.Error("an anonymous client was let in")
	}
	writeFile(t, file, "# needs a restart\nmqtt.allow_anonymous = true\nnode.name = other@127.0.0.1\n")
	time.Sleep(300 * time.Millisecond) // nothing to wait for: it must not happen
	if n.Config().Bool("mqtt.allow_anonymous") {
		t.Error("a file that needs a restart was taken in part")
	}
	writeFile(t, file, "mqtt.allow_anonymous = true\n#\n")
	eventually(t, "the file that is good again is in effect", func() bool { return n.Config().Bool("mqtt.allow_anonymous") })
}

func TestListenersMayNotBeCutOff(t *testing.T) {
	n := start(t, nil)
	path := "/api/v3/nodes/" + n.Name() + "/plugins/"
	if status, body := call(t, n, "PUT", path+"emqx_dashboard/unload", nil); status != 500 {
		t.Errorf("unload of the listener that the call came through: got %d %v, want a refusal", status, body)
	}
	expect(t, n, 200, "PUT", path+"emqx_management/unload", nil)
	if a := n.Addr("http management"); a != "" {
		t.Errorf("the API listener is still open on %s", a)
	}
	rows := expect(t, n, 200, "GET", "/api/v3/nodes/"+n.Name()+"/listeners", nil)
	if strings.Contains(fmt.Sprint(rows), "http:management") {
		t.Errorf("a closed listener is listed: %v", rows)
	}
	if err := n.Plugins().Unload(t.Context(), "dashboard"); err == nil {
		t.Error("the last listener of the API was closed")
	}
	expect(t, n, 200, "PUT", path+"emqx_management/load", nil)
	if n.Addr("http management") == "" {
		t.Error("the API listener is not open again")
	}
	expect(t, n, 500, "PUT", path+"emqx_management/load", nil)
	expect(t, n, 404, "PUT", path+"emqx_nosuch/load", nil)
	expect(t, n, 500, "PUT", path+"emqx_coap/load", nil)
}

func TestListenersMove(t *testing.T) {
	n := start(t, nil)
	path := "/api/v3/nodes/" + n.Name() + "/plugin_configs/emqx_dashboard"
	config := func(change ...string) map[string]string {
		set := map[string]string{}
		for _, row := range expect(t, n, 200, "GET", path, nil).([]any) {
			r := row.(map[string]any)
			if r["required"] == true {
				set[r["key"].(string)] = r["value"].(string)
			}
		}
		for i := 0; i < len(change); i += 2 {
			set[change[i]] = change[i+1]
		}
		return set
	}
	before := n.Addr("http dashboard")
	expect(t, n, 200, "PUT", path, config()) // nothing new
	if got := n.Addr("http dashboard"); got != before {
		t.Errorf("an unchanged listener has moved from %s to %s", before, got)
	}
	// The call comes through the listener that it changes, and is answered.
	expect(t, n, 200, "PUT", path, config("dashboard.listener.http", "0", "dashboard.listener.https", "127.0.0.1:0"))
	if n.Addr("http dashboard") == before || n.Addr("https dashboard") == "" {
		t.Errorf("got %v, want another address, and HTTPS", n.Listening())
	}
	t.Run("an address in use", func(t *testing.T) {
		was := n.Addr("http dashboard")
		if status, body := call(t, n, "PUT", path, config("dashboard.listener.http", n.Addr("http management"))); status == 200 {
			t.Errorf("taken: %v", body)
		}
		if got := n.Addr("http dashboard"); got != was {
			t.Errorf("got %s, want %s as before", got, was)
		}
		expect(t, n, 200, "GET", path, nil)
	})
	t.Run("itself switched off", func(t *testing.T) {
		if status, _ := call(t, n, "PUT", path, config("dashboard.listener.http", "off", "dashboard.listener.https", "off")); status == 200 {
			t.Error("the listener that the call came through was closed")
		}
		expect(t, n, 200, "GET", path, nil)
	})
}
