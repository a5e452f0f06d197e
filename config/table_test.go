package config_test

import (
	"slices"
	"testing"

	"github.com/lacewing-mqtt/lacewing/config"
)

func coreTable(t testing.TB) *config.Table {
	t.Helper()
	table, err := config.NewTable(config.Core())
	if err != nil {
		t.Fatalf("core table: %v", err)
	}
	return table
}

func load(t testing.TB, o config.LoadOptions) *config.Config {
	t.Helper()
	c, err := config.Load(coreTable(t), o)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	c := load(t, config.LoadOptions{})
	if got, want := len(c.Listeners()), 5; got != want {
		t.Errorf("listeners: got %d, want %d", got, want)
	}
	if got := c.Zones(); !slices.Equal(got, []string{"external", "internal"}) {
		t.Errorf("zones: got %v", got)
	}
}
