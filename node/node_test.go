package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/lacewing-mqtt/lacewing/node"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// start runs a node on free ports with the given keys over the defaults.
func start(t *testing.T, settings map[string]string) *node.Node {
	t.Helper()
	n, err := tryStart(t, settings)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryStart(t *testing.T, settings map[string]string) (*node.Node, error) {
	t.Helper()
	all := map[string]string{
		"node.data_dir":         filepath.Join(t.TempDir(), "data"),
		"listener.tcp.external": "127.0.0.1:0", "listener.tcp.internal": "off",
		"listener.ssl.external": "off", "listener.ws.external": "off", "listener.wss.external": "off", "cluster.listen": "127.0.0.1:0",
		"management.listener.http": "127.0.0.1:0", "dashboard.listener.http": "127.0.0.1:0",
	}
	maps.Copy(all, settings)
	return run(t, node.Options{Settings: all})
}

// run starts a node and closes it at the end of the test.
func run(t *testing.T, o node.Options) (*node.Node, error) {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	n, err := node.Start(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { stop(t, n) })
	}
	return n, err
}

func stop(t *testing.T, n *node.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// testLog writes log lines to the test.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// message is what a client has received.
type message struct{ topic, payload string }

// client is a connected MQTT 3.1.1 client with what it has received.
type client struct {
	mqtt.Client
	got chan message
}

type clientOption func(*mqtt.ClientOptions)

func credentials(user, password string) clientOption {
	return func(o *mqtt.ClientOptions) { o.SetUsername(user).SetPassword(password) }
}

// dial connects a client or returns why the broker refused it.
func dial(t *testing.T, n *node.Node, id string, opts ...clientOption) (*client, error) {
	t.Helper()
	c := &client{got: make(chan message, 100)}
	o := mqtt.NewClientOptions().AddBroker("tcp://" + n.Addr("mqtt:tcp external")).SetClientID(id).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(5 * time.Second).SetOrderMatters(true)
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.got <- message{m.Topic(), string(m.Payload())} })
	for _, opt := range opts {
		opt(o)
	}
	c.Client = mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(5 * time.Second) {
		return nil, fmt.Errorf("client %s: no CONNACK", id)
	}
	if err := token.Error(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Disconnect(50) })
	return c, nil
}

func connect(t *testing.T, n *node.Node, id string, opts ...clientOption) *client {
	t.Helper()
	c, err := dial(t, n, id, opts...)
	if err != nil {
		t.Fatalf("connect %s: %v", id, err)
	}
	return c
}

func (c *client) subscribe(t *testing.T, filter string, qos byte) {
	t.Helper()
	token := c.Subscribe(filter, qos, nil)
	if !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatalf("subscribe %s: %v", filter, token.Error())
	}
}

func (c *client) publish(t *testing.T, topic string, qos byte, retain bool, payload string) {
	t.Helper()
	token := c.Publish(topic, qos, retain, payload)
	if !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatalf("publish %s: %v", topic, token.Error())
	}
}

// want waits for a message and compares it.
func (c *client) want(t *testing.T, topic, payload string) {
	t.Helper()
	select {
	case m := <-c.got:
		if m.topic != topic || m.payload != payload {
			t.Fatalf("received %q on %q, want %q on %q", m.payload, m.topic, payload, topic)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("received nothing, want %q on %q", payload, topic)
	}
}

// wantNothing checks that nothing came before a message that the client sends to
// itself.
func (c *client) wantNothing(t *testing.T, what string) {
	t.Helper()
	fence := fmt.Sprintf("fence/%s/%p", t.Name(), c)
	c.subscribe(t, fence, 1)
	c.publish(t, fence, 1, false, "fence")
	select {
	case m := <-c.got:
		if m.topic != fence {
			t.Fatalf("%s: received %q on %q, want nothing", what, m.payload, m.topic)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the fence did not come back")
	}
}

// call asks the dashboard listener as admin and returns status and decoded body.
func call(t *testing.T, n *node.Node, method, path string, body any) (int, any) {
	t.Helper()
	return callOn(t, "http://"+n.Addr("http dashboard"), method, path, body)
}

func callOn(t *testing.T, base, method, path string, body any) (int, any) {
	t.Helper()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, in)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "public")
	req.Close = true // no idle connection outlives the test
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	var out any
	if json.Unmarshal(text, &out) != nil {
		out = string(text)
	}
	return resp.StatusCode, out
}

// expect calls and compares the status.
func expect(t *testing.T, n *node.Node, status int, method, path string, body any) any {
	t.Helper()
	got, out := call(t, n, method, path, body)
	if got != status {
		t.Fatalf("%s %s: got %d %v, want %d", method, path, got, out, status)
	}
	return out
}

// plugin switches a plugin by API v3.
func plugin(t *testing.T, n *node.Node, name, verb string) {
	t.Helper()
	expect(t, n, 200, "PUT", "/api/v3/nodes/"+n.Name()+"/plugins/"+name+"/"+verb, nil)
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
