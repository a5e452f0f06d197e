package effects

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is the program itself, run as its users run it.
type program struct {
	t       testing.TB
	command *exec.Cmd
	log     *record
	address map[string]string // of listeners: "mqtt:tcp external", "http management"
	ended   chan struct{}
}

var (
	buildOnce sync.Once
	built     string
	buildErr  error
)

// TestMain removes the program that the tests have built.
func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

// launch runs the program with these settings on top of the quiet ones, and with so many file descriptors; 0 leaves those
// of the test.
func launch(t *testing.T, descriptors int, settings map[string]string, flags ...string) *program {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the program under load")
	}
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "lacewing-effects-")
		if err != nil {
			buildErr = err
			return
		}
		built = filepath.Join(dir, "lacewing")
		build := exec.Command("go", "build", "-o", built, "../..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	all := maps.Clone(quiet)
	maps.Copy(all, settings)
	all["node.data_dir"] = t.TempDir()
	args := []string{"-c", `[ "$0" = 0 ] || ulimit -n "$0"; exec "$@"`, strconv.Itoa(descriptors), built}
	args = append(args, flags...)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "--set", k+"="+all[k])
	}
	p := &program{t: t, command: exec.Command("/bin/sh", args...), log: &record{}, address: map[string]string{}, ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = p.log, p.log
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.command.Wait() // the log tells
	}()
	t.Cleanup(p.stop)
	listening := regexp.MustCompile(`listener="([^"]+)" address=(\S+)`)
	deadline := time.Now().Add(30 * time.Second)
	for len(p.address) < 3 {
		if time.Now().After(deadline) || p.dead() {
			t.Fatalf("the program does not listen:\n%s", p.log)
		}
		time.Sleep(10 * time.Millisecond)
		for _, m := range listening.FindAllStringSubmatch(p.log.String(), -1) {
			p.address[m[1]] = m[2]
		}
	}
	return p
}

func (p *program) dead() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// stop ends the program; it must end in order and must not have panicked.
func (p *program) stop() {
	if p.dead() {
		p.t.Errorf("the program has ended:\n%s", p.log)
		return
	}
	_ = p.command.Process.Signal(syscall.SIGTERM) // it runs
	select {
	case <-p.ended:
	case <-time.After(40 * time.Second):
		_ = p.command.Process.Kill() // it runs
		p.t.Errorf("the program does not stop")
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("exit code %d, want 0:\n%s", code, p.log)
	}
	if s := p.log.String(); strings.Contains(s, "panic") {
		p.t.Errorf("the log tells of a panic:\n%s", s)
	}
}

// rss is the memory of the program in bytes; 0 once it is gone.
func (p *program) rss() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return 0 // stop tells
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // the kernel writes numbers
			return n << 10
		}
	}
	return 0
}

// grownAtMost watches the memory until the returned function is called, which fails when it ever was more than limit above
// what it is now.
func (p *program) grownAtMost(limit int64) (check func()) {
	before, highest := p.rss(), int64(0)
	if before == 0 {
		p.t.Fatalf("no memory of the program is known:\n%s", p.log)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			highest = max(highest, p.rss())
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() {
		p.t.Helper()
		close(stop)
		<-done
		p.t.Logf("memory: %d MB before, %d MB at most", before>>20, highest>>20)
		if highest-before > limit {
			p.t.Errorf("memory grew by %d MB, want at most %d", (highest-before)>>20, limit>>20)
		}
	}
}

// bystander is a pair of clients that nobody else may disturb: one sends, the other receives, all the time.
type bystander struct {
	stop    chan struct{}
	done    chan struct{}
	slowest time.Duration
	count   int
	err     error
}

// watch starts a bystander.
func (p *program) watch() *bystander {
	p.t.Helper()
	b := &bystander{stop: make(chan struct{}), done: make(chan struct{})}
	s, d := dial(p.t, p.address["mqtt:tcp external"], 4), dial(p.t, p.address["mqtt:tcp external"], 4)
	if s.hello(hello{id: "bystander-s"}) != 0 || d.hello(hello{id: "bystander-p"}) != 0 {
		p.t.Fatal("bystander not let in")
	}
	s.subscribe("bystander", 1)
	go func() {
		defer close(b.done)
		for {
			select {
			case <-b.stop:
				return
			default:
			}
			begin := time.Now()
			if b.err = b.exchange(s, d); b.err != nil {
				return
			}
			b.count++
			b.slowest = max(b.slowest, time.Since(begin))
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return b
}

// exchange sends one message of QoS 1 and waits for it and for both acknowledgements.
func (b *bystander) exchange(s, d *device) error {
	d.write(d.publishBytes(message{topic: "bystander", payload: "x", qos: 1, id: 1}))
	ack, err := d.tryRead(patience)
	if err != nil || ack.typ != tPuback {
		return fmt.Errorf("publisher: got %v, %v, want PUBACK", ack, err)
	}
	m, err := s.tryRead(patience)
	if err != nil || m.typ != tPublish {
		return fmt.Errorf("subscriber: got %v, %v, want PUBLISH", m, err)
	}
	s.ack(tPuback, m.id)
	return nil
}

// undisturbed ends a bystander, which fails when it lost anything or had to wait for longer than limit.
func (b *bystander) undisturbed(t testing.TB, limit time.Duration) {
	t.Helper()
	close(b.stop)
	<-b.done
	t.Logf("bystander: %d messages, the slowest %v", b.count, b.slowest.Round(time.Millisecond))
	if b.err != nil {
		t.Errorf("bystander: %v", b.err)
	}
	if b.count == 0 || b.slowest > limit {
		t.Errorf("bystander: %d messages, the slowest took %v, want at most %v", b.count, b.slowest, limit)
	}
}

// manage makes a call that reads, and one that writes metadata through raft.
func (p *program) manage() {
	p.t.Helper()
	api := "http://" + p.address["http management"] + "/api/v3/"
	ask(p.t, "GET", api+"nodes/"+nodeName, appID, appSecret, nil).done()
	ask(p.t, "POST", api+"banned", appID, appSecret, body{"who": unique("nobody"), "as": "client_id"}).done()
}

// connections is how many clients the program has.
func (p *program) connections() int64 {
	p.t.Helper()
	api := "http://" + p.address["http management"] + "/api/v3/"
	return numbers(p.t, ask(p.t, "GET", api+"nodes/"+nodeName+"/stats/", appID, appSecret, nil).done().json)["connections/count"]
}
