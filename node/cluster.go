package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/cluster"
	"github.com/lacewing-mqtt/lacewing/config"
	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
	"github.com/lacewing-mqtt/lacewing/impl/peer"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// storeOptions are those of the metadata, and of the cluster port, which is opened
// once the data directory is this node's.
func (n *Node) storeOptions() raftstore.Options {
	cfg := n.cfg.Load()
	o := raftstore.Options{Dir: n.data.path, Logger: n.log, Heartbeat: cfg.Duration("cluster.heartbeat")}
	if cfg.String("cluster.listen") == "off" {
		return o
	}
	o.Wait = cluster.Waits(cfg.String("cluster.discovery"), n.data.path)
	o.Network = func(self string) (raftstore.Network, error) {
		if err := n.openCluster(cfg); err != nil {
			return nil, err
		}
		return n.cluster.Network(self)
	}
	return o
}

// clusterAddress is where the cluster port listens.
func clusterAddress(cfg *config.Config, host string) string {
	switch at := cfg.String("cluster.listen"); {
	case at == "":
		return net.JoinHostPort(strings.Trim(host, "[]"), cluster.DefaultPort)
	case !strings.Contains(at, ":"):
		return ":" + at
	default:
		return at
	}
}

func (n *Node) openCluster(cfg *config.Config) error {
	listen := clusterAddress(cfg, n.host())
	configured := cfg.Secret("node.cookie").Reveal()
	cookie, err := cluster.Cookie(configured, n.data.path, listen)
	switch {
	case errors.Is(err, cluster.ErrNoCookie):
		return &StartError{Code: ExitConfig,
			What: "cluster port " + listen + " can be reached by others and node.cookie is not set: set it to a secret of the cluster's nodes, or set cluster.listen = off"}
	case err != nil:
		return &StartError{What: "cluster cookie", Err: reason(err), Code: ExitData}
	}
	if configured != "" && len(configured) < goodCookie {
		n.log.Warn("node.cookie is short: it can be guessed by who listens to the cluster's traffic", "bytes", len(configured), "better", goodCookie)
	}
	secure, err := clusterTLS(cfg)
	if err != nil {
		return err
	}
	n.cluster, err = cluster.Listen(cluster.Options{
		Cluster: cfg.String("cluster.name"), Node: n.name, Version: n.release, Listen: listen, Dir: n.data.path, Cookie: cookie, TLS: secure,
		Discovery: cfg.String("cluster.discovery"), Seeds: cfg.List("cluster.static.seeds"),
		DNSName: cfg.String("cluster.dns.name"), DNSType: cfg.String("cluster.dns.type"), Expect: cfg.Int("cluster.dns.expect"),
		Beat: cfg.Duration("cluster.heartbeat"), Logger: n.log,
	})
	if err != nil {
		return listenError("cluster", listen, err)
	}
	n.cluster.Handle(cluster.Link, n.acceptLink)
	return nil
}

// goodCookie is a length in bytes that nobody guesses.
const goodCookie = 16

// clusterTLS is the TLS of the cluster port, for both directions; nil for none.
func clusterTLS(cfg *config.Config) (*tls.Config, error) {
	key, cert, ca := cfg.String("cluster.tls.keyfile"), cfg.String("cluster.tls.certfile"), cfg.String("cluster.tls.cacertfile")
	switch {
	case key == "" && cert == "" && ca == "":
		return nil, nil
	case key == "" || cert == "" || ca == "":
		return nil, &StartError{What: "cluster.tls needs keyfile, certfile and cacertfile, all three", Code: ExitConfig}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, &StartError{What: "TLS certificate " + cert + " with key " + key + " cannot be used", Err: reason(err), Code: ExitConfig}
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, &StartError{What: "TLS CA file " + ca + " cannot be read", Err: reason(err), Code: ExitConfig}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, &StartError{What: "TLS CA file " + ca + " holds no certificate", Code: ExitConfig}
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}, nil
}

// joinCluster serves the other nodes and waits until this one is up to date, or
// for as long as is configured: a node without a leader serves its clients.
func (n *Node) joinCluster(ctx context.Context) error {
	if n.cluster == nil {
		return nil
	}
	n.cluster.ServeAPI(n.control)
	n.cluster.Start(n.store)
	err := n.store.AwaitLeader(ctx, n.cfg.Load().Duration("cluster.start_wait"))
	if err != nil && ctx.Err() == nil {
		n.log.Warn("the cluster has no leader yet: metadata are as this node knows them and cannot be written")
		return nil
	}
	return ctx.Err()
}

// startUsers makes the first users, now or when there is a leader.
func (n *Node) startUsers(ctx, background context.Context) error {
	if n.cluster == nil || n.store.HasLeader() {
		if err := n.firstUsers(ctx); err == nil || !errors.Is(err, raftstore.ErrNoLeader) {
			return err
		}
	}
	n.background.Go(func() {
		for {
			if n.store.Sync(background) {
				err := n.firstUsers(background)
				if err == nil {
					return
				}
				if background.Err() == nil && !errors.Is(err, raftstore.ErrNoLeader) {
					n.log.Error("first users", "err", err)
				}
			}
			select {
			case <-background.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	return nil
}

// peers are the other nodes for both APIs.
func (n *Node) peers() []admin.Node {
	if n.cluster == nil {
		return nil
	}
	var out []admin.Node
	for _, p := range n.cluster.Peers() {
		client, err := n.cluster.Client(p.ID)
		if err != nil {
			n.log.Error("node cannot be asked", "node", p.Name, "err", err)
		}
		out = append(out, peer.New(peer.Options{Name: p.Name, ID: p.ID, Client: client, Down: p.Down || err != nil}))
	}
	return out
}

// asked is what other nodes ask: this node, once everything listens.
func (n *Node) asked() (admin.Node, error) {
	select {
	case <-n.serving:
		return n.local, nil
	default:
		return nil, &admin.Error{Kind: admin.NodeDown, Message: "the node is starting"}
	}
}

var errNoCluster = errors.New("the node has no cluster port (cluster.listen = off)")

// failure sorts the errors of the cluster by status.
func failure(err error) (missing *api.NotFoundJSONResponse, later *api.UnavailableJSONResponse, refusal *api.RefusedJSONResponse) {
	message := api.Failure{Message: strings.TrimPrefix(strings.TrimPrefix(err.Error(), cluster.ErrRefused.Error()+": "), cluster.ErrUnavailable.Error()+": ")}
	switch {
	case errors.Is(err, raftstore.ErrNotFound):
		return &api.NotFoundJSONResponse{Message: "no such node"}, nil, nil
	case errors.Is(err, cluster.ErrUnavailable), errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrNoLeader), errors.Is(err, raftstore.ErrClosed),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil, (*api.UnavailableJSONResponse)(&message), nil
	}
	return nil, nil, (*api.RefusedJSONResponse)(&message)
}

// refusedBy is the answer to an operator, who is told whatever it was.
func refusedBy(err error) api.RefusedJSONResponse {
	missing, later, refusal := failure(err)
	switch {
	case missing != nil:
		return api.RefusedJSONResponse(*missing)
	case later != nil:
		return api.RefusedJSONResponse(*later)
	}
	return *refusal
}

// ClusterStatus implements cluster_status.
func (c *control) ClusterStatus(context.Context, api.ClusterStatusRequestObject) (api.ClusterStatusResponseObject, error) {
	s, err := c.status()
	if err != nil {
		return api.ClusterStatus409JSONResponse{RefusedJSONResponse: refusedBy(err)}, nil
	}
	return api.ClusterStatus200JSONResponse(s), nil
}

func (c *control) status() (api.ClusterStatus, error) {
	if c.cluster == nil {
		return api.ClusterStatus{}, errNoCluster
	}
	s, err := c.cluster.Status()
	links := c.linkStates()
	for i, m := range s.Members {
		if state, known := links[m.Id]; known {
			s.Members[i].Link = &state
		} else if m.Id != c.cluster.Self() {
			s.Members[i].Link = new(api.Down)
		}
	}
	return s, err
}

// linkStates are those of the links by the identity of the other node.
func (n *Node) linkStates() map[string]api.ClusterMemberLink {
	out := map[string]api.ClusterMemberLink{}
	for _, l := range n.engine.Links() {
		state := api.Down
		switch {
		case l.Up && l.Late:
			state = api.Late
		case l.Up:
			state = api.Up
		}
		out[l.Peer] = state
	}
	return out
}

// changed puts into effect what a change of membership has brought, and says how
// the node stands then.
func (c *control) changed(ctx context.Context, err error) (api.ClusterStatus, error) {
	if err != nil {
		return api.ClusterStatus{}, err
	}
	n := c.node()
	if err := errors.Join(n.firstUsers(ctx), n.Reconfigure(ctx), n.plugins.Sync(ctx)); err != nil {
		return api.ClusterStatus{}, err
	}
	return c.status()
}

// ClusterJoin implements cluster_join.
func (c *control) ClusterJoin(ctx context.Context, request api.ClusterJoinRequestObject) (api.ClusterJoinResponseObject, error) {
	s, err := api.ClusterStatus{}, errNoCluster
	if c.cluster != nil {
		s, err = c.changed(ctx, c.cluster.Join(ctx, request.Body.Node, request.Body.Force != nil && *request.Body.Force))
	}
	if err != nil {
		return api.ClusterJoin409JSONResponse{RefusedJSONResponse: refusedBy(err)}, nil
	}
	return api.ClusterJoin200JSONResponse(s), nil
}

// ClusterLeave implements cluster_leave.
func (c *control) ClusterLeave(ctx context.Context, _ api.ClusterLeaveRequestObject) (api.ClusterLeaveResponseObject, error) {
	s, err := api.ClusterStatus{}, errNoCluster
	if c.cluster != nil {
		s, err = c.changed(ctx, c.cluster.Leave(ctx))
	}
	if err != nil {
		return api.ClusterLeave409JSONResponse{RefusedJSONResponse: refusedBy(err)}, nil
	}
	return api.ClusterLeave200JSONResponse(s), nil
}

// ClusterForceLeave implements cluster_force_leave.
func (c *control) ClusterForceLeave(ctx context.Context, request api.ClusterForceLeaveRequestObject) (api.ClusterForceLeaveResponseObject, error) {
	err := errNoCluster
	if c.cluster != nil {
		err = c.cluster.ForceLeave(ctx, request.Name)
	}
	switch {
	case err == nil:
		return api.ClusterForceLeave204Response{}, nil
	case errors.Is(err, raftstore.ErrNotFound):
		return api.ClusterForceLeave404JSONResponse{NotFoundJSONResponse: api.NotFoundJSONResponse{Message: "no node of that name is a member"}}, nil
	}
	return api.ClusterForceLeave409JSONResponse{RefusedJSONResponse: refusedBy(err)}, nil
}

// ClusterRecover implements cluster_recover.
func (c *control) ClusterRecover(ctx context.Context, request api.ClusterRecoverRequestObject) (api.ClusterRecoverResponseObject, error) {
	s, err := api.ClusterStatus{}, errNoCluster
	switch {
	case c.cluster == nil:
	case !request.Body.Force:
		err = errors.New("force has to be true: entries that the lost nodes had not confirmed are kept, and the nodes must never come back with their data")
	default:
		s, err = c.changed(ctx, c.cluster.Recover(ctx))
	}
	if err != nil {
		return api.ClusterRecover409JSONResponse{RefusedJSONResponse: refusedBy(err)}, nil
	}
	return api.ClusterRecover200JSONResponse(s), nil
}

// PeerState implements peer_state.
func (c *control) PeerState(ctx context.Context, _ api.PeerStateRequestObject) (api.PeerStateResponseObject, error) {
	from, _ := cluster.PeerOf(ctx)
	s, err := c.cluster.State(from.ID)
	if err != nil {
		return api.PeerState503JSONResponse{UnavailableJSONResponse: api.UnavailableJSONResponse{Message: err.Error()}}, nil
	}
	return api.PeerState200JSONResponse(s), nil
}

// PeerAdmit implements peer_admit.
func (c *control) PeerAdmit(ctx context.Context, request api.PeerAdmitRequestObject) (api.PeerAdmitResponseObject, error) {
	b := request.Body
	m := raftstore.Member{ID: b.Id, Name: b.Name, Address: b.Address, Version: b.Version, Level: b.Level}
	err := c.cluster.Admit(ctx, m, b.Check != nil && *b.Check)
	if err == nil {
		return api.PeerAdmit204Response{}, nil
	}
	if _, later, _ := failure(err); later != nil {
		return api.PeerAdmit503JSONResponse{UnavailableJSONResponse: *later}, nil
	}
	return api.PeerAdmit409JSONResponse{RefusedJSONResponse: refusedBy(err)}, nil
}

// PeerDismiss implements peer_dismiss.
func (c *control) PeerDismiss(ctx context.Context, request api.PeerDismissRequestObject) (api.PeerDismissResponseObject, error) {
	err := c.cluster.Dismiss(ctx, request.Id)
	if err == nil {
		return api.PeerDismiss204Response{}, nil
	}
	if missing, _, _ := failure(err); missing != nil {
		return api.PeerDismiss404JSONResponse{NotFoundJSONResponse: *missing}, nil
	}
	return api.PeerDismiss503JSONResponse{UnavailableJSONResponse: api.UnavailableJSONResponse(refusedBy(err))}, nil
}

// maxCommand bounds a command that another node sends: more than any has.
const maxCommand = 128 << 20

// PeerCommand implements peer_command.
func (c *control) PeerCommand(ctx context.Context, request api.PeerCommandRequestObject) (api.PeerCommandResponseObject, error) {
	var command bytes.Buffer
	_, err := io.Copy(&command, io.LimitReader(request.Body, maxCommand))
	if err != nil {
		return nil, fmt.Errorf("read the command: %w", err)
	}
	a, err := c.store.Apply(ctx, command.Bytes())
	if err == nil {
		return api.PeerCommand200JSONResponse{Index: int64(a.Index), Outcome: int(a.Outcome)}, nil
	}
	if _, later, _ := failure(err); later != nil {
		return api.PeerCommand503JSONResponse{UnavailableJSONResponse: *later}, nil
	}
	return api.PeerCommand409JSONResponse{RefusedJSONResponse: refusedBy(err)}, nil
}

// PeerReadIndex implements peer_read_index.
func (c *control) PeerReadIndex(ctx context.Context, _ api.PeerReadIndexRequestObject) (api.PeerReadIndexResponseObject, error) {
	i, err := c.store.ReadIndex(ctx)
	if err != nil {
		return api.PeerReadIndex503JSONResponse{UnavailableJSONResponse: api.UnavailableJSONResponse{Message: err.Error()}}, nil
	}
	return api.PeerReadIndex200JSONResponse{Index: int64(i)}, nil
}
