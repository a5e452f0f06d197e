package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/cluster"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
)

// Between two nodes there is one link, which the one of the lesser identity dials. They agree by a CONNECT and a CONNACK on the pair of
// sessions that they go on with, or begin a new one; from then on it is the engine's.

const (
	linkLook    = 200 * time.Millisecond // how often members are held against links
	linkPause   = 200 * time.Millisecond // before a node is dialed again; doubled up to
	linkRest    = time.Second            // this when links do not last
	linkForget  = 3 * time.Second        // how long a node has to be no member until its session ends
	linkTimeout = 5 * time.Second        // of the handshake
	linkHello   = 4 << 10                // bytes of its packets
)

// linkRetained is the name of a user property of CONNECT and CONNACK: the node agrees with others on retained messages. One of an
// earlier release does not say so, and hears nothing of it.
const linkRetained = "retained"

// linkKnows is what this release says of itself.
var linkKnows = []packet.UserProperty{{Name: linkRetained, Value: "1"}}

func knows(user []packet.UserProperty, name string) bool {
	return slices.ContainsFunc(user, func(p packet.UserProperty) bool { return p.Name == name })
}

// runLinks keeps links to all members until ctx ends.
func (n *Node) runLinks(ctx context.Context) {
	self := n.cluster.Self()
	dialed := map[string]context.CancelFunc{}
	missing := map[string]time.Time{} // since when a node that has a session is no member
	tick := time.NewTicker(linkLook)
	defer tick.Stop()
	for {
		members := map[string]bool{}
		for _, m := range n.store.Members() {
			members[m.ID] = true
			if m.ID > self && dialed[m.ID] == nil {
				part, stop := context.WithCancel(ctx)
				dialed[m.ID] = stop
				n.background.Go(func() { n.dialLinks(part, m.ID) })
			}
		}
		for id, stop := range dialed {
			if !members[id] {
				stop()
				delete(dialed, id)
			}
		}
		for _, l := range n.engine.Links() {
			switch since, known := missing[l.Peer]; {
			case members[l.Peer]:
				delete(missing, l.Peer)
			case !known:
				missing[l.Peer] = time.Now()
			case time.Since(since) > linkForget:
				n.log.Warn("a node is no member any more: what waited for it is dropped", "id", l.Peer, "messages", l.Queue)
				n.engine.DropLink(l.Peer)
				delete(missing, l.Peer)
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range dialed {
				stop()
			}
			return
		case <-tick.C:
		}
	}
}

// dialLinks keeps a link to a node until ctx ends.
func (n *Node) dialLinks(ctx context.Context, id string) {
	for pause := linkPause; ctx.Err() == nil; pause = min(2*pause, linkRest) {
		began := time.Now()
		err := n.dialLink(ctx, id)
		n.log.Debug("no link to a node", "id", id, "err", err)
		if time.Since(began) > linkTimeout {
			pause = linkPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// dialLink makes a link and returns when it has ended.
func (n *Node) dialLink(ctx context.Context, id string) error {
	raw, err := n.cluster.Dial(ctx, id, cluster.Link)
	if err != nil {
		return err
	}
	conn := &linkConn{Conn: raw, closed: make(chan struct{})}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	hello := packet.Connect{
		Version: packet.V5, ClientID: engine.LinkPrefix + n.cluster.Self(), HasUsername: true, Username: n.engine.LinkEpoch(id),
		User: linkKnows,
	}
	var answer packet.Connack
	err = exchange(conn, func() error {
		if _, err := conn.Write(hello.Append(nil, packet.V5)); err != nil {
			return err
		}
		return readPacket(conn, &answer)
	})
	if err == nil && answer.Code.Failed() {
		err = answer.Code
	}
	if err == nil {
		err = n.carryLink(conn, engine.LinkOptions{
			Peer: id, Epoch: answer.AssignedClientID, Resume: answer.SessionPresent, Retained: knows(answer.User, linkRetained),
		})
	}
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	<-conn.closed
	return nil
}

// acceptLink takes a link from a node that has proven the cookie. Before everything is there, and from who is no member, it is closed.
func (n *Node) acceptLink(conn net.Conn, from cluster.Hello) {
	select {
	case <-n.serving:
	default:
		conn.Close() // it dials again
		return
	}
	err := n.answerLink(conn, from.ID)
	if err != nil {
		n.log.Debug("link not taken", "id", from.ID, "err", err)
		conn.Close() // the error before matters
	}
}

func (n *Node) answerLink(conn net.Conn, id string) error {
	if !n.isMember(id) {
		return errors.New("it is no member")
	}
	var hello packet.Connect
	answer := packet.Connack{User: linkKnows}
	err := exchange(conn, func() error {
		if err := readPacket(conn, &hello); err != nil {
			return err
		}
		answer.AssignedClientID = n.engine.LinkEpoch(id)
		answer.SessionPresent = answer.AssignedClientID != "" && answer.AssignedClientID == hello.Username
		if !answer.SessionPresent {
			answer.AssignedClientID = rand.Text()
		}
		_, err := conn.Write(answer.Append(nil, packet.V5))
		return err
	})
	if err != nil {
		return err
	}
	return n.carryLink(conn, engine.LinkOptions{
		Peer: id, Epoch: answer.AssignedClientID, Resume: answer.SessionPresent, Retained: knows(hello.User, linkRetained),
	})
}

func (n *Node) isMember(id string) bool {
	for _, m := range n.store.Members() {
		if m.ID == id {
			return true
		}
	}
	return false
}

// carryLink gives a link to the engine.
func (n *Node) carryLink(conn net.Conn, o engine.LinkOptions) error {
	info := engine.ConnInfo{Peer: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr())}
	return n.driver.Carry(conn, o.Hello(), info, func(info engine.ConnInfo, t engine.Transport) (transport.Endpoint, error) {
		c, err := n.engine.OpenLink(o, info, t)
		if err != nil {
			return nil, err
		}
		n.log.Info("link to a node", "id", o.Peer, "resumed", o.Resume)
		return c, nil
	})
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

// exchange bounds the time of f.
func exchange(conn net.Conn, f func() error) error {
	if err := conn.SetDeadline(time.Now().Add(linkTimeout)); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// readPacket reads one packet and nothing of what follows it.
func readPacket(r io.Reader, p packet.Packet) error {
	var buf [linkHello]byte
	for n := 1; n <= 5; n++ {
		if _, err := io.ReadFull(r, buf[n-1:n]); err != nil {
			return err
		}
		h, size, err := packet.ParseHeader(packet.V5, buf[:n])
		if errors.Is(err, packet.ErrIncomplete) {
			continue
		}
		if err != nil {
			return err
		}
		if h.Type != p.Type() || h.Remaining > len(buf) {
			return fmt.Errorf("unexpected %v of %d bytes", h.Type, size+h.Remaining)
		}
		body := make([]byte, h.Remaining)
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		return p.Decode(packet.V5, h.Flags, body)
	}
	return packet.ErrIncomplete
}

// linkConn tells when it was closed.
type linkConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

// Close implements [net.Conn].
func (c *linkConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}
