package effects

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
)

// The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) over CONNECT and AUTH.
const (
	pAuthData   = 0x16
	scramMethod = "SCRAM-SHA-256"
	scramNonce  = "fyko-d2lbbFgONRv9qkxdawL"
)

// scramFirst sends the CONNECT with the first message of a user.
func scramFirst(d *device, user string) {
	first := "n,,n=" + user + ",r=" + scramNonce
	d.write(d.connectBytes(hello{v: 5, id: d.id, props: append(prop(pAuthMethod, text(scramMethod)), prop(pAuthData, text(first))...)}))
}

// scramFinal answers the AUTH of the broker and returns what comes back.
func scramFinal(d *device, user, password string) *packet {
	d.t.Helper()
	auth := d.want(tAuth)
	if auth.code != 0x18 {
		d.t.Fatalf("got %s, want AUTH 0x18", auth)
	}
	challenge := authData(d, auth.body[1:])
	field := map[string]string{}
	for _, f := range strings.Split(challenge, ",") {
		k, v, _ := strings.Cut(f, "=")
		field[k] = v
	}
	salt, err := base64.StdEncoding.DecodeString(field["s"])
	rounds, numErr := strconv.Atoi(field["i"])
	if err != nil || numErr != nil {
		d.t.Fatalf("bad challenge %q", challenge)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		d.t.Fatal(err)
	}
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	clientKey := mac(salted, "Client Key")
	stored := sha256.Sum256(clientKey)
	bare := "c=" + base64.StdEncoding.EncodeToString([]byte("n,,")) + ",r=" + field["r"]
	proof := mac(stored[:], "n="+user+",r="+scramNonce+","+challenge+","+bare)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	final := bare + ",p=" + base64.StdEncoding.EncodeToString(proof)
	d.write(frame(tAuth, 0, []byte{0x18}, d.props(prop(pAuthMethod, text(scramMethod)), prop(pAuthData, text(final)))))
	return d.read()
}

// authData finds the authentication data among the properties of an AUTH.
func authData(d *device, b []byte) string {
	d.t.Helper()
	_, k := binary.Uvarint(b)
	for b = b[k:]; len(b) > 3; {
		n := int(binary.BigEndian.Uint16(b[1:]))
		if b[0] == pAuthData {
			return string(b[3 : 3+n])
		}
		b = b[3+n:]
	}
	d.t.Fatal("AUTH without data")
	return ""
}
