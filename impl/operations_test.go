package impl

import (
	"maps"
	"net/url"
	"testing"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

func TestFindOperation(t *testing.T) {
	doc2, err := openapi.V2.Load()
	if err != nil {
		t.Fatal(err)
	}
	doc3, err := openapi.V3Items.Load()
	if err != nil {
		t.Fatal(err)
	}
	v2, v3 := newOperations(doc2, "/api/v2", false), newOperations(doc3, "/api/v3", true)
	const node = "emqx@127.0.0.1"
	type params = map[string]string
	for _, tt := range []struct {
		ops    *operations
		method string
		path   string
		want   string // operation; "" for none
		params params
	}{
		{v2, "GET", "/api/v2/clients/a", "lookup_client", params{"clientid": "a"}},
		{v2, "GET", "/api/v2/clients/a/", "lookup_client", params{"clientid": "a"}},
		{v2, "GET", "/api/v2/clients/a/b", "lookup_client", params{"clientid": "a/b"}},
		{v2, "GET", "/api/v2/clients/a%2Fb", "lookup_client", params{"clientid": "a/b"}},
		{v2, "GET", "/api/v2/clients/%2Fa%2F", "lookup_client", params{"clientid": "/a/"}},
		{v2, "GET", "/api/v2/clients/a+b", "lookup_client", params{"clientid": "a+b"}},
		{v2, "GET", "/api/v2/clients/a%2Bb", "lookup_client", params{"clientid": "a+b"}},
		{v2, "GET", "/api/v2/clients/a%20b", "lookup_client", params{"clientid": "a b"}},
		{v2, "GET", "/api/v2/clients/a%2541", "lookup_client", params{"clientid": "a%41"}},
		{v2, "GET", "/api/v2/clients/%23%3F", "lookup_client", params{"clientid": "#?"}},
		{v2, "GET", "/api/v2/clients/caf%C3%A9@x", "lookup_client", params{"clientid": "café@x"}},
		{v2, "GET", "/api/v2/clients/%7Btopic%7D", "lookup_client", params{"clientid": "{topic}"}},
		{v2, "PUT", "/api/v2/clients/a/clean_acl_cache", "clean_acl_cache", params{"clientid": "a"}},
		{v2, "PUT", "/api/v2/clients/a/clean_acl_cache/clean_acl_cache/", "clean_acl_cache", params{"clientid": "a/clean_acl_cache"}},
		{v2, "GET", "/api/v2/clients/a/clean_acl_cache", "lookup_client", params{"clientid": "a/clean_acl_cache"}},
		{v2, "GET", "/api/v2/nodes/" + node + "/sessions", "list_node_sessions", params{"node": node}},
		{v2, "GET", "/api/v2/node/" + node + "/sessions", "list_node_sessions_alias", params{"node": node}},
		{v2, "GET", "/api/v2/node/emqx%40127.0.0.1/sessions/x/y", "lookup_node_session_alias", params{"node": node, "clientid": "x/y"}},
		{v2, "GET", "/api/v2/nodes/n/clients/x/subscriptions/y", "lookup_node_client", params{"node": "n", "clientid": "x/subscriptions/y"}},
		{v2, "PUT", "/api/v2/nodes/plugins/emq_recon", "switch_plugin", params{"name": "emq_recon"}},
		{v2, "PUT", "/api/v2/nodes/" + node + "/plugins/emq_recon", "switch_node_plugin", params{"node": node, "name": "emq_recon"}},
		{v2, "GET", "/api/v2/routes", "list_routes", nil},
		{v2, "GET", "/api/v2/routes/", "list_routes", nil},
		{v2, "GET", "/api/v2/routes//World", "lookup_routes", params{"topic": "/World"}},
		{v2, "GET", "/api/v2/routes/%2FWorld", "lookup_routes", params{"topic": "/World"}},
		{v2, "GET", "/api/v2/routes/a/+/b", "lookup_routes", params{"topic": "a/+/b"}},
		{v2, "GET", "/api/v2/routes/a/%23", "lookup_routes", params{"topic": "a/#"}},
		{v2, "GET", "/api/v2/routes/a//b", "lookup_routes", params{"topic": "a//b"}},
		{v2, "POST", "/api/v2/routes", "", nil},
		{v2, "HEAD", "/api/v2/routes", "", nil},
		{v2, "GET", "/api/v2/nosuch", "", nil},
		{v2, "GET", "/api/v2", "", nil},

		{v3, "GET", "/api/v3", "list_all_api", nil},
		{v3, "GET", "/api/v3/", "list_all_api", nil},
		{v3, "GET", "/api/v3/routes//test", "lookup_routes", params{"topic": "/test"}},
		{v3, "GET", "/api/v3/routes/%2Ftest", "lookup_routes", params{"topic": "/test"}},
		{v3, "GET", "/api/v3//routes/test", "lookup_routes", params{"topic": "test"}},
		{v3, "GET", "/api/v3/routes//", "list_routes", nil},
		{v3, "GET", "/api/v3/nodes//" + node, "get_node", params{"node": node}},
		{v3, "GET", "/api/v3/nodes/" + node + "//connections//", "list_node_connections", params{"node": node}},
		{v3, "GET", "/api/v3/brokers/", "list_brokers", nil},
		{v3, "GET", "/api/v3/connections/emqx-api-test:v1", "lookup_connections", params{"clientid": "emqx-api-test:v1"}},
		{v3, "DELETE", "/api/v3/connections/a/b", "kickout_connection", params{"clientid": "a/b"}},
		{v3, "DELETE", "/api/v3/connections/a/b/acl/c/d", "clean_acl_cache", params{"clientid": "a/b", "topic": "c/d"}},
		{v3, "DELETE", "/api/v3/connections/a/acl/b/acl/c", "clean_acl_cache", params{"clientid": "a", "topic": "b/acl/c"}},
		{v3, "DELETE", "/api/v3/connections/a/acl/%2Fb", "clean_acl_cache", params{"clientid": "a", "topic": "/b"}},
		{v3, "DELETE", "/api/v3/connections/a/acl//b", "clean_acl_cache", params{"clientid": "a", "topic": "/b"}},
		{v3, "GET", "/api/v3/connections/a/acl/b", "lookup_connections", params{"clientid": "a/acl/b"}},
		{v3, "PUT", "/api/v3/nodes/" + node + "/plugins/emqx_recon/load", "load_plugin", params{"node": node, "plugin": "emqx_recon"}},
		{v3, "DELETE", "/api/v3/banned/clientId/username/ipAddress", "delete_banned", params{"who": "clientId/username/ipAddress"}},
		{v3, "PATCH", "/api/v3/nodes", "", nil},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			m, ok := tt.ops.find(tt.method, tt.path)
			if !ok {
				if tt.want != "" {
					t.Fatalf("not found, want %s", tt.want)
				}
				return
			}
			if m.op.id != tt.want || !maps.Equal(m.params, tt.params) {
				t.Fatalf("got %s %q, want %s %q", m.op.id, m.params, tt.want, tt.params)
			}
			// The generated router must come to the same operation, with every
			// parameter in one segment.
			path, raw := tt.ops.rewritten(m)
			again, ok := tt.ops.find(tt.method, raw)
			if !ok || again.op != m.op || !maps.Equal(again.params, m.params) {
				t.Errorf("rewritten to %s: got %v %q, want the same again", raw, again.op, again.params)
			}
			if u := (&url.URL{Path: path, RawPath: raw}); u.EscapedPath() != raw {
				t.Errorf("path %s is not the decoded form of %s", path, raw)
			}
		})
	}
}
