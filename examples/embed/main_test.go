package main

import (
	"bufio"
	"context"
	"io"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func TestServe(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, w, "127.0.0.1:0"); w.Close() }()
	lines := bufio.NewScanner(r)
	next := func() string {
		if !lines.Scan() {
			t.Fatalf("the output ended: %v", lines.Err())
		}
		return lines.Text()
	}
	address := next()
	if got, want := next(), "hello: from inside"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("embed"))
	wait := func(what string, token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatalf("%s: %v", what, token.Error())
		}
	}
	wait("connect", client.Connect())
	// The line is printed while the message is handled, so it has to be read before the acknowledgement can come.
	acknowledged := client.Publish("from/client", 1, false, "hi")
	if got, want := next(), "from/client: hi"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	wait("publish", acknowledged)
	client.Disconnect(100)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
}
