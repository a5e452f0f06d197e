package acl

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// kind is the kind of an Erlang term, as far as rules need them.
type kind int

const (
	atom kind = iota
	text
	tuple
	list
)

// term is one term with the line it began on.
type term struct {
	kind  kind
	text  string
	items []term
	line  int
}

func (t term) isAtom(name string) bool { return t.kind == atom && t.text == name }

// String writes the term for an error.
func (t term) String() string {
	switch t.kind {
	case text:
		return fmt.Sprintf("%q", t.text)
	case atom:
		return t.text
	}
	parts := make([]string, len(t.items))
	for i, item := range t.items {
		parts[i] = item.String()
	}
	if t.kind == list {
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// parser reads terms, each ended by a full stop.
type parser struct {
	name string
	text string
	at   int
	line int
}

func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", p.name, p.line, fmt.Sprintf(format, args...))
}

// skip passes over blanks and comments.
func (p *parser) skip() {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '\n':
			p.line++
			p.at++
		case c == ' ' || c == '\t' || c == '\r':
			p.at++
		case c == '%':
			for p.at < len(p.text) && p.text[p.at] != '\n' {
				p.at++
			}
		default:
			return
		}
	}
}

// peek returns the next byte that means something, 0 at the end.
func (p *parser) peek() byte {
	p.skip()
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

// statement reads the next term with its full stop; ok is false at the end.
func (p *parser) statement() (t term, ok bool, err error) {
	if p.peek() == 0 {
		return term{}, false, nil
	}
	if t, err = p.term(0); err != nil {
		return term{}, false, err
	}
	if p.peek() != '.' {
		return term{}, false, p.fail("a rule ends with a full stop, found %s", p.found())
	}
	p.at++
	return t, true, nil
}

func (p *parser) found() string {
	if p.peek() == 0 {
		return "the end of the file"
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.at:])
	return fmt.Sprintf("%q", r)
}

func (p *parser) term(depth int) (term, error) {
	c := p.peek()
	t := term{line: p.line}
	if depth > 2*maxDepth+4 {
		return t, p.fail("too many brackets within each other")
	}
	var err error
	switch {
	case c == '{':
		t.kind = tuple
		t.items, err = p.sequence('}', depth)
	case c == '[':
		t.kind = list
		t.items, err = p.sequence(']', depth)
	case c == '"':
		t.kind = text
		t.text, err = p.quoted('"')
	case c == '\'':
		t.text, err = p.quoted('\'')
	case c == '<' && strings.HasPrefix(p.text[p.at:], `<<"`):
		p.at += 2
		t.kind = text
		if t.text, err = p.quoted('"'); err == nil {
			if !strings.HasPrefix(p.text[p.at:], ">>") {
				return t, p.fail("a binary ends with >>")
			}
			p.at += 2
		}
	case c >= 'a' && c <= 'z':
		begin := p.at
		for p.at < len(p.text) && isWord(p.text[p.at]) {
			p.at++
		}
		t.text = p.text[begin:p.at]
	default:
		return t, p.fail("expected a term, found %s", p.found())
	}
	return t, err
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '@'
}

// sequence reads the terms of a tuple or a list.
func (p *parser) sequence(end byte, depth int) ([]term, error) {
	begin := p.line
	p.at++
	var items []term
	if p.peek() == end {
		p.at++
		return items, nil
	}
	for {
		t, err := p.term(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, t)
		switch c := p.peek(); c {
		case ',':
			p.at++
		case end:
			p.at++
			return items, nil
		case 0:
			return nil, p.fail("the bracket of line %d is not closed", begin)
		default:
			return nil, p.fail("expected , or %c, found %s", end, p.found())
		}
	}
}

// quoted reads a string or a quoted atom.
func (p *parser) quoted(quote byte) (string, error) {
	begin := p.line
	p.at++
	var b strings.Builder
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch c {
		case quote:
			if !utf8.ValidString(b.String()) {
				return "", p.fail("a string is not UTF-8")
			}
			return b.String(), nil
		case '\n':
			return "", p.fail("a string is not closed")
		case '\\':
			if p.at == len(p.text) {
				return "", p.fail("the string of line %d is not closed", begin)
			}
			switch e := p.text[p.at]; e {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			default:
				b.WriteByte(e)
			}
			p.at++
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail("the string of line %d is not closed", begin)
}
