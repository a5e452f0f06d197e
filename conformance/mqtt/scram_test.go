package mqtt

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// scram is the client's side of one SCRAM-SHA-256 exchange (RFC 5802, RFC
// 7677), with no channel binding.
type scram struct {
	user, pass string
	nonce      string
	bare       string // client-first-message-bare
	server     []byte // the signature that the server must show
}

const scramMethod = "SCRAM-SHA-256"

// first is the client-first message.
func (s *scram) first() string {
	s.nonce = unique()
	s.bare = "n=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s.user) + ",r=" + s.nonce
	return "n,," + s.bare
}

// final answers the server-first message.
func (s *scram) final(challenge string) (string, error) {
	field := map[string]string{}
	for _, f := range strings.Split(challenge, ",") {
		if k, v, ok := strings.Cut(f, "="); ok {
			field[k] = v
		}
	}
	salt, err := base64.StdEncoding.DecodeString(field["s"])
	if err != nil || len(salt) == 0 {
		return "", fmt.Errorf("server-first message %q has no salt", challenge)
	}
	rounds, err := strconv.Atoi(field["i"])
	if err != nil || rounds < 4096 {
		return "", fmt.Errorf("server-first message %q: iteration count below 4096", challenge)
	}
	if !strings.HasPrefix(field["r"], s.nonce) || len(field["r"]) <= len(s.nonce) {
		return "", fmt.Errorf("server-first message %q does not extend the nonce %q", challenge, s.nonce)
	}
	salted, err := pbkdf2.Key(sha256.New, s.pass, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	clientKey := mac(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	withoutProof := "c=" + base64.StdEncoding.EncodeToString([]byte("n,,")) + ",r=" + field["r"]
	message := s.bare + "," + challenge + "," + withoutProof
	proof := mac(stored[:], message)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	s.server = mac(mac(salted, "Server Key"), message)
	return withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// verify checks the server-final message.
func (s *scram) verify(final string) error {
	if want := "v=" + base64.StdEncoding.EncodeToString(s.server); final != want {
		return fmt.Errorf("server-final message %q, want %q", final, want)
	}
	return nil
}
