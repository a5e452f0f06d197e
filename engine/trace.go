package engine

import (
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
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
	Code     packet.ReasonCode // where the packet has one
}
