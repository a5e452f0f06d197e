// Package engine is the MQTT broker: connections as state machines, sessions, routing, retained messages, wills, shared
// subscriptions, limits, hooks, and what management wants to read and do. It speaks MQTT 3.1, 3.1.1 and 5.0 and does no I/O:
// a driver (package engine/transport, a test, a fuzzer) hands it the bytes that arrive with Conn.Feed and carries away what it
// hands to Transport.Write. DESIGN.md says how it works and why.
//
//	e, err := engine.New(engine.Options{Node: "emqx@127.0.0.1"})
//	go e.Run(ctx)
//	l, err := e.AddListener(engine.ListenerOptions{Name: "external", Protocol: "mqtt:tcp"})
//	// for each connection: c, err := l.Accept(info, transport); c.Feed(batch, bytes); batch.Flush()
package engine

import (
	"errors"
	"log/slog"
	"time"
)

// The errors of management operations.
var (
	ErrNotFound = errors.New("not found")
	ErrBadTopic = errors.New("bad topic")
	ErrQuota    = errors.New("quota exceeded")
	ErrExists   = errors.New("already exists")
)

// Options are what New needs. The zero value works.
type Options struct {
	Node     string           // name of the node in $SYS topics; "": "emqx@127.0.0.1"
	Version  string           // shown in $SYS/brokers/{node}/version
	SysDescr string           // shown in $SYS/brokers/{node}/sysdescr
	Logger   *slog.Logger     // nil: logs are discarded
	Settings *Settings        // nil: DefaultSettings
	Zones    map[string]Zone  // "external" is made with DefaultZone if absent
	Now      func() time.Time // test seam; nil: time.Now
}
