package topic

import (
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		want bool
	}{
		{"plain", "a/b", true},
		{"one character", "a", true},
		{"slash alone", "/", true},
		{"empty levels", "//", true},
		{"space", "a b/c", true},
		{"not ASCII", "grüße/täglich", true},
		{"U+FEFF", "\ufeffa", true},
		{"dollar", "$SYS/x", true},
		{"empty", "", false},
		{"plus", "a/+", false},
		{"plus within", "a+b", false},
		{"hash", "a/#", false},
		{"zero", "a\x00b", false},
		{"longest", strings.Repeat("a", MaxLength), true},
		{"too long", strings.Repeat("a", MaxLength+1), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ValidName(c.in); got != c.want {
				t.Errorf("string: got %v, want %v", got, c.want)
			}
			if got := ValidName([]byte(c.in)); got != c.want {
				t.Errorf("bytes: got %v, want %v", got, c.want)
			}
		})
	}
}

func TestValidFilter(t *testing.T) {
	for _, c := range []struct {
		in   string
		want bool
	}{
		{"a/b", true},
		{"#", true},
		{"+", true},
		{"/", true},
		{"/#", true},
		{"+/+", true},
		{"/+", true},
		{"+/", true},
		{"a/+/b", true},
		{"a/#", true},
		{"+/a/#", true},
		{"a//#", true},
		{"$SYS/#", true},
		{"", false},
		{"a#", false},
		{"a/#/b", false},
		{"#/", false},
		{"##", false},
		{"a/b#", false},
		{"a+", false},
		{"+a", false},
		{"a/+b/c", false},
		{"a/b+/c", false},
		{"++", false},
		{"+#", false},
		{"a\x00", false},
		{strings.Repeat("a", MaxLength+1), false},
	} {
		if got := ValidFilter(c.in); got != c.want {
			t.Errorf("ValidFilter(%.20q): got %v, want %v", c.in, got, c.want)
		}
		if got := ValidFilter([]byte(c.in)); got != c.want {
			t.Errorf("ValidFilter of bytes (%.20q): got %v, want %v", c.in, got, c.want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, name string
		want         bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/B", false}, // [MQTT-4.7.3-4]
		{"a/b", "a/bc", false},
		{"a/bc", "a/b", false},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"a", "/a", false},
		{"a/", "a", false},
		{"a", "a/", false},
		{"a/", "a/", true},
		{"#", "a", true},
		{"#", "a/b/c", true},
		{"#", "/", true},
		{"a/#", "a", true},
		{"a/#", "a/", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"a/b/#", "a", false},
		{"/#", "/", true},
		{"/#", "a", false},
		{"/#", "", false},
		{"+", "a", true},
		{"+", "/a", false},
		{"+", "a/", false},
		{"/+", "/a", true},
		{"+/+", "/a", true},
		{"+/+", "/", true},
		{"+/", "a/", true},
		{"+/", "a", false},
		{"a/+", "a/", true},
		{"a/+", "a", false},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a//c", true},
		{"a/+/c", "a/b/d", false},
		{"a/+/c", "a/b/c/d", false},
		{"a/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"+/#", "a", true},
		{"#", "$SYS/x", false}, // [MQTT-4.7.2-1]
		{"+/x", "$SYS/x", false},
		{"+", "$SYS", false},
		{"$SYS/#", "$SYS/x", true},
		{"$SYS/#", "$SYS", true},
		{"$SYS/+", "$SYS/x", true},
		{"a/+", "a/$x", true},
		{"a/#", "a/$x", true},
	} {
		if c.name == "" {
			continue
		}
		if got := Match(c.filter, c.name); got != c.want {
			t.Errorf("Match(%q, %q): got %v, want %v", c.filter, c.name, got, c.want)
		}
		if got := Match([]byte(c.filter), []byte(c.name)); got != c.want {
			t.Errorf("Match of bytes (%q, %q): got %v, want %v", c.filter, c.name, got, c.want)
		}
		if got := naiveMatch(c.filter, c.name); got != c.want {
			t.Errorf("the naive matcher on %q, %q: got %v, want %v", c.filter, c.name, got, c.want)
		}
	}
}

// naiveMatch is the rule as the specification tells it, and the oracle for everything faster.
func naiveMatch(filter, name string) bool {
	if strings.HasPrefix(name, "$") && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	for i := range f {
		if f[i] == "#" {
			return true
		}
		if i >= len(n) || f[i] != "+" && f[i] != n[i] {
			return false
		}
		if i == len(n)-1 && i == len(f)-2 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(n)
}

func TestParseShare(t *testing.T) {
	for _, c := range []struct {
		in, group, filter string
		shared, ok        bool
	}{
		{"a/b", "", "a/b", false, true},
		{"a/#/b", "", "a/#/b", false, false},
		{"", "", "", false, false},
		{"$share", "", "$share", false, true},
		{"$shared/g/a", "", "$shared/g/a", false, true},
		{"$share/g/a/+", "g", "a/+", true, true},
		{"$share/g//a", "g", "/a", true, true},
		{"$share/g/#", "g", "#", true, true},
		{"$share/g/$SYS/#", "g", "$SYS/#", true, true},
		{"$share/g/", "g", "", true, false},
		{"$share/g", "", "", true, false},
		{"$share/", "", "", true, false},
		{"$share//a", "", "", true, false},
		{"$share/+/a", "", "", true, false},
		{"$share/g#/a", "", "", true, false},
		{"$share/g/a/#/b", "g", "a/#/b", true, false},
		{"$queue/a/+", QueueGroup, "a/+", true, true},
		{"$queue/", QueueGroup, "", true, false},
		{"$queue", "", "$queue", false, true},
	} {
		group, filter, shared, ok := ParseShare(c.in)
		if group != c.group || filter != c.filter || shared != c.shared || ok != c.ok {
			t.Errorf("ParseShare(%q): got %q %q %v %v, want %q %q %v %v",
				c.in, group, filter, shared, ok, c.group, c.filter, c.shared, c.ok)
		}
	}
}

func TestPrefixes(t *testing.T) {
	if rest, local := CutLocal("$local/a/b"); rest != "a/b" || !local {
		t.Errorf("CutLocal: got %q %v", rest, local)
	}
	if rest, local := CutLocal([]byte("$localx")); string(rest) != "$localx" || local {
		t.Errorf("CutLocal without the prefix: got %q %v", rest, local)
	}
	for s, want := range map[string]bool{"$SYS": true, "$SYS/a": true, "$SYSTEM": false, "$sys/a": false, "a": false} {
		if got := IsSys(s); got != want {
			t.Errorf("IsSys(%q): got %v, want %v", s, got, want)
		}
	}
	for s, want := range map[string]int{"a": 1, "": 1, "/": 2, "a/b/c": 3} {
		if got := Levels(s); got != want {
			t.Errorf("Levels(%q): got %d, want %d", s, got, want)
		}
	}
}

// FuzzMatch holds the matcher and both indexes against the naive matcher. The hashes are seeded anew in each process, so run it
// with -fuzzminimizetime 10x: minimising by coverage leads nowhere.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"a/b a/b", "+/b a/b", "a/# a", "# $SYS", "/+ /", "a/+/# a/b"} {
		filter, name, _ := strings.Cut(s, " ")
		f.Add(filter, name)
	}
	f.Fuzz(func(t *testing.T, filter, name string) {
		if !ValidFilter(filter) || !ValidName(name) {
			return
		}
		want := naiveMatch(filter, name)
		if got := Match(filter, name); got != want {
			t.Errorf("Match(%q, %q): got %v, want %v", filter, name, got, want)
		}
		var trie Trie[string]
		trie.GetOrInsert(filter, func() *string { return &filter })
		if got := len(trie.Match([]byte(name), nil)) == 1; got != want {
			t.Errorf("Trie with %q, Match(%q): got %v, want %v", filter, name, got, want)
		}
		var names Names[string]
		names.Set(name, &name)
		got, c := names.Match(filter, Cursor{}, 10, nil)
		if (len(got) == 1) != want || !c.Done() {
			t.Errorf("Names with %q, Match(%q): got %d results, done %v, want %v", name, filter, len(got), c.Done(), want)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	name, filter := []byte("site/area/device/temperature"), []byte("site/+/device/#")
	got := testing.AllocsPerRun(100, func() {
		_ = ValidName(name)
		_ = ValidFilter(filter)
		_ = Match(filter, name)
		_ = Match("site/+/device/#", name)
		_ = Levels(name)
	})
	if got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}
