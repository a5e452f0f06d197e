// Package impl assembles the HTTP side of a node: listeners with limits, the
// checks that come before routing, the generated servers of both API versions,
// and the pages around them.
//
// A request passes, in this order: the limits of its listener, the paths that
// are open, authentication, the search for its operation, one rewrite of the
// path, validation against the specification that is embedded and served, the
// strict handler of its version, and the envelope. Whatever goes wrong on the
// way is answered in the words of the version, never in those of a library.
package impl

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
	"github.com/lacewing-mqtt/lacewing/impl/v3"
	"github.com/lacewing-mqtt/lacewing/openapi"
)

// Kind says what a listener is for, and so who may use it.
type Kind uint8

// The kinds of listeners.
const (
	// API serves v3 to applications and v2 to admin users.
	API Kind = iota
	// Dashboard serves both versions to admin users.
	Dashboard
	// Control serves both versions to whoever can reach it: a socket that only
	// the node's own user can open.
	Control
)

// plugin is the name of the plugin that the listeners of a kind belong to.
func (k Kind) plugin() string {
	return [...]string{"management", "dashboard", ""}[k]
}

// Limits of requests, whatever the listener. Those of connections (headers,
// idle time, number) are the business of who listens.
const (
	maxBody        = 1 << 20
	maxOpenBody    = 16 << 10         // of operations that need no credentials
	bodyTimeout    = 30 * time.Second // from the end of the header to the end of the body
	requestTimeout = 15 * time.Second // for the work of one management call
)

// partialHeader names the nodes that an answer is without: they did not answer.
const partialHeader = "X-Cluster-Partial"

// staleHeader marks answers from metadata that may be old: the cluster has no
// leader.
const staleHeader = "X-Cluster-Stale"

// Options are the parts of a [Server]. Admin and Config are needed.
type Options struct {
	Admin  *admin.Service
	Config func() *config.Config
	Logger *slog.Logger
	// Ready says why the node does not serve yet or no more; nil when it does.
	Ready func() error
	// Sync waits until the metadata have everything that was acknowledged anywhere
	// in the cluster, and reports false when they may be old. Nil for a node that is
	// always up to date.
	Sync func(ctx context.Context) bool
	// OneListener reports whether there is no dashboard listener: the calls
	// that belong to it are then served to admin users on the API listener.
	OneListener func() bool
	// Private are further handlers by path prefix ("/api/node/"), for admin
	// users on dashboard listeners and for everybody on control listeners.
	Private map[string]http.Handler
	// Figures are further ones of this node for Prometheus; nil for none.
	Figures func() []Figure
}

// Server answers HTTP for one node. It is safe for concurrent use.
type Server struct {
	o        Options
	log      *slog.Logger
	versions []*version
	docs     *Docs
	metrics  http.Handler
	root     []byte // what GET / answers on API listeners
	failed   *failures
	timeout  time.Duration // requestTimeout; less in tests
	counts   counts
}

// New makes a Server; nothing listens yet.
func New(o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Sync == nil {
		o.Sync = func(context.Context) bool { return true }
	}
	if o.OneListener == nil {
		o.OneListener = func() bool { return false }
	}
	s := &Server{o: o, log: o.Logger, failed: newFailures(failBurst, failEvery, failSources), counts: newCounts(), timeout: requestTimeout}
	v2, err := s.newV2()
	if err != nil {
		return nil, fmt.Errorf("API v2: %w", err)
	}
	v3, err := s.newV3()
	if err != nil {
		return nil, fmt.Errorf("API v3: %w", err)
	}
	s.versions = []*version{v2, v3}
	if s.root, err = rootPaths(v2); err != nil {
		return nil, err
	}
	s.docs = NewDocs(s.document)
	s.metrics = s.newMetrics()
	return s, nil
}

// Handler answers requests as a listener of that kind does.
func (s *Server) Handler(k Kind) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a := &answer{ResponseWriter: w}
		v := s.versionOf(r)
		defer func() {
			if fault := recover(); fault != nil {
				if fault == http.ErrAbortHandler {
					panic(fault)
				}
				s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", fmt.Sprint(fault), "stack", string(debug.Stack()))
				if a.status != 0 {
					panic(http.ErrAbortHandler) // half an answer must not look whole
				}
				s.refuse(a, v, fail(admin.Internal))
			}
			s.counts.add(v, a.status, time.Since(start))
		}()
		_ = http.NewResponseController(w).SetReadDeadline(start.Add(bodyTimeout)) // a writer without deadlines is a test's
		s.serve(k, v, a, r)
	})
}

// serve finds out what is asked for: a version of the API, or a page.
func (s *Server) serve(k Kind, v *version, w http.ResponseWriter, r *http.Request) {
	ctx := admin.WithOrigin(r.Context(), remote(r))
	r = r.WithContext(ctx)
	if s.docs.Serves(r) {
		s.docs.ServeHTTP(w, r)
		return
	}
	for prefix, h := range s.o.Private {
		if k != API && strings.HasPrefix(r.URL.Path, prefix) {
			if k == Control || s.admitUser(w, r, nil) {
				h.ServeHTTP(w, r)
			}
			return
		}
	}
	if v == nil {
		s.page(k, w, r)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// Also who may log in is read from the metadata.
	if !s.o.Sync(ctx) {
		w.Header().Set(staleHeader, "true")
	}
	ctx, without := admin.WithAbsent(ctx)
	v.serve(k, &partial{w, without}, r.WithContext(ctx))
}

// partial says with an answer what it is without.
type partial struct {
	http.ResponseWriter
	without *admin.Absent
}

// WriteHeader implements [http.ResponseWriter]. All answers of the versions have
// their status set.
func (p *partial) WriteHeader(status int) {
	if names := p.without.Names(); len(names) > 0 {
		p.Header().Set(partialHeader, strings.Join(names, ", "))
	}
	p.ResponseWriter.WriteHeader(status)
}

// Unwrap lets [http.ResponseController] find the writer beneath.
func (p *partial) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// document is the v3 document of the dialect in force.
func (s *Server) document() openapi.Document {
	if s.dialect() == v3.Coded {
		return openapi.V3Code
	}
	return openapi.V3Items
}

// versionOf finds the version whose prefix a path has; nil for none.
func (s *Server) versionOf(r *http.Request) *version {
	path := r.URL.EscapedPath()
	for _, v := range s.versions {
		if rest, ok := strings.CutPrefix(path, v.ops.prefix); ok && (rest == "" || rest[0] == '/') {
			return v
		}
	}
	return nil
}

// answer remembers what was answered.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] find the writer beneath.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
