package packet

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzDecode throws bytes at the codec in each version: nothing panics, and what is accepted is encoded to a packet that means the same.
func FuzzDecode(f *testing.F) {
	for _, c := range cases {
		f.Add(byte(c.version), c.raw)
	}
	f.Fuzz(func(t *testing.T, version byte, raw []byte) {
		v := Version(version)
		if v < V31 || v > V5 {
			return
		}
		h, n, err := ParseHeader(v, raw)
		if err != nil || len(raw)-n < h.Remaining {
			return
		}
		body := raw[n : n+h.Remaining]
		kept := bytes.Clone(body)
		p := New(h.Type)
		err = p.Decode(v, h.Flags, body)
		if !bytes.Equal(kept, body) {
			t.Fatal("Decode has changed its input")
		}
		if err != nil {
			if !CodeOf(err).Failed() || CodeOf(err) == UnspecifiedError {
				t.Fatalf("error %v has no reason code", err)
			}
			return
		}
		if c, ok := p.(*Connect); ok {
			v = c.Version
		}
		out := p.Append(nil, v)
		if len(out) == 0 {
			t.Fatalf("%+v is encoded to nothing", p)
		}
		again, err := decode(v, out)
		if err != nil {
			t.Fatalf("% x is encoded to % x, which is refused: %v", raw, out, err)
		}
		if !reflect.DeepEqual(value(again), value(p)) {
			t.Fatalf("got  %+v\nwant %+v", again, p)
		}
		if pub, ok := p.(*Publish); ok && pub.Size(v) != len(out) {
			t.Fatalf("Size: got %d, want %d", pub.Size(v), len(out))
		}
		if third := again.Append(nil, v); !bytes.Equal(third, out) {
			t.Fatalf("encoded % x and then % x", out, third)
		}
	})
}
