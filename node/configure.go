package node

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lacewing-mqtt/lacewing/config"
)

// Config returns the configuration in effect.
func (n *Node) Config() *config.Config { return n.cfg.Load() }

// overrides reads the replicated layers of the configuration.
func (n *Node) overrides() config.Overrides {
	v := n.store.View()
	o := config.Overrides{
		Cluster: v.Config(""),
		Plugin:  make(map[string]string),
		Node:    v.Config(n.store.NodeID()),
	}
	for name, pairs := range v.PluginConfigs(n.store.NodeID()) {
		o.Replaced = append(o.Replaced, name)
		for _, p := range pairs {
			o.Plugin[p.Key] = p.Value
		}
	}
	slices.Sort(o.Replaced)
	return o
}

// withOverrides puts the replicated layers over what was read at the start or at
// the last reload.
func (n *Node) withOverrides(o config.Overrides) (*config.Config, error) {
	return n.base.Load().With(o)
}

// warnOverrides tells the operator about stored values that do not hold any more.
func (n *Node) warnOverrides(err error) {
	if err != nil {
		n.log.Warn("stored configuration values are left out", "err", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// Reconfigure puts the stored configuration into effect and returns when it is. When
// a part of the node refuses its new values, all parts keep the old ones.
func (n *Node) Reconfigure(ctx context.Context) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	for {
		stored := n.overrides()
		next, err := n.withOverrides(stored)
		n.warnOverrides(err)
		if err := n.apply(ctx, next); err != nil {
			return err
		}
		// What was written meanwhile (the configuration of a plugin does not wait for
		// this lock) would be lost from cfg.
		if reflect.DeepEqual(stored, n.overrides()) || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// apply brings the node from the configuration in effect to another. The plugins
// come first, as only they can refuse; what the engine takes is checked before.
// Called with applying held.
func (n *Node) apply(ctx context.Context, next *config.Config) error {
	old := n.cfg.Load()
	changes := config.Diff(old, next)
	newSettings, newZones := settings(next), zones(next)
	// That a value was set can mean something even where it is that of the default:
	// mqueue_type.
	if len(changes) == 0 && reflect.DeepEqual(zones(old), newZones) {
		n.cfg.Store(next)
		return nil
	}
	if err := newSettings.Validate(); err != nil {
		return fmt.Errorf("apply configuration: %w", err)
	}
	for name, z := range newZones {
		if err := z.Validate(); err != nil {
			return fmt.Errorf("apply configuration: zone %s: %w", name, err)
		}
	}
	aclChanged := old.String("mqtt.acl_file") != next.String("mqtt.acl_file")
	if aclChanged {
		if err := n.acl.load(next.String("mqtt.acl_file")); err != nil {
			return fmt.Errorf("apply configuration: %w", err)
		}
	}
	if err := n.plugins.Refresh(ctx, next); err != nil {
		err = fmt.Errorf("apply configuration: %w", err)
		if aclChanged {
			err = errors.Join(err, n.acl.load(old.String("mqtt.acl_file")))
		}
		return errors.Join(err, n.plugins.Refresh(ctx, old))
	}
	if err := n.engine.Configure(newSettings); err != nil {
		return fmt.Errorf("apply configuration: %w", err)
	}
	for name, z := range newZones {
		if err := n.engine.SetZone(name, z); err != nil {
			return fmt.Errorf("apply configuration: zone %s: %w", name, err)
		}
	}
	n.cfg.Store(next)
	n.logging.configure(next)
	n.monitor.configure(next)
	if aclChanged {
		n.engine.CleanACLAll()
	}
	n.configureWebSocket(next)
	for _, c := range changes {
		n.log.Info("configuration changed", "key", c.Key, "old", c.Old, "new", c.New)
	}
	return nil
}

// ReloadConfig reads the configuration file again. A change of keys that take effect
// at the next start only, or a file that is not good, refuses all of it.
func (n *Node) ReloadConfig(ctx context.Context) error {
	if n.load == nil {
		return errors.New("the node was started without a configuration file")
	}
	n.applying.Lock()
	defer n.applying.Unlock()
	base, err := n.load()
	if err != nil {
		return fmt.Errorf("read configuration again: %w", err)
	}
	next, err := base.With(n.overrides())
	n.warnOverrides(err)
	var cold []string
	for _, c := range config.Diff(n.cfg.Load(), next) {
		if k, _, ok := n.table.Lookup(c.Key); ok && !c.Hot && k.Plugin == "" {
			cold = append(cold, c.Key)
		}
	}
	if len(cold) > 0 {
		return fmt.Errorf("a restart is needed for %s; nothing was changed", strings.Join(cold, ", "))
	}
	if err := n.apply(ctx, next); err != nil {
		return err
	}
	n.base.Store(base)
	return nil
}

// Reload reads again what is named: "acl", "certificates", "configuration"; without
// names the first two. It returns what was read; the rest stays as it was and is in
// the error.
func (n *Node) Reload(ctx context.Context, what ...string) ([]string, error) {
	if len(what) == 0 {
		what = []string{"acl", "certificates"}
	}
	var read []string
	var errs []error
	for _, w := range what {
		var err error
		switch w {
		case "acl":
			err = n.ReloadACL(ctx)
		case "certificates":
			err = n.ReloadCertificates()
		case "configuration":
			err = n.ReloadConfig(ctx)
		default:
			err = fmt.Errorf("%q is none of acl, certificates, configuration", w)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		read = append(read, w)
	}
	return read, errors.Join(errs...)
}
