package engine

import "context"

// Fence orders the claims to one client identifier in a cluster: the greater one is the later. The zero Fence is of a session that was
// never claimed.
type Fence struct {
	Epoch, Count uint64
}

// Before reports whether f was given before g.
func (f Fence) Before(g Fence) bool {
	return f.Epoch < g.Epoch || f.Epoch == g.Epoch && f.Count < g.Count
}

// Claim is what a claim to a client identifier was answered with.
type Claim struct {
	Fence Fence // of this node from now on; zero: the node may go on without (see Homes.Claim)
	// Holder is the identity of the node that has the session so far, "" if none or this one has, and Held its fence.
	Holder string
	Held   Fence
	// Lost says that Holder is marked down: what it has cannot be fetched.
	Lost bool
}

// Presence is what the other nodes have to know of a client to publish its will when this node dies.
type Presence struct {
	Will   *StoredWill // nil: there is none
	WillAt int64       // when it is due, ns since the epoch; 0 while the client is connected
}

// Homes is the registry of a cluster: it knows which node is the home of a client, so that an identifier has one session and one
// connection in all of it. Its methods may be called from any goroutine.
type Homes interface {
	// Self is the identity of this node.
	Self() string
	// Claim begins to make this node the home of a client. Other claims to the identifier wait until it is settled. durable says that
	// the client asks for a session that outlives its connection, or to go on with one. It blocks, a few seconds at most. An error says that the client
	// cannot be served now; a Claim with a zero Fence, that it is to be served without the registry.
	Claim(ctx context.Context, clientID string, durable bool) (Claim, error)
	// Settle ends a claim. taken says that this node is the home from now on; else the one before stays it. It does not block.
	Settle(clientID string, f Fence, taken bool, p Presence)
	// Renew says that what others need to know of the client has changed. It does not block.
	Renew(clientID string, f Fence, p Presence)
	// Forget says that the session of that fence has ended here. It does not block.
	Forget(clientID string, f Fence)

	// BeginMove and CommitMove call Engine.BeginMove and Engine.CommitMove of another node, known by its identity.
	BeginMove(ctx context.Context, node string, r MoveRequest) (MoveState, error)
	CommitMove(ctx context.Context, node string, r MoveCommit) (MoveResult, error)
}

// MoveRequest asks the home of a client for its session.
type MoveRequest struct {
	ClientID string
	Fence    Fence  // of the claim
	To       string // identity of the node that asks
	End      bool   // the session is not to go on: it ends
}

// MoveState is a session that is to move, without its deliveries, which follow once the move is committed.
type MoveState struct {
	Found    bool   // there is one that goes on; its connection has ended
	Moved    string // identity of the node that the session has moved to already; "" if it has not
	Username string
	// HasUsername, CleanStart, CreatedAt, Expiry and Seq are those of StoredSession.
	HasUsername, CleanStart bool
	CreatedAt               int64
	Expiry                  uint32
	Seq                     uint64
	Subscriptions           []Subscription
	Releases                []StoredRelease
}

// MoveCommit has the home of a client give the session up.
type MoveCommit struct {
	ClientID string
	Fence    Fence
	To       string
	Token    string   // names the move: random text, without slashes
	Nodes    []string // identities of all nodes that To has links to, its own included, in order
}

// MoveResult is what CommitMove came to. Neither Done nor Gone: it is to be tried again from the beginning.
type MoveResult struct {
	Done bool // the session is at To, for good
	Gone bool // there is no such session, or it is somebody else's
	// Except are nodes that have not made their cut for the move that brought the session here: To asks them for the next once it hears that
	// they have.
	Except []string
}
