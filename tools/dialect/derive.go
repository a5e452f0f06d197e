package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

const description = `The management API of EMQ X 3.0, as Lacewing answers it in the *code* dialect, that of releases 3.0 to 3.2 (` + "`management.v3_dialect = code`" + `).

Every call that is routed answers HTTP 200 with ` + "`{\"code\": 0, \"data\": ...}`" + `, a paged list with ` + "`meta`" + ` beside it, success without data with ` + "`{\"code\": 0}`" + `. A refused call, a missing or an ill-typed parameter answers ` + "`{\"code\": N, \"message\": ...}`" + `. The only exception is a cluster without a leader: 503.

`

// document is the document being derived.
type document struct {
	root    *yaml.Node
	samples *yaml.Node // example id -> {section, value}; what the public document shows where it differs
	seen    map[string]bool
	err     error
}

func (d *document) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *document) derive() error {
	info := get(d.root, "info")
	set(info, "title", scalar("Lacewing REST API v3, code dialect"))
	set(info, "description", d.describe(text(get(info, "description"))))
	set(d.root, "x-lacewing-dialect", scalar("code"))

	// The answers are read before they are wrapped, because a call may need the examples of shared responses.
	each(get(d.root, "paths"), func(_ string, item *yaml.Node) {
		each(item, func(_ string, op *yaml.Node) { d.operation(op) })
	})
	each(d.samples, func(id string, _ *yaml.Node) {
		if !d.seen[id] {
			d.fail("documented example %s belongs to no call", id)
		}
	})
	if d.err == nil {
		d.components()
	}
	return d.err
}

// describe keeps the rules that both dialects share: everything from the list on.
func (d *document) describe(items string) *yaml.Node {
	i := strings.Index(items, "\n* ") + 1
	if i == 0 {
		d.fail("the description has no list of rules")
		return scalar(description)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.LiteralStyle, Value: description + items[i:]}
}

// operation wraps the answers of one call.
func (d *document) operation(op *yaml.Node) {
	id := text(get(op, "operationId"))
	shape := openapi.Shape(text(get(op, "x-lacewing-shape")))
	refusal := 102
	if n := get(op, "x-lacewing-refusal-code"); n != nil {
		refusal, _ = strconv.Atoi(n.Value)
	}
	responses := get(op, "responses")
	status := "200"
	if shape == openapi.ShapeCreated {
		status = "201"
	}
	success := get(responses, status)
	if success == nil {
		d.fail("%s: no %s response", id, status)
		return
	}
	media := get(success, "content", "application/json")
	set(media, "schema", d.answer(id, shape, get(media, "schema")))
	if i := index(responses, "201"); i >= 0 {
		responses.Content[i] = quoted("200")
	}
	remove(responses, "422")

	names := d.examples(op, shape, refusal)
	if len(names) > 0 {
		examples := mapping()
		for _, name := range names {
			set(examples, name, ref("examples", name))
		}
		set(media, "examples", examples)
	}
	if shape != openapi.ShapeResult || get(op, "requestBody") != nil {
		set(success, "description", scalar("Success, or a failure."))
	}
	remove(op, "x-lacewing-shape")
	remove(op, "x-lacewing-refusal-code")
}

// examples wraps the examples of a call and returns the names of those that are JSON answers.
func (d *document) examples(op *yaml.Node, shape openapi.Shape, refusal int) (names []string) {
	list := get(op, "x-lacewing-examples")
	if list == nil {
		return nil
	}
	for _, entry := range list.Content {
		status := text(get(entry, "status"))
		name := text(get(entry, "response"))
		jsonAnswer := get(entry, "mediaType") == nil
		id := text(get(entry, "id"))
		d.seen[id] = true
		sample := get(d.samples, id)
		wrapped := func(v *yaml.Node) *yaml.Node {
			if documented := get(sample, "value"); documented != nil {
				return documented
			}
			return d.wrap(shape, status, refusal, v)
		}
		if value := get(entry, "responseValue"); value != nil && jsonAnswer {
			set(entry, "responseValue", wrapped(value))
		}
		if jsonAnswer && (status == "201" || status == "422" || status == "500") {
			set(entry, "status", number(200))
		}
		if s := get(sample, "section"); s != nil {
			set(entry, "section", s)
		}
		if name == "" || !jsonAnswer {
			continue
		}
		names = append(names, name)
		example := get(d.root, "components", "examples", name)
		set(example, "value", wrapped(get(example, "value")))
	}
	return names
}

// wrap is Shape.Code, and what becomes of refusals, on the value of an example.
func (d *document) wrap(shape openapi.Shape, status string, refusal int, v *yaml.Node) *yaml.Node {
	switch status {
	case "500":
		return flow(mapping("code", number(refusal), "message", get(v, "message")))
	case "422":
		return flow(mapping("code", get(v, "errorCode"), "message", get(v, "message")))
	}
	if shape == openapi.ShapeResult {
		if text(get(v, "code")) == "0" {
			return v
		}
		var decoded map[string]any
		if err := v.Decode(&decoded); err != nil {
			d.fail("line %d: %v", v.Line, err)
			return v
		}
		a, err := shape.Code(decoded)
		if err != nil {
			d.fail("line %d: %v", v.Line, err)
		}
		return flow(mapping("code", number(a.Code), "message", scalar(a.Message)))
	}
	switch shape {
	case openapi.ShapeValue, openapi.ShapeCreated:
		return mapping("code", number(0), "data", v)
	case openapi.ShapePage:
		if v.Kind == yaml.MappingNode {
			return mapping("code", number(0), "data", get(v, "items"), "meta", get(v, "meta"))
		}
	case openapi.ShapeDone:
		return flow(mapping("code", number(0)))
	}
	d.fail("line %d: value is not of shape %q", v.Line, shape)
	return v
}

// answer makes the schema of the 200 answer of a call: a success schema of its own, or the shared one when there is no
// data, or a failure.
func (d *document) answer(id string, shape openapi.Shape, schema *yaml.Node) *yaml.Node {
	var success *yaml.Node
	switch shape {
	case openapi.ShapeDone, openapi.ShapeResult:
		return ref("schemas", "DoneAnswer")
	case openapi.ShapeValue, openapi.ShapeCreated:
		success = envelope("data", schema)
	case openapi.ShapePage:
		page := get(d.root, "components", "schemas", refName(schema), "properties")
		if page == nil {
			d.fail("%s: a page must name its schema", id)
			return schema
		}
		success = envelope("data", get(page, "items"), "meta", get(page, "meta"))
	default:
		d.fail("%s: unknown shape %q", id, shape)
		return schema
	}
	name := goName(id)
	schemas := get(d.root, "components", "schemas")
	set(schemas, name+"Success", success)
	set(schemas, name+"Answer", alternatives(name+"Success"))
	return ref("schemas", name+"Answer")
}

// envelope is the schema of a success with the given members.
func envelope(kv ...any) *yaml.Node {
	properties := mapping("code", ref("schemas", "SuccessCode"))
	required := []*yaml.Node{scalar("code")}
	for i := 0; i < len(kv); i += 2 {
		set(properties, kv[i].(string), kv[i+1].(*yaml.Node))
		required = append(required, scalar(kv[i].(string)))
	}
	return mapping("type", "object", "required", flow(sequence(required...)), "properties", properties)
}

// alternatives is the schema of a success or a failure. The outer allOf lets generated Go be the plain success type.
func alternatives(success string) *yaml.Node {
	return mapping("x-go-type", success, "allOf",
		sequence(mapping("oneOf", flow(sequence(ref("schemas", success), ref("schemas", "Failure"))))))
}

// goName turns a handler name into the form of schema names: list_nodes into ListNodes.
func goName(id string) string {
	parts := strings.Split(id, "_")
	for i, p := range parts {
		parts[i] = strings.ToUpper(p[:1]) + p[1:]
	}
	return strings.Join(parts, "")
}

// failureCodes are the codes of refused calls and their names.
var failureCodes = []struct {
	code int
	name string
}{
	{101, "RemoteCallFailed"}, {102, "UnknownError"}, {103, "WrongCredentials"}, {104, "EmptyCredentials"},
	{105, "NoSuchUser"}, {106, "AdminNotDeletable"}, {107, "ParameterMissing"}, {108, "ParameterType"}, {109, "NotJSON"},
	{110, "PluginLoaded"}, {111, "PluginUnloaded"}, {112, "ClientOffline"}, {113, "UserExists"},
	{114, "OldPasswordWrong"}, {115, "BadTopic"},
}

// components replaces the shared responses and schemas of the items dialect and drops what is no longer used.
func (d *document) components() {
	schemas := get(d.root, "components", "schemas")
	codes, names := sequence(), sequence()
	for _, c := range failureCodes {
		codes.Content = append(codes.Content, number(c.code))
		names.Content = append(names.Content, scalar(c.name))
	}
	set(schemas, "SuccessCode", mapping("type", "integer", "description", "0 says that the call did what was asked.",
		"enum", flow(sequence(number(0))), "x-enum-varnames", flow(sequence(scalar("Success")))))
	set(schemas, "FailureCode", mapping("type", "integer",
		"description", "Why the call was refused: 101 remote node call failed or no leader, 102 refused for the reason in the message, 107 parameter missing, 108 parameter of the wrong type, 112 client offline, 115 bad topic.",
		"enum", flow(codes), "x-enum-varnames", flow(names)))
	set(schemas, "Failure", mapping("type", "object", "description", "A refused call.",
		"required", flow(sequence(scalar("code"), scalar("message"))),
		"properties", mapping("code", ref("schemas", "FailureCode"), "message", mapping("type", "string", "description", "The reason, such as `already_started`."))))
	set(schemas, "DoneSuccess", envelope())
	set(schemas, "DoneAnswer", alternatives("DoneSuccess"))

	responses := get(d.root, "components", "responses")
	failed, noLeader := get(responses, "Failed"), get(responses, "NoLeader", "content", "application/json")
	if failed == nil || noLeader == nil {
		d.fail("responses Failed and NoLeader are missing")
		return
	}
	set(failed, "description", scalar("An internal failure, or a page that cannot be."))
	remove(get(failed, "content"), "application/json")
	set(noLeader, "schema", ref("schemas", "Failure"))
	remove(responses, "BadParameter")

	for d.prune("schemas") || d.prune("examples") {
	}
}

// prune drops components of a kind that nothing refers to and says whether there were any.
func (d *document) prune(kind string) bool {
	used := make(map[string]bool)
	prefix := "#/components/" + kind + "/"
	walk(d.root, func(n *yaml.Node) {
		if r := get(n, "$ref"); r != nil && strings.HasPrefix(r.Value, prefix) {
			used[strings.TrimPrefix(r.Value, prefix)] = true
		}
		// x-go-type names a schema without referring to it.
		if g := get(n, "x-go-type"); g != nil {
			used[g.Value] = true
		}
	})
	m := get(d.root, "components", kind)
	var unused []string
	each(m, func(name string, _ *yaml.Node) {
		if !used[name] {
			unused = append(unused, name)
		}
	})
	slices.Sort(unused)
	for _, name := range unused {
		remove(m, name)
	}
	return len(unused) > 0
}
