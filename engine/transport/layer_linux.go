package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// A layer is TLS, a codec, or a codec on TLS, between a socket on an event loop
// and the engine. Both work in memory, so that such a connection costs no
// goroutine and no buffer while it is idle.
type layer struct {
	tls   *tls.Conn // reads and writes wire; nil without TLS
	wire  *wire
	codec Codec  // nil without
	plain []byte // of the loop's goroutine: behind TLS, not decoded yet because the engine holds
	out   []byte // under sock.mu: what the kernel has not taken yet
}

// layerMost bounds what answers of the codec or of TLS may add to out when the
// peer does not read.
const layerMost = 4 * frameMost

var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, frameMost+16); return &b }}

// adopt takes a connection over from package net after its handshakes. It
// reports false for one that has no descriptor.
func (ls *loops) adopt(ln *Listener, c *carrier, info engine.ConnInfo) (bool, error) {
	sc, ok := c.wire.Conn.(syscall.Conn)
	if !ok {
		return false, nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("adopt connection: %w", err)
	}
	fd := -1
	var derr error
	if err := rc.Control(func(old uintptr) { fd, derr = duplicate(int(old)) }); err != nil || derr != nil {
		return false, fmt.Errorf("adopt connection: %w", errors.Join(err, derr))
	}
	_ = c.wire.Conn.Close() // closes package net's descriptor; the connection lives on in ours
	c.wire.Conn = nil
	s := ls.newSock(fd)
	if c.tls != nil || c.codec != nil {
		s.layer = &layer{tls: c.tls, wire: c.wire, codec: c.codec}
	}
	first := c.rest
	if c.tls == nil {
		first = append(first, c.wire.in...)
		c.wire.in = nil
	}
	conn, err := ln.admit(info, s)
	if err != nil {
		_ = syscall.Close(fd) // refused
		return true, err
	}
	if !s.loop.do(func() { s.launch(conn, first) }) {
		_ = syscall.Close(fd)
		ln.d.withBatch(func(b *engine.Batch) { conn.Closed(b, nil) })
		return true, nil
	}
	return true, nil
}

// feedLayer decodes what the socket has given, and what was left from before.
func (s *sock) feedLayer(p []byte) engine.Next {
	l := s.layer
	if l.tls == nil {
		return s.decode(l.unite(p))
	}
	l.wire.give(p)
	next := engine.ReadOn
	if len(l.plain) > 0 {
		next = s.decode(l.unite(nil))
	}
	for next == engine.ReadOn {
		n, err := l.tls.Read(s.loop.scratch())
		if n > 0 {
			next = s.decode(s.loop.plain[:n])
		}
		if s.phase != carrying {
			return engine.Stop
		}
		if err != nil {
			var ne net.Error
			//lint:ignore SA1019 errAgain; crypto/tls keeps its state over an error by this very method
			if errors.As(err, &ne) && ne.Temporary() {
				break
			}
			s.say(nil) // an alert that TLS has written
			if err == io.EOF {
				err = nil
			}
			s.farewell(err)
			return engine.Stop
		}
	}
	l.wire.keep()
	if l.wire.pending() {
		s.say(nil) // TLS has answered, to a key update for example
	}
	return next
}

// unite puts what was kept before p.
func (l *layer) unite(p []byte) []byte {
	if len(l.plain) == 0 {
		return p
	}
	q := append(l.plain, p...)
	l.plain = nil
	return q
}

// decode gives MQTT bytes to the engine. What it does not want yet is kept.
func (s *sock) decode(p []byte) engine.Next {
	l := s.layer
	if l.codec == nil {
		return s.conn.Feed(s.loop.batch, p)
	}
	for len(p) > 0 {
		payload, used, answer, err := l.codec.Decode(p, s.loop.answer[:0])
		s.loop.answer = answer[:0]
		if p = p[used:]; len(answer) > 0 {
			s.say(answer)
		}
		if len(payload) > 0 {
			if next := s.conn.Feed(s.loop.batch, payload); next != engine.ReadOn {
				if err == nil {
					l.plain = bytes.Clone(p)
				}
				return next
			}
		}
		if err == io.EOF {
			err = nil
			s.farewell(nil)
			return engine.Stop
		}
		if err != nil {
			s.farewell(err)
			return engine.Stop
		}
		if s.phase != carrying {
			return engine.Stop
		}
	}
	return engine.ReadOn
}

// say sends what codec or TLS have to say themselves.
func (s *sock) say(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flags&gone != 0 {
		return
	}
	s.layer.encrypt(p)
	if s.flags&full == 0 {
		s.flushLayer()
	}
	if len(s.layer.out) > layerMost {
		s.errno = uint16(syscall.ENOBUFS)
		shutdown(int(s.fd), syscall.SHUT_RDWR) // the loop gets EPOLLHUP
	}
}

// encrypt puts wire bytes into out. The caller holds mu.
func (l *layer) encrypt(p []byte) {
	if l.tls == nil {
		l.out = append(l.out, p...)
		return
	}
	if len(p) > 0 {
		// Fails only after an error of TLS itself, which its reader reports.
		_, _ = l.tls.Write(p)
	}
	l.out = append(l.out, l.wire.take()...)
}

// writeLayer is Write for a socket with a layer. The caller holds mu.
func (s *sock) writeLayer(bufs [][]byte) (n int, err error) {
	l := s.layer
	var scratch [vectorLen][]byte
	for len(bufs) > 0 {
		var header [16]byte
		head, rest, k := take(scratch[1:], bufs, frameMost)
		if bufs = rest; k == 0 {
			continue // empty pieces
		}
		var front []byte
		if l.codec != nil {
			front = l.codec.Encode(header[:0], k)
		}
		switch {
		case l.tls != nil:
			err = s.writeTLS(front, head)
		case len(head) < len(scratch):
			scratch[0] = front
			err = s.writePlain(scratch[:1+len(head)], len(front)+k)
		default: // more pieces than scratch has room for: take made a new slice
			err = s.writePlain(append([][]byte{front}, head...), len(front)+k)
		}
		n += k
		if err != nil || s.flags&full != 0 {
			return n, err
		}
	}
	return n, nil
}

// writePlain writes a frame of n bytes and keeps what the kernel does not take.
func (s *sock) writePlain(frame [][]byte, n int) error {
	done, short, errno := writeVector(int(s.fd), frame)
	if errno != 0 {
		return s.fail(errno)
	}
	if !short {
		return nil
	}
	left := make([]byte, 0, n-done)
	for _, b := range frame {
		k := min(done, len(b))
		done -= k
		left = append(left, b[k:]...)
	}
	s.layer.out = left
	s.wait()
	return nil
}

func (s *sock) writeTLS(front []byte, head [][]byte) error {
	b := gatherBuffers.Get().(*[]byte)
	p := append((*b)[:0], front...)
	for _, h := range head {
		p = append(p, h...)
	}
	_, err := s.layer.tls.Write(p)
	*b = p[:0]
	gatherBuffers.Put(b)
	if err != nil {
		return s.fail(syscall.EPIPE) // TLS has ended: nothing can be written any more
	}
	out := s.layer.wire.take()
	done, errno := writeAgain(int(s.fd), out)
	if errno != 0 {
		return s.fail(errno)
	}
	if done < len(out) {
		s.layer.out = append(s.layer.out, out[done:]...)
		s.wait()
	}
	s.layer.wire.release(out)
	return nil
}

// flushLayer writes what the kernel had not taken. The caller holds mu.
func (s *sock) flushLayer() {
	l := s.layer
	if len(l.out) == 0 {
		return
	}
	n, errno := writeAgain(int(s.fd), l.out)
	switch {
	case errno != 0:
		_ = s.fail(errno) // noted there; the loop hears of it
	case n < len(l.out):
		l.out = append([]byte(nil), l.out[n:]...)
		s.wait()
	default:
		l.out = nil
	}
}

// closeLayer says goodbye in the words of codec and TLS. It reports whether
// all of it is with the kernel. The caller holds mu.
func (s *sock) closeLayer() bool {
	l := s.layer
	if l.codec != nil {
		l.encrypt(l.codec.Bye(nil))
	}
	if l.tls != nil {
		_ = l.tls.CloseWrite() // fails only after an error of TLS itself: nothing to say then
		l.encrypt(nil)
	}
	if s.flags&full == 0 {
		s.flushLayer()
	}
	return len(l.out) == 0
}
