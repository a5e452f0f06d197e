package packet

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// decode frames and decodes the one packet that raw is.
func decode(v Version, raw []byte) (Packet, error) {
	h, n, err := ParseHeader(v, raw)
	if err != nil {
		return nil, err
	}
	if got, want := len(raw)-n, h.Remaining; got != want {
		return nil, fmt.Errorf("body of %d bytes, header says %d", got, want)
	}
	p := New(h.Type)
	return p, p.Decode(v, h.Flags, raw[n:])
}

// value clears what is no part of the meaning of a packet, so that reflect.DeepEqual compares the rest.
func value(p Packet) Packet {
	switch p := p.(type) {
	case *Publish:
		c := *p
		c.scratch = nil
		if len(c.SubscriptionIDs) == 0 {
			c.SubscriptionIDs = nil
		}
		return &c
	case *Unsuback:
		c := *p
		if len(c.Codes) == 0 {
			c.Codes = nil
		}
		return &c
	}
	return p
}

func TestDecode(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := bytes.Clone(c.raw)
			got, err := decode(c.version, c.raw)
			if !bytes.Equal(before, c.raw) {
				t.Error("Decode has changed its input")
			}
			if c.want == nil {
				if err != c.err {
					t.Errorf("got error %v, want %v", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatalf("got error %v", err)
			}
			if !reflect.DeepEqual(value(got), value(c.want)) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestDecodeReuse decodes every case into one struct for each type: nothing may be left from the packet before.
func TestDecodeReuse(t *testing.T) {
	used := map[Type]Packet{}
	for _, c := range append(cases, cases...) {
		h, n, err := ParseHeader(c.version, c.raw)
		if err != nil {
			continue
		}
		p := used[h.Type]
		if p == nil {
			p = New(h.Type)
			used[h.Type] = p
		}
		if a, ok := p.(*Ack); ok {
			a.Kind = h.Type
		}
		err = p.Decode(c.version, h.Flags, c.raw[n:])
		if c.want == nil {
			if err != c.err {
				t.Errorf("%s: got error %v, want %v", c.name, err, c.err)
			}
			continue
		}
		if !reflect.DeepEqual(value(p), value(c.want)) {
			t.Errorf("%s: got %+v, want %+v", c.name, p, c.want)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, c := range cases {
		if c.want == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			got := c.want.Append([]byte("before"), c.version)
			if !bytes.HasPrefix(got, []byte("before")) {
				t.Fatalf("what was in the buffer is gone: % x", got)
			}
			got = got[len("before"):]
			if !c.loose && !bytes.Equal(got, c.raw) {
				t.Errorf("got  % x\nwant % x", got, c.raw)
			}
			again, err := decode(c.version, got)
			if err != nil || !reflect.DeepEqual(value(again), value(c.want)) {
				t.Errorf("decoded again: got %+v, %v", again, err)
			}
			if p, ok := c.want.(*Publish); ok && p.Size(c.version) != len(got) {
				t.Errorf("Size: got %d, want %d", p.Size(c.version), len(got))
			}
		})
	}
}

// TestTruncated cuts every good packet short at every place: the header is incomplete, or the body is refused or means
// something else, but nothing panics. With the bytes that are missing in sight behind the slice, nothing may read them.
func TestTruncated(t *testing.T) {
	for _, c := range cases {
		h, n, err := ParseHeader(c.version, c.raw)
		if err != nil {
			continue
		}
		for i := range n {
			if _, _, err := ParseHeader(c.version, c.raw[:i]); err != ErrIncomplete {
				t.Errorf("%s: header cut at %d: got %v, want %v", c.name, i, err, ErrIncomplete)
			}
		}
		for i := n; i < len(c.raw); i++ {
			p, q := New(h.Type), New(h.Type)
			got := p.Decode(c.version, h.Flags, c.raw[n:i])
			want := q.Decode(c.version, h.Flags, bytes.Clone(c.raw[n:i]))
			if got != want || got == nil && !reflect.DeepEqual(p, q) {
				t.Errorf("%s: body cut at %d: bytes behind the body count: %v, %v", c.name, i-n, got, want)
			}
		}
	}
}

func TestParseHeader(t *testing.T) {
	for _, c := range []struct {
		in        []byte
		version   Version
		remaining int
		n         int
		err       error
	}{
		{[]byte{0x30, 0x00}, V5, 0, 2, nil},
		{[]byte{0x30, 0x7F}, V5, 127, 2, nil},
		{[]byte{0x30, 0x80, 0x01}, V5, 128, 3, nil},
		{[]byte{0x30, 0xFF, 0x7F}, V5, 16383, 3, nil},
		{[]byte{0x30, 0x80, 0x80, 0x01}, V5, 16384, 4, nil},
		{[]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, V5, MaxRemaining, 5, nil},
		{[]byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF}, V5, 0, 0, errVarintLong},
		{[]byte{0x30, 0x81, 0x80, 0x00}, V5, 0, 0, errVarintForm},
		{[]byte{0x30, 0x81, 0x80, 0x00}, V311, 1, 4, nil},
		{nil, 0, 0, 0, ErrIncomplete},
		{[]byte{0x10}, 0, 0, 0, ErrIncomplete},
		{[]byte{0x10, 0x80}, 0, 0, 0, ErrIncomplete},
		{[]byte{0x10, 0x80, 0x80, 0x80}, 0, 0, 0, ErrIncomplete},
		{[]byte{0x13}, 0, 0, 0, errFlags}, // refused before the rest is there
		{[]byte{0x8A, 0}, 0, 0, 2, nil},   // may be 3.1
	} {
		h, n, err := ParseHeader(c.version, c.in)
		if err != c.err || n != c.n || err == nil && h.Remaining != c.remaining {
			t.Errorf("% x: got %d, %d, %v, want %d, %d, %v", c.in, h.Remaining, n, err, c.remaining, c.n, c.err)
		}
	}
}

// TestFlags holds ParseHeader against the table of fixed header flags, all of it.
func TestFlags(t *testing.T) {
	for _, v := range []Version{V31, V311, V5} {
		for b := range 256 {
			typ, flags := Type(b>>4), b&15
			var want bool
			switch typ {
			case 0:
			case TypePublish:
				want = flags&6 != 6
			case TypePubrel, TypeSubscribe, TypeUnsubscribe:
				want = flags == 2 || v == V31 && flags == 10
			case TypeAuth:
				want = flags == 0 && v == V5
			default:
				want = flags == 0
			}
			_, _, err := ParseHeader(v, []byte{byte(b), 0})
			if got := err == nil; got != want {
				t.Errorf("version %v, first byte 0x%02x: got %v, want accepted %v", v, b, err, want)
			}
			if err != nil && !errors.Is(err, MalformedPacket) {
				t.Errorf("version %v, first byte 0x%02x: got %v, want %v", v, b, err, MalformedPacket)
			}
		}
	}
}

func TestConnectVersionAfterError(t *testing.T) {
	for _, c := range []struct {
		raw  []byte
		want Version
	}{
		{frame(0x10, "MQTX", 5), V5},
		{frame(0x10, "MQ\xff", 5), 0},
		{frame(0x10, "MQTT", 9), 9},
		{frame(0x10, "MQTT", 5), V5},
		{frame(0x10, "MQIsdp", 4), V31},
	} {
		var p Connect
		if err := p.Decode(0, 0, c.raw[2:]); err == nil || p.Version != c.want {
			t.Errorf("% x: got version %d, error %v, want version %d", c.raw, p.Version, err, c.want)
		}
	}
}

func TestPropertiesAccess(t *testing.T) {
	var p Properties
	if p.UTF8Payload() || p.ContentType() != nil || p.ResponseTopic() != nil || p.CorrelationData() != nil {
		t.Error("empty properties have something")
	}
	p = p.AddPayloadFormat(true).AddContentType("text").AddUser("a", "1").AddResponseTopic("r/t").AddUser("a", "2").AddCorrelationData(nil)
	if !p.UTF8Payload() || string(p.ContentType()) != "text" || string(p.ResponseTopic()) != "r/t" || p.CorrelationData() == nil {
		t.Errorf("got %v %q %q %v", p.UTF8Payload(), p.ContentType(), p.ResponseTopic(), p.CorrelationData())
	}
	var got []string
	for name, value := range p.User() {
		got = append(got, string(name)+"="+string(value))
	}
	if want := []string{"a=1", "a=2"}; !reflect.DeepEqual(got, want) {
		t.Errorf("user properties: got %q, want %q", got, want)
	}
	raw := (&Publish{Topic: plain("t"), Properties: p}).Append(nil, V5)
	back, err := decode(V5, raw)
	if err != nil || !bytes.Equal(back.(*Publish).Properties, p) {
		t.Errorf("through a packet: got %v, %v", back, err)
	}
}

func TestCheckPayload(t *testing.T) {
	for _, c := range []struct {
		p    Publish
		want error
	}{
		{Publish{Payload: []byte{0xFF}}, nil},
		{Publish{Payload: []byte{0xFF}, Properties: Properties{1, 0}}, nil},
		{Publish{Payload: []byte{0xFF}, Properties: Properties{1, 1}}, errPayloadFormat},
		{Publish{Payload: []byte("ä"), Properties: Properties{1, 1}}, nil},
	} {
		if got := c.p.CheckPayload(); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.p, got, c.want)
		}
	}
}

func TestPacketIDOffset(t *testing.T) {
	for _, size := range []int{0, 100, 200, 20_000, 3_000_000} {
		for _, v := range []Version{V311, V5} {
			p := Publish{QoS: 1, PacketID: 0xABCD, Topic: plain("a/b"), Payload: make([]byte, size)}
			f := p.Append(nil, v)
			at := PacketIDOffset(f)
			if at == 0 || f[at] != 0xAB || f[at+1] != 0xCD {
				t.Fatalf("payload of %d bytes, version %v: got offset %d", size, v, at)
			}
			SetPacketID(f, at, 0x1234)
			SetDup(f)
			got, err := decode(v, f)
			p.PacketID, p.Dup = 0x1234, true
			if err != nil || !reflect.DeepEqual(value(got), value(&p)) {
				t.Errorf("patched frame: got %.80v, %v", got, err)
			}
			head := p.AppendHead(nil, v)
			if PacketIDOffset(head) != at || !bytes.Equal(append(head, p.Payload...), f) {
				t.Error("head and payload are not the packet")
			}
		}
	}
	for _, f := range [][]byte{nil, {0x30, 4, 0, 1, 'a', 0}, {0x40, 2, 0, 1}, {0x32, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, {0x32, 5, 0, 9, 'a'}} {
		if got := PacketIDOffset(f); got != 0 {
			t.Errorf("% x: got offset %d, want 0", f, got)
		}
	}
}

func TestConnackRefusals(t *testing.T) {
	for c := range 256 {
		code := ReasonCode(c)
		got := (&Connack{Code: code, SessionPresent: true}).Append(nil, V311)
		ret, ok := code.ReturnCode()
		if !ok {
			if len(got) != 0 { // [MQTT-3.2.2-6]
				t.Errorf("%v: got % x, want nothing", code, got)
			}
			continue
		}
		present := byte(0)
		if ret == 0 {
			present = 1
		}
		if want := []byte{0x20, 2, present, ret}; !bytes.Equal(got, want) {
			t.Errorf("%v: got % x, want % x", code, got, want)
		}
	}
	for ret := range byte(6) {
		if got, ok := FromReturnCode(ret).ReturnCode(); got != ret || !ok {
			t.Errorf("return code %d: came back as %d, %v", ret, got, ok)
		}
	}
}

func TestSubackOf3(t *testing.T) {
	got := (&Suback{PacketID: 1, Codes: []ReasonCode{1, NotAuthorized, TopicFilterInvalid}}).Append(nil, V311)
	if want := []byte{0x90, 5, 0, 1, 1, 0x80, 0x80}; !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestCodes(t *testing.T) {
	err := fmt.Errorf("read packet: %w", errTopicWildcard)
	if CodeOf(err) != TopicNameInvalid || !errors.Is(err, TopicNameInvalid) || errors.Is(err, MalformedPacket) {
		t.Errorf("got code %v", CodeOf(err))
	}
	for _, c := range []struct {
		err  error
		want ReasonCode
	}{{nil, Success}, {errShort, MalformedPacket}, {NotAuthorized, NotAuthorized}, {errors.New("x"), UnspecifiedError}} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v): got %v, want %v", c.err, got, c.want)
		}
	}
	if got, want := errQoS3.Error(), "malformed packet: QoS 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := ReasonCode(0xFE).Error(), "reason code 0xFE"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if V5.String() != "5.0" || V31.String() != "3.1" || V311.String() != "3.1.1" || Version(9).String() != "unknown" || TypeConnect.String() != "CONNECT" {
		t.Error("names of versions or types are wrong")
	}
}

// TestUTF8 compares the string check with the one of the standard library at every position of a word.
func TestUTF8(t *testing.T) {
	for _, bad := range []string{"\x00", "\xff", "\xc3", "\xed\xa0\x80", "\xed\xbf\xbf", "\xc0\x80", "\xf5\x80\x80\x80"} {
		for before := range 20 {
			for after := range 20 {
				s := strings.Repeat("a", before) + bad + strings.Repeat("b", after)
				if ValidString([]byte(s)) {
					t.Errorf("%q is said to be valid", s)
				}
				if err := checkTopicName([]byte(s)); err != errUTF8 {
					t.Errorf("topic %q: got %v, want %v", s, err, errUTF8)
				}
			}
		}
	}
	for _, good := range []string{"", "a", "\x01", "\x7f", "ä", "\ufeff", "\uffff", "\U0010ffff", "日本語"} {
		for before := range 20 {
			s := strings.Repeat("a", before) + good
			if !ValidString([]byte(s)) || checkTopicName([]byte(s)) != nil {
				t.Errorf("%q is said to be invalid", s)
			}
			for _, wild := range []string{"+", "#", "/+/x", "x/#"} {
				if err := checkTopicName([]byte(s + wild)); err != errTopicWildcard {
					t.Errorf("topic %q: got %v, want %v", s+wild, err, errTopicWildcard)
				}
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	buf := make([]byte, 0, 4096)
	var pub Publish
	var ack Ack
	for _, c := range cases {
		h, n, err := ParseHeader(c.version, c.raw)
		if err != nil {
			continue
		}
		body := c.raw[n:]
		var f func()
		switch h.Type {
		case TypePublish:
			pub.Decode(c.version, h.Flags, body) // makes room
			f = func() { pub.Decode(c.version, h.Flags, body) }
		case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
			if a, ok := c.want.(*Ack); ok && (a.Reason != "" || a.User != nil) {
				continue
			}
			if CodeOf(c.err) == ProtocolError { // the same fault may come behind a reason string
				continue
			}
			ack.Kind = h.Type
			f = func() { ack.Decode(c.version, h.Flags, body) }
		default:
			continue
		}
		if got := testing.AllocsPerRun(10, f); got != 0 {
			t.Errorf("%s: Decode: got %v allocations, want 0", c.name, got)
		}
	}
	for _, c := range cases {
		if c.want == nil {
			continue
		}
		if got := testing.AllocsPerRun(10, func() { buf = c.want.Append(buf[:0], c.version) }); got != 0 {
			t.Errorf("%s: Append: got %v allocations, want 0", c.name, got)
		}
	}
}

// TestAllocationBound feeds packets that consist of as many small things as fit: memory stays in proportion to the input.
func TestAllocationBound(t *testing.T) {
	users := bytes.Repeat([]byte{0x26, 0, 0, 0, 0}, 200_000)
	filters := bytes.Repeat([]byte{0, 1, 'a', 0}, 250_000)
	for _, c := range []struct {
		name string
		raw  []byte
	}{
		{"user properties in CONNECT", frame(0x10, "MQTT", 5, 0, 0, 0, block(users), "z")},
		{"user properties in PUBACK", frame(0x40, 0, 7, 0, block(users))},
		{"user properties in PUBLISH", frame(0x30, "a", block(users))},
		{"user properties in will", frame(0x10, "MQTT", 5, 4, 0, 0, 0, "z", block(users), "w", "m")},
		{"filters in SUBSCRIBE", frame(0x82, 0, 7, 0, filters)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := decode(V5, c.raw); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			factor := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(c.raw))
			t.Logf("%.1f bytes allocated for each byte of input", factor)
			if factor > 64 {
				t.Errorf("got %.1f bytes allocated for each byte of input, want at most 64", factor)
			}
		})
	}
}

// AppendPlain gives what Append does, and where the identifier is.
func TestAppendPlain(t *testing.T) {
	for _, size := range []int{0, 1, 120, 200, 20000} {
		for qos := range QoS(3) {
			for _, retain := range []bool{false, true} {
				p := Publish{Topic: []byte("a/b"), Payload: make([]byte, size), QoS: qos, Retain: retain}
				want := p.Append(nil, V311)
				got, at := AppendPlain(nil, qos, retain, "a/b", p.Payload)
				if !bytes.Equal(got, want) || at != PacketIDOffset(want) {
					t.Errorf("%d bytes, QoS %d, retain %v: got %x, %d, want %x, %d", size, qos, retain, got[:min(8, len(got))], at, want[:min(8, len(want))], PacketIDOffset(want))
				}
			}
		}
	}
}
