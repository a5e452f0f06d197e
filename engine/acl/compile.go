package acl

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// fault is an Error without the name of the file.
type fault struct {
	line   int
	reason string
}

func (t *term) fault(format string, args ...any) *fault {
	return &fault{t.line, fmt.Sprintf(format, args...)}
}

// compile makes a rule of a term.
func compile(t *term) (u rule, err *fault) {
	if t.kind != tuple || len(t.elems) != 2 && len(t.elems) != 4 {
		return u, t.fault("a rule is {allow, all}, {deny, all} or {allow or deny, Who, subscribe or publish or pubsub, Topics}, not %s", clip(t))
	}
	switch {
	case t.elems[0].isAtom("allow"):
		u.verdict = engine.Allow
	case t.elems[0].isAtom("deny"):
		u.verdict = engine.Deny
	default:
		return u, t.elems[0].fault("allow or deny expected, not %s", clip(t.elems[0]))
	}
	if len(t.elems) == 2 {
		if !t.elems[1].isAtom("all") {
			return u, t.elems[1].fault("a rule of two parts is about all, not %s", clip(t.elems[1]))
		}
		u.who, u.publish, u.subscr = everybody{}, true, true
		return u, nil
	}
	if u.who, err = compileWho(t.elems[1]); err != nil {
		return u, err
	}
	switch a := t.elems[2]; {
	case a.isAtom("subscribe"):
		u.subscr = true
	case a.isAtom("publish"):
		u.publish = true
	case a.isAtom("pubsub"):
		u.subscr, u.publish = true, true
	default:
		return u, a.fault("subscribe, publish or pubsub expected, not %s", clip(a))
	}
	topics := t.elems[3]
	u.topics = []pattern{}
	if topics.kind == text {
		topics = &term{kind: list, line: topics.line, elems: []*term{topics}}
	}
	if topics.kind != list {
		return u, topics.fault("a list of topics expected, not %s", clip(topics))
	}
	for _, e := range topics.elems {
		p, err := compileTopic(e)
		if err != nil {
			return u, err
		}
		u.topics = append(u.topics, p)
	}
	return u, nil
}

func compileTopic(t *term) (p pattern, err *fault) {
	if t.kind == tuple && len(t.elems) == 2 && t.elems[0].isAtom("eq") && t.elems[1].kind == text {
		p.text, p.equal = t.elems[1].word, true
	} else if t.kind == text {
		p.text = t.word
		if !topic.ValidFilter(p.text) {
			return p, t.fault("%s is not a valid topic filter", clip(t))
		}
	} else {
		return p, t.fault("a topic is a text or {eq, Text}, not %s", clip(t))
	}
	levels := strings.Split(p.text, "/")
	p.fill = slices.Contains(levels, "%u") || slices.Contains(levels, "%c")
	return p, nil
}

func compileWho(t *term) (who, *fault) {
	if t.isAtom("all") {
		return everybody{}, nil
	}
	if t.kind != tuple || len(t.elems) != 2 || t.elems[0].kind != atom {
		return nil, t.fault("who is all, {user, Name}, {client, Id}, {ipaddr, Network}, {'and', List} or {'or', List}, not %s", clip(t))
	}
	arg := t.elems[1]
	switch t.elems[0].word {
	case "user":
		if arg.isAtom("all") {
			return anyUser{}, nil
		}
		if arg.kind == text {
			return user(arg.word), nil
		}
	case "client":
		if arg.isAtom("all") {
			return everybody{}, nil
		}
		if arg.kind == text {
			return client(arg.word), nil
		}
	case "ipaddr":
		if arg.kind == text {
			if a, err := netip.ParseAddr(arg.word); err == nil {
				a = a.Unmap().WithZone("")
				return network(netip.PrefixFrom(a, a.BitLen())), nil
			}
			if n, err := netip.ParsePrefix(arg.word); err == nil {
				return network(n.Masked()), nil
			}
			return nil, arg.fault("%s is no address and no network", clip(arg))
		}
	case "and", "or":
		if arg.kind != list || len(arg.elems) == 0 {
			break
		}
		var all []who
		for _, e := range arg.elems {
			w, err := compileWho(e)
			if err != nil {
				return nil, err
			}
			all = append(all, w)
		}
		if t.elems[0].word == "and" {
			return both(all), nil
		}
		return either(all), nil
	default:
		return nil, t.fault("unknown kind of client %s", clip(t.elems[0]))
	}
	return nil, arg.fault("%s cannot stand behind %s", clip(arg), t.elems[0].word)
}

// clip gives a term as text of bounded length.
func clip(t *term) string {
	s := t.String()
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:77], "") + "..."
	}
	return s
}
