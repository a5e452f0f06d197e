package ordered

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// naive is what a Tree has to equal: a sorted slice.
type naive []naiveEntry

type naiveEntry struct {
	key     string
	value   int
	weights Weights
}

func (n naive) find(key string) (int, bool) {
	return slices.BinarySearchFunc(n, key, func(e naiveEntry, k string) int { return strings.Compare(e.key, k) })
}

func (n *naive) set(key string, value int, w Weights) bool {
	i, found := n.find(key)
	if found {
		(*n)[i] = naiveEntry{key, value, w}
	} else {
		*n = slices.Insert(*n, i, naiveEntry{key, value, w})
	}
	return found
}

func (n *naive) delete(key string) (int, bool) {
	i, found := n.find(key)
	if !found {
		return 0, false
	}
	v := (*n)[i].value
	*n = slices.Delete(*n, i, i+1)
	return v, true
}

func (n naive) total(dim int) (sum int64) {
	if dim == Any {
		return int64(len(n))
	}
	for _, e := range n {
		sum += int64(e.weights[dim])
	}
	return sum
}

func (n naive) seek(dim int, offset int64) (string, int64, bool) {
	if offset < 0 {
		return "", 0, false
	}
	for _, e := range n {
		if w := int64(e.weights[dim]); offset < w {
			return e.key, offset, true
		} else {
			offset -= w
		}
	}
	return "", 0, false
}

// checkInvariants walks the whole tree and compares what nodes say about each other.
func checkInvariants[V any](t *testing.T, tree *Tree[string, V]) {
	t.Helper()
	count, depths := 0, map[int]bool{}
	var walk func(l link[string, V], depth int, low string) Sums
	walk = func(l link[string, V], depth int, low string) Sums {
		if l.leaf != nil {
			depths[depth] = true
			for i := range l.leaf.n {
				if l.leaf.keys[i] < low || i > 0 && l.leaf.keys[i] <= l.leaf.keys[i-1] {
					t.Fatalf("key %q out of order", l.leaf.keys[i])
				}
			}
			for i := l.leaf.n; i < leafCap; i++ {
				if l.leaf.keys[i] != "" {
					t.Fatalf("leaf keeps the removed key %q", l.leaf.keys[i])
				}
			}
			if depth > 0 && l.leaf.n == 0 {
				t.Fatal("empty leaf")
			}
			count += l.leaf.n
			return l.sum()
		}
		for i := range l.inner.n {
			if i > 0 {
				low = l.inner.keys[i]
			}
			if got := walk(l.inner.kids[i], depth+1, low); got != l.inner.sums[i] {
				t.Fatalf("sums of child %d: got %v, want %v", i, l.inner.sums[i], got)
			}
		}
		return l.sum()
	}
	var sum Sums
	if tree.root != (link[string, V]{}) {
		sum = walk(tree.root, 0, "")
	}
	if count != tree.Len() || sum != tree.total || len(depths) > 1 {
		t.Fatalf("got length %d total %v, counted %d %v, depths %v", tree.Len(), tree.total, count, sum, depths)
	}
}

func TestTreeEqualsNaive(t *testing.T) {
	for _, c := range []struct {
		name            string
		keys            int // how many different keys
		steps           int
		deletes         int // in 100 steps, apart from a phase that only deletes
		inOrder, shrink bool
	}{
		{name: "few keys", keys: 10, steps: 4000, deletes: 45},
		{name: "grows", keys: 5000, steps: 12000, deletes: 10},
		{name: "shrinks", keys: 5000, steps: 20000, deletes: 20, shrink: true},
		{name: "in order", keys: 3000, steps: 8000, deletes: 5, inOrder: true, shrink: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			var tree Tree[string, int]
			var want naive
			for i := range c.steps {
				key := strconv.Itoa(rnd.IntN(c.keys))
				if c.inOrder && i < c.keys {
					key = fmt.Sprintf("%08d", i)
				}
				w := Weights{1, uint32(rnd.IntN(2)), uint32(rnd.IntN(5) * rnd.IntN(2))}
				op := rnd.IntN(100)
				switch {
				case op < c.deletes || c.shrink && i > c.steps/2:
					if len(want) > 0 {
						key = want[rnd.IntN(len(want))].key
					}
					gotV, gotOK := tree.Delete(key)
					wantV, wantOK := want.delete(key)
					if gotV != wantV || gotOK != wantOK {
						t.Fatalf("Delete(%q): got %d %v, want %d %v", key, gotV, gotOK, wantV, wantOK)
					}
				case op < 80:
					if got, want := tree.Set(key, i, w), want.set(key, i, w); got != want {
						t.Fatalf("Set(%q): got %v, want %v", key, got, want)
					}
				default:
					j, found := want.find(key)
					if found {
						want[j].weights = w
					}
					if got := tree.SetWeights(key, w); got != found {
						t.Fatalf("SetWeights(%q): got %v, want %v", key, got, found)
					}
				}
				if i%97 == 0 {
					compare(t, &tree, want, rnd)
				}
			}
			checkInvariants(t, &tree)
			for len(want) > 0 {
				key := want[rnd.IntN(len(want))].key
				want.delete(key)
				if _, ok := tree.Delete(key); !ok {
					t.Fatalf("Delete(%q): not found", key)
				}
			}
			compare(t, &tree, want, rnd)
		})
	}
}

func compare(t *testing.T, tree *Tree[string, int], want naive, rnd *rand.Rand) {
	t.Helper()
	checkInvariants(t, tree)
	for dim := Any; dim < Dimensions; dim++ {
		if got, want := tree.Total(dim), want.total(dim); got != want {
			t.Fatalf("Total(%d): got %d, want %d", dim, got, want)
		}
		from := strconv.Itoa(rnd.IntN(10000))
		var wantKeys, gotKeys []string
		var wantValues, gotValues []int
		var rank int64
		for _, e := range want {
			if e.key < from && dim != Any {
				rank += int64(e.weights[dim])
			}
			if e.key >= from && (dim == Any || e.weights[dim] > 0) {
				wantKeys, wantValues = append(wantKeys, e.key), append(wantValues, e.value)
			}
		}
		for k, v := range tree.Ascend(dim, from) {
			gotKeys, gotValues = append(gotKeys, k), append(gotValues, v)
		}
		if !slices.Equal(gotKeys, wantKeys) || !slices.Equal(gotValues, wantValues) {
			t.Fatalf("Ascend(%d, %q): got %v, want %v", dim, from, gotKeys, wantKeys)
		}
		if dim == Any {
			continue
		}
		if got := tree.Rank(dim, from); got != rank {
			t.Fatalf("Rank(%d, %q): got %d, want %d", dim, from, got, rank)
		}
		for _, offset := range []int64{-1, 0, rnd.Int64N(want.total(dim) + 1), want.total(dim) - 1, want.total(dim)} {
			gotK, gotR, gotOK := tree.Seek(dim, offset)
			wantK, wantR, wantOK := want.seek(dim, offset)
			if gotK != wantK || gotR != wantR || gotOK != wantOK {
				t.Fatalf("Seek(%d, %d): got %q %d %v, want %q %d %v", dim, offset, gotK, gotR, gotOK, wantK, wantR, wantOK)
			}
		}
	}
	for range 5 {
		key := strconv.Itoa(rnd.IntN(100))
		v, ok := tree.Get(key)
		i, found := want.find(key)
		if ok != found || found && (v != want[i].value || tree.Weights(key) != want[i].weights) {
			t.Fatalf("Get(%q): got %d %v, want %v %v", key, v, ok, want, found)
		}
	}
}

func TestAscendStops(t *testing.T) {
	var tree Tree[string, int]
	for i := range 1000 {
		tree.Set(fmt.Sprintf("%04d", i), i, Weights{1})
	}
	var got []int
	for _, v := range tree.Ascend(0, "0500") {
		if got = append(got, v); len(got) == 3 {
			break
		}
	}
	if want := []int{500, 501, 502}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestMemory holds the tree to its budget: 60 bytes for an entry beyond key and value.
func TestMemory(t *testing.T) {
	const n = 100_000
	keys := randomKeys(n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var tree Tree[string, *int]
	for _, k := range keys {
		tree.Set(k, nil, Weights{1, 1, 1})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const own = 16 + 8 // string header and pointer
	got := float64(after.HeapAlloc-before.HeapAlloc)/n - own
	t.Logf("%.1f bytes for each entry beyond key and value", got)
	if got > 60 {
		t.Errorf("got %.1f bytes, want at most 60", got)
	}
	runtime.KeepAlive(keys)
	runtime.KeepAlive(&tree)
}

func randomKeys(n int) []string {
	rnd := rand.New(rand.NewPCG(3, 4))
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("client-%08x", rnd.Uint32())
	}
	return keys
}

func BenchmarkTree(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		keys := randomKeys(n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var tree Tree[string, *int]
		for _, k := range keys {
			tree.Set(k, nil, Weights{1, 1, 3})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		size := float64(after.HeapAlloc-before.HeapAlloc)/float64(n) - 24
		run := func(name string, f func(i int)) {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					f(i % n)
				}
				b.ReportMetric(size, "B/entry")
			})
		}
		run("DeleteSet", func(i int) {
			tree.Delete(keys[i])
			tree.Set(keys[i], nil, Weights{1, 1, 3})
		})
		run("SetWeights", func(i int) { tree.SetWeights(keys[i], Weights{1, uint32(i & 1), 3}) })
		run("Get", func(i int) { tree.Get(keys[i]) })
		run("Page20", func(i int) {
			from, _, _ := tree.Seek(2, int64(i))
			rows := 0
			for range tree.Ascend(2, from) {
				if rows++; rows == 20 {
					break
				}
			}
		})
	}
}
