package v3

import (
	"context"

	gen "github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// ListConnections answers GET connections/.
func (h *Handlers) ListConnections(ctx context.Context, r gen.ListConnectionsRequestObject) (gen.ListConnectionsResponseObject, error) {
	w := h.window(r.Params.Page, r.Params.Limit)
	p, err := h.admin.Clients(ctx, "", w)
	return gen.ListConnections200JSONResponse{Items: rows(p.Rows, connection), Meta: meta(w, p)}, err
}

// ListNodeConnections answers GET nodes/{node}/connections/.
func (h *Handlers) ListNodeConnections(ctx context.Context, r gen.ListNodeConnectionsRequestObject) (gen.ListNodeConnectionsResponseObject, error) {
	w := h.window(r.Params.Page, r.Params.Limit)
	p, err := h.admin.Clients(ctx, r.Node, w)
	return gen.ListNodeConnections200JSONResponse{Items: rows(p.Rows, connection), Meta: meta(w, p)}, err
}

// LookupConnections answers GET connections/{id}.
func (h *Handlers) LookupConnections(ctx context.Context, r gen.LookupConnectionsRequestObject) (gen.LookupConnectionsResponseObject, error) {
	list, err := h.admin.Client(ctx, "", r.Clientid)
	return gen.LookupConnections200JSONResponse(rows(list, connection)), err
}

// LookupNodeConnections answers GET nodes/{node}/connections/{id}.
func (h *Handlers) LookupNodeConnections(ctx context.Context, r gen.LookupNodeConnectionsRequestObject) (gen.LookupNodeConnectionsResponseObject, error) {
	list, err := h.admin.Client(ctx, r.Node, r.Clientid)
	return gen.LookupNodeConnections200JSONResponse(rows(list, connection)), err
}

// KickoutConnection answers DELETE connections/{id}.
func (h *Handlers) KickoutConnection(ctx context.Context, r gen.KickoutConnectionRequestObject) (gen.KickoutConnectionResponseObject, error) {
	return gen.KickoutConnection200JSONResponse(ok), h.admin.Kick(ctx, r.Clientid)
}

// CleanAclCache answers DELETE connections/{id}/acl/{topic}.
func (h *Handlers) CleanAclCache(ctx context.Context, r gen.CleanAclCacheRequestObject) (gen.CleanAclCacheResponseObject, error) {
	return gen.CleanAclCache200JSONResponse(ok), h.admin.CleanACL(ctx, r.Clientid, r.Topic)
}

// ListSessions answers GET sessions/.
func (h *Handlers) ListSessions(ctx context.Context, r gen.ListSessionsRequestObject) (gen.ListSessionsResponseObject, error) {
	w := h.window(r.Params.Page, r.Params.Limit)
	p, err := h.admin.Sessions(ctx, "", w)
	return gen.ListSessions200JSONResponse{Items: rows(p.Rows, session), Meta: meta(w, p)}, err
}

// LookupSession answers GET sessions/{id}.
func (h *Handlers) LookupSession(ctx context.Context, r gen.LookupSessionRequestObject) (gen.LookupSessionResponseObject, error) {
	list, err := h.admin.Session(ctx, "", r.Clientid)
	return gen.LookupSession200JSONResponse(rows(list, session)), err
}

// ListNodeSessions answers GET nodes/{node}/sessions/.
func (h *Handlers) ListNodeSessions(ctx context.Context, r gen.ListNodeSessionsRequestObject) (gen.ListNodeSessionsResponseObject, error) {
	w := h.window(r.Params.Page, r.Params.Limit)
	p, err := h.admin.Sessions(ctx, r.Node, w)
	return gen.ListNodeSessions200JSONResponse{Items: rows(p.Rows, session), Meta: meta(w, p)}, err
}

// LookupNodeSession answers GET nodes/{node}/sessions/{id}.
func (h *Handlers) LookupNodeSession(ctx context.Context, r gen.LookupNodeSessionRequestObject) (gen.LookupNodeSessionResponseObject, error) {
	list, err := h.admin.Session(ctx, r.Node, r.Clientid)
	return gen.LookupNodeSession200JSONResponse(rows(list, session)), err
}

// ListSubscriptions answers GET subscriptions/.
func (h *Handlers) ListSubscriptions(ctx context.Context, r gen.ListSubscriptionsRequestObject) (gen.ListSubscriptionsResponseObject, error) {
	w := h.window(r.Params.Page, r.Params.Limit)
	p, err := h.admin.Subscriptions(ctx, "", w)
	return gen.ListSubscriptions200JSONResponse{Items: rows(p.Rows, subscription), Meta: meta(w, p)}, err
}

// LookupClientSubscriptions answers GET subscriptions/{id}.
func (h *Handlers) LookupClientSubscriptions(ctx context.Context, r gen.LookupClientSubscriptionsRequestObject) (gen.LookupClientSubscriptionsResponseObject, error) {
	list, err := h.admin.SubscriptionsOf(ctx, "", r.Clientid)
	return gen.LookupClientSubscriptions200JSONResponse(rows(list, subscription)), err
}

// ListNodeSubscriptions answers GET nodes/{node}/subscriptions/.
func (h *Handlers) ListNodeSubscriptions(ctx context.Context, r gen.ListNodeSubscriptionsRequestObject) (gen.ListNodeSubscriptionsResponseObject, error) {
	w := h.window(r.Params.Page, r.Params.Limit)
	p, err := h.admin.Subscriptions(ctx, r.Node, w)
	return gen.ListNodeSubscriptions200JSONResponse{Items: rows(p.Rows, subscription), Meta: meta(w, p)}, err
}

// LookupClientSubscriptionsWithNode answers GET nodes/{node}/subscriptions/{id}.
func (h *Handlers) LookupClientSubscriptionsWithNode(ctx context.Context, r gen.LookupClientSubscriptionsWithNodeRequestObject) (gen.LookupClientSubscriptionsWithNodeResponseObject, error) {
	list, err := h.admin.SubscriptionsOf(ctx, r.Node, r.Clientid)
	return gen.LookupClientSubscriptionsWithNode200JSONResponse(rows(list, subscription)), err
}

// ListRoutes answers GET routes/ (C11).
func (h *Handlers) ListRoutes(ctx context.Context, r gen.ListRoutesRequestObject) (gen.ListRoutesResponseObject, error) {
	w := h.window(r.Params.Page, r.Params.Limit)
	p, err := h.admin.Routes(ctx, w)
	return gen.ListRoutes200JSONResponse{Items: rows(p.Rows, route), Meta: meta(w, p)}, err
}

// LookupRoutes answers GET routes/{topic}.
func (h *Handlers) LookupRoutes(ctx context.Context, r gen.LookupRoutesRequestObject) (gen.LookupRoutesResponseObject, error) {
	list, err := h.admin.RoutesOf(ctx, r.Topic)
	return gen.LookupRoutes200JSONResponse(rows(list, route)), err
}

// MqttPublish answers POST mqtt/publish.
func (h *Handlers) MqttPublish(ctx context.Context, r gen.MqttPublishRequestObject) (gen.MqttPublishResponseObject, error) {
	err := h.admin.Publish(ctx, admin.Publication{
		Topics: topics(r.Body.Topic, r.Body.Topics), Payload: []byte(or(r.Body.Payload, "")),
		QoS: byte(or(r.Body.Qos, 0)), Retain: or(r.Body.Retain, false), ClientID: or(r.Body.ClientId, "http"),
	})
	return gen.MqttPublish200JSONResponse{}, err
}

// MqttSubscribe answers POST mqtt/subscribe.
func (h *Handlers) MqttSubscribe(ctx context.Context, r gen.MqttSubscribeRequestObject) (gen.MqttSubscribeResponseObject, error) {
	err := h.admin.Subscribe(ctx, admin.SubscribeRequest{
		ClientID: r.Body.ClientId, Topics: topics(r.Body.Topic, r.Body.Topics), QoS: byte(or(r.Body.Qos, 0)),
	})
	return gen.MqttSubscribe200JSONResponse{}, err
}

// MqttUnsubscribe answers POST mqtt/unsubscribe.
func (h *Handlers) MqttUnsubscribe(ctx context.Context, r gen.MqttUnsubscribeRequestObject) (gen.MqttUnsubscribeResponseObject, error) {
	err := h.admin.Unsubscribe(ctx, admin.UnsubscribeRequest{ClientID: r.Body.ClientId, Topics: []string{r.Body.Topic}})
	return gen.MqttUnsubscribe200JSONResponse{}, err
}

func connection(c admin.Client) gen.ConnectionRow {
	row := gen.ConnectionRow{
		ClientId: c.ID, Username: c.Username, Ipaddress: c.Peer.Addr().Unmap().String(), Port: int(c.Peer.Port()),
		CleanStart: c.CleanStart, ProtoName: c.Protocol, ProtoVer: c.Version, Keepalive: c.KeepAlive,
		ConnectedAt: admin.FormatTime(c.ConnectedAt), Node: c.Node, Zone: c.Zone, Mountpoint: admin.OrUndefined(c.Mountpoint),
		IsSuper: c.Superuser, IsBridge: c.Bridge, Peercert: "nossl", WillTopic: admin.OrUndefined(c.WillTopic),
	}
	if c.PeerCert != "" {
		row.Peercert = c.PeerCert
	}
	return row
}

func session(s admin.Session) gen.SessionRow {
	return gen.SessionRow{
		ClientId: s.ClientID, Username: s.Username, CleanStart: s.CleanStart, Binding: gen.Local,
		ExpiryInterval: s.Expiry, CreatedAt: admin.FormatTime(s.CreatedAt), Node: s.Node,
		SubscriptionsCount: int64(s.Subscriptions), MaxSubscriptions: int64(s.MaxSubscriptions),
		InflightLen: int64(s.Inflight), MaxInflight: int64(s.MaxInflight),
		MqueueLen: int64(s.Queue), MaxMqueue: int64(s.MaxQueue), MqueueDropped: s.Dropped,
		AwaitingRelLen: int64(s.AwaitingRel), MaxAwaitingRel: int64(s.MaxAwaitingRel),
		DeliverMsg: s.Delivered, EnqueueMsg: s.Enqueued,
	}
}

func subscription(s admin.Subscription) gen.SubscriptionRow {
	return gen.SubscriptionRow{Node: s.Node, ClientId: s.ClientID, Topic: s.Topic, Qos: int(s.QoS)}
}

func route(r admin.Route) gen.RouteRow { return gen.RouteRow{Topic: r.Topic, Node: r.Node} }
