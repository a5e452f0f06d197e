package main

import (
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Small helpers on YAML nodes, which keep the order and the style of the source.

func scalar(v string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v} }

func number(v int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(v)}
}

// quoted is a scalar that reads as a string though it looks like a number, such as a status.
func quoted(v string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v, Style: yaml.SingleQuotedStyle}
}

// mapping makes a block mapping of alternating keys (string) and values (string or *yaml.Node).
func mapping(kv ...any) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i < len(kv); i += 2 {
		value, ok := kv[i+1].(*yaml.Node)
		if !ok {
			value = scalar(kv[i+1].(string))
		}
		m.Content = append(m.Content, scalar(kv[i].(string)), value)
	}
	return m
}

func flow(n *yaml.Node) *yaml.Node { n.Style = yaml.FlowStyle; return n }

func sequence(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items}
}

// ref is a reference to a component.
func ref(kind, name string) *yaml.Node {
	return flow(mapping("$ref", quoted("#/components/"+kind+"/"+name)))
}

// refName is the last segment of a reference, or "".
func refName(n *yaml.Node) string {
	r := get(n, "$ref")
	if r == nil {
		return ""
	}
	return r.Value[strings.LastIndexByte(r.Value, '/')+1:]
}

func get(m *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		if m == nil || m.Kind != yaml.MappingNode {
			return nil
		}
		i := index(m, key)
		if i < 0 {
			return nil
		}
		m = m.Content[i+1]
	}
	return m
}

func index(m *yaml.Node, key string) int {
	for i := 0; i < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return i
		}
	}
	return -1
}

// set replaces the value of a key in its place, or adds the key at the end.
func set(m *yaml.Node, key string, value *yaml.Node) {
	if i := index(m, key); i >= 0 {
		m.Content[i+1] = value
		return
	}
	m.Content = append(m.Content, scalar(key), value)
}

func remove(m *yaml.Node, key string) {
	if i := index(m, key); i >= 0 {
		m.Content = slices.Delete(m.Content, i, i+2)
	}
}

func text(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	return n.Value
}

// each calls f for every key and value of a mapping.
func each(m *yaml.Node, f func(key string, value *yaml.Node)) {
	if m == nil {
		return
	}
	for i := 0; i < len(m.Content); i += 2 {
		f(m.Content[i].Value, m.Content[i+1])
	}
}

// walk visits a node and everything below it.
func walk(n *yaml.Node, f func(*yaml.Node)) {
	f(n)
	for _, c := range n.Content {
		walk(c, f)
	}
}
