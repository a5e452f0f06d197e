package store

import (
	"errors"
	"os"
	"syscall"
)

// syncData is fdatasync: the length counts as data, times do not.
func syncData(f *os.File) error {
	return control(f, "fdatasync", syscall.Fdatasync)
}

// reserve allocates the room of a file. Writing into it later costs no allocation, and it cannot run out.
func reserve(f *os.File, size int64) error {
	err := control(f, "fallocate", func(fd int) error { return syscall.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EOPNOTSUPP) {
		return lengthen(f, size)
	}
	return err
}

func control(f *os.File, op string, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		for {
			if failed = call(int(fd)); failed != syscall.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	if failed != nil {
		return &os.PathError{Op: op, Path: f.Name(), Err: failed}
	}
	return nil
}
