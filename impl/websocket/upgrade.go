// Package websocket carries MQTT over WebSocket: it answers the HTTP request
// that opens such a connection, and packs MQTT bytes into binary frames. A
// listener of package engine/transport with an Upgrader of this package is a
// WebSocket listener, with TLS a secure one. After the handshake nothing of a
// connection is kept but the state of the frame that is being read, and the
// event loops of that package carry it like plain TCP.
//
// Extensions (compression) are not offered, the Origin header is not checked,
// and headers that claim another peer address are ignored: the PROXY protocol
// is the way to hand that on.
package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/gobwas/ws"

	"github.com/lacewing-mqtt/lacewing/engine/transport"
)

// Options of an Upgrader. The zero value works.
type Options struct {
	// Path is the path of the HTTP request; "" means "/mqtt". A query is ignored.
	Path string
	// AnyProtocol admits clients that do not offer a subprotocol of MQTT
	// (mqtt.websocket_protocol_header = off). [MQTT-6.0.0-3] wants one.
	AnyProtocol bool
	// MaxFrame is the most bytes that a client may put into one frame; 0 means the
	// largest MQTT packet, 256 MiB. No frame is ever buffered.
	MaxFrame int64
}

const (
	defaultPath  = "/mqtt"
	defaultFrame = 5 + 268_435_455
	maxRequest   = 8 << 10 // bytes of the HTTP request
)

// The subprotocols of MQTT: [MQTT-6.0.0-4] answers the one that the client
// offered.
const (
	protocol   = "mqtt"
	protocol31 = "mqttv3.1"
)

// ErrRequest means that the HTTP request was not one that opens a WebSocket
// connection for MQTT. The client has been answered.
var ErrRequest = errors.New("websocket handshake refused")

// An Upgrader opens WebSocket connections. It is a transport.Upgrader.
type Upgrader struct{ set atomic.Pointer[Options] }

// NewUpgrader makes an Upgrader.
func NewUpgrader(o Options) (*Upgrader, error) {
	u := &Upgrader{}
	return u, u.Configure(o)
}

// Configure changes the options for connections to come. A bad one changes
// nothing.
func (u *Upgrader) Configure(o Options) error {
	if o.Path == "" {
		o.Path = defaultPath
	}
	if !strings.HasPrefix(o.Path, "/") {
		return fmt.Errorf("websocket path %q: must begin with /", o.Path)
	}
	if o.MaxFrame < 0 {
		return fmt.Errorf("websocket frame limit %d: must not be negative", o.MaxFrame)
	}
	if o.MaxFrame == 0 {
		o.MaxFrame = defaultFrame
	}
	u.set.Store(&o)
	return nil
}

// Upgrade reads the request and answers it. See transport.Upgrader.
func (u *Upgrader) Upgrade(nc net.Conn) (transport.Codec, []byte, error) {
	o := u.set.Load()
	request, rest, err := readRequest(nc)
	if err != nil {
		return nil, nil, err
	}
	chosen := false
	up := ws.Upgrader{
		ReadBufferSize: maxRequest,
		OnRequest: func(uri []byte) error {
			if path, _, _ := bytes.Cut(uri, []byte("?")); string(path) != o.Path {
				return ws.RejectConnectionError(ws.RejectionStatus(http.StatusNotFound), ws.RejectionReason("no such path"))
			}
			return nil
		},
		// Asked for each that the client offers, in its order, until one is taken.
		Protocol: func(p []byte) bool {
			chosen = string(p) == protocol || string(p) == protocol31
			return chosen
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if !chosen && !o.AnyProtocol {
				return nil, ws.RejectConnectionError(ws.RejectionStatus(http.StatusBadRequest), ws.RejectionReason("subprotocol mqtt is needed"))
			}
			return nil, nil
		},
	}
	type stream struct {
		io.Reader
		io.Writer
	}
	if _, err := up.Upgrade(stream{bytes.NewReader(request), nc}); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return &codec{maxFrame: o.MaxFrame}, rest, nil
}

// readRequest reads up to the end of an HTTP header, and returns what came
// behind it separately.
func readRequest(nc net.Conn) (request, rest []byte, err error) {
	buf := make([]byte, 0, 1024)
	end := []byte("\r\n\r\n")
	for {
		n, err := nc.Read(buf[len(buf):cap(buf)])
		from := max(0, len(buf)-len(end)+1)
		buf = buf[:len(buf)+n]
		if i := bytes.Index(buf[from:], end); i >= 0 {
			at := from + i + len(end)
			return buf[:at], bytes.Clone(buf[at:]), nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read websocket request: %w", err)
		}
		if len(buf) >= maxRequest {
			// Nobody's browser sends as much; the answer is a courtesy.
			_, _ = io.WriteString(nc, "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			return nil, nil, fmt.Errorf("%w: header larger than %d bytes", ErrRequest, maxRequest)
		}
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, len(buf))...)[:len(buf)]
		}
	}
}

var _ transport.Upgrader = (*Upgrader)(nil)
