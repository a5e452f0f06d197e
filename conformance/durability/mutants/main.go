// Command mutants proves that the durability suite can fail: it builds the broker with one fault at a time, by an overlay over the
// sources, and runs the test that has to find it. It fails when a test passes, and when a fault does not fit the sources any more.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sign is what a test prints when it has found that something acknowledged is lost. A test that fails without it has failed for
// another reason.
const sign = "BROKEN PROMISES"

func main() {
	times := flag.Int("times", 3, "runs of each fault")
	flag.Parse()
	if err := run(*times); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(times int) error {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	root := strings.TrimSpace(string(out))
	dir, err := os.MkdirTemp("", "lacewing-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, name := range tests() { // a test that fails by itself finds nothing
		if out, err := attempt(root, name, nil); err != nil {
			return fmt.Errorf("%s fails without a fault:\n%s", name, out)
		}
		fmt.Printf("%-42s %-16s passes\n", "no fault", name)
	}
	survived := 0
	for i, m := range mutations {
		env, err := m.build(root, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		for n := range times {
			begun := time.Now()
			out, err := attempt(root, m.test, env)
			verdict := "found"
			switch {
			case err == nil:
				verdict = "NOT FOUND"
				survived++
			case !bytes.Contains(out, []byte(sign)):
				return fmt.Errorf("%s: %s fails, but not because of what is lost:\n%s", m.name, m.test, out)
			}
			fmt.Printf("%-42s %-16s run %d: %s (%v)\n", m.name, m.test, n+1, verdict, time.Since(begun).Round(time.Millisecond))
		}
	}
	if survived > 0 {
		return fmt.Errorf("%d runs have not found the fault", survived)
	}
	fmt.Printf("%d faults found in %d runs each\n", len(mutations), times)
	return nil
}

// tests are the tests that have to find something, each once.
func tests() []string {
	var names []string
	for _, m := range mutations {
		if !slices.Contains(names, m.test) {
			names = append(names, m.test)
		}
	}
	return names
}

// attempt runs one test of the suite.
func attempt(root, name string, env []string) ([]byte, error) {
	test := exec.Command("go", "test", "-count=1", "-timeout=5m", "-run", "^"+name+"$", "./conformance/durability")
	test.Dir, test.Env = root, append(os.Environ(), env...)
	return test.CombinedOutput()
}

// apply gives the source at path with the fault.
func (m mutation) apply(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return "", fmt.Errorf("%s has the text to replace %d times, want once: %s", m.file, n, m.old)
	}
	return strings.Replace(string(text), m.old, m.new, 1), nil
}

// build makes the programs with the fault and gives the environment by which the suite takes them.
func (m mutation) build(root, dir string) ([]string, error) {
	path := filepath.Join(root, filepath.FromSlash(m.file))
	text, err := m.apply(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return nil, err
	}
	var env []string
	for name, pkg := range map[string]string{"CHILD": "./conformance/durability/child", "COMMAND": "."} {
		program := filepath.Join(dir, strings.ToLower(name))
		build := exec.Command("go", "build", "-overlay", overlay, "-o", program, pkg)
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		env = append(env, "LACEWING_DURABILITY_"+name+"="+program)
	}
	return env, nil
}
