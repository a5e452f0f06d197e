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
			const messages, rounds = forwardWindow, 256
			round := forwardRound(batch, p, sub, qos)
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
