package api

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// Report is the outcome of a replay.
type Report struct {
	Base    string
	Results []*Result
}

// Failed counts the examples that the server does not do.
func (r Report) Failed() (n int) {
	for _, res := range r.Results {
		if res.Failed() {
			n++
		}
	}
	return n
}

// Skipped counts the examples that were not sent.
func (r Report) Skipped() (n int) {
	for _, res := range r.Results {
		if res.Skipped != "" {
			n++
		}
	}
	return n
}

// Literal counts the values that were compared as they are.
func (r Report) Literal() (n int) {
	for _, res := range r.Results {
		n += res.Literal
	}
	return n
}

// faults are the reasons why an example failed, one a line.
func (r *Result) faults() []string {
	var lines []string
	if r.Err != nil {
		lines = strings.Split(r.Err.Error(), "\n")
	}
	for _, d := range r.Diffs {
		lines = append(lines, d.String())
	}
	return lines
}

// WriteText writes a report for people: every failure with section, request,
// expected and got, then what was skipped, then the counts.
func (r Report) WriteText(w io.Writer) error {
	p := &printer{w: w}
	for _, res := range r.Results {
		if !res.Failed() {
			continue
		}
		p.f("FAIL %s %s\n  section   %s\n  request   %s\n", res.Document, res.ID, res.Section, res.Request)
		p.f("  expected  %s\n  got       %s\n", res.Expected.line(), res.Got.line())
		for _, fault := range res.faults() {
			p.f("  differs   %s\n", fault)
		}
	}
	for _, res := range r.Results {
		if res.Skipped != "" {
			p.f("SKIP %s %s: %s\n", res.Document, res.ID, res.Skipped)
		}
	}
	for _, doc := range openapi.Documents {
		total, documented, bad := 0, 0, 0
		for _, res := range r.Results {
			if res.Document != doc {
				continue
			}
			total++
			if res.Documented {
				documented++
			}
			if res.Failed() {
				bad++
			}
		}
		if total > 0 {
			p.f("%s: %d examples, %d of them documented, %d failed\n", doc, total, documented, bad)
		}
	}
	p.f("%d examples, %d failed, %d skipped, %d values compared literally\n", len(r.Results), r.Failed(), r.Skipped(), r.Literal())
	return p.err
}

func (a Answer) line() string {
	switch {
	case a.Status == 0:
		return "no answer"
	case a.Body == nil:
		return fmt.Sprintf("%d without a body", a.Status)
	}
	return fmt.Sprintf("%d %s", a.Status, show(a.Body))
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// WriteJSON writes a report for programs.
func (r Report) WriteJSON(w io.Writer) error {
	type answer struct {
		Status int `json:"status"`
		Body   any `json:"body,omitempty"`
	}
	type result struct {
		*Result
		Passed   bool     `json:"passed"`
		Faults   []string `json:"faults,omitempty"`
		Expected answer   `json:"expected"`
		Got      answer   `json:"got"`
	}
	out := struct {
		Base     string   `json:"base"`
		Examples int      `json:"examples"`
		Failed   int      `json:"failed"`
		Skipped  int      `json:"skipped"`
		Literal  int      `json:"literal"`
		Results  []result `json:"results"`
	}{r.Base, len(r.Results), r.Failed(), r.Skipped(), r.Literal(), []result{}}
	for _, res := range r.Results {
		out.Results = append(out.Results, result{
			Result: res, Passed: !res.Failed() && res.Skipped == "", Faults: res.faults(),
			Expected: answer{res.Expected.Status, res.Expected.Body}, Got: answer{res.Got.Status, res.Got.Body},
		})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

// WriteJUnit writes a report in the XML that CI systems read: a suite for each
// document, a case for each example.
func (r Report) WriteJUnit(w io.Writer) error {
	type message struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testCase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *message `xml:"failure"`
		Skipped *message `xml:"skipped"`
	}
	type suite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testCase `xml:"testcase"`
	}
	var root struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []suite  `xml:"testsuite"`
	}
	for _, doc := range openapi.Documents {
		s := suite{Name: string(doc)}
		for _, res := range r.Results {
			if res.Document != doc {
				continue
			}
			c := testCase{Name: res.ID, Class: string(doc) + "." + res.Section}
			s.Tests++
			switch {
			case res.Failed():
				s.Failures++
				c.Failure = &message{Message: firstLine(strings.Join(res.faults(), "\n")), Text: fmt.Sprintf(
					"request   %s\nexpected  %s\ngot       %s\n%s", res.Request, res.Expected.line(), res.Got.line(), strings.Join(res.faults(), "\n"))}
			case res.Skipped != "":
				s.Skipped++
				c.Skipped = &message{Message: res.Skipped}
			}
			s.Cases = append(s.Cases, c)
		}
		if s.Tests > 0 {
			root.Suites = append(root.Suites, s)
		}
	}
	text, err := xml.MarshalIndent(root, "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, text)
	return err
}
