package store

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// faultFS is a file system in memory that forgets, when the power goes, what was not synced, and fails when it is told to.
type faultFS struct {
	mu      sync.Mutex
	names   map[string]*faultFile // as they are seen
	synced  map[string]*faultFile // as they are on the medium
	journal []func(names map[string]*faultFile)
	locks   map[string]bool
	fail    func(op, path string) error // nil: nothing fails
	syncs   int
}

// faultFile is a file, as it is seen and as it is on the medium. Its fields are guarded by faultFS.mu.
type faultFile struct {
	data    []byte
	synced  []byte
	pending []faultWrite // since the last sync
}

type faultWrite struct {
	off  int64
	data []byte
	cut  bool // off is the length the file is cut to
}

// whole reports whether w is one that no medium tears.
func (w faultWrite) whole() bool { return w.off == 0 && len(w.data) <= segmentHeaderSize }

func newFaultFS() *faultFS {
	return &faultFS{names: map[string]*faultFile{}, synced: map[string]*faultFile{}, locks: map[string]bool{}}
}

func (w faultWrite) apply(b []byte, n int) []byte {
	if w.cut {
		return resize(b, int(w.off))
	}
	if end := int(w.off) + n; end > len(b) {
		b = resize(b, end)
	}
	copy(b[w.off:], w.data[:n])
	return b
}

func resize(b []byte, n int) []byte {
	out := make([]byte, n)
	copy(out, b)
	return out
}

// image gives a file system as it is found after the process was killed.
func (f *faultFS) image() *faultFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := newFaultFS()
	for name, x := range f.names {
		y := &faultFile{data: slices.Clone(x.data), synced: slices.Clone(x.synced), pending: slices.Clone(x.pending)}
		out.names[name] = y
	}
	for name, x := range f.synced {
		for n, y := range f.names {
			if y == x {
				out.synced[name] = out.names[n]
			}
		}
		if out.synced[name] == nil {
			out.synced[name] = &faultFile{data: slices.Clone(x.data), synced: slices.Clone(x.synced), pending: slices.Clone(x.pending)}
		}
	}
	return out
}

// powerLoss gives a file system as it is found when the power has gone: what was synced, and of the rest what random decides. Names
// change in their order, writes in none, and a write may be torn, but not the head of a file, which lies in one sector.
func (f *faultFS) powerLoss(random func(n int) int) *faultFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := maps.Clone(f.synced)
	for _, change := range f.journal[:random(len(f.journal)+1)] {
		change(names)
	}
	out := newFaultFS()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x := names[name]
		data := slices.Clone(x.synced)
		for _, w := range x.pending {
			switch n := random(4); {
			case n == 1 && !w.cut && !w.whole():
				data = w.apply(data, random(len(w.data)+1))
			case n > 1:
				data = w.apply(data, len(w.data))
			}
		}
		out.names[name] = &faultFile{data: data, synced: slices.Clone(data)}
	}
	out.synced = maps.Clone(out.names)
	return out
}

// check says whether an operation fails. mu is held.
func (f *faultFS) check(op, path string) error {
	if f.fail != nil {
		return f.fail(op, path)
	}
	return nil
}

func (f *faultFS) setFail(fail func(op, path string) error) {
	f.mu.Lock()
	f.fail = fail
	f.mu.Unlock()
}

// change changes names; mu is held.
func (f *faultFS) change(do func(names map[string]*faultFile)) {
	do(f.names)
	f.journal = append(f.journal, do)
}

func missingFile(op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}

func (f *faultFS) MkdirAll(string) error { return nil }

func (f *faultFS) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for name := range f.names {
		if filepath.Dir(name) == dir {
			list = append(list, filepath.Base(name))
		}
	}
	if list == nil {
		return nil, missingFile("list", dir)
	}
	return list, nil
}

func (f *faultFS) ReadFile(path string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.names[path]
	if x == nil {
		return nil, missingFile("read", path)
	}
	return slices.Clone(x.data), f.check("read", path)
}

func (f *faultFS) Create(path string) (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check("create", path); err != nil {
		return nil, err
	}
	x := &faultFile{}
	f.change(func(names map[string]*faultFile) { names[path] = x })
	return &faultHandle{fs: f, path: path, file: x}, nil
}

func (f *faultFS) Open(path string) (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.names[path]
	if x == nil {
		return nil, missingFile("open", path)
	}
	return &faultHandle{fs: f, path: path, file: x}, f.check("open", path)
}

func (f *faultFS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check("rename", to); err != nil {
		return err
	}
	x := f.names[from]
	if x == nil {
		return missingFile("rename", from)
	}
	f.change(func(names map[string]*faultFile) { delete(names, from); names[to] = x })
	return nil
}

func (f *faultFS) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check("remove", path); err != nil {
		return err
	}
	if f.names[path] == nil {
		return missingFile("remove", path)
	}
	f.change(func(names map[string]*faultFile) { delete(names, path) })
	return nil
}

func (f *faultFS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check("sync directory", dir); err != nil {
		return err
	}
	f.synced, f.journal = maps.Clone(f.names), nil
	return nil
}

func (f *faultFS) Lock(path string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locks[path] {
		return nil, fmt.Errorf("lock %s: %w", path, ErrInUse)
	}
	f.locks[path] = true
	return faultLock{f, path}, nil
}

type faultLock struct {
	fs   *faultFS
	path string
}

func (l faultLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	l.fs.locks[l.path] = false
	return nil
}

type faultHandle struct {
	fs   *faultFS
	path string
	file *faultFile
}

func (h *faultHandle) write(w faultWrite) {
	h.file.data = w.apply(h.file.data, len(w.data))
	h.file.pending = append(h.file.pending, w)
}

func (h *faultHandle) WriteAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.check("write", h.path); err != nil {
		if w := (faultWrite{off: off, data: slices.Clone(p)}); !w.whole() {
			w.data = w.data[:len(p)/2]
			h.write(w)
		}
		return len(p) / 2, err
	}
	h.write(faultWrite{off: off, data: slices.Clone(p)})
	return len(p), nil
}

// Sync that fails leaves what was written in sight and forgets that it is not on the medium, as Linux does.
func (h *faultHandle) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	h.fs.syncs++
	err := h.fs.check("sync", h.path)
	if err == nil {
		// A page that was dropped by a failed sync is not written by a later one.
		for _, w := range h.file.pending {
			h.file.synced = w.apply(h.file.synced, len(w.data))
		}
	}
	h.file.pending = nil
	return err
}

func (h *faultHandle) Reserve(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.check("reserve", h.path); err != nil {
		return err
	}
	if int(size) > len(h.file.data) {
		h.write(faultWrite{off: size, cut: true})
	}
	return nil
}

func (h *faultHandle) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.check("truncate", h.path); err != nil {
		return err
	}
	h.write(faultWrite{off: size, cut: true})
	return nil
}

func (h *faultHandle) Close() error { return nil }

// disk opens, loads and starts a store on f.
func disk(t testing.TB, o Options) *Disk {
	t.Helper()
	if o.Dir == "" {
		o.Dir = "/data/store"
	}
	d, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = d.Close() }) // tests that care close it themselves
	return d
}
