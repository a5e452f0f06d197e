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
}

// maxPooledMessage is the largest buffer that a message takes back to the pool, bytes.
const maxPooledMessage = 64 << 10

var sharedPool = sync.Pool{New: func() any { return new(shared) }}

// newShared copies m. The caller owns the one reference.
func newShared(m *Message) *shared {
	s := sharedPool.Get().(*shared)
	s.Message = *m
	s.buf = append(append(s.buf[:0], m.Payload...), m.Properties...)
	s.Payload = s.buf[:len(m.Payload):len(m.Payload)]
	s.Properties = s.buf[len(m.Payload):]
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
	if cap(s.buf) > maxPooledMessage {
		return // left to the collector
	}
	s.Message = Message{}
	sharedPool.Put(s)
}
