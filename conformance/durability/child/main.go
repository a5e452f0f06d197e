// Command child is a node as the command lacewing runs it, with the seams through which the durability suite makes it fail: what
// the environment asks for is in seams.go. Arguments are pairs of --set and key=value.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/lacewing-mqtt/lacewing/node"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(node.ExitCode(err))
	}
}

func run(args []string) error {
	settings := map[string]string{}
	for len(args) >= 2 && args[0] == "--set" {
		key, value, _ := strings.Cut(args[1], "=")
		settings[key] = value
		args = args[2:]
	}
	if len(args) > 0 {
		return fmt.Errorf("unknown argument %q", args[0])
	}
	o := node.Options{Settings: settings}
	if err := seams(&o); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	n, err := node.Start(ctx, o)
	if err != nil {
		return err
	}
	return n.Supervise(ctx, nil)
}
