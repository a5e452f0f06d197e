package admin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"runtime"
	"sync"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Login says whether a user name and a password belong together, and makes
// nothing of it: both APIs have no sessions. EmptyCredential, LoginUnknown,
// LoginWrong, LoginLocal.
func (s *Service) Login(ctx context.Context, name, password string) error {
	if name == "" || password == "" {
		return fail(EmptyCredential, "user name and password must not be empty")
	}
	return s.CheckUser(ctx, name, password)
}

// CheckUser checks the credentials of an admin user that asks from the
// [Origin] of ctx. LoginUnknown, LoginWrong, LoginLocal.
func (s *Service) CheckUser(ctx context.Context, name, password string) error {
	u, there := s.store.View().User(name)
	if !there {
		return failOn(LoginUnknown, name, "user not found")
	}
	right, err := s.logins.check(ctx, u, password)
	switch {
	case err != nil:
		return err
	case !right:
		return failOn(LoginWrong, name, "wrong password")
	case s.isDefault(name, password) && !Origin(ctx).IsLoopback():
		return fail(LoginLocal, "the default password works from this machine only; change it first (lacewing ctl users passwd "+name+")")
	}
	return nil
}

// KnownUser reports whether these credentials were right before and still are,
// without the cost of checking them.
func (s *Service) KnownUser(ctx context.Context, name, password string) bool {
	u, there := s.store.View().User(name)
	return there && s.logins.known(u, password) && (!s.isDefault(name, password) || Origin(ctx).IsLoopback())
}

// CheckApp reports whether an application may log in with this secret now.
func (s *Service) CheckApp(id, secret string) bool {
	if !s.store.View().CheckApplication(id, secret, s.now()) {
		return false
	}
	s.logins.remember(s.logins.mac("app\x00"+id, secret), appMark)
	return true
}

// KnownApp reports whether these credentials were right before and still are.
// Unlike [Service.CheckApp] it says nothing new to somebody who guesses.
func (s *Service) KnownApp(id, secret string) bool {
	return s.logins.has(s.logins.mac("app\x00"+id, secret), appMark) && s.store.View().CheckApplication(id, secret, s.now())
}

// appMark stands in for the hash that users' passwords are remembered with:
// an application's secret is compared each time.
const appMark = raftstore.Hash("app")

func (s *Service) isDefault(name, password string) bool {
	return password == defaultPassword && (name == adminUser || name == s.config().String("dashboard.default_user.login"))
}

type originKey struct{}

// WithOrigin keeps the address that a request came from. It is the address of
// the connection; what a request says of itself does not count.
func WithOrigin(ctx context.Context, a netip.Addr) context.Context {
	return context.WithValue(ctx, originKey{}, a.Unmap())
}

// Origin returns the address given to [WithOrigin], or the zero Addr, which is
// not loopback.
func Origin(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(originKey{}).(netip.Addr)
	return a
}

// knownLogins bounds how many right pairs of name and password are remembered.
const knownLogins = 4096

// logins checks passwords, a few at a time because each costs some 50 ms of a
// core, and remembers right ones. A pair is remembered by an HMAC of it with a
// key of this process, beside the hash that it was right for: a user that was
// deleted or has another password is not found again.
type logins struct {
	key   [32]byte
	slots chan struct{}

	mu    sync.Mutex
	right map[[sha256.Size]byte]raftstore.Hash
}

func newLogins() *logins {
	l := &logins{
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		right: make(map[[sha256.Size]byte]raftstore.Hash),
	}
	rand.Read(l.key[:]) // never fails: crypto/rand ends the program instead
	return l
}

func (l *logins) mac(name, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, l.key[:])
	h.Write([]byte(name)) // a hash never fails
	h.Write([]byte{0})    // names hold no zero byte
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

func (l *logins) known(u raftstore.User, password string) bool {
	return u.Hash != "" && l.has(l.mac(u.Name, password), u.Hash)
}

func (l *logins) has(sum [sha256.Size]byte, as raftstore.Hash) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.right[sum] == as
}

func (l *logins) remember(sum [sha256.Size]byte, as raftstore.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.right[sum]; !there && len(l.right) >= knownLogins {
		for old := range l.right { // any of them: it is checked again when it comes
			delete(l.right, old)
			break
		}
	}
	l.right[sum] = as
}

// check reports whether password is the user's. It waits for its turn while
// ctx lasts; an error says that the turn did not come.
func (l *logins) check(ctx context.Context, u raftstore.User, password string) (bool, error) {
	if l.known(u, password) {
		return true, nil
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return false, failBy(LoginLimited, "too many logins at a time", ctx.Err())
	}
	if !u.Check(password) {
		return false, nil
	}
	l.remember(l.mac(u.Name, password), u.Hash)
	return true, nil
}
