package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Files in the data directory that say what this node was told.
const (
	leftFile    = "left"    // it has left: discovery does not bring it back
	joiningFile = "joining" // it has given its metadata up to join the node that the file names
)

func (c *Cluster) marked(name string) bool {
	_, err := os.Stat(filepath.Join(c.o.Dir, name))
	return err == nil
}

func (c *Cluster) mark(name, text string) error {
	if err := os.WriteFile(filepath.Join(c.o.Dir, name), []byte(text+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the data directory: %w", err)
	}
	return nil
}

func (c *Cluster) unmark(name string) error {
	if err := os.Remove(filepath.Join(c.o.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write the data directory: %w", err)
	}
	return nil
}

// Waits reports whether a node with nothing on disk is to wait for others, and
// not to be a cluster of one: see raftstore.Options.Wait.
func Waits(discovery, dir string) bool {
	marked := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	return marked(joiningFile) || discovery != Manual && !marked(leftFile)
}

// hostOf is the host of a node's name.
func hostOf(node string) string {
	_, host, _ := strings.Cut(node, "@")
	return host
}

// addressOf is where the node of a seed or a name is: name@host, name@host:port or
// host:port.
func addressOf(seed string) string {
	host := seed
	if _, after, is := strings.Cut(seed, "@"); is {
		host = after
	}
	if h, p, err := net.SplitHostPort(host); err == nil {
		return net.JoinHostPort(h, p)
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), DefaultPort)
}

// seedName is the node's name in a seed.
func seedName(seed string) string {
	name, host, is := strings.Cut(seed, "@")
	if !is {
		return ""
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return name + "@" + host
}

// lookFor are the addresses where other nodes may be.
func (c *Cluster) lookFor(ctx context.Context) ([]string, error) {
	var out []string
	switch c.o.Discovery {
	case Static:
		for _, s := range c.o.Seeds {
			if seedName(s) != c.o.Node {
				out = append(out, addressOf(s))
			}
		}
	case DNS:
		if c.o.DNSType == "srv" {
			_, rows, err := net.DefaultResolver.LookupSRV(ctx, "", "", c.o.DNSName)
			if err != nil {
				return nil, err
			}
			for _, r := range rows {
				out = append(out, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
			}
			break
		}
		hosts, err := net.DefaultResolver.LookupHost(ctx, c.o.DNSName)
		if err != nil {
			return nil, err
		}
		_, port, err := net.SplitHostPort(c.address)
		if err != nil {
			port = DefaultPort
		}
		for _, h := range hosts {
			out = append(out, net.JoinHostPort(h, port))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// maxLook bounds how many addresses are asked.
const maxLook = 64

// look asks who is there, all addresses at the same time.
func (c *Cluster) look(ctx context.Context, addresses []string) (found []api.PeerState, silent []string) {
	if len(addresses) > maxLook {
		addresses = addresses[:maxLook]
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	states, errs := make([]api.PeerState, len(addresses)), make([]error, len(addresses))
	var wg sync.WaitGroup
	for i, a := range addresses {
		wg.Go(func() { states[i], errs[i] = c.find(ctx, a) })
	}
	wg.Wait()
	for i, s := range states {
		switch {
		case errs[i] != nil:
			why := ""
			if r, is := errors.AsType[*RefusedError](errs[i]); is {
				why = " (" + r.Error() + ")"
				c.report(addresses[i], errs[i])
			}
			silent = append(silent, addresses[i]+why)
		case s.Id != c.self:
			found = append(found, s)
		}
	}
	return found, silent
}

// discover is one try of a node that has no cluster: it joins the one that it
// finds, or has a part in forming the first.
func (c *Cluster) discover(ctx context.Context) (note string, err error) {
	addresses, err := c.lookFor(ctx)
	if err != nil {
		return "the name of the cluster does not resolve: " + err.Error(), nil
	}
	found, silent := c.look(ctx, addresses)
	c.setRoll(c.rollOf(found))
	var members []api.PeerState
	leaders := map[string]bool{}
	for _, s := range found {
		if s.Member {
			members = append(members, s)
			if s.Leader != nil {
				leaders[*s.Leader] = true
			}
		}
	}
	switch {
	case len(leaders) > 1:
		return "the nodes that were found are in clusters of their own, or choose a leader", nil
	case len(leaders) == 1:
		for _, s := range members {
			if s.Leader != nil {
				return "joining the cluster of " + s.Name, c.admission(ctx, s.Id, false)
			}
		}
	case len(members) > 0:
		return "the cluster of " + members[0].Name + " has no leader", nil
	}
	return c.formWith(found, silent)
}

// rollOf is with whom this node would form a cluster, as a hash; "" when nobody
// or when they are not complete.
func (c *Cluster) rollOf(found []api.PeerState) string {
	var names []string
	switch c.o.Discovery {
	case Static:
		for _, s := range c.o.Seeds {
			names = append(names, seedName(s))
		}
		if !slices.Contains(names, c.o.Node) {
			return ""
		}
	case DNS:
		if len(found)+1 != c.o.Expect {
			return ""
		}
		names = append(names, c.o.Node)
		for _, s := range found {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(names), "\n")))
	return hex.EncodeToString(sum[:])
}

func (c *Cluster) setRoll(r string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roll = r
}

// formWith forms the first cluster if this is the node to do it: all that belong
// to it are there, have nothing of another, and agree on who they are; then the
// one of the least name does. A node that is missing keeps the others waiting:
// it may have the data.
func (c *Cluster) formWith(found []api.PeerState, silent []string) (string, error) {
	store := c.store.Load()
	own := c.rollOf(found)
	if own == "" {
		if c.o.Discovery == Static {
			return "this node is not one of the seeds, and none of them is in a cluster", nil
		}
		return fmt.Sprintf("found %d of %d nodes", len(found)+1, c.o.Expect), nil
	}
	names := map[string]bool{c.o.Node: true}
	least, members := c.o.Node, []raftstore.Member{c.own()}
	for _, s := range found {
		switch {
		case !s.Empty:
			return "node " + s.Name + " has data and is in no cluster", nil
		case s.Roll != own:
			return "node " + s.Name + " waits for other nodes than this one", nil
		case names[s.Name]:
			return "two nodes are called " + s.Name, nil
		}
		names[s.Name] = true
		least = min(least, s.Name)
		members = append(members, raftstore.Member{ID: s.Id, Name: s.Name})
	}
	if len(silent) > 0 {
		return "waiting for " + strings.Join(silent, ", "), nil
	}
	if c.o.Discovery == Static {
		for _, s := range c.o.Seeds {
			if !names[seedName(s)] {
				return "waiting for " + seedName(s) + ", another node has its address", nil
			}
		}
	}
	if !store.IsEmpty() || least != c.o.Node {
		return "waiting for node " + least + " to form the cluster", nil
	}
	slices.SortFunc(members, func(a, b raftstore.Member) int { return strings.Compare(a.Name, b.Name) })
	if err := store.Form(members); err != nil {
		return "", err
	}
	c.log.Info("cluster formed", "members", len(members))
	return "the cluster is formed", nil
}
