package transport_test

import (
	"io"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/transport"
)

// BenchmarkForward forwards messages from one connection to others over
// loopback sockets, kernel and client included. The budget is 0 allocations for
// each message at QoS 0 and 1; tools/mqload measures the CPU time.
func BenchmarkForward(b *testing.B) {
	for _, c := range []struct {
		name        string
		qos         byte
		subs, batch int // batch: messages in flight
		o           transport.Options
	}{
		{"qos=0/window=32", 0, 1, 32, transport.Options{}},
		{"qos=0/window=1", 0, 1, 1, transport.Options{}},
		{"qos=0/subs=100", 0, 100, 16, transport.Options{}},
		{"qos=1/window=16", 1, 1, 16, transport.Options{}},
		{"goroutines/qos=0/window=32", 0, 1, 32, transport.Options{Goroutines: true}},
		{"goroutines/qos=0/window=1000", 0, 1, 1000, transport.Options{Goroutines: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := startBroker(b, nil, c.o, transport.ListenOptions{})
			payload := random(64)
			var subs []*client
			for i := range c.subs {
				sub := s.connect(b, "sub"+string(rune('0'+i/10))+string(rune('0'+i%10)), 0)
				sub.subscribe(b, "bench/topic", c.qos)
				_ = sub.SetDeadline(time.Time{}) // b.N decides how long it takes
				subs = append(subs, sub)
			}
			pub := s.connect(b, "pub", 0)
			_ = pub.SetDeadline(time.Time{}) // as above
			var out []byte
			one := publishPacket("bench/topic", c.qos, payload)
			for range c.batch {
				out = append(out, one...)
			}
			in := make([]byte, len(out))
			acks := make([]byte, 4*c.batch)
			b.SetBytes(int64(len(one)))
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += c.batch * c.subs {
				if _, err := pub.Write(out); err != nil {
					b.Fatal(err)
				}
				for _, sub := range subs {
					if _, err := io.ReadFull(sub.r, in); err != nil {
						b.Fatal(err)
					}
				}
				if c.qos == 0 {
					continue
				}
				if _, err := io.ReadFull(pub.r, acks); err != nil {
					b.Fatal(err)
				}
				for i := range c.batch { // each delivery has an identifier of its own
					p := in[i*len(one):]
					at := len(one) - len(payload) - 2
					copy(acks[4*i:], []byte{0x40, 2, p[at], p[at+1]})
				}
				if _, err := subs[0].Write(acks); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnect is CONNECT to CONNACK on a new socket, the client included;
// what an idle connection costs in memory is measured by mqload conns.
func BenchmarkConnect(b *testing.B) {
	s := startBroker(b, nil, transport.Options{}, transport.ListenOptions{})
	b.ReportAllocs()
	for b.Loop() {
		c := s.connect(b, "one", 0)
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
