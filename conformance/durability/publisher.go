package durability

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// publisher is a client with a persistent session that sends as fast as its window lets it. What it knows of its publications
// outlives every connection: after the next CONNECT it sends again, with the same identifiers and in the same order, what was not
// acknowledged, and goes on with the second half of QoS 2 where it was [MQTT-4.4.0-1], [MQTT-4.6.0-1].
type publisher struct {
	id      string
	v       byte
	window  int
	pause   time.Duration // between messages; 0: none
	sources []source
	ledger  *ledger
	place   *place
	random  *rand.Rand

	mu       sync.Mutex
	more     *sync.Cond // window or life of the connection has changed
	flight   []*flying  // not acknowledged, in the order of their first sending
	released []*flying  // PUBREC has come and PUBCOMP has not, in the order of the PUBRECs
	promised bool       // the broker has acknowledged something that the session has to outlive
	draining bool       // nothing new
	refusals int        // answers with codeQuota
	closes   int        // connections that the broker has ended while something was not acknowledged
	link     *link      // alive; nil: none
}

// source is a stream and how often it is chosen.
type source struct {
	*stream
	weight int
	topic  string        // what to publish to, if that is not the stream's topic
	delay  time.Duration // of delayed messages
}

// flying is a publication that is not over.
type flying struct {
	id     uint16
	source *source
	n      int
	m      publication
}

// run sends until drain was called and everything is acknowledged, or ctx ends.
func (p *publisher) run(ctx context.Context) {
	p.more = sync.NewCond(&p.mu)
	defer context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.link != nil {
			p.link.nc.Close()
		}
		p.more.Broadcast()
	})()
	for ctx.Err() == nil && !p.over() {
		address, err := p.place.wait(ctx)
		if err != nil {
			return
		}
		p.session(ctx, address)
		again(ctx)
	}
}

func (p *publisher) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining && len(p.flight)+len(p.released) == 0
}

// drain says that nothing new is to be sent.
func (p *publisher) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	if p.more != nil {
		p.more.Broadcast()
	}
}

// answers gives how many publications were refused with codeQuota, and how many connections were ended by the broker while it owed an
// acknowledgement.
func (p *publisher) answers() (refusals, closes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusals, p.closes
}

// session is one connection.
func (p *publisher) session(ctx context.Context, address string) {
	l, present, err := connect(address, p.v, hello{id: p.id})
	if err != nil {
		return
	}
	defer l.nc.Close()
	if !p.resume(ctx, l, present) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.listen(ctx, l)
		l.nc.Close()
		p.mu.Lock()
		p.link = nil
		p.more.Broadcast()
		p.mu.Unlock()
	}()
	p.send(l)
	l.nc.Close()
	<-done
}

// resume sends again what the last connection has left.
func (p *publisher) resume(ctx context.Context, l *link, present bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	p.link = l
	if !present && p.promised {
		p.ledger.broken("%s: the session is gone", p.id)
	}
	if !present { // what was acknowledged with PUBREC is the broker's; the rest is sent anew [MQTT-3.2.2-4]
		p.released = nil
	}
	if !p.promised { // SUBACK promises that the session lasts
		if err := l.subscribe("own/"+p.id, 0); err != nil {
			return false
		}
		p.promised = true
	}
	for _, f := range p.flight {
		f.m.dup = present
		if l.write(publishBytes(p.v, f.m)) != nil {
			return false
		}
	}
	for _, f := range p.released {
		if l.write(ackBytes(tPubrel, f.id)) != nil {
			return false
		}
	}
	return true
}

// send sends new messages while the connection lives.
func (p *publisher) send(l *link) {
	for {
		p.mu.Lock()
		for p.link == l && (p.draining && len(p.flight)+len(p.released) > 0 || !p.draining && len(p.flight)+len(p.released) >= p.window) {
			p.more.Wait()
		}
		if p.link != l || p.draining {
			p.mu.Unlock()
			return
		}
		f := p.next()
		p.mu.Unlock()
		if l.write(publishBytes(p.v, f.m)) != nil {
			return
		}
		if p.pause > 0 {
			time.Sleep(p.pause) // the rate of the load
		}
	}
}

// next makes a message. p.mu is held.
func (p *publisher) next() *flying {
	total := 0
	for _, s := range p.sources {
		total += s.weight
	}
	pick := p.random.IntN(total)
	i := 0
	for pick >= p.sources[i].weight {
		pick -= p.sources[i].weight
		i++
	}
	s := &p.sources[i]
	filling := p.random.IntN(300)
	if p.random.IntN(50) == 0 {
		filling = p.random.IntN(9000) // more than a page, and than what the engine copies
	}
	var due time.Time
	if s.delay > 0 {
		due = time.Now().Add(s.delay)
	}
	f := &flying{id: p.free(), source: s}
	f.m = publication{topic: s.topic, qos: s.qos, retain: s.kind == kept, id: f.id}
	if f.m.topic == "" {
		f.m.topic = s.stream.topic
	}
	f.n, f.m.payload = p.ledger.send(s.stream, filling, due)
	p.flight = append(p.flight, f)
	return f
}

// free gives the lowest identifier that is not in use: the sooner one is used again, the sooner a broker is found out that has
// forgotten that its first use is over.
func (p *publisher) free() uint16 {
	for id := uint16(1); ; id++ {
		used := func(f *flying) bool { return f.id == id }
		if !slices.ContainsFunc(p.flight, used) && !slices.ContainsFunc(p.released, used) {
			return id
		}
	}
}

// listen takes the acknowledgements until the connection ends.
func (p *publisher) listen(ctx context.Context, l *link) {
	for {
		k, err := l.read()
		if err != nil {
			p.mu.Lock()
			if ctx.Err() == nil && len(p.flight) > 0 {
				p.closes++
			}
			p.mu.Unlock()
			return
		}
		var answer []byte
		p.mu.Lock()
		switch k.typ {
		case tPuback, tPubrec:
			answer = p.acknowledged(k)
		case tPubcomp:
			p.released = slices.DeleteFunc(p.released, func(f *flying) bool { return f.id == k.id })
			p.more.Broadcast()
		}
		p.mu.Unlock()
		if answer != nil && l.write(answer) != nil {
			return
		}
	}
}

// acknowledged takes a PUBACK or PUBREC and gives what to answer. p.mu is held.
func (p *publisher) acknowledged(k *packet) []byte {
	i := slices.IndexFunc(p.flight, func(f *flying) bool { return f.id == k.id })
	if i < 0 {
		if k.typ == tPubrec && k.code < 0x80 && slices.ContainsFunc(p.released, func(f *flying) bool { return f.id == k.id }) {
			return ackBytes(tPubrel, k.id)
		}
		p.ledger.broken("%s: acknowledgement of type %d for the identifier %d, which waits for none", p.id, k.typ, k.id)
		return nil
	}
	f := p.flight[i]
	if want := map[byte]byte{1: tPuback, 2: tPubrec}[f.source.qos]; k.typ != want {
		p.ledger.broken("%s: acknowledgement of type %d for QoS %d", p.id, k.typ, f.source.qos)
		return nil
	}
	p.flight = slices.Delete(p.flight, i, i+1)
	p.more.Broadcast()
	if k.code >= 0x80 {
		p.ledger.ack(f.source.stream, f.n, true)
		if k.code == codeQuota {
			p.refusals++
		} else {
			p.ledger.broken("%s: message %s %d refused with 0x%02x", p.id, f.source.name, f.n, k.code)
		}
		return nil
	}
	p.ledger.ack(f.source.stream, f.n, false)
	if k.typ == tPubrec {
		p.released = append(p.released, f)
		return ackBytes(tPubrel, k.id)
	}
	return nil
}

// again waits a moment before the next attempt to connect.
func again(ctx context.Context) {
	t := time.NewTimer(5 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
