package engine

import (
	"sync"
)

// output holds the bytes that wait for the carrier of one connection. Connections have one only while something waits.
// It is guarded by Conn.mu.
type output struct {
	bufs   [][]byte // segments in order; the first is cut as it is written
	owners []owner  // of the same length
	head   int      // first segment that is not written
	size   int      // bytes
	inline [outputInline]byte
}

// owner says what a segment is part of: a chunk of the pool, a large buffer, a message, or none of these.
type owner struct {
	chunk *chunk
	m     *shared
	large []byte
}

type chunk [outputChunk]byte

const (
	outputInline = 2 << 10
	outputChunk  = 16 << 10
	// referBorder is the payload size in bytes from which on outputs refer to the message instead of copying it. See the
	// measurement in DESIGN.md.
	referBorder = 4 << 10
)

var (
	outputPool = sync.Pool{New: func() any { return new(output) }}
	chunkPool  = sync.Pool{New: func() any { return new(chunk) }}
)

func newOutput() *output {
	o := outputPool.Get().(*output)
	o.bufs = append(o.bufs, o.inline[:0])
	o.owners = append(o.owners, owner{})
	return o
}

// reserve gives n contiguous bytes at the end.
func (o *output) reserve(n int) []byte {
	o.size += n
	last := len(o.bufs) - 1
	if p := o.bufs[last]; cap(p)-len(p) >= n && o.owners[last].m == nil {
		o.bufs[last] = p[:len(p)+n]
		return o.bufs[last][len(p):]
	}
	if n > outputChunk {
		p := getBuffer(n)[:n]
		o.bufs = append(o.bufs, p)
		o.owners = append(o.owners, owner{large: p})
	} else {
		c := chunkPool.Get().(*chunk)
		o.bufs = append(o.bufs, c[:n])
		o.owners = append(o.owners, owner{chunk: c})
	}
	return o.bufs[last+1]
}

// write copies p to the end and gives the copy.
func (o *output) write(p []byte) []byte {
	d := o.reserve(len(p))
	copy(d, p)
	return d
}

// refer puts the payload of m at the end without copying it and holds m.
func (o *output) refer(m *shared) {
	if len(m.Payload) == 0 {
		return
	}
	o.bufs = append(o.bufs, m.Payload)
	o.owners = append(o.owners, owner{m: m.hold()})
	o.size += len(m.Payload)
}

// consume drops the first n bytes, which the carrier has taken.
func (o *output) consume(n int) {
	o.size -= n
	for o.head < len(o.bufs) {
		p := o.bufs[o.head]
		if n < len(p) {
			o.bufs[o.head] = p[n:]
			return
		}
		n -= len(p)
		if o.head == len(o.bufs)-1 && o.owners[o.head].m == nil && o.size == 0 {
			o.bufs[o.head] = p[len(p):]
			return
		}
		o.drop(o.head)
		o.head++
	}
}

func (o *output) drop(i int) {
	w := o.owners[i]
	o.bufs[i], o.owners[i] = nil, owner{}
	if w.chunk != nil {
		chunkPool.Put(w.chunk)
	}
	if w.m != nil {
		w.m.release()
	}
	if w.large != nil {
		putBuffer(w.large)
	}
}

// free gives everything back to the pools. o must not be used any more.
func (o *output) free() {
	for i := o.head; i < len(o.bufs); i++ {
		o.drop(i)
	}
	if cap(o.bufs) > 1024 {
		return
	}
	o.bufs, o.owners, o.head, o.size = o.bufs[:0], o.owners[:0], 0, 0
	outputPool.Put(o)
}
