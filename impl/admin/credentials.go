package admin

import (
	"context"
	"errors"

	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// CredentialKind names the plugin that keeps MQTT credentials, without prefix.
type CredentialKind string

// The plugins that keep MQTT credentials.
const (
	ByClientID CredentialKind = "auth_clientid"
	ByUsername CredentialKind = "auth_username"
)

// hashKey is the key that says how passwords of this kind are hashed.
func (k CredentialKind) hashKey() string {
	if k == ByClientID {
		return "auth.client.password_hash"
	}
	return "auth.user.password_hash"
}

// Credentials returns the client ids or user names that have a password.
// UnknownPlugin while the plugin is not active.
func (s *Service) Credentials(ctx context.Context, kind CredentialKind) ([]string, error) {
	if err := s.kept(ctx, kind); err != nil {
		return nil, err
	}
	rows, _ := s.store.View().Credentials(string(kind), 0, -1)
	return convert(rows, func(c raftstore.Credential) string { return c.ID }), nil
}

// Credential returns the stored hash of one password, without its salt.
// UnknownPlugin, CredentialUnknown.
func (s *Service) Credential(ctx context.Context, kind CredentialKind, id string) (hash string, err error) {
	if err := s.kept(ctx, kind); err != nil {
		return "", err
	}
	c, found := s.store.View().Credential(string(kind), id)
	if !found {
		return "", failOn(CredentialUnknown, id, "no such credential")
	}
	return string(c.Hash), nil
}

// AddCredential adds a password. UnknownPlugin, EmptyCredential,
// CredentialExists.
func (s *Service) AddCredential(ctx context.Context, kind CredentialKind, id, password string) error {
	return s.putCredential(ctx, kind, id, password, raftstore.IfAbsent)
}

// UpdateCredential replaces a password. UnknownPlugin, EmptyCredential,
// CredentialUnknown.
func (s *Service) UpdateCredential(ctx context.Context, kind CredentialKind, id, password string) error {
	return s.putCredential(ctx, kind, id, password, raftstore.IfPresent)
}

// DeleteCredential deletes a password. UnknownPlugin, CredentialUnknown.
func (s *Service) DeleteCredential(ctx context.Context, kind CredentialKind, id string) error {
	if err := s.kept(ctx, kind); err != nil {
		return err
	}
	return credentialError(s.store.DeleteCredential(ctx, string(kind), id), id)
}

func (s *Service) putCredential(ctx context.Context, kind CredentialKind, id, password string, when raftstore.When) error {
	if err := s.kept(ctx, kind); err != nil {
		return err
	}
	if id == "" || password == "" {
		return fail(EmptyCredential, "name and password must not be empty")
	}
	c, err := raftstore.NewCredential(string(kind), id, s.config().String(kind.hashKey()), password)
	if err != nil {
		return storeError(err)
	}
	return credentialError(s.store.PutCredential(ctx, c, when), id)
}

// kept refuses the calls on credentials that no active plugin keeps.
func (s *Service) kept(ctx context.Context, kind CredentialKind) error {
	all, err := s.local.Plugins(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Name == string(kind) && p.Active {
			return nil
		}
	}
	return failOn(UnknownPlugin, string(kind), "the plugin is not active")
}

func credentialError(err error, id string) error {
	switch {
	case errors.Is(err, raftstore.ErrExists):
		return failOn(CredentialExists, id, "exists")
	case errors.Is(err, raftstore.ErrNotFound):
		return failOn(CredentialUnknown, id, "no such credential")
	}
	return storeError(err)
}
