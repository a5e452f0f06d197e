package admin

import (
	"context"
	"errors"
	"strings"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// The user that a first start makes, and that nobody can delete.
const (
	adminUser = "admin"
	// defaultPassword is known to everybody, and so good from loopback only.
	defaultPassword = "public"
)

// User is an admin user. Passwords are never returned.
type User struct{ Name, Tags string }

// NewUser asks for an admin user.
type NewUser struct{ Name, Password, Tags string }

// PasswordPair is a change of password in either pair of names that the
// documents have; nil is a member that was not sent.
type PasswordPair struct{ OldPwd, NewPwd, OldPassword, Password *string }

// Users returns the admin users by name.
func (s *Service) Users(context.Context) ([]User, error) {
	rows, _ := s.store.View().Users(0, -1)
	return convert(rows, func(u raftstore.User) User { return User{u.Name, u.Tags} }), nil
}

// User returns one admin user; found is false when there is none.
func (s *Service) User(_ context.Context, name string) (u User, found bool, err error) {
	row, found := s.store.View().User(name)
	return User{row.Name, row.Tags}, found, nil
}

// CreateUser makes an admin user. EmptyCredential, UserExists.
func (s *Service) CreateUser(ctx context.Context, u NewUser) error {
	if u.Name == "" || u.Password == "" {
		return fail(EmptyCredential, "user name and password must not be empty")
	}
	if _, there := s.store.View().User(u.Name); there { // spares the hash; the store decides
		return failOn(UserExists, u.Name, "user exists")
	}
	err := s.store.CreateUser(ctx, u.Name, u.Password, u.Tags)
	if errors.Is(err, raftstore.ErrExists) {
		return failOn(UserExists, u.Name, "user exists")
	}
	return storeError(err)
}

// UpdateUser replaces the tags of an admin user. UserUnknown.
func (s *Service) UpdateUser(ctx context.Context, name, tags string) error {
	return userError(s.store.UpdateUserTags(ctx, name, tags), name)
}

// DeleteUser deletes an admin user, whoever asks. UserProtected, UserUnknown.
func (s *Service) DeleteUser(ctx context.Context, name string) error {
	if name == adminUser {
		return failOn(UserProtected, name, "admin cannot be deleted")
	}
	return userError(s.store.DeleteUser(ctx, name), name)
}

// ChangePassword replaces the password of an admin user that knows the old
// one. MissingParam, EmptyCredential, UserUnknown, OldPasswordWrong.
func (s *Service) ChangePassword(ctx context.Context, name string, p PasswordPair) error {
	before, after := p.OldPwd, p.NewPwd
	if before == nil || after == nil {
		before, after = p.OldPassword, p.Password
	}
	if before == nil || after == nil { // half of each pair is no pair
		return Missing("old_pwd", "new_pwd")
	}
	if *after == "" {
		return fail(EmptyCredential, "the new password must not be empty")
	}
	u, there := s.store.View().User(name)
	if !there {
		return failOn(UserUnknown, name, "user not found")
	}
	right, err := s.logins.check(ctx, u, *before)
	if err != nil {
		return err
	}
	if !right {
		return failOn(OldPasswordWrong, name, "the old password is wrong")
	}
	return userError(s.store.SetUserPassword(ctx, name, *after), name)
}

func userError(err error, name string) error {
	if errors.Is(err, raftstore.ErrNotFound) {
		return failOn(UserUnknown, name, "user not found")
	}
	return storeError(err)
}

// Missing says which members a request must have, in the words of v3.
func Missing(names ...string) *Error {
	return fail(MissingParam, "missing mandatory params: ['"+strings.Join(names, "', '")+"']")
}

// storeError translates an error of the replicated store that every write may
// have.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raftstore.ErrNoLeader), errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		return failBy(NoLeader, "no leader", err)
	case errors.Is(err, raftstore.ErrInvalid):
		return failBy(BadParam, strings.TrimPrefix(err.Error(), raftstore.ErrInvalid.Error()+": "), err)
	case errors.Is(err, raftstore.ErrLimit):
		return failBy(Quota, "too many", err)
	}
	return err
}
