package lossyfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Available says why the file system cannot be mounted here; nil: it can.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("mounting needs root")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// Mount shows the disk at a directory until the returned function unmounts it, which fails while files there are open.
func (d *Disk) Mount(dir string) (unmount func() error, err error) {
	never := time.Duration(0)
	server, err := fs.Mount(dir, &node{disk: d, inode: d.root}, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "lossyfs", Name: "lossyfs", DisableXAttrs: true},
		EntryTimeout: &never, AttrTimeout: &never, NegativeTimeout: &never,
		RootStableAttr: &fs.StableAttr{Ino: d.root.ino},
	})
	if err != nil {
		return nil, fmt.Errorf("mount lossyfs: %w", err)
	}
	return func() error {
		if err := server.Unmount(); err != nil {
			return fmt.Errorf("unmount lossyfs: %w", err)
		}
		server.Wait()
		return nil
	}, nil
}

// node is what the kernel knows of an inode.
type node struct {
	fs.Inode
	disk  *Disk
	inode *inode
}

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeFlusher   = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

func kindOf(n *inode) uint32 {
	if n.dir {
		return syscall.S_IFDIR
	}
	return syscall.S_IFREG
}

func (n *node) attr(of *inode, out *fuse.Attr) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	out.Ino, out.Mode, out.Size = of.ino, kindOf(of)|of.mode, uint64(of.size)
	out.Blocks, out.Nlink = (out.Size+511)/512, 1
	out.SetTimes(nil, &of.mtime, &of.mtime)
}

// known makes what the kernel is told of an inode.
func (n *node) known(ctx context.Context, of *inode, out *fuse.EntryOut) *fs.Inode {
	n.attr(of, &out.Attr)
	return n.NewInode(ctx, &node{disk: n.disk, inode: of}, fs.StableAttr{Mode: kindOf(of), Ino: of.ino})
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	x := n.disk.lookup(n.inode, name)
	if x == nil {
		return nil, syscall.ENOENT
	}
	return n.known(ctx, x, out), 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	names, nodes := n.disk.list(n.inode)
	entries := make([]fuse.DirEntry, len(names))
	for i := range names {
		entries[i] = fuse.DirEntry{Name: names[i], Ino: nodes[i].ino, Mode: kindOf(nodes[i])}
	}
	return fs.NewListDirStream(entries), 0
}

func (n *node) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	x, errno := n.disk.create(n.inode, name, false, mode&0o777)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return n.known(ctx, x, out), nil, 0, 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	x, errno := n.disk.create(n.inode, name, true, mode&0o777)
	if errno != 0 {
		return nil, errno
	}
	return n.known(ctx, x, out), 0
}

// Mknod makes the sockets of a data directory. They do not last: they are no more than names.
func (n *node) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	x, errno := n.disk.create(n.inode, name, false, mode&0o777)
	if errno != 0 {
		return nil, errno
	}
	n.attr(x, &out.Attr)
	out.Mode = mode
	return n.NewInode(ctx, &node{disk: n.disk, inode: x}, fs.StableAttr{Mode: mode & syscall.S_IFMT, Ino: x.ino}), 0
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.disk.remove(n.inode, name, false)
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.disk.remove(n.inode, name, true)
}

func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	return n.disk.rename(n.inode, name, parent.(*node).inode, newName)
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.attr(n.inode, &out.Attr)
	return 0
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if errno := n.disk.truncate(n.inode, int64(size)); errno != 0 {
			return errno
		}
	}
	if mode, ok := in.GetMode(); ok {
		n.disk.mu.Lock()
		n.inode.mode = mode & 0o777
		n.disk.mu.Unlock()
	}
	n.attr(n.inode, &out.Attr)
	return 0
}

func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, to []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultData(to[:n.disk.read(n.inode, to, off)]), 0
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, from []byte, off int64) (uint32, syscall.Errno) {
	if errno := n.disk.write(n.inode, from, off); errno != 0 {
		return 0, errno
	}
	return uint32(len(from)), 0
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return n.disk.sync(n.inode)
}

func (n *node) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

func (n *node) Allocate(_ context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	const keepSize = 1
	if mode&^keepSize != 0 {
		return syscall.ENOTSUP
	}
	return n.disk.allocate(n.inode, int64(off+size), mode&keepSize != 0)
}

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks, out.Bfree, out.Bavail = 1<<24, 1<<23, 1<<23
	return 0
}
