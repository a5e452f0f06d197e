package engine

import (
	"sync"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// authMethods are the methods of enhanced authentication by name.
type authMethods struct {
	mu sync.RWMutex
	m  map[string]authMethod
}

type authMethod struct {
	AuthMethod
	blocking bool
}

// AddAuthMethod adds a method of enhanced authentication, or puts it in the place of one with that name.
func (e *Engine) AddAuthMethod(name string, m AuthMethod) (remove func()) {
	bl, ok := m.(Blocking)
	e.methods.mu.Lock()
	defer e.methods.mu.Unlock()
	if e.methods.m == nil {
		e.methods.m = map[string]authMethod{}
	}
	e.methods.m[name] = authMethod{m, ok && bl.Blocking()}
	return func() {
		e.methods.mu.Lock()
		defer e.methods.mu.Unlock()
		delete(e.methods.m, name)
	}
}

func (e *Engine) method(name string) (authMethod, bool) {
	e.methods.mu.RLock()
	defer e.methods.mu.RUnlock()
	m, ok := e.methods.m[name]
	return m, ok
}

// beginAuth starts the exchange that a CONNECT asks for [MQTT-4.12.0-1].
func (c *Conn) beginAuth(b *Batch, hs *handshake) Next {
	m, ok := b.e.method(hs.connect.AuthMethod)
	if !ok {
		return c.refuse(b, packet.BadAuthenticationMethod)
	}
	hs.exchange = m.Begin(&hs.req)
	return c.stepAuth(b, hs, m.blocking, hs.connect.AuthData)
}

// stepAuth gives the exchange what the client sent and goes on with the outcome.
func (c *Conn) stepAuth(b *Batch, hs *handshake, blocking bool, data []byte) Next {
	if !blocking {
		return c.stepped(b, hs, hs.exchange.Step(b.e.ctx, data))
	}
	if data != nil {
		data = append([]byte{}, data...)
	}
	return c.handOver(b, func() func(*Batch) Next {
		step := hs.exchange.Step(c.l.e.ctx, data)
		return func(b *Batch) Next { return c.stepped(b, hs, step) }
	})
}

// stepped goes on after a step of an exchange.
func (c *Conn) stepped(b *Batch, hs *handshake, step AuthStep) Next {
	first := c.session == nil
	switch {
	case step.Code == packet.ContinueAuthentication: // [MQTT-4.12.0-2]
		return c.sendAuth(b, packet.Auth{Code: step.Code, Method: hs.connect.AuthMethod, Data: step.Data})
	case step.Code.Failed() && first: // [MQTT-4.12.0-4]
		return c.refuse(b, step.Code)
	case step.Code.Failed(): // [MQTT-4.12.1-2]
		c.hs = nil
		c.end(b, ending{reason: ReasonAuth, code: step.Code})
		return Stop
	case first:
		hs.exchange, hs.data = nil, step.Data
		step.Decision.Result = Allow
		return c.admit(b, hs, step.Decision)
	}
	c.hs = nil
	return c.sendAuth(b, packet.Auth{Code: packet.Success, Method: c.method, Data: step.Data})
}

// sendAuth sends a step of an exchange. A client whose limit leaves no room for it is refused [MQTT-3.1.2-24].
func (c *Conn) sendAuth(b *Batch, a packet.Auth) Next {
	p := a.Append(nil, c.version)
	switch {
	case c.session == nil && c.hs.connect.MaximumPacketSize > 0 && len(p) > int(c.hs.connect.MaximumPacketSize):
		return c.refuse(b, packet.PacketTooLarge)
	case c.session != nil && c.tooLarge(p):
		return c.fail(b, packet.PacketTooLarge)
	}
	c.send(b, p)
	b.counts[PacketsAuth]++
	b.counts[AuthSent]++
	c.traceOut(b, packet.TypeAuth, 0, a.Code)
	return ReadOn
}

// handleAuth handles AUTH: the next step of an exchange, or the start of a re-authentication [MQTT-4.12.1-1].
func (c *Conn) handleAuth(b *Batch, flags byte, body []byte) Next {
	b.counts[PacketsAuth]++
	b.counts[AuthReceived]++
	var a packet.Auth
	if err := a.Decode(c.version, flags, body); err != nil {
		return c.fail(b, err)
	}
	c.traceIn(b, packet.TypeAuth, 0, a.Code)
	hs := c.hs
	switch {
	case hs != nil && hs.exchange != nil && a.Code == packet.ContinueAuthentication && a.Method == hs.connect.AuthMethod:
	case c.session != nil && hs == nil && c.method != "" && a.Code == packet.ReAuthenticate && a.Method == c.method:
		m, ok := b.e.method(a.Method)
		if !ok {
			return c.fail(b, packet.BadAuthenticationMethod)
		}
		hs = &handshake{req: ConnectRequest{
			ClientID: c.session.clientID, Username: c.username, HasUsername: c.hasUsername, Peer: c.info.Peer, ProtoVer: c.version,
			ProtoName: protoName(c.version), CleanStart: c.cleanStart, KeepAlive: c.keepAlive, PeerCert: c.info.PeerCert,
			Listener: c.l.name(), Zone: c.zone.name,
		}}
		hs.connect.AuthMethod = a.Method
		hs.exchange = m.Begin(&hs.req)
		c.hs = hs
	default: // [MQTT-4.12.0-7]
		return c.fail(b, packet.ProtocolError)
	}
	m, ok := b.e.method(a.Method)
	if !ok {
		return c.fail(b, packet.BadAuthenticationMethod)
	}
	return c.stepAuth(b, hs, m.blocking, a.Data)
}
