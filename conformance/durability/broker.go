package durability

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

const (
	appID     = "durability"
	appSecret = "durability-secret"
	nodeName  = "emqx@127.0.0.1"
)

// settings are those of a node that loses nothing by a limit and does nothing by itself.
var settings = map[string]string{
	"node.name":                       nodeName,
	"cluster.listen":                  "off",
	"listener.tcp.external":           "127.0.0.1:0",
	"listener.tcp.internal":           "off",
	"listener.ssl.external":           "off",
	"listener.ws.external":            "off",
	"listener.wss.external":           "off",
	"management.listener.http":        "127.0.0.1:0",
	"dashboard.listener.http":         "off",
	"management.bootstrap_app.id":     appID,
	"management.bootstrap_app.secret": appSecret,
	"broker.sys_interval":             "0",
	"broker.sys_heartbeat":            "0",
	"log.level":                       "warning",
	"zone.external.max_mqueue_len":    "0",
	"zone.external.retry_interval":    "0",
	"zone.external.max_awaiting_rel":  "0",
}

// broker is a program of the suite or the command itself, and the data that its processes leave to each other.
type broker struct {
	program  string
	data     string
	settings map[string]string
	env      []string

	process *process // the one that runs, or has run last
}

// process is one run.
type process struct {
	command *exec.Cmd
	log     *record
	begun   time.Time
	ended   chan struct{}
}

// record keeps a log, the last of it.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.b.Len() > 4<<20 {
		r.b.Reset()
	}
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// begin starts a process and returns at once.
func (b *broker) begin(env ...string) error {
	all := maps.Clone(settings)
	maps.Copy(all, b.settings)
	all["node.data_dir"] = b.data
	var args []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "--set", k+"="+all[k])
	}
	p := &process{command: exec.Command(b.program, args...), log: &record{}, begun: time.Now(), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = p.log, p.log
	p.command.Env = slices.Concat(os.Environ(), b.env, env)
	if err := p.command.Start(); err != nil {
		return err
	}
	go func() {
		defer close(p.ended)
		_ = p.command.Wait() // the exit code and the log tell
	}()
	b.process = p
	return nil
}

// errEnded says that a process has ended where it should have run.
var errEnded = errors.New("the broker has ended")

var listening = regexp.MustCompile(`listener="([^"]+)" address=(\S+)`)

// ready waits until the process listens and gives the address.
func (p *process) ready(listener string) (string, error) {
	for deadline := time.Now().Add(2 * load.Patience); ; {
		for _, m := range listening.FindAllStringSubmatch(p.log.String(), -1) {
			if m[1] == listener {
				return m[2], nil
			}
		}
		select {
		case <-p.ended:
			return "", fmt.Errorf("%w: %s\n%s", errEnded, p.command.ProcessState, p.log)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("the broker does not listen:\n%s", p.log)
		}
	}
}

// start starts a process and waits until it takes clients.
func (b *broker) start(env ...string) (address string, err error) {
	if err := b.begin(env...); err != nil {
		return "", err
	}
	return b.process.ready("mqtt:tcp external")
}

// kill ends the process as kill -9 does.
func (b *broker) kill() {
	_ = b.process.command.Process.Kill() // it may have ended
	<-b.process.ended
}

// stop ends the process in order.
func (b *broker) stop() error {
	if err := b.process.command.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%w\n%s", err, b.process.log)
	}
	select {
	case <-b.process.ended:
	case <-time.After(2 * load.Patience):
		b.kill()
		return fmt.Errorf("the broker does not stop:\n%s", b.process.log)
	}
	if code := b.process.command.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the broker stopped with exit code %d:\n%s", code, b.process.log)
	}
	return nil
}

// get reads from the API of the running process.
func (b *broker) get(path string, into any) error {
	address, err := b.process.ready("http management")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), load.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+address+"/api/v3/"+path, nil)
	if err != nil {
		return err
	}
	r.SetBasicAuth(appID, appSecret)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, answer.Status, text)
	}
	return json.Unmarshal(text, into)
}

// rows reads a list from the API.
func (b *broker) rows(path string) ([]map[string]any, error) {
	var v any
	if err := b.get(path, &v); err != nil {
		return nil, err
	}
	if m, ok := v.(map[string]any); ok {
		v = m["items"]
	}
	var rows []map[string]any
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("GET %s: no list in %v", path, v)
	}
	for _, x := range list {
		row, _ := x.(map[string]any)
		rows = append(rows, row)
	}
	return rows, nil
}

// programs are built once for each package path and set of flags.
var programs = struct {
	sync.Mutex
	dir   string
	built map[string]string
}{built: map[string]string{}}

// build makes a program of the module, with cgo off as it is released.
func build(name, pkg string, flags ...string) (string, error) {
	programs.Lock()
	defer programs.Unlock()
	if path := programs.built[name]; path != "" {
		return path, nil
	}
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "lacewing-durability-")
		if err != nil {
			return "", err
		}
		programs.dir = dir
	}
	path := filepath.Join(programs.dir, name)
	command := exec.Command("go", slices.Concat([]string{"build", "-o", path}, flags, []string{pkg})...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, strings.TrimSpace(string(out)))
	}
	programs.built[name] = path
	return path, nil
}

// cleanUp removes what was built.
func cleanUp() error {
	programs.Lock()
	defer programs.Unlock()
	if programs.dir == "" {
		return nil
	}
	return os.RemoveAll(programs.dir)
}
