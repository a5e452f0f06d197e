package api

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

//go:embed volatile.yaml
var volatileYAML []byte

// Rules say what of an answer is not compared literally. Everything that no rule
// names is.
type Rules struct {
	Fields    []Field    `yaml:"fields"`
	Lists     []List     `yaml:"lists"`
	Members   []Members  `yaml:"members"`
	Shifted   []Shift    `yaml:"shifted"`
	Overruled []Overrule `yaml:"overruled"`
	Absent    []Absent   `yaml:"absent"`
}

// Scope says where a rule applies. An example is named by its id, or by document
// and id ("v3-code/v3.pagination"); * stands for any text.
type Scope struct {
	In []string `yaml:"in"`
	// Elsewhere restricts the rule to servers that the suite has not started
	// itself: their counters and listeners are what they are.
	Elsewhere bool   `yaml:"elsewhere"`
	Reason    string `yaml:"reason"`
}

// Field is a value of which only the form is compared.
type Field struct {
	Scope   `yaml:",inline"`
	At      Pointer `yaml:"at"`
	Must    Form    `yaml:"must"`
	Pattern string  `yaml:"pattern"` // for Must: pattern

	pattern *regexp.Regexp
}

// List loosens the comparison of an array of rows.
type List struct {
	Scope `yaml:",inline"`
	At    Pointer `yaml:"at"`
	// AnyOrder compares the rows as a set: their order is not defined.
	AnyOrder bool `yaml:"any_order"`
	// More lets the answer have further rows of the same shape, between or
	// after those of the example.
	More bool `yaml:"more"`
	// Lack names rows of the example that the answer may leave out, by the value
	// of the member Key.
	Key  string   `yaml:"key"`
	Lack []string `yaml:"lack"`
}

// Members lets objects have members that the example does not show.
type Members struct {
	Scope `yaml:",inline"`
	At    Pointer         `yaml:"at"`
	May   map[string]Form `yaml:"may"`
}

// Shift names times (Unix seconds) of an example that are moved by the offset of
// the replay, in the request and in the answer.
type Shift struct {
	Scope `yaml:",inline"`
	At    Pointer `yaml:"at"`
}

// Overrule is an example whose answer the contract contradicts. It is sent all the
// same, and its answer compared with what the contract says.
type Overrule struct {
	Scope   `yaml:",inline"`
	Example string         `yaml:"example"` // document/id
	As      string         `yaml:"as"`      // the answer is that of this example
	Set     map[string]any `yaml:"set"`     // or the answer with these values, by pointer
}

// Absent is an example about a plugin that the server may not have. Without it the
// server must refuse as said; with it the example holds.
type Absent struct {
	Scope  `yaml:",inline"`
	Plugin string `yaml:"plugin"`
	Status int    `yaml:"status"`
	Answer any    `yaml:"answer"`
}

// Form is what a value must be whose text is not compared.
type Form string

// The forms.
const (
	Integer Form = "integer" // not negative
	Text    Form = "text"    // a string that is not empty
	Time    Form = "time"    // YYYY-MM-DD HH:MM:SS, within the time of the replay
	Uptime  Form = "uptime"
	Memory  Form = "memory" // 69.19M
	Load    Form = "load"   // 1.93
	Port    Form = "port"   // a port number, or the text of the example with another port
	Match   Form = "pattern"
	Figure  Form = "figure" // an integer or "undefined"
	Rows    Form = "rows"   // rows of the same members as the first one of the example
)

var forms = []Form{Integer, Text, Time, Uptime, Memory, Load, Port, Match, Figure, Rows}

// Pointer is a JSON pointer in which * stands for any member or index and a first
// ** for any number of them.
type Pointer string

func (p Pointer) matches(at []string) bool {
	text := string(p)
	if i := strings.LastIndexByte(text, '/'); i >= 0 && text[i+1:] != "*" && (len(at) == 0 || text[i+1:] != at[len(at)-1]) {
		return false // most are
	}
	want := strings.Split(text, "/")
	if want[0] == "**" {
		want = want[1:]
		if len(at) < len(want) {
			return false
		}
		at = at[len(at)-len(want):]
	} else {
		want = want[1:] // before the first slash is nothing
	}
	return slices.EqualFunc(want, at, func(w, a string) bool { return w == "*" || w == a })
}

// scoped reports whether a rule applies to an example.
func (s Scope) scoped(doc openapi.Document, id string, elsewhere bool) bool {
	if s.Elsewhere && !elsewhere {
		return false
	}
	return slices.ContainsFunc(s.In, func(pattern string) bool {
		name := id
		if strings.Contains(pattern, "/") {
			name = string(doc) + "/" + id
		}
		return glob(pattern, name)
	})
}

// glob reports whether a name is as a pattern says, in which * is any text.
func glob(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	name, ok := strings.CutPrefix(name, parts[0])
	if len(parts) == 1 {
		return ok && name == ""
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(name, part)
		ok, name = ok && found, rest
	}
	return ok && strings.HasSuffix(name, parts[len(parts)-1])
}

// Volatile returns the rules of volatile.yaml.
func Volatile() (*Rules, error) { return parseRules(volatileYAML) }

func parseRules(text []byte) (*Rules, error) {
	var r Rules
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("volatile.yaml: %w", err)
	}
	var faults []error
	scope := func(kind string, at Pointer, s Scope) {
		if strings.TrimSpace(s.Reason) == "" {
			faults = append(faults, fmt.Errorf("volatile.yaml: %s %s: no reason", kind, at))
		}
		if len(s.In) == 0 {
			faults = append(faults, fmt.Errorf("volatile.yaml: %s %s: applies to nothing", kind, at))
		}
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		scope("field", f.At, f.Scope)
		if !slices.Contains(forms, f.Must) {
			faults = append(faults, fmt.Errorf("volatile.yaml: field %s: no form %q", f.At, f.Must))
		}
		if (f.Must == Match) != (f.Pattern != "") {
			faults = append(faults, fmt.Errorf("volatile.yaml: field %s: form and pattern do not agree", f.At))
		}
		if f.Pattern != "" {
			var err error
			if f.pattern, err = regexp.Compile(f.Pattern); err != nil {
				faults = append(faults, fmt.Errorf("volatile.yaml: field %s: %w", f.At, err))
			}
		}
	}
	for _, l := range r.Lists {
		scope("list", l.At, l.Scope)
	}
	for _, m := range r.Members {
		scope("members", m.At, m.Scope)
	}
	for _, s := range r.Shifted {
		scope("shifted", s.At, s.Scope)
	}
	for i := range r.Overruled {
		o := &r.Overruled[i]
		o.In = []string{o.Example}
		scope("overruled", Pointer(o.Example), o.Scope)
		if (o.As == "") == (len(o.Set) == 0) {
			faults = append(faults, fmt.Errorf("volatile.yaml: overruled %s: as or set is needed", o.Example))
		}
	}
	for _, a := range r.Absent {
		scope("absent", Pointer(a.Plugin), a.Scope)
	}
	return &r, errors.Join(faults...)
}
