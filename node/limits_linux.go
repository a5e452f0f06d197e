package node

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// raiseDescriptors lifts the soft limit of open files to the hard one and returns
// it.
func raiseDescriptors() uint64 {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0
	}
	if r.Cur < r.Max {
		raised := syscall.Rlimit{Cur: r.Max, Max: r.Max}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			r.Cur = r.Max
		}
	}
	return r.Cur
}

// meminfo returns a line of /proc/meminfo in bytes, 0 where it is missing.
func meminfo(field string) uint64 {
	text, _ := os.ReadFile("/proc/meminfo") // 0 says unknown
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

func machineMemory() uint64 { return meminfo("MemTotal") }

func machineMemoryUsed() uint64 {
	if available := meminfo("MemAvailable"); available > 0 {
		return meminfo("MemTotal") - available
	}
	return 0
}

// processMemory is the resident size of this process in bytes.
func processMemory() uint64 {
	f := strings.Fields(firstLine("/proc/self/statm"))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(f[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}

// processorTimes returns the busy and the whole time of all processors since the
// machine started, in ticks.
func processorTimes() (busy, all uint64) {
	f := strings.Fields(firstLine("/proc/stat"))
	if len(f) < 6 || f[0] != "cpu" {
		return 0, 0
	}
	for i, text := range f[1:min(len(f), 9)] {
		n, _ := strconv.ParseUint(text, 10, 64)
		all += n
		if i != 3 && i != 4 { // idle and waiting for disks
			busy += n
		}
	}
	return busy, all
}

// processTime is the processor time that this process has used.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
