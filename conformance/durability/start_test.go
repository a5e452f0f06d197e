package durability

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// startLimit is how long a start may take where it is held to a limit: LACEWING_DURABILITY_START_LIMIT is set, the machine is idle.
const startLimit = 5 * time.Second

// perGroup is how many sessions share a topic in the start test: each message is stored once and queued so many times.
const perGroup, perSession = 100, 10

// TestStartTime fills the queues of many sessions and tells how long the start takes after kill -9, until a client is answered.
func TestStartTime(t *testing.T) {
	sessions := number("LACEWING_DURABILITY_SESSIONS", 5000)
	b := &broker{program: child(t), data: filepath.Join(t.TempDir(), "data")}
	address, err := b.start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { b.kill() }()
	begun := time.Now()
	if err := settle(address, sessions); err != nil {
		t.Fatal(err)
	}
	filled := time.Since(begun)
	b.kill()
	if address, err = b.start(); err != nil {
		t.Fatal(err)
	}
	c, _, err := load.Connect(address, 5, load.Hello{ID: "first", Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(b.process.begun)
	c.Close()
	for i := 0; i < sessions; i += max(sessions/200, 1) {
		if err := collect(address, i); err != nil {
			t.Errorf("BROKEN PROMISES\n%v", err)
		}
	}
	t.Logf("start with %d sessions and %d queued messages: %v (filled in %v)", sessions, sessions*perSession, took.Round(time.Millisecond), filled.Round(time.Millisecond))
	if os.Getenv("LACEWING_DURABILITY_START_LIMIT") != "" && took > startLimit {
		t.Errorf("the start took %v, want at most %v", took, startLimit)
	}
}

// settle makes sessions that are away, and queues perSession messages for each.
func settle(address string, sessions int) error {
	const workers = 64
	errs := make([]error, workers)
	each := func(n int, do func(worker, i int) error) error {
		var tasks sync.WaitGroup
		for w := range workers {
			tasks.Go(func() {
				for i := w; i < n && errs[w] == nil; i += workers {
					errs[w] = do(w, i)
				}
			})
		}
		tasks.Wait()
		return errors.Join(errs...)
	}
	if err := each(sessions, func(_, i int) error {
		c, _, err := load.Connect(address, 5, load.Hello{ID: fmt.Sprintf("away%d", i)})
		if err != nil {
			return err
		}
		return errors.Join(c.Subscribe(fmt.Sprintf("group/%d", i/perGroup), 1), c.Bye())
	}); err != nil {
		return err
	}
	links := make([]*load.Conn, workers)
	for w := range links {
		var err error
		if links[w], _, err = load.Connect(address, 5, load.Hello{ID: fmt.Sprintf("filler%d", w), Clean: true}); err != nil {
			return err
		}
		defer links[w].Close()
	}
	return each((sessions+perGroup-1)/perGroup, func(w, i int) error {
		for n := range perSession {
			if err := links[w].Publish(fmt.Sprintf("group/%d", i), load.Compose("group", n, 100), false); err != nil {
				return err
			}
		}
		return nil
	})
}

// collect checks the queue of one session.
func collect(address string, i int) error {
	c, present, err := load.Connect(address, 5, load.Hello{ID: fmt.Sprintf("away%d", i)})
	if err != nil {
		return err
	}
	defer c.Close()
	if !present {
		return fmt.Errorf("session %d is gone", i)
	}
	for n := range perSession {
		p, err := c.Want(load.TypePublish)
		if err != nil {
			return fmt.Errorf("session %d waits for message %d: %w", i, n, err)
		}
		if _, got, ok := load.Parse(p.Payload); !ok || got != n {
			return fmt.Errorf("session %d: got message %d (whole: %t), want %d", i, got, ok, n)
		}
		if err := c.Write(load.AckBytes(load.TypePuback, p.ID)); err != nil {
			return err
		}
	}
	return nil
}
