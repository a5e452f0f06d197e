package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacewing-mqtt/lacewing/engine/store"
	nodeapi "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/node"
)

func (s *session) storeCommand() *cobra.Command {
	check := leaf("check", "Read the store of a node that does not run, and say what it holds and what is damaged", func(cmd *cobra.Command, _ []string) error {
		return s.offlineStore(cmd, store.Check)
	})
	repair := leaf("repair", "Keep what can be read of a damaged store, and put the damaged files aside", func(cmd *cobra.Command, _ []string) error {
		return s.offlineStore(cmd, store.Repair)
	})
	for _, c := range []*cobra.Command{check, repair} {
		c.Annotations = map[string]string{offline: "yes"}
	}
	return group("store", "Store of sessions and messages",
		leaf("status", "Show how safe an acknowledgement is, and what the store does", s.storeStatus), check, repair)
}

func (s *session) storeStatus(cmd *cobra.Command, _ []string) error {
	a, err := fetch[nodeapi.StoreStatus](s.node.StoreStatus(cmd.Context()))
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(cmd.OutOrStdout(), a.Raw)
	}
	v, w := a.Value, cmd.OutOrStdout()
	fmt.Fprintf(w, "durability      %s: %s\n", v.Durability, v.Promise)
	if v.Error != nil {
		fmt.Fprintf(w, "refusing        %s\n", *v.Error)
	}
	limit := "no limit"
	if v.MaxBytes > 0 {
		limit = size(v.MaxBytes)
	}
	fmt.Fprintf(w, "on disk         %s in %d files (limit %s), about %s of it in use\n", size(v.Bytes), v.Segments, limit, size(v.LiveBytes))
	fmt.Fprintf(w, "committed       %d changes in %d groups, %s; %s rewritten\n", v.Changes, v.Commits, size(v.CommittedBytes), size(v.RewrittenBytes))
	fmt.Fprintf(w, "group           p50 %.0f, p99 %.0f changes\n", v.GroupP50, v.GroupP99)
	seconds := func(x float64) time.Duration { return time.Duration(x * float64(time.Second)).Round(time.Microsecond) }
	fmt.Fprintf(w, "commit          p50 %s, p99 %s\n", seconds(v.CommitP50Seconds), seconds(v.CommitP99Seconds))
	mean := time.Duration(0)
	if v.Syncs > 0 {
		mean = seconds(v.SyncSeconds / float64(v.Syncs))
	}
	_, err = fmt.Fprintf(w, "syncs           %d, %s each; %d faults\n", v.Syncs, mean, v.Faults)
	return err
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// errDamaged ends a check that has found damage.
var errDamaged = errors.New("the store is damaged")

// offlineStore runs a check or a repair and prints its report.
func (s *session) offlineStore(cmd *cobra.Command, run func(dir string) (*store.Report, error)) error {
	if s.url != "" {
		return errors.New("the files of a store are worked on where they are: leave --url out and name the directory with --data-dir")
	}
	dir, err := s.dir()
	if err != nil {
		return err
	}
	r, err := run(filepath.Join(dir, node.StoreDir))
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("a node runs on the data directory %s: stop it first", dir)
	}
	if err != nil {
		return err
	}
	if s.json {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		err = printJSON(cmd.OutOrStdout(), text)
		return errors.Join(err, damaged(r))
	}
	if err := printReport(cmd.OutOrStdout(), r); err != nil {
		return err
	}
	return damaged(r)
}

func damaged(r *store.Report) error {
	if len(r.Damage) > 0 && r.Saved == "" {
		return errDamaged
	}
	return nil
}

func printReport(w io.Writer, r *store.Report) error {
	for _, f := range r.Files {
		note := ""
		if f.Leftover {
			note = ", not needed any more"
		}
		fmt.Fprintf(w, "%s  %s, %d groups, %d changes%s\n", f.Name, size(f.Used), f.Groups, f.Records, note)
	}
	fmt.Fprintf(w, "sessions %d, subscriptions %d, deliveries %d, QoS 2 identifiers %d, messages %d, retained %d, delayed %d\n",
		r.Sessions, r.Subscriptions, r.Deliveries, r.Releases, r.Messages, r.Retained, r.Delayed)
	if r.Torn > 0 {
		fmt.Fprintf(w, "%d bytes at the end were being written when the node stopped; nothing in them was acknowledged\n", r.Torn)
	}
	for _, d := range r.Damage {
		fmt.Fprintf(w, "damaged: %s\n", d)
	}
	var err error
	switch {
	case r.Saved != "":
		_, err = fmt.Fprintf(w, "repaired; the files as they were are in %s\n", r.Saved)
	case len(r.Damage) == 0:
		_, err = fmt.Fprintln(w, "no damage")
	}
	return err
}
