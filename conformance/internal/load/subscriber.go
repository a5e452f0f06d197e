package load

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Subscriber is a client with a persistent session that hands what it gets to an audience, and keeps what QoS 2 makes it remember
// across its connections.
type Subscriber struct {
	ID       string
	Version  byte
	Window   uint16 // receive maximum
	Batch    int    // acknowledgements are sent when so many are owed; 0: at once
	Patience int    // messages after which it drops its connection; 0: it does not
	Audience *Audience
	Filters  []*Filter
	Ledger   *Ledger
	Place    *Place

	holding map[uint16]bool // QoS 2: handed over, PUBREL has not come
	owed    []byte          // acknowledgements
	owing   int

	mu       sync.Mutex
	changed  chan struct{} // closed when what follows has changed
	online   bool
	promised bool // a SUBACK has come
	markers  map[string]bool
	connects int
	link     *Conn
}

// Filter is a subscription of a subscriber.
type Filter struct {
	Name     string
	Interest *Interest
	asked    bool // SUBACK has come
	leave    bool // it is to be given up
	left     bool // UNSUBACK has come
}

func (s *Subscriber) Prepare() {
	s.holding, s.markers, s.changed = map[uint16]bool{}, map[string]bool{}, make(chan struct{})
}

// tell wakes who waits. s.mu is held.
func (s *Subscriber) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Come and Go say whether it is to be connected.
func (s *Subscriber) Come() { s.turn(true) }
func (s *Subscriber) Go()   { s.turn(false) }

func (s *Subscriber) turn(online bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.online = online
	s.tell()
	if !online && s.link != nil {
		_ = s.link.Write(frame(TypeDisconnect<<4, nil)) // a connection that is gone is no longer needed
		s.link.nc.Close()
	}
}

// Abandon gives a subscription up.
func (s *Subscriber) Abandon(f *Filter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.leave = true
	s.tell()
	if s.link != nil {
		_ = s.link.Write(unsubscribeBytes(s.Version, 2, f.Name)) // else the next connection does
	}
}

// until waits until what holds; ready is called with s.mu held.
func (s *Subscriber) until(ctx context.Context, ready func() bool) error {
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

// Settled waits until every subscription was acknowledged.
func (s *Subscriber) Settled(ctx context.Context) error {
	err := s.until(ctx, func() bool {
		for _, f := range s.Filters {
			if !f.asked || f.leave && !f.left {
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("%s waits for the acknowledgement of its subscriptions: %w", s.ID, err)
	}
	return nil
}

// Marked waits for a marker: everything that was sent to it before has come then.
func (s *Subscriber) Marked(ctx context.Context, marker string) error {
	if err := s.until(ctx, func() bool { return s.markers[marker] }); err != nil {
		return fmt.Errorf("%s waits for the marker: %w", s.ID, err)
	}
	return nil
}

// Online reports whether it is to be connected.
func (s *Subscriber) Online() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.online
}

// Connects gives how often it has connected.
func (s *Subscriber) Connects() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connects
}

// Run is connected whenever it should be and can.
func (s *Subscriber) Run(ctx context.Context) {
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
		address, err := s.Place.Wait(ctx)
		if err != nil {
			return
		}
		s.session(ctx, address)
	}
}

// session is one connection.
func (s *Subscriber) session(ctx context.Context, address string) {
	l, present, err := Connect(address, s.Version, Hello{ID: s.ID, Window: s.Window})
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
			s.Ledger.Broken("%s: the session is gone", s.ID)
		}
		clear(s.holding)
		for _, f := range s.Filters {
			f.asked = f.left
		}
	}
	s.owed, s.owing = nil, 0
	var ask [][]byte
	for i, f := range s.Filters {
		if !f.asked {
			ask = append(ask, SubscribeBytes(s.Version, uint16(100+i), f.Name, f.Interest.QoS))
		}
		if f.leave && !f.left {
			ask = append(ask, unsubscribeBytes(s.Version, 2, f.Name))
		}
	}
	s.mu.Unlock()
	for _, b := range ask {
		if l.Write(b) != nil {
			break // reading tells
		}
	}
	for n := 0; ; n++ {
		p, err := l.Read()
		if err != nil || s.Patience > 0 && n == s.Patience || s.take(l, p) != nil {
			break
		}
	}
	s.mu.Lock()
	s.link = nil
	s.tell()
	s.mu.Unlock()
}

// take handles a packet.
func (s *Subscriber) take(l *Conn, p *Packet) error {
	switch p.Type {
	case TypePublish:
		switch p.QoS {
		case 0:
			s.hand(p)
		case 1:
			s.hand(p)
			return s.owe(l, AckBytes(TypePuback, p.ID))
		case 2:
			if !s.holding[p.ID] {
				s.holding[p.ID] = true
				s.hand(p)
			}
			return s.owe(l, AckBytes(TypePubrec, p.ID))
		}
	case TypePubrel:
		delete(s.holding, p.ID)
		return s.owe(l, AckBytes(TypePubcomp, p.ID))
	case TypeSuback:
		f := s.Filters[p.ID-100]
		if len(p.Codes) != 1 || p.Codes[0] != f.Interest.QoS {
			s.Ledger.Broken("%s: SUBSCRIBE %s answered with % x", s.ID, f.Name, p.Codes)
			return nil
		}
		s.Ledger.subscribed(f.Interest)
		s.mu.Lock()
		f.asked, s.promised = true, true
		s.tell()
		s.mu.Unlock()
	case TypeUnsuback:
		s.mu.Lock()
		for _, f := range s.Filters {
			if f.leave && !f.left {
				f.left = true
				s.Ledger.unsubscribed(f.Interest)
			}
		}
		s.tell()
		s.mu.Unlock()
	}
	return nil
}

// hand gives a message to the application.
func (s *Subscriber) hand(p *Packet) {
	if marker, ok := strings.CutPrefix(p.Topic, "m/"); ok {
		s.mu.Lock()
		s.markers[marker] = true
		s.tell()
		s.mu.Unlock()
		return
	}
	s.Ledger.arrive(s.Audience, p)
}

// owe sends acknowledgements, some at a time.
func (s *Subscriber) owe(l *Conn, ack []byte) error {
	s.owed = append(s.owed, ack...)
	if s.owing++; s.owing < s.Batch {
		return nil
	}
	b := s.owed
	s.owed, s.owing = nil, 0
	return l.Write(b)
}

// Observe reads all retained messages that a new subscriber gets below a prefix and holds them to what was acknowledged before: for
// each topic that value or a later one has to be there. Topics in gone must have none.
func Observe(l *Ledger, address, prefix string, gone map[string]bool) error {
	marks := l.marks(prefix)
	c, _, err := Connect(address, 5, Hello{ID: "observer", Clean: true})
	if err != nil {
		return err
	}
	defer c.nc.Close()
	if err := c.Subscribe(prefix+"#", 0); err != nil {
		return err
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	for len(marks) > 0 {
		p, err := c.Read()
		if err != nil {
			for topic, n := range marks {
				l.Broken("retained message of %s is lost: number %d was acknowledged (%v)", topic, n, err)
			}
			return nil // said
		}
		if p.Type != TypePublish || !p.Retain {
			continue
		}
		if gone[p.Topic] {
			l.Broken("retained message of %s is back", p.Topic)
			continue
		}
		name, n, ok := Parse(p.Payload)
		if want, wanted := marks[p.Topic]; wanted {
			if !ok || n < want {
				l.Broken("retained message of %s: got %s %d (whole: %t), number %d was acknowledged", p.Topic, name, n, ok, want)
			}
			delete(marks, p.Topic)
		}
	}
	return nil
}
