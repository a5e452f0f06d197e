package transport

import (
	"net/netip"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct{ in, network, address string }{
		{"1883", "tcp", ":1883"},
		{":1883", "tcp", ":1883"},
		{":0", "tcp", ":0"},
		{"0.0.0.0:1883", "tcp", "0.0.0.0:1883"},
		{"127.0.0.1:11883", "tcp", "127.0.0.1:11883"},
		{"[::1]:1883", "tcp", "[::1]:1883"},
		{"localhost:1883", "tcp", "localhost:1883"},
		{"unix:/run/lacewing.sock", "unix", "/run/lacewing.sock"},
		{"", "", ""},
		{"mqtt", "", ""},
		{"65536", "", ""},
		{"-1", "", ""},
		{"01883", "", ""},
		{"::1:1883", "", ""},
		{"1.2.3.4:", "", ""},
		{"unix:", "", ""},
	} {
		t.Run(c.in, func(t *testing.T) {
			network, address, err := ParseAddress(c.in)
			if (err == nil) != (c.network != "") {
				t.Fatalf("error %v, want one: %v", err, c.network == "")
			}
			if network != c.network || address != c.address {
				t.Errorf("got %q %q, want %q %q", network, address, c.network, c.address)
			}
		})
	}
}

func TestAccess(t *testing.T) {
	rules := func(lines ...string) (a Access) {
		for _, l := range lines {
			r, err := ParseAccessRule(l)
			if err != nil {
				t.Fatal(err)
			}
			if r.String() != l {
				t.Errorf("%q prints as %q", l, r)
			}
			a = append(a, r)
		}
		return a
	}
	for _, c := range []struct {
		name string
		a    Access
		addr string
		want bool
	}{
		{"no rules", nil, "9.9.9.9", true},
		{"allow all", rules("allow all"), "9.9.9.9", true},
		{"first rule decides", rules("deny 10.1.0.0/16", "allow 10.0.0.0/8"), "10.1.2.3", false},
		{"second rule decides", rules("deny 10.1.0.0/16", "allow 10.0.0.0/8"), "10.2.2.3", true},
		{"no rule fits", rules("allow 10.0.0.0/8"), "11.0.0.1", false},
		{"mapped address", rules("allow 10.0.0.0/8"), "::ffff:10.0.0.1", true},
		{"IPv6 prefix", rules("allow fd00::/8"), "fd12::1", true},
		{"other family", rules("allow fd00::/8"), "10.0.0.1", false},
		{"zone", rules("allow fe80::/10"), "fe80::1%eth0", true},
		{"deny all", rules("allow ::1/128", "deny all"), "127.0.0.1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.a.Allows(netip.MustParseAddr(c.addr)); got != c.want {
				t.Errorf("%v allows %s: %v, want %v", c.a, c.addr, got, c.want)
			}
		})
	}
	if !rules("deny all").Allows(netip.Addr{}) {
		t.Error("a unix socket is refused")
	}
	for _, bad := range []string{"", "allow", "permit all", "allow 1.2.3", "allow 1.2.3.4/33", "allow all of them", "deny any"} {
		if _, err := ParseAccessRule(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
