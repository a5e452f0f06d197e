//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// carriage says what lies between TCP and MQTT.
type carriage struct {
	tls  bool   // certificates are not checked: it is the broker that is measured
	ws   bool   // WebSocket, after TLS if that is on
	path string // of the WebSocket request
}

const handshakeLimit = 20 * time.Second

// A layer packs what a connection sends and unpacks what it gets. It works in
// memory; only its handshake waits.
type layer struct {
	wire *wire
	tls  *tls.Conn
	ws   bool

	plain []byte // scratch for decrypted input
	head  []byte // an incomplete WebSocket header
	left  int    // bytes of a WebSocket payload to come
	skip  bool   // that payload belongs to a control frame
}

// wire is what TLS reads from and writes to.
type wire struct {
	net.Conn // nil once the loop has taken over
	in, out  []byte
}

var errAgain error = againError{}

// againError is temporary, so TLS goes on after it.
type againError struct{}

func (againError) Error() string   { return "no input yet" }
func (againError) Timeout() bool   { return true }
func (againError) Temporary() bool { return true }

func (w *wire) Read(p []byte) (int, error) {
	if w.Conn != nil {
		return w.Conn.Read(p)
	}
	if len(w.in) == 0 {
		return 0, errAgain
	}
	n := copy(p, w.in)
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	if w.Conn != nil {
		return w.Conn.Write(p)
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// dialLayer connects, shakes hands, and returns the bare descriptor.
func dialLayer(addr netip.AddrPort, how carriage) (fd int, l *layer, err error) {
	nc, err := net.DialTimeout("tcp", addr.String(), handshakeLimit)
	if err != nil {
		return -1, nil, err
	}
	defer nc.Close() // the descriptor returned is another
	if err := nc.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return -1, nil, err
	}
	l = &layer{wire: &wire{Conn: nc}, ws: how.ws, plain: make([]byte, 16<<10)}
	var c net.Conn = l.wire
	if how.tls {
		l.tls = tls.Client(l.wire, &tls.Config{InsecureSkipVerify: true, ServerName: addr.Addr().String()})
		if err := l.tls.Handshake(); err != nil {
			return -1, nil, fmt.Errorf("TLS handshake: %w", err)
		}
		c = l.tls
	}
	if how.ws {
		if err := upgrade(c, addr, how.path); err != nil {
			return -1, nil, err
		}
	}
	rc, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, nil, err
	}
	var errno syscall.Errno
	err = rc.Control(func(old uintptr) {
		var n uintptr
		n, _, errno = syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		fd = int(n)
	})
	if err != nil || errno != 0 {
		return -1, nil, fmt.Errorf("take the descriptor over: %w", errors.Join(err, errno))
	}
	l.wire.Conn = nil
	return fd, l, nil
}

// upgrade opens a WebSocket connection.
func upgrade(c net.Conn, addr netip.AddrPort, path string) error {
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bXFsb2FkIG1xbG9hZCBtcQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", path, addr)
	if err != nil {
		return err
	}
	// Byte by byte: nothing behind the header may be read here.
	var header strings.Builder
	b := make([]byte, 1)
	for !strings.HasSuffix(header.String(), "\r\n\r\n") && header.Len() < 8<<10 {
		if _, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("WebSocket handshake: %w", err)
		}
		header.Write(b)
	}
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(header.String())), nil)
	if err != nil {
		return fmt.Errorf("WebSocket handshake: %w", err)
	}
	_ = resp.Body.Close() // there is none
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("WebSocket handshake: %s", resp.Status)
	}
	return nil
}

// pack appends MQTT bytes to raw, as they go on the wire.
func (l *layer) pack(raw, p []byte) ([]byte, error) {
	var head []byte
	if l.ws {
		head = append(make([]byte, 0, 14), 0x82) // one binary frame
		switch n := len(p); {
		case n < 126:
			head = append(head, 0x80|byte(n))
		case n < 1<<16:
			head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
		default:
			head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
		}
		head = append(head, 0, 0, 0, 0) // a mask of zeros leaves the payload as it is
	}
	if l.tls == nil {
		return append(append(raw, head...), p...), nil
	}
	if len(head) > 0 {
		p = append(head, p...)
	}
	l.wire.out = raw
	_, err := l.tls.Write(p)
	raw, l.wire.out = l.wire.out, nil
	return raw, err
}

// unpack calls got with the MQTT bytes in p.
func (l *layer) unpack(p []byte, got func([]byte)) error {
	if l.tls == nil {
		return l.frames(p, got)
	}
	l.wire.in = append(l.wire.in, p...)
	for {
		n, err := l.tls.Read(l.plain)
		if n > 0 {
			if err := l.frames(l.plain[:n], got); err != nil {
				return err
			}
		}
		if errors.Is(err, errAgain) {
			l.wire.in = nil
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// frames takes WebSocket frames off; what a server sends is not masked.
func (l *layer) frames(p []byte, got func([]byte)) error {
	if !l.ws {
		got(p)
		return nil
	}
	for len(p) > 0 {
		if l.left > 0 {
			n := min(l.left, len(p))
			if !l.skip {
				got(p[:n])
			}
			l.left -= n
			p = p[n:]
			continue
		}
		l.head = append(l.head, p[0])
		p = p[1:]
		h := l.head
		switch {
		case len(h) == 2 && h[1] < 126:
			l.left = int(h[1])
		case len(h) == 4 && h[1] == 126:
			l.left = int(binary.BigEndian.Uint16(h[2:]))
		case len(h) == 10 && h[1] == 127:
			l.left = int(binary.BigEndian.Uint64(h[2:]))
		default:
			continue
		}
		if op := h[0] & 0x0f; op == 8 {
			return io.EOF
		} else if l.skip = op > 8; !l.skip && op > 2 {
			return fmt.Errorf("WebSocket frame with opcode %d", op)
		}
		l.head = l.head[:0]
	}
	return nil
}
