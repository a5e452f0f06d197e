// Package recon is the plugin for looking into a running node: goroutines, memory,
// profiles, and a collection of garbage now and then.
package recon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// Descriptor describes the plugin.
func Descriptor() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "recon",
		V2:      plugins.Listing{Version: "2.3", Description: "Recon Plugin"},
		V3:      plugins.Listing{Version: "3.0", Description: "EMQ X Recon Plugin"},
		Default: true,
		Keys:    keys,
		New:     func() plugins.Plugin { return new(Recon) },
	}
}

var keys = []config.Key{{
	Name: "recon.gc_interval", Type: config.Duration, Default: "5m", Hot: true, App: "emqx_recon", Plugin: "recon",
	V2:  []config.V2{{App: "emq_recon", Key: "recon.gc_interval", Datatype: "integer", Unit: time.Second}},
	Doc: "The time between two collections of garbage that give unused memory back to the system; 0 leaves it to the runtime.",
}}

// Recon is the running plugin.
type Recon struct {
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}
	change chan time.Duration

	mu      sync.Mutex // guards what follows
	last    time.Time
	profile bool // a processor profile is being taken
}

// Start begins the periodic collections.
func (r *Recon) Start(_ context.Context, env plugins.Env) error {
	ctx, cancel := context.WithCancel(context.Background())
	r.log, r.cancel, r.done, r.change = env.Logger, cancel, make(chan struct{}), make(chan time.Duration)
	go r.run(ctx, env.Config.Duration("recon.gc_interval"))
	return nil
}

// Configure sets the interval.
func (r *Recon) Configure(ctx context.Context, cfg *config.Config) error {
	select {
	case r.change <- cfg.Duration("recon.gc_interval"):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.done:
		return errors.New("stopped")
	}
}

// Stop ends the collections.
func (r *Recon) Stop(context.Context) error {
	r.cancel()
	<-r.done
	return nil
}

func (r *Recon) run(ctx context.Context, every time.Duration) {
	defer close(r.done)
	for {
		var tick <-chan time.Time
		var timer *time.Timer
		if every > 0 {
			timer = time.NewTimer(every)
			tick = timer.C
		}
		select {
		case <-ctx.Done():
		case every = <-r.change:
		case <-tick:
			r.Collect()
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// Collect collects garbage and gives unused memory back to the system. It returns
// the bytes of the heap that this freed.
func (r *Recon) Collect() int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	debug.FreeOSMemory()
	runtime.ReadMemStats(&after)
	r.mu.Lock()
	r.last = time.Now()
	r.mu.Unlock()
	return int64(before.HeapAlloc) - int64(after.HeapAlloc)
}

// Memory is what the process holds, in bytes.
type Memory struct {
	Used          uint64 // objects that live or are not collected yet
	Heap          uint64 // memory of the heap, free parts included
	Stacks        uint64
	Released      uint64 // given back to the system
	Total         uint64 // all that the runtime has from the system
	Objects       uint64
	NextCollect   uint64 // heap size that starts the next collection
	Collections   uint32
	LastCollected time.Time
	PauseTotal    time.Duration
}

// Memory returns the figures of the allocator.
func (r *Recon) Memory() Memory {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	out := Memory{
		Used: m.HeapAlloc, Heap: m.HeapSys, Stacks: m.StackSys, Released: m.HeapReleased, Total: m.Sys,
		Objects: m.HeapObjects, NextCollect: m.NextGC, Collections: m.NumGC, PauseTotal: time.Duration(m.PauseTotalNs),
	}
	if m.LastGC > 0 {
		out.LastCollected = time.Unix(0, int64(m.LastGC))
	}
	return out
}

// Scheduler is how the runtime gets on.
type Scheduler struct {
	Goroutines int
	Threads    int
	Processors int
	// LatencyP50 and LatencyP99 are how long goroutines waited to run since the start.
	LatencyP50, LatencyP99 time.Duration
}

// Scheduler returns the figures of the scheduler.
func (r *Recon) Scheduler() Scheduler {
	s := Scheduler{Goroutines: runtime.NumGoroutine(), Processors: runtime.GOMAXPROCS(0)}
	if p := pprof.Lookup("threadcreate"); p != nil {
		s.Threads = p.Count()
	}
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() == metrics.KindFloat64Histogram {
		h := sample[0].Value.Float64Histogram()
		s.LatencyP50, s.LatencyP99 = quantile(h, 0.5), quantile(h, 0.99)
	}
	return s
}

// quantile returns the upper border of the bucket in which the share q lies.
func quantile(h *metrics.Float64Histogram, q float64) time.Duration {
	var total, sum uint64
	for _, n := range h.Counts {
		total += n
	}
	for i, n := range h.Counts {
		if sum += n; total > 0 && float64(sum) >= q*float64(total) {
			border := h.Buckets[min(i+1, len(h.Buckets)-1)]
			if border > 3600 { // the last bucket has no upper border
				border = h.Buckets[i]
			}
			return time.Duration(border * float64(time.Second))
		}
	}
	return 0
}

// ErrBusy says that another processor profile is being taken.
var ErrBusy = errors.New("a processor profile is being taken already")

// ErrNoProfile says that there is no profile of that name.
var ErrNoProfile = errors.New("no such profile")

// MaxProfile is the longest processor profile.
const MaxProfile = 60 * time.Second

// Profile writes a profile: "cpu" over the given time (at most MaxProfile; ended
// early when ctx is done), or one of the runtime's ("heap", "goroutine", "allocs",
// "block", "mutex", "threadcreate") as it is now. debug 0 is the form of go tool
// pprof, 1 and 2 are text.
func (r *Recon) Profile(ctx context.Context, w io.Writer, name string, length time.Duration, debug int) error {
	if name != "cpu" {
		p := pprof.Lookup(name)
		if p == nil {
			return fmt.Errorf("%w: %q", ErrNoProfile, name)
		}
		return p.WriteTo(w, debug)
	}
	r.mu.Lock()
	busy := r.profile
	r.profile = true
	r.mu.Unlock()
	if busy {
		return ErrBusy
	}
	defer func() {
		r.mu.Lock()
		r.profile = false
		r.mu.Unlock()
	}()
	var text bytes.Buffer // nothing is written for a profile that cannot start
	if err := pprof.StartCPUProfile(&text); err != nil {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	timer := time.NewTimer(min(max(length, time.Second), MaxProfile))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	pprof.StopCPUProfile()
	_, err := text.WriteTo(w)
	return err
}

var (
	_ plugins.Plugin     = (*Recon)(nil)
	_ plugins.Configurer = (*Recon)(nil)
)
