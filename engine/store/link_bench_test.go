package store_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// benchPair is a pair whose link is up, with a publisher on the first node.
func benchPair(b *testing.B) (p *pair, pu *wire) {
	p = newPair(b)
	p.settle()
	return p, p.nodes[0].connect(packet.V5, "p", clean)
}

// BenchmarkLink forwards messages of 64 bytes to a subscriber on another node, 32 in a round, in process and with a store in memory.
func BenchmarkLink(b *testing.B) {
	for qos := range packet.QoS(2) {
		b.Run(fmt.Sprint("QoS", qos), func(b *testing.B) {
			p, pu := benchPair(b)
			s := p.nodes[1].connect(packet.V5, "s", clean)
			s.say(sub("d", qos))
			p.settle()
			const round = 32
			var in, acks []byte
			for i := range round {
				in = pub("d", string(make([]byte, 64)), qos, uint16(i+1)).Append(in, packet.V5)
			}
			b.ReportAllocs()
			for b.Loop() {
				pu.c.Feed(pu.w.b, in)
				pu.w.b.Flush()
				p.settle()
				if qos > 0 {
					for _, m := range s.all() {
						if m, ok := m.(*packet.Publish); ok {
							acks = ack(packet.TypePuback, m.PacketID).Append(acks, packet.V5)
						}
					}
					s.c.Feed(s.w.b, acks)
					s.w.b.Flush()
					acks = acks[:0]
				}
				pu.in, s.in = pu.in[:0], s.in[:0]
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*round), "ns/msg")
		})
	}
}

// BenchmarkLinkRoutes tells a node that comes 100 000 routes, and has the memory of one that has them, its store included.
func BenchmarkLinkRoutes(b *testing.B) {
	p, _ := benchPair(b)
	s := p.nodes[1].connect(packet.V5, "s", clean)
	const n = 100_000
	for i := 0; i < n; i += 100 {
		m := &packet.Subscribe{PacketID: 1}
		for k := range 100 {
			m.Filters = append(m.Filters, packet.Subscription{Filter: fmt.Sprint("site/", i+k, "/+/state")})
		}
		s.say(m)
	}
	p.settle()
	used := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	with := used()
	p.cut()
	p.nodes[0].e.DropLink("n1")
	p.ends = [2]*farEnd{}
	memory := with - used()
	for b.Loop() {
		b.StopTimer()
		p.cut()
		p.nodes[0].e.DropLink("n1")
		b.StartTimer()
		p.connect()
		p.settle()
		if l := p.nodes[0].e.Links(); l[0].Routes != n {
			b.Fatalf("%d routes, want %d", l[0].Routes, n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/route")
	b.ReportMetric(float64(memory)/n, "B/route")
}
