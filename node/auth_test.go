package node_test

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/lacewing-mqtt/lacewing/node"
)

func TestAuthUsername(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	settings := map[string]string{
		"node.data_dir": data, "mqtt.allow_anonymous": "false",
		"auth.user.1.username": "configured", "auth.user.1.password": "first",
	}
	n := start(t, settings)
	if _, err := dial(t, n, "c", credentials("configured", "first")); err == nil {
		t.Fatal("let in before the plugin is loaded, with anonymous access off")
	}
	plugin(t, n, "emqx_auth_username", "load")

	refused := func(t *testing.T, n *node.Node, user, password string) {
		t.Helper()
		if _, err := dial(t, n, "c", credentials(user, password)); err == nil {
			t.Errorf("user %q with password %q was let in", user, password)
		}
	}
	connect(t, n, "c", credentials("configured", "first"))
	refused(t, n, "configured", "second")
	refused(t, n, "unknown", "first") // left to others, and there are none
	refused(t, n, "", "")

	t.Run("the calls of 3.1", func(t *testing.T) {
		expect(t, n, 200, "POST", "/api/v3/auth_username", map[string]string{"username": "made", "password": "one"})
		connect(t, n, "c", credentials("made", "one"))
		expect(t, n, 200, "PUT", "/api/v3/auth_username/made", map[string]string{"password": "two"})
		refused(t, n, "made", "one")
		connect(t, n, "c", credentials("made", "two"))
		if out := expect(t, n, 200, "GET", "/api/v3/auth_username/made", nil); strings.Contains(fmt.Sprint(out), "two") {
			t.Errorf("got %v, want no clear password", out)
		}
		expect(t, n, 200, "PUT", "/api/v3/auth_username/configured", map[string]string{"password": "changed"})
	})
	t.Run("anonymous where the table has no such user", func(t *testing.T) {
		expect(t, n, 200, "PUT", "/api/v3/configs/emqx", map[string]string{"key": "mqtt.allow_anonymous", "value": "true"})
		connect(t, n, "c", credentials("unknown", "x"))
		refused(t, n, "made", "one") // a wrong password is refused for good
		if _, err := dial(t, n, "c"); err == nil {
			t.Error("a client without a user name was let in")
		}
		expect(t, n, 200, "PUT", "/api/v3/configs/emqx", map[string]string{"key": "mqtt.allow_anonymous", "value": "false"})
	})
	outer := t
	t.Run("restart", func(t *testing.T) {
		stop(t, n)
		n = start(outer, settings) // the next subtest needs it too
		connect(t, n, "c", credentials("made", "two"))
		connect(t, n, "c", credentials("configured", "changed")) // the file does not set it back
		expect(t, n, 200, "DELETE", "/api/v3/auth_username/made", nil)
		refused(t, n, "made", "two")
	})
	t.Run("unload", func(t *testing.T) {
		plugin(t, n, "emqx_auth_username", "unload")
		refused(t, n, "configured", "changed")
	})
}

func TestAuthClientID(t *testing.T) {
	n := start(t, map[string]string{"auth.client.1.clientid": "dev/1", "auth.client.1.password": "pw", "auth.client.password_hash": "md5"})
	plugin(t, n, "emq_auth_clientid", "load")
	connect(t, n, "dev/1", credentials("any", "pw"))
	if _, err := dial(t, n, "dev/1", credentials("any", "no")); err == nil {
		t.Error("a wrong password was taken")
	}
	connect(t, n, "other", credentials("any", "no")) // not in the table: anonymous access decides
	expect(t, n, 200, "POST", "/api/v3/auth_clientid", map[string]string{"clientid": "other", "password": "x"})
	if _, err := dial(t, n, "other", credentials("any", "no")); err == nil {
		t.Error("a wrong password was taken")
	}
	plugin(t, n, "emq_auth_clientid", "unload")
	connect(t, n, "other", credentials("any", "no"))
}

// scramClient is the client of RFC 5802, written from the RFC and not from the
// plugin.
type scramClient struct {
	user, password string
	first, nonce   string
	signature      []byte // of the server, as it has to be
	verified       bool
}

func (c *scramClient) begin() []byte {
	c.nonce = "rOprNGfwEbeRWgbNEkqO"
	c.first = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(c.user) + ",r=" + c.nonce
	return []byte("n,," + c.first)
}

// Authenticate answers the challenge of the server.
func (c *scramClient) Authenticate(a *paho.Auth) *paho.Auth {
	server := string(a.Properties.AuthData)
	var salt []byte
	var nonce string
	var rounds int
	for _, f := range strings.Split(server, ",") {
		switch f[:2] {
		case "r=":
			nonce = f[2:]
		case "s=":
			salt, _ = base64.StdEncoding.DecodeString(f[2:])
		case "i=":
			rounds, _ = strconv.Atoi(f[2:])
		}
	}
	if !strings.HasPrefix(nonce, c.nonce) || rounds < 4096 {
		nonce = "broken"
	}
	salted, _ := pbkdf2.Key(sha256.New, c.password, salt, max(rounds, 1), 32)
	sum := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	final := "c=biws,r=" + nonce
	message := c.first + "," + server + "," + final
	clientKey := sum(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	proof := sum(stored[:], message)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	c.signature = sum(sum(salted, "Server Key"), message)
	return &paho.Auth{
		ReasonCode: 0x18,
		Properties: &paho.AuthProperties{AuthMethod: "SCRAM-SHA-256", AuthData: []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof))},
	}
}

// Authenticated is called on success.
func (c *scramClient) Authenticated() { c.verified = true }

func TestScram(t *testing.T) {
	n := start(t, map[string]string{
		"mqtt.allow_anonymous": "false", "auth.user.1.username": "a=b,c", "auth.user.1.password": "pencil",
	})
	plugin(t, n, "emqx_auth_username", "load")
	try := func(t *testing.T, user, password string) (*paho.Connack, *scramClient, error) {
		t.Helper()
		conn, err := net.Dial("tcp", n.Addr("mqtt:tcp external"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		auth := &scramClient{user: user, password: password}
		c := paho.NewClient(paho.ClientConfig{Conn: conn, AuthHandler: auth})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		ack, err := c.Connect(ctx, &paho.Connect{
			ClientID: "scram", CleanStart: true, KeepAlive: 30,
			Properties: &paho.ConnectProperties{AuthMethod: "SCRAM-SHA-256", AuthData: auth.begin()},
		})
		if err == nil {
			t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
		}
		return ack, auth, err
	}
	t.Run("right", func(t *testing.T) {
		ack, auth, err := try(t, "a=b,c", "pencil")
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		if want := "v=" + base64.StdEncoding.EncodeToString(auth.signature); string(ack.Properties.AuthData) != want {
			t.Errorf("signature of the server: got %q, want %q", ack.Properties.AuthData, want)
		}
		rows := expect(t, n, 200, "GET", "/api/v3/connections/scram", nil)
		if !strings.Contains(fmt.Sprint(rows), "username:a=b,c") {
			t.Errorf("got %v, want the user name of the exchange", rows)
		}
	})
	for _, c := range []struct{ name, user, password string }{{"wrong password", "a=b,c", "pen"}, {"unknown user", "nobody", "pencil"}} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := try(t, c.user, c.password); err == nil {
				t.Error("let in")
			}
		})
	}
}
