//go:build !linux

package transport

import (
	"net"
	"net/netip"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// Without epoll there are no event loops: every connection is a stream.
type loops struct{}

func startLoops(*Driver) (*loops, error) { return nil, nil }

func (*loops) stop()       {}
func (*loops) limitFiles() {}

func (*loops) listenTCP(*Listener, string, ListenOptions) (*acceptor, error) {
	return nil, ErrClosed // never called: Open asks whether there are loops
}

func (*loops) adopt(*Listener, *carrier, engine.ConnInfo) (bool, error) { return false, nil }

// An acceptor belongs to event loops.
type acceptor struct{ bound netip.AddrPort }

func (*acceptor) start() error { return ErrClosed }
func (*acceptor) stop()        {}

// fileLimit is not asked for where connections do not count descriptors.
func fileLimit() int { return 1 << 20 }

// allow lets every connection in: the system refuses by itself.
func (f *files) allow(net.Conn) bool { return true }
