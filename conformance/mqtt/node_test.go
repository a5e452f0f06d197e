package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/node"
)

// nodeSettings are what a node needs to run beside others in one process:
// loopback, free ports, nothing that the suite does not use.
var nodeSettings = map[string]string{
	"listener.tcp.external":    "127.0.0.1:0",
	"listener.tcp.internal":    "off",
	"listener.ssl.external":    "off",
	"listener.ws.external":     "127.0.0.1:0",
	"listener.wss.external":    "off",
	"cluster.listen":           "127.0.0.1:0",
	"management.listener.http": "127.0.0.1:0",
	"dashboard.listener.http":  "off",
	"node.cookie":              "conformance",
}

// startNode starts a Lacewing node in this process. Settings of the plugin
// auth_username load it.
func startNode(settings map[string]string) (*broker, error) {
	dir, err := scratchDir("node-")
	if err != nil {
		return nil, err
	}
	all := maps.Clone(nodeSettings)
	maps.Copy(all, settings)
	all["node.data_dir"] = dir
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log := &logBuffer{}
	n, err := node.Start(ctx, node.Options{Settings: all, Output: log})
	if err != nil {
		return nil, fmt.Errorf("start node: %w\n%s", err, log)
	}
	b := &broker{addr: n.Addr("mqtt:tcp external"), wsAddr: n.Addr("mqtt:ws external"), stop: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return n.Close(ctx)
	}}
	for key := range settings {
		if strings.HasPrefix(key, "auth.user.") {
			if err := n.Plugins().Load(ctx, "auth_username"); err != nil {
				return nil, errors.Join(fmt.Errorf("load auth_username: %w", err), b.stop())
			}
			break
		}
	}
	return b, nil
}

// logBuffer keeps what a node logs while it starts, for the message of a node
// that does not.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 64<<10 { // a running node's log is of no interest
		return len(p), nil
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The account of authBroker.
const (
	testUser = "conformance"
	testPass = "pencil and paper"
)
