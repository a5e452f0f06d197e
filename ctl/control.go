package ctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacewing-mqtt/lacewing/config"
	nodeapi "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/node"
)

func tableLookup(key string) (config.Key, string, bool) { return node.Table().Lookup(key) }

func (s *session) reload(cmd *cobra.Command, what ...nodeapi.ReloadParamsWhat) error {
	a, err := fetch[nodeapi.Reloaded](s.node.Reload(cmd.Context(), &nodeapi.ReloadParams{What: &what}))
	if err != nil {
		return err
	}
	return s.say(cmd, "read again: %s", strings.Join(a.Value.Reloaded, ", "))
}

func (s *session) aclCommand() *cobra.Command {
	return group("acl", "Access rules",
		leaf("reload", "Read the ACL file again", func(cmd *cobra.Command, _ []string) error {
			return s.reload(cmd, nodeapi.Acl)
		}),
		leaf("clean <clientid> <topic>", "Forget the remembered decision on a topic of a client", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.CleanAclCache(cmd.Context(), args[0], args[1])); err != nil {
				return err
			}
			return s.say(cmd, "decision on %s for %s is forgotten", args[1], args[0])
		}),
	)
}

func (s *session) reloadCommand() *cobra.Command {
	return leaf("reload [acl|certificates|configuration]", "Read files again: access rules and certificates, or what is named", func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return s.reload(cmd, nodeapi.Acl, nodeapi.Certificates)
		}
		return s.reload(cmd, nodeapi.ReloadParamsWhat(args[0]))
	})
}

func (s *session) logCommand() *cobra.Command {
	return group("log", "Logging",
		leaf("level [level]", "Show or set the level below which nothing is logged: "+strings.Join(config.LogLevels, ", "), func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				a, err := fetch[[]nodeapi.EffectiveConfig](s.node.EffectiveConfigs(cmd.Context()))
				if err != nil {
					return err
				}
				for _, r := range a.Value {
					if r.Key == "log.level" {
						_, err := fmt.Fprintln(cmd.OutOrStdout(), r.Value)
						return err
					}
				}
				return errors.New("the node has no key log.level")
			}
			return s.onNode(cmd.Context(), func(name string) error {
				if err := do(s.v3.UpdateNodeConfig(cmd.Context(), name, "emqx", v3.ConfigChange{Key: "log.level", Value: args[0]})); err != nil {
					return fmt.Errorf("level %s: %w", args[0], err)
				}
				return s.say(cmd, "log level is %s", args[0])
			})
		}),
	)
}

func (s *session) traceCommand() *cobra.Command {
	var seconds int
	run := func(params func(arg string) *nodeapi.TraceParams) func(cmd *cobra.Command, args []string) error {
		return func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			p := params(args[0])
			p.Seconds = &seconds
			lines, err := stream(s.node.Trace(ctx, p))
			if err != nil {
				return err
			}
			defer lines.Close() // it is only read
			err = s.traceLines(cmd.OutOrStdout(), lines)
			if ctx.Err() != nil {
				return nil // stopped by the operator
			}
			return err
		}
	}
	c := group("trace", "Watch packets as they pass, until interrupted",
		leaf("client <clientid>", "Packets of a client", run(func(a string) *nodeapi.TraceParams { return &nodeapi.TraceParams{ClientId: &a} })),
		leaf("topic <filter>", "Publications to topics", run(func(a string) *nodeapi.TraceParams { return &nodeapi.TraceParams{Topic: &a} })),
	)
	c.PersistentFlags().IntVar(&seconds, "seconds", 600, "longest time")
	return c
}

func (s *session) traceLines(out io.Writer, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if s.json {
			if _, err := fmt.Fprintln(out, lines.Text()); err != nil {
				return err
			}
			continue
		}
		var p nodeapi.TracedPacket
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("answer of the node: %w", err)
		}
		if p.Missed != nil {
			if _, err := fmt.Fprintf(out, "(%d packets not shown)\n", *p.Missed); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(out, clean(tracedLine(p))); err != nil {
			return err
		}
	}
	return lines.Err()
}

func tracedLine(p nodeapi.TracedPacket) string {
	arrow := "->"
	if p.Direction == nodeapi.Out {
		arrow = "<-"
	}
	line := fmt.Sprintf("%s %s %s %s", p.At.Local().Format("15:04:05.000"), p.ClientId, arrow, p.Type)
	if p.Topic != nil {
		line += " " + *p.Topic
	}
	if p.PacketId != nil {
		line += fmt.Sprintf(" id=%d", *p.PacketId)
	}
	if p.Qos != nil {
		line += fmt.Sprintf(" qos=%d", *p.Qos)
	}
	if p.Retain != nil && *p.Retain {
		line += " retain"
	}
	if p.Dup != nil && *p.Dup {
		line += " dup"
	}
	if p.Size != nil {
		line += fmt.Sprintf(" %d bytes", *p.Size)
	}
	if p.Code != nil {
		line += fmt.Sprintf(" code=0x%02X", *p.Code)
	}
	return line
}

func (s *session) vmCommand() *cobra.Command {
	var seconds, debug int
	var file string
	profile := leaf("profile <cpu|heap|allocs|goroutine|block|mutex|threadcreate>", "Take a profile", func(cmd *cobra.Command, args []string) error {
		body, err := stream(s.node.VmProfile(cmd.Context(), nodeapi.VmProfileParamsName(args[0]), &nodeapi.VmProfileParams{Seconds: &seconds, Debug: &debug}))
		if err != nil {
			return err
		}
		defer body.Close() // it is only read
		if file == "-" {
			_, err := io.Copy(cmd.OutOrStdout(), body)
			return err
		}
		name := file
		if name == "" {
			name = args[0] + ".pprof"
		}
		if err := saveTo(name, body); err != nil {
			return err
		}
		return s.say(cmd, "written to %s", name)
	})
	profile.Flags().IntVar(&seconds, "seconds", 10, "length of a processor profile")
	profile.Flags().IntVar(&debug, "debug", 0, "0 for go tool pprof, 1 or 2 for text")
	profile.Flags().StringVarP(&file, "output", "o", "", "`FILE` to write, - for standard output")
	c := leaf("vm", "Memory, goroutines and scheduler of the node", func(cmd *cobra.Command, _ []string) error {
		a, err := fetch[nodeapi.VM](s.node.Vm(cmd.Context()))
		if err != nil {
			return err
		}
		if s.json {
			return printJSON(cmd.OutOrStdout(), a.Raw)
		}
		m, sch := a.Value.Memory, a.Value.Scheduler
		p := s.printer(cmd)
		for _, r := range []struct {
			name  string
			value any
		}{
			{"memory/process", m.Process}, {"memory/used", m.Used}, {"memory/heap", m.Heap}, {"memory/stacks", m.Stacks},
			{"memory/released", m.Released}, {"memory/total", m.Total}, {"memory/objects", m.Objects},
			{"gc/collections", m.Collections}, {"gc/next", m.NextCollect}, {"gc/pauses", seconds64(m.PauseSeconds)},
			{"goroutines", sch.Goroutines}, {"threads", sch.Threads}, {"processors", sch.Processors},
			{"latency/p50", seconds64(sch.LatencyP50Seconds)}, {"latency/p99", seconds64(sch.LatencyP99Seconds)},
		} {
			if err := p.row(nil, r.name, r.value); err != nil {
				return err
			}
		}
		return p.end()
	})
	c.AddCommand(profile, leaf("gc", "Collect garbage now", func(cmd *cobra.Command, _ []string) error {
		a, err := fetch[nodeapi.Collected](s.node.VmCollect(cmd.Context()))
		if err != nil {
			return err
		}
		return s.say(cmd, "%d bytes freed", a.Value.FreedBytes)
	}))
	return c
}

func seconds64(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (s *session) retainerCommand() *cobra.Command {
	var limit int
	get := func(ctx context.Context, offset, size int) (nodeapi.RetainedPage, error) {
		a, err := fetch[nodeapi.RetainedPage](s.node.ListRetained(ctx, &nodeapi.ListRetainedParams{Offset: &offset, Limit: &size}))
		return a.Value, err
	}
	return group("retainer", "Retained messages",
		leaf("info", "Count them", func(cmd *cobra.Command, _ []string) error {
			page, err := get(cmd.Context(), 0, 1)
			if err != nil {
				return err
			}
			if s.json {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "{\"total\": %d}\n", page.Total)
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "retained/total: %d\n", page.Total)
			return err
		}),
		limitFlag(leaf("topics", "List their topics", func(cmd *cobra.Command, _ []string) error {
			p := s.printer(cmd, "TOPIC", "QOS", "BYTES", "FROM", "AT")
			return paged(s, p, limit, func(page, size int) ([]nodeapi.RetainedMessage, int, error) {
				a, err := get(cmd.Context(), (page-1)*size, size)
				return a.Items, a.Total, err
			}, func(r nodeapi.RetainedMessage) error {
				return p.row(r, r.Topic, r.Qos, r.Size, text(r.From), r.At.Local().Format("2006-01-02 15:04:05"))
			})
		}), &limit),
		leaf("clean [filter]", "Forget them: all, or those whose topics match", func(cmd *cobra.Command, args []string) error {
			filter := "#"
			if len(args) > 0 {
				filter = args[0]
			}
			a, err := fetch[nodeapi.Counted](s.node.CleanRetained(cmd.Context(), &nodeapi.CleanRetainedParams{Filter: filter}))
			if err != nil {
				return err
			}
			return s.say(cmd, "%d messages forgotten", a.Value.Count)
		}),
	)
}

func (s *session) backupCommand() *cobra.Command {
	return leaf("backup <file>", "Write all metadata (users, applications, bans, configuration, credentials) to a file", func(cmd *cobra.Command, args []string) error {
		body, err := stream(s.node.Backup(cmd.Context()))
		if err != nil {
			return err
		}
		defer body.Close() // it is only read
		if err := saveTo(args[0], body); err != nil {
			return err
		}
		return s.say(cmd, "metadata written to %s; it holds secrets", args[0])
	})
}

func (s *session) restoreCommand() *cobra.Command {
	return leaf("restore <file>", "Replace all metadata by that of a backup", func(cmd *cobra.Command, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		defer f.Close() // it is only read
		if err := do(s.node.RestoreWithBody(cmd.Context(), "application/octet-stream", f)); err != nil {
			return err
		}
		return s.say(cmd, "metadata is that of %s", args[0])
	})
}

// saveTo writes a file for the caller alone, whole or not at all.
func saveTo(name string, from io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-"+strconv.Itoa(os.Getpid())+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = io.Copy(f, from)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
