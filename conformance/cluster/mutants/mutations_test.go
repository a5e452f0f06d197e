package main

import "testing"

// TestMutationsFit holds the faults against the tree: each has its place in it, once.
func TestMutationsFit(t *testing.T) {
	if err := suite.Fits("../../.."); err != nil {
		t.Error(err)
	}
}
