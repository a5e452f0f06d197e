package raftstore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// clusterKey is the key of sealed secrets, which all nodes need, sealed under the
// secret of the cluster: the log carries it to whoever is let in.
type clusterKey struct {
	ID     string `json:"id"` // of the key, not of what it is sealed under
	Sealed []byte `json:"sealed"`
}

// keyOwner binds a sealed key to its purpose.
const keyOwner = "lacewing cluster key"

func newWrap(secret []byte) (*sealer, error) {
	if len(secret) == 0 {
		return nil, errors.New("a cluster needs a secret")
	}
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(keyOwner)) // never fails
	return newSealer(h.Sum(nil))
}

func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("lacewing key id\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// sealing returns the sealer for new secrets. In a cluster that is the one of
// the cluster and no other: nobody else could open what this node sealed.
func (s *Store) sealing(ctx context.Context) (*sealer, error) {
	if s.net == nil {
		return s.dir.seal.Load(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.WriteWait)
	defer cancel()
	for {
		seal := s.dir.seal.Load()
		if s.fsm.view().key.ID == keyID(seal.key) {
			return seal, nil
		}
		if !pause(ctx, betweenTries) {
			return nil, fmt.Errorf("%w: the key of the cluster's secrets is not here yet", ErrNoLeader)
		}
		if s.isClosed() {
			return nil, ErrClosed
		}
	}
}

// keepKey takes the key of the cluster over as the log brings it, and as leader
// sees to it that the log has it under the present secret.
func (s *Store) keepKey(ctx context.Context) {
	said := ""
	for {
		changed := s.Watch(sealKeys)
		if err := s.matchKey(ctx); err != nil && ctx.Err() == nil {
			if err.Error() != said {
				s.log.Warn("metadata: the key of the cluster's secrets", "err", err)
			}
			said = err.Error()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(250 * time.Millisecond): // who leads may have changed
		}
	}
}

func (s *Store) matchKey(ctx context.Context) error {
	row, own := s.fsm.view().key, s.dir.seal.Load()
	if row.ID != "" {
		key, err := s.wrap.open(row.Sealed, keyOwner)
		switch {
		case err == nil && keyID(key) != keyID(own.key):
			seal, err := newSealer(key)
			if err != nil {
				return err
			}
			return s.dir.reseal(seal)
		case err == nil:
			return nil
		case row.ID != keyID(own.key):
			return fmt.Errorf("%w: it was kept under another cookie", err)
		}
	}
	// There is none yet, or the secret of the cluster has changed and this node has
	// the key.
	if !s.Leads() || !s.Sync(ctx) || s.fsm.view().key.ID != row.ID {
		return nil
	}
	err := s.do(ctx, cmdClusterKey, clusterKey{ID: keyID(own.key), Sealed: s.wrap.seal(own.key, keyOwner)})
	if errors.Is(err, ErrNoLeader) || errors.Is(err, ErrClosed) {
		return nil // whoever leads next does it
	}
	return err
}
