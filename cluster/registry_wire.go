package cluster

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	api "github.com/lacewing-mqtt/lacewing/gen/node"
)

// homeCalls are the calls of the node API that registries make to each other.
type homeCalls struct{ c *Cluster }

// HomeCalls reaches the registries of the other members.
func (c *Cluster) HomeCalls() HomeCalls { return homeCalls{c} }

// Claim implements HomeCalls.
func (h homeCalls) Claim(ctx context.Context, node string, epoch uint64, claims []HomeClaim) ([]HomeGrant, error) {
	body := api.PeerHomeClaims{Epoch: int64(epoch), Claims: make([]api.PeerHomeClaim, len(claims))}
	for i, c := range claims {
		body.Claims[i] = api.PeerHomeClaim{ClientId: c.ClientID, Token: c.Token}
	}
	var answer api.PeerHomeGrants
	err := h.c.call(node, &answer, func(cl *api.APIClient) (*http.Response, error) { return cl.PeerHomesClaim(ctx, body) })
	if err != nil {
		return nil, err
	}
	out := make([]HomeGrant, len(answer.Grants))
	for i, g := range answer.Grants {
		out[i] = grantIn(g)
	}
	return out, nil
}

func grantIn(g api.PeerHomeGrant) HomeGrant {
	return HomeGrant{State: GrantState(g.State), Fence: fenceOr(g.Fence), Holder: g.Holder, Held: fenceOr(g.Held), Lost: g.Lost}
}

func grantOut(g HomeGrant) api.PeerHomeGrant {
	row := api.PeerHomeGrant{State: api.PeerHomeGrantState(g.State), Holder: g.Holder, Lost: g.Lost}
	if g.State == Granted {
		f := fenceOut(g.Fence)
		row.Fence = &f
	}
	if g.Holder != "" {
		f := fenceOut(g.Held)
		row.Held = &f
	}
	return row
}

// AnswerClaims is ServeClaims in the words of the node API.
func (r *Registry) AnswerClaims(from string, b api.PeerHomeClaims) (api.PeerHomeGrants, error) {
	claims := make([]HomeClaim, len(b.Claims))
	for i, c := range b.Claims {
		claims[i] = HomeClaim{c.ClientId, c.Token}
	}
	grants, err := r.ServeClaims(from, uint64(b.Epoch), claims)
	out := api.PeerHomeGrants{Grants: make([]api.PeerHomeGrant, len(grants))}
	for i, g := range grants {
		out.Grants[i] = grantOut(g)
	}
	return out, err
}

// Report implements HomeCalls.
func (h homeCalls) Report(ctx context.Context, node string, epoch uint64, again bool, reports []HomeReport) error {
	body := api.PeerHomeReports{Epoch: int64(epoch), Again: again, Reports: make([]api.PeerHomeReport, len(reports))}
	for i, p := range reports {
		body.Reports[i] = reportOut(p)
	}
	return h.c.call(node, nil, func(cl *api.APIClient) (*http.Response, error) { return cl.PeerHomesReport(ctx, body) })
}

func reportOut(p HomeReport) api.PeerHomeReport {
	return api.PeerHomeReport{
		Kind: api.PeerHomeReportKind(p.Kind), ClientId: p.ClientID, Fence: fenceOut(p.Fence), Will: willOut(p.Presence.Will), WillAt: p.Presence.WillAt,
		Home: p.Home, Since: int64(p.Since), Boot: p.Boot,
	}
}

func reportIn(p api.PeerHomeReport) HomeReport {
	return HomeReport{
		Kind: ReportKind(p.Kind), ClientID: p.ClientId, Fence: fenceIn(p.Fence), Presence: engine.Presence{Will: willIn(p.Will), WillAt: p.WillAt},
		Home: p.Home, Since: uint64(p.Since), Boot: p.Boot,
	}
}

// AnswerReports is ServeReports in the words of the node API.
func (r *Registry) AnswerReports(from string, b api.PeerHomeReports) error {
	reports := make([]HomeReport, len(b.Reports))
	for i, p := range b.Reports {
		reports[i] = reportIn(p)
	}
	return r.ServeReports(from, uint64(b.Epoch), b.Again, reports)
}

// Pull implements HomeCalls.
func (h homeCalls) Pull(ctx context.Context, node string, epoch uint64, shards ShardSet, from string) (HomePage, error) {
	body := api.PeerHomePull{Epoch: int64(epoch), Shards: shards[:], From: from}
	var answer api.PeerHomePage
	err := h.c.call(node, &answer, func(cl *api.APIClient) (*http.Response, error) { return cl.PeerHomesPull(ctx, body) })
	if err != nil {
		return HomePage{}, err
	}
	p := HomePage{Rows: make([]HomeRow, len(answer.Rows)), Next: answer.Next}
	for i, row := range answer.Rows {
		p.Rows[i] = rowIn(row)
	}
	return p, nil
}

func rowIn(row api.PeerHomeRow) HomeRow {
	return HomeRow{row.ClientId, fenceIn(row.Fence), engine.Presence{Will: willIn(row.Will), WillAt: row.WillAt}, row.Held}
}

func rowOut(row HomeRow) api.PeerHomeRow {
	return api.PeerHomeRow{
		ClientId: row.ClientID, Fence: fenceOut(row.Fence), Will: willOut(row.Presence.Will), WillAt: row.Presence.WillAt, Held: row.Held,
	}
}

// AnswerPull is ServePull in the words of the node API.
func (r *Registry) AnswerPull(from string, b api.PeerHomePull) (api.PeerHomePage, error) {
	var shards ShardSet
	if len(b.Shards) != len(shards) {
		return api.PeerHomePage{}, fmt.Errorf("%w: shards of %d bytes", ErrUnavailable, len(b.Shards))
	}
	copy(shards[:], b.Shards)
	p, err := r.ServePull(from, uint64(b.Epoch), shards, b.From)
	out := api.PeerHomePage{Rows: make([]api.PeerHomeRow, len(p.Rows)), Next: p.Next}
	for i, row := range p.Rows {
		out.Rows[i] = rowOut(row)
	}
	return out, err
}

// BeginMove implements HomeCalls.
func (h homeCalls) BeginMove(ctx context.Context, node string, m engine.MoveRequest) (engine.MoveState, error) {
	body := api.PeerMoveRequest{ClientId: m.ClientID, Fence: fenceOut(m.Fence), End: m.End}
	var a api.PeerMoveState
	err := h.c.call(node, &a, func(cl *api.APIClient) (*http.Response, error) { return cl.PeerMoveBegin(ctx, body) })
	return moveStateIn(a), err
}

func moveStateIn(a api.PeerMoveState) engine.MoveState {
	s := engine.MoveState{
		Found: a.Found, Moved: a.Moved, CleanStart: a.CleanStart, CreatedAt: a.CreatedAt, Expiry: uint32(a.Expiry), Seq: uint64(a.Seq),
	}
	s.Username, s.HasUsername = textIn(a.Username)
	for _, x := range a.Subscriptions {
		s.Subscriptions = append(s.Subscriptions, engine.Subscription{
			Filter: x.Filter, Share: x.Share, QoS: packet.QoS(x.Qos), NoLocal: x.NoLocal, RetainAsPublished: x.RetainAsPublished,
			RetainHandling: byte(x.RetainHandling), ID: uint32(x.Id),
		})
	}
	for _, x := range a.Releases {
		s.Releases = append(s.Releases, engine.StoredRelease{ID: uint16(x.Id), At: x.At})
	}
	return s
}

// MoveRequestIn is the request of a node of the node API.
func MoveRequestIn(from string, b api.PeerMoveRequest) engine.MoveRequest {
	return engine.MoveRequest{ClientID: b.ClientId, Fence: fenceIn(b.Fence), To: from, End: b.End}
}

// MoveStateOut is the answer to it.
func MoveStateOut(s engine.MoveState) api.PeerMoveState {
	a := api.PeerMoveState{
		Found: s.Found, Moved: s.Moved, Username: textOut(s.Username, s.HasUsername), CleanStart: s.CleanStart, CreatedAt: s.CreatedAt,
		Expiry: int64(s.Expiry), Seq: int64(s.Seq),
	}
	for _, x := range s.Subscriptions {
		a.Subscriptions = append(a.Subscriptions, api.PeerMoveSubscription{
			Filter: x.Filter, Share: x.Share, Qos: int(x.QoS), NoLocal: x.NoLocal, RetainAsPublished: x.RetainAsPublished,
			RetainHandling: int(x.RetainHandling), Id: int64(x.ID),
		})
	}
	for _, x := range s.Releases {
		a.Releases = append(a.Releases, api.PeerMoveRelease{Id: int(x.ID), At: x.At})
	}
	return a
}

// CommitMove implements HomeCalls.
func (h homeCalls) CommitMove(ctx context.Context, node string, m engine.MoveCommit) (engine.MoveResult, error) {
	body := api.PeerMoveCommit{ClientId: m.ClientID, Fence: fenceOut(m.Fence), Token: m.Token, Nodes: append([]string{}, m.Nodes...)}
	var a api.PeerMoveResult
	err := h.c.call(node, &a, func(cl *api.APIClient) (*http.Response, error) { return cl.PeerMoveCommit(ctx, body) })
	return moveResultIn(a), err
}

func moveResultIn(a api.PeerMoveResult) engine.MoveResult {
	return engine.MoveResult{Done: a.Done, Gone: a.Gone, Except: a.Except}
}

// MoveCommitIn is the request of a node of the node API.
func MoveCommitIn(from string, b api.PeerMoveCommit) engine.MoveCommit {
	return engine.MoveCommit{ClientID: b.ClientId, Fence: fenceIn(b.Fence), To: from, Token: b.Token, Nodes: b.Nodes}
}

// MoveResultOut is the answer to it.
func MoveResultOut(m engine.MoveResult) api.PeerMoveResult {
	return api.PeerMoveResult{Done: m.Done, Gone: m.Gone, Except: m.Except}
}

func fenceOut(f engine.Fence) api.PeerFence {
	return api.PeerFence{Epoch: int64(f.Epoch), Count: int64(f.Count)}
}

func fenceIn(f api.PeerFence) engine.Fence {
	return engine.Fence{Epoch: uint64(f.Epoch), Count: uint64(f.Count)}
}

func fenceOr(f *api.PeerFence) engine.Fence {
	if f == nil {
		return engine.Fence{}
	}
	return fenceIn(*f)
}

func textOut(s string, has bool) *string {
	if !has {
		return nil
	}
	return &s
}

func textIn(p *string) (s string, has bool) {
	if p == nil {
		return "", false
	}
	return *p, true
}

func willOut(w *engine.StoredWill) *api.PeerWill {
	if w == nil {
		return nil
	}
	m := &w.Message
	out := &api.PeerWill{
		Topic: m.Topic, Payload: append([]byte{}, m.Payload...), Qos: int(m.QoS), Retain: m.Retain, Delay: int64(w.Delay), Properties: m.Properties,
		From: m.From, Username: textOut(m.Username, m.HasUsername),
	}
	if m.HasExpiry {
		e := int64(m.Expiry)
		out.Expiry = &e
	}
	if a := w.Author; a != nil {
		out.Author = &api.PeerAuthor{
			ClientId: a.ClientID, Username: textOut(a.Username, a.HasUsername), Peer: a.Peer.String(), Local: a.Local.String(), CleanStart: a.CleanStart,
			ProtocolName: a.ProtoName, Version: int(a.ProtoVer), KeepAlive: int(a.KeepAlive), ConnectedAt: a.ConnectedAt, Zone: a.Zone, Listener: a.Listener,
			Protocol: a.Protocol, Mountpoint: a.Mountpoint, Superuser: a.Superuser, Bridge: a.Bridge,
		}
	}
	return out
}

func willIn(w *api.PeerWill) *engine.StoredWill {
	if w == nil {
		return nil
	}
	out := &engine.StoredWill{Delay: uint32(w.Delay), Message: engine.Message{
		Topic: w.Topic, Payload: w.Payload, QoS: packet.QoS(w.Qos), Retain: w.Retain, From: w.From, Properties: w.Properties,
	}}
	out.Message.Username, out.Message.HasUsername = textIn(w.Username)
	if w.Expiry != nil {
		out.Message.HasExpiry, out.Message.Expiry = true, uint32(*w.Expiry)
	}
	if a := w.Author; a != nil {
		info := &engine.ClientInfo{
			ClientID: a.ClientId, Peer: addrIn(a.Peer), Local: addrIn(a.Local), CleanStart: a.CleanStart, ProtoName: a.ProtocolName,
			ProtoVer: packet.Version(a.Version), KeepAlive: uint16(a.KeepAlive), ConnectedAt: a.ConnectedAt, Zone: a.Zone,
			Listener: a.Listener, Protocol: a.Protocol, Mountpoint: a.Mountpoint, Superuser: a.Superuser, Bridge: a.Bridge, WillTopic: w.Topic,
		}
		info.Username, info.HasUsername = textIn(a.Username)
		out.Author = info
	}
	return out
}

// addrIn reads an address; one that is none was none on the node either.
func addrIn(s string) netip.AddrPort {
	a, _ := netip.ParseAddrPort(s)
	return a
}
