package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// A process that did not run for a while, or whose clock was set, does not blame its clients for silence: they get their
// keep alive anew.
func TestStallIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slept atomic.Int64
		w := newWorld(t, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(time.Duration(slept.Load())) } })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.e.Run(ctx) }()
		c := w.connect(packet.V5, "c", func(c *packet.Connect) { c.KeepAlive = 10 })
		time.Sleep(time.Second)
		slept.Store(int64(time.Hour))
		time.Sleep(14 * time.Second)
		if c.isClosed() {
			t.Error("closed within the keep alive after a stall")
		}
		time.Sleep(2 * time.Second)
		if !c.isClosed() {
			t.Error("not closed, though silent for 1.5 times the keep alive after a stall")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
