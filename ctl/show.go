package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

// one prints the members of the only row of a list; absent is the error for none.
func (s *session) one(cmd *cobra.Command, raw json.RawMessage, rows int, err error, absent string) error {
	switch {
	case err != nil:
		return err
	case rows == 0:
		return errors.New(absent)
	case s.json:
		return printJSON(cmd.OutOrStdout(), raw)
	}
	var list []map[string]any
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("answer of the node: %w", err)
	}
	return s.members(cmd, list[0])
}

// members prints an object, a member on each line.
func (s *session) members(cmd *cobra.Command, object map[string]any) error {
	p := s.printer(cmd)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		v := object[name]
		if f, ok := v.(float64); ok && f == float64(int64(f)) {
			v = int64(f)
		}
		if err := p.row(nil, name, text(v)); err != nil {
			return err
		}
	}
	return p.end()
}
