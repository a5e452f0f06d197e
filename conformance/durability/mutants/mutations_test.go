package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutationsFit holds the faults against the tree: each has its place in it, once.
func TestMutationsFit(t *testing.T) {
	for _, m := range mutations {
		text, err := os.ReadFile(filepath.Join("../../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), m.old); n != 1 {
			t.Errorf("%s: %s has %q %d times, want once", m.name, m.file, m.old, n)
		}
	}
}
