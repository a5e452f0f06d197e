package transport_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/engine/transport/transporttest"
)

// mirror echoes what it is fed.
type mirror struct{ t engine.Transport }

func (m mirror) Feed(_ *engine.Batch, p []byte) engine.Next {
	if _, err := m.t.Write([][]byte{p}); err != nil {
		return engine.Stop
	}
	return engine.ReadOn
}
func (mirror) Writable(*engine.Batch)      {}
func (mirror) Closed(*engine.Batch, error) {}

// serveMirror serves echoes and hands out what is known of each connection.
func serveMirror(t *testing.T, l *transport.Listener) <-chan engine.ConnInfo {
	t.Helper()
	infos := make(chan engine.ConnInfo, 1000)
	if err := l.ServeFunc(func(i engine.ConnInfo, t engine.Transport) (transport.Endpoint, error) {
		infos <- i
		return mirror{t}, nil
	}); err != nil {
		t.Fatal(err)
	}
	return infos
}

const patience = 10 * time.Second

func dial(t *testing.T, l *transport.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience)) // reads fail then, and the test with them
	return c
}

// echoes sends s after head and expects s back.
func echoes(t *testing.T, c net.Conn, head, s string) {
	t.Helper()
	if _, err := io.WriteString(c, head+s); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(s))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != s {
		t.Fatalf("got %q, %v; want %q", got, err, s)
	}
}

// refused expects the end without a byte.
func refused(t *testing.T, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	var ne net.Error
	if n != 0 || err == nil || errors.As(err, &ne) && ne.Timeout() {
		t.Fatalf("read %d bytes, %v; want an end", n, err)
	}
}

// each runs a test with event loops and with goroutines.
func each(t *testing.T, run func(t *testing.T, d *transport.Driver)) {
	for name, o := range map[string]transport.Options{"loops": {Loops: 2}, "goroutines": {Goroutines: true}} {
		t.Run(name, func(t *testing.T) { run(t, newDriver(t, o)) })
	}
}

func TestAddresses(t *testing.T) {
	each(t, func(t *testing.T, d *transport.Driver) {
		for _, address := range []string{"0", ":0", "127.0.0.1:0", "0.0.0.0:0", "localhost:0"} {
			l := open(t, d, transport.ListenOptions{Address: address})
			infos := serveMirror(t, l)
			port := l.Addr().(*net.TCPAddr).Port
			if port == 0 {
				t.Fatalf("%s: address is %v", address, l.Addr())
			}
			c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)).String())
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			echoes(t, c, "", "hello")
			if i := <-infos; i.Peer.String() != c.LocalAddr().String() || i.Local.String() != c.RemoteAddr().String() {
				t.Errorf("%s: got %v to %v, want %v to %v", address, i.Peer, i.Local, c.LocalAddr(), c.RemoteAddr())
			}
			_ = c.Close()
		}
		l := open(t, d, transport.ListenOptions{Address: "127.0.0.1:0"})
		if _, err := d.Open(transport.ListenOptions{Address: l.Addr().String()}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("address in use: got %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		again := open(t, d, transport.ListenOptions{Address: l.Addr().String()})
		if again.Addr().String() != l.Addr().String() {
			t.Errorf("got %v, want %v", again.Addr(), l.Addr())
		}
		if _, err := d.Open(transport.ListenOptions{Address: "nonsense"}); err == nil {
			t.Error("nonsense is an address")
		}
	})
}

func TestAccessRules(t *testing.T) {
	each(t, func(t *testing.T, d *transport.Driver) {
		deny, err := transport.ParseAccessRule("deny 127.0.0.2")
		if err != nil {
			t.Fatal(err)
		}
		o := transport.ListenOptions{Address: "127.0.0.1:0", Access: transport.Access{deny, {Allow: true}}}
		l := open(t, d, o)
		serveMirror(t, l)
		echoes(t, dial(t, l), "", "hello")
		from := func() net.Conn {
			c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(patience)) // reads fail then
			return c
		}
		refused(t, from())
		if n := l.Refused().Access; n != 1 {
			t.Errorf("%d refused, want 1", n)
		}
		o.Access = nil
		if err := l.Configure(o); err != nil {
			t.Fatal(err)
		}
		echoes(t, from(), "", "hello")
	})
}

func TestConfigureRefuses(t *testing.T) {
	d := newDriver(t, transport.Options{})
	o := transport.ListenOptions{Address: "127.0.0.1:0"}
	l := open(t, d, o)
	for name, change := range map[string]func(*transport.ListenOptions){
		"address":  func(o *transport.ListenOptions) { o.Address = "127.0.0.1:1" },
		"TLS":      func(o *transport.ListenOptions) { o.TLS = &transport.TLS{} },
		"negative": func(o *transport.ListenOptions) { o.ProxyTimeout = -1 },
	} {
		bad := o
		change(&bad)
		if err := l.Configure(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := l.Options(); got.Address != o.Address || got.TLS != nil || got.ProxyTimeout != 0 {
			t.Errorf("%s: options changed to %+v", name, got)
		}
	}
}

const header = "PROXY TCP4 203.0.113.9 198.51.100.1 4711 1883\r\n"

func TestProxyProtocol(t *testing.T) {
	each(t, func(t *testing.T, d *transport.Driver) {
		l := open(t, d, transport.ListenOptions{Address: "127.0.0.1:0", ProxyProtocol: true, ProxyTimeout: 300 * time.Millisecond})
		infos := serveMirror(t, l)

		echoes(t, dial(t, l), header, "hello")
		if i := <-infos; i.Peer.String() != "203.0.113.9:4711" || i.Local.String() != "198.51.100.1:1883" {
			t.Errorf("got %+v", i)
		}
		c := dial(t, l) // byte by byte
		for _, b := range []byte(header) {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		echoes(t, c, "", "hello")
		<-infos
		c = dial(t, l) // a health check speaks for itself
		echoes(t, c, "PROXY UNKNOWN\r\n", "hello")
		if i := <-infos; i.Peer.String() != c.LocalAddr().String() {
			t.Errorf("got %v, want %v", i.Peer, c.LocalAddr())
		}

		c = dial(t, l)
		if _, err := io.WriteString(c, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		refused(t, c)
		refused(t, dial(t, l)) // says nothing
		c = dial(t, l)
		if _, err := io.WriteString(c, header[:20]); err != nil {
			t.Fatal(err)
		}
		refused(t, c) // says half of it
		transporttest.Eventually(t, "three are counted", func() bool { return l.Refused().Proxy == 3 })
		if len(infos) != 0 {
			t.Errorf("the core saw %+v", <-infos)
		}
	})
}

func TestProxyProtocolBelowTLS(t *testing.T) {
	k := newKeys(t)
	each(t, func(t *testing.T, d *transport.Driver) {
		l := open(t, d, transport.ListenOptions{Address: "127.0.0.1:0", ProxyProtocol: true,
			TLS: &transport.TLS{CertFile: k.cert, KeyFile: k.key}})
		infos := serveMirror(t, l)
		c := dial(t, l)
		if _, err := io.WriteString(c, header); err != nil {
			t.Fatal(err)
		}
		echoes(t, tls.Client(c, k.client), "", "hello")
		if i := <-infos; i.Peer.String() != "203.0.113.9:4711" {
			t.Errorf("got %+v", i)
		}
	})
}

func TestClientCertificates(t *testing.T) {
	k, other := newKeys(t), newKeys(t)
	stranger := other.withCert.Clone()
	stranger.RootCAs = k.client.RootCAs
	each(t, func(t *testing.T, d *transport.Driver) {
		for _, c := range []struct {
			name string
			o    transport.TLS
			cfg  *tls.Config
			want string // common name; "-": refused
		}{
			{"not asked for", transport.TLS{}, k.withCert, ""},
			{"optional, none", transport.TLS{Verify: true}, k.client, ""},
			{"optional, one", transport.TLS{Verify: true}, k.withCert, "device-7"},
			{"optional, a stranger's", transport.TLS{Verify: true}, stranger, "-"},
			{"required, none", transport.TLS{RequireCert: true}, k.client, "-"},
			{"required, one", transport.TLS{RequireCert: true}, k.withCert, "device-7"},
			{"required, a stranger's", transport.TLS{RequireCert: true}, stranger, "-"},
			{"version too old", transport.TLS{MinVersion: tls.VersionTLS13}, maxVersion(k.client, tls.VersionTLS12), "-"},
			{"old cipher only", transport.TLS{MaxVersion: tls.VersionTLS12, Ciphers: []string{"ECDHE-ECDSA-AES256-GCM-SHA384"}}, k.client, ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				c.o.CertFile, c.o.KeyFile, c.o.CAFile = k.cert, k.key, k.ca
				l := open(t, d, transport.ListenOptions{Address: "127.0.0.1:0", TLS: &c.o})
				infos := serveMirror(t, l)
				nc := tls.Client(dial(t, l), c.cfg)
				_, err := io.WriteString(nc, "hello")
				if err == nil {
					_, err = io.ReadFull(nc, make([]byte, 5))
				}
				if c.want == "-" {
					if err == nil {
						t.Fatal("let in")
					}
					transporttest.Eventually(t, "it is counted", func() bool { return l.Refused().Handshake == 1 })
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				i := <-infos
				if c.want == "" && i.PeerCert != nil || c.want != "" && (i.PeerCert == nil || i.PeerCert.CommonName != c.want) {
					t.Errorf("got %+v, want %q", i.PeerCert, c.want)
				}
				if c.want != "" && i.PeerCert.Subject != "CN=device-7,O=Plant" {
					t.Errorf("subject %q", i.PeerCert.Subject)
				}
			})
		}
	})
}

func maxVersion(c *tls.Config, v uint16) *tls.Config {
	c = c.Clone()
	c.MaxVersion = v
	return c
}

func TestBadTLSOptions(t *testing.T) {
	k := newKeys(t)
	empty := t.TempDir() + "/empty.pem"
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, transport.Options{})
	for name, o := range map[string]transport.TLS{
		"no certificate":      {KeyFile: k.key},
		"certificate missing": {CertFile: k.cert + "x", KeyFile: k.key},
		"not a key":           {CertFile: k.cert, KeyFile: k.ca},
		"CA missing":          {CertFile: k.cert, KeyFile: k.key, CAFile: k.ca + "x", Verify: true},
		"CA empty":            {CertFile: k.cert, KeyFile: k.key, CAFile: empty, Verify: true},
		"unknown cipher":      {CertFile: k.cert, KeyFile: k.key, Ciphers: []string{"ROT13"}},
		"versions crossed":    {CertFile: k.cert, KeyFile: k.key, MaxVersion: tls.VersionTLS11},
	} {
		if l, err := d.Open(transport.ListenOptions{Address: "127.0.0.1:0", TLS: &o}); err == nil {
			t.Errorf("%s: no error", name)
			_ = l.Close()
		}
	}
}

func TestReload(t *testing.T) {
	k, next := newKeys(t), newKeys(t)
	move := func(from, to string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := newDriver(t, transport.Options{})
	l := open(t, d, transport.ListenOptions{Address: "127.0.0.1:0", TLS: &transport.TLS{CertFile: k.cert, KeyFile: k.key, CAFile: k.ca, RequireCert: true}})
	serveMirror(t, l)
	old := tls.Client(dial(t, l), k.withCert)
	echoes(t, old, "", "hello")

	move(next.cert, k.cert) // without its key: a mistake in the middle of a change
	if err := l.Reload(); err == nil {
		t.Error("a certificate without its key was taken")
	}
	echoes(t, tls.Client(dial(t, l), k.withCert), "", "hello")

	move(next.key, k.key)
	move(next.ca, k.ca)
	if err := l.Reload(); err != nil {
		t.Fatal(err)
	}
	echoes(t, tls.Client(dial(t, l), next.withCert), "", "hello")
	echoes(t, old, "", "still here")
	if err := tls.Client(dial(t, l), k.withCert).Handshake(); err == nil {
		t.Error("the old CA is trusted still")
	}
}

func TestHandshakeFaults(t *testing.T) {
	k := newKeys(t)
	each(t, func(t *testing.T, d *transport.Driver) {
		l := open(t, d, transport.ListenOptions{Address: "127.0.0.1:0", HandshakeTimeout: 300 * time.Millisecond,
			TLS: &transport.TLS{CertFile: k.cert, KeyFile: k.key}})
		infos := serveMirror(t, l)
		silent := dial(t, l)
		half := dial(t, l)
		garbage := dial(t, l)
		if _, err := half.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(garbage, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00 and then some more"); err != nil {
			t.Fatal(err)
		}
		good := tls.Client(dial(t, l), k.client)
		echoes(t, good, "", "hello")
		<-infos
		for _, c := range []net.Conn{silent, half, garbage} {
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		}
		transporttest.Eventually(t, "three are counted", func() bool { return l.Refused().Handshake == 3 })
		echoes(t, good, "", "undisturbed")
		if len(infos) != 0 {
			t.Errorf("the core saw %+v", <-infos)
		}
	})
}

// TestHandshakeFlood: peers that begin a handshake and do not go on keep nobody
// out.
func TestHandshakeFlood(t *testing.T) {
	k := newKeys(t)
	d := newDriver(t, transport.Options{MaxHandshakes: 20})
	l := open(t, d, transport.ListenOptions{Address: "127.0.0.1:0", TLS: &transport.TLS{CertFile: k.cert, KeyFile: k.key}})
	serveMirror(t, l)
	for range 200 {
		_, _ = dial(t, l).Write([]byte{22, 3, 1, 2, 0, 1, 0, 1}) // some are closed before
	}
	began := time.Now()
	echoes(t, tls.Client(dial(t, l), k.client), "", "hello")
	if took := time.Since(began); took > patience/2 {
		t.Errorf("a good client had to wait %v", took)
	}
	transporttest.Eventually(t, "the oldest are closed", func() bool { return l.Refused().Handshake >= 180 })
}
