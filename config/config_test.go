package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
)

func file(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lacewing.conf")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPrecedence(t *testing.T) {
	conf := file(t, "\ufeff# comment\r\n\r\nnode.name = file@h\r\nlog.level=info\nmqtt.max_clientid_len = 100\nzone.external.max_inflight = 1\n")
	c := load(t, config.LoadOptions{
		File:    conf,
		Environ: []string{"PATH=/bin", "LACEWING_LOG__LEVEL=debug", "LACEWING_MQTT__MAX_CLIENTID_LEN=200", "LACEWING_SERVICE_HOST=10.0.0.1", "LACEWING_PORT=tcp://10.0.0.1:1883"},
		Set:     []string{"mqtt.max_clientid_len=300", "mqtt.session.max_inflight = 2"},
	})
	c, err := c.With(config.Overrides{
		Cluster: map[string]string{"mqtt.max_packet_size": "2MB", "zone.external.max_inflight": "3", "mqtt.acl_nomatch": "deny"},
		Plugin:  map[string]string{"dashboard.default_user.login": "boss"},
		Node:    map[string]string{"mqtt.max_packet_size": "3MB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		key, text string
		origin    config.Origin
		source    string
	}{
		{"log.format", "text", config.OriginDefault, ""},
		{"node.name", "file@h", config.OriginFile, conf + ":3"},
		{"log.level", "debug", config.OriginEnvironment, "LACEWING_LOG__LEVEL"},
		{"log.console.level", "debug", config.OriginEnvironment, "LACEWING_LOG__LEVEL"},
		{"mqtt.max_clientid_len", "300", config.OriginFlag, "--set"},
		{"zone.external.max_inflight", "3", config.OriginCluster, "cluster override"},
		{"mqtt.acl_nomatch", "deny", config.OriginCluster, "cluster override"},
		{"dashboard.default_user.login", "boss", config.OriginPlugin, "plugin override"},
		{"mqtt.max_packet_size", "3145728", config.OriginNode, "node override"},
		{"zone.external.max_packet_size", "3145728", config.OriginNode, "node override"},
		{"zone.any.max_inflight", "32", config.OriginDefault, ""},
	} {
		origin, source := c.Origin(tc.key)
		if got := c.Text(tc.key); got != tc.text || origin != tc.origin || source != tc.source {
			t.Errorf("%s: got %q of %v (%s), want %q of %v (%s)", tc.key, got, origin, source, tc.text, tc.origin, tc.source)
		}
	}
	base, err := c.With(config.Overrides{})
	if err != nil || base.Int("zone.external.max_inflight") != 2 {
		t.Errorf("without overrides: got %d, %v, want 2", base.Int("zone.external.max_inflight"), err)
	}
}

func TestFaults(t *testing.T) {
	conf := file(t, strings.Join([]string{
		"listener.tcp.external = 1883",
		"mqtt.max_packt_size = 1MB",
		"zone.external.max_inflght = 10",
		"completely.unknown.thing = 1",
		"log.level = loud",
		"no equals sign",
		"log.format = json",
		"log.format = text",
		"zone.external.idle_timeout = 15",
		"mqtt.max_clientid_len = 12 # bytes",
		"dashboard.default_user.password = bad\x01word",
		"listener.tcp.other.acceptors = 4",
		"mqtt.mqueue.low_watermark = 80%",
		"listener.ssl.external.tls_versions = tlsv1.2,sslv3",
		"listener.tcp.external.access.1 = forbid all",
		"listener.tcp.external.access.one = deny all",
		"mqtt.max_topic_alias =",
		"node.name = \xff@h",
		"node.process_limit = 5",
	}, "\n"))
	_, err := config.Load(coreTable(t), config.LoadOptions{
		File:    conf,
		Environ: []string{"LACEWING_NODE__NAME=nohost", "LACEWING_NO__SUCH=1"},
		Set:     []string{"acl_nomatch", "acl_nomatch=perhaps"},
	})
	want := []string{
		conf + ":2: mqtt.max_packt_size: unknown key; the nearest is mqtt.max_packet_size",
		conf + ":3: zone.external.max_inflght: unknown key; the nearest is zone.external.max_inflight",
		conf + ":4: completely.unknown.thing: unknown key",
		conf + `:5: log.level: "loud" is none of debug, info, notice, warning, error, critical, alert, emergency, none`,
		conf + ":6: is not key = value",
		conf + ":8: log.format: is also set in line 7",
		conf + `:9: zone.external.idle_timeout: "15" has no unit: 500ms, 30s, 1h30m`,
		conf + `:10: mqtt.max_clientid_len: "12 # bytes" is not a whole number (a comment needs its own line)`,
		conf + `:11: dashboard.default_user.password: "******" holds a control character`,
		conf + `:14: listener.ssl.external.tls_versions: "tlsv1.2,sslv3" holds "sslv3", which is none of tlsv1.3, tlsv1.2, tlsv1.1, tlsv1`,
		conf + `:15: listener.tcp.external.access.1: "forbid all" is not allow or deny, and all, an address or a CIDR range`,
		conf + ":16: listener.tcp.external.access.one: unknown key; the nearest is listener.tcp.external.access.$N",
		conf + `:17: mqtt.max_topic_alias: "" is not a whole number`,
		conf + ":18: is not UTF-8",
		`LACEWING_NODE__NAME: node.name: "nohost" is not name@host`,
		"LACEWING_NO__SUCH: no.such: unknown key",
		"--set acl_nomatch: has no =",
		`--set: acl_nomatch: "perhaps" is none of allow, deny`,
		conf + ":12: listener.tcp.other.acceptors: belongs to a listener that has no address: listener.tcp.other is not set",
		conf + ":13: mqtt.mqueue.low_watermark: is above mqtt.mqueue.high_watermark",
	}
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("fault %d:\n got  %s\n want %s", i, g, w)
		}
	}
	var f *config.Fault
	if !errors.As(err, &f) || f.Key != "mqtt.max_packt_size" {
		t.Errorf("the first fault: got %+v", f)
	}
	if _, err := config.Load(coreTable(t), config.LoadOptions{File: "testdata/none.conf"}); err == nil || !strings.Contains(err.Error(), "testdata/none.conf: no such file") {
		t.Errorf("no file: got %v", err)
	}
	if _, err := config.Load(coreTable(t), config.LoadOptions{File: file(t, "dashboard.default_user.password = "+strings.Repeat("x", 70<<10))}); err == nil {
		t.Error("a line of 70 KiB: no error")
	}
}

func TestBroughtAlong(t *testing.T) {
	c := load(t, config.LoadOptions{File: "testdata/brought.conf"})
	if got := c.Notices(); len(got) != 9 || !strings.HasSuffix(got[0], ":5: node.process_limit has no effect in Lacewing") || !strings.HasSuffix(got[2], ":9: cluster.autoheal has no effect in Lacewing") {
		t.Errorf("notices: got %d: %s", len(got), strings.Join(got, "\n"))
	}
	if got, want := c.Zones(), []string{"external", "internal", "sensors"}; !slices.Equal(got, want) {
		t.Errorf("zones: got %v, want %v", got, want)
	}
	ext, in, sens := c.Zone("external"), c.Zone("internal"), c.Zone("sensors")
	if ext.AllowAnonymous || !in.AllowAnonymous || sens.AllowAnonymous || !ext.EnableACL || in.EnableACL {
		t.Errorf("anonymous and acl: external %v %v, internal %v %v, sensors %v", ext.AllowAnonymous, ext.EnableACL, in.AllowAnonymous, in.EnableACL, sens.AllowAnonymous)
	}
	if ext.IdleTimeout != 20*time.Second || sens.IdleTimeout != 15*time.Second || sens.MaxInflight != 4 || ext.MaxPacketSize != 2<<20 {
		t.Errorf("external %+v, sensors %+v", ext, sens)
	}
	if want := map[string]int{"alerts/#": 10, "logs": 1}; !reflect.DeepEqual(ext.MqueuePriorities, want) || sens.MqueuePriorities != nil {
		t.Errorf("priorities: got %v and %v, want %v", ext.MqueuePriorities, sens.MqueuePriorities, want)
	}
	ls := c.Listeners()
	var names []string
	for _, l := range ls {
		names = append(names, l.Type+":"+l.Name+" "+l.Address+" "+l.Zone)
	}
	if want := []string{"tcp:external 0.0.0.0:1883 external", "tcp:sensors [::1]:2883 sensors", "ssl:external 8883 external", "ws:external 8083 external", "wss:external 8084 external"}; !slices.Equal(names, want) {
		t.Fatalf("listeners: got %v, want %v", names, want)
	}
	l := ls[0]
	if l.MaxConnections != 4096 || l.ByteRate != 100<<10 || l.ByteBurst != 400<<10 || l.TLS != nil {
		t.Errorf("listener: got %+v", l)
	}
	if len(l.Access) != 3 || l.Access[0].Allow || !l.Access[0].Match(netip.MustParseAddr("::ffff:192.168.0.9")) || l.Access[0].Match(netip.MustParseAddr("10.0.0.1")) || !l.Access[1].Allow || l.Access[2].Allow {
		t.Errorf("access: got %v", l.Access)
	}
	if s := ls[2].TLS; s == nil || !s.VerifyPeer || s.CertFile != "etc/certs/cert.pem" || !slices.Equal(s.Versions, []string{"tlsv1.2", "tlsv1.1"}) || s.HandshakeTimeout != 15*time.Second {
		t.Errorf("tls: got %+v", s)
	}
	if got := config.ListenAddress("8883"); got != ":8883" {
		t.Errorf("listen address: got %s", got)
	}
}

func TestSecret(t *testing.T) {
	const pw = "p4ssw0rd"
	c := load(t, config.LoadOptions{Set: []string{"dashboard.default_user.password=" + pw}})
	s := c.Secret("dashboard.default_user.password")
	if s.Reveal() != pw {
		t.Fatalf("got %q", s.Reveal())
	}
	j, err := json.Marshal(map[string]any{"s": s, "c": c})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "group", struct{ S config.Secret }{s})
	changed, err := c.With(config.Overrides{Node: map[string]string{"dashboard.default_user.password": pw + "2"}})
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"fmt": fmt.Sprintf("%v %s %q %+v %#v %x %d", s, s, s, s, s, s, s), "json": string(j), "slog": log.String(),
		"text": c.Text("dashboard.default_user.password"), "raw": c.Raw("dashboard.default_user.password"),
		"values": fmt.Sprint(c.Values()), "diff": fmt.Sprint(config.Diff(c, changed)), "rows": fmt.Sprint(c.PluginRows("dashboard")),
	} {
		if strings.Contains(text, pw) || strings.Contains(text, fmt.Sprintf("%x", pw)) {
			t.Errorf("%s shows the secret: %s", what, text)
		}
		if !strings.Contains(text, config.Stars) {
			t.Errorf("%s has no stars: %s", what, text)
		}
	}
}

func TestDiff(t *testing.T) {
	a := load(t, config.LoadOptions{Set: []string{"listener.tcp.more=1999"}})
	b := load(t, config.LoadOptions{Set: []string{"mqtt.max_packet_size=2MB", "zone.internal.max_packet_size=4MB", "broker.sys_interval=60s", "node.name=a@b"}})
	var got []string
	for _, c := range config.Diff(a, b) {
		got = append(got, fmt.Sprintf("%s: %s -> %s, hot %v", c.Key, c.Old, c.New, c.Hot))
	}
	want := []string{
		"node.name: emqx@127.0.0.1 -> a@b, hot false",
		"listener.tcp.more: 1999 -> , hot false",
		"mqtt.max_packet_size: 1048576 -> 2097152, hot true",
		"zone.external.max_packet_size: 1048576 -> 2097152, hot true",
		"zone.internal.max_packet_size: 1048576 -> 4194304, hot true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d := config.Diff(a, a); len(d) != 0 {
		t.Errorf("a snapshot with itself: %v", d)
	}
}

func TestOverridesThatDoNotHold(t *testing.T) {
	c := load(t, config.LoadOptions{})
	n, err := c.With(config.Overrides{Cluster: map[string]string{"gone.key": "1", "mqtt.max_qos_allowed": "7", "mqtt.max_topic_levels": "9", "zone.external.idle_timeout": "30000"}})
	if err == nil || !strings.Contains(err.Error(), "gone.key") || !strings.Contains(err.Error(), "max_qos_allowed") {
		t.Errorf("faults: got %v", err)
	}
	if n.Int("mqtt.max_qos_allowed") != 2 || n.Int("mqtt.max_topic_levels") != 9 || n.Duration("zone.external.idle_timeout") != 30*time.Second {
		t.Errorf("snapshot: got %d, %d, %v", n.Int("mqtt.max_qos_allowed"), n.Int("mqtt.max_topic_levels"), n.Duration("zone.external.idle_timeout"))
	}
}

func TestUnknownKeyPanics(t *testing.T) {
	c := load(t, config.LoadOptions{})
	for name, f := range map[string]func(){
		"unknown": func() { c.Int("no.such") }, "type": func() { c.Int("node.name") }, "pattern": func() { c.Instances("node.name") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile("testdata/brought.conf")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		f.Add(line)
	}
	table := coreTable(f)
	f.Fuzz(func(t *testing.T, line string) {
		c, err := config.Load(table, config.LoadOptions{Set: []string{line}})
		if err != nil {
			return
		}
		// What is shown is accepted again and means the same.
		all := map[string]string{}
		for _, v := range c.Values() {
			if v.Origin == config.OriginFlag && v.Text != config.Stars {
				all[v.Key] = v.Text
			}
		}
		again, err := load(t, config.LoadOptions{}).With(config.Overrides{Node: all})
		if err != nil {
			t.Fatalf("%q: shown as %v, which is refused: %v", line, all, err)
		}
		for key, text := range all {
			if got := again.Text(key); got != text {
				t.Fatalf("%q: %s is shown as %q, and read back as %q", line, key, text, got)
			}
		}
		c.Listeners()
		for _, z := range c.Zones() {
			c.Zone(z)
		}
	})
}
