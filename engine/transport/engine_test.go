package transport_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/engine/transport/transporttest"
)

// broker is an engine on a driver with one listener.
type broker struct {
	e  *engine.Engine
	d  *transport.Driver
	ln *transport.Listener
	el *engine.Listener
}

func startBroker(t testing.TB, zone func(*engine.Zone), o transport.Options, lo transport.ListenOptions) *broker {
	t.Helper()
	z := engine.DefaultZone()
	if zone != nil {
		zone(&z)
	}
	e, err := engine.New(engine.Options{Zones: map[string]engine.Zone{"external": z}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	d, err := transport.New(e, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		last, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.Close(last); err != nil {
			t.Error("close engine:", err)
		}
		if err := d.Close(last); err != nil {
			t.Error("close driver:", err)
		}
		stop()
		<-ended
	})
	lo.Address = "127.0.0.1:0"
	ln, err := d.Open(lo)
	if err != nil {
		t.Fatal(err)
	}
	el, err := e.AddListener(engine.ListenerOptions{Name: "external", Protocol: "mqtt:tcp", Address: ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Serve(el); err != nil {
		t.Fatal(err)
	}
	return &broker{e, d, ln, el}
}

// client is a few lines of MQTT 3.1.1.
type client struct {
	net.Conn
	r *bufio.Reader
}

func (b *broker) connect(t testing.TB, id string, keepAlive uint16) *client {
	t.Helper()
	nc, err := net.Dial("tcp", b.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return connectOn(t, nc, id, keepAlive)
}

func connectOn(t testing.TB, nc net.Conn, id string, keepAlive uint16) *client {
	t.Helper()
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(3 * patience)) // what is below fails then
	c := &client{nc, bufio.NewReaderSize(nc, 64<<10)}
	if _, err := nc.Write(connectPacket(id, keepAlive)); err != nil {
		t.Fatal(err)
	}
	if p := c.packet(t); p[0] != 0x20 || p[len(p)-1] != 0 {
		t.Fatalf("CONNECT was answered by % x", p)
	}
	return c
}

func connectPacket(id string, keepAlive uint16) []byte {
	p := []byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, byte(keepAlive >> 8), byte(keepAlive), 0, byte(len(id))}
	return append(p, id...)
}

func publishPacket(topic string, qos byte, payload []byte) []byte {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	p := binary.AppendUvarint([]byte{0x30 | qos<<1}, uint64(n)) // MQTT has the same variable integers
	p = append(append(p, byte(len(topic)>>8), byte(len(topic))), topic...)
	if qos > 0 {
		p = append(p, 0, 1)
	}
	return append(p, payload...)
}

// packet reads one packet.
func (c *client) packet(t testing.TB) []byte {
	t.Helper()
	first, err := c.r.ReadByte()
	if err != nil {
		t.Fatal("read packet:", err)
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		t.Fatal("read packet:", err)
	}
	p := make([]byte, 1+n)
	p[0] = first
	if _, err := io.ReadFull(c.r, p[1:]); err != nil {
		t.Fatal("read packet:", err)
	}
	return p
}

func (c *client) subscribe(t testing.TB, filter string, qos byte) {
	t.Helper()
	p := append([]byte{0x82, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, filter...)
	if _, err := c.Write(append(p, qos)); err != nil {
		t.Fatal(err)
	}
	if got := c.packet(t); !bytes.Equal(got, []byte{0x90, 0, 1, qos}) {
		t.Fatalf("SUBSCRIBE was answered by % x", got)
	}
}

// roundTrip publishes and receives on one connection.
func (c *client) roundTrip(t testing.TB, topic string, payload []byte) {
	t.Helper()
	p := publishPacket(topic, 0, payload)
	go func() { _, _ = c.Write(p) }() // a large packet comes back while it is written; the reader judges
	if got := c.packet(t); !bytes.HasSuffix(got, payload) || len(got) != 1+2+len(topic)+len(payload) {
		t.Fatalf("got %d bytes back of %d", len(got), len(payload))
	}
}

func TestBroker(t *testing.T) {
	k := newKeys(t)
	for _, v := range []struct {
		name string
		o    transport.Options
		lo   transport.ListenOptions
	}{
		{"loops", transport.Options{Loops: 2}, transport.ListenOptions{}},
		{"goroutines", transport.Options{Goroutines: true}, transport.ListenOptions{}},
		{"TLS on loops", transport.Options{}, transport.ListenOptions{TLS: &transport.TLS{CertFile: k.cert, KeyFile: k.key}}},
	} {
		t.Run(v.name, func(t *testing.T) {
			b := startBroker(t, nil, v.o, v.lo)
			var nc net.Conn
			var err error
			if v.lo.TLS != nil {
				nc, err = tls.Dial("tcp", b.ln.Addr().String(), k.client)
			} else {
				nc, err = net.Dial("tcp", b.ln.Addr().String())
			}
			if err != nil {
				t.Fatal(err)
			}
			c := connectOn(t, nc, "one", 0)
			c.subscribe(t, "a/#", 0)
			for _, n := range []int{0, 1, 100, 5000, 70_000, 1_000_000} {
				c.roundTrip(t, "a/b", random(n))
			}
		})
	}
}

func random(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 >> 3)
	}
	return p
}

// TestSilence: who does not speak in time is closed, in time, and nobody else.
func TestSilence(t *testing.T) {
	b := startBroker(t, func(z *engine.Zone) { z.IdleTimeout = time.Second }, transport.Options{}, transport.ListenOptions{})
	good := b.connect(t, "good", 0)
	good.subscribe(t, "a", 0)
	// One byte every 100 ms: a CONNECT that never comes to its end.
	slow, err := net.Dial("tcp", b.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	_ = slow.SetDeadline(time.Now().Add(patience)) // reads fail then
	started := time.Now()
	go func() {
		for _, by := range connectPacket("a-rather-long-client-id-so-that-it-takes-its-time", 0) {
			if _, err := slow.Write([]byte{by}); err != nil {
				return // closed, as it should be
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	mute := dial(t, b.ln)
	refused(t, mute)
	if _, err := io.Copy(io.Discard, slow); err != nil && time.Since(started) > patience/2 {
		t.Fatal(err)
	}
	if took := time.Since(started); took < 800*time.Millisecond || took > 5*time.Second {
		t.Errorf("closed after %v, want about a second", took)
	}
	// A half-open peer: it is there for TCP, and says nothing.
	halfOpen := b.connect(t, "half-open", 1)
	if n, err := halfOpen.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d bytes, %v; want the end by keep-alive", n, err)
	}
	good.roundTrip(t, "a", []byte("undisturbed"))
	transporttest.Eventually(t, "only one is left", func() bool { return b.el.Info().CurrentConnections == 1 })
}

// TestSlowConsumer: a subscriber that does not read costs itself messages and
// the broker a bounded amount of memory, and nobody else anything.
func TestSlowConsumer(t *testing.T) {
	b := startBroker(t, nil, transport.Options{}, transport.ListenOptions{SendBuffer: 64 << 10})
	stuck, good, pub := b.connect(t, "stuck", 0), b.connect(t, "good", 0), b.connect(t, "pub", 0)
	stuck.subscribe(t, "a", 0)
	good.subscribe(t, "a", 0)
	payload := random(16 << 10)
	packet := publishPacket("a", 0, payload)
	const n = 4000 // 64 MB
	// What good has room for on any machine: what lies ahead of it fits into the send buffer of its socket, however little its own end takes.
	const window = 2
	for i := range n + window {
		if i >= window {
			if p := good.packet(t); !bytes.HasSuffix(p, payload) {
				t.Fatalf("message %d has %d bytes", i, len(p))
			}
		}
		if i < n {
			if _, err := pub.Write(packet); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := b.e.Metrics()
	if got := m[engine.MessagesDropped]; got == 0 || got >= n {
		t.Errorf("%d messages counted as dropped, want some of %d", got, n)
	}
	// It reads at last: what it gets are whole messages, and it is still a client.
	for !bytes.HasSuffix(stuck.packet(t), []byte("fresh")) {
		if _, err := pub.Write(publishPacket("a", 0, []byte("fresh"))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStorm: connections come and go in great numbers, some with garbage; a
// client that was there before notices nothing.
func TestStorm(t *testing.T) {
	b := startBroker(t, nil, transport.Options{}, transport.ListenOptions{})
	good := b.connect(t, "good", 0)
	good.subscribe(t, "a", 0)
	for i := range 2000 {
		nc, err := net.Dial("tcp", b.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		switch i % 5 {
		case 0: // nothing
		case 1:
			_, err = nc.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		case 2:
			_, err = nc.Write(connectPacket(fmt.Sprint("storm", i), 60))
		case 3:
			_, err = nc.Write(connectPacket(fmt.Sprint("storm", i), 60)[:9])
		case 4:
			_, err = nc.Write(connectPacket("storm", 60)) // they take over from each other
			_ = nc.(*net.TCPConn).SetLinger(0)            // and reset
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Close(); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			good.roundTrip(t, "a", []byte("undisturbed"))
		}
	}
	transporttest.Eventually(t, "only one is left", func() bool { return b.el.Info().CurrentConnections == 1 })
	good.roundTrip(t, "a", []byte("undisturbed"))
}
