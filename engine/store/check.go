package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// Report is what Check finds.
type Report struct {
	Dir     string
	Files   []FileReport
	Damage  []Damage // what keeps the store from being loaded; empty: nothing does
	Torn    int      // bytes at the end that were being written when the process stopped; they are no damage
	Orderly bool     // the last stop was

	Bytes    int64
	Records  int64 // changes that can be read
	Sessions int
	// What the sessions have, and what is kept besides.
	Subscriptions, Deliveries, Releases, Messages, Retained, Delayed int

	// Saved is the directory into which Repair has put the damaged files; "" if it had nothing to do.
	Saved string
}

// FileReport is one file of a store.
type FileReport struct {
	Name     string
	Base     engine.Position // of its first change
	End      engine.Position // behind its last
	Bytes    int64           // its length
	Used     int64           // of that, what counts
	Groups   int
	Records  int64 // changes
	Leftover bool  // not needed any more; the next start deletes it
}

const repairSuffix = ".repair" // of the directory that a repair makes

// Check reads the store in dir and reports what it holds and what is damaged. It changes nothing. The error says why it cannot
// be read at all, such as ErrInUse and ErrNewer.
func Check(dir string) (*Report, error) {
	lock, err := systemFS{}.Lock(lockName(dir))
	if err != nil {
		return nil, fmt.Errorf("check the store: %w", err)
	}
	report, _, err := check(dir)
	return report, errors.Join(err, lock.Close())
}

func check(dir string) (*Report, *engine.Stored, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, nil, fmt.Errorf("check the store: %w", err)
	}
	r, err := readDir(systemFS{}, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, fmt.Errorf("check the store: %w", err)
	}
	s := r.state.finish()
	report := &Report{
		Dir: dir, Damage: r.damage, Torn: r.torn, Orderly: s.Orderly && r.torn == 0, Bytes: r.bytes, Records: r.state.records,
		Sessions: len(s.Sessions), Retained: len(s.Retained), Delayed: len(s.Delayed),
	}
	for _, name := range r.void {
		report.Files = append(report.Files, FileReport{Name: name, Leftover: true})
	}
	for _, f := range r.files {
		report.Files = append(report.Files, FileReport{
			Name: f.name, Base: f.base, End: f.end, Bytes: int64(f.size), Used: int64(f.used), Groups: f.groups, Records: f.records,
		})
	}
	messages := map[uint64]bool{}
	for _, x := range s.Sessions {
		report.Subscriptions += len(x.Subscriptions)
		report.Deliveries += len(x.Deliveries)
		report.Releases += len(x.Releases)
		for i := range x.Deliveries {
			if x.Deliveries[i].Body != nil {
				messages[x.Deliveries[i].Message] = true
			}
		}
	}
	for _, m := range s.Retained {
		messages[m.Number] = true
	}
	for _, m := range s.Delayed {
		messages[m.Number] = true
	}
	report.Messages = len(messages)
	return report, s, nil
}

// Repair writes what can be read of the store in dir anew, and puts the damaged files beside it, into a directory named in the
// report, which says what is lost. A store that is not damaged stays as it is.
func Repair(dir string) (*Report, error) {
	dir = filepath.Clean(dir)
	lock, err := systemFS{}.Lock(lockName(dir))
	if err != nil {
		return nil, fmt.Errorf("repair the store: %w", err)
	}
	report, err := repair(dir)
	if err != nil {
		err = fmt.Errorf("repair the store: %w", err)
	}
	return report, errors.Join(err, lock.Close())
}

func repair(dir string) (*Report, error) {
	if err := settleRepair(systemFS{}, dir); err != nil {
		return nil, err
	}
	report, state, err := check(dir)
	if err != nil || len(report.Damage) == 0 {
		return report, err
	}
	fresh := dir + repairSuffix
	if err := os.RemoveAll(fresh); err != nil { // of a repair that was interrupted
		return nil, err
	}
	if err := write(fresh, state); err != nil {
		return nil, err
	}
	saved := dir + ".damaged-" + time.Now().UTC().Format("20060102T150405.000")
	if err := os.Rename(dir, saved); err != nil {
		return nil, err
	}
	report.Saved = saved
	return report, settleRepair(systemFS{}, dir)
}

// write makes a store of state in the directory dir.
func write(dir string, state *engine.Stored) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	o := Options{Dir: dir}
	if err := o.fill(); err != nil {
		return err
	}
	d := open(o, nothing{})
	if _, err := d.Load(); err != nil {
		return err
	}
	d.plain = true
	d.Start(nothing{})
	putAll(d.journal, state)
	return d.Close()
}

// nothing is a lock and a client that do nothing.
type nothing struct{}

func (nothing) Close() error                 { return nil }
func (nothing) Progress()                    {}
func (nothing) Rewrite(engine.Position) bool { return false }
func (nothing) Live() int64                  { return 0 }

// putAll stages everything that state holds.
func putAll(j *journal, state *engine.Stored) {
	put := map[uint64]bool{}
	message := func(m *engine.StoredMessage) {
		if m != nil && !put[m.Number] {
			put[m.Number] = true
			j.PutMessage(m.Number, &m.Message, false)
		}
	}
	for _, s := range state.Sessions {
		j.PutSession(s.Number, s)
		for i := range s.Subscriptions {
			j.PutSubscription(s.Number, &s.Subscriptions[i])
		}
		for i := range s.Deliveries {
			message(s.Deliveries[i].Body)
			j.PutDelivery(s.Number, &s.Deliveries[i])
		}
		for _, r := range s.Releases {
			j.PutRelease(s.Number, r.ID, r.At)
		}
	}
	for _, m := range state.Retained {
		message(m)
		j.PutRetained(m.Number, m.Message.Topic, m.Stamp)
	}
	for _, x := range state.Cleared {
		j.ClearRetained(x.Topic, x.Stamp)
	}
	for _, m := range state.Delayed {
		message(m.StoredMessage)
		j.PutDelayed(m.Number, m.Due)
	}
}

// settleRepair ends a repair that was interrupted between its last two steps: the damaged directory is out of the way, the new one
// is whole.
func settleRepair(fsys FS, dir string) error {
	dir = filepath.Clean(dir)
	if _, err := fsys.List(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := fsys.List(dir + repairSuffix); err != nil {
		return ignoreMissing(err)
	}
	if err := fsys.Rename(dir+repairSuffix, dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}
