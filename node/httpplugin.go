package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// httpPlugin is the plugin management or dashboard: their listeners.
type httpPlugin struct {
	node    *Node
	name    string
	handler func() http.Handler
	open    []*httpListener
}

func (n *Node) managementPlugin() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "management",
		V3:      plugins.Listing{Version: "3.0", Description: "EMQ X Management API and CLI"},
		Default: true,
		New:     func() plugins.Plugin { return &httpPlugin{node: n, name: "management", handler: n.managementHandler} },
	}
}

func (n *Node) dashboardPlugin() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "dashboard",
		V2:      plugins.Listing{Version: "2.3", Description: "EMQ Web Dashboard"},
		V3:      plugins.Listing{Version: "3.0", Description: "EMQ X Web Dashboard"},
		Default: true,
		New:     func() plugins.Plugin { return &httpPlugin{node: n, name: "dashboard", handler: n.dashboardHandler} },
	}
}

var schemes = []string{"http", "https"}

// spec is what a configuration says of a scheme; ok is false where it is off.
func (p *httpPlugin) spec(cfg *config.Config, scheme string) (s httpSpec, ok bool, err error) {
	key := p.name + ".listener." + scheme
	s = httpSpec{
		plugin: p.name, scheme: scheme, address: cfg.String(key),
		acceptors: cfg.Int(key + ".acceptors"), max: cfg.Int(key + ".max_clients"),
		handler: p.handler(),
	}
	if s.address == "off" || s.address == "" {
		return s, false, nil
	}
	if scheme == "https" {
		files, err := p.node.tlsFiles(cfg.TLS(key))
		if err != nil {
			return s, false, err
		}
		s.tls = &files
	}
	return s, true, nil
}

// Start opens the configured addresses.
func (p *httpPlugin) Start(ctx context.Context, env plugins.Env) error {
	for _, scheme := range schemes {
		s, on, err := p.spec(env.Config, scheme)
		if err == nil && on {
			var l *httpListener
			if l, err = p.node.web.listen(s); err == nil {
				p.open = append(p.open, l)
			}
		}
		if err != nil {
			return errors.Join(err, p.Stop(ctx))
		}
	}
	return nil
}

// Stop closes them.
func (p *httpPlugin) Stop(context.Context) error {
	var errs []error
	for _, l := range p.open {
		errs = append(errs, p.node.web.stop(l))
	}
	p.open = nil
	return errors.Join(errs...)
}

// Configure opens and closes what differs. An address that cannot be opened leaves the
// listener as it was.
func (p *httpPlugin) Configure(ctx context.Context, cfg *config.Config) error {
	want := make(map[string]httpSpec)
	for _, scheme := range schemes {
		s, on, err := p.spec(cfg, scheme)
		if err != nil {
			return err
		}
		if on {
			want[scheme] = s
		}
	}
	if len(want) == 0 && len(p.open) > 0 {
		if err := p.MayStop(ctx); err != nil {
			return err
		}
	}
	for _, scheme := range schemes {
		s, on := want[scheme]
		i := slices.IndexFunc(p.open, func(l *httpListener) bool { return l.scheme == scheme })
		switch {
		case i < 0 && on:
			l, err := p.node.web.listen(s)
			if err != nil {
				return err
			}
			p.open = append(p.open, l)
		case i >= 0 && !on:
			old := p.open[i]
			p.open = slices.Delete(p.open, i, i+1)
			if err := p.node.web.stop(old); err != nil {
				return err
			}
		case i >= 0 && !s.same(p.open[i].spec):
			l, err := p.node.web.replace(p.open[i], s)
			if l == nil {
				p.open = slices.Delete(p.open, i, i+1)
			} else {
				p.open[i] = l
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// MayStop refuses to cut off the caller, and to close the last way in.
func (p *httpPlugin) MayStop(ctx context.Context) error {
	if plugins.Caller(ctx) == p.name {
		return fmt.Errorf("%w: the call came in through it", plugins.ErrInUse)
	}
	if len(p.open) > 0 && len(p.node.web.listeners("")) == len(p.open) {
		return fmt.Errorf("%w: no other listener serves the API", plugins.ErrInUse)
	}
	return nil
}

var (
	_ plugins.Plugin     = (*httpPlugin)(nil)
	_ plugins.Configurer = (*httpPlugin)(nil)
	_ plugins.Guard      = (*httpPlugin)(nil)
)
