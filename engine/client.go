package engine

import (
	"net/netip"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// ClientInfo describes a connected client.
type ClientInfo struct {
	ClientID    string
	Username    string
	HasUsername bool
	Peer        netip.AddrPort
	Local       netip.AddrPort
	CleanStart  bool
	ProtoName   string         // "MQTT" or "MQIsdp"
	ProtoVer    packet.Version // 3, 4 or 5
	KeepAlive   uint16         // seconds, as it holds
	ConnectedAt time.Time
	Zone        string
	Listener    string // name of the listener
	Protocol    string // of the listener: "mqtt:tcp", ...
	Mountpoint  string // "" without one
	Superuser   bool
	Bridge      bool // said so by the upper bit of the protocol level
	PeerCert    *PeerCert
	WillTopic   string // "" without a will
	Counters    ClientCounters
}

// ClientCounters is the traffic of one connection.
type ClientCounters struct {
	BytesReceived, BytesSent       int64
	PacketsReceived, PacketsSent   int64
	MessagesReceived, MessagesSent int64
}

// SessionInfo describes a session, connected or not.
type SessionInfo struct {
	ClientID    string
	Username    string
	HasUsername bool
	CleanStart  bool
	Connected   bool
	Persistent  bool   // it outlives its connection
	Expiry      uint32 // seconds it lives after its connection; 0xFFFFFFFF: for ever
	CreatedAt   time.Time

	Subscriptions    int
	MaxSubscriptions int // 0: no limit
	Inflight         int
	MaxInflight      int
	QueueLen         int
	MaxQueue         int // 0: no limit
	QueueDropped     int64
	AwaitingRel      int   // QoS 2 publications of the client that wait for its PUBREL
	MaxAwaitingRel   int   // 0: no limit
	AwaitingAck      int   // deliveries that wait for PUBACK or PUBREC
	AwaitingComp     int   // deliveries that wait for PUBCOMP
	Delivered        int64 // messages sent to the client
	Enqueued         int64 // messages that went into the queue
}

// Subscription is a filter with its options.
type Subscription struct {
	Filter            string // without the prefix of shared subscriptions; with $local/
	Share             string // name of the group; "" for an ordinary subscription; "$queue/" for a $queue/ one
	QoS               packet.QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte   // 0, 1, 2
	ID                uint32 // subscription identifier; 0: none
}

// Name gives the filter as the client wrote it: $share/group/filter, $queue/filter, or the filter itself.
func (s Subscription) Name() string {
	switch s.Share {
	case "":
		return s.Filter
	case queueGroup:
		return queueGroup + s.Filter
	}
	return "$share/" + s.Share + "/" + s.Filter
}

// queueGroup is the group of $queue/ subscriptions; topic.QueueGroup is the same. No $share group can have a slash.
const queueGroup = "$queue/"

// SubscriptionInfo is a row of the table of subscriptions.
type SubscriptionInfo struct {
	ClientID string
	Subscription
}

// RouteInfo is a row of the table of routes: a filter that somebody here has subscribed to.
type RouteInfo struct {
	Filter string
}
