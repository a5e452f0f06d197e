package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/engine/transport/transporttest"
	"github.com/lacewing-mqtt/lacewing/impl/websocket"
)

func listen(t *testing.T, o transport.Options, w websocket.Options) (*transport.Driver, *transport.Listener) {
	t.Helper()
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := transport.New(e, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDriver(t, d) })
	u, err := websocket.NewUpgrader(w)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Open(transport.ListenOptions{Address: "127.0.0.1:0", Upgrader: u})
	if err != nil {
		t.Fatal(err)
	}
	return d, l
}

func closeDriver(t *testing.T, d *transport.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Error("close driver:", err)
	}
}

// clientConn makes a net.Conn of an independent client.
type clientConn struct {
	*gorilla.Conn
	r io.Reader
}

func dial(l *transport.Listener) (net.Conn, error) {
	d := gorilla.Dialer{Subprotocols: []string{"mqtt"}, HandshakeTimeout: 10 * time.Second}
	c, _, err := d.Dial("ws://"+l.Addr().String()+"/mqtt", nil)
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: c}, nil
}

func (c *clientConn) Read(p []byte) (int, error) {
	for {
		if c.r == nil {
			kind, r, err := c.NextReader()
			if gorilla.IsCloseError(err, gorilla.CloseNormalClosure) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			if kind != gorilla.BinaryMessage {
				return 0, fmt.Errorf("frame of type %d", kind)
			}
			c.r = r
		}
		n, err := c.r.Read(p)
		if err == io.EOF {
			c.r = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

func (c *clientConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(gorilla.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *clientConn) SetDeadline(t time.Time) error {
	return c.NetConn().SetDeadline(t)
}

func TestDrivers(t *testing.T) {
	for name, o := range map[string]transport.Options{"loop": {Loops: 1}, "goroutines": {Goroutines: true}} {
		t.Run(name, func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.Carrier {
				d, l := listen(t, o, websocket.Options{})
				return transporttest.Carrier{Listener: l, Close: func() { closeDriver(t, d) },
					Dial: func() (net.Conn, error) { return dial(l) },
					Reset: func(c net.Conn) {
						tc := c.(*clientConn).NetConn().(*net.TCPConn)
						_ = tc.SetLinger(0)
						_ = tc.Close()
					}}
			})
		})
	}
}

func TestHandshake(t *testing.T) {
	_, strict := listen(t, transport.Options{}, websocket.Options{})
	_, any := listen(t, transport.Options{}, websocket.Options{Path: "/other", AnyProtocol: true})
	for _, l := range []*transport.Listener{strict, any} {
		if err := l.ServeFunc(echo); err != nil {
			t.Fatal(err)
		}
	}
	const good = "Host: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, c := range []struct {
		name, request string
		l             *transport.Listener
		status        int
		protocol      string
	}{
		{"mqtt", "GET /mqtt HTTP/1.1\r\n" + good + "Sec-WebSocket-Protocol: mqtt\r\n\r\n", strict, 101, "mqtt"},
		{"mqttv3.1", "GET /mqtt HTTP/1.1\r\n" + good + "Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n", strict, 101, "mqttv3.1"},
		{"the first that fits", "GET /mqtt HTTP/1.1\r\n" + good + "Sec-WebSocket-Protocol: chat, mqttv3.1, mqtt\r\n\r\n", strict, 101, "mqttv3.1"},
		{"query", "GET /mqtt?x=1 HTTP/1.1\r\n" + good + "Sec-WebSocket-Protocol: mqtt\r\n\r\n", strict, 101, "mqtt"},
		{"no subprotocol", "GET /mqtt HTTP/1.1\r\n" + good + "\r\n", strict, 400, ""},
		{"another subprotocol", "GET /mqtt HTTP/1.1\r\n" + good + "Sec-WebSocket-Protocol: chat\r\n\r\n", strict, 400, ""},
		{"no subprotocol, allowed", "GET /other HTTP/1.1\r\n" + good + "\r\n", any, 101, ""},
		{"another path", "GET / HTTP/1.1\r\n" + good + "Sec-WebSocket-Protocol: mqtt\r\n\r\n", strict, 404, ""},
		{"no upgrade", "GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", strict, 400, ""},
		{"POST", "POST /mqtt HTTP/1.1\r\n" + good + "\r\n", strict, 405, ""},
		{"not HTTP", "\x10\x0c\x00\x04MQTT\r\n\r\n", strict, 0, ""},
		{"endless header", "GET /mqtt HTTP/1.1\r\nX: " + strings.Repeat("x", 20_000), strict, 431, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := net.Dial("tcp", c.l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(10 * time.Second)) // reads below fail then
			if _, err := io.WriteString(nc, c.request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				if c.status != 0 {
					t.Fatal("no answer:", err)
				}
				return
			}
			if c.status != 0 && resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			if c.status == 0 && resp.StatusCode < 400 {
				t.Errorf("status %d, want an error", resp.StatusCode)
			}
			if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != c.protocol {
				t.Errorf("subprotocol %q, want %q", got, c.protocol)
			}
			if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != "" {
				t.Errorf("extensions %q, want none", got)
			}
		})
	}
}

// mirror echoes.
type mirror struct{ t engine.Transport }

func echo(_ engine.ConnInfo, t engine.Transport) (transport.Endpoint, error) { return mirror{t}, nil }

func (m mirror) Feed(_ *engine.Batch, p []byte) engine.Next {
	if _, err := m.t.Write([][]byte{p}); err != nil {
		return engine.Stop
	}
	return engine.ReadOn
}
func (mirror) Writable(*engine.Batch)      {}
func (mirror) Closed(*engine.Batch, error) {}

// frame makes a masked client frame.
func frame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := []byte{1, 2, 3, 250}
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

func closing(code uint16) string {
	return string(binary.BigEndian.AppendUint16([]byte{0x88, 2}, code))
}

func TestFrames(t *testing.T) {
	for name, o := range map[string]transport.Options{"loop": {Loops: 1}, "goroutines": {Goroutines: true}} {
		_, l := listen(t, o, websocket.Options{MaxFrame: 1000})
		if err := l.ServeFunc(echo); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, send, want string }{
			{"binary", frame(0x82, "hello") + frame(0x88, ""), "\x82\x05hello" + closing(1000)},
			{"empty", frame(0x82, "") + frame(0x88, "\x03\xe9gone"), closing(1001)},
			{"fragments with a ping between", frame(0x02, "a") + frame(0x89, "yo") + frame(0x80, "b") + frame(0x88, ""), "\x82\x01a\x8a\x02yo\x82\x01b" + closing(1000)},
			{"pong", frame(0x8a, "yo") + frame(0x88, ""), closing(1000)},
			{"text", frame(0x81, "hello"), closing(1003)},
			{"not masked", "\x82\x01a", closing(1002)},
			{"reserved bit", frame(0xc2, "a"), closing(1002)},
			{"unknown opcode", frame(0x83, "a"), closing(1002)},
			{"continuation of nothing", frame(0x80, "a"), closing(1002)},
			{"message in a message", frame(0x02, "a") + frame(0x82, "b"), "\x82\x01a" + closing(1002)},
			{"ping in parts", frame(0x09, "a"), closing(1002)},
			{"long ping", frame(0x89, strings.Repeat("a", 126)), closing(1002)},
			{"close code in one byte", frame(0x88, "\x03"), closing(1002)},
			{"close code that must not be sent", frame(0x88, "\x03\xed"), closing(1002)},
			{"too large", frame(0x82, strings.Repeat("a", 1001)), closing(1009)},
			{"length beyond 63 bits", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04", closing(1002)},
		} {
			for _, pieces := range []int{1, 1 << 20} {
				t.Run(fmt.Sprintf("%s/%s by %d", name, c.name, pieces), func(t *testing.T) {
					wc, err := dial(l)
					if err != nil {
						t.Fatal(err)
					}
					nc := wc.(*clientConn).NetConn()
					defer nc.Close()
					_ = nc.SetDeadline(time.Now().Add(10 * time.Second)) // reads below fail then
					for p := []byte(c.send); len(p) > 0; {
						n := min(pieces, len(p))
						if _, err := nc.Write(p[:n]); err != nil {
							break // the server has closed at the first error; what it said is read below
						}
						p = p[n:]
					}
					got, err := io.ReadAll(nc)
					if err != nil && len(got) < len(c.want) {
						t.Fatalf("read: %v after %q", err, got)
					}
					if payloads(got) != payloads([]byte(c.want)) {
						t.Errorf("got %q, want %q", got, c.want)
					}
				})
			}
		}
	}
}

// payloads flattens server frames, so that echoes cut in other places compare
// equal.
func payloads(p []byte) (s string) {
	for len(p) >= 2 && len(p) >= 2+int(p[1]) {
		n := int(p[1])
		if p[0] != 0x82 {
			s += fmt.Sprintf("<%x>", p[0])
		}
		s += string(p[2 : 2+n])
		p = p[2+n:]
	}
	return s + string(p)
}

func TestSecure(t *testing.T) {
	e, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := transport.New(e, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeDriver(t, d)
	u, err := websocket.NewUpgrader(websocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t)
	l, err := d.Open(transport.ListenOptions{Address: "127.0.0.1:0", Upgrader: u, TLS: &transport.TLS{CertFile: cert, KeyFile: key}})
	if err != nil {
		t.Fatal(err)
	}
	infos := make(chan engine.ConnInfo, 1)
	if err := l.ServeFunc(func(i engine.ConnInfo, t engine.Transport) (transport.Endpoint, error) {
		infos <- i
		return mirror{t}, nil
	}); err != nil {
		t.Fatal(err)
	}
	dialer := gorilla.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	c, _, err := dialer.Dial("wss://"+l.Addr().String()+"/mqtt", http.Header{"X-Forwarded-For": {"9.9.9.9"}, "Origin": {"https://elsewhere.example"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := bytes.Repeat([]byte("abcdefgh"), 20_000)
	if err := c.WriteMessage(gorilla.BinaryMessage, want); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for len(got) < len(want) {
		_, p, err := c.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the echo differs")
	}
	info := <-infos
	if !info.WebSocket || !info.Peer.Addr().IsLoopback() || info.Peer.String() != c.LocalAddr().String() {
		t.Errorf("got %+v, want WebSocket from %v", info, c.LocalAddr())
	}
}
