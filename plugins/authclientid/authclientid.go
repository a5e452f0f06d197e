// Package authclientid is the plugin that lets clients in by client identifier and
// password.
package authclientid

import (
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/plugins/internal/credential"
)

// Kind is the kind of the plugin's credentials in the replicated store.
const Kind = "auth_clientid"

var table = credential.Table{
	Kind: Kind, Prefix: "auth.client", Field: "clientid",
	Name: func(r *engine.ConnectRequest) (string, bool) { return r.ClientID, r.ClientID != "" },
}

// Descriptor describes the plugin.
func Descriptor() plugins.Descriptor {
	return plugins.Descriptor{
		Name: Kind,
		V2:   plugins.Listing{Version: "2.3", Description: "Authentication with ClientId/Password"},
		V3:   plugins.Listing{Version: "3.0", Description: "EMQ X Authentication with ClientId/Password"},
		Keys: table.Keys(),
		New:  func() plugins.Plugin { return &credential.Plugin{Table: table} },
	}
}
