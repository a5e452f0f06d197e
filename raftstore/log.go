package raftstore

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// raftLogger hands raft's lines on. What raft tells about elections is for
// those who look for a fault: it is logged at debug, as is what it says about
// single peers each time it cannot reach them; for a node without peers its
// warnings too, as they are about the peers it does not have.
func raftLogger(to *slog.Logger, alone bool) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Debug})
	l.RegisterSink(sink{to, alone})
	return l
}

type sink struct {
	to    *slog.Logger
	alone bool
}

// Accept logs one line.
func (s sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	aboutPeer, closed := false, false
	args = slices.Clone(args)
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "error":
			args[i] = "err"
			err, is := args[i+1].(error)
			closed = is && errors.Is(err, net.ErrClosed)
		case "time", "level", "msg": // the line has these of its own
			args[i] = "raft_" + args[i].(string)
		case "peer", "target", "server-id":
			aboutPeer = true
		}
	}
	switch {
	case aboutPeer: // it is down, and that is told elsewhere, once
	case closed: // by this node, which stops
	case level >= hclog.Error:
		to = slog.LevelError
	case level == hclog.Warn && !s.alone:
		to = slog.LevelInfo
	}
	s.to.Log(context.Background(), to, "raft: "+msg, args...)
}

var _ hclog.SinkAdapter = sink{}
