package impl

import (
	"maps"
	"net/url"
	"testing"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// FuzzFindOperation sends any path through the search and the rewrite: what
// comes out must mean the same operation with the same values, for the
// generated router too, which sees decoded values in single segments.
func FuzzFindOperation(f *testing.F) {
	doc2, err := openapi.V2.Load()
	if err != nil {
		f.Fatal(err)
	}
	doc3, err := openapi.V3Items.Load()
	if err != nil {
		f.Fatal(err)
	}
	versions := []*operations{newOperations(doc2, "/api/v2", false), newOperations(doc3, "/api/v3", true)}
	for _, seed := range []string{
		"clients/a", "routes//a/+/%23", "connections/a/acl/b/acl/c", "nodes/n/clients/%2F", "node//sessions/", "%", "%2525", "{topic}",
		"nodes/plugins/plugins/x", "banned/%7Bnode%7D", "connections/%00/acl/%ff", "////", "users/.././x", "nodes/n%2Fm/metrics",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tail string) {
		u, err := url.ParseRequestURI("/" + tail)
		if err != nil {
			return
		}
		for _, ops := range versions {
			for method := range ops.byMethod {
				m, ok := ops.find(method, ops.prefix+u.EscapedPath())
				if !ok {
					continue
				}
				path, raw := ops.rewritten(m)
				if again := (&url.URL{Path: path, RawPath: raw}).EscapedPath(); again != raw {
					t.Fatalf("%s %q: %q is not the escaped form of %q", method, tail, raw, path)
				}
				again, ok := ops.find(method, raw)
				if !ok || again.op != m.op || !maps.Equal(again.params, m.params) {
					t.Fatalf("%s %q: rewritten to %q, which is %v %q, not %s %q", method, tail, raw, ok, again.params, m.op.id, m.params)
				}
			}
		}
	})
}
