package node

import (
	"os"
	"slices"
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
