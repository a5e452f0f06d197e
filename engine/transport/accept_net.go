package transport

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// listenNet binds an address for acceptNet.
func listenNet(network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.KeepAlive = -1 // MQTT has its own
	return lc.Listen(context.Background(), network, address)
}

// tune sets what bind sets for event loops. Errors mean that the connection has
// ended already, which its handshake finds out.
func (o *ListenOptions) tune(nc net.Conn) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if o.Delay {
		_ = tc.SetNoDelay(false)
	}
	if o.ReceiveBuffer > 0 {
		_ = tc.SetReadBuffer(o.ReceiveBuffer)
	}
	if o.SendBuffer > 0 {
		_ = tc.SetWriteBuffer(o.SendBuffer)
	}
}

// acceptNet accepts connections and does their handshakes, each on a goroutine
// that lives until the handshakes are done. It returns when the listener is
// closed.
func (l *Listener) acceptNet() {
	for pause := time.Duration(0); ; {
		nc, err := l.net.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors or memory: what waits in the queue has to
			// wait until there are some again.
			l.refused(netip.AddrPort{}, fmt.Errorf("accept: %w", err))
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
			continue
		}
		pause = 0
		peer := addrPort(nc.RemoteAddr())
		err = nil
		if !l.options().Access.Allows(peer.Addr()) {
			err = errAccess
		} else if !l.d.files.allow(nc) {
			err = ErrDescriptors
		}
		if err == nil {
			// Here, and not on the goroutine: the oldest is the one that was
			// accepted first.
			el, ok := l.d.beginShake(nc)
			if !ok || !l.d.start(func() { l.prepare(nc, el) }) {
				err = ErrClosed
			}
		}
		if err != nil {
			l.refused(peer, err)
			_ = nc.Close() // refused
		}
	}
}

// prepare does the handshakes of a connection and hands it to its driver.
func (l *Listener) prepare(nc net.Conn, el *list.Element) {
	o := l.options()
	o.tune(nc)
	info := engine.ConnInfo{Peer: addrPort(nc.RemoteAddr()), Local: addrPort(nc.LocalAddr())}
	c, err := l.handshake(nc, o, &info)
	l.d.endShake(el)
	if err != nil {
		l.refused(info.Peer, err)
		_ = nc.Close() // refused
		return
	}
	_ = nc.SetDeadline(time.Time{}) // fails on a closed connection only, which the first read finds
	if err := l.carry(c, info); err != nil {
		c.close()
	}
}

// carry lets a connection in and starts its driver.
func (l *Listener) carry(c *carrier, info engine.ConnInfo) error {
	info.WebSocket = c.codec != nil
	if l.d.loops != nil {
		if adopted, err := l.d.loops.adopt(l, c, info); adopted || err != nil {
			return err
		}
	}
	return l.d.stream(l, c, info)
}

// A carrier is a connection after its handshakes.
type carrier struct {
	wire  *wire     // the socket
	tls   *tls.Conn // above wire; nil for plain
	codec Codec     // above tls; nil for MQTT without frames
	rest  []byte    // read behind the handshake of the codec
}

// conn is what MQTT, or its codec, is read from and written to.
func (c *carrier) conn() net.Conn {
	if c.tls != nil {
		return c.tls
	}
	return c.wire
}

func (c *carrier) close() { _ = c.conn().Close() } // the engine has refused it; there is nobody to tell

// handshake reads the PROXY header, then does TLS, then the upgrade.
func (l *Listener) handshake(nc net.Conn, o *ListenOptions, info *engine.ConnInfo) (*carrier, error) {
	if err := nc.SetDeadline(time.Now().Add(o.handshakeTimeout())); err != nil {
		return nil, fmt.Errorf("%w: %w", errHandshake, err) // closed already, to make room
	}
	c := &carrier{wire: &wire{Conn: nc}}
	if o.ProxyProtocol {
		if err := c.wire.readProxy(o.proxyTimeout(), info); err != nil {
			return nil, err
		}
		if err := nc.SetDeadline(time.Now().Add(o.handshakeTimeout())); err != nil {
			return nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
	}
	if l.tls != nil {
		c.tls = tls.Server(c.wire, l.tls.config())
		if err := c.wire.computing(l.d.compute, c.tls.Handshake); err != nil {
			return nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
		info.PeerCert = peerCert(c.tls.ConnectionState())
	}
	if o.Upgrader != nil {
		var err error
		if c.codec, c.rest, err = o.Upgrader.Upgrade(c.conn()); err != nil {
			return nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
	}
	return c, nil
}

// readProxy reads a PROXY header and keeps what was read behind it.
func (w *wire) readProxy(timeout time.Duration, info *engine.ConnInfo) error {
	if err := w.Conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	var got []byte
	buf := make([]byte, 512)
	for {
		n, err := w.Conn.Read(buf)
		got = append(got, buf[:n]...)
		h, used, perr := parseProxy(got)
		switch {
		case perr != nil:
			return perr
		case used > 0:
			if !h.local {
				info.Peer, info.Local = h.src, h.dst
			}
			w.in = got[used:]
			return nil
		case err == io.EOF || isTimeout(err):
			return fmt.Errorf("%w: incomplete", ErrProxyHeader)
		case err != nil:
			return fmt.Errorf("read PROXY header: %w", err)
		}
	}
}
