package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
	"pgregory.net/rapid"
)

// modelSession is what a session must look like from outside: a list of messages that its client has yet to see for good.
type modelSession struct {
	conn  *client
	subs  map[string]packet.QoS
	owed  []string // payloads of QoS 1 and 2 messages not acknowledged, in order for each QoS
	clean bool
	exp   time.Time // when it ends; zero while connected
}

// Random commands on a few sessions: whatever happens, a persistent subscriber gets each QoS 1 message at least once, each QoS 2
// message exactly once, in order, and the tables agree with the model.
func TestSessionModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, zone(func(z *Zone) { z.MaxInflight, z.MaxQueueLen, z.RetryInterval = 3, 0, 0 }))
		defer w.e.Close(t.Context())
		v := rapid.SampledFrom(versions).Draw(rt, "version")
		pubs := w.connect(v, "publisher")
		names := []string{"a", "b"}
		filters := []string{"t/1", "t/2", "t/+", "#"}
		model := map[string]*modelSession{}
		next := 0
		bye := func(id string) {
			s := model[id]
			if s == nil || s.conn == nil {
				return
			}
			s.conn.hangUp()
			s.conn = nil
			s.exp = w.now().Add(time.Hour)
			if s.clean {
				delete(model, id)
			}
		}
		// receive takes what the client of id got, as far as the network lets it, and acknowledges some of it.
		receive := func(id string, all bool) {
			s := model[id]
			if s == nil || s.conn == nil {
				return
			}
			for m := s.conn.next(); m != nil; m = s.conn.next() {
				switch m := m.(type) {
				case *packet.Publish:
					key := string(m.Payload)
					i := slices.Index(s.owed, key)
					if i < 0 {
						rt.Fatalf("%s: got %s, which it is not owed (%v)", id, show(m), s.owed)
					}
					if all && i > 0 {
						rt.Fatalf("%s: got %q before %q", id, key, s.owed[0])
					}
					if !all && rapid.IntRange(0, 2).Draw(rt, "ignore") == 0 {
						continue // stays unacknowledged until the next connection
					}
					s.owed = slices.Delete(s.owed, i, i+1)
					if m.QoS == 1 {
						s.conn.say(ack(packet.TypePuback, m.PacketID))
					} else {
						s.conn.say(ack(packet.TypePubrec, m.PacketID))
					}
				case *packet.Ack:
					if m.Kind == packet.TypePubrel {
						s.conn.say(ack(packet.TypePubcomp, m.PacketID))
					}
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"connect": func(rt *rapid.T) {
				id := rapid.SampledFrom(names).Draw(rt, "id")
				clean := rapid.Bool().Draw(rt, "clean")
				old := model[id]
				p := w.dial(v)
				a := p.hello(id, func(c *packet.Connect) {
					c.CleanStart = clean
					if !clean && v == packet.V5 {
						c.SessionExpiry = 3600
					}
				})
				present := old != nil && !clean && !old.clean
				if v != packet.V31 && a.SessionPresent != present {
					rt.Fatalf("%s: session present %v, want %v", id, a.SessionPresent, present)
				}
				if old != nil && old.conn != nil {
					old.conn.hangUp()
				}
				if !present {
					old = &modelSession{subs: map[string]packet.QoS{}}
					model[id] = old
				}
				old.conn, old.clean, old.exp = p, clean, time.Time{}
			},
			"hang up": func(rt *rapid.T) { bye(rapid.SampledFrom(names).Draw(rt, "id")) },
			"kick": func(rt *rapid.T) {
				id := rapid.SampledFrom(names).Draw(rt, "id")
				err := w.e.Kick(id)
				if (err == nil) != (model[id] != nil && model[id].conn != nil) {
					rt.Fatalf("kick %s: got %v", id, err)
				}
				bye(id)
			},
			"subscribe": func(rt *rapid.T) {
				id := rapid.SampledFrom(names).Draw(rt, "id")
				f := rapid.SampledFrom(filters).Draw(rt, "filter")
				qos := packet.QoS(rapid.IntRange(1, 2).Draw(rt, "qos"))
				err := w.e.Subscribe(id, Subscription{Filter: f, QoS: qos})
				if s := model[id]; s != nil {
					s.subs[f] = qos
				}
				if (err == nil) != (model[id] != nil) {
					rt.Fatalf("subscribe %s: got %v", id, err)
				}
			},
			"unsubscribe": func(rt *rapid.T) {
				id := rapid.SampledFrom(names).Draw(rt, "id")
				f := rapid.SampledFrom(filters).Draw(rt, "filter")
				w.e.Unsubscribe(id, f)
				if s := model[id]; s != nil {
					delete(s.subs, f)
				}
			},
			"publish": func(rt *rapid.T) {
				name := rapid.SampledFrom([]string{"t/1", "t/2", "u"}).Draw(rt, "topic")
				qos := packet.QoS(rapid.IntRange(1, 2).Draw(rt, "qos"))
				for range rapid.IntRange(1, 5).Draw(rt, "count") {
					next++
					w.e.Publish(&Message{Topic: name, Payload: fmt.Append(nil, next), QoS: qos, From: "x"})
					for _, s := range model {
						best := packet.QoS(0)
						for f, q := range s.subs {
							if topic.Match(f, name) {
								best = max(best, min(q, qos))
							}
						}
						if best > 0 {
							s.owed = append(s.owed, fmt.Sprint(next))
						}
					}
				}
			},
			"receive": func(rt *rapid.T) { receive(rapid.SampledFrom(names).Draw(rt, "id"), false) },
			"time": func(rt *rapid.T) {
				w.pass(time.Duration(rapid.IntRange(1, 3000).Draw(rt, "seconds")) * time.Second)
				for id, s := range model {
					if !s.exp.IsZero() && !w.now().Before(s.exp.Add(time.Duration(v31Extra(v)))) {
						delete(model, id)
					}
				}
			},
			"": func(rt *rapid.T) {
				connected, subs := 0, 0
				for id, s := range model {
					info, ok := w.e.Session(id)
					if !ok || info.Connected != (s.conn != nil) || info.Subscriptions != len(s.subs) {
						rt.Fatalf("%s: got %+v %v, want connected %v and %d subscriptions", id, info, ok, s.conn != nil, len(s.subs))
					}
					if s.conn != nil {
						connected++
					}
					subs += len(s.subs)
				}
				st := w.e.Stats()
				if int(st.Connections.Count) != connected+1 || int(st.Sessions.Count) != len(model)+1 || int(st.Subscriptions.Count) != subs {
					rt.Fatalf("stats: got %d, %d, %d; want %d, %d, %d", st.Connections.Count, st.Sessions.Count, st.Subscriptions.Count, connected+1, len(model)+1, subs)
				}
			},
		})
		// In the end everybody who kept a session comes back and gets all that is owed.
		for id, s := range model {
			if s.clean {
				continue
			}
			bye(id)
			s.conn = w.connect(v, id, persistent)
			for range 1000 {
				before := len(s.owed)
				receive(id, true)
				if len(s.owed) == before {
					break
				}
			}
			if len(s.owed) > 0 {
				rt.Fatalf("%s: never got %v", id, s.owed)
			}
			if info, _ := w.e.Session(id); info.QueueLen != 0 || info.AwaitingAck != 0 {
				rt.Fatalf("%s: got %+v", id, info)
			}
		}
		pubs.hangUp()
	})
}

// v31Extra is how much longer than an hour a persistent session of that version lives: 3.x has the two hours of the zone.
func v31Extra(v packet.Version) time.Duration {
	if v == packet.V5 {
		return 0
	}
	return time.Hour
}
