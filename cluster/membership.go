package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

const (
	tendEvery  = 250 * time.Millisecond
	saidEvery  = 15 * time.Second // between two lines about the same wait
	orphanKept = 30 * time.Second // a row of the book without a member
	maxLag     = 1000             // entries that a node may be behind to get a vote
)

// tend looks after the membership of this node, and leading after that of all.
func (c *Cluster) tend(ctx context.Context) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	said, saidAt := "", time.Time{}
	leaderless := time.Now()
	for {
		note, err := c.round(ctx)
		if err != nil && ctx.Err() == nil {
			note = strings.TrimPrefix(note+": "+err.Error(), ": ")
		}
		c.mu.Lock()
		c.note = note
		c.mu.Unlock()
		if note != "" && (note != said || time.Since(saidAt) > saidEvery) {
			c.log.Info("cluster: " + note)
			said, saidAt = note, time.Now()
		}
		if c.store.Load().HasLeader() {
			leaderless = time.Time{}
			c.clear(alarmNoLeader)
		} else if leaderless.IsZero() {
			leaderless = time.Now()
		} else if time.Since(leaderless) > downAfter*c.o.Beat {
			c.raise(alarmNoLeader, "critical", "the cluster has no leader", "metadata cannot be written, and what is shown may be old")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round does what is to be done now. The note is what the node waits for.
func (c *Cluster) round(ctx context.Context) (note string, err error) {
	if !c.changing.TryLock() {
		return "", nil // somebody is at it
	}
	defer c.changing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s := c.store.Load()
	switch {
	case !s.IsMember() && c.marked(joiningFile):
		return c.goOnJoining(ctx)
	case !s.IsMember() && c.o.Discovery != Manual && !c.marked(leftFile):
		return c.discover(ctx)
	case !s.IsMember():
		return "this node is in no cluster", nil
	case !s.HasLeader():
		c.lookAgain(ctx)
		return "there is no leader", nil
	}
	if err := c.unmark(joiningFile); err != nil {
		return "", err
	}
	if err := c.keepRow(ctx); err != nil {
		return "the address book", err
	}
	if s.Leads() {
		if err := c.lead(ctx); err != nil {
			return "looking after the members", err
		}
	}
	return "", nil
}

// lookAgain finds nodes that have moved while nobody could tell.
func (c *Cluster) lookAgain(ctx context.Context) {
	if addresses, err := c.lookFor(ctx); err == nil && len(addresses) > 0 {
		c.look(ctx, addresses)
	}
}

// keepRow writes this node's row of the address book when it is not what it
// should be: the node is new, has moved, or is of another release.
func (c *Cluster) keepRow(ctx context.Context) error {
	s := c.store.Load()
	row, there := s.Book(c.self)
	want := c.own()
	want.Joined = row.Joined
	if there && row == want {
		return nil
	}
	err := s.PutMember(ctx, c.own(), true)
	if errors.Is(err, raftstore.ErrExists) {
		return fmt.Errorf("another node is called %s", c.o.Node)
	}
	return err
}

// lead gives votes while there are fewer than five, and forgets rows that are
// nobody's.
func (c *Cluster) lead(ctx context.Context) error {
	s := c.store.Load()
	members := s.Members()
	voters, is := 0, map[string]bool{}
	for _, m := range members {
		is[m.ID] = true
		if m.Voter {
			voters++
		}
	}
	for _, m := range members {
		if m.Voter || voters >= raftstore.MaxVoters || !c.caughtUp(m.ID) {
			continue
		}
		c.log.Info("node gets a vote", "peer_node", m.Name)
		return s.Promote(m.ID) // one at a time
	}
	for _, m := range s.BookRows() {
		if is[m.ID] {
			delete(c.orphans, m.ID)
			continue
		}
		if c.orphans[m.ID].IsZero() {
			c.orphans[m.ID] = time.Now()
		}
		if time.Since(c.orphans[m.ID]) > orphanKept {
			delete(c.orphans, m.ID)
			return s.DropRow(ctx, m.ID)
		}
	}
	return nil
}

// caughtUp reports whether a member follows closely.
func (c *Cluster) caughtUp(id string) bool {
	if !c.isAlive(id) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[id]
	return p != nil && p.state.Member && p.state.Applied+maxLag >= int64(c.store.Load().AppliedIndex())
}

// admission asks a member to take this node in.
func (c *Cluster) admission(ctx context.Context, member string, check bool) error {
	o := c.own()
	return c.call(member, nil, func(cl *api.APIClient) (*http.Response, error) {
		return cl.PeerAdmit(ctx, api.PeerAdmission{Id: o.ID, Name: o.Name, Address: o.Address, Version: o.Version, Level: o.Level, Check: &check})
	})
}

// Admit takes a node in, here or at the leader. Errors: ErrRefused,
// ErrUnavailable.
func (c *Cluster) Admit(ctx context.Context, m raftstore.Member, check bool) error {
	s := c.store.Load()
	if s == nil {
		return fmt.Errorf("%w: the node is starting", ErrUnavailable)
	}
	if !s.Leads() {
		leader := s.Leader()
		if leader == "" || leader == c.self {
			return fmt.Errorf("%w: there is no leader", ErrUnavailable)
		}
		return c.call(leader, nil, func(cl *api.APIClient) (*http.Response, error) {
			return cl.PeerAdmit(ctx, api.PeerAdmission{Id: m.ID, Name: m.Name, Address: m.Address, Version: m.Version, Level: m.Level, Check: &check})
		})
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	// The others will dial it there: an address that is good for itself alone would
	// make a member that is down from the first day.
	conn, peer, err := c.mux.dial(ctx, m.Address, API)
	if err != nil {
		return fmt.Errorf("%w: node %s cannot be reached at %s: %w", ErrRefused, m.Name, m.Address, err)
	}
	conn.Close() // it was only to see
	if peer.ID != m.ID {
		return fmt.Errorf("%w: at %s is node %s and not %s", ErrRefused, m.Address, peer.Node, m.Name)
	}
	replaces := ""
	for _, o := range s.BookRows() {
		if o.Name != m.Name || o.ID == m.ID {
			continue
		}
		if o.ID == c.self || c.isAlive(o.ID) {
			return fmt.Errorf("%w: a node called %s runs at %s", ErrRefused, m.Name, o.Address)
		}
		// The node has lost its disk: what was at its name and is gone will not come
		// back beside it.
		replaces = o.ID
	}
	if m.Level < registryLevel && s.View().Marks().Epoch > 0 {
		return fmt.Errorf("%w: node %s is of a release that does not know what this cluster has in its log already", ErrRefused, m.Name)
	}
	if check {
		return nil
	}
	if err := s.AddMember(ctx, m, replaces); err != nil {
		return admitErr(err)
	}
	c.log.Info("node is a member", "peer_node", m.Name, "address", m.Address)
	return nil
}

func admitErr(err error) error {
	if errors.Is(err, raftstore.ErrNoLeader) || errors.Is(err, raftstore.ErrNotLeader) || errors.Is(err, raftstore.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// Dismiss takes a node out, here or at the leader.
func (c *Cluster) Dismiss(ctx context.Context, id string) error {
	s := c.store.Load()
	if s == nil {
		return fmt.Errorf("%w: the node is starting", ErrUnavailable)
	}
	if s.Leads() {
		if id == c.self {
			return fmt.Errorf("%w: the node leads", ErrUnavailable)
		}
		c.changing.Lock()
		defer c.changing.Unlock()
		if err := s.RemoveMember(ctx, id); err != nil {
			return admitErr(err)
		}
		return nil
	}
	leader := s.Leader()
	if leader == "" {
		return fmt.Errorf("%w: there is no leader", ErrUnavailable)
	}
	return c.call(leader, nil, func(cl *api.APIClient) (*http.Response, error) { return cl.PeerDismiss(ctx, id) })
}

// patience is how long a change of membership is tried.
const patience = 30 * time.Second

// again calls f until it is done, refused, or ctx is over.
func again(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || !errors.Is(err, ErrUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Join makes this node a member of the cluster of another, named as a seed. What
// is stored here is given up; when somebody has stored it, force has to say so.
func (c *Cluster) Join(ctx context.Context, target string, force bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.changing.Lock()
	defer c.changing.Unlock()
	s := c.store.Load()
	if len(c.others()) > 0 && !c.isOutcast() {
		return fmt.Errorf("%w: the node is in a cluster with others; it has to leave that first", ErrRefused)
	}
	there, err := c.find(ctx, addressOf(target))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrRefused, target, err)
	case there.Id == c.self:
		return fmt.Errorf("%w: %s is this node", ErrRefused, target)
	case !there.Member:
		return fmt.Errorf("%w: node %s is in no cluster", ErrRefused, there.Name)
	}
	if err := again(ctx, func() error { return c.admission(ctx, there.Id, true) }); err != nil {
		return err
	}
	if s.HasOwn() && !force && !c.isOutcast() {
		return fmt.Errorf("%w: the node has users, applications, bans or configuration of its own, which it would give up", ErrRefused)
	}
	if err := errors.Join(c.mark(joiningFile, target), c.unmark(leftFile)); err != nil {
		return err
	}
	if err := s.Forget(false); err != nil {
		return err
	}
	err = again(ctx, func() error { return c.admission(ctx, there.Id, false) })
	if err == nil {
		err = c.awaitMembership(ctx)
	}
	if err != nil && !s.IsMember() {
		// It is alone as before, without what it had.
		return errors.Join(err, c.unmark(joiningFile), s.Forget(true))
	}
	c.mu.Lock()
	c.outcast = time.Time{}
	c.mu.Unlock()
	return errors.Join(err, c.unmark(joiningFile))
}

func (c *Cluster) awaitMembership(ctx context.Context) error {
	s := c.store.Load()
	for !s.IsMember() || !s.Sync(ctx) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the node was taken in, and no leader has told it yet", ErrUnavailable)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// goOnJoining goes on with what a restart has interrupted.
func (c *Cluster) goOnJoining(ctx context.Context) (string, error) {
	b, err := os.ReadFile(filepath.Join(c.o.Dir, joiningFile))
	if err != nil {
		return "", err
	}
	target := strings.TrimSpace(string(b))
	there, err := c.find(ctx, addressOf(target))
	if err == nil {
		err = c.admission(ctx, there.Id, false)
	}
	return "joining the cluster of " + target, err
}

// Leave takes this node out of its cluster; it is a cluster of one then, with
// empty metadata.
func (c *Cluster) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s := c.store.Load()
	if len(c.others()) == 0 {
		return fmt.Errorf("%w: the node is alone", ErrRefused)
	}
	if err := c.mark(leftFile, ""); err != nil {
		return err
	}
	err := again(ctx, func() error {
		if s.Leads() {
			if err := s.HandOver(); err != nil {
				return fmt.Errorf("%w: nobody takes over: %w", ErrUnavailable, err)
			}
			return fmt.Errorf("%w: the next leader is not known yet", ErrUnavailable)
		}
		err := c.Dismiss(ctx, c.self)
		if errors.Is(err, raftstore.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return errors.Join(err, c.unmark(leftFile))
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	return s.Forget(true)
}

// ForceLeave takes a member out that is dead. Errors: raftstore.ErrNotFound,
// ErrRefused (it runs), ErrUnavailable.
func (c *Cluster) ForceLeave(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, m := range c.store.Load().Members() {
		switch {
		case m.Name != name && m.ID != name:
		case m.ID == c.self:
			return fmt.Errorf("%w: a node leaves by itself", ErrRefused)
		case c.isAlive(m.ID):
			return fmt.Errorf("%w: node %s runs; it is to leave by itself", ErrRefused, name)
		default:
			return again(ctx, func() error { return c.Dismiss(ctx, m.ID) })
		}
	}
	return raftstore.ErrNotFound
}

// Recover makes a cluster of this node alone, with what it has. It is refused
// while there is a leader.
func (c *Cluster) Recover(ctx context.Context) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	s := c.store.Load()
	switch {
	case s.HasLeader():
		return fmt.Errorf("%w: the cluster has a leader", ErrRefused)
	case s.IsEmpty():
		return fmt.Errorf("%w: there is nothing to recover", ErrRefused)
	}
	if err := s.Recover(); err != nil {
		return err
	}
	c.log.Warn("the cluster was recovered: this node is its only member now")
	for _, m := range s.BookRows() {
		if m.ID != c.self {
			if err := s.DropRow(ctx, m.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) isOutcast() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.outcast.IsZero() && time.Since(c.outcast) > removedAfter
}

// Status is the cluster as this node sees it.
func (c *Cluster) Status() (api.ClusterStatus, error) {
	s := c.store.Load()
	if s == nil {
		return api.ClusterStatus{}, fmt.Errorf("%w: the node is starting", ErrUnavailable)
	}
	out := api.ClusterStatus{
		Cluster: c.o.Cluster, Node: c.o.Node, Discovery: api.ClusterStatusDiscovery(c.o.Discovery),
		State: api.Member, Members: []api.ClusterMember{},
	}
	switch {
	case c.isOutcast():
		out.State = api.Removed
	case !s.IsMember() && c.marked(joiningFile):
		out.State = api.Joining
	case !s.IsMember():
		out.State = api.Waiting
	}
	c.mu.Lock()
	if c.note != "" {
		note := c.note
		out.Note = &note
	}
	c.mu.Unlock()
	down := map[string]Peer{}
	for _, p := range c.Peers() {
		down[p.ID] = p
	}
	for _, m := range s.Members() {
		row := api.ClusterMember{Id: m.ID, Name: m.Name, Address: m.Address, Version: m.Version, Level: m.Level, Role: api.Follower, Running: true}
		if m.Joined > 0 {
			at := time.Unix(m.Joined, 0)
			row.Joined = &at
		}
		switch {
		case m.Leader:
			row.Role = api.Leader
			name := m.Name
			out.Leader = &name
		case m.Voter:
			row.Role = api.Voter
		}
		if p, other := down[m.ID]; other && p.Down {
			row.Running = false
			row.DownSince = &p.Since
		}
		out.Members = append(out.Members, row)
	}
	return out, nil
}
