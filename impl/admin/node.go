package admin

import (
	"context"
	"net/netip"
	"time"
)

// Node is what one node can be asked. Every list is in a fixed bytewise order,
// and offset and limit count in that order; a limit of 0 asks for the length
// alone. Nothing found is an empty list and no error. Errors are *[Error]
// where the caller is to blame or the node is away.
type Node interface {
	// Name is the node's name in the cluster, such as emqx@127.0.0.1.
	Name() string
	// ID is the identifier under which the replicated store keeps what belongs
	// to this node alone.
	ID() string
	// Info returns the facts of the node and its figures now.
	Info(ctx context.Context) (NodeInfo, error)

	// Clients lists the open connections by client id.
	Clients(ctx context.Context, offset, limit int) ([]Client, int, error)
	// Client returns the connection of that client id.
	Client(ctx context.Context, id string) ([]Client, error)
	// Kick closes the connection of that client id and returns when it is gone
	// from the tables. ClientOffline where nobody is connected under it.
	Kick(ctx context.Context, id string) error
	// CleanACL forgets the cached decisions on one topic of one connection.
	// ClientOffline where nobody is connected under that id.
	CleanACL(ctx context.Context, id, topic string) error

	// Sessions lists the sessions by client id, those of offline clients too.
	Sessions(ctx context.Context, offset, limit int) ([]Session, int, error)
	// Session returns the session of that client id.
	Session(ctx context.Context, id string) ([]Session, error)

	// Subscriptions lists by client id, then filter.
	Subscriptions(ctx context.Context, offset, limit int) ([]Subscription, int, error)
	// SubscriptionsOf returns the subscriptions of one client id by filter.
	SubscriptionsOf(ctx context.Context, id string) ([]Subscription, error)
	// Subscribe acts on the session as if the client had asked, without an
	// answer to the client. SessionNotFound, BadTopic, Quota.
	Subscribe(ctx context.Context, id, filter string, qos byte) error
	// Unsubscribe is the opposite; a filter that the session does not have is
	// success. SessionNotFound, BadTopic.
	Unsubscribe(ctx context.Context, id, filter string) error

	// Routes lists the filters that this node has subscribers for.
	Routes(ctx context.Context, offset, limit int) ([]Route, int, error)
	// RoutesOf returns the route of exactly this filter.
	RoutesOf(ctx context.Context, filter string) ([]Route, error)

	// Publish routes a message from this node. BadTopic.
	Publish(ctx context.Context, m Message) error

	// Plugins lists what is built, by name.
	Plugins(ctx context.Context) ([]Plugin, error)
	// LoadPlugin and UnloadPlugin return when the change is in effect and
	// recorded. UnknownPlugin, PluginAbsent, PluginStarted, PluginStopped,
	// PluginRefused.
	LoadPlugin(ctx context.Context, name string) error
	UnloadPlugin(ctx context.Context, name string) error
	// PluginConfig lists the keys of a plugin as its file would have them.
	PluginConfig(ctx context.Context, name string) ([]PluginSetting, error)
	// SetPluginConfig replaces the whole set; an active plugin has taken it
	// when the call returns.
	SetPluginConfig(ctx context.Context, name string, settings map[string]string) error

	// Listeners lists what is open, HTTP listeners included.
	Listeners(ctx context.Context) ([]Listener, error)
	// Metrics returns the counters since the start.
	Metrics(ctx context.Context) (Metrics, error)
	// Stats returns the gauges with their high-water marks.
	Stats(ctx context.Context) (Stats, error)
	// Settings lists the hot configuration in effect, as a version shows it.
	Settings(ctx context.Context, v Version) ([]Setting, error)
	// Reconfigure puts the stored configuration into effect and returns when
	// it is. ConfigRefused where a part of the node does not take it.
	Reconfigure(ctx context.Context) error

	// Storage returns the figures of the store of sessions and messages.
	Storage(ctx context.Context) (Storage, error)

	// Alarms lists what is raised now.
	Alarms(ctx context.Context) ([]Alarm, error)
}

// Version is a documented API whose names for keys differ.
type Version uint8

// The two documented APIs.
const (
	V2 Version = 2
	V3 Version = 3
)

// NodeInfo is what a node says about itself.
type NodeInfo struct {
	Name        string
	Running     bool
	Release     string // of Lacewing
	Uptime      time.Duration
	Now         time.Time
	MemoryTotal int64 // bytes the process has from the system
	MemoryUsed  int64 // of these, bytes in use
	Tasks       int   // goroutines
	MaxFiles    int64 // limit of open descriptors
	Clients     int   // connections open now
	Load        [3]float64
}

// Storage is what the store of sessions and messages does.
type Storage struct {
	Durability string // fsync, interval, off; memory where nothing outlives the process
	Promise    string // what an acknowledged message survives with it
	Fault      string // why nothing new can be stored; "" while it can

	Bytes, MaxBytes, LiveBytes int64 // on the disk; the limit, 0 for none; what still holds, estimated
	Segments                   int
	Staged, Committed          int64 // bytes of all changes so far; of these, committed
	Commits, Changes           int64
	CommittedBytes             int64
	Syncs                      int64
	SyncTime                   time.Duration
	RewrittenBytes             int64
	Faults                     int64
	GroupSizes, CommitTimes    Distribution // changes in a group; microseconds
}

// Distribution counts values by powers of two: Counts[i] those below 1<<i and not below half of that.
type Distribution struct {
	Counts []int64
	Sum    int64
}

// Total returns how many values there were.
func (d Distribution) Total() (n int64) {
	for _, c := range d.Counts {
		n += c
	}
	return n
}

// Quantile returns the bound below which that share of the values is, 0 to 1; 0 without values.
func (d Distribution) Quantile(q float64) float64 {
	total, seen := d.Total(), int64(0)
	for i, c := range d.Counts {
		if seen += c; total > 0 && float64(seen) >= q*float64(total) {
			return float64(uint64(1) << i)
		}
	}
	return 0
}

// Client is one open connection.
type Client struct {
	Node        string
	ID          string
	Username    string // [Undefined] when none was given
	Peer        netip.AddrPort
	CleanStart  bool
	Protocol    string // MQTT or MQIsdp
	Version     int    // 3, 4, 5
	KeepAlive   int    // seconds
	ConnectedAt time.Time
	Zone        string
	Mountpoint  string // "" for none
	Superuser   bool
	Bridge      bool
	PeerCert    string // subject of the client's certificate, "" for none
	WillTopic   string // "" for none
}

// Session is the state of one client id, connected or not.
type Session struct {
	Node             string
	ClientID         string
	Username         string // [Undefined] when none was given
	CleanStart       bool
	Connected        bool
	Expiry           int64 // seconds
	CreatedAt        time.Time
	Subscriptions    int
	MaxSubscriptions int
	Inflight         int
	MaxInflight      int
	Queue            int
	MaxQueue         int
	Dropped          int64
	AwaitingRel      int
	MaxAwaitingRel   int
	AwaitingAck      int
	AwaitingComp     int
	Delivered        int64
	Enqueued         int64
}

// Subscription is one filter of one session. Topic has no $share prefix.
type Subscription struct {
	Node     string
	ClientID string
	Topic    string
	QoS      byte
}

// Route says that a node has subscribers for a filter.
type Route struct {
	Topic string
	Node  string
}

// Message is a publication by the API. From is only a label.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	From    string
}

// Listing is how a version's document lists a plugin; zero when it does not.
type Listing struct{ Version, Description string }

// Plugin is a loadable part of a node, its name without prefix.
type Plugin struct {
	Name   string
	V2, V3 Listing
	Active bool
}

// PluginSetting is a key of a plugin with its raw text.
type PluginSetting struct {
	Key, Value, Desc string
	Required         bool // it has a value; else only the schema knows it
}

// Service names of listeners that do not carry MQTT.
const (
	ServiceAPI       = "api"
	ServiceDashboard = "dashboard"
)

// Listener is one open listening address.
type Listener struct {
	// Service is empty for MQTT, else one of the names above; Protocol is then
	// http or https, and mqtt:tcp, mqtt:ssl, mqtt:ws or mqtt:wss for MQTT.
	Service  string
	Protocol string
	Address  string // a bare port when bound to every address
	// Acceptors is the configured number; connections are accepted by the
	// runtime, whose number of tasks is not bounded by it.
	Acceptors      int
	MaxConnections int
	Connections    int
	Shutdowns      map[string]int64 // closed connections by reason
}

// Metrics are counters by the names of EMQ X 3.0 ("packets/publish/received").
type Metrics map[string]int64

// Stats are gauges by the names of EMQ X 3.0 ("sessions/persistent/count").
type Stats map[string]int64

// Setting is a row of the hot configuration.
type Setting struct{ Key, Value, Datatype, App string }

// Alarm is something an operator should look at.
type Alarm struct {
	ID       string
	Severity string // notice, warning, error, critical
	Title    string
	Summary  string
	At       time.Time
}
