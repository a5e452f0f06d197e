package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

var update = flag.Bool("update", false, "write the testdata of this release")

// randomCommand makes a command of any type over few names, so that commands
// meet.
func randomCommand(rng *rand.Rand) (kind, any) {
	pick := func(prefix string, n int) string { return fmt.Sprint(prefix, rng.IntN(n)) }
	user, app, who, node, key := pick("user", 6), pick("app", 6), pick("who", 8), pick("node", 2), pick("key", 5)
	switch k := kind(1 + rng.IntN(int(cmdPutMarks))); k {
	case cmdCreateUser:
		return k, createUser{User{Name: user, Hash: Hash(pick("hash", 99)), Created: rng.Int64N(1e9)}, 4}
	case cmdUserTags:
		return k, userTags{user, pick("tag", 9)}
	case cmdUserPassword:
		return k, userPassword{user, Hash(pick("hash", 99))}
	case cmdDeleteUser:
		return k, byName{user}
	case cmdCreateApplication:
		return k, createApplication{Application{ID: app, Sealed: []byte(pick("s", 99)), Status: true}, 4}
	case cmdUpdateApplication:
		return k, updateApplication{Application{ID: app, Name: pick("n", 9), Expired: rng.Int64N(99)}}
	case cmdDeleteApplication:
		return k, byName{app}
	case cmdPutBan:
		return k, putBan{Ban{As: BanUsername, Who: who, Until: rng.Int64N(100)}, 6}
	case cmdDeleteBan:
		return k, deleteBan{BanUsername, who}
	case cmdSweepBans:
		return k, sweepBans{rng.Int64N(30)}
	case cmdSetConfig:
		if rng.IntN(2) == 0 {
			node = Cluster
		}
		return k, setConfig{node, key, pick("v", 99), 8}
	case cmdDeleteConfig:
		return k, deleteConfig{node, key}
	case cmdPluginState:
		return k, pluginState{node, pick("p", 3), rng.IntN(2) == 0, 5}
	case cmdPluginConfig:
		return k, pluginConfig{node, pick("p", 3), []Pair{{key, "1"}, {pick("key", 5), "2"}}, []string{key}, 5}
	case cmdPutCredential:
		return k, putCredential{Credential{Kind: "auth_username", ID: who, Algo: "sha256", Salt: []byte{1}, Hash: "x"}, When(rng.IntN(3)), 5}
	case cmdDeleteCredential:
		return k, deleteCredential{"auth_username", who}
	case cmdPutMember:
		return k, putMember{Member{ID: node, Name: pick("name", 3), Address: "a:1", Joined: rng.Int64N(99)}, rng.IntN(2) == 0, []string{"", pick("node", 2)}[rng.IntN(2)], 3}
	case cmdDropMember:
		return k, dropMember{node}
	case cmdPutMarks:
		up := map[string]string{}
		for range rng.IntN(4) {
			up[pick("node", 4)] = pick("boot", 2)
		}
		return k, putMarks{uint64(rng.IntN(4)), up}
	default:
		return k, clusterKey{pick("key", 3), []byte(pick("s", 9))}
	}
}

func randomLog(t *testing.T, rng *rand.Rand, n int) [][]byte {
	t.Helper()
	var log [][]byte
	for i := range n {
		k, body := randomCommand(rng)
		var id [requestIDSize]byte
		binary.BigEndian.PutUint64(id[:], uint64(i))
		if i%10 == 9 { // a request that is repeated
			binary.BigEndian.PutUint64(id[:], uint64(i-rng.IntN(9)-1))
		}
		e, err := encode(k, id, body)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, e)
	}
	return log
}

func snapshotBytes(t *testing.T, f *fsm) []byte {
	t.Helper()
	var b bytes.Buffer
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Persist(&memorySink{Buffer: &b}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// memorySink is a snapshot in memory; after room bytes the disk is full.
type memorySink struct {
	*bytes.Buffer
	room      int
	cancelled bool
	closed    bool
}

func (m *memorySink) Write(b []byte) (int, error) {
	if m.room > 0 && m.Len()+len(b) > m.room {
		return 0, errors.New("disk full")
	}
	return m.Buffer.Write(b)
}
func (m *memorySink) ID() string    { return "memory" }
func (m *memorySink) Cancel() error { m.cancelled = true; return nil }
func (m *memorySink) Close() error  { m.closed = true; return nil }

// TestReplay applies one log on two state machines, one of which goes through a
// snapshot after every entry: outcomes and snapshots are equal byte for byte.
func TestReplay(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		a, b := newFSM(), newFSM()
		for i, e := range randomLog(t, rng, 300) {
			x, y := a.Apply(&raft.Log{Data: e}), b.Apply(&raft.Log{Data: e})
			if x != y {
				t.Fatalf("seed %d, entry %d: outcomes %v and %v", seed, i, x, y)
			}
			if i%7 == 0 {
				c := newFSM()
				if err := c.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, b)))); err != nil {
					t.Fatalf("seed %d, entry %d: %v", seed, i, err)
				}
				b = c
			}
		}
		x, y := snapshotBytes(t, a), snapshotBytes(t, b)
		if !bytes.Equal(x, y) {
			t.Fatalf("seed %d: snapshots differ:\n%s\n%s", seed, x, y)
		}
	}
}

// TestRetry repeats a request: it is answered as before and done once.
func TestRetry(t *testing.T) {
	f := newFSM()
	e, err := encode(cmdCreateUser, [requestIDSize]byte{1}, createUser{User{Name: "u"}, 10})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if got := f.Apply(&raft.Log{Data: e}); got != done {
			t.Errorf("time %d: got %v, want %v", i+1, got, done)
		}
	}
	for i := range recentRequests + 10 {
		var id [requestIDSize]byte
		binary.BigEndian.PutUint64(id[8:], uint64(i+1))
		e, err := encode(cmdSweepBans, id, sweepBans{1})
		if err != nil {
			t.Fatal(err)
		}
		f.Apply(&raft.Log{Data: e})
	}
	if n := f.view().recent.len(); n != recentRequests {
		t.Errorf("outcomes kept: got %d, want %d", n, recentRequests)
	}
}

func TestUnreadableEntryPanics(t *testing.T) {
	id := make([]byte, requestIDSize)
	for _, tc := range []struct {
		name  string
		entry []byte
		panic bool
	}{
		{"empty", nil, true},
		{"short", []byte{1, 1, 0}, true},
		{"unknown type", append(append([]byte{0x7f, 1}, id...), "{}"...), true},
		{"newer version", append(append([]byte{1, 2}, id...), "{}"...), true},
		{"bad body", append(append([]byte{1, 1}, id...), "{"...), true},
		{"unknown type that may be skipped", append(append([]byte{0x80, 9}, id...), "?"...), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer func() {
				if got := recover() != nil; got != tc.panic {
					t.Errorf("panic: got %v, want %v", got, tc.panic)
				}
			}()
			newFSM().Apply(&raft.Log{Data: tc.entry})
		})
	}
}

// TestPersistFails fills the disk at every place: the snapshot is given up, not
// half kept.
func TestPersistFails(t *testing.T) {
	f := newFSM()
	for _, e := range randomLog(t, rand.New(rand.NewPCG(3, 3)), 200) {
		f.Apply(&raft.Log{Data: e})
	}
	whole := len(snapshotBytes(t, f))
	for room := 1; room < whole; room += 97 {
		sink := &memorySink{Buffer: &bytes.Buffer{}, room: room}
		s, _ := f.Snapshot()
		if err := s.Persist(sink); err == nil || !sink.cancelled || sink.closed {
			t.Fatalf("room for %d of %d bytes: error %v, cancelled %v, closed %v", room, whole, err, sink.cancelled, sink.closed)
		}
	}
}

// TestReleasedSnapshots restores the snapshot of every release.
func TestReleasedSnapshots(t *testing.T) {
	name := filepath.Join("testdata", fmt.Sprintf("snapshot-%d.bin", streamVersion))
	if *update {
		f := newFSM()
		for _, e := range randomLog(t, rand.New(rand.NewPCG(7, 7)), 120) {
			f.Apply(&raft.Log{Data: e})
		}
		if err := os.WriteFile(name, snapshotBytes(t, f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("testdata/snapshot-*.bin")
	if err != nil || len(files) < streamVersion {
		t.Fatalf("snapshots of releases: got %v, %v", files, err)
	}
	for _, file := range files {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f := newFSM()
		if err := f.Restore(io.NopCloser(bytes.NewReader(want))); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s := f.view()
		for what, n := range map[string]int{"users": s.users.len(), "applications": s.apps.len(), "bans": s.bans.len(), "config": s.config.len(),
			"states": s.states.len(), "plugins": s.plugins.len(), "credentials": s.creds.len(), "requests": s.recent.len()} {
			if n == 0 {
				t.Errorf("%s: no %s", file, what)
			}
		}
		if file == name && !bytes.Equal(snapshotBytes(t, f), want) {
			t.Errorf("%s: written again it differs", file)
		}
	}
}

// TestDamagedStream cuts a stream at every place and flips every byte: it is
// refused each time.
func TestDamagedStream(t *testing.T) {
	whole, err := os.ReadFile(fmt.Sprintf("testdata/snapshot-%d.bin", streamVersion))
	if err != nil {
		t.Fatal(err)
	}
	step := max(1, len(whole)/500)
	for i := 0; i < len(whole); i += step {
		if _, _, err := readStream(bytes.NewReader(whole[:i])); err == nil {
			t.Fatalf("cut at %d of %d: no error", i, len(whole))
		}
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		if _, _, err := readStream(bytes.NewReader(flipped)); err == nil {
			t.Fatalf("byte %d of %d flipped: no error", i, len(whole))
		}
	}
}

func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		k, body := randomCommand(rng)
		e, err := encode(k, [requestIDSize]byte{}, body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decode(b)
		if err != nil || d.body == nil {
			return
		}
		again, err := encode(d.kind, [requestIDSize]byte([]byte(d.id)), d.body)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		once, _, _ := apply(&state{}, b)
		twice, _, _ := apply(&state{}, again)
		x, y := &fsm{}, &fsm{}
		x.current.Store(&reached{state: once})
		y.current.Store(&reached{state: twice})
		if !bytes.Equal(snapshotBytes(t, x), snapshotBytes(t, y)) {
			t.Fatal("a command that was read and written again does something else")
		}
	})
}

func FuzzStream(f *testing.F) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 5))
		st := &state{}
		for range 4 {
			k, body := randomCommand(rng)
			e, err := encode(k, [requestIDSize]byte{byte(rng.IntN(256))}, body)
			if err != nil {
				f.Fatal(err)
			}
			st, _, _ = apply(st, e)
		}
		var b bytes.Buffer
		w := newStreamWriter(&b)
		st.write(w)
		if err := w.end(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum would keep nearly all inputs from the records: read them
		// with the right one too.
		readStream(bytes.NewReader(b))
		if len(b) > 4 {
			body := b[:len(b)-4]
			readStream(bytes.NewReader(binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))))
		}
	})
}
