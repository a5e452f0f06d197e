package raftstore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
)

// sealer keeps secrets that have to be read again, such as those of
// applications, readable with the node's key alone: a copy of the log or of a
// snapshot does not give them away.
type sealer struct {
	key  []byte
	aead cipher.AEAD
}

const sealKeySize = 32

func newSealKey() []byte {
	key := make([]byte, sealKeySize)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	return key
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) != sealKeySize {
		return nil, fmt.Errorf("key of %d bytes, want %d", len(key), sealKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{key: key, aead: aead}, nil
}

// seal encrypts a secret that belongs to the row owner; it can be opened for
// that row only.
func (s *sealer) seal(secret []byte, owner string) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce) // never fails, as above
	return s.aead.Seal(nonce, nonce, secret, []byte(owner))
}

func (s *sealer) open(sealed []byte, owner string) ([]byte, error) {
	if len(sealed) < s.aead.NonceSize() {
		return nil, errors.New("sealed value is too short")
	}
	n := s.aead.NonceSize()
	b, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(owner))
	if err != nil {
		return nil, errors.New("sealed with another key")
	}
	return b, nil
}
