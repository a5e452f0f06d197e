package node

import (
	"context"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
)

// levels are the values of log.level in the order of their weight. slog has four of
// them; the others lie between and beyond.
var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "notice": slog.LevelInfo + 2, "warning": slog.LevelWarn,
	"error": slog.LevelError, "critical": slog.LevelError + 4, "alert": slog.LevelError + 6,
	"emergency": slog.LevelError + 8, "none": slog.Level(math.MaxInt32),
}

// logging is where a node writes its lines.
type logging struct {
	level *slog.LevelVar
	log   *slog.Logger // at and above level
	say   *slog.Logger // the lines of start and stop, whatever the level
}

// newLogging writes to w in the format and at the level of the configuration.
func newLogging(w io.Writer, cfg *config.Config) *logging {
	opts := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: plainAttr}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if cfg.String("log.format") == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return wrapLogging(h, cfg)
}

// wrapLogging puts the level of the configuration over a handler.
func wrapLogging(h slog.Handler, cfg *config.Config) *logging {
	l := &logging{level: new(slog.LevelVar), say: slog.New(h)}
	l.log = slog.New(leveled{h, l.level})
	l.configure(cfg)
	return l
}

func (l *logging) configure(cfg *config.Config) { l.level.Set(levels[cfg.String("log.level")]) }

// leveled is a handler with a level that changes.
type leveled struct {
	slog.Handler
	level *slog.LevelVar
}

func (h leveled) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level.Level() && h.Handler.Enabled(ctx, level)
}

func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.level}
}

func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.level}
}

// plainAttr writes times in UTC to the millisecond and the names of the levels that
// slog does not have.
func plainAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		if a.Value.Kind() != slog.KindTime {
			return a // an attribute of that name, not the line's
		}
		return slog.String(slog.TimeKey, a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
	case slog.LevelKey:
		level, ok := a.Value.Any().(slog.Level)
		if !ok {
			return a // as above
		}
		name := "DEBUG"
		for _, l := range []struct {
			from slog.Level
			name string
		}{
			{slog.LevelInfo, "INFO"}, {slog.LevelInfo + 2, "NOTICE"}, {slog.LevelWarn, "WARNING"}, {slog.LevelError, "ERROR"},
			{slog.LevelError + 4, "CRITICAL"}, {slog.LevelError + 6, "ALERT"}, {slog.LevelError + 8, "EMERGENCY"},
		} {
			if level >= l.from {
				name = l.name
			}
		}
		return slog.String(slog.LevelKey, name)
	}
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().Round(time.Microsecond).String())
	}
	return a
}
