package admin

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
)

// figures are what the process and its machine show now.
type figures struct {
	memoryTotal, memoryUsed int64
	tasks                   int
	maxFiles                int64
	load                    [3]float64
}

func readFigures() figures {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	total := value(0) - value(1)
	return figures{
		memoryTotal: total,
		memoryUsed:  total - value(2) - value(3),
		tasks:       runtime.NumGoroutine(),
		maxFiles:    maxFiles(),
		load:        readLoad(),
	}
}

// readLoad returns the load averages, zero where the system has no such file.
func readLoad() (load [3]float64) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return load
	}
	fields := strings.Fields(string(text))
	for i := range min(len(fields), len(load)) {
		load[i], _ = strconv.ParseFloat(fields[i], 64) // the kernel writes numbers
	}
	return load
}
