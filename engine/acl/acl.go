// Package acl reads files of access rules in the syntax of EMQ, and decides by them.
//
//	{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.
//	{deny, all, subscribe, ["$SYS/#", {eq, "#"}]}.
//	{allow, all}.
//
// A rule is {allow or deny, all}, or {allow or deny, Who, subscribe or publish or
// pubsub, Topics}. Who is all, {user, Name}, {client, Id}, {ipaddr, Range}, {'and',
// [Who]} or {'or', [Who]}; a topic is a filter, in which a level that is %u or %c
// stands for the user name or the client id, or {eq, Filter}, which is compared
// literally. The first rule that matches decides.
package acl

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// MaxFile is the most bytes that Parse reads.
const MaxFile = 16 << 20

// Rules are the rules of a file in their order. They are immutable and an
// engine.Authorizer.
type Rules struct{ rules []rule }

type rule struct {
	verdict engine.Verdict
	who     func(*engine.ClientInfo) bool // nil: everybody
	publish bool
	subs    bool
	topics  []pattern // nil: every topic
}

type pattern struct {
	text    string
	literal bool // {eq, ...}
	vars    bool // has a level %u or %c
}

// Parse reads rules; name stands in errors before the line. All of the text is
// refused for one bad rule.
func Parse(name string, r io.Reader) (*Rules, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, MaxFile)
	}
	p := &parser{name: name, text: string(text), line: 1}
	out := &Rules{}
	for {
		t, ok, err := p.statement()
		if err != nil {
			return nil, err
		}
		if !ok {
			return out, nil
		}
		one, err := compile(t)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, t.line, err)
		}
		out.rules = append(out.rules, one)
	}
}

// Len is the number of rules.
func (r *Rules) Len() int { return len(r.rules) }

// Authorize implements engine.Authorizer: the verdict of the first rule that matches,
// Ignore without one.
func (r *Rules) Authorize(c *engine.ClientInfo, action engine.Action, name string) engine.Verdict {
	for i := range r.rules {
		one := &r.rules[i]
		if action == engine.ActionSubscribe && !one.subs || action == engine.ActionPublish && !one.publish {
			continue
		}
		if one.who != nil && !one.who(c) {
			continue
		}
		if one.topics == nil || slices.ContainsFunc(one.topics, func(p pattern) bool { return p.match(c, name) }) {
			return one.verdict
		}
	}
	return engine.Ignore
}

func (p *pattern) match(c *engine.ClientInfo, name string) bool {
	text := p.text
	if p.vars {
		text = fill(text, c)
	}
	if p.literal {
		return text == name
	}
	return topic.Match(text, name)
}

// fill puts user name and client id in place of their levels. An identifier with a
// wildcard or a slash in it would widen the rule, and one that the client did not give
// has nothing to put: the level stays as it is, and matches no topic of a client.
func fill(text string, c *engine.ClientInfo) string {
	levels := strings.Split(text, "/")
	for i, l := range levels {
		switch {
		case l == "%u" && c.HasUsername && !strings.ContainsAny(c.Username, "+#/"):
			levels[i] = c.Username
		case l == "%c" && c.ClientID != "" && !strings.ContainsAny(c.ClientID, "+#/"):
			levels[i] = c.ClientID
		}
	}
	return strings.Join(levels, "/")
}

func compile(t term) (rule, error) {
	if t.kind != tuple || len(t.items) != 2 && len(t.items) != 4 {
		return rule{}, fmt.Errorf("a rule is {allow or deny, all} or {allow or deny, who, subscribe or publish or pubsub, [topics]}")
	}
	var out rule
	switch {
	case t.items[0].isAtom("allow"):
		out.verdict = engine.Allow
	case t.items[0].isAtom("deny"):
		out.verdict = engine.Deny
	default:
		return rule{}, fmt.Errorf("%s is neither allow nor deny", t.items[0])
	}
	if len(t.items) == 2 {
		if !t.items[1].isAtom("all") {
			return rule{}, fmt.Errorf("%s is not all", t.items[1])
		}
		out.publish, out.subs = true, true
		return out, nil
	}
	var err error
	if out.who, err = compileWho(t.items[1], 0); err != nil {
		return rule{}, err
	}
	switch {
	case t.items[2].isAtom("publish"):
		out.publish = true
	case t.items[2].isAtom("subscribe"):
		out.subs = true
	case t.items[2].isAtom("pubsub"):
		out.publish, out.subs = true, true
	default:
		return rule{}, fmt.Errorf("%s is none of subscribe, publish, pubsub", t.items[2])
	}
	if t.items[3].kind != list {
		return rule{}, fmt.Errorf("%s is no list of topics", t.items[3])
	}
	out.topics = []pattern{}
	for _, item := range t.items[3].items {
		p, err := compileTopic(item)
		if err != nil {
			return rule{}, err
		}
		out.topics = append(out.topics, p)
	}
	return out, nil
}

func compileTopic(t term) (pattern, error) {
	var p pattern
	switch {
	case t.kind == text:
		p.text = t.text
	case t.kind == tuple && len(t.items) == 2 && t.items[0].isAtom("eq") && t.items[1].kind == text:
		p.text, p.literal = t.items[1].text, true
	default:
		return p, fmt.Errorf("%s is neither a topic nor {eq, topic}", t)
	}
	if !topic.ValidFilter(p.text) {
		return p, fmt.Errorf("%q is no topic filter", p.text)
	}
	p.vars = slices.ContainsFunc(strings.Split(p.text, "/"), func(l string) bool { return l == "%u" || l == "%c" })
	return p, nil
}

// maxDepth bounds 'and' and 'or' within each other.
const maxDepth = 16

func compileWho(t term, depth int) (func(*engine.ClientInfo) bool, error) {
	if t.isAtom("all") {
		return nil, nil
	}
	if t.kind != tuple || len(t.items) != 2 || t.items[0].kind != atom || depth > maxDepth {
		return nil, fmt.Errorf("%s is none of all, {user, name}, {client, id}, {ipaddr, range}, {'and', [...]}, {'or', [...]}", t)
	}
	what, arg := t.items[0].text, t.items[1]
	switch what {
	case "user", "client":
		if arg.isAtom("all") {
			return nil, nil
		}
		if arg.kind != text {
			return nil, fmt.Errorf("%s in {%s, ...} is no string", arg, what)
		}
		if what == "user" {
			return func(c *engine.ClientInfo) bool { return c.HasUsername && c.Username == arg.text }, nil
		}
		return func(c *engine.ClientInfo) bool { return c.ClientID == arg.text }, nil
	case "ipaddr":
		if arg.kind != text {
			return nil, fmt.Errorf("%s in {ipaddr, ...} is no string", arg)
		}
		prefix, err := parseRange(arg.text)
		if err != nil {
			return nil, err
		}
		return func(c *engine.ClientInfo) bool { return prefix.Contains(c.Peer.Addr().Unmap().WithZone("")) }, nil
	case "and", "or":
		if arg.kind != list {
			return nil, fmt.Errorf("%s in {'%s', ...} is no list", arg, what)
		}
		var parts []func(*engine.ClientInfo) bool
		for _, item := range arg.items {
			part, err := compileWho(item, depth+1)
			if err != nil {
				return nil, err
			}
			if part == nil {
				part = func(*engine.ClientInfo) bool { return true }
			}
			parts = append(parts, part)
		}
		if what == "and" {
			return func(c *engine.ClientInfo) bool {
				return !slices.ContainsFunc(parts, func(p func(*engine.ClientInfo) bool) bool { return !p(c) })
			}, nil
		}
		return func(c *engine.ClientInfo) bool {
			return slices.ContainsFunc(parts, func(p func(*engine.ClientInfo) bool) bool { return p(c) })
		}, nil
	}
	return nil, fmt.Errorf("%s is none of user, client, ipaddr, 'and', 'or'", what)
}

func parseRange(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a range such as 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

var _ engine.Authorizer = (*Rules)(nil)
