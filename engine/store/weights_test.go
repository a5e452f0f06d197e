package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// spread publishes n messages through a client of a node and gives how many of them each member got.
func (p *pair) spread(t *testing.T, pu *wire, n int, members ...*wire) []int {
	t.Helper()
	got := make([]int, len(members))
	sum := 0
	for i := range n {
		pu.say(pub("d", fmt.Sprint(i), 0, 0))
		if i%50 < 49 && i < n-1 {
			continue
		}
		p.settle()
		for k, m := range members {
			for _, x := range m.all() {
				if _, ok := x.(*packet.Publish); ok {
					got[k]++
					sum++
				}
			}
		}
	}
	if sum != n {
		t.Fatalf("%d messages came, want %d", sum, n)
	}
	return got
}

// choose sets the strategy of share groups at both nodes.
func (p *pair) choose(strategy engine.SharedStrategy) {
	p.t.Helper()
	for _, w := range p.nodes {
		s := engine.DefaultSettings()
		s.SysInterval, s.SysHeartbeat, s.SharedStrategy = 0, 0, strategy
		if err := w.e.Configure(s); err != nil {
			p.t.Fatal(err)
		}
	}
}

// roughly fails if got is not within a fifth of want, some eight times what chance moves it by.
func roughly(t *testing.T, what string, got, want int) {
	t.Helper()
	if got < want*4/5 || got > want*6/5 {
		t.Errorf("%s got %d messages, want about %d", what, got, want)
	}
}

// member makes members of a share group.
func member(w *world, ids ...string) (all []*wire) {
	for _, id := range ids {
		m := w.connect(packet.V5, id, clean)
		m.say(sub("$share/g/d", 0))
		all = append(all, m)
	}
	return all
}

// Every member of a share group gets the same part, wherever it is, and whoever comes, goes or restarts.
func TestShareWeights(t *testing.T) {
	for _, strategy := range []engine.SharedStrategy{engine.SharedRandom, engine.SharedRoundRobin} {
		t.Run(string(strategy), func(t *testing.T) {
			p := newPair(t)
			set := func() { p.choose(strategy) }
			set()
			p.up(t)
			a, b := p.nodes[0], p.nodes[1]
			here, there := member(a, "h0"), member(b, "t0", "t1", "t2")
			p.settle()
			pu := a.connect(packet.V5, "p", clean)
			const n = 4000
			even := func(what string, pu *wire, members ...*wire) {
				t.Helper()
				for i, got := range p.spread(t, pu, n, members...) {
					roughly(t, fmt.Sprintf("%s: member %d of %d", what, i, len(members)), got, n/len(members))
				}
			}
			even("one here, three there", pu, append(here, there...)...)
			even("published there", b.connect(packet.V5, "q", clean), append(here, there...)...)
			there[0].hangUp()
			there[1].say(&packet.Unsubscribe{PacketID: 1, Filters: []string{"$share/g/d"}})
			p.settle()
			even("one here, one there", pu, here[0], there[2])
			there = append(there[2:], member(b, "t3", "t4", "t5", "t6")...)
			here = append(here, member(a, "h1")...)
			p.settle()
			even("two here, five there", pu, append(here, there...)...)

			// A node that is away is passed over, and its part goes to all that are left.
			p.cut()
			even("the others are away", pu, here...)
			p.connect()
			p.up(t)
			even("they are back", pu, append(here, there...)...)

			// What the other node has said is gone with the process.
			p.crash(0, 0)
			set()
			p.connect()
			p.up(t)
			here = member(a, "h0", "h1")
			p.settle()
			pu = a.connect(packet.V5, "p", clean)
			even("a restart here", pu, append(here, there...)...)
			p.crash(1, 0)
			set()
			p.connect()
			p.up(t)
			even("nobody there", pu, here...)
			there = member(b, "t0", "t1", "t2", "t3")
			p.settle()
			even("others there", pu, append(here, there...)...)
		})
	}
}

// A sticky group stays with one member, and a group that hashes with one for each publisher, whatever the weights.
func TestShareWeightsKeepMembers(t *testing.T) {
	for _, strategy := range []engine.SharedStrategy{engine.SharedSticky, engine.SharedHash} {
		t.Run(string(strategy), func(t *testing.T) {
			p := newPair(t)
			p.choose(strategy)
			p.up(t)
			all := append(member(p.nodes[0], "h0", "h1"), member(p.nodes[1], "t0", "t1", "t2")...)
			p.settle()
			far := 0
			for i := range 40 {
				pu := p.nodes[0].connect(packet.V5, fmt.Sprint("p", i), clean)
				busy := 0
				for k, got := range p.spread(t, pu, 10, all...) {
					if got == 0 {
						continue
					}
					if busy++; k >= 2 {
						far++
					}
				}
				if busy != 1 {
					t.Fatalf("publisher %d: %d members got messages, want one", i, busy)
				}
			}
			if strategy == engine.SharedHash && (far < 10 || far > 38) {
				t.Errorf("%d of 40 publishers went to the node with three of five members, want about 24", far)
			}
		})
	}
}

// The route of a group with one member is told as by releases that know no weights, and one of those is counted as one: what it does not
// say is not missing.
func TestShareWeightsAreOptional(t *testing.T) {
	p := newPair(t)
	p.up(t)
	a, b := p.nodes[0], p.nodes[1]
	told := func() (all []uint32) {
		t.Helper()
		b.commit()
		for out := p.ends[1].out; len(out) > 0; {
			h, size, err := packet.ParseHeader(packet.V5, out)
			if err != nil {
				t.Fatal(err)
			}
			if h.Type == packet.TypeSubscribe {
				var s packet.Subscribe
				if err := s.Decode(packet.V5, h.Flags, out[size:size+h.Remaining]); err != nil {
					t.Fatal(err)
				}
				all = append(all, s.SubscriptionID)
			}
			out = out[size+h.Remaining:]
		}
		p.settle()
		return all
	}
	there := member(b, "t0")
	if got := told(); !slices.Equal(got, []uint32{0}) {
		t.Errorf("one member was told as %d, want a subscription without an identifier", got)
	}
	there = append(there, member(b, "t1")...)
	there = append(there, member(b, "t2")...)
	if got := told(); !slices.Equal(got, []uint32{2, 3}) {
		t.Errorf("the second and third member were told as %d, want 2 and 3", got)
	}
	all := append(there, member(a, "h0")...)
	p.settle()
	pu := a.connect(packet.V5, "p", clean)
	got := p.spread(t, pu, 4000, all...)
	roughly(t, "with weights: the one here", got[3], 1000)

	// The same routes as an earlier release tells them again.
	s := packet.Subscribe{PacketID: 77, Filters: []packet.Subscription{{Filter: "$share/g/d", QoS: 2, RetainAsPublished: true, RetainHandling: packet.RetainSendNever}}}
	u := packet.Unsubscribe{PacketID: 76, Filters: []string{"$share/g/d"}}
	f := p.ends[0]
	if next := f.c.Feed(f.w.b, s.Append(u.Append(nil, packet.V5), packet.V5)); next != engine.ReadOn {
		t.Fatalf("the link ends: %v", next)
	}
	f.w.b.Flush()
	a.commit()
	f.out = nil // the answers, which the other has not asked for
	got = p.spread(t, pu, 4000, all...)
	roughly(t, "without: the one here", got[3], 2000)
}
