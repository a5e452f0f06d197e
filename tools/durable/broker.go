package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// process is a running broker.
type process struct {
	cmd  *exec.Cmd
	addr string
	took time.Duration // until it was ready
	over chan error    // holds one when the process has ended
}

// launch starts the broker on a data directory.
func (b *bench) launch(data string) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	args := []string{"--data-dir", data}
	for _, set := range []string{
		"listener.tcp.external=" + addr, "listener.tcp.internal=off", "listener.ssl.external=off", "listener.ws.external=off",
		"listener.wss.external=off", "management.listener.http=127.0.0.1:0", "dashboard.listener.http=127.0.0.1:0",
		"zone.external.max_mqueue_len=0", "mqtt.session.max_queue_bytes=0",
	} {
		args = append(args, "--set", set)
	}
	p := &process{cmd: exec.CommandContext(b.ctx, b.program, args...), addr: addr}
	var said strings.Builder
	p.cmd.Stdout, p.cmd.Stderr = &said, &said
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.over = make(chan error, 1)
	go func() { p.over <- p.cmd.Wait() }()
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			p.took = time.Since(begin)
			return p, c.Close()
		}
		select {
		case err := <-p.over:
			return nil, fmt.Errorf("the broker ended: %w\n%s", err, said.String())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// kill ends the broker without notice.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	<-p.over
	return err
}

// used is the processor time and what the process has caused to be written.
func (p *process) used() (cpu time.Duration, written float64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	io, err3 := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	for _, line := range strings.Split(string(io), "\n") {
		if n, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			written, _ = strconv.ParseFloat(n, 64)
		}
	}
	return time.Duration(user+system) * 10 * time.Millisecond, written, errors.Join(err1, err2, err3)
}

// client is one connection.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(addr, id string, clean bool) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReaderSize(conn, 4096)}
	_, err = c.ask((&packet.Connect{Version: packet.V311, ClientID: id, CleanStart: clean}).Append(nil, packet.V311))
	return c, err
}

// ask writes p and reads one packet of at most 127 bytes.
func (c *client) ask(p []byte) (byte, error) {
	if _, err := c.Write(p); err != nil {
		return 0, err
	}
	return c.read()
}

func (c *client) read() (byte, error) {
	head, err := c.r.ReadByte()
	if err != nil {
		return 0, err
	}
	size, err := c.r.ReadByte()
	if err != nil {
		return 0, err
	}
	_, err = c.r.Discard(int(size))
	return head, err
}

// broker measures n publishers to one session, which is durable or not. Its client takes everything and acknowledges it.
func (b *bench) broker(n int, durable bool) (s sample, err error) {
	data := filepath.Join(b.work, "data")
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	p, err := b.launch(data)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, p.kill()) }()
	sub, err := dial(p.addr, "sub", !durable)
	if err != nil {
		return s, err
	}
	defer sub.Close()
	if _, err := sub.ask((&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "t/#", QoS: 1}}}).Append(nil, packet.V311)); err != nil {
		return s, err
	}
	go drain(sub)
	clients := make([]*client, n)
	for i := range clients {
		if clients[i], err = dial(p.addr, fmt.Sprint("pub", i), true); err != nil {
			return s, err
		}
		defer clients[i].Close()
	}
	cpu, written, err := p.used()
	if err != nil {
		return s, err
	}
	times := make([][]time.Duration, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	begin := time.Now()
	for i, c := range clients {
		wg.Go(func() {
			m := (&packet.Publish{Topic: []byte(fmt.Sprint("t/", i)), QoS: 1, PacketID: 1, Payload: make([]byte, b.payload)}).Append(nil, packet.V311)
			for b.ctx.Err() == nil && time.Since(begin) < b.round {
				t := time.Now()
				if _, errs[i] = c.ask(m); errs[i] != nil {
					return
				}
				times[i] = append(times[i], time.Since(t))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if err := errors.Join(errs...); err != nil {
		return s, err
	}
	cpu2, written2, err := p.used()
	if err != nil {
		return s, err
	}
	count := 0
	s.p50, s.p99, count = latencies(times)
	s.rate = float64(count) / took.Seconds()
	s.cpu = float64((cpu2 - cpu).Microseconds()) / float64(count)
	s.bytes = (written2 - written) / float64(count)
	return s, nil
}

// drain acknowledges what comes.
func drain(c *client) {
	var ack []byte
	for {
		head, err := c.r.ReadByte()
		if err != nil {
			return
		}
		size, shift := 0, 0
		for {
			d, err := c.r.ReadByte()
			if err != nil {
				return
			}
			size |= int(d&0x7f) << shift
			if shift += 7; d < 0x80 {
				break
			}
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(c.r, body); err != nil {
			return
		}
		if head>>4 == byte(packet.TypePublish) && len(body) > 2 {
			n := int(body[0])<<8 | int(body[1])
			ack = append(ack, 0x40, 2, body[2+n], body[3+n])
		}
		if len(ack) > 0 && c.r.Buffered() == 0 {
			if _, err := c.Write(ack); err != nil {
				return
			}
			ack = ack[:0]
		}
	}
}

// start measures how long a node takes to be ready that was killed with that much in its queues.
func (b *bench) start(sessions, queued int) (err error) {
	data := filepath.Join(b.work, "data")
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	p, err := b.launch(data)
	if err != nil {
		return err
	}
	if err := fill(p.addr, sessions, queued, b.payload); err != nil {
		return errors.Join(err, p.kill())
	}
	if err := p.kill(); err != nil {
		return err
	}
	if p, err = b.launch(data); err != nil {
		return err
	}
	fmt.Printf("| %d | %d | %v |\n", sessions, queued, p.took.Round(time.Millisecond))
	return p.kill()
}

// fill makes durable sessions and publishes as many messages to each. It returns when all are acknowledged.
func fill(addr string, sessions, queued, payload int) error {
	const workers = 32
	each := max(queued/sessions, 1)
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < sessions && errs[w] == nil; i += workers {
				var c *client
				if c, errs[w] = dial(addr, fmt.Sprint("s", i), false); errs[w] == nil {
					_, errs[w] = c.ask((&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: fmt.Sprint("q/", i), QoS: 1}}}).Append(nil, packet.V311))
					c.Close()
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for w := range workers {
		wg.Go(func() {
			c, err := dial(addr, fmt.Sprint("fill", w), true)
			if errs[w] = err; err != nil {
				return
			}
			defer c.Close()
			open := 0
			for i := w; i < sessions; i += workers {
				var buf []byte
				for k := range each {
					buf = (&packet.Publish{Topic: []byte(fmt.Sprint("q/", i)), QoS: 1, PacketID: uint16(k%60000 + 1), Payload: make([]byte, payload)}).Append(buf, packet.V311)
				}
				if _, errs[w] = c.Write(buf); errs[w] != nil {
					return
				}
				for open += each; open > 200 || i+workers >= sessions && open > 0; open-- {
					if _, errs[w] = c.read(); errs[w] != nil {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
