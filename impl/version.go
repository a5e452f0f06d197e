package impl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
	gen2 "github.com/lacewing-mqtt/lacewing/gen/v2"
	gen3 "github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
	"github.com/lacewing-mqtt/lacewing/impl/v2"
	"github.com/lacewing-mqtt/lacewing/impl/v3"
	"github.com/lacewing-mqtt/lacewing/openapi"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// version is one API: its operations, its generated server, and how it says no.
type version struct {
	s      *Server
	number int
	ops    *operations
	router *echo.Echo
	// refuse writes the answer to a failure.
	refuse func(w http.ResponseWriter, err error)
	// unauthorized is the text of a 401, realm what it asks for.
	unauthorized, realm string
	// merge says that the query and the body are one set of parameters.
	merge bool
}

// newV2 assembles the API of EMQ 2.x.
func (s *Server) newV2() (*version, error) {
	doc, err := openapi.V2.Load()
	if err != nil {
		return nil, err
	}
	v := &version{
		s: s, number: 2, ops: newOperations(doc, "/api/v2", false), realm: "emqx control center",
		refuse: func(w http.ResponseWriter, err error) {
			status, body := v2.Refusal(err)
			if body == nil {
				writeText(w, status, "")
				return
			}
			writeJSON(w, status, body)
		},
	}
	h := v2.New(s.o.Admin, func() bool { return s.o.Config().String("management.v2_aggregates") == "array" })
	v.router = newRouter(v)
	gen2.RegisterHandlersWithBaseURL(v.router, gen2.NewStrictHandler(h, nil), v.ops.prefix)
	return v, nil
}

// newV3 assembles the API of EMQ X 3.0, in the dialect of the configuration.
func (s *Server) newV3() (*version, error) {
	doc, err := openapi.V3Items.Load()
	if err != nil {
		return nil, err
	}
	v := &version{
		s: s, number: 3, ops: newOperations(doc, "/api/v3", true), merge: true,
		unauthorized: "UNAUTHORIZED", realm: "minirest-server",
		refuse: func(w http.ResponseWriter, err error) {
			status, body := v3.Refusal(s.dialect(), err)
			if text, plain := body.(string); plain {
				writeText(w, status, text)
				return
			}
			writeJSON(w, status, body)
		},
	}
	index, err := apiIndex(doc)
	if err != nil {
		return nil, err
	}
	h := v3.New(s.o.Admin, v3.Options{
		Dots:  func() bool { return s.o.Config().String("management.metric_names") == "dot" },
		Index: index,
	})
	v.router = newRouter(v)
	strict := gen3.NewStrictHandler(h, []gen3.StrictMiddlewareFunc{s.coded})
	gen3.RegisterHandlersWithBaseURL(v.router, strict, v.ops.prefix)
	return v, nil
}

func newRouter(v *version) *echo.Echo {
	e := echo.New()
	e.HideBanner = true
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		switch admin.KindOf(err) {
		case admin.LoginUnknown, admin.LoginWrong, admin.OldPasswordWrong:
			v.s.loginFailed(c.Request())
		}
		if !c.Response().Committed {
			v.s.refuse(c.Response(), v, routed(err))
		}
	}
	return e
}

// dialect is the form of v3 in effect.
func (s *Server) dialect() v3.Dialect {
	return v3.Dialect(s.o.Config().String("management.v3_dialect"))
}

// coded writes the answers of the code dialect from the typed results of the
// handlers.
func (s *Server) coded(f gen3.StrictHandlerFunc, _ string) gen3.StrictHandlerFunc {
	return func(c echo.Context, request any) (any, error) {
		result, err := f(c, request)
		if err != nil || s.dialect() != v3.Coded {
			return result, err
		}
		m := matched(c.Request().Context())
		answer, err := m.op.shape.Code(result)
		if err != nil {
			return nil, err
		}
		writeJSON(c.Response(), http.StatusOK, answer)
		return nil, nil
	}
}

// serve answers one request to the API.
func (v *version) serve(k Kind, w http.ResponseWriter, r *http.Request) {
	m, found := v.ops.find(r.Method, r.URL.EscapedPath())
	here := found && v.offered(k, m.op)
	if !(here && m.op.open) && k != Control {
		user := v.number == 2 || k == Dashboard || here && m.op.dashboard
		switch {
		case user && !v.s.admitUser(w, r, v):
			return
		case !user && !v.s.admitApp(w, r, v):
			return
		}
	}
	switch {
	case here:
	case v.number == 3 && strings.Trim(strings.TrimPrefix(r.URL.Path, v.ops.prefix), "/") == "" && r.Method != http.MethodHead:
		writeText(w, http.StatusBadRequest, v3.BadRequest) // another method on the index
		return
	default:
		v.s.refuse(w, v, fail(admin.UnknownNode))
		return
	}
	if m.op.guessed() && v.s.limited(w, r, v) {
		return
	}
	body, err := readBody(w, r, m.op)
	if err != nil {
		v.unreadable(w, err)
		return
	}
	if r, err = v.validated(m, r, body); err != nil {
		v.s.refuse(w, v, err)
		return
	}
	v.route(k, w, r)
}

// route hands a request that has passed every check to the generated server.
func (v *version) route(k Kind, w http.ResponseWriter, r *http.Request) {
	ctx := plugins.WithCaller(r.Context(), k.plugin())
	v.router.ServeHTTP(w, r.WithContext(ctx))
}

// offered reports whether a listener of that kind serves an operation.
func (v *version) offered(k Kind, op *operation) bool {
	return k != API || !op.dashboard || v.s.o.OneListener()
}

// unreadable answers a request whose body did not come or was too much.
func (v *version) unreadable(w http.ResponseWriter, err error) {
	w.Header().Set("Connection", "close")
	text := ""
	status := http.StatusRequestTimeout
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		status = http.StatusRequestEntityTooLarge
	}
	if v.number == 3 {
		text = http.StatusText(status)
	}
	writeText(w, status, text)
}

// readBody reads a body within its limit. Of strangers it takes less.
func readBody(w http.ResponseWriter, r *http.Request, op *operation) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	most := int64(maxBody)
	if op.open {
		most = maxOpenBody
	}
	if r.ContentLength > most {
		return nil, &http.MaxBytesError{Limit: most}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err == nil {
		_ = http.NewResponseController(w).SetReadDeadline(noDeadline) // a writer without deadlines is a test's
	}
	return body, err
}

// refuse writes the answer to a failure in the words of a version; outside
// both in those of v3.
func (s *Server) refuse(w http.ResponseWriter, v *version, err error) {
	if v == nil {
		v = s.versions[len(s.versions)-1]
	}
	kind := admin.KindOf(err)
	switch kind {
	case admin.NoLeader:
		w.Header().Set("Retry-After", retryLeader)
	case admin.Internal:
		if errors.Is(err, context.Canceled) { // the client has gone and reads no answer
			break
		}
		s.log.Error("request failed", "err", err)
	}
	v.refuse(w, err)
}

// retryLeader is how long a cluster takes to find a leader, in seconds.
const retryLeader = "2"

// routed translates what the generated server refuses by itself: a parameter
// that has passed the specification and does not fit a Go type.
func routed(err error) error {
	he, ours := errors.AsType[*echo.HTTPError](err)
	if !ours {
		return err
	}
	text, _ := he.Message.(string)
	switch {
	case he.Code != http.StatusBadRequest:
		return fail(admin.UnknownNode)
	case slices.ContainsFunc(pageParams, func(p string) bool { return strings.Contains(text, "parameter "+p) }):
		return fail(admin.BadPage)
	}
	return &admin.Error{Kind: admin.BadParam, Message: "a parameter has the wrong type"}
}

func fail(k admin.Kind) error { return &admin.Error{Kind: k} }

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a client that is gone cannot be told
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(body); err != nil {
		panic(err) // only types of our own get here
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // a client that is gone cannot be told
}

// apiIndex is what GET / of v3 lists: the documented entries as they stand in
// the example of the specification, then the operations that came later.
func apiIndex(doc *openapi3.T) ([]gen3.ApiRow, error) {
	var index []gen3.ApiRow
	example := doc.Components.Examples["v3.list_all_api"]
	if example == nil {
		return nil, errors.New("the specification has no example of the index")
	}
	text, err := json.Marshal(example.Value.Value)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, err
	}
	documented, have := len(index), make(map[string]bool)
	for _, row := range index {
		have[row.Method+" "+strings.Trim(row.Path, "/")] = true
	}
	for _, path := range doc.Paths.InMatchingOrder() {
		for method, op := range doc.Paths.Value(path).Operations() {
			spelt := strings.NewReplacer("{", ":", "}", "").Replace(path)
			if trimmed := strings.Trim(spelt, "/"); trimmed == "" || have[method+" "+trimmed] {
				continue
			}
			index = append(index, gen3.ApiRow{Name: op.OperationID, Method: method, Path: spelt, Descr: op.Summary})
		}
	}
	slices.SortStableFunc(index[documented:], func(a, b gen3.ApiRow) int { return strings.Compare(a.Name, b.Name) })
	return index, nil
}
