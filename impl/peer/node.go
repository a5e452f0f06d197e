package peer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// Options say who a [Node] is. All but Down are needed.
type Options struct {
	Name string // of the node in the cluster
	ID   string // of the node in the replicated store
	// Client makes calls to the node.
	Client *api.APIClient
	// Down says that the node has been silent for so long that it is not asked.
	Down bool
}

// Node is another node, asked over the node API. Its calls end with their
// context. A node that cannot be asked, or does not answer, is [admin.NodeDown]; then
// a change may have been made or not.
type Node struct{ o Options }

// New makes a Node.
func New(o Options) *Node { return &Node{o} }

var _ admin.Node = (*Node)(nil)

// Limits of one call to another node.
const (
	maxAnswer   = 64 << 20 // bytes that are read of an answer
	rowsPerCall = 10_000   // a larger page is asked for in parts
)

var errSilent = errors.New("it is silent")

// call makes a call and returns its answer.
func (r *Node) call(f func(*api.APIClient) (*http.Response, error)) ([]byte, error) {
	if r.o.Down {
		return nil, admin.Away(r.o.Name, errSilent)
	}
	resp, err := f(r.o.Client)
	if err != nil {
		return nil, admin.Away(r.o.Name, err)
	}
	defer resp.Body.Close() // all of it was read, or it is of no use
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, admin.Away(r.o.Name, err)
	case len(body) > maxAnswer:
		return nil, answerError(r.o.Name, errors.New("it is too long"))
	case resp.StatusCode/100 == 2:
		return body, nil
	case resp.StatusCode == http.StatusConflict:
		var f api.PeerFailure
		if err := json.Unmarshal(body, &f); err != nil {
			return nil, answerError(r.o.Name, err)
		}
		return nil, failureIn(f)
	}
	err = errors.New(resp.Status)
	var said api.Failure
	if json.Unmarshal(body, &said) == nil && said.Message != "" {
		err = errors.New(said.Message)
	}
	switch resp.StatusCode {
	case http.StatusServiceUnavailable, http.StatusNotFound: // it starts or stops, or is of a release that does not have the call
		return nil, admin.Away(r.o.Name, err)
	}
	return nil, answerError(r.o.Name, err)
}

// ask makes a call that has an answer.
func ask[T any](r *Node, f func(*api.APIClient) (*http.Response, error)) (T, error) {
	var v T
	body, err := r.call(f)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, answerError(r.o.Name, err)
	}
	return v, nil
}

// askList is ask for lists, whose rows it translates.
func askList[A, B any](r *Node, row func(A) B, f func(*api.APIClient) (*http.Response, error)) ([]B, error) {
	rows, err := ask[[]A](r, f)
	if err != nil {
		return nil, err
	}
	return convert(rows, row), nil
}

// rowsPage is how pages look on the way.
type rowsPage[T any] struct {
	Items []T `json:"items"`
	Total int `json:"total"`
}

// askPage is ask for pages, in parts where they are large.
func askPage[A, B any](
	r *Node, offset, limit int, row func(A) B, f func(c *api.APIClient, offset, limit int) (*http.Response, error),
) ([]B, int, error) {
	var all []B
	for {
		part := min(limit-len(all), rowsPerCall)
		p, err := ask[rowsPage[A]](r, func(c *api.APIClient) (*http.Response, error) { return f(c, offset+len(all), part) })
		if err != nil {
			return nil, 0, err
		}
		all = append(all, convert(p.Items, row)...)
		if len(p.Items) < part || len(all) >= limit {
			return all, p.Total, nil
		}
	}
}

// act makes a call without an answer.
func (r *Node) act(f func(*api.APIClient) (*http.Response, error)) error {
	_, err := r.call(f)
	return err
}

// Name implements [admin.Node].
func (r *Node) Name() string { return r.o.Name }

// ID implements [admin.Node].
func (r *Node) ID() string { return r.o.ID }

// Info implements [admin.Node].
func (r *Node) Info(ctx context.Context) (admin.NodeInfo, error) {
	i, err := ask[api.PeerNode](r, func(c *api.APIClient) (*http.Response, error) { return c.PeerNode(ctx) })
	if err != nil {
		return admin.NodeInfo{}, err
	}
	return infoIn(i), nil
}

// Clients implements [admin.Node].
func (r *Node) Clients(ctx context.Context, offset, limit int) ([]admin.Client, int, error) {
	return askPage(r, offset, limit, r.client, func(c *api.APIClient, offset, limit int) (*http.Response, error) {
		return c.PeerClients(ctx, &api.PeerClientsParams{Offset: offset, Limit: limit})
	})
}

// Client implements [admin.Node].
func (r *Node) Client(ctx context.Context, id string) ([]admin.Client, error) {
	return askList(r, r.client, func(c *api.APIClient) (*http.Response, error) {
		return c.PeerClient(ctx, &api.PeerClientParams{ClientId: id})
	})
}

// Kick implements [admin.Node].
func (r *Node) Kick(ctx context.Context, id string) error {
	return r.act(func(c *api.APIClient) (*http.Response, error) {
		return c.PeerKick(ctx, api.PeerClientName{ClientId: id})
	})
}

// CleanACL implements [admin.Node].
func (r *Node) CleanACL(ctx context.Context, id, topic string) error {
	return r.act(func(c *api.APIClient) (*http.Response, error) {
		return c.PeerCleanAcl(ctx, api.PeerTopic{ClientId: id, Topic: topic})
	})
}

// Sessions implements [admin.Node].
func (r *Node) Sessions(ctx context.Context, offset, limit int) ([]admin.Session, int, error) {
	return askPage(r, offset, limit, r.session, func(c *api.APIClient, offset, limit int) (*http.Response, error) {
		return c.PeerSessions(ctx, &api.PeerSessionsParams{Offset: offset, Limit: limit})
	})
}

// Session implements [admin.Node].
func (r *Node) Session(ctx context.Context, id string) ([]admin.Session, error) {
	return askList(r, r.session, func(c *api.APIClient) (*http.Response, error) {
		return c.PeerSession(ctx, &api.PeerSessionParams{ClientId: id})
	})
}

// Subscriptions implements [admin.Node].
func (r *Node) Subscriptions(ctx context.Context, offset, limit int) ([]admin.Subscription, int, error) {
	return askPage(r, offset, limit, r.subscription, func(c *api.APIClient, offset, limit int) (*http.Response, error) {
		return c.PeerSubscriptions(ctx, &api.PeerSubscriptionsParams{Offset: offset, Limit: limit})
	})
}

// SubscriptionsOf implements [admin.Node].
func (r *Node) SubscriptionsOf(ctx context.Context, id string) ([]admin.Subscription, error) {
	return askList(r, r.subscription, func(c *api.APIClient) (*http.Response, error) {
		return c.PeerSubscriptionsOf(ctx, &api.PeerSubscriptionsOfParams{ClientId: id})
	})
}

// Subscribe implements [admin.Node].
func (r *Node) Subscribe(ctx context.Context, id, filter string, qos byte) error {
	return r.act(func(c *api.APIClient) (*http.Response, error) {
		return c.PeerSubscribe(ctx, api.PeerSubscribe{ClientId: id, Topic: filter, Qos: int(qos)})
	})
}

// Unsubscribe implements [admin.Node].
func (r *Node) Unsubscribe(ctx context.Context, id, filter string) error {
	return r.act(func(c *api.APIClient) (*http.Response, error) {
		return c.PeerUnsubscribe(ctx, api.PeerTopic{ClientId: id, Topic: filter})
	})
}

// Routes implements [admin.Node].
func (r *Node) Routes(ctx context.Context, offset, limit int) ([]admin.Route, int, error) {
	return askPage(r, offset, limit, r.route, func(c *api.APIClient, offset, limit int) (*http.Response, error) {
		return c.PeerRoutes(ctx, &api.PeerRoutesParams{Offset: offset, Limit: limit})
	})
}

// RoutesOf implements [admin.Node].
func (r *Node) RoutesOf(ctx context.Context, filter string) ([]admin.Route, error) {
	return askList(r, r.route, func(c *api.APIClient) (*http.Response, error) {
		return c.PeerRoutesOf(ctx, &api.PeerRoutesOfParams{Filter: filter})
	})
}

// Publish implements [admin.Node].
func (r *Node) Publish(ctx context.Context, m admin.Message) error {
	payload := append([]byte{}, m.Payload...) // none is an empty one and not null
	return r.act(func(c *api.APIClient) (*http.Response, error) {
		return c.PeerPublish(ctx, api.PeerMessage{Topic: m.Topic, Payload: payload, Qos: int(m.QoS), Retain: m.Retain, From: m.From})
	})
}

// Plugins implements [admin.Node].
func (r *Node) Plugins(ctx context.Context) ([]admin.Plugin, error) {
	return askList(r, pluginIn, func(c *api.APIClient) (*http.Response, error) { return c.PeerPlugins(ctx) })
}

// LoadPlugin implements [admin.Node].
func (r *Node) LoadPlugin(ctx context.Context, name string) error {
	return r.act(func(c *api.APIClient) (*http.Response, error) {
		return c.PeerPluginLoad(ctx, api.PeerPluginName{Plugin: name})
	})
}

// UnloadPlugin implements [admin.Node].
func (r *Node) UnloadPlugin(ctx context.Context, name string) error {
	return r.act(func(c *api.APIClient) (*http.Response, error) {
		return c.PeerPluginUnload(ctx, api.PeerPluginName{Plugin: name})
	})
}

// PluginConfig implements [admin.Node].
func (r *Node) PluginConfig(ctx context.Context, name string) ([]admin.PluginSetting, error) {
	return askList(r, pluginSettingIn, func(c *api.APIClient) (*http.Response, error) {
		return c.PeerPluginConfig(ctx, &api.PeerPluginConfigParams{Plugin: name})
	})
}

// SetPluginConfig implements [admin.Node].
func (r *Node) SetPluginConfig(ctx context.Context, name string, settings map[string]string) error {
	if settings == nil {
		settings = map[string]string{}
	}
	return r.act(func(c *api.APIClient) (*http.Response, error) {
		return c.PeerSetPluginConfig(ctx, api.PeerPluginConfig{Plugin: name, Settings: settings})
	})
}

// Listeners implements [admin.Node].
func (r *Node) Listeners(ctx context.Context) ([]admin.Listener, error) {
	return askList(r, listenerIn, func(c *api.APIClient) (*http.Response, error) { return c.PeerListeners(ctx) })
}

// Metrics implements [admin.Node].
func (r *Node) Metrics(ctx context.Context) (admin.Metrics, error) {
	return ask[admin.Metrics](r, func(c *api.APIClient) (*http.Response, error) { return c.PeerMetrics(ctx) })
}

// Stats implements [admin.Node].
func (r *Node) Stats(ctx context.Context) (admin.Stats, error) {
	return ask[admin.Stats](r, func(c *api.APIClient) (*http.Response, error) { return c.PeerStats(ctx) })
}

// Settings implements [admin.Node].
func (r *Node) Settings(ctx context.Context, v admin.Version) ([]admin.Setting, error) {
	return askList(r, settingIn, func(c *api.APIClient) (*http.Response, error) {
		return c.PeerSettings(ctx, &api.PeerSettingsParams{Api: int(v)})
	})
}

// Reconfigure implements [admin.Node].
func (r *Node) Reconfigure(ctx context.Context) error {
	return r.act(func(c *api.APIClient) (*http.Response, error) { return c.PeerReconfigure(ctx) })
}

// Storage implements [admin.Node].
func (r *Node) Storage(ctx context.Context) (admin.Storage, error) {
	s, err := ask[api.PeerStorage](r, func(c *api.APIClient) (*http.Response, error) { return c.PeerStorage(ctx) })
	if err != nil {
		return admin.Storage{}, err
	}
	return storageIn(s), nil
}

// Alarms implements [admin.Node].
func (r *Node) Alarms(ctx context.Context) ([]admin.Alarm, error) {
	return askList(r, alarmIn, func(c *api.APIClient) (*http.Response, error) { return c.PeerAlarms(ctx) })
}
