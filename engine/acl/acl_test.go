package acl

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine"
)

func who1(id, username, ip string) *engine.ClientInfo {
	return &engine.ClientInfo{ClientID: id, Username: username, HasUsername: username != "", Peer: netip.AddrPortFrom(netip.MustParseAddr(ip), 1)}
}

func TestAuthorize(t *testing.T) {
	const pub, sub = engine.ActionPublish, engine.ActionSubscribe
	const no, yes, dunno = engine.Deny, engine.Allow, engine.Ignore
	tests := []struct {
		name   string
		rules  string
		client *engine.ClientInfo
		action engine.Action
		topic  string
		want   engine.Verdict
	}{
		{"default: dashboard sees $SYS", DefaultText, who1("c", "dashboard", "10.0.0.1"), sub, "$SYS/brokers", yes},
		{"default: local sees all", DefaultText, who1("c", "", "127.0.0.1"), sub, "#", yes},
		{"default: mapped local address", DefaultText, who1("c", "", "::ffff:127.0.0.1"), sub, "#", yes},
		{"default: others do not see $SYS", DefaultText, who1("c", "", "10.0.0.1"), sub, "$SYS/#", no},
		{"default: others do not see everything", DefaultText, who1("c", "", "10.0.0.1"), sub, "#", no},
		{"default: eq is no filter", DefaultText, who1("c", "", "10.0.0.1"), sub, "a/#", yes},
		{"default: publish", DefaultText, who1("c", "", "10.0.0.1"), pub, "a", yes},
		{"empty", "", who1("c", "", "10.0.0.1"), pub, "a", dunno},
		{"deny all", "{deny, all}.", who1("c", "", "10.0.0.1"), pub, "a", no},
		{"first wins", "{deny, all, publish, [\"a\"]}. {allow, all}.", who1("c", "", "10.0.0.1"), pub, "a", no},
		{"user", `{allow, {user, "u"}, publish, ["a"]}.`, who1("c", "u", "10.0.0.1"), pub, "a", yes},
		{"other user", `{allow, {user, "u"}, publish, ["a"]}.`, who1("c", "v", "10.0.0.1"), pub, "a", dunno},
		{"any user, none given", `{allow, {user, all}, publish, ["a"]}.`, who1("c", "", "10.0.0.1"), pub, "a", dunno},
		{"client", `{allow, {client, "c"}, publish, "a/+"}.`, who1("c", "", "10.0.0.1"), pub, "a/b", yes},
		{"network", `{allow, {ipaddr, "10.0.0.0/8"}, publish, ["a"]}.`, who1("c", "", "10.9.9.9"), pub, "a", yes},
		{"other network", `{allow, {ipaddr, "10.0.0.0/8"}, publish, ["a"]}.`, who1("c", "", "11.9.9.9"), pub, "a", dunno},
		{"IPv6", `{allow, {ipaddr, "fe80::/10"}, publish, ["a"]}.`, who1("c", "", "fe80::1"), pub, "a", yes},
		{"and", `{allow, {'and', [{user, "u"}, {client, "c"}]}, publish, ["a"]}.`, who1("d", "u", "10.0.0.1"), pub, "a", dunno},
		{"or", `{allow, {'or', [{user, "u"}, {client, "c"}]}, publish, ["a"]}.`, who1("d", "u", "10.0.0.1"), pub, "a", yes},
		{"wrong action", `{allow, all, subscribe, ["a"]}.`, who1("c", "", "10.0.0.1"), pub, "a", dunno},
		{"%c", `{allow, all, publish, ["dev/%c/#"]}.`, who1("c", "", "10.0.0.1"), pub, "dev/c/x/y", yes},
		{"%c and the parent", `{allow, all, publish, ["dev/%c/#"]}.`, who1("c", "", "10.0.0.1"), pub, "dev/c", yes},
		{"%c of another", `{allow, all, publish, ["dev/%c/#"]}.`, who1("c", "", "10.0.0.1"), pub, "dev/d/x", dunno},
		{"%c that is a wildcard", `{allow, all, subscribe, ["dev/%c"]}.`, who1("+", "", "10.0.0.1"), sub, "dev/x", dunno},
		{"%c that is a wildcard itself", `{allow, all, subscribe, ["%c"]}.`, who1("#", "", "10.0.0.1"), sub, "a/b", dunno},
		{"%c with a slash", `{allow, all, subscribe, ["dev/%c"]}.`, who1("a/b", "", "10.0.0.1"), sub, "dev/a/b", dunno},
		{"%u without user name", `{allow, all, publish, ["u/%u"]}.`, who1("c", "", "10.0.0.1"), pub, "u/x", dunno},
		{"%u", `{allow, all, publish, ["u/%u/+"]}.`, who1("c", "joe", "10.0.0.1"), pub, "u/joe/x", yes},
		{"%u within a level is literal", `{allow, all, publish, ["u-%u"]}.`, who1("c", "joe", "10.0.0.1"), pub, "u-joe", dunno},
		{"eq with placeholder", `{allow, all, subscribe, [{eq, "%c/#"}]}.`, who1("c", "", "10.0.0.1"), sub, "c/#", yes},
		{"no topics", `{allow, all, publish, []}.`, who1("c", "", "10.0.0.1"), pub, "a", dunno},
		{"binary", `{allow, all, publish, [<<"a">>]}.`, who1("c", "", "10.0.0.1"), pub, "a", yes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Parse("f", strings.NewReader(tt.rules))
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Authorize(tt.client, tt.action, tt.topic); got != tt.want {
				t.Errorf("%s %q: got %v, want %v", tt.action, tt.topic, got, tt.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		text string
		line int
		want string
	}{
		{"{allow, all}", 1, "full stop"},
		{"\n% x\n{allow}.", 3, "a rule is"},
		{"{permit, all}.", 1, "allow or deny"},
		{"{allow, nobody}.", 1, "about all"},
		{"{allow, all,\n read, []}.", 2, "subscribe, publish or pubsub"},
		{"{allow, all, publish, topic}.", 1, "list of topics"},
		{`{allow, all, publish, ["a/#/b"]}.`, 1, "not a valid topic filter"},
		{`{allow, all, publish, [{like, "a"}]}.`, 1, "a topic is"},
		{`{allow, {ipaddr, "300.1.1.1"}, publish, ["a"]}.`, 1, "no address"},
		{`{allow, {'and', []}, publish, ["a"]}.`, 1, "cannot stand"},
		{`{allow, {group, "g"}, publish, ["a"]}.`, 1, "unknown kind"},
		{`{allow, {user, 7}, publish, ["a"]}.`, 1, "unexpected '7'"},
		{`{allow, {user, "x}, publish, ["a"]}.` + "\n", 1, "comma"},
		{"{allow, \"x\n", 1, "not closed"},
		{"{allow, all", 1, "file ends"},
		{strings.Repeat("{", 100), 1, "too deep"},
		{"{allow, \xff}.", 1, "unexpected"},
	}
	for _, tt := range tests {
		_, err := Parse("acl.conf", strings.NewReader(tt.text))
		var e *Error
		if !errors.As(err, &e) || e.Line != tt.line && tt.want != "unexpected" || !strings.Contains(e.Reason, tt.want) {
			t.Errorf("%q: got %v, want line %d, %q", tt.text, err, tt.line, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(DefaultText)
	f.Add(`{allow, {'and', [{user, "u"}, {ipaddr, "10.0.0.0/8"}]}, pubsub, ["a/%c/#", {eq, "#"}]}.`)
	f.Add("{deny,\n<<\"x\\\"\">>}.%")
	c := who1("c/+", "#", "::1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse("f", strings.NewReader(text))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Line < 1 || e.Line > strings.Count(text, "\n")+1 {
				t.Fatalf("got %v, want an *Error with a line of the file", err)
			}
			return
		}
		for _, name := range []string{"a", "#", "$SYS/x", "a/b/c", "/"} {
			r.Authorize(c, engine.ActionPublish, name)
			r.Authorize(c, engine.ActionSubscribe, name)
		}
	})
}
