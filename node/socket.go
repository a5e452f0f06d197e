package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/lacewing-mqtt/lacewing/impl"
)

// ControlSocket is the file, in the data directory, of the socket that lacewing ctl
// talks to.
const ControlSocket = "ctl.sock"

// openControl opens the control socket for the account of the node alone.
func (n *Node) openControl() error {
	path := n.data.file(ControlSocket)
	// The store holds the lock of the directory: what is there was left by a node that
	// was killed.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &StartError{What: "control socket " + path, Err: reason(err), Code: ExitData}
	}
	name, done, err := ShortSocket(path)
	if err != nil {
		return &StartError{What: "control socket " + path, Err: reason(err), Code: ExitData}
	}
	defer done()
	socket, err := net.Listen("unix", name)
	if err != nil {
		return listenError("control socket", path, err)
	}
	if u, ok := socket.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // by name it would look for the short one
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(&StartError{What: "control socket " + path, Err: reason(err), Code: ExitData}, socket.Close())
	}
	l := &httpListener{name: "control socket", scheme: "unix", socket: socket, bound: socket.Addr(), gate: impl.NewGate(0), done: make(chan struct{})}
	n.web.serve(l, socket, n.socketHandler())
	return nil
}

// maxSocketName is what every system takes as the name of a unix socket.
const maxSocketName = 100

// ShortSocket returns a name of the socket at path that is short enough to open or
// dial; done releases it after that.
func ShortSocket(path string) (name string, done func(), err error) {
	if len(path) <= maxSocketName {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	if _, err := os.Stat(filepath.Dir(short)); err != nil {
		return "", nil, errors.Join(fmt.Errorf("the name is longer than %d bytes", maxSocketName), dir.Close())
	}
	return short, func() { dir.Close() }, nil // only read
}
