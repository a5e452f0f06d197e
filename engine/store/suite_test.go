package store

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func memoryMedium(testing.TB) *storetest.Medium {
	var next *Memory
	var all []*Memory
	return &storetest.Medium{
		Open: func() engine.Store {
			switch {
			case next != nil:
			case len(all) == 0:
				next = NewMemory(true)
			default:
				next = all[len(all)-1].Crash(0) // it was closed
			}
			m := next
			next = nil
			all = append(all, m)
			return m
		},
		Crash: func(s engine.Store, random func(int) int) {
			next = s.(*Memory).Crash(random(5))
			_ = s.Close()
		},
		Fail:  func(s engine.Store, err error) { s.(*Memory).Fail(err) },
		Clean: func(s engine.Store) { s.(*Memory).Clean() },
	}
}

func TestMemory(t *testing.T) { storetest.Run(t, memoryMedium) }

// diskMedium keeps its files in a faultFS. With Fsync a crash is a loss of power, or sometimes only the end of the process; without
// it is that.
func diskMedium(o Options) func(t testing.TB) *storetest.Medium {
	return func(t testing.TB) *storetest.Medium {
		fsys := newFaultFS()
		o := o
		return &storetest.Medium{
			Open: func() engine.Store {
				o.FS = fsys
				return disk(t, o)
			},
			Crash: func(s engine.Store, random func(int) int) {
				if o.Durability == Interval || o.Durability == Off || random(3) == 2 {
					fsys = fsys.image()
				} else {
					fsys = fsys.powerLoss(random)
				}
				_ = s.Close()
			},
			Fail: func(s engine.Store, err error) {
				s.(*Disk).o.FS.(*faultFS).setFail(func(op, _ string) error {
					if op == "remove" {
						return nil
					}
					return err
				})
			},
		}
	}
}

func TestDisk(t *testing.T) {
	storetest.Run(t, diskMedium(Options{SegmentSize: minSegmentSize, RetryInterval: time.Millisecond}))
}

// TestDiskSystem runs the suite on the file system of the machine; a crash is the end of the process.
func TestDiskSystem(t *testing.T) {
	storetest.Run(t, func(t testing.TB) *storetest.Medium {
		o := Options{Dir: filepath.Join(t.TempDir(), "store"), SegmentSize: 16 << 10, RetryInterval: time.Millisecond}
		var files *faultySystem
		return &storetest.Medium{
			Open: func() engine.Store {
				files = &faultySystem{}
				o.FS = files
				return disk(t, o)
			},
			Crash: func(s engine.Store, _ func(int) int) {
				d := s.(*Disk)
				to := filepath.Join(t.TempDir(), "store")
				// The committer holds d.mu nowhere while it writes: nothing is staged or wanted, so it is at rest once this is committed.
				if err := os.CopyFS(to, os.DirFS(o.Dir)); err != nil {
					t.Fatal(err)
				}
				_ = d.Close()
				o.Dir = to
			},
			Fail: func(s engine.Store, err error) { s.(*Disk).o.FS.(*faultySystem).set(err) },
		}
	})
}

// faultySystem is the system's file system with faults.
type faultySystem struct {
	systemFS
	err atomic.Pointer[error]
}

func (f *faultySystem) set(err error) {
	if f.err.Store(nil); err != nil {
		f.err.Store(&err)
	}
}

func (f *faultySystem) fault() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *faultySystem) Create(path string) (File, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	x, err := f.systemFS.Create(path)
	return &faultyFile{x, f}, err
}

func (f *faultySystem) Open(path string) (File, error) {
	x, err := f.systemFS.Open(path)
	return &faultyFile{x, f}, err
}

type faultyFile struct {
	File
	fs *faultySystem
}

func (f *faultyFile) Sync() error {
	if err := f.fs.fault(); err != nil {
		return err
	}
	return f.File.Sync()
}
