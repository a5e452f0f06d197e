package raftstore

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/bcrypt"
)

// passwordCost makes a check take some 50 ms.
const passwordCost = 10

// HashPassword returns the salted hash that is kept of an admin user's
// password. Passwords of any length count whole: bcrypt itself reads 72 bytes,
// so it is given a digest.
func HashPassword(password string) (Hash, error) {
	h, err := bcrypt.GenerateFromPassword(digest(password), passwordCost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return Hash(h), nil
}

// CheckPassword reports whether hash is the hash of password.
func CheckPassword(hash Hash, password string) bool {
	return bcrypt.CompareHashAndPassword([]byte(hash), digest(password)) == nil
}

// digest is text: bcrypt ends at a zero byte.
func digest(password string) []byte {
	sum := sha256.Sum256([]byte(password))
	return base64.StdEncoding.AppendEncode(nil, sum[:])
}

// Credential is the password of an MQTT client or user, kept by a built-in
// authentication plugin.
type Credential struct {
	Kind string `json:"kind"` // the plugin: "auth_clientid", "auth_username"
	ID   string `json:"id"`
	Algo string `json:"algo"` // md5, sha, sha256
	Salt []byte `json:"salt"`
	Hash Hash   `json:"hash"` // lower-case hex of the digest of salt and password
	// Scram checks the same password by SCRAM-SHA-256, with the same salt; nil in
	// credentials that were made without it.
	Scram *Scram `json:"scram,omitempty"`
}

// ScramIterations is how often a password is hashed for SCRAM: the least that RFC
// 7677 allows.
const ScramIterations = 4096

// Scram is what a server of SCRAM-SHA-256 keeps of a password (RFC 5802, section 3).
type Scram struct {
	Iterations int    `json:"i"`
	StoredKey  []byte `json:"stored"`
	ServerKey  []byte `json:"server"`
}

func newScram(password string, salt []byte) (*Scram, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, ScramIterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("hash password for SCRAM: %w", err)
	}
	key := func(name string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(name))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(key("Client Key"))
	return &Scram{Iterations: ScramIterations, StoredKey: stored[:], ServerKey: key("Server Key")}, nil
}

// NewCredential hashes a password with a new salt. Algo is plain, md5, sha or
// sha256; plain is kept as sha256.
func NewCredential(kind, id, algo, password string) (Credential, error) {
	if algo == "plain" {
		algo = "sha256"
	}
	c := Credential{Kind: kind, ID: id, Algo: algo, Salt: make([]byte, 16)}
	rand.Read(c.Salt) // never fails: crypto/rand ends the program instead
	var ok bool
	if c.Hash, ok = c.digest(password); !ok {
		return Credential{}, invalid("password hash %q is none of plain, md5, sha, sha256", algo)
	}
	var err error
	if c.Scram, err = newScram(password, c.Salt); err != nil {
		return Credential{}, err
	}
	return c, nil
}

// Check reports whether password is the credential's, in constant time.
func (c Credential) Check(password string) bool {
	h, ok := c.digest(password)
	return ok && equalSecrets(string(h), string(c.Hash))
}

func (c Credential) digest(password string) (Hash, bool) {
	salted := append(append([]byte(nil), c.Salt...), password...)
	var sum []byte
	switch c.Algo {
	case "md5":
		s := md5.Sum(salted)
		sum = s[:]
	case "sha":
		s := sha1.Sum(salted)
		sum = s[:]
	case "sha256":
		s := sha256.Sum256(salted)
		sum = s[:]
	default:
		return "", false
	}
	return Hash(hex.EncodeToString(sum)), true
}

func equalSecrets(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
