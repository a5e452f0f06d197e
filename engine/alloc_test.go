//go:build !race

package engine

import (
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Steady forwarding allocates nothing for each message: a round of 32 may cost at most one, when the collector has just emptied a
// pool. (Under the race detector pools forget on purpose.)
func TestForwardingAllocatesNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		qos  packet.QoS
		v    packet.Version
		acl  bool
	}{
		{"QoS 0", 0, packet.V311, false}, {"QoS 1", 1, packet.V311, false}, {"QoS 1, 5.0", 1, packet.V5, false},
		{"QoS 0 with access rules", 0, packet.V311, true}, {"QoS 0, 5.0 with aliases and identifiers", 0, packet.V5, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.acl {
				w.e.AddAuthorizer("x", 0, aclFunc(func(*ClientInfo, Action, string) Verdict { return Allow }))
			}
			b := w.e.NewBatch()
			dial := func(id string) (*Conn, *sink) {
				s := &sink{}
				c, err := w.l.Accept(ConnInfo{}, s)
				if err != nil {
					t.Fatal(err)
				}
				c.Feed(b, (&packet.Connect{Version: tt.v, CleanStart: true, ClientID: id, TopicAliasMaximum: 4}).Append(nil, 0))
				return c, s
			}
			sub, out := dial("sub")
			sub.Feed(b, (&packet.Subscribe{PacketID: 1, SubscriptionID: 9, Filters: []packet.Subscription{{Filter: "a/+", QoS: tt.qos}}}).Append(nil, tt.v))
			p, _ := dial("pub")
			var in []byte
			for i := range 32 {
				m := pub("a/b", "0123456789", tt.qos, uint16(i+1))
				m.TopicAlias = 1
				if i > 0 && tt.v == packet.V5 {
					m.Topic = nil
				}
				in = m.Append(in, tt.v)
			}
			acks := make([]byte, 0, 256)
			id := uint16(0)
			round := func() {
				p.Feed(b, in)
				b.Flush()
				if tt.qos == 1 {
					acks = acks[:0]
					for range 32 {
						if id++; id == 0 {
							id = 1
						}
						acks = packet.AppendAck(acks, tt.v, packet.TypePuback, id, 0)
					}
					sub.Feed(b, acks)
					b.Flush()
				}
			}
			round()
			before := out.bytes
			if n := testing.AllocsPerRun(500, round); n > 1 {
				t.Errorf("got %v allocations for 32 messages, want none", n)
			}
			if out.bytes == before {
				t.Error("nothing was forwarded")
			}
		})
	}
}
