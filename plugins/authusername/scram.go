package authusername

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// Method is the name of the authentication method, as MQTT 5.0 carries it.
const Method = "SCRAM-SHA-256"

// scram is the server of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding.
type scram struct{ store *raftstore.Store }

// Begin implements engine.AuthMethod.
func (s scram) Begin(r *engine.ConnectRequest) engine.AuthExchange {
	return &exchange{store: s.store, connect: r.Username, hasConnect: r.HasUsername}
}

// exchange is one SCRAM conversation: client-first, server-first, client-final,
// server-final.
type exchange struct {
	store      *raftstore.Store
	connect    string // user name of CONNECT, which has to be the same where it is given
	hasConnect bool

	step       int
	user       string
	known      bool
	credential raftstore.Credential
	gs2        string // header of the first message, echoed in the last one
	nonce      string
	transcript string // of the messages that the proof is over, without the last
}

// maxMessage bounds a message of the client.
const maxMessage = 4096

var failed = engine.AuthStep{Code: packet.NotAuthorized}

// Step implements engine.AuthExchange.
func (e *exchange) Step(_ context.Context, data []byte) engine.AuthStep {
	if len(data) > maxMessage {
		return failed
	}
	e.step++
	switch {
	case e.step == 1 && data == nil:
		// The client waits for the server to begin: SCRAM begins with the client.
		e.step = 0
		return engine.AuthStep{Code: packet.ContinueAuthentication}
	case e.step == 1:
		return e.first(string(data))
	case e.step == 2:
		return e.final(string(data))
	}
	return failed
}

// first takes "n,,n=user,r=nonce".
func (e *exchange) first(text string) engine.AuthStep {
	parts := strings.SplitN(text, ",", 3)
	if len(parts) != 3 || parts[0] != "n" && parts[0] != "y" || parts[1] != "" && !strings.HasPrefix(parts[1], "a=") {
		return failed // no channel binding here, and nothing else is SCRAM
	}
	e.gs2 = parts[0] + "," + parts[1] + ","
	bare := parts[2]
	fields := strings.Split(bare, ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !strings.HasPrefix(fields[1], "r=") || len(fields[1]) < 10 {
		return failed
	}
	user, ok := unescape(fields[0][2:])
	if !ok || user == "" || e.hasConnect && e.connect != user {
		return failed
	}
	e.user = user
	c, ok := e.store.View().Credential(Kind, user)
	e.known = ok && c.Scram != nil
	if e.known {
		e.credential = c
	} else {
		e.credential = decoy(user)
	}
	var fresh [18]byte
	rand.Read(fresh[:]) // never fails: crypto/rand ends the program instead
	e.nonce = fields[1][2:] + base64.RawStdEncoding.EncodeToString(fresh[:])
	answer := fmt.Sprintf("r=%s,s=%s,i=%d", e.nonce, base64.StdEncoding.EncodeToString(e.credential.Salt), e.credential.Scram.Iterations)
	e.transcript = bare + "," + answer
	return engine.AuthStep{Code: packet.ContinueAuthentication, Data: []byte(answer)}
}

// final takes "c=biws,r=nonce,p=proof" and answers "v=signature".
func (e *exchange) final(text string) engine.AuthStep {
	i := strings.LastIndex(text, ",p=")
	if i < 0 {
		return failed
	}
	without, proofText := text[:i], text[i+3:]
	fields := strings.Split(without, ",")
	if len(fields) < 2 || fields[0] != "c="+base64.StdEncoding.EncodeToString([]byte(e.gs2)) || fields[1] != "r="+e.nonce {
		return failed
	}
	proof, err := base64.StdEncoding.DecodeString(proofText)
	if err != nil || len(proof) != sha256.Size {
		return failed
	}
	message := e.transcript + "," + without
	signature := mac(e.credential.Scram.StoredKey, message)
	key := make([]byte, sha256.Size)
	subtle.XORBytes(key, proof, signature)
	stored := sha256.Sum256(key)
	if subtle.ConstantTimeCompare(stored[:], e.credential.Scram.StoredKey) != 1 || !e.known {
		return failed
	}
	return engine.AuthStep{
		Code:     packet.Success,
		Data:     []byte("v=" + base64.StdEncoding.EncodeToString(mac(e.credential.Scram.ServerKey, message))),
		Decision: engine.Decision{Result: engine.Allow, Username: e.user},
	}
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

// unescape reads a user name, in which =2C is a comma and =3D an equals sign.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '=')
		if i < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		switch {
		case strings.HasPrefix(s[i:], "=2C"):
			b.WriteByte(',')
		case strings.HasPrefix(s[i:], "=3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = s[i+3:]
	}
	return b.String(), true
}

// decoyKey makes the salts of users that do not exist.
var decoyKey = func() []byte {
	k := make([]byte, 32)
	rand.Read(k) // never fails: crypto/rand ends the program instead
	return k
}()

// decoy is a credential that nothing opens, with a salt that is always the same for
// a name: an asker does not learn whether the user exists.
func decoy(user string) raftstore.Credential {
	salt := mac(decoyKey, user)[:16]
	return raftstore.Credential{Salt: salt, Scram: &raftstore.Scram{
		Iterations: raftstore.ScramIterations, StoredKey: mac(decoyKey, "stored"+user), ServerKey: mac(decoyKey, "server"+user),
	}}
}
