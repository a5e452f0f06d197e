package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// stays keeps what has been arranged for as long as the server is used, so that
// the second example of the same figures finds them unchanged. It reports
// whether there is something to arrange.
func (w *scene) stays(name string) bool {
	if w.t.Elsewhere { // there the figures are what they are
		return false
	}
	if _, done := w.t.done[name]; done {
		return false
	}
	w.t.done[name] = func() {}
	return true
}

// keep leaves the clients connected until the server is closed.
func (w *scene) keep(name string) {
	clients := w.clients
	w.clients = make(map[string]*mqttClient)
	w.t.done[name] = func() {
		for _, c := range clients {
			c.Disconnect(0)
		}
	}
}

// traffic makes the packets that the metrics of an example count, to the byte.
func (w *scene) traffic(ctx context.Context) error {
	const name = "traffic"
	if !w.stays(name) {
		return nil
	}
	defer w.keep(name)
	var m map[string]any
	rows(w.ex.Response, func(row map[string]any) {
		if row["packets/connect"] != nil {
			m = row
		}
	})
	n := func(name string) int { f, _ := m[name].(float64); return int(f) }
	connects, subscribes := n("packets/connect"), n("packets/subscribe")
	publishes, deliveries := n("packets/publish/received"), n("packets/publish/sent")
	if connects == 0 {
		return nil
	}
	// A CONNACK has 4 bytes and a SUBACK 5; the rest are deliveries of one size,
	// each publish going to equally many subscribers.
	if publishes == 0 || deliveries%publishes != 0 || deliveries != subscribes {
		return fmt.Errorf("no plan for %d publishes, %d deliveries and %d subscriptions", publishes, deliveries, subscribes)
	}
	size := (n("bytes/sent") - 4*connects - 5*subscribes) / deliveries
	const topic = "/test"                          // and a digit
	payload := make([]byte, size-2-2-len(topic)-1) // header, length of the topic
	perSubscribe := 2 + 2 + 2 + len(topic) + 1 + 1 // header, packet id, length, QoS
	ids := n("bytes/received") - publishes*size - subscribes*perSubscribe - connects*(2+10+2)
	if size < 11 || ids < connects {
		return errors.New("no plan for so few bytes")
	}
	clients := make([]*mqttClient, connects)
	for i := range clients {
		length := ids / connects
		if i < ids%connects {
			length++
		}
		id := fmt.Sprintf("%0*d", length, i)
		if err := w.client(ctx, mqttSpec{ID: id}); err != nil {
			return err
		}
		clients[i] = w.clients[id]
	}
	perTopic := deliveries / publishes
	for i := range subscribes {
		if err := clients[i%connects].subscribe(fmt.Sprint(topic, i/perTopic), 0); err != nil {
			return err
		}
	}
	for i := range publishes {
		if err := clients[0].publish(fmt.Sprint(topic, i), 0, payload); err != nil {
			return err
		}
	}
	// A message of the API that nobody gets is dropped, and is no packet.
	for range n("messages/dropped") {
		if err := w.do(ctx, call{method: http.MethodPost, path: w.path("mqtt/publish"), body: object("topic", "nobody", "payload", "x")}); err != nil {
			return err
		}
	}
	return nil
}

// highs brings the stats to the high-water marks of an example and down again.
func (w *scene) highs(ctx context.Context) error {
	const name = "highs"
	if !w.stays(name) {
		return nil
	}
	var m map[string]any
	rows(w.ex.Response, func(row map[string]any) {
		if row["sessions/max"] != nil {
			m = row
		}
	})
	n := func(name string) int { f, _ := m[name].(float64); return int(f) }
	clients, persistent := n("sessions/max"), n("sessions/persistent/max")
	subscriptions, topics := n("subscriptions/max"), n("topics/max")
	if subscriptions > clients || topics > 1 || subscriptions > 0 && topics == 0 {
		return fmt.Errorf("no plan for %d subscriptions of %d clients to %d topics", subscriptions, clients, topics)
	}
	for i := range clients {
		id := fmt.Sprintf("high-%d", i)
		if err := w.client(ctx, mqttSpec{ID: id, Version: 4, KeepAlive: 60, Clean: i >= persistent}); err != nil {
			return err
		}
		if i < subscriptions {
			if err := w.clients[id].subscribe("/test", 0); err != nil {
				return err
			}
		}
	}
	if clients > 0 {
		if err := w.marked(ctx, m); err != nil {
			return err
		}
	}
	for id, c := range w.clients { // one after the other, that the marks stay
		c.Disconnect(0)
		if err := w.gone(ctx, id); err != nil {
			return err
		}
		if err := c.leave(ctx, w.t.MQTT); err != nil {
			return err
		}
		delete(w.clients, id)
	}
	return nil
}

// marked waits until the stats show the high-water marks of an example.
func (w *scene) marked(ctx context.Context, m map[string]any) error {
	path := w.path("monitoring/stats/%s", w.t.Node)
	if w.t.v3() {
		path = w.path("nodes/%s/stats/", w.t.Node)
	}
	return poll(ctx, func() (bool, error) {
		data, err := w.t.data(ctx, call{method: http.MethodGet, path: path})
		now, _ := data.(map[string]any)
		for name, want := range m {
			if strings.HasSuffix(name, "/max") && now[name] != want {
				return false, err
			}
		}
		return true, err
	})
}

// connections brings a listener to the connections that an example shows as open,
// and to those that it shows as ended.
func (w *scene) connections(ctx context.Context) error {
	// The connection that asks is counted too. There must be one of it.
	w.t.client.CloseIdleConnections()
	const name = "connections"
	if !w.stays(name) {
		return nil
	}
	defer w.keep(name)
	var errs []error
	rows(w.ex.Response, func(row map[string]any) {
		if row["protocol"] != "mqtt:tcp" {
			return
		}
		if ended, ok := row["shutdown_count"].(map[string]any); ok {
			errs = append(errs, w.endedConnections(ctx, ended))
		}
		for _, key := range []string{"current_clients", "current_conns"} {
			open, _ := row[key].(float64)
			for i := range int(open) {
				errs = append(errs, w.client(ctx, mqttSpec{ID: fmt.Sprintf("open-%d", i)}))
			}
		}
	})
	w.t.client.CloseIdleConnections()
	return errors.Join(errs...)
}

func (w *scene) endedConnections(ctx context.Context, byReason map[string]any) error {
	for _, reason := range sortedKeys(byReason) {
		n, _ := byReason[reason].(float64)
		for i := range int(n) {
			id := fmt.Sprintf("%s-%d", reason, i)
			if err := w.client(ctx, mqttSpec{ID: id}); err != nil {
				return err
			}
			c := w.clients[id]
			delete(w.clients, id)
			var err error
			switch reason {
			case "closed":
				err = c.hangUp()
			case "kicked":
				err = w.do(ctx, call{method: http.MethodDelete, path: w.path("connections/%s", id)})
			default:
				err = fmt.Errorf("no plan for connections that end by %q", reason)
			}
			if err != nil {
				return err
			}
			if err := w.gone(ctx, id); err != nil {
				return err
			}
			c.Disconnect(0)
		}
	}
	return nil
}
