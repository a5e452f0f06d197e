package api

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/lacewing-mqtt/lacewing/node"
	"github.com/lacewing-mqtt/lacewing/openapi"
)

const (
	nodeName  = "emqx@127.0.0.1"
	adminName = "admin"
	adminPass = "public"
	appID     = "conformance"
	appSecret = "conformance-secret"
)

// world is a running node with clients of its APIs.
type world struct {
	t    testing.TB
	node *node.Node
	// v2 and v3 speak to the API listener, v2d and v3d to the dashboard's.
	v2, v3, v2d, v3d client
}

// start runs a node with these settings on top of those of a quiet one.
func start(t testing.TB, settings map[string]string) *world {
	t.Helper()
	all := map[string]string{
		"node.name":                       nodeName,
		"node.data_dir":                   t.TempDir(),
		"listener.tcp.external":           "127.0.0.1:0",
		"listener.tcp.internal":           "off",
		"listener.ssl.external":           "off",
		"listener.ws.external":            "off",
		"listener.wss.external":           "off",
		"cluster.listen":                  "127.0.0.1:0",
		"management.listener.http":        "127.0.0.1:0",
		"dashboard.listener.http":         "127.0.0.1:0",
		"management.bootstrap_app.id":     appID,
		"management.bootstrap_app.secret": appSecret,
		"log.level":                       "error",
	}
	maps.Copy(all, settings)
	n, err := node.Start(context.Background(), node.Options{Settings: all, Output: t.Output()})
	if err != nil {
		t.Fatalf("start node: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	w := &world{t: t, node: n}
	v3 := openapi.V3Items
	if all["management.v3_dialect"] == "code" {
		v3 = openapi.V3Code
	}
	api, dashboard := "http://"+n.Addr("http management"), "http://"+n.Addr("http dashboard")
	w.v2 = client{t: t, base: api, doc: openapi.V2, user: adminName, secret: adminPass}
	w.v3 = client{t: t, base: api, doc: v3, user: appID, secret: appSecret}
	w.v2d = client{t: t, base: dashboard, doc: openapi.V2, user: adminName, secret: adminPass}
	w.v3d = client{t: t, base: dashboard, doc: v3, user: adminName, secret: adminPass}
	return w
}

// in returns the world for a subtest.
func (w *world) in(t testing.TB) *world {
	return &world{t: t, node: w.node, v2: w.v2.in(t), v3: w.v3.in(t), v2d: w.v2d.in(t), v3d: w.v3d.in(t)}
}

var serial atomic.Int64

// unique returns a name that no other test uses.
func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, serial.Add(1)) }

// device is a connected MQTT client.
type device struct {
	paho.Client
	t    testing.TB
	id   string
	got  chan paho.Message
	lost chan error
}

// connect connects a client; options may change anything before.
func (w *world) connect(id string, options ...func(*paho.ClientOptions)) *device {
	w.t.Helper()
	d, err := w.dial(id, options...)
	if err != nil {
		w.t.Fatalf("connect %s: %v", id, err)
	}
	return d
}

// dial is connect for connections that may be refused.
func (w *world) dial(id string, options ...func(*paho.ClientOptions)) (*device, error) {
	w.t.Helper()
	d := &device{t: w.t, id: id, got: make(chan paho.Message, 1024), lost: make(chan error, 1)}
	o := paho.NewClientOptions().AddBroker("tcp://" + w.node.Addr("mqtt:tcp external")).SetClientID(id).
		SetAutoReconnect(false).SetProtocolVersion(4).SetConnectTimeout(5 * time.Second)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { d.got <- m })
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { d.lost <- err })
	for _, f := range options {
		f(o)
	}
	d.Client = paho.NewClient(o)
	token := d.Connect()
	if !token.WaitTimeout(10 * time.Second) {
		return nil, fmt.Errorf("no CONNACK for %s", id)
	}
	if err := token.Error(); err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { d.Disconnect(50) })
	return d, nil
}

func persistent(o *paho.ClientOptions) { o.SetCleanSession(false) }

func login(name, password string) func(*paho.ClientOptions) {
	return func(o *paho.ClientOptions) { o.SetUsername(name).SetPassword(password) }
}

// subscribe subscribes and waits for the SUBACK.
func (d *device) subscribe(filter string, qos byte) {
	d.t.Helper()
	wait(d.t, d.Subscribe(filter, qos, nil), "subscribe "+filter)
}

// publish publishes and waits for the acknowledgement.
func (d *device) publish(topic string, qos byte, retain bool, payload string) {
	d.t.Helper()
	wait(d.t, d.Publish(topic, qos, retain, payload), "publish "+topic)
}

// message waits for a message.
func (d *device) message() paho.Message {
	d.t.Helper()
	select {
	case m := <-d.got:
		return m
	case <-time.After(10 * time.Second):
		d.t.Fatalf("%s: no message", d.id)
		return nil
	}
}

// closed waits until the connection is closed by the broker.
func (d *device) closed() {
	d.t.Helper()
	select {
	case <-d.lost:
	case <-time.After(10 * time.Second):
		d.t.Fatalf("%s: still connected", d.id)
	}
}

func wait(t testing.TB, token paho.Token, what string) {
	t.Helper()
	if !token.WaitTimeout(10 * time.Second) {
		t.Fatalf("%s: no acknowledgement", what)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// eventually polls until f reports true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
