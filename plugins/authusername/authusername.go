// Package authusername is the plugin that lets clients in by user name and password,
// and by the enhanced authentication SCRAM-SHA-256 of MQTT 5.0 with the same
// credentials.
package authusername

import (
	"context"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/plugins/internal/credential"
)

// Kind is the kind of the plugin's credentials in the replicated store.
const Kind = "auth_username"

var table = credential.Table{
	Kind: Kind, Prefix: "auth.user", Field: "username",
	Name: func(r *engine.ConnectRequest) (string, bool) { return r.Username, r.HasUsername && r.Username != "" },
}

// Descriptor describes the plugin.
func Descriptor() plugins.Descriptor {
	return plugins.Descriptor{
		Name: Kind,
		V2:   plugins.Listing{Version: "2.3", Description: "Authentication with Username/Password"},
		V3:   plugins.Listing{Version: "3.0", Description: "EMQ X Authentication with Username/Password"},
		Keys: table.Keys(),
		New:  func() plugins.Plugin { return &authUsername{passwords: credential.Plugin{Table: table}} },
	}
}

type authUsername struct {
	passwords credential.Plugin
	remove    func()
}

// Start begins to be asked, by CONNECT with a password and by SCRAM.
func (a *authUsername) Start(ctx context.Context, env plugins.Env) error {
	if err := a.passwords.Start(ctx, env); err != nil {
		return err
	}
	a.remove = env.Engine.AddAuthMethod(Method, scram{env.Store})
	return nil
}

// Stop ends both.
func (a *authUsername) Stop(ctx context.Context) error {
	a.remove()
	return a.passwords.Stop(ctx)
}

var _ plugins.Plugin = (*authUsername)(nil)
