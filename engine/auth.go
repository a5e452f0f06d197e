package engine

import (
	"context"
	"net/netip"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Action is what a client wants to do with a topic.
type Action byte

// The actions.
const (
	ActionPublish Action = iota + 1
	ActionSubscribe
)

// String gives "publish" or "subscribe".
func (a Action) String() string {
	if a == ActionSubscribe {
		return "subscribe"
	}
	return "publish"
}

// Verdict is the answer of one link of a chain.
type Verdict byte

// The verdicts.
const (
	Ignore Verdict = iota // ask the next
	Allow
	Deny
)

// String gives "ignore", "allow" or "deny".
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	}
	return "ignore"
}

// ConnectRequest is what a client says of itself.
type ConnectRequest struct {
	ClientID    string
	Username    string
	HasUsername bool
	Password    []byte // valid during the call only; nil without one
	Peer        netip.AddrPort
	ProtoVer    packet.Version
	ProtoName   string
	CleanStart  bool
	KeepAlive   uint16
	PeerCert    *PeerCert
	Listener    string
	Zone        string
}

// Decision is the answer of an Authenticator.
type Decision struct {
	Result    Verdict // Ignore asks the next; where none decides, Settings.AllowAnonymous does
	Superuser bool    // with Allow: no access rule is asked
	// Code is the reason with Deny; 0 stands for NotAuthorized.
	Code     packet.ReasonCode
	ClientID string // with Allow: replaces the client id unless empty
	Username string // with Allow: replaces the user name unless empty
}

// An Authenticator decides whether a client may connect. It is called without locks, from several goroutines.
type Authenticator interface {
	Authenticate(ctx context.Context, r *ConnectRequest) Decision
}

// Blocking marks an Authenticator or an AuthMethod that may block, such as one that asks a database. It is then called on a
// goroutine of its own while the connection is held.
type Blocking interface{ Blocking() bool }

// An Authorizer decides whether a client may publish to a topic or subscribe to a filter. It is called without locks, from
// several goroutines, and must not block. The engine caches the answers for each connection.
type Authorizer interface {
	Authorize(c *ClientInfo, action Action, topic string) Verdict
}

// An AuthMethod is a method of enhanced authentication of MQTT 5.0.
type AuthMethod interface {
	// Begin starts an exchange for a client that named the method.
	Begin(r *ConnectRequest) AuthExchange
}

// AuthExchange is the broker's side of one exchange, used by one goroutine at a time.
type AuthExchange interface {
	// Step takes what the client sent, nil where it sent no authentication data, and gives the next step.
	Step(ctx context.Context, data []byte) AuthStep
}

// AuthStep is the outcome of one step of an exchange.
type AuthStep struct {
	// Code is ContinueAuthentication to send Data and wait for the next step, Success to let the client in, or a failure.
	Code packet.ReasonCode
	Data []byte // authentication data of AUTH or CONNACK
	// Decision has the attributes that a Success grants: Superuser, ClientID, Username.
	Decision Decision
}
