package topic

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// levels that random names are made of: few, so that much matches, and some that sort around the slash.
var levels = []string{"a", "b", "", "a!", "a0", "b.c", "$x", "cc"}

func randomName(rnd *rand.Rand) string {
	for {
		n := make([]string, 1+rnd.IntN(4))
		for i := range n {
			n[i] = levels[rnd.IntN(len(levels))]
		}
		if s := strings.Join(n, "/"); s != "" {
			return s
		}
	}
}

func randomFilter(rnd *rand.Rand) string {
	n := strings.Split(randomName(rnd), "/")
	for i := range n {
		if rnd.IntN(4) == 0 {
			n[i] = "+"
		}
	}
	if rnd.IntN(4) == 0 {
		n = append(n, "#")
	}
	if rnd.IntN(100) == 0 {
		n = []string{"#"}
	}
	return strings.Join(n, "/")
}

func sorted(values []*string) []string {
	var s []string
	for _, v := range values {
		s = append(s, *v)
	}
	slices.Sort(s)
	return s
}

func TestTrieEqualsNaive(t *testing.T) {
	for _, keep := range []int{3, 50, 5000} { // filters in the index at a time, about
		t.Run(strconv.Itoa(keep), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, uint64(keep)))
			var trie Trie[string]
			model := map[string]*string{}
			for range 30_000 {
				filter := randomFilter(rnd)
				if !ValidFilter(filter) {
					t.Fatalf("the test made %q", filter)
				}
				before := trie.Generation()
				switch op := rnd.IntN(10); {
				case op < 3 || op < 5 && len(model) < keep:
					got, inserted := trie.GetOrInsert(filter, func() *string { return &filter })
					want, had := model[filter]
					if !had {
						want, model[filter] = &filter, &filter
					}
					if got != want || inserted == had {
						t.Fatalf("GetOrInsert(%q): got %p %v, want %p %v", filter, got, inserted, want, !had)
					}
					if changed := trie.Generation() != before; changed == had {
						t.Fatalf("GetOrInsert(%q): generation changed %v, want %v", filter, changed, !had)
					}
				case op < 7 || len(model) > keep:
					if len(model) > keep {
						for filter = range model {
							break
						}
					}
					if got, want := trie.Delete(filter), model[filter]; got != want {
						t.Fatalf("Delete(%q): got %p, want %p", filter, got, want)
					}
					_, had := model[filter]
					delete(model, filter)
					if changed := trie.Generation() != before; changed != had {
						t.Fatalf("Delete(%q): generation changed %v, want %v", filter, changed, had)
					}
				case op < 9:
					name := randomName(rnd)
					var want []string
					for f := range model {
						if naiveMatch(f, name) {
							want = append(want, f)
						}
					}
					slices.Sort(want)
					if got := sorted(trie.Match([]byte(name), nil)); !slices.Equal(got, want) {
						t.Fatalf("Match(%q): got %q, want %q", name, got, want)
					}
				default:
					if got, want := trie.Get(filter), model[filter]; got != want {
						t.Fatalf("Get(%q): got %p, want %p", filter, got, want)
					}
				}
				if got, want := trie.Len(), len(model); got != want {
					t.Fatalf("Len: got %d, want %d", got, want)
				}
			}
			for filter := range model {
				trie.Delete(filter)
			}
			if got := countNodes(&trie.table); got != 0 || trie.root.plus.Load() != nil || trie.root.literals.Load() != 0 {
				t.Errorf("an empty index has %d nodes", got)
			}
		})
	}
}

func countNodes[T any](tab *table[T]) (n int) {
	for i := range tab.shards {
		if s := tab.shards[i].Load(); s != nil {
			n += s.live
		}
	}
	return n
}

func TestTrieUpdate(t *testing.T) {
	var trie Trie[int]
	one, two := 1, 2
	if got := trie.Update("a/+", func(old *int) *int {
		if old != nil {
			t.Errorf("first update: got %v, want nil", *old)
		}
		return &one
	}); got != &one {
		t.Errorf("got %v, want %v", got, &one)
	}
	g := trie.Generation()
	trie.Update("a/+", func(*int) *int { return &two })
	if got := trie.Match([]byte("a/b"), nil); len(got) != 1 || got[0] != &two || trie.Len() != 1 || trie.Generation() == g {
		t.Errorf("after the second update: got %v, length %d", got, trie.Len())
	}
	trie.Update("a/b", func(*int) *int { return nil })
	if trie.Len() != 1 {
		t.Errorf("deleting what is not there: length %d, want 1", trie.Len())
	}
}

// TestTrieConcurrently lets readers look for filters that never change while writers change others around them.
func TestTrieConcurrently(t *testing.T) {
	var trie Trie[string]
	fixed := []string{"a/b", "a/+", "#", "+/b", "a/b/#"}
	for _, f := range fixed {
		trie.GetOrInsert(f, func() *string { return &f })
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			defer done.Store(true)
			rnd := rand.New(rand.NewPCG(5, uint64(w)))
			for range 20_000 {
				f := randomFilter(rnd)
				if slices.Contains(fixed, f) {
					continue
				}
				if rnd.IntN(2) == 0 {
					trie.GetOrInsert(f, func() *string { return &f })
				} else {
					trie.Delete(f)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			var dst []*string
			name := []byte("a/b")
			for !done.Load() {
				g := trie.Generation()
				dst = trie.Match(name, dst[:0])
				for _, f := range fixed {
					if !slices.ContainsFunc(dst, func(s *string) bool { return *s == f }) {
						t.Errorf("Match misses %q at generation %d", f, g)
						return
					}
				}
				for _, f := range dst {
					if !naiveMatch(*f, "a/b") {
						t.Errorf("Match gives %q", *f)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestNamesEqualNaive(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	var names Names[string]
	model := map[string]*string{}
	for i := range 20_000 {
		name := randomName(rnd)
		switch op := rnd.IntN(10); {
		case op < 4:
			if got, want := names.Set(name, &name), model[name]; got != want {
				t.Fatalf("Set(%q): got %p, want %p", name, got, want)
			}
			model[name] = &name
		case op < 6:
			if got, want := names.Delete(name), model[name]; got != want {
				t.Fatalf("Delete(%q): got %p, want %p", name, got, want)
			}
			delete(model, name)
		case op < 7:
			if got, want := names.Get(name), model[name]; got != want {
				t.Fatalf("Get(%q): got %p, want %p", name, got, want)
			}
		default:
			filter := randomFilter(rnd)
			var want []string
			for n := range model {
				if naiveMatch(filter, n) {
					want = append(want, n)
				}
			}
			slices.Sort(want)
			limit := 1 + rnd.IntN(10)
			var found []*string
			var c Cursor
			for !c.Done() {
				before := len(found)
				if found, c = names.Match(filter, c, limit, found); len(found)-before > limit {
					t.Fatalf("Match(%q): got %d results, limit %d", filter, len(found)-before, limit)
				}
			}
			var got []string
			for _, v := range found {
				got = append(got, *v)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: Match(%q): got %q, want %q", i, filter, got, want)
			}
		}
		if names.Len() != len(model) {
			t.Fatalf("Len: got %d, want %d", names.Len(), len(model))
		}
	}
}

func TestNamesConcurrently(t *testing.T) {
	var names Names[string]
	fixed := []string{"f/1", "f/2", "f/3", "f/4", "f/5"}
	for _, n := range fixed {
		names.Set(n, &n)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		rnd := rand.New(rand.NewPCG(9, 9))
		for range 20_000 {
			n := "f/1" + strconv.Itoa(rnd.IntN(300))
			if n == "f/1" || rnd.IntN(2) == 0 {
				names.Set(n, &n)
			} else {
				names.Delete(n)
			}
		}
	})
	wg.Go(func() {
		for !done.Load() {
			var c Cursor
			var found []*string
			for !c.Done() {
				found, c = names.Match("f/+", c, 3, found)
			}
			seen := map[string]int{}
			for _, f := range found {
				seen[*f]++
			}
			for _, f := range fixed {
				if seen[f] != 1 {
					t.Errorf("%q was seen %d times, want once", f, seen[f])
					return
				}
			}
		}
	})
	wg.Wait()
}

// TestTrieMemory holds an exact filter that shares nothing with others to its budget: 250 bytes, the string included.
func TestTrieMemory(t *testing.T) {
	const n = 100_000
	value := new(int)
	for _, c := range []struct {
		name, format string
		budget       float64
	}{
		{"exact", "site-%d/line/device/temperature", 250},
		{"shared prefix and #", "site/line/device-%d/#", 300},
		{"plus", "site-%d/+/temperature", 600},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var trie Trie[int]
			for i := range n {
				trie.GetOrInsert(fmt.Sprintf(c.format, i), func() *int { return value })
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			got := float64(after.HeapAlloc-before.HeapAlloc) / n
			t.Logf("%.0f bytes for each filter", got)
			if got > c.budget {
				t.Errorf("got %.0f bytes, want at most %.0f", got, c.budget)
			}
			runtime.KeepAlive(&trie)
		})
	}
}

// BenchmarkTrieMatch: budget 100 ns for one matching filter, whatever else is in the index and fits the cache; 0 allocations.
func BenchmarkTrieMatch(b *testing.B) {
	for _, c := range []struct{ name, format, topic string }{
		{"exact", "site/%d/device/temperature", "site/%d/device/temperature"},
		{"plus", "site/%d/+/temperature", "site/%d/device/temperature"},
		{"hash", "site/%d/#", "site/%d/device/temperature"},
		{"plus first", "+/%d/device/temperature", "site/%d/device/temperature"},
		{"none", "site/%d/+/temperature", "place/%d/device/temperature"},
	} {
		for _, n := range []int{1, 1_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				var trie Trie[int]
				value := new(int)
				for i := range n {
					trie.GetOrInsert(fmt.Sprintf(c.format, i), func() *int { return value })
				}
				const some = 1024
				names := make([][]byte, some)
				for i := range names {
					names[i] = fmt.Appendf(nil, c.topic, i*7919%n)
				}
				dst := make([]*int, 0, 16)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					dst = trie.Match(names[i%some], dst[:0])
				}
				if len(dst) != 1 && c.name != "none" {
					b.Fatalf("got %d matches, want 1", len(dst))
				}
			})
		}
	}
}

// BenchmarkTrieMany matches a name that 100 of 100 100 filters match.
func BenchmarkTrieMany(b *testing.B) {
	var trie Trie[int]
	value := new(int)
	for i := range 100_000 {
		trie.GetOrInsert(fmt.Sprintf("+/%d/#", i), func() *int { return value })
	}
	for i := range 128 { // all ways to write + for some of seven levels
		f := strings.Split("a/b/c/d/e/f/g", "/")
		for j := range f {
			if i>>j&1 == 1 {
				f[j] = "+"
			}
		}
		trie.GetOrInsert(strings.Join(f, "/"), func() *int { return value })
	}
	dst := make([]*int, 0, 256)
	name := []byte("a/b/c/d/e/f/g")
	b.ReportAllocs()
	for b.Loop() {
		dst = trie.Match(name, dst[:0])
	}
	if len(dst) != 128 {
		b.Fatalf("got %d matches, want 128", len(dst))
	}
}

func BenchmarkTrieChange(b *testing.B) {
	for _, format := range []string{"site/%d/device/temperature", "site/%d/+/temperature"} {
		b.Run(format, func(b *testing.B) {
			const n = 1_000_000
			var trie Trie[int]
			value := new(int)
			filters := make([]string, n)
			for i := range n {
				filters[i] = fmt.Sprintf(format, i)
				trie.GetOrInsert(filters[i], func() *int { return value })
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f := filters[i*7919%n]
				trie.Delete(f)
				trie.GetOrInsert(f, func() *int { return value })
			}
		})
	}
}

func BenchmarkNames(b *testing.B) {
	const n = 1_000_000
	var names Names[int]
	value, other := new(int), new(int)
	all := make([]string, n)
	for i := range n {
		all[i] = fmt.Sprintf("site/%d/device/temperature", i)
		names.Set(all[i], value)
	}
	b.Run("Get", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			names.Get(all[i*7919%n])
		}
	})
	b.Run("Replace", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if i&1 == 0 {
				names.Set(all[i*7919%n], other)
			} else {
				names.Set(all[i*7919%n], value)
			}
		}
	})
	b.Run("DeleteSet", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			names.Delete(all[i*7919%n])
			names.Set(all[i*7919%n], value)
		}
	})
	dst := make([]*int, 0, 1000)
	for _, filter := range []string{"#", "site/+/device/temperature", "site/77777/#", "+/77777/+/temperature"} {
		b.Run("Match100/"+filter, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = names.Match(filter, Cursor{}, 100, dst[:0])
			}
			b.ReportMetric(float64(len(dst)), "results")
		})
	}
}

// TestNamesMemory holds a name to its budget: 200 bytes beyond its text.
func TestNamesMemory(t *testing.T) {
	const n = 100_000
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("site/%d/device/temperature", i*7919%n)
	}
	value := new(int)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var names Names[int]
	for _, name := range all {
		names.Set(name, value)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	got := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.0f bytes for each name beyond its text", got)
	if got > 200 {
		t.Errorf("got %.0f bytes, want at most 200", got)
	}
	runtime.KeepAlive(all)
	runtime.KeepAlive(&names)
}
