package store_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// farEnd is one end of a link: what the engine writes waits in out until the test carries it to the other.
type farEnd struct {
	w    *world
	c    *engine.Conn
	out  []byte
	full bool // it takes nothing
	gone bool
}

func (f *farEnd) Write(bufs [][]byte) (n int, err error) {
	if f.full {
		return 0, nil
	}
	for _, b := range bufs {
		f.out = append(f.out, b...)
		n += len(b)
	}
	return n, nil
}
func (f *farEnd) Resume() {}
func (f *farEnd) Close()  { f.gone = true }

// pair is two nodes, a and b, and the link between them.
type pair struct {
	t      rapid.TB
	nodes  [2]*world
	ends   [2]*farEnd // nil while the link is down
	epochs int
}

func newPair(t rapid.TB) *pair {
	p := &pair{t: t, nodes: [2]*world{newWorld(t), newWorld(t)}}
	p.connect()
	return p
}

// connect makes the link, as nodes do: both go on with their sessions if these are of one pair.
func (p *pair) connect() {
	p.t.Helper()
	p.cut()
	epoch := p.nodes[0].e.LinkEpoch("n1")
	resume := epoch != "" && epoch == p.nodes[1].e.LinkEpoch("n0")
	if !resume {
		p.epochs++
		epoch = fmt.Sprint("epoch", p.epochs)
	}
	for i, w := range p.nodes {
		o := engine.LinkOptions{Peer: fmt.Sprint("n", 1-i), Epoch: epoch, Resume: resume}
		f := &farEnd{w: w}
		var err error
		if f.c, err = w.e.OpenLink(o, engine.ConnInfo{}, f); err != nil {
			p.t.Fatal(err)
		}
		p.ends[i] = f
		f.c.Feed(w.b, o.Hello())
		w.b.Flush()
	}
}

// cut ends the link without a word.
func (p *pair) cut() {
	for i, f := range p.ends {
		if f != nil {
			p.ends[i] = nil
			f.c.Closed(f.w.b, nil)
			f.w.b.Flush()
		}
	}
}

// crash crashes a node, and the link with it.
func (p *pair) crash(i, more int) {
	if f := p.ends[1-i]; f != nil {
		p.ends[1-i] = nil
		f.c.Closed(f.w.b, nil)
		f.w.b.Flush()
	}
	p.ends[i] = nil
	p.nodes[i].crash(more)
}

// carry takes at most n bytes from one end to the other, and reports whether there were some.
func (p *pair) carry(from, n int) bool {
	f, to := p.ends[from], p.ends[1-from]
	if f == nil || to == nil || len(f.out) == 0 {
		return false
	}
	n = min(n, len(f.out))
	some := slices.Clone(f.out[:n])
	f.out = f.out[n:]
	if to.c.Feed(to.w.b, some) == engine.Stop {
		p.t.Fatalf("node %d ends the link", 1-from)
	}
	to.w.b.Flush()
	return true
}

// settle carries and commits until nothing moves.
func (p *pair) settle() {
	for range 1000 {
		moved := false
		for i, w := range p.nodes {
			staged := w.m.Staged() > w.m.Committed()
			w.commit()
			moved = p.carry(i, 1<<20) || staged || moved
		}
		if !moved {
			return
		}
	}
	p.t.Fatal("the nodes do not come to rest")
}

func (p *pair) up(t *testing.T) {
	t.Helper()
	p.settle()
	for i, w := range p.nodes {
		if l := w.e.Links(); len(l) != 1 || !l[0].Up || l[0].Late {
			t.Fatalf("node %d: links %+v, want one that is up", i, l)
		}
	}
}

// drain gives what each client gets of QoS 1 until there is nothing more.
func (p *pair) drain(clients ...*wire) (got [][]string) {
	got = make([][]string, len(clients))
	for more := true; more; {
		p.settle()
		more = false
		for i, c := range clients {
			for _, m := range c.all() {
				if m, ok := m.(*packet.Publish); ok {
					more = true
					got[i] = append(got[i], string(m.Payload))
					c.say(ack(packet.TypePuback, m.PacketID))
				}
			}
		}
	}
	return got
}
