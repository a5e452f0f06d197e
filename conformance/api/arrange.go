package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// What the examples show of accounts.
const (
	exampleUser     = "test_user"
	examplePassword = "password"
	idlePlugin      = "reloader" // built, off by default
)

// scene is what one example needs on a server. Its undo list is run when the
// answer is there.
type scene struct {
	t       *Target
	ex      openapi.Example // shifted
	clients map[string]*mqttClient
	undo    []func(context.Context) error
}

// arrange makes the world that an example shows.
func (t *Target) arrange(ctx context.Context, ex openapi.Example) (*scene, error) {
	w := &scene{t: t, ex: ex, clients: make(map[string]*mqttClient)}
	if err := errors.Join(w.action(ctx), w.shown(ctx)); err != nil {
		return w, fmt.Errorf("arrange: %w", err)
	}
	return w, nil
}

// close takes the world away again.
func (w *scene) close(ctx context.Context) error {
	var errs []error
	for _, c := range w.clients {
		errs = append(errs, c.leave(ctx, w.t.MQTT))
	}
	for _, undo := range slices.Backward(w.undo) {
		errs = append(errs, undo(ctx))
	}
	return errors.Join(errs...)
}

// after has a call made when the example is over. What it refuses is not of
// interest: the example may have done the same.
func (w *scene) after(c call) {
	w.undo = append(w.undo, func(ctx context.Context) error {
		_, err := w.t.send(ctx, c)
		return err
	})
}

func (w *scene) do(ctx context.Context, c call) error {
	_, err := w.t.data(ctx, c)
	return err
}

// path is a path below the version's prefix.
func (w *scene) path(format string, args ...any) string {
	prefix := "api/v2/"
	if w.t.v3() {
		prefix = "api/v3/"
	}
	return prefix + fmt.Sprintf(format, args...)
}

// refused reports whether the example shows a refusal.
func (w *scene) refused() bool {
	if w.ex.Status >= 300 {
		return true
	}
	m, _ := w.ex.Response.(map[string]any)
	code, _ := m["code"].(float64)
	return code != 0
}

// request is a member of the request's body.
func (w *scene) request(name string) string {
	m, _ := w.ex.Request.(map[string]any)
	s, _ := m[name].(string)
	return s
}

// last is the last level of the path, decoded.
func (w *scene) last() string { return w.level(0) }

// level is a level of the path, decoded, counted from the last one.
func (w *scene) level(fromEnd int) string {
	levels := strings.Split(strings.Trim(w.ex.Path, "/"), "/")
	if fromEnd >= len(levels) {
		return ""
	}
	s, err := url.PathUnescape(levels[len(levels)-1-fromEnd])
	if err != nil {
		return ""
	}
	return s
}

// action arranges what the request acts on.
func (w *scene) action(ctx context.Context) error {
	op, refused := w.ex.Operation, w.refused()
	switch op {
	case "kick_client", "kickout_connection":
		if !refused {
			return w.client(ctx, mqttSpec{ID: w.last()})
		}
	case "clean_acl_cache":
		id := w.level(1) // clients/{id}/clean_acl_cache
		if w.t.v3() {
			id = w.level(2) // connections/{id}/acl/{topic}
		}
		return w.client(ctx, mqttSpec{ID: id})
	case "mqtt_subscribe", "mqtt_unsubscribe":
		if refused {
			return nil
		}
		if err := w.client(ctx, mqttSpec{ID: w.request("client_id")}); err != nil || op == "mqtt_subscribe" {
			return err
		}
		return w.clients[w.request("client_id")].subscribe(w.request("topic"), 0)
	case "lookup_user", "update_user", "delete_user", "change_pwd", "auth_user", "create_user":
		return w.user(ctx)
	case "list_apps", "lookup_app", "update_app", "del_app", "add_app":
		return w.app(ctx)
	case "list_banned", "create_banned", "delete_banned":
		return w.banned(ctx)
	case "switch_plugin", "switch_node_plugin", "load_plugin", "unload_plugin":
		return w.switched(ctx)
	case "update_config", "update_node_config":
		if !refused {
			w.after(call{method: w.ex.Method, path: w.ex.Path, body: object("key", w.request("key"), "value", "true")})
		}
	case "list_node_alarms":
		return w.alarms(ctx)
	case "list_metrics", "list_node_metrics", "list_all_metrics":
		return w.traffic(ctx)
	case "list_stats", "lookup_node_stats", "list_node_stats":
		return w.highs(ctx)
	case "list_listeners", "list_node_listeners":
		return w.connections(ctx)
	}
	return nil
}

// client connects a client, once for each id.
func (w *scene) client(ctx context.Context, s mqttSpec) error {
	if w.clients[s.ID] != nil {
		return nil
	}
	if s.Version == 0 {
		s.Version, s.KeepAlive, s.Clean = 4, 60, true
	}
	c, err := connect(ctx, w.t.MQTT, s)
	if err != nil {
		return err
	}
	w.clients[s.ID] = c
	return nil
}

// shown arranges the rows that the answer shows.
func (w *scene) shown(ctx context.Context) error {
	var errs []error
	rows(w.ex.Response, func(row map[string]any) {
		errs = append(errs, w.row(ctx, row))
	})
	return errors.Join(errs...)
}

// row arranges what one object of the answer shows.
func (w *scene) row(ctx context.Context, row map[string]any) error {
	text := func(key string) string { s, _ := row[key].(string); return s }
	number := func(key string) (int, bool) { f, ok := row[key].(float64); return int(f), ok }
	_, hasName := row["name"]
	id, topic := text("client_id"), text("topic")
	qos, hasQoS := number("qos")
	switch {
	case id != "" && topic != "" && hasQoS: // subscription
		if err := w.client(ctx, mqttSpec{ID: id}); err != nil {
			return err
		}
		return w.clients[id].subscribe(topic, byte(qos))
	case id != "": // connection or session
		s := mqttSpec{ID: id, Username: text("username"), KeepAlive: 60, Version: 4, Clean: true}
		if s.Username == "undefined" {
			s.Username = ""
		}
		if n, ok := number("keepalive"); ok {
			s.KeepAlive = n
		}
		if n, ok := number("proto_ver"); ok {
			s.Version = uint(n)
		}
		for _, key := range []string{"clean_sess", "clean_start"} {
			if clean, ok := row[key].(bool); ok {
				s.Clean = clean
			}
		}
		return w.client(ctx, s)
	case topic != "" && text("node") != "": // route
		const id = "route"
		if err := w.client(ctx, mqttSpec{ID: id}); err != nil {
			return err
		}
		return w.clients[id].subscribe(topic, 0)
	case text("load1") != "" && hasName: // figures of a node
		for _, key := range []string{"clients", "connections"} {
			n, _ := number(key)
			for i := range n {
				if err := w.client(ctx, mqttSpec{ID: fmt.Sprintf("figure-%d", i)}); err != nil {
					return err
				}
			}
		}
	}
	if _, is := row["active"].(bool); is && hasName {
		return w.plugin(ctx, text("name"), row["active"].(bool))
	}
	return nil
}

// rows calls f for every object of an answer, outer ones first.
func rows(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, key := range sortedKeys(v) {
			rows(v[key], f)
		}
	case []any:
		for _, e := range v {
			rows(e, f)
		}
	}
}

// user makes or takes away the account that the examples use.
func (w *scene) user(ctx context.Context) error {
	name := w.last()
	if w.ex.Operation == "auth_user" || w.ex.Operation == "create_user" {
		name = w.request("username")
	}
	if name != exampleUser {
		return nil // the built-in account, or nobody's
	}
	remove := call{on: onDashboard, method: http.MethodDelete, path: w.path("users/%s", name)}
	w.after(remove)
	if w.ex.Operation == "create_user" {
		return nil
	}
	return w.do(ctx, call{on: onDashboard, method: http.MethodPost, path: w.path("users/"),
		body: object("username", name, "password", examplePassword, "tags", "user")})
}

// app makes the application that the examples use.
func (w *scene) app(ctx context.Context) error {
	if w.ex.Operation == "list_apps" { // the list shows nobody else
		if err := w.t.dropApp(ctx); err != nil {
			return err
		}
		w.undo = append(w.undo, w.t.ensureApp)
	}
	id, shown := w.last(), map[string]any{}
	rows(w.ex.Response, func(row map[string]any) {
		if row["app_id"] != nil {
			id, shown = row["app_id"].(string), row
		}
	})
	if w.ex.Operation == "add_app" {
		id = w.request("app_id")
	}
	w.after(call{on: onDashboard, method: http.MethodDelete, path: w.path("apps/%s", id)})
	if w.ex.Operation == "add_app" {
		return nil
	}
	body := []any{"app_id", id, "name", "test", "desc", "Application user", "status", true}
	if secret, ok := shown["secret"]; ok {
		body = append(body, "secret", secret)
	}
	return w.do(ctx, call{on: onDashboard, method: http.MethodPost, path: w.path("apps/"), body: object(body...)})
}

// exampleBan is the entry that the examples of bans are about.
var exampleBan = struct{ as, who string }{"client_id", "clientId/username/ipAddress"}

// banned makes the ban that the list shows or that is to be lifted.
func (w *scene) banned(ctx context.Context) error {
	w.after(call{method: http.MethodDelete, path: w.path("banned/%s?as=%s", url.PathEscape(exampleBan.who), exampleBan.as)})
	body := []any{"who", exampleBan.who, "as", exampleBan.as}
	switch w.ex.Operation {
	case "create_banned":
		return nil
	case "list_banned":
		rows(w.ex.Response, func(row map[string]any) {
			if row["who"] != nil {
				body = append(body, "reason", row["reason"], "desc", row["desc"], "until", row["until"])
			}
		})
	}
	return w.do(ctx, call{method: http.MethodPost, path: w.path("banned/"), body: object(body...)})
}

// switched brings a plugin to the state from which the request leads to the
// answer of the example.
func (w *scene) switched(ctx context.Context) error {
	name, on := w.level(1), w.ex.Operation == "load_plugin"
	if !w.t.v3() {
		m, _ := w.ex.Request.(map[string]any)
		name = w.last()
		on, _ = m["active"].(bool)
	}
	code, message := 0.0, ""
	if m, ok := w.ex.Response.(map[string]any); ok {
		code, _ = m["code"].(float64)
		message, _ = m["message"].(string)
	}
	switch {
	case message == "already_started" || message == "not_started":
		return w.plugin(ctx, name, on)
	case w.ex.Status >= 300 || code != 0:
		return nil // one that nobody has
	}
	return w.plugin(ctx, name, !on)
}

// plugin brings a plugin that the server has to a state and sees to it that it
// gets its old one back.
func (w *scene) plugin(ctx context.Context, name string, active bool) error {
	now, there, err := w.t.pluginState(ctx, name)
	if err != nil || !there {
		return err
	}
	w.undo = append(w.undo, func(ctx context.Context) error {
		left, _, err := w.t.pluginState(ctx, name)
		if err != nil || left == now {
			return err
		}
		return w.t.switchPlugin(ctx, name, now)
	})
	if now == active {
		return nil
	}
	return w.t.switchPlugin(ctx, name, active)
}

// pluginState asks whether a plugin is there and active.
func (t *Target) pluginState(ctx context.Context, name string) (active, there bool, err error) {
	prefix := "api/v2/"
	if t.v3() {
		prefix = "api/v3/"
	}
	data, err := t.data(ctx, call{method: http.MethodGet, path: prefix + "nodes/" + t.Node + "/plugins/"})
	if err != nil {
		return false, false, err
	}
	rows(data, func(row map[string]any) {
		if row["name"] == name {
			active, _ = row["active"].(bool)
			there = true
		}
	})
	return active, there, nil
}

func (t *Target) switchPlugin(ctx context.Context, name string, active bool) error {
	c := call{method: http.MethodPut, path: "api/v2/nodes/" + t.Node + "/plugins/" + name, body: object("active", active)}
	if t.v3() {
		verb := map[bool]string{true: "load", false: "unload"}[active]
		// The plugins that carry the listeners may be switched from the other one only.
		c = call{method: http.MethodPut, path: "api/v3/nodes/" + t.Node + "/plugins/" + name + "/" + verb}
		if strings.HasSuffix(name, "_management") {
			c.on = onDashboard
		}
	}
	_, err := t.data(ctx, c)
	return err
}

// alarms overfills the queue of a session until the server says so.
func (w *scene) alarms(ctx context.Context) error {
	var id, summary string
	rows(w.ex.Response, func(row map[string]any) {
		name, _ := row["id"].(string)
		id, _ = strings.CutPrefix(name, "queue_high_watermark.")
		summary, _ = row["summary"].(string)
	})
	if id == "" {
		return nil // a list without alarms
	}
	var length int
	if _, err := fmt.Sscanf(summary, "queue len %d", &length); err != nil {
		return fmt.Errorf("alarm %q: %w", summary, err)
	}
	if err := w.client(ctx, mqttSpec{ID: id, Version: 4, KeepAlive: 60}); err != nil {
		return err
	}
	const topic = "alarm"
	if err := w.clients[id].subscribe(topic, 1); err != nil {
		return err
	}
	w.clients[id].Disconnect(0)
	if err := w.gone(ctx, id); err != nil {
		return err
	}
	if err := w.client(ctx, mqttSpec{ID: "sender"}); err != nil {
		return err
	}
	for range length {
		if err := w.clients["sender"].publish(topic, 1, []byte("x")); err != nil {
			return err
		}
	}
	return nil
}

// gone waits until nobody is connected under an id.
func (w *scene) gone(ctx context.Context, id string) error {
	path := w.path("clients/%s", url.PathEscape(id))
	if w.t.v3() {
		path = w.path("connections/%s", url.PathEscape(id))
	}
	return poll(ctx, func() (bool, error) {
		data, err := w.t.data(ctx, call{method: http.MethodGet, path: path})
		found := false
		rows(data, func(row map[string]any) { found = found || row["client_id"] == id })
		return !found, err
	})
}

// poll asks until it is so, for at most settle.
func poll(ctx context.Context, so func() (bool, error)) error {
	deadline := time.Now().Add(settle)
	for {
		ok, err := so()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("the server does not come to the state that the example shows")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// settle is how long figures may lag behind: stats are computed once a second.
const settle = 4 * time.Second
