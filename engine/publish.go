package engine

import (
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// handlePublish handles a PUBLISH of the client. Topic and payload stay where they lie in the read buffer until a session
// or the retainer wants to keep them.
func (c *Conn) handlePublish(b *Batch, flags byte, body []byte) Next {
	if c.link != nil {
		return c.handleForward(b, flags, body)
	}
	if b.e.moves.on.Load() && packet.QoS(flags>>1&3) == 2 { // BeginMove waits for it
		c.publishing.Store(true)
		defer c.publishing.Store(false)
	}
	p := &b.in
	if err := p.Decode(c.version, flags, body); err != nil {
		b.counts[PacketsPublishReceived]++
		return c.fail(b, err)
	}
	b.counts[PacketsPublishReceived]++
	b.counts[MessagesReceived]++
	b.counts[MessagesQoS0Received+2*Metric(p.QoS)]++
	z := c.zone.load()
	if c.version == packet.V5 {
		if code := c.resolve(b, p, z); code != packet.Success {
			return c.fail(b, code)
		}
	}
	if p.QoS > z.MaxQoS { // [MQTT-3.2.2-11]
		return c.fail(b, packet.QoSNotSupported)
	}
	if p.Retain && !z.RetainAvailable { // [MQTT-3.2.2-14]
		return c.fail(b, packet.RetainNotSupported)
	}
	if z.MaxTopicLen > 0 && len(p.Topic) > z.MaxTopicLen {
		b.msg = Message{}
		return c.reject(b, p, packet.TopicNameInvalid)
	}
	name := p.Topic
	if c.mountpoint != "" {
		if len(c.mountpoint)+len(name) > packet.MaxString {
			return c.fail(b, packet.TopicNameInvalid)
		}
		b.name = append(append(b.name[:0], c.mountpoint...), name...)
		name = b.name
	}
	en := b.lookup(name)
	if c.mountpoint == "" {
		p.Known = en.topic
	}
	s := c.session
	m := &b.msg
	*m = Message{
		Topic: en.topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Dup: p.Dup, From: s.clientID,
		Username: c.username, HasUsername: c.hasUsername, At: time.Unix(0, b.now),
		HasExpiry: p.HasExpiry, Expiry: p.Expiry, Properties: p.Properties,
	}
	if b.e.traces.Load() != nil {
		c.tracePublish(b, m, false, p.QoS, p.Retain, p.Dup, p.PacketID)
	}
	if z.MaxTopicLevels > 0 && en.levels-c.mounted > z.MaxTopicLevels {
		return c.reject(b, p, packet.TopicNameInvalid)
	}
	if z.StrictMode && p.CheckPayload() != nil {
		return c.reject(b, p, packet.PayloadFormatInvalid)
	}
	if p.QoS == 2 {
		known, code := c.take(b, p.PacketID, z)
		if known || code != packet.Success {
			if code == packet.ReceiveMaximumExceeded { // [MQTT-3.3.4-7]
				return c.fail(b, code)
			}
			if code.Failed() && c.version != packet.V5 {
				return ReadOn // no PUBREC: the client keeps it and sends it again
			}
			c.acknowledge(b, p, code, nil)
			return ReadOn
		}
	}
	if !c.allowed(b, ActionPublish, en.topic) {
		b.counts[PublishAuthError]++
		return c.reject(b, p, packet.NotAuthorized)
	}
	code := packet.Success
	if gates := b.e.hooks.Load().publish; len(gates) > 0 {
		var handled bool
		if handled, code = gate(gates, m); code.Failed() {
			return c.reject(b, p, code)
		} else if handled {
			b.stage(m.staged)
			b.closeRelease(c, p)
			c.acknowledge(b, p, code, nil)
			return ReadOn
		}
		if m.Topic != en.topic {
			if !topic.ValidName(m.Topic) {
				return c.reject(b, p, packet.TopicNameInvalid)
			}
			b.name = append(b.name[:0], m.Topic...)
			en = b.lookup(b.name)
		}
	}
	if p.QoS == 0 {
		b.publish(m, en, nil, 0)
		return ReadOn
	}
	publisher := c.durable(p)
	if b.unkept(m, en, publisher) || b.linkFull(m, en) {
		return c.refuseKept(b, p)
	}
	n, sh := b.publish(m, en, publisher, p.PacketID)
	if n == 0 {
		code = packet.NoMatchingSubscribers
	}
	c.acknowledge(b, p, code, sh)
	if sh != nil {
		sh.release()
	}
	return ReadOn
}

// durable gives the session that p's identifier is to be stored for: that of a QoS 2 publication, if it is durable.
func (c *Conn) durable(p *packet.Publish) *Session {
	if p.QoS == 2 && c.session.kept.Load() != nil {
		return c.session
	}
	return nil
}

// closeRelease stores the identifier of a QoS 2 publication that a hook has taken over.
func (b *Batch) closeRelease(c *Conn, p *packet.Publish) {
	if s := c.durable(p); s != nil {
		b.cast.stored = false
		b.cast.closePublication(b, s, p.PacketID)
	}
}

// refuseKept answers a publication that has to be stored while the store can promise nothing. 3.x has no answer for it, and a node
// would forget it: they are cut off, and keep the message.
func (c *Conn) refuseKept(b *Batch, p *packet.Publish) Next {
	if c.version == packet.V5 && c.link == nil {
		return c.reject(b, p, packet.QuotaExceeded)
	}
	b.counts[PublishError]++
	if p.QoS == 2 {
		c.session.mu.Lock()
		delete(c.session.rel, p.PacketID)
		c.session.mu.Unlock()
	}
	c.end(b, ending{reason: ReasonBusy})
	return Stop
}

// gate asks the Publish hooks.
func gate(gates []func(*Message) (bool, packet.ReasonCode), m *Message) (handled bool, code packet.ReasonCode) {
	for _, g := range gates {
		if handled, code = g(m); handled || code.Failed() {
			return handled, code
		}
	}
	return false, packet.Success
}

// resolve applies the rules of 5.0: topic alias, subscription identifiers.
func (c *Conn) resolve(b *Batch, p *packet.Publish, z *Zone) packet.ReasonCode {
	if len(p.SubscriptionIDs) > 0 { // [MQTT-3.3.4-6]
		return packet.ProtocolError
	}
	if p.TopicAlias == 0 {
		return packet.Success
	}
	if p.TopicAlias > c.aliasMaxIn { // [MQTT-3.3.2-9] [MQTT-3.2.2-17] [MQTT-3.2.2-18]
		return packet.TopicAliasInvalid
	}
	if len(p.Topic) == 0 {
		name, ok := c.aliasIn[p.TopicAlias]
		if !ok {
			return packet.ProtocolError
		}
		b.alias = append(b.alias[:0], name...)
		p.Topic = b.alias
		return packet.Success
	}
	if z.MaxTopicLen > 0 && len(p.Topic) > z.MaxTopicLen {
		return packet.TopicNameInvalid
	}
	if c.aliasIn == nil {
		c.aliasIn = map[uint16]string{}
	}
	if c.aliasIn[p.TopicAlias] != string(p.Topic) {
		c.aliasIn[p.TopicAlias] = string(p.Topic) // [MQTT-3.3.2-12]
	}
	return packet.Success
}

// take notes the identifier of a QoS 2 publication until its PUBREL. known says that it is noted already: the packet is a
// repeat and its message was taken before [MQTT-4.3.3-10].
func (c *Conn) take(b *Batch, id uint16, z *Zone) (known bool, code packet.ReasonCode) {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.Load() != c {
		return true, packet.Success
	}
	if _, known = s.rel[id]; known {
		b.staged = max(b.staged, s.storedTo())
		return true, packet.Success
	}
	if c.version == packet.V5 && len(s.rel) >= int(c.announced) {
		b.counts[MessagesQoS2Dropped]++
		return false, packet.ReceiveMaximumExceeded
	}
	if z.MaxAwaitingRel > 0 && len(s.rel) >= z.MaxAwaitingRel {
		b.counts[MessagesQoS2Dropped]++
		return false, packet.QuotaExceeded
	}
	if s.rel == nil {
		s.rel = map[uint16]int64{}
	}
	s.rel[id] = b.now
	if z.AwaitRelTimeout > 0 && !s.armed {
		s.armed = true
		b.e.wheel.set(&s.timer, b.now+int64(z.AwaitRelTimeout))
	}
	return false, packet.Success
}

// acknowledge answers a publication by its QoS [MQTT-3.3.4-1]: once the message is where it has to be. m is the message of a QoS 2
// publication that can be taken back if it cannot be stored.
func (c *Conn) acknowledge(b *Batch, p *packet.Publish, code packet.ReasonCode, m *shared) {
	w := wait{at: b.staged, id: p.PacketID, m: m}
	switch p.QoS {
	case 0:
		return
	case 1:
		w.kind = packet.TypePuback
		b.bytes = packet.AppendAck(b.bytes[:0], c.version, packet.TypePuback, p.PacketID, code) // [MQTT-4.3.2-4]
		b.counts[PacketsPubackSent]++
		c.traceOut(b, packet.TypePuback, p.PacketID, code)
	case 2:
		w.kind = packet.TypePubrec
		b.bytes = packet.AppendAck(b.bytes[:0], c.version, packet.TypePubrec, p.PacketID, code) // [MQTT-4.3.3-8]
		b.counts[PacketsPubrecSent]++
		c.traceOut(b, packet.TypePubrec, p.PacketID, code)
		if code.Failed() && c.version == packet.V5 { // [MQTT-4.3.3-9]; a 3.x client goes on with PUBREL
			s := c.session
			s.mu.Lock()
			delete(s.rel, p.PacketID)
			s.mu.Unlock()
		}
	}
	c.mu.Lock()
	c.queueWait(b, w, b.bytes)
	c.mu.Unlock()
}

// reject answers a publication that is not taken: with the code in 5.0, with a plain acknowledgement in 3.x, which has no other
// [MQTT-3.3.5-2]; then the deny action is applied.
func (c *Conn) reject(b *Batch, p *packet.Publish, code packet.ReasonCode) Next {
	b.counts[PublishError]++
	if len(b.e.hooks.Load().dropped) > 0 && b.msg.Topic != "" {
		for _, h := range b.e.hooks.Load().dropped {
			h("", &b.msg, DropDenied)
		}
	}
	if code == packet.NotAuthorized {
		action := c.zone.load().ACLDenyAction
		if action == "" {
			action = b.e.settings.Load().ACLDenyAction
		}
		if action == DenyDisconnect {
			c.end(b, ending{reason: ReasonNotAllowed, code: code})
			return Stop
		}
	}
	switch code {
	case packet.NotAuthorized, packet.TopicNameInvalid, packet.QuotaExceeded, packet.PayloadFormatInvalid,
		packet.UnspecifiedError, packet.ImplementationSpecificError, packet.PacketIdentifierInUse: // [MQTT-3.4.2-1] [MQTT-3.5.2-1]
	default:
		code = packet.UnspecifiedError
	}
	c.acknowledge(b, p, code, nil)
	return ReadOn
}

// publish stores and routes a message whose entry is en, and gives the number of sessions that took it. publisher and id are those of a
// QoS 2 publication of a durable session. back is the message, held, if the publication can be taken back later.
func (b *Batch) publish(m *Message, en *topicEntry, publisher *Session, id uint16) (n int, back *shared) {
	if m.Retain && !en.crossed {
		b.e.retainer.put(b, m)
	}
	gated := m.QoS > 0 && b.e.moves.on.Load()
	if gated {
		b.gate.RLock()
	}
	n, back = b.spread(m, en, publisher, id)
	if gated {
		b.gate.RUnlock()
	}
	if n == 0 {
		b.unmatched(m, en)
	}
	return n, back
}

// spread routes the message of publish.
func (b *Batch) spread(m *Message, en *topicEntry, publisher *Session, id uint16) (n int, back *shared) {
	b.route(en)
	if m.stamp != (Stamp{}) && !en.crossed {
		b.tellRetained(en, m)
	}
	deliveries, groups := en.deliveries, en.groups
	if en.crossed {
		deliveries, groups = b.crossed(en)
	}
	k := &b.cast
	k.begin(b, m, !en.sys)
	k.crossed = en.crossed
	if len(deliveries)+len(en.links)+len(groups) == 0 {
		if publisher != nil {
			k.closePublication(b, publisher, id)
		}
		return 0, nil
	}
	k.open = publisher != nil || len(deliveries)+len(en.links)+len(groups) > 1
	for i := range deliveries {
		d := &deliveries[i]
		if d.self != nil && d.s.clientID == m.From {
			d = d.self
		}
		if d.s.deliver(b, k, d, nil, m.From) {
			n++
		}
		if len(b.touched) >= manyTouched {
			b.writeTouched()
		}
	}
	if len(en.links) > 0 && (!m.Inside || packet.ValidString([]byte(m.Topic))) {
		for i := range en.links {
			d := &en.links[i]
			if d.s.deliver(b, k, d, nil, "") {
				n++
			}
		}
	}
	for _, g := range groups {
		if b.deliverShared(k, g, nil) {
			n++
		}
	}
	if k.stored || publisher != nil {
		k.closePublication(b, publisher, id)
		if m.QoS == 2 && k.stored && !k.spread && !m.Retain {
			back = k.sh.hold()
		}
	}
	k.end()
	if len(b.urgent) > 0 {
		b.flushUrgent()
	}
	return n, back
}

// unmatched counts a message that nobody wants.
func (b *Batch) unmatched(m *Message, en *topicEntry) {
	if !en.sys {
		b.counts[MessagesDropped]++
	}
	for _, h := range b.e.hooks.Load().dropped {
		h("", m, DropNoSubscribers)
	}
}

// deliverShared gives the message of k to one member of g, other than not [MQTT-4.8.2-3].
func (b *Batch) deliverShared(k *cast, g *shareGroup, not *Session) bool {
	here := k.crossed
	for range 3 { // a member may end before it takes the message
		u := g.pick(b, b.e.settings.Load().SharedStrategy, k.m.From, not, here)
		if u == nil && here {
			here = false // the members here have gone meanwhile
			u = g.pick(b, b.e.settings.Load().SharedStrategy, k.m.From, not, here)
		}
		if u == nil {
			return false
		}
		d := u.delivery()
		if u.s.deliver(b, k, &d, g, "") {
			return true
		}
		not = u.s
	}
	return false
}

// redispatch gives a message of a share group that a session did not acknowledge before it ended to another member.
func (b *Batch) redispatch(s *Session, sl slot) {
	if sl.m.expired(b.now) {
		b.dropped(s, sl.m, DropExpired)
		return
	}
	k := &b.cast
	k.begin(b, &sl.m.Message, !sl.m.uncounted())
	k.sh = sl.m.hold()
	k.stored = sl.seq != 0 // the session that gives it up still holds it there
	if b.deliverShared(k, sl.group, s) {
		b.counts[SharedRedelivered]++
	} else {
		b.dropped(s, sl.m, DropSessionEnded)
	}
	k.end()
}

// Publish publishes a message from inside: it goes through the hooks, the retainer and routing, and is not counted as
// received. matched is the number of sessions that took it. The error is ErrBadTopic or the packet.ReasonCode of a hook. m and
// what it points to may be used again when Publish returns.
func (e *Engine) Publish(m *Message) (matched int, err error) {
	b := e.borrow()
	defer b.giveBack()
	inside := *m
	inside.Inside = true
	return b.inject(&inside, false)
}

// inject is Publish within a round, also for what clients have left behind (wills): these are taken even if the store can promise nothing,
// because nobody would repeat them.
func (b *Batch) inject(m *Message, left bool) (matched int, err error) {
	if !topic.ValidName(m.Topic) || !m.QoS.Valid() {
		return 0, ErrBadTopic
	}
	own := *m
	if own.At.IsZero() {
		own.At = time.Unix(0, b.now)
	}
	if gates := b.e.hooks.Load().publish; len(gates) > 0 && !m.Sys {
		handled, code := gate(gates, &own)
		if code.Failed() {
			return 0, code
		}
		if handled {
			b.stage(own.staged)
			return 0, nil
		}
		if !topic.ValidName(own.Topic) {
			return 0, ErrBadTopic
		}
	}
	b.name = append(b.name[:0], own.Topic...)
	en := b.lookup(b.name)
	if b.unkept(&own, en, nil) && !(left && b.e.durable.behind() < maxBehind) || !left && b.linkFull(&own, en) {
		return 0, packet.QuotaExceeded
	}
	matched, back := b.publish(&own, en, nil, 0)
	if back != nil {
		back.release()
	}
	b.settle()
	return matched, nil
}
