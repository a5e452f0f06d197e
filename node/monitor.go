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

// configure sets the watermarks and intervals.
func (m *monitor) configure(cfg *config.Config) {
	m.cfg.Store(cfg)
	select {
	case m.kick <- struct{}{}:
	default: // it will look
	}
}

// look is one figure: how often it is read, and what is made of it.
type look struct {
	key   string // of the interval
	read  func() (share float64, ok bool)
	judge func(cfg *config.Config, share float64)

	at    time.Time // of the last reading
	share float64
	known bool
}

// run reads every figure at its interval until ctx ends. A change of the
// configuration judges what was read last anew.
func (m *monitor) run(ctx context.Context) {
	g := m.gauges
	looks := []*look{
		{key: "os_mon.cpu_check_interval", read: g.processor, judge: m.judgeProcessor},
		{key: "os_mon.mem_check_interval", read: g.memory, judge: m.judgeMemory},
		{key: "os_mon.mem_check_interval", read: g.process, judge: m.judgeProcess},
		{key: "vm_mon.check_interval", read: g.connections, judge: m.judgeConnections},
	}
	g.processor() // the first share is that since now
	start := time.Now()
	for _, l := range looks {
		l.at = start
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.kick:
			for _, l := range looks {
				if l.known {
					l.judge(m.cfg.Load(), l.share)
				}
			}
		case <-timer.C:
		}
		cfg, now := m.cfg.Load(), time.Now()
		next := now.Add(time.Hour)
		for _, l := range looks {
			due := l.at.Add(cfg.Duration(l.key))
			if !due.After(now) {
				if l.share, l.known = l.read(); l.known {
					l.judge(cfg, l.share)
				}
				l.at = now
				due = now.Add(cfg.Duration(l.key))
			}
			if due.Before(next) {
				next = due
			}
		}
		timer.Reset(next.Sub(now))
	}
}

func (m *monitor) judgeProcessor(cfg *config.Config, share float64) {
	m.judge("cpu_high_watermark", "Processors busy", "processor load", share,
		cfg.Float("os_mon.cpu_high_watermark"), cfg.Float("os_mon.cpu_low_watermark"))
}

func (m *monitor) judgeMemory(cfg *config.Config, share float64) {
	mark := cfg.Float("os_mon.sysmem_high_watermark")
	m.judge("system_memory_high_watermark", "Memory short", "memory in use", share, mark, mark)
}

func (m *monitor) judgeProcess(cfg *config.Config, share float64) {
	mark := cfg.Float("os_mon.procmem_high_watermark")
	m.judge("process_memory_high_watermark", "Broker needs much memory", "memory of this process", share, mark, mark)
}

func (m *monitor) judgeConnections(cfg *config.Config, share float64) {
	m.judge("too_many_processes", "Connections near the descriptor limit", "connections of those that the descriptor limit allows", share,
		cfg.Float("vm_mon.process_high_watermark"), cfg.Float("vm_mon.process_low_watermark"))
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
