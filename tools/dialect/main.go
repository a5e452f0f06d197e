// Dialect derives the document of API v3 in the code dialect from the one in the items dialect.
//
//	go run ./tools/dialect -in openapi/v3.yaml -documented openapi/v3-code-examples.yaml -out openapi/v3-code.yaml
//
// Answers are wrapped as package openapi's Shape says: {"code", "data", "meta"} on HTTP 200, refusals included. Where
// the public document of the code dialect shows other sample values than the one of the items dialect, they are taken
// from the file named by -documented.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	"gopkg.in/yaml.v3"
)

func main() {
	in := flag.String("in", "openapi/v3.yaml", "document in the items dialect")
	documented := flag.String("documented", "openapi/v3-code-examples.yaml", "documented examples of the code dialect that differ from wrapped ones")
	out := flag.String("out", "openapi/v3-code.yaml", "document to write")
	flag.Parse()
	if err := run(*in, *documented, *out); err != nil {
		fmt.Fprintln(os.Stderr, "dialect:", err)
		os.Exit(1)
	}
}

func run(in, documented, out string) error {
	src, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	samples, err := os.ReadFile(documented)
	if err != nil {
		return err
	}
	doc, err := derive(src, samples)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	return os.WriteFile(out, doc, 0o644)
}

// derive returns the document in the code dialect.
func derive(items, documented []byte) ([]byte, error) {
	var root, samples yaml.Node
	if err := yaml.Unmarshal(items, &root); err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(documented, &samples); err != nil {
		return nil, fmt.Errorf("documented examples: %w", err)
	}
	d := document{root: root.Content[0], seen: make(map[string]bool)}
	if len(samples.Content) > 0 {
		d.samples = samples.Content[0]
	}
	if err := d.derive(); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	buf.WriteString("# Derived from v3.yaml by tools/dialect (make gen). Change that document, not this one.\n")
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return nil, err
	}
	return buf.Bytes(), enc.Close()
}
