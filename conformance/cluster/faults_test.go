//go:build linux

package cluster

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	seed   = flag.Uint64("seed", uint64(number("LACEWING_CLUSTER_SEED", 0)), "seed of what happens by chance; 0 takes one (LACEWING_CLUSTER_SEED)")
	only   = flag.String("fault", os.Getenv("LACEWING_CLUSTER_FAULT"), "expression that the names of the faults match which TestFaults tries (LACEWING_CLUSTER_FAULT)")
	rounds = flag.Int("rounds", number("LACEWING_CLUSTER_ROUNDS", 0), "rounds of the long set; 0 is the short one (LACEWING_CLUSTER_ROUNDS)")
)

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// programDir has what was built.
var programDir string

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(enteredVar) == "" {
		code, err := enter()
		if err != nil {
			code = without(err)
		}
		os.Exit(code)
	}
	if err := probe(); err != nil {
		os.Exit(without(err))
	}
	dir, err := os.MkdirTemp("", "lacewing-cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programDir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// without says that there are no tests here, which in CI is a failure.
func without(err error) (code int) {
	fmt.Fprintf(os.Stderr, "conformance/cluster: %v; the suite needs root or user namespaces, ip and nft\n", err)
	if os.Getenv("CI") == "true" {
		return 1
	}
	return 0
}

// chance gives the seed of a test, and says it.
func chance(t *testing.T) uint64 {
	s := *seed
	if s == 0 {
		s = rand.Uint64() >> 32
	}
	t.Logf("seed %d: LACEWING_CLUSTER_SEED=%d repeats what is chosen", s, s)
	return s
}

// command gives the program that the tests start: that of this tree, or the one that the environment names.
func command(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("LACEWING_CLUSTER_COMMAND"); path != "" {
		return path
	}
	path := filepath.Join(programDir, "lacewing")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.Command("go", "build", "-o", path, "github.com/lacewing-mqtt/lacewing")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// beat is the heartbeat of the short set; the long one has the default.
func beat() time.Duration {
	if *rounds > 0 {
		return time.Second
	}
	return 500 * time.Millisecond
}

// pause is that of each publisher between two messages: the short set leaves the machine to others.
func pause() time.Duration {
	if *rounds > 0 {
		return 4 * time.Millisecond
	}
	return 10 * time.Millisecond
}

// build makes a world of so many nodes.
func build(t *testing.T, size int, program string, pause time.Duration, more map[string]string) *world {
	t.Helper()
	seed := chance(t)
	net, err := newNetwork(size)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"cluster.heartbeat": beat().String()}
	for k, v := range more {
		all[k] = v
	}
	w := newWorld(net, newNodes(net, t.TempDir(), program, all), seed, pause)
	t.Cleanup(w.close)
	return w
}

// must ends a test that cannot go on, and says what was broken until then.
func (w *world) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		w.broken(t)
		t.Fatalf("%s: %v", sign, errors.Join(err, errors.New(w.logs())))
	}
}

// sign is what a test prints when a promise is broken.
const sign = "BROKEN PROMISES"

func (w *world) broken(t *testing.T) {
	t.Helper()
	if broken := w.ledger.Verdict(); broken != "" {
		t.Errorf("%s\n%s\n%s", sign, broken, w.logs())
	}
}

// logs are the ends of the logs of all nodes.
func (w *world) logs() (text string) {
	for _, n := range w.nodes {
		text += fmt.Sprintf("--- %s\n%s", n.name, n.tail(6000))
	}
	return text
}

// enough fails a run that has proved nothing.
func (w *world) enough(t *testing.T, what string, least int) {
	t.Helper()
	t.Log(w.report(what))
	if acked, arrived := w.ledger.Counts(); acked < least || arrived < least {
		t.Errorf("%d messages were acknowledged and %d arrived, the run proves nothing with less than %d", acked, arrived, least)
	}
	w.broken(t)
}

// finish ends the load and checks everything that has to hold in the end.
func (w *world) finish(t *testing.T, what string, least int) {
	t.Helper()
	w.settle()
	w.metadata.check()
	w.growth()
	w.retained()
	w.must(t, w.restarted())
	w.retained()
	w.enough(t, what, least)
}

// TestFaults has every fault happen to a cluster of three nodes, one after the other in an order of chance.
func TestFaults(t *testing.T) {
	w := build(t, 3, command(t), pause(), nil)
	w.must(t, w.open())
	for range max(1, *rounds) {
		for _, i := range w.random.Perm(len(faults)) {
			if !regexp.MustCompile(*only).MatchString(faults[i].name) {
				continue
			}
			begun := time.Now()
			w.must(t, w.suffer(faults[i], beat()))
			t.Logf("%-50s %v", faults[i].name, time.Since(begun).Round(10*time.Millisecond))
			if w.ledger.Verdict() != "" {
				w.broken(t) // it does not get better
				return
			}
		}
	}
	w.finish(t, "faults", 3000)
}
