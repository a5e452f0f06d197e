// Package reloader is the plugin that reads files again when they have changed on
// disk: the configuration file, the file of access rules, certificates.
package reloader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// File is something that is read from disk.
type File struct {
	Name    string                      // as in the log: "ACL file etc/acl.conf"
	Changed func() bool                 // whether what is on disk differs from what is in use
	Reload  func(context.Context) error // an error leaves in use what was
}

// Descriptor describes the plugin. files returns what there is to watch at the time
// of the call; dir is the directory of a log file with a relative name.
func Descriptor(files func() []File, dir string) plugins.Descriptor {
	return plugins.Descriptor{
		Name: "reloader",
		V2:   plugins.Listing{Version: "2.3", Description: "Reloader Plugin"},
		V3:   plugins.Listing{Version: "3.0", Description: "EMQ X Reloader Plugin"},
		Keys: keys,
		New:  func() plugins.Plugin { return &reloader{files: files, dir: dir} },
	}
}

var keys = []config.Key{
	{
		Name: "reloader.interval", Type: config.Duration, Default: "60s", Min: 100, Plugin: "reloader",
		Doc: "The time between two looks at the files.",
	},
	{
		Name: "reloader.logfile", Type: config.String, Default: "reloader.log", Plugin: "reloader",
		Doc: "The file, in the data directory unless the name is absolute, that records what was read again; empty for none. It is cut back to nothing when it has grown to 1 MB.",
	},
}

// maxLog is the size at which the log file begins anew.
const maxLog = 1 << 20

type reloader struct {
	files  func() []File
	dir    string
	log    *slog.Logger
	file   string // "" for none
	cancel context.CancelFunc
	done   chan struct{}
}

// Start begins to look.
func (r *reloader) Start(_ context.Context, env plugins.Env) error {
	r.log = env.Logger
	if r.file = env.Config.String("reloader.logfile"); r.file != "" {
		if !filepath.IsAbs(r.file) {
			r.file = filepath.Join(r.dir, r.file)
		}
		if err := r.note("watching"); err != nil {
			return fmt.Errorf("reloader.logfile: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan struct{})
	go r.run(ctx, env.Config.Duration("reloader.interval"))
	return nil
}

// Stop ends the looking.
func (r *reloader) Stop(context.Context) error {
	r.cancel()
	<-r.done
	return nil
}

func (r *reloader) run(ctx context.Context, every time.Duration) {
	defer close(r.done)
	tick := time.NewTicker(every)
	defer tick.Stop()
	failed := make(map[string]string) // name to the error that was told already
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, f := range r.files() {
			if !f.Changed() {
				delete(failed, f.Name)
				continue
			}
			line := f.Name + " read again"
			if err := f.Reload(ctx); err != nil {
				if failed[f.Name] == err.Error() {
					continue // a file that stays broken is told once
				}
				failed[f.Name] = err.Error()
				r.log.Error("file not read again, the old one stays in use", "file", f.Name, "err", err)
				line = f.Name + " refused: " + err.Error()
			} else {
				delete(failed, f.Name)
				r.log.Info("file read again", "file", f.Name)
			}
			if err := r.note(line); err != nil {
				r.log.Warn("log of the reloader not written", "err", err)
			}
		}
	}
}

// note writes a line to the log file.
func (r *reloader) note(line string) (err error) {
	if r.file == "" {
		return nil
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(r.file); err == nil && info.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(r.file, flags, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.WriteString(f, time.Now().UTC().Format(time.RFC3339)+" "+line+"\n")
	return err
}

var _ plugins.Plugin = (*reloader)(nil)
