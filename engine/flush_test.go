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
