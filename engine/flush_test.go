package engine

import (
	"fmt"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// hasty is a carrier that takes a few bytes at a time and has room again, and says so, before Write has returned.
type hasty struct {
	client
	other *Batch
}

func (h *hasty) Write(bufs [][]byte) (int, error) {
	h.room = 3
	n, err := h.client.Write(bufs)
	h.c.Writable(h.other)
	h.other.Flush()
	return n, err
}

// A wake-up that comes while a write is still on its way back is not lost.
func TestWritableDuringWrite(t *testing.T) {
	w := newWorld(t)
	h := &hasty{client: client{t: t, w: w, v: packet.V311, b: w.e.NewBatch()}, other: w.e.NewBatch()}
	c, err := w.l.Accept(ConnInfo{}, h)
	if err != nil {
		t.Fatal(err)
	}
	h.c = c
	h.hello("h")
	h.subscribe("t", 0)
	p := w.connect(packet.V311, "p")
	for i := range 20 {
		p.say(pub("t", fmt.Sprint(i), 0, 0))
	}
	for i := range 20 {
		h.expect("t", fmt.Sprint(i), 0)
	}
}

// A message to more subscribers than may have output at once reaches all of them, and output memory goes back on the way.
func TestWideFanOut(t *testing.T) {
	w := newWorld(t)
	b := w.e.NewBatch()
	const n = manyTouched + 1000
	conns := make([]*Conn, n)
	for i := range conns {
		conns[i] = w.bare(b, fmt.Sprint("s", i), subscription("t", packet.QoS(i%2)))
	}
	before := w.e.Metrics()
	p := w.bare(b, "p")
	p.Feed(b, pub("t", "x", 1, 1).Append(nil, packet.V311))
	if len(b.touched) > 1001 {
		t.Errorf("%d connections have output before Flush, want those beyond %d and the publisher", len(b.touched), manyTouched)
	}
	b.Flush()
	m := w.e.Metrics()
	if d := m[MessagesSent] - before[MessagesSent]; d != n {
		t.Errorf("messages/sent: got %d, want %d", d, n)
	}
	for i, c := range conns {
		c.mu.Lock()
		if c.out != nil || c.sent.messages != 1 {
			t.Fatalf("subscriber %d: output %v, %d messages", i, c.out != nil, c.sent.messages)
		}
		c.mu.Unlock()
	}
}
