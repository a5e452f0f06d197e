package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// printer writes rows, or with --json the answers.
type printer struct {
	out   io.Writer
	json  bool
	first bool // no row of a JSON list yet
	head  []string
	tab   *tabwriter.Writer
}

func (s *session) printer(cmd *cobra.Command, head ...string) *printer {
	return &printer{out: cmd.OutOrStdout(), json: s.json, head: head, first: true}
}

// row adds a row; value is what --json shows of it.
func (p *printer) row(value any, cells ...any) error {
	if p.json {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		lead := ",\n  "
		if p.first {
			lead = "[\n  "
		}
		p.first = false
		_, err = fmt.Fprint(p.out, lead, string(text))
		return err
	}
	if p.tab == nil {
		p.tab = tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
		if len(p.head) > 0 {
			fmt.Fprintln(p.tab, strings.Join(p.head, "\t")) // errors show at the flush
		}
	}
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = clean(fmt.Sprint(c))
	}
	_, err := fmt.Fprintln(p.tab, strings.Join(text, "\t"))
	return err
}

// end finishes the table.
func (p *printer) end() error {
	switch {
	case p.json && p.first:
		_, err := fmt.Fprintln(p.out, "[]")
		return err
	case p.json:
		_, err := fmt.Fprintln(p.out, "\n]")
		return err
	case p.tab != nil:
		return p.tab.Flush()
	}
	return nil
}

// clean keeps text of strangers from writing to the terminal as it likes.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// printJSON writes an answer indented.
func printJSON(out io.Writer, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return fmt.Errorf("answer of the node: %w", err)
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

// say writes a line about what was done; with --json nothing but success.
func (s *session) say(cmd *cobra.Command, format string, args ...any) error {
	if s.json {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), `"ok"`)
		return err
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), clean(fmt.Sprintf(format, args...)))
	return err
}
