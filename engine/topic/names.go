package topic

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lacewing-mqtt/lacewing/engine/internal/ordered"
)

// Names is an index of topic names, one value for each. Match finds the values of all names that match a filter, a chunk at a
// time. The zero value is an empty index. A Names must not be copied.
//
// All methods may be called at any time by any goroutine. Get, Len, and Set of a name that is there take no lock that waits
// for a Match.
type Names[T any] struct {
	mu     sync.Mutex // excludes writers
	table  table[T]   // by name
	length atomic.Int64

	treeMu sync.RWMutex // guards tree; taken after mu
	tree   ordered.Tree[string, *node[T]]
}

// Get gives the value of a name, nil if it is not there.
func (n *Names[T]) Get(name string) *T {
	if e := find(&n.table, hashOf[T](nil, name), nil, name); e != nil {
		return e.value.Load()
	}
	return nil
}

// Len is the number of names.
func (n *Names[T]) Len() int { return int(n.length.Load()) }

// Set gives a valid name the value, which must not be nil, and returns the value that it had before, nil if it is new. The
// Names keeps the string name, not a copy.
func (n *Names[T]) Set(name string, value *T) (old *T) {
	n.Update(name, func(v *T) *T {
		old = v
		return value
	})
	return old
}

// Delete removes a name and returns the value that it had, nil if it was not there.
func (n *Names[T]) Delete(name string) (old *T) {
	n.Update(name, func(v *T) *T {
		old = v
		return nil
	})
	return old
}

// Update replaces the value of a valid name in one step: change gets the value, nil if the name is not there, and returns the
// new one, nil to delete the name. No other change happens between the two, so change must be short and must not use the
// Names. Update returns what change returned.
func (n *Names[T]) Update(name string, change func(old *T) *T) *T {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := hashOf[T](nil, name)
	e := find(&n.table, h, nil, name)
	var old *T
	if e != nil {
		old = e.value.Load()
	}
	value := change(old)
	switch {
	case value == old:
	case e == nil:
		e = &node[T]{key: name, hash: h}
		e.value.Store(value)
		n.table.insert(e)
		n.treeMu.Lock()
		n.tree.Set(name, e, ordered.Weights{})
		n.treeMu.Unlock()
		n.length.Add(1)
	case value == nil:
		n.table.remove(e)
		n.treeMu.Lock()
		n.tree.Delete(name)
		n.treeMu.Unlock()
		n.length.Add(-1)
	default:
		e.value.Store(value)
	}
	return value
}

// Cursor is how far a Match has come. The zero Cursor is the beginning.
type Cursor struct {
	next string // the lowest name that has not been looked at
	done bool
}

// Done reports whether everything has been seen.
func (c Cursor) Done() bool { return c.done }

// stepsPerResult bounds the work of one Match between results that are found, so that a filter which matches little
// does not keep writers waiting either.
const stepsPerResult = 4

// Match appends the values of names that match a valid filter to dst, at most limit (1 or more) of them, in order of the names, and
// returns the Cursor to go on with. The caller calls it until the Cursor is done; a call may also find nothing and not be done. A
// filter that begins with a wildcard does not match a name that begins with $ [MQTT-4.7.2-1].
//
// The cost is that of what matches, and of one search for each level value that a + goes over in vain. No lock is held
// between calls: names that are set or deleted meanwhile may be seen or not, all others are seen once.
func (n *Names[T]) Match(filter string, c Cursor, limit int, dst []*T) ([]*T, Cursor) {
	if c.done {
		return dst, c
	}
	if !HasWildcard(filter) {
		if v := n.Get(filter); v != nil {
			dst = append(dst, v)
		}
		return dst, Cursor{done: true}
	}
	n.treeMu.RLock()
	defer n.treeMu.RUnlock()
	found, steps := 0, limit*stepsPerResult
	at := c.next
	if at == "" {
		at = firstCandidate(filter)
	}
search:
	for {
		for name, e := range n.tree.Ascend(ordered.Any, at) {
			if found == limit || steps == 0 {
				return dst, Cursor{next: name}
			}
			steps--
			next, verdict := advance(filter, name)
			switch verdict {
			case matches:
				dst = append(dst, e.value.Load())
				found++
			case seek:
				at = next
				continue search
			case over:
				return dst, Cursor{done: true}
			}
		}
		return dst, Cursor{done: true}
	}
}

// All is Match for all names, also those that begin with $.
func (n *Names[T]) All(c Cursor, limit int, dst []*T) ([]*T, Cursor) {
	if c.done {
		return dst, c
	}
	n.treeMu.RLock()
	defer n.treeMu.RUnlock()
	found := 0
	for name, e := range n.tree.Ascend(ordered.Any, c.next) {
		if found == limit {
			return dst, Cursor{next: name}
		}
		dst = append(dst, e.value.Load())
		found++
	}
	return dst, Cursor{done: true}
}

// firstCandidate is the lowest name that filter could match: its levels up to the first wildcard.
func firstCandidate(filter string) string {
	i := strings.IndexAny(filter, "+#")
	if filter[i] == '#' && i > 0 {
		i-- // the parent itself
	}
	return filter[:i]
}

// verdict is what advance says about a name.
type verdict int

const (
	matches verdict = iota // the name matches
	skip                   // it does not, the one after it may
	seek                   // it does not; no name below next, and above this one, does
	over                   // no name above this one matches
)

// advance holds name, in which all names from here on are not lower, against filter.
//
// Names with a common beginning that ends with a slash stand together. So where a level is wrong, the search can go on at the
// right level if that is still to come, else behind everything with the same levels before it.
func advance(filter, name string) (next string, v verdict) {
	if name[0] == '$' && (filter[0] == '+' || filter[0] == '#') { // [MQTT-4.7.2-1]
		return "%", seek // the byte after $
	}
	f, i := filter, 0 // what is left of the filter; where the level in name begins
	for {
		level, rest, more := strings.Cut(f, "/")
		if level == "#" {
			return "", matches
		}
		end := i
		for end < len(name) && name[end] != '/' {
			end++
		}
		if level != "+" && name[i:end] != level {
			right := name[:i] + level
			if right > name {
				return right, seek
			}
			if right += "/"; right > name {
				return right, seek
			}
			return behind(name[:i])
		}
		if !more {
			if end == len(name) {
				return "", matches
			}
			return behind(name[:end+1])
		}
		if end == len(name) {
			if rest == "#" { // it matches its parent too
				return "", matches
			}
			if level == "+" { // others of this level may come between the name and what is below it
				return "", skip
			}
			return name + "/", seek
		}
		f, i = rest, end+1
	}
}

// behind goes on after all names that begin with prefix, which is empty or ends with a slash.
func behind(prefix string) (next string, v verdict) {
	if prefix == "" {
		return "", over
	}
	return prefix[:len(prefix)-1] + "0", seek // the byte after the slash
}
