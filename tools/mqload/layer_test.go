//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"testing"
	"time"
)

func TestFrames(t *testing.T) {
	l := &layer{ws: true}
	var stream, want []byte
	for _, n := range []int{0, 1, 125, 126, 4000, 70_000} {
		payload := bytes.Repeat([]byte{byte(n)}, n)
		raw, err := l.pack(nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		// What a server sends has no mask: take the bit and the four zeros out.
		head := len(raw) - n
		raw[1] &^= 0x80
		stream = append(append(append(stream, raw[:head-4]...), raw[head:]...), 0x89, 2, 'h', 'i') // and a ping
		want = append(want, payload...)
	}
	for _, step := range []int{1, 3, 1000, len(stream)} {
		l := &layer{ws: true}
		var got []byte
		for p := stream; len(p) > 0; p = p[min(step, len(p)):] {
			if err := l.unpack(p[:min(step, len(p))], func(b []byte) { got = append(got, b...) }); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("by %d: got %d bytes, want %d", step, len(got), len(want))
		}
	}
	if err := (&layer{ws: true}).unpack([]byte{0x88, 2, 3, 0xe8}, func([]byte) {}); err != io.EOF {
		t.Errorf("close frame: got %v, want EOF", err)
	}
}

func TestTLSRun(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	tg := startToyTLS(t, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	sp, err := parseSpec("p2p:n=3")
	if err != nil {
		t.Fatal(err)
	}
	r, err := sp.run(tg, options{warmup: 50 * time.Millisecond, duration: 100 * time.Millisecond})
	if err != nil || r.faults() != "" || r.Count == 0 {
		t.Errorf("%d messages, faults %q, error %v; want some and none", r.Count, r.faults(), err)
	}
}
