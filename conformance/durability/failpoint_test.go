package durability

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// points are where the store can be made to end the process, and up to which passage of a process chance may choose.
var points = []struct {
	name   string
	within int
}{
	{"boot", 1}, {"append", 60}, {"written", 60}, {"synced", 60}, {"committed", 60}, {"roll", 3}, {"rewrite", 2}, {"discard", 2}, {"unlink", 2}, {"close", 1},
}

// TestFailPoints ends the broker at every named point of the store, in files so small that points of the reclaiming of space come
// soon.
func TestFailPoints(t *testing.T) {
	seed := chance(t)
	w := newWorld(&broker{program: child(t), data: filepath.Join(t.TempDir(), "data"), settings: map[string]string{"store.segment_size": "64KB"}}, seed, pace{})
	defer w.close()
	defer func() { w.kill() }()
	address, err := w.start()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.open(address); err != nil {
		t.Fatal(err)
	}
	if err := w.acked(50); err != nil {
		t.Fatal(err)
	}
	if err := w.changes(); err != nil {
		t.Fatal(err)
	}
	rounds := number("LACEWING_DURABILITY_ROUNDS", 1)
	for range rounds {
		for _, i := range w.random.Perm(len(points)) {
			point := fmt.Sprintf("%s:%d", points[i].name, 1+w.random.IntN(points[i].within))
			if err := errors.Join(w.episode(), w.catchUp()); err != nil {
				t.Fatal(err)
			}
			w.crash()
			begun := time.Now()
			if err := w.dieAt(point); err != nil {
				t.Fatalf("%s: %v", point, err)
			}
			_, err := w.again()
			if err == nil {
				err = w.observe(w.address())
			}
			if err != nil {
				w.must(t, fmt.Errorf("after %s: %w", point, err))
			}
			t.Logf("%s: %v", point, time.Since(begun).Round(time.Millisecond))
			if w.ledger.Verdict() != "" {
				t.Log("broken after this")
				break
			}
		}
	}
	if w.ledger.Verdict() == "" {
		w.settle()
	}
	enough(t, w, fmt.Sprintf("fail points, %d rounds of %d", rounds, len(points)), 500)
}

// dieAt starts a process that ends itself at a point, and waits until it has.
func (w *world) dieAt(point string) error {
	_, err := w.again("LACEWING_DURABILITY_FAIL=" + point)
	if err != nil && !errors.Is(err, errEnded) {
		return err
	}
	if err == nil && point == "close:1" {
		if err := w.acked(50); err != nil {
			return err
		}
		if err := w.process.command.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	select {
	case <-w.process.ended:
	case <-time.After(load.Patience):
		return fmt.Errorf("the point was not reached\n%s", w.process.log)
	}
	w.place.Set("")
	state, _ := w.process.command.ProcessState.Sys().(syscall.WaitStatus)
	if state.Signal() != syscall.SIGKILL {
		return fmt.Errorf("%s instead of %s\n%s", w.process.command.ProcessState, os.Kill, w.process.log)
	}
	return nil
}
