package node

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
)

// gauges are the figures that the monitor looks at. Tests put their own in place of
// those of the machine.
type gauges struct {
	// processor is the share of the processors (or of the container's quota) in use
	// since the last call, 0 to 1; ok is false where it is unknown.
	processor func() (share float64, ok bool)
	memory    func() (share float64, ok bool) // of the machine or the container
	process   func() (share float64, ok bool) // of that, by this process alone
	// connections is the share of the connections that the descriptors allow.
	connections func() (share float64, ok bool)
}

// monitor raises and clears the alarms about the machine and the process.
type monitor struct {
	alarms *engine.Alarms
	gauges gauges
	cfg    atomic.Pointer[config.Config]
	kick   chan struct{} // holds one: the configuration has changed
}

func newMonitor(alarms *engine.Alarms, g gauges, cfg *config.Config) *monitor {
	m := &monitor{alarms: alarms, gauges: g, kick: make(chan struct{}, 1)}
	m.cfg.Store(cfg)
	return m
}

// configure sets the watermarks and intervals; the next look is at once.
func (m *monitor) configure(cfg *config.Config) {
	m.cfg.Store(cfg)
	select {
	case m.kick <- struct{}{}:
	default: // it will look
	}
}

// run looks at every figure at its interval until ctx ends.
func (m *monitor) run(ctx context.Context) {
	type look struct {
		key  string
		at   time.Time
		what func(*config.Config)
	}
	looks := []*look{
		{key: "os_mon.cpu_check_interval", what: m.lookProcessor},
		{key: "os_mon.mem_check_interval", what: m.lookMemory},
		{key: "vm_mon.check_interval", what: m.lookConnections},
	}
	m.gauges.processor() // the first share is that since now
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for _, l := range looks {
		l.at = time.Now().Add(m.cfg.Load().Duration(l.key))
	}
	for {
		now := time.Now()
		next := now.Add(time.Hour)
		for _, l := range looks {
			if !l.at.After(now) {
				l.what(m.cfg.Load())
				l.at = now.Add(m.cfg.Load().Duration(l.key))
			}
			if l.at.Before(next) {
				next = l.at
			}
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-m.kick:
			timer.Stop()
			for _, l := range looks {
				l.at = time.Time{}
			}
		case <-timer.C:
		}
	}
}

func (m *monitor) lookProcessor(cfg *config.Config) {
	if share, ok := m.gauges.processor(); ok {
		m.judge("cpu_high_watermark", "Processors busy", "processor load", share,
			cfg.Float("os_mon.cpu_high_watermark"), cfg.Float("os_mon.cpu_low_watermark"))
	}
}

func (m *monitor) lookMemory(cfg *config.Config) {
	if share, ok := m.gauges.memory(); ok {
		mark := cfg.Float("os_mon.sysmem_high_watermark")
		m.judge("system_memory_high_watermark", "Memory short", "memory in use", share, mark, mark)
	}
	if share, ok := m.gauges.process(); ok {
		mark := cfg.Float("os_mon.procmem_high_watermark")
		m.judge("process_memory_high_watermark", "Broker needs much memory", "memory of this process", share, mark, mark)
	}
}

func (m *monitor) lookConnections(cfg *config.Config) {
	if share, ok := m.gauges.connections(); ok {
		m.judge("too_many_processes", "Connections near the descriptor limit", "connections of those that the descriptor limit allows", share,
			cfg.Float("vm_mon.process_high_watermark"), cfg.Float("vm_mon.process_low_watermark"))
	}
}

// judge raises an alarm above the high mark and clears it below the low one;
// between them it stays as it is.
func (m *monitor) judge(id, title, what string, share, high, low float64) {
	switch {
	case share > high:
		m.alarms.Raise(engine.Alarm{
			ID: id, Severity: "warning", Title: title,
			Summary: fmt.Sprintf("%s: %.0f%%, above %.0f%%", what, share*100, high*100),
		})
	case share < low || share <= high && low == high:
		m.alarms.Clear(id)
	}
}

// machineGauges are the figures of this machine, or of the container where that has
// limits. usable is how many connections the descriptors allow.
func machineGauges(l Limits, connections func() int, usable func() int) gauges {
	quota := l.Cores < float64(runtime.NumCPU())
	var lastBusy, lastAll uint64
	var lastUsed time.Duration
	var lastAt time.Time
	return gauges{
		processor: func() (float64, bool) {
			now := time.Now()
			if quota { // the machine's figures are those of all containers
				used := processTime()
				share := 0.0
				ok := !lastAt.IsZero() && now.After(lastAt)
				if ok {
					share = (used - lastUsed).Seconds() / (now.Sub(lastAt).Seconds() * l.Cores)
				}
				lastUsed, lastAt = used, now
				return share, ok && used > 0
			}
			busy, all := processorTimes()
			share, ok := 0.0, lastAll > 0 && all > lastAll
			if ok {
				share = float64(busy-lastBusy) / float64(all-lastAll)
			}
			lastBusy, lastAll = busy, all
			return share, ok
		},
		memory: func() (float64, bool) {
			used := machineMemoryUsed()
			if m := cgroupMemory(); m > 0 && m == l.Memory {
				used = cgroupMemoryUsed()
			}
			return float64(used) / float64(max(l.Memory, 1)), l.Memory > 0 && used > 0
		},
		process: func() (float64, bool) {
			used := processMemory()
			return float64(used) / float64(max(l.Memory, 1)), l.Memory > 0 && used > 0
		},
		connections: func() (float64, bool) {
			n := usable()
			return float64(connections()) / float64(max(n, 1)), n > 0
		},
	}
}
