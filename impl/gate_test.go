package impl

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

func TestGate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	release, entered := make(chan struct{}), make(chan struct{}, 16)
	g := NewGate(4)
	server := &http.Server{ConnState: g.ConnState, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/busy" {
			entered <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "ok") // a client that is gone cannot be told
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(g.Listener(l)) }()
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve ended with %v", err)
		}
		for end := time.Now().Add(5 * time.Second); g.Open() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d connections are left", g.Open())
			}
		}
	}()
	dial := func(text string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() }) // it may be closed already
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answered := func(c net.Conn, within time.Duration) bool {
		_ = c.SetReadDeadline(time.Now().Add(within)) // an open connection takes deadlines
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	}
	const ask = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	// Headers that never end make room for who asks, the oldest first.
	for range 20 {
		dial("GET / HTTP/1.1\r\nHost: x\r\nX: ")
	}
	for range 6 {
		if !answered(dial(ask), 5*time.Second) {
			t.Fatal("a good client got no answer beside slow ones")
		}
	}
	if g.Evicted() < 20 || g.Open() > 4 {
		t.Errorf("%d made room, %d are open, want 20 or more and at most 4", g.Evicted(), g.Open())
	}
	// Connections that are being answered are left alone: a further one waits.
	for range 4 {
		dial("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n")
		<-entered
	}
	late := dial(ask)
	if answered(late, 100*time.Millisecond) {
		t.Error("a connection above the limit was answered")
	}
	close(release)
	if !answered(late, 5*time.Second) {
		t.Error("the one that waited got no answer")
	}
}
