package mqtt

import (
	"testing"
)

// badStrings are byte sequences that no string field may hold: ill-formed UTF-8
// in its several ways, and U+0000.
var badStrings = []struct {
	name string
	s    string
	null bool
}{
	{"broken sequence", illFormed, false},
	{"lone continuation byte", "a\x80b", false},
	{"sequence cut off", "ab\xe2\x82", false},
	{"overlong slash", "a\xc0\xafb", false},
	{"overlong null", "a\xc0\x80b", false},
	{"first surrogate D800", "a\xed\xa0\x80b", false},
	{"last surrogate DFFF", "a\xed\xbf\xbfb", false},
	{"surrogate pair", "\xed\xa0\xbd\xed\xb8\x80", false},
	{"above 10FFFF", "a\xf4\x90\x80\x80", false},
	{"five-byte sequence", "a\xf8\x88\x80\x80\x80", false},
	{"null", "a\x00b", true},
	{"null alone", "\x00", true},
}

// stringField is a place in a packet where a string stands.
type stringField struct {
	name    string
	connect bool // the packet is a CONNECT
	bytes   func(v version, s string) []byte
	old     []string
	new     []string
	codes   []byte // 5.0 codes that fit besides 0x81 and 0x82
}

func stringFields() []stringField {
	inConnect := func(f func(v version, s string) session) func(version, string) []byte {
		return func(v version, s string) []byte {
			out := f(v, s)
			out.v = v
			return out.bytes()
		}
	}
	property := func(id byte) func(version, string) []byte {
		return func(v version, s string) []byte {
			return publish{topic: "t/" + unique(), props: props{text(id, s)}}.bytes(v)
		}
	}
	topicOld := []string{"MQTT-3.3.2-1", "MQTT-4.7.3-2"}
	topicNew := []string{"MQTT-3.3.2-1", "MQTT-4.7.3-2"}
	return []stringField{
		{"client identifier", true, inConnect(func(_ version, s string) session { return session{id: s} }),
			[]string{"MQTT-3.1.3-4"}, []string{"MQTT-3.1.3-4"}, []byte{0x85}},
		{"will topic", true, inConnect(func(_ version, s string) session {
			return session{id: unique(), will: &will{topic: s, payload: "x"}}
		}), []string{"MQTT-3.1.3-10"}, []string{"MQTT-3.1.3-11"}, []byte{0x90}},
		{"user name", true, inConnect(func(_ version, s string) session {
			return session{id: unique(), hasUser: true, user: s}
		}), []string{"MQTT-3.1.3-11"}, []string{"MQTT-3.1.3-12"}, []byte{0x86}},
		{"topic name", false, func(v version, s string) []byte { return publish{topic: s}.bytes(v) }, topicOld, topicNew, []byte{0x90}},
		{"topic filter of SUBSCRIBE", false, func(v version, s string) []byte {
			return subscribeBytes(v, 1, nil, filter{s, 0})
		}, []string{"MQTT-3.8.3-1", "MQTT-4.7.3-2"}, []string{"MQTT-3.8.3-1", "MQTT-4.7.3-2"}, []byte{0x8f}},
		{"topic filter of UNSUBSCRIBE", false, func(v version, s string) []byte { return unsubscribeBytes(v, 1, nil, s) },
			[]string{"MQTT-3.10.3-1", "MQTT-4.7.3-2"}, []string{"MQTT-3.10.3-1", "MQTT-4.7.3-2"}, []byte{0x8f}},
		{"user property name", false, func(v version, s string) []byte {
			return publish{topic: "t/" + unique(), props: props{userProp(s, "value")}}.bytes(v)
		}, nil, []string{"MQTT-1.5.7-1"}, nil},
		{"user property value", false, func(v version, s string) []byte {
			return publish{topic: "t/" + unique(), props: props{userProp("name", s)}}.bytes(v)
		}, nil, []string{"MQTT-1.5.7-1"}, nil},
		{"content type", false, property(propContentType), nil, []string{"MQTT-3.3.2-19"}, nil},
		{"response topic", false, property(propResponseTopic), nil, []string{"MQTT-3.3.2-13"}, []byte{0x90}},
		{"user property of CONNECT", true, inConnect(func(_ version, s string) session {
			return session{id: unique(), props: props{userProp(s, s)}}
		}), nil, []string{"MQTT-1.5.7-1"}, nil},
		{"reason string of DISCONNECT", false, func(v version, s string) []byte {
			return disconnectBytes(v, 4, props{text(propReasonString, s)})
		}, nil, []string{"MQTT-1.5.4-1"}, nil},
	}
}

func TestBadStrings(t *testing.T) {
	t.Parallel()
	for _, field := range stringFields() {
		t.Run(field.name, func(t *testing.T) {
			t.Parallel()
			for _, v := range []version{v311, v5} {
				if v == v311 && field.old == nil {
					continue
				}
				for _, bad := range badStrings {
					t.Run(v.String()+" "+bad.name, func(t *testing.T) {
						t.Parallel()
						ids := map[version][]string{v311: field.old, v5: field.new}[v]
						ids = append(append([]string(nil), ids...), map[version]map[bool]string{
							v311: {false: "MQTT-1.5.3-1", true: "MQTT-1.5.3-2"},
							v5:   {false: "MQTT-1.5.4-1", true: "MQTT-1.5.4-2"},
						}[v][bad.null])
						covers(t, v, ids...)
						b := shared(t)
						var c *conn
						if field.connect {
							c = b.dial(t, v)
						} else {
							c = b.connect(t, session{v: v})
						}
						c.write(field.bytes(v, bad.s))
						if v == v5 {
							c.closed(append([]byte{0x81, 0x82}, field.codes...)...)
						} else {
							c.closed()
						}
					})
				}
			}
		})
	}
}

// TestByteOrderMark shows that U+FEFF in a string is an ordinary character.
func TestByteOrderMark(t *testing.T) {
	both(t, in311("MQTT-1.5.3-3"), in5("MQTT-1.5.4-3"), func(t *testing.T, v version) {
		base := unique()
		for _, topic := range []string{"\xef\xbb\xbf" + base, base + "\xef\xbb\xbf", base + "/\xef\xbb\xbf/x"} {
			c := shared(t).connect(t, session{v: v})
			c.subscribe(topic, 1)
			other := shared(t).connect(t, session{v: v})
			other.subscribe(base, 1)
			other.subscribe(base+"//x", 1)
			c.send(topic, "marked", 1)
			c.receive(topic, "marked")
			other.silent(c)
		}
		id := "\xef\xbb\xbf" + unique()
		first := shared(t).connect(t, session{v: v, id: id})
		shared(t).connect(t, session{v: v, id: id[3:]}).ping()
		first.ping() // the identifier without the mark is another one
	})
}

// TestMatchingIsBytewise publishes to topics that look like the filter.
func TestMatchingIsBytewise(t *testing.T) {
	both(t, in311("MQTT-4.7.3-4"), in5("MQTT-4.7.3-4"), func(t *testing.T, v version) {
		base := unique()
		sub, pub := shared(t).connect(t, session{v: v}), shared(t).connect(t, session{v: v})
		composed, decomposed := base+"/caf\u00e9", base+"/cafe\u0301"
		sub.subscribe(composed, 1)
		for _, other := range []string{decomposed, base + "/CAF\u00c9", base + "/Caf\u00e9", base + "/caf\u00e9 ",
			base + "/cafe", base + "/caf\u00e9/", "/" + composed, base + "//caf\u00e9"} {
			pub.send(other, "other", 1)
		}
		sub.silent(pub)
		pub.send(composed, "same", 1)
		sub.receive(composed, "same")
	})
}

// TestUnusualCharacters shows that every other character is allowed and kept.
func TestUnusualCharacters(t *testing.T) {
	both(t, in311("MQTT-4.7.3-4"), in5("MQTT-4.7.3-4"), func(t *testing.T, v version) {
		c, base := shared(t).connect(t, session{v: v}), unique()
		slashes := map[version]string{v311: "/", v5: "//"}[v] // shared with nobody: one for each version
		for _, topic := range []string{slashes, "/" + base, "//" + base + "//", base + "/a b", base + "/\U0001f41d/\u65e5\u672c", base + "/\ufffd",
			base + "/%2f%00", base + "/\"'<>&", base + "/" + string(rune(0x10ffff-2))} {
			c.subscribe(topic, 0)
			c.send(topic, topic, 0)
			c.receive(topic, topic)
			c.unsubscribe(topic)
		}
	})
}
