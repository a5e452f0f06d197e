// Command lacewing is an MQTT broker with the management APIs of EMQ 2.3 and EMQ X
// 3.0. Without arguments it runs a node in the foreground.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	_ "time/tzdata" // local times in answers need no files of the system

	"github.com/spf13/cobra"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/ctl"
	"github.com/lacewing-mqtt/lacewing/node"
)

//go:embed VERSION
var versionFile string

func version() string { return strings.TrimSpace(versionFile) }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// usageError is a wrong command line.
type usageError struct{ error }

// run is the command without the process around it; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	root := rootCommand(stdout)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return node.ExitOK
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(stderr, "lacewing: "+line)
		}
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return node.ExitUsage
	}
	return node.ExitCode(err)
}

func rootCommand(stdout io.Writer) *cobra.Command {
	s := &starter{stdout: stdout}
	root := &cobra.Command{
		Use:   "lacewing",
		Short: "An MQTT broker with the management APIs of EMQ 2.3 and EMQ X 3.0",
		Long: `An MQTT broker with the management APIs of EMQ 2.3 and EMQ X 3.0.

Without a command a node runs in the foreground. Exit codes: 0 stopped in order, 1 failed,
2 wrong command line, 3 configuration, access rules or certificate refused, 4 address not
opened, 5 data directory not usable, 6 forced to stop.`,
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          s.run,

		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	start := &cobra.Command{Use: "start", Short: "Run a node in the foreground (the default)", Args: noArgs, RunE: s.run}
	s.flags(root)
	s.flags(start)
	root.AddCommand(start, versionCommand(stdout), configCommand(stdout), ctl.Command())
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		message += "; did you mean " + near[0] + "?"
	}
	return usageError{errors.New(message)}
}

func versionCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(stdout, "lacewing %s (APIs of EMQ %s; %s %s/%s)\n", version(), node.Compatible, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

func configCommand(stdout io.Writer) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Print what can be configured"}
	for _, sub := range []struct {
		name, short string
		print       func(*config.Table, io.Writer) error
	}{
		{"reference", "Print the reference of all keys (docs/config.md)", (*config.Table).Reference},
		{"example", "Print a configuration file with all keys and their defaults", (*config.Table).Example},
	} {
		c.AddCommand(&cobra.Command{
			Use: sub.name, Short: sub.short, Args: noArgs,
			RunE: func(*cobra.Command, []string) error { return sub.print(node.Table(), stdout) },
		})
	}
	return c
}

// starter runs a node with the flags of a command.
type starter struct {
	stdout  io.Writer
	file    string
	dataDir string
	set     []string
	attend  bool
}

func (s *starter) flags(c *cobra.Command) {
	c.Flags().StringVarP(&s.file, "config", "c", "", "configuration file (`FILE` of key = value lines)")
	c.Flags().StringVarP(&s.dataDir, "data-dir", "d", "", "data directory, the same as --set node.data_dir=`DIR`")
	c.Flags().StringArrayVarP(&s.set, "set", "s", nil, "set a key, over file and environment: `key=value`")
	c.Flags().BoolVar(&s.attend, "stop-on-eof", false, "stop in order when standard input ends, for programs that start a node")
}

func (s *starter) run(*cobra.Command, []string) error {
	set := s.set
	if s.dataDir != "" {
		set = append(set[:len(set):len(set)], "node.data_dir="+s.dataDir)
	}
	load := func() (*config.Config, error) {
		return config.Load(node.Table(), config.LoadOptions{File: s.file, Environ: os.Environ(), Set: set})
	}
	cfg, err := load()
	if err != nil {
		return &node.StartError{What: "configuration refused", Err: err, Code: node.ExitConfig}
	}
	ctx := context.Background()
	if s.attend {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		go func() {
			io.Copy(io.Discard, os.Stdin) // an error ends it too
			stop()
		}()
	}
	return supervise(ctx, node.Options{Config: cfg, Load: load, ConfigFile: s.file, Output: s.stdout, Release: version()})
}

// supervise runs a node until ctx, a signal or a fault ends it. SIGTERM and SIGINT stop in
// order, the second of them at once; SIGHUP reads access rules and certificates again.
func supervise(ctx context.Context, o node.Options) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	defer signal.Stop(signals)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hup := make(chan struct{}, 1)
	go func() {
		stopping := false
		for sig := range signals {
			switch {
			case sig == syscall.SIGHUP:
				select {
				case hup <- struct{}{}:
				default: // it will be read again
				}
			case stopping:
				fmt.Fprintln(os.Stderr, "lacewing: stopped at once by a second signal")
				os.Exit(node.ExitForced)
			default:
				stopping = true
				stop()
			}
		}
	}()
	n, err := node.Start(ctx, o)
	if err != nil {
		return err
	}
	return n.Supervise(ctx, hup)
}
