package transport_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/engine/transport/transporttest"
)

func newDriver(t *testing.T, o transport.Options) *transport.Driver {
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
	return d
}

func closeDriver(t *testing.T, d *transport.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Error("close driver:", err)
	}
}

func open(t *testing.T, d *transport.Driver, o transport.ListenOptions) *transport.Listener {
	t.Helper()
	l, err := d.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func reset(c net.Conn) {
	switch c := c.(type) {
	case *tls.Conn:
		reset(c.NetConn())
	case *net.TCPConn:
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

func TestDrivers(t *testing.T) {
	carrier := func(d *transport.Driver, l *transport.Listener, t *testing.T) transporttest.Carrier {
		return transporttest.Carrier{Listener: l, Reset: reset, Close: func() { closeDriver(t, d) },
			Dial: func() (net.Conn, error) { return net.Dial(l.Addr().Network(), l.Addr().String()) }}
	}
	for _, loops := range []int{1, 2} {
		t.Run(map[int]string{1: "tcp", 2: "tcp, two loops"}[loops], func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.Carrier {
				d := newDriver(t, transport.Options{Loops: loops})
				return carrier(d, open(t, d, transport.ListenOptions{Address: "127.0.0.1:0"}), t)
			})
		})
	}
	t.Run("tcp, goroutines", func(t *testing.T) {
		transporttest.Run(t, func(t *testing.T) transporttest.Carrier {
			d := newDriver(t, transport.Options{Goroutines: true})
			return carrier(d, open(t, d, transport.ListenOptions{Address: "127.0.0.1:0"}), t)
		})
	})
	t.Run("unix", func(t *testing.T) {
		transporttest.Run(t, func(t *testing.T) transporttest.Carrier {
			d := newDriver(t, transport.Options{Loops: 1})
			c := carrier(d, open(t, d, transport.ListenOptions{Address: "unix:" + t.TempDir() + "/s"}), t)
			c.Reset = nil
			return c
		})
	})
	keys := newKeys(t)
	for _, v := range []struct {
		name    string
		version uint16
		o       transport.Options
	}{{"TLS 1.2", tls.VersionTLS12, transport.Options{Loops: 1}}, {"TLS 1.3", tls.VersionTLS13, transport.Options{Loops: 1}},
		{"TLS, goroutines", 0, transport.Options{Goroutines: true}}} {
		t.Run(v.name, func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.Carrier {
				d := newDriver(t, v.o)
				l := open(t, d, transport.ListenOptions{Address: "127.0.0.1:0",
					TLS: &transport.TLS{CertFile: keys.cert, KeyFile: keys.key, MaxVersion: v.version}})
				c := carrier(d, l, t)
				c.Dial = func() (net.Conn, error) { return tls.Dial("tcp", l.Addr().String(), keys.client) }
				return c
			})
		})
	}
}
