package cluster_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsVar is the address of the name server that a child asks.
const dnsVar = "LACEWING_CLUSTER_DNS"

// useNameServer makes this process ask one name server and no other.
func useNameServer(at string) {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", at)
	}}
}

// nameServer answers for services at ports, whose hosts are 127.0.0.1 and on.
func nameServer(t *testing.T, ports []string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1024)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			q := m.Questions[0]
			head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1, Type: q.Type}
			host := strings.SplitN(q.Name.String(), ".", 2)[0]
			switch {
			case q.Type == dnsmessage.TypeSRV:
				for i, p := range ports {
					port, _ := strconv.Atoi(p)
					target := dnsmessage.MustNewName("h" + strconv.Itoa(i+1) + ".cluster.test.")
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.SRVResource{Port: uint16(port), Target: target}})
				}
			case q.Type == dnsmessage.TypeA && strings.HasPrefix(host, "h"):
				last, _ := strconv.Atoi(host[1:])
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, byte(last)}}})
			}
			if out, err := m.Pack(); err == nil {
				c.WriteTo(out, from) // who asks asks again
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String()
}

// TestDNS lets three nodes find each other by the records of a service.
func TestDNS(t *testing.T) {
	f := newFleet(t, 3, map[string]string{"cluster.discovery": "dns", "cluster.dns.name": "nodes.cluster.test", "cluster.dns.type": "srv", "cluster.static.seeds": ""})
	var ports []string
	for _, b := range f.boxes {
		_, port, err := net.SplitHostPort(b.settings["cluster.listen"])
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	t.Setenv(dnsVar, nameServer(t, ports))
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	f.addUser(f.boxes[2], "found")
	if !f.boxes[0].hasUser("found") {
		t.Error("the metadata are not shared")
	}
}
