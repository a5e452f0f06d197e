// Package peer asks other nodes of the cluster for what management asks of a node,
// and answers them. [Node] is another node, over the node API; [Handlers] are the
// other side of it. Both translate between the rows of package admin and those of
// the document, and decide nothing.
package peer

import (
	"fmt"
	"net/netip"
	"time"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// kindWords are the kinds of failure as nodes tell them each other. A word stays
// what it is: the node that asks may be of another release.
var kindWords = [admin.NumKinds]string{
	admin.Internal:          "internal",
	admin.UnknownNode:       "unknown_node",
	admin.NodeDown:          "node_down",
	admin.NoLeader:          "no_leader",
	admin.BadPage:           "bad_page",
	admin.BadJSON:           "bad_json",
	admin.MissingParam:      "missing_param",
	admin.BadParam:          "bad_param",
	admin.BadTopic:          "bad_topic",
	admin.PublishRefused:    "publish_refused",
	admin.ClientOffline:     "client_offline",
	admin.SessionNotFound:   "session_not_found",
	admin.Quota:             "quota",
	admin.UnknownPlugin:     "unknown_plugin",
	admin.PluginAbsent:      "plugin_absent",
	admin.PluginStarted:     "plugin_started",
	admin.PluginStopped:     "plugin_stopped",
	admin.PluginRefused:     "plugin_refused",
	admin.ConfigRefused:     "config_refused",
	admin.EmptyCredential:   "empty_credential",
	admin.UserUnknown:       "user_unknown",
	admin.UserExists:        "user_exists",
	admin.UserProtected:     "user_protected",
	admin.LoginUnknown:      "login_unknown",
	admin.LoginWrong:        "login_wrong",
	admin.LoginLocal:        "login_local",
	admin.LoginLimited:      "login_limited",
	admin.OldPasswordWrong:  "old_password_wrong",
	admin.AppExists:         "app_exists",
	admin.AppUnknown:        "app_unknown",
	admin.CredentialExists:  "credential_exists",
	admin.CredentialUnknown: "credential_unknown",
}

func failureOut(e *admin.Error) api.PeerFailure {
	return api.PeerFailure{Kind: kindWords[e.Kind], Message: e.Message, Subject: textOut(e.Subject)}
}

func failureIn(f api.PeerFailure) error {
	e := &admin.Error{Message: f.Message, Subject: text(f.Subject)}
	for k, word := range kindWords {
		if word == f.Kind {
			e.Kind = admin.Kind(k)
		}
	}
	return e
}

// textOut is a member that is left out when it is empty.
func textOut(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func infoOut(i admin.NodeInfo) api.PeerNode {
	return api.PeerNode{
		Name: i.Name, Release: i.Release, UptimeSeconds: int64(i.Uptime / time.Second), Now: i.Now,
		MemoryTotal: i.MemoryTotal, MemoryUsed: i.MemoryUsed, Tasks: i.Tasks, MaxFiles: i.MaxFiles, Clients: i.Clients,
		Load1: i.Load[0], Load5: i.Load[1], Load15: i.Load[2],
	}
}

func infoIn(i api.PeerNode) admin.NodeInfo {
	return admin.NodeInfo{
		Name: i.Name, Running: true, Release: i.Release, Uptime: time.Duration(i.UptimeSeconds) * time.Second, Now: i.Now,
		MemoryTotal: i.MemoryTotal, MemoryUsed: i.MemoryUsed, Tasks: i.Tasks, MaxFiles: i.MaxFiles, Clients: i.Clients,
		Load: [3]float64{i.Load1, i.Load5, i.Load15},
	}
}

func clientOut(c admin.Client) api.PeerClient {
	return api.PeerClient{
		Id: c.ID, Username: c.Username, Peer: c.Peer.String(), CleanStart: c.CleanStart, Protocol: c.Protocol, Version: c.Version,
		KeepAlive: c.KeepAlive, ConnectedAt: c.ConnectedAt, Zone: c.Zone, Mountpoint: textOut(c.Mountpoint), Superuser: c.Superuser,
		Bridge: c.Bridge, PeerCert: textOut(c.PeerCert), WillTopic: textOut(c.WillTopic),
	}
}

func (r *Node) client(c api.PeerClient) admin.Client {
	peer, _ := netip.ParseAddrPort(c.Peer) // one that is none was none on the node either
	return admin.Client{
		Node: r.o.Name, ID: c.Id, Username: c.Username, Peer: peer, CleanStart: c.CleanStart, Protocol: c.Protocol, Version: c.Version,
		KeepAlive: c.KeepAlive, ConnectedAt: c.ConnectedAt, Zone: c.Zone, Mountpoint: text(c.Mountpoint), Superuser: c.Superuser,
		Bridge: c.Bridge, PeerCert: text(c.PeerCert), WillTopic: text(c.WillTopic),
	}
}

func sessionOut(s admin.Session) api.PeerSession {
	return api.PeerSession{
		ClientId: s.ClientID, Username: s.Username, CleanStart: s.CleanStart, Connected: s.Connected, Expiry: s.Expiry, CreatedAt: s.CreatedAt,
		Subscriptions: s.Subscriptions, MaxSubscriptions: s.MaxSubscriptions, Inflight: s.Inflight, MaxInflight: s.MaxInflight,
		Queue: s.Queue, MaxQueue: s.MaxQueue, Dropped: s.Dropped, AwaitingRel: s.AwaitingRel, MaxAwaitingRel: s.MaxAwaitingRel,
		AwaitingAck: s.AwaitingAck, AwaitingComp: s.AwaitingComp, Delivered: s.Delivered, Enqueued: s.Enqueued,
	}
}

func (r *Node) session(s api.PeerSession) admin.Session {
	return admin.Session{
		Node: r.o.Name, ClientID: s.ClientId, Username: s.Username, CleanStart: s.CleanStart, Connected: s.Connected, Expiry: s.Expiry,
		CreatedAt: s.CreatedAt, Subscriptions: s.Subscriptions, MaxSubscriptions: s.MaxSubscriptions, Inflight: s.Inflight,
		MaxInflight: s.MaxInflight, Queue: s.Queue, MaxQueue: s.MaxQueue, Dropped: s.Dropped, AwaitingRel: s.AwaitingRel,
		MaxAwaitingRel: s.MaxAwaitingRel, AwaitingAck: s.AwaitingAck, AwaitingComp: s.AwaitingComp, Delivered: s.Delivered, Enqueued: s.Enqueued,
	}
}

func subscriptionOut(s admin.Subscription) api.PeerSubscription {
	return api.PeerSubscription{ClientId: s.ClientID, Topic: s.Topic, Qos: int(s.QoS)}
}

func (r *Node) subscription(s api.PeerSubscription) admin.Subscription {
	return admin.Subscription{Node: r.o.Name, ClientID: s.ClientId, Topic: s.Topic, QoS: byte(s.Qos)}
}

func (r *Node) route(filter string) admin.Route { return admin.Route{Topic: filter, Node: r.o.Name} }

func pluginOut(p admin.Plugin) api.PeerPlugin {
	listing := func(l admin.Listing) *api.PeerListing {
		if l == (admin.Listing{}) {
			return nil
		}
		return &api.PeerListing{Version: l.Version, Description: l.Description}
	}
	return api.PeerPlugin{Name: p.Name, Active: p.Active, V2: listing(p.V2), V3: listing(p.V3)}
}

func pluginIn(p api.PeerPlugin) admin.Plugin {
	listing := func(l *api.PeerListing) admin.Listing {
		if l == nil {
			return admin.Listing{}
		}
		return admin.Listing{Version: l.Version, Description: l.Description}
	}
	return admin.Plugin{Name: p.Name, Active: p.Active, V2: listing(p.V2), V3: listing(p.V3)}
}

func pluginSettingOut(s admin.PluginSetting) api.PeerPluginSetting {
	return api.PeerPluginSetting{Key: s.Key, Value: s.Value, Desc: s.Desc, Required: s.Required}
}

func pluginSettingIn(s api.PeerPluginSetting) admin.PluginSetting {
	return admin.PluginSetting{Key: s.Key, Value: s.Value, Desc: s.Desc, Required: s.Required}
}

func listenerOut(l admin.Listener) api.PeerListener {
	out := api.PeerListener{
		Service: l.Service, Protocol: l.Protocol, Address: l.Address, Acceptors: l.Acceptors,
		MaxConnections: l.MaxConnections, Connections: l.Connections,
	}
	if len(l.Shutdowns) > 0 {
		out.Shutdowns = &l.Shutdowns
	}
	return out
}

func listenerIn(l api.PeerListener) admin.Listener {
	out := admin.Listener{
		Service: l.Service, Protocol: l.Protocol, Address: l.Address, Acceptors: l.Acceptors,
		MaxConnections: l.MaxConnections, Connections: l.Connections,
	}
	if l.Shutdowns != nil {
		out.Shutdowns = *l.Shutdowns
	}
	return out
}

func settingOut(s admin.Setting) api.PeerSetting {
	return api.PeerSetting{Key: s.Key, Value: s.Value, Datatype: s.Datatype, App: s.App}
}

func settingIn(s api.PeerSetting) admin.Setting {
	return admin.Setting{Key: s.Key, Value: s.Value, Datatype: s.Datatype, App: s.App}
}

func storageOut(s admin.Storage) api.PeerStorage {
	d := func(d admin.Distribution) api.PeerDistribution {
		return api.PeerDistribution{Counts: append([]int64{}, d.Counts...), Sum: d.Sum}
	}
	return api.PeerStorage{
		Durability: s.Durability, Promise: s.Promise, Fault: textOut(s.Fault), Bytes: s.Bytes, MaxBytes: s.MaxBytes, LiveBytes: s.LiveBytes,
		Segments: s.Segments, Staged: s.Staged, Committed: s.Committed, Commits: s.Commits, Changes: s.Changes, CommittedBytes: s.CommittedBytes,
		Syncs: s.Syncs, SyncNanoseconds: int64(s.SyncTime), RewrittenBytes: s.RewrittenBytes, Faults: s.Faults,
		GroupSizes: d(s.GroupSizes), CommitTimes: d(s.CommitTimes),
	}
}

func storageIn(s api.PeerStorage) admin.Storage {
	d := func(d api.PeerDistribution) admin.Distribution {
		return admin.Distribution{Counts: d.Counts, Sum: d.Sum}
	}
	return admin.Storage{
		Durability: s.Durability, Promise: s.Promise, Fault: text(s.Fault), Bytes: s.Bytes, MaxBytes: s.MaxBytes, LiveBytes: s.LiveBytes,
		Segments: s.Segments, Staged: s.Staged, Committed: s.Committed, Commits: s.Commits, Changes: s.Changes, CommittedBytes: s.CommittedBytes,
		Syncs: s.Syncs, SyncTime: time.Duration(s.SyncNanoseconds), RewrittenBytes: s.RewrittenBytes, Faults: s.Faults,
		GroupSizes: d(s.GroupSizes), CommitTimes: d(s.CommitTimes),
	}
}

func alarmOut(a admin.Alarm) api.PeerAlarm {
	return api.PeerAlarm{Id: a.ID, Severity: a.Severity, Title: a.Title, Summary: a.Summary, At: a.At}
}

func alarmIn(a api.PeerAlarm) admin.Alarm {
	return admin.Alarm{ID: a.Id, Severity: a.Severity, Title: a.Title, Summary: a.Summary, At: a.At}
}

// answerError is an answer that is none of those of the document.
func answerError(name string, err error) error { return fmt.Errorf("answer of node %s: %w", name, err) }

func convert[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}
