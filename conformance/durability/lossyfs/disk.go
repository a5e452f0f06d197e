// Package lossyfs is a file system that forgets, as a disk does that loses its power: what was written and not synced, names that
// were made and whose directory was not synced. It keeps everything in memory, twice where the two differ: as processes see it, and
// as it would be found after a crash. It can also fail on demand. Only Linux can mount it; it needs root and /dev/fuse.
//
// It is stricter than the file systems in use. A name lasts once its directory was synced, not with the file. After a failed sync
// the pages that were to be written count as clean, as Linux has it, so that a second sync succeeds and saves nothing.
package lossyfs

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// Disk is the file system without the mount. Its methods may be called from any goroutine.
type Disk struct {
	mu      sync.Mutex
	root    *inode
	next    uint64
	pending []change // of names, in order, that no sync of a directory has saved
	faults  Faults
	stats   Stats
}

// Faults are what a disk does wrong. The zero value is nothing.
type Faults struct {
	// Match says which files are meant, by their path from the root; nil: all.
	Match func(path string) bool
	// Full makes whatever needs room fail with ENOSPC: a file that grows, a name that is made.
	Full bool
	// Writes and Syncs fail with EIO so many times; below 0: for ever.
	Writes, Syncs int
	// SyncTime is what every sync takes, before anything is saved.
	SyncTime time.Duration
}

// Stats count what was done.
type Stats struct {
	Writes, Syncs, Failed int
	Bytes                 int64
}

// Crash says what a loss of power leaves of what was not synced.
type Crash struct {
	// Random makes every page that was written and not synced last, be lost or be torn into sectors by chance, in no order, and a
	// prefix by chance of the changes of names last. nil: none of it lasts.
	Random *rand.Rand
}

// inode is a file or directory.
type inode struct {
	ino   uint64
	dir   bool
	mode  uint32
	mtime time.Time

	names, lasting map[string]*inode // of a directory: as seen, and as it is after a crash

	pages map[int64]*page // of a file, by number; one that is not there is zeros
	size  int64
	saved int64 // size after a crash
}

// page is a piece of a file as it is seen and as it is after a crash; a nil slice is zeros.
type page struct {
	seen, saved []byte
	dirty       bool
}

// change is one of names: from is what loses a name, to what gains one.
type change struct {
	from, to         *inode // directories; nil: none
	fromName, toName string
	node             *inode // what gains it
}

// New makes an empty disk.
func New() *Disk {
	d := &Disk{next: 1}
	d.root = d.make(true, 0o700)
	return d
}

func (d *Disk) make(dir bool, mode uint32) *inode {
	n := &inode{ino: d.next, dir: dir, mode: mode, mtime: time.Now()}
	d.next++
	if dir {
		n.names, n.lasting = map[string]*inode{}, map[string]*inode{}
	} else {
		n.pages = map[int64]*page{}
	}
	return n
}

// Fail sets what goes wrong from now on.
func (d *Disk) Fail(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
}

// Stats gives the counts.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Crash takes the power away and gives it back: from now on the disk is what was left. It must not be mounted.
func (d *Disk) Crash(c Crash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.Random != nil {
		for _, x := range d.pending[:c.Random.IntN(len(d.pending)+1)] {
			x.save()
		}
	}
	d.pending = nil
	d.root.crash(c, map[*inode]bool{})
}

func (n *inode) crash(c Crash, done map[*inode]bool) {
	if done[n] {
		return
	}
	done[n] = true
	if n.dir {
		n.names = map[string]*inode{}
		for _, name := range sorted(n.lasting) {
			n.names[name] = n.lasting[name]
			n.lasting[name].crash(c, done)
		}
		return
	}
	if c.Random != nil && c.Random.IntN(2) == 0 {
		n.saved = n.size
	}
	n.size = n.saved
	for _, number := range sorted(n.pages) {
		p := n.pages[number]
		if p.dirty && c.Random != nil {
			p.tear(c.Random)
		}
		p.seen, p.dirty = slices.Clone(p.saved), false
	}
	n.clip(n.size)
	for _, p := range n.pages {
		p.saved, p.dirty = slices.Clone(p.seen), false
	}
}

// tear saves all, some sectors or nothing of a page.
func (p *page) tear(r *rand.Rand) {
	kind := r.IntN(3)
	if kind == 0 {
		return
	}
	if p.saved == nil {
		p.saved = make([]byte, pageSize)
	}
	for i := 0; i < pageSize; i += sectorSize {
		if kind == 1 || r.IntN(2) == 0 {
			copy(p.saved[i:i+sectorSize], p.seen[i:])
		}
	}
}

// save makes a change of names last.
func (x *change) save() {
	if x.from != nil {
		delete(x.from.lasting, x.fromName)
	}
	if x.to != nil {
		x.to.lasting[x.toName] = x.node
	}
}

func sorted[K int64 | string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// where gives the path of a node, "" for the root or what has no name any more. d.mu is held.
func (d *Disk) where(n *inode) string {
	var find func(dir *inode, at string) string
	find = func(dir *inode, at string) string {
		for name, x := range dir.names {
			if x == n {
				return path.Join(at, name)
			}
			if x.dir {
				if p := find(x, path.Join(at, name)); p != "" {
					return p
				}
			}
		}
		return ""
	}
	return find(d.root, "")
}

// meant reports whether the faults are for a file. d.mu is held.
func (d *Disk) meant(p string) bool { return d.faults.Match == nil || d.faults.Match(p) }

// room is ENOSPC if a file may not grow or be made now. d.mu is held.
func (d *Disk) room(p string) syscall.Errno {
	if d.faults.Full && d.meant(p) {
		d.stats.Failed++
		return syscall.ENOSPC
	}
	return 0
}

// broken is EIO if this one fails; left counts those that still do. d.mu is held.
func (d *Disk) broken(n *inode, left *int) bool {
	if *left == 0 || !d.meant(d.where(n)) {
		return false
	}
	if *left > 0 {
		*left--
	}
	d.stats.Failed++
	return true
}

// create gives a directory a new name.
func (d *Disk) create(dir *inode, name string, isDir bool, mode uint32) (*inode, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dir.names[name] != nil {
		return nil, syscall.EEXIST
	}
	if errno := d.room(path.Join(d.where(dir), name)); errno != 0 {
		return nil, errno
	}
	n := d.make(isDir, mode)
	dir.names[name] = n
	d.pending = append(d.pending, change{to: dir, toName: name, node: n})
	return n, 0
}

func (d *Disk) remove(dir *inode, name string, isDir bool) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := dir.names[name]
	switch {
	case n == nil:
		return syscall.ENOENT
	case n.dir && !isDir:
		return syscall.EISDIR
	case !n.dir && isDir:
		return syscall.ENOTDIR
	case len(n.names) > 0:
		return syscall.ENOTEMPTY
	}
	delete(dir.names, name)
	d.pending = append(d.pending, change{from: dir, fromName: name})
	return 0
}

func (d *Disk) rename(from *inode, name string, to *inode, newName string) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, old := from.names[name], to.names[newName]
	switch {
	case n == nil:
		return syscall.ENOENT
	case old != nil && old.dir && len(old.names) > 0:
		return syscall.ENOTEMPTY
	}
	if errno := d.room(path.Join(d.where(to), newName)); errno != 0 {
		return errno
	}
	delete(from.names, name)
	to.names[newName] = n
	d.pending = append(d.pending, change{from: from, fromName: name, to: to, toName: newName, node: n})
	return 0
}

// lookup gives what has a name, or nil.
func (d *Disk) lookup(dir *inode, name string) *inode {
	d.mu.Lock()
	defer d.mu.Unlock()
	return dir.names[name]
}

// list gives the names in a directory.
func (d *Disk) list(dir *inode) (names []string, nodes []*inode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	names = sorted(dir.names)
	for _, name := range names {
		nodes = append(nodes, dir.names[name])
	}
	return names, nodes
}

func (d *Disk) read(n *inode, to []byte, off int64) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= n.size {
		return 0
	}
	to = to[:min(int64(len(to)), n.size-off)]
	clear(to)
	for done := 0; done < len(to); {
		at := off + int64(done)
		step := min(pageSize-int(at%pageSize), len(to)-done)
		if p := n.pages[at/pageSize]; p != nil && p.seen != nil {
			copy(to[done:done+step], p.seen[at%pageSize:])
		}
		done += step
	}
	return len(to)
}

func (d *Disk) write(n *inode, from []byte, off int64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken(n, &d.faults.Writes) {
		return syscall.EIO
	}
	if off+int64(len(from)) > n.size {
		if errno := d.room(d.where(n)); errno != 0 {
			return errno
		}
	}
	d.stats.Writes++
	d.stats.Bytes += int64(len(from))
	n.put(from, off)
	n.size = max(n.size, off+int64(len(from)))
	n.mtime = time.Now()
	return 0
}

func (n *inode) put(from []byte, off int64) {
	for len(from) > 0 {
		p := n.pages[off/pageSize]
		if p == nil {
			p = &page{}
			n.pages[off/pageSize] = p
		}
		if p.seen == nil {
			p.seen = make([]byte, pageSize)
		}
		p.dirty = true
		k := copy(p.seen[off%pageSize:], from)
		from, off = from[k:], off+int64(k)
	}
}

// clip makes everything behind size zeros.
func (n *inode) clip(size int64) {
	for number, p := range n.pages {
		start := number * pageSize
		switch {
		case start >= size:
			p.seen, p.dirty = nil, true
		case start+pageSize > size && p.seen != nil:
			clear(p.seen[size-start:])
			p.dirty = true
		}
	}
}

func (d *Disk) truncate(n *inode, size int64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if size > n.size {
		if errno := d.room(d.where(n)); errno != 0 {
			return errno
		}
	}
	if size < n.size {
		n.clip(size)
	}
	n.size = size
	n.mtime = time.Now()
	return 0
}

// allocate makes the file at least that long, unless keep.
func (d *Disk) allocate(n *inode, end int64, keep bool) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if errno := d.room(d.where(n)); errno != 0 {
		return errno
	}
	if !keep {
		n.size = max(n.size, end)
	}
	return 0
}

// sync saves a file, or the names in a directory.
func (d *Disk) sync(n *inode) syscall.Errno {
	d.mu.Lock()
	wait := d.faults.SyncTime
	if wait > 0 && !d.meant(d.where(n)) {
		wait = 0
	}
	d.mu.Unlock()
	time.Sleep(wait)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken(n, &d.faults.Syncs) {
		for _, p := range n.pages { // they count as written
			p.dirty = false
		}
		return syscall.EIO
	}
	d.stats.Syncs++
	if n.dir {
		d.pending = slices.DeleteFunc(d.pending, func(x change) bool {
			if x.from != n && x.to != n {
				return false
			}
			x.save()
			return true
		})
		return 0
	}
	n.saved = n.size
	for _, p := range n.pages {
		if p.dirty {
			p.saved, p.dirty = slices.Clone(p.seen), false
		}
	}
	return 0
}

// Under gives a Match for everything below a directory, itself included.
func Under(dir string) func(string) bool {
	return func(p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
}
