package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// decoded reads JSON text.
func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

const testRules = `
fields:
  - {at: '**/when', in: [a], must: time, reason: r}
  - {at: '/*/port', in: [a], must: port, reason: r}
  - {at: '**/load', in: [a], must: load, reason: r}
  - {at: '**/memory', in: [a], must: memory, reason: r}
  - {at: '**/uptime', in: [a], must: uptime, reason: r}
  - {at: '**/figure', in: [a], must: figure, reason: r}
  - {at: '**/name', in: [a], must: pattern, pattern: '^x+$', reason: r}
  - {at: '**/count', in: [a], must: integer, elsewhere: true, reason: r}
lists:
  - {at: /set, in: [a], any_order: true, reason: r}
  - {at: /more, in: [a], key: k, more: true, reason: r}
  - {at: /lack, in: [a], key: k, lack: [b], reason: r}
members:
  - {at: /open, in: [a], may: {extra: integer}, reason: r}
`

func TestCompare(t *testing.T) {
	rules, err := parseRules([]byte(testRules))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.Local)
	for _, tc := range []struct {
		name, want, got string
		diff            string // of the first difference; "" for none
	}{
		{"equal", `{"a":[1,"x",true,null,{}]}`, `{"a":[1,"x",true,null,{}]}`, ""},
		{"value", `{"a":1}`, `{"a":2}`, "/a: 2, want 1"},
		{"type", `{"a":1}`, `{"a":"1"}`, `/a: "1", want 1`},
		{"null for a list", `{"a":[]}`, `{"a":null}`, `/a: null, want []`},
		{"member missing", `{"a":1,"b":2}`, `{"a":1}`, "/b: missing, want 2"},
		{"member too many", `{"a":1}`, `{"a":1,"b/c":2}`, "/b~1c: 2, not in the example"},
		{"row missing", `[1,2]`, `[1]`, "/1: missing, want 2"},
		{"row too many", `[1]`, `[1,2]`, "/1: 2, not in the example"},
		{"rows in another order", `[1,2]`, `[2,1]`, "/0: 2, want 1"},
		{"text for an object", `{"a":1}`, `"ok"`, `"ok", want {"a":1}`},
		{"no body", ``, `"x"`, `"x", want null`},
		{"set in another order", `{"set":[1,2]}`, `{"set":[2,1]}`, ""},
		{"set with another value", `{"set":[1,2]}`, `{"set":[3,1]}`, "/set/1: 3, want 2"},
		{"more rows", `{"more":[{"k":"b"}]}`, `{"more":[{"k":"a"},{"k":"b"},{"k":"c"}]}`, ""},
		{"more rows of another shape", `{"more":[{"k":"b"}]}`, `{"more":[{"k":"b"},{"l":"c"}]}`, `/more/1: {"l":"c"} has another shape than the rows of the example`},
		{"a row of the example missing among more", `{"more":[{"k":"b"}]}`, `{"more":[{"k":"a"}]}`, `/more/0: missing, want {"k":"b"}`},
		{"row lacking as it may", `{"lack":[{"k":"a"},{"k":"b"}]}`, `{"lack":[{"k":"a"}]}`, ""},
		{"row lacking as it may not", `{"lack":[{"k":"a"},{"k":"b"}]}`, `{"lack":[{"k":"b"}]}`, `/lack/0: missing, want {"k":"a"}`},
		{"row that may lack but differs", `{"lack":[{"k":"b","v":1}]}`, `{"lack":[{"k":"b","v":2}]}`, "/lack/0/v: 2, want 1"},
		{"member that may be", `{"open":{"a":1}}`, `{"open":{"a":1,"extra":2}}`, ""},
		{"member that may be, of another type", `{"open":{"a":1}}`, `{"open":{"a":1,"extra":"2"}}`, `/open/extra: "2" is no integer (the example has null)`},
		{"time", `{"when":"2018-09-14 10:23:04"}`, `{"when":"2026-05-04 03:02:01"}`, ""},
		{"time of yesterday", `{"when":"2018-09-14 10:23:04"}`, `{"when":"2026-05-03 03:02:01"}`, `/when: "2026-05-03 03:02:01" is not between 2026-05-04 03:02:01 and 2026-05-04 03:02:02`},
		{"time of another form", `{"when":"2018-09-14 10:23:04"}`, `{"when":"2026-05-04T03:02:01Z"}`, `/when: "2026-05-04T03:02:01Z" is no time (the example has "2018-09-14 10:23:04")`},
		{"port", `[{"port":1}]`, `[{"port":4711}]`, ""},
		{"no port", `[{"port":1}]`, `[{"port":65536}]`, `/0/port: 65536 is no port (the example has 1)`},
		{"address", `[{"port":"127.0.0.1:11883"}]`, `[{"port":"127.0.0.1:4711"}]`, ""},
		{"another address", `[{"port":"127.0.0.1:11883"}]`, `[{"port":"0.0.0.0:4711"}]`, `/0/port: "0.0.0.0:4711" is no port (the example has "127.0.0.1:11883")`},
		{"bare port", `[{"port":"8083"}]`, `[{"port":"0.0.0.0:4711"}]`, `/0/port: "0.0.0.0:4711" is no port (the example has "8083")`},
		{"load", `{"load":"1.93"}`, `{"load":"0.00"}`, ""},
		{"load as a number", `{"load":"1.93"}`, `{"load":1.93}`, `/load: 1.93 is no load (the example has "1.93")`},
		{"memory", `{"memory":"69.19M"}`, `{"memory":"1.00K"}`, ""},
		{"memory without unit", `{"memory":"69.19M"}`, `{"memory":"1.00"}`, `/memory: "1.00" is no memory (the example has "69.19M")`},
		{"uptime", `{"uptime":"x"}`, `{"uptime":"3 days,18 hours, 25 minutes, 11 seconds"}`, ""},
		{"short uptime", `{"uptime":"x"}`, `{"uptime":"0 seconds"}`, ""},
		{"uptime with a blank", `{"uptime":"x"}`, `{"uptime":"3 days, 18 hours, 25 minutes, 11 seconds"}`, `/uptime: "3 days, 18 hours, 25 minutes, 11 seconds" is no uptime (the example has "x")`},
		{"figure", `{"figure":"undefined"}`, `{"figure":3}`, ""},
		{"figure of another word", `{"figure":"undefined"}`, `{"figure":"none"}`, `/figure: "none" is no figure (the example has "undefined")`},
		{"pattern", `{"name":"x"}`, `{"name":"xx"}`, ""},
		{"no pattern", `{"name":"x"}`, `{"name":"xy"}`, `/name: "xy" is no pattern (the example has "x")`},
		{"elsewhere only", `{"count":1}`, `{"count":2}`, "/count: 2, want 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &comparison{rules: rules, doc: openapi.V2, id: "a"}
			diffs := c.answer(
				Answer{Status: 200, Body: decoded(t, tc.want)},
				Answer{Status: 200, Body: decoded(t, tc.got), From: now, To: now.Add(time.Second)})
			got := ""
			if len(diffs) > 0 {
				got = diffs[0].String()
			}
			if got != tc.diff {
				t.Errorf("difference %q, want %q", got, tc.diff)
			}
		})
	}
	t.Run("status", func(t *testing.T) {
		c := &comparison{rules: rules, doc: openapi.V2, id: "a"}
		if diffs := c.answer(Answer{Status: 200}, Answer{Status: 404}); len(diffs) != 1 || diffs[0].String() != "status 404, want 200" {
			t.Errorf("differences %v", diffs)
		}
	})
	t.Run("server elsewhere", func(t *testing.T) {
		c := &comparison{rules: rules, doc: openapi.V2, id: "a", elsewhere: true}
		if diffs := c.value(nil, decoded(t, `{"count":1}`), decoded(t, `{"count":2}`)); len(diffs) != 0 {
			t.Errorf("differences %v", diffs)
		}
	})
}

// TestMutants holds the places in which an answer is changed against those that
// it has, and shows that a comparison which does not see one of them is found out.
func TestMutants(t *testing.T) {
	strict, err := parseRules([]byte("fields: []"))
	if err != nil {
		t.Fatal(err)
	}
	lax, err := parseRules([]byte("fields: [{at: /rows/0/id, in: [a], must: text, reason: r}]"))
	if err != nil {
		t.Fatal(err)
	}
	good := Answer{Status: 200, MediaType: "application/json", Body: decoded(t, `{"code":0,"rows":[{"id":"a","n":1},{"id":"b","n":2}]}`)}
	var all, unseen []string
	for _, m := range mutants(&comparison{rules: strict, id: "a"}, good) {
		all = append(all, m.what)
		c := &comparison{rules: strict, id: "a"}
		if len(c.answer(good, m.answer)) == 0 {
			t.Errorf("%s: not noticed", m.what)
		}
		c = &comparison{rules: lax, id: "a"}
		if len(c.answer(good, m.answer)) == 0 {
			unseen = append(unseen, m.what)
		}
	}
	if want := []string{"/rows/0/id: another value"}; !slices.Equal(unseen, want) {
		t.Errorf("a comparison that does not look at a value passes %q, want %q", unseen, want)
	}
	for _, want := range []string{
		"status", "media type", ": one more member", "/code: no such member", "/code: another value", "/rows: one more row",
		"/rows/0: no such row", "/rows/0: rows in another order", "/rows/0: one more member", "/rows/0/id: no such member",
		"/rows/0/id: another value", "/rows/1/n: another value",
	} {
		if !slices.Contains(all, want) {
			t.Errorf("no mutant %q among %q", want, all)
		}
	}
}

func TestScope(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		want    bool
	}{
		{"v3.list_nodes", true}, {"v3.list_node", false}, {"v3.*", true}, {"*nodes", true}, {"*list*", true}, {"*", true}, {"v3.*x*", false},
		{"v2.*", false}, {"v3/v3.list_nodes", true}, {"v3/*", true}, {"v3-code/*", false}, {"v3.list_nodes*", true}, {"v3*list*nodes", true},
	} {
		t.Run(tc.pattern, func(t *testing.T) {
			if got := (Scope{In: []string{tc.pattern}}).scoped(openapi.V3Items, "v3.list_nodes", false); got != tc.want {
				t.Errorf("%t, want %t", got, tc.want)
			}
		})
	}
}

func TestPointer(t *testing.T) {
	for _, tc := range []struct {
		pointer, at string
		want        bool
	}{
		{"", "", true}, {"", "/a", false}, {"/a", "/a", true}, {"/a", "/b", false}, {"/a", "/a/b", false}, {"/*", "/a", true},
		{"/*/b", "/a/b", true}, {"/*/b", "/b", false}, {"**/b", "/b", true}, {"**/b", "/a/0/b", true}, {"**/b", "/b/a", false},
		{"**/a/*", "/x/a/b", true}, {"**/a/*", "/x/b/b", false}, {"**/b", "", false},
	} {
		t.Run(tc.pointer+" "+tc.at, func(t *testing.T) {
			if got := Pointer(tc.pointer).matches(strings.Split(tc.at, "/")[1:]); got != tc.want {
				t.Errorf("%t, want %t", got, tc.want)
			}
		})
	}
}

func TestRulesAreChecked(t *testing.T) {
	for _, tc := range []struct{ name, rules, want string }{
		{"no reason", "fields: [{at: /a, in: [a], must: integer}]", "no reason"},
		{"no scope", "fields: [{at: /a, must: integer, reason: r}]", "applies to nothing"},
		{"form", "fields: [{at: /a, in: [a], must: number, reason: r}]", `no form "number"`},
		{"pattern without form", "fields: [{at: /a, in: [a], must: text, pattern: x, reason: r}]", "do not agree"},
		{"form without pattern", "fields: [{at: /a, in: [a], must: pattern, reason: r}]", "do not agree"},
		{"bad pattern", "fields: [{at: /a, in: [a], must: pattern, pattern: '(', reason: r}]", "missing closing"},
		{"unknown key", "fields: [{at: /a, in: [a], musst: text, reason: r}]", "musst"},
		{"overruled by nothing", "overruled: [{example: v2/a, reason: r}]", "as or set is needed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := parseRules([]byte(tc.rules)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// TestOverruled holds the examples that the contract overrules: no others may be.
func TestOverruled(t *testing.T) {
	rules, err := Volatile()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range rules.Overruled {
		got = append(got, o.Example)
	}
	slices.Sort(got)
	if want := []string{"v3-code/v3.get_node_configs", "v3/v3.get_node_configs", "v3/v3.pagination"}; !slices.Equal(got, want) {
		t.Errorf("overruled %q, want %q", got, want)
	}
	// Every example that the document itself marks as contradicted is either of
	// these or replayed as it is.
	for _, doc := range openapi.Documents {
		tree, err := doc.Load()
		if err != nil {
			t.Fatal(err)
		}
		examples, err := openapi.Examples(tree)
		if err != nil {
			t.Fatal(err)
		}
		for _, ex := range examples {
			if name := string(doc) + "/" + ex.ID; ex.Contradiction == "C12" && !slices.Contains(got, name) {
				t.Errorf("%s: C12 overrules it", name)
			}
		}
	}
}

// TestEveryRuleIsNeeded fails for a rule that no answer of the replay needs: it
// would hide what nobody has looked at.
func TestEveryRuleIsNeeded(t *testing.T) {
	needed := map[string]bool{}
	for _, doc := range openapi.Documents {
		o := replayed(t, doc)
		try := func(kind string, i int, at Pointer, s Scope, less Rules) {
			name := fmt.Sprintf("%s %d at %q in %q", kind, i, at, s.In)
			needed[name] = needed[name] || s.Elsewhere || slices.ContainsFunc(o.results, func(res *Result) bool {
				return s.scoped(doc, res.ID, false) && differs(&less, o, res)
			})
		}
		for i, f := range o.Rules.Fields {
			less := *o.Rules
			less.Fields = slices.Delete(slices.Clone(less.Fields), i, i+1)
			try("field", i, f.At, f.Scope, less)
		}
		for i, l := range o.Rules.Lists {
			less := *o.Rules
			less.Lists = slices.Delete(slices.Clone(less.Lists), i, i+1)
			try("list", i, l.At, l.Scope, less)
		}
		for i, m := range o.Rules.Members {
			less := *o.Rules
			less.Members = slices.Delete(slices.Clone(less.Members), i, i+1)
			try("members", i, m.At, m.Scope, less)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		if !needed[name] {
			t.Errorf("no answer needs the rule %s", name)
		}
	}
}

// differs reports whether an answer is not as documented under other rules.
func differs(rules *Rules, o *outcome, res *Result) bool {
	c := o.comparison(res)
	c.rules = rules
	return len(c.answer(res.Expected, res.Got)) > 0
}
