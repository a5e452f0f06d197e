package engine

import (
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// handleAck handles PUBACK, PUBREC, PUBREL and PUBCOMP.
func (c *Conn) handleAck(b *Batch, h packet.Header, body []byte) Next {
	received := map4(h.Type, PacketsPubackReceived, PacketsPubrecReceived, PacketsPubrelReceived, PacketsPubcompReceived)
	b.counts[received]++
	a := &b.ack
	a.Kind = h.Type
	if err := a.Decode(c.version, h.Flags, body); err != nil {
		return c.fail(b, err)
	}
	c.traceIn(b, h.Type, a.PacketID, a.Code)
	s := c.session
	s.mu.Lock()
	known := s.conn.Load() == c
	if known {
		switch h.Type {
		case packet.TypePuback:
			known = s.acknowledge(b, slotWaitAck, a.PacketID)
		case packet.TypePubrec:
			known = s.recorded(b, c, a)
		case packet.TypePubrel:
			known = s.released(b, c, a.PacketID)
		case packet.TypePubcomp:
			known = s.completed(b, a.PacketID)
		}
		if h.Type != packet.TypePubrel && (s.queue.n > 0 || s.unsent > 0 || len(s.feeds) > 0) {
			s.pumpLocked(b, c)
		}
	}
	s.mu.Unlock()
	if !known {
		b.counts[map4(h.Type, PacketsPubackMissed, PacketsPubrecMissed, PacketsPubrelMissed, PacketsPubcompMissed)]++
	}
	return ReadOn
}

func map4(t packet.Type, ack, rec, rel, comp Metric) Metric {
	switch t {
	case packet.TypePuback:
		return ack
	case packet.TypePubrec:
		return rec
	case packet.TypePubrel:
		return rel
	}
	return comp
}

// acknowledge ends a delivery in the given state [MQTT-4.3.2-3] [MQTT-4.4.0-2]. s.mu is held.
func (s *Session) acknowledge(b *Batch, state uint8, id uint16) bool {
	p := s.window.find(id)
	if p == nil || p.state != state {
		return false
	}
	if p.flags&slotOpen == 0 {
		s.unsent--
	}
	m := p.m
	s.endDelivery(b, p.seq, m)
	s.window.free(p)
	s.noteAcked(b, m)
	m.release()
	return true
}

func (s *Session) noteAcked(b *Batch, m *shared) {
	if len(b.e.hooks.Load().acked) > 0 && s.link == nil {
		b.events = append(b.events, event{kind: evAcked, s: s, m: m.hold()})
	}
}

// recorded handles a PUBREC: the message is the client's, PUBREL follows [MQTT-4.3.3-4] [MQTT-4.3.3-6]. s.mu is held.
func (s *Session) recorded(b *Batch, c *Conn, a *packet.Ack) bool {
	p := s.window.find(a.PacketID)
	known := p != nil && (p.state == slotWaitRec || p.state == slotWaitComp)
	code := packet.Success
	switch {
	case known && p.state == slotWaitRec && a.Code.Failed(): // [MQTT-4.4.0-2]
		return s.acknowledge(b, slotWaitRec, a.PacketID)
	case known && p.state == slotWaitRec:
		if p.flags&slotOpen == 0 {
			s.unsent--
		}
		m := p.m
		p.m, p.ids, p.group, p.state = nil, nil, nil, slotWaitComp
		p.flags |= slotSent | slotOpen
		p.at = b.now
		s.comp++
		s.noteRecorded(b, p.seq, m)
		s.noteAcked(b, m)
		m.release()
	case known:
	case a.Code.Failed():
		return false
	default:
		code = packet.PacketIdentifierNotFound
	}
	b.bytes = packet.AppendAck(b.bytes[:0], c.version, packet.TypePubrel, a.PacketID, code)
	c.sendAt(b, s.storedTo(), b.bytes)
	b.counts[PacketsPubrelSent]++
	c.traceOut(b, packet.TypePubrel, a.PacketID, code)
	return known
}

// released handles a PUBREL: the identifier is free again [MQTT-4.3.3-11] [MQTT-4.3.3-12]. s.mu is held.
func (s *Session) released(b *Batch, c *Conn, id uint16) bool {
	_, known := s.rel[id]
	delete(s.rel, id)
	if d := s.kept.Load(); d != nil && known {
		d.last = b.stage(b.e.durable.store.EndRelease(d.number, id))
	}
	code := packet.Success
	if !known {
		code = packet.PacketIdentifierNotFound // [MQTT-3.7.2-1]
	}
	b.bytes = packet.AppendAck(b.bytes[:0], c.version, packet.TypePubcomp, id, code)
	c.sendAt(b, s.storedTo(), b.bytes)
	b.counts[PacketsPubcompSent]++
	c.traceOut(b, packet.TypePubcomp, id, code)
	return known
}

// completed handles a PUBCOMP [MQTT-4.3.3-5]. s.mu is held.
func (s *Session) completed(b *Batch, id uint16) bool {
	p := s.window.find(id)
	if p == nil || p.state != slotWaitComp {
		return false
	}
	if p.flags&slotOpen == 0 {
		s.unsent--
	}
	s.comp--
	s.endDelivery(b, p.seq, nil)
	s.window.free(p)
	return true
}
