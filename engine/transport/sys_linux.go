package transport

import (
	"net"
	"syscall"
	"unsafe"
)

// The calls of this file are made on non-blocking descriptors only and return
// at once, so they need not tell the Go scheduler (RawSyscall): that costs
// a little each time and, worse, invites the scheduler to hand the processor to
// somebody else between the read of a message and its write.

func rawRead(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

func rawWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

const vectorLen = 64 // pieces handed to the kernel with one writev

// writeVector writes bufs as far as the socket takes them. full reports that
// it took less than everything without an error.
func writeVector(fd int, bufs [][]byte) (n int, full bool, errno syscall.Errno) {
	if len(bufs) == 1 {
		n, errno = writeAgain(fd, bufs[0])
		return n, errno == 0 && n < len(bufs[0]), errno
	}
	var iov [vectorLen]syscall.Iovec
	for len(bufs) > 0 {
		k, want := 0, 0
		for _, b := range bufs[:min(len(bufs), vectorLen)] {
			if len(b) > 0 {
				iov[k].Base = unsafe.SliceData(b)
				iov[k].SetLen(len(b))
				k++
				want += len(b)
			}
		}
		bufs = bufs[min(len(bufs), vectorLen):]
		if k == 0 {
			continue
		}
		m, errno := writevAgain(fd, &iov[0], k)
		n += m
		if errno != 0 || m < want {
			return n, errno == 0, errno
		}
	}
	return n, false, 0
}

// writeAgain is rawWrite without EINTR, and with EAGAIN as 0 bytes.
func writeAgain(fd int, p []byte) (int, syscall.Errno) {
	if len(p) == 0 {
		return 0, 0
	}
	for {
		n, errno := rawWrite(fd, p)
		switch errno {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, 0
		}
		return n, errno
	}
}

func writevAgain(fd int, iov *syscall.Iovec, k int) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(iov)), uintptr(k))
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, 0
		}
		return 0, errno
	}
}

// epollNow asks for events without waiting.
func epollNow(epfd int, events []syscall.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epfd),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func epollControl(epfd, op, fd int, events uint32, gen uint32) syscall.Errno {
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd), Pad: int32(gen)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

func shutdown(fd, how int) { syscall.RawSyscall(syscall.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0) }

// duplicate makes a second descriptor of an open file, closed on exec.
func duplicate(fd int) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// fileLimit is the number of descriptors the process may have open.
func fileLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || uint64(r.Cur) > maxFiles {
		return maxFiles
	}
	return int(r.Cur)
}

// allow reports whether a connection of package net may be kept; its
// descriptor says how many are open, for the lowest free number is taken.
func (f *files) allow(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	_, usable := f.limits()
	ok = true
	if err := rc.Control(func(fd uintptr) { ok = int(fd) < usable }); err != nil {
		return true // closed already: the handshake finds out
	}
	return ok
}
