package durability

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	cycles = flag.Int("cycles", number("LACEWING_DURABILITY_CYCLES", 20), "kills of a run (LACEWING_DURABILITY_CYCLES)")
	seed   = flag.Uint64("seed", uint64(number("LACEWING_DURABILITY_SEED", 0)), "seed of what happens by chance; 0 takes one (LACEWING_DURABILITY_SEED)")
)

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := cleanUp(); err != nil {
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

// chance gives the seed of a test, and says it.
func chance(t *testing.T) uint64 {
	s := *seed
	if s == 0 {
		s = rand.Uint64() >> 32
	}
	t.Logf("seed %d: -seed %d repeats what is chosen", s, s)
	return s
}

// child gives the program that the tests kill: the suite's own with its seams, or the one that the environment names.
func child(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("LACEWING_DURABILITY_CHILD"); path != "" {
		return path
	}
	path, err := build("child", "./child")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// must ends a test that cannot go on, and says what was broken until then.
func (w *world) must(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if broken := w.ledger.Verdict(); broken != "" {
		t.Errorf("BROKEN PROMISES\n%s", broken)
	}
	t.Fatal(err)
}

// enough fails a run that has proved nothing.
func enough(t *testing.T, w *world, what string, least int) {
	t.Helper()
	t.Log(w.report(what))
	if acked, arrived := w.ledger.Counts(); acked < least || arrived < least {
		t.Errorf("%d messages were acknowledged and %d arrived, the run proves nothing with less than %d", acked, arrived, least)
	}
	if broken := w.ledger.Verdict(); broken != "" {
		t.Errorf("BROKEN PROMISES\n%s\nlog of the last process:\n%s", broken, w.process.log)
	}
}

// TestKill ends the broker with kill -9 at instants of chance under load of QoS 1 and 2, over and over.
func TestKill(t *testing.T) {
	seed := chance(t)
	w := newWorld(&broker{program: child(t), data: filepath.Join(t.TempDir(), "data")}, seed, pace{})
	defer w.close()
	defer func() { w.kill() }()
	w.must(t, w.run(*cycles, w.crash))
	enough(t, w, fmt.Sprintf("kill -9, %d cycles", *cycles), *cycles*50)
}

// run loads the broker and has crash end it so many times, while it is under load and sometimes while it starts; then everything
// that was promised has to be there, also after a stop in order.
func (w *world) run(cycles int, crash func()) error {
	address, err := w.start()
	if err != nil {
		return err
	}
	if err := w.open(address); err != nil {
		return err
	}
	var slowest time.Duration
	for i := range cycles {
		if i == cycles/2 {
			if err := w.changes(); err != nil {
				return err
			}
		}
		if i%3 == 0 {
			if err := w.episode(); err != nil {
				return err
			}
		}
		if err := w.acked(50 + w.random.IntN(400)); err != nil {
			return err
		}
		time.Sleep(time.Duration(w.random.IntN(3000)) * time.Microsecond) // the instant of the kill
		crash()
		if w.random.IntN(4) == 0 { // and again while it starts
			if err := w.begin(); err != nil {
				return err
			}
			time.Sleep(time.Duration(w.random.Int64N(int64(max(slowest, 100*time.Millisecond)))))
			crash()
		}
		took, err := w.again()
		if err != nil {
			return err
		}
		slowest = max(slowest, took)
		if err := w.observe(w.address()); err != nil {
			return err
		}
		if w.ledger.Verdict() != "" {
			return nil // it does not get better
		}
	}
	w.settle()
	if err := w.stop(); err != nil {
		return err
	}
	w.place.Set("")
	if _, err := w.again(); err != nil {
		return err
	}
	if err := w.mark(); err != nil { // whatever comes again comes before
		w.ledger.Broken("after a stop in order: %v", err)
	}
	return w.observe(w.address())
}
