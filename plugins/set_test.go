package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/lacewing-mqtt/lacewing/config"
)

// memory is States without a disk.
type memory struct {
	base   *config.Config
	now    *config.Config
	active map[string]bool
	stored map[string]map[string]string
	fail   error // of every write
}

func (m *memory) Active(name string) (bool, bool) { a, ok := m.active[name]; return a, ok }

func (m *memory) SetActive(_ context.Context, name string, active bool) error {
	if m.fail == nil {
		m.active[name] = active
	}
	return m.fail
}

func (m *memory) Stored(name string) (map[string]string, bool) { s, ok := m.stored[name]; return s, ok }

func (m *memory) Store(_ context.Context, name string, set map[string]string) error {
	if m.fail != nil {
		return m.fail
	}
	m.stored[name] = set
	var err error
	m.now, err = m.Preview(name, set)
	return err
}

func (m *memory) Config() *config.Config { return m.now }

func (m *memory) Preview(name string, set map[string]string) (*config.Config, error) {
	o := config.Overrides{Plugin: maps.Clone(set), Replaced: []string{name}}
	for other, s := range m.stored {
		if other != name {
			maps.Copy(o.Plugin, s)
			o.Replaced = append(o.Replaced, other)
		}
	}
	return m.base.With(o)
}

// recorder is a plugin that writes down what happens to it.
type recorder struct {
	name  string
	log   *[]string
	wrong map[string]error // by event: "start 1", "stop"
	guard error
}

func (r *recorder) event(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	*r.log = append(*r.log, r.name+" "+text)
	return r.wrong[text]
}

func (r *recorder) Start(_ context.Context, env Env) error {
	return r.event("start %d", env.Config.Int(r.name+".n"))
}
func (r *recorder) Stop(context.Context) error    { return r.event("stop") }
func (r *recorder) MayStop(context.Context) error { return r.guard }

// hot is a recorder that is a Configurer.
type hot struct{ *recorder }

func (h hot) Configure(_ context.Context, cfg *config.Config) error {
	return h.event("configure %d", cfg.Int(h.name+".n"))
}

// fixture is a set of two plugins: retainer, which takes changes while it runs, and
// recon, which is restarted.
type fixture struct {
	*Set
	states *memory
	log    []string
	hot    *recorder
	cold   *recorder
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	key := func(plugin string) config.Key {
		return config.Key{Name: plugin + ".n", Type: config.Integer, Default: "1", Min: 0, Max: 100, Plugin: plugin, Doc: "A number."}
	}
	keys := []config.Key{key("retainer"), key("recon"), {Name: "recon.secret", Type: config.SecretT, Plugin: "recon", Doc: "A secret."}}
	table, err := config.NewTable(keys)
	if err != nil {
		t.Fatal(err)
	}
	base, err := config.Load(table, config.LoadOptions{Set: []string{"recon.n=5", "recon.secret=hidden"}})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{states: &memory{base: base, now: base, active: map[string]bool{}, stored: map[string]map[string]string{}}}
	f.hot = &recorder{name: "retainer", log: &f.log, wrong: map[string]error{}}
	f.cold = &recorder{name: "recon", log: &f.log, wrong: map[string]error{}}
	f.Set = NewSet(Options{Logger: slog.New(slog.DiscardHandler), States: f.states},
		Descriptor{Name: "retainer", Default: true, New: func() Plugin { return hot{f.hot} }},
		Descriptor{Name: "recon", New: func() Plugin { return f.cold }},
	)
	return f
}

func (f *fixture) want(t *testing.T, events ...string) {
	t.Helper()
	if !slices.Equal(f.log, events) {
		t.Errorf("got events %q, want %q", f.log, events)
	}
	f.log = nil
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func TestLoadAndUnload(t *testing.T) {
	ctx := t.Context()
	f := newFixture(t)
	wantError(t, f.Start(ctx), nil)
	f.want(t, "retainer start 1")
	wantError(t, f.Load(ctx, "emqx_retainer"), ErrAlreadyStarted)
	wantError(t, f.Unload(ctx, "emq_recon"), ErrNotStarted)
	wantError(t, f.Load(ctx, "emq_recon"), nil)
	f.want(t, "recon start 5")
	wantError(t, f.Unload(ctx, "retainer"), nil)
	f.want(t, "retainer stop")
	if want := map[string]bool{"recon": true, "retainer": false}; !maps.Equal(f.states.active, want) {
		t.Errorf("got states %v, want %v", f.states.active, want)
	}
	for name, want := range map[string]error{"emqx_coap": ErrNotInstalled, "emq_lua_hook": ErrNotInstalled, "emqx_nosuch": ErrUnknown, "": ErrUnknown} {
		wantError(t, f.Load(ctx, name), want)
		wantError(t, f.Unload(ctx, name), want)
		_, err := f.Config(name)
		wantError(t, err, want)
	}
	wantError(t, f.Close(ctx), nil)
	f.want(t, "recon stop")
	if f.Load(ctx, "retainer") == nil {
		t.Error("a closed set has loaded a plugin")
	}
	if !f.states.active["recon"] {
		t.Error("closing the set has changed a recorded state")
	}
}

func TestFailures(t *testing.T) {
	ctx, broken := t.Context(), errors.New("broken")
	t.Run("a plugin that does not start stays off", func(t *testing.T) {
		f := newFixture(t)
		f.cold.wrong["start 5"] = broken
		wantError(t, f.Load(ctx, "recon"), broken)
		if f.states.active["recon"] || f.List()[0].Active {
			t.Error("it counts as active")
		}
	})
	t.Run("a state that is not recorded is not kept", func(t *testing.T) {
		f := newFixture(t)
		f.states.fail = broken
		wantError(t, f.Load(ctx, "recon"), broken)
		f.want(t, "recon start 5", "recon stop")
	})
	t.Run("an unload that is not recorded does not happen", func(t *testing.T) {
		f := newFixture(t)
		wantError(t, f.Start(ctx), nil)
		f.states.fail = broken
		wantError(t, f.Unload(ctx, "retainer"), broken)
		f.want(t, "retainer start 1")
	})
	t.Run("a guard is asked", func(t *testing.T) {
		f := newFixture(t)
		f.hot.guard = ErrInUse
		wantError(t, f.Start(ctx), nil)
		wantError(t, f.Unload(ctx, "recon"), ErrNotStarted)
		f.cold.guard = ErrInUse
		wantError(t, f.Load(ctx, "recon"), nil)
		wantError(t, f.Unload(ctx, "recon"), ErrInUse)
		f.want(t, "retainer start 1", "recon start 5")
	})
	t.Run("a start that fails stops what was started", func(t *testing.T) {
		f := newFixture(t)
		f.states.active["recon"] = true
		f.cold.wrong["start 5"] = broken
		wantError(t, f.Start(ctx), broken)
		f.want(t, "retainer start 1", "recon start 5", "retainer stop")
	})
}

func TestSetConfig(t *testing.T) {
	ctx, broken := t.Context(), errors.New("broken")
	t.Run("a configurer goes on", func(t *testing.T) {
		f := newFixture(t)
		wantError(t, f.Start(ctx), nil)
		wantError(t, f.SetConfig(ctx, "emqx_retainer", map[string]string{"retainer.n": "7"}), nil)
		f.want(t, "retainer start 1", "retainer configure 7")
	})
	t.Run("others are restarted", func(t *testing.T) {
		f := newFixture(t)
		wantError(t, f.Load(ctx, "recon"), nil)
		wantError(t, f.SetConfig(ctx, "recon", map[string]string{"recon.n": "7"}), nil)
		f.want(t, "recon start 5", "recon stop", "recon start 7")
		wantError(t, f.Reload(ctx, "recon"), nil)
		f.want(t, "recon stop", "recon start 7")
	})
	t.Run("the set replaces what the file says", func(t *testing.T) {
		f := newFixture(t)
		wantError(t, f.SetConfig(ctx, "recon", map[string]string{}), nil)
		wantError(t, f.Load(ctx, "recon"), nil)
		f.want(t, "recon start 1")
	})
	t.Run("a failure goes back", func(t *testing.T) {
		f := newFixture(t)
		f.cold.wrong["start 7"] = broken
		wantError(t, f.Load(ctx, "recon"), nil)
		err := f.SetConfig(ctx, "recon", map[string]string{"recon.n": "7"})
		wantError(t, err, ErrBadConfig)
		wantError(t, err, broken)
		f.want(t, "recon start 5", "recon stop", "recon start 7", "recon start 5")
		if _, stored := f.states.Stored("recon"); stored {
			t.Error("a refused configuration was stored")
		}
	})
	t.Run("what is not stored is not kept", func(t *testing.T) {
		f := newFixture(t)
		wantError(t, f.Start(ctx), nil)
		f.states.fail = broken
		wantError(t, f.SetConfig(ctx, "retainer", map[string]string{"retainer.n": "7"}), broken)
		f.want(t, "retainer start 1", "retainer configure 7", "retainer configure 1")
	})
	t.Run("bad sets change nothing", func(t *testing.T) {
		f := newFixture(t)
		wantError(t, f.Load(ctx, "recon"), nil)
		for _, set := range []map[string]string{{"recon.n": "many"}, {"recon.n": "101"}, {"retainer.n": "1"}, {"nosuch": "1"}} {
			wantError(t, f.SetConfig(ctx, "recon", set), ErrBadConfig)
		}
		f.want(t, "recon start 5")
	})
	t.Run("rows", func(t *testing.T) {
		f := newFixture(t)
		rows, err := f.Config("recon")
		wantError(t, err, nil)
		want := []config.PluginRow{{Key: "recon.n", Value: "5", Required: true}, {Key: "recon.secret", Value: config.Stars, Required: true}}
		if !slices.Equal(rows, want) {
			t.Errorf("got %v, want %v", rows, want)
		}
		// Sent back as they were shown, the secret stays.
		wantError(t, f.SetConfig(ctx, "recon", map[string]string{"recon.n": "6", "recon.secret": config.Stars}), nil)
		if got := f.states.now.Secret("recon.secret").Reveal(); got != "hidden" {
			t.Errorf("the secret became %q", got)
		}
	})
}

func TestRefreshAndSync(t *testing.T) {
	ctx := t.Context()
	f := newFixture(t)
	wantError(t, f.Start(ctx), nil)
	wantError(t, f.Load(ctx, "recon"), nil)
	next, err := f.states.base.With(config.Overrides{Cluster: map[string]string{"retainer.n": "9"}})
	wantError(t, err, nil)
	f.states.now = next
	f.log = nil
	wantError(t, f.Refresh(ctx, next), nil)
	f.want(t, "retainer configure 9") // recon has nothing new
	wantError(t, f.Refresh(ctx, next), nil)
	f.want(t)
	f.states.active = map[string]bool{"retainer": false} // recon has its default: off
	wantError(t, f.Sync(ctx), nil)
	f.want(t, "retainer stop", "recon stop")
	f.states.active = map[string]bool{"recon": true}
	wantError(t, f.Sync(ctx), nil)
	f.want(t, "retainer start 9", "recon start 5")
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"emq_retainer": "retainer", "emqx_auth_http": "auth_http", "recon": "recon", "emqx_": "", "xemq_a": "xemq_a"} {
		if got := BareName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := Caller(WithCaller(t.Context(), "dashboard")); got != "dashboard" {
		t.Errorf("got caller %q, want dashboard", got)
	}
	if got := Caller(t.Context()); got != "" {
		t.Errorf("got caller %q, want none", got)
	}
}
