package cluster

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A connection to the cluster port begins so, inside TLS when there is TLS:
//
//	dialer    "LACEWING", version byte, 32 random bytes
//	listener  "LACEWING", version byte, 32 random bytes
//	dialer    hello, proof
//	listener  verdict byte, hello, proof
//
// A hello is a length of two bytes and JSON. A proof is an HMAC-SHA256 under the
// cookie over the side, both openings, what ties it to the TLS session, the
// dialer's hello, and for the listener's also the verdict, its own hello and
// the dialer's proof: nothing said before a proof can be changed by somebody in
// between, and no proof can be used twice or by the other side. The dialer proves
// first, so that a stranger who dials gets nothing to guess the cookie with.
// After it the connection belongs to the purpose that the dialer's hello names.
const (
	opening      = "LACEWING"
	protoVersion = 1
	nonceSize    = 32
	openingSize  = len(opening) + 1 + nonceSize
	maxHello     = 4096
)

// Purpose says who owns a connection.
type Purpose string

// The purposes.
const (
	Raft Purpose = "raft" // raft's own protocol
	API  Purpose = "api"  // HTTP: the node API
	Link Purpose = "link" // MQTT
)

// Level is that of the features this release knows; a node refuses to talk to
// one below MinLevel.
const (
	Level    = 2
	MinLevel = 1
)

// Hello is what the nodes tell each other at the start of a connection.
type Hello struct {
	Cluster string  `json:"cluster"` // name of the cluster
	ID      string  `json:"id"`      // identity of the node
	Node    string  `json:"node"`    // its name
	Address string  `json:"address"` // of its cluster port
	Version string  `json:"version"` // release
	Level   int     `json:"level"`
	Purpose Purpose `json:"purpose,omitempty"` // of the dialer
}

// Verdict is what the listener says to a dialer.
type Verdict byte

// The verdicts. Numbers are never reused.
const (
	welcome      Verdict = 0
	wrongCookie  Verdict = 1
	wrongCluster Verdict = 2
	wrongVersion Verdict = 3
	noService    Verdict = 4
	isBusy       Verdict = 5
)

// String is the reason in words for an operator.
func (v Verdict) String() string {
	switch v {
	case wrongCookie:
		return "the cookies differ"
	case wrongCluster:
		return "the names of the clusters differ"
	case wrongVersion:
		return "the releases do not understand each other"
	case noService:
		return "it does not serve this yet"
	case isBusy:
		return "it has too many connections"
	}
	return fmt.Sprintf("for reason %d", byte(v))
}

// RefusedError is a connection that one of the sides refused.
type RefusedError struct {
	Verdict Verdict
	Peer    Hello // as far as it was told
	Here    bool  // this node refused the other one's answer
}

// Error returns one line.
func (e *RefusedError) Error() string {
	if e.Here {
		return "the node that answers is refused: " + e.Verdict.String()
	}
	return "refused: " + e.Verdict.String()
}

// errNoise is a connection that does not speak this protocol: a port scan, a
// health check.
var errNoise = errors.New("it does not speak the protocol of the cluster port")

func newOpening() []byte {
	b := append([]byte(opening), protoVersion)
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // never fails: crypto/rand ends the program instead
	return append(b, nonce...)
}

func readOpening(r io.Reader) ([]byte, error) {
	b := make([]byte, openingSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoise, err)
	}
	if string(b[:len(opening)]) != opening {
		return nil, errNoise
	}
	return b, nil
}

func versionOf(opened []byte) byte { return opened[len(opening)] }

// proof is the HMAC of a side over parts, each with its length.
func proof(cookie []byte, side string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, cookie)
	for _, p := range append([][]byte{[]byte("lacewing cluster " + side)}, parts...) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p)))) // never fails
		h.Write(p)
	}
	return h.Sum(nil)
}

// tied is what ties a proof to the TLS session beneath, so that nobody can pass
// it on between two sessions.
func tied(conn net.Conn) ([]byte, error) {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	state := t.ConnectionState()
	return state.ExportKeyingMaterial("EXPORTER-lacewing-cluster", nil, 32)
}

func writeHello(b *bytes.Buffer, h Hello) ([]byte, error) {
	j, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(j) > maxHello {
		return nil, fmt.Errorf("hello of %d bytes", len(j))
	}
	b.Write(binary.BigEndian.AppendUint16(nil, uint16(len(j)))) // never fails
	b.Write(j)
	return j, nil
}

func readHello(r io.Reader) (raw []byte, h Hello, err error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, h, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxHello {
		return nil, h, fmt.Errorf("hello of %d bytes", n)
	}
	raw = make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, h, err
	}
	return raw, h, json.Unmarshal(raw, &h)
}

// prepare gives a new connection its deadline, ends the TLS handshake where there is one, and gives what ties the proof to it.
func prepare(conn net.Conn, patience time.Duration) (tie []byte, err error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if t, ok := conn.(*tls.Conn); ok {
		if err := t.Handshake(); err != nil {
			return nil, err
		}
	}
	return tied(conn)
}

// greet is the dialer's side. The connection is not closed on errors.
func greet(conn net.Conn, cookie []byte, own Hello, patience time.Duration) (Hello, error) {
	tie, err := prepare(conn, patience)
	if err != nil {
		return Hello{}, err
	}
	mine := newOpening()
	if _, err := conn.Write(mine); err != nil {
		return Hello{}, err
	}
	theirs, err := readOpening(conn)
	if err != nil {
		return Hello{}, err
	}
	if versionOf(theirs) != protoVersion {
		return Hello{}, &RefusedError{Verdict: wrongVersion, Here: true}
	}
	var out bytes.Buffer
	ownRaw, err := writeHello(&out, own)
	if err != nil {
		return Hello{}, err
	}
	dialerProof := proof(cookie, "dialer", mine, theirs, tie, ownRaw)
	out.Write(dialerProof)
	if _, err := out.WriteTo(conn); err != nil {
		return Hello{}, err
	}
	var verdict [1]byte
	if _, err := io.ReadFull(conn, verdict[:]); err != nil {
		return Hello{}, err
	}
	if v := Verdict(verdict[0]); v == wrongCookie || v == isBusy { // nobody can prove it
		return Hello{}, &RefusedError{Verdict: v}
	}
	raw, peer, err := readHello(conn)
	if err != nil {
		return Hello{}, err
	}
	got := make([]byte, sha256.Size)
	if _, err := io.ReadFull(conn, got); err != nil {
		return Hello{}, err
	}
	if !hmac.Equal(got, proof(cookie, "listener", mine, theirs, tie, ownRaw, dialerProof, verdict[:], raw)) {
		return Hello{}, &RefusedError{Verdict: wrongCookie, Here: true}
	}
	if v := Verdict(verdict[0]); v != welcome {
		return peer, &RefusedError{Verdict: v, Peer: peer}
	}
	if v := judge(own, peer); v != welcome {
		return peer, &RefusedError{Verdict: v, Peer: peer, Here: true}
	}
	return peer, conn.SetDeadline(time.Time{})
}

// judge says whether a node talks to another.
func judge(own, peer Hello) Verdict {
	switch {
	case peer.Cluster != own.Cluster:
		return wrongCluster
	case peer.Level < MinLevel:
		return wrongVersion
	}
	return welcome
}

// receive is the listener's side. serves says whether a purpose is served.
func receive(conn net.Conn, cookie []byte, own Hello, serves func(Purpose) bool, patience time.Duration) (Hello, error) {
	tie, err := prepare(conn, patience)
	if err != nil {
		return Hello{}, err
	}
	theirs, err := readOpening(conn)
	if err != nil {
		return Hello{}, err
	}
	mine := newOpening()
	if _, err := conn.Write(mine); err != nil {
		return Hello{}, err
	}
	if versionOf(theirs) != protoVersion {
		return Hello{}, &RefusedError{Verdict: wrongVersion, Here: true}
	}
	peerRaw, peer, err := readHello(conn)
	if err != nil {
		return Hello{}, err
	}
	got := make([]byte, sha256.Size)
	if _, err := io.ReadFull(conn, got); err != nil {
		return Hello{}, err
	}
	if !hmac.Equal(got, proof(cookie, "dialer", theirs, mine, tie, peerRaw)) {
		_, err := conn.Write([]byte{byte(wrongCookie)})
		return Hello{}, errors.Join(&RefusedError{Verdict: wrongCookie, Here: true}, err)
	}
	v := judge(own, peer)
	if v == welcome && !serves(peer.Purpose) {
		v = noService
	}
	out := bytes.NewBuffer([]byte{byte(v)})
	ownRaw, err := writeHello(out, own)
	if err != nil {
		return Hello{}, err
	}
	out.Write(proof(cookie, "listener", theirs, mine, tie, peerRaw, got, []byte{byte(v)}, ownRaw))
	if _, err := out.WriteTo(conn); err != nil {
		return Hello{}, err
	}
	if v != welcome {
		return peer, &RefusedError{Verdict: v, Peer: peer, Here: true}
	}
	return peer, conn.SetDeadline(time.Time{})
}
