package node_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacewing-mqtt/lacewing/node"
)

// TestClusterPort starts nodes whose cluster port is not as it should be: each is
// refused with one line, and a node alone needs nothing.
func TestClusterPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		name     string
		settings map[string]string
		want     string
		code     int
	}{
		{"off loopback without a cookie", map[string]string{"cluster.listen": "0.0.0.0:0"}, "node.cookie is not set", node.ExitConfig},
		{"every address by a port alone", map[string]string{"cluster.listen": "0"}, "node.cookie is not set", node.ExitConfig},
		{"in use", map[string]string{"cluster.listen": taken.Addr().String()}, "listener cluster: " + taken.Addr().String() + " is in use by another program", node.ExitListen},
		{"half of the TLS files", map[string]string{"cluster.tls.keyfile": "x.pem"}, "all three", node.ExitConfig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tryStart(t, tc.settings)
			var e *node.StartError
			if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want a line with %q and code %d", err, tc.want, tc.code)
			}
		})
	}
	dir := filepath.Join(t.TempDir(), "data")
	start(t, map[string]string{"node.data_dir": dir})
	if info, err := os.Stat(filepath.Join(dir, "cookie")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the cookie of a node alone: %v, %v", info, err)
	}
	dir = filepath.Join(t.TempDir(), "data")
	start(t, map[string]string{"node.data_dir": dir, "cluster.listen": "off"})
	if _, err := os.Stat(filepath.Join(dir, "cookie")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a node without a cluster port has a cookie: %v", err)
	}
}
