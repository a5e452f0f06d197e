package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// BenchmarkGate is what a publication pays for being in a cluster before it is known whether another node wants it: the lock of its batch, which
// a cut takes, and at QoS 2 the mark that BeginMove waits for. Rounds without and with it alternate, so that a busy machine meets both.
func BenchmarkGate(b *testing.B) {
	for _, qos := range []packet.QoS{1, 2} {
		b.Run(fmt.Sprintf("QoS%d", qos), func(b *testing.B) {
			w := newWorld(b)
			batch := w.e.NewBatch()
			sub := w.bare(batch, "s", subscription("sensors/7/temperature", qos))
			p := w.bare(batch, "p")
			const messages, rounds = 32, 256
			var in, rel, acks, comps []byte
			for i := range messages {
				in = pub("sensors/7/temperature", string(make([]byte, 64)), qos, uint16(i+1)).Append(in, packet.V311)
				rel = packet.AppendAck(rel, packet.V311, packet.TypePubrel, uint16(i+1), 0)
			}
			id := uint16(0)
			round := func() {
				p.Feed(batch, in)
				batch.Flush()
				acks, comps = acks[:0], comps[:0]
				for range messages {
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
				if qos == 2 {
					sub.Feed(batch, comps)
					p.Feed(batch, rel)
				}
				batch.Flush()
			}
			var took [2]time.Duration
			for b.Loop() {
				for i := range took {
					w.e.moves.on.Store(i == 1)
					begin := time.Now()
					for range rounds {
						round()
					}
					took[i] += time.Since(begin)
				}
			}
			n := float64(b.N) * messages * rounds
			if got := w.e.Metrics()[MessagesSent]; got < int64(2*n) {
				b.Fatalf("messages/sent: got %d, want %d", got, int64(2*n))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took[0].Nanoseconds())/n, "ns/msg-alone")
			b.ReportMetric(float64(took[1].Nanoseconds())/n, "ns/msg-cluster")
		})
	}
}
