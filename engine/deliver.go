package engine

import (
	"strings"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// outcome is what became of a delivery.
type outcome byte

const (
	sent    outcome = iota // in the output of the connection
	queued                 // in the queue of the session
	dropped                // given up; counted
	full                   // the output is full; nothing was done
	waiting                // the connection is not ready yet; nothing was done
	closed                 // the connection is gone; nothing was done
)

// deliver gives a message to a session: straight into the output of its connection if order and limits allow that, else into
// its queue. group is the share group through which it comes, nil mostly.
func (s *Session) deliver(b *Batch, k *cast, d *delivery, group *shareGroup, from string) (taken bool) {
	z := s.policy()
	if (d.noLocal || z.IgnoreLoopDeliver) && s.clientID == from { // [MQTT-3.8.3-3]
		return false
	}
	m := k.m
	if mv := s.moving.Load(); mv != nil && group == nil && !mv.takes(b.peer) {
		return true // it comes, or goes, by way of another node
	}
	qos := min(m.QoS, d.qos) // [MQTT-3.8.4-6] [MQTT-3.8.4-8]
	if z.UpgradeQoS {
		qos = d.qos
	}
	retain := m.Retain && d.rap // [MQTT-3.3.1-9] [MQTT-3.3.1-12] [MQTT-3.3.1-13]
	if qos == 0 && s.queued0.Load() == 0 {
		if c := s.conn.Load(); c != nil {
			c.mu.Lock()
			k.group = group
			out := c.write(b, k, d.ids, 0, retain, 0, false)
			c.mu.Unlock()
			switch out {
			case sent:
				s.noteDelivered(b, k)
				return true
			case dropped:
				return true
			case full:
				b.counts[OutputDropped]++
				b.dropped(s, k.shared(), DropOutputFull)
				return true
			}
		}
	}
	sl := slot{m: k.shared(), ids: d.ids, group: group, at: k.now, qos: qos}
	if retain {
		sl.flags |= slotRetain
	}
	s.mu.Lock()
	taken = s.accept(b, k, sl, z)
	s.mu.Unlock()
	return taken
}

// accept begins the delivery of sl or queues it. It takes its own reference to the message. s.mu is held.
func (s *Session) accept(b *Batch, k *cast, sl slot, z *Zone) bool {
	if s.dead {
		return false
	}
	c := s.conn.Load()
	d := s.kept.Load()
	mv := s.moving.Load()
	if mv != nil && mv.out != nil && (sl.qos == 0 || mv.in == nil || !mv.in.blocked()) {
		return s.relay(b, mv.out, k, sl, directQueued)
	}
	if d != nil && sl.qos > 0 {
		k.store(b)
		sl.seq, sl.at = s.number(d), b.now
	} else {
		d = nil
		k.spread = k.spread || sl.qos == 2
	}
	if mv != nil && mv.in != nil && sl.qos > 0 && mv.in.blocked() {
		s.setBehind(b, mv.in, sl, z)
		if d != nil {
			s.putDelivery(b, d, &sl)
		}
		return true
	}
	// A stored QoS 2 delivery waits in the queue until it is committed.
	if c != nil && s.queue.n == 0 && (d == nil || sl.qos == 1) {
		switch s.begin(b, c, k, sl, z) {
		case sent:
			if d != nil {
				s.putDelivery(b, d, &sl)
			}
			return true
		case dropped:
			return true
		case full:
			if sl.qos == 0 {
				b.counts[OutputDropped]++
				b.dropped(s, sl.m, DropOutputFull)
				return true
			}
		}
	} else if c == nil && s.expiry == 0 { // on its way out
		return false
	}
	if sl.qos == 0 && c == nil && !z.StoreQoS0 {
		b.dropped(s, sl.m, DropOffline)
		return true
	}
	if s.enqueue(b, sl, z) && d != nil {
		s.putDelivery(b, d, &sl)
	}
	return true
}

// begin puts sl into the output of c, and for QoS 1 and 2 into the window. It takes its own reference to the message.
// s.mu is held.
func (s *Session) begin(b *Batch, c *Conn, k *cast, sl slot, z *Zone) outcome {
	if sl.qos > 0 && (s.unsent > 0 || s.window.live >= s.openMax(c, z)) { // [MQTT-3.3.4-9] [MQTT-4.9.0-2]
		return full
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || !c.ready {
		return waiting
	}
	k.group = sl.group
	if sl.qos == 0 {
		out := c.write(b, k, sl.ids, 0, sl.flags&slotRetain != 0, 0, false)
		switch out {
		case sent:
			s.noteDelivered(b, k)
		case full:
			c.hungry = true
		}
		return out
	}
	if c.out != nil && c.out.size > b.e.settings.Load().maxOutput() {
		c.hungry = true
		return full
	}
	sl.state = slotWaitAck
	if sl.qos == 2 {
		sl.state = slotWaitRec
	}
	sl.at = b.now
	var p *slot
	if sl.seq == 0 {
		p = s.window.push(sl)
	} else if old := s.window.find(identifier(sl.seq)); old == nil || old.state == slotFree {
		p = s.window.pushNumbered(sl)
	} else { // that delivery has been open for 65 534 others
		return full
	}
	out := c.write(b, k, sl.ids, sl.qos, sl.flags&slotRetain != 0, p.id, false)
	if out == sent {
		p.flags |= slotSent | slotOpen
		if d := s.kept.Load(); d != nil {
			d.begun = max(d.begun, sl.seq)
		}
		p.m.hold()
		s.noteDelivered(b, k)
		s.armRetry(b, c, z)
		return sent
	}
	s.window.free(p)
	return out
}

// openMax is how many QoS>0 deliveries may be open at once.
func (s *Session) openMax(c *Conn, z *Zone) int {
	n := z.MaxInflight
	if n == 0 {
		n = 65535
	}
	return min(n, int(c.receiveMax), 65534)
}

func (s *Session) noteDelivered(b *Batch, k *cast) {
	s.delivered.Add(1)
	if len(b.e.hooks.Load().delivered) > 0 && s.link == nil {
		b.events = append(b.events, event{kind: evDelivered, s: s, m: k.shared().hold()})
	}
}

// write encodes the message of k for the client and puts it into the output; QoS 0 is subject to its bound. c.mu is held.
func (c *Conn) write(b *Batch, k *cast, ids *[]uint32, qos packet.QoS, retain bool, id uint16, dup bool) outcome {
	if c.dead {
		return closed
	}
	if !c.ready {
		return waiting
	}
	var head []byte
	var at int
	var fresh bool // the topic alias in head is new to the client
	if ids == nil && !c.shaped {
		f := k.frame(b, c.version == packet.V5, qos, retain)
		head, at = f.b, f.id
	} else {
		head, fresh = c.shape(b, k, ids, qos, retain)
		at = packet.PacketIDOffset(head)
	}
	size := len(head)
	if k.refer {
		size += len(k.m.Payload)
	}
	if c.maxPacket > 0 && size > int(c.maxPacket) { // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
		b.counts[OutputTooLarge]++
		b.dropped(c.session, k.shared(), DropTooLarge)
		if fresh {
			delete(c.aliasOut, k.m.Topic)
		}
		return dropped
	}
	if c.out == nil {
		c.out = newOutput()
	} else if qos == 0 && c.out.size+size > b.e.settings.Load().maxOutput() {
		if fresh {
			delete(c.aliasOut, k.m.Topic)
		}
		return full
	}
	frame := c.out.write(head)
	if qos > 0 {
		packet.SetPacketID(frame, at, id)
		if dup {
			packet.SetDup(frame) // [MQTT-3.3.1-1]
		}
	}
	if k.refer {
		c.out.refer(k.shared())
	}
	c.sent.packets++
	c.sent.messages++
	if c.link != nil {
		b.counts[MessagesForward]++
	} else if k.count {
		b.counts[PacketsSent]++
		b.counts[PacketsPublishSent]++
		b.counts[MessagesSent]++
		b.counts[MessagesQoS0Sent+2*Metric(qos)]++
	}
	c.touch(b)
	if c.out.size >= earlyFlush && !c.writing && !c.blocked {
		b.urgent = append(b.urgent, c)
	}
	if b.e.traces.Load() != nil && c.link == nil {
		c.tracePublish(b, k.m, true, qos, retain, dup, id)
	}
	return sent
}

// shape encodes the message of k for this client alone: mountpoint, topic alias, subscription identifiers. fresh says that
// it has a new topic alias, to be forgotten if the frame is not sent. c.mu is held.
func (c *Conn) shape(b *Batch, k *cast, ids *[]uint32, qos packet.QoS, retain bool) (head []byte, fresh bool) {
	m := k.m
	p := &b.out
	p.Dup, p.QoS, p.Retain, p.PacketID = false, qos, retain, 0
	p.Payload = m.Payload
	p.Properties, p.HasExpiry, p.Expiry = m.Properties, m.HasExpiry, 0
	if p.HasExpiry {
		p.Expiry = m.remaining(k.now)
	}
	if c.link != nil {
		with := byte(0)
		if retain && c.link.retains && m.stamp != (Stamp{}) {
			with = originStamp
		}
		b.origin = append(appendOrigin(b.origin[:0], m, k.group, with, false), m.Properties...)
		p.Properties = b.origin
	}
	name := strings.TrimPrefix(m.Topic, c.mountpoint)
	p.TopicAlias, p.SubscriptionIDs = 0, nil
	if c.version == packet.V5 {
		alias, known := c.alias(m.Topic)
		p.TopicAlias = alias
		if known { // [MQTT-3.3.2-8]
			name = ""
		}
		fresh = alias != 0 && !known
		if ids != nil {
			p.SubscriptionIDs = *ids
		}
	}
	b.name = append(b.name[:0], name...)
	p.Topic = b.name
	if k.refer {
		b.bytes = p.AppendHead(b.bytes[:0], c.version)
	} else {
		b.bytes = p.Append(b.bytes[:0], c.version)
	}
	p.SubscriptionIDs = nil
	return b.bytes, fresh
}
