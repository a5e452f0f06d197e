package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// dataFormat is the version of what is written to the data directory. It grows when
// an older Lacewing would misread the files.
const dataFormat = 1

// dataDir is the locked data directory of a running node.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory if it is missing, takes it for this process, and
// checks that its format is one that this version reads.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, &StartError{What: "data directory " + path + " cannot be made", Err: reason(err), Code: ExitData}
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &StartError{What: "data directory " + path + " is not writable", Err: reason(err), Code: ExitData}
	}
	d := &dataDir{path: path, lock: lock}
	if err := lockFile(lock); err != nil {
		pid := d.owner()
		lock.Close() // nothing was written
		return nil, &StartError{What: "data directory " + path + " is in use by another node" + pid, Code: ExitData}
	}
	if err := d.claim(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// claim writes the process id for the next one that comes, and checks the format.
func (d *dataDir) claim() error {
	if err := d.lock.Truncate(0); err != nil {
		return d.fault("not writable", err)
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return d.fault("not writable", err)
	}
	name := filepath.Join(d.path, "format")
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		if err := writeFile(name, []byte(strconv.Itoa(dataFormat)+"\n"), 0o600); err != nil {
			return d.fault("not writable", err)
		}
		return nil
	}
	if err != nil {
		return d.fault("not readable", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return d.fault("damaged: the file format does not hold a number", nil)
	}
	if version > dataFormat {
		return d.fault(fmt.Sprintf("of format %d and this version reads up to %d: start the newer version, or restore a backup into an empty directory", version, dataFormat), nil)
	}
	return nil
}

func (d *dataDir) fault(what string, err error) error {
	return &StartError{What: "data directory " + d.path + " is " + what, Err: reason(err), Code: ExitData}
}

// owner names the process in the lock file, where it can be read.
func (d *dataDir) owner() string {
	text, err := os.ReadFile(d.lock.Name())
	if pid := strings.TrimSpace(string(text)); err == nil && pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}

// file returns the path of a file in the directory.
func (d *dataDir) file(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// close gives the directory free. The lock file stays: removing it would let two
// processes lock two files of one name.
func (d *dataDir) close() error { return d.lock.Close() }

// writeFile replaces a file as a whole: after a crash the old or the new one is
// there.
func writeFile(name string, text []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(text); err == nil {
		err = errors.Join(f.Chmod(mode), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
