package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// kind is the type of a record. Numbers are never used again.
type kind byte

const (
	kindSession         kind = 1
	kindSessionEnd      kind = 2
	kindSubscription    kind = 3
	kindSubscriptionEnd kind = 4
	kindMessage         kind = 5
	kindPublicationEnd  kind = 6
	kindDelivery        kind = 7
	kindDeliveryEnd     kind = 8
	kindRecorded        kind = 9
	kindBegun           kind = 10
	kindRelease         kind = 11
	kindReleaseEnd      kind = 12
	kindRetained        kind = 13
	kindRetainedEnd     kind = 14
	kindDelayed         kind = 15
	kindDelayedEnd      kind = 16
	kindBoot            kind = 17 // a process has begun: publications that are open have been given up
	kindOrderly         kind = 18 // a process has stopped and nothing of it is unknown
	kindRetainedClear   kind = 19
)

// Flags of records.
const (
	flagQoS = 3 // of messages, deliveries and subscriptions

	messageRetain      = 1 << 2
	messageSys         = 1 << 3
	messageDup         = 1 << 4
	messageInside      = 1 << 5
	messageHasUsername = 1 << 6
	messageHasExpiry   = 1 << 7

	deliveryRetain   = 1 << 2
	deliveryRecorded = 1 << 3
	deliveryIDs      = 1 << 4
	deliveryShare    = 1 << 5
	deliveryOpen     = 1 << 6 // of an open message, as flagOpen

	subscriptionNoLocal   = 1 << 2
	subscriptionPublished = 1 << 3
	subscriptionHandling  = 4 // shift of retain handling

	sessionHasUsername = 1 << 0
	sessionCleanStart  = 1 << 1
	sessionConnected   = 1 << 2
	sessionWill        = 1 << 3
	sessionAuthor      = 1 << 4
	sessionFence       = 1 << 5
	sessionArrival     = 1 << 6
	sessionDeparture   = 1 << 7

	authorHasUsername = 1 << 0
	authorCleanStart  = 1 << 1
	authorSuperuser   = 1 << 2
	authorBridge      = 1 << 3

	flagOpen    = 1 << 0 // of messages, retained and delayed ones: the publication has not ended
	flagStamped = 1 << 1 // of retained ones: a stamp follows
)

var (
	errRecord     = errors.New("a change cannot be read")
	errRecordKind = fmt.Errorf("a change of an unknown kind: %w", ErrNewer)
)

func appendUint(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }
func appendInt(b []byte, n int64) []byte   { return binary.LittleEndian.AppendUint64(b, uint64(n)) }
func appendText(b []byte, s string) []byte { return append(appendUint(b, uint64(len(s))), s...) }

func bit(b bool, flag byte) byte {
	if b {
		return flag
	}
	return 0
}

// appendTime writes a time; the zero Time is 0.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return appendInt(b, 0)
	}
	return appendInt(b, t.UnixNano())
}

func timeOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func appendSession(b []byte, session uint64, s *engine.StoredSession) []byte {
	b = appendUint(append(b, byte(kindSession)), session)
	flags := bit(s.HasUsername, sessionHasUsername) | bit(s.CleanStart, sessionCleanStart) | bit(s.Connected, sessionConnected) |
		bit(s.Fence != engine.Fence{}, sessionFence) | bit(s.Arrival != nil, sessionArrival) | bit(s.Departure != nil, sessionDeparture)
	if s.Will != nil {
		flags |= sessionWill | bit(s.Will.Author != nil, sessionAuthor)
	}
	b = append(b, flags)
	b = appendText(appendText(appendText(b, s.ClientID), s.Username), s.Zone)
	b = appendInt(appendInt(appendInt(b, s.CreatedAt), s.ExpireAt), s.WillAt)
	b = appendUint(appendUint(appendUint(b, uint64(s.Expiry)), s.Seq), s.Begun)
	if s.Will != nil {
		b = appendBody(appendUint(b, uint64(s.Will.Delay)), &s.Will.Message)
		if s.Will.Author != nil {
			b = appendAuthor(b, s.Will.Author)
		}
	}
	if flags&sessionFence != 0 {
		b = appendUint(appendUint(b, s.Fence.Epoch), s.Fence.Count)
	}
	if a := s.Arrival; a != nil {
		b = appendNodes(append(appendText(appendText(b, a.From), a.Token), bit(a.Sure, 1)|bit(a.Later != 0, 2)), a.Nodes)
		b = appendUint(appendUint(b, a.Fence.Epoch), a.Fence.Count)
		b = appendUint(appendUint(appendUint(appendUint(b, uint64(a.Self)), a.Base), a.Marked), a.Done)
		if a.Later != 0 {
			b = appendUint(b, a.Later)
		}
	}
	if d := s.Departure; d != nil {
		b = appendNodes(appendText(appendText(b, d.To), d.Token), d.Nodes)
		b = appendUint(appendUint(appendUint(b, uint64(d.Self)), d.Was), d.Passed)
	}
	return b
}

func appendNodes(b []byte, nodes []string) []byte {
	b = appendUint(b, uint64(len(nodes)))
	for _, s := range nodes {
		b = appendText(b, s)
	}
	return b
}

func appendAuthor(b []byte, c *engine.ClientInfo) []byte {
	b = append(b, bit(c.HasUsername, authorHasUsername)|bit(c.CleanStart, authorCleanStart)|bit(c.Superuser, authorSuperuser)|
		bit(c.Bridge, authorBridge), byte(c.ProtoVer))
	b = appendTime(appendUint(b, uint64(c.KeepAlive)), c.ConnectedAt)
	for _, s := range [...]string{c.ClientID, c.Username, c.ProtoName, c.Zone, c.Listener, c.Protocol, c.Mountpoint, c.WillTopic} {
		b = appendText(b, s)
	}
	for _, a := range [...]netip.AddrPort{c.Peer, c.Local} {
		raw, _ := a.MarshalBinary() // never fails
		b = append(appendUint(b, uint64(len(raw))), raw...)
	}
	return b
}

func appendSubscription(b []byte, session uint64, x *engine.Subscription) []byte {
	b = appendUint(append(b, byte(kindSubscription)), session)
	b = append(b, byte(x.QoS)|bit(x.NoLocal, subscriptionNoLocal)|bit(x.RetainAsPublished, subscriptionPublished)|
		x.RetainHandling<<subscriptionHandling)
	return appendText(appendText(appendUint(b, uint64(x.ID)), x.Filter), x.Share)
}

func appendMessage(b []byte, message uint64, m *engine.Message, open bool) []byte {
	b = append(appendUint(append(b, byte(kindMessage)), message), bit(open, flagOpen))
	return appendBody(b, m)
}

// appendBody writes a message: lengths first, then all text, then all data, so that a reader copies each of them once.
func appendBody(b []byte, m *engine.Message) []byte {
	b = append(b, byte(m.QoS)|bit(m.Retain, messageRetain)|bit(m.Sys, messageSys)|bit(m.Dup, messageDup)|bit(m.Inside, messageInside)|
		bit(m.HasUsername, messageHasUsername)|bit(m.HasExpiry, messageHasExpiry))
	b = appendUint(appendTime(b, m.At), uint64(m.Expiry))
	b = appendUint(appendUint(appendUint(b, uint64(len(m.Topic))), uint64(len(m.From))), uint64(len(m.Username)))
	b = appendUint(appendUint(b, uint64(len(m.Payload))), uint64(len(m.Properties)))
	b = append(append(append(b, m.Topic...), m.From...), m.Username...)
	return append(append(b, m.Payload...), m.Properties...)
}

func appendPublicationEnd(b []byte, message, session uint64, id uint16, at int64) []byte {
	b = appendUint(appendUint(append(b, byte(kindPublicationEnd)), message), session)
	if session != 0 {
		b = appendInt(binary.LittleEndian.AppendUint16(b, id), at)
	}
	return b
}

func appendDelivery(b []byte, session uint64, d *engine.StoredDelivery, open bool) []byte {
	b = appendUint(appendUint(appendUint(append(b, byte(kindDelivery)), session), d.Seq), d.Message)
	b = append(b, byte(d.QoS)|bit(d.Retain, deliveryRetain)|bit(d.Recorded, deliveryRecorded)|bit(len(d.IDs) > 0, deliveryIDs)|
		bit(d.Share != "", deliveryShare)|bit(open, deliveryOpen))
	b = appendInt(b, d.At)
	if len(d.IDs) > 0 {
		b = appendUint(b, uint64(len(d.IDs)))
		for _, id := range d.IDs {
			b = appendUint(b, uint64(id))
		}
	}
	if d.Share != "" {
		b = appendText(b, d.Share)
	}
	return b
}

// appendPair writes one of the records of two numbers.
func appendPair(b []byte, k kind, one, two uint64) []byte {
	return appendUint(appendUint(append(b, byte(k)), one), two)
}

func appendRelease(b []byte, session uint64, id uint16, at int64) []byte {
	b = appendUint(append(b, byte(kindRelease)), session)
	return appendInt(binary.LittleEndian.AppendUint16(b, id), at)
}

func appendReleaseEnd(b []byte, session uint64, id uint16) []byte {
	return binary.LittleEndian.AppendUint16(appendUint(append(b, byte(kindReleaseEnd)), session), id)
}

func appendRetained(b []byte, message uint64, topic string, stamp engine.Stamp, open bool) []byte {
	stamped := stamp != engine.Stamp{}
	b = appendUint(append(b, byte(kindRetained)), message)
	b = appendText(append(b, bit(open, flagOpen)|bit(stamped, flagStamped)), topic)
	if stamped {
		b = appendStamp(b, stamp)
	}
	return b
}

func appendRetainedClear(b []byte, topic string, stamp engine.Stamp) []byte {
	return appendStamp(appendText(append(b, byte(kindRetainedClear)), topic), stamp)
}

func appendStamp(b []byte, s engine.Stamp) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, s.Time), s.Node)
}

func appendDelayed(b []byte, message uint64, due int64, open bool) []byte {
	return appendInt(append(appendUint(append(b, byte(kindDelayed)), message), bit(open, flagOpen)), due)
}

// record is a change as it is read. Its slices lie in what was read.
type record struct {
	kind    kind
	session uint64
	seq     uint64
	message uint64 // its number
	id      uint16
	at      int64
	flags   byte
	open    bool // belongs to a publication that has not ended
	name    []byte
	ids     []byte // subscription identifiers, encoded
	body    []byte // of the message, encoded
	stamp   engine.Stamp

	stored       *engine.StoredSession
	subscription engine.Subscription
}

// decode reads the record that b begins with and gives its length. Nothing is allocated beyond what b holds.
func (r *record) decode(b []byte) (int, error) {
	c := cursor{b: b}
	*r = record{kind: kind(c.byte())}
	switch r.kind {
	case kindSession:
		r.session = c.uint()
		r.stored = c.session()
		r.stored.Number = r.session
	case kindSubscription:
		r.session = c.uint()
		r.subscription = c.subscription()
	case kindMessage:
		r.message, r.open = c.uint(), c.open()
		r.body = c.body()
	case kindPublicationEnd:
		if r.message, r.session = c.uint(), c.uint(); r.session != 0 {
			r.id, r.at = c.uint16(), c.int()
		}
	case kindDelivery:
		r.session, r.seq, r.message = c.uint(), c.uint(), c.uint()
		r.flags, r.at = c.byte(), c.int()
		r.open = r.flags&deliveryOpen != 0
		c.must(r.flags&flagQoS <= 2 && r.flags < 1<<7)
		if r.flags&deliveryIDs != 0 {
			r.ids = c.ids()
		}
		if r.flags&deliveryShare != 0 {
			r.name = c.text()
			c.must(len(r.name) > 0)
		}
	case kindDeliveryEnd, kindRecorded, kindBegun:
		r.session, r.seq = c.uint(), c.uint()
	case kindSessionEnd:
		r.session = c.uint()
	case kindSubscriptionEnd:
		r.session, r.name = c.uint(), c.text()
	case kindRelease:
		r.session, r.id, r.at = c.uint(), c.uint16(), c.int()
	case kindReleaseEnd:
		r.session, r.id = c.uint(), c.uint16()
	case kindRetained:
		r.message, r.flags, r.name = c.uint(), c.byte(), c.text()
		r.open = r.flags&flagOpen != 0
		c.must(r.flags <= flagOpen|flagStamped)
		if r.flags&flagStamped != 0 {
			r.stamp = c.stamp()
			c.must(r.stamp != engine.Stamp{})
		}
	case kindRetainedClear:
		r.name, r.stamp = c.text(), c.stamp()
	case kindRetainedEnd:
		r.name = c.text()
	case kindDelayed:
		r.message, r.open, r.at = c.uint(), c.open(), c.int()
	case kindDelayedEnd:
		r.message = c.uint()
	case kindBoot, kindOrderly:
	default:
		if !c.bad {
			return 0, errRecordKind
		}
	}
	if c.bad {
		return 0, errRecord
	}
	return len(b) - len(c.b), nil
}

// cursor reads encoded values. Once it meets something that cannot be, it is bad and gives zeros.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) must(ok bool) {
	if !ok {
		c.bad, c.b = true, nil
	}
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.must(false)
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.must(false)
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) uint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		v := c.b[0]
		c.b = c.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.must(false)
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) uint32() uint32 {
	v := c.uint()
	c.must(v < 1<<32)
	return uint32(v)
}

func (c *cursor) uint16() uint16 {
	if p := c.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (c *cursor) int() int64 {
	if p := c.take(8); p != nil {
		return int64(binary.LittleEndian.Uint64(p))
	}
	return 0
}

func (c *cursor) stamp() engine.Stamp {
	return engine.Stamp{Time: uint64(c.int()), Node: uint64(c.int())}
}

func (c *cursor) text() []byte { return c.take(c.uint()) }

func (c *cursor) open() bool {
	v := c.byte()
	c.must(v <= flagOpen)
	return v == flagOpen
}

// ids gives the encoded list of subscription identifiers.
func (c *cursor) ids() []byte {
	from := c.b
	n := c.uint()
	c.must(n > 0 && n <= uint64(len(c.b)))
	for ; n > 0 && !c.bad; n-- {
		c.uint32()
	}
	return from[:len(from)-len(c.b)]
}

// readIDs decodes what ids has found good.
func readIDs(b []byte) []uint32 {
	if len(b) == 0 {
		return nil
	}
	c := cursor{b: b}
	list := make([]uint32, c.uint())
	for i := range list {
		list[i] = c.uint32()
	}
	return list
}

func (c *cursor) subscription() engine.Subscription {
	flags := c.byte()
	x := engine.Subscription{
		QoS: packet.QoS(flags & flagQoS), NoLocal: flags&subscriptionNoLocal != 0, RetainAsPublished: flags&subscriptionPublished != 0,
		RetainHandling: flags >> subscriptionHandling,
	}
	c.must(x.QoS <= 2 && x.RetainHandling <= 2)
	x.ID = c.uint32()
	x.Filter, x.Share = string(c.text()), string(c.text())
	return x
}

func (c *cursor) session() *engine.StoredSession {
	flags := c.byte()
	c.must(flags&sessionAuthor == 0 || flags&sessionWill != 0)
	s := &engine.StoredSession{
		HasUsername: flags&sessionHasUsername != 0, CleanStart: flags&sessionCleanStart != 0, Connected: flags&sessionConnected != 0,
	}
	s.ClientID, s.Username, s.Zone = string(c.text()), string(c.text()), string(c.text())
	s.CreatedAt, s.ExpireAt, s.WillAt = c.int(), c.int(), c.int()
	s.Expiry, s.Seq, s.Begun = c.uint32(), c.uint(), c.uint()
	if flags&sessionWill != 0 {
		s.Will = &engine.StoredWill{Delay: c.uint32()}
		body := c.body()
		if c.bad {
			return s
		}
		s.Will.Message = readBody(body)
		if flags&sessionAuthor != 0 {
			s.Will.Author = c.author()
		}
	}
	if flags&sessionFence != 0 {
		s.Fence = engine.Fence{Epoch: c.uint(), Count: c.uint()}
		c.must(s.Fence != engine.Fence{})
	}
	if flags&sessionArrival != 0 {
		a := &engine.StoredArrival{From: string(c.text()), Token: string(c.text())}
		state := c.byte()
		c.must(state <= 3)
		a.Sure, a.Nodes = state&1 != 0, c.nodes()
		a.Fence = engine.Fence{Epoch: c.uint(), Count: c.uint()}
		a.Self = c.node(a.Nodes)
		a.Base, a.Marked, a.Done = c.uint(), c.uint(), c.uint()
		if state&2 != 0 {
			a.Later = c.uint()
			c.must(a.Later != 0)
		}
		s.Arrival = a
	}
	if flags&sessionDeparture != 0 {
		d := &engine.StoredDeparture{To: string(c.text()), Token: string(c.text()), Nodes: c.nodes()}
		d.Self = c.node(d.Nodes)
		d.Was, d.Passed = c.uint(), c.uint()
		s.Departure = d
	}
	return s
}

// nodes reads a list of at most 64 identities.
func (c *cursor) nodes() (list []string) {
	n := c.uint()
	c.must(n <= 64)
	for ; n > 0 && !c.bad; n-- {
		list = append(list, string(c.text()))
	}
	return list
}

// node reads which of nodes one is.
func (c *cursor) node(nodes []string) int {
	n := c.uint()
	c.must(n < uint64(len(nodes)))
	return int(n)
}

func (c *cursor) author() *engine.ClientInfo {
	flags := c.byte()
	c.must(flags < 1<<4)
	a := &engine.ClientInfo{
		HasUsername: flags&authorHasUsername != 0, CleanStart: flags&authorCleanStart != 0, Superuser: flags&authorSuperuser != 0,
		Bridge: flags&authorBridge != 0, ProtoVer: packet.Version(c.byte()),
	}
	keep := c.uint()
	c.must(keep < 1<<16)
	a.KeepAlive, a.ConnectedAt = uint16(keep), timeOf(c.int())
	for _, s := range [...]*string{&a.ClientID, &a.Username, &a.ProtoName, &a.Zone, &a.Listener, &a.Protocol, &a.Mountpoint, &a.WillTopic} {
		*s = string(c.text())
	}
	for _, p := range [...]*netip.AddrPort{&a.Peer, &a.Local} {
		c.must(p.UnmarshalBinary(c.text()) == nil)
	}
	return a
}

// bodyHead is what stands before the text of a message.
type bodyHead struct {
	flags                          byte
	at                             int64
	expiry                         uint32
	topic, from, username, payload uint64 // lengths
	properties                     uint64
}

func (c *cursor) bodyHead() (h bodyHead) {
	h.flags, h.at, h.expiry = c.byte(), c.int(), c.uint32()
	h.topic, h.from, h.username, h.payload, h.properties = c.uint(), c.uint(), c.uint(), c.uint(), c.uint()
	c.must(h.flags&flagQoS <= 2)
	return h
}

// body gives an encoded message, whole.
func (c *cursor) body() []byte {
	from := c.b
	h := c.bodyHead()
	for _, n := range [...]uint64{h.topic, h.from, h.username, h.payload, h.properties} {
		c.take(n)
	}
	return from[:len(from)-len(c.b)]
}

// readBody copies a message out of what body has found good.
func readBody(b []byte) engine.Message {
	c := cursor{b: b}
	h := c.bodyHead()
	text := string(c.take(h.topic + h.from + h.username))
	data := append([]byte(nil), c.b...)
	m := engine.Message{
		Topic: text[:h.topic], From: text[h.topic : h.topic+h.from], Username: text[h.topic+h.from:],
		QoS: packet.QoS(h.flags & flagQoS), Retain: h.flags&messageRetain != 0, Sys: h.flags&messageSys != 0, Dup: h.flags&messageDup != 0,
		Inside: h.flags&messageInside != 0, HasUsername: h.flags&messageHasUsername != 0, HasExpiry: h.flags&messageHasExpiry != 0,
		Expiry: h.expiry, At: timeOf(h.at),
	}
	if h.payload > 0 {
		m.Payload = data[:h.payload:h.payload]
	}
	if h.properties > 0 {
		m.Properties = data[h.payload:]
	}
	return m
}
