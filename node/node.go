package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/cluster"
	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/store"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/impl"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/plugins/reloader"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Compatible names the releases whose APIs a node speaks.
const Compatible = "2.3.11, 3.0.1"

// Options say what node to start. The zero value is a node with the defaults of
// every key.
type Options struct {
	// Config is the loaded configuration; nil loads Settings over the defaults.
	Config *config.Config
	// Settings are keys with their text, for programs that have no file.
	Settings map[string]string
	// Load reads the configuration again; nil for a node that cannot.
	Load func() (*config.Config, error)
	// ConfigFile is watched by the plugin reloader; "" for none.
	ConfigFile string
	// Logger takes the lines; nil writes to Output in the configured format.
	Logger *slog.Logger
	Output io.Writer // nil: standard output
	// Release is the version of Lacewing that is shown.
	Release string
	// StoreOptions changes how the store of sessions and messages is opened: a test seam; nil leaves it.
	StoreOptions func(*store.Options)
}

// Node is one running node. Its methods may be called from any goroutine.
type Node struct {
	name    string // node.name
	release string
	started time.Time
	limits  Limits
	table   *config.Table
	load    func() (*config.Config, error)
	file    string // of the configuration, "" for none

	base     atomic.Pointer[config.Config] // without the replicated layers
	cfg      atomic.Pointer[config.Config] // in effect
	applying sync.Mutex                    // held while cfg changes

	logging  *logging
	log      *slog.Logger
	data     dataDir
	store    *raftstore.Store
	disk     *store.Disk       // of sessions and messages
	cluster  *cluster.Cluster  // nil with cluster.listen = off
	registry *cluster.Registry // nil without cluster
	control  http.Handler      // the node API, without the question who asks
	engine   *engine.Engine
	driver   *transport.Driver
	acl      aclFile
	stamps   stamps
	monitor  *monitor
	plugins  *plugins.Set
	local    *admin.Local // what other nodes ask, when the node serves
	service  *admin.Service
	web      *web
	http     *impl.Server

	mqtt atomic.Pointer[[]*mqttListener] // set once, when all of them are open

	background sync.WaitGroup // goroutines that end with stop
	stop       context.CancelFunc
	serving    chan struct{} // closed when everything listens
	opened     chan struct{} // closed before that, when other nodes may ask for clients
	failed     chan error    // holds one: what ended the node from within
	closing    chan struct{} // closed when Close begins
	closeOnce  sync.Once
	closeErr   error
}

// dataDir is the directory of everything that the node keeps. The store holds its
// lock.
type dataDir struct{ path string }

func (d dataDir) file(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// Start builds a node and returns when everything listens. The caller ends it with
// Close. Errors for operators are *StartError.
func Start(ctx context.Context, o Options) (*Node, error) {
	n := &Node{
		release: cmp.Or(o.Release, "dev"), started: time.Now(), load: o.Load, file: o.ConfigFile,
		failed: make(chan error, 1), closing: make(chan struct{}), serving: make(chan struct{}), opened: make(chan struct{}),
	}
	if o.Config == nil {
		var err error
		if o.Config, err = loadSettings(o.Settings); err != nil {
			return nil, &StartError{What: "configuration", Err: err, Code: ExitConfig}
		}
	}
	n.table = o.Config.Table()
	n.base.Store(o.Config)
	n.cfg.Store(o.Config)
	n.name = o.Config.String("node.name")
	n.data.path = o.Config.String("node.data_dir")
	if o.Logger != nil {
		n.logging = wrapLogging(o.Logger.Handler(), o.Config)
	} else {
		var w io.Writer = os.Stdout
		if o.Output != nil {
			w = o.Output
		}
		n.logging = newLogging(w, o.Config)
	}
	n.log = n.logging.log.With("node", n.name)
	n.limits = readLimits()

	var background context.Context
	background, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := n.start(ctx, background, o.StoreOptions); err != nil {
		return nil, errors.Join(err, n.Close(context.WithoutCancel(ctx)))
	}
	return n, nil
}

func loadSettings(settings map[string]string) (*config.Config, error) {
	var set []string
	for _, key := range sortedKeys(settings) {
		set = append(set, key+"="+settings[key])
	}
	return config.Load(Table(), config.LoadOptions{Set: set})
}

// start builds the parts from the ground up.
func (n *Node) start(ctx, background context.Context, storeOptions func(*store.Options)) error {
	n.fitRuntime()
	var err error
	if n.control, err = n.controlHandler(); err != nil {
		return err
	}
	if err := n.openStore(ctx); err != nil {
		return err
	}
	cfg, err := n.withOverrides(n.overrides())
	n.warnOverrides(err)
	n.cfg.Store(cfg)
	n.logging.configure(cfg)
	for _, notice := range cfg.Notices() {
		n.log.Warn(notice)
	}
	if err := n.startUsers(ctx, background); err != nil {
		return err
	}
	if err := n.openDisk(cfg, storeOptions); err != nil {
		return err
	}
	if err := n.startEngine(); err != nil {
		return err
	}
	if err := n.startAdmin(); err != nil {
		return err
	}
	if err := n.plugins.Start(ctx); err != nil {
		return startError(err)
	}
	// Not before the retainer: the first round of the $SYS topics has retained ones.
	n.background.Go(func() {
		if err := n.engine.Run(background); err != nil && background.Err() == nil {
			n.fail(fmt.Errorf("engine: %w", err))
		}
	})
	if err := n.openMQTT(); err != nil {
		return err
	}
	if n.cluster != nil {
		close(n.opened)
		n.cluster.Ready(true)
	}
	for _, l := range n.mqttListeners() { // nobody is let in before everything is there
		if err := l.serve(); err != nil {
			return fmt.Errorf("listener %s: %w", l.name, err)
		}
	}
	for _, f := range n.watched() {
		f.Changed() // what is on disk now is what was read
	}
	close(n.serving)
	n.background.Go(func() { n.monitor.run(background) })
	n.background.Go(func() { n.followMetadata(background) })
	if n.cluster != nil {
		n.background.Go(func() { n.runLinks(background) })
		n.background.Go(func() { n.followHomes(background) })
	}
	return nil
}

// fitRuntime tells the garbage collector what memory there is: it works harder
// before the limit of a container is reached.
func (n *Node) fitRuntime() {
	if m := cgroupMemory(); m > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(m / 10 * 9))
	}
}

// openStore takes the data directory and finds the cluster.
func (n *Node) openStore(ctx context.Context) error {
	var err error
	n.store, err = raftstore.Open(n.storeOptions())
	if e, ok := errors.AsType[*StartError](err); ok {
		return e
	}
	switch {
	case err == nil:
		return n.joinCluster(ctx)
	case errors.Is(err, raftstore.ErrInUse):
		return &StartError{What: "data directory " + n.data.path + " is in use by another node", Code: ExitData}
	case errors.Is(err, raftstore.ErrNewer):
		return &StartError{What: "data directory " + n.data.path + " was written by a newer version: start that, or restore a backup into an empty directory", Code: ExitData}
	}
	return &StartError{What: "data directory " + n.data.path + " cannot be used", Err: reason(err), Code: ExitData}
}

// startEngine makes the engine with its access rules, ban check and monitor.
func (n *Node) startEngine() error {
	cfg := n.cfg.Load()
	s := settings(cfg)
	if err := n.acl.load(cfg.String("mqtt.acl_file")); err != nil {
		return err
	}
	var err error
	n.engine, err = engine.New(engine.Options{
		ID: n.store.NodeID(), Node: n.name, Version: n.release, SysDescr: "Lacewing " + n.release,
		Logger: n.log, Settings: &s, Zones: zones(cfg), Store: n.disk, HoldWills: n.cluster != nil,
	})
	switch {
	case errors.Is(err, engine.ErrStore):
		return loadError(err)
	case err != nil:
		return &StartError{What: "configuration", Err: err, Code: ExitConfig}
	}
	n.engine.SetLinkQueue(cfg.Bytes("cluster.link.max_queue_bytes"))
	n.startHomes()
	n.engine.SetLinkPatience(cfg.Duration("cluster.link.suback_wait"))
	if n.cluster != nil {
		n.cluster.SetAlarms(n.engine.Alarms())
	}
	// Registered first, so that the rules of plugins, which come later, are asked
	// before it.
	n.engine.AddAuthorizer("internal", 0, &n.acl)
	n.engine.SetBanCheck(n.banned)
	n.driver, err = transport.New(n.engine, transport.Options{Logger: n.log, ReserveFiles: n.reserved()})
	if err != nil {
		return fmt.Errorf("start transport: %w", err)
	}
	n.monitor = newMonitor(n.engine.Alarms(), machineGauges(n.limits, n.connections, n.usable), cfg)
	n.plugins = plugins.NewSet(plugins.Options{
		Node: n.name, Engine: n.engine, Store: n.store, Logger: n.log, States: (*pluginStates)(n),
	}, n.descriptors()...)
	return nil
}

// descriptors are the plugins of this build in the order of their start: what
// decides about clients first, the HTTP listeners last.
func (n *Node) descriptors() []plugins.Descriptor {
	return append(builtin(), reloader.Descriptor(n.watched, n.data.path), n.managementPlugin(), n.dashboardPlugin())
}

// reserved is how many descriptors connections leave free.
func (n *Node) reserved() int {
	r := n.cfg.Load().Int("node.reserved_descriptors")
	if d := int(n.limits.Descriptors); d > 0 && r > d/4 {
		r = d / 4
	}
	return r
}

// usable is how many connections the descriptors allow; 0 where unknown.
func (n *Node) usable() int {
	_, usable := n.driver.MaxFiles()
	return usable
}

func (n *Node) connections() int {
	_, total := n.engine.Clients(0, 0)
	return total
}

// Service returns the management of the node.
func (n *Node) Service() *admin.Service { return n.service }

// Engine returns the broker of the node.
func (n *Node) Engine() *engine.Engine { return n.engine }

// Store returns the stored metadata of the node.
func (n *Node) Store() *raftstore.Store { return n.store }

// Plugins returns the plugins of the node.
func (n *Node) Plugins() *plugins.Set { return n.plugins }

// Name returns node.name.
func (n *Node) Name() string { return n.name }

// Listening is one open address.
type Listening struct {
	Name    string // "mqtt:tcp external", "http management"
	Address string // as bound: 127.0.0.1:41234
}

// Listening returns the open addresses, MQTT first.
func (n *Node) Listening() []Listening {
	var out []Listening
	for _, l := range n.mqttListeners() {
		out = append(out, Listening{l.name, l.addr().String()})
	}
	return append(out, n.web.listening()...)
}

// Addr returns the address that a listener is bound to, "" when it is not open:
// Addr("mqtt:tcp external"), Addr("http management"). A wildcard address becomes
// loopback, so that the result can be dialed.
func (n *Node) Addr(name string) string {
	for _, l := range n.Listening() {
		if l.Name != name {
			continue
		}
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil {
			return l.Address
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return net.JoinHostPort(host, port)
	}
	return ""
}

// host is the host part of the node's name.
func (n *Node) host() string {
	_, host, _ := strings.Cut(n.name, "@")
	return host
}

// fail ends the node from within.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default: // one reason is enough
	}
}

// Failed returns a channel that yields the fault that the node cannot go on after.
func (n *Node) Failed() <-chan error { return n.failed }

// Run waits until ctx is done or the node fails, and closes it within the configured
// shutdown time.
func (n *Node) Run(ctx context.Context) error {
	fault := n.wait(ctx)
	return errors.Join(fault, n.shutdown(ctx))
}

// wait returns when ctx is done, or with the fault that the node cannot go on after.
func (n *Node) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case fault := <-n.failed:
		n.log.Error("the node cannot go on", "err", fault)
		return fault
	}
}

func (n *Node) shutdown(ctx context.Context) error {
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.ShutdownTimeout())
	defer cancel()
	return n.Close(deadline)
}

// ShutdownTimeout is how long an orderly stop may take.
func (n *Node) ShutdownTimeout() time.Duration { return n.cfg.Load().Duration("node.shutdown_timeout") }

// Close stops the node in order: no new connections, clients told, plugins, HTTP,
// sessions and messages, metadata. ctx bounds it; what is open then is closed hard.
// Calls after the first return the same error.
func (n *Node) Close(ctx context.Context) error {
	n.closeOnce.Do(func() {
		close(n.closing)
		n.closeErr = n.close(ctx)
	})
	return n.closeErr
}

func (n *Node) close(ctx context.Context) error {
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", what, err))
		}
	}
	for _, l := range n.mqttListeners() {
		try("listener "+l.name, l.close())
	}
	if n.engine != nil {
		// Wills and last messages still pass the plugins. A client that does not read
		// may not take the time of all that comes after it.
		part, cancel := context.WithTimeout(ctx, timeLeft(ctx)/2)
		err := n.engine.Close(part)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			n.log.Warn("some clients have not taken their last messages")
			err = nil
		}
		try("engine", err)
		n.stopHomes(ctx)
	}
	if n.plugins != nil {
		try("plugins", n.plugins.Close(ctx))
	}
	if n.web != nil {
		try("HTTP", n.web.close())
	}
	if n.driver != nil {
		try("connections", n.driver.Close(ctx))
	}
	n.stop()
	n.background.Wait()
	if n.registry != nil {
		n.registry.Close()
	}
	if n.disk != nil {
		try("store", n.disk.Close())
	}
	if n.cluster != nil {
		if n.store != nil && n.store.Leads() {
			if err := n.store.HandOver(); err != nil {
				n.log.Debug("nobody takes over the lead", "err", err)
			}
		}
		try("cluster", n.cluster.Close())
	}
	if n.store != nil {
		try("metadata", n.store.Close())
	}
	return errors.Join(errs...)
}

// timeLeft is how long ctx lasts, at most a minute.
func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(time.Until(deadline), time.Minute)
	}
	return time.Minute
}

// startError keeps an error that is for operators and makes one of any other.
func startError(err error) error {
	if _, ok := errors.AsType[*StartError](err); ok {
		return err
	}
	return &StartError{What: "the node cannot start", Err: err, Code: ExitConfig}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
