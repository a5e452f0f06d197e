package engine

import "time"

// describe gives what management and hooks see of the client.
func (c *Conn) describe() (info ClientInfo) {
	c.describeTo(&info)
	return info
}

// describeTo is describe into info.
func (c *Conn) describeTo(info *ClientInfo) {
	o := c.l.options()
	*info = ClientInfo{
		ClientID: c.session.clientID, Username: c.username, HasUsername: c.hasUsername,
		Peer: c.info.Peer, Local: c.info.Local, CleanStart: c.cleanStart, ProtoName: protoName(c.version), ProtoVer: c.version,
		KeepAlive: c.keepAlive, Zone: c.zone.name, Listener: o.Name, Protocol: o.Protocol,
		Mountpoint: c.mountpoint, Superuser: c.superuser, Bridge: c.bridge, PeerCert: c.info.PeerCert,
	}
	info.Counters.BytesReceived = c.received.bytes.Load()
	info.Counters.PacketsReceived = c.received.packets.Load()
	info.Counters.MessagesReceived = c.received.messages.Load()
	c.mu.Lock()
	info.ConnectedAt = time.Unix(0, c.connectedAt)
	if c.will != nil {
		info.WillTopic = c.will.m.Topic
	}
	info.Counters.BytesSent, info.Counters.PacketsSent, info.Counters.MessagesSent = c.sent.bytes, c.sent.packets, c.sent.messages
	c.mu.Unlock()
}

// describeRefused gives what is known of a client that did not get in.
func (c *Conn) describeRefused(hs *handshake) ClientInfo {
	o := c.l.options()
	r := &hs.req
	return ClientInfo{
		ClientID: r.ClientID, Username: r.Username, HasUsername: r.HasUsername, Peer: r.Peer, Local: c.info.Local,
		CleanStart: r.CleanStart, ProtoName: r.ProtoName, ProtoVer: r.ProtoVer, KeepAlive: r.KeepAlive,
		Zone: r.Zone, Listener: o.Name, Protocol: o.Protocol, PeerCert: r.PeerCert,
	}
}

// describe gives what management and hooks see of the session.
func (s *Session) describe() SessionInfo {
	s.e.registry.mu.RLock()
	z := s.policy()
	info := SessionInfo{
		ClientID: s.clientID, Username: s.username, HasUsername: s.hasUsername, CleanStart: s.cleanStart,
		CreatedAt: time.Unix(0, s.createdAt), MaxSubscriptions: z.MaxSubscriptions, MaxInflight: z.MaxInflight,
		MaxQueue: z.MaxQueueLen, MaxAwaitingRel: z.MaxAwaitingRel,
	}
	s.e.registry.mu.RUnlock()
	info.Subscriptions = int(s.subs.len.Load())
	info.Delivered = s.delivered.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn.Load()
	info.Connected = c != nil
	if c != nil {
		info.MaxInflight = s.openMax(c, z)
	}
	info.Expiry = s.expiry
	info.Persistent = s.expiry > 0
	info.Inflight = s.window.live
	info.QueueLen = s.queue.n
	info.QueueDropped = s.lost
	info.AwaitingRel = len(s.rel)
	info.AwaitingComp = int(s.comp)
	info.AwaitingAck = s.window.live - info.AwaitingComp
	info.Enqueued = s.enqueued
	if z.HideFigures {
		info.Subscriptions, info.Inflight, info.QueueLen, info.AwaitingRel, info.AwaitingComp, info.AwaitingAck = 0, 0, 0, 0, 0, 0
		info.QueueDropped, info.Delivered, info.Enqueued = 0, 0, 0
	}
	return info
}
