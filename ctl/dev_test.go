package ctl

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// A port that is taken is named before anything is started.
func TestDevPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", devHost+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	saved := devPorts
	defer func() { devPorts = saved }()
	devPorts[devMQTT].first = l.Addr().(*net.TCPAddr).Port
	d := &devCluster{dir: t.TempDir()}
	err = d.prepare(3, false, nil)
	want := fmt.Sprintf("port %d, MQTT of n1, cannot be had (", devPorts[devMQTT].first)
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "--free-ports") {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := d.prepare(3, true, nil); err != nil {
		t.Errorf("with free ports: %v", err)
	}
}
