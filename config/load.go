package config

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// EnvPrefix begins every variable of the environment that sets a key. The
// rest is the key in capitals, with __ for a dot:
// LACEWING_LISTENER__TCP__EXTERNAL.
const EnvPrefix = "LACEWING_"

// LoadOptions name the layers above the defaults.
type LoadOptions struct {
	File    string   // path of the configuration file; "" for none
	Environ []string // as os.Environ returns it
	Set     []string // key=value, as --set takes it
}

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	Source string // "etc/lacewing.conf:12", "LACEWING_...", "--set", "cluster override"
	Key    string // as it was written
	Reason string
}

// Error returns source, key and reason in one line.
func (f *Fault) Error() string {
	if f.Key == "" {
		return f.Source + ": " + f.Reason
	}
	return f.Source + ": " + f.Key + ": " + f.Reason
}

// Load reads the layers over the defaults of the table. It reports all faults
// at once, joined, each a [*Fault]; an unknown key comes with the nearest
// known one. A key that EMQ has and that has no effect here is a notice.
func Load(table *Table, o LoadOptions) (*Config, error) {
	l := loader{table: table, set: map[string]entry{}}
	if o.File != "" {
		l.file(o.File)
	}
	l.environ(o.Environ)
	for _, s := range o.Set {
		key, val, ok := strings.Cut(s, "=")
		if !ok {
			l.fault("--set "+s, "", "has no =")
			continue
		}
		l.put(OriginFlag, "--set", strings.TrimSpace(key), val)
	}
	c := &Config{table: table, set: l.set, base: l.set, notices: l.notices}
	l.whole(c)
	if err := l.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// loader gathers values and faults.
type loader struct {
	table   *Table
	set     map[string]entry
	hot     bool // replicated layers: numbers shown by the API are read back
	faults  []error
	notices []string
}

func (l *loader) err() error { return errors.Join(l.faults...) }

func (l *loader) fault(source, key, format string, args ...any) {
	l.faults = append(l.faults, &Fault{Source: source, Key: key, Reason: fmt.Sprintf(format, args...)})
}

func (l *loader) put(origin Origin, source, name, text string) {
	tg, ok := l.table.find(name)
	if !ok {
		switch near := l.table.nearest(name); {
		case withoutEffect(name):
			l.notices = append(l.notices, fmt.Sprintf("%s: %s has no effect in Lacewing", source, name))
		case near != "":
			l.fault(source, name, "unknown key; the nearest is %s", near)
		default:
			l.fault(source, name, "unknown key")
		}
		return
	}
	if strings.TrimSpace(text) == "" && tg.key.Type.mayBeEmpty() {
		// "key =" takes back what a lower layer set.
		l.set[tg.name] = entry{key: tg.key, value: value{shown: emptyShown(tg.key.Type)}, origin: origin, source: source}
		return
	}
	v, err := parse(tg.key, text, l.bareUnit(tg))
	if err != nil {
		l.fault(source, name, "%v", err)
		return
	}
	l.set[tg.name] = entry{key: tg.key, value: v, origin: origin, source: source}
}

func (l *loader) bareUnit(tg target) time.Duration {
	switch {
	case tg.v2 != nil && tg.v2.Unit > 0:
		return tg.v2.Unit
	case l.hot:
		return time.Millisecond
	}
	return 0
}

func (l *loader) layer(origin Origin, values map[string]string) {
	for _, name := range sortedKeys(values) {
		l.put(origin, origin.String()+" override", name, values[name])
	}
}

// maxLine bounds a line of the configuration file.
const maxLine = 64 << 10

// file reads "key = value" lines. A line that begins with # is a comment; # in
// a value belongs to it, as topic filters need it.
func (l *loader) file(path string) {
	f, err := os.Open(path)
	if err != nil {
		l.fault(path, "", "%v", errors.Unwrap(err))
		return
	}
	defer f.Close() // only read
	seen := map[string]int{}
	in := bufio.NewScanner(f)
	in.Buffer(nil, maxLine)
	n := 0
	for in.Scan() {
		n++
		line := in.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		source := fmt.Sprintf("%s:%d", path, n)
		key, val, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		switch {
		case !utf8.ValidString(line):
			l.fault(source, "", "is not UTF-8")
		case !ok:
			l.fault(source, "", "is not key = value")
		case seen[key] > 0:
			l.fault(source, key, "is also set in line %d", seen[key])
		default:
			seen[key] = n
			l.put(OriginFile, source, key, val)
		}
	}
	if err := in.Err(); err != nil {
		l.fault(fmt.Sprintf("%s:%d", path, n+1), "", "%v", err)
	}
}

func (l *loader) environ(vars []string) {
	for _, v := range vars {
		name, text, _ := strings.Cut(v, "=")
		rest, ok := strings.CutPrefix(name, EnvPrefix)
		if !ok {
			continue
		}
		key := strings.ToLower(strings.ReplaceAll(rest, "__", "."))
		// Orchestrators set LACEWING_PORT, LACEWING_SERVICE_HOST and the like
		// for a service of that name: without __ only a known key counts.
		if _, known := l.table.find(key); !known && !strings.Contains(rest, "__") {
			continue
		}
		l.put(OriginEnvironment, name, key, text)
	}
}
