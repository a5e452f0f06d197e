//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// usage is what the kernel has accounted to a process so far.
type usage struct {
	cpu       time.Duration // exact
	user, sys time.Duration // in steps of clockTick
	rssKB     int64
}

const clockTick = 10 * time.Millisecond // USER_HZ is 100 on every Linux Go runs on

// readUsage reads the process's CPU clock, /proc/PID/stat and status. pid 0 means "not given".
func readUsage(pid int) (u usage, err error) {
	if pid == 0 {
		return usage{}, nil
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	// The command name, in parentheses, may hold anything; fields follow it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return usage{}, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	ticks := func(s string) time.Duration {
		n, _ := strconv.ParseInt(s, 10, 64)
		return time.Duration(n) * clockTick
	}
	u.user, u.sys = ticks(fields[11]), ticks(fields[12])
	if u.cpu, err = processCPU(pid); err != nil {
		return usage{}, err
	}
	u.rssKB, err = readRSS(pid)
	return u, err
}

// processCPU reads the CPU clock of another process. /proc/PID/stat counts in
// steps of 10 ms, a tenth of what a broker uses in a second of light load.
func processCPU(pid int) (time.Duration, error) {
	const sched = 2                          // CPUCLOCK_SCHED: all threads, in nanoseconds
	clock := uintptr(int32(^pid<<3) | sched) // see clock_getcpuclockid(3)
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, errno)
	}
	return time.Duration(ts.Nano()), nil
}

func readRSS(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/status: no VmRSS (is it a zombie?)", pid)
}

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
	if kb, err := readRSS(pid); err == nil {
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
	return time.Duration(busy) * clockTick
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
