//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/lacewing-mqtt/lacewing/tools/internal/proc"
)

// runConns opens n idle connections as fast as the broker answers, holds them
// for a moment, and reports the rate and the memory and CPU time of each.
func runConns(tg target, n int, o options) (r result, err error) {
	lp, err := newLoop()
	if err != nil {
		return r, err
	}
	defer lp.closeAll()
	before, err := proc.Read(tg.pid)
	if err != nil {
		return r, err
	}
	g0, start := selfCPU(), time.Now()
	deadline := start.Add(setupLimit)
	opened, refused := 0, 0
	for i := range n {
		if ok, err := lp.until(deadline, func() bool { return i-opened < maxDialing }); err != nil || !ok {
			return r, orTimeout(err, fmt.Sprintf("connecting (%d of %d done)", opened, n))
		}
		c, err := lp.dial(tg, "mqload-c"+strconv.Itoa(i))
		if err != nil {
			return r, fmt.Errorf("after %d connections: %w", opened, err)
		}
		c.packet = func(first byte, body []byte) error {
			if first != tConnack || len(body) < 2 || body[1] != 0 {
				refused++
			}
			opened++
			return nil
		}
	}
	if ok, err := lp.until(deadline, func() bool { return opened == n }); err != nil || !ok {
		return r, orTimeout(err, fmt.Sprintf("connecting (%d of %d done)", opened, n))
	}
	took, g1 := time.Since(start), selfCPU()
	u1, err := proc.Read(tg.pid)
	if err != nil {
		return r, err
	}
	// Hold them, so that the memory settles and dropped connections show.
	if _, err = lp.until(time.Now().Add(o.warmup+time.Second), func() bool { return false }); err != nil {
		return r, err
	}
	held, err := proc.Read(tg.pid)
	if err != nil {
		return r, err
	}
	r.Unit, r.Count, r.Seconds = "conn", uint64(opened), took.Seconds()
	r.Rate = float64(opened) / took.Seconds()
	r.GenCPUus = micros(g1-g0) / float64(opened)
	r.GenCPUpct = 100 * (g1 - g0).Seconds() / took.Seconds()
	r.BadPackets = uint64(refused)
	r.Lost = int64(n - lp.live)
	if tg.pid != 0 {
		r.CPUus = micros(u1.CPU-before.CPU) / float64(opened)
		r.CPUuserUs = micros(u1.User-before.User) / float64(opened)
		r.CPUsysUs = micros(u1.Sys-before.Sys) / float64(opened)
		r.CPUpct = 100 * (u1.CPU - before.CPU).Seconds() / took.Seconds()
		r.RSSBeforeKB, r.RSSPeakKB = before.RSSKB, max(u1.RSSKB, held.RSSKB)
		r.BytesPer = float64(held.RSSKB-before.RSSKB) * 1024 / float64(n)
		r.BytesUnit = "B/conn"
	}
	return r, nil
}

// runRetained stores n retained messages with QoS 1, times their delivery to
// one new wildcard subscriber, and removes them again.
func runRetained(tg target, n, size int, o options) (r result, err error) {
	lp, err := newLoop()
	if err != nil {
		return r, err
	}
	defer lp.closeAll()
	before, err := proc.Read(tg.pid)
	if err != nil {
		return r, err
	}
	watch := watchRSS(tg.pid)
	defer func() { r.RSSPeakKB = watch.end() }()

	deadline := time.Now().Add(setupLimit)
	pub, err := connectOne(lp, tg, "mqload-rp", deadline)
	if err != nil {
		return r, err
	}
	start := time.Now()
	if err = storeRetained(lp, pub, n, size, deadline); err != nil {
		return r, err
	}
	r.SetupRate, r.SetupUnit = float64(n)/time.Since(start).Seconds(), "set/s"
	stored, err := proc.Read(tg.pid)
	if err != nil {
		return r, err
	}

	sub, err := connectOne(lp, tg, "mqload-rs", deadline)
	if err != nil {
		return r, err
	}
	var seen seqTracker
	var got, duplicates, bad int
	progress := time.Now()
	sub.packet = func(first byte, body []byte) error {
		if first&0xf0 != tPublish {
			return nil // the SUBACK
		}
		_, payload, err := parsePublish(tg.version, first, body)
		if err != nil {
			return err
		}
		_, seq, _, ok := getStamp(payload)
		switch {
		case !ok || first&1 == 0 || len(payload) != size:
			bad++
		case seen.add(seq):
			duplicates++
		default:
			got++
			progress = time.Now()
		}
		return nil
	}
	u0, err := proc.Read(tg.pid)
	if err != nil {
		return r, err
	}
	g0, start := selfCPU(), time.Now()
	progress = start
	sub.out = appendSubscribe(sub.out, tg.version, 1, 0, []string{"mqload/r/#"})
	sub.touch()
	_, err = lp.until(time.Now().Add(30*time.Second), func() bool {
		return got >= n || time.Since(progress) > 3*time.Second
	})
	if err != nil {
		return r, err
	}
	took, g1 := progress.Sub(start), selfCPU()
	u1, err := proc.Read(tg.pid)
	if err != nil {
		return r, err
	}
	sub.close() // it is not to see the removals
	if err = storeRetained(lp, pub, n, 0, time.Now().Add(setupLimit)); err != nil {
		return r, err
	}

	r.Unit, r.Count, r.Seconds = "msg", uint64(got), took.Seconds()
	if got > 0 {
		r.Rate = float64(got) / took.Seconds()
	}
	r.Lost, r.Duplicates, r.BadPackets = int64(n-got), uint64(duplicates), uint64(bad)
	if got > 0 {
		r.GenCPUus = micros(g1-g0) / float64(got)
		if tg.pid != 0 {
			r.CPUus = micros(u1.CPU-u0.CPU) / float64(got)
			r.CPUuserUs = micros(u1.User-u0.User) / float64(got)
			r.CPUsysUs = micros(u1.Sys-u0.Sys) / float64(got)
			r.CPUpct = 100 * (u1.CPU - u0.CPU).Seconds() / took.Seconds()
		}
	}
	if tg.pid != 0 {
		r.RSSBeforeKB = before.RSSKB
		r.BytesPer, r.BytesUnit = float64(stored.RSSKB-before.RSSKB)*1024/float64(n), "B/msg"
	}
	return r, nil
}

func connectOne(lp *loop, tg target, id string, deadline time.Time) (*conn, error) {
	c, err := lp.dial(tg, id)
	if err != nil {
		return nil, err
	}
	connected := false
	c.packet = func(first byte, body []byte) error {
		if connected = first == tConnack && len(body) >= 2 && body[1] == 0; !connected {
			return fmt.Errorf("connection refused: packet %#x % x", first, body)
		}
		return nil
	}
	if ok, err := lp.until(deadline, func() bool { return connected }); err != nil || !ok {
		return nil, orTimeout(err, "connecting")
	}
	return c, nil
}

// storeRetained publishes n retained messages with QoS 1, or, with size 0,
// removes them.
func storeRetained(lp *loop, c *conn, n, size int, deadline time.Time) error {
	const window = 64
	sent, acked := 0, 0
	var topic []byte
	more := func() {
		for ; sent < n && sent-acked < window; sent++ {
			i := sent
			topic = strconv.AppendInt(append(topic[:0], "mqload/r/g"...), int64(i/1000), 10)
			topic = strconv.AppendInt(append(topic, "/d"...), int64(i), 10)
			head := publishHead{version: c.version, qos: 1, retain: true, pid: uint16(i%0xffff + 1)}
			c.out = head.append(c.out, topic, size)
			if size > 0 {
				at := len(c.out)
				c.out = append(c.out, make([]byte, size)...)
				putStamp(c.out[at:], 0, uint32(i), 0)
			}
		}
		c.touch()
	}
	c.packet = func(first byte, body []byte) error {
		if first != tPuback {
			return fmt.Errorf("expected PUBACK, got %#x", first)
		}
		pid, err := parseAck(body)
		if err == nil && pid != uint16(acked%0xffff+1) {
			err = fmt.Errorf("PUBACK %d (% x) out of order", pid, binary.BigEndian.AppendUint16(nil, pid))
		}
		acked++
		more()
		return err
	}
	more()
	if ok, err := lp.until(deadline, func() bool { return acked == n }); err != nil || !ok {
		return orTimeout(err, "storing retained messages")
	}
	return nil
}
