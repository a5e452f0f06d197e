package engine

import (
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// earlyFlush is the output of one connection, bytes, that is written before the round ends, so that a round over many
// publishers does not fill the output of a subscriber that keeps up.
const earlyFlush = 128 << 10

// touch remembers that c has output for the Flush of b. c.mu is held.
func (c *Conn) touch(b *Batch) {
	if !c.touched {
		c.touched = true
		b.touched = append(b.touched, c)
	}
}

// send queues an encoded packet that is not dropped at any limit: whoever asks for more such packets than it takes
// is not read any more. It goes behind what waits for the store.
func (c *Conn) send(b *Batch, p []byte) { c.sendAt(b, 0, p) }

// queue puts an encoded packet into the output. c.mu is held.
func (c *Conn) queue(b *Batch, p []byte) {
	if c.dead {
		return
	}
	if c.out == nil {
		c.out = newOutput()
	}
	c.out.write(p)
	c.sent.packets++
	if c.link == nil {
		b.counts[PacketsSent]++
	}
	c.touch(b)
}

// flush writes what waits, unless somebody else does or the carrier is full. No lock is held.
func (c *Conn) flush(b *Batch) {
	c.mu.Lock()
	c.touched = false
	if c.writing || c.blocked && !c.closing {
		c.mu.Unlock()
		return
	}
	for c.out != nil && c.out.size > 0 && !c.dead && !c.blocked {
		c.writing, c.room = true, false
		vec := append(b.vec[:0], c.out.bufs[c.out.head:]...)
		size := c.out.size
		c.mu.Unlock()
		n, err := c.t.Write(vec)
		clear(vec)
		b.vec = vec[:0]
		if c.link == nil {
			b.counts[BytesSent] += int64(n)
		}
		c.mu.Lock()
		c.writing = false
		c.sent.bytes += int64(n)
		c.out.consume(n)
		switch {
		case err != nil: // the driver will call Closed
			c.dead = true
		case n < size:
			c.blocked = !c.room // Writable may have come before Write returned
		}
	}
	if c.out != nil && (c.out.size == 0 || c.dead || c.closing) {
		c.out.free()
		c.out = nil
	}
	if c.closing {
		c.dead = true
		c.mu.Unlock()
		c.t.Close()
		return
	}
	size := 0
	if c.out != nil {
		size = c.out.size
	}
	limit := b.e.settings.Load().maxOutput()
	waits := c.wait.size()
	resume := c.held && size+waits <= limit/2
	if resume {
		c.held = false
	}
	feed := c.hungry && c.ready && size <= limit/2
	if feed {
		c.hungry = false
	}
	c.mu.Unlock()
	if resume {
		c.lastSeen.Store(b.now)
		c.t.Resume()
	}
	if feed {
		c.session.pump(b, c)
	}
}

// stuck reports whether the carrier is full.
func (c *Conn) stuck() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocked
}

// Writable says that the carrier can take output again after a short Write.
func (c *Conn) Writable(b *Batch) {
	b.begin()
	c.mu.Lock()
	c.blocked, c.room = false, true
	c.touch(b)
	c.mu.Unlock()
}

// cast is a publication on its way to its receivers: its frames, each encoded once.
type cast struct {
	m       *Message
	sh      *shared // m for those who keep it; nil until one does
	now     int64
	frames  [castFrames]frame
	made    uint16      // of frames, by bit
	refer   bool        // outputs refer to the payload; frames are heads
	count   bool        // it counts in the metrics: not below $SYS
	open    bool        // EndPublication will follow
	stored  bool        // the store has it
	crossed bool        // it came from another node
	group   *shareGroup // that it is delivered for, where that is told; nil mostly
	spread  bool        // a QoS 2 delivery has gone to a session that is not durable: it cannot be taken back
}

// frame is an encoded PUBLISH, or its head.
type frame struct {
	b  []byte
	id int // offset of the packet identifier
}

const castFrames = 12 // 5.0 or not, RETAIN or not, three QoS

// begin prepares for m.
func (k *cast) begin(b *Batch, m *Message, count bool) {
	k.m, k.now, k.count = m, b.now, count
	k.open, k.stored, k.spread, k.crossed, k.group = false, false, false, false, nil
	k.refer = len(m.Payload) >= referBorder
	k.made = 0
}

// end gives up what begin and the deliveries have taken.
func (k *cast) end() {
	if k.sh != nil {
		k.sh.release()
		k.sh = nil
	}
	k.m = nil
}

// shared gives the message in a form that can be kept. The reference stays with the cast.
func (k *cast) shared() *shared {
	if k.sh == nil {
		k.sh = newShared(k.m)
	}
	return k.sh
}

// frame gives the frame for a plain client, with identifier 0.
func (k *cast) frame(b *Batch, v5 bool, qos packet.QoS, retain bool) *frame {
	i := int(qos) * 4
	v := packet.V311
	if v5 {
		i += 2
		v = packet.V5
	}
	if retain {
		i++
	}
	f := &k.frames[i]
	if k.made&(1<<i) != 0 {
		return f
	}
	k.made |= 1 << i
	if v == packet.V311 && !k.refer { // BenchmarkForward: most frames need nothing of what follows
		f.b, f.id = packet.AppendPlain(f.b[:0], qos, retain, k.m.Topic, k.m.Payload)
		return f
	}
	p := &b.out
	p.Dup, p.QoS, p.Retain, p.PacketID = false, qos, retain, 0
	b.name = append(b.name[:0], k.m.Topic...)
	p.Topic, p.Payload = b.name, k.m.Payload
	p.Properties, p.HasExpiry, p.Expiry = k.m.Properties, k.m.HasExpiry, 0
	if p.HasExpiry {
		p.Expiry = k.m.remaining(k.now)
	}
	p.TopicAlias, p.SubscriptionIDs = 0, nil
	if k.refer {
		f.b = p.AppendHead(f.b[:0], v)
	} else {
		f.b = p.Append(f.b[:0], v)
	}
	f.id = packet.PacketIDOffset(f.b)
	return f
}
