package ctl

import (
	"fmt"

	"github.com/spf13/cobra"

	nodeapi "github.com/lacewing-mqtt/lacewing/gen/node"
)

func (s *session) clusterCommand() *cobra.Command {
	var force, forceRecover bool
	join := leaf("join <node>", "Join the cluster of a node, name@host[:port], and take over its metadata", func(cmd *cobra.Command, args []string) error {
		a, err := fetch[nodeapi.ClusterStatus](s.node.ClusterJoin(cmd.Context(), nodeapi.ClusterJoin{Node: args[0], Force: &force}))
		if err != nil {
			return err
		}
		return s.say(cmd, "%s is a member of the cluster with %d others", a.Value.Node, len(a.Value.Members)-1)
	})
	join.Flags().BoolVar(&force, "force", false, "give up the users, applications, bans and configuration of this node")
	recoverAlone := leaf("recover", "Make a cluster of this node alone, after the majority is lost for good", func(cmd *cobra.Command, _ []string) error {
		a, err := fetch[nodeapi.ClusterStatus](s.node.ClusterRecover(cmd.Context(), nodeapi.ClusterRecover{Force: forceRecover}))
		if err != nil {
			return err
		}
		return s.say(cmd, "%s is a cluster of its own; the other nodes must not come back with their data", a.Value.Node)
	})
	recoverAlone.Flags().BoolVar(&forceRecover, "force", false, "the other nodes are lost and will never come back with their data")
	return group("cluster", "Who is in the cluster",
		leaf("status", "Show the members, their roles, and who is down since when", s.clusterStatus),
		join,
		leaf("leave", "Leave the cluster and be alone, with empty metadata", func(cmd *cobra.Command, _ []string) error {
			a, err := fetch[nodeapi.ClusterStatus](s.node.ClusterLeave(cmd.Context()))
			if err != nil {
				return err
			}
			return s.say(cmd, "%s is alone", a.Value.Node)
		}),
		leaf("force-leave <node>", "Take a dead node out of the cluster", func(cmd *cobra.Command, args []string) error {
			if err := do(s.node.ClusterForceLeave(cmd.Context(), args[0])); err != nil {
				return err
			}
			return s.say(cmd, "%s is no member any more", args[0])
		}),
		recoverAlone,
	)
}

func (s *session) clusterStatus(cmd *cobra.Command, _ []string) error {
	a, err := fetch[nodeapi.ClusterStatus](s.node.ClusterStatus(cmd.Context()))
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(cmd.OutOrStdout(), a.Raw)
	}
	st := a.Value
	leader := "none"
	if st.Leader != nil {
		leader = *st.Leader
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "cluster %s, %s: %s, leader %s\n", st.Cluster, st.Node, st.State, clean(leader)); err != nil {
		return err
	}
	if st.Note != nil {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), clean(*st.Note)); err != nil {
			return err
		}
	}
	p := s.printer(cmd, "NODE", "ROLE", "STATE", "ADDRESS", "VERSION", "LEVEL", "LINK", "DOWN SINCE")
	for _, m := range st.Members {
		state, link, since := "running", "", ""
		if !m.Running {
			state = "down"
		}
		if m.Link != nil {
			link = string(*m.Link)
		}
		if m.DownSince != nil {
			since = m.DownSince.Local().Format("2006-01-02 15:04:05")
		}
		if err := p.row(m, m.Name, m.Role, state, m.Address, m.Version, m.Level, link, since); err != nil {
			return err
		}
	}
	return p.end()
}
