package durability

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// patience is how long anything that must come may take. It bounds failures only.
const patience = 30 * time.Second

// place is where the broker listens: nowhere between a kill and the next start.
type place struct {
	mu      sync.Mutex
	address string
	changed chan struct{} // closed when address changes
}

func newPlace() *place { return &place{changed: make(chan struct{})} }

// set says where the broker is; "" is nowhere.
func (p *place) set(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address = address
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait gives the address once there is one, or the error of ctx.
func (p *place) wait(ctx context.Context) (string, error) {
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		p.mu.Lock()
		address, changed := p.address, p.changed
		p.mu.Unlock()
		if address != "" {
			return address, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// link is one network connection of a client.
type link struct {
	nc net.Conn
	r  *bufio.Reader
	v  byte
	mu sync.Mutex // one writer at a time
}

// errRefused is a CONNACK with another code than 0.
var errRefused = errors.New("connection refused")

// connect opens a connection and says hello. session tells whether the broker knew one.
func connect(address string, v byte, h hello) (l *link, session bool, err error) {
	nc, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, false, err
	}
	l = &link{nc: nc, r: bufio.NewReader(nc), v: v}
	if err = l.write(connectBytes(v, h)); err == nil {
		var p *packet
		if p, err = l.want(tConnack); err == nil && p.code != 0 {
			err = fmt.Errorf("%w: code 0x%02x", errRefused, p.code)
		} else if err == nil {
			return l, p.session, nil
		}
	}
	nc.Close()
	return nil, false, err
}

func (l *link) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.nc.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := l.nc.Write(b)
	return err
}

// read waits for the next packet as long as the connection lives.
func (l *link) read() (*packet, error) { return readPacket(l.r, l.v) }

// want reads the next packet, which must be of this type and come in time.
func (l *link) want(typ byte) (*packet, error) {
	if err := l.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	p, err := l.read()
	if err != nil {
		return nil, err
	}
	if p.typ != typ {
		return nil, fmt.Errorf("got a packet of type %d, want %d", p.typ, typ)
	}
	return p, l.nc.SetReadDeadline(time.Time{})
}

// subscribe asks for one filter on a connection on which nothing else is on its way.
func (l *link) subscribe(filter string, qos byte) error {
	if err := l.write(subscribeBytes(l.v, 1, filter, qos)); err != nil {
		return err
	}
	p, err := l.want(tSuback)
	if err != nil {
		return err
	}
	if len(p.codes) != 1 || p.codes[0] != qos {
		return fmt.Errorf("subscribe %s: codes % x, want %d", filter, p.codes, qos)
	}
	return nil
}

// codeError is a reason code that refuses.
type codeError byte

func (c codeError) Error() string { return fmt.Sprintf("refused with 0x%02x", byte(c)) }

// publish sends a message of QoS 1 on a connection on which nothing else is on its way. A PUBACK that refuses is a codeError.
func (l *link) publish(topic string, payload []byte, retain bool) error {
	if err := l.write(publishBytes(l.v, publication{topic: topic, payload: payload, qos: 1, retain: retain, id: 1})); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	p, err := l.want(tPuback)
	if err == nil && p.code >= 0x80 {
		err = codeError(p.code)
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// bye disconnects in order and waits until the broker has closed.
func (l *link) bye() error {
	defer l.nc.Close()
	if err := l.write(frame(tDisconnect<<4, nil)); err != nil {
		return err
	}
	return l.drained()
}

// drop ends the connection without DISCONNECT and waits until the broker has closed.
func (l *link) drop() error {
	defer l.nc.Close()
	if half, ok := l.nc.(*net.TCPConn); ok {
		if err := half.CloseWrite(); err != nil {
			return err
		}
	}
	return l.drained()
}

func (l *link) drained() error {
	if err := l.nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for {
		if _, err := l.r.Discard(1); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return errors.New("the broker does not close")
			}
			return nil // closed, in whatever way
		}
	}
}
