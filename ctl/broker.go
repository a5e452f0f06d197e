package ctl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	nodeapi "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/gen/v3"
)

func (s *session) statusCommand() *cobra.Command {
	return leaf("status", "Say whether the node runs", func(cmd *cobra.Command, _ []string) error {
		st, err := fetch[nodeapi.NodeStatus](s.node.NodeStatus(cmd.Context()))
		if err != nil {
			return err
		}
		if s.json {
			return printJSON(cmd.OutOrStdout(), st.Raw)
		}
		v := st.Value
		uptime := time.Duration(v.UptimeSeconds) * time.Second
		fmt.Fprintf(cmd.OutOrStdout(), "Node %s is started\nlacewing %s is running for %s (APIs of EMQ %s)\n", v.Node, v.Version, uptime, v.Compatible)
		p := s.printer(cmd, "LISTENER", "ADDRESS")
		for _, l := range v.Listeners {
			if err := p.row(l, l.Name, l.Address); err != nil {
				return err
			}
		}
		return p.end()
	})
}

func (s *session) brokerCommand() *cobra.Command {
	c := leaf("broker [stats|metrics]", "Describe the nodes, or show their gauges or counters", func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return s.brokers(cmd)
		}
		name, err := s.nodeName(cmd.Context())
		if err != nil {
			return err
		}
		switch args[0] {
		case "stats":
			return s.figures(cmd)(s.v3.LookupNodeStats(cmd.Context(), name))
		case "metrics":
			return s.figures(cmd)(s.v3.ListNodeMetrics(cmd.Context(), name))
		}
		return fmt.Errorf("%q is neither stats nor metrics", args[0])
	})
	c.ValidArgs = []string{"stats", "metrics"}
	return c
}

func (s *session) brokers(cmd *cobra.Command) error {
	rows, err := fetch[[]map[string]any](s.v3.ListBrokers(cmd.Context()))
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(cmd.OutOrStdout(), rows.Raw)
	}
	p := s.printer(cmd, "NODE", "STATUS", "RELEASE", "UPTIME", "TIME", "DESCRIPTION")
	for _, r := range rows.Value {
		if err := p.row(r, text(r["node"]), text(r["node_status"]), text(r["version"]), text(r["uptime"]), text(r["datetime"]), text(r["sysdescr"])); err != nil {
			return err
		}
	}
	return p.end()
}

// figures prints an object of numbers, sorted by name.
func (s *session) figures(cmd *cobra.Command) func(*http.Response, error) error {
	return func(resp *http.Response, err error) error {
		m, err := fetch[map[string]json.Number](resp, err)
		if err != nil {
			return err
		}
		if s.json {
			return printJSON(cmd.OutOrStdout(), m.Raw)
		}
		p := s.printer(cmd, "NAME", "VALUE")
		for _, name := range slices.Sorted(maps.Keys(m.Value)) {
			if err := p.row(nil, name, m.Value[name]); err != nil {
				return err
			}
		}
		return p.end()
	}
}

// text shows a value of an answer; what is absent there is a dash.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case json.Marshaler:
		raw, err := v.MarshalJSON()
		if err != nil {
			return "-"
		}
		return text(strings.Trim(string(raw), `"`))
	case string:
		if v == "undefined" || v == "" {
			return "-"
		}
		return v
	}
	return fmt.Sprint(v)
}

// pageSize is how many rows are asked for at a time.
const pageSize = 1000

// paged prints the rows of a list, as many as limit says (0: all). get asks for one
// page.
func paged[Row any](s *session, p *printer, limit int, get func(page, size int) (rows []Row, total int, err error), show func(Row) error) error {
	for page, shown := 1, 0; ; page++ {
		rows, total, err := get(page, pageSize)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := show(r); err != nil {
				return err
			}
			if shown++; shown == limit {
				return p.end()
			}
		}
		if len(rows) == 0 || shown >= total {
			return p.end()
		}
	}
}

// limitFlag adds --limit to a list.
func limitFlag(c *cobra.Command, limit *int) *cobra.Command {
	c.Flags().IntVarP(limit, "limit", "n", 0, "most rows to print; 0 is all")
	return c
}

func (s *session) listenersCommand() *cobra.Command {
	return leaf("listeners", "List the open listeners", func(cmd *cobra.Command, _ []string) error {
		all, err := fetch[[]v3.NodeListeners](s.v3.ListListeners(cmd.Context()))
		if err != nil {
			return err
		}
		p := s.printer(cmd, "NODE", "PROTOCOL", "LISTEN ON", "CONNECTIONS", "MOST", "ACCEPTORS", "ENDED")
		for _, n := range all.Value {
			for _, l := range n.Listeners {
				ended := text(l.ShutdownCount)
				if ended == "[]" {
					ended = "-"
				}
				if err := p.row(l, n.Node, l.Protocol, l.ListenOn, l.CurrentConns, l.MaxConns, l.Acceptors, ended); err != nil {
					return err
				}
			}
		}
		return p.end()
	})
}

func (s *session) alarmsCommand() *cobra.Command {
	return leaf("alarms", "List the alarms that are raised", func(cmd *cobra.Command, _ []string) error {
		all, err := fetch[[]v3.NodeAlarms](s.v3.ListAllAlarms(cmd.Context()))
		if err != nil {
			return err
		}
		p := s.printer(cmd, "NODE", "ALARM", "SEVERITY", "SINCE", "SUMMARY")
		for _, n := range all.Value {
			for _, a := range n.Alarms {
				if err := p.row(a, n.Node, a.Id, a.Severity, a.Timestamp, cmp.Or(a.Summary, a.Title)); err != nil {
					return err
				}
			}
		}
		return p.end()
	})
}

func (s *session) publishCommand() *cobra.Command {
	var qos int
	var retain bool
	var from string
	c := leaf("publish <topic> [payload]", "Publish a message", func(cmd *cobra.Command, args []string) error {
		payload := ""
		if len(args) > 1 {
			payload = args[1]
		}
		if err := do(s.v3.MqttPublish(cmd.Context(), v3.PublishBody{Topic: &args[0], Payload: &payload, Qos: &qos, Retain: &retain, ClientId: &from})); err != nil {
			return err
		}
		return s.say(cmd, "published to %s", args[0])
	})
	c.Flags().IntVarP(&qos, "qos", "q", 0, "QoS, 0 to 2")
	c.Flags().BoolVarP(&retain, "retain", "r", false, "retain the message")
	c.Flags().StringVar(&from, "from", "ctl", "name of the sender")
	return c
}

// onNode calls f with the name of the node that answers.
func (s *session) onNode(ctx context.Context, f func(name string) error) error {
	name, err := s.nodeName(ctx)
	if err != nil {
		return err
	}
	return f(name)
}
