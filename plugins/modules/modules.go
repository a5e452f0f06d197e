// Package modules is the plugin of three small habits of EMQ: presence (messages
// about clients that come and go), subscription (filters that the broker subscribes
// for every client) and rewrite (topics that are replaced on their way in).
package modules

import (
	"context"
	"fmt"
	"strings"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// Descriptor describes the plugin. EMQ X 3.0 has the three modules in the broker
// and lists no plugin of that name.
func Descriptor() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "modules",
		V2:      plugins.Listing{Version: "2.3", Description: "EMQ Modules"},
		Default: true,
		Keys:    keys,
		New:     func() plugins.Plugin { return new(modules) },
	}
}

var keys = []config.Key{
	{
		Name: "module.presence", Type: config.Flag, Default: "on", Plugin: "modules",
		Doc: "Publish $SYS/brokers/{node}/clients/{clientid}/connected and .../disconnected, with a JSON body, when clients come and go.",
	},
	{
		Name: "module.presence.qos", Type: config.Integer, Default: "1", Max: 2, Plugin: "modules",
		Doc: "The QoS of the presence messages.",
	},
	{
		Name: "module.subscription", Type: config.Flag, Default: "off", Plugin: "modules",
		Doc: "Subscribe every client that connects to the filters of module.subscription.$N.topic.",
	},
	{
		Name: "module.subscription.$N.topic", Type: config.String, Plugin: "modules", Check: checkFilter,
		Doc: "A filter that every client is subscribed to. A level that is %c or %u stands for the client id or the user name.",
	},
	{
		Name: "module.subscription.$N.qos", Type: config.Integer, Default: "1", Max: 2, Plugin: "modules",
		Doc: "The QoS of that subscription.",
	},
	{
		Name: "module.rewrite", Type: config.Flag, Default: "off", Plugin: "modules",
		Doc: "Rewrite the topics of publications, subscriptions and unsubscriptions by the rules of module.rewrite.rule.$N.",
	},
	{
		Name: "module.rewrite.rule.$N", Type: config.String, Plugin: "modules", Check: checkRule,
		Doc: "A rule: a filter, a regular expression and a destination with $1, $2, ... for its groups, with blanks between. The first rule whose filter matches a topic decides; where its expression does not match, the topic stays as it is.",
	},
}

func checkFilter(text string) error {
	if !topic.ValidFilter(text) {
		return fmt.Errorf("is no topic filter")
	}
	return nil
}

func checkRule(text string) error {
	_, err := parseRule(text)
	return err
}

type modules struct {
	node   string
	engine *engine.Engine
	log    func(msg string, args ...any)
	// remove takes the hooks back.
	remove func()

	presence      presence
	subscriptions []engine.Subscription // filters with %c and %u in them
	rules         []rule
}

// Start puts the modules that are on into effect.
func (m *modules) Start(_ context.Context, env plugins.Env) error {
	cfg := env.Config
	m.node, m.engine, m.log = env.Node, env.Engine, env.Logger.Warn
	var hooks []engine.Hooks
	if cfg.Bool("module.presence") {
		m.presence = presence{engine: env.Engine, node: env.Node, qos: packet.QoS(cfg.Int("module.presence.qos"))}
		hooks = append(hooks, m.presence.hooks())
	}
	if cfg.Bool("module.subscription") {
		for _, n := range cfg.Instances("module.subscription.$N.topic") {
			filter := cfg.String("module.subscription." + n + ".topic")
			if filter == "" {
				continue
			}
			m.subscriptions = append(m.subscriptions, engine.Subscription{
				Filter: filter,
				QoS:    packet.QoS(cfg.Int("module.subscription." + n + ".qos")),
			})
		}
		hooks = append(hooks, engine.Hooks{ClientConnected: m.subscribe})
	}
	if cfg.Bool("module.rewrite") {
		for _, n := range cfg.Instances("module.rewrite.rule.$N") {
			text := cfg.String("module.rewrite.rule." + n)
			if text == "" {
				continue
			}
			r, err := parseRule(text)
			if err != nil {
				return fmt.Errorf("module.rewrite.rule.%s: %w", n, err)
			}
			m.rules = append(m.rules, r)
		}
		hooks = append(hooks, m.rewriteHooks())
	}
	var removes []func()
	for _, h := range hooks {
		removes = append(removes, env.Engine.AddHooks("modules", h))
	}
	m.remove = func() {
		for _, r := range removes {
			r()
		}
	}
	return nil
}

// Stop takes the hooks back. Subscriptions that were made stay with their sessions.
func (m *modules) Stop(context.Context) error {
	m.remove()
	return nil
}

// subscribe gives a client the configured filters, as if it had asked for them.
func (m *modules) subscribe(c engine.ClientInfo) {
	for _, s := range m.subscriptions {
		s.Filter = fill(s.Filter, c)
		if err := m.engine.Subscribe(c.ClientID, s); err != nil {
			m.log("automatic subscription failed", "clientid", c.ClientID, "topic", s.Filter, "err", err)
		}
	}
}

// fill replaces levels that are exactly %c or %u. Without a user name %u stays: it
// is no wildcard and matches nothing by accident. A name that would change the
// shape of the filter stays out too.
func fill(filter string, c engine.ClientInfo) string {
	if !strings.Contains(filter, "%") {
		return filter
	}
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		switch {
		case l == "%c" && !strings.ContainsAny(c.ClientID, "+#/"):
			levels[i] = c.ClientID
		case l == "%u" && c.HasUsername && !strings.ContainsAny(c.Username, "+#/"):
			levels[i] = c.Username
		}
	}
	return strings.Join(levels, "/")
}

var _ plugins.Plugin = (*modules)(nil)
