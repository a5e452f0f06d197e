package main

import (
	"path/filepath"
	"testing"
)

// TestMutationsFit holds the faults against the tree: each has its place in it, once.
func TestMutationsFit(t *testing.T) {
	for _, m := range mutations {
		if _, err := m.apply(filepath.Join("../../..", m.file)); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}
