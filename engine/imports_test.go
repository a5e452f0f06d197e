package engine

import (
	"go/build"
	"path"
	"slices"
	"strings"
	"testing"
)

// The core does no I/O: neither it nor anything of this module that it stands on imports a package for files, sockets or
// processes. net/netip only knows addresses.
func TestNoIO(t *testing.T) {
	const module = "github.com/lacewing-mqtt/lacewing/"
	forbidden := func(p string) bool {
		switch p {
		case "net", "os", "syscall", "unsafe", "io/ioutil", "io/fs", "database/sql", "plugin", "testing":
			return true
		case "net/netip":
			return false
		}
		return strings.HasPrefix(p, "net/") || strings.HasPrefix(p, "os/") || strings.HasPrefix(p, "golang.org/")
	}
	seen := map[string]bool{}
	var visit func(dir, name string)
	visit = func(dir, name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range p.Imports {
			rest, ours := strings.CutPrefix(imp, module)
			switch {
			case ours:
				sub, below := strings.CutPrefix(rest, "engine/")
				if !below && rest != "engine" {
					t.Errorf("%s imports %s, which is not below the engine", name, imp)
					continue
				}
				visit(path.Join(".", sub), imp)
			case strings.Contains(strings.SplitN(imp, "/", 2)[0], "."):
				t.Errorf("%s imports the module %s", name, imp)
			case forbidden(imp):
				t.Errorf("%s imports %s", name, imp)
			}
		}
	}
	visit(".", module+"engine")
	for _, sub := range []string{"packet", "topic", "internal/ordered"} {
		if !seen[module+"engine/"+sub] {
			t.Errorf("engine/%s was not looked at: %v", sub, slices.Collect(func(yield func(string) bool) {
				for s := range seen {
					yield(s)
				}
			}))
		}
	}
	seen[module+"engine"] = true
	visit("acl", module+"engine/acl")
}
