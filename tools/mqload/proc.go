//go:build linux

package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lacewing-mqtt/lacewing/tools/internal/proc"
)

func selfCPU() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// A rssWatch samples a process's resident size and keeps the peak.
type rssWatch struct {
	mu   sync.Mutex
	peak int64
	stop chan struct{}
	done chan struct{}
}

func watchRSS(pid int) *rssWatch {
	w := &rssWatch{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			w.sample(pid)
			select {
			case <-tick.C:
			case <-w.stop:
				w.sample(pid)
				return
			}
		}
	}()
	return w
}

func (w *rssWatch) sample(pid int) {
	if pid == 0 {
		return
	}
	if kb, err := proc.RSS(pid); err == nil {
		w.mu.Lock()
		w.peak = max(w.peak, kb)
		w.mu.Unlock()
	}
}

// end stops the watch and returns the peak in KiB.
func (w *rssWatch) end() int64 {
	close(w.stop)
	<-w.done
	return w.peak
}

// machineBusy is the time all processors together have spent working.
func machineBusy() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	var busy int64
	for i, f := range strings.Fields(line)[1:] {
		// user nice system idle iowait irq softirq steal; then guest time,
		// which is part of user time already
		if n, err := strconv.ParseInt(f, 10, 64); err == nil && i < 8 && i != 3 && i != 4 {
			busy += n
		}
	}
	return time.Duration(busy) * proc.Tick
}

// waitQuiet waits, at most so long, for a moment in which the machine does
// nearly nothing.
func waitQuiet(limit time.Duration) {
	const look = 400 * time.Millisecond
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		before := machineBusy()
		time.Sleep(look)
		if machineBusy()-before < look/10 {
			return
		}
	}
}
