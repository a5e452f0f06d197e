package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// books is a registry in memory for one node or more.
type books struct {
	mu    sync.Mutex
	count uint64
	rows  map[string]entry
	held  map[string]claimed // claims that are not settled
	lost  map[string]bool    // nodes
	fail  error
	zero  bool
}

// claimed is a claim; done is closed at its end.
type claimed struct {
	f    engine.Fence
	done chan struct{}
}

// entry is the home of a client.
type entry struct {
	node string
	f    engine.Fence
	p    engine.Presence
}

func newBooks() *books {
	return &books{rows: map[string]entry{}, held: map[string]claimed{}, lost: map[string]bool{}}
}

// desk is the registry as a node sees it.
type desk struct {
	*books
	node string
}

func (d desk) Claim(ctx context.Context, id string, durable bool) (engine.Claim, error) {
	for {
		d.mu.Lock()
		held, ok := d.held[id]
		if !ok {
			break
		}
		d.mu.Unlock()
		select {
		case <-held.done:
		case <-ctx.Done():
			return engine.Claim{}, ctx.Err()
		}
	}
	defer d.mu.Unlock()
	if d.fail != nil || d.zero {
		return engine.Claim{}, d.fail
	}
	d.count++
	c := engine.Claim{Fence: engine.Fence{Epoch: 1, Count: d.count}}
	d.held[id] = claimed{c.Fence, make(chan struct{})}
	if r, ok := d.rows[id]; ok && r.node != d.node {
		c.Holder, c.Held, c.Lost = r.node, r.f, d.lost[r.node]
	}
	return c, nil
}

func (d desk) Settle(id string, f engine.Fence, taken bool, p engine.Presence) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if taken && !f.Before(d.rows[id].f) {
		d.rows[id] = entry{d.node, f, p}
	}
	if c := d.held[id]; c.f == f && c.done != nil {
		close(c.done)
		delete(d.held, id)
	}
}

func (d desk) Renew(id string, f engine.Fence, p engine.Presence) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.rows[id]; r.f == f {
		r.p = p
		d.rows[id] = r
	}
}

func (d desk) Forget(id string, f engine.Fence) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows[id].f == f {
		delete(d.rows, id)
	}
}

func (d desk) Self() string { return d.node }

func (d desk) BeginMove(context.Context, string, engine.MoveRequest) (engine.MoveState, error) {
	return engine.MoveState{}, errors.New("no node")
}

func (d desk) CommitMove(context.Context, string, engine.MoveCommit) (engine.MoveResult, error) {
	return engine.MoveResult{}, errors.New("no node")
}

func (d *books) row(id string) (entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.rows[id]
	_, held := d.held[id]
	return r, ok && !held
}

// far is the other end of a connection that is served on goroutines of the engine.
type far struct {
	w    *world
	c    *engine.Conn
	mu   sync.Mutex
	in   []byte
	gone bool
}

func (f *far) Write(bufs [][]byte) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bufs {
		f.in = append(f.in, b...)
		n += len(b)
	}
	return n, nil
}

func (f *far) Resume() {}

func (f *far) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
}

func (f *far) say(p packet.Packet) {
	b := f.w.e.NewBatch()
	f.c.Feed(b, p.Append(nil, packet.V5))
	b.Flush()
}

func (f *far) closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone
}

// claimant opens a connection, says CONNECT and gives the CONNACK.
func (w *world) claimant(t *testing.T, change ...func(*packet.Connect)) (*far, packet.Connack) {
	t.Helper()
	f := &far{w: w}
	var err error
	if f.c, err = w.l.Accept(engine.ConnInfo{}, f); err != nil {
		t.Fatal(err)
	}
	m := &packet.Connect{Version: packet.V5, ClientID: "c", ReceiveMaximum: packet.DefaultReceiveMaximum, SessionExpiry: 3600}
	for _, x := range change {
		x(m)
	}
	f.say(m)
	var ack packet.Connack
	until(t, "CONNACK", func() bool {
		w.commit()
		f.mu.Lock()
		defer f.mu.Unlock()
		h, n, err := packet.ParseHeader(packet.V5, f.in)
		if err != nil || len(f.in) < n+h.Remaining {
			return false
		}
		if h.Type != packet.TypeConnack || ack.Decode(packet.V5, h.Flags, f.in[n:n+h.Remaining]) != nil {
			t.Fatalf("got % x, want CONNACK", f.in)
		}
		f.in = f.in[n+h.Remaining:]
		return true
	})
	return f, ack
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s in 30 s", what)
		}
	}
}

func (w *world) claims() (all []entry) {
	w.e.Claims(func(id string, f engine.Fence, p engine.Presence) bool {
		all = append(all, entry{id, f, p})
		return true
	})
	return all
}

// A client is claimed before it has a session, the fence survives a crash, and the registry is told of the end.
func TestClaim(t *testing.T) {
	w, d := newWorld(t), newBooks()
	w.e.SetHomes(desk{d, "a"})
	_, ack := w.claimant(t)
	r, ok := d.row("c")
	if ack.Code != packet.Success || !ok || r.node != "a" {
		t.Fatalf("CONNACK %v, entry %+v %v, want the client to be at home", ack.Code, r, ok)
	}
	w.crash(0)
	if got := w.claims(); len(got) != 1 || got[0].f != r.f {
		t.Fatalf("claims after a crash are %+v, want fence %v", got, r.f)
	}
	w.e.SetHomes(desk{d, "a"})
	if _, ack = w.claimant(t); !ack.SessionPresent {
		t.Error("the session is not there after a crash")
	}
	later, ok := d.row("c")
	if !ok || !r.f.Before(later.f) {
		t.Errorf("fence %v, want one after %v", later.f, r.f)
	}
	if err := w.e.DropSession("c"); err != nil {
		t.Fatal(err)
	}
	if r, ok := d.row("c"); ok {
		t.Errorf("entry %+v after the end of the session, want none", r)
	}
}

// A registry that fails refuses clients; one that has nothing to say does not.
func TestClaimRefused(t *testing.T) {
	w, d := newWorld(t), newBooks()
	w.e.SetHomes(desk{d, "a"})
	d.fail = errors.New("no majority")
	f, ack := w.claimant(t)
	if ack.Code != packet.ServerUnavailable {
		t.Errorf("CONNACK %v, want 0x88", ack.Code)
	}
	until(t, "end of the connection", f.closed)
	d.fail, d.zero = nil, true
	if _, ack = w.claimant(t); ack.Code != packet.Success {
		t.Errorf("CONNACK %v without the registry, want success", ack.Code)
	}
	if got := w.claims(); len(got) != 1 || got[0].f != (engine.Fence{}) {
		t.Errorf("claims %+v, want one with fence 0", got)
	}
}

// A client that is refused after its claim leaves nothing in the registry, and the next claim does not wait for it.
func TestClaimIsSettled(t *testing.T) {
	w, d := newWorld(t), newBooks()
	w.e.SetHomes(desk{d, "a"})
	w.m.Fail(errors.New("disk"))
	b := w.e.NewBatch()
	f := &far{w: w}
	f.c, _ = w.l.Accept(engine.ConnInfo{}, f)
	f.c.Feed(b, (&packet.Connect{Version: packet.V5, ClientID: "c", SessionExpiry: 60}).Append(nil, packet.V5))
	b.Flush()
	until(t, "end of the connection", f.closed)
	if r, _ := d.row("c"); r.node != "" {
		t.Errorf("entry %+v, want none", r)
	}
	w.m.Fail(nil)
	if _, ack := w.claimant(t); ack.Code != packet.Success {
		t.Errorf("CONNACK %v, want success", ack.Code)
	}
}

// What others need to publish the will is told when it changes.
func TestPresence(t *testing.T) {
	w, d := newWorld(t), newBooks()
	w.e.SetHomes(desk{d, "a"})
	will := func(m *packet.Connect) { m.Will = &packet.Will{Topic: "will", Payload: []byte("w"), QoS: 1, Delay: 60} }
	f, _ := w.claimant(t, will)
	r, _ := d.row("c")
	if r.p.Will == nil || r.p.Will.Message.Topic != "will" || r.p.Will.Delay != 60 || r.p.WillAt != 0 {
		t.Fatalf("presence %+v of a connected client, want its will", r.p)
	}
	b := w.e.NewBatch()
	f.c.Closed(b, nil)
	b.Flush()
	at := w.now().Add(time.Minute).UnixNano()
	if r, _ := d.row("c"); r.p.Will == nil || r.p.WillAt != at {
		t.Fatalf("presence %+v of a client that is away, want its will at %d", r.p, at)
	}
	w.pass(time.Minute)
	if r, _ := d.row("c"); r.p.Will != nil {
		t.Errorf("presence %+v, want none: the will is published", r.p)
	}
	f, _ = w.claimant(t, will)
	f.say(&packet.Disconnect{})
	if r, ok := d.row("c"); !ok || r.p.Will != nil {
		t.Errorf("presence %+v, want none: the client has taken its will back", r.p)
	}
}

// A session that lives elsewhere since is ended without a will, and one that is newer is not.
func TestDiscard(t *testing.T) {
	w, d := newWorld(t), newBooks()
	watch := w.connect(packet.V5, "watch", clean)
	watch.say(sub("will", 0))
	watch.all()
	w.e.SetHomes(desk{d, "a"})
	f, _ := w.claimant(t, func(m *packet.Connect) { m.Will = &packet.Will{Topic: "will", Payload: []byte("w")} })
	r, _ := d.row("c")
	if w.e.Discard("c", r.f) || f.closed() {
		t.Fatal("the session of that fence itself was discarded")
	}
	if !w.e.Discard("c", engine.Fence{Epoch: r.f.Epoch, Count: r.f.Count + 1}) {
		t.Fatal("nothing was discarded")
	}
	until(t, "end of the connection", f.closed)
	var p packet.Disconnect
	h, n, err := packet.ParseHeader(packet.V5, f.in)
	if err != nil || h.Type != packet.TypeDisconnect || p.Decode(packet.V5, h.Flags, f.in[n:n+h.Remaining]) != nil || p.Code != packet.SessionTakenOver {
		t.Errorf("got % x, want DISCONNECT 0x8e", f.in)
	}
	watch.want()
	w.commit()
	w.crash(0)
	if got := w.claims(); slices.ContainsFunc(got, func(e entry) bool { return e.node == "c" }) {
		t.Errorf("claims %+v after a crash, want none", got)
	}
}

// Who publishes the will of another node's client asks the access rules.
func TestWillOfAnotherNode(t *testing.T) {
	w := newWorld(t)
	watch := w.connect(packet.V5, "watch", clean)
	watch.say(sub("#", 0))
	watch.all()
	w.e.AddAuthorizer("rules", 0, rules{})
	for _, topic := range []string{"good", "bad"} {
		w.e.PublishWill("c", engine.StoredWill{
			Message: engine.Message{Topic: topic, Payload: []byte("w"), From: "c"}, Author: &engine.ClientInfo{ClientID: "c"},
		})
	}
	watch.want("PUBLISH good=w q0 #0")
}

// A client whose home is down waits for it as long as is set, and gets a new session then; what is left of it here is from before.
func TestHomeIsLost(t *testing.T) {
	d := newBooks()
	a, b := newWorld(t), newWorld(t)
	a.e.SetHomes(desk{d, "a"})
	b.e.SetHomes(desk{d, "b"})
	b.e.SetWaitHome(time.Minute)
	old := b.connect(packet.V5, "other", clean)
	old.w.commit()
	if _, ack := a.claimant(t); ack.Code != packet.Success {
		t.Fatalf("CONNACK %v, want success", ack.Code)
	}
	if _, ack := b.claimant(t); ack.Code != packet.ServerUnavailable {
		t.Errorf("CONNACK %v while another node has the session, want 0x88", ack.Code)
	}
	d.lost["a"] = true
	if _, ack := b.claimant(t); ack.Code != packet.ServerUnavailable {
		t.Errorf("CONNACK %v while the home is waited for, want 0x88", ack.Code)
	}
	b.pass(time.Minute)
	if _, ack := b.claimant(t); ack.Code != packet.Success || ack.SessionPresent {
		t.Errorf("CONNACK %v, session present %v, want a new session", ack.Code, ack.SessionPresent)
	}
	if n := b.e.LostHomes(); n != 1 {
		t.Errorf("%d lost homes are counted, want 1", n)
	}
	if r, _ := d.row("c"); r.node != "b" {
		t.Errorf("entry %+v, want node b", r)
	}
}

// Simultaneous connections leave one session and one connection.
func TestClaimsAtOnce(t *testing.T) {
	w, d := newWorld(t), newBooks()
	w.e.SetHomes(desk{d, "a"})
	var all []*far
	for range 20 {
		f := &far{w: w}
		f.c, _ = w.l.Accept(engine.ConnInfo{}, f)
		f.say(&packet.Connect{Version: packet.V5, ClientID: "c", SessionExpiry: 60})
		all = append(all, f)
	}
	until(t, "single connection", func() bool {
		w.commit()
		n := 0
		for _, f := range all {
			if !f.closed() {
				n++
			}
		}
		return n == 1
	})
	if got := w.claims(); len(got) != 1 {
		t.Errorf("%d sessions, want 1", len(got))
	} else if r, ok := d.row("c"); !ok || r.f != got[0].f {
		t.Errorf("entry %+v, session %v: want one fence", r, got[0].f)
	}
}

// rules allow everything but the topic "bad".
type rules struct{}

func (rules) Authorize(_ *engine.ClientInfo, _ engine.Action, topic string) engine.Verdict {
	if topic == "bad" {
		return engine.Deny
	}
	return engine.Allow
}
