//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/lacewing-mqtt/lacewing/tools/internal/proc"
)

// A plan describes one message-passing scenario. Every message a publisher
// sends is expected copies times at the subscribers together.
type plan struct {
	pubs, subs  int
	copies      int
	qos         byte // of publications and subscriptions
	size        int  // payload bytes
	window      int  // messages of one publisher in flight at most
	rate        int  // open loop: messages sent a second in all; 0: closed loop
	filters     func(sub int) []string
	topic       func(b []byte, pub int, random uint32) []byte
	fixedTopic  bool // topic does not depend on random
	anyReceiver bool // any subscriber may get a copy (shared, wildcard)
}

// target is a broker under test.
type target struct {
	name    string
	addr    netip.AddrPort
	pid     int
	to      netip.AddrPort // where subscribers connect; addr if it is not valid
	toPID   int            // the process there, which counts with pid
	version byte
	carriage
}

// usage is that of the broker, of both its nodes if there are two.
func (tg target) usage() (proc.Usage, error) {
	u, err := proc.Read(tg.pid)
	if err != nil || tg.toPID == 0 {
		return u, err
	}
	there, err := proc.Read(tg.toPID)
	u.CPU, u.User, u.Sys, u.RSSKB = u.CPU+there.CPU, u.User+there.User, u.Sys+there.Sys, u.RSSKB+there.RSSKB
	return u, err
}

// traffic is one run of a plan.
type traffic struct {
	plan
	target
	lp    *loop
	pubC  []*publisher
	subC  []*subscriber
	group []seqTracker // by publisher, when anyReceiver

	running bool
	ready   []*publisher // publishers whose window may have opened
	rng     uint32

	openStart time.Time // open loop: when message 0 was due
	nextPub   int

	now       int64 // the clock, read once a round
	epoch     time.Time
	lat       *histogram // nil while warming up and draining
	setupTime time.Duration

	counters
}

// counters are the self-checks and totals.
type counters struct {
	sent, received, acked           uint64
	duplicates, reordered, misroute uint64
	badPayload, badAck              uint64
}

type publisher struct {
	*conn
	t         *traffic
	id        uint32
	seq       uint32
	copiesDue int // copies sent for but not yet delivered
	unacked   int
	inflight  []bool // by packet identifier
	pid       uint16
	queued    bool   // on t.ready
	frame     []byte // a complete PUBLISH to copy, when the topic is fixed
	topicBuf  []byte
}

type subscriber struct {
	*conn
	t       *traffic
	id      int
	filters []string // still to subscribe
	pending int      // SUBACK codes outstanding
	last    []uint32 // by publisher: 1 + highest sequence number seen
	flows   []seqTracker
}

const (
	setupLimit   = 60 * time.Second
	drainLimit   = 5 * time.Second
	drainIdle    = time.Second // no progress for so long ends the draining too
	maxDialing   = 64          // unanswered CONNECTs
	filtersAtOne = 100         // filters in one SUBSCRIBE
)

// open connects all clients and places all subscriptions.
func (t *traffic) open() (err error) {
	if t.lp, err = newLoop(); err != nil {
		return err
	}
	t.rng, t.epoch = 0x9e3779b9, time.Now()
	if t.anyReceiver {
		t.group = make([]seqTracker, t.pubs)
	}
	dialing, connected := 0, 0
	deadline := time.Now().Add(setupLimit)
	connect := func(kind string, i int) (*conn, error) {
		if _, err := t.lp.until(deadline, func() bool { return dialing < maxDialing }); err != nil {
			return nil, err
		}
		at := t.target
		if kind == "s" && at.to.IsValid() {
			at.addr = at.to
		}
		c, err := t.lp.dial(at, fmt.Sprintf("mqload-%s%d", kind, i))
		if err != nil {
			return nil, err
		}
		dialing++
		c.packet = func(first byte, body []byte) error {
			if first != tConnack || len(body) < 2 || body[1] != 0 {
				return fmt.Errorf("connection refused: packet %#x % x", first, body)
			}
			dialing--
			connected++
			return nil
		}
		return c, nil
	}
	for i := range t.subs {
		c, err := connect("s", i)
		if err != nil {
			return err
		}
		t.subC = append(t.subC, &subscriber{conn: c, t: t, id: i, filters: t.filters(i), last: make([]uint32, t.pubs)})
	}
	for i := range t.pubs {
		c, err := connect("p", i)
		if err != nil {
			return err
		}
		p := &publisher{conn: c, t: t, id: uint32(i)}
		if t.qos > 0 {
			p.inflight = make([]bool, 1<<16)
		}
		t.pubC = append(t.pubC, p)
	}
	if ok, err := t.lp.until(deadline, func() bool { return connected == t.subs+t.pubs }); err != nil || !ok {
		return orTimeout(err, "connecting")
	}
	return t.subscribe(deadline)
}

func orTimeout(err error, what string) error {
	if err == nil {
		err = fmt.Errorf("timed out while %s", what)
	}
	return err
}

func (t *traffic) subscribe(deadline time.Time) error {
	start := time.Now()
	left := 0
	for _, s := range t.subC {
		left += len(s.filters)
		if !t.anyReceiver {
			s.flows = make([]seqTracker, t.pubs)
		}
		s.conn.packet = func(first byte, body []byte) error {
			if first&0xf0 == tPublish {
				return s.onPacket(first, body)
			}
			if first != tSuback {
				return fmt.Errorf("expected SUBACK, got %#x", first)
			}
			codes, err := subackCodes(t.version, body)
			if err != nil {
				return err
			}
			for _, code := range codes {
				if code >= 0x80 || code < t.qos {
					return fmt.Errorf("subscription refused or downgraded: code %d", code)
				}
			}
			left -= len(codes)
			if s.pending -= len(codes); s.pending == 0 {
				s.subscribeMore()
			}
			return nil
		}
		s.subscribeMore()
	}
	if ok, err := t.lp.until(deadline, func() bool { return left == 0 }); err != nil || !ok {
		return orTimeout(err, "subscribing")
	}
	t.setupTime = time.Since(start)
	for _, s := range t.subC {
		s.conn.packet = s.onPacket
	}
	for _, p := range t.pubC {
		p.conn.packet = p.onPacket
		if t.fixedTopic {
			p.frame = p.newFrame(nil)
		}
	}
	return nil
}

func (s *subscriber) subscribeMore() {
	n := min(len(s.filters), filtersAtOne)
	if n == 0 {
		return
	}
	s.out = appendSubscribe(s.out, s.t.version, 1, s.t.qos, s.filters[:n])
	s.filters, s.pending = s.filters[n:], n
	s.touch()
}

// start lets the publishers go. limit, if not 0, is the number of messages
// after which they stop by themselves.
func (t *traffic) start(limit uint64) {
	t.running, t.openStart = true, time.Now()
	for _, p := range t.pubC {
		p.mayContinue()
	}
	t.lp.beforeFlush = func() time.Duration {
		t.now = int64(time.Since(t.epoch))
		if limit > 0 && t.sent >= limit {
			t.running = false
		}
		if t.rate > 0 {
			return t.paced()
		}
		t.pump(limit)
		return maxWait
	}
}

// pump refills the windows that deliveries and acknowledgements opened.
func (t *traffic) pump(limit uint64) {
	for _, p := range t.ready {
		p.queued = false
		for t.running && p.mayPublish() && (limit == 0 || t.sent < limit) {
			p.publish(t.now)
		}
	}
	t.ready = t.ready[:0]
}

// paced sends what is due by now, stamped with the time it was due, so that a
// late send counts as latency too. It returns the time until the next is due.
func (t *traffic) paced() time.Duration {
	if !t.running {
		return maxWait
	}
	gap := float64(time.Second) / float64(t.rate)
	base := int64(t.openStart.Sub(t.epoch))
	for {
		due := base + int64(float64(t.sent)*gap)
		if due > t.now {
			return min(time.Duration(due-t.now), maxWait)
		}
		t.pubC[t.nextPub].publish(due)
		t.nextPub = (t.nextPub + 1) % len(t.pubC)
	}
}

// outstanding is the number of deliveries and acknowledgements still to come.
func (t *traffic) outstanding() (n int) {
	for _, p := range t.pubC {
		n += p.copiesDue + p.unacked
	}
	return n
}

func (p *publisher) mayPublish() bool {
	t := p.t
	return !p.blocked && p.copiesDue+t.copies <= t.window*t.copies && p.unacked < t.window
}

func (p *publisher) mayContinue() {
	if !p.queued && p.t.rate == 0 {
		p.queued = true
		p.t.ready = append(p.t.ready, p)
	}
}

// newFrame encodes a PUBLISH with room for the packet identifier and stamp.
func (p *publisher) newFrame(b []byte) []byte {
	t := p.t
	t.rng ^= t.rng << 13
	t.rng ^= t.rng >> 17
	t.rng ^= t.rng << 5
	p.topicBuf = t.topic(p.topicBuf[:0], int(p.id), t.rng)
	b = publishHead{version: t.version, qos: t.qos}.append(b, p.topicBuf, t.size)
	for range t.size {
		b = append(b, 'x')
	}
	return b
}

func (p *publisher) publish(at int64) {
	t := p.t
	if p.frame != nil {
		p.out = append(p.out, p.frame...)
	} else {
		p.out = p.newFrame(p.out)
	}
	body := p.out[len(p.out)-t.size:]
	putStamp(body, p.id, p.seq, at)
	p.seq++
	if t.qos > 0 {
		for ok := true; ok; ok = p.pid == 0 || p.inflight[p.pid] {
			p.pid++
		}
		p.inflight[p.pid] = true
		p.unacked++
		before := 2
		if t.version == 5 {
			before++ // the empty property list
		}
		binary.BigEndian.PutUint16(p.out[len(p.out)-t.size-before:], p.pid)
	}
	p.copiesDue += t.copies
	t.sent++
	p.touch()
}

func (p *publisher) onPacket(first byte, body []byte) error {
	pid, err := parseAck(body)
	if err != nil {
		return err
	}
	if !p.isInflight(pid) {
		p.t.badAck++
		return nil
	}
	switch {
	case first == tPuback && p.t.qos == 1, first == tPubcomp && p.t.qos == 2:
		p.inflight[pid] = false
		p.unacked--
		p.t.acked++
		p.mayContinue()
	case first == tPubrec && p.t.qos == 2:
		p.out = appendAck(p.out, tPubrel, pid)
		p.touch()
	default:
		p.t.badAck++
	}
	return nil
}

func (p *publisher) isInflight(pid uint16) bool { return p.inflight != nil && p.inflight[pid] }

func (s *subscriber) onPacket(first byte, body []byte) error {
	t := s.t
	if first == tPubrel {
		pid, err := parseAck(body)
		if err != nil {
			return err
		}
		s.out = appendAck(s.out, tPubcomp, pid)
		s.touch()
		return nil
	}
	if first&0xf0 != tPublish {
		return fmt.Errorf("subscriber got packet type %#x", first)
	}
	pid, payload, err := parsePublish(t.version, first, body)
	if err != nil {
		return err
	}
	switch first >> 1 & 3 {
	case 1:
		s.out = appendAck(s.out, tPuback, pid)
		s.touch()
	case 2:
		s.out = appendAck(s.out, tPubrec, pid)
		s.touch()
	}
	pub, seq, at, ok := getStamp(payload)
	if !ok || int(pub) >= len(t.pubC) || seq >= t.pubC[pub].seq || len(payload) != t.size {
		t.badPayload++
		return nil
	}
	s.deliver(t.pubC[pub], seq, at)
	return nil
}

func (s *subscriber) deliver(p *publisher, seq uint32, at int64) {
	t := s.t
	if !t.anyReceiver && t.subs == t.pubs && s.id != int(p.id) {
		t.misroute++
		return
	}
	if seq < s.last[p.id] {
		t.reordered++ // or a duplicate, found below
	} else {
		s.last[p.id] = seq + 1
	}
	var duplicate bool
	if t.anyReceiver {
		duplicate = t.group[p.id].add(seq)
	} else {
		duplicate = s.flows[p.id].add(seq)
	}
	if duplicate {
		t.duplicates++
		return
	}
	t.received++
	p.copiesDue--
	p.mayContinue()
	if t.lat != nil {
		t.lat.add(time.Duration(int64(time.Since(t.epoch)) - at))
	}
}

// runTraffic runs a plan: set up, warm up, measure, drain.
func runTraffic(tg target, p plan, o options) (r result, err error) {
	t := &traffic{plan: p, target: tg}
	before, err := tg.usage()
	if err != nil {
		return r, err
	}
	defer func() {
		if t.lp != nil {
			t.lp.closeAll()
		}
	}()
	if err = t.open(); err != nil {
		return r, err
	}
	afterSub, err := tg.usage()
	if err != nil {
		return r, err
	}
	watch := watchRSS(tg.pid)
	t.start(o.messages)
	if _, err = t.lp.until(time.Now().Add(o.warmup), func() bool { return false }); err != nil {
		watch.end()
		return r, err
	}
	if t.received == 0 {
		watch.end()
		return r, fmt.Errorf("nothing was delivered during the warm-up: unsupported?")
	}

	u0, err := tg.usage()
	c0, g0, b0, start := t.counters, selfCPU(), machineBusy(), time.Now()
	if p.rate > 0 {
		t.lat = new(histogram)
	}
	if err == nil {
		_, err = t.lp.until(start.Add(o.duration), func() bool { return o.messages > 0 && t.received >= o.messages*uint64(p.copies) })
	}
	took, c1, g1, b1 := time.Since(start), t.counters, selfCPU(), machineBusy()
	lat := t.lat
	t.lat, t.running = nil, false
	u1, err2 := tg.usage()
	r.RSSPeakKB = watch.end()
	if err != nil || err2 != nil {
		if err == nil {
			err = err2
		}
		return r, err
	}

	// What was sent must all arrive; the time this takes is not measured.
	left, progress := -1, time.Now()
	_, err = t.lp.until(time.Now().Add(drainLimit), func() bool {
		if now := t.outstanding(); now != left {
			left, progress = now, time.Now()
		}
		return left == 0 || time.Since(progress) > drainIdle
	})
	if err != nil {
		return r, err
	}

	n := float64(c1.received - c0.received)
	r.Unit = "msg"
	r.Seconds = took.Seconds()
	r.Count = c1.received - c0.received
	r.Rate = n / took.Seconds()
	if tg.pid != 0 && n > 0 {
		r.CPUus = micros(u1.CPU-u0.CPU) / n
		r.CPUuserUs = micros(u1.User-u0.User) / n
		r.CPUsysUs = micros(u1.Sys-u0.Sys) / n
		r.CPUpct = 100 * (u1.CPU - u0.CPU).Seconds() / took.Seconds()
		r.RSSBeforeKB = before.RSSKB
		others := (b1 - b0) - (u1.CPU - u0.CPU) - (g1 - g0)
		r.OtherPct = 100 * max(others, 0).Seconds() / took.Seconds()
	}
	if n > 0 {
		r.GenCPUus = micros(g1-g0) / n
	}
	r.GenCPUpct = 100 * (g1 - g0).Seconds() / took.Seconds()
	if lat != nil {
		r.P50us, r.P99us = micros(lat.quantile(.5)), micros(lat.quantile(.99))
		r.P999us, r.MaxUs = micros(lat.quantile(.999)), micros(lat.max)
	}
	r.Lost = int64(t.sent)*int64(p.copies) - int64(t.received)
	if p.qos > 0 {
		r.Unacked = int64(t.sent - t.acked)
	}
	r.Duplicates, r.Misrouted = t.duplicates, t.misroute
	r.Reordered = t.reordered - min(t.reordered, t.duplicates)
	r.BadPackets = t.badPayload + t.badAck
	if subs := countFilters(p); subs >= 1000 {
		r.SetupRate = float64(subs) / t.setupTime.Seconds()
		r.SetupUnit = "sub/s"
		if tg.pid != 0 {
			r.BytesPer = float64(afterSub.RSSKB-before.RSSKB) * 1024 / float64(subs)
			r.BytesUnit = "B/sub"
		}
	}
	return r, nil
}

func countFilters(p plan) (n int) {
	for i := range p.subs {
		n += len(p.filters(i))
	}
	return n
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// The plans.

func ownTopic(b []byte, pub int, _ uint32) []byte {
	return strconv.AppendInt(append(b, "mqload/p2p/"...), int64(pub), 10)
}

// p2p: n publishers to n subscribers, a topic each.
func p2p(n int, qos byte, size, window int) plan {
	return plan{pubs: n, subs: n, copies: 1, qos: qos, size: size, window: window,
		filters: func(i int) []string { return []string{string(ownTopic(nil, i, 0))} },
		topic:   ownTopic, fixedTopic: true}
}

// fanout: one publisher to n subscribers of one topic.
func fanout(n int, qos byte, size, window int) plan {
	const name = "mqload/fanout"
	return plan{pubs: 1, subs: n, copies: n, qos: qos, size: size, window: window,
		filters: func(int) []string { return []string{name} },
		topic:   func(b []byte, _ int, _ uint32) []byte { return append(b, name...) }, fixedTopic: true}
}

// fanin: n publishers with a topic each to one wildcard subscriber.
func fanin(n int, qos byte, size, window int) plan {
	return plan{pubs: n, subs: 1, copies: 1, qos: qos, size: size, window: window,
		filters: func(int) []string { return []string{"mqload/p2p/+"} },
		topic:   ownTopic, fixedTopic: true}
}

// shared: n publishers to one shared subscription with m members.
func shared(n, m int, qos byte, size, window int) plan {
	return plan{pubs: n, subs: m, copies: 1, qos: qos, size: size, window: window,
		filters: func(int) []string { return []string{"$share/mqload/mqload/p2p/+"} },
		topic:   ownTopic, fixedTopic: true, anyReceiver: true}
}

// wildcard: total different filters over m subscribers, a tenth of them with +
// and a tenth with + and #; n publishers to random topics, each of which
// matches exactly one filter.
func wildcard(n, m, total int, qos byte, size, window int) plan {
	topic := func(b []byte, i int) []byte {
		b = strconv.AppendInt(append(b, "mqload/w/g"...), int64(i/1000), 10)
		b = strconv.AppendInt(append(b, "/d"...), int64(i), 10)
		return append(b, "/temp"...)
	}
	filter := func(i int) string {
		switch i % 10 {
		case 8:
			return fmt.Sprintf("mqload/w/g%d/d%d/+", i/1000, i)
		case 9:
			return fmt.Sprintf("mqload/w/+/d%d/#", i)
		}
		return string(topic(nil, i))
	}
	return plan{pubs: n, subs: m, copies: 1, qos: qos, size: size, window: window,
		filters: func(sub int) (f []string) {
			for i := sub; i < total; i += m {
				f = append(f, filter(i))
			}
			return f
		},
		topic: func(b []byte, _ int, random uint32) []byte {
			return topic(b, int(uint64(random)*uint64(total)>>32))
		}, anyReceiver: true}
}
