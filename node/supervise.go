package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"time"
)

// Supervise tells the operator and the service supervisor that the node runs, reads
// access rules and certificates again whenever reload has something, and ends as
// Run does.
func (n *Node) Supervise(ctx context.Context, reload <-chan struct{}) error {
	supervisor := newNotifier()
	defer supervisor.close()
	n.announce()
	supervisor.ready("serving as " + n.name)

	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		var alive <-chan time.Time
		if every := supervisor.watchdog(); every > 0 {
			tick := time.NewTicker(every)
			defer tick.Stop()
			alive = tick.C
		}
		for {
			select {
			case <-done:
				return
			case <-alive:
				supervisor.alive()
			case <-reload:
				if read, err := n.Reload(ctx); err != nil {
					n.log.Error("reload", "read", strings.Join(read, ", "), "err", err)
				} else {
					n.logging.say.Info("read again: " + strings.Join(read, ", "))
				}
			}
		}
	}()
	fault := n.wait(ctx)
	supervisor.stopping()
	n.logging.say.Info("stopping")
	err := errors.Join(fault, n.shutdown(ctx))
	close(done)
	<-finished
	if errors.Is(err, context.DeadlineExceeded) {
		return &StartError{What: fmt.Sprintf("not stopped within node.shutdown_timeout (%s)", n.ShutdownTimeout()), Err: err, Code: ExitForced}
	}
	if err == nil {
		n.logging.say.Info("stopped")
	}
	return err
}

// announce writes what an operator wants to know of a node that has just started.
func (n *Node) announce() {
	say, cfg := n.logging.say, n.cfg.Load()
	say.Info("Lacewing "+n.release+" serves", "node", n.name, "data", n.data.path)
	for _, l := range n.Listening() {
		say.Info("listening", "listener", l.Name, "address", l.Address)
	}
	say.Info("limits", "descriptors", n.limits.Descriptors, "for connections", n.usable(),
		"cores", fmt.Sprintf("%.3g", n.limits.Cores), "GOMAXPROCS", runtime.GOMAXPROCS(0), "memory", megabytes(n.limits.Memory))
	if a := n.httpAddr("dashboard"); a != "" {
		say.Info("pages and documents of the API: " + a + "/api-docs/")
	}
	if _, apps := n.store.View().Applications(0, 0); apps == 0 {
		command := "lacewing ctl mgmt insert myapp MyApp"
		if n.data.path != "data" {
			command = "lacewing ctl --data-dir " + n.data.path + " mgmt insert myapp MyApp"
		}
		say.Info("no application may use the API listener yet; make the first one with: " + command)
	}
	if login := cfg.String("dashboard.default_user.login"); n.defaultPassword(login) {
		say.Info("admin user " + login + " has its first password, which is good from this machine only until it is changed")
	}
	if open := n.openToAll(); cfg.Bool("mqtt.allow_anonymous") && len(open) > 0 {
		say.Warn("anyone who reaches " + strings.Join(open, ", ") + " may connect: mqtt.allow_anonymous is true")
	}
}

// openToAll are the MQTT listeners on all addresses.
func (n *Node) openToAll() []string {
	var open []string
	for _, l := range n.mqttListeners() {
		host, _, err := net.SplitHostPort(l.addr().String())
		if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
			open = append(open, l.addr().String())
		}
	}
	return open
}

// defaultPassword reports whether the default admin user still has the built-in
// password.
func (n *Node) defaultPassword(login string) bool {
	u, ok := n.store.View().User(login)
	return ok && u.Check("public")
}

// httpAddr is the URL of an HTTP listener of a plugin, "" without one.
func (n *Node) httpAddr(plugin string) string {
	for _, scheme := range []string{"http", "https"} {
		if a := n.Addr(scheme + " " + plugin); a != "" {
			return scheme + "://" + a
		}
	}
	return ""
}

func megabytes(n uint64) string {
	if n == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%d MB", n>>20)
}
