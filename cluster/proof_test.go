package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// port is a cluster port for a test, with what it refused.
func port(t *testing.T, own Hello, cookie string, secure *tls.Config) (*mux, chan error) {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 100)
	m := newMux(socket, secure, []byte(cookie), func(_ string, err error) { refused <- err })
	m.handle(Raft, func(c net.Conn, from Hello) { // echoes who it is
		defer c.Close()
		io.WriteString(c, from.Node+"\n")
		io.Copy(c, c)
	})
	m.start(own)
	t.Cleanup(func() {
		if err := m.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m, refused
}

func hello(node string) Hello {
	return Hello{Cluster: "c", ID: "id-" + node, Node: node, Address: "127.0.0.1:1", Version: "1", Level: Level}
}

func TestProof(t *testing.T) {
	for _, tc := range []struct {
		name    string
		cookie  string
		change  func(*Hello)
		purpose Purpose
		want    Verdict
	}{
		{name: "the same", cookie: "secret", purpose: Raft, want: welcome},
		{name: "another cookie", cookie: "Secret", purpose: Raft, want: wrongCookie},
		{name: "a longer cookie", cookie: "secret1", purpose: Raft, want: wrongCookie},
		{name: "another cluster", cookie: "secret", purpose: Raft, want: wrongCluster, change: func(h *Hello) { h.Cluster = "d" }},
		{name: "too old", cookie: "secret", purpose: Raft, want: wrongVersion, change: func(h *Hello) { h.Level = MinLevel - 1 }},
		{name: "nobody's purpose", cookie: "secret", purpose: Link, want: noService},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, refused := port(t, hello("a"), "secret", nil)
			own := hello("b")
			if tc.change != nil {
				tc.change(&own)
			}
			b, _ := port(t, own, tc.cookie, nil)
			conn, peer, err := b.dial(t.Context(), a.socket.Addr().String(), tc.purpose)
			if tc.want == welcome {
				if err != nil || peer.Node != "a" {
					t.Fatalf("got %v, %+v", err, peer)
				}
				conn.SetDeadline(time.Now().Add(5 * time.Second))
				line := make([]byte, 2)
				if _, err := io.ReadFull(conn, line); err != nil || string(line) != "b\n" {
					t.Errorf("the owner was told %q, %v", line, err)
				}
				return
			}
			if r, ok := errors.AsType[*RefusedError](err); !ok || r.Verdict != tc.want {
				t.Errorf("the dialer: got %v, want %v", err, tc.want)
			}
			select {
			case err := <-refused:
				if r, ok := errors.AsType[*RefusedError](err); !ok || r.Verdict != tc.want {
					t.Errorf("the listener: got %v, want %v", err, tc.want)
				}
			case <-time.After(5 * time.Second):
				t.Error("the listener has reported nothing")
			}
		})
	}
}

// wire is a connection whose traffic is kept.
type wire struct {
	net.Conn
	sent, got *bytes.Buffer
}

func (w wire) Write(p []byte) (int, error) { w.sent.Write(p); return w.Conn.Write(p) }
func (w wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.got.Write(p[:n])
	return n, err
}

func dialRaw(t *testing.T, m *mux) wire {
	t.Helper()
	c, err := net.Dial("tcp", m.socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return wire{c, &bytes.Buffer{}, &bytes.Buffer{}}
}

// TestTranscript looks at what goes over the wire: the cookie does not, what was
// recorded is of no use again, and neither is what the listener itself has said.
func TestTranscript(t *testing.T) {
	const cookie = "a-cookie-that-is-easy-to-find"
	a, refused := port(t, hello("a"), cookie, nil)
	own := hello("b")
	own.Purpose = Raft
	w := dialRaw(t, a)
	if _, err := greet(w, []byte(cookie), own, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(append(w.sent.Bytes(), w.got.Bytes()...), []byte(cookie)) {
		t.Error("the cookie went over the wire")
	}
	again := dialRaw(t, a)
	again.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := again.Write(w.sent.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, again); err != nil { // until it is closed
		t.Fatal(err)
	}
	if got := again.got.Bytes(); len(got) != openingSize+1 || Verdict(got[openingSize]) != wrongCookie {
		t.Errorf("a recorded greeting: answered %q", got)
	}
	expect := func(what string) {
		t.Helper()
		select {
		case err := <-refused:
			if err == nil {
				t.Errorf("%s: no error", what)
			}
		case <-time.After(2 * proofTimeout):
			t.Errorf("%s: nothing was reported", what)
		}
	}
	expect("a recorded greeting")
	for what, text := range map[string]string{
		"HTTP":               "GET / HTTP/1.1\r\nHost: x\r\n\r\nand enough for an opening",
		"a hello too long":   string(newOpening()) + "\xff\xff" + strings.Repeat("x", 5000),
		"a hello that is no": string(newOpening()) + "\x00\x02[]" + strings.Repeat("x", 32),
	} {
		c := dialRaw(t, a)
		c.Write([]byte(text))
		expect(what)
	}
}

// TestListenerProves answers a dialer without knowing the cookie: it is refused.
func TestListenerProves(t *testing.T) {
	own := hello("b")
	for _, verdict := range []Verdict{welcome, wrongCluster} {
		here, there := net.Pipe()
		go func() {
			theirs, _ := readOpening(there)
			mine := newOpening()
			there.Write(mine)
			raw, _, _ := readHello(there)
			proof := make([]byte, 32)
			io.ReadFull(there, proof)
			out := bytes.NewBuffer([]byte{byte(verdict)})
			writeHello(out, hello("a"))
			out.Write(proof) // all that it has
			there.Write(out.Bytes())
			_, _ = theirs, raw
			there.Close()
		}()
		_, err := greet(here, []byte("secret"), own, 5*time.Second)
		if r, ok := errors.AsType[*RefusedError](err); !ok || r.Verdict != wrongCookie || !r.Here {
			t.Errorf("got %v", err)
		}
		here.Close()
	}
}

// TestHalfOpen keeps connections open that prove nothing: their number is bounded,
// and they end.
func TestHalfOpen(t *testing.T) {
	a, _ := port(t, hello("a"), "secret", nil)
	var open []net.Conn
	for range maxHalfOpen + 20 {
		open = append(open, dialRaw(t, a))
	}
	closed := 0
	for _, c := range open {
		c.SetReadDeadline(time.Now().Add(2 * proofTimeout))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a silent connection stays open")
		}
		closed++
	}
	if closed != len(open) {
		t.Errorf("closed: %d of %d", closed, len(open))
	}
	b, _ := port(t, hello("b"), "secret", nil)
	conn, _, err := b.dial(t.Context(), a.socket.Addr().String(), Raft)
	if err != nil {
		t.Fatalf("after them: %v", err)
	}
	conn.Close()
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, key, cert}
}

// node is the TLS of a node whose certificate this authority has signed.
func (a *authority) node(trusts *authority) *tls.Config {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(trusts.cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
}

// TestMutualTLS lets nodes with certificates of one authority talk, and nobody
// else, whether or not they know the cookie.
func TestMutualTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	a, _ := port(t, hello("a"), "secret", ca.node(ca))
	for _, tc := range []struct {
		name   string
		tls    *tls.Config
		cookie string
		good   bool
	}{
		{"the same authority", ca.node(ca), "secret", true},
		{"another cookie", ca.node(ca), "secret2", false},
		{"a certificate of another authority", other.node(ca), "secret", false},
		{"trusts another authority", ca.node(other), "secret", false},
		{"no TLS", nil, "secret", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, _ := port(t, hello("b"), tc.cookie, tc.tls)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			conn, _, err := b.dial(ctx, a.socket.Addr().String(), Raft)
			if (err == nil) != tc.good {
				t.Errorf("got %v, want success: %v", err, tc.good)
			}
			if conn != nil {
				conn.Close()
			}
		})
	}
}

func TestCookie(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Cookie("", dir, "0.0.0.0:5370"); !errors.Is(err, ErrNoCookie) {
		t.Errorf("every address: got %v, want %v", err, ErrNoCookie)
	}
	if got, err := Cookie("given", dir, "0.0.0.0:5370"); err != nil || string(got) != "given" {
		t.Errorf("given: got %q, %v", got, err)
	}
	for _, at := range []string{"127.0.0.1:5370", "127.0.0.9:1", "[::1]:5370", "localhost:5370"} {
		made, err := Cookie("", dir, at)
		again, err2 := Cookie("", dir, at)
		if err != nil || err2 != nil || len(made) < 32 || !bytes.Equal(made, again) {
			t.Errorf("%s: got %q %v, %q %v", at, made, err, again, err2)
		}
	}
	info, err := os.Stat(filepath.Join(dir, cookieFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the cookie: %v, %v", info.Mode(), err)
	}
}

func TestAddressOf(t *testing.T) {
	for seed, want := range map[string][2]string{
		"n1@10.0.0.1":      {"10.0.0.1:5370", "n1@10.0.0.1"},
		"n1@10.0.0.1:7":    {"10.0.0.1:7", "n1@10.0.0.1"},
		"n1@host.example":  {"host.example:5370", "n1@host.example"},
		"10.0.0.1:7":       {"10.0.0.1:7", ""},
		"n1@[2001:db8::1]": {"[2001:db8::1]:5370", "n1@[2001:db8::1]"},
	} {
		if at, name := addressOf(seed), seedName(seed); at != want[0] || name != want[1] {
			t.Errorf("%s: got %s and %s, want %v", seed, at, name, want)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte("x"))
	f.Add(append(newOpening(), 0, 2, '{', '}'))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := receive(there, []byte("secret"), hello("a"), func(Purpose) bool { return true }, time.Second)
			there.Close()
			done <- err
		}()
		go io.Copy(io.Discard, here)
		here.Write(b)
		here.Close()
		if err := <-done; err == nil {
			t.Fatal("somebody was let in who does not know the cookie")
		}
	})
}
