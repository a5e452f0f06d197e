package v3

import (
	"context"
	"strings"

	gen "github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// ListBrokers answers GET brokers/.
func (h *Handlers) ListBrokers(ctx context.Context, _ gen.ListBrokersRequestObject) (gen.ListBrokersResponseObject, error) {
	all, err := h.admin.Nodes(ctx)
	return gen.ListBrokers200JSONResponse(rows(all, brokerRow)), err
}

// GetBroker answers GET brokers/{node}.
func (h *Handlers) GetBroker(ctx context.Context, r gen.GetBrokerRequestObject) (gen.GetBrokerResponseObject, error) {
	n, err := h.admin.Node(ctx, r.Node)
	return gen.GetBroker200JSONResponse(broker(n)), err
}

// ListNodes answers GET nodes/.
func (h *Handlers) ListNodes(ctx context.Context, _ gen.ListNodesRequestObject) (gen.ListNodesResponseObject, error) {
	all, err := h.admin.Nodes(ctx)
	return gen.ListNodes200JSONResponse(rows(all, nodeRow)), err
}

// GetNode answers GET nodes/{node}. Memory is in bytes here and text with a
// unit in the list (C18).
func (h *Handlers) GetNode(ctx context.Context, r gen.GetNodeRequestObject) (gen.GetNodeResponseObject, error) {
	n, err := h.admin.Node(ctx, r.Node)
	return gen.GetNode200JSONResponse{
		Connections: n.Clients, Load1: admin.FormatLoad(n.Load[0]), Load5: admin.FormatLoad(n.Load[1]), Load15: admin.FormatLoad(n.Load[2]),
		MaxFds: int(n.MaxFiles), MemoryTotal: n.MemoryTotal, MemoryUsed: n.MemoryUsed, Name: n.Name, NodeStatus: gen.Running,
		OtpRelease: otpRelease, ProcessAvailable: processAvailable, ProcessUsed: n.Tasks,
		Uptime: admin.FormatUptime(n.Uptime), Version: release,
	}, err
}

// ListListeners answers GET listeners/.
func (h *Handlers) ListListeners(ctx context.Context, _ gen.ListListenersRequestObject) (gen.ListListenersResponseObject, error) {
	all, err := h.admin.AllListeners(ctx)
	return gen.ListListeners200JSONResponse(rows(all, func(of admin.Of[[]admin.Listener]) gen.NodeListeners {
		return gen.NodeListeners{Node: of.Node, Listeners: rows(of.Value, listener)}
	})), err
}

// ListNodeListeners answers GET nodes/{node}/listeners.
func (h *Handlers) ListNodeListeners(ctx context.Context, r gen.ListNodeListenersRequestObject) (gen.ListNodeListenersResponseObject, error) {
	list, err := h.admin.Listeners(ctx, r.Node)
	return gen.ListNodeListeners200JSONResponse(rows(list, listener)), err
}

// ListAllMetrics answers GET metrics/.
func (h *Handlers) ListAllMetrics(ctx context.Context, _ gen.ListAllMetricsRequestObject) (gen.ListAllMetricsResponseObject, error) {
	all, err := h.admin.AllMetrics(ctx)
	return gen.ListAllMetrics200JSONResponse(rows(all, func(of admin.Of[admin.Metrics]) gen.NodeMetrics {
		return gen.NodeMetrics{Node: of.Node, Metrics: h.metrics(of.Value)}
	})), err
}

// ListNodeMetrics answers GET nodes/{node}/metrics/.
func (h *Handlers) ListNodeMetrics(ctx context.Context, r gen.ListNodeMetricsRequestObject) (gen.ListNodeMetricsResponseObject, error) {
	m, err := h.admin.Metrics(ctx, r.Node)
	return gen.ListNodeMetrics200JSONResponse(h.metrics(m)), err
}

// ListStats answers GET stats/. The figures stand beside the node's name.
func (h *Handlers) ListStats(ctx context.Context, _ gen.ListStatsRequestObject) (gen.ListStatsResponseObject, error) {
	all, err := h.admin.AllStats(ctx)
	return gen.ListStats200JSONResponse(rows(all, func(of admin.Of[admin.Stats]) gen.NodeStats {
		return gen.NodeStats{Node: of.Node, AdditionalProperties: h.stats(of.Value)}
	})), err
}

// LookupNodeStats answers GET nodes/{node}/stats/.
func (h *Handlers) LookupNodeStats(ctx context.Context, r gen.LookupNodeStatsRequestObject) (gen.LookupNodeStatsResponseObject, error) {
	s, err := h.admin.Stats(ctx, r.Node)
	return gen.LookupNodeStats200JSONResponse(h.stats(s)), err
}

// ListAllAlarms answers GET alarms/ (C15).
func (h *Handlers) ListAllAlarms(ctx context.Context, _ gen.ListAllAlarmsRequestObject) (gen.ListAllAlarmsResponseObject, error) {
	all, err := h.admin.AllAlarms(ctx)
	return gen.ListAllAlarms200JSONResponse(rows(all, func(of admin.Of[[]admin.Alarm]) gen.NodeAlarms {
		return gen.NodeAlarms{Node: of.Node, Alarms: rows(of.Value, alarm)}
	})), err
}

// ListNodeAlarms answers GET alarms/{node} (C15).
func (h *Handlers) ListNodeAlarms(ctx context.Context, r gen.ListNodeAlarmsRequestObject) (gen.ListNodeAlarmsResponseObject, error) {
	list, err := h.admin.Alarms(ctx, r.Node)
	return gen.ListNodeAlarms200JSONResponse(rows(list, alarm)), err
}

func broker(n admin.NodeInfo) gen.Broker {
	return gen.Broker{
		Datetime: admin.FormatTime(n.Now), NodeStatus: gen.Running, OtpRelease: otpRelease,
		Sysdescr: "EMQ X Broker (Lacewing " + n.Release + ")", Uptime: admin.FormatUptime(n.Uptime), Version: release,
	}
}

func brokerRow(n admin.NodeInfo) (row gen.BrokerRow) {
	if !n.Running {
		_ = row.FromStoppedBroker(gen.StoppedBroker{Node: n.Name, NodeStatus: gen.Stopped}) // strings always encode
		return row
	}
	b := broker(n)
	_ = row.FromNamedBroker(gen.NamedBroker{ // strings always encode
		Datetime: b.Datetime, Node: n.Name, NodeStatus: b.NodeStatus, OtpRelease: b.OtpRelease,
		Sysdescr: b.Sysdescr, Uptime: b.Uptime, Version: b.Version,
	})
	return row
}

func nodeRow(n admin.NodeInfo) (row gen.NodeRow) {
	if !n.Running {
		_ = row.FromStoppedNode(gen.StoppedNode{Name: n.Name, Node: n.Name, NodeStatus: gen.Stopped}) // strings always encode
		return row
	}
	_ = row.FromRunningNode(gen.RunningNode{ // strings and integers always encode
		Connections: n.Clients, Load1: admin.FormatLoad(n.Load[0]), Load5: admin.FormatLoad(n.Load[1]), Load15: admin.FormatLoad(n.Load[2]),
		MaxFds: int(n.MaxFiles), MemoryTotal: admin.FormatBytes(n.MemoryTotal), MemoryUsed: admin.FormatBytes(n.MemoryUsed),
		Name: n.Name, Node: n.Name, NodeStatus: gen.Running, OtpRelease: otpRelease,
		ProcessAvailable: processAvailable, ProcessUsed: n.Tasks, Uptime: admin.FormatUptime(n.Uptime), Version: release,
	})
	return row
}

func listener(l admin.Listener) gen.ListenerRow {
	row := gen.ListenerRow{
		Protocol: l.Protocol, ListenOn: l.Address, Acceptors: l.Acceptors, MaxConns: l.MaxConnections, CurrentConns: l.Connections,
	}
	switch l.Service {
	case admin.ServiceAPI:
		row.Protocol = l.Protocol + ":management"
	case admin.ServiceDashboard:
		row.Protocol = l.Protocol + ":dashboard"
	}
	if len(l.Shutdowns) == 0 {
		_ = row.ShutdownCount.FromEmptyList(gen.EmptyList{}) // always encodes
		return row
	}
	_ = row.ShutdownCount.FromShutdownReasons(l.Shutdowns) // integers always encode
	return row
}

func alarm(a admin.Alarm) gen.AlarmRow {
	return gen.AlarmRow{
		Id: a.ID, Severity: gen.AlarmRowSeverity(a.Severity), Title: a.Title, Summary: a.Summary, Timestamp: admin.FormatTime(a.At),
	}
}

// metrics are the 43 of release 3.0, or the 52 of 3.2.
func (h *Handlers) metrics(m admin.Metrics) gen.Metrics {
	if h.o.Dots() {
		return dotted(m, dotMetrics)
	}
	out := make(gen.Metrics, len(slashMetrics))
	for _, name := range slashMetrics {
		out[name] = m[name]
	}
	return out
}

// stats are the 18 of release 3.0, or the 20 of 3.2.
func (h *Handlers) stats(s admin.Stats) gen.Stats {
	if !h.o.Dots() {
		return gen.Stats(s)
	}
	out := make(gen.Stats, len(s)+2)
	for name, v := range s {
		out[strings.ReplaceAll(name, "/", ".")] = v
	}
	// One set of options for each pair of client and filter.
	out["suboptions.count"], out["suboptions.max"] = s["subscriptions/count"], s["subscriptions/max"]
	return out
}

// dotted reads metrics by the names of 3.2, whose last level is a direction
// also where 3.0 has only one and does not say it.
func dotted(m admin.Metrics, names []string) gen.Metrics {
	out := make(gen.Metrics, len(names))
	for _, name := range names {
		old := strings.ReplaceAll(name, ".", "/")
		v, there := m[old]
		if !there {
			v = m[old[:strings.LastIndexByte(old, '/')]]
		}
		out[name] = v
	}
	return out
}

var slashMetrics = strings.Fields(`
	bytes/received bytes/sent packets/received packets/sent packets/connect packets/connack
	packets/publish/received packets/publish/sent packets/puback/received packets/puback/sent packets/puback/missed
	packets/pubrec/received packets/pubrec/sent packets/pubrec/missed packets/pubrel/received packets/pubrel/sent packets/pubrel/missed
	packets/pubcomp/received packets/pubcomp/sent packets/pubcomp/missed packets/subscribe packets/suback
	packets/unsubscribe packets/unsuback packets/pingreq packets/pingresp packets/disconnect/received packets/disconnect/sent
	packets/auth messages/received messages/sent messages/qos0/received messages/qos0/sent
	messages/qos1/received messages/qos1/sent messages/qos2/received messages/qos2/sent messages/qos2/dropped
	messages/qos2/expired messages/retained messages/dropped messages/expired messages/forward`)

var dotMetrics = strings.Fields(`
	auth.mqtt.anonymous bytes.received bytes.sent messages.dropped messages.expired messages.forward
	messages.qos0.received messages.qos0.sent messages.qos1.received messages.qos1.sent messages.qos2.dropped
	messages.qos2.expired messages.qos2.received messages.qos2.sent messages.received messages.retained messages.sent
	packets.auth.received packets.auth.sent packets.connack.auth_error packets.connack.error packets.connack.sent
	packets.connect.received packets.disconnect.received packets.disconnect.sent packets.pingreq.received packets.pingresp.sent
	packets.puback.missed packets.puback.received packets.puback.sent packets.pubcomp.missed packets.pubcomp.received
	packets.pubcomp.sent packets.publish.auth_error packets.publish.error packets.publish.received packets.publish.sent
	packets.pubrec.missed packets.pubrec.received packets.pubrec.sent packets.pubrel.missed packets.pubrel.received
	packets.pubrel.sent packets.received packets.sent packets.suback.sent packets.subscribe.auth_error
	packets.subscribe.error packets.subscribe.received packets.unsuback.sent packets.unsubscribe.error packets.unsubscribe.received`)
