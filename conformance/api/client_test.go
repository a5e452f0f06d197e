package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// spec is one document with its operations by id.
type spec struct {
	doc    *openapi3.T
	prefix string
	ops    map[string]*routers.Route
}

// specs are the documents that answers are checked against.
var specs = map[openapi.Document]*spec{}

func init() {
	for _, d := range openapi.Documents {
		doc, err := d.Load()
		if err != nil {
			panic(err)
		}
		s := &spec{doc: doc, prefix: "/api/v3", ops: map[string]*routers.Route{}}
		if d == openapi.V2 {
			s.prefix = "/api/v2"
		}
		for path, item := range doc.Paths.Map() {
			for method, op := range item.Operations() {
				s.ops[op.OperationID] = &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: op}
			}
		}
		specs[d] = s
	}
}

// client speaks one document to one listener.
type client struct {
	t            testing.TB
	base         string // http://host:port
	doc          openapi.Document
	user, secret string
	http         *http.Client
}

// as returns the client with other credentials; none for an empty user.
func (c client) as(user, secret string) client {
	c.user, c.secret = user, secret
	return c
}

// in returns the client for the test of a subtest.
func (c client) in(t testing.TB) client {
	c.t = t
	return c
}

func (c client) spec() *spec { return specs[c.doc] }

// request is one call of an operation.
type request struct {
	op    string
	path  map[string]string // parameters, escaped as one segment each
	raw   string            // the path as it is sent, in place of op's template
	query url.Values
	body  any    // sent as JSON
	text  string // sent as it is, in place of body
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	text   string
	json   any
}

// call sends a request and checks the answer against the specification.
func (c client) call(r request) answer {
	c.t.Helper()
	route := c.spec().ops[r.op]
	if route == nil {
		c.t.Fatalf("no operation %s in document %s", r.op, c.doc)
	}
	path := r.raw
	if path == "" {
		path = c.spec().prefix + route.Path
		for name, value := range r.path {
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
		}
	}
	if len(r.query) > 0 {
		path += "?" + r.query.Encode()
	}
	var body io.Reader
	switch {
	case r.text != "":
		body = strings.NewReader(r.text)
	case r.body != nil:
		b, err := json.Marshal(r.body)
		if err != nil {
			c.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	a := c.send(route.Method, path, body)
	a.what = string(c.doc) + " " + r.op
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: &http.Request{Method: route.Method, URL: &url.URL{Path: path}}, Route: route,
		},
		Status: a.status, Header: a.header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	in.SetBodyBytes([]byte(a.text))
	if err := openapi3filter.ValidateResponse(context.Background(), in); err != nil {
		c.t.Errorf("%s: the answer does not fit the specification: %v\n%d %s", a.what, err, a.status, a.text)
	}
	return a
}

// send sends any request; the answer is not checked.
func (c client) send(method, path string, body io.Reader) answer {
	c.t.Helper()
	u, err := url.Parse(c.base)
	if err != nil {
		c.t.Fatal(err)
	}
	u.Opaque = "//" + u.Host + path // exactly as it is written
	req := &http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if body != nil {
		text, err := io.ReadAll(body)
		if err != nil {
			c.t.Fatal(err)
		}
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.secret)
	}
	hc := c.http
	if hc == nil {
		hc = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	resp, err := hc.Do(req.WithContext(ctx))
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{t: c.t, what: method + " " + path, status: resp.StatusCode, header: resp.Header, text: string(text)}
	if method != http.MethodHead && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		dec := json.NewDecoder(strings.NewReader(a.text))
		if err := dec.Decode(&a.json); err != nil {
			c.t.Errorf("%s: %v in %q", a.what, err, a.text)
		}
	}
	return a
}

// is fails unless status and JSON body are these.
func (a answer) is(status int, body string) answer {
	a.t.Helper()
	var want any
	if err := json.Unmarshal([]byte(body), &want); err != nil {
		a.t.Fatalf("bad expectation %s: %v", body, err)
	}
	if a.status != status || !reflect.DeepEqual(a.json, want) {
		a.t.Errorf("%s: got %d %s, want %d %s", a.what, a.status, strings.TrimSpace(a.text), status, body)
	}
	return a
}

// isText fails unless status and text body are these.
func (a answer) isText(status int, body string) answer {
	a.t.Helper()
	if a.status != status || a.text != body || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		a.t.Errorf("%s: got %d %q (%s), want %d %q as text", a.what, a.status, a.text, a.header.Get("Content-Type"), status, body)
	}
	return a
}

// at returns what is under these keys and indexes; nil where nothing is.
func (a answer) at(path ...any) any { return at(a.json, path...) }

func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		default:
			panic(fmt.Sprintf("no key: %v", p))
		}
	}
	return v
}

// has fails unless what is under path is want (numbers as float64).
func (a answer) has(want any, path ...any) answer {
	a.t.Helper()
	if n, ok := want.(int); ok {
		want = float64(n)
	}
	if got := a.at(path...); !reflect.DeepEqual(got, want) {
		a.t.Errorf("%s: %v is %v, want %v\n%s", a.what, path, got, want, a.text)
	}
	return a
}

// value is the data of a successful answer, without the envelope of its
// document.
func (a answer) value() any {
	a.t.Helper()
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		a.t.Fatalf("%s: got %d %s", a.what, a.status, a.text)
	}
	m, _ := a.json.(map[string]any)
	switch {
	case strings.HasPrefix(a.what, string(openapi.V2)+" "):
		if m["code"] != 0.0 {
			a.t.Fatalf("%s: got %s", a.what, a.text)
		}
		return m["result"]
	case strings.HasPrefix(a.what, string(openapi.V3Code)+" "):
		if m["code"] != 0.0 {
			a.t.Fatalf("%s: got %s", a.what, a.text)
		}
		return m["data"]
	}
	return a.json
}

// rows are the rows of a list, paged or not, in any of the documents.
func (a answer) rows() []map[string]any {
	a.t.Helper()
	v := a.value()
	if m, ok := v.(map[string]any); ok {
		for _, key := range []string{"objects", "items"} {
			if list, ok := m[key]; ok {
				v = list
			}
		}
	}
	list, ok := v.([]any)
	if !ok {
		a.t.Fatalf("%s: no list in %s", a.what, a.text)
	}
	rows := []map[string]any{}
	for _, e := range list {
		if row, ok := e.(map[string]any); ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// done fails unless the answer is success without data.
func (a answer) done() answer {
	a.t.Helper()
	switch {
	case strings.HasPrefix(a.what, string(openapi.V2)+" "):
		return a.is(http.StatusOK, `{"code":0,"result":[]}`)
	case strings.HasPrefix(a.what, string(openapi.V3Code)+" "), strings.Contains(a.what, " mqtt_"):
		return a.is(http.StatusOK, `{"code":0}`)
	}
	return a.is(http.StatusOK, `"ok"`)
}
