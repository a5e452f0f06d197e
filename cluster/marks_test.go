package cluster

import (
	"testing"
	"time"
)

// Nodes that start together need a moment for their first leader; clients that come meanwhile are not refused as by a minority.
func TestAlone(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name           string
		started, lease time.Duration // ago
		want           bool
	}{
		{"cluster that forms", 5 * time.Second, 5 * time.Second, false},
		{"never heard of a leader", time.Minute, time.Minute, true},
		{"change of the leader", time.Minute, 2 * time.Second, false},
		{"minority", time.Minute, 4 * time.Second, true},
		{"minority soon after the start", 6 * time.Second, 4 * time.Second, true},
	} {
		c := &Cluster{o: Options{Beat: time.Second}, started: now.Add(-tc.started)}
		c.lease.until = now.Add(-tc.lease)
		if got := c.Alone(); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}
