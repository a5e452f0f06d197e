package node

import (
	"errors"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine/store"
)

// StoreDir is the directory of sessions and messages within the data directory.
const StoreDir = "store"

// openDisk takes the store of sessions and messages. The engine reads it.
func (n *Node) openDisk(cfg *config.Config, change func(*store.Options)) error {
	o := store.Options{
		Dir:          n.data.file(StoreDir),
		Durability:   store.Durability(cfg.String("store.durability")),
		SyncInterval: cfg.Duration("store.sync_interval"),
		SegmentSize:  cfg.Bytes("store.segment_size"),
		MaxBytes:     cfg.Bytes("store.max_bytes"),
		Logger:       n.log,
	}
	if change != nil {
		change(&o)
	}
	var err error
	if n.disk, err = store.Open(o); err != nil {
		return &StartError{What: "the store of sessions and messages cannot be used", Err: err, Code: ExitData}
	}
	switch o.Durability {
	case store.Interval:
		n.log.Warn("store.durability = interval: a loss of power can lose messages that were acknowledged", "at most the last", o.SyncInterval)
	case store.Off:
		n.log.Warn("store.durability = off: a loss of power can lose any message that was acknowledged")
	}
	return nil
}

// loadError makes a refusal to start of an error that came from reading the store.
func loadError(err error) error {
	if damage, ok := errors.AsType[*store.DamageError](err); ok {
		return &StartError{What: damage.Error(), Code: ExitData}
	}
	if errors.Is(err, store.ErrNewer) {
		return &StartError{What: "the store of sessions and messages was written by a newer version: start that, or move the directory away to begin without it", Err: err, Code: ExitData}
	}
	return &StartError{What: "the store of sessions and messages cannot be read", Err: err, Code: ExitData}
}
