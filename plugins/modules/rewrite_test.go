package modules

import (
	"strings"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine"
)

func TestRewriteRules(t *testing.T) {
	m := &modules{}
	for _, text := range []string{"x/# ^x/y/(.+)$ z/y/$1", "y/+/z/# ^y/(.+)/z/(.+)$ y/z/$2", "x/# ^x/(.+)$ never/$1", "d/+ ^d/(.*)$ $SYS/$1/$x"} {
		r, err := parseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		m.rules = append(m.rules, r)
	}
	for _, c := range []struct {
		topic, want string // want "": as it is
	}{
		{"x/y/2", "z/y/2"}, {"x/1/2", ""}, {"y/a/z/b", "y/z/b"}, {"y/def", ""}, {"other", ""}, {"d/1", "$SYS/1/$x"}, {"x/y/+", "z/y/+"},
	} {
		got, ok := m.rewrite(c.topic)
		if ok != (c.want != "") || got != c.want && ok {
			t.Errorf("%s: got %q %v, want %q", c.topic, got, ok, c.want)
		}
	}
}

func TestBadRules(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"x/#", "is not a filter, an expression and a destination"},
		{"x/#/y a b", "no topic filter"},
		{"x/# ( b", "expression that is none"},
		{"x/# ^x$ z/$1", "its expression 0 groups"},
		{"x/# ^(x)$ z/$99999999999999999999", "destination $99999999999999999999"},
	} {
		if _, err := parseRule(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", c.text, err, c.want)
		}
	}
}

func TestFill(t *testing.T) {
	for _, c := range []struct {
		filter, id, user string
		want             string
	}{
		{"$client/%c", "c1", "", "$client/c1"}, {"u/%u/#", "c1", "bob", "u/bob/#"}, {"u/%u", "c1", "", "u/%u"}, {"a%c/b", "c1", "", "a%c/b"},
		{"$client/%c", "#", "", "$client/%c"}, {"$client/%c", "a/b", "", "$client/%c"},
	} {
		got := fill(c.filter, engine.ClientInfo{ClientID: c.id, Username: c.user, HasUsername: c.user != ""})
		if got != c.want {
			t.Errorf("%s for %q: got %q, want %q", c.filter, c.id, got, c.want)
		}
	}
}
