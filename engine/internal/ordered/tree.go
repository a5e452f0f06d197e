// Package ordered holds Tree, an ordered map that also counts: the page of a listing that begins at the n-th row is found
// without walking over the rows before it.
package ordered

import "iter"

// Dimensions is how many weights an entry has.
const Dimensions = 3

// Weights are the weights of one entry. What they count is up to the user: a row, a row in some state, rows below it.
type Weights [Dimensions]uint32

// Sums are sums of Weights.
type Sums [Dimensions]int64

func (s *Sums) add(d Sums) {
	for i := range s {
		s[i] += d[i]
	}
}

func (s *Sums) addWeights(w Weights) {
	for i := range s {
		s[i] += int64(w[i])
	}
}

func (s *Sums) subWeights(w Weights) {
	for i := range s {
		s[i] -= int64(w[i])
	}
}

// Any stands for a weight of 1 that every entry has, where a dimension is asked for.
const Any = -1

// The capacity of nodes. A leaf of strings and pointers has 1.2 KB; random insertion fills two thirds of it.
const (
	leafCap  = 32
	innerCap = 32
	leafMin  = leafCap / 4
	innerMin = innerCap / 4
)

// Tree is an ordered map with the keys in bytewise order. Each entry carries Weights, and the tree knows their sums. Set, Delete,
// SetWeights, Get, Rank and Seek cost O(log n). The zero value is an empty tree.
//
// A Tree does no locking. It must not be changed during an iteration.
type Tree[K ~string, V any] struct {
	root   link[K, V]
	total  Sums
	length int
}

// link leads to a node: one of the two is set, none in the root of an empty tree.
type link[K ~string, V any] struct {
	leaf  *leaf[K, V]
	inner *inner[K, V]
}

type leaf[K ~string, V any] struct {
	keys    [leafCap]K
	values  [leafCap]V
	weights [leafCap]Weights
	n       int
}

// inner is an inner node. All keys in kids[i] are below keys[i+1] and not below keys[i]; keys[0] is not used.
type inner[K ~string, V any] struct {
	keys [innerCap]K
	sums [innerCap]Sums
	kids [innerCap]link[K, V]
	n    int
}

// Len is the number of entries.
func (t *Tree[K, V]) Len() int { return t.length }

// Total is the sum of one weight, 0 to Dimensions-1, over all entries; or Len for Any.
func (t *Tree[K, V]) Total(dim int) int64 {
	if dim == Any {
		return int64(t.length)
	}
	return t.total[dim]
}

// search gives the position of the first key that is not below key.
func (l *leaf[K, V]) search(key K) (i int, found bool) {
	i, j := 0, l.n
	for i < j {
		m := int(uint(i+j) >> 1)
		if l.keys[m] < key {
			i = m + 1
		} else {
			j = m
		}
	}
	return i, i < l.n && l.keys[i] == key
}

// search gives the child that a key belongs to.
func (in *inner[K, V]) search(key K) int {
	i, j := 1, in.n
	for i < j {
		m := int(uint(i+j) >> 1)
		if in.keys[m] <= key {
			i = m + 1
		} else {
			j = m
		}
	}
	return i - 1
}

// sum adds up the weights below a link.
func (l link[K, V]) sum() (s Sums) {
	if l.leaf != nil {
		for i := range l.leaf.n {
			s.addWeights(l.leaf.weights[i])
		}
		return s
	}
	for i := range l.inner.n {
		s.add(l.inner.sums[i])
	}
	return s
}

// find gives the leaf and position of a key.
func (t *Tree[K, V]) find(key K) (l *leaf[K, V], i int, found bool) {
	at := t.root
	for at.inner != nil {
		at = at.inner.kids[at.inner.search(key)]
	}
	if at.leaf == nil {
		return nil, 0, false
	}
	i, found = at.leaf.search(key)
	return at.leaf, i, found
}

// Get gives the value of a key.
func (t *Tree[K, V]) Get(key K) (value V, ok bool) {
	if l, i, found := t.find(key); found {
		return l.values[i], true
	}
	return value, false
}

// Weights gives the weights of a key, zero if it is not there.
func (t *Tree[K, V]) Weights(key K) (w Weights) {
	if l, i, found := t.find(key); found {
		return l.weights[i]
	}
	return w
}

// Set puts an entry into the tree, or replaces value and weights of the key if it is there.
func (t *Tree[K, V]) Set(key K, value V, w Weights) (replaced bool) {
	if t.root == (link[K, V]{}) {
		t.root.leaf = new(leaf[K, V])
	}
	before := t.length
	delta, right, sep := t.put(t.root, key, value, w, true)
	if right != (link[K, V]{}) {
		in := &inner[K, V]{n: 2}
		in.kids[0], in.kids[1] = t.root, right
		in.sums[0], in.sums[1] = t.root.sum(), right.sum()
		in.keys[1] = sep
		t.root.leaf, t.root.inner = nil, in
	}
	t.total.add(delta)
	return t.length == before
}

// put sets an entry below at. If that splits the node, it returns the new right half and its lowest key. last tells that the
// node is the rightmost of its level: there a split leaves the left half full, because keys often come in order.
func (t *Tree[K, V]) put(at link[K, V], key K, value V, w Weights, last bool) (delta Sums, right link[K, V], sep K) {
	delta.addWeights(w)
	if l := at.leaf; l != nil {
		i, found := l.search(key)
		if found {
			delta.subWeights(l.weights[i])
			l.values[i], l.weights[i] = value, w
			return delta, right, sep
		}
		t.length++
		if l.n < leafCap {
			l.insert(i, key, value, w)
			return delta, right, sep
		}
		half := leafCap / 2
		if last && i == leafCap {
			half = leafCap
		}
		r := l.split(half)
		if i > half || half == leafCap {
			r.insert(i-half, key, value, w)
		} else {
			l.insert(i, key, value, w)
		}
		return delta, link[K, V]{leaf: r}, r.keys[0]
	}
	in := at.inner
	i := in.search(key)
	d, kid, kidKey := t.put(in.kids[i], key, value, w, last && i == in.n-1)
	if kid == (link[K, V]{}) {
		in.sums[i].add(d)
		return d, right, sep
	}
	in.sums[i] = in.kids[i].sum()
	if in.n < innerCap {
		in.insert(i+1, kidKey, kid)
		return d, right, sep
	}
	half := innerCap / 2
	if last && i == innerCap-1 {
		half = innerCap - 1
	}
	r := in.split(half)
	if i+1 > half {
		r.insert(i+1-half, kidKey, kid)
	} else {
		in.insert(i+1, kidKey, kid)
	}
	return d, link[K, V]{inner: r}, r.keys[0]
}

func (l *leaf[K, V]) insert(i int, key K, value V, w Weights) {
	copy(l.keys[i+1:l.n+1], l.keys[i:l.n])
	copy(l.values[i+1:l.n+1], l.values[i:l.n])
	copy(l.weights[i+1:l.n+1], l.weights[i:l.n])
	l.keys[i], l.values[i], l.weights[i] = key, value, w
	l.n++
}

// remove takes the entries from i to j out.
func (l *leaf[K, V]) remove(i, j int) {
	copy(l.keys[i:], l.keys[j:l.n])
	copy(l.values[i:], l.values[j:l.n])
	copy(l.weights[i:], l.weights[j:l.n])
	n := l.n - (j - i)
	clear(l.keys[n:l.n])
	clear(l.values[n:l.n])
	l.n = n
}

// split moves the entries from i on to a new leaf.
func (l *leaf[K, V]) split(i int) *leaf[K, V] {
	r := new(leaf[K, V])
	r.take(l, i, l.n)
	l.remove(i, l.n)
	return r
}

// take appends entries i to j of o.
func (l *leaf[K, V]) take(o *leaf[K, V], i, j int) {
	copy(l.keys[l.n:], o.keys[i:j])
	copy(l.values[l.n:], o.values[i:j])
	copy(l.weights[l.n:], o.weights[i:j])
	l.n += j - i
}

func (in *inner[K, V]) insert(i int, key K, kid link[K, V]) {
	copy(in.keys[i+1:in.n+1], in.keys[i:in.n])
	copy(in.sums[i+1:in.n+1], in.sums[i:in.n])
	copy(in.kids[i+1:in.n+1], in.kids[i:in.n])
	in.keys[i], in.sums[i], in.kids[i] = key, kid.sum(), kid
	in.n++
}

func (in *inner[K, V]) remove(i, j int) {
	copy(in.keys[i:], in.keys[j:in.n])
	copy(in.sums[i:], in.sums[j:in.n])
	copy(in.kids[i:], in.kids[j:in.n])
	n := in.n - (j - i)
	clear(in.keys[n:in.n])
	clear(in.kids[n:in.n])
	in.n = n
}

func (in *inner[K, V]) split(i int) *inner[K, V] {
	r := new(inner[K, V])
	r.take(in, i, in.n)
	in.remove(i, in.n)
	return r
}

func (in *inner[K, V]) take(o *inner[K, V], i, j int) {
	copy(in.keys[in.n:], o.keys[i:j])
	copy(in.sums[in.n:], o.sums[i:j])
	copy(in.kids[in.n:], o.kids[i:j])
	in.n += j - i
}

// SetWeights changes the weights of a key. It reports whether the key is there.
func (t *Tree[K, V]) SetWeights(key K, w Weights) bool {
	l, i, found := t.find(key)
	if !found {
		return false
	}
	var delta Sums
	delta.addWeights(w)
	delta.subWeights(l.weights[i])
	if delta == (Sums{}) {
		return true
	}
	l.weights[i] = w
	t.total.add(delta)
	for at := t.root; at.inner != nil; {
		i := at.inner.search(key)
		at.inner.sums[i].add(delta)
		at = at.inner.kids[i]
	}
	return true
}

// Delete takes an entry out and gives its value.
func (t *Tree[K, V]) Delete(key K) (value V, ok bool) {
	if t.root == (link[K, V]{}) {
		return value, false
	}
	value, delta, ok := t.cut(t.root, key)
	if !ok {
		return value, false
	}
	t.length--
	t.total.add(delta)
	if in := t.root.inner; in != nil && in.n == 1 {
		t.root = in.kids[0]
	} else if t.length == 0 {
		t.root = link[K, V]{}
	}
	return value, true
}

// cut deletes a key below at.
func (t *Tree[K, V]) cut(at link[K, V], key K) (value V, delta Sums, ok bool) {
	if l := at.leaf; l != nil {
		i, found := l.search(key)
		if !found {
			return value, delta, false
		}
		value = l.values[i]
		delta.subWeights(l.weights[i])
		l.remove(i, i+1)
		return value, delta, true
	}
	in := at.inner
	i := in.search(key)
	if value, delta, ok = t.cut(in.kids[i], key); !ok {
		return value, delta, false
	}
	in.sums[i].add(delta)
	in.refill(i)
	return value, delta, true
}

// refill merges child i with a neighbour, or takes entries over from it, if it has become too small.
func (in *inner[K, V]) refill(i int) {
	if k := in.kids[i]; k.leaf != nil && k.leaf.n >= leafMin || k.inner != nil && k.inner.n >= innerMin || in.n == 1 {
		return
	}
	if i == in.n-1 {
		i--
	}
	// Children i and i+1 become one, or are made equal.
	a, b := in.kids[i], in.kids[i+1]
	merged := false
	if a.leaf != nil {
		l, r := a.leaf, b.leaf
		if merged = l.n+r.n <= leafCap; merged {
			l.take(r, 0, r.n)
		} else if half := (l.n + r.n) / 2; l.n < half {
			k := half - l.n
			l.take(r, 0, k)
			r.remove(0, k)
		} else {
			moved := l.split(half)
			moved.take(r, 0, r.n)
			*r = *moved
		}
		in.keys[i+1] = r.keys[0]
	} else {
		l, r := a.inner, b.inner
		r.keys[0] = in.keys[i+1]
		if merged = l.n+r.n <= innerCap; merged {
			l.take(r, 0, r.n)
		} else if half := (l.n + r.n) / 2; l.n < half {
			k := half - l.n
			l.take(r, 0, k)
			r.remove(0, k)
		} else {
			moved := l.split(half)
			moved.take(r, 0, r.n)
			*r = *moved
		}
		in.keys[i+1] = r.keys[0]
	}
	in.sums[i] = in.kids[i].sum()
	if merged {
		in.remove(i+1, i+2)
	} else {
		in.sums[i+1] = in.kids[i+1].sum()
	}
}

// Seek finds the entry that holds unit number offset, from 0, of weight dim, 0 to Dimensions-1, when the units of all entries
// stand in a row in key order. remainder is the number of the unit within the entry. ok is false when offset is
// negative or not below Total(dim).
func (t *Tree[K, V]) Seek(dim int, offset int64) (key K, remainder int64, ok bool) {
	if offset < 0 || offset >= t.total[dim] {
		return key, 0, false
	}
	at := t.root
	for at.inner != nil {
		in, i := at.inner, 0
		for offset >= in.sums[i][dim] {
			offset -= in.sums[i][dim]
			i++
		}
		at = in.kids[i]
	}
	l, i := at.leaf, 0
	for offset >= int64(l.weights[i][dim]) {
		offset -= int64(l.weights[i][dim])
		i++
	}
	return l.keys[i], offset, true
}

// Rank is the sum of weight dim, 0 to Dimensions-1, over the entries with a key below key.
func (t *Tree[K, V]) Rank(dim int, key K) (n int64) {
	at := t.root
	for at.inner != nil {
		i := at.inner.search(key)
		for j := range i {
			n += at.inner.sums[j][dim]
		}
		at = at.inner.kids[i]
	}
	if at.leaf != nil {
		end, _ := at.leaf.search(key)
		for i := range end {
			n += int64(at.leaf.weights[i][dim])
		}
	}
	return n
}

// Ascend iterates in order over the entries whose key is not below from and whose weight dim is not 0; Any takes all.
// Stretches of weight 0 cost nothing.
func (t *Tree[K, V]) Ascend(dim int, from K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		t.root.ascend(dim, from, true, yield)
	}
}

// ascend yields what is below l; bounded tells that from still has to be looked at. It returns false when yield did.
func (l link[K, V]) ascend(dim int, from K, bounded bool, yield func(K, V) bool) bool {
	if l.leaf != nil {
		i := 0
		if bounded {
			i, _ = l.leaf.search(from)
		}
		for ; i < l.leaf.n; i++ {
			if (dim == Any || l.leaf.weights[i][dim] != 0) && !yield(l.leaf.keys[i], l.leaf.values[i]) {
				return false
			}
		}
		return true
	}
	if l.inner == nil {
		return true
	}
	i := 0
	if bounded {
		i = l.inner.search(from)
	}
	for ; i < l.inner.n; i++ {
		if (dim == Any || l.inner.sums[i][dim] != 0) && !l.inner.kids[i].ascend(dim, from, bounded, yield) {
			return false
		}
		bounded = false
	}
	return true
}
