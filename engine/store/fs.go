package store

import (
	"io"
	"os"
)

// FS is what a store needs of a file system. Tests put their own in its place; the default is the system's.
type FS interface {
	MkdirAll(dir string) error
	// List gives the names of everything in dir.
	List(dir string) ([]string, error)
	ReadFile(path string) ([]byte, error)
	// Create makes a file anew, for writing. What had that name before is gone.
	Create(path string) (File, error)
	// Open opens a file that is there, for writing.
	Open(path string) (File, error)
	// Rename gives a file that is not open another name. What had that name before is gone.
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir returns when the names in dir are on the medium.
	SyncDir(dir string) error
	// Lock takes the lock that path stands for, until it is closed or the process ends. The error is ErrInUse if another has it.
	Lock(path string) (io.Closer, error)
}

// File is a file that is open for writing.
type File interface {
	io.WriterAt
	// Sync returns when what was written, and the length, are on the medium.
	Sync() error
	// Reserve makes the file at least that long, and takes the room for it where the system can.
	Reserve(size int64) error
	Truncate(size int64) error
	Close() error
}

// systemFS is the file system of the operating system.
type systemFS struct{}

func (systemFS) MkdirAll(dir string) error            { return os.MkdirAll(dir, 0o700) }
func (systemFS) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }
func (systemFS) Rename(from, to string) error         { return os.Rename(from, to) }
func (systemFS) Remove(path string) error             { return os.Remove(path) }
func (systemFS) SyncDir(dir string) error             { return syncDir(dir) }
func (systemFS) Lock(path string) (io.Closer, error)  { return lockPath(path) }

func (systemFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (systemFS) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return systemFile{f}, nil
}

func (systemFS) Open(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return systemFile{f}, nil
}

type systemFile struct{ *os.File }

func (f systemFile) Sync() error              { return syncData(f.File) }
func (f systemFile) Reserve(size int64) error { return reserve(f.File, size) }

// lengthen makes a file at least that long, without taking the room.
func lengthen(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	return f.Truncate(size)
}
