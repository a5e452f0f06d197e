package engine

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// sink is a Transport that takes everything and keeps nothing.
type sink struct{ bytes int }

func (s *sink) Write(bufs [][]byte) (int, error) {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	s.bytes += n
	return n, nil
}
func (s *sink) Resume() {}
func (s *sink) Close()  {}

func (w *world) bare(b *Batch, id string, list ...packet.Packet) *Conn {
	c, err := w.l.Accept(ConnInfo{Peer: netip.MustParseAddrPort("10.0.0.1:1")}, &sink{})
	if err != nil {
		w.t.Fatal(err)
	}
	connect := packet.Connect{Version: packet.V311, CleanStart: true, ClientID: id}
	buf := connect.Append(nil, 0)
	for _, p := range list {
		buf = p.Append(buf, packet.V311)
	}
	c.Feed(b, buf)
	b.Flush()
	return c
}

func subscription(filter string, qos packet.QoS) packet.Packet {
	return &packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: filter, QoS: qos}}}
}

// forwardWindow is how many publications of 64 bytes a round has.
const forwardWindow = 32

// forwardRound gives a round from p to sub: a window of publications that arrive in one read, and what acknowledges them at both ends.
func forwardRound(batch *Batch, p, sub *Conn, qos packet.QoS) func() {
	var in, rel, acks, comps []byte
	for i := range forwardWindow {
		in = pub("sensors/7/temperature", string(make([]byte, 64)), qos, uint16(i+1)).Append(in, packet.V311)
		rel = packet.AppendAck(rel, packet.V311, packet.TypePubrel, uint16(i+1), 0)
	}
	id := uint16(0)
	return func() {
		p.Feed(batch, in)
		batch.Flush()
		if qos == 0 {
			return
		}
		acks, comps = acks[:0], comps[:0]
		for range forwardWindow {
			if id++; id == 0 {
				id = 1
			}
			kind := packet.TypePuback
			if qos == 2 {
				kind = packet.TypePubrec
				comps = packet.AppendAck(comps, packet.V311, packet.TypePubcomp, id, 0)
			}
			acks = packet.AppendAck(acks, packet.V311, kind, id, 0)
		}
		sub.Feed(batch, acks)
		batch.Flush()
		if qos == 2 {
			sub.Feed(batch, comps)
			p.Feed(batch, rel)
			batch.Flush()
		}
	}
}

// BenchmarkForward is one round of 32 publications of 64 bytes from one client to one subscriber: the budget is 0
// allocations for each message.
func BenchmarkForward(b *testing.B) {
	for _, qos := range []packet.QoS{0, 1, 2} {
		b.Run(fmt.Sprintf("QoS%d", qos), func(b *testing.B) {
			w := newWorld(b)
			batch := w.e.NewBatch()
			sub := w.bare(batch, "s", subscription("sensors/7/temperature", qos))
			p := w.bare(batch, "p")
			round := forwardRound(batch, p, sub, qos)
			b.ReportAllocs()
			for b.Loop() {
				round()
			}
			n := float64(b.N) * forwardWindow
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/msg")
			if got := w.e.Metrics()[MessagesSent]; got < int64(b.N)*forwardWindow {
				b.Fatalf("messages/sent: got %d, want %d", got, b.N*forwardWindow)
			}
		})
	}
}

// BenchmarkLarge is one publication of 64 KB that arrives in four reads, to one subscriber.
func BenchmarkLarge(b *testing.B) {
	for _, qos := range []packet.QoS{0, 1} {
		b.Run(fmt.Sprintf("QoS%d", qos), func(b *testing.B) {
			w := newWorld(b)
			batch := w.e.NewBatch()
			sub := w.bare(batch, "s", subscription("t", qos))
			p := w.bare(batch, "p")
			in := pub("t", string(make([]byte, 64<<10)), qos, 1).Append(nil, packet.V311)
			id := uint16(0)
			b.ReportAllocs()
			for b.Loop() {
				for i := 0; i < len(in); i += 17000 {
					p.Feed(batch, in[i:min(len(in), i+17000)])
				}
				batch.Flush()
				if qos == 1 {
					if id++; id == 0 {
						id = 1
					}
					sub.Feed(batch, packet.AppendAck(nil, packet.V311, packet.TypePuback, id, 0))
					batch.Flush()
				}
			}
		})
	}
}

// BenchmarkFanOut is one round of 16 publications of 64 bytes to many subscribers.
func BenchmarkFanOut(b *testing.B) {
	for _, qos := range []packet.QoS{0, 1} {
		for _, n := range []int{100, 1000} {
			b.Run(fmt.Sprintf("QoS%d/%d", qos, n), func(b *testing.B) {
				w := newWorld(b)
				batch := w.e.NewBatch()
				subs := make([]*Conn, n)
				for i := range subs {
					subs[i] = w.bare(batch, fmt.Sprint("s", i), subscription("news", qos))
				}
				p := w.bare(batch, "p")
				var in, acks []byte
				for i := range 16 {
					in = pub("news", string(make([]byte, 64)), qos, uint16(i+1)).Append(in, packet.V311)
				}
				id := uint16(0)
				b.ReportAllocs()
				for b.Loop() {
					p.Feed(batch, in)
					batch.Flush()
					if qos == 1 {
						acks = acks[:0]
						for range 16 {
							if id++; id == 0 {
								id = 1
							}
							acks = packet.AppendAck(acks, packet.V311, packet.TypePuback, id, 0)
						}
						for _, s := range subs {
							s.Feed(batch, acks)
						}
						batch.Flush()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*16*n), "ns/delivery")
			})
		}
	}
}

// BenchmarkConnect is CONNECT, SUBSCRIBE and DISCONNECT of one client.
func BenchmarkConnect(b *testing.B) {
	w := newWorld(b)
	batch := w.e.NewBatch()
	b.ReportAllocs()
	for b.Loop() {
		c := w.bare(batch, "c", subscription("a/b", 1), &packet.Disconnect{})
		c.Closed(batch, nil)
		batch.Flush()
	}
}

// BenchmarkSubscribe is one filter more, an eighth of them with wildcards, on one of 100 clients that have 5000 each, and its
// end.
func BenchmarkSubscribe(b *testing.B) {
	w := newWorld(b)
	batch := w.e.NewBatch()
	filter := func(i int) string {
		if i%8 == 0 {
			return fmt.Sprintf("site/%d/+/dev/%d/#", i%1000, i)
		}
		return fmt.Sprintf("site/%d/dev/%d", i%1000, i)
	}
	conns := make([]*Conn, 100)
	n := 0
	for i := range conns {
		conns[i] = w.bare(batch, fmt.Sprint("c", i))
		for range 50 {
			p := &packet.Subscribe{PacketID: 1}
			for range 100 {
				p.Filters = append(p.Filters, packet.Subscription{Filter: filter(n), QoS: 1})
				n++
			}
			conns[i].Feed(batch, p.Append(nil, packet.V311))
			batch.Flush()
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		c := conns[n%len(conns)]
		buf := subscription(filter(n), 1).Append(nil, packet.V311)
		buf = (&packet.Unsubscribe{PacketID: 2, Filters: []string{filter(n)}}).Append(buf, packet.V311)
		c.Feed(batch, buf)
		batch.Flush()
		n++
	}
}

// BenchmarkIdle reports the memory of an idle client with one subscription, all tables included; the budget is 1 KB without
// the subscription.
func BenchmarkIdle(b *testing.B) {
	for _, subs := range []int{0, 1} {
		b.Run(fmt.Sprintf("subscriptions%d", subs), func(b *testing.B) {
			for b.Loop() {
				const n = 100_000
				w := newWorld(b)
				batch := w.e.NewBatch()
				runtime.GC()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				keep := make([]*Conn, n)
				for i := range keep {
					var list []packet.Packet
					for j := range subs {
						list = append(list, subscription(fmt.Sprintf("dev/%d/%d", i, j), 1))
					}
					keep[i] = w.bare(batch, fmt.Sprintf("client-%06d", i), list...)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/client")
				runtime.KeepAlive(keep)
				runtime.KeepAlive(w)
			}
		})
	}
}

// BenchmarkPage is a page of 20 of 100 000 clients, at both ends.
func BenchmarkPage(b *testing.B) {
	w := newWorld(b)
	batch := w.e.NewBatch()
	for i := range 100_000 {
		w.bare(batch, fmt.Sprintf("client-%06d", i), subscription("a/b", 1))
	}
	for _, page := range []int{1, 5000} {
		b.Run(fmt.Sprintf("clients/%d", page), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if rows, _ := w.e.Clients((page-1)*20, 20); len(rows) != 20 {
					b.Fatalf("got %d rows", len(rows))
				}
			}
		})
		b.Run(fmt.Sprintf("subscriptions/%d", page), func(b *testing.B) {
			for b.Loop() {
				if rows, _ := w.e.Subscriptions((page-1)*20, 20); len(rows) != 20 {
					b.Fatalf("got %d rows", len(rows))
				}
			}
		})
	}
}
