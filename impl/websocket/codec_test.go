package websocket

import (
	"bytes"
	"testing"
)

// FuzzDecode: whatever comes, and however it is cut, the same MQTT bytes, the
// same answers and the same end come out of it, and nothing beyond the input
// is used.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"\x82\x85\x01\x02\x03\x04igohn", "\x02\x81\x00\x00\x00\x00a\x89\x82\x00\x00\x00\x00hi\x80\x81\x00\x00\x00\x00b",
		"\x88\x82\x00\x00\x00\x00\x03\xe8", "\x81\x81\x00\x00\x00\x00a", "\x82\xfe\x00\x02\x01\x01\x01\x01ab",
		"\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00x", "\x82\x01a", "\xc2\x81\x00\x00\x00\x00a",
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, p []byte, step uint8) {
		run := func(step int) (out, answers []byte, end string) {
			c := &codec{maxFrame: 1 << 20}
			in := bytes.Clone(p)
			for len(in) > 0 {
				part := in[:min(step, len(in))]
				in = in[len(part):]
				for len(part) > 0 {
					payload, used, answer, err := c.Decode(part, nil)
					if used < 1 || used > len(part) || len(payload) > used {
						t.Fatalf("used %d of %d bytes, %d of them payload", used, len(part), len(payload))
					}
					out, answers = append(out, payload...), append(answers, answer...)
					if err != nil {
						return out, answers, err.Error()
					}
					part = part[used:]
				}
				if len(c.control) > maxControl {
					t.Fatalf("%d bytes of a control frame are kept", len(c.control))
				}
			}
			return out, answers, ""
		}
		out, answers, end := run(1 << 20)
		out2, answers2, end2 := run(int(step)%50 + 1)
		if !bytes.Equal(out, out2) || !bytes.Equal(answers, answers2) || end != end2 {
			t.Errorf("whole: %q, %q, %q; in pieces: %q, %q, %q", out, answers, end, out2, answers2, end2)
		}
	})
}
