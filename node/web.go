package node

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/impl"
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
