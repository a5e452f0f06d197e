package engine

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

type authFunc func(r *ConnectRequest) Decision

func (f authFunc) Authenticate(_ context.Context, r *ConnectRequest) Decision { return f(r) }

type blockingAuth struct {
	gate chan struct{}
	d    Decision
}

func (a *blockingAuth) Authenticate(ctx context.Context, r *ConnectRequest) Decision {
	select {
	case <-a.gate:
	case <-ctx.Done():
		return Decision{Result: Deny, Code: packet.ServerUnavailable}
	}
	return a.d
}
func (a *blockingAuth) Blocking() bool { return true }

func TestAuthenticators(t *testing.T) {
	deny := func(code packet.ReasonCode) authFunc {
		return func(*ConnectRequest) Decision { return Decision{Result: Deny, Code: code} }
	}
	allow := authFunc(func(*ConnectRequest) Decision { return Decision{Result: Allow} })
	pass := authFunc(func(*ConnectRequest) Decision { return Decision{} })
	type link struct {
		sequence int
		a        Authenticator
	}
	tests := []struct {
		name      string
		anonymous bool
		chain     []link
		v311      packet.ReasonCode
		v5        packet.ReasonCode
	}{
		{"nobody decides, anonymous on", true, []link{{0, pass}}, packet.Success, packet.Success},
		{"nobody decides, anonymous off", false, []link{{0, pass}}, packet.NotAuthorized, packet.NotAuthorized},
		{"no chain, anonymous off", false, nil, packet.NotAuthorized, packet.NotAuthorized},
		{"allowed", false, []link{{0, allow}}, packet.Success, packet.Success},
		{"password", true, []link{{0, deny(packet.BadUserNameOrPassword)}}, packet.BadUserNameOrPassword, packet.BadUserNameOrPassword},
		{"deny without code", true, []link{{0, deny(0)}}, packet.NotAuthorized, packet.NotAuthorized},
		{"latest first", true, []link{{0, deny(0)}, {0, allow}}, packet.Success, packet.Success},
		{"higher sequence first", true, []link{{5, deny(0)}, {0, allow}}, packet.NotAuthorized, packet.NotAuthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, settings(func(s *Settings) { s.AllowAnonymous = tt.anonymous }))
			for _, l := range tt.chain {
				w.e.AddAuthenticator("x", l.sequence, l.a)
			}
			for v, want := range map[packet.Version]packet.ReasonCode{packet.V311: tt.v311, packet.V5: tt.v5} {
				p := w.dial(v)
				if a := p.hello("c"); a.Code != want {
					t.Errorf("%s: got %v, want %v", v, a.Code, want)
				}
				if p.isClosed() != want.Failed() {
					t.Errorf("%s: closed %v after %v", v, p.isClosed(), want)
				}
			}
		})
	}
	t.Run("attributes", func(t *testing.T) {
		w := newWorld(t)
		remove := w.e.AddAuthenticator("x", 0, authFunc(func(r *ConnectRequest) Decision {
			if string(r.Password) != "secret" || r.Username != "u" || r.Zone != "external" || r.Listener != "external" {
				t.Errorf("request: got %+v", r)
			}
			return Decision{Result: Allow, Superuser: true, ClientID: "other", Username: "U"}
		}))
		w.connect(packet.V311, "c", func(c *packet.Connect) {
			c.HasUsername, c.Username, c.HasPassword, c.Password = true, "u", true, []byte("secret")
		})
		info, ok := w.e.Client("other")
		if !ok || info.Username != "U" || !info.Superuser {
			t.Errorf("client: got %+v, %v", info, ok)
		}
		if rows := w.e.ClientsByUsername("U"); len(rows) != 1 {
			t.Errorf("clients of U: got %v", rows)
		}
		remove()
		w.connect(packet.V311, "c2")
	})
}

// A blocking authenticator holds its connection only, and what the client sent behind CONNECT waits.
func TestBlockingAuthenticator(t *testing.T) {
	for _, verdict := range []Verdict{Allow, Deny} {
		t.Run(verdict.String(), func(t *testing.T) {
			w := newWorld(t)
			watch := w.connect(packet.V311, "watch")
			watch.subscribe("t", 0)
			a := &blockingAuth{make(chan struct{}), Decision{Result: verdict}}
			w.e.AddAuthenticator("x", 0, a)
			p := w.dial(packet.V311)
			var buf []byte
			buf = (&packet.Connect{Version: packet.V311, CleanStart: true, ClientID: "c"}).Append(buf, 0)
			buf = pub("t", "x", 0, 0).Append(buf, packet.V311)
			buf = append(buf, 0xC0) // half a PINGREQ
			if next := p.raw(buf); next != Hold {
				t.Fatalf("got %v, want Hold", next)
			}
			p.silent()
			close(a.gate)
			deadline := time.Now().Add(5 * time.Second)
			for {
				p.mu.Lock()
				done := p.resumed > 0 || p.closed
				p.mu.Unlock()
				if done {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("nothing happened")
				}
				time.Sleep(time.Millisecond)
			}
			code := want[*packet.Connack](p).Code
			if verdict == Allow {
				if code != packet.Success {
					t.Errorf("got %v", code)
				}
				watch.expect("t", "x", 0)
				p.raw([]byte{0})
				want[*packet.Pingresp](p)
			} else {
				if code != packet.NotAuthorized {
					t.Errorf("got %v", code)
				}
				watch.silent() // [MQTT-3.1.4-5]
			}
			if err := w.e.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// countdown is an exchange of some steps.
type countdown struct{ n int }

func (c *countdown) Begin(*ConnectRequest) AuthExchange { return &countdown{c.n} }
func (c *countdown) Step(_ context.Context, data []byte) AuthStep {
	if bytes.Equal(data, []byte("bad")) {
		return AuthStep{Code: packet.NotAuthorized}
	}
	if c.n--; c.n > 0 {
		return AuthStep{Code: packet.ContinueAuthentication, Data: []byte{byte(c.n)}}
	}
	return AuthStep{Data: []byte("end"), Decision: Decision{Username: "proven"}}
}

func TestEnhancedAuth(t *testing.T) {
	w := newWorld(t, settings(func(s *Settings) { s.AllowAnonymous = false }))
	w.e.AddAuthMethod("COUNT", &countdown{2})
	method := func(name string) func(*packet.Connect) {
		return func(c *packet.Connect) { c.AuthMethod, c.AuthData = name, []byte("hi") }
	}
	start := func() *client {
		p := w.dial(packet.V5)
		m := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "c"}
		method("COUNT")(m)
		p.say(m)
		if a := want[*packet.Auth](p); a.Code != packet.ContinueAuthentication || a.Method != "COUNT" || a.Data[0] != 1 {
			t.Fatalf("got %+v", a)
		}
		return p
	}
	p := start()
	p.say(&packet.Auth{Code: packet.ContinueAuthentication, Method: "COUNT", Data: []byte("x")})
	if a := want[*packet.Connack](p); a.Code != packet.Success || a.AuthMethod != "COUNT" || string(a.AuthData) != "end" {
		t.Fatalf("got %+v", a)
	}
	if info, _ := w.e.Client("c"); info.Username != "proven" {
		t.Errorf("user name: got %q", info.Username)
	}
	p.say(&packet.Auth{Code: packet.ReAuthenticate, Method: "COUNT"})
	want[*packet.Auth](p)
	p.say(pub("t", "", 1, 1)) // goes on meanwhile
	want[*packet.Ack](p)
	p.say(&packet.Auth{Code: packet.ContinueAuthentication, Method: "COUNT"})
	if a := want[*packet.Auth](p); a.Code != packet.Success || string(a.Data) != "end" {
		t.Errorf("got %+v", a)
	}
	p.say(&packet.Auth{Code: packet.ReAuthenticate, Method: "COUNT", Data: []byte("bad")})
	if d := want[*packet.Disconnect](p); d.Code != packet.NotAuthorized {
		t.Errorf("got %v, want 0x87", d.Code)
	}

	p = start()
	p.say(&packet.Auth{Code: packet.ContinueAuthentication, Method: "COUNT", Data: []byte("bad")})
	if a := want[*packet.Connack](p); a.Code != packet.NotAuthorized {
		t.Errorf("got %v, want 0x87", a.Code)
	}
	p = start()
	p.say(pub("t", "", 0, 0)) // only AUTH and DISCONNECT before CONNACK
	if a := want[*packet.Connack](p); a.Code != packet.ProtocolError || !p.isClosed() {
		t.Errorf("got %v, want 0x82", a.Code)
	}
	p = w.dial(packet.V5)
	if a := p.hello("c", method("NONE")); a.Code != packet.BadAuthenticationMethod {
		t.Errorf("got %v, want 0x8C", a.Code)
	}
}

func TestBan(t *testing.T) {
	w := newWorld(t)
	w.e.SetBanCheck(func(id, user string, ip netip.Addr) bool { return id == "bad" || ip.String() == "10.9.9.9" })
	for _, v := range versions {
		want := packet.Banned
		if v != packet.V5 {
			want = packet.NotAuthorized // return code 5
		}
		if a := w.dial(v).hello("bad"); a.Code != want {
			t.Errorf("%s: got %v, want %v", v, a.Code, want)
		}
	}
	w.connect(packet.V5, "good")
	w.e.SetBanCheck(nil)
	w.connect(packet.V5, "bad")
}

type aclFunc func(c *ClientInfo, a Action, topic string) Verdict

func (f aclFunc) Authorize(c *ClientInfo, a Action, topic string) Verdict { return f(c, a, topic) }

func TestACL(t *testing.T) {
	t.Run("verdicts", func(t *testing.T) {
		w := newWorld(t)
		asked := 0
		w.e.AddAuthorizer("x", 0, aclFunc(func(c *ClientInfo, a Action, topic string) Verdict {
			asked++
			if topic == "secret" {
				return Deny
			}
			return Ignore
		}))
		s := w.connect(packet.V5, "s")
		s.subscribe("#", 0)
		for _, v := range versions {
			p := w.connect(v, "p")
			p.say(pub("secret", "x", 1, 1))
			want1 := packet.NotAuthorized
			if v != packet.V5 {
				want1 = packet.Success
			}
			if a := want[*packet.Ack](p); a.Code != want1 {
				t.Errorf("%s: got %s, want %v", v, show(a), want1)
			}
			s.silent()
			p.say(&packet.Subscribe{PacketID: 1, Filters: []packet.Subscription{{Filter: "secret", QoS: 1}}})
			code := want[*packet.Suback](p).Codes[0]
			wantCode := map[packet.Version]packet.ReasonCode{packet.V31: 1, packet.V311: packet.UnspecifiedError, packet.V5: packet.NotAuthorized}[v]
			if code != wantCode {
				t.Errorf("%s: SUBACK got %v, want %v", v, code, wantCode)
			}
			p.hangUp()
		}
		before := asked
		p := w.connect(packet.V5, "p")
		for range 5 {
			p.say(pub("t", "x", 0, 0))
			s.expect("t", "x", 0)
		}
		if asked != before+1 {
			t.Errorf("asked %d times for one topic, want once", asked-before)
		}
		if err := w.e.CleanACL("p", "t"); err != nil {
			t.Error(err)
		}
		p.say(pub("t", "x", 0, 0))
		w.pass(61 * time.Second) // acl_cache_ttl
		p.say(pub("t", "x", 0, 0))
		w.e.CleanACLAll()
		p.say(pub("t", "x", 0, 0))
		if asked != before+4 {
			t.Errorf("asked %d times, want once for each time the cache was emptied", asked-before)
		}
		if w.e.CleanACL("nobody", "t") == nil {
			t.Error("CleanACL of an unknown client: got nil")
		}
		if m := w.e.Metrics(); m[PublishAuthError] != 3 || m[SubscribeAuthError] != 3 {
			t.Errorf("auth errors: got %d and %d, want 3 and 3", m[PublishAuthError], m[SubscribeAuthError])
		}
	})
	t.Run("no match", func(t *testing.T) {
		w := newWorld(t, settings(func(s *Settings) { s.ACLNoMatch = Deny }))
		p := w.connect(packet.V5, "p")
		p.say(pub("t", "x", 1, 1))
		if a := want[*packet.Ack](p); a.Code != packet.NotAuthorized {
			t.Errorf("got %s", show(a))
		}
	})
	t.Run("deny action", func(t *testing.T) {
		w := newWorld(t, settings(func(s *Settings) { s.ACLNoMatch, s.ACLDenyAction = Deny, DenyDisconnect }))
		p := w.connect(packet.V5, "p")
		p.say(pub("t", "x", 1, 1))
		if d := want[*packet.Disconnect](p); d.Code != packet.NotAuthorized {
			t.Errorf("got %v", d.Code)
		}
	})
	t.Run("will", func(t *testing.T) {
		w := newWorld(t)
		w.e.AddAuthorizer("x", 0, aclFunc(func(c *ClientInfo, a Action, topic string) Verdict {
			if a == ActionPublish && topic == "w" && c.ClientID == "p" {
				return Deny
			}
			return Allow
		}))
		s := w.connect(packet.V5, "s")
		s.subscribe("w", 0)
		w.connect(packet.V5, "p", func(c *packet.Connect) { c.Will = &packet.Will{Topic: "w", Payload: []byte("x")} }).hangUp()
		s.silent()
		w.connect(packet.V5, "q", func(c *packet.Connect) { c.Will = &packet.Will{Topic: "w", Payload: []byte("x")} }).hangUp()
		s.expect("w", "x", 0)
	})
	t.Run("cache is bounded", func(t *testing.T) {
		for _, size := range []int{3, 32, 33, 100} {
			w := newWorld(t, settings(func(s *Settings) { s.ACLCache.Size = size }))
			asked := 0
			w.e.AddAuthorizer("x", 0, aclFunc(func(*ClientInfo, Action, string) Verdict { asked++; return Allow }))
			p := w.connect(packet.V5, "p")
			say := func(from, to int) {
				for i := from; i < to; i++ {
					p.say(pub(fmt.Sprint(i), "", 0, 0))
				}
			}
			say(0, 200)
			say(200-size, 200) // cached
			if n := len(p.c.acl.Load().list); n != size || asked != 200 {
				t.Errorf("size %d: got %d entries, asked %d times, want 200", size, n, asked)
			}
			say(0, 1)
			if asked != 201 {
				t.Errorf("size %d: the oldest entry was kept", size)
			}
			if idx := p.c.acl.Load().index; idx != nil && len(idx) != size {
				t.Errorf("size %d: %d entries in the index", size, len(idx))
			}
		}
	})
}

func TestMountpoint(t *testing.T) {
	w := newWorld(t, zone(func(z *Zone) { z.Mountpoint = "m/%c/%u/" }))
	user := func(c *packet.Connect) { c.HasUsername, c.Username = true, "joe" }
	p := w.connect(packet.V5, "p", user, func(c *packet.Connect) { c.Will = &packet.Will{Topic: "bye"} })
	p.subscribe("t/#", 1)
	p.subscribe("$share/g/s", 1)
	subs := w.e.SubscriptionsOf("p")
	if len(subs) != 2 || subs[0].Filter != "m/p/joe/s" || subs[1].Filter != "m/p/joe/t/#" {
		t.Errorf("subscriptions: got %+v", subs)
	}
	p.say(pub("t/1", "x", 1, 1))
	p.fetch(packet.TypePuback)
	p.expect("t/1", "x", 1)
	if n, _ := w.e.Publish(&Message{Topic: "m/p/joe/t", Payload: []byte("y")}); n != 1 {
		t.Errorf("matched: got %d, want 1", n)
	}
	p.expect("t", "y", 0)
	p.say(&packet.Unsubscribe{PacketID: 1, Filters: []string{"t/#", "$share/g/s", "none"}})
	if a := want[*packet.Unsuback](p); a.Codes[0] != 0 || a.Codes[1] != 0 || a.Codes[2] != packet.NoSubscriptionExisted {
		t.Errorf("UNSUBACK: got %v", a.Codes)
	}
	info, _ := w.e.Client("p")
	if info.Mountpoint != "m/p/joe/" || info.WillTopic != "m/p/joe/bye" {
		t.Errorf("client: got %+v", info)
	}
}

func TestIdentity(t *testing.T) {
	t.Run("user name as client id", func(t *testing.T) {
		w := newWorld(t, zone(func(z *Zone) { z.UseUsernameAsID = true }))
		w.connect(packet.V311, "c", func(c *packet.Connect) { c.HasUsername, c.Username = true, "u" })
		if _, ok := w.e.Client("u"); !ok {
			t.Error("no client u")
		}
	})
	t.Run("assigned", func(t *testing.T) {
		w := newWorld(t)
		seen := map[string]bool{}
		for range 10 {
			p := w.dial(packet.V5)
			a := p.hello("")
			if a.AssignedClientID == "" || seen[a.AssignedClientID] {
				t.Errorf("got %q", a.AssignedClientID)
			}
			seen[a.AssignedClientID] = true
			if _, ok := w.e.Client(a.AssignedClientID); !ok {
				t.Errorf("no client %q", a.AssignedClientID)
			}
		}
		w.connect(packet.V311, "")
		if a := w.dial(packet.V311).hello("", func(c *packet.Connect) { c.CleanStart = false }); a.Code != packet.ClientIdentifierNotValid {
			t.Errorf("got %v, want 2 [MQTT-3.1.3-8]", a.Code)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		for use, want := range map[PeerCertUse]string{PeerCertCommonName: "device", PeerCertSubject: "CN=device,O=x", PeerCertNone: ""} {
			w := newWorld(t)
			if err := w.l.Configure(ListenerOptions{Name: "external", Protocol: "mqtt:tcp", PeerCertAsUsername: use}); err != nil {
				t.Fatal(err)
			}
			p := &client{t: t, w: w, v: packet.V311, b: w.e.NewBatch(), room: -1}
			c, err := w.l.Accept(ConnInfo{PeerCert: &PeerCert{CommonName: "device", Subject: "CN=device,O=x"}}, p)
			if err != nil {
				t.Fatal(err)
			}
			p.c = c
			p.hello("c")
			if info, _ := w.e.Client("c"); info.Username != want || info.PeerCert == nil {
				t.Errorf("%q: got %q, want %q", use, info.Username, want)
			}
		}
	})
	t.Run("server keep alive", func(t *testing.T) {
		w := newWorld(t, zone(func(z *Zone) { z.ServerKeepAlive = 30 }))
		a := w.dial(packet.V5).hello("c", func(c *packet.Connect) { c.KeepAlive, c.RequestResponse = 600, true })
		if a.ServerKeepAlive.Or(0) != 30 || a.ResponseInformation == "" {
			t.Errorf("got %+v", a)
		}
		if info, _ := w.e.Client("c"); info.KeepAlive != 30 {
			t.Errorf("keep alive: got %d, want 30", info.KeepAlive)
		}
	})
	t.Run("bridge", func(t *testing.T) {
		w := newWorld(t)
		p := w.dial(packet.V311)
		buf := (&packet.Connect{Version: packet.V311, CleanStart: true, ClientID: "b"}).Append(nil, 0)
		buf[8] |= 0x80
		p.raw(buf)
		want[*packet.Connack](p)
		if info, _ := w.e.Client("b"); !info.Bridge || info.ProtoVer != packet.V311 {
			t.Errorf("got %+v", info)
		}
		p.subscribe("t", 0)
		m := pub("t", "r", 0, 0)
		m.Retain = true
		p.say(m)
		p.silent()
		w.connect(packet.V311, "q").say(m)
		if m := p.expect("t", "r", 0); !m.Retain {
			t.Error("RETAIN is not passed on to a bridge")
		}
	})
}
