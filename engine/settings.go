package engine

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// ErrBadSetting is wrapped by every error that refuses a value of Settings, Zone or ListenerOptions.
var ErrBadSetting = errors.New("bad setting")

// SharedStrategy says which member of a shared subscription gets a message.
type SharedStrategy string

// The strategies of shared subscriptions.
const (
	SharedRandom     SharedStrategy = "random"      // any member
	SharedRoundRobin SharedStrategy = "round_robin" // one after the other
	SharedSticky     SharedStrategy = "sticky"      // one member until it goes
	SharedHash       SharedStrategy = "hash"        // by the client id of the publisher
)

// DenyAction says what happens to a client whose publication the access rules deny.
type DenyAction string

// The deny actions.
const (
	DenyIgnore     DenyAction = "ignore"     // acknowledge, with 0x87 in MQTT 5.0, and drop
	DenyDisconnect DenyAction = "disconnect" // do that and end the connection
)

// Settings are the values that hold for the whole broker. DefaultSettings gives the shipped ones; the zero value of a limit
// means no limit.
type Settings struct {
	AllowAnonymous bool       // a client that no authenticator decides about may connect
	ACLNoMatch     Verdict    // Allow or Deny: what holds where no authorizer decides
	ACLDenyAction  DenyAction // what follows a denied publication
	ACLCache       ACLCache

	SysInterval      time.Duration // time between two publications of the $SYS topics; 0 switches them off
	SysHeartbeat     time.Duration // time between two publications of uptime and datetime; 0 switches them off
	SharedStrategy   SharedStrategy
	QueueHighMark    float64 // share of MaxQueueLen at which queue_high_watermark.{clientid} is raised, 0 to 1
	QueueLowMark     float64 // share below which it is cleared
	MaxSessions      int     // sessions of all kinds; a CONNECT above it is refused with 0x97
	MaxSubscriptions int     // of all sessions together; a SUBSCRIBE above it is refused with 0x97
	MaxOutput        int     // bytes queued for one connection before QoS 0 is dropped and QoS>0 waits in the session; 0: 1 MiB
	AlarmHistory     int     // cleared alarms that are remembered
}

// ACLCache configures the cache of access decisions that each connection has.
type ACLCache struct {
	Enabled bool
	Size    int           // entries for each connection
	TTL     time.Duration // life of an entry; 0: that of the connection
}

// DefaultSettings gives the shipped settings.
func DefaultSettings() Settings {
	return Settings{
		AllowAnonymous: true,
		ACLNoMatch:     Allow,
		ACLDenyAction:  DenyIgnore,
		ACLCache:       ACLCache{Enabled: true, Size: 32, TTL: time.Minute},
		SysInterval:    time.Minute,
		SysHeartbeat:   30 * time.Second,
		SharedStrategy: SharedRandom,
		QueueHighMark:  0.6,
		QueueLowMark:   0.2,
		MaxOutput:      1 << 20,
		AlarmHistory:   1000,
	}
}

// Validate reports all faults of s, joined, each wrapping ErrBadSetting.
func (s Settings) Validate() error {
	var errs []error
	bad := func(field, why string) { errs = append(errs, fmt.Errorf("%w: %s %s", ErrBadSetting, field, why)) }
	if s.ACLNoMatch != Allow && s.ACLNoMatch != Deny {
		bad("ACLNoMatch", "is neither allow nor deny")
	}
	if s.ACLDenyAction != DenyIgnore && s.ACLDenyAction != DenyDisconnect {
		bad("ACLDenyAction", "is neither ignore nor disconnect")
	}
	if s.ACLCache.Size < 0 || s.ACLCache.TTL < 0 {
		bad("ACLCache", "has a negative size or life")
	}
	if s.SysInterval < 0 || s.SysHeartbeat < 0 {
		bad("SysInterval", "is negative")
	}
	switch s.SharedStrategy {
	case SharedRandom, SharedRoundRobin, SharedSticky, SharedHash:
	default:
		bad("SharedStrategy", "is unknown")
	}
	if !(s.QueueLowMark >= 0 && s.QueueLowMark <= s.QueueHighMark && s.QueueHighMark <= 1) {
		bad("QueueLowMark and QueueHighMark", "are not 0 <= low <= high <= 1")
	}
	for _, n := range []struct {
		name string
		v    int
	}{{"MaxSessions", s.MaxSessions}, {"MaxSubscriptions", s.MaxSubscriptions}, {"MaxOutput", s.MaxOutput}, {"AlarmHistory", s.AlarmHistory}} {
		if n.v < 0 {
			bad(n.name, "is negative")
		}
	}
	return errors.Join(errs...)
}

// Zone is a set of limits and habits that listeners name. DefaultZone gives those of the zone external. Changes hold for new
// decisions: sizes of queues and windows at once, what CONNACK announced from the next connection on.
type Zone struct {
	IdleTimeout      time.Duration // CONNECT has to come within it
	KeepAliveBackoff float64       // a client is gone after 2 * backoff * keep alive without a packet; 0.75 is the 1.5 of the standard
	ServerKeepAlive  uint16        // overrides the keep alive of every client; 0: the client's holds [MQTT-3.2.2-21]

	AllowAnonymous       *bool // nil: Settings.AllowAnonymous
	EnableACL            bool
	EnableBan            bool
	ACLDenyAction        DenyAction // empty: Settings.ACLDenyAction
	UseUsernameAsID      bool       // the user name takes the place of the client id
	Mountpoint           string     // prefix of all topics and filters; %c and %u stand for client id and user name
	StrictMode           bool       // refuse what the standards forbid clients and brokers mostly forgive
	IgnoreLoopDeliver    bool       // nothing a client publishes comes back to it, as if every subscription had no-local
	WildcardSubscription bool
	SharedSubscription   bool
	RetainAvailable      bool
	HideFigures          bool // SessionInfo has 0 for what a session holds and counts

	MaxPacketSize    int            // bytes of a packet from a client, fixed header included; 0: what MQTT allows
	MaxClientIDLen   int            // bytes
	MaxTopicLevels   int            // levels of a topic name or filter; 0: no limit
	MaxTopicLen      int            // bytes of a topic name or filter; 0: what MQTT allows
	MaxQoS           packet.QoS     // highest QoS of publications of clients
	MaxTopicAlias    uint16         // aliases that a client may use; 0: none
	MaxTopicAliasOut uint16         // aliases that the broker uses towards a client at most
	ReceiveMaximum   uint16         // QoS>0 publications of a 5.0 client that may be open at once; 0: MaxAwaitingRel, at least 1
	MaxInflight      int            // QoS>0 deliveries to a client that may be open at once; 0: 65535
	RetryInterval    time.Duration  // unacknowledged deliveries go out again after it, to 3.1 and 3.1.1 only; 0: never
	MaxAwaitingRel   int            // QoS 2 publications of a client that may wait for PUBREL; 0: no limit
	AwaitRelTimeout  time.Duration  // a QoS 2 publication waits for PUBREL that long; 0: for ever
	MaxSubscriptions int            // of one session; 0: no limit
	UpgradeQoS       bool           // deliver with the QoS of the subscription even where the message has a lower one
	SessionExpiry    time.Duration  // life of a persistent 3.x session after its connection, and the most a 5.0 client gets; 0: for ever
	MaxQueueLen      int            // messages in the queue of a session; 0: no limit
	MaxQueueBytes    int            // bytes of topics, payloads and properties in it; 0: no limit
	QueuePriorities  map[string]int // by topic, 1 to 255, higher first; nil: one queue
	DefaultPriority  int            // of topics that QueuePriorities does not name: 0 is below all of them
	StoreQoS0        bool           // queue QoS 0 messages for persistent sessions that are not connected

	PublishLimit RateLimit // publications of one client; at it the client is not read for a while
}

// RateLimit is a token bucket: Rate tokens a second, Burst of them at once. The zero value does not limit.
type RateLimit struct {
	Rate  float64
	Burst float64 // 0: Rate
}

// Limited reports whether l limits anything.
func (l RateLimit) Limited() bool { return l.Rate > 0 }

// DefaultZone gives the shipped values of the zone external.
func DefaultZone() Zone {
	return Zone{
		IdleTimeout:          15 * time.Second,
		KeepAliveBackoff:     0.75,
		EnableACL:            true,
		EnableBan:            true,
		WildcardSubscription: true,
		SharedSubscription:   true,
		RetainAvailable:      true,
		MaxPacketSize:        1 << 20,
		MaxClientIDLen:       1024,
		MaxTopicLen:          4096,
		MaxQoS:               2,
		MaxTopicAlias:        64,
		MaxTopicAliasOut:     16,
		MaxInflight:          32,
		RetryInterval:        20 * time.Second,
		MaxAwaitingRel:       100,
		AwaitRelTimeout:      300 * time.Second,
		SessionExpiry:        2 * time.Hour,
		MaxQueueLen:          1000,
		StoreQoS0:            true,
	}
}

// Validate reports all faults of z, joined, each wrapping ErrBadSetting.
func (z Zone) Validate() error {
	var errs []error
	bad := func(field, why string) { errs = append(errs, fmt.Errorf("%w: %s %s", ErrBadSetting, field, why)) }
	if !(z.KeepAliveBackoff >= 0.5 && z.KeepAliveBackoff <= 1000) {
		bad("KeepAliveBackoff", "is below 0.5")
	}
	if !z.MaxQoS.Valid() {
		bad("MaxQoS", "is above 2")
	}
	if z.ACLDenyAction != "" && z.ACLDenyAction != DenyIgnore && z.ACLDenyAction != DenyDisconnect {
		bad("ACLDenyAction", "is neither ignore nor disconnect")
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"IdleTimeout", z.IdleTimeout}, {"RetryInterval", z.RetryInterval}, {"AwaitRelTimeout", z.AwaitRelTimeout}, {"SessionExpiry", z.SessionExpiry}} {
		if d.v < 0 {
			bad(d.name, "is negative")
		}
	}
	for _, n := range []struct {
		name   string
		v, max int
	}{
		{"MaxPacketSize", z.MaxPacketSize, packet.MaxRemaining + 5}, {"MaxClientIDLen", z.MaxClientIDLen, packet.MaxString},
		{"MaxTopicLevels", z.MaxTopicLevels, packet.MaxString}, {"MaxTopicLen", z.MaxTopicLen, packet.MaxString},
		{"MaxInflight", z.MaxInflight, 65535}, {"MaxAwaitingRel", z.MaxAwaitingRel, 65535},
		{"MaxSubscriptions", z.MaxSubscriptions, math.MaxInt32}, {"MaxQueueLen", z.MaxQueueLen, math.MaxInt32},
		{"MaxQueueBytes", z.MaxQueueBytes, math.MaxInt},
	} {
		if n.v < 0 || n.v > n.max {
			bad(n.name, fmt.Sprintf("is not within 0 to %d", n.max))
		}
	}
	for t, p := range z.QueuePriorities {
		if t == "" || p < 1 || p > 255 {
			bad("QueuePriorities", fmt.Sprintf("has an empty topic or a priority that is not within 1 to 255: %q", t))
		}
	}
	if z.PublishLimit.Rate < 0 || z.PublishLimit.Burst < 0 {
		bad("PublishLimit", "is negative")
	}
	return errors.Join(errs...)
}
