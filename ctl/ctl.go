// Package ctl is the command lacewing ctl: it asks a running node over its
// management APIs, through the control socket in the data directory or over HTTP, and
// prints tables or JSON. The names of the commands follow emqx_ctl.
package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacewing-mqtt/lacewing/config"
	nodeapi "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/node"
)

// onlyHelps marks commands that print their help and need no node.
const onlyHelps = "only helps"

// offline marks commands that work on a data directory that no node has.
const offline = "offline"

// session is one run of the command.
type session struct {
	dataDir string
	file    string
	url     string
	user    string
	json    bool

	v3   *v3.APIClient
	node *nodeapi.APIClient
	name string // of the node; see nodeName
}

// Command returns the command ctl with everything below it.
func Command() *cobra.Command {
	s := &session{}
	c := &cobra.Command{
		Use:   "ctl",
		Short: "Ask and control a running node",
		Long: `Ask and control a running node.

The node is found by the control socket in its data directory, which only its own account (or
root) may open; nothing else is needed then. Over HTTP give the address of the dashboard
listener and an admin user: --url http://10.0.0.1:18083 --user admin:password. A password that
is not in --user is taken from the variable LACEWING_PASSWORD.`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Annotations[onlyHelps] != "" || cmd.Annotations[offline] != "" {
				return nil
			}
			return s.connect()
		},
		Annotations: map[string]string{onlyHelps: "yes"},
		Args:        onlyCommands,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := c.PersistentFlags()
	f.StringVarP(&s.dataDir, "data-dir", "d", "", "data directory of the node (`DIR`)")
	f.StringVarP(&s.file, "config", "c", "", "configuration file that names the data directory (`FILE`)")
	f.StringVar(&s.url, "url", "", "dashboard listener of the node (`URL`)")
	f.StringVar(&s.user, "user", "", "admin user for --url (`NAME[:PASSWORD]`)")
	f.BoolVar(&s.json, "json", false, "print JSON")
	c.AddCommand(
		s.statusCommand(), s.clusterCommand(), s.brokerCommand(), s.clientsCommand(), s.sessionsCommand(), s.subscriptionsCommand(),
		s.routesCommand("routes"), s.routesCommand("topics"), s.publishCommand(),
		s.pluginsCommand(), s.listenersCommand(), s.configsCommand(), s.adminsCommand(), s.mgmtCommand(),
		s.usersCommand(), s.clientidCommand(), s.bannedCommand(), s.aclCommand(), s.alarmsCommand(),
		s.logCommand(), s.traceCommand(), s.vmCommand(), s.retainerCommand(), s.storeCommand(), s.backupCommand(), s.restoreCommand(), s.reloadCommand(),
		s.devCommand(),
	)
	return c
}

// connect makes the clients. Nothing is dialed yet.
func (s *session) connect() error {
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	base, edit := "http://node", func(context.Context, *http.Request) error { return nil }
	if s.url != "" {
		base = strings.TrimRight(s.url, "/")
		if !strings.HasPrefix(base, "http://") && !strings.HasPrefix(base, "https://") {
			return fmt.Errorf("--url %s does not begin with http:// or https://", s.url)
		}
		name, password, given := strings.Cut(s.user, ":")
		if !given {
			password = os.Getenv("LACEWING_PASSWORD")
		}
		if name == "" || password == "" {
			return errors.New("--url needs --user NAME:PASSWORD, or the password in LACEWING_PASSWORD")
		}
		edit = func(_ context.Context, r *http.Request) error { r.SetBasicAuth(name, password); return nil }
	} else {
		path, err := s.socket()
		if err != nil {
			return err
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			name, done, err := node.ShortSocket(path)
			if err != nil {
				return nil, err
			}
			defer done()
			return new(net.Dialer).DialContext(ctx, "unix", name)
		}
	}
	var err1, err2 error
	s.v3, err1 = v3.NewClient(base+"/api/v3", v3.WithHTTPClient(client), v3.WithRequestEditorFn(edit))
	s.node, err2 = nodeapi.NewClient(base+node.ControlPath, nodeapi.WithHTTPClient(client), nodeapi.WithRequestEditorFn(edit))
	return errors.Join(err1, err2)
}

// dir is the data directory: by flag, by configuration, by default.
func (s *session) dir() (string, error) {
	if s.dataDir != "" {
		return s.dataDir, nil
	}
	cfg, err := config.Load(node.Table(), config.LoadOptions{File: s.file, Environ: os.Environ()})
	if err != nil {
		return "", err
	}
	return cfg.String("node.data_dir"), nil
}

// socket is the path of the control socket.
func (s *session) socket() (string, error) {
	dir, err := s.dir()
	if err != nil {
		return "", err
	}
	path := dir + string(os.PathSeparator) + node.ControlSocket
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("no node runs on the data directory %s (no %s in it); name another with --data-dir, or use --url", dir, node.ControlSocket)
	} else if err != nil {
		return "", fmt.Errorf("control socket: %w", err)
	}
	return path, nil
}

// nodeName asks the node that answers for its name.
func (s *session) nodeName(ctx context.Context) (string, error) {
	if s.name == "" {
		st, err := fetch[nodeapi.NodeStatus](s.node.NodeStatus(ctx))
		if err != nil {
			return "", err
		}
		s.name = st.Value.Node
	}
	return s.name, nil
}

// group is a command that only has commands below it.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Annotations: map[string]string{onlyHelps: "yes"},
		Args:        onlyCommands,
		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(sub...)
	return c
}

// onlyCommands refuses what is no command below cmd.
func onlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown command %q; %s --help lists them", args[0], cmd.CommandPath())
	}
	return nil
}

// leaf is a command that takes exactly the arguments that its use names.
func leaf(use, short string, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	fields := strings.Fields(use)
	least, most := 0, len(fields)-1
	for _, f := range fields[1:] {
		if !strings.HasPrefix(f, "[") {
			least++
		}
	}
	return &cobra.Command{
		Use: use, Short: short, RunE: run,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < least || len(args) > most {
				return fmt.Errorf("usage: %s", cmd.UseLine())
			}
			return nil
		},
	}
}
