package storetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// History stages changes as an engine might, commits, fails, cleans, stops and crashes, and compares what is found after each stop
// with what a naive reading of the changes says. draw(what, n), from [0, n), decides everything.
func History(t T, medium *Medium, draw func(what string, n int) int) {
	h := &history{world: newWorld(t, medium), draw: draw}
	defer func() {
		h.quit()
		_ = h.s.Close() // where the test did not, it does not matter how
	}()
	for range 20 + draw("steps", 200) {
		h.step()
	}
	h.mend()
	h.restart()
}

type history struct {
	*world
	draw     func(what string, n int) int
	sessions uint64 // numbers given
	messages uint64
	open     []uint64 // messages whose publications have not ended
	failing  bool
}

func (h *history) step() {
	h.t.Helper()
	switch h.draw("step", 24) {
	case 0:
		if !h.failing {
			h.commit()
		}
	case 1:
		h.s.Want(h.s.Staged())
	case 2:
		h.mend()
		h.restart()
		h.open = nil
	case 3:
		h.failing = false
		h.crash(func(n int) int { return h.draw("found", n) })
		h.open = nil
	case 4:
		if h.failing {
			h.mend()
		} else {
			h.failing = true
			h.medium.Fail(h.s, errors.New("drawn fault"))
		}
	case 5:
		if h.medium.Clean != nil && len(h.open) == 0 && !h.failing {
			h.medium.Clean(h.s)
		}
	default:
		h.turn.Lock()
		h.change()
		h.turn.Unlock()
	}
}

// mend ends a fault.
func (h *history) mend() {
	if h.failing {
		h.failing = false
		h.medium.Fail(h.s, nil)
	}
}

// change stages something; turn is held.
func (h *history) change() {
	state := h.state(true)
	if len(state.Sessions) == 0 {
		h.newSession()
		return
	}
	s := state.Sessions[h.draw("session", len(state.Sessions))]
	n := s.Number
	switch h.draw("change", 18) {
	case 0:
		h.newSession()
	case 1:
		x := *s
		x.Subscriptions, x.Deliveries, x.Releases = nil, nil, nil
		x.Connected, x.ExpireAt = !x.Connected, int64(h.draw("expire", 100))
		h.putSession(n, x)
	case 2:
		if h.draw("end", 3) == 0 {
			h.endSession(n)
		}
	case 3:
		h.putSubscription(n, engine.Subscription{Filter: fmt.Sprint("f", h.draw("filter", 4)), Share: []string{"", "g"}[h.draw("share", 2)], QoS: 1})
	case 4:
		if len(s.Subscriptions) > 0 {
			h.endSubscription(n, s.Subscriptions[h.draw("subscription", len(s.Subscriptions))].Name())
		}
	case 5, 6, 7, 8:
		h.begin(state)
	case 9, 10:
		h.end(n)
	case 11, 12, 13:
		if len(s.Deliveries) > 0 {
			d := s.Deliveries[h.draw("delivery", len(s.Deliveries))]
			switch {
			case slices.Contains(h.open, d.Message): // nobody has it yet
			case h.draw("acknowledgement", 3) == 0:
				h.recorded(n, d.Seq)
			default:
				h.endDelivery(n, d.Seq)
			}
		}
	case 14:
		h.begun(n, s.Seq)
	case 15:
		h.putRelease(n, uint16(h.draw("id", 4)), 7)
	case 16:
		h.endRelease(n, uint16(h.draw("id", 4)))
	case 17:
		if topic := fmt.Sprint("t", h.draw("topic", 3)); h.draw("clear", 3) == 0 {
			h.clearRetained(topic, h.stamp())
		} else if h.draw("retained", 2) == 0 {
			h.endRetained(topic)
		} else if len(state.Delayed) > 0 {
			if m := state.Delayed[h.draw("delayed", len(state.Delayed))].Number; !slices.Contains(h.open, m) {
				h.endDelayed(m)
			}
		}
	}
}

func (h *history) newSession() {
	h.sessions++
	h.putSession(h.sessions, sessionOf(fmt.Sprint("client", h.sessions)))
}

// stamp gives one that says little; some have none.
func (h *history) stamp() engine.Stamp {
	n := uint64(h.draw("stamp", 4))
	return engine.Stamp{Time: n << 40, Node: n}
}

// begin stages a publication and ends it, or does not yet.
func (h *history) begin(state *engine.Stored) {
	h.messages++
	n := h.messages
	topic := fmt.Sprint("t", h.draw("topic", 3))
	h.putMessage(n, text(topic, string(make([]byte, h.draw("payload", 300)))), true)
	h.open = append(h.open, n)
	for _, s := range state.Sessions {
		if h.draw("matches", 2) == 0 {
			d := deliveryOf(s.Seq+1, n)
			if h.draw("identifiers", 4) == 0 {
				d.IDs = []uint32{1, 500}
			}
			h.putDelivery(s.Number, d)
		}
	}
	if h.draw("retain", 3) == 0 {
		h.putRetained(n, topic, h.stamp())
	}
	if h.draw("delay", 6) == 0 {
		h.putDelayed(n, int64(n))
	}
	if h.draw("stays open", 4) != 0 {
		h.end(0)
	}
}

// end ends an open publication. session may be that of its publisher.
func (h *history) end(session uint64) {
	if len(h.open) == 0 {
		return
	}
	i := len(h.open) - 1
	if session != 0 {
		i = h.draw("open", len(h.open))
	}
	h.endPublication(h.open[i], session, uint16(h.draw("id", 4)), 8)
	h.open = slices.Delete(h.open, i, i+1)
}
