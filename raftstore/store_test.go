package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	s, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	return open(t, Options{Dir: s.dir.path})
}

func TestOpenTwice(t *testing.T) {
	s := open(t, Options{})
	if _, err := Open(Options{Dir: s.dir.path}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Fatalf("second node on the directory: got %v, want %v and the process", err, ErrInUse)
	}
	id := s.NodeID()
	if again := reopen(t, s); again.NodeID() != id {
		t.Errorf("identity after restart: got %s, want %s", again.NodeID(), id)
	}
}

func TestUsers(t *testing.T) {
	s, ctx := open(t, Options{Limits: Limits{Users: 2}}), context.Background()
	watch := s.Watch(Users)
	if err := s.CreateUser(ctx, "admin", "public", "administrator"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch:
	case <-time.After(5 * time.Second):
		t.Error("the watcher was not woken")
	}
	other := s.Watch(Bans)
	for _, tc := range []struct {
		name string
		err  error
		do   func() error
	}{
		{"same name", ErrExists, func() error { return s.CreateUser(ctx, "admin", "x", "") }},
		{"empty name", ErrInvalid, func() error { return s.CreateUser(ctx, "", "x", "") }},
		{"empty password", ErrInvalid, func() error { return s.CreateUser(ctx, "x", "", "") }},
		{"tags of nobody", ErrNotFound, func() error { return s.UpdateUserTags(ctx, "nobody", "x") }},
		{"password of nobody", ErrNotFound, func() error { return s.SetUserPassword(ctx, "nobody", "x") }},
		{"delete nobody", ErrNotFound, func() error { return s.DeleteUser(ctx, "nobody") }},
		{"delete no text", ErrNotFound, func() error { return s.DeleteUser(ctx, "\xff") }},
		{"second user", nil, func() error { return s.CreateUser(ctx, "Ärzte/+#", "geheim", "") }},
		{"one too many", ErrLimit, func() error { return s.CreateUser(ctx, "third", "x", "") }},
		{"tags", nil, func() error { return s.UpdateUserTags(ctx, "admin", "boss") }},
		{"password", nil, func() error { return s.SetUserPassword(ctx, "admin", "new") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.do(); !errors.Is(err, tc.err) {
				t.Errorf("got %v, want %v", err, tc.err)
			}
		})
	}
	select {
	case <-other:
		t.Error("the watcher of another table was woken")
	default:
	}
	s = reopen(t, s)
	rows, n := s.View().Users(0, -1)
	if n != 2 || len(rows) != 2 || rows[0].Name != "admin" || rows[0].Tags != "boss" {
		t.Fatalf("after restart: got %v of %d", rows, n)
	}
	if !rows[0].Check("new") || rows[0].Check("public") {
		t.Error("after restart: the old password is right, or the new one is wrong")
	}
}

func TestApplications(t *testing.T) {
	s, ctx := open(t, Options{}), context.Background()
	now := time.Now()
	secret, err := s.CreateApplication(ctx, Application{ID: "a", Name: "n", Status: true, Expired: now.Unix()}, "")
	if err != nil || secret == "" {
		t.Fatalf("create: %q, %v", secret, err)
	}
	if _, err := s.CreateApplication(ctx, Application{ID: "a"}, ""); !errors.Is(err, ErrExists) {
		t.Errorf("again: got %v, want %v", err, ErrExists)
	}
	s = reopen(t, s)
	v := s.View()
	a, _ := v.Application("a")
	if got, err := v.Secret(a); got != secret || err != nil {
		t.Errorf("secret: got %q, %v, want %q", got, err, secret)
	}
	if bytes.Contains(a.Sealed, []byte(secret)) {
		t.Error("the secret is kept in clear")
	}
	for _, tc := range []struct {
		name, id, secret string
		now              time.Time
		want             bool
	}{
		{"right", "a", secret, now, true},
		{"wrong secret", "a", secret + "x", now, false},
		{"unknown", "b", secret, now, false},
		{"expired", "a", secret, now.Add(2 * time.Second), false},
	} {
		if got := v.CheckApplication(tc.id, tc.secret, tc.now); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
	if err := s.UpdateApplication(ctx, Application{ID: "a", Name: "m"}); err != nil {
		t.Fatal(err)
	}
	if s.View().CheckApplication("a", secret, now) {
		t.Error("a switched off application may log in")
	}
	if !v.CheckApplication("a", secret, now) {
		t.Error("an older view has changed")
	}
}

func TestBans(t *testing.T) {
	s, ctx := open(t, Options{Limits: Limits{Bans: 4}}), context.Background()
	now := time.Unix(1000, 0)
	for _, b := range []Ban{
		{As: BanClientID, Who: "c1"},
		{As: BanUsername, Who: "u1", Until: 1000},
		{As: BanUsername, Who: "u2", Until: 1001},
		{As: BanIPAddress, Who: "::ffff:10.0.0.1"},
		{As: BanClientID, Who: "c1", Reason: "again", Until: 2000},
	} {
		if err := s.PutBan(ctx, b); err != nil {
			t.Fatalf("%v: %v", b, err)
		}
	}
	for _, b := range []Ban{{As: "peer", Who: "x"}, {As: BanIPAddress, Who: "10.0.0.0/8"}, {As: BanClientID}} {
		if err := s.PutBan(ctx, b); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: got %v, want %v", b, err, ErrInvalid)
		}
	}
	if err := s.PutBan(ctx, Ban{As: BanClientID, Who: "c2"}); !errors.Is(err, ErrLimit) {
		t.Errorf("fifth ban: got %v, want %v", err, ErrLimit)
	}
	v := s.View()
	none := netip.Addr{}
	for _, tc := range []struct {
		name, client, user string
		addr               netip.Addr
		want               bool
	}{
		{"client", "c1", "", none, true},
		{"user ended", "c", "u1", none, false},
		{"user", "c", "u2", none, true},
		{"address", "c", "u", netip.MustParseAddr("10.0.0.1"), true},
		{"mapped address", "c", "u", netip.MustParseAddr("::ffff:10.0.0.1"), true},
		{"nobody", "c", "u", netip.MustParseAddr("10.0.0.2"), false},
		{"nothing", "", "", none, false},
	} {
		if _, got := v.Banned(tc.client, tc.user, tc.addr, now); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
	rows, n := v.Bans(now, 1, 1)
	if n != 3 || len(rows) != 1 || rows[0].Who != "10.0.0.1" {
		t.Errorf("page with an ended ban: got %v of %d", rows, n)
	}
	if err := s.SweepBans(ctx, now); err != nil {
		t.Fatal(err)
	}
	if _, there := s.View().Ban(BanUsername, "u1"); there {
		t.Error("an ended ban was not swept")
	}
	if end, ok := s.View().NextBanEnd(); !ok || end.Unix() != 1001 {
		t.Errorf("next end: got %v, %v", end, ok)
	}
	if err := s.DeleteBan(ctx, BanIPAddress, "::ffff:a00:1"); err != nil {
		t.Errorf("delete by another spelling: %v", err)
	}
	if err := s.DeleteBan(ctx, BanIPAddress, "10.0.0.1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete again: got %v, want %v", err, ErrNotFound)
	}
}

func TestConfig(t *testing.T) {
	s, ctx := open(t, Options{}), context.Background()
	const n1, n2 = "node-1", "node-2"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.SetConfig(ctx, n1, "retainer.max_payload_size", "1MB"))
	must(s.SetPluginConfig(ctx, n1, "retainer", []Pair{{"retainer.max_payload_size", "2MB"}, {"retainer.expiry_interval", "1h"}},
		[]string{"retainer.max_payload_size", "retainer.expiry_interval"}))
	if got := s.View().Config(n1); len(got) != 0 {
		t.Errorf("the plugin's configuration was set last, but the node's own value is still there: %v", got)
	}
	must(s.SetConfig(ctx, n1, "retainer.expiry_interval", "2h"))
	if got, _ := s.View().PluginConfig(n1, "retainer"); len(got) != 1 || got[0].Value != "2MB" {
		t.Errorf("the node's value was set last, but the plugin's is still there: %v", got)
	}
	must(s.SetConfig(ctx, n2, "log.level", "debug"))
	must(s.SetConfig(ctx, Cluster, "log.level", "info"))
	must(s.SetConfig(ctx, Cluster, "retainer.max_payload_size", "3MB"))
	v := s.View()
	if got := v.Config(n2); len(got) != 0 {
		t.Errorf("the cluster's value was set last, but node 2's is still there: %v", got)
	}
	if got, _ := v.PluginConfig(n1, "retainer"); len(got) != 0 {
		t.Errorf("the cluster's value was set last, but the plugin's is still there: %v", got)
	}
	if got := v.Config(Cluster); len(got) != 2 || got["log.level"] != "info" {
		t.Errorf("cluster: got %v", got)
	}
	must(s.SetPluginState(ctx, n1, "recon", true))
	must(s.SetPluginState(ctx, n1, "retainer", false))
	must(s.SetPluginState(ctx, n2, "retainer", true))
	must(s.DeleteConfig(ctx, Cluster, "log.level"))
	s = reopen(t, s)
	if got := s.View().PluginStates(n1); len(got) != 2 || !got["recon"] || got["retainer"] {
		t.Errorf("plugin states after restart: got %v", got)
	}
	if got := s.View().Config(Cluster); len(got) != 1 {
		t.Errorf("cluster after restart: got %v", got)
	}
	if err := s.DeleteConfig(ctx, Cluster, "log.level"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete again: got %v, want %v", err, ErrNotFound)
	}
	if err := s.SetConfig(ctx, Cluster, "k", strings.Repeat("x", maxValue+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a long value: got %v, want %v", err, ErrInvalid)
	}
}

func TestCredentials(t *testing.T) {
	s, ctx := open(t, Options{Limits: Limits{Credentials: 3}}), context.Background()
	put := func(kind, id, algo, password string, when When) error {
		c, err := NewCredential(kind, id, algo, password)
		if err != nil {
			return err
		}
		return s.PutCredential(ctx, c, when)
	}
	for _, tc := range []struct {
		name, kind, id, algo string
		when                 When
		want                 error
	}{
		{"update of nobody", "auth_username", "u", "sha256", IfPresent, ErrNotFound},
		{"add", "auth_username", "u", "plain", IfAbsent, nil},
		{"add again", "auth_username", "u", "sha", IfAbsent, ErrExists},
		{"update", "auth_username", "u", "sha", IfPresent, nil},
		{"same id, other kind", "auth_clientid", "u", "md5", IfAbsent, nil},
		{"another", "auth_username", "v", "md5", Always, nil},
		{"one too many", "auth_username", "w", "md5", Always, ErrLimit},
		{"replace at the limit", "auth_username", "v", "sha256", Always, nil},
		{"unknown hash", "auth_username", "v", "rot13", Always, ErrInvalid},
	} {
		if err := put(tc.kind, tc.id, tc.algo, "secret", tc.when); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
	rows, n := s.View().Credentials("auth_username", 1, 5)
	if n != 2 || len(rows) != 1 || rows[0].ID != "v" {
		t.Errorf("page: got %v of %d", rows, n)
	}
	c, ok := s.View().Credential("auth_username", "u")
	if !ok || !c.Check("secret") || c.Check("Secret") || c.Algo != "sha" {
		t.Errorf("credential: got %v %v", c, ok)
	}
	if text := fmt.Sprintf("%v %+v %s", c, c, c.Hash); strings.Contains(text, string(c.Hash)) {
		t.Errorf("a hash was printed: %s", text)
	}
	if err := s.DeleteCredential(ctx, "auth_username", "u"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteCredential(ctx, "auth_username", "u"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete again: got %v, want %v", err, ErrNotFound)
	}
}

func TestBackup(t *testing.T) {
	a, b, ctx := open(t, Options{}), open(t, Options{}), context.Background()
	secret, err := a.CreateApplication(ctx, Application{ID: "app", Status: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		a.CreateUser(ctx, "u", "pw", "t"),
		a.SetConfig(ctx, a.NodeID(), "log.level", "debug"),
		a.SetPluginState(ctx, a.NodeID(), "recon", true),
		a.PutMarks(ctx, 0, map[string]string{"a": "x"}),
		b.PutMarks(ctx, 0, map[string]string{"b": "y"}),
		b.CreateUser(ctx, "gone", "pw", ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if err := a.Backup(&file); err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut < file.Len(); cut += 50 {
		if err := b.Restore(bytes.NewReader(file.Bytes()[:cut])); !errors.Is(err, ErrInvalid) {
			t.Fatalf("a backup cut at %d: got %v, want %v", cut, err, ErrInvalid)
		}
	}
	if _, there := b.View().User("gone"); !there {
		t.Fatal("a damaged backup has changed something")
	}
	watch := b.Watch(Users)
	if err := b.Restore(&file); err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch:
	default:
		t.Error("the watcher was not woken")
	}
	check := func(when string) {
		t.Helper()
		v := b.View()
		if _, there := v.User("gone"); there {
			t.Errorf("%s: what is not in the backup is still there", when)
		}
		if u, ok := v.User("u"); !ok || !u.Check("pw") {
			t.Errorf("%s: user: got %v %v", when, u, ok)
		}
		if !v.CheckApplication("app", secret, time.Now()) {
			t.Errorf("%s: the application cannot log in", when)
		}
		if v.Config(b.NodeID())["log.level"] != "debug" || !v.PluginStates(b.NodeID())["recon"] {
			t.Errorf("%s: what was the node's is not this node's", when)
		}
		if m := v.Marks(); m.Epoch <= 1 || len(m.Up) != 1 || m.Up["b"] != (Life{1, "y"}) {
			t.Errorf("%s: marks: got %v, want those of this cluster with a later epoch", when, m)
		}
	}
	check("at once")
	b = reopen(t, b)
	check("after restart")
	if err := b.CreateUser(ctx, "later", "pw", ""); err != nil {
		t.Fatal(err)
	}
	b = reopen(t, b)
	check("after a write and restart")
	if _, there := b.View().User("later"); !there {
		t.Error("a write after the restore is gone")
	}
}

func TestDirectory(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		want    error
		text    string
	}{
		{"newer format", func(t *testing.T, dir string) { write(t, dir, "format", "2\n") }, ErrNewer, "format 2"},
		{"no format", func(t *testing.T, dir string) { write(t, dir, "format", "hello") }, nil, "holds no format"},
		{"short key", func(t *testing.T, dir string) { write(t, dir, "seal.key", "x") }, nil, "key of 1 bytes"},
		{"a file in the way", func(t *testing.T, dir string) { write(t, dir, "raft", "x") }, nil, "raft"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			tc.prepare(t, dir)
			s, err := Open(Options{Dir: dir})
			if err == nil {
				s.Close() // the test has failed already
				t.Fatal("no error")
			}
			if tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
	t.Run("modes", func(t *testing.T) {
		s := open(t, Options{Dir: filepath.Join(t.TempDir(), "a", "b")})
		for _, name := range []string{"seal.key", "node_id", "raft/raft.db"} {
			info, err := os.Stat(filepath.Join(s.dir.path, name))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != 0o600 {
				t.Errorf("%s: mode %v, want 0600", name, got)
			}
		}
	})
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestHalfFormed opens a directory of a node that was killed after the vote and
// before the first entry of its cluster.
func TestHalfFormed(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "raft"), 0o700); err != nil {
		t.Fatal(err)
	}
	logs, err := openLogs(filepath.Join(dir, "raft"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(logs.SetUint64([]byte("CurrentTerm"), 1), logs.Close()); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Dir: dir})
	if err := s.SetConfig(context.Background(), Cluster, "k", "v"); err != nil {
		t.Fatal(err)
	}
}

func TestClosed(t *testing.T) {
	s := open(t, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := s.SetConfig(context.Background(), Cluster, "k", "v"); !errors.Is(err, ErrClosed) {
			t.Errorf("write: got %v, want %v", err, ErrClosed)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.SetConfig(ctx, Cluster, "k", "v"); !errors.Is(err, context.Canceled) {
		t.Errorf("write with an ended context: got %v, want %v", err, context.Canceled)
	}
}

// TestSteadyStore lets the disk refuse a vote: raft hears of it only once it is
// kept.
func TestSteadyStore(t *testing.T) {
	disk := &refusing{times: 3}
	s := &steadyStore{StableStore: disk, log: slog.New(slog.DiscardHandler)}
	if err := s.SetUint64([]byte("CurrentTerm"), 7); err != nil || disk.value != 7 || disk.times != 0 {
		t.Errorf("got %v, value %d, %d refusals left", err, disk.value, disk.times)
	}
}

type refusing struct {
	raft.StableStore
	times int
	value uint64
}

func (r *refusing) SetUint64(_ []byte, v uint64) error {
	if r.times > 0 {
		r.times--
		return errors.New("no space left on device")
	}
	r.value = v
	return nil
}

func poll(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	write := func(b *testing.B, s *Store) {
		if err := s.SetConfig(context.Background(), Cluster, "k", "v"); err != nil {
			b.Error(err)
		}
	}
	b.Run("callers=1", func(b *testing.B) {
		s := open(b, Options{})
		for b.Loop() {
			write(b, s)
		}
	})
	b.Run("callers=64", func(b *testing.B) {
		s := open(b, Options{})
		b.SetParallelism(64 / runtime.GOMAXPROCS(0))
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				write(b, s)
			}
		})
	})
}

func BenchmarkBanned(b *testing.B) {
	f := newFSM()
	st := f.view()
	for i := range 100_000 {
		next := *st
		next.putBan(&putBan{Ban{As: BanClientID, Who: fmt.Sprint("c", i)}, 1 << 20})
		st = &next
	}
	v, now, addr := View{s: st}, time.Now(), netip.MustParseAddr("10.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		v.Banned("c77777x", "user", addr, now)
	}
}
