package impl

import (
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// operation is one call of a specification: a method and a path template.
type operation struct {
	id       string
	segments []segment
	literal  int // bytes of literal segments: the more, the better a match
	route    *routers.Route
	body     *openapi3.Schema // of the JSON body; nil without one
	query    map[string]bool  // the parameters that the query is declared to have
	shape    openapi.Shape    // of the answer, for the code dialect
	// dashboard operations are offered to admin users only; open ones to
	// everybody who reaches a listener that offers them.
	dashboard, open bool
}

// segment is one level of a path template: a literal or a parameter.
type segment struct {
	text  string
	param bool
	// wide parameters may hold slashes, written raw or as %2F.
	wide bool
}

// operations are the calls of one version by method, best literal first.
type operations struct {
	prefix   string // "/api/v2"
	byMethod map[string][]*operation
	// collapse joins repeated slashes between literals, as v3 does.
	collapse bool
}

// guessed reports whether the operation says if a password is right, which may
// not be asked without limit.
func (op *operation) guessed() bool { return op.open || op.id == "change_pwd" }

// match is an operation with the values of its path parameters, percent-decoded
// exactly once.
type match struct {
	op     *operation
	params map[string]string
}

// newOperations reads the calls of a specification that is served below prefix.
func newOperations(doc *openapi3.T, prefix string, collapse bool) *operations {
	ops := &operations{prefix: prefix, byMethod: make(map[string][]*operation), collapse: collapse}
	for path, item := range doc.Paths.Map() {
		path = strings.TrimPrefix(path, prefix)
		for method, o := range item.Operations() {
			op := &operation{
				id:       o.OperationID,
				segments: template(path),
				route: &routers.Route{
					Spec: doc, Path: path, PathItem: item, Method: method, Operation: o,
				},
			}
			shape, _ := o.Extensions["x-lacewing-shape"].(string)
			op.shape = openapi.Shape(shape)
			if on, ok := o.Extensions["x-lacewing-listeners"].([]any); ok {
				op.dashboard = !slices.Contains(on, "api")
			}
			op.open = o.Security != nil && len(*o.Security) == 0
			op.query = make(map[string]bool)
			for _, p := range o.Parameters {
				if p.Value.In == openapi3.ParameterInQuery {
					op.query[p.Value.Name] = true
				}
			}
			for _, s := range op.segments {
				if !s.param {
					op.literal += len(s.text)
				}
			}
			if o.RequestBody != nil {
				if media := o.RequestBody.Value.Content.Get("application/json"); media != nil && media.Schema != nil {
					op.body = media.Schema.Value
				}
			}
			ops.byMethod[method] = append(ops.byMethod[method], op)
		}
	}
	for _, list := range ops.byMethod {
		slices.SortFunc(list, func(a, b *operation) int {
			if a.literal != b.literal {
				return b.literal - a.literal
			}
			return strings.Compare(a.route.Path, b.route.Path)
		})
	}
	return ops
}

// paths yields the templates, sorted.
func (o *operations) paths() iter.Seq[string] {
	all := make(map[string]bool)
	for _, list := range o.byMethod {
		for _, op := range list {
			all[op.route.Path] = true
		}
	}
	return slices.Values(slices.Sorted(maps.Keys(all)))
}

func template(path string) []segment {
	var out []segment
	for part := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' }) {
		name, param := strings.CutPrefix(part, "{")
		name = strings.TrimSuffix(name, "}")
		out = append(out, segment{text: name, param: param, wide: param && name != "node" && name != "node_name"})
	}
	return out
}

// find returns the operation that a request means. escaped is the path as the
// client wrote it, prefix included. Of all templates of the method that fit,
// the one with the longest literals wins; within it a parameter before a
// literal takes as little as it can, so that the first /acl/ splits.
func (o *operations) find(method, escaped string) (match, bool) {
	rest := strings.TrimPrefix(escaped, o.prefix)
	rest = strings.TrimPrefix(rest, "/")
	rest = strings.TrimSuffix(rest, "/") // always optional
	parts := strings.Split(rest, "/")
	if rest == "" {
		parts = nil
	}
	for _, op := range o.byMethod[method] {
		if params, ok := o.fit(op.segments, parts, nil); ok {
			return match{op, params}, true
		}
	}
	return match{}, false
}

// fit matches the rest of a template with the rest of a path. Where repeated
// slashes mean one, they do so before a literal, a node name and the end;
// before anything else they belong to the id or topic.
func (o *operations) fit(segments []segment, parts []string, params map[string]string) (map[string]string, bool) {
	for o.collapse && len(parts) > 0 && parts[0] == "" && (len(segments) == 0 || !segments[0].wide) {
		parts = parts[1:]
	}
	if len(segments) == 0 {
		return params, len(parts) == 0
	}
	if len(parts) == 0 {
		return nil, false
	}
	head := segments[0]
	if !head.param {
		text, err := url.PathUnescape(parts[0])
		if err != nil || text != head.text {
			return nil, false
		}
		return o.fit(segments[1:], parts[1:], params)
	}
	longest := 1
	if head.wide {
		longest = len(parts)
	}
	for n := 1; n <= longest; n++ {
		value, err := url.PathUnescape(strings.Join(parts[:n], "/"))
		if err != nil || value == "" {
			continue
		}
		if params, ok := o.fit(segments[1:], parts[n:], params); ok {
			if params == nil {
				params = make(map[string]string)
			}
			params[head.text] = value
			return params, true
		}
	}
	return nil, false
}

// rewritten is the path of m in the form that the generated router takes: the
// template with every parameter escaped as one segment, and that decoded once.
func (o *operations) rewritten(m match) (path, raw string) {
	var p, r strings.Builder
	p.WriteString(o.prefix)
	r.WriteString(o.prefix)
	for _, s := range m.op.segments {
		text := s.text
		if s.param {
			text = m.params[s.text]
		}
		p.WriteString("/" + text)
		r.WriteString("/" + url.PathEscape(text))
	}
	if strings.HasSuffix(m.op.route.Path, "/") {
		p.WriteByte('/')
		r.WriteByte('/')
	}
	return p.String(), r.String()
}
