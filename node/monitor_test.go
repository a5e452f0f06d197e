package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := engine.New(engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := loadSettings(map[string]string{"os_mon.cpu_check_interval": "10s"})
		if err != nil {
			t.Fatal(err)
		}
		var processor, memory, process, connections atomic.Int64 // percent
		known := func(f *atomic.Int64) func() (float64, bool) {
			return func() (float64, bool) { return float64(f.Load()) / 100, true }
		}
		m := newMonitor(e.Alarms(), gauges{known(&processor), known(&memory), known(&process), known(&connections)}, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.run(ctx) }()
		synctest.Wait() // it has begun
		raised := func(after time.Duration) (ids []string) {
			time.Sleep(after)
			synctest.Wait()
			for _, a := range e.Alarms().List() {
				ids = append(ids, a.ID)
			}
			return ids
		}
		for _, c := range []struct {
			name                                    string
			processor, memory, process, connections int64
			after                                   time.Duration
			want                                    string
		}{
			{"quiet", 10, 10, 10, 10, 2 * time.Minute, "[]"},
			{"processors busy", 90, 10, 10, 10, 11 * time.Second, "[cpu_high_watermark]"},
			{"between the marks", 70, 10, 10, 10, 11 * time.Second, "[cpu_high_watermark]"},
			{"below the low one", 50, 10, 10, 10, 11 * time.Second, "[]"},
			{"memory short", 10, 71, 10, 10, 61 * time.Second, "[system_memory_high_watermark]"},
			{"memory of the process", 10, 10, 81, 10, 61 * time.Second, "[process_memory_high_watermark]"},
			{"connections", 10, 10, 10, 81, 61 * time.Second, "[too_many_processes]"},
			{"connections between the marks", 10, 10, 10, 61, 61 * time.Second, "[too_many_processes]"},
			{"quiet again", 10, 10, 10, 10, 61 * time.Second, "[]"},
		} {
			processor.Store(c.processor)
			memory.Store(c.memory)
			process.Store(c.process)
			connections.Store(c.connections)
			if got := fmt.Sprint(raised(c.after)); got != c.want {
				t.Errorf("%s: got %s, want %s", c.name, got, c.want)
			}
		}
		// A lower mark judges the last reading at once.
		processor.Store(50)
		raised(11 * time.Second)
		next, err := loadSettings(map[string]string{"os_mon.cpu_high_watermark": "40%", "os_mon.cpu_low_watermark": "30%"})
		if err != nil {
			t.Fatal(err)
		}
		m.configure(next)
		if got := fmt.Sprint(raised(0)); got != "[cpu_high_watermark]" {
			t.Errorf("lower mark: got %s, want the alarm", got)
		}
		cancel()
		<-done
	})
}

func TestMachineGauges(t *testing.T) {
	l := readLimits()
	if l.Cores <= 0 {
		t.Errorf("got %v cores", l.Cores)
	}
	g := machineGauges(l, func() int { return 50 }, func() int { return 100 })
	g.processor()
	for name, f := range map[string]func() (float64, bool){"processor": g.processor, "memory": g.memory, "process": g.process} {
		if share, ok := f(); ok && (share < 0 || share > 64) {
			t.Errorf("%s: got a share of %v", name, share)
		}
	}
	if share, ok := g.connections(); !ok || share != 0.5 {
		t.Errorf("connections: got %v %v, want 0.5", share, ok)
	}
}
