package api

import (
	"reflect"
	"sync"
	"testing"

	"github.com/lacewing-mqtt/lacewing/node"
	"github.com/lacewing-mqtt/lacewing/openapi"
)

// row is one management operation: the method of the service that does it, the
// calls of both versions that reach it, and what must be seen of it.
type row struct {
	service  string
	v2, v3   string // operation ids; "" where the version has none
	scenario func(t *testing.T, w *world, c client, op string)
}

// table lists every operation of both documents.
var table = []row{
	{"Nodes", "list_nodes", "list_brokers", nodesListed},
	{"Node", "get_node", "get_broker", nodeShown},
	{"Nodes", "list_monitoring_nodes", "list_nodes", nodesListed},
	{"Node", "get_monitoring_node", "get_node", nodeShown},

	{"Clients", "list_node_clients", "list_node_connections", clientsPaged},
	{"Clients", "", "list_connections", clientsPaged},
	{"Client", "lookup_node_client", "lookup_node_connections", clientFound},
	{"Client", "lookup_client", "lookup_connections", clientFound},
	{"Kick", "kick_client", "kickout_connection", clientKicked},
	{"CleanACL", "clean_acl_cache", "clean_acl_cache", aclCleaned},

	{"Sessions", "list_node_sessions", "list_node_sessions", sessionsPaged},
	{"Sessions", "list_node_sessions_alias", "list_sessions", sessionsPaged},
	{"Session", "lookup_node_session", "lookup_node_session", sessionFound},
	{"Session", "lookup_node_session_alias", "", sessionFound},
	{"Session", "lookup_session", "lookup_session", sessionFound},

	{"Subscriptions", "list_node_subscriptions", "list_node_subscriptions", subscriptionsPaged},
	{"Subscriptions", "", "list_subscriptions", subscriptionsPaged},
	{"SubscriptionsOf", "lookup_node_subscriptions", "lookup_client_subscriptions_with_node", subscriptionsFound},
	{"SubscriptionsOf", "lookup_subscriptions", "lookup_client_subscriptions", subscriptionsFound},

	{"Routes", "list_routes", "list_routes", routesPaged},
	{"RoutesOf", "lookup_routes", "lookup_routes", routeFound},

	{"Publish", "mqtt_publish", "mqtt_publish", published},
	{"Subscribe", "mqtt_subscribe", "mqtt_subscribe", subscribed},
	{"Unsubscribe", "mqtt_unsubscribe", "mqtt_unsubscribe", unsubscribed},

	{"Plugins", "list_node_plugins", "list_node_plugins", pluginsListed},
	{"AllPlugins", "", "list_all_plugins", pluginsListed},
	{"LoadPlugin", "switch_node_plugin", "load_plugin", pluginSwitched},
	{"UnloadPlugin", "switch_plugin", "unload_plugin", pluginSwitched},
	{"PluginConfig", "get_plugin_configs", "get_plugin_configs", pluginConfigured},
	{"SetPluginConfig", "update_plugin_configs", "update_plugin_configs", pluginConfigured},

	{"AllListeners", "list_listeners", "list_listeners", listenersListed},
	{"Listeners", "list_node_listeners", "list_node_listeners", listenersListed},
	{"AllMetrics", "list_metrics", "list_all_metrics", metricsCounted},
	{"Metrics", "list_node_metrics", "list_node_metrics", metricsCounted},
	{"AllStats", "list_stats", "list_stats", statsCounted},
	{"Stats", "list_node_stats", "lookup_node_stats", statsCounted},

	{"Users", "list_users", "list_users", whole("userLife", userLife)},
	{"User", "lookup_user", "", whole("userLife", userLife)},
	{"CreateUser", "create_user", "create_user", whole("userLife", userLife)},
	{"UpdateUser", "update_user", "update_user", whole("userLife", userLife)},
	{"DeleteUser", "delete_user", "delete_user", whole("userLife", userLife)},
	{"Login", "auth_user", "auth_user", whole("userLife", userLife)},
	{"ChangePassword", "change_pwd", "change_pwd", whole("userLife", userLife)},

	{"AllSettings", "get_configs", "get_all_configs", configListed},
	{"Settings", "get_node_configs", "get_node_configs", configListed},
	{"SetConfig", "update_config", "update_config", configSet},
	{"SetConfig", "update_node_config", "update_node_config", configSet},

	{"Alarms", "list_node_alarms", "list_node_alarms", alarmsListed},
	{"AllAlarms", "", "list_all_alarms", alarmsListed},

	{"", "", "list_all_api", indexShown},
	{"Bans", "", "list_banned", whole("banLife", banLife)},
	{"Ban", "", "create_banned", whole("banLife", banLife)},
	{"Unban", "", "delete_banned", whole("banLife", banLife)},
	{"Apps", "", "list_apps", whole("appLife", appLife)},
	{"CreateApp", "", "add_app", whole("appLife", appLife)},
	{"App", "", "lookup_app", whole("appLife", appLife)},
	{"UpdateApp", "", "update_app", whole("appLife", appLife)},
	{"DeleteApp", "", "del_app", whole("appLife", appLife)},
	{"Credentials", "", "list_clientid", whole("clientidLife", clientidLife)},
	{"Credential", "", "lookup_clientid", whole("clientidLife", clientidLife)},
	{"AddCredential", "", "add_clientid", whole("clientidLife", clientidLife)},
	{"UpdateCredential", "", "update_clientid", whole("clientidLife", clientidLife)},
	{"DeleteCredential", "", "delete_clientid", whole("clientidLife", clientidLife)},
	{"Credentials", "", "list_username", whole("usernameLife", usernameLife)},
	{"Credential", "", "lookup_username", whole("usernameLife", usernameLife)},
	{"AddCredential", "", "add_username", whole("usernameLife", usernameLife)},
	{"UpdateCredential", "", "update_username", whole("usernameLife", usernameLife)},
	{"DeleteCredential", "", "delete_username", whole("usernameLife", usernameLife)},
}

// whole makes a scenario of a life that takes all operations of its kind: it
// runs with the first of them, and stands for the others.
func whole(name string, life func(t *testing.T, w *world, c client, op string)) func(*testing.T, *world, client, string) {
	return func(t *testing.T, w *world, c client, op string) {
		if _, ran := lives.LoadOrStore(name+" "+string(c.doc), true); !ran {
			life(t, w, c, op)
		}
	}
}

var lives sync.Map

func TestTableHasEveryOperation(t *testing.T) {
	for doc, column := range map[openapi.Document]func(row) string{
		openapi.V2:      func(r row) string { return r.v2 },
		openapi.V3Items: func(r row) string { return r.v3 },
		openapi.V3Code:  func(r row) string { return r.v3 },
	} {
		listed := map[string]bool{}
		for _, r := range table {
			if op := column(r); op != "" {
				if listed[op] {
					t.Errorf("%s %s stands twice in the table", doc, op)
				}
				listed[op] = true
				if specs[doc].ops[op] == nil {
					t.Errorf("%s has no operation %s", doc, op)
				}
			}
		}
		for op := range specs[doc].ops {
			if !listed[op] {
				t.Errorf("%s %s is not in the table", doc, op)
			}
		}
	}
}

// TestTableNamesTheService checks the first column against the service itself:
// every method is there, but for those that only the HTTP side asks.
func TestTableNamesTheService(t *testing.T) {
	service := reflect.TypeOf((*node.Node).Service).Out(0)
	named := map[string]bool{"": true}
	for _, r := range table {
		named[r.service] = true
		if _, there := service.MethodByName(r.service); !there && r.service != "" {
			t.Errorf("the service has no method %s", r.service)
		}
	}
	for _, m := range []string{"CheckUser", "KnownUser", "CheckApp", "KnownApp", "NodeName", "Raft", "MaxRows", "Storage"} {
		named[m] = true
	}
	for i := range service.NumMethod() {
		if m := service.Method(i).Name; !named[m] {
			t.Errorf("method %s of the service is reached by no operation", m)
		}
	}
}

// TestOperations runs the scenario of every operation through both versions,
// and v3 in both dialects.
func TestOperations(t *testing.T) {
	items := start(t, nil)
	code := start(t, map[string]string{"management.v3_dialect": "code"})
	for _, r := range table {
		if r.v2 != "" {
			t.Run("v2/"+r.v2, func(t *testing.T) { w := items.in(t); r.scenario(t, w, w.v2, r.v2) })
		}
		if r.v3 != "" {
			t.Run("v3-items/"+r.v3, func(t *testing.T) { w := items.in(t); r.scenario(t, w, w.v3d, r.v3) })
			t.Run("v3-code/"+r.v3, func(t *testing.T) { w := code.in(t); r.scenario(t, w, w.v3d, r.v3) })
		}
	}
}
