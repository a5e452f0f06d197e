package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/node"
	"github.com/lacewing-mqtt/lacewing/openapi"
)

// nodeSettings let a node run beside others: every port is the system's choice,
// the addresses have the form that the documents show.
var nodeSettings = map[string]string{
	"listener.tcp.external":    "0.0.0.0:0",
	"listener.tcp.internal":    "127.0.0.1:0",
	"listener.ssl.external":    "0",
	"listener.ws.external":     "0",
	"listener.wss.external":    "0",
	"management.listener.http": "0",
	"dashboard.listener.http":  "0",
	"cluster.listen":           "127.0.0.1:0",
	"node.cookie":              "conformance",
}

// shownSettings are what the examples of a document show of the configuration.
func shownSettings(doc openapi.Document) map[string]string {
	switch doc {
	case openapi.V2:
		return map[string]string{
			"listener.tcp.external.acceptors":       "16",
			"listener.tcp.external.max_connections": "102400",
			"listener.tcp.internal.acceptors":       "16",
			"listener.tcp.internal.max_connections": "102400",
			"listener.ssl.external.max_connections": "1024",
			"listener.ws.external.max_connections":  "64",
			"listener.wss.external.max_connections": "64",
			"management.listener.http":              "127.0.0.1:0",
			"management.listener.http.acceptors":    "4",
			"management.listener.http.max_clients":  "64",
			"dashboard.listener.http.acceptors":     "2",
		}
	case openapi.V3Code:
		return map[string]string{"management.v3_dialect": "code"}
	}
	return map[string]string{"management.v3_dialect": "items"}
}

// startNode starts a node for a document and closes it with the test.
func startNode(t *testing.T, needs Needs) *Target {
	t.Helper()
	settings := maps.Clone(nodeSettings)
	maps.Copy(settings, shownSettings(needs.Document))
	maps.Copy(settings, needs.Settings)
	settings["node.name"] = NodeName(needs.Document)
	settings["node.data_dir"] = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var log bytes.Buffer
	n, err := node.Start(ctx, node.Options{Settings: settings, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatalf("start node: %v\n%s", err, &log)
	}
	target := &Target{
		Document: needs.Document, Node: settings["node.name"],
		API: "http://" + n.Addr("http management"), Dashboard: "http://" + n.Addr("http dashboard"),
		User: "admin", Password: "public", MQTT: n.Addr("mqtt:tcp external"),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := target.Close(ctx); err != nil {
			t.Errorf("close target: %v", err)
		}
		if err := n.Close(ctx); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return target
}

// lab holds the nodes that a document is replayed on.
type lab struct {
	t     *testing.T
	nodes map[string]*Target
}

func (l *lab) target(needs Needs) *Target {
	key := fmt.Sprint(needs.Fresh, needs.Settings)
	if l.nodes[key] == nil {
		l.nodes[key] = startNode(l.t, needs)
	}
	return l.nodes[key]
}
