package openapi

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"gopkg.in/yaml.v3"
)

func load(t *testing.T, d Document) *openapi3.T {
	t.Helper()
	doc, err := d.Load()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// table reads a tab-separated file of testdata; lines with # are comments.
func table(t *testing.T, name string) [][]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			rows = append(rows, strings.Split(line, "\t"))
		}
	}
	return rows
}

func TestDocumentsAreValid(t *testing.T) {
	for _, d := range append(slices.Clone(Documents), Node) {
		t.Run(string(d), func(t *testing.T) {
			if err := load(t, d).Validate(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestJSONHoldsWhatYAMLHolds(t *testing.T) {
	for _, d := range append(slices.Clone(Documents), Node) {
		t.Run(string(d), func(t *testing.T) {
			raw, err := d.JSON()
			if err != nil {
				t.Fatal(err)
			}
			var fromJSON, fromYAML any
			if err := json.Unmarshal(raw, &fromJSON); err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal(d.YAML(), &fromYAML); err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(fromYAML)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(fromJSON)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("JSON and YAML differ")
			}
			if i, j := strings.Index(string(raw), `"openapi"`), strings.Index(string(raw), `"components"`); i < 0 || j < i {
				t.Errorf("openapi at %d, components at %d: order of the source is lost", i, j)
			}
		})
	}
}

// TestEveryCallIsDescribed compares the operations with the table of calls, both ways.
func TestEveryCallIsDescribed(t *testing.T) {
	rows := table(t, "calls.tsv")
	count := map[string]map[string]bool{"v2": {}, "v3": {}}
	for _, r := range rows {
		if r[1] != "x" {
			count[r[0]][r[1]] = true
		}
	}
	if len(count["v2"]) != 42 || len(count["v3"]) != 56 {
		t.Fatalf("the table has %d calls of v2 and %d of v3, want 42 and 56", len(count["v2"]), len(count["v3"]))
	}
	for _, d := range Documents {
		doc := load(t, d)
		described := map[string]bool{}
		for _, r := range rows {
			version, method, path, id, listeners, paged, credentials := r[0], r[2], r[3], r[4], r[5], r[6], r[7]
			if !strings.HasPrefix(string(d), version) {
				continue
			}
			t.Run(string(d)+"/"+id, func(t *testing.T) {
				item := doc.Paths.Value(path)
				if item == nil || item.GetOperation(method) == nil {
					t.Fatalf("%s %s is not described", method, path)
				}
				op := item.GetOperation(method)
				if op.OperationID != id {
					t.Errorf("operation id %q, want %q", op.OperationID, id)
				}
				described[method+" "+path] = true
				if got := strings.Join(Listeners(op), ","); got != listeners {
					t.Errorf("listeners %q, want %q", got, listeners)
				}
				page, size := "curr_page", "page_size"
				if version == "v3" {
					page, size = "_page", "_limit"
				}
				isPaged := op.Parameters.GetByInAndName("query", page) != nil && op.Parameters.GetByInAndName("query", size) != nil
				if isPaged != (paged == "paged") {
					t.Errorf("paged is %t, want %s", isPaged, paged)
				}
				if open := op.Security != nil && len(*op.Security) == 0; open != (credentials == "open") {
					t.Errorf("open is %t, want %s", open, credentials)
				}
				for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
					if op.Parameters.GetByInAndName("path", name[1]) == nil {
						t.Errorf("path parameter %s is not described", name[1])
					}
				}
				for _, status := range []string{"404", "429"} {
					if op.Responses.Value(status) == nil {
						t.Errorf("response %s is not described", status)
					}
				}
				if (op.Responses.Value("401") == nil) != (credentials == "open") {
					t.Errorf("response 401 does not fit %s", credentials)
				}
				if (op.Responses.Value("413") != nil) != (op.RequestBody != nil) {
					t.Errorf("response 413 does not fit the request body")
				}
			})
		}
		for path, item := range doc.Paths.Map() {
			for method := range item.Operations() {
				if !described[method+" "+path] {
					t.Errorf("%s: %s %s is not in the table of calls", d, method, path)
				}
			}
		}
	}
}

// TestEveryExampleIsCarried compares the examples of the documents with the table of examples, both ways.
func TestEveryExampleIsCarried(t *testing.T) {
	for _, d := range Documents {
		t.Run(string(d), func(t *testing.T) {
			examples, err := Examples(load(t, d))
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, e := range examples {
				source := "reference"
				if e.Documented {
					source = "documented"
				}
				got = append(got, strings.Join([]string{e.ID, e.Method, strconv.Itoa(e.Status), source}, " "))
			}
			for _, r := range table(t, "examples.tsv") {
				if r[0] == string(d) {
					want = append(want, strings.Join(r[1:], " "))
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestExamplesFitTheirSchemas checks each request and answer against the operation that it belongs to, and that a
// request meant to be refused really does not fit.
func TestExamplesFitTheirSchemas(t *testing.T) {
	for _, d := range Documents {
		doc := load(t, d)
		examples, err := Examples(doc)
		if err != nil {
			t.Fatal(err)
		}
		operations := map[string]*openapi3.Operation{}
		for _, item := range doc.Paths.Map() {
			for _, op := range item.Operations() {
				operations[op.OperationID] = op
			}
		}
		for _, e := range examples {
			t.Run(string(d)+"/"+e.ID, func(t *testing.T) {
				if e.Section == "" || e.Method == "" || e.Status == 0 {
					t.Errorf("incomplete: %+v", e)
				}
				op := operations[e.Operation]
				if op == nil {
					if e.Operation != "" || e.HasRequest {
						t.Errorf("no operation %q", e.Operation)
					}
					return
				}
				if e.HasRequest {
					if err := op.RequestBody.Value.Content.Get("application/json").Schema.Value.VisitJSON(e.Request); err != nil {
						t.Errorf("request: %v", err)
					}
				}
				if e.RawBody != "" {
					var v any
					if err := json.Unmarshal([]byte(e.RawBody), &v); err == nil {
						if op.RequestBody.Value.Content.Get("application/json").Schema.Value.VisitJSON(v) == nil {
							t.Errorf("raw body %s fits the schema: make it a request", e.RawBody)
						}
					}
				}
				response := op.Responses.Value(strconv.Itoa(e.Status))
				if response == nil {
					t.Fatalf("response %d is not described", e.Status)
				}
				if !e.HasResponse {
					if len(response.Value.Content) != 0 {
						t.Errorf("no answer, but response %d has a body", e.Status)
					}
					return
				}
				media := response.Value.Content.Get(e.MediaType)
				if media == nil {
					t.Fatalf("response %d has no %s", e.Status, e.MediaType)
				}
				err := media.Schema.Value.VisitJSON(e.Response)
				if e.Contradiction == "C12" { // the document shows another call's answer here
					if err == nil {
						t.Errorf("fits the schema, though the contract overrules it")
					}
					return
				}
				if err != nil {
					t.Errorf("response: %v", err)
				}
				if media.Examples[e.ID] == nil {
					t.Errorf("is not an example of its response")
				}
			})
		}
	}
}
