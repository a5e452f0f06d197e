package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long the suite waits for something that must come. It bounds
// failures only: no passing test waits for it.
const patience = 10 * time.Second

var (
	runID   = strconv.FormatUint(uint64(rand.Uint32())|1<<31, 36)
	counter atomic.Uint64
)

// unique returns a name that nothing else in any run uses: letters and digits,
// short enough for a client identifier of 3.1.
func unique() string { return "t" + runID + strconv.FormatUint(counter.Add(1), 36) }

// conn is a test client: one network connection to the broker. Every packet it
// reads is decoded strictly and held to the rules that a server's packets must
// keep whatever the test is about (see check).
type conn struct {
	t       *testing.T
	b       *broker
	v       version
	id      string
	nc      net.Conn
	r       *bufio.Reader
	connack *packet
	next    uint16    // last packet identifier used
	pending []*packet // read, not yet asked for

	maxPacket  uint32            // Maximum Packet Size of our CONNECT, 0 if none
	maxAlias   uint32            // Topic Alias Maximum of our CONNECT
	window     int               // Receive Maximum of our CONNECT
	aliases    map[uint32]string // the broker's aliases
	unacked    map[uint16]byte   // the broker's QoS>0 PUBLISH in flight, by QoS
	ended      bool              // DISCONNECT came
	methodUsed string            // Authentication Method of our CONNECT
}

// overWebSocket sends everything over WebSocket, frame by write, in place of
// plain TCP.
var overWebSocket = os.Getenv("LACEWING_CONFORMANCE_TRANSPORT") == "ws"

// dial opens a connection and sends nothing.
func (b *broker) dial(t *testing.T, v version) *conn {
	t.Helper()
	if overWebSocket {
		c, _, _ := b.dialWS(t, v, "mqtt")
		return c
	}
	nc, err := net.DialTimeout("tcp", b.addr, patience)
	if err != nil {
		t.Fatalf("dial %s: %v", b.addr, err)
	}
	return newConn(t, b, v, nc)
}

func newConn(t *testing.T, b *broker, v version, nc net.Conn) *conn {
	t.Cleanup(func() { nc.Close() })
	return &conn{t: t, b: b, v: v, nc: nc, r: bufio.NewReader(nc), window: 65535,
		aliases: map[uint32]string{}, unacked: map[uint16]byte{}}
}

// open sends a CONNECT and returns without waiting for the answer.
func (b *broker) open(t *testing.T, s session) *conn {
	t.Helper()
	c := b.dial(t, s.v)
	c.start(s)
	return c
}

// start sends the CONNECT of s on an open connection.
func (c *conn) start(s session) {
	c.t.Helper()
	if s.id == "" && !s.anonymous {
		s.id = unique()
	}
	if s.persist {
		s.resume = true
		if s.v == v5 && !s.props.has(propSessionExpiry) {
			s.props = s.props.with(num(propSessionExpiry, 300))
		}
	}
	c.id = s.id
	c.maxPacket = s.props.num(propMaximumPacketSize, 0)
	c.maxAlias = s.props.num(propTopicAliasMaximum, 0)
	c.window = int(s.props.num(propReceiveMaximum, 65535))
	if m, ok := s.props.find(propAuthMethod); ok {
		c.methodUsed = m.s
	}
	c.write(s.bytes())
}

// connect opens a connection that the broker must accept.
func (b *broker) connect(t *testing.T, s session) *conn {
	t.Helper()
	c := b.open(t, s)
	c.accepted()
	return c
}

// accepted reads a CONNACK with code 0.
func (c *conn) accepted() *packet {
	c.t.Helper()
	p := c.read()
	if p.typ != typeConnack || p.code != 0 {
		c.t.Fatalf("got %s, want CONNACK with code 0", p)
	}
	return p
}

// write sends bytes as they are. A connection that the broker has already
// closed is no fault here; the reads that follow tell.
func (c *conn) write(b []byte) {
	c.t.Helper()
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.nc.Write(b); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("the broker took no bytes for %v", patience)
	}
}

// read returns the next packet; a close, a silence or a malformed packet fails.
func (c *conn) read() *packet {
	c.t.Helper()
	p, err := c.tryRead()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return p
}

// tryRead is read for tests that expect the connection to end: the error of a
// closed connection is closedError, every other error is a fault.
func (c *conn) tryRead() (*packet, error) {
	c.t.Helper()
	if len(c.pending) > 0 {
		p := c.pending[0]
		c.pending = c.pending[1:]
		return p, nil
	}
	c.nc.SetReadDeadline(time.Now().Add(patience))
	raw, head, err := readRaw(c.r)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, fmt.Errorf("nothing came for %v: %w", patience, err)
		}
		return nil, closedError{err}
	}
	p, err := decode(c.v, raw, head)
	if err != nil {
		c.t.Fatalf("client %s: %v", c.id, err)
	}
	c.check(p)
	return p, nil
}

// closedError wraps the error of a connection that the peer ended.
type closedError struct{ err error }

func (e closedError) Error() string { return "connection closed: " + e.err.Error() }
func (e closedError) Unwrap() error { return e.err }

// check holds a packet to the rules that bind a server in every situation.
func (c *conn) check(p *packet) {
	c.t.Helper()
	switch {
	case c.ended:
		c.t.Fatalf("client %s: %s after DISCONNECT [MQTT-3.14.4-1]", c.id, p)
	case c.maxPacket > 0 && uint32(p.size) > c.maxPacket:
		c.t.Fatalf("client %s: packet of %d bytes, client's maximum is %d [MQTT-3.1.2-24]: %s", c.id, p.size, c.maxPacket, p)
	case c.connack == nil && p.typ != typeConnack && p.typ != typeAuth:
		c.t.Fatalf("client %s: %s before CONNACK [MQTT-3.2.0-1]", c.id, p)
	case c.connack != nil && p.typ == typeConnack:
		c.t.Fatalf("client %s: second CONNACK [MQTT-3.2.0-2]", c.id)
	}
	switch p.typ {
	case typeConnack:
		c.connack = p
	case typeDisconnect:
		c.ended = true
	case typeAuth:
		if c.methodUsed == "" {
			c.t.Fatalf("client %s: AUTH to a client that named no method [MQTT-4.12.0-6]", c.id)
		}
	case typePublish:
		c.checkPublish(p)
	case typePubrel:
		if c.unacked[p.id] == 0 {
			c.unacked[p.id] = 2
		}
	}
}

func (c *conn) checkPublish(p *packet) {
	c.t.Helper()
	if a, ok := p.props.find(propTopicAlias); ok {
		if a.n > c.maxAlias {
			c.t.Fatalf("client %s: topic alias %d, client's maximum is %d [MQTT-3.1.2-26]", c.id, a.n, c.maxAlias)
		}
		if p.topic != "" {
			c.aliases[a.n] = p.topic
		}
		if p.topic = c.aliases[a.n]; p.topic == "" {
			c.t.Fatalf("client %s: topic alias %d has no topic on this connection [MQTT-3.3.2-7]", c.id, a.n)
		}
	}
	if p.qos == 0 {
		return
	}
	if c.unacked[p.id] != 0 && !p.dup {
		c.t.Fatalf("client %s: new PUBLISH with packet identifier %d, which is in use [MQTT-2.2.1-4]", c.id, p.id)
	}
	c.unacked[p.id] = p.qos
	if len(c.unacked) > c.window {
		c.t.Fatalf("client %s: %d PUBLISH unacknowledged, Receive Maximum is %d [MQTT-3.3.4-9]", c.id, len(c.unacked), c.window)
	}
}

// expect returns the next packet of one type and keeps the others that come
// before it for later.
func (c *conn) expect(typ byte) *packet {
	c.t.Helper()
	for i, p := range c.pending {
		if p.typ == typ {
			c.pending = slices.Delete(c.pending, i, i+1)
			return p
		}
	}
	var kept []*packet
	kept, c.pending = c.pending, nil
	for {
		p, err := c.tryRead()
		if err != nil {
			c.t.Fatalf("client %s waits for %s: %v (came before: %v)", c.id, typeNames[typ], err, kept)
		}
		if p.typ == typ {
			c.pending = append(kept, c.pending...)
			return p
		}
		kept = append(kept, p)
	}
}

// packetID returns a packet identifier not used before on this connection.
func (c *conn) packetID() uint16 {
	c.next++
	return c.next
}

// ping shows that the connection is alive and that nothing else is on its way:
// the next packet must be PINGRESP.
func (c *conn) ping() {
	c.t.Helper()
	c.write(pingBytes())
	if p := c.read(); p.typ != typePingresp {
		c.t.Fatalf("client %s: got %s, want PINGRESP", c.id, p)
	}
}

// closed waits for the end of the connection. In 5.0 one DISCONNECT (or CONNACK
// where none has come) may stand before it, with one of the codes given; with
// no codes, nothing but the close may come. The standard leaves it to a broker
// whether it says why; Lacewing does on every connection that it has accepted.
func (c *conn) closed(codes ...byte) {
	c.t.Helper()
	for announced := false; ; announced = true {
		p, err := c.tryRead()
		var end closedError
		switch {
		case errors.As(err, &end):
			if !announced && len(codes) > 0 && c.v == v5 && c.connack != nil && c.connack.code == 0 && !foreign() {
				c.t.Fatalf("client %s: closed with no DISCONNECT, want one with a code of % x", c.id, codes)
			}
			return
		case err != nil:
			c.t.Fatalf("client %s: want the connection closed: %v", c.id, err)
		case announced:
			c.t.Fatalf("client %s: got %s, want the connection closed", c.id, p)
		case p.typ != typeDisconnect && p.typ != typeConnack:
			c.t.Fatalf("client %s: got %s, want the connection closed", c.id, p)
		case !slices.Contains(codes, p.code):
			c.t.Fatalf("client %s: got %s, want the connection closed with a code of % x", c.id, p, codes)
		}
	}
}

// refused waits for a CONNACK with one of the codes and the close after it.
func (c *conn) refused(codes ...byte) *packet {
	c.t.Helper()
	p := c.read()
	if p.typ != typeConnack || !slices.Contains(codes, p.code) {
		c.t.Fatalf("got %s, want CONNACK with a code of % x", p, codes)
	}
	c.closed()
	return p
}

// drop ends the connection with no DISCONNECT and waits until the broker has
// seen it.
func (c *conn) drop() {
	c.t.Helper()
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		c.nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c.r); errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatalf("client %s: the broker does not close a connection that its peer ended", c.id)
		}
	}
	c.nc.Close()
}

// disconnect sends DISCONNECT and waits until the broker has closed.
func (c *conn) disconnect() {
	c.t.Helper()
	c.bye(0, nil)
}

// bye is disconnect with a reason code and properties (5.0).
func (c *conn) bye(code byte, p props) {
	c.t.Helper()
	c.write(disconnectBytes(c.v, code, p))
	c.nc.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c.r); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("client %s: the broker does not close after DISCONNECT", c.id)
	}
	c.nc.Close()
}

// subscribe subscribes to one filter and fails unless it is granted.
func (c *conn) subscribe(name string, opts byte, p ...prop) *packet {
	c.t.Helper()
	ack := c.trySubscribe(p, filter{name, opts})
	if ack.codes[0] > 2 {
		c.t.Fatalf("client %s: SUBSCRIBE %q refused with 0x%02x", c.id, name, ack.codes[0])
	}
	return ack
}

// trySubscribe sends one SUBSCRIBE and returns its SUBACK.
func (c *conn) trySubscribe(p props, filters ...filter) *packet {
	c.t.Helper()
	id := c.packetID()
	c.write(subscribeBytes(c.v, id, p, filters...))
	ack := c.expect(typeSuback)
	if ack.id != id {
		c.t.Fatalf("client %s: SUBACK for packet %d, want %d", c.id, ack.id, id)
	}
	if len(ack.codes) != len(filters) {
		c.t.Fatalf("client %s: SUBACK has %d codes, want %d", c.id, len(ack.codes), len(filters))
	}
	return ack
}

// unsubscribe sends one UNSUBSCRIBE and returns its UNSUBACK.
func (c *conn) unsubscribe(filters ...string) *packet {
	c.t.Helper()
	id := c.packetID()
	c.write(unsubscribeBytes(c.v, id, nil, filters...))
	ack := c.expect(typeUnsuback)
	if ack.id != id {
		c.t.Fatalf("client %s: UNSUBACK for packet %d, want %d", c.id, ack.id, id)
	}
	if c.v == v5 && len(ack.codes) != len(filters) {
		c.t.Fatalf("client %s: UNSUBACK has %d codes, want %d", c.id, len(ack.codes), len(filters))
	}
	return ack
}

// publish publishes and goes through the whole exchange of the QoS. It returns
// the first acknowledgement (nil for QoS 0, which is followed by a ping, so
// that the broker has read it when publish returns).
func (c *conn) publish(m publish) *packet {
	c.t.Helper()
	if m.qos > 0 && m.id == 0 {
		m.id = c.packetID()
	}
	c.write(m.bytes(c.v))
	switch m.qos {
	case 0:
		c.write(pingBytes())
		c.expect(typePingresp)
		return nil
	case 1:
		ack := c.expect(typePuback)
		if ack.id != m.id {
			c.t.Fatalf("client %s: PUBACK for packet %d, want %d", c.id, ack.id, m.id)
		}
		return ack
	}
	rec := c.expect(typePubrec)
	if rec.id != m.id {
		c.t.Fatalf("client %s: PUBREC for packet %d, want %d", c.id, rec.id, m.id)
	}
	if rec.code < 0x80 {
		c.release(m.id)
	}
	return rec
}

// release sends PUBREL and waits for its PUBCOMP.
func (c *conn) release(id uint16) *packet {
	c.t.Helper()
	c.write(ackBytes(c.v, typePubrel, id, 0, nil))
	comp := c.expect(typePubcomp)
	if comp.id != id {
		c.t.Fatalf("client %s: PUBCOMP for packet %d, want %d", c.id, comp.id, id)
	}
	return comp
}

// send publishes a payload at a QoS.
func (c *conn) send(topic, payload string, qos byte) {
	c.t.Helper()
	c.publish(publish{topic: topic, payload: payload, qos: qos})
}

// retain publishes a retained payload at QoS 1.
func (c *conn) retain(topic, payload string) {
	c.t.Helper()
	c.publish(publish{topic: topic, payload: payload, qos: 1, retain: true})
}

// ack answers a QoS 1 or 2 PUBLISH to its end.
func (c *conn) ack(p *packet) {
	c.t.Helper()
	switch p.qos {
	case 1:
		c.puback(p.id, 0)
	case 2:
		c.pubrec(p.id, 0)
		rel := c.expect(typePubrel)
		if rel.id != p.id {
			c.t.Fatalf("client %s: PUBREL for packet %d, want %d", c.id, rel.id, p.id)
		}
		c.pubcomp(p.id)
	}
}

func (c *conn) puback(id uint16, code byte) {
	delete(c.unacked, id)
	c.write(ackBytes(c.v, typePuback, id, code, nil))
}

func (c *conn) pubrec(id uint16, code byte) {
	if code >= 0x80 {
		delete(c.unacked, id)
	}
	c.write(ackBytes(c.v, typePubrec, id, code, nil))
}

func (c *conn) pubcomp(id uint16) {
	delete(c.unacked, id)
	c.write(ackBytes(c.v, typePubcomp, id, 0, nil))
}

// message returns the next PUBLISH, which must have this topic and payload; it
// is not acknowledged.
func (c *conn) message(topic, payload string) *packet {
	c.t.Helper()
	p := c.expect(typePublish)
	if p.topic != topic || p.payload != payload {
		c.t.Fatalf("client %s: got message %q on %q, want %q on %q", c.id, p.payload, p.topic, payload, topic)
	}
	return p
}

// receive is message, acknowledged.
func (c *conn) receive(topic, payload string) *packet {
	c.t.Helper()
	p := c.message(topic, payload)
	c.ack(p)
	return p
}

// silent shows that no message is on its way to c: it subscribes to a topic of
// its own and has pub publish there (pub should be the client that caused what
// must not arrive, so that order is on the test's side); that message must be
// the next one.
func (c *conn) silent(pub *conn) {
	c.t.Helper()
	marker := "marker/" + unique()
	c.subscribe(marker, 1)
	pub.send(marker, "marker", 1)
	if p := c.expect(typePublish); p.topic != marker {
		c.t.Fatalf("client %s: got %q on %q, want no message", c.id, p.payload, p.topic)
	} else {
		c.ack(p)
	}
	c.write(pingBytes()) // the acknowledgement has arrived when the answer is there
	c.expect(typePingresp)
}
