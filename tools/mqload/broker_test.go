//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// toyBroker relays exact topics, and misbehaves as told: fault is asked about
// every publication and returns what to deliver instead of it.
type toyBroker struct {
	ln    net.Listener
	mu    sync.Mutex
	subs  map[string][]net.Conn
	fault func(frame []byte) [][]byte
}

func startToy(t *testing.T, fault func([]byte) [][]byte) target {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveToy(t, ln, fault)
}

func startToyTLS(t *testing.T, cfg *tls.Config) target {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	tg := serveToy(t, ln, nil)
	tg.carriage.tls = true
	return tg
}

func serveToy(t *testing.T, ln net.Listener, fault func([]byte) [][]byte) target {
	t.Cleanup(func() { ln.Close() })
	b := &toyBroker{ln: ln, subs: map[string][]net.Conn{}, fault: fault}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return target{name: "toy", addr: netip.MustParseAddrPort(ln.Addr().String()), version: 4}
}

func (b *toyBroker) serve(c net.Conn) {
	defer c.Close()
	var in []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		in = append(in, buf[:n]...)
		for {
			first, body, used, err := nextPacket(in)
			if err != nil || used == 0 {
				break
			}
			b.handle(c, first, body, in[:used])
			in = in[used:]
		}
	}
}

func (b *toyBroker) handle(c net.Conn, first byte, body, frame []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch first & 0xf0 {
	case tConnect:
		c.Write([]byte{tConnack, 2, 0, 0})
	case tSubscribe & 0xf0:
		topic := string(body[4 : 4+int(body[3])])
		b.subs[topic] = append(b.subs[topic], c)
		c.Write([]byte{tSuback, 3, body[0], body[1], body[len(body)-1]})
	case tPublish:
		topicLen := 2 + int(body[1])
		pid, payload, _ := parsePublish(4, first, body)
		frames := [][]byte{frame}
		if b.fault != nil {
			frames = b.fault(frame)
		}
		for _, s := range b.subs[string(body[2:topicLen])] {
			for _, f := range frames {
				s.Write(f)
			}
		}
		if pid != 0 && len(payload) > 0 {
			c.Write(appendAck(nil, tPuback, pid))
		}
	}
}

func runToy(t *testing.T, scenario string, fault func([]byte) [][]byte) result {
	sp, err := parseSpec(scenario)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sp.run(startToy(t, fault), options{warmup: 50 * time.Millisecond, duration: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(scenario, err)
	}
	return r
}

func TestCleanRuns(t *testing.T) {
	for _, sc := range []string{"p2p:n=3", "p2p:n=3,qos=1", "fanout:n=5", "latency:n=3,rate=2000"} {
		if r := runToy(t, sc, nil); r.faults() != "" || r.Count == 0 {
			t.Errorf("%s: %d messages, faults: %s", sc, r.Count, r.faults())
		}
	}
}

func TestFaultsAreFound(t *testing.T) {
	var n int
	var held []byte
	// onceIn changes the 50th publication only.
	onceIn := func(change func(frame []byte) [][]byte) func([]byte) [][]byte {
		n, held = 0, nil
		return func(frame []byte) [][]byte {
			if n++; n == 50 {
				return change(frame)
			}
			if held != nil {
				defer func() { held = nil }()
				return [][]byte{frame, held}
			}
			return [][]byte{frame}
		}
	}
	const sc = "p2p:n=1,window=4"
	if r := runToy(t, sc, onceIn(func([]byte) [][]byte { return nil })); r.faults() != "lost 1" {
		t.Error("dropped one:", r.faults())
	}
	if r := runToy(t, sc, onceIn(func(f []byte) [][]byte { return [][]byte{f, f} })); r.faults() != "dup 1" {
		t.Error("doubled one:", r.faults())
	}
	if r := runToy(t, sc, onceIn(func(f []byte) [][]byte { held = bytes.Clone(f); return nil })); r.faults() != "reordered 1" {
		t.Error("delayed one:", r.faults())
	}
	damage := func(f []byte) [][]byte {
		f = bytes.Clone(f)
		f[len(f)-63] ^= 0xff // in the stamp's publisher
		return [][]byte{f}
	}
	if r := runToy(t, sc, onceIn(damage)); r.faults() != "lost 1, bad 1" {
		t.Error("damaged one:", r.faults())
	}
}
