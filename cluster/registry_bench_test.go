package cluster

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// BenchmarkRegistryEntry measures what a client costs the registry: memory at the owner, and processor time of a claim and its end, all nodes
// together, over calls in memory.
func BenchmarkRegistryEntry(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		_, n := three(b)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		own := 0
		for i := range b.N {
			id := fmt.Sprintf("device-%016d", i) // with the identifier, of 23 characters
			if n[0].reg.view.Load().owner(shardOf(id)) == "a" {
				own++
				n[0].reg.note("b", HomeReport{Kind: Have, ClientID: id, Fence: engine.Fence{Epoch: 1, Count: uint64(i)}})
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if own > 0 {
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(own), "B/entry")
		}
	})
	b.Run("claim", func(b *testing.B) {
		_, n := three(b)
		ctx := context.Background()
		var next atomic.Int64
		b.ReportAllocs()
		b.ResetTimer()
		var wg sync.WaitGroup
		for range 256 {
			wg.Go(func() {
				for {
					i := int(next.Add(1))
					if i > b.N {
						return
					}
					id, m := fmt.Sprint("device-", i), n[i%3]
					c, err := m.reg.Claim(ctx, id, true)
					if err != nil {
						b.Error(err)
						return
					}
					m.reg.Settle(id, c.Fence, true, engine.Presence{})
				}
			})
		}
		wg.Wait()
	})
	b.Run("claim-here", func(b *testing.B) {
		h := newHall(b)
		a := h.open("a", nil)
		h.mark(a)
		h.settled(a)
		ctx := context.Background()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			id := fmt.Sprint("device-", i&0xffff)
			c, err := a.reg.Claim(ctx, id, true)
			if err != nil {
				b.Fatal(err)
			}
			a.reg.Settle(id, c.Fence, true, engine.Presence{})
		}
	})
}
