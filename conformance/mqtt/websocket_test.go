package mqtt

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// WebSocket opcodes (RFC 6455, section 5.2).
const (
	wsContinuation byte = 0
	wsText         byte = 1
	wsBinary       byte = 2
	wsClose        byte = 8
	wsPing         byte = 9
	wsPong         byte = 10
)

// wsConn is the client's side of a WebSocket connection as a net.Conn: Read
// gives the content of the broker's binary frames, Write sends one binary frame.
type wsConn struct {
	net.Conn
	r    *bufio.Reader
	left []byte
}

// dialWS opens a WebSocket connection that offers the subprotocol.
func (b *broker) dialWS(t *testing.T, v version, subprotocol string) (*conn, *wsConn, *http.Response) {
	t.Helper()
	if b.wsAddr == "" {
		t.Skip("the broker under test has no WebSocket listener (LACEWING_CONFORMANCE_WS_ADDR)")
	}
	nc, err := net.DialTimeout("tcp", b.wsAddr, patience)
	if err != nil {
		t.Fatalf("dial %s: %v", b.wsAddr, err)
	}
	t.Cleanup(func() { nc.Close() })
	key := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:16]))
	request := "GET /mqtt HTTP/1.1\r\nHost: " + b.wsAddr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n"
	if subprotocol != "" {
		request += "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"
	}
	nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(nc)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("WebSocket handshake: %v", err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		if got, want := resp.Header.Get("Sec-WebSocket-Accept"), base64.StdEncoding.EncodeToString(sum[:]); got != want {
			t.Fatalf("Sec-WebSocket-Accept %q, want %q", got, want)
		}
	}
	nc.SetDeadline(time.Time{})
	ws := &wsConn{Conn: nc, r: r}
	return newConn(t, b, v, ws), ws, resp
}

// frame sends one frame, masked as a client's must be.
func (w *wsConn) frame(op byte, fin bool, payload []byte) error {
	head := []byte{op}
	if fin {
		head[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	mask := []byte{1, 2, 3, 4}
	head = append(head, mask...)
	for i, b := range payload {
		head = append(head, b^mask[i%4])
	}
	_, err := w.Conn.Write(head)
	return err
}

func (w *wsConn) Write(b []byte) (int, error) {
	return len(b), w.frame(wsBinary, true, b)
}

// CloseWrite ends our side of the TCP connection, with no close frame.
func (w *wsConn) CloseWrite() error { return w.Conn.(*net.TCPConn).CloseWrite() }

// Read fails on a data frame that is not binary [MQTT-6.0.0-1] and ends at a
// close frame.
func (w *wsConn) Read(b []byte) (int, error) {
	for len(w.left) == 0 {
		var head [2]byte
		if _, err := io.ReadFull(w.r, head[:]); err != nil {
			return 0, err
		}
		n := uint64(head[1] & 0x7f)
		if head[1]&0x80 != 0 {
			return 0, fmt.Errorf("server's frame is masked")
		}
		switch n {
		case 126:
			var ext [2]byte
			if _, err := io.ReadFull(w.r, ext[:]); err != nil {
				return 0, err
			}
			n = uint64(binary.BigEndian.Uint16(ext[:]))
		case 127:
			var ext [8]byte
			if _, err := io.ReadFull(w.r, ext[:]); err != nil {
				return 0, err
			}
			n = binary.BigEndian.Uint64(ext[:])
		}
		if n > 1<<24 {
			return 0, fmt.Errorf("frame of %d bytes", n)
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(w.r, payload); err != nil {
			return 0, err
		}
		switch op := head[0] & 0x0f; op {
		case wsBinary, wsContinuation:
			w.left = payload
		case wsClose:
			return 0, io.EOF
		case wsPing:
			if err := w.frame(wsPong, true, payload); err != nil {
				return 0, err
			}
		case wsPong:
		default:
			return 0, fmt.Errorf("data frame with opcode %d, want binary", op)
		}
	}
	n := copy(b, w.left)
	w.left = w.left[n:]
	return n, nil
}

// connectWS opens an MQTT connection over WebSocket.
func (b *broker) connectWS(t *testing.T, s session) (*conn, *wsConn) {
	t.Helper()
	c, ws, resp := b.dialWS(t, s.v, "mqtt")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("WebSocket handshake: %s", resp.Status)
	}
	c.start(s)
	c.accepted()
	return c, ws
}

func TestWebSocketSubprotocol(t *testing.T) {
	both(t, in311("MQTT-6.0.0-4"), in5("MQTT-6.0.0-4"), func(t *testing.T, v version) {
		for _, offer := range []string{"mqtt", "other, mqtt", "mqtt, mqttv3.1"} {
			_, _, resp := shared(t).dialWS(t, v, offer)
			if got := resp.Header.Get("Sec-WebSocket-Protocol"); resp.StatusCode != http.StatusSwitchingProtocols || got != "mqtt" {
				t.Errorf("offer %q: got %s, subprotocol %q, want 101 and mqtt", offer, resp.Status, got)
			}
		}
	})
}

// TestWebSocketFrames: packets across frames and several in one.
func TestWebSocketFrames(t *testing.T) {
	both(t, in311("MQTT-6.0.0-2", "MQTT-6.0.0-1"), in5("MQTT-6.0.0-2", "MQTT-6.0.0-1"), func(t *testing.T, v version) {
		c, ws := shared(t).connectWS(t, session{v: v})
		topic := unique()
		for _, b := range cat(subscribeBytes(v, 1, nil, filter{topic, 1}), pingBytes()) {
			c.write([]byte{b})
		}
		c.expect(typeSuback)
		c.expect(typePingresp)
		first, second := publish{topic: topic, payload: "one", qos: 1, id: 2}.bytes(v), publish{topic: topic, payload: "two", qos: 1, id: 3}.bytes(v)
		c.write(cat(pingBytes(), first, second, pingBytes(), publish{topic: topic, payload: "three"}.bytes(v)[:3]))
		one, two := c.message(topic, "one"), c.message(topic, "two")
		for range 2 {
			c.expect(typePingresp)
			c.expect(typePuback)
		}
		c.write(publish{topic: topic, payload: "three"}.bytes(v)[3:])
		c.receive(topic, "three")
		c.ack(one)
		c.ack(two)
		// A message in several WebSocket fragments, an empty frame and a ping between.
		large := publish{topic: topic, payload: strings.Repeat("x", 70000)}.bytes(v)
		for i, part := range [][]byte{large[:1], nil, large[1:5], large[5:66000], large[66000:]} {
			op := wsContinuation
			if i == 0 {
				op = wsBinary
			}
			if err := ws.frame(op, i == 4, part); err != nil {
				t.Fatal(err)
			}
			if i == 2 {
				if err := ws.frame(wsPing, true, []byte("hello")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if p := c.expect(typePublish); len(p.payload) != 70000 {
			t.Errorf("payload of %d bytes, want 70000", len(p.payload))
		}
		tcp := shared(t).connect(t, session{v: v})
		tcp.send(topic, "from tcp", 1)
		c.receive(topic, "from tcp")
		c.bye(0, nil)
	})
}

func TestWebSocketTextFrame(t *testing.T) {
	both(t, in311("MQTT-6.0.0-1"), in5("MQTT-6.0.0-1"), func(t *testing.T, v version) {
		topic, watcher := watched(t, v)
		c, ws := shared(t).connectWS(t, session{v: v, will: &will{topic: topic, payload: "gone", qos: 1}})
		if err := ws.frame(wsText, true, pingBytes()); err != nil {
			t.Fatal(err)
		}
		if p, err := c.tryRead(); err == nil && p.typ != typeDisconnect { // a close frame says why, too
			t.Fatalf("got %s, want the connection closed", p)
		} else if err == nil {
			c.closed()
		}
		watcher.receive(topic, "gone")
		// And before the CONNECT.
		c, ws, _ = shared(t).dialWS(t, v, "mqtt")
		if err := ws.frame(wsText, true, session{v: v, id: unique()}.bytes()); err != nil {
			t.Fatal(err)
		}
		c.closed()
	})
}
