package store

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lacewing-mqtt/lacewing/engine/store/storetest"
)

func histories(t *testing.T, medium func(testing.TB) *storetest.Medium) {
	rapid.Check(t, func(rt *rapid.T) {
		storetest.History(rt, medium(t), func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, what) })
	})
}

func TestMemoryHistories(t *testing.T) { histories(t, memoryMedium) }

func TestDiskHistories(t *testing.T) {
	for _, d := range []Durability{Fsync, Interval, Off} {
		t.Run(string(d), func(t *testing.T) {
			histories(t, diskMedium(Options{
				Durability: d, SegmentSize: minSegmentSize, RetryInterval: time.Millisecond, SyncInterval: 2 * time.Millisecond,
			}))
		})
	}
}
