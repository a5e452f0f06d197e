package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Origin is the layer that a value came from. A higher one wins.
type Origin uint8

// The layers, lowest first.
const (
	OriginDefault     Origin = iota
	OriginFile               // the configuration file
	OriginEnvironment        // LACEWING_... variables
	OriginFlag               // --set key=value
	OriginCluster            // replicated, for all nodes
	OriginPlugin             // replicated, the plugin_configs of this node
	OriginNode               // replicated, for this node
)

// String returns default, file, environment, flag, cluster, plugin or node.
func (o Origin) String() string {
	return [...]string{"default", "file", "environment", "flag", "cluster", "plugin", "node"}[o]
}

// Config is a frozen snapshot of all values. Getters take canonical names or
// aliases; asking for a name that is in no table, or as another type than the
// key has, is a mistake of the program and panics.
type Config struct {
	table   *Table
	set     map[string]entry // by canonical concrete name
	base    map[string]entry // set without the replicated layers
	notices []string
}

// entry is a value that some layer set.
type entry struct {
	key    *Key
	value  value
	origin Origin
	source string // "etc/lacewing.conf:12", "LACEWING_NODE__NAME", ...
}

// Overrides are the replicated layers: canonical or alias name to text.
type Overrides struct {
	Cluster map[string]string
	Plugin  map[string]string
	Node    map[string]string
	// Replaced are the plugins whose whole configuration is in Plugin: what file,
	// environment and flags say about their keys does not hold.
	Replaced []string
}

// Table returns the table under this snapshot.
func (c *Config) Table() *Table { return c.table }

// Notices returns what an operator should know about the loaded layers and
// what is no fault: keys of EMQ that have no effect here.
func (c *Config) Notices() []string { return slices.Clone(c.notices) }

// With returns a snapshot with these replicated layers over the layers that
// [Load] read; layers of an earlier With are gone. An override that is not
// valid (of a plugin that is no longer built, from a newer release) is left
// out and reported in the error; the snapshot is good either way.
func (c *Config) With(o Overrides) (*Config, error) {
	l := loader{table: c.table, set: map[string]entry{}, hot: true}
	for k, e := range c.base {
		if e.key.Plugin == "" || !slices.Contains(o.Replaced, e.key.Plugin) {
			l.set[k] = e
		}
	}
	l.layer(OriginCluster, o.Cluster)
	l.layer(OriginPlugin, o.Plugin)
	l.layer(OriginNode, o.Node)
	n := &Config{table: c.table, set: l.set, base: c.base, notices: c.notices}
	return n, l.err()
}

// lookup finds the effective value of a concrete name.
func (c *Config) lookup(name string) (entry, bool) {
	tg, ok := c.table.find(name)
	if !ok {
		return entry{}, false
	}
	return c.resolve(tg), true
}

func (c *Config) resolve(tg target) entry {
	if e, ok := c.set[tg.name]; ok {
		return e
	}
	k := tg.key
	text, named := k.Named[tg.instance]
	if !named && k.Inherit != "" {
		in, _ := c.lookup(k.Inherit)
		return entry{key: k, value: in.value, origin: in.origin, source: in.source}
	}
	if !named {
		text = k.Default
	}
	e := entry{key: k, origin: OriginDefault}
	if text != "" {
		e.value, _ = parse(k, text, 0) // NewTable has tried every default
	} else {
		e.value = value{shown: emptyShown(k.Type)}
	}
	return e
}

func (c *Config) must(name string, types ...Type) entry {
	e, ok := c.lookup(name)
	if !ok {
		panic("config: no key " + name)
	}
	if len(types) > 0 && !slices.Contains(types, e.key.Type) {
		panic(fmt.Sprintf("config: key %s is a %s, asked as %s", name, e.key.Type, types[0]))
	}
	return e
}

// Has reports whether name is a key or an alias of the table.
func (c *Config) Has(name string) bool { _, ok := c.table.find(name); return ok }

// String returns a String, Enum, Address or Access value as it was written.
func (c *Config) String(name string) string {
	return c.must(name, String, Enum, Address, Access).value.raw
}

// Bool returns a Flag.
func (c *Config) Bool(name string) bool { return c.must(name, Flag).value.num == 1 }

// Int returns an Integer.
func (c *Config) Int(name string) int { return int(c.must(name, Integer).value.num) }

// Float returns a Float, or a Percent as a fraction of 1.
func (c *Config) Float(name string) float64 { return c.must(name, Float, Percent).value.frac }

// Duration returns a Duration.
func (c *Config) Duration(name string) time.Duration {
	return time.Duration(c.must(name, Duration).value.num) * time.Millisecond
}

// Bytes returns a Bytesize in bytes.
func (c *Config) Bytes(name string) int64 { return c.must(name, Bytesize).value.num }

// List returns the words of a List; nil when it is empty.
func (c *Config) List(name string) []string { return slices.Clone(c.must(name, List).value.list) }

// Secret returns a secret.
func (c *Config) Secret(name string) Secret { return Secret(c.must(name, SecretT).value.raw) }

// Pair returns the two numbers of a Rate: amount a second, and burst, which is the
// amount where it is not given.
func (c *Config) Pair(name string) (first, second int64) {
	v := c.must(name, Rate).value
	return v.num, v.num2
}

// Text returns any value as the hot configuration shows it (sizes in bytes,
// durations in milliseconds, flags as words, fractions with four decimals);
// secrets as stars.
func (c *Config) Text(name string) string { return c.must(name).shown() }

// Raw returns any value as it was written in its layer; secrets as stars.
func (c *Config) Raw(name string) string {
	e := c.must(name)
	if e.key.Type == SecretT && e.value.raw != "" {
		return Stars
	}
	return e.value.raw
}

// Origin returns the layer that the value came from, and where exactly
// ("etc/lacewing.conf:12", "LACEWING_NODE__NAME"; "" for defaults).
func (c *Config) Origin(name string) (Origin, string) {
	e := c.must(name)
	return e.origin, e.source
}

// Instances returns what the pattern level of a pattern holds: the names of
// "listener.tcp.$name" or "zone.$name.max_inflight" in bytewise order, the
// numbers of "auth.client.$N.clientid" in numeric order. An instance exists
// when the table names it (Named, For) or any key beneath it is set.
func (c *Config) Instances(pattern string) []string {
	levels := strings.Split(pattern, ".")
	wild := wildLevel(pattern)
	if wild < 0 {
		panic("config: no pattern in " + pattern)
	}
	same := func(k *Key) bool {
		kl := strings.Split(k.Name, ".")
		return wildLevel(k.Name) == wild && slices.Equal(kl[:wild+1], levels[:wild+1])
	}
	found := map[string]bool{}
	for _, k := range c.table.keys {
		if same(k) {
			for n := range k.Named {
				found[n] = true
			}
			if k.For != "" {
				found[k.For] = true
			}
		}
	}
	for name, e := range c.set {
		if same(e.key) {
			found[strings.Split(name, ".")[wild]] = true
		}
	}
	out := sortedKeys(found)
	if levels[wild] == "$N" {
		slices.SortFunc(out, func(a, b string) int {
			return cmp.Compare(atoi(a), atoi(b))
		})
	}
	return out
}

// Value is one effective value of a snapshot.
type Value struct {
	Key    string // canonical and concrete
	Text   string // as shown; secrets as stars
	Origin Origin
	Source string
	Hot    bool
}

// Values returns every value of the snapshot in the order of the table,
// instances of patterns in the order of [Config.Instances].
func (c *Config) Values() []Value {
	var out []Value
	for _, k := range c.table.keys {
		for _, name := range c.concrete(k) {
			e, _ := c.lookup(name)
			out = append(out, Value{Key: name, Text: e.shown(), Origin: e.origin, Source: e.source, Hot: k.Hot})
		}
	}
	return out
}

// concrete returns the names that a key has in this snapshot.
func (c *Config) concrete(k *Key) []string {
	if wildLevel(k.Name) < 0 {
		return []string{k.Name}
	}
	var out []string
	if strings.Count(k.Name, "$") > 1 {
		for name, e := range c.set {
			if e.key == k {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out
	}
	for _, inst := range c.Instances(k.Name) {
		out = append(out, instanceName(k.Name, inst))
	}
	return out
}

// Change is one key whose effective value differs between two snapshots.
type Change struct {
	Key      string // canonical and concrete
	Old, New string // as shown; secrets as stars
	Hot      bool   // false: takes effect at the next start
}

// Diff returns what differs from one snapshot of a table to another, in the
// order of the table. Keys that inherit are listed when what they inherit has
// changed.
func Diff(from, to *Config) []Change {
	var out []Change
	for _, k := range from.table.keys {
		names := from.concrete(k)
		for _, n := range to.concrete(k) {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
		for _, name := range names {
			a, _ := from.lookup(name)
			b, _ := to.lookup(name)
			if a.value.text() != b.value.text() {
				out = append(out, Change{Key: name, Old: a.shown(), New: b.shown(), Hot: k.Hot})
			}
		}
	}
	return out
}

func (e entry) shown() string {
	if e.key.Type == SecretT && e.value.raw != "" {
		return Stars
	}
	return e.value.text()
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// atoi reads the number that a $N level has matched.
func atoi(s string) int {
	n, _ := strconv.Atoi(s) // the pattern matches numbers only
	return n
}
