package engine

import (
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// A zone that hides figures shows sessions without what they hold, from one row to the next.
func TestHideFigures(t *testing.T) {
	w := newWorld(t)
	s := w.connect(packet.V311, "s")
	s.subscribe("t", 1)
	w.connect(packet.V311, "p").say(pub("t", "x", 1, 1))
	s.expect("t", "x", 1) // it stays unacknowledged
	info, _ := w.e.Session("s")
	for _, hide := range []bool{false, true, false} {
		z := DefaultZone()
		z.HideFigures = hide
		if err := w.e.SetZone("external", z); err != nil {
			t.Fatal(err)
		}
		want := info
		if hide {
			want.Subscriptions, want.Inflight, want.AwaitingAck, want.Delivered, want.Enqueued = 0, 0, 0, 0, 0
		}
		if got, _ := w.e.Session("s"); got != want {
			t.Errorf("hide %v:\n got  %+v\n want %+v", hide, got, want)
		}
	}
	if info.Subscriptions != 1 || info.Delivered != 1 {
		t.Errorf("figures: got %+v", info)
	}
}
