package node

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"
)

// stamp tells one version of a file from another: rewriting it in place, replacing
// it, and changing what a link points at all change the stamp.
type stamp struct {
	name string
	size int64
	at   time.Time
}

// stampFiles returns the stamps of files; "" is skipped, and one that is not there
// has no size and no time.
func stampFiles(names ...string) []stamp {
	var out []stamp
	for _, name := range names {
		if name == "" {
			continue
		}
		s := stamp{name: name}
		if info, err := os.Stat(name); err == nil {
			s.size, s.at = info.Size(), info.ModTime()
		}
		out = append(out, s)
	}
	return out
}

func equalStamps(a, b []stamp) bool {
	return slices.EqualFunc(a, b, func(x, y stamp) bool { return x.name == y.name && x.size == y.size && x.at.Equal(y.at) })
}

// stamps remembers in which version files were last read.
type stamps struct {
	mu   sync.Mutex
	used map[string][]stamp
}

// changed reports whether files differ from the version that is in use. The first
// question takes the present version for that.
func (s *stamps) changed(what string, names ...string) bool {
	now := stampFiles(names...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if used, ok := s.used[what]; ok {
		return !equalStamps(used, now)
	}
	s.set(what, now)
	return false
}

// set is called with mu held.
func (s *stamps) set(what string, now []stamp) {
	if s.used == nil {
		s.used = make(map[string][]stamp)
	}
	s.used[what] = now
}

// taking wraps the reading of files: after a success the version that was there
// before it counts as read.
func (s *stamps) taking(what string, read func(context.Context) error, names ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		now := stampFiles(names...)
		if err := read(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.set(what, now)
		return nil
	}
}
