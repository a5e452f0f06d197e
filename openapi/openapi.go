// Package openapi holds the documents of the REST APIs, the only hand-written truth about HTTP, as part of the binary:
// they are served to users, requests are validated against them, and their examples are what the conformance suite
// replays. README.md says how they are written and what the generated code expects.
package openapi

import (
	"embed"
	"fmt"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// Document names a published document.
type Document string

// The documents. V3Code is derived from V3Items by tools/dialect. Node is ours alone: it has no public document behind it.
const (
	V2      Document = "v2"
	V3Items Document = "v3"
	V3Code  Document = "v3-code"
	Node    Document = "node"
)

// Documents lists those of the REST APIs in the order in which they are offered to readers.
var Documents = []Document{V2, V3Items, V3Code}

//go:embed v2.yaml v3.yaml v3-code.yaml node.yaml
var files embed.FS

// YAML is the document as written. It panics for a name that is none of the above.
func (d Document) YAML() []byte {
	b, err := files.ReadFile(string(d) + ".yaml")
	if err != nil {
		panic("openapi: no document " + string(d))
	}
	return b
}

var jsonOf sync.Map // Document -> func() ([]byte, error)

// JSON is the document as JSON, members in the order of the YAML. It is converted once; callers must not change it.
func (d Document) JSON() ([]byte, error) {
	f, _ := jsonOf.LoadOrStore(d, sync.OnceValues(func() ([]byte, error) { return yamlToJSON(d.YAML()) }))
	return f.(func() ([]byte, error))()
}

// Load parses the document with all references resolved. Each call returns a tree of its own.
func (d Document) Load() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(d.YAML())
	if err != nil {
		return nil, fmt.Errorf("load document %s: %w", d, err)
	}
	return doc, nil
}
