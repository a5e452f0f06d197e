package engine

import (
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Store keeps what has to outlive the process: durable sessions with their subscriptions, queues, windows and wills, retained and
// delayed messages. It is a journal: a call stages a change, in the order of the calls, and gives the Position behind it; the
// change is kept, as the store's durability promises, once Committed has reached that Position. What a crash finds stored is
// always a prefix of what was staged, and at least what was committed.
//
// Calls that stage copy what they are given, never wait for the medium and never fail: a store that cannot write says so by
// Err, keeps what is staged, and tries again. They may come from any goroutine, also while the caller holds locks of its own.
// Nothing is staged before Load and Start.
//
// Sessions and messages are known by numbers, which the engine gives and never uses twice while anything refers to them. A put
// takes the place of what was put under the same key before. Package store has two implementations and their one suite.
type Store interface {
	// Load gives everything that is stored. It is called once, first. An error says what is damaged and how to go on.
	Load() (*Stored, error)
	// Start begins the work in the background. c is told of commits and asked for what only the engine knows, from now on. That a
	// process has begun is committed when Start returns, if the medium allows.
	Start(c StoreClient)

	// PutSession stores a session without its Subscriptions, Deliveries and Releases. Its Seq and Begun are never less than what a
	// delivery or Begun has said before.
	PutSession(session uint64, s *StoredSession) Position
	// EndSession ends the session and everything it has. Nothing is staged for it afterwards: a store that finds something for a
	// session that is not there takes it for damage.
	EndSession(session uint64) Position
	PutSubscription(session uint64, x *Subscription) Position
	EndSubscription(session uint64, name string) Position

	// PutMessage stores a message, for what is staged next: it lasts as long as a delivery, a retained or a delayed message refers
	// to it. An open message is part of a publication that EndPublication ends: until that is staged nothing may have it, and a
	// crash takes the message and all that refers to it back.
	PutMessage(message uint64, m *Message, open bool) Position
	// EndPublication ends the publication of an open message. If session is not 0, the identifier of the QoS 2 publication is
	// noted for that session with it, as PutRelease does.
	EndPublication(message, session uint64, id uint16, at int64) Position
	PutDelivery(session uint64, d *StoredDelivery) Position
	// EndDelivery forgets the delivery: it was acknowledged or given up.
	EndDelivery(session, seq uint64) Position
	// Recorded notes that PUBREC has come for the delivery. Its message is let go.
	Recorded(session, seq uint64) Position
	// Begun notes that deliveries up to seq have gone out at least once.
	Begun(session, seq uint64) Position

	PutRelease(session uint64, id uint16, at int64) Position
	EndRelease(session uint64, id uint16) Position

	// PutRetained makes a message the retained one of topic. The stamp may be zero.
	PutRetained(message uint64, topic string, stamp Stamp) Position
	// ClearRetained says that topic has no retained message since that stamp, and is to be remembered; EndRetained, that nothing is
	// known of the topic.
	ClearRetained(topic string, stamp Stamp) Position
	EndRetained(topic string) Position
	PutDelayed(message uint64, due int64) Position
	EndDelayed(message uint64) Position

	// Staged is the Position behind everything that was staged.
	Staged() Position
	// Committed is the Position up to which everything is kept.
	Committed() Position
	// Refused is the Position up to which what is not committed must be answered as refused: it could not be written so far. It may
	// be committed later all the same.
	Refused() Position
	// Want asks that everything up to p is committed soon. What nobody wants is written after a while.
	Want(p Position)
	// Err says why nothing new can be promised: the medium fails, or is full (ErrStoreFull). nil: it can. It costs an atomic load.
	Err() error

	Stats() StoreStats
	// Close commits what is staged, says that the stop was orderly, and ends the work in the background.
	Close() error
}

// StoreClient is what a store asks of the engine. The calls come from the store's goroutines.
type StoreClient interface {
	// Progress says that Committed, Refused or Err has changed. It must return at once.
	Progress()
	// Rewrite stages everything that still holds and was staged at or before that Position once more, so that the store can
	// forget what was staged before. It returns when all of it is staged, or false when it was interrupted by the engine's end.
	// Each thing counts by itself: a delivery that was staged at or before that Position, and a message that was, whatever the other
	// was. Publications that are open need not be staged again: the store waits for them. Staging more than that does no harm.
	Rewrite(before Position) bool
	// Live estimates the bytes of everything that holds.
	Live() int64
}

// Position is a place in the order of everything that was ever staged. It grows with the bytes staged; 0 is before everything.
type Position uint64

// ErrStoreFull is wrapped by Store.Err while the store has reached the limit of its size.
var ErrStoreFull error = storeFull{}

type storeFull struct{}

func (storeFull) Error() string { return "the store has reached its limit" }

// Stored is everything that a store has kept.
type Stored struct {
	Sessions []*StoredSession
	Retained []*StoredMessage
	Cleared  []StoredClear // topics without a retained message
	Delayed  []StoredDelayed

	LastSession, LastMessage uint64 // the highest numbers in use
	Orderly                  bool   // the last stop was: it is known exactly what has gone out
	Bytes                    int64  // read to find it
}

// StoredSession is a durable session.
type StoredSession struct {
	Number      uint64 // set by Load
	ClientID    string
	Username    string
	HasUsername bool
	CleanStart  bool
	Zone        string
	CreatedAt   int64  // ns since the epoch, as all times here
	Expiry      uint32 // session expiry interval, seconds
	ExpireAt    int64  // when the session ends; 0: a client was connected, or it never ends
	Connected   bool   // a client was connected
	Seq         uint64 // the highest number of a delivery given so far
	Will        *StoredWill
	WillAt      int64 // when Will is due; 0 while a client is connected

	Fence Fence // of the last claim to the client id; zero: there was none

	Arrival   *StoredArrival   // it is coming from another node
	Departure *StoredDeparture // it has gone to another node, and passes on what still comes here

	Begun         uint64 // deliveries up to this number have gone out
	Subscriptions []Subscription
	Deliveries    []StoredDelivery // by ascending Seq
	Releases      []StoredRelease
}

// StoredArrival is the move of a session to this node.
type StoredArrival struct {
	From, Token  string   // the home so far, and the name of the move
	Fence        Fence    // of the claim
	Nodes        []string // whose cuts it waits for, in order
	Self         int      // this node, of Nodes
	Base         uint64   // deliveries that were begun at the old home have no greater numbers
	Sure         bool     // the old home has given it up
	Marked, Done uint64   // of Nodes, as bits: those whose messages come straight, and those of which nothing more comes by the old home
	Later        uint64   // of Nodes, as bits: those whose cut of the move before has to come first
}

// StoredDeparture is the move of a session to another node.
type StoredDeparture struct {
	To, Token string
	Nodes     []string
	Self      int
	Was       uint64 // number of the session before: while that is stored, this one and what it has passed on is void
	Passed    uint64 // of Nodes, as bits: those that send nothing more by way of here
}

// StoredWill is a will message and its delay in seconds. Author is who left it, for the access rules; nil where there are none.
type StoredWill struct {
	Message Message
	Delay   uint32
	Author  *ClientInfo // without Counters and PeerCert
}

// StoredDelivery is a delivery of QoS 1 or 2 that is not over. The packet identifier follows from its number.
type StoredDelivery struct {
	Seq      uint64         // counts the deliveries of the session from 1
	Message  uint64         // its number; 0 after PUBREC
	QoS      packet.QoS     // of the delivery
	Retain   bool           // goes out with RETAIN 1
	Recorded bool           // PUBREC has come
	IDs      []uint32       // subscription identifiers to send
	Share    string         // name of the shared subscription; "" for others
	At       int64          // when it was queued
	Body     *StoredMessage // set by Load; nil after PUBREC
}

// StoredRelease is a QoS 2 publication of the client that waits for PUBREL.
type StoredRelease struct {
	ID uint16
	At int64
}

// StoredMessage is a message, its number, and where it was stored last.
type StoredMessage struct {
	Number   uint64
	Position Position
	Message  Message
	Stamp    Stamp // of a retained message

	held *shared // in the engine that restores it
}

// StoredClear is a topic whose retained message was cleared, and where that was stored last.
type StoredClear struct {
	Topic    string
	Stamp    Stamp
	Position Position
}

// StoredDelayed is a message that is published at Due.
type StoredDelayed struct {
	*StoredMessage
	Due int64
}

// StoreStats is a reading of what a store does.
type StoreStats struct {
	Durability string // "fsync", "interval", "off"; "memory" where nothing outlives the process
	Bytes      int64  // on the medium
	MaxBytes   int64  // 0: no limit
	Live       int64  // bytes of what holds, estimated
	Segments   int

	Staged, Committed Position
	Commits           int64 // groups written
	Records           int64 // changes in them
	CommittedBytes    int64
	Syncs             int64
	SyncTime          time.Duration // spent in them
	Rewrites          int64         // bytes staged again to free space
	Faults            int64         // failed writes and syncs
	GroupSizes        Histogram     // changes in a group
	CommitTimes       Histogram     // from the first change of a group to its commit, in microseconds
}

// Histogram counts values by powers of two: Counts[i] those below 1<<i that no earlier one has counted; the last has no bound.
type Histogram struct {
	Counts [24]int64
	Sum    int64
}
