package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Options are what a Set is made from.
type Options struct {
	Node   string
	Engine *engine.Engine
	Store  *raftstore.Store
	Logger *slog.Logger
	States States
}

// States is the lasting memory of a Set: which plugins are active on this node
// and how they are configured. Writes return when they would survive a crash.
type States interface {
	// Active returns the recorded state of a plugin; known is false for one that
	// was never switched.
	Active(name string) (active, known bool)
	SetActive(ctx context.Context, name string, active bool) error

	// Stored returns the configuration that Store stored, canonical keys with their
	// text; known is false when none was.
	Stored(name string) (set map[string]string, known bool)
	Store(ctx context.Context, name string, set map[string]string) error

	// Config is the present configuration of the node, stored ones included.
	Config() *config.Config
	// Preview is the configuration as it would be with set stored for a plugin.
	Preview(name string, set map[string]string) (*config.Config, error)
}

// Set holds the plugins of one node. Its methods may be called from any goroutine;
// starts and stops are done one at a time.
type Set struct {
	opt   Options
	order []string // as given to NewSet: the order of starting

	mu      sync.Mutex // held over starts and stops
	closed  bool
	entries map[string]*entry
}

type entry struct {
	Descriptor
	running Plugin         // nil: not active
	config  *config.Config // that it runs with
}

// NewSet makes a Set of the given plugins; none is started. It panics on two
// descriptors of one name and on a name that no document has.
func NewSet(opt Options, descriptors ...Descriptor) *Set {
	s := &Set{opt: opt, entries: make(map[string]*entry)}
	for _, d := range descriptors {
		if !documented[d.Name] || s.entries[d.Name] != nil {
			panic("plugins: descriptor " + d.Name + " is repeated or not documented")
		}
		s.entries[d.Name] = &entry{Descriptor: d}
		s.order = append(s.order, d.Name)
	}
	return s
}

// Start starts every plugin that the stored state, or without one its default,
// says is active. The first failure is returned, after what had been started is
// stopped again: a broker without its authentication would be an open one.
func (s *Set) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.order {
		e := s.entries[name]
		active, known := s.opt.States.Active(name)
		if !known {
			active = e.Default
		}
		if !active || e.running != nil {
			continue
		}
		if err := s.start(ctx, e, s.opt.States.Config()); err != nil {
			return errors.Join(err, s.stopAll(ctx))
		}
	}
	return nil
}

// Sync brings the plugins to the recorded states, after those were changed by others:
// a restored backup, another node. A plugin that guards itself stays. Every plugin is
// tried.
func (s *Set) Sync(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	var errs []error
	for _, name := range s.order {
		e := s.entries[name]
		active, known := s.opt.States.Active(name)
		if !known {
			active = e.Default
		}
		switch {
		case active && e.running == nil:
			errs = append(errs, s.start(ctx, e, s.opt.States.Config()))
		case !active && e.running != nil:
			if g, ok := e.running.(Guard); ok && g.MayStop(ctx) != nil {
				continue
			}
			errs = append(errs, s.stop(ctx, e))
		}
	}
	return errors.Join(errs...)
}

// Close stops the running plugins, last started first, without changing their
// recorded state.
func (s *Set) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.stopAll(ctx)
}

func (s *Set) stopAll(ctx context.Context) error {
	var errs []error
	for _, name := range slices.Backward(s.order) {
		if err := s.stop(ctx, s.entries[name]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// List returns every plugin of this build, ascending by name.
func (s *Set) List() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := make([]Status, 0, len(s.order))
	for _, e := range s.entries {
		rows = append(rows, Status{Name: e.Name, V2: e.V2, V3: e.V3, Active: e.running != nil})
	}
	slices.SortFunc(rows, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

// Running returns the running plugin of that name, for calls that a plugin offers
// beyond this package.
func (s *Set) Running(name string) (Plugin, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[BareName(name)]; e != nil && e.running != nil {
		return e.running, true
	}
	return nil, false
}

// Load starts a plugin and records that it is active. Errors: ErrUnknown,
// ErrNotInstalled, ErrAlreadyStarted, that of the plugin, that of the store; after
// each of them the plugin is as it was.
func (s *Set) Load(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(name)
	if err != nil {
		return err
	}
	if e.running != nil {
		return named(e.Name, ErrAlreadyStarted)
	}
	if err := s.start(ctx, e, s.opt.States.Config()); err != nil {
		return err
	}
	if err := s.opt.States.SetActive(ctx, e.Name, true); err != nil {
		return named(e.Name, errors.Join(fmt.Errorf("record state: %w", err), s.stop(ctx, e)))
	}
	return nil
}

// Unload records that a plugin is not active and stops it. Errors: ErrUnknown,
// ErrNotInstalled, ErrNotStarted, ErrInUse, that of the store. A plugin that fails
// to stop cleanly is dropped all the same, and its error returned.
func (s *Set) Unload(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.findActive(name)
	if err != nil {
		return err
	}
	if g, ok := e.running.(Guard); ok {
		if err := g.MayStop(ctx); err != nil {
			return named(e.Name, err)
		}
	}
	if err := s.opt.States.SetActive(ctx, e.Name, false); err != nil {
		return named(e.Name, fmt.Errorf("record state: %w", err))
	}
	return s.stop(ctx, e)
}

// findActive is find for a plugin that runs; ErrNotStarted for one that does not.
// Called with mu held.
func (s *Set) findActive(name string) (*entry, error) {
	e, err := s.find(name)
	if err == nil && e.running == nil {
		err = named(e.Name, ErrNotStarted)
	}
	return e, err
}

// Reload stops an active plugin and starts it again with its configuration read
// anew.
func (s *Set) Reload(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.findActive(name)
	if err != nil {
		return err
	}
	cfg := s.opt.States.Config()
	return s.restart(ctx, e, cfg, cfg)
}

// Config returns the configuration of a plugin: first the keys that have a value,
// then those that only the table knows. Secrets are stars.
func (s *Set) Config(name string) ([]config.PluginRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(name)
	if err != nil {
		return nil, err
	}
	return s.opt.States.Config().PluginRows(e.Name), nil
}

// SetConfig replaces the whole configuration of a plugin. The set takes the place
// of what file, environment and flags say; a key left out has its default. An
// active plugin has taken the new values when SetConfig returns; when it refuses
// them it goes on with the old ones and nothing is stored. Errors: ErrUnknown,
// ErrNotInstalled, ErrBadConfig, that of the store.
func (s *Set) SetConfig(ctx context.Context, name string, set map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(name)
	if err != nil {
		return err
	}
	return s.setConfig(ctx, e, set)
}

// setConfig is SetConfig. Called with mu held.
func (s *Set) setConfig(ctx context.Context, e *entry, set map[string]string) error {
	before := s.opt.States.Config()
	set, err := before.CheckPlugin(e.Name, set)
	if err != nil {
		return named(e.Name, fmt.Errorf("%w: %w", ErrBadConfig, err))
	}
	after, err := s.opt.States.Preview(e.Name, set)
	if err != nil {
		return named(e.Name, fmt.Errorf("%w: %w", ErrBadConfig, err))
	}
	if e.running != nil {
		if err := s.apply(ctx, e, before, after); err != nil {
			return fmt.Errorf("%w: %w", ErrBadConfig, err)
		}
	}
	if err := s.opt.States.Store(ctx, e.Name, set); err != nil {
		err = fmt.Errorf("store configuration: %w", err)
		if e.running != nil {
			err = errors.Join(err, s.apply(ctx, e, after, before))
		}
		return named(e.Name, err)
	}
	return nil
}

// Refresh brings the active plugins to a configuration: those that run with other
// values of their keys. Every plugin is tried; one that refuses goes on with its
// old values.
func (s *Set) Refresh(ctx context.Context, to *config.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range s.order {
		if e := s.entries[name]; e.running != nil && differs(e.config, to, name) {
			if err := s.apply(ctx, e, e.config, to); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// differs reports whether two configurations differ in a key of a plugin.
func differs(from, to *config.Config, name string) bool {
	if from == to {
		return false
	}
	return slices.ContainsFunc(config.Diff(from, to), func(c config.Change) bool {
		k, _, ok := to.Table().Lookup(c.Key)
		return ok && k.Plugin == name
	})
}

// find returns the entry of a name with or without prefix. Called with mu held.
func (s *Set) find(name string) (*entry, error) {
	bare := BareName(name)
	if e := s.entries[bare]; e != nil {
		if s.closed {
			return nil, named(bare, errors.New("the node is stopping"))
		}
		return e, nil
	}
	if documented[bare] {
		return nil, named(bare, ErrNotInstalled)
	}
	return nil, named(bare, ErrUnknown)
}

// start makes and starts a new instance. Called with mu held.
func (s *Set) start(ctx context.Context, e *entry, cfg *config.Config) error {
	p := e.New()
	err := p.Start(ctx, Env{
		Node:   s.opt.Node,
		Engine: s.opt.Engine,
		Store:  s.opt.Store,
		Config: cfg,
		Logger: s.opt.Logger.With("plugin", e.Name),
	})
	if err != nil {
		return named(e.Name, fmt.Errorf("start: %w", err))
	}
	e.running, e.config = p, cfg
	return nil
}

// stop stops the instance that runs, if any. Called with mu held.
func (s *Set) stop(ctx context.Context, e *entry) error {
	p := e.running
	if p == nil {
		return nil
	}
	e.running = nil
	if err := p.Stop(ctx); err != nil {
		return named(e.Name, fmt.Errorf("stop: %w", err))
	}
	return nil
}

// apply brings a running plugin from one configuration to another; on an error it
// runs with the old one. Called with mu held.
func (s *Set) apply(ctx context.Context, e *entry, from, to *config.Config) error {
	c, ok := e.running.(Configurer)
	if !ok {
		return s.restart(ctx, e, from, to)
	}
	if err := c.Configure(ctx, to); err != nil {
		return named(e.Name, err)
	}
	e.config = to
	return nil
}

// restart stops the instance and starts one with the values to; if that fails, one
// with the values from. Called with mu held.
func (s *Set) restart(ctx context.Context, e *entry, from, to *config.Config) error {
	if err := s.stop(ctx, e); err != nil {
		s.opt.Logger.Warn("plugin did not stop cleanly", "plugin", e.Name, "err", err)
	}
	err := s.start(ctx, e, to)
	if err == nil {
		return nil
	}
	if back := s.start(ctx, e, from); back != nil {
		return errors.Join(err, fmt.Errorf("and with the old configuration: %w", back))
	}
	return err
}
