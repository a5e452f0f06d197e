package v2

import (
	"context"

	gen "github.com/lacewing-mqtt/lacewing/gen/v2"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// ListNodeClients answers GET nodes/{node}/clients.
func (h *Handlers) ListNodeClients(ctx context.Context, r gen.ListNodeClientsRequestObject) (gen.ListNodeClientsResponseObject, error) {
	w := window(r.Params.CurrPage, r.Params.PageSize)
	p, err := h.admin.Clients(ctx, r.Node, w)
	return gen.ListNodeClients200JSONResponse{Result: gen.ClientPage{
		CurrentPage: clip(w.Page), PageSize: clip(w.Size), TotalNum: p.Total, TotalPage: p.Pages, Objects: rows(p.Rows, client),
	}}, err
}

// LookupNodeClient answers GET nodes/{node}/clients/{clientid}.
func (h *Handlers) LookupNodeClient(ctx context.Context, r gen.LookupNodeClientRequestObject) (gen.LookupNodeClientResponseObject, error) {
	list, err := h.admin.Client(ctx, r.Node, r.Clientid)
	return gen.LookupNodeClient200JSONResponse{Result: gen.ClientObjects{Objects: rows(list, client)}}, err
}

// LookupClient answers GET clients/{clientid}.
func (h *Handlers) LookupClient(ctx context.Context, r gen.LookupClientRequestObject) (gen.LookupClientResponseObject, error) {
	list, err := h.admin.Client(ctx, "", r.Clientid)
	return gen.LookupClient200JSONResponse{Result: gen.ClientObjects{Objects: rows(list, client)}}, err
}

// KickClient answers DELETE clients/{clientid}.
func (h *Handlers) KickClient(ctx context.Context, r gen.KickClientRequestObject) (gen.KickClientResponseObject, error) {
	return gen.KickClient200JSONResponse(done()), h.admin.Kick(ctx, r.Clientid)
}

// CleanAclCache answers PUT clients/{clientid}/clean_acl_cache.
func (h *Handlers) CleanAclCache(ctx context.Context, r gen.CleanAclCacheRequestObject) (gen.CleanAclCacheResponseObject, error) {
	return gen.CleanAclCache200JSONResponse(done()), h.admin.CleanACL(ctx, r.Clientid, r.Body.Topic)
}

// ListNodeSessions answers GET nodes/{node}/sessions.
func (h *Handlers) ListNodeSessions(ctx context.Context, r gen.ListNodeSessionsRequestObject) (gen.ListNodeSessionsResponseObject, error) {
	p, err := h.sessions(ctx, r.Node, window(r.Params.CurrPage, r.Params.PageSize))
	return gen.ListNodeSessions200JSONResponse{Result: p}, err
}

// ListNodeSessionsAlias answers GET node/{node}/sessions, as the definition in
// the document spells it.
func (h *Handlers) ListNodeSessionsAlias(ctx context.Context, r gen.ListNodeSessionsAliasRequestObject) (gen.ListNodeSessionsAliasResponseObject, error) {
	p, err := h.sessions(ctx, r.Node, window(r.Params.CurrPage, r.Params.PageSize))
	return gen.ListNodeSessionsAlias200JSONResponse{Result: p}, err
}

func (h *Handlers) sessions(ctx context.Context, node string, w admin.Window) (gen.SessionPage, error) {
	p, err := h.admin.Sessions(ctx, node, w)
	return gen.SessionPage{
		CurrentPage: clip(w.Page), PageSize: clip(w.Size), TotalNum: p.Total, TotalPage: p.Pages, Objects: rows(p.Rows, session),
	}, err
}

// LookupNodeSession answers GET nodes/{node}/sessions/{clientid}.
func (h *Handlers) LookupNodeSession(ctx context.Context, r gen.LookupNodeSessionRequestObject) (gen.LookupNodeSessionResponseObject, error) {
	list, err := h.admin.Session(ctx, r.Node, r.Clientid)
	return gen.LookupNodeSession200JSONResponse{Result: gen.SessionObjects{Objects: rows(list, session)}}, err
}

// LookupNodeSessionAlias answers GET node/{node}/sessions/{clientid}.
func (h *Handlers) LookupNodeSessionAlias(ctx context.Context, r gen.LookupNodeSessionAliasRequestObject) (gen.LookupNodeSessionAliasResponseObject, error) {
	list, err := h.admin.Session(ctx, r.Node, r.Clientid)
	return gen.LookupNodeSessionAlias200JSONResponse{Result: gen.SessionObjects{Objects: rows(list, session)}}, err
}

// LookupSession answers GET sessions/{clientid}.
func (h *Handlers) LookupSession(ctx context.Context, r gen.LookupSessionRequestObject) (gen.LookupSessionResponseObject, error) {
	list, err := h.admin.Session(ctx, "", r.Clientid)
	return gen.LookupSession200JSONResponse{Result: gen.SessionObjects{Objects: rows(list, session)}}, err
}

// ListNodeSubscriptions answers GET nodes/{node}/subscriptions.
func (h *Handlers) ListNodeSubscriptions(ctx context.Context, r gen.ListNodeSubscriptionsRequestObject) (gen.ListNodeSubscriptionsResponseObject, error) {
	w := window(r.Params.CurrPage, r.Params.PageSize)
	p, err := h.admin.Subscriptions(ctx, r.Node, w)
	return gen.ListNodeSubscriptions200JSONResponse{Result: gen.SubscriptionPage{
		CurrentPage: clip(w.Page), PageSize: clip(w.Size), TotalNum: p.Total, TotalPage: p.Pages, Objects: rows(p.Rows, subscription),
	}}, err
}

// LookupNodeSubscriptions answers GET nodes/{node}/subscriptions/{clientid}.
func (h *Handlers) LookupNodeSubscriptions(ctx context.Context, r gen.LookupNodeSubscriptionsRequestObject) (gen.LookupNodeSubscriptionsResponseObject, error) {
	list, err := h.admin.SubscriptionsOf(ctx, r.Node, r.Clientid)
	return gen.LookupNodeSubscriptions200JSONResponse{Result: gen.SubscriptionObjects{Objects: rows(list, subscription)}}, err
}

// LookupSubscriptions answers GET subscriptions/{clientid}.
func (h *Handlers) LookupSubscriptions(ctx context.Context, r gen.LookupSubscriptionsRequestObject) (gen.LookupSubscriptionsResponseObject, error) {
	list, err := h.admin.SubscriptionsOf(ctx, "", r.Clientid)
	return gen.LookupSubscriptions200JSONResponse{Result: gen.SubscriptionObjects{Objects: rows(list, subscription)}}, err
}

// ListRoutes answers GET routes.
func (h *Handlers) ListRoutes(ctx context.Context, r gen.ListRoutesRequestObject) (gen.ListRoutesResponseObject, error) {
	w := window(r.Params.CurrPage, r.Params.PageSize)
	p, err := h.admin.Routes(ctx, w)
	return gen.ListRoutes200JSONResponse{Result: gen.RoutePage{
		CurrentPage: clip(w.Page), PageSize: clip(w.Size), TotalNum: p.Total, TotalPage: p.Pages, Objects: rows(p.Rows, route),
	}}, err
}

// LookupRoutes answers GET routes/{topic}.
func (h *Handlers) LookupRoutes(ctx context.Context, r gen.LookupRoutesRequestObject) (gen.LookupRoutesResponseObject, error) {
	list, err := h.admin.RoutesOf(ctx, r.Topic)
	return gen.LookupRoutes200JSONResponse{Result: gen.RouteObjects{Objects: rows(list, route)}}, err
}

// MqttPublish answers POST mqtt/publish.
func (h *Handlers) MqttPublish(ctx context.Context, r gen.MqttPublishRequestObject) (gen.MqttPublishResponseObject, error) {
	err := h.admin.Publish(ctx, admin.Publication{
		Topics: []string{r.Body.Topic}, Payload: []byte(or(r.Body.Payload, "")), QoS: byte(or(r.Body.Qos, 0)),
		Retain: or(r.Body.Retain, false), ClientID: or(r.Body.ClientId, "http"),
	})
	return gen.MqttPublish200JSONResponse(done()), err
}

// MqttSubscribe answers POST mqtt/subscribe.
func (h *Handlers) MqttSubscribe(ctx context.Context, r gen.MqttSubscribeRequestObject) (gen.MqttSubscribeResponseObject, error) {
	err := h.admin.Subscribe(ctx, admin.SubscribeRequest{
		ClientID: r.Body.ClientId, Topics: []string{r.Body.Topic}, QoS: byte(or(r.Body.Qos, 0)),
	})
	return gen.MqttSubscribe200JSONResponse(done()), err
}

// MqttUnsubscribe answers POST mqtt/unsubscribe.
func (h *Handlers) MqttUnsubscribe(ctx context.Context, r gen.MqttUnsubscribeRequestObject) (gen.MqttUnsubscribeResponseObject, error) {
	err := h.admin.Unsubscribe(ctx, admin.UnsubscribeRequest{ClientID: r.Body.ClientId, Topics: []string{r.Body.Topic}})
	return gen.MqttUnsubscribe200JSONResponse(done()), err
}

func client(c admin.Client) gen.ClientRow {
	return gen.ClientRow{
		ClientId: c.ID, Username: c.Username, Ipaddress: c.Peer.Addr().Unmap().String(), Port: int(c.Peer.Port()),
		CleanSess: c.CleanStart, ProtoVer: c.Version, Keepalive: c.KeepAlive, ConnectedAt: admin.FormatTime(c.ConnectedAt),
	}
}

// session has the figures of both generations of the document in one row (C5).
func session(s admin.Session) gen.SessionRow {
	return gen.SessionRow{
		ClientId: s.ClientID, CleanSess: s.CleanStart, CreatedAt: admin.FormatTime(s.CreatedAt),
		MaxInflight: figure(s.MaxInflight), InflightQueue: figure(s.Inflight), MessageQueue: figure(s.Queue),
		MessageDropped: figure(int(s.Dropped)), AwaitingRel: figure(s.AwaitingRel),
		AwaitingAck: figure(s.AwaitingAck), AwaitingComp: figure(s.AwaitingComp),
		Subscriptions: count(s.Subscriptions), InflightLen: count(s.Inflight), MqueueLen: count(s.Queue),
		MqueueDropped: s.Dropped, AwaitingRelLen: count(s.AwaitingRel), DeliverMsg: s.Delivered, EnqueueMsg: s.Enqueued,
	}
}

func figure(n int) (f gen.Figure) {
	_ = f.FromCount(gen.Count(n)) // an integer always encodes
	return f
}

func subscription(s admin.Subscription) gen.SubscriptionRow {
	return gen.SubscriptionRow{ClientId: s.ClientID, Topic: s.Topic, Qos: int(s.QoS)}
}

func route(r admin.Route) gen.RouteRow { return gen.RouteRow{Topic: r.Topic, Node: r.Node} }
