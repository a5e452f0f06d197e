package engine

import (
	"math/bits"
	"sync"
)

// Large buffers come from pools by size, so that packets that span several reads, and messages that sessions keep, do not
// leave garbage as large as themselves behind. Each class is twice the one before.
const (
	bufferBits  = 11 // the smallest class: 2 KB
	bufferTypes = 11 // the largest: 2 MB
)

// boxed is a buffer in a pool: a pointer goes into an interface without an allocation. Empty boxes have a pool of their own.
type boxed struct{ b []byte }

var (
	bufferPools [bufferTypes]sync.Pool
	boxPool     = sync.Pool{New: func() any { return new(boxed) }}
)

// bufferClass is the class of the smallest buffers with room for n bytes; it may be beyond the last.
func bufferClass(n int) int {
	if n <= 1<<bufferBits {
		return 0
	}
	return bits.Len(uint(n-1)) - bufferBits
}

// getBuffer gives an empty buffer with room for n bytes at least. Above the largest class it comes from the heap.
func getBuffer(n int) []byte {
	class := bufferClass(n)
	if class >= bufferTypes {
		return make([]byte, 0, n)
	}
	box, _ := bufferPools[class].Get().(*boxed)
	if box == nil {
		return make([]byte, 0, 1<<(class+bufferBits))
	}
	b := box.b
	box.b = nil
	boxPool.Put(box)
	return b[:0]
}

// putBuffer gives a buffer of getBuffer back. Others are left to the collector.
func putBuffer(p []byte) {
	class := bufferClass(cap(p))
	if class >= bufferTypes || cap(p) != 1<<(class+bufferBits) {
		return
	}
	box := boxPool.Get().(*boxed)
	box.b = p[:0]
	bufferPools[class].Put(box)
}

// appendBuffer appends p to dst, a buffer of getBuffer or nil. size is what dst will come to, as far as a stranger says so: memory
// is taken for twice what is there at most, rounded up to a class.
func appendBuffer(dst, p []byte, size int) []byte {
	if n := len(dst) + len(p); cap(dst) < n {
		bigger := append(getBuffer(max(n, min(size, 2*n))), dst...)
		putBuffer(dst)
		dst = bigger
	}
	return append(dst, p...)
}
