package impl

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/swaggest/swgui/v5/static"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// docsBase is where the API pages are.
const docsBase = "/api-docs/"

// Docs serves the OpenAPI documents and Swagger UI over them. It needs no network and no credentials:
//
//	/api-docs/                                the pages, with a selector for all documents
//	/api-docs/{v2,v3,v3-code,node}.{json,yaml} each document under a fixed name
//	/api/v2/openapi.{json,yaml}               the document of that version,
//	/api/v3/openapi.{json,yaml}               for v3 in the dialect in force,
//	/api/node/openapi.{json,yaml}             and of the control of this node
type Docs struct {
	dialect func() openapi.Document
	files   map[string]func() docFile // by path; v3's own path is resolved for each request
}

// docFile is a file that is served as it is.
type docFile struct {
	contentType string
	etag        string
	body        []byte
	gzipped     []byte // body, compressed; nil for small files
}

// shown are the documents of the pages, in their order.
var shown = append(slices.Clone(openapi.Documents), openapi.Node)

// NewDocs lists what is served; a file is prepared when it is first asked for. dialect says which v3 document is in
// force; it is asked for each request.
func NewDocs(dialect func() openapi.Document) *Docs {
	d := &Docs{dialect: dialect, files: make(map[string]func() docFile)}
	for _, doc := range shown {
		d.files[docsBase+string(doc)+".json"] = once("application/json", doc.JSON)
		d.files[docsBase+string(doc)+".yaml"] = once("application/yaml", func() ([]byte, error) { return doc.YAML(), nil })
	}
	d.files[docsBase] = once(htmlType, func() ([]byte, error) { return []byte(page), nil })
	d.files[docsBase+"swagger-ui.css"] = once("text/css; charset=utf-8", asset("swagger-ui.css"))
	for _, name := range []string{"swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"} {
		d.files[docsBase+name] = once("text/javascript; charset=utf-8", asset(name))
	}
	return d
}

const htmlType = "text/html; charset=utf-8"

// once prepares a file at the first call. Everything is part of the binary, so that a failure is a broken build.
func once(contentType string, read func() ([]byte, error)) func() docFile {
	return sync.OnceValue(func() docFile {
		body, err := read()
		if err != nil {
			panic("impl: embedded file: " + err.Error())
		}
		sum := sha256.Sum256(body)
		f := docFile{contentType: contentType, body: body, etag: base64.RawURLEncoding.EncodeToString(sum[:12])}
		if len(body) > 4096 {
			var buf bytes.Buffer
			w := gzip.NewWriter(&buf)
			w.Write(body) // into memory: cannot fail
			w.Close()
			f.gzipped = buf.Bytes()
		}
		return f
	})
}

// asset reads a file of Swagger UI, which is embedded compressed.
func asset(name string) func() ([]byte, error) {
	return func() ([]byte, error) {
		f, err := static.FS.Open(name + ".gz")
		if err != nil {
			return nil, err
		}
		defer f.Close() // an embedded file: nothing to lose
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return io.ReadAll(z)
	}
}

// fixed maps a path to the name under which its file is kept.
func (d *Docs) fixed(path string) string {
	switch path {
	case "/api/v2/openapi.json", "/api/v2/openapi.yaml":
		return docsBase + string(openapi.V2) + path[len(path)-5:]
	case "/api/v3/openapi.json", "/api/v3/openapi.yaml":
		return docsBase + string(d.dialect()) + path[len(path)-5:]
	case "/api/node/openapi.json", "/api/node/openapi.yaml":
		return docsBase + string(openapi.Node) + path[len(path)-5:]
	}
	return path
}

// Serves says whether a request is for the documents or their pages. It is asked before credentials are.
func (d *Docs) Serves(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	switch path := r.URL.Path; path {
	case strings.TrimSuffix(docsBase, "/"), docsBase + "documents.js":
		return true
	default:
		_, ok := d.files[d.fixed(path)]
		return ok
	}
}

// ServeHTTP answers a request that Serves has accepted.
func (d *Docs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // ask again, the ETag makes it cheap
	switch r.URL.Path {
	case strings.TrimSuffix(docsBase, "/"):
		http.Redirect(w, r, docsBase, http.StatusMovedPermanently)
		return
	case docsBase + "documents.js":
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.script()))
		return
	}
	file, ok := d.files[d.fixed(r.URL.Path)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	f := file()
	if f.contentType == htmlType {
		// Everything comes from this server; Swagger UI sets styles and shows pictures that it carries itself.
		h.Set("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Vary", "Accept-Encoding")
	body, etag := f.body, f.etag
	if f.gzipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body, etag = f.gzipped, f.etag+"-gzip"
	}
	h.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// script starts Swagger UI with all documents, that of the dialect in force first.
func (d *Docs) script() []byte {
	type entry struct {
		URL  string `json:"url"`
		Name string `json:"name"`
	}
	names := map[openapi.Document]string{
		openapi.V2: "REST API v2", openapi.V3Items: "REST API v3, items dialect", openapi.V3Code: "REST API v3, code dialect",
		openapi.Node: "Node API (dashboard listener)",
	}
	inForce := d.dialect()
	entries := []entry{{docsBase + string(inForce) + ".yaml", names[inForce] + " (in force)"}}
	for _, doc := range shown {
		if doc != inForce {
			entries = append(entries, entry{docsBase + string(doc) + ".yaml", names[doc]})
		}
	}
	urls, err := json.Marshal(entries)
	if err != nil {
		panic(err) // strings only
	}
	return fmt.Appendf(nil, `window.ui = SwaggerUIBundle({
  urls: %s,
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout",
  deepLinking: true,
  displayOperationId: true,
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  validatorUrl: null
});
`, urls)
}

const page = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lacewing REST API</title>
<link rel="stylesheet" href="swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script>
<script src="swagger-ui-standalone-preset.js"></script>
<script src="documents.js"></script>
</body>
</html>
`
