// Package storetest is the suite of engine.Store: its contract clause by clause, and a model that random histories are compared
// with.
package storetest

import (
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// Medium is where the stores of one test keep what they keep.
type Medium struct {
	// Open gives a store over what the medium holds; the first time that is nothing.
	Open func() engine.Store
	// Crash ends s as the end of its process and of the power would. The next Open finds what that leaves: what random(n), from
	// [0, n), decides about what was not committed. s may still be closed.
	Crash func(s engine.Store, random func(n int) int)
	// Fail makes the medium of s one that cannot be written, until Fail(s, nil).
	Fail func(s engine.Store, err error)
	// Clean has s forget what it does not need, if it can be told to; nil: it does so by itself.
	Clean func(s engine.Store)
}

// Client is an engine.StoreClient.
type Client struct {
	Moved     chan struct{} // gets a value after every Progress, unless it has one
	OnRewrite func(before engine.Position) bool
}

// NewClient makes a client that has nothing to write anew.
func NewClient() *Client { return &Client{Moved: make(chan struct{}, 1)} }

// Progress is called by the store.
func (c *Client) Progress() {
	select {
	case c.Moved <- struct{}{}:
	default:
	}
}

// Rewrite is called by the store.
func (c *Client) Rewrite(before engine.Position) bool {
	return c.OnRewrite == nil || c.OnRewrite(before)
}

// Live says little, so that the store cleans early.
func (c *Client) Live() int64 { return 0 }

// T is what a test and a check of rapid have in common.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// deadline bounds what a test waits for.
const deadline = 20 * time.Second

// Await waits until done, looking again after every Progress.
func (c *Client) Await(t T, what string, done func() bool) {
	t.Helper()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	for !done() {
		select {
		case <-c.Moved:
		case <-timer.C:
			t.Fatalf("%s: not within %v", what, deadline)
		}
	}
}

// Commit waits until everything that is staged is committed.
func (c *Client) Commit(t T, s engine.Store) {
	t.Helper()
	p := s.Staged()
	s.Want(p)
	c.Await(t, "commit", func() bool { return s.Committed() >= p })
}
