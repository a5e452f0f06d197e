// Package plugins keeps the loadable parts of a node: what there is, what is
// active, how each is configured, and the order in which they start and stop.
//
// A plugin is compiled in. Loading one starts the real thing on this node and
// unloading it stops that again; both are recorded before they are answered, so
// that the set comes back as it was after a restart. The names of the documents
// carry a prefix for each product (emq_retainer, emqx_retainer); inside there is
// one plugin "retainer" with one state, and a request may use either prefix.
//
// The plugins themselves are sub-packages, one for each. They know this package,
// the engine and the store, and not each other.
package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Errors of Set. They are wrapped with the name of the plugin.
var (
	// ErrUnknown says that no document has a plugin of that name.
	ErrUnknown = errors.New("unknown plugin")
	// ErrNotInstalled says that a document has the plugin and this build does not.
	ErrNotInstalled = errors.New("plugin is not installed")
	// ErrAlreadyStarted answers a load of an active plugin.
	ErrAlreadyStarted = errors.New("plugin is already started")
	// ErrNotStarted answers an unload of a plugin that is not active.
	ErrNotStarted = errors.New("plugin is not started")
	// ErrInUse answers an unload that would cut off the caller, or the last
	// listener of the API.
	ErrInUse = errors.New("plugin is in use")
	// ErrBadConfig says that a configuration was refused; nothing has changed.
	ErrBadConfig = errors.New("bad plugin configuration")
)

// Plugin is the running form of one plugin. Start and Stop are called in turn,
// never at the same time; a stopped plugin is dropped and a new one made for the
// next start.
type Plugin interface {
	// Start begins the work of the plugin and returns when it is in effect. On an
	// error everything it had begun is undone.
	Start(ctx context.Context, env Env) error
	// Stop ends it, waits for its goroutines, and takes back every hook. ctx bounds
	// the waiting.
	Stop(ctx context.Context) error
}

// Configurer is a Plugin that takes a new configuration while it runs. One that
// is no Configurer is stopped and started again.
type Configurer interface {
	// Configure applies all of cfg or refuses all of it.
	Configure(ctx context.Context, cfg *config.Config) error
}

// Guard is a Plugin that may refuse to be stopped, with an error that wraps
// ErrInUse.
type Guard interface {
	MayStop(ctx context.Context) error
}

// Env is what a plugin may use. Everything in it outlives the plugin.
type Env struct {
	Node   string // name of this node, such as emqx@127.0.0.1
	Engine *engine.Engine
	Store  *raftstore.Store
	Config *config.Config // of the whole node; a plugin reads its own keys
	Logger *slog.Logger
}

// Listing is how one of the two documented products shows a plugin. The zero
// Listing means that its document does not list it.
type Listing struct {
	Version     string
	Description string
}

// Listed reports whether the document has the plugin.
func (l Listing) Listed() bool { return l.Version != "" }

// Descriptor is one plugin that this build has.
type Descriptor struct {
	Name    string       // without prefix: "auth_clientid"
	V2      Listing      // as EMQ 2.3 shows it
	V3      Listing      // as EMQ X 3.0 shows it
	Default bool         // active on a node that has no state for it
	Keys    []config.Key // the plugin's part of the table
	New     func() Plugin
}

// Status is one row of a plugin list.
type Status struct {
	Name   string // without prefix
	V2, V3 Listing
	Active bool
}

// documented holds the plugins of both documents, so that a name without a
// plugin behind it can be told from a name nobody has heard of.
var documented = map[string]bool{
	"auth_clientid": true, "auth_http": true, "auth_jwt": true, "auth_ldap": true,
	"auth_mongo": true, "auth_mysql": true, "auth_pgsql": true, "auth_redis": true,
	"auth_username": true, "coap": true, "dashboard": true, "delayed_publish": true,
	"lua_hook": true, "lwm2m": true, "management": true, "modules": true,
	"plugin_template": true, "recon": true, "reloader": true, "retainer": true,
	"sn": true, "statsd": true, "stomp": true, "web_hook": true,
}

// BareName takes the prefix emq_ or emqx_ off a plugin name; a name without
// prefix stays as it is.
func BareName(name string) string {
	for _, prefix := range []string{"emqx_", "emq_"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest
		}
	}
	return name
}

type callerKey struct{}

// WithCaller marks ctx as belonging to a request that came in through a plugin's
// listener ("management" or "dashboard"), so that this plugin can refuse to be
// switched off by it.
func WithCaller(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, callerKey{}, name)
}

// Caller returns the name given to WithCaller, or "".
func Caller(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// named wraps one of the errors above with the plugin it is about.
func named(name string, err error) error { return fmt.Errorf("plugin %s: %w", name, err) }
