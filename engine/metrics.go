package engine

import "sync/atomic"

// Metric names a counter since the start of the engine.
type Metric int

// The metrics, in the order of the documents.
const (
	BytesReceived Metric = iota
	BytesSent
	PacketsReceived
	PacketsSent
	PacketsConnect
	PacketsConnack
	PacketsPublishReceived
	PacketsPublishSent
	PacketsPubackReceived
	PacketsPubackSent
	PacketsPubackMissed
	PacketsPubrecReceived
	PacketsPubrecSent
	PacketsPubrecMissed
	PacketsPubrelReceived
	PacketsPubrelSent
	PacketsPubrelMissed
	PacketsPubcompReceived
	PacketsPubcompSent
	PacketsPubcompMissed
	PacketsSubscribe
	PacketsSuback
	PacketsUnsubscribe
	PacketsUnsuback
	PacketsPingreq
	PacketsPingresp
	PacketsDisconnectReceived
	PacketsDisconnectSent
	PacketsAuth
	MessagesReceived
	MessagesSent
	MessagesQoS0Received
	MessagesQoS0Sent
	MessagesQoS1Received
	MessagesQoS1Sent
	MessagesQoS2Received
	MessagesQoS2Sent
	MessagesQoS2Dropped
	MessagesQoS2Expired
	MessagesRetained // a gauge
	MessagesDropped
	MessagesExpired
	MessagesForward

	// Further counters; the metrics of 3.2 need the first ten.
	AuthAnonymous
	ConnackError
	ConnackAuthError
	PublishError
	PublishAuthError
	SubscribeError
	SubscribeAuthError
	UnsubscribeError
	AuthReceived
	AuthSent
	OutputDropped     // QoS 0 messages dropped because a connection had MaxOutput bytes queued
	OutputTooLarge    // messages not sent because they are above the client's maximum packet size
	RetainedDropped   // messages not retained because of a limit of the retainer
	SessionsRefused   // CONNECTs refused because of MaxSessions
	SessionsDropped   // sessions ended by their expiry
	RateHolds         // times a connection was not read because of a rate limit
	OutputHolds       // times a connection was not read because it did not take its output
	SharedRedelivered // messages of a shared subscription that went to another member
	RetainedRepaired  // retained messages that were not as another node had them, and were put right
	RetainedAhead     // changes of retained messages whose stamps are from the future
	RetainedForgotten // topics of which was forgotten too early that they have no retained message any more
	NumMetrics
)

// NumMetricsV30 is how many metrics, from the first, the documents of 3.0 have.
const NumMetricsV30 = int(MessagesForward) + 1

var metricNames = [NumMetrics]string{
	"bytes/received", "bytes/sent", "packets/received", "packets/sent", "packets/connect", "packets/connack",
	"packets/publish/received", "packets/publish/sent",
	"packets/puback/received", "packets/puback/sent", "packets/puback/missed",
	"packets/pubrec/received", "packets/pubrec/sent", "packets/pubrec/missed",
	"packets/pubrel/received", "packets/pubrel/sent", "packets/pubrel/missed",
	"packets/pubcomp/received", "packets/pubcomp/sent", "packets/pubcomp/missed",
	"packets/subscribe", "packets/suback", "packets/unsubscribe", "packets/unsuback",
	"packets/pingreq", "packets/pingresp", "packets/disconnect/received", "packets/disconnect/sent", "packets/auth",
	"messages/received", "messages/sent", "messages/qos0/received", "messages/qos0/sent",
	"messages/qos1/received", "messages/qos1/sent", "messages/qos2/received", "messages/qos2/sent",
	"messages/qos2/dropped", "messages/qos2/expired", "messages/retained", "messages/dropped", "messages/expired",
	"messages/forward",
	"auth/mqtt/anonymous", "packets/connack/error", "packets/connack/auth_error",
	"packets/publish/error", "packets/publish/auth_error", "packets/subscribe/error", "packets/subscribe/auth_error",
	"packets/unsubscribe/error", "packets/auth/received", "packets/auth/sent",
	"output/dropped", "output/too_large", "retained/dropped", "sessions/refused", "sessions/expired",
	"limits/rate_held", "limits/output_held", "messages/shared/redelivered",
	"retained/repaired", "retained/ahead", "retained/forgotten",
}

// Name gives the name of the metric as 3.0 spells it: "packets/publish/received". Metrics that 3.0 does not have are named
// after 3.2 with slashes, or by us.
func (m Metric) Name() string { return metricNames[m] }

// Metrics is a reading of all metrics. Readings of counters that move together may be apart by what was in progress.
type Metrics [NumMetrics]int64

// counterShards is how many copies of the counters there are, so that driver goroutines seldom write to the same cache lines.
const counterShards = 8

type counterShard [NumMetrics]atomic.Int64

// Metrics reads all metrics.
func (e *Engine) Metrics() (m Metrics) {
	for i := range e.counters {
		for j := range m {
			m[j] += e.counters[i][j].Load()
		}
	}
	m[MessagesRetained] = e.gauges.retained.count.Load()
	return m
}
