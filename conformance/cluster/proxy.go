//go:build linux

package cluster

import (
	"io"
	"net"
	"sync"
	"time"
)

// proxy is a way between two hosts on which everything takes a while: this kernel and those of many test machines have no netem.
type proxy struct {
	l     net.Listener
	to    string
	delay time.Duration

	tasks sync.WaitGroup
	mu    sync.Mutex
	ended bool
	conns map[net.Conn]bool
}

func newProxy(listen, to string, delay time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &proxy{l: l, to: to, delay: delay, conns: map[net.Conn]bool{}}
	p.tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.tasks.Go(func() { p.carry(c) })
		}
	})
	return p, nil
}

func (p *proxy) port() int { return p.l.Addr().(*net.TCPAddr).Port }

func (p *proxy) close() {
	_ = p.l.Close() // nothing is lost
	p.mu.Lock()
	p.ended = true
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.tasks.Wait()
}

// keep notes a connection so that close ends it.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return !p.ended
}

func (p *proxy) carry(c net.Conn) {
	defer p.drop(c)
	if !p.keep(c) {
		return
	}
	d, err := net.DialTimeout("tcp", p.to, 5*time.Second)
	if err != nil {
		return
	}
	defer p.drop(d)
	if !p.keep(d) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(c, d) })
	both.Go(func() { p.pass(d, c) })
	both.Wait()
}

func (p *proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// piece is what was read at once, and when it is to go on.
type piece struct {
	b  []byte
	at time.Time
}

// pass carries one direction until an end closes.
func (p *proxy) pass(from, to net.Conn) {
	pieces := make(chan piece, 1024) // what is on the way; then it is not read
	var writing sync.WaitGroup
	writing.Go(func() {
		for x := range pieces {
			time.Sleep(time.Until(x.at)) // the delay
			if _, err := to.Write(x.b); err != nil {
				from.Close()
				break
			}
		}
		for range pieces { // nobody wants the rest
		}
		to.Close()
	})
	for {
		b := make([]byte, 32<<10)
		n, err := from.Read(b)
		if n > 0 {
			pieces <- piece{b[:n], time.Now().Add(p.delay)}
		}
		if err != nil {
			if err != io.EOF {
				to.Close()
			}
			break
		}
	}
	close(pieces)
	writing.Wait()
}
