package api

import (
	"context"
	"crypto/tls"
	"net/http"
	"testing"
	"time"
)

// TestRestart changes everything that lasts, through both versions, and looks
// for it after a restart on the same data.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	w := start(t, map[string]string{"node.data_dir": dir})
	node := map[string]string{"node": nodeName}
	w.v2.call(request{op: "create_user", body: map[string]any{"username": "kept", "password": "one", "tags": "t"}}).done()
	w.v2.call(request{op: "change_pwd", path: map[string]string{"username": "kept"}, body: map[string]any{"old_pwd": "one", "new_pwd": "two"}}).done()
	secret, _ := at(w.v3d.call(request{op: "add_app", body: map[string]any{"app_id": "kept", "name": "n"}}).value(), "secret").(string)
	w.v3.call(request{op: "create_banned", body: map[string]any{"who": "kept-out", "as": "client_id"}})
	w.v3.call(request{op: "update_config", path: map[string]string{"app": "emqx"}, body: map[string]any{"key": "mqtt.acl_nomatch", "value": "deny"}}).done()
	w.v2.call(request{op: "update_node_config", path: map[string]string{"node": nodeName, "app": "emqttd"}, body: map[string]any{"key": "mqtt.session.max_inflight", "value": "7"}}).done()
	w.v2.call(request{op: "switch_node_plugin", path: map[string]string{"node": nodeName, "name": "emq_recon"}, body: map[string]any{"active": false}}).done()
	w.v3.call(request{op: "load_plugin", path: map[string]string{"node": nodeName, "plugin": "emqx_auth_username"}}).done()
	w.v3.call(request{op: "add_username", body: map[string]any{"username": "device", "password": "pw"}}).done()
	w.v2.call(request{op: "update_plugin_configs", path: map[string]string{"node": nodeName, "plugin": "emq_reloader"}, body: map[string]any{"reloader.interval": "17s"}}).done()

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.node.Close(ctx); err != nil {
		t.Fatalf("close: %v", err)
	}
	w = start(t, map[string]string{"node.data_dir": dir})

	w.v2.as("kept", "two").call(request{op: "list_users"}).rows()
	if a := w.v2.as("kept", "one").call(request{op: "list_users"}); a.status != 401 {
		t.Errorf("the old password: got %d", a.status)
	}
	w.v3.as("kept", secret).call(request{op: "list_brokers"}).rows()
	if _, err := w.dial("kept-out", login("device", "pw")); err == nil {
		t.Error("the banned client was let in")
	}
	device := w.connect("device", login("device", "pw"))
	if _, err := w.dial("other", login("device", "wrong")); err == nil {
		t.Error("a wrong MQTT password was taken")
	}
	rows := w.v3.call(request{op: "get_node_configs", path: node}).rows()
	if len(find(rows, map[string]any{"key": "mqtt.acl_nomatch", "value": "deny"})) != 1 {
		t.Errorf("acl_nomatch is not kept: %v", rows)
	}
	if rows := w.v2.call(request{op: "lookup_session", path: map[string]string{"clientid": device.id}}).rows(); rows[0]["max_inflight"] != 7.0 {
		t.Errorf("max_inflight is %v, want 7", rows[0]["max_inflight"])
	}
	rows = w.v2.call(request{op: "list_node_plugins", path: node}).rows()
	if len(find(rows, map[string]any{"name": "emq_recon", "active": false})) != 1 || len(find(rows, map[string]any{"name": "emq_auth_username", "active": true})) != 1 {
		t.Errorf("the states of the plugins are not kept: %v", rows)
	}
	rows = w.v3.call(request{op: "get_plugin_configs", path: map[string]string{"node": nodeName, "plugin": "emqx_reloader"}}).rows()
	if len(find(rows, map[string]any{"key": "reloader.interval", "value": "17s"})) != 1 {
		t.Errorf("the configuration of the plugin is not kept: %v", rows)
	}
}

// TestLastConfigHolds writes one key for the node and for all nodes in turn.
func TestLastConfigHolds(t *testing.T) {
	w := start(t, nil)
	value := func() any {
		rows := w.v2.call(request{op: "get_node_configs", path: map[string]string{"node": nodeName}}).rows()
		return find(rows, map[string]any{"key": "mqtt.session.max_inflight"})[0]["value"]
	}
	for _, step := range []struct {
		op, value string
		c         client
	}{
		{"update_config", "11", w.v2}, {"update_node_config", "12", w.v2}, {"update_config", "13", w.v3}, {"update_node_config", "14", w.v3},
	} {
		app := map[bool]string{true: "emqttd", false: "emqx"}[step.c.v2()]
		step.c.call(request{op: step.op, path: nodePath(step.c, step.op, map[string]string{"app": app}), body: map[string]any{"key": "mqtt.session.max_inflight", "value": step.value}}).done()
		if got := value(); got != step.value {
			t.Errorf("after %s the value is %v, want %s", step.op, got, step.value)
		}
	}
}

// TestHTTPS asks both listeners over TLS, with the certificate that the node
// makes for itself.
func TestHTTPS(t *testing.T) {
	w := start(t, map[string]string{"management.listener.https": "127.0.0.1:0", "dashboard.listener.https": "127.0.0.1:0"})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	for _, c := range []client{w.v2, w.v3, w.v2d, w.v3d} {
		name := "https management"
		if c.base == w.v2d.base {
			name = "https dashboard"
		}
		c.base, c.http = "https://"+w.node.Addr(name), &http.Client{Transport: transport}
		list, _ := ofNode(c, c.call(request{op: "list_node_listeners", path: map[string]string{"node": nodeName}}), "").([]any)
		found := map[any]bool{}
		for _, l := range list {
			found[l.(map[string]any)["protocol"]] = true
		}
		want := []any{"https:management", "https:dashboard", "http:management", "http:dashboard"}
		if c.v2() {
			want = []any{"mqtt:apis", "dashboard:https", "mqtt:api", "dashboard:http"}
		}
		for _, p := range want {
			if !found[p] {
				t.Errorf("%s: no listener %v in %v", c.doc, p, list)
			}
		}
		c.as("", "").send("GET", "/status", nil).isText(200, "Node "+nodeName+" is started\nemqx is running")
		if a := c.as("", "").send("GET", c.spec().prefix+"/nodes", nil); a.status != 401 {
			t.Errorf("%s without credentials: got %d", c.doc, a.status)
		}
	}
}
