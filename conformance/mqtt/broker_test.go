package mqtt

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// broker is a broker under test, started or found.
type broker struct {
	addr   string // host:port of the plain TCP listener
	wsAddr string // host:port of the WebSocket listener, empty if it has none
	stop   func() error
}

// Where the broker under test comes from: by default a node of this module in
// this process; an address of a running broker; or, to check the suite itself
// against another implementation, a mosquitto binary that the suite starts.
var (
	externalAddr   = os.Getenv("LACEWING_CONFORMANCE_ADDR")
	externalWSAddr = os.Getenv("LACEWING_CONFORMANCE_WS_ADDR")
	mosquittoPath  = os.Getenv("LACEWING_CONFORMANCE_MOSQUITTO")
)

// foreign tells whether the broker under test is not Lacewing; missing
// statements are then reported, not counted as a failure of the suite.
func foreign() bool { return externalAddr != "" || mosquittoPath != "" }

// defaultSettings are those of the broker that tests share: limits low enough
// to reach, everything on.
var defaultSettings = map[string]string{
	"mqtt.allow_anonymous": "true",
}

// brokers holds one broker for each set of settings, shared by the tests that
// ask for the same one.
var brokers = struct {
	sync.Mutex
	byKey map[string]*lazyBroker
}{byKey: map[string]*lazyBroker{}}

// scratch is a directory for the files of all brokers; closeBrokers removes it.
var scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "conformance-mqtt-") })

// scratchDir makes a directory in scratch.
func scratchDir(pattern string) (string, error) {
	root, err := scratch()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(root, pattern)
}

type lazyBroker struct {
	once sync.Once
	b    *broker
	err  error
}

// shared is the broker with default settings.
func shared(t *testing.T) *broker {
	t.Helper()
	return startBroker(t, nil)
}

// errSettings marks settings that the broker under test cannot be given.
var errSettings = errors.New("the broker under test cannot be started with these settings")

// startBroker returns a broker that runs with the settings (configuration keys
// of Lacewing) on top of defaultSettings. Tests that ask for the same settings
// share it. Against an external broker a test that needs settings is skipped.
func startBroker(t *testing.T, settings map[string]string) *broker {
	t.Helper()
	all := maps.Clone(defaultSettings)
	maps.Copy(all, settings)
	var key strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&key, "%s=%s\n", k, all[k])
	}
	brokers.Lock()
	lazy := brokers.byKey[key.String()]
	if lazy == nil {
		lazy = &lazyBroker{}
		brokers.byKey[key.String()] = lazy
	}
	brokers.Unlock()
	lazy.once.Do(func() {
		switch {
		case externalAddr != "" && len(settings) > 0:
			lazy.err = fmt.Errorf("%w: it is external; wanted %v", errSettings, settings)
		case externalAddr != "":
			lazy.b = &broker{addr: externalAddr, wsAddr: externalWSAddr, stop: func() error { return nil }}
		case mosquittoPath != "":
			lazy.b, lazy.err = startMosquitto(mosquittoPath, all)
		default:
			lazy.b, lazy.err = startNode(all)
		}
	})
	if errors.Is(lazy.err, errSettings) {
		t.Skip(lazy.err)
	}
	if lazy.err != nil {
		t.Fatalf("start broker: %v", lazy.err)
	}
	return lazy.b
}

// ownBroker starts a broker with default settings that nobody else uses, so that
// the test can stop it.
func ownBroker(t *testing.T) *broker {
	t.Helper()
	if foreign() {
		t.Skip("only a node of this process can be stopped")
	}
	b, err := startNode(defaultSettings)
	if err != nil {
		t.Fatalf("start broker: %v", err)
	}
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return b
}

// closeBrokers stops every broker that was started.
func closeBrokers() error {
	brokers.Lock()
	defer brokers.Unlock()
	var errs []error
	for _, lazy := range brokers.byKey {
		if lazy.b != nil {
			errs = append(errs, lazy.b.stop())
		}
	}
	root, err := scratch()
	if err == nil {
		err = os.RemoveAll(root)
	}
	return errors.Join(append(errs, err)...)
}

// mosquittoKeys translates configuration keys; a key that is not here cannot be
// given to mosquitto.
var mosquittoKeys = map[string]string{
	"mqtt.allow_anonymous":           "allow_anonymous",
	"zone.external.max_packet_size":  "max_packet_size",
	"zone.external.max_qos_allowed":  "max_qos",
	"zone.external.max_inflight":     "max_inflight_messages",
	"zone.external.max_topic_alias":  "max_topic_alias",
	"zone.external.retain_available": "retain_available",
	"zone.external.max_awaiting_rel": "max_inflight_messages",
}

// startMosquitto runs a mosquitto on a free loopback port.
func startMosquitto(path string, settings map[string]string) (*broker, error) {
	dir, err := scratchDir("mosquitto-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	wsPort, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := []string{"per_listener_settings false", "set_tcp_nodelay true",
		"listener " + port + " 127.0.0.1", "LISTENER OPTIONS",
		"listener " + wsPort + " 127.0.0.1", "protocol websockets"}
	var options []string
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		option, ok := mosquittoKeys[k]
		if !ok {
			return nil, fmt.Errorf("%w: mosquitto has no counterpart of %s", errSettings, k)
		}
		line := option + " " + settings[k]
		if option == "max_qos" || option == "max_topic_alias" { // of a listener
			options = append(options, line)
			continue
		}
		conf = append([]string{line}, conf...)
	}
	text := strings.Replace(strings.Join(conf, "\n"), "LISTENER OPTIONS", strings.Join(options, "\n"), 1)
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "-c", file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &broker{addr: "127.0.0.1:" + port, wsAddr: "127.0.0.1:" + wsPort, stop: func() error {
		cmd.Process.Kill()
		cmd.Wait() // killed: the error says only that
		return log.Close()
	}}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		nc, err := net.Dial("tcp", b.addr)
		if err == nil {
			nc.Close()
			return b, nil
		}
		if time.Now().After(deadline) {
			b.stop()
			return nil, fmt.Errorf("mosquitto does not listen: %w", err)
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// authBroker is a broker without anonymous access that knows testUser, by user
// name and password and by SCRAM-SHA-256.
func authBroker(t *testing.T) *broker {
	t.Helper()
	return startBroker(t, map[string]string{"mqtt.allow_anonymous": "false", "auth.user.1.username": testUser, "auth.user.1.password": testPass})
}
