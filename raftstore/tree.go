package raftstore

// tree is a persistent ordered map from string keys, bytewise: put and drop
// return a new tree and leave the old one as it is, at the cost of one path. A
// snapshot of a table is therefore a copy of its root, and every subtree knows
// its size, so that the page of a list costs the page and not what is before
// it. It is a weight-balanced tree. The zero value is empty.
type tree[V any] struct{ root *branch[V] }

type branch[V any] struct {
	left, right *branch[V]
	size        int
	key         string
	value       V
}

// A subtree may be at most weight times as large as its sibling; ratio decides
// between a single and a double rotation. The pair (3, 2) is proven to keep
// the balance.
const (
	weight = 3
	ratio  = 2
)

func (t tree[V]) len() int { return t.root.count() }

func (t tree[V]) get(key string) (V, bool) {
	for b := t.root; b != nil; {
		switch {
		case key < b.key:
			b = b.left
		case key > b.key:
			b = b.right
		default:
			return b.value, true
		}
	}
	var none V
	return none, false
}

func (t tree[V]) put(key string, value V) tree[V] { return tree[V]{t.root.put(key, value)} }

func (t tree[V]) drop(key string) tree[V] { return tree[V]{t.root.drop(key)} }

// rank returns how many keys are below key.
func (t tree[V]) rank(key string) int {
	n := 0
	for b := t.root; b != nil; {
		if key <= b.key {
			b = b.left
		} else {
			n += b.left.count() + 1
			b = b.right
		}
	}
	return n
}

// walk calls f for the entries from the position skip on, in order, until it
// returns false.
func (t tree[V]) walk(skip int, f func(key string, value V) bool) { t.root.walk(skip, f) }

// from calls f for the entries whose key begins with prefix, in order.
func (t tree[V]) from(prefix string, f func(key string, value V)) {
	t.walk(t.rank(prefix), func(k string, v V) bool {
		if len(k) < len(prefix) || k[:len(prefix)] != prefix {
			return false
		}
		f(k, v)
		return true
	})
}

func (b *branch[V]) count() int {
	if b == nil {
		return 0
	}
	return b.size
}

func (b *branch[V]) walk(skip int, f func(string, V) bool) bool {
	if b == nil || skip >= b.size {
		return true
	}
	l := b.left.count()
	if skip < l && !b.left.walk(skip, f) {
		return false
	}
	if skip <= l && !f(b.key, b.value) {
		return false
	}
	return b.right.walk(max(0, skip-l-1), f)
}

func join[V any](l *branch[V], key string, value V, r *branch[V]) *branch[V] {
	return &branch[V]{left: l, right: r, size: l.count() + r.count() + 1, key: key, value: value}
}

// balance joins two subtrees of which one has changed by one entry.
func balance[V any](l *branch[V], key string, value V, r *branch[V]) *branch[V] {
	ln, rn := l.count(), r.count()
	switch {
	case ln+rn <= 1:
	case rn > weight*ln:
		if r.left.count() < ratio*r.right.count() {
			return join(join(l, key, value, r.left), r.key, r.value, r.right)
		}
		m := r.left
		return join(join(l, key, value, m.left), m.key, m.value, join(m.right, r.key, r.value, r.right))
	case ln > weight*rn:
		if l.right.count() < ratio*l.left.count() {
			return join(l.left, l.key, l.value, join(l.right, key, value, r))
		}
		m := l.right
		return join(join(l.left, l.key, l.value, m.left), m.key, m.value, join(m.right, key, value, r))
	}
	return join(l, key, value, r)
}

func (b *branch[V]) put(key string, value V) *branch[V] {
	switch {
	case b == nil:
		return join(nil, key, value, nil)
	case key < b.key:
		return balance(b.left.put(key, value), b.key, b.value, b.right)
	case key > b.key:
		return balance(b.left, b.key, b.value, b.right.put(key, value))
	default:
		return join(b.left, key, value, b.right)
	}
}

func (b *branch[V]) drop(key string) *branch[V] {
	switch {
	case b == nil:
		return nil
	case key < b.key:
		if l := b.left.drop(key); l != b.left {
			return balance(l, b.key, b.value, b.right)
		}
		return b
	case key > b.key:
		if r := b.right.drop(key); r != b.right {
			return balance(b.left, b.key, b.value, r)
		}
		return b
	case b.left == nil:
		return b.right
	case b.right == nil:
		return b.left
	default:
		least := b.right
		for least.left != nil {
			least = least.left
		}
		return balance(b.left, least.key, least.value, b.right.drop(least.key))
	}
}
