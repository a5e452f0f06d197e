package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// Example is an exchange that a document shows: a request exactly as written there and the answer to it.
type Example struct {
	ID         string            `json:"id"`
	Section    string            `json:"section"`    // heading of the source document
	Method     string            `json:"method"`     //
	Path       string            `json:"path"`       // as written, with the prefix; may hold placeholders such as ${node}
	Query      map[string]string `json:"query"`      // not yet encoded
	Status     int               `json:"status"`     //
	Documented bool              `json:"documented"` // whether the public document has it; otherwise it comes from the reference server

	// Contradiction names the entry of the contract that overrules the example, such as C12.
	Contradiction string `json:"contradiction"`

	// Operation is the id of the operation that the example belongs to; empty for requests outside the API.
	Operation string `json:"-"`

	// Request is the JSON value of the body; HasRequest tells null from none. RawBody is a body that is no valid
	// request and is sent as it stands.
	Request    any    `json:"-"`
	HasRequest bool   `json:"-"`
	RawBody    string `json:"rawBody"`

	// Response is the JSON value or, with MediaType text/plain, the text of the answer; HasResponse is false for an
	// answer without a body.
	Response    any    `json:"-"`
	HasResponse bool   `json:"-"`
	MediaType   string `json:"mediaType"`
}

// Examples lists the examples of a document: by path and method, then those that belong to no operation.
func Examples(doc *openapi3.T) ([]Example, error) {
	var all []Example
	add := func(ext any, op string) error {
		raw, err := json.Marshal(ext)
		if err != nil {
			return err
		}
		var entries []struct {
			Example
			RequestName   string          `json:"request"`
			ResponseName  string          `json:"response"`
			ResponseValue json.RawMessage `json:"responseValue"`
		}
		if err := json.Unmarshal(raw, &entries); err != nil {
			return fmt.Errorf("examples of %q: %w", op, err)
		}
		for _, e := range entries {
			ex := e.Example
			ex.Operation = op
			if ex.MediaType == "" {
				ex.MediaType = "application/json"
			}
			if e.RequestName != "" {
				if ex.Request, err = exampleValue(doc, e.RequestName); err != nil {
					return err
				}
				ex.HasRequest = true
			}
			switch {
			case e.ResponseName != "":
				if ex.Response, err = exampleValue(doc, e.ResponseName); err != nil {
					return err
				}
				ex.HasResponse = true
			case e.ResponseValue != nil:
				if err := json.Unmarshal(e.ResponseValue, &ex.Response); err != nil {
					return fmt.Errorf("example %s: %w", ex.ID, err)
				}
				ex.HasResponse = true
			}
			all = append(all, ex)
		}
		return nil
	}
	paths := doc.Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		ops := paths[path].Operations()
		for _, method := range slices.Sorted(maps.Keys(ops)) {
			if err := add(ops[method].Extensions["x-lacewing-examples"], ops[method].OperationID); err != nil {
				return nil, err
			}
		}
	}
	if err := add(doc.Extensions["x-lacewing-examples"], ""); err != nil {
		return nil, err
	}
	return all, nil
}

// exampleValue is the value of a named component example, as plain decoded JSON.
func exampleValue(doc *openapi3.T, name string) (any, error) {
	ref, ok := doc.Components.Examples[name]
	if !ok {
		return nil, fmt.Errorf("no component example %q", name)
	}
	raw, err := json.Marshal(ref.Value.Value)
	if err != nil {
		return nil, fmt.Errorf("example %s: %w", name, err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("example %s: %w", name, err)
	}
	return v, nil
}
