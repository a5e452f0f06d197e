package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lacewing-mqtt/lacewing"

// floors says how high a package lives; the longest prefix counts. Imports go down
// only: to a lower floor or, where siblings says so, along the floor.
var floors = []struct {
	path  string
	floor int
}{
	{"", 6}, // main and what drives it from outside
	{"ctl", 5},
	{"node", 4},
	{"impl", 3}, {"dashboard", 3},
	{"impl/admin", 2},
	{"impl/websocket", 2},
	{"plugins", 1}, {"cluster", 1},
	{"engine", 0}, {"raftstore", 0}, {"config", 0}, {"gen", 0}, {"openapi", 0},
	{"conformance", 6}, {"examples", 6}, {"tools", 6},
}

// siblings are imports along a floor, downwards within one house. "x/..." stands for
// the packages below x.
var siblings = map[string][]string{
	"impl":                 {"impl/v2", "impl/v3"},
	"impl/v2":              {"openapi"},
	"impl/v3":              {"openapi"},
	"plugins/...":          {"plugins", "plugins/internal/..."},
	"engine":               {"engine/packet", "engine/topic", "engine/internal/..."},
	"engine/...":           {"engine", "engine/packet", "engine/topic", "engine/internal/..."},
	"engine/transport/...": {"engine/transport"},
	"engine/store/...":     {"engine/store"},
	"gen/...":              {"openapi"},
	"conformance/...":      {"conformance/...", "conformance"},
	"conformance":          {"conformance/..."},
	"tools/...":            {"tools/...", "conformance/..."},
}

func isIn(path, pattern string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(path, below+"/")
	}
	return path == pattern
}

func floorOf(path string) int {
	best, floor := -1, 0
	for _, f := range floors {
		if (f.path == "" || path == f.path || strings.HasPrefix(path, f.path+"/")) && len(f.path) > best {
			best, floor = len(f.path), f.floor
		}
	}
	return floor
}

func allowed(from, to string) bool {
	if floorOf(to) < floorOf(from) {
		return true
	}
	for house, targets := range siblings {
		if isIn(from, house) && slices.ContainsFunc(targets, func(t string) bool { return isIn(to, t) }) {
			return true
		}
	}
	return false
}

// forbidden are imports that the floors alone would let pass.
var forbidden = []struct{ from, to, why string }{
	{"engine", module + "/config", "the engine is used as a library"},
	{"engine", module + "/raftstore", "the engine is used as a library"},
	{"raftstore", module + "/config", "the store takes plain options"},
	{"raftstore", module + "/engine", "strangers on one floor"},
	{"config", module + "/engine", "strangers on one floor"},
	{"gen", module + "/impl", "generated code imports no package of ours"},
	{"impl/v2", module + "/engine", "adapters translate, nothing else"},
	{"impl/v3", module + "/engine", "adapters translate, nothing else"},
	{"impl/v2", module + "/raftstore", "adapters translate, nothing else"},
	{"impl/v3", module + "/raftstore", "adapters translate, nothing else"},
	{"impl/peer", module + "/engine", "adapters translate, nothing else"},
	{"impl/peer", module + "/raftstore", "adapters translate, nothing else"},
	{"engine", "net/http", "the engine speaks no HTTP"},
	{"engine", "github.com/", "the engine imports the standard library and itself"},
}

// TestImportsGoDown reads the imports of all packages, tests left out.
func TestImportsGoDown(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// Modules of their own, and what is no package, are not ours to judge.
			if _, err := os.Stat(filepath.Join(path, "go.mod")); path != "." && err == nil || d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != "." {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		from := filepath.ToSlash(filepath.Dir(path))
		if from == "." {
			from = ""
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			to, ours := strings.CutPrefix(name, module+"/")
			if ours && !allowed(from, to) {
				t.Errorf("%s imports %s: imports go down only", path, to)
			}
			for _, rule := range forbidden {
				in := from == rule.from || strings.HasPrefix(from, rule.from+"/")
				if rule.to == "github.com/" {
					if in && !ours && strings.Contains(strings.SplitN(name, "/", 2)[0], ".") {
						t.Errorf("%s imports %s: %s", path, name, rule.why)
					}
				} else if in && (name == rule.to || strings.HasPrefix(name, rule.to+"/")) {
					t.Errorf("%s imports %s: %s", path, name, rule.why)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files were looked at", files)
	}
}

func TestFloorRules(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"", "node", true}, {"node", "impl", true}, {"impl", "impl/admin", true}, {"impl/v3", "impl/admin", true}, {"impl/admin", "plugins", true},
		{"plugins/retainer", "plugins", true}, {"plugins/retainer", "engine", true}, {"engine/transport", "engine", true}, {"engine/acl", "engine/topic", true},
		{"engine", "plugins", false}, {"plugins", "impl/admin", false}, {"impl/admin", "impl", false}, {"impl", "node", false},
		{"plugins/retainer", "plugins/modules", false}, {"raftstore", "config", false}, {"node", "ctl", false}, {"impl/v2", "impl/v3", false},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("%s imports %s: got %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
