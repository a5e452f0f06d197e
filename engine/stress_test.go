package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Several drivers, management and the clock at the same time: for the race detector, and nothing may be left at the end.
func TestStress(t *testing.T) {
	w := newWorld(t)
	const drivers, rounds = 4, 300
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var side sync.WaitGroup
	side.Add(2)
	go func() {
		defer side.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			w.pass(100 * time.Millisecond)
		}
	}()
	go func() {
		defer side.Done()
		r := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-stop:
				return
			default:
			}
			id := fmt.Sprint("c", r.IntN(8))
			switch r.IntN(8) {
			case 0:
				w.e.Kick(id)
			case 1:
				w.e.DropSession(id)
			case 2:
				w.e.Subscribe(id, Subscription{Filter: fmt.Sprint("t/", r.IntN(3)), QoS: 1})
			case 3:
				w.e.Unsubscribe(id, fmt.Sprint("t/", r.IntN(3)))
			case 4:
				w.e.Publish(&Message{Topic: "t/0", Payload: []byte("x"), QoS: 1, Retain: true})
			case 5:
				w.e.Clients(0, 10)
				w.e.Sessions(0, 10)
				w.e.Subscriptions(1, 3)
				w.e.Routes(0, 5)
				w.e.Metrics()
				w.e.Stats()
			case 6:
				w.e.CleanACL(id, "t/0")
				w.e.Authorized(&ClientInfo{ClientID: id, Zone: "external"}, ActionPublish, "x")
			case 7:
				z, _ := w.e.Zone("external")
				z.MaxInflight = 1 + r.IntN(10)
				w.e.SetZone("external", z)
			}
		}
	}()
	for d := range drivers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(d), 7))
			batch := w.e.NewBatch()
			for range rounds {
				v := versions[r.IntN(3)]
				s := &sink{}
				c, err := w.l.Accept(ConnInfo{}, s)
				if err != nil {
					t.Error(err)
					return
				}
				m := &packet.Connect{Version: v, ClientID: fmt.Sprint("c", r.IntN(8)), CleanStart: r.IntN(2) == 0, ReceiveMaximum: 20}
				if v == packet.V5 {
					m.SessionExpiry = uint32(r.IntN(2)) * 60
					m.TopicAliasMaximum = uint16(r.IntN(2))
				}
				if r.IntN(2) == 0 {
					m.Will = &packet.Will{Topic: "t/1", Payload: []byte("w"), QoS: 1, Delay: uint32(r.IntN(2))}
				}
				buf := m.Append(nil, v)
				buf = (&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: fmt.Sprint("t/", r.IntN(3)), QoS: 2}, {Filter: "$share/g/t/+", QoS: 1}, {Filter: "#", QoS: 0}}}).Append(buf, v)
				c.Feed(batch, buf)
				for range r.IntN(6) {
					buf = buf[:0]
					for i := range 1 + r.IntN(10) {
						p := pub(fmt.Sprint("t/", r.IntN(3)), string(make([]byte, r.IntN(200))), packet.QoS(r.IntN(3)), uint16(i+1))
						p.Retain = r.IntN(10) == 0
						buf = p.Append(buf, v)
						buf = packet.AppendAck(buf, v, packet.TypePuback, uint16(r.IntN(20)+1), 0)
						buf = packet.AppendAck(buf, v, packet.TypePubrec, uint16(r.IntN(20)+1), 0)
						buf = packet.AppendAck(buf, v, packet.TypePubrel, uint16(i+1), 0)
					}
					c.Feed(batch, buf)
					batch.Flush()
				}
				if r.IntN(2) == 0 {
					c.Feed(batch, (&packet.Disconnect{}).Append(nil, v))
				}
				c.Closed(batch, nil)
				batch.Flush()
			}
		}()
	}
	wg.Wait()
	close(stop)
	side.Wait()
	if err := w.e.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	st := w.e.Stats()
	for _, g := range st.Named() {
		if g.Count != 0 && g.Name != "retained" {
			t.Errorf("%s: got %d at the end, want 0", g.Name, g.Count)
		}
	}
	if got := w.l.Info().CurrentConnections; got != 0 {
		t.Errorf("connections of the listener: got %d, want 0", got)
	}
	if n := w.e.router.trie.Len(); n != 0 {
		t.Errorf("filters in the trie: got %d, want 0", n)
	}
}
