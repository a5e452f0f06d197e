package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/store"
)

// inside measures engine and store without sockets: n publishers, on two drivers, to a durable session whose client is away. It says what
// the way through the broker costs beside the bare loop.
func (b *bench) inside(n int) (s sample, err error) {
	dir := filepath.Join(b.work, "inside")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	z := engine.DefaultZone()
	settings := engine.DefaultSettings()
	settings.SysInterval, settings.SysHeartbeat = 0, 0
	e, err := engine.New(engine.Options{Store: disk, Settings: &settings, Zones: map[string]engine.Zone{engine.DefaultZoneName: z}})
	if err != nil {
		return s, err
	}
	l, err := e.AddListener(engine.ListenerOptions{Name: "inside", Protocol: "mqtt:tcp"})
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithCancel(b.ctx)
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	drivers := []*driver{newDriver(e, 1), newDriver(e, n)}
	sub, err := drivers[0].open(l, "sub", false)
	if err != nil {
		return s, err
	}
	<-drivers[0].ready
	sub.feed((&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "t/#", QoS: 1}}}).Append(nil, packet.V311))
	<-drivers[0].ready
	sub.c.Closed(drivers[0].b, nil)
	drivers[0].b.Flush()
	d := drivers[1]
	for i := range n {
		p, err := d.open(l, fmt.Sprint("pub", i), true)
		if err != nil {
			return s, err
		}
		p.m = (&packet.Publish{Topic: []byte(fmt.Sprint("t/", i)), QoS: 1, PacketID: 1, Payload: make([]byte, b.payload)}).Append(nil, packet.V311)
	}
	cpu, err := processorTime()
	if err != nil {
		return s, err
	}
	before := e.Metrics()[engine.MessagesReceived]
	written := disk.Stats().CommittedBytes
	begin := time.Now()
	d.run(b.ctx, b.round)
	took := time.Since(begin)
	count := e.Metrics()[engine.MessagesReceived] - before
	cpu2, err := processorTime()
	if err != nil {
		return s, err
	}
	s.p50, s.p99, _ = latencies([][]time.Duration{d.times})
	s.rate = float64(count) / took.Seconds()
	s.cpu = float64((cpu2 - cpu).Microseconds()) / float64(count)
	s.bytes = float64(disk.Stats().CommittedBytes-written) / float64(count)
	return s, nil
}

func processorTime() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// driver feeds connections that have got an answer, in rounds, as an event loop does.
type driver struct {
	b     *engine.Batch
	ready chan *inner // of which the last packet was answered
	times []time.Duration
}

// inner is a connection without a carrier.
type inner struct {
	d    *driver
	c    *engine.Conn
	m    []byte
	sent time.Time
}

func newDriver(e *engine.Engine, n int) *driver {
	return &driver{b: e.NewBatch(), ready: make(chan *inner, n+1)}
}

// open says CONNECT. The connection is ready when that was answered.
func (d *driver) open(l *engine.Listener, id string, clean bool) (*inner, error) {
	p := &inner{d: d}
	var err error
	if p.c, err = l.Accept(engine.ConnInfo{}, p); err != nil {
		return nil, err
	}
	p.feed((&packet.Connect{Version: packet.V311, ClientID: id, CleanStart: clean}).Append(nil, packet.V311))
	return p, nil
}

func (p *inner) feed(m []byte) {
	p.c.Feed(p.d.b, m)
	p.d.b.Flush()
}

// Write takes the answer.
func (p *inner) Write(bufs [][]byte) (n int, err error) {
	for _, b := range bufs {
		n += len(b)
	}
	p.d.ready <- p // there is room: one packet is open at a time
	return n, nil
}

func (p *inner) Resume() {}
func (p *inner) Close()  {}

// run publishes on every connection as soon as it is ready, for that long.
func (d *driver) run(ctx context.Context, long time.Duration) {
	begin := time.Now()
	for ctx.Err() == nil {
		p := <-d.ready
		now := time.Now()
		if now.Sub(begin) > long {
			return
		}
		for more := true; more; {
			if !p.sent.IsZero() {
				d.times = append(d.times, now.Sub(p.sent))
			}
			p.sent = now
			p.c.Feed(d.b, p.m)
			select {
			case p = <-d.ready:
			default:
				more = false
			}
		}
		d.b.Flush()
	}
}
