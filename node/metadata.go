package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// banned is the engine's question whether a client may not connect.
func (n *Node) banned(clientID, username string, ip netip.Addr) bool {
	_, banned := n.store.View().Banned(clientID, username, ip, time.Now())
	return banned
}

// firstUsers makes the default admin user and the configured application where they
// do not exist yet.
func (n *Node) firstUsers(ctx context.Context) error {
	cfg := n.cfg.Load()
	if login := cfg.String("dashboard.default_user.login"); login != "" {
		if _, there := n.store.View().User(login); !there {
			err := n.store.CreateUser(ctx, login, cfg.Secret("dashboard.default_user.password").Reveal(), "administrator")
			if err != nil && !errors.Is(err, raftstore.ErrExists) {
				return fmt.Errorf("make the first admin user: %w", err)
			}
		}
	}
	id := cfg.String("management.bootstrap_app.id")
	if id == "" {
		return nil
	}
	if _, there := n.store.View().Application(id); there {
		return nil
	}
	app := raftstore.Application{ID: id, Name: id, Desc: "made at start (management.bootstrap_app)", Status: true}
	if _, err := n.store.CreateApplication(ctx, app, cfg.Secret("management.bootstrap_app.secret").Reveal()); err != nil && !errors.Is(err, raftstore.ErrExists) {
		return fmt.Errorf("make application %s: %w", id, err)
	}
	return nil
}

// sweepEvery is how often ended bans are deleted. They end at their time, swept or
// not.
const sweepEvery = time.Minute

// followMetadata puts into effect what changes in the store, whoever wrote it, and
// sweeps ended bans while this node leads.
func (n *Node) followMetadata(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		cfg, plugins := n.store.Watch(raftstore.Config), n.store.Watch(raftstore.PluginConfigs)
		states := n.store.Watch(raftstore.PluginStates)
		select {
		case <-ctx.Done():
			return
		case <-cfg:
			n.follow(ctx)
		case <-plugins:
			n.follow(ctx)
		case <-states:
			if err := n.plugins.Sync(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("stored plugin states not in effect", "err", err)
			}
		case now := <-tick.C:
			if n.store.Leads() {
				if err := n.store.SweepBans(ctx, now); err != nil && ctx.Err() == nil {
					n.log.Warn("ended bans not deleted", "err", err)
				}
			}
		}
	}
}

func (n *Node) follow(ctx context.Context) {
	if err := n.Reconfigure(ctx); err != nil && ctx.Err() == nil {
		n.log.Error("stored configuration not in effect", "err", err)
	}
}
