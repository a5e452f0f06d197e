package engine

import (
	"slices"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// TraceFilter selects what a trace shows: the packets of one client, or the publications whose topic matches a filter. With
// both set both have to hold.
type TraceFilter struct {
	ClientID string
	Topic    string // a filter
}

// TraceEvent is one packet of a trace.
type TraceEvent struct {
	At       time.Time
	ClientID string
	Peer     string
	Sent     bool // by the broker
	Type     packet.Type
	PacketID uint16
	QoS      packet.QoS
	Retain   bool
	Dup      bool
	Topic    string            // of PUBLISH; filters of SUBSCRIBE and UNSUBSCRIBE joined with blanks
	Size     int               // of the payload of PUBLISH, bytes
	Code     packet.ReasonCode // where the packet has one; the first of several
}

type trace struct {
	filter TraceFilter
	w      func(TraceEvent)
}

// Trace calls w for each packet that filter selects until stop is called. w is called without locks and must not block.
func (e *Engine) Trace(filter TraceFilter, w func(TraceEvent)) (stop func()) {
	t := &trace{filter, w}
	e.traceMu.Lock()
	defer e.traceMu.Unlock()
	list := append(slices.Clone(e.traceList()), t)
	e.traces.Store(&list)
	return func() {
		e.traceMu.Lock()
		defer e.traceMu.Unlock()
		list := slices.DeleteFunc(slices.Clone(e.traceList()), func(o *trace) bool { return o == t })
		if len(list) == 0 {
			e.traces.Store(nil) // so that the path of messages looks at a nil pointer only
			return
		}
		e.traces.Store(&list)
	}
}

func (e *Engine) traceList() []*trace {
	if p := e.traces.Load(); p != nil {
		return *p
	}
	return nil
}

// note keeps an event for those who trace it until settle tells them.
func (c *Conn) note(b *Batch, ev TraceEvent) {
	if c.link != nil {
		return
	}
	for _, t := range b.e.traceList() {
		f := &t.filter
		if f.ClientID != "" && f.ClientID != ev.ClientID || f.Topic != "" && (ev.Type != packet.TypePublish || !topic.Match(f.Topic, ev.Topic)) {
			continue
		}
		ev.At = time.Unix(0, b.now)
		ev.Peer = c.info.Peer.String()
		b.lines = append(b.lines, traceLine{t.w, ev})
	}
}

type traceLine struct {
	w  func(TraceEvent)
	ev TraceEvent
}

// tellTraces calls the writers of traces. No lock is held.
func (b *Batch) tellTraces() {
	for i := 0; i < len(b.lines); i++ {
		l := b.lines[i]
		b.lines[i] = traceLine{}
		l.w(l.ev)
	}
	b.lines = b.lines[:0]
}

func (c *Conn) traceIn(b *Batch, t packet.Type, id uint16, code packet.ReasonCode) {
	if b.e.traces.Load() != nil {
		c.note(b, TraceEvent{ClientID: c.clientID(), Type: t, PacketID: id, Code: code})
	}
}

func (c *Conn) traceOut(b *Batch, t packet.Type, id uint16, code packet.ReasonCode) {
	if b.e.traces.Load() != nil {
		c.note(b, TraceEvent{ClientID: c.clientID(), Sent: true, Type: t, PacketID: id, Code: code})
	}
}

func (c *Conn) tracePublish(b *Batch, m *Message, sent bool, qos packet.QoS, retain, dup bool, id uint16) {
	c.note(b, TraceEvent{ClientID: c.clientID(), Sent: sent, Type: packet.TypePublish, PacketID: id, QoS: qos, Retain: retain,
		Dup: dup, Topic: m.Topic, Size: len(m.Payload)})
}

func (c *Conn) traceFilters(b *Batch, p *packet.Subscribe) {
	if b.e.traces.Load() == nil {
		return
	}
	var filters []string
	for _, f := range p.Filters {
		filters = append(filters, f.Filter)
	}
	c.note(b, TraceEvent{ClientID: c.clientID(), Type: packet.TypeSubscribe, PacketID: p.PacketID, Topic: strings.Join(filters, " ")})
}

func (c *Conn) traceUnsubscribe(b *Batch, p *packet.Unsubscribe) {
	if b.e.traces.Load() != nil {
		c.note(b, TraceEvent{ClientID: c.clientID(), Type: packet.TypeUnsubscribe, PacketID: p.PacketID, Topic: strings.Join(p.Filters, " ")})
	}
}
