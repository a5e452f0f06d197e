package impl

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/impl/v3"
)

// page answers what is outside both versions.
func (s *Server) page(k Kind, w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		switch r.URL.Path {
		case "/":
			s.rootPage(k, w)
			return
		case "/status":
			// Clients look for the word running; the one before it came with
			// the names of the nodes.
			name, app := s.o.Admin.NodeName(), "emqx"
			if strings.HasPrefix(name, "emq@") {
				app = "emqttd"
			}
			writeText(w, http.StatusOK, "Node "+name+" is started\n"+app+" is running")
			return
		case "/livez":
			writeText(w, http.StatusOK, "ok")
			return
		case "/readyz":
			if err := s.o.Ready(); err != nil {
				w.Header().Set("Retry-After", retryLeader)
				writeText(w, http.StatusServiceUnavailable, err.Error())
				return
			}
			writeText(w, http.StatusOK, "ok")
			return
		case "/metrics":
			if s.maySeeMetrics(k, w, r) {
				s.metrics.ServeHTTP(w, r)
			}
			return
		}
	}
	writeText(w, http.StatusNotFound, v3.NotFound)
}

// maySeeMetrics lets in who is on this machine, admin users and, on API
// listeners, applications; or answers the request.
func (s *Server) maySeeMetrics(k Kind, w http.ResponseWriter, r *http.Request) bool {
	if k == Control || remote(r).IsLoopback() {
		return true
	}
	if id, secret, ok := r.BasicAuth(); ok && s.failed.wait(remote(r), time.Now()) == 0 && s.o.Admin.CheckApp(id, secret) {
		return true
	}
	return s.admitUser(w, r, nil)
}

// rootPage is the list of paths of v2 on API listeners, and on the others a
// page with links.
func (s *Server) rootPage(k Kind, w http.ResponseWriter) {
	if k != Dashboard {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(s.root) // a client that is gone cannot be told
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	fmt.Fprintf(w, dashboardPage, html.EscapeString(s.o.Admin.NodeName()))
}

const dashboardPage = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Lacewing</title>
<style>body{font:16px/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}</style></head>
<body>
<h1>Lacewing</h1>
<p>MQTT broker, node <code>%s</code>.</p>
<ul>
<li><a href="/api-docs/">REST API: read the documents and try the calls</a></li>
<li><a href="/api/v2/openapi.json">OpenAPI document of v2</a>, <a href="/api/v3/openapi.json">of v3</a></li>
<li><a href="/status">Status</a>, <a href="/metrics">metrics</a></li>
</ul>
</body>
</html>
`

// rootPaths is the answer to GET / that v2 documents.
func rootPaths(v *version) ([]byte, error) {
	var paths []string
	for path := range v.ops.paths() {
		// This list alone has another word for the node.
		paths = append(paths, v.ops.prefix[1:]+strings.Replace(path, "{node}", "{node_name}", 1))
	}
	return json.Marshal(map[string][]string{"paths": paths})
}
