package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// ErrUnavailable is what another node, or this one later, can do.
var ErrUnavailable = errors.New("not now")

// ErrRefused is what will not be done.
var ErrRefused = errors.New("refused")

// maxPeerAnswer bounds what is read of another node's answer.
const maxPeerAnswer = 16 << 20

// where are the addresses at which a node may be: the one it was last seen to
// name, and the one of the address book.
func (c *Cluster) where(id string) []string {
	var out []string
	c.mu.Lock()
	if a := c.hints[id]; a != "" {
		out = append(out, a)
	}
	c.mu.Unlock()
	if s := c.store.Load(); s != nil {
		if m, ok := s.Book(id); ok && !slices.Contains(out, m.Address) {
			out = append(out, m.Address)
		}
	}
	return out
}

// maxHints bounds the addresses that are remembered.
const maxHints = 1024

// heard remembers where a node says it is. It has proven the cookie; whether it
// is there shows when it is dialed.
func (c *Cluster) heard(h Hello) {
	if h.ID == "" || h.ID == c.self || h.Address == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.hints) >= maxHints {
		clear(c.hints)
	}
	c.hints[h.ID] = h.Address
}

// dialNode connects to a node and to no other that has its address by now.
func (c *Cluster) dialNode(ctx context.Context, id string, p Purpose) (net.Conn, error) {
	errs := []error{fmt.Errorf("node %s", c.nameOf(id))}
	for _, address := range c.where(id) {
		conn, peer, err := c.mux.dial(ctx, address, p)
		if err == nil && peer.ID != id {
			conn.Close() // it is somebody else's
			c.heard(peer)
			err = fmt.Errorf("%s is node %s now", address, peer.Node)
		}
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		errs = append(errs, errors.New("no address is known"))
	}
	return nil, oneLine(errs)
}

// oneLine joins errors with colons.
func oneLine(errs []error) error {
	err := errs[0]
	for _, e := range errs[1:] {
		err = fmt.Errorf("%w: %w", err, e)
	}
	return err
}

// nameOf is the name of a node, or its identity where the name is not known.
func (c *Cluster) nameOf(id string) string {
	if s := c.store.Load(); s != nil {
		if m, ok := s.Book(id); ok {
			return m.Name
		}
	}
	return id
}

// Client is the node API of another node. Its calls end with their context, and
// fail at once when the node is known to be nowhere.
func (c *Cluster) Client(id string) (*api.APIClient, error) {
	return api.NewClient("http://"+id+APIPath, api.WithHTTPClient(&http.Client{Transport: c.http}))
}

// call makes a call and decodes its answer into out, which may be nil. A node
// that cannot be reached is ErrUnavailable.
func (c *Cluster) call(id string, out any, f func(*api.APIClient) (*http.Response, error)) error {
	client, err := c.Client(id)
	if err != nil {
		return err
	}
	resp, err := f(client)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close() // all of it was read, or it is of no use
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPeerAnswer))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if resp.StatusCode/100 == 2 {
		if out == nil {
			return nil
		}
		if err := json.Unmarshal(body, out); err != nil {
			return fmt.Errorf("answer of node %s: %w", c.nameOf(id), err)
		}
		return nil
	}
	var failure api.Failure
	if json.Unmarshal(body, &failure) != nil || failure.Message == "" {
		failure.Message = resp.Status
	}
	switch resp.StatusCode {
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s", ErrUnavailable, failure.Message)
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", raftstore.ErrNotFound, failure.Message)
	}
	return fmt.Errorf("%w: %s", ErrRefused, failure.Message)
}

// storeErr says in the words of the store what a call to the leader came to.
func storeErr(err error) error {
	switch {
	case errors.Is(err, ErrUnavailable):
		return fmt.Errorf("%w: %w", raftstore.ErrNoLeader, err)
	case errors.Is(err, ErrRefused):
		return fmt.Errorf("%w: %w", raftstore.ErrInvalid, err)
	}
	return err
}

func (c *Cluster) apply(ctx context.Context, leader string, command []byte) (raftstore.Applied, error) {
	var a api.PeerApplied
	err := c.call(leader, &a, func(cl *api.APIClient) (*http.Response, error) {
		return cl.PeerCommandWithBody(ctx, "application/octet-stream", bytes.NewReader(command))
	})
	return raftstore.Applied{Index: uint64(a.Index), Outcome: uint8(a.Outcome)}, storeErr(err)
}

func (c *Cluster) readIndex(ctx context.Context, leader string) (uint64, error) {
	var i api.PeerIndex
	err := c.call(leader, &i, func(cl *api.APIClient) (*http.Response, error) { return cl.PeerReadIndex(ctx) })
	return uint64(i.Index), storeErr(err)
}

func (c *Cluster) stateOf(ctx context.Context, id string) (api.PeerState, error) {
	var s api.PeerState
	err := c.call(id, &s, func(cl *api.APIClient) (*http.Response, error) { return cl.PeerState(ctx) })
	return s, err
}

// find asks who is at an address.
func (c *Cluster) find(ctx context.Context, address string) (api.PeerState, error) {
	conn, peer, err := c.mux.dial(ctx, address, API)
	if err != nil {
		return api.PeerState{}, err
	}
	conn.Close() // the call makes one that can be used again
	if peer.ID == c.self {
		return api.PeerState{Id: c.self, Name: c.o.Node}, nil
	}
	peer.Address = address // it may name one that is good for others only
	c.heard(peer)
	return c.stateOf(ctx, peer.ID)
}
