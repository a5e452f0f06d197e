// Package retainer is the plugin that keeps the last retained message of each
// topic and gives it to new subscriptions. The store itself is part of the engine;
// the plugin switches it on and off and sets its limits. While it is off, retained
// messages are routed like others and neither stored nor delivered.
package retainer

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// Descriptor describes the plugin.
func Descriptor() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "retainer",
		V2:      plugins.Listing{Version: "2.3", Description: "EMQ Retainer"},
		V3:      plugins.Listing{Version: "3.0", Description: "EMQ X Retainer"},
		Default: true,
		Keys:    keys,
		New:     func() plugins.Plugin { return new(retainer) },
	}
}

var keys = []config.Key{
	{
		Name: "retainer.storage_type", Type: config.Enum, Enum: []string{"ram", "disc", "disc_only"}, Default: "disc", Plugin: "retainer",
		Doc: "Whether retained messages outlive the node: disc and disc_only keep them in its store as well as in memory; with ram they are lost when the node stops, and the log says so.",
	},
	{
		Name: "retainer.max_retained_messages", Type: config.Integer, Default: "0", Hot: true, App: "emqx_retainer", Plugin: "retainer",
		V2:  []config.V2{{App: "emq_retainer", Key: "retainer.max_message_num", Datatype: "integer"}},
		Doc: "The most topics that may have a retained message; 0 is no limit. At the limit a message is routed and not stored.",
	},
	{
		Name: "retainer.max_payload_size", Type: config.Bytesize, Default: "1MB", Hot: true, App: "emqx_retainer", Plugin: "retainer",
		V2:  []config.V2{{App: "emq_retainer", Key: "retainer.max_payload_size", Datatype: "bytesize"}},
		Doc: "The largest payload that is stored; a message with a larger one is routed and not stored. 0 is no limit.",
	},
	{
		Name: "retainer.expiry_interval", Type: config.Duration, Default: "0", Hot: true, App: "emqx_retainer", Datatype: "integer, duration", Plugin: "retainer",
		V2:  []config.V2{{App: "emq_retainer", Key: "retainer.expiry_interval", Datatype: "integer, duration"}},
		Doc: "How long a retained message is kept. A message expiry interval of MQTT 5.0 goes before it; 0 is for ever.",
	},
}

type retainer struct {
	engine *engine.Engine
	log    *slog.Logger
}

// Start switches the store on.
func (r *retainer) Start(_ context.Context, env plugins.Env) error {
	r.engine, r.log = env.Engine, env.Logger
	return r.apply(env.Config)
}

// Configure sets the limits; what is stored stays.
func (r *retainer) Configure(_ context.Context, cfg *config.Config) error { return r.apply(cfg) }

func (r *retainer) apply(cfg *config.Config) error {
	where := cfg.String("retainer.storage_type")
	err := r.engine.EnableRetainer(engine.RetainerOptions{
		MaxMessages: cfg.Int("retainer.max_retained_messages"),
		MaxPayload:  int(cfg.Bytes("retainer.max_payload_size")),
		Expiry:      cfg.Duration("retainer.expiry_interval"),
		Volatile:    where == "ram",
	})
	if err != nil {
		return fmt.Errorf("limits of retained messages: %w", err)
	}
	if where == "ram" {
		r.log.Warn("retained messages are kept in memory only and are lost when the node stops", "retainer.storage_type", where)
	}
	return nil
}

// Stop switches the store off; what it holds stays.
func (r *retainer) Stop(context.Context) error {
	r.engine.DisableRetainer()
	return nil
}

var (
	_ plugins.Plugin     = (*retainer)(nil)
	_ plugins.Configurer = (*retainer)(nil)
)
