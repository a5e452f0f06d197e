//go:build linux

// Command clusterbench measures what being several nodes costs: how soon a dead node is noticed and a leader elected, what a message costs that
// crosses from one node to another beside one that does not, how long a node takes to join with many routes, and what a route, a client and a
// page cost in memory and time. It runs nodes of this tree on loopback, and the benchmarks of its packages.
//
//	go run ./tools/clusterbench [-rounds 3] [-seconds 1.5] [-routes 1000000] [-parts faults,forward,join,inside]
//
// One line for each figure. What the figures were on one machine, and how they grow, is in cluster/DESIGN.md.
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
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run.
type bench struct {
	ctx             context.Context
	rounds          int
	seconds         time.Duration
	routes          int
	work            string // directory of everything
	program, mqload string
}

func main() {
	dir := flag.String("dir", "", "`directory` for what the nodes store; default: a temporary one")
	rounds := flag.Int("rounds", 3, "rounds of each measurement")
	seconds := flag.Float64("seconds", 1.5, "length of a round of messages")
	routes := flag.Int("routes", 1_000_000, "routes that a node joins with")
	parts := flag.String("parts", "faults,forward,join,inside", "what to measure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{ctx: ctx, rounds: *rounds, seconds: time.Duration(*seconds * float64(time.Second)), routes: *routes}
	if err := b.run(*dir, strings.Split(*parts, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "clusterbench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(dir string, parts []string) (err error) {
	all := []struct {
		name string
		run  func() error
	}{{"faults", b.faults}, {"forward", b.forward}, {"join", b.join}, {"inside", b.inside}}
	for _, p := range parts {
		if !slices.ContainsFunc(all, func(a struct {
			name string
			run  func() error
		}) bool {
			return a.name == p
		}) {
			return fmt.Errorf("-parts: there is no %q", p)
		}
	}
	if b.rounds < 1 || b.seconds <= 0 || b.routes < 1 {
		return errors.New("-rounds, -seconds and -routes are above 0")
	}
	if b.work, err = os.MkdirTemp(dir, "clusterbench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	b.program, b.mqload = filepath.Join(b.work, "lacewing"), filepath.Join(b.work, "mqload")
	for path, pkg := range map[string]string{b.program: ".", b.mqload: "./tools/mqload"} {
		build := exec.CommandContext(b.ctx, "go", "build", "-o", path, pkg)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("go build %s (from the top of the tree): %w", pkg, err)
		}
	}
	fmt.Printf("%d processors, %s, nodes and clients on loopback, medians (least to most) of %d rounds\n", runtime.NumCPU(), runtime.Version(), b.rounds)
	for _, p := range all {
		if !slices.Contains(parts, p.name) {
			continue
		}
		begin := time.Now()
		if err := p.run(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Printf("  (%s: %v)\n", p.name, time.Since(begin).Round(time.Second))
	}
	return nil
}

// wait asks until the answer is yes, and gives the time since begin.
func (b *bench) wait(what string, within time.Duration, begin time.Time, ok func() bool) (time.Duration, error) {
	for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		if err := b.ctx.Err(); err != nil {
			return 0, err
		}
		if ok() {
			return time.Since(begin), nil
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("not within %v: %s", within, what)
		}
	}
}

// times are those of several rounds.
type times []time.Duration

func (t times) String() string {
	if len(t) == 0 {
		return "none"
	}
	s := slices.Sorted(slices.Values(t))
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
	return fmt.Sprintf("%v (%v to %v)", round(s[len(s)/2]), round(s[0]), round(s[len(s)-1]))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// spread gives median, least and most.
func spread(v []float64, format string) string {
	return fmt.Sprintf(format+" ("+format+" to "+format+")", median(v), slices.Min(v), slices.Max(v))
}
