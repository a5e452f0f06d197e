package engine

import (
	"context"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// FuzzConn throws bytes, in pieces, at a connection in each state of the protocol. Whatever comes: no panic, what the broker
// answers is well-formed, other clients are served, and nothing is left of the connection at the end.
func FuzzConn(f *testing.F) {
	connect := func(v packet.Version, change ...func(*packet.Connect)) []byte {
		c := &packet.Connect{Version: v, CleanStart: true, ClientID: "fuzz", KeepAlive: 10}
		for _, ch := range change {
			ch(c)
		}
		return c.Append(nil, 0)
	}
	all := func(v packet.Version) (buf []byte) {
		big := pub("a/b", "payload", 1, 7)
		alias := pub("a", "1", 2, 8)
		alias.TopicAlias, alias.HasExpiry, alias.Expiry = 1, true, 3
		alias.Properties = packet.Properties(nil).AddUser("k", "v").AddResponseTopic("r")
		for _, p := range []packet.Packet{
			&packet.Subscribe{PacketID: 1, SubscriptionID: 3, Filters: []packet.Subscription{{Filter: "a/#", QoS: 2}, {Filter: "$share/g/+", QoS: 1}}},
			big, alias, ack(packet.TypePuback, 1), ack(packet.TypePubrec, 2), ack(packet.TypePubrel, 8), ack(packet.TypePubcomp, 2),
			&packet.Unsubscribe{PacketID: 2, Filters: []string{"a/#"}}, &packet.Pingreq{},
		} {
			buf = p.Append(buf, v)
		}
		if v == packet.V5 {
			buf = (&packet.Auth{Code: packet.ReAuthenticate, Method: "COUNT"}).Append(buf, v)
		}
		return (&packet.Disconnect{}).Append(buf, v)
	}
	for state := range byte(6) {
		f.Add(state, byte(0), []byte{})
		for _, v := range versions {
			f.Add(state, byte(3), all(v))
			f.Add(state, byte(200), append(connect(v, persistent), all(v)...))
		}
	}
	f.Fuzz(func(t *testing.T, state, piece byte, data []byte) {
		if len(data) > 1<<14 {
			return
		}
		w := newWorld(t, zone(func(z *Zone) { z.MaxPacketSize, z.MaxAwaitingRel = 4096, 3 }), settings(func(s *Settings) { s.MaxOutput = 4096 }))
		w.e.AddAuthMethod("COUNT", &countdown{2})
		other := w.connect(packet.V5, "other", persistent)
		other.subscribe("#", 2)
		p := w.dial(packet.V311)
		switch state % 6 {
		case 0: // nothing said
		case 1:
			p.hello("fuzz")
		case 2:
			p.v = packet.V5
			p.hello("fuzz", persistent, func(c *packet.Connect) {
				c.Will, c.TopicAliasMaximum = &packet.Will{Topic: "w", Payload: []byte("x"), QoS: 2, Delay: 1}, 3
			})
		case 3: // in the middle of an exchange
			p.v = packet.V5
			m := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "fuzz", AuthMethod: "COUNT"}
			p.say(m)
		case 4: // subscribed, with deliveries open
			p.hello("fuzz", persistent)
			p.subscribe("#", 2)
			other.say(pub("x", "1", 1, 1), pub("x", "2", 2, 2))
		case 5: // a packet that has begun
			p.hello("fuzz")
			p.raw([]byte{0x30, 0x05, 0x00})
		}
		size := max(1, int(piece))
		for rest := data; len(rest) > 0; {
			n := min(size, len(rest))
			if p.raw(rest[:n]) != ReadOn {
				break
			}
			rest = rest[n:]
		}
		if p.c.version == packet.V5 {
			p.v = packet.V5
		} else {
			p.v = packet.V311
		}
		p.decode() // fails on anything malformed
		p.hangUp()
		w.pass(2 * time.Second)
		if !other.isClosed() { // a fuzzed CONNECT may take its place
			other.decode()
			other.got = nil
			other.say(&packet.Pingreq{})
			other.decode()
			found := false
			for _, m := range other.got {
				found = found || m.Type() == packet.TypePingresp
			}
			if !found {
				t.Fatal("another client gets no PINGRESP")
			}
		}
		if err := w.e.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, g := range w.e.Stats().Named() {
			if g.Count != 0 && g.Name != "retained" {
				t.Fatalf("%s: got %d at the end, want 0", g.Name, g.Count)
			}
		}
	})
}
