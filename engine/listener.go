package engine

import (
	"errors"
)

// The errors of Listener.Accept.
var (
	ErrListenerFull = errors.New("listener has its maximum of connections")
	ErrAcceptRate   = errors.New("listener accepts too many connections a second")
	ErrClosed       = errors.New("engine is closed")
)

// PeerCertUse says which part of a client certificate becomes the user name.
type PeerCertUse string

// The uses of a client certificate.
const (
	PeerCertNone       PeerCertUse = ""
	PeerCertCommonName PeerCertUse = "cn"
	PeerCertSubject    PeerCertUse = "dn"
)

// ListenerOptions describe the engine's side of one listening address.
type ListenerOptions struct {
	Name           string // "external", "internal", ...; with Protocol unique
	Protocol       string // "mqtt:tcp", "mqtt:ssl", "mqtt:ws", "mqtt:wss"
	Address        string // as shown, such as "0.0.0.0:1883"
	Acceptors      int    // shown, and for the driver
	MaxConnections int    // 0: no limit
	MaxConnRate    int    // connections a second; 0: no limit
	Zone           string // "": "external"
	Mountpoint     string // overrides that of the zone
	// ByteLimit and MessageLimit bound what one connection may send. At them it is not read for a while.
	ByteLimit          RateLimit
	MessageLimit       RateLimit
	PeerCertAsUsername PeerCertUse
}

// ListenerInfo describes a listener and what it has.
type ListenerInfo struct {
	ListenerOptions
	CurrentConnections int
	Accepted           int64
	Refused            int64            // by MaxConnections and MaxConnRate
	ShutdownCount      map[string]int64 // ended connections by reason; see the Reason constants
}
