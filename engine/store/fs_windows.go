package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// syncDir does nothing: Windows keeps the names of files itself.
func syncDir(string) error { return nil }

// errSharing is what Windows says when another process has the file open.
const errSharing = syscall.Errno(32)

// lockPath opens the file so that nobody else can.
func lockPath(path string) (io.Closer, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		if errors.Is(err, errSharing) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return os.NewFile(uintptr(h), path), nil
}
