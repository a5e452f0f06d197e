package packet

import (
	"bytes"
	"testing"
)

func TestAppendWithin(t *testing.T) {
	user := []UserProperty{{"name", "value"}}
	for _, c := range []struct {
		name             string
		full, less, bare Packet
	}{
		{"connack", &Connack{Code: Banned, Reason: "why", User: user}, &Connack{Code: Banned, Reason: "why"}, &Connack{Code: Banned}},
		{"puback", &Ack{Kind: TypePuback, PacketID: 1, Reason: "why", User: user}, &Ack{Kind: TypePuback, PacketID: 1, Reason: "why"}, &Ack{Kind: TypePuback, PacketID: 1}},
		{"suback", &Suback{PacketID: 1, Codes: []ReasonCode{1}, Reason: "why", User: user}, &Suback{PacketID: 1, Codes: []ReasonCode{1}, Reason: "why"}, &Suback{PacketID: 1, Codes: []ReasonCode{1}}},
		{"unsuback", &Unsuback{PacketID: 1, Codes: []ReasonCode{0}, Reason: "why", User: user}, &Unsuback{PacketID: 1, Codes: []ReasonCode{0}, Reason: "why"}, &Unsuback{PacketID: 1, Codes: []ReasonCode{0}}},
		{"disconnect", &Disconnect{Code: ServerBusy, Reason: "why", User: user}, &Disconnect{Code: ServerBusy, Reason: "why"}, &Disconnect{Code: ServerBusy}},
		{"auth", &Auth{Code: ContinueAuthentication, Method: "m", Reason: "why", User: user}, &Auth{Code: ContinueAuthentication, Method: "m", Reason: "why"}, &Auth{Code: ContinueAuthentication, Method: "m"}},
	} {
		full, less, bare := c.full.Append(nil, V5), c.less.Append(nil, V5), c.bare.Append(nil, V5)
		for _, l := range []struct {
			limit int
			want  []byte
		}{
			{0, full}, {len(full), full}, {len(full) - 1, less}, {len(less), less}, {len(less) - 1, bare}, {len(bare), bare}, {len(bare) - 1, nil},
		} {
			got := AppendWithin([]byte{9}, V5, c.full, uint32(l.limit))
			if !bytes.Equal(got, append([]byte{9}, l.want...)) {
				t.Errorf("%s within %d bytes: got % x, want 09 % x", c.name, l.limit, got, l.want)
			}
		}
	}
	if got := AppendWithin(nil, V5, &Pingresp{}, 1); len(got) != 0 {
		t.Errorf("pingresp within 1 byte: got % x, want nothing", got)
	}
}
