package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Conn is the state machine of one connection. Feed, Writable and Closed of one Conn are called one at a time; anything else
// that happens to it may happen meanwhile on other goroutines.
type Conn struct {
	l    *Listener
	t    Transport
	info ConnInfo
	zone *zoneRef

	// Known from CONNECT on. They are written before the session can be found and not changed afterwards.
	session     *Session // guarded by registry.mu until then
	version     packet.Version
	cleanStart  bool
	bridge      bool
	link        *linkConn // of another node; nil for clients
	superuser   bool
	problemInfo bool // reason strings and user properties are welcome everywhere [MQTT-3.1.2-29]
	shaped      bool // frames for this client are encoded for it alone: mountpoint or aliases
	keepAlive   uint16
	receiveMax  uint16 // QoS>0 deliveries that may be open
	aliasMaxOut uint16
	aliasMaxIn  uint16
	announced   uint16 // receive maximum that CONNACK stated
	maxPacket   uint32 // bytes of a packet to the client; 0: no limit
	connectedAt int64
	username    string
	hasUsername bool
	mounted     int // levels that the mountpoint adds
	mountpoint  string
	method      string // of enhanced authentication
	will        *will  // guarded by mu

	ended      atomic.Bool  // end was called
	publishing atomic.Bool  // a publication of QoS 2 is in progress, and sessions may move
	lastSeen   atomic.Int64 // when a packet came last, ns since the epoch
	timer      timer
	aliasIn    map[uint16]string        // topic aliases of the client; used by Feed only
	acl        atomic.Pointer[aclCache] // nil until used
	limits     *connLimits              // nil without limits
	hs         *handshake               // CONNECT or re-authentication in progress
	tail       []byte                   // input that is no whole packet yet, or that waits for a handshake; nil mostly

	received struct{ bytes, packets, messages atomic.Int64 }

	mu        sync.Mutex
	out       *output           // nil while nothing waits
	wait      *deferred         // what the store has to commit first; nil mostly
	aliasOut  map[string]uint16 // topic aliases of the broker
	expiry    uint32            // session expiry interval, seconds
	writing   bool              // somebody is in Transport.Write
	blocked   bool              // the carrier is full
	room      bool              // Writable was called since Write began
	touched   bool              // some Batch will flush it
	dead      bool              // output is thrown away
	closing   bool              // Transport.Close follows the output
	held      bool              // Feed answered Hold because output waits
	hungry    bool              // the session has something that did not fit the output
	ready     bool              // CONNACK 0x00 went out: deliveries may follow
	told      bool              // ClientConnected was called
	gone      bool              // the carrier has ended
	endReason string
	sent      struct{ bytes, packets, messages int64 }
}

// fire is called by the wheel: idle timeout, keep alive, and the end of a rate hold.
func (c *Conn) fire(b *Batch) {
	if c.ended.Load() {
		return
	}
	c.mu.Lock()
	connected, held, since, lim := c.ready, c.held, c.connectedAt, c.limits
	c.mu.Unlock()
	if lim != nil {
		if until := lim.until.Load(); until != 0 {
			if b.now < until {
				b.e.wheel.set(&c.timer, until)
				return
			}
			lim.until.Store(0)
			c.lastSeen.Store(b.now) // a client that was not read cannot be blamed for silence
			c.t.Resume()
		}
	}
	woke := b.e.woke.Load()
	last := max(c.lastSeen.Load(), woke)
	if !connected {
		if due := max(since, woke) + int64(c.zone.load().IdleTimeout); c.zone.load().IdleTimeout == 0 {
			return
		} else if b.now < due {
			b.e.wheel.set(&c.timer, due)
			return
		}
		c.end(b, ending{reason: ReasonIdle})
		return
	}
	if c.keepAlive == 0 {
		return
	}
	due := last + c.patience()
	if held && b.now >= due { // it is we who do not read
		due = b.now + c.patience()
	}
	if b.now < due {
		b.e.wheel.set(&c.timer, due)
		return
	}
	// [MQTT-3.1.2-24] [MQTT-3.1.2-22]
	c.end(b, ending{reason: ReasonKeepAlive, code: packet.KeepAliveTimeout})
}

// patience is how long the client may be silent, ns.
func (c *Conn) patience() int64 {
	backoff := c.zone.load().KeepAliveBackoff
	return int64(2 * backoff * float64(c.keepAlive) * float64(time.Second))
}

// Feed takes bytes that arrived. p may be reused when it returns.
func (c *Conn) Feed(b *Batch, p []byte) Next {
	b.begin()
	if c.ended.Load() {
		return Stop
	}
	b.counts[BytesReceived] += int64(len(p))
	c.received.bytes.Add(int64(len(p)))
	packets := b.counts[PacketsReceived]
	messages := b.counts[MessagesReceived]
	if c.link != nil {
		return c.feedLink(b, p)
	}
	next := c.parse(b, p)
	messages = b.counts[MessagesReceived] - messages
	if n := b.counts[PacketsReceived] - packets; n != 0 { // parts of a packet are no sign of life [MQTT-3.1.2-24] [MQTT-3.1.2-22]
		c.lastSeen.Store(b.now)
		c.received.packets.Add(n)
		if messages != 0 {
			c.received.messages.Add(messages)
		}
	}
	if next != ReadOn {
		return next
	}
	if c.limits != nil && c.limits.spend(b.now, len(p), int(messages)) {
		b.counts[RateHolds]++
		b.e.wheel.set(&c.timer, c.limits.until.Load())
		return Hold
	}
	if c.overfull(b) {
		return Hold
	}
	return ReadOn
}

// overfull reports whether so much output waits for the client that nothing more is read from it, and sees to it that
// reading goes on later.
func (c *Conn) overfull(b *Batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := c.wait.size()
	if c.out != nil {
		size += c.out.size
	}
	if size <= b.e.settings.Load().maxOutput() || c.dead {
		return false
	}
	if !c.blocked && c.out != nil { // the carrier was not asked yet
		c.touch(b)
	}
	c.held = true
	b.counts[OutputHolds]++
	return true
}

// parse handles the packets in p, after what was left of the input before, and keeps what is left of p.
func (c *Conn) parse(b *Batch, p []byte) Next {
	for len(c.tail) > 0 {
		h, n, next := c.frame(b, c.tail)
		size := n + h.Remaining
		switch {
		case next != ReadOn:
			return next
		case n == 0: // not even the fixed header
			if len(p) == 0 {
				return ReadOn
			}
			c.tail = appendBuffer(c.tail, p[:1], 0)
			p = p[1:]
			continue
		case size > len(c.tail):
			more := min(size-len(c.tail), len(p))
			c.tail = appendBuffer(c.tail, p[:more], size)
			p = p[more:]
			if len(c.tail) < size {
				return ReadOn
			}
		}
		tail := c.tail
		c.tail = nil
		next = c.packet(b, h, tail[n:size])
		if next != ReadOn {
			if next == Hold { // what follows waits for the handshake
				c.tail = append(append([]byte(nil), tail[size:]...), p...)
				return c.launch(b)
			}
			return next
		}
		if len(tail) > size {
			c.tail = tail[size:]
		} else {
			putBuffer(tail)
		}
	}
	for len(p) > 0 {
		h, n, next := c.frame(b, p)
		if next != ReadOn {
			return next
		}
		size := n + h.Remaining
		if n == 0 || size > len(p) {
			c.tail = appendBuffer(nil, p, size)
			return ReadOn
		}
		if next := c.packet(b, h, p[n:size]); next != ReadOn {
			if next == Hold {
				c.tail = append([]byte(nil), p[size:]...)
				return c.launch(b)
			}
			return next
		}
		p = p[size:]
	}
	return ReadOn
}

// frame gives the fixed header of the packet at the start of p and its length, 0 if p ends within it.
func (c *Conn) frame(b *Batch, p []byte) (h packet.Header, n int, next Next) {
	if c.version == 0 && packet.Type(p[0]>>4) != packet.TypeConnect { // [MQTT-3.1.0-1]
		c.end(b, ending{reason: ReasonProtocol})
		return h, 0, Stop
	}
	h, n, err := packet.ParseHeader(c.version, p)
	if err == packet.ErrIncomplete {
		return packet.Header{}, 0, ReadOn
	}
	if err != nil {
		return h, 0, c.fail(b, err)
	}
	if limit := c.zone.load().MaxPacketSize; limit > 0 && n+h.Remaining > limit { // [MQTT-3.2.2-15]
		c.end(b, ending{reason: ReasonTooLarge, code: packet.PacketTooLarge})
		return h, 0, Stop
	}
	return h, n, ReadOn
}

// packet handles one whole packet.
func (c *Conn) packet(b *Batch, h packet.Header, body []byte) Next {
	if c.ended.Load() {
		return Stop
	}
	b.counts[PacketsReceived]++
	b.staged = 0
	next := c.dispatch(b, h, body)
	if len(b.events)+len(b.lines) > 0 {
		b.settle()
	}
	return next
}

func (c *Conn) dispatch(b *Batch, h packet.Header, body []byte) Next {
	if c.session == nil {
		return c.dispatchEarly(b, h, body)
	}
	switch h.Type {
	case packet.TypePublish:
		return c.handlePublish(b, h.Flags, body)
	case packet.TypePuback, packet.TypePubrec, packet.TypePubrel, packet.TypePubcomp:
		return c.handleAck(b, h, body)
	case packet.TypeSubscribe:
		return c.handleSubscribe(b, h.Flags, body)
	case packet.TypeUnsubscribe:
		return c.handleUnsubscribe(b, h.Flags, body)
	case packet.TypePingreq:
		b.counts[PacketsPingreq]++
		var ping packet.Pingreq
		if err := ping.Decode(c.version, h.Flags, body); err != nil {
			return c.fail(b, err)
		}
		c.traceIn(b, h.Type, 0, packet.Success)
		b.counts[PacketsPingresp]++
		b.bytes = (*packet.Pingresp)(nil).Append(b.bytes[:0], c.version) // [MQTT-3.12.4-1]
		c.send(b, b.bytes)
		return ReadOn
	case packet.TypeDisconnect:
		return c.handleDisconnect(b, h.Flags, body)
	case packet.TypeAuth:
		return c.handleAuth(b, h.Flags, body)
	}
	if c.link != nil {
		return c.handleAnswer(b, h, body)
	}
	// A second CONNECT [MQTT-3.1.0-2], or a packet that only servers send.
	if h.Type == packet.TypeConnect {
		b.counts[PacketsConnect]++
	}
	return c.fail(b, packet.ProtocolError)
}

// fail ends the connection for a packet that the standards forbid: with DISCONNECT and the reason in 5.0
// [MQTT-4.13.1-1], without a word before [MQTT-4.8.0-1].
func (c *Conn) fail(b *Batch, err error) Next {
	code := packet.CodeOf(err)
	reason := ReasonProtocol
	if code == packet.PacketTooLarge {
		reason = ReasonTooLarge
	}
	if c.session == nil && c.hs != nil && c.version == packet.V5 {
		return c.refuse(b, code)
	}
	b.e.log.Debug("bad packet", "clientid", c.clientID(), "peer", c.info.Peer, "listener", c.l.name(), "err", err)
	c.end(b, ending{reason: reason, code: code})
	return Stop
}

func (c *Conn) clientID() string {
	if s := c.session; s != nil {
		return s.clientID
	}
	if hs := c.hs; hs != nil {
		return hs.req.ClientID
	}
	return ""
}
