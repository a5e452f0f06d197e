package node

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Exit codes of the command. A supervisor can tell by them whether a restart may
// help.
const (
	ExitOK     = 0 // stopped in order
	ExitFault  = 1 // failed while running, or a fault of no other kind
	ExitUsage  = 2 // wrong command line
	ExitConfig = 3 // configuration, ACL file or certificate refused
	ExitListen = 4 // an address could not be opened
	ExitData   = 5 // data directory: not writable, in use, or of a newer format
	ExitForced = 6 // stopped by a second signal, or past the shutdown deadline
)

// StartError is a refusal to start, in words for an operator.
type StartError struct {
	What string // what is wrong, in one line
	Err  error  // the reason beneath, or nil
	Code int    // exit code
}

// Error returns one line.
func (e *StartError) Error() string {
	if e.Err == nil {
		return e.What
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap returns the reason beneath.
func (e *StartError) Unwrap() error { return e.Err }

// ExitCode returns the code with which the command ends on err.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	if e, ok := errors.AsType[*StartError](err); ok {
		return e.Code
	}
	return ExitFault
}

// reason strips the operation and the path off errors of the operating system: the
// line around it has them already.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return e.Err
	}
	return err
}

// listenError says why an address could not be opened.
func listenError(listener, address string, err error) error {
	e := &StartError{What: "listener " + listener + ": " + address + " cannot be opened", Code: ExitListen}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.What = "listener " + listener + ": " + address + " is in use by another program"
	case errors.Is(err, syscall.EACCES):
		e.What = "listener " + listener + ": " + address + " needs more rights than this process has"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.What = "listener " + listener + ": " + address + " is no address of this machine"
	default:
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		e.Err = reason(err)
	}
	return e
}

// isSystem reports whether an error came from the operating system.
func isSystem(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}
