package api

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// mutant is an answer that differs in one place from one that a server gave.
type mutant struct {
	what   string
	answer Answer
}

// mutants changes an answer in every place that the comparison has to see, one
// at a time: the status, the kind of body, every value, every member, every row
// and the order of rows.
func mutants(c *comparison, got Answer) []mutant {
	var out []mutant
	add := func(what string, a Answer) { out = append(out, mutant{what, a}) }
	other := got
	other.Status++
	add("status", other)
	if got.Body != nil {
		other = got
		other.MediaType += "x"
		add("media type", other)
	}
	m := mutator{c: c, body: func(at []string, what string, body any) {
		other := got
		other.Body = body
		add(pointer(at)+": "+what, other)
	}}
	m.walk(nil, got.Body, func(v any) any { return v }, false)
	return out
}

type mutator struct {
	c    *comparison
	body func(at []string, what string, body any)
}

// walk makes the mutants of v. rebuild puts another value into v's place and
// returns the whole body; further says that v is in a row that the example does
// not have, of which only the shape counts.
func (m mutator) walk(at []string, v any, rebuild func(any) any, further bool) {
	further = further || slices.Contains(m.c.further, pointer(at))
	if m.volatile(at) {
		m.body(at, "another kind of value", rebuild(map[string]any{"unexpected": true}))
		return
	}
	switch v := v.(type) {
	case map[string]any:
		m.object(at, v, rebuild, further)
	case []any:
		m.array(at, v, rebuild, further)
	default:
		if further {
			m.body(at, "another kind of value", rebuild(map[string]any{"unexpected": true}))
			return
		}
		m.body(at, "another value", rebuild(another(v)))
	}
}

func (m mutator) object(at []string, v map[string]any, rebuild func(any) any, further bool) {
	with := func(key string, e any) map[string]any {
		out := make(map[string]any, len(v)+1)
		for k, old := range v {
			out[k] = old
		}
		out[key] = e
		return out
	}
	m.body(at, "one more member", rebuild(with("unexpected", 1.0)))
	for _, key := range sortedKeys(v) {
		if _, may := m.c.mayHave(at, key); may {
			m.body(push(at, key), "another kind of value", rebuild(with(key, map[string]any{"unexpected": true})))
			continue // may also be absent
		}
		out := with(key, nil)
		delete(out, key)
		m.body(push(at, key), "no such member", rebuild(out))
		m.walk(push(at, key), v[key], func(e any) any { return rebuild(with(key, e)) }, further)
	}
}

func (m mutator) array(at []string, v []any, rebuild func(any) any, further bool) {
	rule := m.c.listRule(at)
	more := any("unexpected")
	if len(v) > 0 && !rule.More {
		more = v[0]
	}
	if len(v) > 0 && rule.More {
		more = map[string]any{"unexpected": true}
	}
	if !further {
		m.body(at, "one more row", rebuild(append(slices.Clone(v), more)))
	}
	for i := range v {
		here := push(at, strconv.Itoa(i))
		extra := further || slices.Contains(m.c.further, pointer(here))
		if !extra {
			m.body(here, "no such row", rebuild(slices.Delete(slices.Clone(v), i, i+1)))
			next := push(at, strconv.Itoa(i+1))
			if i+1 < len(v) && !rule.AnyOrder && !slices.Contains(m.c.further, pointer(next)) {
				swapped := slices.Clone(v)
				swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
				m.body(here, "rows in another order", rebuild(swapped))
			}
		}
		m.walk(here, v[i], func(e any) any {
			out := slices.Clone(v)
			out[i] = e
			return rebuild(out)
		}, extra)
	}
}

func (m mutator) volatile(at []string) bool {
	return slices.ContainsFunc(m.c.rules.Fields, func(f Field) bool {
		return f.At.matches(at) && f.scoped(m.c.doc, m.c.id, m.c.elsewhere)
	})
}

// another returns a value of the same type that is as near as can be.
func another(v any) any {
	switch v := v.(type) {
	case string:
		if v == "" {
			return " "
		}
		last := v[len(v)-1] ^ 1
		return v[:len(v)-1] + string(last)
	case float64:
		return v + 1
	case bool:
		return !v
	}
	return fmt.Sprint(v, "unexpected")
}

// TestMutations proves that the comparison sees: no mutant of an answer that is
// as documented may pass for it.
func TestMutations(t *testing.T) {
	total := 0
	for _, doc := range openapi.Documents {
		t.Run(string(doc), func(t *testing.T) {
			o, tried := replayed(t, doc), 0
			for _, res := range o.results {
				if res.Failed() {
					t.Errorf("%s: the answer itself is not as documented", res.ID)
					continue
				}
				c := o.comparison(res)
				if diffs := c.answer(res.Expected, res.Got); len(diffs) > 0 {
					t.Errorf("%s: compared again: %v", res.ID, diffs)
				}
				all := mutants(c, res.Got)
				if len(all) == 0 {
					t.Errorf("%s: nothing to change", res.ID)
				}
				for _, m := range all {
					tried++
					if diffs, _ := o.Compare(res, m.answer); len(diffs) == 0 {
						t.Errorf("%s: %s: not noticed", res.ID, m.what)
					}
				}
			}
			t.Logf("%d mutants, all of which have to be noticed", tried)
			total += tried
		})
	}
	t.Logf("%d mutants tried", total)
}
