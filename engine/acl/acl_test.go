package acl

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine"
)

const shipped = `% comment
{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.
{allow, {ipaddr, "127.0.0.1"}, pubsub, ["$SYS/#", "#"]}.
{deny, all, subscribe, ["$SYS/#", {eq, "#"}]}.
{allow, all}.
`

func TestAuthorize(t *testing.T) {
	client := func(id, user, ip string) *engine.ClientInfo {
		return &engine.ClientInfo{ClientID: id, Username: user, HasUsername: user != "", Peer: netip.AddrPortFrom(netip.MustParseAddr(ip), 1)}
	}
	for _, c := range []struct {
		name, rules string
		client      *engine.ClientInfo
		action      engine.Action
		topic       string
		want        engine.Verdict
	}{
		{"dashboard reads $SYS", shipped, client("c", "dashboard", "10.0.0.1"), engine.ActionSubscribe, "$SYS/brokers", engine.Allow},
		{"others do not", shipped, client("c", "u", "10.0.0.1"), engine.ActionSubscribe, "$SYS/#", engine.Deny},
		{"loopback may take all", shipped, client("c", "", "127.0.0.1"), engine.ActionSubscribe, "#", engine.Allow},
		{"loopback as IPv4 in IPv6", shipped, client("c", "", "::ffff:127.0.0.1"), engine.ActionSubscribe, "#", engine.Allow},
		{"eq is literal", shipped, client("c", "", "10.0.0.1"), engine.ActionSubscribe, "a/#", engine.Allow},
		{"eq refuses itself", shipped, client("c", "", "10.0.0.1"), engine.ActionSubscribe, "#", engine.Deny},
		{"a rule for subscribe leaves publish alone", shipped, client("c", "", "10.0.0.1"), engine.ActionPublish, "$SYS/x", engine.Allow},
		{"no rule", ``, client("c", "", "10.0.0.1"), engine.ActionPublish, "a", engine.Ignore},
		{"client level", `{allow, all, pubsub, ["own/%c/#"]}.`, client("c1", "", "10.0.0.1"), engine.ActionPublish, "own/c1/x", engine.Allow},
		{"client level of another", `{allow, all, pubsub, ["own/%c/#"]}.`, client("c1", "", "10.0.0.1"), engine.ActionPublish, "own/c2/x", engine.Ignore},
		{"wildcard client id does not widen", `{allow, all, pubsub, ["own/%c"]}.`, client("+", "", "10.0.0.1"), engine.ActionPublish, "own/c2", engine.Ignore},
		{"user level without a user", `{allow, all, pubsub, ["own/%u"]}.`, client("c", "", "10.0.0.1"), engine.ActionPublish, "own/", engine.Ignore},
		{"range", `{deny, {ipaddr, "10.0.0.0/8"}, pubsub, ["#"]}.`, client("c", "", "10.9.9.9"), engine.ActionPublish, "a", engine.Deny},
		{"and", `{deny, {'and', [{user, "u"}, {client, "c"}]}, publish, ["a"]}.`, client("c", "u", "10.0.0.1"), engine.ActionPublish, "a", engine.Deny},
		{"and, one fails", `{deny, {'and', [{user, "u"}, {client, "d"}]}, publish, ["a"]}.`, client("c", "u", "10.0.0.1"), engine.ActionPublish, "a", engine.Ignore},
		{"or", `{deny, {'or', [{user, "x"}, {client, "c"}]}, publish, ["a"]}.`, client("c", "u", "10.0.0.1"), engine.ActionPublish, "a", engine.Deny},
		{"user all", `{deny, {user, all}, publish, ["a"]}.`, client("c", "", "10.0.0.1"), engine.ActionPublish, "a", engine.Deny},
		{"binaries", `{deny, all, publish, [<<"a">>]}.`, client("c", "", "10.0.0.1"), engine.ActionPublish, "a", engine.Deny},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse("acl.conf", strings.NewReader(c.rules))
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Authorize(c.client, c.action, c.topic); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestParseFaults(t *testing.T) {
	for _, c := range []struct{ name, rules, want string }{
		{"no full stop", "{allow, all}\n{deny, all}.", "acl.conf:2: a rule ends with a full stop"},
		{"not a rule", "{allow, all}.\n\n{permit, all}.", "acl.conf:3: permit is neither allow nor deny"},
		{"open bracket", "{allow, all", "acl.conf:1: the bracket of line 1 is not closed"},
		{"open string", "{allow, {user, \"a}.\n", "acl.conf:1: a string is not closed"},
		{"bad filter", `{allow, all, publish, ["a/#/b"]}.`, `"a/#/b" is no topic filter`},
		{"bad range", `{allow, {ipaddr, "10.0.0"}, publish, ["a"]}.`, `"10.0.0" is neither an address nor a range`},
		{"bad action", `{allow, all, read, ["a"]}.`, "read is none of subscribe, publish, pubsub"},
		{"bad who", `{allow, {group, "a"}, publish, ["a"]}.`, "group is none of"},
		{"depth", strings.Repeat("[", 100000), "too many brackets"},
		{"number", "{allow, 1}.", `found '1'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("acl.conf", strings.NewReader(c.rules))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(shipped)
	f.Add(`{allow, {'or', [{client, "%c"}]}, pubsub, [{eq, "a"}]}.`)
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := Parse("f", strings.NewReader(s)); err == nil {
			r.Authorize(&engine.ClientInfo{ClientID: "c"}, engine.ActionPublish, "a/b")
		}
	})
}
