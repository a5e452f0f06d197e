package store

import (
	"errors"
	"fmt"
	"path/filepath"
)

var (
	// ErrInUse is wrapped when another process, or another store of this one, holds the directory.
	ErrInUse = errors.New("the store is in use")

	errClosed = errors.New("the store is closed")
)

// Damage is a place where something that was kept cannot be read.
type Damage struct {
	File   string
	Offset int64
	Lost   string // what is lost, in words
}

func (d Damage) String() string {
	return fmt.Sprintf("%s, byte %d: lost: %s", d.File, d.Offset, d.Lost)
}

// DamageError says that a store cannot be loaded without losing something that was promised, and how to go on.
type DamageError struct {
	Damage
	Dir  string // of the store
	More int    // further places
}

func (e *DamageError) Error() string {
	more := ""
	if e.More > 0 {
		more = fmt.Sprintf(" (and %s more)", count(e.More, "place"))
	}
	return fmt.Sprintf("the store is damaged: %s%s; see what is left with \"lacewing ctl store check --data-dir %[3]s\" and go on without what "+
		"is lost with \"lacewing ctl store repair --data-dir %[3]s\", or bring the directory back from a backup", e.Damage, more, filepath.Dir(e.Dir))
}

// count is "1 group", "2 groups".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
