package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func derived(t *testing.T, documented []byte) *openapi3.T {
	t.Helper()
	raw, err := derive(read(t, "../../openapi/v3.yaml"), documented)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func examplesOf(t *testing.T, doc *openapi3.T) map[string]openapi.Example {
	t.Helper()
	list, err := openapi.Examples(doc)
	if err != nil {
		t.Fatal(err)
	}
	byID := make(map[string]openapi.Example, len(list))
	for _, e := range list {
		byID[e.ID] = e
	}
	return byID
}

func TestCommittedDocumentIsFresh(t *testing.T) {
	got, err := derive(read(t, "../../openapi/v3.yaml"), read(t, "../../openapi/v3-code-examples.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, read(t, "../../openapi/v3-code.yaml")) {
		t.Error("openapi/v3-code.yaml is not what v3.yaml gives: run make gen")
	}
}

// TestDerivedExamplesAreTheDocumentedOnes compares the derived document with the examples of the public document in the
// code dialect, value by value.
func TestDerivedExamplesAreTheDocumentedOnes(t *testing.T) {
	got := examplesOf(t, derived(t, read(t, "../../openapi/v3-code-examples.yaml")))
	seen := 0
	lines := bufio.NewScanner(bytes.NewReader(read(t, "testdata/documented.jsonl")))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var want struct {
			ID, Section     string
			Status          int
			Documented      bool
			Request, Answer any
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		seen++
		t.Run(want.ID, func(t *testing.T) {
			e, ok := got[want.ID]
			if !ok {
				t.Fatal("not in the derived document")
			}
			if e.Section != want.Section || e.Status != want.Status || e.Documented != want.Documented {
				t.Errorf("got section %q status %d documented %t, want %q %d %t", e.Section, e.Status, e.Documented, want.Section, want.Status, want.Documented)
			}
			if e.RawBody == "" && !reflect.DeepEqual(e.Request, want.Request) {
				t.Errorf("request %v, want %v", e.Request, want.Request)
			}
			if !reflect.DeepEqual(e.Response, want.Answer) {
				t.Errorf("answer\n%v, want\n%v", e.Response, want.Answer)
			}
		})
	}
	if seen != len(got) {
		t.Errorf("%d documented examples, %d derived", seen, len(got))
	}
}

// TestWrappingAloneHasTheDocumentedShape leaves the documented sample values out: what the wrapping makes of the items
// examples must have the members and types that the public document shows, whatever the values.
func TestWrappingAloneHasTheDocumentedShape(t *testing.T) {
	wrapped := examplesOf(t, derived(t, []byte("{}")))
	documented := examplesOf(t, derived(t, read(t, "../../openapi/v3-code-examples.yaml")))
	for id, want := range documented {
		if want.Contradiction == "C12" || id == "v3.pagination" { // C12 shows no rows; the other one a page without rows
			continue
		}
		t.Run(id, func(t *testing.T) {
			if got, want := shapeOf(wrapped[id].Response), shapeOf(want.Response); got != want {
				t.Errorf("shape\n%s, want\n%s", got, want)
			}
		})
	}
}

// shapeOf replaces values by their types; a list has the shapes of its first item.
func shapeOf(v any) string {
	var strip func(any) any
	strip = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			m := make(map[string]any, len(v))
			for k, x := range v {
				m[k] = strip(x)
			}
			return m
		case []any:
			if len(v) == 0 {
				return []any{}
			}
			return []any{strip(v[0])}
		}
		return reflect.TypeOf(v).String()
	}
	if v == nil {
		return "none"
	}
	raw, _ := json.Marshal(strip(v)) // plain maps, lists and strings
	return string(raw)
}

// TestDocumentAndServerWrapAlike checks that the server's rule, Shape.Code, gives what the tool wrote.
func TestDocumentAndServerWrapAlike(t *testing.T) {
	items, err := openapi.V3Items.Load()
	if err != nil {
		t.Fatal(err)
	}
	shapes, err := openapi.Shapes(items)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := examplesOf(t, derived(t, []byte("{}")))
	for id, e := range examplesOf(t, items) {
		if e.Status >= 300 || !e.HasResponse {
			continue
		}
		t.Run(id, func(t *testing.T) {
			a, err := shapes[e.Operation].Code(e.Response)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			var got any
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, wrapped[id].Response) {
				t.Errorf("server %v, document %v", got, wrapped[id].Response)
			}
		})
	}
}

func TestDeriveRefuses(t *testing.T) {
	tests := []struct{ name, items, documented, want string }{
		{"no yaml", "\t", "{}", "yaml"},
		{"unknown sample", "info: {description: \"a\\n* b\"}\npaths: {}\ncomponents: {schemas: {}, responses: {}, examples: {}}", "v3.nonsense: {value: 1}", "v3.nonsense"},
		{"unknown shape", "info: {description: \"a\\n* b\"}\npaths: {/: {get: {operationId: x_y, responses: {'200': {content: {application/json: {schema: {}}}}}}}}\ncomponents: {schemas: {}, responses: {}, examples: {}}", "{}", "shape"},
		{"no shared responses", "info: {description: \"a\\n* b\"}\npaths: {}\ncomponents: {schemas: {}, responses: {}, examples: {}}", "{}", "NoLeader"},
		{"no list of rules", "info: {description: a}\npaths: {}\ncomponents: {schemas: {}, responses: {}, examples: {}}", "{}", "rules"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := derive([]byte(tt.items), []byte(tt.documented))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about %q", err, tt.want)
			}
		})
	}
}
