// Package credential is what the plugins auth_clientid and auth_username have in
// common: a table of names with passwords, kept in the replicated store, that is
// asked when a client connects.
package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Table says which names a plugin keeps.
type Table struct {
	Kind   string // of the credentials: "auth_username"
	Prefix string // of the keys: "auth.user"
	Field  string // that names the name in the keys: "username"
	// Name is what the client is looked up by; ok is false where it gave none.
	Name func(r *engine.ConnectRequest) (name string, ok bool)
}

// Keys are the keys of the plugin.
func (t Table) Keys() []config.Key {
	return []config.Key{
		{
			Name: t.Prefix + ".$N." + t.Field, Type: config.String, Plugin: t.Kind,
			Doc: "The " + t.Field + " of a credential that is made when the plugin starts and does not exist yet.",
		},
		{
			Name: t.Prefix + ".$N.password", Type: config.SecretT, Plugin: t.Kind,
			Doc: "The password of that credential.",
		},
		{
			Name: t.Prefix + ".password_hash", Type: config.Enum, Enum: []string{"plain", "md5", "sha", "sha256"}, Default: "sha256", Plugin: t.Kind,
			Doc: "How passwords are stored that are set from now on, salted in every case. plain is taken and stored as sha256.",
		},
	}
}

// Plugin asks one Table.
type Plugin struct {
	Table  Table
	store  *raftstore.Store
	log    *slog.Logger
	remove func()
}

// Start writes the configured pairs that do not exist yet and begins to be asked.
func (p *Plugin) Start(ctx context.Context, env plugins.Env) error {
	p.store, p.log = env.Store, env.Logger
	if err := p.seed(ctx, env.Config); err != nil {
		return err
	}
	p.remove = env.Engine.AddAuthenticator(p.Table.Kind, 0, p)
	return nil
}

// Stop ends the asking. Credentials stay.
func (p *Plugin) Stop(context.Context) error {
	p.remove()
	return nil
}

// seed makes the configured credentials. One that exists is not overwritten: its
// password may have been changed since.
func (p *Plugin) seed(ctx context.Context, cfg *config.Config) error {
	t := p.Table
	for _, n := range cfg.Instances(t.Prefix + ".$N." + t.Field) {
		name := cfg.String(t.Prefix + "." + n + "." + t.Field)
		password := cfg.Secret(t.Prefix + "." + n + ".password").Reveal()
		if name == "" && password == "" {
			continue
		}
		if name == "" || password == "" {
			return fmt.Errorf("%s.%s has a %s and a password only together", t.Prefix, n, t.Field)
		}
		c, err := raftstore.NewCredential(t.Kind, name, cfg.String(t.Prefix+".password_hash"), password)
		if err == nil {
			err = p.store.PutCredential(ctx, c, raftstore.IfAbsent)
		}
		if err != nil && !errors.Is(err, raftstore.ErrExists) {
			return fmt.Errorf("credential of %s.%s: %w", t.Prefix, n, err)
		}
	}
	return nil
}

// Authenticate implements engine.Authenticator: without a name or a password the
// client is refused, a name that is not in the table is left to others.
func (p *Plugin) Authenticate(_ context.Context, r *engine.ConnectRequest) engine.Decision {
	refused := engine.Decision{Result: engine.Deny, Code: packet.BadUserNameOrPassword}
	name, ok := p.Table.Name(r)
	if !ok || r.Password == nil {
		return refused
	}
	c, ok := p.store.View().Credential(p.Table.Kind, name)
	if !ok {
		return engine.Decision{Result: engine.Ignore}
	}
	if !c.Check(string(r.Password)) {
		return refused
	}
	return engine.Decision{Result: engine.Allow}
}

var (
	_ plugins.Plugin       = (*Plugin)(nil)
	_ engine.Authenticator = (*Plugin)(nil)
)
