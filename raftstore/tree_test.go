package raftstore

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// balanced reports whether sizes are right and no subtree outweighs its sibling.
func (b *branch[V]) balanced() bool {
	if b == nil {
		return true
	}
	l, r := b.left.count(), b.right.count()
	return b.size == l+r+1 && (l+r <= 1 || l <= weight*r && r <= weight*l) && b.left.balanced() && b.right.balanced()
}

// TestTreeModel drives a tree and a map with the same commands. Trees taken on
// the way must not change.
func TestTreeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type kept struct {
			tree  tree[int]
			model map[string]int
		}
		var tr tree[int]
		model := map[string]int{}
		var old []kept
		for i := range rapid.IntRange(0, 200).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "key"))
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				tr, model[key] = tr.put(key, i), i
			case 2:
				tr = tr.drop(key)
				delete(model, key)
			case 3:
				old = append(old, kept{tr, maps.Clone(model)})
			}
		}
		for _, k := range append(old, kept{tr, model}) {
			keys := slices.Sorted(maps.Keys(k.model))
			if !k.tree.root.balanced() {
				t.Fatal("out of balance")
			}
			if k.tree.len() != len(keys) {
				t.Fatalf("len: got %d, want %d", k.tree.len(), len(keys))
			}
			skip := rapid.IntRange(0, len(keys)+1).Draw(t, "skip")
			var got []string
			k.tree.walk(skip, func(key string, v int) bool {
				if v != k.model[key] {
					t.Fatalf("walk %s: got %d, want %d", key, v, k.model[key])
				}
				got = append(got, key)
				return true
			})
			if want := keys[min(skip, len(keys)):]; !slices.Equal(got, want) {
				t.Fatalf("walk from %d: got %v, want %v", skip, got, want)
			}
			probe := fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "probe"))
			v, ok := k.tree.get(probe)
			if want, has := k.model[probe]; ok != has || v != want {
				t.Fatalf("get %s: got %d %v, want %d %v", probe, v, ok, want, has)
			}
			if want, _ := slices.BinarySearch(keys, probe); k.tree.rank(probe) != want {
				t.Fatalf("rank %s: got %d, want %d", probe, k.tree.rank(probe), want)
			}
		}
	})
}

// BenchmarkPage reads the first and the last page of a full table of bans.
func BenchmarkPage(b *testing.B) {
	var tr tree[Ban]
	const n = 100_000
	for i := range n {
		tr = tr.put(fmt.Sprintf("%08d", i), Ban{})
	}
	for _, at := range []int{0, n - 20} {
		b.Run(fmt.Sprintf("offset=%d", at), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				page(tr, at, 20)
			}
		})
	}
}
