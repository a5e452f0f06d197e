package mqtt

import (
	"testing"
)

// TestUnsupportedMethod: a method that the broker does not know.
func TestUnsupportedMethod(t *testing.T) {
	only5(t, "MQTT-4.12.0-1", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-4.13.2-1")
	for _, p := range []props{
		{text(propAuthMethod, "no such method")},
		{text(propAuthMethod, "no such method"), text(propAuthData, "\x00data")},
		{text(propAuthMethod, "")},
	} {
		shared(t).open(t, session{v: v5, props: p}).closed(0x8c, 0x87)
	}
}

// TestNoMethod: no AUTH either way and no method in CONNACK.
func TestNoMethod(t *testing.T) {
	only5(t, "MQTT-4.12.0-6", "MQTT-4.12.0-7", "MQTT-4.13.1-1")
	for _, code := range []byte{0x18, 0x19, 0x00} {
		c := shared(t).connect(t, session{v: v5})
		if c.connack.props.has(propAuthMethod) || c.connack.props.has(propAuthData) {
			t.Errorf("CONNACK has %v", c.connack.props)
		}
		c.ping()
		c.write(authBytes(code, props{text(propAuthMethod, scramMethod)}))
		c.closed(0x82)
	}
	c := shared(t).connect(t, session{v: v5})
	c.write(frame(typeAuth, 0)) // the short form
	c.closed(0x82)
}

// TestBadCredentials: with anonymous access off, a client with no or wrong
// credentials is refused.
func TestBadCredentials(t *testing.T) {
	both(t, in311("MQTT-3.1.4-5", "MQTT-3.2.2-4", "MQTT-3.2.2-5"), in5("MQTT-3.1.4-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-3.2.2-8", "MQTT-3.1.4-6"),
		func(t *testing.T, v version) {
			b := authBroker(t)
			good := b.connect(t, session{v: v, hasUser: true, user: testUser, hasPass: true, pass: testPass})
			topic := unique()
			good.subscribe(topic, 1)
			for name, s := range map[string]session{
				"no user name":   {},
				"no password":    {hasUser: true, user: testUser},
				"wrong password": {hasUser: true, user: testUser, hasPass: true, pass: testPass + "x"},
				"empty password": {hasUser: true, user: testUser, hasPass: true},
				"wrong user":     {hasUser: true, user: testUser + "x", hasPass: true, pass: testPass},
			} {
				s.v = v
				c := b.open(t, s)
				c.write(publish{topic: topic, payload: name}.bytes(v))
				p := c.read()
				want := map[version][]byte{v311: {4, 5}, v5: {0x86, 0x87}}[v]
				if p.typ != typeConnack || p.code != want[0] && p.code != want[1] {
					t.Errorf("%s: got %s, want CONNACK with one of % x", name, p, want)
				}
				c.closed()
			}
			good.silent(good)
		})
}

// authenticate goes through the exchange of SCRAM-SHA-256 up to the packet that
// ends it. In the first exchange that is CONNACK, in a later one AUTH.
func authenticate(c *conn, s *scram, code byte) *packet {
	c.t.Helper()
	if code == 0x19 {
		c.write(authBytes(0x19, props{text(propAuthMethod, scramMethod), text(propAuthData, s.first())}))
	}
	challenge := c.read()
	if challenge.typ != typeAuth || challenge.code != 0x18 {
		c.t.Fatalf("got %s, want AUTH 0x18", challenge)
	}
	checkMethod(c, challenge)
	data, _ := challenge.props.find(propAuthData)
	answer, err := s.final(data.s)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(authBytes(0x18, props{text(propAuthMethod, scramMethod), text(propAuthData, answer)}))
	return c.read()
}

func checkMethod(c *conn, p *packet) {
	c.t.Helper()
	if m, _ := p.props.find(propAuthMethod); m.s != scramMethod {
		c.t.Errorf("%s names method %q, want %q", p, m.s, scramMethod)
	}
}

// scramSession is a CONNECT that begins an exchange.
func scramSession(s *scram, more ...prop) session {
	return session{v: v5, props: append(props{text(propAuthMethod, scramMethod), text(propAuthData, s.first())}, more...)}
}

func TestEnhancedAuthentication(t *testing.T) {
	only5(t, "MQTT-4.12.0-2", "MQTT-4.12.0-5", "MQTT-3.15.2-1", "MQTT-3.2.0-1", "MQTT-4.12.1-1")
	b := authBroker(t)
	s := &scram{user: testUser, pass: testPass}
	c := b.open(t, scramSession(s))
	end := authenticate(c, s, 0)
	if end.typ != typeConnack || end.code != 0 {
		t.Fatalf("got %s, want CONNACK 0x00", end)
	}
	checkMethod(c, end)
	data, _ := end.props.find(propAuthData)
	if err := s.verify(data.s); err != nil {
		t.Error(err)
	}
	topic := unique()
	c.subscribe(topic, 1)
	c.send(topic, "in", 1)
	c.receive(topic, "in")
	// Re-authentication, twice, while messages flow.
	for range 2 {
		s := &scram{user: testUser, pass: testPass}
		end := authenticate(c, s, 0x19)
		if end.typ != typeAuth || end.code != 0 {
			t.Fatalf("got %s, want AUTH 0x00", end)
		}
		checkMethod(c, end)
		data, _ := end.props.find(propAuthData)
		if err := s.verify(data.s); err != nil {
			t.Error(err)
		}
		c.send(topic, "again", 1)
		c.receive(topic, "again")
	}
}

func TestEnhancedAuthenticationRefused(t *testing.T) {
	only5(t, "MQTT-4.12.0-4", "MQTT-3.2.2-7")
	b := authBroker(t)
	for name, s := range map[string]*scram{
		"wrong password": {user: testUser, pass: testPass + "x"},
		"unknown user":   {user: testUser + "x", pass: testPass},
	} {
		c := b.open(t, scramSession(s))
		p := c.read()
		if p.typ == typeAuth {
			data, _ := p.props.find(propAuthData)
			answer, err := s.final(data.s)
			if err != nil {
				t.Fatal(err)
			}
			c.write(authBytes(0x18, props{text(propAuthMethod, scramMethod), text(propAuthData, answer)}))
			p = c.read()
		}
		if p.typ != typeConnack || p.code != 0x86 && p.code != 0x87 {
			t.Errorf("%s: got %s, want CONNACK 0x86 or 0x87", name, p)
		}
		c.closed()
	}
	for name, data := range map[string]string{"garbage": "garbage", "empty": "", "no nonce": "n,,n=" + testUser} {
		p, err := b.open(t, session{v: v5, props: props{text(propAuthMethod, scramMethod), text(propAuthData, data)}}).tryRead()
		if err == nil && (p.typ != typeConnack || p.code < 0x80) {
			t.Errorf("%s: got %s, want a refusal", name, p)
		}
	}
}

// TestOnlyAuthBeforeConnack: a client in the middle of the exchange sends
// something else.
func TestOnlyAuthBeforeConnack(t *testing.T) {
	only5(t, "MQTT-3.1.2-30", "MQTT-3.14.0-1")
	b := authBroker(t)
	for name, tc := range map[string]struct {
		bytes []byte
		codes []byte
	}{
		"PINGREQ":                {pingBytes(), []byte{0x82}},
		"PUBLISH":                {publish{topic: "t"}.bytes(v5), []byte{0x82}},
		"SUBSCRIBE":              {subscribeBytes(v5, 1, nil, filter{"t", 0}), []byte{0x82}},
		"AUTH of another method": {authBytes(0x18, props{text(propAuthMethod, "other"), text(propAuthData, "x")}), []byte{0x82, 0x8c}},
		"AUTH with no method":    {authBytes(0x18, nil), []byte{0x82, 0x81}},
		"AUTH 0x19":              {authBytes(0x19, props{text(propAuthMethod, scramMethod)}), []byte{0x82}},
		"AUTH 0x00":              {authBytes(0x00, props{text(propAuthMethod, scramMethod)}), []byte{0x82}},
		"DISCONNECT":             {disconnectBytes(v5, 0, nil), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scram{user: testUser, pass: testPass}
			c := b.open(t, scramSession(s))
			if p := c.read(); p.typ != typeAuth || p.code != 0x18 {
				t.Fatalf("got %s, want AUTH 0x18", p)
			}
			c.write(tc.bytes)
			c.closed(tc.codes...)
		})
	}
}

// TestReauthenticationRefused: the connection ends.
func TestReauthenticationRefused(t *testing.T) {
	only5(t, "MQTT-4.12.1-1", "MQTT-4.12.1-2", "MQTT-3.15.2-1", "MQTT-4.13.2-1")
	b := authBroker(t)
	in := func() *conn {
		s := &scram{user: testUser, pass: testPass}
		c := b.open(t, scramSession(s))
		if end := authenticate(c, s, 0); end.typ != typeConnack || end.code != 0 {
			t.Fatalf("got %s, want CONNACK 0x00", end)
		}
		return c
	}
	c := in()
	c.write(authBytes(0x19, props{text(propAuthMethod, "other"), text(propAuthData, "x")}))
	c.closed(0x82)
	c = in()
	c.write(authBytes(0x18, props{text(propAuthMethod, scramMethod), text(propAuthData, "x")})) // nothing to continue
	c.closed(0x82)
	c = in()
	wrong := &scram{user: testUser, pass: testPass + "x"}
	c.write(authBytes(0x19, props{text(propAuthMethod, scramMethod), text(propAuthData, wrong.first())}))
	p := c.read()
	if p.typ != typeAuth || p.code != 0x18 {
		t.Fatalf("got %s, want AUTH 0x18", p)
	}
	data, _ := p.props.find(propAuthData)
	answer, err := wrong.final(data.s)
	if err != nil {
		t.Fatal(err)
	}
	c.write(authBytes(0x18, props{text(propAuthMethod, scramMethod), text(propAuthData, answer)}))
	c.closed(0x86, 0x87)
}

// TestAuthReasonStringsFit: AUTH under small packet sizes; conn.check fails on
// one that is too large.
func TestAuthReasonStringsFit(t *testing.T) {
	only5(t, "MQTT-3.15.2-2", "MQTT-3.15.2-3")
	b := authBroker(t)
	exchanges := 0
	for size := uint32(20); size < 260; size += 20 {
		s := &scram{user: testUser, pass: testPass}
		c := b.open(t, scramSession(s, num(propMaximumPacketSize, size)))
		p, err := c.tryRead()
		if err != nil || p.typ != typeAuth {
			continue // the challenge does not fit at all
		}
		exchanges++
		data, _ := p.props.find(propAuthData)
		answer, err := s.final(data.s)
		if err != nil {
			t.Fatal(err)
		}
		c.write(authBytes(0x18, props{text(propAuthMethod, scramMethod), text(propAuthData, answer)}))
		if p, err := c.tryRead(); err == nil && p.code == 0 {
			c.ping()
		}
	}
	if exchanges == 0 {
		t.Error("no exchange fitted into 240 bytes")
	}
}
