package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Patience is how long anything that must come may take. It bounds failures only.
const Patience = 30 * time.Second

// Place is where the broker listens: nowhere between a kill and the next start.
type Place struct {
	mu      sync.Mutex
	address string
	changed chan struct{} // closed when address changes
}

// NewPlace is nowhere.
func NewPlace() *Place { return &Place{changed: make(chan struct{})} }

// Set says where the broker is; "" is nowhere.
func (p *Place) Set(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address = address
	close(p.changed)
	p.changed = make(chan struct{})
}

// Address is where the broker is; "" is nowhere.
func (p *Place) Address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

// Wait gives the address once there is one, or the error of ctx.
func (p *Place) Wait(ctx context.Context) (string, error) {
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

// Conn is one network connection of a client.
type Conn struct {
	nc net.Conn
	r  *bufio.Reader
	v  byte
	mu sync.Mutex // one writer at a time
}

// errRefused is a CONNACK with another code than 0.
var errRefused = errors.New("connection refused")

// Connect opens a connection and says hello. session tells whether the broker knew one.
func Connect(address string, v byte, h Hello) (l *Conn, session bool, err error) {
	nc, err := net.DialTimeout("tcp", address, Patience)
	if err != nil {
		return nil, false, err
	}
	l = &Conn{nc: nc, r: bufio.NewReader(nc), v: v}
	if err = l.Write(connectBytes(v, h)); err == nil {
		var p *Packet
		if p, err = l.Want(TypeConnack); err == nil && p.Code != 0 {
			err = fmt.Errorf("%w: code 0x%02x", errRefused, p.Code)
		} else if err == nil {
			return l, p.Session, nil
		}
	}
	nc.Close()
	return nil, false, err
}

func (l *Conn) Write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.nc.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err := l.nc.Write(b)
	return err
}

// Read waits for the next packet as long as the connection lives.
func (l *Conn) Read() (*Packet, error) { return readPacket(l.r, l.v) }

// Want reads the next packet, which must be of this type and come in time.
func (l *Conn) Want(typ byte) (*Packet, error) {
	if err := l.nc.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return nil, err
	}
	p, err := l.Read()
	if err != nil {
		return nil, err
	}
	if p.Type != typ {
		return nil, fmt.Errorf("got a packet of type %d, want %d", p.Type, typ)
	}
	return p, l.nc.SetReadDeadline(time.Time{})
}

// Subscribe asks for one filter on a connection on which nothing else is on its way.
func (l *Conn) Subscribe(filter string, qos byte) error {
	if err := l.Write(SubscribeBytes(l.v, 1, filter, qos)); err != nil {
		return err
	}
	p, err := l.Want(TypeSuback)
	if err != nil {
		return err
	}
	if len(p.Codes) != 1 || p.Codes[0] != qos {
		return fmt.Errorf("subscribe %s: codes % x, want %d", filter, p.Codes, qos)
	}
	return nil
}

// codeError is a reason code that refuses.
type codeError byte

func (c codeError) Error() string { return fmt.Sprintf("refused with 0x%02x", byte(c)) }

// Publish sends a message of QoS 1 on a connection on which nothing else is on its way. A PUBACK that refuses is a codeError.
func (l *Conn) Publish(topic string, payload []byte, retain bool) error {
	if err := l.Write(PublishBytes(l.v, Publication{Topic: topic, Payload: payload, QoS: 1, Retain: retain, ID: 1})); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	p, err := l.Want(TypePuback)
	if err == nil && p.Code >= 0x80 {
		err = codeError(p.Code)
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// Bye disconnects in order and waits until the broker has closed.
func (l *Conn) Bye() error {
	defer l.nc.Close()
	if err := l.Write(frame(TypeDisconnect<<4, nil)); err != nil {
		return err
	}
	return l.drained()
}

// Drop ends the connection without DISCONNECT and waits until the broker has closed.
func (l *Conn) Drop() error {
	defer l.nc.Close()
	if half, ok := l.nc.(*net.TCPConn); ok {
		if err := half.CloseWrite(); err != nil {
			return err
		}
	}
	return l.drained()
}

func (l *Conn) drained() error {
	if err := l.nc.SetReadDeadline(time.Now().Add(Patience)); err != nil {
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

// Close ends the connection as it is.
func (l *Conn) Close() error { return l.nc.Close() }

// Await is Read until ctx ends.
func (l *Conn) Await(ctx context.Context) (*Packet, error) {
	defer context.AfterFunc(ctx, func() { _ = l.nc.SetReadDeadline(time.Now()) })()
	return l.Read()
}

// Acknowledge answers a PUBLISH of QoS 1.
func (l *Conn) Acknowledge(p *Packet) error { return l.Write(AckBytes(TypePuback, p.ID)) }
