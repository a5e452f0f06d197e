package raftstore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

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
	if _, err := Open(Options{Dir: s.dir.path}); !errors.Is(err, ErrInUse) {
		t.Fatalf("second node on the directory: got %v, want %v", err, ErrInUse)
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
