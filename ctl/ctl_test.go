package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/lacewing-mqtt/lacewing/node"
)

func start(t *testing.T, settings ...string) *node.Node {
	t.Helper()
	all := map[string]string{
		"node.data_dir":         filepath.Join(t.TempDir(), "data"),
		"listener.tcp.external": "127.0.0.1:0", "listener.tcp.internal": "off",
		"listener.ssl.external": "off", "listener.ws.external": "off", "listener.wss.external": "off", "cluster.listen": "127.0.0.1:0",
		"management.listener.http": "127.0.0.1:0", "dashboard.listener.http": "127.0.0.1:0",
	}
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		all[key] = value
	}
	n, err := node.Start(t.Context(), node.Options{Settings: all, Logger: slog.New(slog.DiscardHandler), Release: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return n
}

func dataDir(n *node.Node) string { return n.Config().String("node.data_dir") }

// ctl runs a command on a node.
func ctl(ctx context.Context, n *node.Node, args ...string) (string, error) {
	var out bytes.Buffer
	err := run(ctx, &out, append([]string{"--data-dir", dataDir(n)}, args...))
	return out.String(), err
}

func run(ctx context.Context, out io.Writer, args []string) error {
	c := Command()
	c.SetArgs(args)
	c.SetOut(out)
	c.SilenceErrors, c.SilenceUsage = true, true
	return c.ExecuteContext(ctx)
}

func dial(t *testing.T, n *node.Node, id string) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + n.Addr("mqtt:tcp external")).SetClientID(id).SetAutoReconnect(false).SetCleanSession(false))
	if token := c.Connect(); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatalf("connect %s: %v", id, token.Error())
	}
	t.Cleanup(func() { c.Disconnect(10) })
	return c
}

// step is one command with what its output or its error has in it.
type step struct {
	args string // split at blanks; ~ is a blank within an argument
	want string // in the output
	fail string // in the error
}

func TestCommands(t *testing.T) {
	for _, dialect := range []string{"items", "code"} {
		t.Run(dialect, func(t *testing.T) {
			n := start(t, "management.v3_dialect="+dialect)
			dial(t, n, "dev/1")
			backup := filepath.Join(t.TempDir(), "backup")
			for _, s := range []step{
				{args: "status", want: "Node emqx@127.0.0.1 is started\nlacewing 1.2.3 is running"},
				{args: "broker", want: "emqx@127.0.0.1  Running"},
				{args: "cluster status", want: "member, leader emqx@127.0.0.1"},
				{args: "cluster leave", fail: "the node is alone"},
				{args: "cluster join 127.0.0.1:1", fail: "connection refused"},
				{args: "cluster force-leave nosuch", fail: "no node of that name is a member"},
				{args: "cluster recover", fail: "force has to be true"},
				{args: "cluster recover --force", fail: "the cluster has a leader"},
				{args: "broker stats", want: "connections/count           1"},
				{args: "broker metrics", want: "packets/connect "},
				{args: "broker nosuch", fail: `"nosuch" is neither stats nor metrics`},
				{args: "clients list", want: "dev/1   -     127.0.0.1:"},
				{args: "clients show dev/1", want: "proto_ver    4"},
				{args: "clients show nosuch", fail: "no client nosuch is connected"},
				{args: "sessions list", want: "dev/1   false"},
				{args: "sessions show dev/1", want: "max_inflight        32"},
				{args: "subscriptions add dev/1 a/+/# 1", want: "dev/1 is subscribed to a/+/#"},
				{args: "subscriptions add dev/1 a 3", fail: "none of 0, 1, 2"},
				{args: "subscriptions add nosuch a", fail: "code 112"},
				{args: "subscriptions list", want: "dev/1   a/+/#  1    emqx@127.0.0.1"},
				{args: "subscriptions show dev/1", want: "a/+/#"},
				{args: "routes list", want: "a/+/#  emqx@127.0.0.1"},
				{args: "topics show a/+/#", want: "a/+/#  emqx@127.0.0.1"},
				{args: "subscriptions del dev/1 a/+/#", want: "dev/1 is unsubscribed from a/+/#"},
				{args: "publish r/1 hello --retain --qos 1", want: "published to r/1"},
				{args: "publish a/# x", fail: "bad"},
				{args: "retainer topics", want: "r/1"},
				{args: "retainer clean r/#", want: "1 messages forgotten"},
				{args: "retainer clean a#", fail: "no topic filter"},
				{args: "plugins list", want: "emqx_retainer         true    EMQ X Retainer"},
				{args: "plugins load auth_username", want: "plugin auth_username is loaded"},
				{args: "plugins load auth_username", fail: "plugin auth_username: already_started"},
				{args: "plugins reload auth_username", want: "plugin auth_username is reloaded"},
				{args: "users add bob secret", want: "user bob is added"},
				{args: "users update bob secret2", want: "the password of bob is set"},
				{args: "users list", want: "bob"},
				{args: "users del bob", want: "user bob is deleted"},
				{args: "plugins unload auth_username", want: "plugin auth_username is unloaded"},
				{args: "plugins unload auth_username", fail: "plugin auth_username: not_started"},
				{args: "plugins reload auth_username", fail: "not started"},
				{args: "plugins load coap", fail: "plugin coap: not_found"},
				{args: "plugins config retainer retainer.max_payload_size=2KB", want: "plugin retainer is configured"},
				{args: "plugins config retainer", want: "retainer.max_payload_size       2KB"},
				{args: "plugins config retainer retainer.max_payload_size=big", fail: "is not a size"},
				{args: "plugins load auth_clientid", want: "is loaded"},
				{args: "clientid add c1 secret", want: "client id c1 is added"},
				{args: "clientid update c1 secret2", want: "is set"},
				{args: "clientid list", want: "c1"},
				{args: "clientid del c1", want: "is deleted"},
				{args: "listeners", want: "http:dashboard"},
				{args: "configs set mqtt.allow_anonymous false", want: "mqtt.allow_anonymous is false"},
				{args: "configs list mqtt.allow", want: "mqtt.allow_anonymous  false  cluster override  true"},
				{args: "configs set node.name a@b", fail: "takes effect at the next start"},
				{args: "configs set nosuch 1", fail: "unknown key nosuch"},
				{args: "admins add eve pw viewer", want: "admin user eve is made"},
				{args: "admins passwd eve pw2", want: "the password of eve is set"},
				{args: "admins passwd nosuch pw2", fail: "no admin user of that name"},
				{args: "admins list", want: "eve    viewer"},
				{args: "admins del admin", fail: "annot delete admin"},
				{args: "mgmt insert app My~App --secret s3 --expired 2030-01-02", want: "AppSecret: s3"},
				{args: "mgmt insert app Again", fail: "alread_existed"},
				{args: "mgmt lookup app", want: "secret   s3"},
				{args: "mgmt lookup nosuch", fail: "no application nosuch"},
				{args: "mgmt update app false", want: "status false"},
				{args: "mgmt list", want: "app  My App  false   2030-01-02 00:00:00"},
				{args: "mgmt insert app2 X --expired soon", fail: `"soon" is no time`},
				{args: "banned add ip_address 10.0.0.1 --reason why", want: "ip_address 10.0.0.1 is banned"},
				{args: "banned add ip_address nowhere", fail: "address"},
				{args: "banned list", want: "ip_address  10.0.0.1  never  ctl  why"},
				{args: "banned del ip_address 10.0.0.1", want: "is not banned"},
				{args: "acl reload", want: "read again: acl"},
				{args: "acl clean dev/1 a/b", want: "decision on a/b for dev/1 is forgotten"},
				{args: "reload", want: "read again: acl, certificates"},
				{args: "reload configuration", fail: "without a configuration file"},
				{args: "alarms", want: ""},
				{args: "log level debug", want: "log level is debug"},
				{args: "log level", want: "debug\n"},
				{args: "log level loud", fail: "level loud: "},
				{args: "vm", want: "goroutines"},
				{args: "vm gc", want: "bytes freed"},
				{args: "vm profile goroutine --debug 1 -o -", want: "goroutine profile:"},
				{args: "backup " + backup, want: "metadata written to"},
				{args: "mgmt delete app", want: "application app is deleted"},
				{args: "plugins load auth_username", want: "is loaded"},
				{args: "restore " + backup, want: "metadata is that of"},
				{args: "mgmt list", want: "app  My App"},
				{args: "plugins list --json", want: `{"active":false,"description":"EMQ X Authentication with Username/Password","name":"emqx_auth_username"}`},
				{args: "restore " + backup + "x", fail: "no such file"},
				{args: "clients kick dev/1", want: "client dev/1 is disconnected"},
				{args: "clients kick dev/1", fail: "client dev/1: not_found"},
				{args: "sessions drop dev/1", want: "session dev/1 is gone"},
				{args: "sessions drop dev/1", fail: "no session of that client"},
				{args: "nosuch", fail: `unknown command "nosuch"`},
				{args: "clients nosuch", fail: `unknown command "nosuch"`},
				{args: "clients kick", fail: "usage: ctl clients kick <clientid>"},
			} {
				args := strings.Fields(s.args)
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "~", " ")
				}
				out, err := ctl(t.Context(), n, args...)
				switch {
				case s.fail == "" && err != nil:
					t.Errorf("%s: %v", s.args, err)
				case s.fail != "" && (err == nil || !strings.Contains(err.Error(), s.fail)):
					t.Errorf("%s: got error %v, want %q in it", s.args, err, s.fail)
				case !strings.Contains(single(out), single(s.want)):
					t.Errorf("%s: got\n%swant %q in it", s.args, out, s.want)
				}
			}
		})
	}
}

// single puts one blank in place of each row of blanks.
func single(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestJSON(t *testing.T) {
	n := start(t)
	dial(t, n, "c1")
	for _, args := range []string{
		"status", "broker", "broker stats", "clients list", "clients show c1", "sessions list", "subscriptions list", "routes list", "plugins list",
		"listeners", "cluster status", "configs list", "admins list", "mgmt list", "banned list", "alarms", "vm", "retainer info", "acl reload", "users list",
	} {
		out, err := ctl(t.Context(), n, append(strings.Fields(args), "--json")...)
		if args == "users list" {
			continue // the plugin is not loaded: either answer is one
		}
		var v any
		if err != nil || json.Unmarshal([]byte(out), &v) != nil {
			t.Errorf("%s: got %v %q, want JSON", args, err, out)
		}
	}
}

func TestOverHTTP(t *testing.T) {
	n := start(t)
	url := "http://" + n.Addr("http dashboard")
	var out bytes.Buffer
	if err := run(t.Context(), &out, []string{"--url", url, "--user", "admin:public", "status"}); err != nil || !strings.Contains(out.String(), "is started") {
		t.Errorf("got %v %q", err, out.String())
	}
	t.Setenv("LACEWING_PASSWORD", "public")
	if err := run(t.Context(), &out, []string{"--url", url, "--user", "admin", "mgmt", "list"}); err != nil {
		t.Errorf("password of the environment: %v", err)
	}
	for _, c := range []struct{ args, want string }{
		{"--url " + url + " --user admin:wrong status", "user or password refused"},
		{"--url " + url + " status", "needs --user"},
		{"--url nowhere --user a:b status", "does not begin with http://"},
		{"--url http://127.0.0.1:1 --user a:b status", "the node does not answer"},
	} {
		if err := run(t.Context(), &out, strings.Fields(c.args)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", c.args, err, c.want)
		}
	}
}

// output is written by a command while the test reads it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func TestTrace(t *testing.T) {
	n := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	done := make(chan error, 1)
	go func() { done <- run(ctx, &out, []string{"--data-dir", dataDir(n), "trace", "client", "traced"}) }()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(out.String(), "-> PUBLISH t/1") {
		if time.Now().After(deadline) {
			t.Fatalf("the trace shows\n%s", out.String())
		}
		c := dial(t, n, "traced") // again and again: the trace may not have begun
		c.Publish("t/1", 1, false, "12345").WaitTimeout(time.Second)
		c.Disconnect(10)
		time.Sleep(20 * time.Millisecond)
	}
	dial(t, n, "traced").Disconnect(10)
	for !strings.Contains(out.String(), "-> CONNECT") && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	for _, want := range []string{"traced -> CONNECT", "traced <- CONNACK", "qos=1", "5 bytes", "traced <- PUBACK"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the trace does not show %q:\n%s", want, out.String())
		}
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted trace: got %v", err)
	}
	if _, err := ctl(t.Context(), n, "trace", "topic", "a/#/b"); err == nil || !strings.Contains(err.Error(), "no topic filter") {
		t.Errorf("bad filter: got %v", err)
	}
}

func TestHelpNeedsNoNode(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, args := range [][]string{{}, {"clients"}, {"mgmt", "insert", "--help"}} {
		var out bytes.Buffer
		if err := run(t.Context(), &out, args); err != nil || !strings.Contains(out.String(), "Usage:") {
			t.Errorf("%v: got %v %q", args, err, out.String())
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), &out, []string{"status"}); err == nil || !strings.Contains(err.Error(), "no node runs on the data directory data") {
		t.Errorf("got %v", err)
	}
}

func TestCleanOutput(t *testing.T) {
	if got := clean("a\x1b[2Jb\u009bc\n"); strings.ContainsAny(got, "\x1b\u009b\n") {
		t.Errorf("got %q, want no control characters", got)
	}
}
