package engine

import (
	"bytes"
	"context"
	"encoding/base32"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// handshake is what a connection needs from CONNECT to CONNACK, or in a re-authentication, and not afterwards.
type handshake struct {
	connect  packet.Connect
	req      ConnectRequest
	assigned bool // the broker made the client id up
	exchange AuthExchange
	data     []byte                   // authentication data of a CONNACK
	work     func() func(*Batch) Next // what handOver was given, until it is started
	claim    Fence                    // that the registry has to be told about; zero: none
}

// dispatchEarly handles a packet before CONNACK.
func (c *Conn) dispatchEarly(b *Batch, h packet.Header, body []byte) Next {
	switch {
	case h.Type == packet.TypeConnect && c.hs == nil:
		b.counts[PacketsConnect]++
		return c.handleConnect(b, h.Flags, body)
	case h.Type == packet.TypeAuth && c.hs != nil && c.hs.exchange != nil: // [MQTT-3.1.2-30]
		return c.handleAuth(b, h.Flags, body)
	case h.Type == packet.TypeDisconnect && c.hs != nil:
		b.counts[PacketsDisconnectReceived]++
		c.end(b, ending{reason: ReasonNormal})
		return Stop
	}
	return c.fail(b, packet.ProtocolError)
}

// handleConnect handles the first packet.
func (c *Conn) handleConnect(b *Batch, flags byte, body []byte) Next {
	hs := &handshake{}
	p := &hs.connect
	body, c.bridge = cutBridge(body)
	err := p.Decode(0, flags, body)
	c.version = p.Version
	if p.Version == 0 && bytes.HasPrefix(body, []byte("\x00\x04MQTT")) { // level 0
		c.version = packet.V311
	}
	z := c.zone.load()
	if err != nil {
		// 5.0: CONNACK with the reason; 3.x: only a level that is not served is told [MQTT-3.1.4-1] [MQTT-3.1.2-2].
		if p.Version == packet.V5 || packet.CodeOf(err) == packet.UnsupportedProtocolVersion && c.version != 0 {
			c.hs = hs
			hs.fill(c)
			return c.refuse(b, packet.CodeOf(err))
		}
		b.e.log.Debug("bad CONNECT", "peer", c.info.Peer, "listener", c.l.name(), "err", err)
		c.end(b, ending{reason: ReasonProtocol})
		return Stop
	}
	c.hs = hs
	hs.fill(c)
	if c.link != nil {
		return c.admit(b, hs, Decision{})
	}
	c.traceIn(b, packet.TypeConnect, 0, packet.Success)
	if code := c.checkConnect(hs, z); code != packet.Success {
		return c.refuse(b, code)
	}
	if z.EnableBan {
		if check := b.e.banCheck.Load(); check != nil && (*check)(hs.req.ClientID, hs.req.Username, c.info.Peer.Addr().Unmap()) {
			return c.refuse(b, packet.Banned)
		}
	}
	if p.AuthMethod != "" {
		return c.beginAuth(b, hs)
	}
	return c.authenticate(b, hs)
}

// cutBridge clears the upper bit of the protocol level, by which bridges of mosquitto say what they are. body is copied then.
func cutBridge(body []byte) (cleared []byte, bridge bool) {
	for _, name := range []string{"\x00\x04MQTT", "\x00\x06MQIsdp"} {
		if len(body) > len(name) && string(body[:len(name)]) == name && body[len(name)]&0x80 != 0 {
			body = bytes.Clone(body)
			body[len(name)] &^= 0x80
			return body, true
		}
	}
	return body, false
}

// fill takes over what others may keep; the packet lies in the read buffer.
func (hs *handshake) fill(c *Conn) {
	p := &hs.connect
	hs.req = ConnectRequest{
		ClientID: p.ClientID, Username: p.Username, HasUsername: p.HasUsername,
		Peer: c.info.Peer, ProtoVer: p.Version, ProtoName: protoName(p.Version), CleanStart: p.CleanStart,
		KeepAlive: p.KeepAlive, PeerCert: c.info.PeerCert, Listener: c.l.name(), Zone: c.zone.name,
	}
	if p.HasPassword {
		hs.req.Password = append([]byte{}, p.Password...)
	}
	if cert := c.info.PeerCert; cert != nil {
		switch c.l.options().PeerCertAsUsername {
		case PeerCertCommonName:
			hs.req.Username, hs.req.HasUsername = cert.CommonName, true
		case PeerCertSubject:
			hs.req.Username, hs.req.HasUsername = cert.Subject, true
		}
	}
}

func protoName(v packet.Version) string {
	if v == packet.V31 {
		return "MQIsdp"
	}
	return "MQTT"
}

// checkConnect holds a well-formed CONNECT against the rules and limits of the zone.
func (c *Conn) checkConnect(hs *handshake, z *Zone) packet.ReasonCode {
	p, r := &hs.connect, &hs.req
	if z.UseUsernameAsID && r.HasUsername && r.Username != "" {
		r.ClientID = r.Username
	}
	if r.ClientID == "" {
		if p.Version == packet.V31 || p.Version == packet.V311 && !p.CleanStart { // [MQTT-3.1.3-7] [MQTT-3.1.3-8]
			return packet.ClientIdentifierNotValid
		}
		r.ClientID, hs.assigned = newClientID(), true // [MQTT-3.1.3-6] [MQTT-3.2.2-16]
	}
	if limit := z.MaxClientIDLen; limit > 0 && len(r.ClientID) > max(limit, 23) { // [MQTT-3.1.3-5]
		return packet.ClientIdentifierNotValid
	}
	if z.StrictMode && p.Version == packet.V31 && len(r.ClientID) > 23 {
		return packet.ClientIdentifierNotValid
	}
	if w := p.Will; w != nil {
		switch {
		case w.QoS > z.MaxQoS: // [MQTT-3.2.2-12]
			return packet.QoSNotSupported
		case w.Retain && !z.RetainAvailable: // [MQTT-3.2.2-13]
			return packet.RetainNotSupported
		case !z.nameFits(w.Topic) || !topic.ValidName(w.Topic):
			return packet.TopicNameInvalid
		}
	}
	return packet.Success
}

// nameFits holds a topic name or filter against the limits of length and levels.
func (z *Zone) nameFits(s string) bool {
	return (z.MaxTopicLen == 0 || len(s) <= z.MaxTopicLen) && (z.MaxTopicLevels == 0 || levels(s) <= z.MaxTopicLevels)
}

// newClientID makes up a client id of 20 characters that nobody uses.
func newClientID() string {
	var raw [10]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range raw {
		raw[i] = byte(hi >> (i % 8 * 8))
		if i >= 8 {
			raw[i] = byte(lo >> (i % 8 * 8))
		}
	}
	return "auto" + strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
}

// authenticate asks the chain, off this goroutine if one of it may block.
func (c *Conn) authenticate(b *Batch, hs *handshake) Next {
	chain := b.e.authenticators.get()
	blocking := false
	for _, l := range chain {
		blocking = blocking || l.value.blocking
	}
	if !blocking {
		return c.decided(b, hs, decide(b.e.ctx, chain, &hs.req))
	}
	return c.handOver(b, func() func(*Batch) Next {
		d := decide(b.e.ctx, chain, &hs.req)
		return func(b *Batch) Next { return c.decided(b, hs, d) }
	})
}

// handOver runs work, which may block, on a goroutine of its own while the connection is held, and then what work returned
// and the input that has come meanwhile.
func (c *Conn) handOver(b *Batch, work func() func(*Batch) Next) Next {
	if p := &c.hs.connect; p.Will != nil { // it lies in the read buffer
		w := *p.Will
		w.Payload, w.Properties = bytes.Clone(w.Payload), bytes.Clone(w.Properties)
		p.Will = &w
	}
	c.hs.work = work
	return Hold
}

// launch starts what handOver was given, once the input behind the packet in hand is in c.tail.
func (c *Conn) launch(b *Batch) Next {
	e, work := b.e, c.hs.work
	c.hs.work = nil
	if !e.workers.start(func() {
		then := work()
		b := e.borrow()
		next := then(b)
		if next == Hold {
			next = c.launch(b)
		}
		for next == ReadOn && len(c.tail) > 0 {
			before := len(c.tail)
			if next = c.parse(b, nil); len(c.tail) == before {
				break
			}
		}
		b.giveBack()
		if next == ReadOn {
			c.t.Resume()
		}
	}) {
		return c.refuse(b, packet.ServerShuttingDown)
	}
	return Hold
}

// decide walks the chain of authenticators.
func decide(ctx context.Context, chain []link[authLink], r *ConnectRequest) Decision {
	for _, l := range chain {
		if d := l.value.a.Authenticate(ctx, r); d.Result != Ignore {
			return d
		}
	}
	return Decision{}
}

// decided goes on after the chain has decided.
func (c *Conn) decided(b *Batch, hs *handshake, d Decision) Next {
	switch d.Result {
	case Deny:
		if d.Code == packet.Success {
			d.Code = packet.NotAuthorized
		}
		return c.refuse(b, d.Code)
	case Ignore:
		anonymous := b.e.settings.Load().AllowAnonymous
		if z := c.zone.load(); z.AllowAnonymous != nil {
			anonymous = *z.AllowAnonymous
		}
		if !anonymous {
			return c.refuse(b, packet.NotAuthorized)
		}
		b.counts[AuthAnonymous]++
	}
	return c.admit(b, hs, d)
}

// refuse answers CONNECT with a failure and closes [MQTT-3.2.2-5] [MQTT-3.2.2-7].
func (c *Conn) refuse(b *Batch, code packet.ReasonCode) Next {
	ack := packet.Connack{Code: code}
	if p := ack.Append(nil, c.version); len(p) > 0 && (c.hs == nil || c.hs.connect.MaximumPacketSize == 0 || len(p) <= int(c.hs.connect.MaximumPacketSize)) {
		c.send(b, p)
		b.counts[PacketsConnack]++
		b.counts[ConnackError]++
		c.traceOut(b, packet.TypeConnack, 0, code)
	}
	reason := ReasonProtocol
	switch code {
	case packet.BadUserNameOrPassword:
		reason = ReasonBadUser
	case packet.NotAuthorized:
		reason = ReasonNotAllowed
	case packet.Banned:
		reason = ReasonRefusedBan
	case packet.BadAuthenticationMethod:
		reason = ReasonAuth
	case packet.QuotaExceeded, packet.ServerBusy, packet.ServerUnavailable:
		reason = ReasonBusy
	case packet.ServerShuttingDown:
		reason = ReasonShutdown
	case packet.PacketTooLarge:
		reason = ReasonTooLarge
	}
	switch code {
	case packet.BadUserNameOrPassword, packet.NotAuthorized, packet.Banned, packet.BadAuthenticationMethod:
		b.counts[ConnackAuthError]++
	}
	hs := c.hs
	c.end(b, ending{reason: reason})
	if hooks := b.e.hooks.Load().clientRefused; len(hooks) > 0 && hs != nil {
		info := c.describeRefused(hs)
		for _, h := range hooks {
			h(info, code)
		}
	}
	b.e.log.Debug("client refused", "clientid", c.clientID(), "peer", c.info.Peer, "listener", c.l.name(), "err", code)
	return Stop
}

// admit prepares the connection of a client that may come in. In a cluster its identifier is claimed first.
func (c *Conn) admit(b *Batch, hs *handshake, d Decision) Next {
	e, z, p, r := b.e, c.zone.load(), &hs.connect, &hs.req
	if d.ClientID != "" {
		r.ClientID, hs.assigned = d.ClientID, hs.assigned && p.ClientID == ""
	}
	if d.Username != "" {
		r.Username, r.HasUsername = d.Username, true
	}
	c.cleanStart, c.superuser, c.method = p.CleanStart, d.Superuser, p.AuthMethod
	c.username, c.hasUsername = r.Username, r.HasUsername
	c.keepAlive = p.KeepAlive
	if z.ServerKeepAlive > 0 { // [MQTT-3.2.2-21]
		c.keepAlive = z.ServerKeepAlive
	}
	c.receiveMax, c.maxPacket = p.ReceiveMaximum, p.MaximumPacketSize
	c.problemInfo = p.Version == packet.V5 && !p.NoProblemInfo
	c.mountpoint = expand(c.l.mountpoint(z), r.ClientID, r.Username, r.HasUsername)
	c.mounted = levels(c.mountpoint) - 1
	if p.Version == packet.V5 {
		c.aliasMaxOut = min(p.TopicAliasMaximum, z.MaxTopicAliasOut)
		c.aliasMaxIn = z.MaxTopicAlias
		c.announced = z.receiveMaximum()
	}
	c.shaped = c.mountpoint != "" || c.aliasMaxOut > 0 || c.link != nil
	c.expiry = c.sessionExpiry(p, z)
	c.mu.Lock()
	c.connectedAt = b.now
	if p.Will != nil {
		c.will = newWill(p.Will, c.mountpoint, r)
	}
	c.limits = newLimits(c.l.options(), z, b.now)
	c.mu.Unlock()
	if c.maxPacket > 0 { // it may leave no room for the answer [MQTT-3.1.2-24]
		if ack := c.connack(hs, z, false); c.tooLarge(ack.Append(nil, c.version)) {
			return c.refuse(b, packet.PacketTooLarge)
		}
	}

	if c.link == nil && e.homes.registry.Load() != nil {
		return c.claimHome(b, hs)
	}
	return c.enter(b, hs)
}

// enter lets the client in: session, CONNACK, hooks, and what its session has for it.
func (c *Conn) enter(b *Batch, hs *handshake) Next {
	e, z := b.e, c.zone.load()
	o, code := e.open(b, c, hs)
	c.settle(b, hs, code == packet.Success)
	if code != packet.Success {
		if c.ended.Load() {
			return Stop
		}
		return c.refuse(b, code)
	}
	c.hs = nil
	s := c.session
	if o.old != nil { // [MQTT-3.1.4-2] [MQTT-3.1.4-3]
		o.old.end(b, ending{reason: ReasonTakenOver, code: packet.SessionTakenOver})
	}
	if o.orphan != nil {
		e.terminate(b, o.orphan, o.reason)
	}
	if o.anew {
		e.nodeGone(b, c.link.peer)
	}
	c.mu.Lock()
	if !c.ended.Load() {
		c.sendConnack(b, hs, z, o.present)
	}
	c.mu.Unlock()
	if c.keepAlive > 0 {
		e.wheel.set(&c.timer, b.now+c.patience())
	} else {
		e.wheel.stop(&c.timer)
	}
	if c.link == nil {
		c.tellConnected()
		e.tellSession(s, o.present)
	}
	if c.ended.Load() {
		return Stop
	}
	s.pump(b, c)
	return ReadOn
}

// tellSession calls the hooks of a session that a client has got.
func (e *Engine) tellSession(s *Session, resumed bool) {
	hooks := e.hooks.Load()
	told := hooks.sessionCreated
	if resumed {
		told = hooks.sessionResumed
	}
	if len(told) > 0 {
		info := s.describe()
		for _, h := range told {
			h(info)
		}
	}
}

// sendConnack queues CONNACK 0x00 [MQTT-3.1.4-4] [MQTT-3.1.4-5] [MQTT-3.2.0-1]; deliveries may follow it. What it says of the session has
// to be stored first, unless the store cannot: the session was there before, and its client may take what it has. c.mu is held.
func (c *Conn) sendConnack(b *Batch, hs *handshake, z *Zone, present bool) {
	w := wait{at: b.staged, kind: packet.TypeConnack}
	if store := b.e.durable.store; store != nil && store.Err() != nil {
		w.at = 0
	}
	if c.link != nil { // the other end has no use for a CONNACK: any packet stands for it
		c.queueWait(b, w, (*packet.Pingreq)(nil).Append(nil, c.version))
		return
	}
	ack := c.connack(hs, z, present)
	c.queueWait(b, w, ack.Append(nil, c.version))
	b.counts[PacketsConnack]++
	c.traceOut(b, packet.TypeConnack, 0, packet.Success)
}

// connack is the answer to a client that is let in.
func (c *Conn) connack(hs *handshake, z *Zone, present bool) packet.Connack {
	p := &hs.connect
	ack := packet.Connack{SessionPresent: present} // [MQTT-3.2.2-2] [MQTT-3.2.2-3]
	if c.version == packet.V5 {
		if c.expiry != p.SessionExpiry {
			ack.SessionExpiry = packet.Some(c.expiry)
		}
		ack.ReceiveMaximum = c.announced
		if z.MaxQoS < 2 { // [MQTT-3.2.2-9]
			ack.MaximumQoS = packet.Some(z.MaxQoS)
		}
		ack.RetainUnavailable = !z.RetainAvailable
		ack.MaximumPacketSize = uint32(z.MaxPacketSize)
		if hs.assigned { // [MQTT-3.1.3-7]
			ack.AssignedClientID = hs.req.ClientID
		}
		ack.TopicAliasMaximum = c.aliasMaxIn
		ack.WildcardUnavailable = !z.WildcardSubscription
		ack.SharedSubsUnavailable = !z.SharedSubscription
		if z.ServerKeepAlive > 0 {
			ack.ServerKeepAlive = packet.Some(z.ServerKeepAlive)
		}
		if p.RequestResponse { // [MQTT-3.1.2-28]
			ack.ResponseInformation = "response/" + hs.req.ClientID + "/"
		}
		ack.AuthMethod, ack.AuthData = p.AuthMethod, hs.data // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
	}
	return ack
}

// tooLarge tells whether a packet is larger than the client takes [MQTT-3.1.2-24].
func (c *Conn) tooLarge(p []byte) bool { return c.maxPacket > 0 && len(p) > int(c.maxPacket) }

// receiveMaximum is what CONNACK announces: how many QoS>0 publications of the client may be open.
func (z *Zone) receiveMaximum() uint16 {
	switch {
	case z.ReceiveMaximum > 0:
		return z.ReceiveMaximum
	case z.MaxAwaitingRel > 0:
		return uint16(z.MaxAwaitingRel)
	}
	return packet.DefaultReceiveMaximum
}

// sessionExpiry is how long the session lives after its connection, seconds.
func (c *Conn) sessionExpiry(p *packet.Connect, z *Zone) uint32 {
	if p.Version == packet.V5 {
		return capExpiry(p.SessionExpiry, z)
	}
	if p.CleanStart { // [MQTT-3.1.2-6]
		return 0
	}
	return capExpiry(packet.SessionNeverExpires, z)
}

// capExpiry applies the limit of the zone.
func capExpiry(seconds uint32, z *Zone) uint32 {
	if z.SessionExpiry <= 0 {
		return seconds
	}
	limit := z.SessionExpiry.Round(time.Second) / time.Second
	if limit < 1 {
		limit = 1
	}
	return uint32(min(time.Duration(seconds), limit))
}

// expand puts client id and user name into a mountpoint.
func expand(mountpoint, clientID, username string, hasUsername bool) string {
	if mountpoint == "" {
		return ""
	}
	mountpoint = strings.ReplaceAll(mountpoint, "%c", clientID)
	if hasUsername {
		mountpoint = strings.ReplaceAll(mountpoint, "%u", username)
	}
	return mountpoint
}
