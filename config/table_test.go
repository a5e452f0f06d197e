package config_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/lacewing-mqtt/lacewing/config"
)

func coreTable(t testing.TB) *config.Table {
	t.Helper()
	table, err := config.NewTable(config.Core())
	if err != nil {
		t.Fatalf("core table: %v", err)
	}
	return table
}

func load(t testing.TB, o config.LoadOptions) *config.Config {
	t.Helper()
	c, err := config.Load(coreTable(t), o)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return c
}

// TestExample puts all of the printed example in force: it changes nothing.
func TestExample(t *testing.T) {
	table := coreTable(t)
	var b bytes.Buffer
	if err := table.Example(&b); err != nil {
		t.Fatal(err)
	}
	var on []string
	for _, line := range strings.Split(b.String(), "\n") {
		if rest, ok := strings.CutPrefix(line, "# "); ok && !strings.Contains(rest, "$") {
			key, val, _ := strings.Cut(rest, " = ")
			if val != "" {
				on = append(on, key+" = "+val)
			}
		}
	}
	if len(on) < 110 {
		t.Fatalf("only %d lines in the example", len(on))
	}
	plain, err := config.Load(table, config.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(table, config.LoadOptions{Set: on})
	if err != nil {
		t.Fatal(err)
	}
	if d := config.Diff(plain, c); len(d) != 0 {
		t.Errorf("the example changes %v", d)
	}
}

func TestNewTableRefuses(t *testing.T) {
	k := func(name string) config.Key { return config.Key{Name: name, Type: config.Integer, Doc: "d"} }
	for _, tc := range []struct {
		name string
		keys []config.Key
		want string
	}{
		{"twice", []config.Key{k("a.b"), k("a.b")}, "a.b"},
		{"alias twice", []config.Key{k("a.b"), {Name: "a.c", Aliases: []string{"a.b"}, Type: config.Integer, Doc: "d"}}, "a.b of a.c is also a name of a.b"},
		{"default", []config.Key{{Name: "a", Type: config.Integer, Default: "x", Doc: "d"}}, "default of a"},
		{"default of an instance", []config.Key{{Name: "a.$name", Type: config.Integer, Named: map[string]string{"n": "x"}, Doc: "d"}}, "default of a.$name"},
		{"inherits nothing", []config.Key{{Name: "a", Type: config.Integer, Inherit: "b", Doc: "d"}}, "inherits b"},
		{"inherits another type", []config.Key{k("b"), {Name: "a", Type: config.Flag, Inherit: "b", Doc: "d"}}, "inherits b"},
		{"alias of no instance", []config.Key{{Name: "a.$name", Aliases: []string{"b"}, Type: config.Integer, Doc: "d"}}, "for which instance"},
		{"no doc", []config.Key{{Name: "a", Type: config.Integer}}, "not documented"},
		{"no type", []config.Key{{Name: "a", Type: "colour", Default: "red", Doc: "d"}}, "unknown type"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := config.NewTable(tc.keys); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestValues shows how each type of value is read and shown.
func TestValues(t *testing.T) {
	const bad = "\x00"
	for typ, cases := range map[config.Type]map[string]string{
		config.Flag:     {"on": "true", "OFF": "false", "true": "true", "yes": bad, "1": bad},
		config.Integer:  {"5": "5", "007": "7", "0": bad, "101": bad, "1.5": bad, "x": bad},
		config.Float:    {"0.75": "0.7500", "2": bad, "NaN": bad, "0.00001": "0.0000"},
		config.Percent:  {"20%": "0.2000", "0.6": "0.6000", "100 %": "1.0000", "101%": bad, "2": bad, "-1%": bad},
		config.Duration: {"500ms": "500", "30s": "30000", "1h30m": "5400000", "1d": "86400000", "1.5s": "1500", "1h 30m": "5400000", "0": "0", "30": bad, "s": bad, "1y": bad, "300000w": bad, "1h30": bad},
		config.Bytesize: {"64KB": "65536", "1MB": "1048576", "2gb": "2147483648", "512": "512", "7B": "7", "1 KB": "1024", "-1": bad, "1.5MB": bad, "9999999999GB": bad, "KB": bad},
		config.Enum:     {"a": "a", "A": bad, "c": bad},
		config.Address:  {"off": "off", "1883": "1883", "127.0.0.1:1883": "127.0.0.1:1883", "[::1]:0": "[::1]:0", ":80": ":80", "localhost:80": "localhost:80", "65536": bad, "host": bad, "::1:80": bad, "1.2.3.4": bad},
		config.List:     {"a": "a", "a, b": "a,b", "a,c": bad, ",": ""},
		config.Rate:     {"10": "10", "10,100": "10,100", "100KB,1MB": "102400,1048576", "x": bad, "1,x": bad},
		config.Access:   {"allow all": "allow all", "deny 10.0.0.0/8": "deny 10.0.0.0/8", "allow ::1": "allow ::1", "allow": bad, "allow 10.0.0.0/33": bad},
		config.SecretT:  {"x": config.Stars},
	} {
		key := config.Key{Name: "k", Type: typ, Doc: "d"}
		switch typ {
		case config.Integer:
			key.Min, key.Max = 1, 100
		case config.Float:
			key.Max = 1
		case config.Enum, config.List:
			key.Enum = []string{"a", "b"}
		}
		table, err := config.NewTable([]config.Key{key})
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range cases {
			c, err := config.Load(table, config.LoadOptions{Set: []string{"k=" + text}})
			switch {
			case want == bad && err == nil:
				t.Errorf("%s %q: got %q, want an error", typ, text, c.Text("k"))
			case want != bad && err != nil:
				t.Errorf("%s %q: %v", typ, text, err)
			case want != bad && c.Text("k") != want:
				t.Errorf("%s %q: got %q, want %q", typ, text, c.Text("k"), want)
			}
		}
	}
}

// TestCoreDefaults looks at what a node without any configuration has.
func TestCoreDefaults(t *testing.T) {
	c := load(t, config.LoadOptions{})
	var got []string
	for _, l := range c.Listeners() {
		got = append(got, l.Type+":"+l.Name+" "+l.Address)
	}
	if want := []string{"tcp:external 0.0.0.0:1883", "tcp:internal 127.0.0.1:11883", "ssl:external 8883", "ws:external 8083", "wss:external 8084"}; !slices.Equal(got, want) {
		t.Errorf("listeners: got %v, want %v", got, want)
	}
	if got := c.Zones(); !slices.Equal(got, []string{"external", "internal"}) {
		t.Errorf("zones: got %v", got)
	}
	for key, want := range map[string]string{
		"node.name": "emqx@127.0.0.1", "node.data_dir": "data", "management.listener.http": "8080", "dashboard.listener.http": "18083",
		"management.v3_dialect": "items", "management.v2_aggregates": "object", "management.metric_names": "slash",
		"listener.tcp.internal.max_connections": "10240000", "listener.wss.external.max_connections": "16",
	} {
		if got := c.Text(key); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
}
