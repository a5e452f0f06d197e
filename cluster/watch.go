package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// downAfter is how many beats a member may be silent.
const downAfter = 3

// peer is what this node knows about another member.
type peer struct {
	name   string
	heard  time.Time // when it last answered; at first when it was first looked for
	state  api.PeerState
	asking bool
	boot   string    // of its process, as it said last
	ready  time.Time // when it said so; at first as heard
}

// watch asks every other member how it is, beat by beat.
func (c *Cluster) watch(ctx context.Context) {
	var calls sync.WaitGroup
	defer calls.Wait()
	tick := time.NewTicker(c.o.Beat)
	defer tick.Stop()
	for {
		for _, m := range c.others() {
			if c.begin(m) {
				calls.Go(func() { c.askState(ctx, m) })
			}
		}
		c.judgePeers()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// others are the other members.
func (c *Cluster) others() []raftstore.Member {
	var out []raftstore.Member
	for _, m := range c.store.Load().Members() {
		if m.ID != c.self {
			out = append(out, m)
		}
	}
	return out
}

// begin reports whether a member is to be asked: not while it owes an answer.
func (c *Cluster) begin(m raftstore.Member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[m.ID]
	if p == nil {
		p = &peer{heard: time.Now(), ready: time.Now()}
		c.peers[m.ID] = p
	}
	p.name = m.Name
	if p.asking {
		return false
	}
	p.asking = true
	return true
}

func (c *Cluster) askState(ctx context.Context, m raftstore.Member) {
	ctx, cancel := context.WithTimeout(ctx, (downAfter-1)*c.o.Beat)
	defer cancel()
	asked := time.Now()
	s, err := c.stateOf(ctx, m.ID)
	if err == nil && s.HeardMs != nil && s.Marks != nil && s.Leader != nil && *s.Leader == m.ID {
		c.lent(asked, time.Duration(*s.HeardMs)*time.Millisecond, uint64(*s.Marks))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[m.ID]
	if p == nil {
		return // it was removed meanwhile
	}
	p.asking = false
	if err != nil {
		return
	}
	p.heard, p.state = time.Now(), s
	if s.Boot != nil {
		p.boot, p.ready = *s.Boot, p.heard
	}
	switch {
	case s.You || s.Leader == nil:
		c.outcast = time.Time{}
	case c.outcast.IsZero():
		c.outcast = time.Now()
	}
}

// judgePeers raises and clears the alarms of members that are down, and forgets
// those that are none any more.
func (c *Cluster) judgePeers() {
	now := time.Now()
	members := map[string]bool{}
	for _, m := range c.others() {
		members[m.ID] = true
	}
	type verdict struct {
		name  string
		down  bool
		since time.Time
	}
	var all []verdict
	c.mu.Lock()
	for id, p := range c.peers {
		all = append(all, verdict{p.name, members[id] && c.isDown(p, now), p.heard})
		if !members[id] && !p.asking {
			delete(c.peers, id)
		}
	}
	removed := !c.outcast.IsZero() && now.Sub(c.outcast) > removedAfter
	c.mu.Unlock()
	for _, v := range all {
		if v.name == "" {
			continue
		}
		if v.down {
			c.raise(alarmDown+v.name, "error", "node "+v.name+" is down", "since "+v.since.Format(time.RFC3339))
		} else {
			c.clear(alarmDown + v.name)
		}
	}
	if removed {
		c.raise(alarmOutcast, "critical", "this node was taken out of its cluster", "join it again with: lacewing ctl cluster join NAME")
	} else {
		c.clear(alarmOutcast)
	}
	c.calm(now)
}

// removedAfter is how long members have to say that this node is none.
const removedAfter = 5 * time.Second

// isDown is called with mu held.
func (c *Cluster) isDown(p *peer, now time.Time) bool {
	return now.Sub(p.heard) > downAfter*c.o.Beat
}

// Peer is another member as this node sees it.
type Peer struct {
	raftstore.Member
	Down  bool
	Since time.Time // when it was last heard of
}

// Peers returns the other members by name.
func (c *Cluster) Peers() []Peer {
	others := c.others()
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Peer, 0, len(others))
	for _, m := range others {
		if m.Name == "" {
			continue // its row is on the way
		}
		p := Peer{Member: m}
		if known := c.peers[m.ID]; known != nil {
			p.Down, p.Since = c.isDown(known, now), known.heard
		}
		out = append(out, p)
	}
	return out
}

// isAlive reports whether a member has answered lately.
func (c *Cluster) isAlive(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[id]
	return p != nil && p.state.Id != "" && !c.isDown(p, time.Now())
}

// State is what this node answers to the others.
func (c *Cluster) State(asker string) (api.PeerState, error) {
	s := c.store.Load()
	if s == nil {
		return api.PeerState{}, fmt.Errorf("%w: the node is starting", ErrUnavailable)
	}
	out := api.PeerState{
		Id: c.self, Name: c.o.Node, Address: c.address, Version: c.o.Version, Level: Level,
		Member: s.IsMember(), Empty: s.IsEmpty(), Applied: int64(s.AppliedIndex()),
	}
	if l := s.Leader(); l != "" {
		out.Leader = &l
	}
	for _, m := range s.Members() {
		out.You = out.You || m.ID == asker
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out.Roll = c.roll
	if c.ready.Load() {
		out.Boot = &c.boot
	}
	epoch := int64(s.View().Marks().Epoch)
	out.Marks = &epoch
	if p := c.peers[asker]; p != nil {
		ms := time.Since(p.ready).Milliseconds() + 1
		out.HeardMs = &ms
	}
	return out, nil
}
