package v2

import (
	"context"
	"strings"

	gen "github.com/lacewing-mqtt/lacewing/gen/v2"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// ListNodes answers GET management/nodes.
func (h *Handlers) ListNodes(ctx context.Context, _ gen.ListNodesRequestObject) (gen.ListNodesResponseObject, error) {
	all, err := h.admin.Nodes(ctx)
	return gen.ListNodes200JSONResponse{Result: rows(all, nodeRow)}, err
}

// GetNode answers GET management/nodes/{node}.
func (h *Handlers) GetNode(ctx context.Context, r gen.GetNodeRequestObject) (gen.GetNodeResponseObject, error) {
	n, err := h.admin.Node(ctx, r.Node)
	return gen.GetNode200JSONResponse{Result: node(n)}, err
}

// ListMonitoringNodes answers GET monitoring/nodes.
func (h *Handlers) ListMonitoringNodes(ctx context.Context, _ gen.ListMonitoringNodesRequestObject) (gen.ListMonitoringNodesResponseObject, error) {
	all, err := h.admin.Nodes(ctx)
	return gen.ListMonitoringNodes200JSONResponse{Result: rows(all, figuresRow)}, err
}

// GetMonitoringNode answers GET monitoring/nodes/{node}.
func (h *Handlers) GetMonitoringNode(ctx context.Context, r gen.GetMonitoringNodeRequestObject) (gen.GetMonitoringNodeResponseObject, error) {
	n, err := h.admin.Node(ctx, r.Node)
	return gen.GetMonitoringNode200JSONResponse{Result: figures(n)}, err
}

// ListNodePlugins answers GET nodes/{node}/plugins.
func (h *Handlers) ListNodePlugins(ctx context.Context, r gen.ListNodePluginsRequestObject) (gen.ListNodePluginsResponseObject, error) {
	all, err := h.admin.Plugins(ctx, r.Node)
	return gen.ListNodePlugins200JSONResponse{Result: plugins(all)}, err
}

// SwitchNodePlugin answers PUT nodes/{node}/plugins/{name}.
func (h *Handlers) SwitchNodePlugin(ctx context.Context, r gen.SwitchNodePluginRequestObject) (gen.SwitchNodePluginResponseObject, error) {
	return gen.SwitchNodePlugin200JSONResponse(done()), h.switchPlugin(ctx, r.Node, r.Name, r.Body.Active)
}

// SwitchPlugin answers PUT nodes/plugins/{name}: on the node that answers (C2).
func (h *Handlers) SwitchPlugin(ctx context.Context, r gen.SwitchPluginRequestObject) (gen.SwitchPluginResponseObject, error) {
	return gen.SwitchPlugin200JSONResponse(done()), h.switchPlugin(ctx, "", r.Name, r.Body.Active)
}

func (h *Handlers) switchPlugin(ctx context.Context, node, name string, active bool) error {
	if active {
		return h.admin.LoadPlugin(ctx, node, name)
	}
	return h.admin.UnloadPlugin(ctx, node, name)
}

// GetPluginConfigs answers GET nodes/{node}/plugin_configs/{plugin}.
func (h *Handlers) GetPluginConfigs(ctx context.Context, r gen.GetPluginConfigsRequestObject) (gen.GetPluginConfigsResponseObject, error) {
	list, err := h.admin.PluginConfig(ctx, r.Node, r.Plugin)
	return gen.GetPluginConfigs200JSONResponse{Result: rows(list, func(s admin.PluginSetting) gen.PluginConfigEntry {
		return gen.PluginConfigEntry{Key: s.Key, Value: s.Value, Desc: s.Desc, Required: s.Required}
	})}, err
}

// UpdatePluginConfigs answers PUT nodes/{node}/plugin_configs/{plugin}.
func (h *Handlers) UpdatePluginConfigs(ctx context.Context, r gen.UpdatePluginConfigsRequestObject) (gen.UpdatePluginConfigsResponseObject, error) {
	return gen.UpdatePluginConfigs200JSONResponse(done()), h.admin.SetPluginConfig(ctx, r.Node, r.Plugin, *r.Body)
}

// ListListeners answers GET monitoring/listeners.
func (h *Handlers) ListListeners(ctx context.Context, _ gen.ListListenersRequestObject) (gen.ListListenersResponseObject, error) {
	all, err := h.admin.AllListeners(ctx)
	byNode, result := gen.ListenersByNode(aggregate(all, listeners)), gen.ListenersAggregate{}
	if h.arrays() {
		err = first(err, result.FromListenersByNodeList(gen.ListenersByNodeList{byNode}))
	} else {
		err = first(err, result.FromListenersByNode(byNode))
	}
	return gen.ListListeners200JSONResponse{Result: result}, err
}

// ListNodeListeners answers GET monitoring/listeners/{node}.
func (h *Handlers) ListNodeListeners(ctx context.Context, r gen.ListNodeListenersRequestObject) (gen.ListNodeListenersResponseObject, error) {
	list, err := h.admin.Listeners(ctx, r.Node)
	return gen.ListNodeListeners200JSONResponse{Result: listeners(list)}, err
}

// ListMetrics answers GET monitoring/metrics.
func (h *Handlers) ListMetrics(ctx context.Context, _ gen.ListMetricsRequestObject) (gen.ListMetricsResponseObject, error) {
	all, err := h.admin.AllMetrics(ctx)
	byNode, result := gen.MetricsByNode(aggregate(all, metrics)), gen.MetricsAggregate{}
	if h.arrays() {
		err = first(err, result.FromMetricsByNodeList(gen.MetricsByNodeList{byNode}))
	} else {
		err = first(err, result.FromMetricsByNode(byNode))
	}
	return gen.ListMetrics200JSONResponse{Result: result}, err
}

// ListNodeMetrics answers GET monitoring/metrics/{node}.
func (h *Handlers) ListNodeMetrics(ctx context.Context, r gen.ListNodeMetricsRequestObject) (gen.ListNodeMetricsResponseObject, error) {
	m, err := h.admin.Metrics(ctx, r.Node)
	return gen.ListNodeMetrics200JSONResponse{Result: metrics(m)}, err
}

// ListStats answers GET monitoring/stats.
func (h *Handlers) ListStats(ctx context.Context, _ gen.ListStatsRequestObject) (gen.ListStatsResponseObject, error) {
	all, err := h.admin.AllStats(ctx)
	byNode, result := gen.StatsByNode(aggregate(all, stats)), gen.StatsAggregate{}
	if h.arrays() {
		err = first(err, result.FromStatsByNodeList(gen.StatsByNodeList{byNode}))
	} else {
		err = first(err, result.FromStatsByNode(byNode))
	}
	return gen.ListStats200JSONResponse{Result: result}, err
}

// ListNodeStats answers GET monitoring/stats/{node}.
func (h *Handlers) ListNodeStats(ctx context.Context, r gen.ListNodeStatsRequestObject) (gen.ListNodeStatsResponseObject, error) {
	s, err := h.admin.Stats(ctx, r.Node)
	return gen.ListNodeStats200JSONResponse{Result: stats(s)}, err
}

// GetConfigs answers GET configs.
func (h *Handlers) GetConfigs(ctx context.Context, _ gen.GetConfigsRequestObject) (gen.GetConfigsResponseObject, error) {
	all, err := h.admin.AllSettings(ctx, admin.V2)
	return gen.GetConfigs200JSONResponse{Result: aggregate(all, settings)}, err
}

// GetNodeConfigs answers GET nodes/{node}/configs.
func (h *Handlers) GetNodeConfigs(ctx context.Context, r gen.GetNodeConfigsRequestObject) (gen.GetNodeConfigsResponseObject, error) {
	list, err := h.admin.Settings(ctx, admin.V2, r.Node)
	return gen.GetNodeConfigs200JSONResponse{Result: settings(list)}, err
}

// UpdateConfig answers PUT configs/{app}.
func (h *Handlers) UpdateConfig(ctx context.Context, r gen.UpdateConfigRequestObject) (gen.UpdateConfigResponseObject, error) {
	return gen.UpdateConfig200JSONResponse(done()), h.admin.SetConfig(ctx, "", r.App, r.Body.Key, r.Body.Value)
}

// UpdateNodeConfig answers PUT nodes/{node}/configs/{app}.
func (h *Handlers) UpdateNodeConfig(ctx context.Context, r gen.UpdateNodeConfigRequestObject) (gen.UpdateNodeConfigResponseObject, error) {
	return gen.UpdateNodeConfig200JSONResponse(done()), h.admin.SetConfig(ctx, r.Node, r.App, r.Body.Key, r.Body.Value)
}

// ListNodeAlarms answers GET nodes/{node}/alarms.
func (h *Handlers) ListNodeAlarms(ctx context.Context, r gen.ListNodeAlarmsRequestObject) (gen.ListNodeAlarmsResponseObject, error) {
	list, err := h.admin.Alarms(ctx, r.Node)
	return gen.ListNodeAlarms200JSONResponse{Result: rows(list, func(a admin.Alarm) gen.AlarmRow {
		return gen.AlarmRow{
			Id: a.ID, Severity: gen.AlarmRowSeverity(a.Severity), Title: a.Title, Summary: a.Summary, OccurredAt: admin.FormatTime(a.At),
		}
	})}, err
}

func node(n admin.NodeInfo) gen.NodeInfo {
	return gen.NodeInfo{
		Version: release, Sysdescr: "Lacewing " + n.Release, Uptime: admin.FormatUptime(n.Uptime),
		Datetime: admin.FormatTime(n.Now), OtpRelease: otpRelease, NodeStatus: gen.Running,
	}
}

func nodeRow(n admin.NodeInfo) (row gen.NodeInfoRow) {
	if !n.Running {
		_ = row.FromStoppedNode(gen.StoppedNode{Name: n.Name, NodeStatus: gen.Stopped}) // strings always encode
		return row
	}
	i := node(n)
	_ = row.FromNamedNodeInfo(gen.NamedNodeInfo{ // strings always encode
		Name: n.Name, Version: i.Version, Sysdescr: i.Sysdescr, Uptime: i.Uptime,
		Datetime: i.Datetime, OtpRelease: i.OtpRelease, NodeStatus: i.NodeStatus,
	})
	return row
}

func figures(n admin.NodeInfo) gen.NodeFigures {
	return gen.NodeFigures{
		Name: n.Name, OtpRelease: otpRelease, MemoryTotal: admin.FormatBytes(n.MemoryTotal), MemoryUsed: admin.FormatBytes(n.MemoryUsed),
		ProcessAvailable: processAvailable, ProcessUsed: n.Tasks, MaxFds: clip(n.MaxFiles), Clients: n.Clients, NodeStatus: gen.Running,
		Load1: admin.FormatLoad(n.Load[0]), Load5: admin.FormatLoad(n.Load[1]), Load15: admin.FormatLoad(n.Load[2]),
	}
}

func figuresRow(n admin.NodeInfo) (row gen.NodeFiguresRow) {
	if !n.Running {
		_ = row.FromStoppedNode(gen.StoppedNode{Name: n.Name, NodeStatus: gen.Stopped}) // strings always encode
		return row
	}
	_ = row.FromNodeFigures(figures(n)) // strings and integers always encode
	return row
}

// plugins are those that this version's document lists, under its prefix.
func plugins(all []admin.Plugin) []gen.PluginRow {
	out := []gen.PluginRow{}
	for _, p := range all {
		if p.V2.Version != "" {
			out = append(out, gen.PluginRow{Name: "emq_" + p.Name, Version: p.V2.Version, Description: p.V2.Description, Active: p.Active})
		}
	}
	return out
}

func listeners(list []admin.Listener) []gen.ListenerRow { return rows(list, listener) }

func listener(l admin.Listener) gen.ListenerRow {
	row := gen.ListenerRow{
		Protocol: l.Protocol, Listen: l.Address, Acceptors: l.Acceptors, MaxClients: l.MaxConnections, CurrentClients: l.Connections,
	}
	switch l.Service {
	case admin.ServiceAPI:
		row.Protocol = "mqtt:api" + strings.TrimPrefix(l.Protocol, "http") // mqtt:api, mqtt:apis
	case admin.ServiceDashboard:
		row.Protocol = "dashboard:" + l.Protocol
	}
	if len(l.Shutdowns) == 0 {
		_ = row.ShutdownCount.FromEmptyList(empty) // always encodes
		return row
	}
	_ = row.ShutdownCount.FromShutdownReasons(reasons(l.Shutdowns)) // integers always encode
	return row
}

// reasons are the words of release 2.3 for why connections were closed.
func reasons(in map[string]int64) gen.ShutdownReasons {
	out := make(gen.ShutdownReasons, len(in))
	for reason, n := range in {
		switch reason {
		case "kicked":
			reason = "kick"
		case "discard":
			reason = "conflict"
		}
		out[reason] += n
	}
	return out
}

// metrics are the 38 of this version: those of 3.0 that it had, with both
// directions of DISCONNECT in one.
func metrics(m admin.Metrics) gen.Metrics {
	out := make(gen.Metrics, len(metricNames)+1)
	for _, name := range metricNames {
		out[name] = m[name]
	}
	out["packets/disconnect"] = m["packets/disconnect/received"] + m["packets/disconnect/sent"]
	return out
}

var metricNames = strings.Fields(`
	bytes/received bytes/sent packets/received packets/sent packets/connect packets/connack
	packets/publish/received packets/publish/sent packets/puback/received packets/puback/sent packets/puback/missed
	packets/pubrec/received packets/pubrec/sent packets/pubrec/missed packets/pubrel/received packets/pubrel/sent packets/pubrel/missed
	packets/pubcomp/received packets/pubcomp/sent packets/pubcomp/missed packets/subscribe packets/suback
	packets/unsubscribe packets/unsuback packets/pingreq packets/pingresp
	messages/received messages/sent messages/qos0/received messages/qos0/sent messages/qos1/received messages/qos1/sent
	messages/qos2/received messages/qos2/sent messages/qos2/dropped messages/retained messages/dropped`)

// stats are the 14 of this version, whose name for connections is clients.
func stats(s admin.Stats) gen.Stats {
	out := make(gen.Stats, 14)
	for _, mark := range []string{"/count", "/max"} {
		out["clients"+mark] = s["connections"+mark]
		for _, name := range []string{"sessions", "topics", "subscribers", "subscriptions", "routes", "retained"} {
			out[name+mark] = s[name+mark]
		}
	}
	return out
}

func settings(list []admin.Setting) []gen.ConfigEntry {
	return rows(list, func(s admin.Setting) gen.ConfigEntry {
		return gen.ConfigEntry{Key: s.Key, Value: s.Value, Datatpye: s.Datatype, App: s.App}
	})
}
