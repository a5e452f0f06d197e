package packet

import (
	"bytes"
	"testing"
)

// The packets that a broker handles most, in the sizes that are common.
var (
	benchTopic   = []byte("site/12/device/4711/temperature")
	benchPayload = bytes.Repeat([]byte("21.5 "), 20)
	benchProps   = Properties{}.AddPayloadFormat(true).AddContentType("text/plain").AddUser("trace", "0123456789abcdef")
)

// BenchmarkPublishDecode: budget 40 ns without properties, header included; 0 allocations.
func BenchmarkPublishDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		v    Version
		p    Publish
	}{
		{"3.1.1 QoS 0", V311, Publish{Topic: benchTopic, Payload: benchPayload}},
		{"3.1.1 QoS 1", V311, Publish{QoS: 1, PacketID: 1, Topic: benchTopic, Payload: benchPayload}},
		{"5.0 QoS 0", V5, Publish{Topic: benchTopic, Payload: benchPayload}},
		{"5.0 QoS 1 alias", V5, Publish{QoS: 1, PacketID: 1, TopicAlias: 1, Payload: benchPayload}},
		{"5.0 QoS 1 properties", V5, Publish{QoS: 1, PacketID: 1, Topic: benchTopic, Payload: benchPayload, HasExpiry: true, Expiry: 60, Properties: benchProps}},
	} {
		b.Run(c.name, func(b *testing.B) {
			raw := c.p.Append(nil, c.v)
			var p Publish
			b.ReportAllocs()
			for b.Loop() {
				h, n, err := ParseHeader(c.v, raw)
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Decode(c.v, h.Flags, raw[n:n+h.Remaining]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPublishAppend: budget 30 ns without properties; 0 allocations.
func BenchmarkPublishAppend(b *testing.B) {
	for _, c := range []struct {
		name string
		v    Version
		p    Publish
	}{
		{"3.1.1 QoS 0", V311, Publish{Topic: benchTopic, Payload: benchPayload}},
		{"3.1.1 QoS 1", V311, Publish{QoS: 1, PacketID: 1, Topic: benchTopic, Payload: benchPayload}},
		{"5.0 QoS 1", V5, Publish{QoS: 1, PacketID: 1, Topic: benchTopic, Payload: benchPayload}},
		{"5.0 QoS 1 properties", V5, Publish{QoS: 1, PacketID: 1, Topic: benchTopic, Payload: benchPayload, HasExpiry: true, Expiry: 60,
			SubscriptionIDs: []uint32{1000}, Properties: benchProps}},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]byte, 0, 512)
			b.ReportAllocs()
			for b.Loop() {
				buf = c.p.Append(buf[:0], c.v)
			}
		})
	}
}

// BenchmarkPatch is what a further subscriber at QoS 1 costs: a copy of the frame and its packet identifier.
func BenchmarkPatch(b *testing.B) {
	frame := (&Publish{QoS: 1, PacketID: 1, Topic: benchTopic, Payload: benchPayload}).Append(nil, V311)
	at := PacketIDOffset(frame)
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = append(buf[:0], frame...)
		SetPacketID(buf, at, 2)
	}
}

// BenchmarkAck: budget 10 ns each way; 0 allocations.
func BenchmarkAck(b *testing.B) {
	for _, c := range []struct {
		name string
		v    Version
		code ReasonCode
	}{{"3.1.1", V311, Success}, {"5.0", V5, Success}, {"5.0 code", V5, NoMatchingSubscribers}} {
		raw := AppendAck(nil, c.v, TypePuback, 7, c.code)
		b.Run("decode "+c.name, func(b *testing.B) {
			a := Ack{Kind: TypePuback}
			b.ReportAllocs()
			for b.Loop() {
				h, n, err := ParseHeader(c.v, raw)
				if err != nil {
					b.Fatal(err)
				}
				if err := a.Decode(c.v, h.Flags, raw[n:]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("append "+c.name, func(b *testing.B) {
			buf := make([]byte, 0, 16)
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendAck(buf[:0], c.v, TypePuback, 7, c.code)
			}
		})
	}
}

func BenchmarkConnect(b *testing.B) {
	for _, v := range []Version{V311, V5} {
		c := Connect{Version: v, CleanStart: true, KeepAlive: 60, ClientID: "device-0000004711", HasUsername: true, Username: "device",
			HasPassword: true, Password: []byte("secret"), SessionExpiry: 3600, ReceiveMaximum: 20}
		raw := c.Append(nil, v)
		b.Run("decode "+v.String(), func(b *testing.B) {
			var c Connect
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Decode(0, 0, raw[2:]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("append "+v.String(), func(b *testing.B) {
			buf := make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				buf = c.Append(buf[:0], v)
			}
		})
	}
}

func BenchmarkSubscribe(b *testing.B) {
	raw := (&Subscribe{PacketID: 1, Filters: []Subscription{{Filter: "site/12/device/+/temperature", QoS: 1}}}).Append(nil, V5)
	var s Subscribe
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Decode(V5, 2, raw[2:]); err != nil {
			b.Fatal(err)
		}
	}
}
