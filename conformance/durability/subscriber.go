package durability

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// subscriber is a client with a persistent session that hands what it gets to an audience, and keeps what QoS 2 makes it remember
// across its connections.
type subscriber struct {
	id       string
	v        byte
	window   uint16 // receive maximum
	batch    int    // acknowledgements are sent when so many are owed; 0: at once
	patience int    // messages after which it drops its connection; 0: it does not
	audience *audience
	filters  []*filter
	ledger   *ledger
	place    *place

	holding map[uint16]bool // QoS 2: handed over, PUBREL has not come
	owed    []byte          // acknowledgements
	owing   int

	mu       sync.Mutex
	changed  chan struct{} // closed when what follows has changed
	online   bool
	promised bool // a SUBACK has come
	markers  map[string]bool
	connects int
	link     *link
}

// filter is a subscription of a subscriber.
type filter struct {
	name     string
	interest *interest
	asked    bool // SUBACK has come
	leave    bool // it is to be given up
	left     bool // UNSUBACK has come
}

func (s *subscriber) prepare() {
	s.holding, s.markers, s.changed = map[uint16]bool{}, map[string]bool{}, make(chan struct{})
}

// tell wakes who waits. s.mu is held.
func (s *subscriber) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// come and go say whether it is to be connected.
func (s *subscriber) come() { s.turn(true) }
func (s *subscriber) go_()  { s.turn(false) }

func (s *subscriber) turn(online bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.online = online
	s.tell()
	if !online && s.link != nil {
		_ = s.link.write(frame(tDisconnect<<4, nil)) // a connection that is gone is no longer needed
		s.link.nc.Close()
	}
}

// abandon gives a subscription up.
func (s *subscriber) abandon(f *filter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.leave = true
	s.tell()
	if s.link != nil {
		_ = s.link.write(unsubscribeBytes(s.v, 2, f.name)) // else the next connection does
	}
}

// until waits until what holds; ready is called with s.mu held.
func (s *subscriber) until(ctx context.Context, ready func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := ready(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settled waits until every subscription was acknowledged.
func (s *subscriber) settled(ctx context.Context) error {
	err := s.until(ctx, func() bool {
		for _, f := range s.filters {
			if !f.asked || f.leave && !f.left {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%s waits for the acknowledgement of its subscriptions: %w", s.id, err)
	}
	return nil
}

// marked waits for a marker: everything that was sent to it before has come then.
func (s *subscriber) marked(ctx context.Context, marker string) error {
	if err := s.until(ctx, func() bool { return s.markers[marker] }); err != nil {
		return fmt.Errorf("%s waits for the marker: %w", s.id, err)
	}
	return nil
}

// run is connected whenever it should be and can.
func (s *subscriber) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.link != nil {
			s.link.nc.Close()
		}
	})()
	for {
		if s.until(ctx, func() bool { return s.online }) != nil {
			return
		}
		address, err := s.place.wait(ctx)
		if err != nil {
			return
		}
		s.session(ctx, address)
	}
}

// session is one connection.
func (s *subscriber) session(ctx context.Context, address string) {
	l, present, err := connect(address, s.v, hello{id: s.id, window: s.window})
	if err != nil {
		again(ctx)
		return
	}
	defer l.nc.Close()
	s.mu.Lock()
	s.link = l
	s.connects++
	if !s.online || ctx.Err() != nil {
		s.link = nil
		s.mu.Unlock()
		return
	}
	if !present {
		if s.promised {
			s.ledger.broken("%s: the session is gone", s.id)
		}
		clear(s.holding)
		for _, f := range s.filters {
			f.asked = f.left
		}
	}
	s.owed, s.owing = nil, 0
	var ask [][]byte
	for i, f := range s.filters {
		if !f.asked {
			ask = append(ask, subscribeBytes(s.v, uint16(100+i), f.name, f.interest.qos))
		}
		if f.leave && !f.left {
			ask = append(ask, unsubscribeBytes(s.v, 2, f.name))
		}
	}
	s.mu.Unlock()
	for _, b := range ask {
		if l.write(b) != nil {
			break // reading tells
		}
	}
	for n := 0; ; n++ {
		p, err := l.read()
		if err != nil || s.patience > 0 && n == s.patience || s.take(l, p) != nil {
			break
		}
	}
	s.mu.Lock()
	s.link = nil
	s.tell()
	s.mu.Unlock()
}

// take handles a packet.
func (s *subscriber) take(l *link, p *packet) error {
	switch p.typ {
	case tPublish:
		switch p.qos {
		case 0:
			s.hand(p)
		case 1:
			s.hand(p)
			return s.owe(l, ackBytes(tPuback, p.id))
		case 2:
			if !s.holding[p.id] {
				s.holding[p.id] = true
				s.hand(p)
			}
			return s.owe(l, ackBytes(tPubrec, p.id))
		}
	case tPubrel:
		delete(s.holding, p.id)
		return s.owe(l, ackBytes(tPubcomp, p.id))
	case tSuback:
		f := s.filters[p.id-100]
		if len(p.codes) != 1 || p.codes[0] != f.interest.qos {
			s.ledger.broken("%s: SUBSCRIBE %s answered with % x", s.id, f.name, p.codes)
			return nil
		}
		s.ledger.subscribed(f.interest)
		s.mu.Lock()
		f.asked, s.promised = true, true
		s.tell()
		s.mu.Unlock()
	case tUnsuback:
		s.mu.Lock()
		for _, f := range s.filters {
			if f.leave && !f.left {
				f.left = true
				s.ledger.unsubscribed(f.interest)
			}
		}
		s.tell()
		s.mu.Unlock()
	}
	return nil
}

// hand gives a message to the application.
func (s *subscriber) hand(p *packet) {
	if marker, ok := strings.CutPrefix(p.topic, "m/"); ok {
		s.mu.Lock()
		s.markers[marker] = true
		s.tell()
		s.mu.Unlock()
		return
	}
	s.ledger.arrive(s.audience, p)
}

// owe sends acknowledgements, some at a time.
func (s *subscriber) owe(l *link, ack []byte) error {
	s.owed = append(s.owed, ack...)
	if s.owing++; s.owing < s.batch {
		return nil
	}
	b := s.owed
	s.owed, s.owing = nil, 0
	return l.write(b)
}

// observe reads all retained messages that a new subscriber gets below a prefix and holds them to what was acknowledged before: for
// each topic that value or a later one has to be there. Topics in gone must have none.
func observe(l *ledger, address, prefix string, gone map[string]bool) error {
	marks := l.marks()
	c, _, err := connect(address, 5, hello{id: "observer", clean: true})
	if err != nil {
		return err
	}
	defer c.nc.Close()
	if err := c.subscribe(prefix+"#", 0); err != nil {
		return err
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	for len(marks) > 0 {
		p, err := c.read()
		if err != nil {
			for topic, n := range marks {
				l.broken("retained message of %s is lost: number %d was acknowledged (%v)", topic, n, err)
			}
			return nil // said
		}
		if p.typ != tPublish || !p.retain {
			continue
		}
		if gone[p.topic] {
			l.broken("retained message of %s is back", p.topic)
			continue
		}
		name, n, ok := parse(p.payload)
		if want, wanted := marks[p.topic]; wanted {
			if !ok || n < want {
				l.broken("retained message of %s: got %s %d (whole: %t), number %d was acknowledged", p.topic, name, n, ok, want)
			}
			delete(marks, p.topic)
		}
	}
	return nil
}
