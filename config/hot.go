package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Errors of [Config.Update] and [Config.CheckPlugin]. Beside them a value that
// does not parse is a [*Fault].
var (
	ErrUnknownKey = errors.New("unknown key")
	ErrWrongApp   = errors.New("key of another application")
	ErrNotHot     = errors.New("key takes effect at the next start only")
)

// Row is a row of the hot configuration as the APIs show it.
type Row struct {
	Key      string
	Value    string
	Datatype string
	App      string
}

// HotV3 returns the rows that the v3 API lists, sorted by key. active says of
// a plugin (without prefix) whether it runs: rows of others are left out.
func (c *Config) HotV3(active func(plugin string) bool) []Row {
	var out []Row
	for _, k := range c.table.keys {
		if !k.Hot || k.App == "" || !appActive(k.App, active) {
			continue
		}
		for _, name := range c.concrete(k) {
			e, _ := c.lookup(name)
			out = append(out, Row{Key: name, Value: e.shown(), Datatype: cmp.Or(k.Datatype, string(k.Type)), App: k.App})
		}
	}
	sortRows(out)
	return out
}

// HotV2 returns the rows that the v2 API lists, sorted by key; active as in
// [Config.HotV3].
func (c *Config) HotV2(active func(plugin string) bool) []Row {
	var out []Row
	for _, k := range c.table.keys {
		for _, v2 := range k.V2 {
			if !k.Hot || !appActive(v2.App, active) {
				continue
			}
			e, _ := c.lookup(v2.Key)
			out = append(out, Row{Key: v2.Key, Value: e.shownV2(v2), Datatype: v2.Datatype, App: v2.App})
		}
	}
	sortRows(out)
	return out
}

func sortRows(rows []Row) {
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Key, b.Key) })
}

func (e entry) shownV2(v2 V2) string {
	switch {
	case e.key.Type == Duration && v2.Unit > 0:
		return strconv.FormatInt(e.value.num*int64(time.Millisecond)/int64(v2.Unit), 10)
	case e.key.Type == Rate && v2.Datatype == "integer":
		return strconv.FormatInt(e.value.num, 10)
	}
	return e.shown()
}

// plain is an application without the prefix of its release: "retainer", ""
// for the broker itself.
func plainApp(app string) string {
	switch app {
	case "emqttd", "emqx", "emq":
		return ""
	}
	if p, ok := strings.CutPrefix(app, "emqx_"); ok {
		return p
	}
	p, _ := strings.CutPrefix(app, "emq_")
	return p
}

func appActive(app string, active func(string) bool) bool {
	p := plainApp(app)
	return p == "" || active(p)
}

// Update checks a change of the hot configuration: app in either release's
// spelling, key by its name or any alias, value as text or as the API shows
// it. It returns the canonical key and the text to keep for it. Errors:
// [ErrUnknownKey], [ErrWrongApp], [ErrNotHot], or a [*Fault].
func (c *Config) Update(app, key, text string) (canonical, keep string, err error) {
	tg, ok := c.table.find(key)
	if !ok {
		return "", "", fmt.Errorf("%w %s", ErrUnknownKey, key)
	}
	k := tg.key
	apps := []string{k.App}
	for _, v2 := range k.V2 {
		apps = append(apps, v2.App)
	}
	listed, mine := false, false
	for _, a := range apps {
		if a != "" {
			listed = true
			mine = mine || plainApp(a) == plainApp(app)
		}
	}
	switch {
	case !listed:
		return "", "", fmt.Errorf("%w: %s", ErrUnknownKey, key)
	case !mine:
		return "", "", fmt.Errorf("%w: %s", ErrWrongApp, key)
	case !k.Hot:
		return "", "", fmt.Errorf("%w: %s", ErrNotHot, key)
	}
	// An instance that does not exist would come into being by a typing error.
	if tg.instance != "" && !slices.Contains(c.Instances(k.Name), tg.instance) {
		return "", "", fmt.Errorf("%w %s", ErrUnknownKey, key)
	}
	keep, err = c.keep(tg, key, text)
	return tg.name, keep, err
}

func (c *Config) keep(tg target, key, text string) (string, error) {
	text = strings.TrimSpace(text)
	l := loader{table: c.table, hot: true}
	unit := l.bareUnit(tg)
	if text == "" && tg.key.Type.mayBeEmpty() {
		return "", nil
	}
	v, err := parse(tg.key, text, unit)
	if err != nil {
		return "", &Fault{Source: "update", Key: key, Reason: err.Error()}
	}
	_, notNumber := strconv.ParseInt(text, 10, 64)
	if notNumber == nil && tg.key.Type == Duration && v.num != 0 {
		return v.shown + "ms", nil // what was meant, whatever name it is read under
	}
	// v2 shows and sets the first number of a pair only: what it has not changed stays.
	if notNumber == nil && tg.v2 != nil && tg.key.Type == Rate {
		if is := c.resolve(tg).value; is.num == v.num && is.raw != "" {
			return is.raw, nil
		}
	}
	return v.raw, nil
}

// PluginRow is a row of plugin_configs. Value is the text as it was written.
type PluginRow struct {
	Key      string
	Value    string
	Desc     string
	Required bool
}

// PluginRows returns the configuration of a plugin (without prefix): first the
// keys that have a value, in the order of the table, then the others with the
// value "". It returns nil for a plugin without keys.
func (c *Config) PluginRows(plugin string) []PluginRow {
	var with, without []PluginRow
	for _, k := range c.table.keys {
		if k.Plugin != plugin || plugin == "" {
			continue
		}
		names := c.concrete(k)
		if len(names) == 0 {
			names = []string{k.Name}
		}
		for _, name := range names {
			raw := ""
			if e, ok := c.lookup(name); ok {
				if raw = e.value.raw; raw != "" && k.Type == SecretT {
					raw = Stars
				}
			}
			if raw != "" {
				with = append(with, PluginRow{Key: name, Value: raw, Required: true})
			} else {
				without = append(without, PluginRow{Key: name})
			}
		}
	}
	return append(with, without...)
}

// CheckPlugin checks a whole set of plugin_configs for a plugin (without
// prefix) and returns it with canonical keys and the texts to keep, for
// [Overrides.Plugin]. A number, flag or the like without a value is left out:
// its default holds again. A secret that is written as stars keeps the value
// it has. All faults are reported, joined.
func (c *Config) CheckPlugin(plugin string, set map[string]string) (map[string]string, error) {
	out := map[string]string{}
	var faults []error
	for _, name := range sortedKeys(set) {
		tg, ok := c.table.find(name)
		if !ok || tg.key.Plugin != plugin || plugin == "" {
			if strings.Contains(name, "$") && set[name] == "" {
				continue // the row of a pattern without instances, sent back
			}
			faults = append(faults, fmt.Errorf("%w %s", ErrUnknownKey, name))
			continue
		}
		text := set[name]
		if tg.key.Type == SecretT && text == Stars {
			text = c.resolve(tg).value.raw
		}
		text, err := c.keep(tg, name, text)
		if err != nil && strings.TrimSpace(set[name]) != "" {
			faults = append(faults, err)
			continue
		}
		// Text taken back stays empty; anything else without a value is the default's.
		clear := tg.instance == "" && tg.key.Type.mayBeEmpty()
		if text != "" || clear {
			out[tg.name] = text
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return out, nil
}
