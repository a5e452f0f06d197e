package engine

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// Hooks are functions that the engine calls when something happens; nil ones are absent. All are called in the order of
// registration, on the goroutine where it happens, and never with a lock held. They must not block. Gates return a reason
// code: below 0x80 the next one is asked, from 0x80 up the engine refuses with it. Observers return nothing.
type Hooks struct {
	// ClientConnected is called when CONNACK 0x00 is about to go out.
	ClientConnected func(c ClientInfo)
	// ClientDisconnected is called once for each ClientConnected. reason is one of the Reason constants or a reason of Refuse.
	ClientDisconnected func(c ClientInfo, reason string)
	// ClientRefused is called when a CONNECT is refused. What is unknown of the client is zero.
	ClientRefused func(c ClientInfo, code packet.ReasonCode)

	// Subscribe is a gate before each subscription of a client. It may rewrite the fields of s. It is not called for
	// Engine.Subscribe.
	Subscribe func(c *ClientInfo, s *Subscription) packet.ReasonCode
	// Unsubscribe may rewrite the filter that a client takes back.
	Unsubscribe func(c *ClientInfo, filter *string)

	SessionCreated      func(s SessionInfo)
	SessionResumed      func(s SessionInfo)
	SessionSubscribed   func(clientID string, s Subscription)
	SessionUnsubscribed func(clientID, filter string)
	SessionTerminated   func(clientID, reason string)

	// Publish is a gate before each message, from clients and from inside. It may change m, which is valid during the call
	// only. handled says that the hook has taken the message over: nobody else sees it, and the publisher gets code.
	Publish func(m *Message) (handled bool, code packet.ReasonCode)
	// Delivered is called when a message was written to the output of a client.
	Delivered func(clientID string, m *Message)
	// Acked is called when a client has acknowledged a QoS>0 message.
	Acked func(clientID string, m *Message)
	// Dropped is called when a message will not reach a client, or no client at all; clientID is "" then.
	Dropped func(clientID string, m *Message, reason string)
}

// The reasons of ClientDisconnected, which are also the keys of ListenerInfo.ShutdownCount.
const (
	ReasonNormal       = "normal"            // the client said DISCONNECT
	ReasonClosed       = "closed"            // the carrier ended without one
	ReasonKicked       = "kicked"            // Engine.Kick
	ReasonTakenOver    = "discard"           // the client id connected again
	ReasonKeepAlive    = "keepalive_timeout" // no packet within the keep alive
	ReasonIdle         = "idle_timeout"      // no CONNECT within the idle timeout
	ReasonProtocol     = "protocol_error"    // a packet that the standards forbid
	ReasonTooLarge     = "packet_too_large"
	ReasonNotAllowed   = "not_authorized" // refused, or an ACL denial with deny action disconnect
	ReasonBadUser      = "bad_username_or_password"
	ReasonRefusedBan   = "banned"
	ReasonBusy         = "server_busy"
	ReasonShutdown     = "shutdown" // the broker stops
	ReasonAuth         = "auth_failure"
	ReasonSessionEnded = "session_ended" // Engine.DropSession
	ReasonExpired      = "expired"       // of SessionTerminated only: the session expiry interval is over
)

// The reasons of Dropped.
const (
	DropNoSubscribers = "no_subscribers"
	DropQueueFull     = "queue_full"
	DropOutputFull    = "output_full" // QoS 0 and MaxOutput reached
	DropExpired       = "expired"
	DropTooLarge      = "too_large" // above the client's maximum packet size
	DropSessionEnded  = "session_ended"
	DropOffline       = "offline" // QoS 0 for a session without connection that does not store it
	DropDenied        = "denied"
)

// hookSet is all registered hooks by event, so that an event without hooks costs a look at a length.
type hookSet struct {
	clientConnected     []func(ClientInfo)
	clientDisconnected  []func(ClientInfo, string)
	clientRefused       []func(ClientInfo, packet.ReasonCode)
	subscribe           []func(*ClientInfo, *Subscription) packet.ReasonCode
	unsubscribe         []func(*ClientInfo, *string)
	sessionCreated      []func(SessionInfo)
	sessionResumed      []func(SessionInfo)
	sessionSubscribed   []func(string, Subscription)
	sessionUnsubscribed []func(string, string)
	sessionTerminated   []func(string, string)
	publish             []func(*Message) (bool, packet.ReasonCode)
	delivered           []func(string, *Message)
	acked               []func(string, *Message)
	dropped             []func(string, *Message, string)
}

// hookTable is the hookSet that holds, and what it was made of.
type hookTable struct {
	atomic.Pointer[hookSet]
	mu   sync.Mutex
	list []*Hooks
}

// AddHooks registers hooks until remove is called. A hook that is running then may still be when remove returns.
func (e *Engine) AddHooks(name string, h Hooks) (remove func()) {
	t := &e.hooks
	p := &h
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, p)
	t.rebuild()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.list = slices.DeleteFunc(t.list, func(o *Hooks) bool { return o == p })
		t.rebuild()
	}
}

// rebuild makes the set anew. t.mu is held.
func (t *hookTable) rebuild() {
	s := &hookSet{}
	for _, h := range t.list {
		collect(&s.clientConnected, h.ClientConnected, h.ClientConnected != nil)
		collect(&s.clientDisconnected, h.ClientDisconnected, h.ClientDisconnected != nil)
		collect(&s.clientRefused, h.ClientRefused, h.ClientRefused != nil)
		collect(&s.subscribe, h.Subscribe, h.Subscribe != nil)
		collect(&s.unsubscribe, h.Unsubscribe, h.Unsubscribe != nil)
		collect(&s.sessionCreated, h.SessionCreated, h.SessionCreated != nil)
		collect(&s.sessionResumed, h.SessionResumed, h.SessionResumed != nil)
		collect(&s.sessionSubscribed, h.SessionSubscribed, h.SessionSubscribed != nil)
		collect(&s.sessionUnsubscribed, h.SessionUnsubscribed, h.SessionUnsubscribed != nil)
		collect(&s.sessionTerminated, h.SessionTerminated, h.SessionTerminated != nil)
		collect(&s.publish, h.Publish, h.Publish != nil)
		collect(&s.delivered, h.Delivered, h.Delivered != nil)
		collect(&s.acked, h.Acked, h.Acked != nil)
		collect(&s.dropped, h.Dropped, h.Dropped != nil)
	}
	t.Store(s)
}

func collect[F any](list *[]F, f F, there bool) {
	if there {
		*list = append(*list, f)
	}
}
