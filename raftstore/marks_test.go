package raftstore

import (
	"context"
	"errors"
	"maps"
	"testing"
)

// TestMarks marks nodes up and down: a process that goes on keeps its life, a new one and one that was down do not.
func TestMarks(t *testing.T) {
	s, ctx := open(t, Options{}), context.Background()
	for i, step := range []struct {
		from uint64
		up   map[string]string
		err  error
		want map[string]Life
	}{
		{0, map[string]string{"a": "1", "b": "1"}, nil, map[string]Life{"a": {1, "1"}, "b": {1, "1"}}},
		{0, map[string]string{"a": "1"}, ErrExists, map[string]Life{"a": {1, "1"}, "b": {1, "1"}}},
		{1, map[string]string{"a": "1"}, nil, map[string]Life{"a": {1, "1"}}},
		{2, map[string]string{"a": "1", "b": "1"}, nil, map[string]Life{"a": {1, "1"}, "b": {3, "1"}}},
		{3, map[string]string{"a": "2", "b": "1"}, nil, map[string]Life{"a": {4, "2"}, "b": {3, "1"}}},
		{4, map[string]string{"": "2"}, ErrInvalid, map[string]Life{"a": {4, "2"}, "b": {3, "1"}}},
	} {
		watch := s.Watch(MarksTable)
		if err := s.PutMarks(ctx, step.from, step.up); !errors.Is(err, step.err) {
			t.Fatalf("step %d: got %v, want %v", i, err, step.err)
		}
		if got := s.View().Marks().Up; !maps.Equal(got, step.want) {
			t.Fatalf("step %d: got %v, want %v", i, got, step.want)
		}
		select {
		case <-watch:
			if step.err != nil {
				t.Errorf("step %d: the watcher was woken", i)
			}
		default:
			if step.err == nil {
				t.Errorf("step %d: the watcher was not woken", i)
			}
		}
	}
	s = reopen(t, s)
	if got := s.View().Marks(); got.Epoch != 4 || got.Up["a"] != (Life{4, "2"}) {
		t.Errorf("after a restart: got %v", got)
	}
}
