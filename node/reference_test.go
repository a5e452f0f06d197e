package node_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/lacewing-mqtt/lacewing/node"
)

var updateReference = flag.Bool("update-reference", false, "write docs/config.md")

// TestReference compares docs/config.md with what the table prints.
func TestReference(t *testing.T) {
	const name = "../docs/config.md"
	var got bytes.Buffer
	if err := node.Table().Reference(&got); err != nil {
		t.Fatal(err)
	}
	if *updateReference {
		if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is not what is printed: go run . config reference >docs/config.md", name)
	}
}
