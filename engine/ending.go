package engine

import (
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// ending says how a connection ends.
type ending struct {
	reason     string
	code       packet.ReasonCode // of DISCONNECT in 5.0; Success: none is sent
	text       string            // reason string
	noWill     bool              // the client said so [MQTT-3.14.4-3]
	endSession bool              // whatever its expiry
}

// end ends the connection: there is one way out for all reasons, and it may be taken from any goroutine. When it returns the
// client is out of the tables, its will is published and the hooks were called.
func (c *Conn) end(b *Batch, x ending) {
	if !c.ended.CompareAndSwap(false, true) {
		return
	}
	e := b.e
	e.wheel.stop(&c.timer)
	if !x.noWill {
		c.signWill(e)
	}
	c.mu.Lock()
	hadWill := c.will != nil
	c.mu.Unlock()
	s, mine, over, w := e.leave(b, c, x)

	c.mu.Lock()
	if c.ready && c.version == packet.V5 && x.code != packet.Success { // [MQTT-3.14.0-1] [MQTT-4.13.1-1]
		d := packet.Disconnect{Code: x.code, Reason: x.text} // [MQTT-3.14.2-2]
		p := d.Append(nil, c.version)
		if c.maxPacket > 0 && len(p) > int(c.maxPacket) { // [MQTT-3.14.2-3]
			d.Reason = ""
			p = d.Append(p[:0], c.version)
		}
		if c.maxPacket == 0 || len(p) <= int(c.maxPacket) {
			c.queue(b, p)
			b.counts[PacketsDisconnectSent]++
			c.traceOut(b, packet.TypeDisconnect, 0, x.code)
		}
	}
	c.ready, c.closing, c.held, c.hungry = false, true, false, false
	if c.wait != nil { // what was not acknowledged is repeated on the next connection
		c.wait.drop()
		c.wait = nil
	}
	c.endReason = x.reason
	told := c.told
	c.aliasOut = nil
	c.mu.Unlock()
	c.flush(b) // and close [MQTT-3.14.4-2] [MQTT-4.13.2-1]
	if c.link != nil {
		e.dropLinkConn(c)
	}

	c.l.count(x.reason)
	if w != nil {
		e.publishWill(b, s, w)
		if mine && !over {
			e.renew(b, s)
		}
	}
	if hadWill && mine && !over {
		e.tellHome(s)
	}
	if told {
		c.tellDisconnected(x.reason)
	}
	if over && mine {
		e.terminate(b, s, x.reason)
	}
	b.settle()
}

func (c *Conn) tellDisconnected(reason string) {
	if hooks := c.l.e.hooks.Load().clientDisconnected; len(hooks) > 0 {
		info := c.describe()
		for _, h := range hooks {
			h(info, reason)
		}
	}
}

// tellConnected calls the hooks of a new connection, and those of its end if that was quicker.
func (c *Conn) tellConnected() {
	e := c.l.e
	if hooks := e.hooks.Load().clientConnected; len(hooks) > 0 {
		info := c.describe()
		for _, h := range hooks {
			h(info)
		}
	}
	c.mu.Lock()
	c.told = true
	reason := c.endReason
	c.mu.Unlock()
	if reason != "" {
		c.tellDisconnected(reason)
	}
}

// Closed says that the carrier has ended: err is nil after an orderly end of the stream. It is called once; nothing else is
// called afterwards.
func (c *Conn) Closed(b *Batch, err error) {
	b.begin()
	c.mu.Lock()
	c.gone, c.dead = true, true
	c.mu.Unlock()
	if err != nil {
		c.l.e.log.Debug("connection lost", "peer", c.info.Peer, "listener", c.l.name(), "err", err)
	}
	c.end(b, ending{reason: ReasonClosed})
}

// handleDisconnect handles DISCONNECT.
func (c *Conn) handleDisconnect(b *Batch, flags byte, body []byte) Next {
	b.counts[PacketsDisconnectReceived]++
	var d packet.Disconnect
	if err := d.Decode(c.version, flags, body); err != nil { // [MQTT-3.14.1-1]
		return c.fail(b, err)
	}
	c.traceIn(b, packet.TypeDisconnect, 0, d.Code)
	if d.SessionExpiry.Set {
		c.mu.Lock()
		if c.expiry == 0 && d.SessionExpiry.Value != 0 {
			c.mu.Unlock()
			return c.fail(b, packet.ProtocolError)
		}
		c.expiry = capExpiry(d.SessionExpiry.Value, c.zone.load())
		c.mu.Unlock()
	}
	c.end(b, ending{reason: ReasonNormal, noWill: d.Code == packet.NormalDisconnection})
	return Stop
}
