package mqtt

import (
	"bytes"
	"strings"
	"testing"
)

// TestFirstPacketIsConnect sends every other packet first.
func TestFirstPacketIsConnect(t *testing.T) {
	both(t, in311("MQTT-3.1.0-1"), in5("MQTT-3.1.0-1", "MQTT-3.14.0-1"), func(t *testing.T, v version) {
		for name, b := range map[string][]byte{
			"PUBLISH":     publish{topic: "a", payload: "b"}.bytes(v),
			"PUBACK":      ackBytes(v, typePuback, 1, 0, nil),
			"PUBREC":      ackBytes(v, typePubrec, 1, 0, nil),
			"PUBREL":      ackBytes(v, typePubrel, 1, 0, nil),
			"PUBCOMP":     ackBytes(v, typePubcomp, 1, 0, nil),
			"SUBSCRIBE":   subscribeBytes(v, 1, nil, filter{"a", 0}),
			"UNSUBSCRIBE": unsubscribeBytes(v, 1, nil, "a"),
			"PINGREQ":     pingBytes(),
			"DISCONNECT":  frame(typeDisconnect, 0),
			"AUTH":        frame(typeAuth, 0),
			"CONNACK":     frame(typeConnack, 0, []byte{0, 0}),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := shared(t).dial(t, v)
				c.write(b)
				// The version is not agreed yet: nothing but the close can be understood.
				c.closed()
			})
		}
	})
}

func TestSecondConnectIsAViolation(t *testing.T) {
	both(t, in311("MQTT-3.1.0-2"), in5("MQTT-3.1.0-2", "MQTT-3.2.0-2"), func(t *testing.T, v version) {
		s := session{v: v, id: unique()}
		c := shared(t).connect(t, s)
		c.write(s.bytes())
		c.closed(0x82)
	})
}

func TestProtocolName(t *testing.T) {
	both(t, in311("MQTT-3.1.2-1"), in5("MQTT-3.1.2-1"), func(t *testing.T, v version) {
		for _, name := range []string{"MQTX", "mqtt", "", "MQT", "MQTTT", "HTTP"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := shared(t).dial(t, v)
				c.write(frame(typeConnect, 0, str(name), []byte{byte(v), flagClean}, u16(0), propsIf(v, nil), str(unique())))
				if v == v311 {
					c.closed(0x01)
				} else {
					c.closed(0x81, 0x84)
				}
			})
		}
	})
}

// TestProtocolLevel asks for levels that nobody serves. The broker cannot know
// in which form to answer; a level below 3 is answered in the form of 3.1.1, one
// above 5 may be answered in either.
func TestProtocolLevel(t *testing.T) {
	t.Parallel()
	covers(t, v311, "MQTT-3.1.2-2", "MQTT-3.2.2-5")
	covers(t, v5, "MQTT-3.1.2-2")
	old := []byte{0x20, 2, 0, 1}
	for _, tc := range []struct {
		level  byte
		before bool // before 3.1.1: only the form of 3.1.1 is right
	}{{0, true}, {1, true}, {2, true}, {6, false}, {7, false}, {0x7f, false}} {
		t.Run(version(tc.level).String(), func(t *testing.T) {
			t.Parallel()
			c := shared(t).dial(t, v311)
			c.write(frame(typeConnect, 0, str("MQTT"), []byte{tc.level, flagClean}, u16(0), str(unique())))
			raw, head, err := readRaw(c.r)
			if err != nil {
				t.Fatalf("level %d: %v, want CONNACK", tc.level, err)
			}
			if !bytes.Equal(raw, old) {
				p, err := decode(v5, raw, head)
				if tc.before || err != nil || p.typ != typeConnack || p.code != 0x84 {
					t.Fatalf("level %d: got % x (%v), want CONNACK 0x01", tc.level, raw, err)
				}
			}
			c.closed()
		})
	}
}

// malformed is a packet that breaks a rule, with the statements that say so.
type malformed struct {
	name  string
	bytes func(v version) []byte
	old   []string // statements of 3.1.1
	new   []string // statements of 5.0
	codes []byte   // reason codes of 5.0 that fit; 0x81 when empty
}

// connectCase builds a CONNECT from flags and payload parts.
func connectCase(flags byte, payload func(v version) []byte) func(version) []byte {
	return func(v version) []byte {
		return frame(typeConnect, 0, connectHead(v, flags, 0, nil), payload(v))
	}
}

const illFormed = "a\xc3\x28b" // a two-byte sequence whose second byte is none

func TestMalformedConnect(t *testing.T) {
	t.Parallel()
	id := func(version) []byte { return str(unique()) }
	idAnd := func(parts ...[]byte) func(version) []byte {
		return func(version) []byte { return cat(str(unique()), cat(parts...)) }
	}
	idAndWill := func(parts ...[]byte) func(version) []byte {
		return func(v version) []byte { return cat(str(unique()), propsIf(v, nil), cat(parts...)) }
	}
	topic, message := str("will/"+unique()), str("message")
	always311, always5 := []string{"MQTT-3.1.4-1", "MQTT-3.2.2-6"}, []string{"MQTT-3.1.4-1", "MQTT-4.13.1-1"}
	for _, tc := range []malformed{
		{"reserved flag", connectCase(flagClean|flagReserved, id), []string{"MQTT-3.1.2-3"}, []string{"MQTT-3.1.2-3"}, nil},
		{"will QoS 1 with no will", connectCase(flagClean|flagWillQoS1, id),
			[]string{"MQTT-3.1.2-11", "MQTT-3.1.2-13"}, []string{"MQTT-3.1.2-11"}, []byte{0x81, 0x82}},
		{"will QoS 2 with no will", connectCase(flagClean|flagWillQoS2, id),
			[]string{"MQTT-3.1.2-11", "MQTT-3.1.2-13"}, []string{"MQTT-3.1.2-11"}, []byte{0x81, 0x82}},
		{"will QoS 3", connectCase(flagClean|flagWill|flagWillQoS1|flagWillQoS2, idAndWill(topic, message)),
			[]string{"MQTT-3.1.2-14"}, []string{"MQTT-3.1.2-12"}, nil},
		{"will retain with no will", connectCase(flagClean|flagWillRetain, id),
			[]string{"MQTT-3.1.2-11", "MQTT-3.1.2-15"}, []string{"MQTT-3.1.2-13"}, []byte{0x81, 0x82}},
		{"will flag and no will fields", connectCase(flagClean|flagWill, id),
			[]string{"MQTT-3.1.2-9"}, []string{"MQTT-3.1.2-9"}, nil},
		{"will flag and no will message", connectCase(flagClean|flagWill, idAndWill(topic)),
			[]string{"MQTT-3.1.2-9"}, []string{"MQTT-3.1.2-9"}, nil},
		{"will fields with no will flag", connectCase(flagClean, idAndWill(topic, message)),
			[]string{"MQTT-3.1.2-11"}, nil, nil},
		{"user name flag and no user name", connectCase(flagClean|flagUsername, id),
			[]string{"MQTT-3.1.2-19"}, []string{"MQTT-3.1.2-17"}, nil},
		{"user name with no flag", connectCase(flagClean, idAnd(str("user"))),
			[]string{"MQTT-3.1.2-18"}, []string{"MQTT-3.1.2-16"}, nil},
		{"password flag and no password", connectCase(flagClean|flagUsername|flagPassword, idAnd(str("user"))),
			[]string{"MQTT-3.1.2-21"}, []string{"MQTT-3.1.2-19"}, nil},
		{"password with no flag", connectCase(flagClean|flagUsername, idAnd(str("user"), str("password"))),
			[]string{"MQTT-3.1.2-20"}, []string{"MQTT-3.1.2-18"}, nil},
		{"no client identifier", connectCase(flagClean, func(version) []byte { return nil }),
			[]string{"MQTT-3.1.3-3"}, []string{"MQTT-3.1.3-3"}, nil},
		{"ill-formed client identifier", connectCase(flagClean, func(version) []byte { return str(illFormed) }),
			[]string{"MQTT-3.1.3-4"}, []string{"MQTT-3.1.3-4"}, []byte{0x81, 0x85}},
		{"ill-formed will topic", connectCase(flagClean|flagWill, idAndWill(str(illFormed), message)),
			[]string{"MQTT-3.1.3-10"}, []string{"MQTT-3.1.3-11"}, []byte{0x81, 0x90}},
		{"ill-formed user name", connectCase(flagClean|flagUsername, idAnd(str(illFormed))),
			[]string{"MQTT-3.1.3-11"}, []string{"MQTT-3.1.3-12"}, []byte{0x81, 0x86}},
		{"cut off in the protocol name", func(version) []byte { return frame(typeConnect, 0, []byte{0, 4, 'M', 'Q'}) },
			nil, nil, []byte{0x81, 0x84}},
		{"cut off after the level", func(v version) []byte { return frame(typeConnect, 0, str("MQTT"), []byte{byte(v)}) }, nil, nil, nil},
		{"cut off in the keep alive", func(v version) []byte {
			return frame(typeConnect, 0, str("MQTT"), []byte{byte(v), flagClean, 0})
		}, nil, nil, nil},
		{"empty", func(version) []byte { return frame(typeConnect, 0) }, nil, nil, []byte{0x81, 0x84}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, in311(append(tc.old, always311...)...), in5(append(tc.new, always5...)...), func(t *testing.T, v version) {
				c := shared(t).dial(t, v)
				c.write(tc.bytes(v))
				switch {
				case v == v311:
					c.closed()
				case tc.codes == nil:
					c.closed(0x81)
				default:
					c.closed(tc.codes...)
				}
			})
		})
	}
}

// TestPasswordWithoutUserName is malformed in 3.1.1 and allowed in 5.0.
func TestPasswordWithoutUserName(t *testing.T) {
	both(t, in311("MQTT-3.1.2-22", "MQTT-3.1.4-1"), in5("MQTT-3.1.2-19"), func(t *testing.T, v version) {
		c := shared(t).open(t, session{v: v, hasPass: true, pass: "secret"})
		if v == v311 {
			c.closed()
			return
		}
		c.accepted()
		c.ping()
	})
}

// TestConnectPayloadOrder sends every payload field, and the fields of the will
// in the wrong order, which shows in the message published.
func TestConnectPayloadOrder(t *testing.T) {
	both(t, in311("MQTT-3.1.3-1", "MQTT-3.1.2-9", "MQTT-3.1.3-3"), in5("MQTT-3.1.3-1", "MQTT-3.1.2-9", "MQTT-3.1.3-3"),
		func(t *testing.T, v version) {
			watcher := shared(t).connect(t, session{v: v})
			base := unique()
			watcher.subscribe(base+"/#", 1)
			for _, w := range []*will{
				{topic: base + "/topic", payload: base + "/message", qos: 1},
				{topic: base + "/message", payload: base + "/topic", qos: 1},
			} {
				c := shared(t).connect(t, session{v: v, will: w, hasUser: true, user: "user", hasPass: true, pass: "pass"})
				c.ping()
				c.drop()
				watcher.receive(w.topic, w.payload)
			}
		})
}

func TestValidConnect(t *testing.T) {
	both(t, in311("MQTT-3.1.4-4", "MQTT-3.2.0-1", "MQTT-3.2.2-1", "MQTT-7.1.1-1"),
		in5("MQTT-3.1.4-5", "MQTT-3.2.0-1", "MQTT-3.2.0-2", "MQTT-3.2.2-1", "MQTT-3.2.2-2", "MQTT-3.2.2-8", "MQTT-4.2.0-1", "MQTT-3.14.0-1"),
		func(t *testing.T, v version) {
			c := shared(t).open(t, session{v: v})
			// Everything behind the CONNECT may be sent at once; CONNACK is still the
			// first packet to come back, and the only one of its kind.
			c.write(cat(pingBytes(), pingBytes()))
			if p := c.accepted(); p.present {
				t.Error("session present after a clean start")
			}
			for range 2 {
				if p := c.read(); p.typ != typePingresp {
					t.Fatalf("got %s, want PINGRESP", p)
				}
			}
		})
}

func TestClientIdentifierCharacters(t *testing.T) {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	both(t, in311("MQTT-3.1.3-5"), in5("MQTT-3.1.3-5"), func(t *testing.T, v version) {
		ids := []string{"z"}
		for i := 0; i < len(letters); i += 18 {
			// 23 bytes, the run's own letters first: other tests and runs use others.
			id := letters[i:min(i+18, len(letters))] + unique()[len(runID)-2:]
			ids = append(ids, id[:min(23, len(id))], unique()[len(runID):])
		}
		for _, id := range ids {
			c := shared(t).connect(t, session{v: v, id: id + map[version]string{v311: "4", v5: "5"}[v]})
			c.ping()
			c.disconnect()
		}
	})
}

func TestEmptyClientIdentifier(t *testing.T) {
	t.Parallel()
	t.Run("3.1.1 clean", func(t *testing.T) {
		only311(t, "MQTT-3.1.3-6")
		// Two such clients are two: neither takes the other's place, and each works.
		a := shared(t).connect(t, session{v: v311, anonymous: true})
		b := shared(t).connect(t, session{v: v311, anonymous: true})
		topic := unique()
		a.subscribe(topic, 1)
		b.send(topic, "hello", 1)
		a.receive(topic, "hello")
		a.ping()
		b.ping()
	})
	t.Run("3.1.1 not clean", func(t *testing.T) {
		only311(t, "MQTT-3.1.3-7", "MQTT-3.1.3-8", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
		c := shared(t).open(t, session{v: v311, anonymous: true, resume: true})
		if p := c.refused(0x02); p.present {
			t.Error("session present in a refusal")
		}
	})
	t.Run("5.0", func(t *testing.T) {
		only5(t, "MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16")
		seen := map[string]bool{}
		for _, resume := range []bool{false, true, false} {
			s := session{v: v5, anonymous: true, resume: resume, props: props{num(propSessionExpiry, 60)}}
			c := shared(t).connect(t, s)
			got, ok := c.connack.props.find(propAssignedClientID)
			if !ok || got.s == "" {
				t.Fatalf("resume %v: no Assigned Client Identifier in %v", resume, c.connack.props)
			}
			if seen[got.s] {
				t.Errorf("identifier %q assigned twice", got.s)
			}
			seen[got.s] = true
			if c.connack.present {
				t.Errorf("resume %v: session present for a new identifier", resume)
			}
			topic := unique()
			c.subscribe(topic, 1)
			c.drop()
			// The assigned identifier is the key to the session.
			again := shared(t).connect(t, session{v: v5, id: got.s, persist: true})
			if !again.connack.present {
				t.Errorf("resume %v: no session under the assigned identifier", resume)
			}
			if again.connack.props.has(propAssignedClientID) {
				t.Errorf("an identifier was assigned to a client that has one")
			}
			again.send(topic, "hello", 1)
			again.receive(topic, "hello")
		}
	})
}

// TestRefusedClientIdentifier sets a length above which identifiers are refused.
func TestRefusedClientIdentifier(t *testing.T) {
	both(t, in311("MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5"), in5("MQTT-3.1.3-8", "MQTT-3.2.2-6", "MQTT-3.2.2-7"),
		func(t *testing.T, v version) {
			b := startBroker(t, map[string]string{"mqtt.max_clientid_len": "30"})
			c := b.open(t, session{v: v, id: strings.Repeat("x", 31)})
			if v == v311 {
				c.refused(0x02)
			} else {
				c.closed(0x85)
			}
			b.connect(t, session{v: v, id: unique() + strings.Repeat("x", 30-len(unique()))}).ping()
		})
}

func TestTakeover(t *testing.T) {
	both(t, in311("MQTT-3.1.4-2", "MQTT-3.1.3-2"), in5("MQTT-3.1.4-3", "MQTT-3.1.3-2", "MQTT-4.13.2-1"), func(t *testing.T, v version) {
		s := session{v: v, id: unique()}
		first := shared(t).connect(t, s)
		first.ping()
		second := shared(t).connect(t, s)
		if v == v5 {
			if p := first.read(); p.typ != typeDisconnect || p.code != 0x8e {
				t.Fatalf("got %s, want DISCONNECT 0x8E", p)
			}
		}
		first.closed()
		second.ping()
	})
}

// TestTakeoverRace lets several connections claim one identifier at once, in
// whatever order the broker comes to them: one is left, and it works.
func TestTakeoverRace(t *testing.T) {
	both(t, in311("MQTT-3.1.4-2"), in5("MQTT-3.1.4-3"), func(t *testing.T, v version) {
		s := session{v: v, id: unique(), persist: true}
		conns := make([]*conn, 9)
		for i := range conns {
			conns[i] = shared(t).open(t, s)
		}
		for i, c := range conns { // each is accepted, or loses its place before it is told
			if p, err := c.tryRead(); err == nil && (p.typ != typeConnack || p.code != 0) {
				t.Errorf("connection %d: got %s, want CONNACK with code 0", i, p)
			}
		}
		left := 0
		for i, c := range conns {
			c.write(pingBytes())
			p, err := c.tryRead()
			switch {
			case err != nil: // closed
			case p.typ == typePingresp:
				left++
			case p.typ == typeDisconnect && p.code == 0x8e:
				c.closed()
			default:
				t.Errorf("connection %d: got %s, want PINGRESP or DISCONNECT 0x8E", i, p)
			}
		}
		if left != 1 {
			t.Errorf("%d connections are left, want 1", left)
		}
	})
}

// TestNothingBehindRefusedConnect sends a PUBLISH right behind a CONNECT that
// is refused.
func TestNothingBehindRefusedConnect(t *testing.T) {
	both(t, in311("MQTT-3.1.4-5", "MQTT-3.2.2-5"), in5("MQTT-3.1.4-6", "MQTT-3.2.2-6", "MQTT-3.2.2-7"), func(t *testing.T, v version) {
		b := shared(t)
		watcher, topic := b.connect(t, session{v: v}), unique()
		watcher.subscribe(topic, 0)
		s := session{v: v, anonymous: true, resume: true} // refused with 0x02
		if v == v5 {
			s = session{v: v, id: unique(), props: props{text(propAuthMethod, "no such method"), text(propAuthData, "x")}}
		}
		c := b.dial(t, v)
		c.methodUsed = "no such method"
		c.write(cat(s.bytes(), publish{topic: topic, payload: "behind"}.bytes(v),
			publish{topic: topic, payload: "behind", qos: 1, id: 1}.bytes(v)))
		if v == v311 {
			c.refused(0x02)
		} else {
			c.closed(0x8c, 0x87)
		}
		watcher.silent(b.connect(t, session{v: v}))
	})
}
