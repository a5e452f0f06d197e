package node

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Limits are what the machine, the container and the supervisor leave to this
// process.
type Limits struct {
	Descriptors uint64  // open files and sockets; 0: unknown
	Cores       float64 // processor time, by cgroup quota where there is one
	Memory      uint64  // bytes, by cgroup where there is a limit; 0: unknown
}

// readLimits raises the descriptor limit as far as it may and returns what there
// is.
func readLimits() Limits {
	l := Limits{Descriptors: raiseDescriptors(), Cores: float64(runtime.NumCPU()), Memory: machineMemory()}
	if q := cgroupCores(); q > 0 && q < l.Cores {
		l.Cores = q
	}
	if m := cgroupMemory(); m > 0 && (l.Memory == 0 || m < l.Memory) {
		l.Memory = m
	}
	return l
}

// cgroupRoots are the places where the quotas of this process may stand, the
// narrowest first: its own group (version 2, then each controller of version 1),
// then the root that a container sees.
func cgroupRoots(controller string) []string {
	var roots []string
	text, _ := os.ReadFile("/proc/self/cgroup") // without one there are no groups
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		if part[0] == "0" && part[1] == "" {
			for dir := part[2]; ; dir = filepath.Dir(dir) { // a limit of a parent binds too
				roots = append(roots, filepath.Join("/sys/fs/cgroup", dir))
				if dir == "/" || dir == "." {
					break
				}
			}
		} else if strings.Contains(","+part[1]+",", ","+controller+",") {
			roots = append(roots, filepath.Join("/sys/fs/cgroup", controller, part[2]), filepath.Join("/sys/fs/cgroup", controller))
		}
	}
	return append(roots, "/sys/fs/cgroup")
}

func firstLine(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// cgroupCores is the smallest processor quota of the groups, 0 without one.
func cgroupCores() float64 {
	least := 0.0
	take := func(quota, period string) {
		q, err1 := strconv.ParseFloat(quota, 64)
		p, err2 := strconv.ParseFloat(period, 64)
		if err1 == nil && err2 == nil && q > 0 && p > 0 && (least == 0 || q/p < least) {
			least = q / p
		}
	}
	for _, root := range cgroupRoots("cpu") {
		if f := strings.Fields(firstLine(filepath.Join(root, "cpu.max"))); len(f) == 2 {
			take(f[0], f[1])
		}
		take(firstLine(filepath.Join(root, "cpu.cfs_quota_us")), firstLine(filepath.Join(root, "cpu.cfs_period_us")))
	}
	return least
}

// cgroupMemory is the smallest memory limit of the groups, 0 without one.
func cgroupMemory() uint64 {
	var least uint64
	for _, root := range cgroupRoots("memory") {
		for _, name := range []string{"memory.max", "memory.limit_in_bytes"} {
			m, err := strconv.ParseUint(firstLine(filepath.Join(root, name)), 10, 64)
			if err == nil && m > 0 && m < 1<<60 && (least == 0 || m < least) { // version 1 writes a huge number for none
				least = m
			}
		}
	}
	return least
}

// cgroupMemoryUsed is what the group with a limit uses now, 0 where unknown.
func cgroupMemoryUsed() uint64 {
	for _, root := range cgroupRoots("memory") {
		for _, pair := range [][2]string{{"memory.max", "memory.current"}, {"memory.limit_in_bytes", "memory.usage_in_bytes"}} {
			limit, err := strconv.ParseUint(firstLine(filepath.Join(root, pair[0])), 10, 64)
			if err != nil || limit == 0 || limit >= 1<<60 {
				continue
			}
			used, err := strconv.ParseUint(firstLine(filepath.Join(root, pair[1])), 10, 64)
			if err != nil {
				continue
			}
			// Pages of files that nobody needs are given up before anything is refused.
			stat, _ := os.ReadFile(filepath.Join(root, "memory.stat"))
			for line := range strings.Lines(string(stat)) {
				if text, ok := strings.CutPrefix(line, "inactive_file "); ok {
					if n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64); err == nil && n < used {
						used -= n
					}
				}
			}
			return used
		}
	}
	return 0
}
