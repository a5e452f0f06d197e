package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// ErrProxyHeader means that a connection to a listener with PROXY protocol did
// not begin with a well-formed header of version 1 or 2.
var ErrProxyHeader = errors.New("malformed PROXY protocol header")

const (
	proxyV1Max  = 107  // bytes of a version 1 line, CR LF included
	proxyV2Max  = 4096 // bytes of a version 2 header with its TLVs that are accepted
	proxyV2Head = 16
)

var proxyV2Sign = []byte("\r\n\r\n\x00\r\nQUIT\n")

// A proxyHeader is what a load balancer says about a connection that it
// passes on.
type proxyHeader struct {
	// local: the proxy speaks for itself (a health check); the addresses of
	// the socket stand. Also set for families other than TCP over IP.
	local    bool
	src, dst netip.AddrPort
}

// parseProxy reads a PROXY protocol header, version 1 or 2, at the start of p.
// used is its length, and 0 while p holds only a part of it. No byte beyond
// the header is looked at, and a header is never longer than proxyV2Max.
func parseProxy(p []byte) (h proxyHeader, used int, err error) {
	n := min(len(p), len(proxyV2Sign))
	switch {
	case bytes.Equal(p[:n], proxyV2Sign[:n]):
		if len(p) < proxyV2Head {
			return h, 0, nil
		}
		return parseProxyV2(p)
	case strings.HasPrefix("PROXY ", string(p[:min(len(p), 6)])):
		return parseProxyV1(p)
	}
	return h, 0, ErrProxyHeader
}

func parseProxyV1(p []byte) (h proxyHeader, used int, err error) {
	end := bytes.IndexByte(p[:min(len(p), proxyV1Max)], '\n')
	if end < 0 {
		if len(p) >= proxyV1Max {
			return h, 0, ErrProxyHeader
		}
		return h, 0, nil
	}
	line, ok := strings.CutSuffix(string(p[:end]), "\r")
	if !ok {
		return h, 0, ErrProxyHeader
	}
	f := strings.Split(line, " ")
	if len(f) >= 2 && f[1] == "UNKNOWN" {
		return proxyHeader{local: true}, end + 1, nil // whatever follows is to be ignored
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return h, 0, ErrProxyHeader
	}
	addr := func(ip, port string) (netip.AddrPort, bool) {
		a, err := netip.ParseAddr(ip)
		n, err2 := strconv.ParseUint(port, 10, 16)
		ok := err == nil && err2 == nil && a.Is4() == (f[1] == "TCP4") && a.Zone() == "" && strconv.FormatUint(n, 10) == port
		return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
	}
	src, ok1 := addr(f[2], f[4])
	dst, ok2 := addr(f[3], f[5])
	if !ok1 || !ok2 {
		return h, 0, ErrProxyHeader
	}
	return proxyHeader{src: src, dst: dst}, end + 1, nil
}

func parseProxyV2(p []byte) (h proxyHeader, used int, err error) {
	version, command, family := p[12]>>4, p[12]&0x0f, p[13]
	used = proxyV2Head + int(binary.BigEndian.Uint16(p[14:]))
	if version != 2 || command > 1 || used > proxyV2Max {
		return h, 0, ErrProxyHeader
	}
	if len(p) < used {
		return h, 0, nil
	}
	if command == 0 { // LOCAL: the rest is to be skipped, whatever it is
		return proxyHeader{local: true}, used, nil
	}
	body := p[proxyV2Head:used]
	switch family {
	case 0x11: // TCP over IPv4; what follows the addresses are TLVs
		if len(body) < 12 {
			return h, 0, ErrProxyHeader
		}
		h.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[0:4])), binary.BigEndian.Uint16(body[8:]))
		h.dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[4:8])), binary.BigEndian.Uint16(body[10:]))
	case 0x21: // TCP over IPv6
		if len(body) < 36 {
			return h, 0, ErrProxyHeader
		}
		h.src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[0:16])).Unmap(), binary.BigEndian.Uint16(body[32:]))
		h.dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[16:32])).Unmap(), binary.BigEndian.Uint16(body[34:]))
	case 0x00, 0x12, 0x22, 0x31, 0x32: // unspecified, datagrams, unix sockets: no TCP address in it
		h.local = true
	default:
		return h, 0, ErrProxyHeader
	}
	return h, used, nil
}
