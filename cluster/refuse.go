package cluster

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// The alarms of this package.
const (
	alarmRefused  = "cluster_refused"   // somebody was refused, or refuses this node
	alarmNoLeader = "cluster_no_leader" // metadata cannot be written
	alarmDown     = "node_down."        // and the name of a member
	alarmOutcast  = "cluster_removed"   // this node was taken out of its cluster
)

const (
	refusedEvery = 10 * time.Second // between two lines about the same reason
	refusedKept  = 5 * time.Minute  // without another one until the alarm is cleared
)

// refusals bounds what is said about refused connections: strangers make them.
type refusals struct {
	mu   sync.Mutex
	last time.Time            // guarded by mu
	said map[string]time.Time // guarded by mu: by reason
	more map[string]int       // guarded by mu: by reason, since it was said
}

// report says that a connection from or to somebody was refused. What does not
// speak the protocol is a port scan or a health check, and no alarm.
func (c *Cluster) report(remote string, err error) {
	r, refused := errors.AsType[*RefusedError](err)
	if refused && r.Verdict == noService {
		return // it starts, or the other one does
	}
	reason := "connection to the cluster port failed"
	if refused {
		reason = "node refused: " + r.Verdict.String()
	}
	now := time.Now()
	c.refused.mu.Lock()
	if c.refused.said == nil {
		c.refused.said, c.refused.more = map[string]time.Time{}, map[string]int{}
	}
	if refused {
		c.refused.last = now
	}
	say := now.Sub(c.refused.said[reason]) >= refusedEvery
	more := c.refused.more[reason]
	if say {
		c.refused.said[reason], c.refused.more[reason] = now, 0
	} else {
		c.refused.more[reason]++
	}
	c.refused.mu.Unlock()
	if say && refused {
		c.log.Warn(reason, "peer", remote, "peer_node", r.Peer.Node, "peer_cluster", r.Peer.Cluster, "more", more)
	} else if say {
		c.log.Debug(reason, "peer", remote, "err", err, "more", more)
	}
	if refused {
		c.raise(alarmRefused, "warning", "a node is refused on the cluster port", fmt.Sprintf("%s: %s", remote, r.Verdict))
	}
}

// calm clears the alarm when nobody was refused for long.
func (c *Cluster) calm(now time.Time) {
	c.refused.mu.Lock()
	quiet := !c.refused.last.IsZero() && now.Sub(c.refused.last) > refusedKept
	if quiet {
		c.refused.last = time.Time{}
	}
	c.refused.mu.Unlock()
	if quiet {
		c.clear(alarmRefused)
	}
}

func (c *Cluster) raise(id, severity, title, summary string) {
	if a := c.alarms.Load(); a != nil {
		a.Raise(engine.Alarm{ID: id, Severity: severity, Title: title, Summary: summary})
	}
}

func (c *Cluster) clear(id string) {
	if a := c.alarms.Load(); a != nil {
		a.Clear(id)
	}
}
