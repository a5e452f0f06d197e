package engine

import "time"

// Alarm is a condition that an operator should know of.
type Alarm struct {
	ID       string // such as "queue_high_watermark.{clientid}"
	Severity string // "notice", "warning", "error" or "critical"
	Title    string
	Summary  string
	RaisedAt time.Time
	// ClearedAt is zero while the alarm lasts.
	ClearedAt time.Time
}
