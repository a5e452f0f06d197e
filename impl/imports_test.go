package impl

import (
	"go/build"
	"slices"
	"strings"
	"testing"
)

// TestImportsGoDown keeps the adapters thin: they know the service and their
// generated package, and the service knows nothing of HTTP.
func TestImportsGoDown(t *testing.T) {
	const module = "github.com/lacewing-mqtt/lacewing/"
	for dir, allowed := range map[string][]string{
		"v2":    {"gen/v2", "impl/admin"},
		"v3":    {"gen/v3", "impl/admin"},
		"peer":  {"gen/node", "impl/admin"},
		"admin": {"config", "engine", "engine/packet", "engine/topic", "plugins", "raftstore"},
	} {
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			ours, found := strings.CutPrefix(path, module)
			if found && !slices.Contains(allowed, ours) {
				t.Errorf("impl/%s imports %s", dir, path)
			}
			if dir == "admin" && strings.Contains(path, "http") {
				t.Errorf("impl/admin imports %s", path)
			}
		}
	}
}
