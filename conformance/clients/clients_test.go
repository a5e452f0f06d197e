package clients

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/lacewing-mqtt/lacewing/node"
)

const patience = 20 * time.Second

// carriers are the ways to the broker: URL scheme and the listener behind it.
var carriers = []struct{ scheme, listener, path string }{
	{"mqtt", "mqtt:tcp external", ""},
	{"mqtts", "mqtt:ssl external", ""},
	{"ws", "mqtt:ws external", "/mqtt"},
	{"wss", "mqtt:wss external", "/mqtt"},
}

// broker starts a node with all four kinds of MQTT listener on free ports.
func broker(t *testing.T) *node.Node {
	t.Helper()
	n, err := node.Start(t.Context(), node.Options{
		Settings: map[string]string{
			"node.data_dir":            t.TempDir(),
			"listener.tcp.external":    "127.0.0.1:0",
			"listener.tcp.internal":    "off",
			"listener.ssl.external":    "127.0.0.1:0",
			"listener.ws.external":     "127.0.0.1:0",
			"listener.wss.external":    "127.0.0.1:0",
			"cluster.listen":           "127.0.0.1:0",
			"management.listener.http": "127.0.0.1:0",
			"dashboard.listener.http":  "127.0.0.1:0",
		},
		Output: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed (see tools/setup.sh)", program)
		}
		t.Skipf("%s is not installed (see tools/setup.sh)", program)
	}
}

func TestClients(t *testing.T) {
	n := broker(t)
	for _, c := range carriers {
		address := n.Addr(c.listener)
		t.Run(c.scheme+"/mqttjs", func(t *testing.T) { mqttjs(t, c.scheme+"://"+address+c.path) })
		t.Run(c.scheme+"/paho3", func(t *testing.T) { pahoV3(t, c.scheme+"://"+address+c.path) })
	}
	for _, c := range carriers[:2] {
		t.Run(c.scheme+"/paho5", func(t *testing.T) { pahoV5(t, c.scheme == "mqtts", n.Addr(c.listener)) })
		t.Run(c.scheme+"/mosquitto", func(t *testing.T) {
			certificate := filepath.Join(n.Config().String("node.data_dir"), "certs", "cert.pem")
			mosquitto(t, c.scheme == "mqtts", n.Addr(c.listener), certificate)
		})
	}
}

func mqttjs(t *testing.T, url string) {
	need(t, "node")
	if _, err := os.Stat("node_modules/mqtt"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("npm packages are missing (see tools/setup.sh)")
		}
		t.Skip("npm packages are missing (see tools/setup.sh)")
	}
	for _, version := range []string{"3", "4", "5"} {
		t.Run("v"+version, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			out, err := exec.CommandContext(ctx, "node", "mqttjs.mjs", url, version).Output()
			var report struct {
				OK     bool
				Checks int
				Error  string
			}
			if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
				t.Fatalf("mqttjs.mjs: %v, printed %q", err, out)
			}
			if !report.OK || report.Checks < 8 {
				t.Errorf("got %+v, want at least 8 checks passed", report)
			}
		})
	}
}

func wait(t *testing.T, what string, token paho3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatalf("%s: no answer within %s", what, patience)
	}
	if err := token.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func pahoV3(t *testing.T, broker string) {
	for _, version := range []uint{3, 4} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			u, err := url.Parse(broker)
			if err != nil {
				t.Fatal(err)
			}
			if u.Scheme == "mqtt" {
				u.Scheme = "tcp"
			}
			if u.Scheme == "mqtts" {
				u.Scheme = "ssl"
			}
			messages := make(chan paho3.Message, 16)
			options := paho3.NewClientOptions().AddBroker(u.String()).SetClientID(fmt.Sprintf("paho-%s-%d", u.Scheme, version)).
				SetProtocolVersion(version).SetAutoReconnect(false).SetConnectTimeout(patience).
				SetTLSConfig(&tls.Config{InsecureSkipVerify: true}). // the node's own self-signed certificate
				SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) { messages <- m })
			client := paho3.NewClient(options)
			wait(t, "connect", client.Connect())
			defer client.Disconnect(100)
			topic := "clients/paho3/" + t.Name()
			wait(t, "subscribe", client.Subscribe(topic+"/+", 2, nil))
			for qos := byte(0); qos <= 2; qos++ {
				wait(t, "publish", client.Publish(fmt.Sprintf("%s/%d", topic, qos), qos, false, fmt.Sprintf("qos %d", qos)))
				select {
				case m := <-messages:
					want := fmt.Sprintf("qos %d", qos)
					if string(m.Payload()) != want || m.Qos() != qos {
						t.Errorf("got %q at QoS %d, want %q at QoS %d", m.Payload(), m.Qos(), want, qos)
					}
				case <-time.After(patience):
					t.Fatalf("no message of QoS %d within %s", qos, patience)
				}
			}
			wait(t, "unsubscribe", client.Unsubscribe(topic+"/+"))
		})
	}
}

func pahoV5(t *testing.T, secure bool, address string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var conn net.Conn
	var err error
	if secure {
		conn, err = (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	if err != nil {
		t.Fatal(err)
	}
	messages := make(chan *paho5.Publish, 16)
	client := paho5.NewClient(paho5.ClientConfig{
		Conn: conn,
		OnPublishReceived: []func(paho5.PublishReceived) (bool, error){func(r paho5.PublishReceived) (bool, error) {
			messages <- r.Packet
			return true, nil
		}},
	})
	ack, err := client.Connect(ctx, &paho5.Connect{KeepAlive: 30, ClientID: "paho5-" + address, CleanStart: true})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	if ack.ReasonCode != 0 {
		t.Fatalf("connect: got reason %#x, want 0", ack.ReasonCode)
	}
	topic := "clients/paho5/" + t.Name()
	id := 11
	if _, err := client.Subscribe(ctx, &paho5.Subscribe{
		Subscriptions: []paho5.SubscribeOptions{{Topic: topic, QoS: 2}},
		Properties:    &paho5.SubscribeProperties{SubscriptionIdentifier: &id},
	}); err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	for qos := byte(0); qos <= 2; qos++ {
		if _, err := client.Publish(ctx, &paho5.Publish{
			Topic: topic, QoS: qos, Payload: []byte("five"),
			Properties: &paho5.PublishProperties{
				ContentType: "text/plain", ResponseTopic: "answer", CorrelationData: []byte{1, 2},
				User: paho5.UserProperties{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}},
			},
		}); err != nil {
			t.Fatalf("publish QoS %d: %v", qos, err)
		}
		select {
		case m := <-messages:
			p := m.Properties
			if m.QoS != qos || string(m.Payload) != "five" || p.ContentType != "text/plain" || p.ResponseTopic != "answer" ||
				!bytes.Equal(p.CorrelationData, []byte{1, 2}) || len(p.User) != 2 || p.User[1].Value != "2" ||
				p.SubscriptionIdentifier == nil || *p.SubscriptionIdentifier != id {
				t.Errorf("QoS %d: got %+v with %+v", qos, m, p)
			}
		case <-ctx.Done():
			t.Fatalf("no message of QoS %d", qos)
		}
	}
	if err := client.Disconnect(&paho5.Disconnect{}); err != nil {
		t.Errorf("disconnect: %v", err)
	}
}

func mosquitto(t *testing.T, secure bool, address, certificate string) {
	need(t, "mosquitto_sub")
	need(t, "mosquitto_pub")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			common := []string{"-h", host, "-p", port, "-V", version}
			if secure {
				common = append(common, "--cafile", certificate, "--insecure")
			}
			topic := "clients/mosquitto/" + strings.ReplaceAll(t.Name(), " ", "_")
			// A retained message is there whenever the subscriber comes, so nobody has to wait for the other.
			pub := exec.CommandContext(ctx, "mosquitto_pub", append(common, "-t", topic, "-m", "kept", "-q", "1", "-r")...)
			if out, err := pub.CombinedOutput(); err != nil {
				t.Fatalf("mosquitto_pub: %v\n%s", err, out)
			}
			sub := exec.CommandContext(ctx, "mosquitto_sub", append(common, "-t", topic, "-q", "2", "-C", "1", "-v", "-W", "15")...)
			out, err := sub.CombinedOutput()
			if want := topic + " kept\n"; err != nil || string(out) != want {
				t.Errorf("mosquitto_sub: %v, got %q, want %q", err, out, want)
			}
		})
	}
}
