package ctl

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lacewing-mqtt/lacewing/gen/v3"
)

func (s *session) clientsCommand() *cobra.Command {
	var limit int
	head := []string{"CLIENT", "USER", "PEER", "PROTOCOL", "CLEAN", "KEEPALIVE", "CONNECTED", "NODE"}
	show := func(p *printer) func(v3.ConnectionRow) error {
		return func(r v3.ConnectionRow) error {
			return p.row(r, r.ClientId, text(r.Username), fmt.Sprintf("%s:%d", r.Ipaddress, r.Port),
				fmt.Sprintf("%s/%d", r.ProtoName, r.ProtoVer), r.CleanStart, r.Keepalive, r.ConnectedAt, r.Node)
		}
	}
	return group("clients", "Connected clients",
		limitFlag(leaf("list", "List the connected clients", func(cmd *cobra.Command, _ []string) error {
			p := s.printer(cmd, head...)
			return paged(s, p, limit, func(page, size int) ([]v3.ConnectionRow, int, error) {
				a, err := fetch[v3.ConnectionPage](s.v3.ListConnections(cmd.Context(), &v3.ListConnectionsParams{Page: &page, Limit: &size}))
				return a.Value.Items, a.Value.Meta.Count, err
			}, show(p))
		}), &limit),
		leaf("show <clientid>", "Show one client", func(cmd *cobra.Command, args []string) error {
			a, err := fetch[[]v3.ConnectionRow](s.v3.LookupConnections(cmd.Context(), args[0]))
			return s.one(cmd, a.Raw, len(a.Value), err, "no client "+args[0]+" is connected")
		}),
		leaf("kick <clientid>", "Close the connection of a client", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.KickoutConnection(cmd.Context(), args[0])); err != nil {
				return fmt.Errorf("client %s: %w", args[0], err)
			}
			return s.say(cmd, "client %s is disconnected", args[0])
		}),
	)
}

func (s *session) sessionsCommand() *cobra.Command {
	var limit int
	return group("sessions", "Sessions of clients, connected or away",
		limitFlag(leaf("list", "List the sessions", func(cmd *cobra.Command, _ []string) error {
			p := s.printer(cmd, "CLIENT", "CLEAN", "CREATED", "EXPIRY", "SUBSCRIPTIONS", "INFLIGHT", "QUEUE", "DROPPED", "DELIVERED", "NODE")
			return paged(s, p, limit, func(page, size int) ([]v3.SessionRow, int, error) {
				a, err := fetch[v3.SessionPage](s.v3.ListSessions(cmd.Context(), &v3.ListSessionsParams{Page: &page, Limit: &size}))
				return a.Value.Items, a.Value.Meta.Count, err
			}, func(r v3.SessionRow) error {
				return p.row(r, r.ClientId, r.CleanStart, r.CreatedAt, r.ExpiryInterval, r.SubscriptionsCount,
					fmt.Sprintf("%d/%d", r.InflightLen, r.MaxInflight), fmt.Sprintf("%d/%d", r.MqueueLen, r.MaxMqueue), r.MqueueDropped, r.DeliverMsg, r.Node)
			})
		}), &limit),
		leaf("show <clientid>", "Show one session", func(cmd *cobra.Command, args []string) error {
			a, err := fetch[[]v3.SessionRow](s.v3.LookupSession(cmd.Context(), args[0]))
			return s.one(cmd, a.Raw, len(a.Value), err, "no session of "+args[0])
		}),
		leaf("drop <clientid>", "End a session, with its subscriptions and queue", func(cmd *cobra.Command, args []string) error {
			if err := do(s.node.DropSession(cmd.Context(), args[0])); err != nil {
				return err
			}
			return s.say(cmd, "session %s is gone", args[0])
		}),
	)
}

func (s *session) subscriptionsCommand() *cobra.Command {
	var limit int
	row := func(p *printer) func(v3.SubscriptionRow) error {
		return func(r v3.SubscriptionRow) error { return p.row(r, r.ClientId, r.Topic, r.Qos, r.Node) }
	}
	head := []string{"CLIENT", "TOPIC", "QOS", "NODE"}
	add := leaf("add <clientid> <topic> [qos]", "Subscribe a client", func(cmd *cobra.Command, args []string) error {
		qos := 0
		if len(args) > 2 {
			if _, err := fmt.Sscanf(args[2], "%d", &qos); err != nil || qos < 0 || qos > 2 {
				return fmt.Errorf("QoS %q is none of 0, 1, 2", args[2])
			}
		}
		if err := do(s.v3.MqttSubscribe(cmd.Context(), v3.SubscribeBody{ClientId: args[0], Topic: &args[1], Qos: &qos})); err != nil {
			return err
		}
		return s.say(cmd, "%s is subscribed to %s", args[0], args[1])
	})
	return group("subscriptions", "Subscriptions of clients",
		limitFlag(leaf("list", "List the subscriptions", func(cmd *cobra.Command, _ []string) error {
			p := s.printer(cmd, head...)
			return paged(s, p, limit, func(page, size int) ([]v3.SubscriptionRow, int, error) {
				a, err := fetch[v3.SubscriptionPage](s.v3.ListSubscriptions(cmd.Context(), &v3.ListSubscriptionsParams{Page: &page, Limit: &size}))
				return a.Value.Items, a.Value.Meta.Count, err
			}, row(p))
		}), &limit),
		leaf("show <clientid>", "List the subscriptions of a client", func(cmd *cobra.Command, args []string) error {
			a, err := fetch[[]v3.SubscriptionRow](s.v3.LookupClientSubscriptions(cmd.Context(), args[0]))
			if err != nil {
				return err
			}
			p := s.printer(cmd, head...)
			for _, r := range a.Value {
				if err := row(p)(r); err != nil {
					return err
				}
			}
			return p.end()
		}),
		add,
		leaf("del <clientid> <topic>", "Unsubscribe a client", func(cmd *cobra.Command, args []string) error {
			if err := do(s.v3.MqttUnsubscribe(cmd.Context(), v3.UnsubscribeBody{ClientId: args[0], Topic: args[1]})); err != nil {
				return err
			}
			return s.say(cmd, "%s is unsubscribed from %s", args[0], args[1])
		}),
	)
}

// routesCommand is routes, and topics, which emqx_ctl has beside it.
func (s *session) routesCommand(name string) *cobra.Command {
	var limit int
	row := func(p *printer) func(v3.RouteRow) error {
		return func(r v3.RouteRow) error { return p.row(r, r.Topic, r.Node) }
	}
	return group(name, "Filters that have subscribers",
		limitFlag(leaf("list", "List the filters", func(cmd *cobra.Command, _ []string) error {
			p := s.printer(cmd, "TOPIC", "NODE")
			return paged(s, p, limit, func(page, size int) ([]v3.RouteRow, int, error) {
				a, err := fetch[v3.RoutePage](s.v3.ListRoutes(cmd.Context(), &v3.ListRoutesParams{Page: &page, Limit: &size}))
				return a.Value.Items, a.Value.Meta.Count, err
			}, row(p))
		}), &limit),
		leaf("show <topic>", "Show exactly this filter", func(cmd *cobra.Command, args []string) error {
			a, err := fetch[[]v3.RouteRow](s.v3.LookupRoutes(cmd.Context(), args[0]))
			if err != nil {
				return err
			}
			p := s.printer(cmd, "TOPIC", "NODE")
			for _, r := range a.Value {
				if err := row(p)(r); err != nil {
					return err
				}
			}
			return p.end()
		}),
	)
}
