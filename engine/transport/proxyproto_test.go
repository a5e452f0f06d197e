package transport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// proxyV2 makes a version 2 header.
func proxyV2(verCmd, family byte, body ...byte) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), verCmd, family)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...))
}

var (
	body4 = []byte{10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0x07, 0x5b}
	body6 = append(append(append([]byte{}, netip.MustParseAddr("fd00::1").AsSlice()...),
		netip.MustParseAddr("fd00::2").AsSlice()...), 0x1f, 0x90, 0x07, 0x5b)
)

var proxyCases = []struct {
	name, in string
	src, dst string // "" for local
	used     int    // 0: incomplete, -1: refused
}{
	{"v1 TCP4", "PROXY TCP4 10.0.0.1 10.0.0.2 8080 1883\r\n\x10", "10.0.0.1:8080", "10.0.0.2:1883", 40},
	{"v1 TCP6", "PROXY TCP6 fd00::1 fd00::2 8080 1883\r\n", "[fd00::1]:8080", "[fd00::2]:1883", 38},
	{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", "", "", 15},
	{"v1 UNKNOWN with more", "PROXY UNKNOWN ff:: ff:: 1 2\r\n", "", "", 29},
	{"v1 cut", "PROXY TCP4 10.0.0.1 10.0", "", "", 0},
	{"v1 one byte", "P", "", "", 0},
	{"v1 family and address differ", "PROXY TCP4 fd00::1 fd00::2 8080 1883\r\n", "", "", -1},
	{"v1 port too large", "PROXY TCP4 10.0.0.1 10.0.0.2 65536 1883\r\n", "", "", -1},
	{"v1 port with zero", "PROXY TCP4 10.0.0.1 10.0.0.2 080 1883\r\n", "", "", -1},
	{"v1 without CR", "PROXY TCP4 10.0.0.1 10.0.0.2 8080 1883\n", "", "", -1},
	{"v1 zone", "PROXY TCP6 fe80::1%a fe80::2 8080 1883\r\n", "", "", -1},
	{"v1 two blanks", "PROXY  TCP4 10.0.0.1 10.0.0.2 8080 1883\r\n", "", "", -1},
	{"v1 without end", "PROXY " + strings.Repeat("x", 200), "", "", -1},
	{"v2 TCP4", proxyV2(0x21, 0x11, body4...) + "\x10", "10.0.0.1:8080", "10.0.0.2:1883", 28},
	{"v2 TCP6", proxyV2(0x21, 0x21, body6...), "[fd00::1]:8080", "[fd00::2]:1883", 52},
	{"v2 with TLVs", proxyV2(0x21, 0x11, append(body4[:12:12], 4, 0, 2, 1, 1)...), "10.0.0.1:8080", "10.0.0.2:1883", 33},
	{"v2 LOCAL", proxyV2(0x20, 0x00), "", "", 16},
	{"v2 LOCAL with anything", proxyV2(0x20, 0xff, 1, 2, 3), "", "", 19},
	{"v2 unix socket", proxyV2(0x21, 0x31, make([]byte, 216)...), "", "", 232},
	{"v2 unspecified", proxyV2(0x21, 0x00), "", "", 16},
	{"v2 cut in the signature", "\r\n\r\n\x00\r\nQU", "", "", 0},
	{"v2 cut in the addresses", proxyV2(0x21, 0x11, body4...)[:20], "", "", 0},
	{"v2 short addresses", proxyV2(0x21, 0x11, body4[:8]...), "", "", -1},
	{"v2 other version", proxyV2(0x11, 0x11, body4...), "", "", -1},
	{"v2 unknown command", proxyV2(0x22, 0x11, body4...), "", "", -1},
	{"v2 unknown family", proxyV2(0x21, 0x55, body4...), "", "", -1},
	{"v2 very long", proxyV2(0x21, 0x11, make([]byte, 5000)...)[:16], "", "", -1},
	{"CONNECT", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", "", "", -1},
	{"nothing", "", "", "", 0},
}

func TestParseProxy(t *testing.T) {
	show := func(a netip.AddrPort) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	for _, c := range proxyCases {
		t.Run(c.name, func(t *testing.T) {
			h, used, err := parseProxy([]byte(c.in))
			if (err != nil) != (c.used < 0) || err == nil && used != c.used {
				t.Fatalf("used %d, error %v; want %d", used, err, c.used)
			}
			if show(h.src) != c.src || show(h.dst) != c.dst || h.local != (c.used > 0 && c.src == "") {
				t.Errorf("got %+v, want %s and %s", h, c.src, c.dst)
			}
			if c.used <= 0 {
				return
			}
			for n := range c.used { // every part of it is incomplete, none is refused
				if _, used, err := parseProxy([]byte(c.in[:n])); used != 0 || err != nil {
					t.Fatalf("first %d bytes: used %d, error %v", n, used, err)
				}
			}
		})
	}
}

// FuzzParseProxy: what is accepted stays the same whatever follows, and what
// is refused stays refused.
func FuzzParseProxy(f *testing.F) {
	for _, c := range proxyCases {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, used, err := parseProxy(p)
		if used < 0 || used > len(p) || used > proxyV2Max || err != nil && used != 0 {
			t.Fatalf("used %d of %d, error %v", used, len(p), err)
		}
		h2, used2, err2 := parseProxy(append(bytes.Clone(p), "\r\nmore"...))
		if used > 0 && (h2 != h || used2 != used || err2 != nil) {
			t.Fatalf("%+v %d became %+v %d %v with more behind it", h, used, h2, used2, err2)
		}
		if err != nil && err2 == nil {
			t.Fatal("refused, but accepted with more behind it")
		}
		if used > 0 && !h.local && (!h.src.IsValid() || !h.dst.IsValid()) {
			t.Fatalf("neither local nor addresses: %+v", h)
		}
		if used == 0 && err == nil && len(p) >= proxyV2Max {
			t.Fatal("more is wanted without bound")
		}
	})
}
