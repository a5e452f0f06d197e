package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// Needs are what an example asks of a server before anything is arranged.
type Needs struct {
	Document openapi.Document
	// Fresh names a group of examples that need a server that nothing else has
	// used: counters and high-water marks. "" for any.
	Fresh string
	// Settings are keys of the configuration that the example shows.
	Settings map[string]string
}

// NodeName is the name that the examples of a document give the node.
func NodeName(doc openapi.Document) string {
	if doc == openapi.V2 {
		return "emq@127.0.0.1"
	}
	return "emqx@127.0.0.1"
}

// NeedsOf says what an example needs.
func NeedsOf(doc openapi.Document, ex openapi.Example) Needs {
	n := Needs{Document: doc, Settings: map[string]string{}}
	if ex.Status >= 300 {
		return n
	}
	switch ex.Operation {
	case "list_metrics", "list_node_metrics", "list_all_metrics":
		n.Fresh = "metrics"
	case "list_stats", "list_node_stats", "lookup_node_stats":
		n.Fresh = "stats"
		if figure(ex.Response, "retained/count") == 0 { // not even those of $SYS
			n.Settings["broker.sys_interval"] = "0"
		}
	case "list_listeners", "list_node_listeners":
		n.Fresh = "listeners"
	}
	if doc == openapi.V2 && strings.HasPrefix(ex.Operation, "list_") && isArray(member(ex.Response, "result")) && keyedByNode(member(ex.Response, "result")) {
		n.Fresh += "-array"
		n.Settings["management.v2_aggregates"] = "array"
	}
	return n
}

func member(v any, name string) any {
	m, _ := v.(map[string]any)
	return m[name]
}

func isArray(v any) bool { _, ok := v.([]any); return ok }

// keyedByNode reports whether a list holds one object whose only member is a node.
func keyedByNode(v any) bool {
	list, _ := v.([]any)
	if len(list) != 1 {
		return false
	}
	m, _ := list[0].(map[string]any)
	return len(m) == 1 && m[NodeName(openapi.V2)] != nil
}

func figure(v any, name string) (n float64) {
	rows(v, func(row map[string]any) {
		if f, ok := row[name].(float64); ok {
			n = f
		}
	})
	return n
}

// Result is the outcome of one example.
type Result struct {
	Document   openapi.Document `json:"document"`
	ID         string           `json:"id"`
	Section    string           `json:"section"`
	Documented bool             `json:"documented"`
	Request    string           `json:"request"` // as sent
	Expected   Answer           `json:"-"`
	Got        Answer           `json:"-"`
	Diffs      []Diff           `json:"diffs,omitempty"`
	Literal    int              `json:"literal"` // values compared as they are
	Overruled  string           `json:"overruled,omitempty"`
	Skipped    string           `json:"skipped,omitempty"` // why it was not sent
	Err        error            `json:"-"`                 // the world could not be arranged, or the server was away

	target *Target
}

// Failed reports whether the server does not do what the example shows.
func (r *Result) Failed() bool { return r.Err != nil || len(r.Diffs) > 0 }

// Replay is the examples of one document and what is needed to replay them.
type Replay struct {
	Rules    *Rules
	Document openapi.Document
	Examples []openapi.Example
	Offset   int64 // seconds by which the times of the examples are moved

	operations map[string]*openapi3.Operation
	byID       map[string]openapi.Example
}

// day is what the offset of the times is counted in.
const day = 24 * 60 * 60

// sampleTime is the latest of the times that the examples show as to come.
const sampleTime = 1536146187

// NewReplay reads a document. now is the time around which the world is arranged.
func NewReplay(doc openapi.Document, now time.Time) (*Replay, error) {
	rules, err := Volatile()
	if err != nil {
		return nil, err
	}
	tree, err := doc.Load()
	if err != nil {
		return nil, err
	}
	r := &Replay{Rules: rules, Document: doc, operations: map[string]*openapi3.Operation{}, byID: map[string]openapi.Example{}}
	if r.Examples, err = openapi.Examples(tree); err != nil {
		return nil, err
	}
	for _, item := range tree.Paths.Map() {
		for _, op := range item.Operations() {
			r.operations[op.OperationID] = op
		}
	}
	for _, ex := range r.Examples {
		r.byID[ex.ID] = ex
	}
	r.Offset = (now.Unix() - sampleTime + 30*day) / day * day
	return r, nil
}

// expected is the answer that the contract wants: that of the example, or what
// overrules it.
func (r *Replay) expected(ex openapi.Example) (want Answer, overruled string, err error) {
	name := string(r.Document) + "/" + ex.ID
	for _, o := range r.Rules.Overruled {
		if o.Example != name {
			continue
		}
		overruled = o.Reason
		if o.As != "" {
			as, ok := r.byID[o.As]
			if !ok {
				return want, "", fmt.Errorf("overruled %s: no example %s", name, o.As)
			}
			ex.Response, ex.Status, ex.MediaType, ex.HasResponse = as.Response, as.Status, as.MediaType, as.HasResponse
		}
		for at, v := range o.Set {
			if ex.Response, err = withValue(ex.Response, strings.Split(at, "/")[1:], v); err != nil {
				return want, "", fmt.Errorf("overruled %s: %s: %w", name, at, err)
			}
		}
	}
	want = Answer{Status: ex.Status}
	if ex.HasResponse {
		want.MediaType, want.Body = ex.MediaType, ex.Response
	}
	return want, overruled, nil
}

// withValue is v with another value at a pointer.
func withValue(v any, at []string, value any) (any, error) {
	if len(at) == 0 {
		return normal(value)
	}
	m, ok := v.(map[string]any)
	if !ok || m[at[0]] == nil {
		return nil, errors.New("there is no such member")
	}
	inner, err := withValue(m[at[0]], at[1:], value)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(m))
	for k, e := range m {
		out[k] = e
	}
	out[at[0]] = inner
	return out, nil
}

// normal makes a value what decoding JSON makes of it.
func normal(v any) (out any, err error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return out, json.Unmarshal(text, &out)
}

// shift moves the times of an example.
func (r *Replay) shift(ex openapi.Example) openapi.Example {
	move := func(v any) any {
		return transform(nil, v, func(at []string, v any) any {
			f, ok := v.(float64)
			for _, s := range r.Rules.Shifted {
				if ok && s.At.matches(at) && s.scoped(r.Document, ex.ID, false) {
					return f + float64(r.Offset)
				}
			}
			return v
		})
	}
	ex.Request, ex.Response = move(ex.Request), move(ex.Response)
	return ex
}

// transform copies a value, its leaves changed by f.
func transform(at []string, v any, f func(at []string, v any) any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = transform(push(at, k), e, f)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = transform(push(at, fmt.Sprint(i)), e, f)
		}
		return out
	}
	return f(at, v)
}

// named puts the name of the node that answers in place of that of the examples.
func (r *Replay) named(ex openapi.Example, node string) openapi.Example {
	sample := NodeName(r.Document)
	ex.Path = strings.NewReplacer(
		"{node}", node, "${node}", node, "{node_name}", node, sample, node,
		":app", map[bool]string{true: "emqx", false: "emqttd"}[r.Document != openapi.V2],
		"{name}", "emq_"+idlePlugin,
		"${who}", url.PathEscape(exampleBan.who),
	).Replace(ex.Path)
	if len(ex.Query) > 0 {
		query := make(map[string]string, len(ex.Query))
		for k, v := range ex.Query {
			query[k] = strings.ReplaceAll(v, "${as}", exampleBan.as)
		}
		ex.Query = query
	}
	if node == sample {
		return ex
	}
	rename := func(v any) any {
		return renameKeys(transform(nil, v, func(_ []string, v any) any {
			if s, ok := v.(string); ok {
				return strings.ReplaceAll(s, sample, node)
			}
			return v
		}), sample, node)
	}
	ex.Request, ex.Response = rename(ex.Request), rename(ex.Response)
	return ex
}

func renameKeys(v any, from, to string) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			if k == from {
				k = to
			}
			out[k] = renameKeys(e, from, to)
		}
		return out
	case []any:
		for i := range v {
			v[i] = renameKeys(v[i], from, to)
		}
	}
	return v
}

// call is the request of an example as it is sent.
func (r *Replay) call(ex openapi.Example) (call, error) {
	c := call{method: ex.Method, path: strings.TrimPrefix(ex.Path, "/")}
	if len(ex.Query) > 0 {
		q := url.Values{}
		for k, v := range ex.Query {
			q.Set(k, v)
		}
		c.path += "?" + q.Encode()
	}
	switch {
	case ex.RawBody != "":
		c.body = []byte(ex.RawBody)
	case ex.HasRequest:
		text, err := json.Marshal(ex.Request)
		if err != nil {
			return c, err
		}
		c.body = text
	}
	op := r.operations[ex.Operation]
	c.noAuth = ex.Status == http.StatusUnauthorized || op != nil && op.Security != nil && len(*op.Security) == 0
	if op != nil && !slices.Contains(openapi.Listeners(op), "api") {
		c.on = onDashboard
	}
	// The example of v3 shows one open connection on the dashboard's listener and
	// none on the other: the one that asks.
	if r.Document != openapi.V2 && strings.HasSuffix(ex.Operation, "listeners") {
		c.on = onDashboard
	}
	return c, nil
}

// Run replays one example.
func (r *Replay) Run(ctx context.Context, t *Target, ex openapi.Example) *Result {
	res := &Result{Document: r.Document, ID: ex.ID, Section: ex.Section, Documented: ex.Documented, target: t}
	if res.Skipped = r.cannot(t, ex); res.Skipped != "" {
		return res
	}
	if res.Err = t.Prepare(ctx); res.Err != nil {
		return res
	}
	want, overruled, err := r.expected(ex)
	if err != nil {
		res.Err = err
		return res
	}
	if overruled == "" {
		if want, err = r.withoutPlugin(ctx, t, ex, want); err != nil {
			res.Err = err
			return res
		}
	}
	ex.Response, ex.Status = want.Body, want.Status
	ex = r.named(r.shift(ex), t.Node)
	want.Body, res.Expected, res.Overruled = ex.Response, want, overruled
	res.Expected.Body = ex.Response
	c, err := r.call(ex)
	if err != nil {
		res.Err = err
		return res
	}
	res.Request = c.String()

	from := time.Now()
	w, err := t.arrange(ctx, ex)
	if err == nil {
		r.ask(ctx, t, c, res, from)
	}
	res.Err = errors.Join(res.Err, err, w.close(ctx))
	return res
}

// cannot says why an example cannot be replayed on a server that the suite has
// not configured.
func (r *Replay) cannot(t *Target, ex openapi.Example) string {
	if !t.Elsewhere {
		return ""
	}
	if form, ok := NeedsOf(r.Document, ex).Settings["management.v2_aggregates"]; ok && t.Aggregates != form {
		return "the server would have to be set to aggregates in the form of an " + form
	}
	op := r.operations[ex.Operation]
	if r.Document != openapi.V2 && op != nil && !slices.Contains(openapi.Listeners(op), "api") && t.Dashboard == "" {
		return "the address of the dashboard's listener is not known"
	}
	if t.v3() && t.App == "" && t.Dashboard == "" {
		return "no application to log in with"
	}
	return ""
}

// lag is how long the answer of an operation may be behind what has happened:
// figures are computed once a second, the end of a connection is noticed soon.
func lag(operation string) time.Duration {
	for _, what := range []string{"stats", "metrics", "alarms", "listeners", "nodes", "node"} {
		if strings.HasSuffix(operation, what) {
			return settle
		}
	}
	return 500 * time.Millisecond
}

// ask sends the request and compares. Reading is repeated while the answer
// differs, for as long as it may lag behind.
func (r *Replay) ask(ctx context.Context, t *Target, c call, res *Result, from time.Time) {
	deadline := time.Now().Add(lag(r.byID[res.ID].Operation))
	for {
		got, err := t.send(ctx, c)
		if err != nil {
			res.Err = err
			return
		}
		got.From = from
		res.Got = got
		res.Diffs, res.Literal = r.Compare(res, got)
		if len(res.Diffs) == 0 || c.method != http.MethodGet || c.noAuth || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			res.Err = ctx.Err()
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	res.Diffs = append(res.Diffs, r.described(res)...)
}

// Compare holds an answer against a result's example and returns the differences
// and the number of values that were compared literally.
func (r *Replay) Compare(res *Result, got Answer) ([]Diff, int) {
	c := r.comparison(res)
	diffs := c.answer(res.Expected, got)
	return diffs, c.literal
}

func (r *Replay) comparison(res *Result) *comparison {
	c := &comparison{rules: r.Rules, doc: r.Document, id: res.ID}
	if res.target != nil {
		c.elsewhere, c.slack = res.target.Elsewhere, res.target.Slack
	}
	return c
}

// described checks an answer against the schema of its operation.
func (r *Replay) described(res *Result) []Diff {
	op := r.operations[r.byID[res.ID].Operation]
	if op == nil || res.Got.Body == nil {
		return nil
	}
	answer := op.Responses.Status(res.Got.Status)
	if answer == nil || answer.Value == nil {
		return []Diff{{What: fmt.Sprintf("the document describes no status %d", res.Got.Status)}}
	}
	media := answer.Value.Content.Get(res.Got.MediaType)
	if media == nil || media.Schema == nil {
		return []Diff{{What: fmt.Sprintf("the document describes no %s for status %d", res.Got.MediaType, res.Got.Status)}}
	}
	if err := media.Schema.Value.VisitJSON(res.Got.Body); err != nil {
		return []Diff{{What: "not as the document describes it: " + firstLine(err.Error())}}
	}
	return nil
}

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// withoutPlugin is the answer to expect for an example about a plugin that the
// server does not have.
func (r *Replay) withoutPlugin(ctx context.Context, t *Target, ex openapi.Example, want Answer) (Answer, error) {
	for _, a := range r.Rules.Absent {
		if !a.scoped(r.Document, ex.ID, t.Elsewhere) {
			continue
		}
		_, there, err := t.pluginState(ctx, a.Plugin)
		if err != nil || there {
			return want, err
		}
		body, err := normal(a.Answer)
		return Answer{Status: a.Status, MediaType: "application/json", Body: body}, err
	}
	return want, nil
}

// String is the request in one line.
func (c call) String() string {
	line := c.method + " /" + c.path
	if c.body != nil {
		line += " " + string(c.body)
	}
	return line
}
