package topic

import (
	"strings"
	"sync"
	"sync/atomic"
)

// Trie is an index of topic filters, one value for each. Match finds the values of all filters that match a name.
// The zero value is an empty index. A Trie must not be copied.
//
// Readers (Match, Get, Len, Generation) take no lock and may run beside writers; writers exclude each other. A Match beside a
// writer sees each filter either with or without the change; one that begins after a writer has returned sees its change.
type Trie[T any] struct {
	table      table[T]
	root       node[T] // of the filters with wildcards; those without are in the table whole
	generation atomic.Uint64
	length     atomic.Int64
	mu         sync.Mutex // excludes writers
}

// Match appends the values of all filters that match name, a valid topic name, to dst, in no particular order. A filter that
// begins with a wildcard does not match a name that begins with $ [MQTT-4.7.2-1]. It allocates only when dst is too small.
func (t *Trie[T]) Match(name []byte, dst []*T) []*T {
	if n := find(&t.table, hashOf[T](nil, name), nil, name); n != nil {
		if v := n.value.Load(); v != nil {
			dst = append(dst, v)
		}
	}
	n, more := &t.root, true
	if len(name) > 0 && name[0] == '$' {
		if n.literals.Load() == 0 {
			return dst
		}
		var level []byte
		level, name, more = cutLevel(name)
		if n = find(&t.table, hashOf(n, level), n, level); n == nil {
			return dst
		}
	}
	return t.walk(n, name, more, dst)
}

// walk appends the values of all filters in the branch of n that match what is left of a name; more is false if nothing is,
// not even an empty level.
func (t *Trie[T]) walk(n *node[T], name []byte, more bool, dst []*T) []*T {
	for {
		if v := n.rest.Load(); v != nil { // # also stands for no level at all
			dst = append(dst, v)
		}
		if !more {
			if v := n.value.Load(); v != nil {
				dst = append(dst, v)
			}
			return dst
		}
		var level []byte
		level, name, more = cutLevel(name)
		if plus := n.plus.Load(); plus != nil {
			dst = t.walk(plus, name, more, dst)
		}
		if n.literals.Load() == 0 {
			return dst
		}
		if n = find(&t.table, hashOf(n, level), n, level); n == nil {
			return dst
		}
	}
}

// cutLevel takes the first level off a name; more tells whether another follows.
func cutLevel(name []byte) (level, rest []byte, more bool) {
	for i, c := range name {
		if c == '/' {
			return name[:i], name[i+1:], true
		}
	}
	return name, nil, false
}

// Get gives the value of exactly that filter, nil if it is not there.
func (t *Trie[T]) Get(filter string) *T {
	if !HasWildcard(filter) {
		if n := find(&t.table, hashOf[T](nil, filter), nil, filter); n != nil {
			return n.value.Load()
		}
		return nil
	}
	n := &t.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		switch level {
		case "#":
			return n.rest.Load()
		case "+":
			n = n.plus.Load()
		default:
			n = find(&t.table, hashOf(n, level), n, level)
		}
		if n == nil {
			return nil
		}
	}
	return n.value.Load()
}

// Len is the number of filters.
func (t *Trie[T]) Len() int { return int(t.length.Load()) }

// Generation changes with each filter that is inserted, deleted or gets another value, after the change can be seen. The
// result of a Match that began after Generation gave g is current as long as Generation gives g.
func (t *Trie[T]) Generation() uint64 { return t.generation.Load() }

// GetOrInsert gives the value of a valid filter. If the filter is not there it is inserted with the value that newValue returns,
// which must not be nil; newValue must not use the Trie. The Trie keeps filter, not a copy.
func (t *Trie[T]) GetOrInsert(filter string, newValue func() *T) (value *T, inserted bool) {
	value = t.Update(filter, func(old *T) *T {
		if old != nil {
			return old
		}
		inserted = true
		return newValue()
	})
	return value, inserted
}

// Delete removes a filter and gives the value that it had, nil if it was not there.
func (t *Trie[T]) Delete(filter string) (old *T) {
	t.Update(filter, func(v *T) *T {
		old = v
		return nil
	})
	return old
}

// Update replaces the value of a valid filter in one step: change gets the value, nil if the filter is not there, and returns
// the new one, nil to delete the filter. No other change happens between the two, so change must be short and must not use
// the Trie. Update returns what change returned.
func (t *Trie[T]) Update(filter string, change func(old *T) *T) *T {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.Get(filter)
	value := change(old)
	if value == old {
		return value
	}
	if value == nil {
		t.remove(filter)
		t.length.Add(-1)
	} else {
		t.store(filter, value)
		if old == nil {
			t.length.Add(1)
		}
	}
	t.generation.Add(1)
	return value
}

// store sets the value of a filter. t.mu is held.
func (t *Trie[T]) store(filter string, value *T) {
	if !HasWildcard(filter) {
		h := hashOf[T](nil, filter)
		n := find(&t.table, h, nil, filter)
		if n == nil {
			n = &node[T]{key: filter, hash: h}
			n.value.Store(value)
			t.table.insert(n)
			return
		}
		n.value.Store(value)
		return
	}
	n := &t.root
	size := len(filter)
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		if level == "#" {
			n.rest.Store(value)
			return
		}
		n = t.below(n, level, size)
	}
	n.value.Store(value)
}

// below gives the node of a level below n and makes it if need be. size is the length of the whole filter. t.mu is held.
func (t *Trie[T]) below(n *node[T], level string, size int) *node[T] {
	if level == "+" {
		plus := n.plus.Load()
		if plus == nil {
			// The hash is that of a level of this name, which no level in the table can have.
			plus = &node[T]{parent: n, key: "+", hash: hashOf(n, "+")}
			n.plus.Store(plus)
		}
		return plus
	}
	h := hashOf(n, level)
	child := find(&t.table, h, n, level)
	if child == nil {
		if size > 4*len(level)+64 { // a small level must not keep a large filter alive
			level = strings.Clone(level)
		}
		child = &node[T]{parent: n, key: level, hash: h}
		t.table.insert(child)
		n.literals.Add(1)
	}
	return child
}

// remove takes a filter out that is there, and the levels that nothing needs without it. t.mu is held.
func (t *Trie[T]) remove(filter string) {
	if !HasWildcard(filter) {
		t.table.remove(find(&t.table, hashOf[T](nil, filter), nil, filter))
		return
	}
	n := &t.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		switch level {
		case "#":
			n.rest.Store(nil)
			t.prune(n)
			return
		case "+":
			n = n.plus.Load()
		default:
			n = find(&t.table, hashOf(n, level), n, level)
		}
	}
	n.value.Store(nil)
	t.prune(n)
}

// prune removes n if it has become useless, and then its parents. t.mu is held.
func (t *Trie[T]) prune(n *node[T]) {
	for n != &t.root && n.value.Load() == nil && n.rest.Load() == nil && n.plus.Load() == nil && n.literals.Load() == 0 {
		parent := n.parent
		if n.key == "+" {
			parent.plus.Store(nil)
		} else {
			t.table.remove(n)
			parent.literals.Add(-1)
		}
		n = parent
	}
}
