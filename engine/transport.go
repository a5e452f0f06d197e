package engine

import (
	"net/netip"
)

// Transport is the carrier of one connection, implemented by a driver. All methods may be called from any goroutine, also
// from within Feed, Writable and Flush, and never block.
type Transport interface {
	// Write offers output and returns how many bytes the carrier took. After a short count without an error the carrier is
	// full: the driver calls Conn.Writable when it can take more. After an error the carrier is dead: the driver calls
	// Conn.Closed. The core serialises the calls for one connection. Neither bufs nor what is in it may be kept.
	Write(bufs [][]byte) (n int, err error)
	// Resume undoes a Hold that Feed answered: the driver reads on. It may come before Feed has returned that Hold.
	Resume()
	// Close closes the carrier once the kernel has what Write took. The driver then calls Conn.Closed once. Calls after the
	// first do nothing.
	Close()
}

// Next is what a driver does after Feed.
type Next int

// The answers of Feed.
const (
	ReadOn Next = iota // read on
	Hold               // read nothing until Transport.Resume
	Stop               // read nothing any more; the core has closed the Transport or is about to
)

// ConnInfo is what a driver knows of a connection before its first byte.
type ConnInfo struct {
	Peer      netip.AddrPort // real peer, from the PROXY protocol where that is spoken
	Local     netip.AddrPort
	PeerCert  *PeerCert // nil without a verified client certificate
	WebSocket bool
}

// PeerCert is what the engine needs of a verified client certificate.
type PeerCert struct {
	CommonName string
	Subject    string // distinguished name
}
