package durability

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// command gives the program that is released, or the one that the environment names.
func command(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("LACEWING_DURABILITY_COMMAND"); path != "" {
		return path
	}
	path, err := build("lacewing", "../..")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// hoard is what the node of the damage tests owes: numbered messages to one session, and retained ones.
type hoard struct {
	messages, retained int
}

const hoarder = "hoarder"

// fill has a broker owe it.
func (h *hoard) fill(address string) error {
	s, _, err := load.Connect(address, 5, load.Hello{ID: hoarder})
	if err != nil {
		return err
	}
	if err := errors.Join(s.Subscribe("h/#", 1), s.Bye()); err != nil {
		return err
	}
	p, _, err := load.Connect(address, 5, load.Hello{ID: "filler", Clean: true})
	if err != nil {
		return err
	}
	for i := range h.messages {
		if err := p.Publish("h/queue", load.Compose("queue", i, 400), false); err != nil {
			return err
		}
	}
	for i := range h.retained {
		if err := p.Publish(fmt.Sprintf("r/%d", i), load.Compose("retained", i, 50), true); err != nil {
			return err
		}
	}
	return p.Bye()
}

// count collects what the broker still has of it, in order and whole; whatever else comes is an error.
func (h *hoard) count(address string) (messages, retained int, err error) {
	o, _, err := load.Connect(address, 5, load.Hello{ID: "observer", Clean: true})
	if err != nil {
		return 0, 0, err
	}
	defer o.Close()
	s, present, err := load.Connect(address, 5, load.Hello{ID: hoarder})
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	if !present { // it may be what is lost; the end is found all the same
		err = s.Subscribe("h/#", 1)
	}
	p, _, err2 := load.Connect(address, 5, load.Hello{ID: "filler", Clean: true})
	if err = errors.Join(err, err2, o.Write(load.SubscribeBytes(5, 1, "r/#", 0))); err != nil {
		return 0, 0, err
	}
	defer p.Close()
	if err := p.Publish("h/end", load.Compose("end", 0, 0), false); err != nil {
		return 0, 0, err
	}
	for next := 0; ; {
		k, err := s.Want(load.TypePublish)
		if err != nil {
			return 0, 0, err
		}
		if err := s.Write(load.AckBytes(load.TypePuback, k.ID)); err != nil {
			return 0, 0, err
		}
		name, n, ok := load.Parse(k.Payload)
		if !ok {
			return 0, 0, fmt.Errorf("a damaged message came: %.60q", k.Payload)
		}
		if name == "end" {
			break
		}
		if n < next {
			return 0, 0, fmt.Errorf("message %d came after %d", n, next-1)
		}
		next = n + 1
		messages++
	}
	if err := p.Publish("r/end", load.Compose("end", 0, 0), false); err != nil { // what the observer had to get is before it
		return 0, 0, err
	}
	for {
		k, err := o.Read()
		if err != nil {
			return 0, 0, err
		}
		if k.Type != load.TypePublish {
			continue
		}
		name, _, ok := load.Parse(k.Payload)
		if !ok {
			return 0, 0, fmt.Errorf("a damaged retained message came: %.60q", k.Payload)
		}
		if name == "end" {
			return messages, retained, nil
		}
		retained++
	}
}

// damages are what can happen to a file of the store. b is its content; the result is written.
var damages = []struct {
	name string
	last bool // to the file that was written last; else to the first
	do   func(r *rand.Rand, b []byte) []byte
	tail bool // only what was never acknowledged: the start must go on, and say so
}{
	{name: "a bit of the header turned", do: turn(0, 64)},
	{name: "a bit of the first group turned", do: turn(64, 120)},
	{name: "a bit in the middle turned", do: func(r *rand.Rand, b []byte) []byte { return turn(len(b)/4, len(b)*3/4)(r, b) }},
	{name: "a bit of a message turned", do: func(_ *rand.Rand, b []byte) []byte {
		at := bytes.Index(b, []byte("queue 20 "))
		b[at+20] ^= 2
		return b
	}},
	{name: "half of it missing", do: func(_ *rand.Rand, b []byte) []byte { return b[:len(b)/2] }},
	{name: "a sector of zeros", do: func(r *rand.Rand, b []byte) []byte {
		at := (1 + r.IntN(len(b)/512-2)) * 512
		clear(b[at : at+512])
		return b
	}},
	{name: "gone", do: func(*rand.Rand, []byte) []byte { return nil }},
	{name: "a bit of the header turned", last: true, do: turn(0, 64)},
	{name: "a bit in the middle turned", last: true, do: func(r *rand.Rand, b []byte) []byte {
		used := usedBytes(b)
		return turn(used/4, used*3/4)(r, b)
	}},
	{name: "half of it missing", last: true, do: func(_ *rand.Rand, b []byte) []byte { return b[:usedBytes(b)/2] }},
	{name: "its last bytes missing", last: true, do: func(_ *rand.Rand, b []byte) []byte { return b[:usedBytes(b)-10] }},
	{name: "the room behind its end missing", last: true, do: func(_ *rand.Rand, b []byte) []byte { return b[:usedBytes(b)] }},
	{name: "gone", last: true, do: func(*rand.Rand, []byte) []byte { return nil }},
	{name: "a torn write behind the end", last: true, tail: true, do: func(r *rand.Rand, b []byte) []byte {
		at := usedBytes(b)
		for range min(100+r.IntN(1000), len(b)-at-1) {
			b[at] = byte(r.Uint32())
			at++
		}
		b[at] = 1
		return b
	}},
}

// turn turns a bit between two offsets.
func turn(from, to int) func(*rand.Rand, []byte) []byte {
	return func(r *rand.Rand, b []byte) []byte {
		b[from+r.IntN(to-from)] ^= 1 << r.IntN(8)
		return b
	}
}

// usedBytes is the length without the zeros that were reserved.
func usedBytes(b []byte) int {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return len(b)
}

// TestDamage damages files of the store of a node that was killed. Either it refuses to start, with one line that names the file and
// what to do next, and goes on when that is done; or it starts and owes everything as before.
func TestDamage(t *testing.T) {
	seed := chance(t)
	random := rand.New(rand.NewPCG(seed, 2))
	h := &hoard{messages: 400, retained: 5}
	b := &broker{program: command(t), data: filepath.Join(t.TempDir(), "data"), settings: map[string]string{"store.segment_size": "64KB"}}
	address, err := b.start()
	if err != nil {
		t.Fatal(err)
	}
	err = h.fill(address)
	b.kill()
	if err = errors.Join(err, os.Remove(filepath.Join(b.data, "ctl.sock"))); err != nil { // a socket cannot be copied
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(b.data, "store", "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("files of the store: %v, %v, want 3 or more", files, err)
	}
	slices.Sort(files)
	refused := 0
	for _, c := range damages {
		file := files[0]
		if c.last {
			file = files[len(files)-1]
		}
		name := filepath.Base(file)
		where := "first"
		if c.last {
			where = "last"
		}
		t.Run(where+"_"+strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			b := &broker{program: b.program, data: filepath.Join(t.TempDir(), "data"), settings: b.settings}
			if err := os.CopyFS(b.data, os.DirFS(filepath.Dir(filepath.Dir(file)))); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(b.data, "store", name)
			content, err := os.ReadFile(path)
			if err == nil {
				if content = c.do(random, content); content == nil {
					err = os.Remove(path)
				} else {
					err = os.WriteFile(path, content, 0o600)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			address, err := b.start()
			defer func() { b.kill() }()
			switch {
			case errors.Is(err, errEnded):
				refused++
				if c.tail {
					t.Fatalf("what was never acknowledged keeps it from starting: %v", err)
				}
				if content == nil && c.last {
					name = filepath.Base(files[len(files)-2]) // which nothing follows
				}
				b.refusal(t, name)
				b.repair(t, h)
				return
			case err != nil:
				t.Fatal(err)
			}
			messages, retained, err := h.count(address)
			if lost := messages != h.messages || retained != h.retained; err != nil || lost {
				t.Errorf("BROKEN PROMISES\nit started, with %d of %d messages and %d of %d retained ones (%v)\n%s",
					messages, h.messages, retained, h.retained, err, b.process.log)
			}
			if c.tail && !strings.Contains(b.process.log.String(), name) {
				t.Errorf("the log says nothing of the end that was cut:\n%s", b.process.log)
			}
		})
	}
	t.Logf("damage: seed %d, %d kinds, %d refused", seed, len(damages), refused)
	if refused == 0 {
		t.Error("nothing was refused, the run proves nothing")
	}
}

// refusal holds the last words of a process to what an operator needs.
func (b *broker) refusal(t *testing.T, file string) {
	t.Helper()
	if code := b.process.command.ProcessState.ExitCode(); code != exitData {
		t.Errorf("exit code %d, want %d", code, exitData)
	}
	var lines []string
	for line := range strings.Lines(b.process.log.String()) {
		if strings.Contains(line, "lacewing: ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) != 1 || !strings.Contains(lines[0], file) || !strings.Contains(lines[0], "lacewing ctl store check") || !strings.Contains(lines[0], "repair") {
		t.Errorf("got %q, want one line with the file %s and the commands", lines, file)
	}
}

// repair does what the refusal has said: afterwards the node starts and has what could be read, whole and in order.
func (b *broker) repair(t *testing.T, h *hoard) {
	t.Helper()
	ctl := func(verb string) (string, error) {
		out, err := exec.Command(b.program, "ctl", "store", verb, "--data-dir", b.data).CombinedOutput()
		return string(out), err
	}
	if out, err := ctl("check"); err == nil {
		t.Errorf("ctl store check finds nothing:\n%s", out)
	}
	if out, err := ctl("repair"); err != nil {
		t.Fatalf("ctl store repair: %v\n%s", err, out)
	}
	if out, err := ctl("check"); err != nil {
		t.Errorf("ctl store check after the repair: %v\n%s", err, out)
	}
	address, err := b.start()
	if err != nil {
		t.Fatalf("after the repair: %v", err)
	}
	begun := time.Now()
	messages, retained, err := h.count(address)
	if err != nil {
		t.Errorf("after the repair: %v", err)
	}
	t.Logf("after the repair: %d of %d messages, %d of %d retained ones (%v)", messages, h.messages, retained, h.retained, time.Since(begun).Round(time.Millisecond))
}
