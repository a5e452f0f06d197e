// Embed is a program with the engine inside: an MQTT broker on one address that prints every message it routes and
// publishes one of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
)

func main() {
	address := flag.String("address", "127.0.0.1:1883", "where to listen")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, os.Stdout, *address); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// serve runs the broker until ctx ends. Its first line of output is the address that it listens on.
func serve(ctx context.Context, out io.Writer, address string) error {
	broker, err := engine.New(engine.Options{})
	if err != nil {
		return err
	}
	driver, err := transport.New(broker, transport.Options{})
	if err != nil {
		return err
	}
	socket, err := driver.Open(transport.ListenOptions{Address: address})
	if err != nil {
		return err
	}
	listener, err := broker.AddListener(engine.ListenerOptions{Name: "external", Protocol: "mqtt:tcp"})
	if err != nil {
		return err
	}
	broker.AddHooks("print", engine.Hooks{Publish: func(m *engine.Message) (bool, packet.ReasonCode) {
		if !m.Sys {
			fmt.Fprintf(out, "%s: %s\n", m.Topic, m.Payload)
		}
		return false, packet.Success
	}})
	if err := socket.Serve(listener); err != nil {
		return err
	}
	fmt.Fprintln(out, socket.Addr())
	if _, err := broker.Publish(&engine.Message{Topic: "hello", Payload: []byte("from inside")}); err != nil {
		return err
	}
	if err := broker.Run(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := broker.Close(last); err != nil {
		return err
	}
	return driver.Close(last)
}
