//go:build linux

package cluster

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The test build is the command of this tree with two changes that an overlay makes while it is compiled: the wall clock of the process is shifted
// by what a file says, as a clock that is set shifts it, timers and durations left alone; and raft makes snapshots so often that a node
// that was away for a moment needs one. Nothing of it is in the product.

// clockVar names the file.
const clockVar = "LACEWING_CLUSTER_CLOCK"

// shiftSource is put into package time.
const shiftSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var shift = func() *int64 {
	path, ok := syscall.Getenv("` + clockVar + `")
	if !ok {
		return new(int64)
	}
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		panic("clock: " + err.Error())
	}
	m, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("clock: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&m[0]))
}()

func shifted() int64 { return atomic.LoadInt64(shift) }
`

// change is a text of a source and what the test build has in its place.
type change struct{ file, old, new string }

// changes are those of the test build.
func changes(goroot, root string) []change {
	return []change{
		{filepath.Join(goroot, "src/time/time.go"), "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n",
			"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += shifted()\n"},
		{filepath.Join(root, "raftstore/run.go"), "\tcfg.CommitTimeout = commitEvery\n",
			"\tcfg.CommitTimeout = commitEvery\n\tcfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs = time.Second, 64, 16\n"},
	}
}

// buildTest makes the test build in dir. All that imports package time is compiled anew for it, which takes some minutes the first time.
func buildTest(dir string) (program string, err error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for i, c := range changes(strings.TrimSpace(string(goroot)), root) {
		text, err := os.ReadFile(c.file)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), c.old); n != 1 {
			return "", fmt.Errorf("%s has the text to replace %d times, want once: %s", c.file, n, c.old)
		}
		replace[c.file] = filepath.Join(dir, fmt.Sprintf("changed%d.go", i))
		if err := os.WriteFile(replace[c.file], []byte(strings.Replace(string(text), c.old, c.new, 1)), 0o600); err != nil {
			return "", err
		}
	}
	shift := filepath.Join(dir, "shift.go")
	replace[filepath.Join(strings.TrimSpace(string(goroot)), "src/time/shift.go")] = shift
	if err := os.WriteFile(shift, []byte(shiftSource), 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "test-build")
	build := exec.Command("go", "build", "-overlay", overlay, "-o", program, "github.com/lacewing-mqtt/lacewing")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

// giveClock gives a node of the test build a clock.
func (n *node) giveClock() error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	n.clock = n.dir + ".clock"
	n.env = append(n.env, clockVar+"="+n.clock, "TZ=UTC")
	return n.setClock(0)
}

// setClock sets its clock to a time from that of the system.
func (n *node) setClock(shift time.Duration) error {
	f, err := os.OpenFile(n.clock, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(shift/time.Second))), 0)
	return err
}

// clockIs asks a node for its time and gives how far it is from that of the system.
func (n *node) clockIs() (time.Duration, error) {
	var rows []struct {
		Node     string
		Datetime string
	}
	if _, err := n.get("/api/v3/brokers/", &rows); err != nil {
		return 0, err
	}
	for _, r := range rows {
		if r.Node == n.name {
			at, err := time.Parse(time.DateTime, r.Datetime)
			return time.Until(at), err
		}
	}
	return 0, fmt.Errorf("%s does not list itself: %v", n.name, rows)
}
