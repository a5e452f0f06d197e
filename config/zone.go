package config

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Zone is the resolved settings of a zone: its own keys, and where it has none
// those it inherits.
type Zone struct {
	Name                 string
	IdleTimeout          time.Duration
	PublishRate          int64 // messages a second; 0 is no limit
	PublishBurst         int64
	AllowAnonymous       bool
	EnableACL            bool
	EnableBan            bool
	EnableStats          bool
	ACLDisconnect        bool  // acl_deny_action = disconnect
	MaxPacketSize        int64 // bytes
	MaxClientIDLen       int   // bytes
	MaxTopicLevels       int   // 0 is no limit
	MaxQoS               int
	MaxTopicAlias        int
	RetainAvailable      bool
	WildcardSubscription bool
	SharedSubscription   bool
	ServerKeepAlive      int     // seconds; 0 leaves the client's
	KeepAliveBackoff     float64 // half of the factor on the keep-alive
	MaxSubscriptions     int     // 0 is no limit
	UpgradeQoS           bool
	MaxInflight          int           // 0 is as many as the client takes
	RetryInterval        time.Duration // 0 is never
	MaxAwaitingRel       int           // 0 is no limit
	AwaitRelTimeout      time.Duration // 0 is never
	IgnoreLoopDeliver    bool
	SessionExpiry        time.Duration  // 0 is for ever
	MaxMqueueLen         int            // 0 is no limit
	MaxQueueBytes        int64          // 0 is no limit
	MqueuePriorities     map[string]int // nil: as published
	MqueueDefaultLowest  bool           // mqueue_default_priority = lowest
	MqueueStoreQoS0      bool
	Mountpoint           string
	UsernameAsClientID   bool
}

// Zones returns the names of all zones.
func (c *Config) Zones() []string { return c.Instances("zone.$name.idle_timeout") }

// Zone returns the settings of a zone. A zone that nobody has configured has
// the defaults.
func (c *Config) Zone(name string) Zone {
	p := "zone." + name + "."
	z := Zone{
		Name:                 name,
		IdleTimeout:          c.Duration(p + "idle_timeout"),
		AllowAnonymous:       c.Bool(p + "allow_anonymous"),
		EnableACL:            c.Bool(p + "enable_acl"),
		EnableBan:            c.Bool(p + "enable_ban"),
		EnableStats:          c.Bool(p + "enable_stats"),
		ACLDisconnect:        c.String(p+"acl_deny_action") == "disconnect",
		MaxPacketSize:        c.Bytes(p + "max_packet_size"),
		MaxClientIDLen:       c.Int(p + "max_clientid_len"),
		MaxTopicLevels:       c.Int(p + "max_topic_levels"),
		MaxQoS:               c.Int(p + "max_qos_allowed"),
		MaxTopicAlias:        c.Int(p + "max_topic_alias"),
		RetainAvailable:      c.Bool(p + "retain_available"),
		WildcardSubscription: c.Bool(p + "wildcard_subscription"),
		SharedSubscription:   c.Bool(p + "shared_subscription"),
		ServerKeepAlive:      c.Int(p + "server_keepalive"),
		KeepAliveBackoff:     c.Float(p + "keepalive_backoff"),
		MaxSubscriptions:     c.Int(p + "max_subscriptions"),
		UpgradeQoS:           c.Bool(p + "upgrade_qos"),
		MaxInflight:          c.Int(p + "max_inflight"),
		RetryInterval:        c.Duration(p + "retry_interval"),
		MaxAwaitingRel:       c.Int(p + "max_awaiting_rel"),
		AwaitRelTimeout:      c.Duration(p + "await_rel_timeout"),
		IgnoreLoopDeliver:    c.Bool(p + "ignore_loop_deliver"),
		SessionExpiry:        c.Duration(p + "session_expiry_interval"),
		MaxMqueueLen:         c.Int(p + "max_mqueue_len"),
		MaxQueueBytes:        c.Bytes("mqtt.session.max_queue_bytes"),
		MqueueDefaultLowest:  c.String(p+"mqueue_default_priority") == "lowest",
		MqueueStoreQoS0:      c.Bool(p + "mqueue_store_qos0"),
		Mountpoint:           c.String(p + "mountpoint"),
		UsernameAsClientID:   c.Bool(p + "use_username_as_clientid"),
	}
	z.PublishRate, z.PublishBurst = c.Pair(p + "publish_limit")
	typ := c.must(p+"mqueue_type", Enum)
	prio, _ := ParsePriorities(c.String(p + "mqueue_priorities")) // checked when it was set
	if len(prio) > 0 && (typ.value.raw == "priority" || typ.origin == OriginDefault) {
		z.MqueuePriorities = prio
	}
	return z
}

// Listener is the resolved settings of an MQTT listener.
type Listener struct {
	Type                 string // tcp, ssl, ws, wss
	Name                 string // external, internal, ...
	Address              string // as configured: "8883", "0.0.0.0:1883", "[::1]:0"
	Acceptors            int
	MaxConnections       int
	MaxConnRate          int // connections a second; 0 is no limit
	Zone                 string
	Mountpoint           string
	ByteRate             int64 // bytes a second read from one connection; 0 is no limit
	ByteBurst            int64
	Access               []AccessRule // the first that matches decides; none: let in
	ProxyProtocol        bool
	ProxyProtocolTimeout time.Duration
	PeerCertAsUsername   string // "", cn, dn, crt
	TLS                  *TLS   // nil for tcp and ws
}

// TLS is the resolved settings of a TLS listener.
type TLS struct {
	KeyFile, CertFile, CAFile string // "" when not configured
	VerifyPeer                bool
	FailIfNoPeerCert          bool
	Versions                  []string // tlsv1.3, tlsv1.2, ...
	Ciphers                   []string // empty: the library's choice
	HandshakeTimeout          time.Duration
}

// ListenAddress returns an Address value in the form that net.Listen takes:
// "8883" becomes ":8883".
func ListenAddress(address string) string {
	if address != "" && !strings.Contains(address, ":") {
		return ":" + address
	}
	return address
}

// Listeners returns the MQTT listeners that are not off, ordered by type (tcp,
// ssl, ws, wss) and name.
func (c *Config) Listeners() []Listener {
	var out []Listener
	for _, typ := range listenerTypes {
		for _, name := range c.Instances("listener." + typ + ".$name") {
			p := "listener." + typ + "." + name
			l := Listener{
				Type:                 typ,
				Name:                 name,
				Address:              c.String(p),
				Acceptors:            c.Int(p + ".acceptors"),
				MaxConnections:       c.Int(p + ".max_connections"),
				MaxConnRate:          c.Int(p + ".max_conn_rate"),
				Zone:                 c.String(p + ".zone"),
				Mountpoint:           c.String(p + ".mountpoint"),
				ProxyProtocol:        c.Bool(p + ".proxy_protocol"),
				ProxyProtocolTimeout: c.Duration(p + ".proxy_protocol_timeout"),
			}
			if l.Address == "" || l.Address == "off" {
				continue
			}
			l.ByteRate, l.ByteBurst = c.Pair(p + ".rate_limit")
			if as := c.String(p + ".peer_cert_as_username"); as != "off" {
				l.PeerCertAsUsername = as
			}
			l.Access = c.access(p)
			if typ == "ssl" || typ == "wss" {
				t := c.TLS(p)
				l.TLS = &t
			}
			out = append(out, l)
		}
	}
	return out
}

var listenerTypes = []string{"tcp", "ssl", "ws", "wss"}

// TLS returns the TLS settings beneath a listener's key
// ("listener.ssl.external", "management.listener.https").
func (c *Config) TLS(key string) TLS {
	return TLS{
		KeyFile:          c.String(key + ".keyfile"),
		CertFile:         c.String(key + ".certfile"),
		CAFile:           c.String(key + ".cacertfile"),
		VerifyPeer:       c.String(key+".verify") == "verify_peer",
		FailIfNoPeerCert: c.Bool(key + ".fail_if_no_peer_cert"),
		Versions:         c.List(key + ".tls_versions"),
		Ciphers:          c.List(key + ".ciphers"),
		HandshakeTimeout: c.Duration(key + ".handshake_timeout"),
	}
}

// access returns the rules of a listener. Its numbers are the second pattern
// level of their key, so they are found here and not by Instances.
func (c *Config) access(listener string) []AccessRule {
	type numbered struct {
		n    int
		rule AccessRule
	}
	var rules []numbered
	for name, e := range c.set {
		rest, ok := strings.CutPrefix(name, listener+".access.")
		if !ok || e.key.Type != Access || e.value.raw == "" {
			continue
		}
		r, _ := parseAccess(e.value.raw) // checked when it was set
		rules = append(rules, numbered{atoi(rest), r})
	}
	slices.SortFunc(rules, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
	var out []AccessRule
	for _, r := range rules {
		out = append(out, r.rule)
	}
	return out
}
