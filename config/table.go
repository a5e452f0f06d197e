package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Table is the set of all keys of a node. It is immutable.
type Table struct {
	keys     []*Key            // in the order they were given
	exact    map[string]target // names and aliases without a pattern level
	patterns []pattern
}

// target is what a concrete name means.
type target struct {
	key      *Key
	name     string // canonical, concrete
	instance string // what the pattern level holds; "" without one
	v2       *V2    // the v2 row, where the name is one
}

type pattern struct {
	levels []string
	wild   int
	key    *Key
}

// NewTable assembles the table of a node. It refuses names that are given
// twice, as name or alias, and keys that do not hold together (a default that
// does not parse, an inherited key that is not there).
func NewTable(groups ...[]Key) (*Table, error) {
	t := &Table{exact: map[string]target{}}
	var faults []error
	seen := map[string]string{}
	claim := func(name, owner string) {
		if was, dup := seen[name]; dup {
			faults = append(faults, fmt.Errorf("key %s of %s is also a name of %s", name, owner, was))
		}
		seen[name] = owner
	}
	for _, group := range groups {
		for i := range group {
			k := group[i]
			t.keys = append(t.keys, &k)
		}
	}
	for _, k := range t.keys {
		wild := wildLevel(k.Name)
		names := append([]string{k.Name}, k.Aliases...)
		for i := range k.V2 {
			if !slices.Contains(names, k.V2[i].Key) {
				names = append(names, k.V2[i].Key)
			}
		}
		for _, name := range names {
			claim(name, k.Name)
			if w := wildLevel(name); w >= 0 {
				if wild < 0 {
					faults = append(faults, fmt.Errorf("alias %s of %s has a pattern level, the key has none", name, k.Name))
				}
				t.patterns = append(t.patterns, pattern{levels: strings.Split(name, "."), wild: w, key: k})
				continue
			}
			tg := target{key: k, name: k.Name}
			if wild >= 0 {
				if k.For == "" {
					faults = append(faults, fmt.Errorf("alias %s of %s does not say for which instance", name, k.Name))
				}
				tg.name, tg.instance = instanceName(k.Name, k.For), k.For
			}
			for i := range k.V2 {
				if k.V2[i].Key == name {
					tg.v2 = &k.V2[i]
				}
			}
			t.exact[name] = tg
		}
	}
	for _, k := range t.keys {
		if k.Inherit != "" {
			if in, ok := t.exact[k.Inherit]; !ok || in.key.Type != k.Type {
				faults = append(faults, fmt.Errorf("key %s inherits %s, which is no key of its type", k.Name, k.Inherit))
			}
		}
		defaults := []string{k.Default}
		for _, d := range k.Named {
			defaults = append(defaults, d)
		}
		for _, d := range defaults {
			if d == "" {
				continue
			}
			if _, err := parse(k, d, 0); err != nil {
				faults = append(faults, fmt.Errorf("default of %s: %w", k.Name, err))
			}
		}
		if k.Doc == "" {
			faults = append(faults, fmt.Errorf("key %s is not documented", k.Name))
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("table of keys: %w", errors.Join(faults...))
	}
	return t, nil
}

// Lookup returns the key that a concrete name or alias means, and its
// canonical concrete name.
func (t *Table) Lookup(name string) (key Key, canonical string, ok bool) {
	tg, ok := t.find(name)
	if !ok {
		return Key{}, "", false
	}
	return *tg.key, tg.name, true
}

// Keys returns all keys in the order in which they were given.
func (t *Table) Keys() []Key {
	out := make([]Key, len(t.keys))
	for i, k := range t.keys {
		out[i] = *k
	}
	return out
}

func (t *Table) find(name string) (target, bool) {
	if tg, ok := t.exact[name]; ok && wildLevel(tg.name) < 0 {
		return tg, true
	}
	levels := strings.Split(name, ".")
	for i := range t.patterns {
		p := &t.patterns[i]
		if inst, ok := p.match(levels); ok {
			canonical := instanceName(p.key.Name, inst)
			if strings.Contains(canonical, "$") {
				canonical = name // a second pattern level: such keys have no aliases
			}
			return target{key: p.key, name: canonical, instance: inst}, true
		}
	}
	return target{}, false
}

func (p *pattern) match(levels []string) (string, bool) {
	if len(levels) != len(p.levels) {
		return "", false
	}
	for i, l := range p.levels {
		switch {
		case l == "$N":
			if n, err := strconv.Atoi(levels[i]); err != nil || n < 1 || strconv.Itoa(n) != levels[i] {
				return "", false
			}
		case i == p.wild:
			if !validInstance(levels[i]) {
				return "", false
			}
		case l != levels[i]:
			return "", false
		}
	}
	return levels[p.wild], true
}

func validInstance(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return false
		}
	}
	return s != ""
}

// wildLevel is the index of the pattern level of a name, -1 without one.
func wildLevel(name string) int {
	return slices.IndexFunc(strings.Split(name, "."), func(l string) bool { return strings.HasPrefix(l, "$") })
}

func instanceName(pattern, instance string) string {
	levels := strings.Split(pattern, ".")
	levels[wildLevel(pattern)] = instance
	return strings.Join(levels, ".")
}

// nearest returns the known name that is most like name, "" when none is.
func (t *Table) nearest(name string) string {
	best, bestDist := "", len(name)/3+2
	try := func(candidate string) {
		if d := distance(name, candidate, bestDist); d < bestDist {
			best, bestDist = candidate, d
		}
	}
	for _, n := range sortedKeys(t.exact) {
		try(n)
	}
	levels := strings.Split(name, ".")
	for i := range t.patterns {
		p := &t.patterns[i]
		if p.wild < len(levels) {
			try(instanceName(strings.Join(p.levels, "."), levels[p.wild]))
		}
	}
	// A name whose last level is right needs no more likeness than that.
	if best == "" && len(levels) > 1 {
		last := "." + levels[len(levels)-1]
		for _, k := range t.keys {
			if strings.HasSuffix(k.Name, last) {
				return k.Name
			}
		}
	}
	return best
}

// distance is the edit distance of a and b, or limit when it is not below it.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
		}
		prev, cur = cur, prev
	}
	return min(prev[len(b)], limit)
}
