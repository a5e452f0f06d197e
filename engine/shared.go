package engine

import (
	"sync"
	"sync/atomic"
)

// shared is a message that sessions hold: one copy for all queues, windows and outputs that refer to it. It is counted and
// pooled, so that steady forwarding allocates nothing. A reference belongs to the slot or output segment that holds it.
type shared struct {
	Message
	refs atomic.Int32
	buf  []byte // backs Payload and Properties

	// What the store has of it.
	number  atomic.Uint64 // 0: never stored
	at      atomic.Uint64 // Position behind the record that was staged last
	end     atomic.Uint64 // Position behind its publication; 0 while that is not whole
	keeps   atomic.Int32  // deliveries, retained and delayed messages that the store has it for
	refused atomic.Bool   // its QoS 2 publication was refused afterwards: nobody gets it
}

// ownBuffer is up to which size, in bytes, a message keeps its buffer when it goes back to the pool.
const ownBuffer = 1 << 10

var sharedPool = sync.Pool{New: func() any { return new(shared) }}

// newShared copies m. The caller owns the one reference.
func newShared(m *Message) *shared {
	s := sharedPool.Get().(*shared)
	s.Message = *m
	if n := len(m.Payload) + len(m.Properties); n > ownBuffer {
		s.buf = getBuffer(n)
	} else if cap(s.buf) < n {
		s.buf = make([]byte, 0, max(128, n))
	}
	s.buf = append(append(s.buf[:0], m.Payload...), m.Properties...)
	s.Payload = s.buf[:len(m.Payload):len(m.Payload)]
	s.Properties = s.buf[len(m.Payload):]
	s.refs.Store(1)
	return s
}

// keepMessage copies m for good, into memory of the right size. The copy never goes to the pool.
func keepMessage(m *Message) *shared {
	s := &shared{Message: *m.Clone()}
	s.refs.Store(1)
	return s
}

func (s *shared) hold() *shared {
	s.refs.Add(1)
	return s
}

func (s *shared) release() {
	switch n := s.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("engine: message released twice")
	}
	if cap(s.buf) > ownBuffer {
		putBuffer(s.buf)
		s.buf = nil
	}
	s.Message = Message{}
	if s.number.Load() != 0 {
		s.number.Store(0)
		s.at.Store(0)
		s.end.Store(0)
		s.keeps.Store(0)
		s.refused.Store(false)
	}
	sharedPool.Put(s)
}
