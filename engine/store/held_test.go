package store_test

import (
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// heldWorld is a node that was killed while a client with a will was connected, and is back.
func heldWorld(t *testing.T) (w *world, wills func() int, f engine.Fence) {
	t.Helper()
	w = newWorld(t)
	w.hold = true
	d := newBooks()
	w.e.SetHomes(desk{d, "a"})
	w.claimant(t, func(m *packet.Connect) { m.Will = &packet.Will{Topic: "will", Payload: []byte("w"), QoS: 1} })
	r, _ := d.row("c")
	w.commit()
	w.crash(0)
	w.e.SetHomes(desk{d, "a"})
	n := 0
	w.e.AddHooks("test", engine.Hooks{Publish: func(m *engine.Message) (bool, packet.ReasonCode) {
		if m.Topic == "will" {
			n++
		}
		return false, packet.Success
	}})
	return w, func() int { return n }, r.f
}

func (w *world) heldRow() (held bool, p engine.Presence) {
	w.e.ClaimsFrom("", func(_ string, _ engine.Fence, q engine.Presence, h bool) bool {
		held, p = h, q
		return true
	})
	return held, p
}

// The will of a session that a crash has cut off waits until it is known whether somebody else has published it. That survives another crash.
func TestHeldWill(t *testing.T) {
	for _, publish := range []bool{true, false} {
		w, wills, f := heldWorld(t)
		w.pass(time.Minute)
		if n := wills(); n != 0 {
			t.Fatalf("%d wills before anybody has said so", n)
		}
		if held, p := w.heldRow(); !held || p.Will != nil {
			t.Fatalf("held %v, presence %+v, want it held and no business of others", held, p)
		}
		w.e.ReleaseWill("c", engine.Fence{Epoch: f.Epoch, Count: f.Count + 1}, true)
		if held, _ := w.heldRow(); !held {
			t.Fatal("a word about another session has ended the hold")
		}
		w.e.ReleaseWill("c", f, publish)
		w.commit()
		w.pass(time.Second)
		want := 0
		if publish {
			want = 1
		}
		if n := wills(); n != want {
			t.Errorf("publish %v: %d wills, want %d", publish, n, want)
		}
		if held, _ := w.heldRow(); held {
			t.Error("it is held still")
		}
		w.commit()
		w.crash(0)
		if held, p := w.heldRow(); held || p.Will != nil {
			t.Errorf("publish %v: after another crash held %v, presence %+v", publish, held, p)
		}
	}
}

// A held will is not lost by another crash, and by a rewrite of the store.
func TestHeldWillIsKept(t *testing.T) {
	w, _, _ := heldWorld(t)
	w.m.Clean()
	w.commit()
	w.crash(0)
	if held, _ := w.heldRow(); !held {
		t.Error("the will is gone")
	}
}

// A client that comes back has no will of before.
func TestHeldWillClientBack(t *testing.T) {
	w, wills, f := heldWorld(t)
	w.claimant(t)
	w.e.ReleaseWill("c", f, true)
	w.e.ReleaseWills(true)
	w.pass(time.Minute)
	if n := wills(); n != 0 || w.e.HoldsWills() {
		t.Errorf("%d wills, holds %v, want none", n, w.e.HoldsWills())
	}
}
