package raftstore

import (
	"errors"
	"fmt"
)

// Errors of writes. The first group is a refusal that was decided in the order
// of the log, or by a check of the arguments; nothing has changed. After one of
// the second group the write may or may not have been done, and repeating it
// is harmless.
var (
	ErrExists   = errors.New("already exists")
	ErrNotFound = errors.New("not found")
	ErrLimit    = errors.New("too many")
	ErrInvalid  = errors.New("not valid")

	ErrNoLeader  = errors.New("the cluster has no leader")
	ErrNotLeader = errors.New("another node leads the cluster")
	ErrClosed    = errors.New("the store is closed")
)

// Errors of [Open].
var (
	ErrInUse = errors.New("the data directory is used by another node")
	ErrNewer = errors.New("written by a newer release")
)

// outcome is what applying a command has come to. It is kept in snapshots:
// numbers are never reused.
type outcome uint8

const (
	done     outcome = 0
	exists   outcome = 1
	notFound outcome = 2
	tooMany  outcome = 3
)

func (o outcome) err() error {
	switch o {
	case done:
		return nil
	case exists:
		return ErrExists
	case notFound:
		return ErrNotFound
	case tooMany:
		return ErrLimit
	default:
		return fmt.Errorf("unknown outcome %d", o)
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
