package transport

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ParseAddress reads a listening address in the forms that configuration
// files use: "1883" and ":1883" (all addresses, IPv4 and IPv6), "127.0.0.1:1883",
// "[::1]:1883", "localhost:1883", and "unix:/path/to/socket". Port 0 lets the
// system choose. The result is what package net calls network and address.
func ParseAddress(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return "", "", fmt.Errorf("listening address %q: no path", s)
		}
		return "unix", path, nil
	}
	host, port := "", s
	if strings.Contains(s, ":") {
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", "", fmt.Errorf("listening address %q: want port, host:port or [ipv6]:port", s)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", "", fmt.Errorf("listening address %q: port must be a number from 0 to 65535", s)
	}
	return "tcp", net.JoinHostPort(host, port), nil
}

// resolve turns a "tcp" address of ParseAddress into the address to bind. An
// empty host means all addresses of both families; a name must resolve to
// exactly what one socket can bind, so its first address is taken.
func resolve(address string) (netip.AddrPort, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("resolve listening address: %w", err)
	}
	if a.IP == nil {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(a.Port)), nil
	}
	return unmap(a.AddrPort()), nil
}

// unmap shows an IPv4 peer of a dual-stack socket as IPv4.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// addrPort is the address of a net.Addr, or the zero value when it has none (a
// unix socket, a pipe).
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	case interface{ AddrPort() netip.AddrPort }:
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}
