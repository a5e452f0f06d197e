// Package mutants proves that a suite can fail: it builds the broker with one fault at a time, by an overlay over the sources, and runs the
// test of the suite that has to find it.
package mutants

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Sign is what a test prints when it has found that something promised is broken. A test that fails without it has failed for another
// reason.
const Sign = "BROKEN PROMISES"

// Mutation is a fault that is put into the broker, and the test that has to find it.
type Mutation struct {
	Name     string
	File     string // from the root of the module
	Old, New string // Old must be there exactly once
	Test     string
}

// Suite is what has to find faults.
type Suite struct {
	Package   string            // import path from the root of the module, with ./
	Programs  map[string]string // packages of the programs that it tries, by the environment variable that names them
	Mutations []Mutation
}

// Main is the program of a suite: it fails when a test passes, and when a fault does not fit the sources any more.
func (s Suite) Main() {
	times := flag.Int("times", 3, "runs of each fault")
	flag.Parse()
	if err := s.run(*times); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func (s Suite) run(times int) error {
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
	for _, name := range s.tests() { // a test that fails by itself finds nothing
		if out, err := s.attempt(root, name, nil); err != nil {
			return fmt.Errorf("%s fails without a fault:\n%s", name, out)
		}
		fmt.Printf("%-42s %-16s passes\n", "no fault", name)
	}
	survived := 0
	for i, m := range s.Mutations {
		env, err := s.build(m, root, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		for n := range times {
			begun := time.Now()
			out, err := s.attempt(root, m.Test, env)
			verdict := "found"
			switch {
			case err == nil:
				verdict = "NOT FOUND"
				survived++
			case !bytes.Contains(out, []byte(Sign)):
				return fmt.Errorf("%s: %s fails, but not because of a broken promise:\n%s", m.Name, m.Test, out)
			}
			fmt.Printf("%-42s %-16s run %d: %s (%v)\n", m.Name, m.Test, n+1, verdict, time.Since(begun).Round(time.Millisecond))
		}
	}
	if survived > 0 {
		return fmt.Errorf("%d runs have not found the fault", survived)
	}
	fmt.Printf("%d faults found in %d runs each\n", len(s.Mutations), times)
	return nil
}

// tests are the tests that have to find something, each once.
func (s Suite) tests() []string {
	var names []string
	for _, m := range s.Mutations {
		if !slices.Contains(names, m.Test) {
			names = append(names, m.Test)
		}
	}
	return names
}

// attempt runs one test of the suite.
func (s Suite) attempt(root, name string, env []string) ([]byte, error) {
	test := exec.Command("go", "test", "-count=1", "-timeout=10m", "-run", "^"+name+"$", s.Package)
	test.Dir, test.Env = root, append(os.Environ(), env...)
	return test.CombinedOutput()
}

// Apply gives the source at path with the fault.
func (m Mutation) Apply(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.Old); n != 1 {
		return "", fmt.Errorf("%s has the text to replace %d times, want once: %s", m.File, n, m.Old)
	}
	return strings.Replace(string(text), m.Old, m.New, 1), nil
}

// build makes the programs with the fault and gives the environment by which the suite takes them.
func (s Suite) build(m Mutation, root, dir string) ([]string, error) {
	path := filepath.Join(root, filepath.FromSlash(m.File))
	text, err := m.Apply(path)
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
	for name, pkg := range s.Programs {
		program := filepath.Join(dir, strings.ToLower(name))
		build := exec.Command("go", "build", "-overlay", overlay, "-o", program, pkg)
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
		env = append(env, name+"="+program)
	}
	return env, nil
}

// Fits says of each fault that has no place in the tree at root, or more than one, that it has not.
func (s Suite) Fits(root string) error {
	var errs []error
	for _, m := range s.Mutations {
		if _, err := m.Apply(filepath.Join(root, m.File)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}
