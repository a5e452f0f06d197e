package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// Answer is what a server said.
type Answer struct {
	Status    int
	MediaType string
	// Body is decoded JSON, or the text; nil without a body.
	Body any
	// From and To are when the world of the example began to be arranged and when
	// the answer was there: times of the answer lie between them.
	From, To time.Time
}

// comparison is one example with the rules that apply to it.
type comparison struct {
	rules     *Rules
	doc       openapi.Document
	id        string
	elsewhere bool
	slack     time.Duration // how far the clocks of server and suite may be apart
	from, to  time.Time

	literal int      // values compared as they are
	further []string // pointers of rows that only the answer has, where it may
}

// Diff is one difference.
type Diff struct {
	At   string `json:"at"` // pointer into the body; "" for the whole
	What string `json:"what"`
}

func (d Diff) String() string {
	if d.At == "" {
		return d.What
	}
	return d.At + ": " + d.What
}

// answer compares an answer with an example.
func (c *comparison) answer(want Answer, got Answer) []Diff {
	c.from, c.to = got.From, got.To
	var diffs []Diff
	c.literal++
	if want.Status != got.Status {
		diffs = append(diffs, Diff{What: fmt.Sprintf("status %d, want %d", got.Status, want.Status)})
	}
	if want.Body != nil && want.MediaType != got.MediaType {
		diffs = append(diffs, Diff{What: fmt.Sprintf("media type %q, want %q", got.MediaType, want.MediaType)})
	}
	return append(diffs, c.value(nil, want.Body, got.Body)...)
}

func (c *comparison) value(at []string, want, got any) []Diff {
	for _, f := range c.rules.Fields {
		if f.At.matches(at) && f.scoped(c.doc, c.id, c.elsewhere) {
			if err := c.form(f.Must, f.pattern, want, got); err != nil {
				return []Diff{diff(at, "%s", err)}
			}
			return nil
		}
	}
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			break
		}
		return c.object(at, want, got)
	case []any:
		got, ok := got.([]any)
		if !ok {
			break
		}
		return c.array(at, want, got)
	}
	c.literal++
	if !reflect.DeepEqual(want, got) {
		return []Diff{diff(at, "%s, want %s", show(got), show(want))}
	}
	return nil
}

func (c *comparison) object(at []string, want, got map[string]any) []Diff {
	if len(want) == 0 {
		c.literal++
	}
	var diffs []Diff
	for _, key := range sortedKeys(want) {
		g, ok := got[key]
		if !ok {
			diffs = append(diffs, diff(push(at, key), "missing, want %s", show(want[key])))
			continue
		}
		diffs = append(diffs, c.value(push(at, key), want[key], g)...)
	}
	for _, key := range sortedKeys(got) {
		if _, ok := want[key]; ok {
			continue
		}
		form, may := c.mayHave(at, key)
		if !may {
			diffs = append(diffs, diff(push(at, key), "%s, not in the example", show(got[key])))
		} else if err := c.form(form, nil, nil, got[key]); err != nil {
			diffs = append(diffs, diff(push(at, key), "%s", err))
		}
	}
	return diffs
}

func (c *comparison) mayHave(at []string, key string) (Form, bool) {
	for _, m := range c.rules.Members {
		if m.At.matches(at) && m.scoped(c.doc, c.id, c.elsewhere) {
			if f, ok := m.May[key]; ok {
				return f, true
			}
		}
	}
	return "", false
}

// listRule is the rule for an array; the zero List for none.
func (c *comparison) listRule(at []string) List {
	for _, l := range c.rules.Lists {
		if l.At.matches(at) && l.scoped(c.doc, c.id, c.elsewhere) {
			return l
		}
	}
	return List{}
}

func (c *comparison) array(at []string, want, got []any) []Diff {
	if len(want) == 0 {
		c.literal++
	}
	rule := c.listRule(at)
	var diffs []Diff
	lacks := func(row any) bool {
		m, ok := row.(map[string]any)
		return ok && rule.Key != "" && slices.Contains(rule.Lack, fmt.Sprint(m[rule.Key]))
	}
	used := make([]bool, len(got))
	next := 0 // first row of the answer that an ordered list may still use
	for i, w := range want {
		here := push(at, strconv.Itoa(i))
		first, best, found := c.find(here, w, got, used, rule, next)
		switch {
		case found >= 0:
			used[found] = true
			c.literal += first.literal
			c.further = append(c.further, first.further...)
			if !rule.AnyOrder {
				next = found + 1
			}
		case lacks(w) && !keyed(rule.Key, w, got):
		case best != nil:
			used[best.row] = true
			c.literal += first.literal
			if !rule.AnyOrder {
				next = best.row + 1
			}
			diffs = append(diffs, best.diffs...)
		default:
			diffs = append(diffs, diff(here, "missing, want %s", show(w)))
		}
	}
	for i, g := range got {
		if used[i] {
			continue
		}
		here := push(at, strconv.Itoa(i))
		if !rule.More {
			diffs = append(diffs, diff(here, "%s, not in the example", show(g)))
			continue
		}
		c.further = append(c.further, pointer(here))
		if len(want) > 0 && !sameShape(want[0], g) {
			diffs = append(diffs, diff(here, "%s has another shape than the rows of the example", show(g)))
		}
	}
	return diffs
}

// keyed reports whether a row of the answer has the key of w.
func keyed(key string, w any, got []any) bool {
	return slices.ContainsFunc(got, func(g any) bool { return sameKey(key, w, g) })
}

func sameKey(key string, a, b any) bool {
	x, ok := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	return ok && ok2 && reflect.DeepEqual(x[key], y[key])
}

type candidate struct {
	row   int
	diffs []Diff
}

// find looks for the row of an answer that a row of the example is: the first
// that has no difference, or the nearest. In an ordered list without more or
// lacking rows only the next row can be it. The comparison that is returned
// carries the count of literal values.
func (c *comparison) find(at []string, want any, got []any, used []bool, rule List, next int) (try comparison, nearest *candidate, found int) {
	for i := next; i < len(got); i++ {
		if used[i] || rule.Key != "" && !sameKey(rule.Key, want, got[i]) {
			continue
		}
		try = *c
		try.literal, try.further = 0, nil
		diffs := try.value(at, want, got[i])
		if len(diffs) == 0 {
			return try, nil, i
		}
		if nearest == nil || len(diffs) < len(nearest.diffs) {
			nearest = &candidate{i, diffs}
		}
		if !rule.AnyOrder && !rule.More && len(rule.Lack) == 0 {
			break
		}
	}
	return try, nearest, -1
}

// sameShape reports whether two values have the same members of the same types.
func sameShape(a, b any) bool {
	x, ok := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	if !ok || !ok2 {
		return reflect.TypeOf(a) == reflect.TypeOf(b)
	}
	return slices.Equal(sortedKeys(x), sortedKeys(y)) &&
		!slices.ContainsFunc(slices.Collect(maps.Keys(x)), func(k string) bool { return !sameShape(x[k], y[k]) })
}

// sameRows reports whether a list has rows, all with the members that the rows of
// another have.
func sameRows(want, got any) bool {
	w, ok := want.([]any)
	g, ok2 := got.([]any)
	return ok && ok2 && len(w) > 0 && len(g) > 0 && !slices.ContainsFunc(g, func(row any) bool {
		a, ok := w[0].(map[string]any)
		b, ok2 := row.(map[string]any)
		return !ok || !ok2 || !slices.Equal(sortedKeys(a), sortedKeys(b))
	})
}

var (
	uptimeForm = regexp.MustCompile(`^((\d+ days,)?\d+ hours, )?(\d+ minutes, )?\d+ seconds$`)
	memoryForm = regexp.MustCompile(`^\d+\.\d\d[KMG]$`)
	loadForm   = regexp.MustCompile(`^\d+\.\d\d$`)
	portSuffix = regexp.MustCompile(`\d+$`)
)

// form checks a value of which only the form is compared.
func (c *comparison) form(f Form, pattern *regexp.Regexp, want, got any) error {
	text, isText := got.(string)
	number, isNumber := got.(float64)
	whole := isNumber && number >= 0 && number == math.Trunc(number)
	ok := false
	switch f {
	case Integer:
		ok = whole
	case Figure:
		ok = whole || text == "undefined"
	case Text:
		ok = isText && text != ""
	case Uptime:
		ok = uptimeForm.MatchString(text)
	case Memory:
		ok = memoryForm.MatchString(text)
	case Load:
		ok = loadForm.MatchString(text)
	case Rows:
		ok = sameRows(want, got)
	case Match:
		ok = isText && pattern.MatchString(text)
	case Port:
		if shown, is := want.(string); is {
			n, err := strconv.Atoi(portSuffix.FindString(text))
			ok = err == nil && n > 0 && n < 1<<16 && portSuffix.ReplaceAllString(text, "") == portSuffix.ReplaceAllString(shown, "")
		} else {
			ok = whole && number > 0 && number < 1<<16
		}
	case Time:
		at, err := time.ParseInLocation(time.DateTime, text, time.Local)
		if err != nil {
			break
		}
		// A server may read its clock once in a while only.
		if at.Before(c.from.Add(-c.slack-time.Second).Truncate(time.Second)) || at.After(c.to.Add(c.slack)) {
			return fmt.Errorf("%s is not between %s and %s", show(got), c.from.Format(time.DateTime), c.to.Format(time.DateTime))
		}
		return nil
	}
	if !ok {
		return fmt.Errorf("%s is no %s (the example has %s)", show(got), f, show(want))
	}
	return nil
}

func diff(at []string, format string, args ...any) Diff {
	return Diff{At: pointer(at), What: fmt.Sprintf(format, args...)}
}

func pointer(at []string) string {
	var b strings.Builder
	for _, key := range at {
		b.WriteString("/" + escapePointer.Replace(key))
	}
	return b.String()
}

var escapePointer = strings.NewReplacer("~", "~0", "/", "~1")

// push appends without sharing the array of at.
func push(at []string, key string) []string { return append(slices.Clone(at), key) }

// show writes a value in one line, shortened.
func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(text) > 200 {
		return string(text[:200]) + "..."
	}
	return string(text)
}
