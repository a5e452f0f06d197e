package config_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
)

// pluginKeys stand for those of a plugin.
var pluginKeys = []config.Key{
	{Name: "retainer.storage_type", Type: config.Enum, Enum: []string{"ram"}, Default: "ram", Plugin: "retainer", Doc: "d"},
	{Name: "retainer.max_retained_messages", Type: config.Integer, Default: "0", Hot: true, App: "emqx_retainer", Plugin: "retainer", Doc: "d",
		V2: []config.V2{{App: "emq_retainer", Key: "retainer.max_message_num", Datatype: "integer"}}},
	{Name: "retainer.max_payload_size", Type: config.Bytesize, Default: "1MB", Hot: true, App: "emqx_retainer", Plugin: "retainer", Doc: "d",
		V2: []config.V2{{App: "emq_retainer", Key: "retainer.max_payload_size", Datatype: "bytesize"}}},
	{Name: "retainer.expiry_interval", Type: config.Duration, Default: "0", Hot: true, App: "emqx_retainer", Datatype: "integer, duration", Plugin: "retainer", Doc: "d",
		V2: []config.V2{{App: "emq_retainer", Key: "retainer.expiry_interval", Datatype: "integer, duration"}}},
	{Name: "auth.client.$N.clientid", Type: config.String, Plugin: "auth_clientid", Doc: "d"},
	{Name: "auth.client.$N.password", Type: config.SecretT, Plugin: "auth_clientid", Doc: "d"},
	{Name: "auth.client.password_hash", Type: config.Enum, Enum: []string{"plain", "sha256"}, Default: "sha256", Plugin: "auth_clientid", Doc: "d"},
}

func full(t *testing.T, set ...string) *config.Config {
	t.Helper()
	table, err := config.NewTable(config.Core(), pluginKeys)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(table, config.LoadOptions{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func none(string) bool { return false }

func every(string) bool { return true }

// TestHotV2 compares the whole list of the broker's own keys.
func TestHotV2(t *testing.T) {
	want := []config.Row{
		{"log.console.level", "error", "enum", "emqttd"},
		{"mqtt.acl_file", "etc/acl.conf", "string", "emqttd"},
		{"mqtt.acl_nomatch", "allow", "enum", "emqttd"},
		{"mqtt.allow_anonymous", "true", "enum", "emqttd"},
		{"mqtt.broker.sys_interval", "60", "integer", "emqttd"},
		{"mqtt.cache_acl", "true", "enum", "emqttd"},
		{"mqtt.client.enable_stats", "true", "flag", "emqttd"},
		{"mqtt.client.idle_timeout", "15000", "duration", "emqttd"},
		{"mqtt.client.max_publish_rate", "0", "integer", "emqttd"},
		{"mqtt.keepalive_backoff", "0.7500", "float", "emqttd"},
		{"mqtt.max_clientid_len", "1024", "integer", "emqttd"},
		{"mqtt.max_packet_size", "1048576", "bytesize", "emqttd"},
		{"mqtt.mqueue.high_watermark", "0.6000", "percent", "emqttd"},
		{"mqtt.mqueue.low_watermark", "0.2000", "percent", "emqttd"},
		{"mqtt.mqueue.max_length", "1000", "integer", "emqttd"},
		{"mqtt.mqueue.priority", "", "string", "emqttd"},
		{"mqtt.mqueue.store_qos0", "true", "enum", "emqttd"},
		{"mqtt.mqueue.type", "simple", "atom", "emqttd"},
		{"mqtt.session.await_rel_timeout", "300000", "duration", "emqttd"},
		{"mqtt.session.enable_stats", "true", "flag", "emqttd"},
		{"mqtt.session.expiry_interval", "7200000", "duration", "emqttd"},
		{"mqtt.session.ignore_loop_deliver", "false", "enum", "emqttd"},
		{"mqtt.session.max_awaiting_rel", "100", "integer", "emqttd"},
		{"mqtt.session.max_inflight", "32", "integer", "emqttd"},
		{"mqtt.session.max_subscriptions", "0", "integer", "emqttd"},
		{"mqtt.session.retry_interval", "20000", "duration", "emqttd"},
		{"mqtt.session.upgrade_qos", "false", "flag", "emqttd"},
		{"mqtt.websocket_protocol_header", "true", "flag", "emqttd"},
	}
	got := full(t).HotV2(none)
	if len(want) != 28 || !slices.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	plugin := full(t).HotV2(func(p string) bool { return p == "retainer" })[28:]
	if want := []config.Row{
		{"retainer.expiry_interval", "0", "integer, duration", "emq_retainer"},
		{"retainer.max_message_num", "0", "integer", "emq_retainer"},
		{"retainer.max_payload_size", "1048576", "bytesize", "emq_retainer"},
	}; !slices.Equal(plugin, want) {
		t.Errorf("plugin: got %v, want %v", plugin, want)
	}
}

func TestHotV3(t *testing.T) {
	rows := map[string]config.Row{}
	for _, r := range full(t).HotV3(every) {
		rows[r.Key] = r
	}
	for _, want := range []config.Row{
		{"retainer.expiry_interval", "0", "integer, duration", "emqx_retainer"},
		{"retainer.max_payload_size", "1048576", "bytesize", "emqx_retainer"},
		{"retainer.max_retained_messages", "0", "integer", "emqx_retainer"},
		{"mqtt.allow_anonymous", "true", "enum", "emqx"},
		{"mqtt.acl_nomatch", "allow", "enum", "emqx"},
		{"mqtt.acl_file", "etc/acl.conf", "string", "emqx"},
		{"mqtt.cache_acl", "true", "enum", "emqx"},
		{"zone.external.idle_timeout", "15000", "duration", "emqx"},
		{"zone.internal.enable_acl", "false", "flag", "emqx"},
	} {
		if rows[want.Key] != want {
			t.Errorf("%s: got %v, want %v", want.Key, rows[want.Key], want)
		}
	}
	for _, r := range full(t).HotV3(none) {
		if r.App != "emqx" {
			t.Errorf("no plugin runs, but %v is listed", r)
		}
	}
}

// TestHotKeysAreUpdated writes back every row of both lists, as it is shown.
func TestHotKeysAreUpdated(t *testing.T) {
	c := full(t)
	for _, r := range slices.Concat(c.HotV2(every), c.HotV3(every)) {
		key, keep, err := c.Update(r.App, r.Key, r.Value)
		if err != nil {
			t.Errorf("%v: %v", r, err)
			continue
		}
		n, err := c.With(config.Overrides{Cluster: map[string]string{key: keep}})
		if err != nil {
			t.Errorf("%v: kept as %q: %v", r, keep, err)
		} else if d := config.Diff(c, n); len(d) != 0 {
			t.Errorf("%v: written back it changes %v", r, d)
		}
	}
}

func TestUpdate(t *testing.T) {
	c := full(t)
	for _, tc := range []struct {
		app, key, value string
		canonical, text string
		err             error
	}{
		{"emqx", "mqtt.allow_anonymous", "false", "mqtt.allow_anonymous", "false", nil},
		{"emqttd", "allow_anonymous", "off", "mqtt.allow_anonymous", "false", nil},
		{"emqx", "enable_acl_cache", "off", "mqtt.cache_acl", "false", nil},
		{"emqx", "acl_nomatch", "deny", "mqtt.acl_nomatch", "deny", nil},
		{"emqttd", "mqtt.session.max_inflight", "64", "zone.external.max_inflight", "64", nil},
		{"emqttd", "mqtt.client.idle_timeout", "20000", "zone.external.idle_timeout", "20000", nil},
		{"emqttd", "mqtt.client.idle_timeout", "1m30s", "zone.external.idle_timeout", "90000", nil},
		{"emqttd", "mqtt.broker.sys_interval", "30", "broker.sys_interval", "30000", nil},
		{"emqttd", "mqtt.broker.sys_interval", "2m", "broker.sys_interval", "120000", nil},
		{"emqttd", "mqtt.keepalive_backoff", "1.25", "zone.external.keepalive_backoff", "1.2500", nil},
		{"emqttd", "mqtt.mqueue.high_watermark", "70%", "mqtt.mqueue.high_watermark", "0.7000", nil},
		{"emqttd", "mqtt.mqueue.priority", "", "zone.external.mqueue_priorities", "", nil},
		{"emqx_retainer", "retainer.max_payload_size", "64KB", "retainer.max_payload_size", "65536", nil},
		{"emq_retainer", "retainer.max_message_num", "5", "retainer.max_retained_messages", "5", nil},
		{"emqx_retainer", "retainer.expiry_interval", "1h", "retainer.expiry_interval", "3600000", nil},
		{"emqx", "zone.internal.max_inflight", "1", "zone.internal.max_inflight", "1", nil},
		{"emqx", "zone.nowhere.max_inflight", "1", "", "", config.ErrUnknownKey},
		{"emqx", "no.such", "1", "", "", config.ErrUnknownKey},
		{"emqx", "node.name", "x", "", "", config.ErrUnknownKey},
		{"emqx_retainer", "mqtt.allow_anonymous", "false", "", "", config.ErrWrongApp},
		{"emqx", "retainer.max_payload_size", "1", "", "", config.ErrWrongApp},
		{"emqx", "mqtt.allow_anonymous", "maybe", "", "", nil},
		{"emqx", "mqtt.allow_anonymous", "", "", "", nil},
		{"emqx", "mqtt.max_qos_allowed", "3", "", "", nil},
	} {
		key, keep, err := c.Update(tc.app, tc.key, tc.value)
		if tc.canonical == "" {
			var fault *config.Fault
			if tc.err != nil && !errors.Is(err, tc.err) || tc.err == nil && !errors.As(err, &fault) {
				t.Errorf("%s %s = %s: got %v, want %v", tc.app, tc.key, tc.value, err, tc.err)
			}
			continue
		}
		if err != nil || key != tc.canonical {
			t.Errorf("%s %s = %s: got %s, %v, want %s", tc.app, tc.key, tc.value, key, err, tc.canonical)
			continue
		}
		n, err := c.With(config.Overrides{Cluster: map[string]string{key: keep}})
		if err != nil || n.Text(key) != tc.text {
			t.Errorf("%s %s = %s: kept as %q, shown as %q, %v, want %q", tc.app, tc.key, tc.value, keep, n.Text(key), err, tc.text)
		}
	}
}

func TestPluginRows(t *testing.T) {
	c := full(t, "auth.client.10.clientid=c10", "auth.client.2.clientid=c2", "auth.client.2.password=pw", "retainer.max_payload_size=2MB")
	text := func(rows []config.PluginRow) (out []string) {
		for _, r := range rows {
			out = append(out, fmt.Sprintf("%s=%s %v", r.Key, r.Value, r.Required))
		}
		return out
	}
	for plugin, want := range map[string][]string{
		"retainer": {"retainer.storage_type=ram true", "retainer.max_retained_messages=0 true", "retainer.max_payload_size=2MB true", "retainer.expiry_interval=0 true"},
		"auth_clientid": {"auth.client.2.clientid=c2 true", "auth.client.10.clientid=c10 true", "auth.client.2.password=****** true",
			"auth.client.password_hash=sha256 true", "auth.client.10.password= false"},
		"none": nil, "": nil,
	} {
		if got := text(c.PluginRows(plugin)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", plugin, got, want)
		}
	}
	// Rows of a pattern without instances.
	if got := text(full(t).PluginRows("auth_clientid")); !slices.Contains(got, "auth.client.$N.clientid= false") {
		t.Errorf("no instances: got %q", got)
	}
	// A set that is read and written back.
	back := map[string]string{}
	for _, r := range c.PluginRows("auth_clientid") {
		back[r.Key] = r.Value
	}
	set, err := c.CheckPlugin("auth_clientid", back)
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.With(config.Overrides{Plugin: set})
	if err != nil || n.Secret("auth.client.2.password").Reveal() != "pw" || len(config.Diff(c, n)) != 0 {
		t.Errorf("written back: got %v, %v, %v", set, err, config.Diff(c, n))
	}
	for _, tc := range []struct {
		name string
		set  map[string]string
		want string
	}{
		{"key of another plugin", map[string]string{"retainer.expiry_interval": "1h"}, "unknown key"},
		{"bad value", map[string]string{"auth.client.password_hash": "rot13"}, "rot13"},
		{"unknown key", map[string]string{"auth.client.0.clientid": "x"}, "unknown key"},
	} {
		if _, err := c.CheckPlugin("auth_clientid", tc.set); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
	set, err = full(t).CheckPlugin("retainer", map[string]string{"retainer.expiry_interval": "30000", "retainer.max_payload_size": ""})
	if err != nil || !maps.Equal(set, map[string]string{"retainer.expiry_interval": "30000ms"}) {
		t.Errorf("a bare duration, and a number without value: got %v, %v", set, err)
	}
	n, err = full(t).With(config.Overrides{Plugin: set})
	if err != nil || n.Duration("retainer.expiry_interval") != 30*time.Second {
		t.Errorf("got %v, %v", n.Duration("retainer.expiry_interval"), err)
	}
}
