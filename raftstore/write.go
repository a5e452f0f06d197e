package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Sizes of fields in bytes; longer ones are [ErrInvalid].
const (
	maxName  = 1024     // names and identifiers
	maxText  = 4096     // descriptions, tags, reasons
	maxValue = 64 << 10 // a value of the configuration
	maxPairs = 1024     // keys of a plugin's configuration
	maxWho   = 64 << 10 // a client identifier
)

func checkName(what, s string, most int) error {
	switch {
	case s == "":
		return invalid("%s is empty", what)
	case len(s) > most:
		return invalid("%s is longer than %d bytes", what, most)
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return invalid("%s is not text", what)
	}
	return nil
}

func checkText(what, s string, most int) error {
	if s == "" {
		return nil
	}
	return checkName(what, s, most)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// doTo has a command applied to a row that has to be there. Text that no row
// can be named finds none; JSON would turn it into another name.
func (s *Store) doTo(ctx context.Context, name string, k kind, body any) error {
	if !utf8.ValidString(name) {
		return ErrNotFound
	}
	return s.do(ctx, k, body)
}

// CreateUser makes an admin user. Errors: [ErrExists], [ErrLimit], [ErrInvalid]
// (an empty name or password).
func (s *Store) CreateUser(ctx context.Context, name, password, tags string) error {
	if err := firstOf(checkName("user name", name, maxName), checkName("password", password, maxText), checkText("tags", tags, maxText)); err != nil {
		return err
	}
	h, err := HashPassword(password)
	if err != nil {
		return err
	}
	return s.do(ctx, cmdCreateUser, createUser{User{Name: name, Hash: h, Tags: tags, Created: time.Now().Unix()}, s.limits.Users})
}

// UpdateUserTags replaces the tags of an admin user. Error: [ErrNotFound].
func (s *Store) UpdateUserTags(ctx context.Context, name, tags string) error {
	if err := checkText("tags", tags, maxText); err != nil {
		return err
	}
	return s.doTo(ctx, name, cmdUserTags, userTags{name, tags})
}

// SetUserPassword replaces the password of an admin user. Errors:
// [ErrNotFound], [ErrInvalid].
func (s *Store) SetUserPassword(ctx context.Context, name, password string) error {
	if err := checkName("password", password, maxText); err != nil {
		return err
	}
	h, err := HashPassword(password)
	if err != nil {
		return err
	}
	return s.doTo(ctx, name, cmdUserPassword, userPassword{name, h})
}

// DeleteUser deletes an admin user, whoever it is. Error: [ErrNotFound].
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.doTo(ctx, name, cmdDeleteUser, byName{name})
}

// CreateApplication makes an application from ID, Name, Desc, Status and
// Expired, and returns its secret, which is made when secret is empty. Errors:
// [ErrExists], [ErrLimit], [ErrInvalid].
func (s *Store) CreateApplication(ctx context.Context, a Application, secret string) (string, error) {
	if err := firstOf(checkName("application id", a.ID, maxName), checkApplication(a), checkText("secret", secret, maxText)); err != nil {
		return "", err
	}
	if secret == "" {
		var b [24]byte
		rand.Read(b[:]) // never fails: crypto/rand ends the program instead
		secret = base64.RawURLEncoding.EncodeToString(b[:])
	}
	seal, err := s.sealing(ctx)
	if err != nil {
		return "", err
	}
	a.Created = time.Now().Unix()
	a.Sealed = seal.seal([]byte(secret), a.ID)
	return secret, s.do(ctx, cmdCreateApplication, createApplication{a, s.limits.Applications})
}

// UpdateApplication replaces Name, Desc, Status and Expired of the application
// a.ID. Errors: [ErrNotFound], [ErrInvalid].
func (s *Store) UpdateApplication(ctx context.Context, a Application) error {
	if err := checkApplication(a); err != nil {
		return err
	}
	a.Created, a.Sealed = 0, nil
	return s.doTo(ctx, a.ID, cmdUpdateApplication, updateApplication{a})
}

func checkApplication(a Application) error {
	if a.Expired < 0 {
		return invalid("expired is before 1970")
	}
	return firstOf(checkText("name", a.Name, maxText), checkText("desc", a.Desc, maxText))
}

// DeleteApplication deletes an application. Error: [ErrNotFound].
func (s *Store) DeleteApplication(ctx context.Context, id string) error {
	return s.doTo(ctx, id, cmdDeleteApplication, byName{id})
}

// PutBan adds a ban, or replaces the one of the same As and Who. Errors:
// [ErrLimit], [ErrInvalid] (As is none of the kinds, Who is empty or no
// address).
func (s *Store) PutBan(ctx context.Context, b Ban) error {
	switch b.As {
	case BanClientID, BanUsername:
	case BanIPAddress:
		a, err := netip.ParseAddr(b.Who)
		if err != nil {
			return invalid("%q is no address", b.Who)
		}
		b.Who = addrText(a)
	default:
		return invalid("%q is none of client_id, username, ip_address", b.As)
	}
	if b.Until < 0 {
		return invalid("until is before 1970")
	}
	if err := firstOf(checkName("who", b.Who, maxWho), checkText("reason", b.Reason, maxText), checkText("by", b.By, maxText), checkText("desc", b.Desc, maxText)); err != nil {
		return err
	}
	return s.do(ctx, cmdPutBan, putBan{b, s.limits.Bans})
}

// DeleteBan lifts a ban. Error: [ErrNotFound].
func (s *Store) DeleteBan(ctx context.Context, as, who string) error {
	return s.doTo(ctx, as+who, cmdDeleteBan, deleteBan{as, canonicalWho(as, who)})
}

// SweepBans deletes the bans that have ended at a time. It writes nothing when
// there is none.
func (s *Store) SweepBans(ctx context.Context, now time.Time) error {
	if end, ok := s.View().NextBanEnd(); !ok || end.After(now) {
		return nil
	}
	return s.do(ctx, cmdSweepBans, sweepBans{now.Unix()})
}

// SetConfig sets a value of the configuration for a node, or with [Cluster]
// for all. The last write holds: a value for the cluster takes the place of
// what nodes had set for that key, by SetConfig or SetPluginConfig. Errors:
// [ErrLimit], [ErrInvalid].
func (s *Store) SetConfig(ctx context.Context, scope, key, value string) error {
	if err := firstOf(checkText("node", scope, maxName), checkName("key", key, maxName), checkText("value", value, maxValue)); err != nil {
		return err
	}
	return s.do(ctx, cmdSetConfig, setConfig{scope, key, value, s.limits.Overrides})
}

// DeleteConfig takes a value of the configuration back. Error: [ErrNotFound].
func (s *Store) DeleteConfig(ctx context.Context, scope, key string) error {
	return s.doTo(ctx, scope+key, cmdDeleteConfig, deleteConfig{scope, key})
}

// SetPluginState keeps whether a plugin is to be loaded on a node. Errors:
// [ErrLimit], [ErrInvalid].
func (s *Store) SetPluginState(ctx context.Context, node, plugin string, loaded bool) error {
	if err := firstOf(checkName("node", node, maxName), checkName("plugin", plugin, maxName)); err != nil {
		return err
	}
	return s.do(ctx, cmdPluginState, pluginState{node, plugin, loaded, s.limits.Plugins})
}

// SetPluginConfig replaces the whole configuration of a plugin on a node. Keys
// are all keys that the plugin knows: what the node had set for them by
// SetConfig goes, so that the new configuration holds. Errors: [ErrLimit],
// [ErrInvalid].
func (s *Store) SetPluginConfig(ctx context.Context, node, plugin string, pairs []Pair, keys []string) error {
	if err := firstOf(checkName("node", node, maxName), checkName("plugin", plugin, maxName)); err != nil {
		return err
	}
	if len(pairs) > maxPairs || len(keys) > maxPairs {
		return invalid("more than %d keys", maxPairs)
	}
	for _, p := range pairs {
		if err := firstOf(checkName("key", p.Key, maxName), checkText("value", p.Value, maxValue)); err != nil {
			return err
		}
	}
	return s.do(ctx, cmdPluginConfig, pluginConfig{node, plugin, pairs, keys, s.limits.Plugins})
}

// PutCredential keeps a credential, made by [NewCredential]. Errors:
// [ErrExists] and [ErrNotFound] as when asks for, [ErrLimit], [ErrInvalid].
func (s *Store) PutCredential(ctx context.Context, c Credential, when When) error {
	if err := firstOf(checkName("kind", c.Kind, maxName), checkName("identifier", c.ID, maxWho), checkName("hash", string(c.Hash), maxName)); err != nil {
		return err
	}
	return s.do(ctx, cmdPutCredential, putCredential{c, when, s.limits.Credentials})
}

// DeleteCredential deletes a credential. Error: [ErrNotFound].
func (s *Store) DeleteCredential(ctx context.Context, kind, id string) error {
	return s.doTo(ctx, kind+id, cmdDeleteCredential, deleteCredential{kind, id})
}
