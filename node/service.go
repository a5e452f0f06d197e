package node

import (
	"errors"
	"net/http"

	"github.com/lacewing-mqtt/lacewing/impl"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// startAdmin makes the management of the node and what serves it over HTTP. The
// listeners themselves are opened by the plugins management and dashboard.
func (n *Node) startAdmin() error {
	n.web = &web{log: n.log}
	n.local = admin.NewLocal(admin.LocalOptions{
		Name: n.name, ID: n.store.NodeID(), Release: n.release, Engine: n.engine, Plugins: n.plugins,
		Config: n.Config, Reconfigure: n.Reconfigure,
		HTTPListeners: n.httpListeners, Started: n.started,
	})
	n.service = admin.New(admin.Options{
		Local: n.local, Peers: n.peers, Store: n.store, Config: n.Config, Logger: n.log,
	})
	var err error
	n.http, err = impl.New(impl.Options{
		Admin: n.service, Config: n.Config, Logger: n.log, Ready: n.ready,
		OneListener: func() bool { return len(n.web.listeners("dashboard")) == 0 },
		Private:     map[string]http.Handler{ControlPath + "/": n.control},
		Sync:        n.store.Sync, Figures: n.homesFigures,
	})
	if err != nil {
		return err
	}
	return n.openControl()
}

func (n *Node) managementHandler() http.Handler { return n.http.Handler(impl.API) }
func (n *Node) dashboardHandler() http.Handler  { return n.http.Handler(impl.Dashboard) }
func (n *Node) socketHandler() http.Handler     { return n.http.Handler(impl.Control) }

// ready says why the node does not take work: it starts, it stops, or nobody leads.
func (n *Node) ready() error {
	select {
	case <-n.closing:
		return errors.New("the node is stopping")
	default:
	}
	select {
	case <-n.serving:
	default:
		return errors.New("the node is starting")
	}
	if !n.store.HasLeader() {
		return errors.New("the cluster has no leader: metadata cannot be written")
	}
	return nil
}

// httpListeners are the rows of the HTTP listeners in the lists of both APIs.
func (n *Node) httpListeners() []admin.Listener {
	var out []admin.Listener
	for _, l := range n.web.listeners("") {
		service := admin.ServiceAPI
		if l.plugin == "dashboard" {
			service = admin.ServiceDashboard
		}
		row := admin.Listener{
			Service: service, Protocol: l.scheme, Address: l.address, Acceptors: l.acceptors,
			MaxConnections: l.max, Connections: l.gate.Open(),
		}
		if n := l.gate.Evicted(); n > 0 {
			row.Shutdowns = map[string]int64{"overload": n}
		}
		out = append(out, row)
	}
	return out
}
