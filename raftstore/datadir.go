package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"
)

// dirFormat is the version of the layout of the data directory:
//
//	lock        held by the node that runs
//	format      this version
//	node_id     the identity of the node
//	seal.key    the key of sealed secrets, the same on all nodes of a cluster
//	raft/       log, votes and snapshots
const dirFormat = 1

// dataDir is a data directory that this process holds.
type dataDir struct {
	path   string
	lock   *os.File
	nodeID string
	seal   atomic.Pointer[sealer]
}

// holdDir takes a data directory, making what is not there.
func holdDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data directory cannot be written: %w", err)
	}
	d := &dataDir{path: path, lock: lock}
	if err := d.fill(); err != nil {
		return nil, errors.Join(err, d.release())
	}
	return d, nil
}

func (d *dataDir) fill() error {
	if err := lockFile(d.lock); err != nil {
		return fmt.Errorf("%w: %s (%v)", ErrInUse, d.path, err)
	}
	// The file tells an operator who holds the lock.
	if _, err := d.lock.WriteAt([]byte(fmt.Sprintf("%-20d\n", os.Getpid())), 0); err != nil {
		return fmt.Errorf("the data directory cannot be written: %w", err)
	}
	if err := d.checkFormat(); err != nil {
		return err
	}
	id, err := d.keep("node_id", func() []byte { return []byte(uuid.NewString()) })
	if err != nil {
		return err
	}
	if d.nodeID = strings.TrimSpace(string(id)); d.nodeID == "" || len(d.nodeID) > maxName {
		return fmt.Errorf("%s holds no identity", filepath.Join(d.path, "node_id"))
	}
	key, err := d.keep("seal.key", newSealKey)
	if err != nil {
		return err
	}
	seal, err := newSealer(key)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(d.path, "seal.key"), err)
	}
	d.seal.Store(seal)
	return nil
}

// reseal takes the key of the cluster over.
func (d *dataDir) reseal(to *sealer) error {
	if err := writeWhole(filepath.Join(d.path, "seal.key"), to.key); err != nil {
		return fmt.Errorf("write the data directory: %w", err)
	}
	d.seal.Store(to)
	return nil
}

func (d *dataDir) checkFormat() error {
	b, err := d.keep("format", func() []byte { return []byte(strconv.Itoa(dirFormat) + "\n") })
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case err != nil || n < 1:
		return fmt.Errorf("%s holds no format: is %s a data directory?", filepath.Join(d.path, "format"), d.path)
	case n > dirFormat:
		return fmt.Errorf("%w: format %d, this release knows %d: %s", ErrNewer, n, dirFormat, d.path)
	}
	return nil
}

// keep returns what a file of the directory holds, writing it first when the
// file is not there. A file is there whole or not at all.
func (d *dataDir) keep(name string, make func() []byte) ([]byte, error) {
	path := filepath.Join(d.path, name)
	b, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, fmt.Errorf("read the data directory: %w", err)
		}
		return b, nil
	}
	b = make()
	if err := writeWhole(path, b); err != nil {
		return nil, fmt.Errorf("write the data directory: %w", err)
	}
	return b, nil
}

func writeWhole(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// heldBy is the error of a lock that another process holds.
func heldBy(lock *os.File) error {
	pid := make([]byte, 20)
	n, _ := lock.ReadAt(pid, 0) // without a number the line is a little poorer
	if who := strings.TrimSpace(string(pid[:n])); who != "" {
		return fmt.Errorf("its lock is held by process %s", who)
	}
	return errors.New("its lock is held")
}

func (d *dataDir) release() error { return d.lock.Close() }
