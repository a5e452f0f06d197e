package node_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/node"
)

func TestStartAndStop(t *testing.T) {
	n := start(t, map[string]string{
		"listener.ssl.external": "127.0.0.1:0", "listener.ws.external": "127.0.0.1:0", "listener.wss.external": "127.0.0.1:0",
		"management.listener.https": "127.0.0.1:0", "listener.tcp.second": "127.0.0.1:0",
	})
	for _, name := range []string{"mqtt:tcp external", "mqtt:tcp second", "mqtt:ssl external", "mqtt:ws external", "mqtt:wss external", "http management", "https management", "http dashboard"} {
		if n.Addr(name) == "" {
			t.Errorf("listener %q is not open", name)
		}
	}
	if status, _ := callOn(t, "http://"+n.Addr("http management"), "GET", "/readyz", nil); status != 200 {
		t.Errorf("/readyz: got %d, want 200", status)
	}
	c := connect(t, n, "c")
	stop(t, n)
	eventually(t, "the client is disconnected", func() bool { return !c.IsConnectionOpen() })
	stop(t, n) // once more does no harm
}

func TestConfigurationSurvivesRestart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	settings := map[string]string{"node.data_dir": data, "management.bootstrap_app.id": "boot", "management.bootstrap_app.secret": "s3cret"}
	n := start(t, settings)
	expect(t, n, 200, "PUT", "/api/v3/nodes/"+n.Name()+"/configs/emqx", map[string]string{"key": "zone.external.max_inflight", "value": "7"})
	connect(t, n, "c1")
	inflight := func() string {
		return fmt.Sprint(expect(t, n, 200, "GET", "/api/v3/sessions/c1", nil))
	}
	if got := inflight(); !strings.Contains(got, "max_inflight:7 ") {
		t.Errorf("got %v, want max_inflight 7 at once", got)
	}
	expect(t, n, 201, "POST", "/api/v3/banned", map[string]any{"who": "evil", "as": "client_id"})
	stop(t, n)

	n = start(t, settings)
	connect(t, n, "c1")
	if got := inflight(); !strings.Contains(got, "max_inflight:7 ") {
		t.Errorf("got %v, want max_inflight 7 after the restart", got)
	}
	if _, err := dial(t, n, "evil"); err == nil {
		t.Error("a banned client was let in after the restart")
	}
	secret, err := n.Store().View().Secret(must(n.Store().View().Application("boot")))
	if err != nil || secret != "s3cret" {
		t.Errorf("bootstrap application: got secret %q, %v", secret, err)
	}
	for _, v := range n.Config().Values() {
		if v.Key == "zone.external.max_inflight" && v.Origin.String() != "node" {
			t.Errorf("origin of the changed key: got %v, want node", v.Origin)
		}
	}
}

func must[T any](v T, _ bool) T { return v }

func TestCertificatesAreMadeAndReadAgain(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	n := start(t, map[string]string{"node.data_dir": data, "listener.ssl.external": "127.0.0.1:0", "dashboard.listener.https": "127.0.0.1:0"})
	serial := func(name string) string {
		t.Helper()
		conn, err := tls.Dial("tcp", n.Addr(name), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	mqtt, https := serial("mqtt:ssl external"), serial("https dashboard")
	if mqtt != https {
		t.Errorf("two certificates were made, %s and %s", mqtt, https)
	}
	info, err := os.Stat(filepath.Join(data, "certs", "key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: got %v %v, want mode 0600", info.Mode(), err)
	}
	// Another pair, made by another node.
	other := filepath.Join(t.TempDir(), "data")
	stop(t, start(t, map[string]string{"node.data_dir": other, "listener.ssl.external": "127.0.0.1:0"}))
	for _, name := range []string{"cert.pem", "key.pem"} {
		text, err := os.ReadFile(filepath.Join(other, "certs", name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(data, "certs", name), string(text))
	}
	if err := n.ReloadCertificates(); err != nil {
		t.Fatal(err)
	}
	if got := serial("mqtt:ssl external"); got == mqtt {
		t.Error("MQTT over TLS still shows the old certificate")
	}
	if got := serial("https dashboard"); got == https {
		t.Error("HTTPS still shows the old certificate")
	}
	writeFile(t, filepath.Join(data, "certs", "cert.pem"), "broken")
	now := serial("https dashboard")
	if err := n.ReloadCertificates(); err == nil {
		t.Error("a broken certificate was taken")
	}
	if got := serial("https dashboard"); got != now {
		t.Error("the good certificate is not in use any more")
	}
}

func TestReloadACL(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl.conf")
	writeFile(t, acl, "{allow, all}.")
	n := start(t, map[string]string{"mqtt.acl_file": acl})
	sub := connect(t, n, "sub")
	sub.subscribe(t, "a", 1)
	sub.publish(t, "a", 1, false, "1")
	sub.want(t, "a", "1")
	sub.subscribe(t, "b", 1)
	writeFile(t, acl, `{deny, all, publish, ["a", "b"]}. {allow, all}.`)
	expect(t, n, 200, "POST", "/api/node/reload", nil)
	sub.publish(t, "b", 1, false, "2")
	sub.wantNothing(t, "denied by the new rules")
	sub.publish(t, "a", 1, false, "2")
	sub.want(t, "a", "2") // remembered until it is cleaned
	expect(t, n, 200, "DELETE", "/api/v3/connections/sub/acl/a", nil)
	sub.publish(t, "a", 1, false, "3")
	sub.wantNothing(t, "denied once the decision is forgotten")
	writeFile(t, acl, "{allow")
	if status, body := call(t, n, "POST", "/api/node/reload?what=acl", nil); status != 409 || !strings.Contains(fmt.Sprint(body), "acl.conf:1") {
		t.Errorf("broken rules: got %d %v, want 409 with file and line", status, body)
	}
	sub.publish(t, "a", 1, false, "3")
	sub.wantNothing(t, "the last good rules stay")
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	busy := start(t, map[string]string{"node.data_dir": filepath.Join(dir, "busy")})
	writeFile(t, filepath.Join(dir, "file"), "")
	writeFile(t, filepath.Join(dir, "acl.conf"), "{allow, all}.\n{allow, nobody}.\n")
	newer := filepath.Join(dir, "newer")
	if err := os.MkdirAll(newer, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(newer, "format"), "99\n")
	for _, c := range []struct {
		name     string
		settings map[string]string
		want     string
		code     int
	}{
		{"address in use", map[string]string{"listener.tcp.external": busy.Addr("mqtt:tcp external")}, "is in use by another program", node.ExitListen},
		{"HTTP address in use", map[string]string{"management.listener.http": busy.Addr("http management")}, "is in use by another program", node.ExitListen},
		{"foreign address", map[string]string{"listener.tcp.external": "192.0.2.1:0"}, "is no address of this machine", node.ExitListen},
		{"bad key", map[string]string{"mqtt.allow_anonymos": "true"}, "the nearest is mqtt.allow_anonymous", node.ExitConfig},
		{"bad value", map[string]string{"mqtt.max_packet_size": "big"}, "is not a size", node.ExitConfig},
		{"no certificate", map[string]string{"listener.ssl.external": "127.0.0.1:0", "listener.ssl.external.certfile": filepath.Join(dir, "nosuch"), "listener.ssl.external.keyfile": filepath.Join(dir, "nosuch")}, "nosuch cannot be read: no such file", node.ExitConfig},
		{"certificate without key", map[string]string{"listener.ssl.external": "127.0.0.1:0", "listener.ssl.external.certfile": filepath.Join(dir, "file")}, "certfile and keyfile together", node.ExitConfig},
		{"data directory is a file", map[string]string{"node.data_dir": filepath.Join(dir, "file", "data")}, "cannot be used: not a directory", node.ExitData},
		{"second node", map[string]string{"node.data_dir": filepath.Join(dir, "busy")}, "is in use by another node", node.ExitData},
		{"newer data", map[string]string{"node.data_dir": newer}, "was written by a newer version", node.ExitData},
		{"bad access rule", map[string]string{"mqtt.acl_file": filepath.Join(dir, "acl.conf")}, "acl.conf:2: ", node.ExitConfig},
		{"no access rules", map[string]string{"mqtt.acl_file": filepath.Join(dir, "nosuch.conf")}, "nosuch.conf cannot be read", node.ExitConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tryStart(t, c.settings)
			if err == nil {
				t.Fatal("the node has started")
			}
			if got := err.Error(); !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
				t.Errorf("got %q, want one line with %q", got, c.want)
			}
			if got := node.ExitCode(err); got != c.code {
				t.Errorf("exit code: got %d, want %d", got, c.code)
			}
		})
	}
}

func TestLongDataDirectory(t *testing.T) {
	data := filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "data")
	n := start(t, map[string]string{"node.data_dir": data})
	info, err := os.Stat(filepath.Join(data, node.ControlSocket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("control socket: got %v %v, want mode 0600", info, err)
	}
	if n.Addr("http dashboard") == "" {
		t.Error("not open")
	}
}

func TestBansEnd(t *testing.T) {
	n := start(t, nil)
	var until int64
	for life := 2 * time.Second; ; life *= 2 { // on a busy machine a short ban may be over before somebody tries
		until = time.Now().Add(life).Unix()
		expect(t, n, 201, "POST", "/api/v3/banned", map[string]any{"who": "127.0.0.1", "as": "ip_address", "until": until})
		if _, err := dial(t, n, "c"); err != nil {
			break
		}
		if time.Now().Unix() < until {
			t.Fatal("a banned address was let in")
		}
	}
	eventually(t, "the ban has ended", func() bool { _, err := dial(t, n, "c"); return err == nil })
	if time.Now().Unix() < until {
		t.Error("the ban has ended early")
	}
}

// TestCloseWithClientThatDoesNotRead fills the connection of a client that has
// stopped reading; it may not keep the node from stopping.
func TestCloseWithClientThatDoesNotRead(t *testing.T) {
	n := start(t, nil)
	conn, err := net.Dial("tcp", n.Addr("mqtt:tcp external"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// CONNECT of client "deaf", SUBSCRIBE to "flood" with QoS 0.
	if _, err := conn.Write([]byte("\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04deaf\x82\x0a\x00\x01\x00\x05flood\x00")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the subscription is there", func() bool { return len(n.Engine().SubscriptionsOf("deaf")) == 1 })
	pub := connect(t, n, "pub")
	for range 200 {
		pub.publish(t, "flood", 1, false, strings.Repeat("x", 100_000))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	begin := time.Now()
	if err := n.Close(ctx); err != nil {
		t.Errorf("close: %v after %v", err, time.Since(begin))
	}
}
