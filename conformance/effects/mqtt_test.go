package effects

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// patience is how long anything that must come may take.
const patience = 10 * time.Second

// The packet types.
const (
	tConnect = iota + 1
	tConnack
	tPublish
	tPuback
	tPubrec
	tPubrel
	tPubcomp
	tSubscribe
	tSuback
	tUnsubscribe
	tUnsuback
	tPingreq
	tPingresp
	tDisconnect
	tAuth
)

var typeNames = [...]string{"0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
	"SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

// device is an MQTT client that sends exactly what it is told and counts the octets both ways.
type device struct {
	t       testing.TB
	nc      net.Conn
	r       *bufio.Reader
	v       byte // protocol level
	id      string
	next    uint16
	out, in int64 // octets
	session bool  // CONNACK said that there was one
	connack []byte
}

// packet is what came from the broker.
type packet struct {
	typ, flags byte
	body       []byte
	topic      string
	payload    string
	props      []byte
	qos        byte
	retain     bool
	dup        bool
	id         uint16
	code       byte   // of CONNACK, acknowledgements, DISCONNECT, AUTH
	codes      []byte // of SUBACK, UNSUBACK
}

func (p *packet) String() string {
	if p.typ == tPublish {
		return fmt.Sprintf("PUBLISH %q %q qos %d retain %t dup %t id %d", p.topic, p.payload, p.qos, p.retain, p.dup, p.id)
	}
	return fmt.Sprintf("%s id %d code 0x%02x codes % x", typeNames[p.typ], p.id, p.code, p.codes)
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// frame builds a packet.
func frame(typ, flags byte, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return append(append([]byte{typ<<4 | flags}, varint(len(body))...), body...)
}

func varint(n int) (b []byte) {
	for {
		d := byte(n % 128)
		if n /= 128; n > 0 {
			b = append(b, d|0x80)
			continue
		}
		return append(b, d)
	}
}

// props prefixes properties with their length; there are none before 5.0.
func (d *device) props(p ...[]byte) []byte {
	if d.v < 5 {
		return nil
	}
	var all []byte
	for _, x := range p {
		all = append(all, x...)
	}
	return append(varint(len(all)), all...)
}

// prop is one property.
func prop(id byte, value []byte) []byte { return append([]byte{id}, value...) }

// Properties that the tests use.
const (
	pMessageExpiry   = 0x02
	pSessionExpiry   = 0x11
	pServerKeepAlive = 0x13
	pAuthMethod      = 0x15
	pReceiveMaximum  = 0x21
	pTopicAliasMax   = 0x22
	pTopicAlias      = 0x23
)

// hello is a CONNECT.
type hello struct {
	v          byte // 3, 4, 5; 0 is 4
	id         string
	persist    bool // clean session or clean start off; in 5.0 with an expiry of ten minutes
	keepAlive  uint16
	user, pass string
	will       *message
	props      []byte
}

// message is a PUBLISH.
type message struct {
	topic, payload string
	qos            byte
	retain, dup    bool
	id             uint16
	props          []byte
}

func (d *device) connectBytes(h hello) []byte {
	name := "MQTT"
	if d.v == 3 {
		name = "MQIsdp"
	}
	var flags byte
	if !h.persist {
		flags = 2
	}
	var tail []byte
	if h.will != nil {
		flags |= 4 | h.will.qos<<3
		if h.will.retain {
			flags |= 0x20
		}
		tail = append(tail, d.props(h.will.props)...)
		tail = append(append(tail, text(h.will.topic)...), text(h.will.payload)...)
	}
	if h.user != "" {
		flags |= 0x80
		tail = append(tail, text(h.user)...)
	}
	if h.pass != "" {
		flags |= 0x40
		tail = append(tail, text(h.pass)...)
	}
	p := h.props
	if d.v == 5 && h.persist {
		p = append(prop(pSessionExpiry, u32(600)), p...)
	}
	return frame(tConnect, 0, text(name), []byte{d.v, flags}, u16(h.keepAlive), d.props(p), text(h.id), tail)
}

func (d *device) publishBytes(m message) []byte {
	flags := m.qos << 1
	if m.retain {
		flags |= 1
	}
	if m.dup {
		flags |= 8
	}
	var id []byte
	if m.qos > 0 {
		id = u16(m.id)
	}
	return frame(tPublish, flags, text(m.topic), id, d.props(m.props), []byte(m.payload))
}

// dial opens a connection to address.
func dial(t testing.TB, address string, v byte) *device {
	t.Helper()
	nc, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatalf("dial %s: %v", address, err)
	}
	return newDevice(t, nc, v)
}

func newDevice(t testing.TB, nc net.Conn, v byte) *device {
	t.Cleanup(func() { nc.Close() })
	return &device{t: t, nc: nc, r: bufio.NewReader(nc), v: v}
}

// write sends octets as they are. The broker may have closed already: the reads tell.
func (d *device) write(p []byte) {
	d.t.Helper()
	d.nc.SetWriteDeadline(time.Now().Add(patience))
	n, err := d.nc.Write(p)
	d.out += int64(n)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Fatalf("%s: the broker takes nothing", d.id)
	}
}

// read returns the next packet.
func (d *device) read() *packet {
	d.t.Helper()
	p, err := d.tryRead(patience)
	if err != nil {
		d.t.Fatalf("%s: read: %v", d.id, err)
	}
	return p
}

func (d *device) tryRead(limit time.Duration) (*packet, error) {
	d.nc.SetReadDeadline(time.Now().Add(limit))
	head, err := d.r.ReadByte()
	if err != nil {
		return nil, err
	}
	d.in++
	n, shift := 0, 0
	for {
		b, err := d.r.ReadByte()
		if err != nil {
			return nil, err
		}
		d.in++
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift += 7; shift > 21 {
			return nil, errors.New("malformed remaining length")
		}
	}
	p := &packet{typ: head >> 4, flags: head & 15, body: make([]byte, n)}
	m, err := io.ReadFull(d.r, p.body)
	d.in += int64(m)
	if err != nil {
		return nil, err
	}
	return p, d.decode(p)
}

var errShort = errors.New("packet ends too early")

// decode reads the parts of a packet that the tests look at.
func (d *device) decode(p *packet) (err error) {
	defer func() {
		if recover() != nil { // an index beyond the body
			err = fmt.Errorf("%s: %w: % x", typeNames[p.typ], errShort, p.body)
		}
	}()
	b := p.body
	properties := func() {
		if d.v < 5 {
			return
		}
		n, k := binary.Uvarint(b)
		p.props, b = b[k:k+int(n)], b[k+int(n):]
	}
	switch p.typ {
	case tConnack:
		p.code = b[1]
		d.session = b[0] == 1
		if b = b[2:]; len(b) > 0 {
			properties()
		}
	case tPublish:
		p.dup, p.qos, p.retain = p.flags&8 != 0, p.flags>>1&3, p.flags&1 != 0
		n := int(binary.BigEndian.Uint16(b))
		p.topic, b = string(b[2:2+n]), b[2+n:]
		if p.qos > 0 {
			p.id, b = binary.BigEndian.Uint16(b), b[2:]
		}
		properties()
		p.payload = string(b)
	case tPuback, tPubrec, tPubrel, tPubcomp:
		if p.id = binary.BigEndian.Uint16(b); len(b) > 2 {
			p.code = b[2]
		}
	case tSuback, tUnsuback:
		p.id, b = binary.BigEndian.Uint16(b), b[2:]
		properties()
		p.codes = b
	case tDisconnect, tAuth:
		if len(b) > 0 {
			p.code = b[0]
		}
	}
	return nil
}

// want reads the next packet, which must be of this type.
func (d *device) want(typ byte) *packet {
	d.t.Helper()
	p := d.read()
	if p.typ != typ {
		d.t.Fatalf("%s: got %s, want %s", d.id, p, typeNames[typ])
	}
	return p
}

// closed waits for the end of the connection; nothing may come before it.
func (d *device) closed() {
	d.t.Helper()
	p, err := d.tryRead(patience)
	if err == nil {
		d.t.Fatalf("%s: got %s, want the connection closed", d.id, p)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Fatalf("%s: still connected", d.id)
	}
}

// hello sends CONNECT and returns the code of CONNACK.
func (d *device) hello(h hello) byte {
	d.t.Helper()
	d.id = h.id
	d.write(d.connectBytes(h))
	p := d.want(tConnack)
	d.connack = p.props
	return p.code
}

// number returns a two-octet property of the CONNACK; found is false where it is not there.
func (d *device) number(id byte) (n uint16, found bool) {
	for b := d.connack; len(b) > 0; {
		key := b[0]
		b = b[1:]
		size := map[byte]int{0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2a: 1}[key]
		if size == 0 { // text, or a pair of them
			for range map[byte]int{0x26: 2}[key] + 1 {
				size += 2 + int(binary.BigEndian.Uint16(b[size:]))
				if key == 0x26 {
					size += 2 + int(binary.BigEndian.Uint16(b[size:]))
					break
				}
			}
		}
		if key == id && size == 2 {
			return binary.BigEndian.Uint16(b), true
		}
		if key == id && size == 1 {
			return uint16(b[0]), true
		}
		b = b[size:]
	}
	return 0, false
}

func (d *device) packetID() uint16 { d.next++; return d.next }

// try subscribes and returns the code.
func (d *device) try(filter string, qos byte) byte {
	d.t.Helper()
	d.write(frame(tSubscribe, 2, u16(d.packetID()), d.props(), text(filter), []byte{qos}))
	return d.want(tSuback).codes[0]
}

func (d *device) subscribe(filter string, qos byte) {
	d.t.Helper()
	if code := d.try(filter, qos); code != qos {
		d.t.Fatalf("%s: subscribe %s: got 0x%02x, want %d", d.id, filter, code, qos)
	}
}

func (d *device) unsubscribe(filter string) {
	d.t.Helper()
	d.write(frame(tUnsubscribe, 2, u16(d.packetID()), d.props(), text(filter)))
	d.want(tUnsuback)
}

// ack sends an acknowledgement.
func (d *device) ack(typ byte, id uint16) {
	d.t.Helper()
	var flags byte
	if typ == tPubrel {
		flags = 2
	}
	d.write(frame(typ, flags, u16(id)))
}

// publish publishes and goes through the exchange of its QoS; it returns the code of the first acknowledgement.
func (d *device) publish(m message) byte {
	d.t.Helper()
	if m.qos > 0 && m.id == 0 {
		m.id = d.packetID()
	}
	d.write(d.publishBytes(m))
	switch m.qos {
	case 1:
		return d.want(tPuback).code
	case 2:
		p := d.want(tPubrec)
		if p.code < 0x80 {
			d.ack(tPubrel, m.id)
			d.want(tPubcomp)
		}
		return p.code
	}
	return 0
}

func (d *device) send(topic, payload string, qos byte) {
	d.t.Helper()
	d.publish(message{topic: topic, payload: payload, qos: qos})
}

// receive reads the next PUBLISH, which must have this topic and payload, and acknowledges it.
func (d *device) receive(topic, payload string) *packet {
	d.t.Helper()
	p := d.want(tPublish)
	if p.topic != topic || p.payload != payload {
		d.t.Fatalf("%s: got %s, want %q on %q", d.id, p, payload, topic)
	}
	switch p.qos {
	case 1:
		d.ack(tPuback, p.id)
	case 2:
		d.ack(tPubrec, p.id)
		d.want(tPubrel)
		d.ack(tPubcomp, p.id)
	}
	return p
}

// ping shows that the connection is alive, that the broker has read everything before, and that nothing else is on its
// way.
func (d *device) ping() {
	d.t.Helper()
	d.write(frame(tPingreq, 0))
	d.want(tPingresp)
}

// bye disconnects and waits until the broker has closed.
func (d *device) bye() {
	d.t.Helper()
	d.write(frame(tDisconnect, 0))
	d.closed()
	d.nc.Close()
}

// drop ends the connection without DISCONNECT and waits until the broker has closed.
func (d *device) drop() {
	d.t.Helper()
	if half, ok := d.nc.(*net.TCPConn); ok {
		half.CloseWrite()
	}
	d.nc.SetReadDeadline(time.Now().Add(patience))
	n, err := io.Copy(io.Discard, d.r)
	d.in += n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Fatalf("%s: the broker does not close", d.id)
	}
	d.nc.Close()
}

// leave disconnects whatever may be on its way to the client.
func (d *device) leave() {
	d.t.Helper()
	d.write(frame(tDisconnect, 0))
	d.drop()
}
