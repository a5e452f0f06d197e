package impl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// noDeadline takes a deadline back.
var noDeadline time.Time

// pageParams are the query parameters of paged lists in both versions. What is
// wrong with one of them has an answer of its own.
var pageParams = []string{"curr_page", "page_size", "_page", "_limit"}

var filterOptions = &openapi3filter.Options{
	MultiError:          true, // a missing member outranks an ill-typed one
	AuthenticationFunc:  openapi3filter.NoopAuthenticationFunc,
	SkipSettingDefaults: true,
	KeepValidatedValue:  true, // member names count as they are written
}

type matchKey struct{}

// matched returns the operation of a request.
func matched(ctx context.Context) match {
	m, _ := ctx.Value(matchKey{}).(match)
	return m
}

// validated checks a request against the specification and returns it in the
// form that the generated server takes.
func (v *version) validated(m match, r *http.Request, body []byte) (*http.Request, error) {
	ctx := context.WithValue(r.Context(), matchKey{}, m)
	r = r.Clone(ctx)
	r.URL.Path, r.URL.RawPath = v.ops.rewritten(m)
	query := r.URL.Query()
	var err error
	if m.op.body != nil {
		if body, err = v.parameters(m.op, query, body); err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json") // what a client says of its body is not looked at
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	} else {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.URL.RawQuery = query.Encode()
	err = openapi3filter.ValidateRequest(ctx, &openapi3filter.RequestValidationInput{
		Request: r, PathParams: m.params, QueryParams: query, Route: m.op.route, Options: filterOptions,
	})
	if err != nil {
		return nil, violation(m.op, err)
	}
	return r, nil
}

// parameters makes the JSON body that the specification knows of what was sent:
// no body is no parameters, and so is JSON that is no object where an object is
// asked for. In v3 the query holds parameters too, and wins.
func (v *version) parameters(op *operation, query url.Values, body []byte) ([]byte, error) {
	object := op.body.Type == nil || op.body.Type.Is(openapi3.TypeObject)
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
		if !object {
			body = []byte("[]")
		}
	}
	if !json.Valid(body) || !utf8.Valid(body) { // JSON is UTF-8; the decoder would put other characters in
		return nil, fail(admin.BadJSON)
	}
	if !object {
		return body, nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members == nil {
		body, members = []byte("{}"), make(map[string]json.RawMessage)
	}
	if !v.merge {
		return body, nil
	}
	changed := false
	for name, schema := range op.body.Properties {
		if _, declared := op.query[name]; declared || !query.Has(name) {
			continue
		}
		members[name], changed = asJSON(query.Get(name), schema.Value), true
	}
	if !changed {
		return body, nil
	}
	return json.Marshal(members)
}

// asJSON is a query parameter as a member of a body; text that is no value of
// the type stays text, and is refused as that.
func asJSON(text string, schema *openapi3.Schema) json.RawMessage {
	if schema.Type != nil && !schema.Type.Is(openapi3.TypeString) && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, _ := json.Marshal(text) // a string always encodes
	return quoted
}

// violation says what about a request does not fit the specification: a page
// before a missing parameter before an ill-typed one.
func violation(op *operation, err error) error {
	var worst *admin.Error
	each(err, func(re *openapi3filter.RequestError) {
		found := classify(op, re)
		if worst == nil || rank(found.Kind) < rank(worst.Kind) {
			worst = found
		}
	})
	if worst == nil {
		return fmt.Errorf("validate request: %w", err)
	}
	return worst
}

func rank(k admin.Kind) int {
	return slices.Index([]admin.Kind{admin.BadPage, admin.MissingParam, admin.BadParam}, k)
}

// each calls f for every request error in err.
func each(err error, f func(*openapi3filter.RequestError)) {
	if several, ok := err.(openapi3.MultiError); ok {
		for _, one := range several {
			each(one, f)
		}
		return
	}
	if re, ok := errors.AsType[*openapi3filter.RequestError](err); ok {
		f(re)
	}
}

func classify(op *operation, re *openapi3filter.RequestError) *admin.Error {
	if p := re.Parameter; p != nil {
		switch {
		case slices.Contains(pageParams, p.Name):
			return &admin.Error{Kind: admin.BadPage}
		case errors.Is(re.Err, openapi3filter.ErrInvalidRequired):
			return admin.Missing(p.Name)
		}
		return illTyped(p.Name, p.Schema.Value)
	}
	var worst *admin.Error
	var walk func(error)
	walk = func(err error) {
		if several, ok := err.(openapi3.MultiError); ok {
			for _, one := range several {
				walk(one)
			}
			return
		}
		se, ok := errors.AsType[*openapi3.SchemaError](err)
		switch {
		case !ok:
			if worst == nil {
				worst = &admin.Error{Kind: admin.BadParam, Message: "the body does not fit"}
			}
		case se.SchemaField == "required" && len(se.JSONPointer()) <= 1:
			worst = admin.Missing(op.body.Required...)
		case worst == nil:
			worst = illTyped(strings.Join(se.JSONPointer(), "."), se.Schema)
		}
	}
	walk(re.Err)
	if worst == nil {
		worst = &admin.Error{Kind: admin.BadParam, Message: "the body does not fit"}
	}
	return worst
}

// illTyped says what a parameter may be.
func illTyped(name string, schema *openapi3.Schema) *admin.Error {
	e := &admin.Error{Kind: admin.BadParam, Message: "value of '" + name + "' has the wrong type"}
	switch {
	case schema == nil:
	case len(schema.Enum) > 0:
		var words []string
		for _, w := range schema.Enum {
			words = append(words, fmt.Sprint(w))
		}
		e.Message = "value of '" + name + "' must be one of: ['" + strings.Join(words, "', '") + "']"
	case schema.Min != nil && schema.Max != nil:
		e.Message = "value of '" + name + "' must be between " + number(*schema.Min) + " and " + number(*schema.Max)
	case schema.Type != nil && len(*schema.Type) == 1:
		e.Message = "value of '" + name + "' must be of type " + (*schema.Type)[0]
	}
	return e
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
