package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/impl"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// Limits of HTTP connections. A request that streams sets its own deadline.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	writeTimeout  = 90 * time.Second // a processor profile takes up to a minute
	idleTimeout   = 60 * time.Second
	maxHeader     = 64 << 10
	stopTimeout   = 3 * time.Second // for requests under way when a listener closes
)

// web is the HTTP listeners of a node and its control socket.
type web struct {
	log *slog.Logger

	mu   sync.Mutex // guards open
	open []*httpListener

	drains sync.WaitGroup // listeners that let requests end
}

// httpListener is one open HTTP address.
type httpListener struct {
	name      string // "http management"
	plugin    string // whose listener it is; "" for the control socket
	scheme    string // http, https, unix
	address   string // as the lists show it
	acceptors int
	max       int
	bound     net.Addr
	spec      httpSpec         // that it was opened with
	socket    net.Listener     // without TLS
	cert      *httpCertificate // nil without TLS
	server    *http.Server
	gate      *impl.Gate
	done      chan struct{}
}

// httpSpec says what to open.
type httpSpec struct {
	plugin    string // management or dashboard
	scheme    string // http or https
	address   string
	acceptors int
	max       int
	tls       *transport.TLS
	handler   http.Handler
}

// same reports whether two specs open the same listener.
func (s httpSpec) same(o httpSpec) bool {
	s.handler, o.handler = nil, nil
	return reflect.DeepEqual(s, o)
}

// listen opens an address and serves it until stop.
func (w *web) listen(s httpSpec) (*httpListener, error) {
	l := &httpListener{
		name: s.scheme + " " + s.plugin, plugin: s.plugin, scheme: s.scheme,
		acceptors: s.acceptors, max: s.max, done: make(chan struct{}), spec: s,
	}
	network, address, err := transport.ParseAddress(s.address)
	if err != nil {
		return nil, &StartError{What: "listener " + l.name, Err: err, Code: ExitConfig}
	}
	socket, err := net.Listen(network, address)
	if err != nil {
		return nil, listenError(l.name, s.address, err)
	}
	l.bound, l.address = socket.Addr(), shownAddress(s.address, socket.Addr())
	l.gate = impl.NewGate(s.max)
	socket = l.gate.Listener(socket)
	l.socket = socket
	if s.tls != nil {
		if l.cert, err = loadHTTPCertificate(*s.tls); err != nil {
			return nil, errors.Join(err, socket.Close())
		}
		socket = tls.NewListener(socket, l.cert.config())
	}
	w.serve(l, socket, s.handler)
	return l, nil
}

func (w *web) serve(l *httpListener, socket net.Listener, handler http.Handler) {
	l.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// The handler answers OPTIONS * as every other unknown path.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
		ConnState:                    l.gate.ConnState,
	}
	w.mu.Lock()
	w.open = append(w.open, l)
	w.mu.Unlock()
	go func() {
		defer close(l.done)
		err := l.server.Serve(socket)
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			w.log.Error("HTTP listener ended", "listener", l.name, "err", err)
		}
	}()
}

// stop closes an address. Requests under way, the one that asked for this among them,
// get stopTimeout to end; close waits for them.
func (w *web) stop(l *httpListener) error {
	w.mu.Lock()
	w.open = slices.DeleteFunc(w.open, func(o *httpListener) bool { return o == l })
	w.mu.Unlock()
	err := l.socket.Close()
	<-l.done
	w.drains.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if l.server.Shutdown(ctx) != nil { // some request goes on: a profile, a client that does not read
			if err := l.server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				w.log.Debug("connections of a listener not closed", "listener", l.name, "err", err)
			}
		}
	})
	return err
}

// replace opens s in the place of a listener, whose address it may have. When that
// fails the old one is opened again; the listener that is open then is returned, nil
// for none.
func (w *web) replace(old *httpListener, s httpSpec) (*httpListener, error) {
	if err := w.stop(old); err != nil {
		return nil, err
	}
	l, err := w.listen(s)
	if err == nil {
		return l, nil
	}
	back := old.spec
	if _, port, perr := net.SplitHostPort(old.bound.String()); perr == nil && (back.address == "0" || strings.HasSuffix(back.address, ":0")) {
		back.address = strings.TrimSuffix(back.address, "0") + port // the one that it had
	}
	l, again := w.listen(back)
	if l != nil {
		l.spec = old.spec
	}
	return l, errors.Join(err, again)
}

// close stops what is still open and waits for requests under way.
func (w *web) close() error {
	w.mu.Lock()
	open := slices.Clone(w.open)
	w.mu.Unlock()
	var errs []error
	for _, l := range open {
		errs = append(errs, w.stop(l))
	}
	w.drains.Wait()
	return errors.Join(errs...)
}

// listening returns the open addresses but the control socket's.
func (w *web) listening() []Listening {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Listening
	for _, l := range w.open {
		if l.plugin != "" {
			out = append(out, Listening{l.name, l.bound.String()})
		}
	}
	return out
}

// listeners returns the open HTTP listeners of a plugin, of all plugins for "".
func (w *web) listeners(plugin string) []*httpListener {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*httpListener
	for _, l := range w.open {
		if l.plugin != "" && (plugin == "" || l.plugin == plugin) {
			out = append(out, l)
		}
	}
	return out
}

// httpPlugin is the plugin management or dashboard: their listeners.
type httpPlugin struct {
	node    *Node
	name    string
	handler func() http.Handler
	open    []*httpListener
}

func (n *Node) managementPlugin() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "management",
		V3:      plugins.Listing{Version: "3.0", Description: "EMQ X Management API and CLI"},
		Default: true,
		New:     func() plugins.Plugin { return &httpPlugin{node: n, name: "management", handler: n.managementHandler} },
	}
}

func (n *Node) dashboardPlugin() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "dashboard",
		V2:      plugins.Listing{Version: "2.3", Description: "EMQ Web Dashboard"},
		V3:      plugins.Listing{Version: "3.0", Description: "EMQ X Web Dashboard"},
		Default: true,
		New:     func() plugins.Plugin { return &httpPlugin{node: n, name: "dashboard", handler: n.dashboardHandler} },
	}
}

var schemes = []string{"http", "https"}

// spec is what a configuration says of a scheme; ok is false where it is off.
func (p *httpPlugin) spec(cfg *config.Config, scheme string) (s httpSpec, ok bool, err error) {
	key := p.name + ".listener." + scheme
	s = httpSpec{
		plugin: p.name, scheme: scheme, address: cfg.String(key),
		acceptors: cfg.Int(key + ".acceptors"), max: cfg.Int(key + ".max_clients"),
		handler: p.handler(),
	}
	if s.address == "off" || s.address == "" {
		return s, false, nil
	}
	if scheme == "https" {
		files, err := p.node.tlsFiles(cfg.TLS(key))
		if err != nil {
			return s, false, err
		}
		s.tls = &files
	}
	return s, true, nil
}

// Start opens the configured addresses.
func (p *httpPlugin) Start(ctx context.Context, env plugins.Env) error {
	for _, scheme := range schemes {
		s, on, err := p.spec(env.Config, scheme)
		if err == nil && on {
			var l *httpListener
			if l, err = p.node.web.listen(s); err == nil {
				p.open = append(p.open, l)
			}
		}
		if err != nil {
			return errors.Join(err, p.Stop(ctx))
		}
	}
	return nil
}

// Stop closes them.
func (p *httpPlugin) Stop(context.Context) error {
	var errs []error
	for _, l := range p.open {
		errs = append(errs, p.node.web.stop(l))
	}
	p.open = nil
	return errors.Join(errs...)
}

// Configure opens and closes what differs. An address that cannot be opened leaves the
// listener as it was.
func (p *httpPlugin) Configure(ctx context.Context, cfg *config.Config) error {
	want := make(map[string]httpSpec)
	for _, scheme := range schemes {
		s, on, err := p.spec(cfg, scheme)
		if err != nil {
			return err
		}
		if on {
			want[scheme] = s
		}
	}
	if len(want) == 0 && len(p.open) > 0 {
		if err := p.MayStop(ctx); err != nil {
			return err
		}
	}
	for _, scheme := range schemes {
		s, on := want[scheme]
		i := slices.IndexFunc(p.open, func(l *httpListener) bool { return l.scheme == scheme })
		switch {
		case i < 0 && on:
			l, err := p.node.web.listen(s)
			if err != nil {
				return err
			}
			p.open = append(p.open, l)
		case i >= 0 && !on:
			old := p.open[i]
			p.open = slices.Delete(p.open, i, i+1)
			if err := p.node.web.stop(old); err != nil {
				return err
			}
		case i >= 0 && !s.same(p.open[i].spec):
			l, err := p.node.web.replace(p.open[i], s)
			if l == nil {
				p.open = slices.Delete(p.open, i, i+1)
			} else {
				p.open[i] = l
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// MayStop refuses to cut off the caller, and to close the last way in.
func (p *httpPlugin) MayStop(ctx context.Context) error {
	if plugins.Caller(ctx) == p.name {
		return fmt.Errorf("%w: the call came in through it", plugins.ErrInUse)
	}
	if len(p.open) > 0 && len(p.node.web.listeners("")) == len(p.open) {
		return fmt.Errorf("%w: no other listener serves the API", plugins.ErrInUse)
	}
	return nil
}

var (
	_ plugins.Plugin     = (*httpPlugin)(nil)
	_ plugins.Configurer = (*httpPlugin)(nil)
	_ plugins.Guard      = (*httpPlugin)(nil)
)

// httpCertificate is the TLS configuration of an HTTPS listener, replaced as a whole.
type httpCertificate struct {
	files transport.TLS
	now   atomic.Pointer[tls.Config]
}

func loadHTTPCertificate(files transport.TLS) (*httpCertificate, error) {
	c := &httpCertificate{files: files}
	return c, c.reload()
}

func (c *httpCertificate) config() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load(), nil }}
}

// reload reads the files again; after an error the old ones stay.
func (c *httpCertificate) reload() error {
	pair, err := tls.LoadX509KeyPair(c.files.CertFile, c.files.KeyFile)
	if err != nil {
		return &StartError{What: "TLS certificate " + c.files.CertFile + " with key " + c.files.KeyFile + " cannot be used", Err: reason(err), Code: ExitConfig}
	}
	cfg := &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"},
		MinVersion: max(c.files.MinVersion, tls.VersionTLS12), MaxVersion: c.files.MaxVersion,
	}
	if c.files.Verify {
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
		if c.files.RequireCert {
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
		}
		if c.files.CAFile != "" {
			text, err := os.ReadFile(c.files.CAFile)
			if err != nil {
				return &StartError{What: "TLS CA file " + c.files.CAFile + " cannot be read", Err: reason(err), Code: ExitConfig}
			}
			cfg.ClientCAs = x509.NewCertPool()
			if !cfg.ClientCAs.AppendCertsFromPEM(text) {
				return &StartError{What: "TLS CA file " + c.files.CAFile + " holds no certificate", Code: ExitConfig}
			}
		}
	}
	for _, name := range c.files.Ciphers {
		id, ok := transport.CipherSuite(name)
		if !ok {
			return &StartError{What: "unknown cipher suite " + name, Code: ExitConfig}
		}
		cfg.CipherSuites = append(cfg.CipherSuites, id)
	}
	c.now.Store(cfg)
	return nil
}

// ControlSocket is the file, in the data directory, of the socket that lacewing ctl
// talks to.
const ControlSocket = "ctl.sock"

// openControl opens the control socket for the account of the node alone.
func (n *Node) openControl() error {
	path := n.data.file(ControlSocket)
	// The store holds the lock of the directory: what is there was left by a node that
	// was killed.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &StartError{What: "control socket " + path, Err: reason(err), Code: ExitData}
	}
	name, done, err := ShortSocket(path)
	if err != nil {
		return &StartError{What: "control socket " + path, Err: reason(err), Code: ExitData}
	}
	defer done()
	socket, err := net.Listen("unix", name)
	if err != nil {
		return listenError("control socket", path, err)
	}
	if u, ok := socket.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // by name it would look for the short one
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(&StartError{What: "control socket " + path, Err: reason(err), Code: ExitData}, socket.Close())
	}
	l := &httpListener{name: "control socket", scheme: "unix", socket: socket, bound: socket.Addr(), gate: impl.NewGate(0), done: make(chan struct{})}
	n.web.serve(l, socket, n.socketHandler())
	return nil
}

// maxSocketName is what every system takes as the name of a unix socket.
const maxSocketName = 100

// ShortSocket returns a name of the socket at path that is short enough to open or
// dial; done releases it after that.
func ShortSocket(path string) (name string, done func(), err error) {
	if len(path) <= maxSocketName {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	if _, err := os.Stat(filepath.Dir(short)); err != nil {
		return "", nil, errors.Join(fmt.Errorf("the name is longer than %d bytes", maxSocketName), dir.Close())
	}
	return short, func() { dir.Close() }, nil // only read
}

// ReloadCertificates reads the certificates of all TLS listeners again. New
// handshakes use them; a listener whose files are not good keeps the old ones.
func (n *Node) ReloadCertificates() error {
	var errs []error
	for _, l := range n.mqttListeners() {
		errs = append(errs, l.reload())
	}
	for _, l := range n.web.listeners("") {
		if l.cert != nil {
			if err := l.cert.reload(); err != nil {
				errs = append(errs, fmt.Errorf("listener %s: %w", l.name, err))
			}
		}
	}
	return errors.Join(errs...)
}
