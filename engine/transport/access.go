package transport

import (
	"fmt"
	"net/netip"
	"strings"
)

// Access says which addresses may connect to a listener: the first rule that
// contains the address decides, and an address that no rule contains is
// refused. No rules at all let everybody in.
type Access []AccessRule

// An AccessRule lets the addresses of a prefix in, or keeps them out.
type AccessRule struct {
	Allow  bool
	Prefix netip.Prefix // the zero value stands for all addresses
}

// ParseAccessRule reads "allow all", "deny 192.168.0.0/24" or "allow ::1".
func ParseAccessRule(s string) (AccessRule, error) {
	f := strings.Fields(s)
	if len(f) != 2 || f[0] != "allow" && f[0] != "deny" {
		return AccessRule{}, fmt.Errorf("access rule %q: want allow or deny, then all, an address or a prefix", s)
	}
	r := AccessRule{Allow: f[0] == "allow"}
	if f[1] == "all" {
		return r, nil
	}
	if a, err := netip.ParseAddr(f[1]); err == nil {
		a = a.Unmap()
		r.Prefix = netip.PrefixFrom(a, a.BitLen())
		return r, nil
	}
	p, err := netip.ParsePrefix(f[1])
	if err != nil {
		return AccessRule{}, fmt.Errorf("access rule %q: %q is neither all nor an address nor a prefix", s, f[1])
	}
	r.Prefix = p.Masked()
	return r, nil
}

// String is the form that ParseAccessRule reads.
func (r AccessRule) String() string {
	verb := "deny "
	if r.Allow {
		verb = "allow "
	}
	if !r.Prefix.IsValid() {
		return verb + "all"
	}
	return verb + r.Prefix.String()
}

// Allows reports whether addr may connect. A peer without an IP address (a unix
// socket) is local to the machine and always may.
func (a Access) Allows(addr netip.Addr) bool {
	if len(a) == 0 || !addr.IsValid() {
		return true
	}
	addr = addr.Unmap().WithZone("")
	for _, r := range a {
		if !r.Prefix.IsValid() || r.Prefix.Contains(addr) {
			return r.Allow
		}
	}
	return false
}
