package node

import (
	"math"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// settings cuts the broker-wide part of a configuration into the engine's form.
func settings(cfg *config.Config) engine.Settings {
	s := engine.DefaultSettings()
	s.AllowAnonymous = cfg.Bool("mqtt.allow_anonymous")
	s.ACLNoMatch = engine.Allow
	if cfg.String("mqtt.acl_nomatch") == "deny" {
		s.ACLNoMatch = engine.Deny
	}
	s.ACLDenyAction = engine.DenyAction(cfg.String("acl_deny_action"))
	s.ACLCache = engine.ACLCache{
		Enabled: cfg.Bool("mqtt.cache_acl"),
		Size:    cfg.Int("acl_cache_max_size"),
		TTL:     cfg.Duration("acl_cache_ttl"),
	}
	s.SysInterval = cfg.Duration("broker.sys_interval")
	s.SysHeartbeat = cfg.Duration("broker.sys_heartbeat")
	s.SharedStrategy = engine.SharedStrategy(cfg.String("broker.shared_subscription_strategy"))
	s.QueueLowMark = cfg.Float("mqtt.mqueue.low_watermark")
	s.QueueHighMark = cfg.Float("mqtt.mqueue.high_watermark")
	return s
}

// zones cuts the zones of a configuration into the engine's form.
func zones(cfg *config.Config) map[string]engine.Zone {
	out := make(map[string]engine.Zone)
	for _, name := range cfg.Zones() {
		out[name] = zone(cfg.Zone(name))
	}
	for _, l := range cfg.Listeners() { // a listener may name a zone that has no key of its own
		if _, ok := out[l.Zone]; !ok {
			out[l.Zone] = zone(cfg.Zone(l.Zone))
		}
	}
	return out
}

func zone(c config.Zone) engine.Zone {
	z := engine.DefaultZone()
	z.IdleTimeout = c.IdleTimeout
	z.KeepAliveBackoff = c.KeepAliveBackoff
	z.ServerKeepAlive = uint16(min(c.ServerKeepAlive, math.MaxUint16))
	z.AllowAnonymous = &c.AllowAnonymous
	z.EnableACL = c.EnableACL
	z.EnableBan = c.EnableBan
	z.HideFigures = !c.EnableStats
	z.ACLDenyAction = engine.DenyIgnore
	if c.ACLDisconnect {
		z.ACLDenyAction = engine.DenyDisconnect
	}
	z.UseUsernameAsID = c.UsernameAsClientID
	z.Mountpoint = c.Mountpoint
	z.IgnoreLoopDeliver = c.IgnoreLoopDeliver
	z.WildcardSubscription = c.WildcardSubscription
	z.SharedSubscription = c.SharedSubscription
	z.RetainAvailable = c.RetainAvailable
	z.MaxPacketSize = int(c.MaxPacketSize)
	z.MaxClientIDLen = c.MaxClientIDLen
	z.MaxTopicLevels = c.MaxTopicLevels
	z.MaxQoS = packet.QoS(c.MaxQoS)
	z.MaxTopicAlias = uint16(c.MaxTopicAlias)
	z.MaxInflight = c.MaxInflight
	z.RetryInterval = c.RetryInterval
	z.MaxAwaitingRel = c.MaxAwaitingRel
	z.AwaitRelTimeout = c.AwaitRelTimeout
	z.MaxSubscriptions = c.MaxSubscriptions
	z.UpgradeQoS = c.UpgradeQoS
	z.SessionExpiry = c.SessionExpiry
	if c.SessionExpiry == 0 { // for ever, which MQTT 5.0 writes as the largest number
		z.SessionExpiry = math.MaxUint32 * time.Second
	}
	z.MaxQueueLen = c.MaxMqueueLen
	z.MaxQueueBytes = int(c.MaxQueueBytes)
	z.QueuePriorities = c.MqueuePriorities
	if !c.MqueueDefaultLowest {
		z.DefaultPriority = 255
	}
	z.StoreQoS0 = c.MqueueStoreQoS0
	z.PublishLimit = engine.RateLimit{Rate: float64(c.PublishRate), Burst: float64(c.PublishBurst)}
	return z
}

// listenerOptions cuts a listener into the engine's form. address is what it is
// really open on.
func listenerOptions(l config.Listener, address string) engine.ListenerOptions {
	o := engine.ListenerOptions{
		Name:               l.Name,
		Protocol:           "mqtt:" + l.Type,
		Address:            address,
		Acceptors:          l.Acceptors,
		MaxConnections:     l.MaxConnections,
		MaxConnRate:        l.MaxConnRate,
		Zone:               l.Zone,
		Mountpoint:         l.Mountpoint,
		ByteLimit:          engine.RateLimit{Rate: float64(l.ByteRate), Burst: float64(l.ByteBurst)},
		PeerCertAsUsername: engine.PeerCertUse(l.PeerCertAsUsername),
	}
	return o
}
