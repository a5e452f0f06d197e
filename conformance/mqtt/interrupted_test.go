package mqtt

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// inbox is the receiver's side of a persistent client, as section 4.3 describes
// it: what it has taken, and the QoS 2 identifiers that wait for PUBREL. It
// outlives connections.
type inbox struct {
	t        *testing.T
	taken    map[string]int // last number taken from each publisher and QoS
	waiting  map[uint16]bool
	messages int
}

// take handles one packet of the broker, and acknowledges unless it is told
// that the connection is about to break.
func (in *inbox) take(c *conn, p *packet, silent bool) {
	in.t.Helper()
	switch p.typ {
	case typePubrel:
		delete(in.waiting, p.id)
		if !silent {
			c.pubcomp(p.id)
		}
		return
	case typePublish:
	default:
		in.t.Fatalf("got %s", p)
	}
	from, number := "", 0
	if _, err := fmt.Sscan(p.payload, &from, &number); err != nil {
		in.t.Fatalf("payload %q: %v", p.payload, err)
	}
	key := fmt.Sprint(from, " QoS ", p.qos)
	switch last := in.taken[key]; {
	case p.qos == 2 && in.waiting[p.id]: // a repeat of what was taken
		if !p.dup {
			in.t.Errorf("%s: message %d again without DUP", key, number)
		}
	case number == last+1:
		in.taken[key] = number
		in.messages++
	case p.qos == 1 && p.dup && number <= last: // QoS 1 may repeat
	default:
		in.t.Fatalf("%s: got message %d (DUP %v), want %d", key, number, p.dup, last+1)
	}
	if p.qos == 2 {
		in.waiting[p.id] = true
	}
	switch {
	case silent:
	case p.qos == 1:
		c.puback(p.id, 0)
	case p.qos == 2:
		c.pubrec(p.id, 0)
	}
}

// TestInterruptedDelivery lets several publishers send to a client whose
// connection breaks again and again, with and without its acknowledgements on
// their way: QoS 2 comes exactly once, QoS 1 at least once, both in order.
func TestInterruptedDelivery(t *testing.T) {
	both(t, in311("MQTT-4.6.0-1", "MQTT-4.6.0-6", "MQTT-4.4.0-1", "MQTT-4.3.2-1", "MQTT-4.3.3-1", "MQTT-4.1.0-1"),
		in5("MQTT-4.6.0-5", "MQTT-4.6.0-6", "MQTT-4.4.0-1", "MQTT-4.3.2-3", "MQTT-4.3.3-3", "MQTT-4.3.3-5", "MQTT-4.3.3-6", "MQTT-4.1.0-1"),
		func(t *testing.T, v version) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			base := unique()
			s := session{v: v, id: unique(), persist: true}
			if v == v5 {
				s.props = props{num(propReceiveMaximum, 17), num(propSessionExpiry, 300), num(propTopicAliasMaximum, 2)}
			}
			c := shared(t).connect(t, s)
			c.subscribe(base+"/+", 2)
			const publishers, each = 3, 200
			var pubs []*conn
			for range publishers {
				pubs = append(pubs, shared(t).connect(t, session{v: v}))
			}
			in := &inbox{t: t, taken: map[string]int{}, waiting: map[uint16]bool{}}
			sent := 0
			for in.messages < 2*publishers*each {
				for burst := random.IntN(8); burst > 0 && sent < each; burst-- {
					sent++
					for i, pub := range pubs {
						topic, payload := fmt.Sprint(base, "/", i), fmt.Sprint("p", i, " ", sent)
						id := pub.packetID()
						pub.write(cat(publish{topic: topic, payload: payload, qos: 1, id: id}.bytes(v),
							publish{topic: topic, payload: payload, qos: 2, id: id + 1000}.bytes(v),
							ackBytes(v, typePubrel, id+1000, 0, nil)))
						pub.expect(typePuback)
						pub.expect(typePubrec)
						pub.expect(typePubcomp)
					}
				}
				for steps := random.IntN(40); steps > 0 && in.messages < 2*publishers*each; steps-- {
					if sent < each && in.messages == 2*publishers*sent {
						break // nothing more is certain to come
					}
					in.take(c, c.read(), false)
				}
				if sent == each && random.IntN(3) > 0 || random.IntN(4) > 0 {
					continue
				}
				// The connection breaks: what the broker has sent is read or lost, the
				// acknowledgements are not sent.
				for range random.IntN(4) {
					if in.messages == 2*publishers*sent {
						break
					}
					in.take(c, c.read(), true)
				}
				if random.IntN(2) == 0 {
					c.nc.Close()
				} // else the next connection takes over
				c = shared(t).connect(t, s)
				if !c.connack.present {
					t.Fatal("no session present")
				}
			}
			for len(in.waiting) > 0 {
				in.take(c, c.read(), false)
			}
			// Repeats of QoS 1 may still be on their way, nothing else.
			marker := unique()
			c.subscribe(marker, 1)
			pubs[0].send(marker, "marker", 1)
			for {
				p := c.expect(typePublish)
				if p.topic == marker {
					break
				}
				if !strings.HasPrefix(p.topic, base) || p.qos != 1 {
					t.Fatalf("got %s after the last message", p)
				}
				in.take(c, p, false)
			}
		})
}

// TestShutdown: a broker that stops tells the clients of 5.0 and closes.
func TestShutdown(t *testing.T) {
	both(t, in311("MQTT-4.1.0-2"), in5("MQTT-3.14.2-1", "MQTT-3.14.4-2"), func(t *testing.T, v version) {
		b := ownBroker(t)
		c, silent := b.connect(t, session{v: v}), b.dial(t, v)
		c.ping()
		if err := b.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if v == v5 {
			if p := c.read(); p.typ != typeDisconnect || p.code != 0x8b {
				t.Errorf("got %s, want DISCONNECT 0x8B", p)
			}
		}
		c.closed()
		silent.closed()
	})
}
