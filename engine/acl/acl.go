// Package acl reads access rules in the syntax of EMQ's acl.conf, which is Erlang terms, and decides by them:
//
//	{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.
//	{allow, {ipaddr, "127.0.0.1"}, pubsub, ["$SYS/#", "#"]}.
//	{deny, all, subscribe, ["$SYS/#", {eq, "#"}]}.
//	{allow, all}.
//
// The first rule that matches decides. A rule names who it is about (all, a user name, a client id, an address or network, or
// several of these with 'and' and 'or'), what they do (subscribe, publish or pubsub) and the topics: filters that are matched
// against the topic or filter in question, or {eq, Topic}, which is compared with it. A level that is %u or %c stands for the
// user name or client id. Rules are immutable and may be used from several goroutines.
package acl

import (
	_ "embed"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// MaxSize is the largest file that Parse reads, bytes.
const MaxSize = 16 << 20

// Error says where a file is wrong, and why.
type Error struct {
	Name   string
	Line   int // from 1
	Reason string
}

// Error gives name, line and reason.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.Name, e.Line, e.Reason) }

// DefaultText is the shipped file.
//
//go:embed acl.conf
var DefaultText string

// Default gives the shipped rules.
func Default() *Rules {
	r, err := Parse("acl.conf", strings.NewReader(DefaultText))
	if err != nil {
		panic(err) // the embedded file is tested
	}
	return r
}

// Rules are the rules of one file.
type Rules struct {
	rules []rule
}

// Len is the number of rules.
func (r *Rules) Len() int { return len(r.rules) }

type rule struct {
	verdict engine.Verdict
	who     who
	publish bool
	subscr  bool
	topics  []pattern // nil: every topic
}

// who decides whether a rule is about a client.
type who interface {
	is(c *engine.ClientInfo) bool
}

type (
	everybody struct{}
	anyUser   struct{} // gave a user name
	user      string
	client    string
	network   netip.Prefix
	both      []who
	either    []who
)

func (everybody) is(*engine.ClientInfo) bool   { return true }
func (anyUser) is(c *engine.ClientInfo) bool   { return c.HasUsername }
func (u user) is(c *engine.ClientInfo) bool    { return c.HasUsername && c.Username == string(u) }
func (id client) is(c *engine.ClientInfo) bool { return c.ClientID == string(id) }
func (n network) is(c *engine.ClientInfo) bool {
	return netip.Prefix(n).Contains(c.Peer.Addr().Unmap().WithZone(""))
}

func (l both) is(c *engine.ClientInfo) bool {
	for _, w := range l {
		if !w.is(c) {
			return false
		}
	}
	return true
}

func (l either) is(c *engine.ClientInfo) bool {
	for _, w := range l {
		if w.is(c) {
			return true
		}
	}
	return false
}

// pattern is one entry of a list of topics.
type pattern struct {
	text  string
	equal bool // compared, not matched
	fill  bool // has %u or %c
}

func (p *pattern) matches(c *engine.ClientInfo, name string) bool {
	switch {
	case p.fill:
		return p.matchFilled(c, name)
	case p.equal:
		return p.text == name
	}
	return topic.Match(p.text, name)
}

// matchFilled matches level by level. What stands for a placeholder is compared as it is: a client whose id is a wildcard does
// not get a rule for all topics, and one whose id has a slash gets none.
func (p *pattern) matchFilled(c *engine.ClientInfo, name string) bool {
	filter := p.text
	if !p.equal && strings.HasPrefix(name, "$") && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for more, left := true, true; ; {
		var want, have string
		if !more {
			return !left
		}
		want, filter, more = strings.Cut(filter, "/")
		if want == "#" && !p.equal {
			return true
		}
		if !left {
			return false
		}
		have, name, left = strings.Cut(name, "/")
		switch {
		case want == "+" && !p.equal:
			continue
		case want == "%u" && c.HasUsername:
			want = c.Username
		case want == "%c":
			want = c.ClientID
		}
		if want != have {
			return false
		}
	}
}

// Authorize gives the verdict of the first rule that matches, Ignore if none does.
func (r *Rules) Authorize(c *engine.ClientInfo, action engine.Action, name string) engine.Verdict {
	for i := range r.rules {
		u := &r.rules[i]
		if action == engine.ActionPublish && !u.publish || action == engine.ActionSubscribe && !u.subscr || !u.who.is(c) {
			continue
		}
		if u.topics == nil {
			return u.verdict
		}
		for j := range u.topics {
			if u.topics[j].matches(c, name) {
				return u.verdict
			}
		}
	}
	return engine.Ignore
}

// Parse reads a file; name is for errors. The error is an *Error, or that of r.
func Parse(name string, r io.Reader) (*Rules, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > MaxSize {
		return nil, &Error{name, 1, fmt.Sprintf("file is larger than %d bytes", MaxSize)}
	}
	s := &scanner{name: name, text: text, line: 1}
	rules := &Rules{}
	for {
		t, err := s.statement()
		if err != nil {
			return nil, err
		}
		if t == nil {
			return rules, nil
		}
		u, bad := compile(t)
		if bad != nil {
			return nil, &Error{name, bad.line, bad.reason}
		}
		rules.rules = append(rules.rules, u)
	}
}

var _ engine.Authorizer = (*Rules)(nil)
