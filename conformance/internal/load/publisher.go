package load

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Publisher is a client with a persistent session that sends as fast as its window lets it. What it knows of its publications
// outlives every connection: after the next CONNECT it sends again, with the same identifiers and in the same order, what was not
// acknowledged, and goes on with the second half of QoS 2 where it was [MQTT-4.4.0-1], [MQTT-4.6.0-1].
type Publisher struct {
	ID      string
	Version byte
	Window  int
	Pause   time.Duration // between messages; 0: none
	Sources []Source
	Ledger  *Ledger
	Place   *Place
	Random  *rand.Rand

	mu       sync.Mutex
	more     *sync.Cond // window or life of the connection has changed
	flight   []*flying  // not acknowledged, in the order of their first sending
	released []*flying  // PUBREC has come and PUBCOMP has not, in the order of the PUBRECs
	promised bool       // the broker has acknowledged something that the session has to outlive
	draining bool       // nothing new
	acked    int        // publications that were acknowledged
	connects int
	refusals int   // answers with CodeQuota
	closes   int   // connections that the broker has ended while something was not acknowledged
	link     *Conn // alive; nil: none
}

// Source is a stream and how often it is chosen.
type Source struct {
	*Stream
	Weight int
	Topic  string        // what to publish to, if that is not the stream's topic
	Delay  time.Duration // of delayed messages
}

// flying is a publication that is not over.
type flying struct {
	id     uint16
	source *Source
	n      int
	m      Publication
}

// Run sends until Drain was called and everything is acknowledged, or ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	p.more = sync.NewCond(&p.mu)
	defer context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.link != nil {
			p.link.nc.Close()
		}
		p.more.Broadcast()
	})()
	for ctx.Err() == nil && !p.Over() {
		address, err := p.Place.Wait(ctx)
		if err != nil {
			return
		}
		p.session(ctx, address)
		again(ctx)
	}
}

// Over reports whether everything is acknowledged and nothing new is sent.
func (p *Publisher) Over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining && len(p.flight)+len(p.released) == 0
}

// Drain says that nothing new is to be sent.
func (p *Publisher) Drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	if p.more != nil {
		p.more.Broadcast()
	}
}

// Answers gives how many publications were refused with CodeQuota, and how many connections were ended by the broker while it owed an
// acknowledgement.
func (p *Publisher) Answers() (refusals, closes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusals, p.closes
}

// Acknowledged gives how many publications were acknowledged, and how often it has connected.
func (p *Publisher) Acknowledged() (acked, connects int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked, p.connects
}

// session is one connection.
func (p *Publisher) session(ctx context.Context, address string) {
	l, present, err := Connect(address, p.Version, Hello{ID: p.ID})
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
func (p *Publisher) resume(ctx context.Context, l *Conn, present bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	p.link = l
	p.connects++
	if !present && p.promised {
		p.Ledger.Broken("%s: the session is gone", p.ID)
	}
	if !present { // what was acknowledged with PUBREC is the broker's; the rest is sent anew [MQTT-3.2.2-4]
		p.released = nil
	}
	if !p.promised { // SUBACK promises that the session lasts
		if err := l.Subscribe("own/"+p.ID, 0); err != nil {
			return false
		}
		p.promised = true
	}
	for _, f := range p.flight {
		f.m.Dup = present
		if l.Write(PublishBytes(p.Version, f.m)) != nil {
			return false
		}
	}
	for _, f := range p.released {
		if l.Write(AckBytes(TypePubrel, f.id)) != nil {
			return false
		}
	}
	return true
}

// send sends new messages while the connection lives.
func (p *Publisher) send(l *Conn) {
	for {
		p.mu.Lock()
		for p.link == l && (p.draining && len(p.flight)+len(p.released) > 0 || !p.draining && len(p.flight)+len(p.released) >= p.Window) {
			p.more.Wait()
		}
		if p.link != l || p.draining {
			p.mu.Unlock()
			return
		}
		f := p.next()
		p.mu.Unlock()
		if l.Write(PublishBytes(p.Version, f.m)) != nil {
			return
		}
		if p.Pause > 0 {
			time.Sleep(p.Pause) // the rate of the load
		}
	}
}

// next makes a message. p.mu is held.
func (p *Publisher) next() *flying {
	total := 0
	for _, s := range p.Sources {
		total += s.Weight
	}
	pick := p.Random.IntN(total)
	i := 0
	for pick >= p.Sources[i].Weight {
		pick -= p.Sources[i].Weight
		i++
	}
	s := &p.Sources[i]
	filling := p.Random.IntN(300)
	if p.Random.IntN(50) == 0 {
		filling = p.Random.IntN(9000) // more than a page, and than what the engine copies
	}
	var due time.Time
	if s.Delay > 0 {
		due = time.Now().Add(s.Delay)
	}
	f := &flying{id: p.free(), source: s}
	f.m = Publication{Topic: s.Topic, QoS: s.qos, Retain: s.kind == Kept, ID: f.id}
	if f.m.Topic == "" {
		f.m.Topic = s.Stream.Topic
	}
	f.n, f.m.Payload = p.Ledger.Send(s.Stream, filling, due)
	p.flight = append(p.flight, f)
	return f
}

// free gives the lowest identifier that is not in use: the sooner one is used again, the sooner a broker is found out that has
// forgotten that its first use is over.
func (p *Publisher) free() uint16 {
	for id := uint16(1); ; id++ {
		used := func(f *flying) bool { return f.id == id }
		if !slices.ContainsFunc(p.flight, used) && !slices.ContainsFunc(p.released, used) {
			return id
		}
	}
}

// listen takes the acknowledgements until the connection ends.
func (p *Publisher) listen(ctx context.Context, l *Conn) {
	for {
		k, err := l.Read()
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
		switch k.Type {
		case TypePuback, TypePubrec:
			answer = p.acknowledged(k)
		case TypePubcomp:
			p.released = slices.DeleteFunc(p.released, func(f *flying) bool { return f.id == k.ID })
			p.more.Broadcast()
		}
		p.mu.Unlock()
		if answer != nil && l.Write(answer) != nil {
			return
		}
	}
}

// acknowledged takes a PUBACK or PUBREC and gives what to answer. p.mu is held.
func (p *Publisher) acknowledged(k *Packet) []byte {
	i := slices.IndexFunc(p.flight, func(f *flying) bool { return f.id == k.ID })
	if i < 0 {
		if k.Type == TypePubrec && k.Code < 0x80 && slices.ContainsFunc(p.released, func(f *flying) bool { return f.id == k.ID }) {
			return AckBytes(TypePubrel, k.ID)
		}
		p.Ledger.Broken("%s: acknowledgement of type %d for the identifier %d, which waits for none", p.ID, k.Type, k.ID)
		return nil
	}
	f := p.flight[i]
	if want := map[byte]byte{1: TypePuback, 2: TypePubrec}[f.source.qos]; k.Type != want {
		p.Ledger.Broken("%s: acknowledgement of type %d for QoS %d", p.ID, k.Type, f.source.qos)
		return nil
	}
	p.flight = slices.Delete(p.flight, i, i+1)
	p.more.Broadcast()
	if k.Code >= 0x80 {
		p.Ledger.Ack(f.source.Stream, f.n, true)
		if k.Code == CodeQuota {
			p.refusals++
		} else {
			p.Ledger.Broken("%s: message %s %d refused with 0x%02x", p.ID, f.source.name, f.n, k.Code)
		}
		return nil
	}
	p.acked++
	p.Ledger.Ack(f.source.Stream, f.n, false)
	if k.Type == TypePubrec {
		p.released = append(p.released, f)
		return AckBytes(TypePubrel, k.ID)
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
