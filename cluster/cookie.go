package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// cookieFile is the file, in the data directory, of the cookie of a node that was
// given none.
const cookieFile = "cookie"

// ErrNoCookie is a cluster port that others can reach without a configured
// cookie.
var ErrNoCookie = errors.New("a cluster port off loopback needs a cookie")

// Cookie returns the configured cookie, or for an address on loopback the one of
// the data directory, which is made when it is not there. ErrNoCookie for
// another address without a configured one.
func Cookie(configured, dir, listen string) ([]byte, error) {
	if configured != "" {
		return []byte(configured), nil
	}
	if !onLoopback(listen) {
		return nil, ErrNoCookie
	}
	name := filepath.Join(dir, cookieFile)
	b, err := os.ReadFile(name)
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return []byte(strings.TrimSpace(string(b))), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the cookie: %w", err)
	}
	random := make([]byte, 32)
	rand.Read(random) // never fails: crypto/rand ends the program instead
	cookie := hex.EncodeToString(random)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("write the cookie: %w", err)
	}
	if err := os.WriteFile(name+".new", []byte(cookie+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write the cookie: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return nil, fmt.Errorf("write the cookie: %w", err)
	}
	return []byte(cookie), nil
}

// onLoopback reports whether an address to listen on can be reached from this
// machine alone.
func onLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	ips, err := net.LookupIP(host)
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, ip := range ips {
		if !ip.IsLoopback() {
			return false
		}
	}
	return true
}
