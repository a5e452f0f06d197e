package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// registryLevel is the feature level from which on all members know marks.
const registryLevel = 2

// lease is the word of the leader that this node is not marked down before a time.
type lease struct {
	until time.Time
	epoch uint64 // of the marks that the leader had: an older one is worth nothing
}

// lent notes what the leader has said about this node in an answer to a question of that time.
func (c *Cluster) lent(asked time.Time, heard time.Duration, epoch uint64) {
	until := asked.Add(downAfter*c.o.Beat - heard - c.o.Beat/4) // clocks do not run alike
	c.mu.Lock()
	defer c.mu.Unlock()
	if until.After(c.lease.until) {
		c.lease.until = until
	}
	c.lease.epoch = max(c.lease.epoch, epoch)
}

// Leased reports whether this node is up in the marks of an epoch, and no later ones can hold anywhere.
func (c *Cluster) Leased(epoch uint64) bool {
	s := c.store.Load()
	if s == nil {
		return false
	}
	if s.Leads() {
		return s.View().Marks().Epoch == epoch
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return epoch >= c.lease.epoch && time.Now().Before(c.lease.until)
}

// formTime is what the nodes of a cluster that start together are given to find each other: their clients wait for it.
const formTime = 10 * time.Second

// Alone reports whether the node has been without a majority for longer than a change of the leader takes, or the start of a cluster.
func (c *Cluster) Alone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	patience := downAfter * c.o.Beat
	if c.lease.until.Equal(c.started) { // no leader has given its word to this process
		patience = max(patience, formTime)
	}
	return time.Since(c.lease.until) > patience
}

// MarksHold reports whether there are other members, and marks that they go by.
func (c *Cluster) MarksHold() bool {
	s := c.store.Load()
	return s != nil && s.View().Marks().Epoch > 0 && len(s.Members()) > 1
}

// Ready says whether the node takes part in what goes on between members that are up: the registry of clients.
func (c *Cluster) Ready(is bool) { c.ready.Store(is) }

// Boot names this process.
func (c *Cluster) Boot() string { return c.boot }

// keepMarks has the leader write who is up.
func (c *Cluster) keepMarks(ctx context.Context) {
	tick := time.NewTicker(max(c.o.Beat/4, 50*time.Millisecond))
	defer tick.Stop()
	term, since := uint64(0), time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := c.store.Load()
		if !s.Leads() {
			term = 0
			continue
		}
		now := time.Now()
		c.mu.Lock()
		c.lease.until = now
		c.mu.Unlock()
		if t := s.Term(); t != term {
			term, since = t, now
		}
		if err := c.writeMarks(ctx, s, now.Sub(since) > downAfter*c.o.Beat); err != nil && ctx.Err() == nil {
			c.log.Debug("marks are not written", "err", err)
		}
	}
}

// writeMarks writes the marks if they are not what this node sees. down allows to mark nodes down: what a leader before has promised them has
// to be over.
func (c *Cluster) writeMarks(ctx context.Context, s *raftstore.Store, down bool) error {
	members := s.Members()
	was := s.View().Marks()
	if was.Epoch == 0 && (len(members) < 2 || s.FeatureLevel() < registryLevel) {
		return nil // from the first ones on no node is let in that does not know them
	}
	up, names := map[string]string{}, map[string]string{}
	now := time.Now()
	c.mu.Lock()
	for _, m := range members {
		names[m.ID] = m.Name
		before, marked := was.Up[m.ID]
		switch p := c.peers[m.ID]; {
		case m.ID == c.self && c.ready.Load():
			up[m.ID] = c.boot
		case p != nil && p.boot != "" && now.Sub(p.ready) <= downAfter*c.o.Beat:
			up[m.ID] = p.boot
		case marked && !down:
			up[m.ID] = before.Boot
		}
	}
	c.mu.Unlock()
	same := len(up) == len(was.Up)
	for id, boot := range up {
		same = same && was.Up[id].Boot == boot
	}
	if same {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := s.PutMarks(ctx, was.Epoch, up)
	if errors.Is(err, raftstore.ErrExists) {
		return nil // this node has not seen the last ones yet
	}
	if err != nil {
		return fmt.Errorf("epoch %d: %w", was.Epoch+1, err)
	}
	for id := range was.Up {
		if up[id] == "" {
			c.log.Warn("node is marked down", "peer_node", names[id], "id", id, "epoch", was.Epoch+1)
		}
	}
	for id, boot := range up {
		if was.Up[id].Boot != boot {
			c.log.Info("node is marked up", "peer_node", names[id], "id", id, "epoch", was.Epoch+1)
		}
	}
	return nil
}
