package acl

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The kinds of terms.
const (
	atom = iota
	text
	tuple
	list
)

// term is an Erlang term.
type term struct {
	kind  int
	line  int
	word  string // of an atom or text
	elems []*term
}

func (t *term) String() string {
	switch t.kind {
	case atom:
		return t.word
	case text:
		return strconv.Quote(t.word)
	}
	parts := make([]string, len(t.elems))
	for i, e := range t.elems {
		parts[i] = e.String()
	}
	if t.kind == tuple {
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// isAtom reports whether t is that atom.
func (t *term) isAtom(word string) bool { return t.kind == atom && t.word == word }

// maxDepth bounds how deep terms may lie in each other.
const maxDepth = 32

// scanner reads terms.
type scanner struct {
	name string
	text []byte
	at   int
	line int
}

func (s *scanner) fail(format string, args ...any) error {
	return &Error{s.name, s.line, fmt.Sprintf(format, args...)}
}

// blank skips white space and comments.
func (s *scanner) blank() {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\n':
			s.line++
		case c == '%':
			for s.at+1 < len(s.text) && s.text[s.at+1] != '\n' {
				s.at++
			}
		case c != ' ' && c != '\t' && c != '\r' && c != '\f':
			return
		}
	}
}

// peek gives the next byte that is not blank, 0 at the end.
func (s *scanner) peek() byte {
	s.blank()
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// statement reads a term and its full stop; nil at the end of the file.
func (s *scanner) statement() (*term, error) {
	if s.peek(); s.at == len(s.text) {
		return nil, nil
	}
	t, err := s.term(0)
	if err != nil {
		return nil, err
	}
	if s.peek() != '.' {
		return nil, s.fail("full stop expected after the rule that begins in line %d", t.line)
	}
	s.at++
	return t, nil
}

func (s *scanner) term(depth int) (*term, error) {
	if depth > maxDepth {
		return nil, s.fail("nested too deep")
	}
	c := s.peek()
	t := &term{line: s.line}
	switch {
	case c == '{':
		t.kind = tuple
		return t, s.elements(t, '}', depth)
	case c == '[':
		t.kind = list
		return t, s.elements(t, ']', depth)
	case c == '"':
		t.kind = text
		return t, s.quoted(t, '"')
	case c == '\'':
		return t, s.quoted(t, '\'')
	case c == '<' && strings.HasPrefix(string(s.text[s.at:min(len(s.text), s.at+3)]), `<<"`):
		t.kind = text
		s.at += 2
		if err := s.quoted(t, '"'); err != nil {
			return nil, err
		}
		if s.at+2 > len(s.text) || string(s.text[s.at:s.at+2]) != ">>" {
			return nil, s.fail(">> expected after a binary")
		}
		s.at += 2
		return t, nil
	case c >= 'a' && c <= 'z':
		from := s.at
		for s.at < len(s.text) && (s.text[s.at] == '_' || s.text[s.at] == '@' || s.text[s.at] >= '0' && s.text[s.at] <= '9' ||
			s.text[s.at] >= 'a' && s.text[s.at] <= 'z' || s.text[s.at] >= 'A' && s.text[s.at] <= 'Z') {
			s.at++
		}
		t.word = string(s.text[from:s.at])
		return t, nil
	case c == 0 && s.at == len(s.text):
		return nil, s.fail("file ends within a rule")
	}
	r, _ := utf8.DecodeRune(s.text[s.at:])
	return nil, s.fail("unexpected %q", r)
}

// elements reads the elements of a tuple or list and its closing bracket.
func (s *scanner) elements(t *term, end byte, depth int) error {
	s.at++
	if s.peek() == end {
		s.at++
		return nil
	}
	for {
		e, err := s.term(depth + 1)
		if err != nil {
			return err
		}
		t.elems = append(t.elems, e)
		switch s.peek() {
		case ',':
			s.at++
		case end:
			s.at++
			return nil
		default:
			if s.at == len(s.text) {
				return s.fail("file ends within a rule")
			}
			return s.fail("comma or %q expected", rune(end))
		}
	}
}

// quoted reads a string or a quoted atom.
func (s *scanner) quoted(t *term, quote byte) error {
	var b strings.Builder
	for s.at++; s.at < len(s.text); s.at++ {
		c := s.text[s.at]
		switch {
		case c == quote:
			s.at++
			t.word = b.String()
			if !utf8.ValidString(t.word) {
				return s.fail("text is not UTF-8")
			}
			return nil
		case c == '\n':
			return s.fail("text is not closed at the end of the line")
		case c == '\\':
			if s.at++; s.at == len(s.text) {
				return s.fail("file ends within a text")
			}
			switch c := s.text[s.at]; c {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 's':
				b.WriteByte(' ')
			case '\\', '"', '\'':
				b.WriteByte(c)
			default:
				return s.fail("unknown escape in a text")
			}
		default:
			b.WriteByte(c)
		}
	}
	return s.fail("file ends within a text")
}
