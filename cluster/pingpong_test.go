//go:build !windows

package cluster_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// wanderer is a client of MQTT 5.0 that takes messages of QoS 2, at any node, with the memory that the protocol asks of it.
type wanderer struct {
	*guest
	id   string
	held map[uint16]bool // identifiers of QoS 2 that were not released
	got  []string
}

// enter connects the client at a node and leaves its connection before as it is.
func (w *wanderer) enter(b *box) error {
	g, err := b.knock(w.id, func(m *packet.Connect) { m.CleanStart, m.SessionExpiry = false, 3600 })
	if err == nil {
		w.guest = g
	}
	return err
}

// take takes what comes until that are so many new messages.
func (w *wanderer) take(n int) error {
	if err := w.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return err
	}
	for n > 0 {
		h, body, err := w.next()
		if err != nil {
			return err
		}
		p := packet.New(h.Type)
		if err := p.Decode(packet.V5, h.Flags, body); err != nil {
			return err
		}
		answer := packet.Ack{}
		switch p := p.(type) {
		case *packet.Publish:
			if p.QoS != 2 {
				return fmt.Errorf("%s came with QoS %d", p.Payload, p.QoS)
			}
			if !w.held[p.PacketID] {
				w.held[p.PacketID] = true
				w.got = append(w.got, string(p.Payload))
				n--
			}
			answer = packet.Ack{Kind: packet.TypePubrec, PacketID: p.PacketID}
		case *packet.Ack:
			delete(w.held, p.PacketID)
			answer = packet.Ack{Kind: packet.TypePubcomp, PacketID: p.PacketID}
		case *packet.Disconnect:
			return p.Code
		}
		if answer.Kind != 0 {
			if _, err := w.Write(answer.Append(nil, packet.V5)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ended gives the reason with which a connection was ended, whatever came before.
func (g *guest) ended() (packet.ReasonCode, error) {
	if err := g.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	for {
		h, body, err := g.next()
		if err != nil {
			return 0, err
		}
		if h.Type == packet.TypeDisconnect {
			var d packet.Disconnect
			err := d.Decode(packet.V5, h.Flags, body)
			return d.Code, err
		}
	}
}

// TestPingPong has a client with a backlog of 10 000 messages of QoS 2 go from node to node while others publish: each comes once, in order.
func TestPingPong(t *testing.T) {
	f := newFleet(t, 3, map[string]string{"zone.external.max_mqueue_len": "0"})
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.registered(f.boxes...)
	w := &wanderer{id: "wanderer", held: map[uint16]bool{}}
	f.poll("the client is let in", 40*time.Second, func() bool { return w.enter(f.boxes[0]) == nil })
	sub := packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "way/#", QoS: 2}}}
	if _, err := w.Write(sub.Append(nil, packet.V5)); err != nil {
		t.Fatal(err)
	}
	if h, _, err := w.next(); err != nil || h.Type != packet.TypeSuback {
		t.Fatalf("SUBSCRIBE was answered by %v, %v", h.Type, err)
	}
	w.Close()

	backlog, more := 10_000, 3_000
	if testing.Short() {
		backlog, more = 1000, 300
	}
	publish := func(b *box, name string, n int) {
		c := f.enter(b, name, nil)
		window := make(chan struct{}, 100)
		for i := range n {
			window <- struct{}{}
			token := c.Publish("way/x", 2, false, fmt.Sprint(name, ":", i))
			go func() {
				if !token.WaitTimeout(60*time.Second) || token.Error() != nil {
					t.Errorf("%s: message %d was not acknowledged: %v", name, i, token.Error())
				}
				<-window
			}()
		}
		for range cap(window) {
			window <- struct{}{}
		}
	}
	publish(f.boxes[2], "before", backlog)
	var done atomic.Bool
	go func() {
		defer done.Store(true)
		publish(f.boxes[1], "meanwhile", more)
	}()
	moves := 0
	for at := 1; len(w.got) < backlog+more; at++ {
		old := w.guest
		if err := w.enter(f.boxes[at%3]); err != nil {
			t.Fatalf("move %d, after %d messages: %v", moves+1, len(w.got), err)
		}
		if !w.ack.SessionPresent {
			t.Fatalf("move %d, after %d messages: no session", moves+1, len(w.got))
		}
		if moves++; moves > 1 {
			if code, err := old.ended(); code != packet.SessionTakenOver {
				t.Fatalf("move %d: the connection before ended with %v, %v; want 0x8E", moves, code, err)
			}
		}
		old.Close()
		if err := w.take(min(400, backlog+more-len(w.got))); err != nil {
			t.Fatalf("after %d moves and %d messages: %v", moves, len(w.got), err)
		}
	}
	f.poll("all are acknowledged", 60*time.Second, done.Load)
	next := map[string]int{}
	for _, text := range w.got {
		from, _, _ := strings.Cut(text, ":")
		if want := fmt.Sprint(from, ":", next[from]); text != want {
			t.Fatalf("%s came, want %s", text, want)
		}
		next[from]++
	}
	if next["before"] != backlog || next["meanwhile"] != more {
		t.Errorf("%d of %d, and %d of %d came", next["before"], backlog, next["meanwhile"], more)
	}
	t.Logf("%d moves", moves)
	// And nothing comes again behind them.
	c := f.enter(f.boxes[0], "last", nil)
	if token := c.Publish("way/x", 2, false, "end"); !token.WaitTimeout(20*time.Second) || token.Error() != nil {
		t.Fatalf("publish: %v", token.Error())
	}
	if err := w.take(1); err != nil || w.got[len(w.got)-1] != "end" {
		t.Errorf("got %q, %v; want the end", w.got[len(w.got)-1], err)
	}
	for _, b := range f.boxes {
		f.poll("moves are over at "+b.name, 30*time.Second, func() bool {
			return b.figure("lacewing_registry_sessions_arriving") == "0" && b.figure("lacewing_registry_sessions_leaving") == "0"
		})
	}
}
