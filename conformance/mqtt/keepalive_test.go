package mqtt

import (
	"strings"
	"testing"
	"time"
)

// timedOut waits for the broker to close a silent connection and checks when it
// does: not before 1.5 times the keep alive, and not long after. since is a
// moment just before the last packet was sent, so that a busy machine can only
// make the wait longer.
func timedOut(t *testing.T, c *conn, since time.Time, keepAlive time.Duration) (late time.Duration) {
	t.Helper()
	c.closed(0x8d)
	waited, limit := time.Since(since), keepAlive*3/2
	// The lower bound leaves room for a coarse clock, the upper for a busy machine.
	if waited < limit-100*time.Millisecond || waited > limit+8*time.Second {
		t.Errorf("closed after %v, want about %v", waited, limit)
	}
	return waited - limit
}

// TestKeepAlive: silence ends the connection as a broken network would, with
// the will; any packet counts as a sign of life.
func TestKeepAlive(t *testing.T) {
	both(t, in311("MQTT-3.1.2-24"), in5("MQTT-3.1.2-22", "MQTT-3.2.2-22"), func(t *testing.T, v version) {
		t.Run("silent", func(t *testing.T) {
			t.Parallel()
			topic, watcher := watched(t, v)
			const punctual = time.Second
			late := time.Hour
			for tries := 0; tries < 4 && late > punctual; tries++ { // the machine may be busy once, or twice
				start := time.Now()
				c := shared(t).connect(t, session{v: v, keepAlive: 2, will: &will{topic: topic, payload: "silent", qos: 1}})
				if c.connack.props.has(propServerKeepAlive) {
					t.Fatalf("CONNACK has a Server Keep Alive")
				}
				late = min(late, timedOut(t, c, start, 2*time.Second))
				watcher.receive(topic, "silent")
			}
			if late > punctual {
				t.Errorf("closed %v late at best, want at most %v", late, punctual)
			}
		})
		t.Run("silent after a packet", func(t *testing.T) {
			t.Parallel()
			c := shared(t).connect(t, session{v: v, keepAlive: 1})
			time.Sleep(700 * time.Millisecond) // part of the keep alive, which is the subject
			start := time.Now()
			c.ping()
			timedOut(t, c, start, time.Second)
		})
		t.Run("parts of a packet are none", func(t *testing.T) {
			t.Parallel()
			b := shared(t)
			start := time.Now()
			c := b.connect(t, session{v: v, keepAlive: 1})
			go func() { // one byte at a time, never to the end; ends with the connection
				m := publish{topic: "t/" + c.id, payload: strings.Repeat("x", 100)}
				for _, part := range m.bytes(v)[:80] {
					if _, err := c.nc.Write([]byte{part}); err != nil {
						return
					}
					time.Sleep(200 * time.Millisecond)
				}
			}()
			timedOut(t, c, start, time.Second)
			c.nc.Close()
		})
		for name, b := range map[string][]byte{
			"kept by PINGREQ": pingBytes(),
			"kept by PUBLISH": publish{topic: "t/" + unique(), payload: "x"}.bytes(v),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := shared(t).connect(t, session{v: v, keepAlive: 1})
				for start := time.Now(); time.Since(start) < 3*time.Second; {
					c.write(b)
					if b[0]>>4 == typePingreq {
						c.expect(typePingresp)
					}
					time.Sleep(300 * time.Millisecond) // within the keep alive, which is the subject
				}
				c.ping()
			})
		}
		t.Run("none", func(t *testing.T) {
			t.Parallel()
			c := shared(t).connect(t, session{v: v})
			time.Sleep(3 * time.Second) // longer than the keep alive of the others; 0 means no limit
			c.ping()
		})
	})
}

// TestServerKeepAlive: the broker's value counts, whatever the client asked for.
func TestServerKeepAlive(t *testing.T) {
	only5(t, "MQTT-3.1.2-22")
	b := startBroker(t, map[string]string{"zone.external.server_keepalive": "1"})
	for _, asked := range []uint16{0, 60} {
		start := time.Now()
		c := b.connect(t, session{v: v5, keepAlive: asked})
		if got := c.connack.props.num(propServerKeepAlive, 0); got != 1 {
			t.Fatalf("CONNACK announces a Server Keep Alive of %d, want 1", got)
		}
		timedOut(t, c, start, time.Second)
	}
}
