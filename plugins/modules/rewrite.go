package modules

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// rule replaces topics that filter and expression both match.
type rule struct {
	filter string
	expr   *regexp.Regexp
	dest   []part
}

// part is a piece of a destination: text, or the group of the expression.
type part struct {
	text  string
	group int // 0: text
}

// parseRule reads "filter expression destination".
func parseRule(text string) (rule, error) {
	f := strings.Fields(text)
	if len(f) != 3 {
		return rule{}, errors.New("is not a filter, an expression and a destination")
	}
	r := rule{filter: f[0]}
	if !topic.ValidFilter(r.filter) {
		return rule{}, fmt.Errorf("has %q, which is no topic filter", r.filter)
	}
	var err error
	if r.expr, err = regexp.Compile(f[1]); err != nil {
		return rule{}, fmt.Errorf("has an expression that is none: %w", err)
	}
	if r.dest, err = parseDest(f[2], r.expr.NumSubexp()); err != nil {
		return rule{}, err
	}
	return r, nil
}

// parseDest takes $1 to $9... out of a destination; a dollar before anything else
// is text, as in $SYS and $share.
func parseDest(text string, groups int) ([]part, error) {
	var parts []part
	for text != "" {
		i := strings.IndexByte(text, '$')
		if i < 0 {
			i = len(text)
		}
		n := i + 1
		for n < len(text) && text[n] >= '0' && text[n] <= '9' {
			n++
		}
		if n > i+1 {
			group, err := strconv.Atoi(text[i+1 : n])
			if err != nil || group < 1 || group > groups {
				return nil, fmt.Errorf("has the destination %s and its expression %d groups", text[i:n], groups)
			}
			parts = append(parts, part{text: text[:i]}, part{group: group})
			text = text[n:]
			continue
		}
		n = min(n, len(text))
		parts = append(parts, part{text: text[:n]})
		text = text[n:]
	}
	return parts, nil
}

// rewrite gives the topic that the rules make of t; ok is false where they leave it
// as it is.
func (m *modules) rewrite(t string) (to string, ok bool) {
	for _, r := range m.rules {
		if !topic.Match(r.filter, t) {
			continue
		}
		groups := r.expr.FindStringSubmatch(t)
		if groups == nil {
			return "", false
		}
		var b strings.Builder
		for _, p := range r.dest {
			if p.group > 0 {
				b.WriteString(groups[p.group])
			} else {
				b.WriteString(p.text)
			}
		}
		return b.String(), b.String() != t
	}
	return "", false
}

// rewriteHooks replaces topics before anything else sees them. The engine has
// checked the access rules for the topic as it came; the client may not reach by a
// rewrite what it may not reach by name, so they are asked again for the new one.
func (m *modules) rewriteHooks() engine.Hooks {
	return engine.Hooks{
		Publish: func(msg *engine.Message) (bool, packet.ReasonCode) {
			to, ok := m.rewrite(msg.Topic)
			if !ok {
				return false, packet.Success
			}
			if !topic.ValidName(to) {
				return false, packet.TopicNameInvalid
			}
			if !plugins.MayPublish(m.engine, msg, to) {
				return false, packet.NotAuthorized
			}
			msg.Topic = to
			return false, packet.Success
		},
		Subscribe: func(c *engine.ClientInfo, s *engine.Subscription) packet.ReasonCode {
			to, ok := m.rewrite(s.Filter)
			if !ok {
				return packet.Success
			}
			if !topic.ValidFilter(to) {
				return packet.TopicFilterInvalid
			}
			if !m.engine.Authorized(c, engine.ActionSubscribe, to) {
				return packet.NotAuthorized
			}
			s.Filter = to
			return packet.Success
		},
		Unsubscribe: func(_ *engine.ClientInfo, filter *string) {
			if to, ok := m.rewrite(*filter); ok && topic.ValidFilter(to) {
				*filter = to
			}
		},
	}
}
