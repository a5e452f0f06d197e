package peer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// Handlers answer what the [Node]s of other nodes ask: the operations of the node
// API that are those of [admin.Node]. Its failures are written by [Handlers.Failures].
type Handlers struct {
	// Node is what is asked, or why it cannot be yet.
	Node func() (admin.Node, error)
	// Sync waits until the metadata of this node have everything that was stored
	// before the call.
	Sync func(ctx context.Context) bool
}

// Failures writes failures of management operations as the document has them. It
// stands around the handlers.
func (h *Handlers) Failures(f api.StrictHandlerFunc, _ string) api.StrictHandlerFunc {
	return func(c echo.Context, request any) (any, error) {
		answer, err := f(c, request)
		if e, ok := errors.AsType[*admin.Error](err); ok {
			var status int
			var body any
			switch e.Kind {
			case admin.NodeDown:
				status, body = http.StatusServiceUnavailable, api.Failure{Message: e.Error()}
			default:
				status, body = http.StatusConflict, failureOut(e)
			}
			w := c.Response()
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			return nil, json.NewEncoder(w).Encode(body)
		}
		return answer, err
	}
}

// tell asks the node and translates what it says.
func tell[A, B any](h *Handlers, out func(A) B, f func(admin.Node) (A, error)) (b B, err error) {
	n, err := h.Node()
	if err != nil {
		return b, err
	}
	a, err := f(n)
	if err != nil {
		return b, err
	}
	return out(a), nil
}

// tellList is tell for lists.
func tellList[A, B any](h *Handlers, row func(A) B, f func(admin.Node) ([]A, error)) ([]B, error) {
	return tell(h, func(rows []A) []B { return convert(rows, row) }, f)
}

// tellPage is tell for pages.
func tellPage[A, B any](h *Handlers, offset, limit int, row func(A) B, f func(n admin.Node, offset, limit int) ([]A, int, error)) ([]B, int, error) {
	n, err := h.Node()
	if err != nil {
		return nil, 0, err
	}
	rows, total, err := f(n, offset, limit)
	return convert(rows, row), total, err
}

// do has the node do something.
func (h *Handlers) do(f func(admin.Node) error) error {
	n, err := h.Node()
	if err != nil {
		return err
	}
	return f(n)
}

// PeerNode implements peer_node.
func (h *Handlers) PeerNode(ctx context.Context, _ api.PeerNodeRequestObject) (api.PeerNodeResponseObject, error) {
	i, err := tell(h, infoOut, func(n admin.Node) (admin.NodeInfo, error) { return n.Info(ctx) })
	return api.PeerNode200JSONResponse(i), err
}

// PeerClients implements peer_clients.
func (h *Handlers) PeerClients(ctx context.Context, r api.PeerClientsRequestObject) (api.PeerClientsResponseObject, error) {
	rows, total, err := tellPage(h, r.Params.Offset, r.Params.Limit, clientOut, func(n admin.Node, offset, limit int) ([]admin.Client, int, error) {
		return n.Clients(ctx, offset, limit)
	})
	return api.PeerClients200JSONResponse{Items: rows, Total: total}, err
}

// PeerClient implements peer_client.
func (h *Handlers) PeerClient(ctx context.Context, r api.PeerClientRequestObject) (api.PeerClientResponseObject, error) {
	rows, err := tellList(h, clientOut, func(n admin.Node) ([]admin.Client, error) { return n.Client(ctx, r.Params.ClientId) })
	return api.PeerClient200JSONResponse(rows), err
}

// PeerKick implements peer_kick.
func (h *Handlers) PeerKick(ctx context.Context, r api.PeerKickRequestObject) (api.PeerKickResponseObject, error) {
	return api.PeerKick204Response{}, h.do(func(n admin.Node) error { return n.Kick(ctx, r.Body.ClientId) })
}

// PeerCleanAcl implements peer_clean_acl.
func (h *Handlers) PeerCleanAcl(ctx context.Context, r api.PeerCleanAclRequestObject) (api.PeerCleanAclResponseObject, error) {
	return api.PeerCleanAcl204Response{}, h.do(func(n admin.Node) error { return n.CleanACL(ctx, r.Body.ClientId, r.Body.Topic) })
}

// PeerSessions implements peer_sessions.
func (h *Handlers) PeerSessions(ctx context.Context, r api.PeerSessionsRequestObject) (api.PeerSessionsResponseObject, error) {
	rows, total, err := tellPage(h, r.Params.Offset, r.Params.Limit, sessionOut, func(n admin.Node, offset, limit int) ([]admin.Session, int, error) {
		return n.Sessions(ctx, offset, limit)
	})
	return api.PeerSessions200JSONResponse{Items: rows, Total: total}, err
}

// PeerSession implements peer_session.
func (h *Handlers) PeerSession(ctx context.Context, r api.PeerSessionRequestObject) (api.PeerSessionResponseObject, error) {
	rows, err := tellList(h, sessionOut, func(n admin.Node) ([]admin.Session, error) { return n.Session(ctx, r.Params.ClientId) })
	return api.PeerSession200JSONResponse(rows), err
}

// PeerSubscriptions implements peer_subscriptions.
func (h *Handlers) PeerSubscriptions(ctx context.Context, r api.PeerSubscriptionsRequestObject) (api.PeerSubscriptionsResponseObject, error) {
	rows, total, err := tellPage(h, r.Params.Offset, r.Params.Limit, subscriptionOut, func(n admin.Node, offset, limit int) (
		[]admin.Subscription, int, error,
	) {
		return n.Subscriptions(ctx, offset, limit)
	})
	return api.PeerSubscriptions200JSONResponse{Items: rows, Total: total}, err
}

// PeerSubscriptionsOf implements peer_subscriptions_of.
func (h *Handlers) PeerSubscriptionsOf(ctx context.Context, r api.PeerSubscriptionsOfRequestObject) (api.PeerSubscriptionsOfResponseObject, error) {
	rows, err := tellList(h, subscriptionOut, func(n admin.Node) ([]admin.Subscription, error) { return n.SubscriptionsOf(ctx, r.Params.ClientId) })
	return api.PeerSubscriptionsOf200JSONResponse(rows), err
}

// PeerSubscribe implements peer_subscribe.
func (h *Handlers) PeerSubscribe(ctx context.Context, r api.PeerSubscribeRequestObject) (api.PeerSubscribeResponseObject, error) {
	b := r.Body
	return api.PeerSubscribe204Response{}, h.do(func(n admin.Node) error { return n.Subscribe(ctx, b.ClientId, b.Topic, byte(b.Qos)) })
}

// PeerUnsubscribe implements peer_unsubscribe.
func (h *Handlers) PeerUnsubscribe(ctx context.Context, r api.PeerUnsubscribeRequestObject) (api.PeerUnsubscribeResponseObject, error) {
	return api.PeerUnsubscribe204Response{}, h.do(func(n admin.Node) error { return n.Unsubscribe(ctx, r.Body.ClientId, r.Body.Topic) })
}

func filterOf(r admin.Route) string { return r.Topic }

// PeerRoutes implements peer_routes.
func (h *Handlers) PeerRoutes(ctx context.Context, r api.PeerRoutesRequestObject) (api.PeerRoutesResponseObject, error) {
	rows, total, err := tellPage(h, r.Params.Offset, r.Params.Limit, filterOf, func(n admin.Node, offset, limit int) ([]admin.Route, int, error) {
		return n.Routes(ctx, offset, limit)
	})
	return api.PeerRoutes200JSONResponse{Items: rows, Total: total}, err
}

// PeerRoutesOf implements peer_routes_of.
func (h *Handlers) PeerRoutesOf(ctx context.Context, r api.PeerRoutesOfRequestObject) (api.PeerRoutesOfResponseObject, error) {
	rows, err := tellList(h, filterOf, func(n admin.Node) ([]admin.Route, error) { return n.RoutesOf(ctx, r.Params.Filter) })
	return api.PeerRoutesOf200JSONResponse(rows), err
}

// PeerPublish implements peer_publish.
func (h *Handlers) PeerPublish(ctx context.Context, r api.PeerPublishRequestObject) (api.PeerPublishResponseObject, error) {
	m := admin.Message{Topic: r.Body.Topic, Payload: r.Body.Payload, QoS: byte(r.Body.Qos), Retain: r.Body.Retain, From: r.Body.From}
	return api.PeerPublish204Response{}, h.do(func(n admin.Node) error { return n.Publish(ctx, m) })
}

// PeerPlugins implements peer_plugins.
func (h *Handlers) PeerPlugins(ctx context.Context, _ api.PeerPluginsRequestObject) (api.PeerPluginsResponseObject, error) {
	rows, err := tellList(h, pluginOut, func(n admin.Node) ([]admin.Plugin, error) { return n.Plugins(ctx) })
	return api.PeerPlugins200JSONResponse(rows), err
}

// PeerPluginLoad implements peer_plugin_load.
func (h *Handlers) PeerPluginLoad(ctx context.Context, r api.PeerPluginLoadRequestObject) (api.PeerPluginLoadResponseObject, error) {
	return api.PeerPluginLoad204Response{}, h.do(func(n admin.Node) error { return n.LoadPlugin(ctx, r.Body.Plugin) })
}

// PeerPluginUnload implements peer_plugin_unload.
func (h *Handlers) PeerPluginUnload(ctx context.Context, r api.PeerPluginUnloadRequestObject) (api.PeerPluginUnloadResponseObject, error) {
	return api.PeerPluginUnload204Response{}, h.do(func(n admin.Node) error { return n.UnloadPlugin(ctx, r.Body.Plugin) })
}

// PeerPluginConfig implements peer_plugin_config.
func (h *Handlers) PeerPluginConfig(ctx context.Context, r api.PeerPluginConfigRequestObject) (api.PeerPluginConfigResponseObject, error) {
	rows, err := tellList(h, pluginSettingOut, func(n admin.Node) ([]admin.PluginSetting, error) { return n.PluginConfig(ctx, r.Params.Plugin) })
	return api.PeerPluginConfig200JSONResponse(rows), err
}

// PeerSetPluginConfig implements peer_set_plugin_config.
func (h *Handlers) PeerSetPluginConfig(ctx context.Context, r api.PeerSetPluginConfigRequestObject) (api.PeerSetPluginConfigResponseObject, error) {
	return api.PeerSetPluginConfig204Response{}, h.do(func(n admin.Node) error { return n.SetPluginConfig(ctx, r.Body.Plugin, r.Body.Settings) })
}

// PeerListeners implements peer_listeners.
func (h *Handlers) PeerListeners(ctx context.Context, _ api.PeerListenersRequestObject) (api.PeerListenersResponseObject, error) {
	rows, err := tellList(h, listenerOut, func(n admin.Node) ([]admin.Listener, error) { return n.Listeners(ctx) })
	return api.PeerListeners200JSONResponse(rows), err
}

// PeerMetrics implements peer_metrics.
func (h *Handlers) PeerMetrics(ctx context.Context, _ api.PeerMetricsRequestObject) (api.PeerMetricsResponseObject, error) {
	return tell(h, func(m admin.Metrics) api.PeerMetrics200JSONResponse { return api.PeerMetrics200JSONResponse(m) },
		func(n admin.Node) (admin.Metrics, error) { return n.Metrics(ctx) })
}

// PeerStats implements peer_stats.
func (h *Handlers) PeerStats(ctx context.Context, _ api.PeerStatsRequestObject) (api.PeerStatsResponseObject, error) {
	return tell(h, func(s admin.Stats) api.PeerStats200JSONResponse { return api.PeerStats200JSONResponse(s) },
		func(n admin.Node) (admin.Stats, error) { return n.Stats(ctx) })
}

// PeerSettings implements peer_settings.
func (h *Handlers) PeerSettings(ctx context.Context, r api.PeerSettingsRequestObject) (api.PeerSettingsResponseObject, error) {
	rows, err := tellList(h, settingOut, func(n admin.Node) ([]admin.Setting, error) { return n.Settings(ctx, admin.Version(r.Params.Api)) })
	return api.PeerSettings200JSONResponse(rows), err
}

// PeerReconfigure implements peer_reconfigure. What the node that asks has stored
// may be still on the way to this one.
func (h *Handlers) PeerReconfigure(ctx context.Context, _ api.PeerReconfigureRequestObject) (api.PeerReconfigureResponseObject, error) {
	if !h.Sync(ctx) {
		return nil, &admin.Error{Kind: admin.NodeDown, Message: "what was stored is not known here yet"}
	}
	return api.PeerReconfigure204Response{}, h.do(func(n admin.Node) error { return n.Reconfigure(ctx) })
}

// PeerStorage implements peer_storage.
func (h *Handlers) PeerStorage(ctx context.Context, _ api.PeerStorageRequestObject) (api.PeerStorageResponseObject, error) {
	s, err := tell(h, storageOut, func(n admin.Node) (admin.Storage, error) { return n.Storage(ctx) })
	return api.PeerStorage200JSONResponse(s), err
}

// PeerAlarms implements peer_alarms.
func (h *Handlers) PeerAlarms(ctx context.Context, _ api.PeerAlarmsRequestObject) (api.PeerAlarmsResponseObject, error) {
	rows, err := tellList(h, alarmOut, func(n admin.Node) ([]admin.Alarm, error) { return n.Alarms(ctx) })
	return api.PeerAlarms200JSONResponse(rows), err
}
