// Command durable measures what an acknowledgement that is kept costs: publishers of QoS 1 with one message in flight each, to a durable
// session, beside a bare loop that appends as much to a file and syncs it, on the same disk in the same run; then the same publishers to a
// session that ends with its connection, and the time that a node takes to start with what waits in its queues.
//
//	go run ./tools/durable [-dir DIR] [-seconds 3] [-rounds 3] [-publishers 1,64,1024] [-queued 1000000]
//
// Rounds alternate between the contestants; the table has medians.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	dir := flag.String("dir", "", "`directory` on the disk to measure; default: a temporary one below the present directory")
	seconds := flag.Float64("seconds", 3, "length of a round")
	rounds := flag.Int("rounds", 3, "rounds of each contestant")
	publishers := flag.String("publishers", "1,64,1024", "numbers of publishers")
	queued := flag.Int("queued", 1_000_000, "messages in queues for the time of a start; 0 leaves it out")
	sessions := flag.Int("sessions", 100_000, "durable sessions for it")
	payload := flag.Int("payload", 64, "bytes of a payload")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var counts []int
	for _, f := range strings.FieldsFunc(*publishers, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > 10000 {
			fail(fmt.Errorf("-publishers: %q is no number of publishers", f))
		}
		counts = append(counts, n)
	}
	b := &bench{ctx: ctx, round: time.Duration(*seconds * float64(time.Second)), rounds: *rounds, payload: *payload}
	if err := b.run(*dir, counts, *queued, *sessions); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "durable:", err)
	os.Exit(1)
}

// bench is one run.
type bench struct {
	ctx     context.Context
	round   time.Duration
	rounds  int
	payload int
	work    string // directory of everything
	program string
}

func (b *bench) run(dir string, counts []int, queued, sessions int) (err error) {
	if dir == "" {
		dir = "."
	}
	if b.work, err = os.MkdirTemp(dir, "durable-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	b.program = filepath.Join(b.work, "lacewing")
	build := exec.CommandContext(b.ctx, "go", "build", "-o", b.program, "github.com/lacewing-mqtt/lacewing")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the broker: %w", err)
	}
	fmt.Printf("%d bytes of payload, QoS 1, one message in flight for each publisher, %d rounds of %v, medians\n\n", b.payload, b.rounds, b.round)
	fmt.Println("| publishers | contestant | messages/s | of the bare loop | PUBACK p50 | PUBACK p99 | CPU us/message | bytes written/message |")
	fmt.Println("|--:|---|--:|--:|--:|--:|--:|--:|")
	for _, n := range counts {
		if err := b.compare(n); err != nil {
			return err
		}
	}
	if queued == 0 {
		return nil
	}
	fmt.Printf("\n| sessions | messages queued | from the start of the process until it is ready |\n|--:|--:|--:|\n")
	for _, part := range []int{100, 10, 1} {
		if err := b.start(max(sessions/part, 1), queued/part); err != nil {
			return err
		}
	}
	return nil
}

// sample is what one round has measured.
type sample struct {
	rate, cpu, bytes float64
	p50, p99         time.Duration
}

// compare measures n publishers.
func (b *bench) compare(n int) error {
	kinds := []struct {
		name string
		run  func(int) (sample, error)
	}{
		{"bare append and sync", b.bare},
		{"engine and store in process", b.inside},
		{"durable session", func(n int) (sample, error) { return b.broker(n, true) }},
		{"session of the connection", func(n int) (sample, error) { return b.broker(n, false) }},
	}
	all := make([][]sample, len(kinds))
	for range b.rounds {
		for i, k := range kinds {
			s, err := k.run(n)
			if err != nil {
				return fmt.Errorf("%s, %d publishers: %w", k.name, n, err)
			}
			all[i] = append(all[i], s)
		}
	}
	base := 0.0
	for i, k := range kinds {
		rate := median(all[i], func(s sample) float64 { return s.rate })
		if i == 0 {
			base = rate
		}
		of := func(f func(sample) float64) float64 { return median(all[i], f) }
		duration := func(f func(sample) time.Duration) time.Duration {
			return time.Duration(of(func(s sample) float64 { return float64(f(s)) })).Round(time.Microsecond)
		}
		fmt.Printf("| %d | %s | %.0f | %.2f | %v | %v | %.2f | %.0f |\n", n, k.name, rate, rate/base,
			duration(func(s sample) time.Duration { return s.p50 }), duration(func(s sample) time.Duration { return s.p99 }),
			of(func(s sample) float64 { return s.cpu }), of(func(s sample) float64 { return s.bytes }))
	}
	return nil
}

func median(list []sample, f func(sample) float64) float64 {
	values := make([]float64, len(list))
	for i, s := range list {
		values[i] = f(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// latencies gives the median and the 99th percentile.
func latencies(all [][]time.Duration) (p50, p99 time.Duration, n int) {
	list := slices.Concat(all...)
	if len(list) == 0 {
		return 0, 0, 0
	}
	slices.Sort(list)
	return list[len(list)/2], list[len(list)*99/100], len(list)
}
