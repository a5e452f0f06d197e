package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

const (
	segmentSuffix = ".log"
	tempSuffix    = ".new" // of a file that is not whole yet
)

func segmentName(base engine.Position) string {
	return fmt.Sprintf("%016x%s", uint64(base), segmentSuffix)
}

// segmentBase is where the segment of that name begins; false: it is the name of none.
func segmentBase(name string) (engine.Position, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(digits, 16, 62)
	return engine.Position(n), ok && err == nil && segmentName(engine.Position(n)) == name
}

func (d *Disk) join(name string) string { return filepath.Join(d.o.Dir, name) }

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Load reads everything that is stored. The error is a *DamageError when something that was promised cannot be read, and wraps
// ErrNewer when a newer release has written the files.
func (d *Disk) Load() (*engine.Stored, error) {
	if d.loaded {
		panic("store: Load comes once")
	}
	begin := time.Now()
	r, err := readDir(d.o.FS, d.o.Dir, d.o.Logger)
	if err != nil {
		return nil, fmt.Errorf("load the store: %w", err)
	}
	if len(r.damage) > 0 {
		return nil, &DamageError{Damage: r.damage[0], Dir: d.o.Dir, More: len(r.damage) - 1}
	}
	state := r.state.finish()
	state.Bytes = r.bytes
	state.Orderly = state.Orderly && r.torn == 0
	if err := d.resume(r); err != nil {
		return nil, fmt.Errorf("load the store: %w", err)
	}
	d.loaded = true
	if took := time.Since(begin); took > time.Second {
		d.o.Logger.Info("the store is loaded", "dir", d.o.Dir, "bytes", r.bytes, "sessions", len(state.Sessions), "after", took.Round(time.Millisecond))
	}
	return state, nil
}

// resume takes up writing where r ends.
func (d *Disk) resume(r *reading) error {
	for _, name := range r.void {
		d.o.Logger.Warn("a file of the store is deleted that is not needed any more", "file", d.join(name))
		if err := d.o.FS.Remove(d.join(name)); err != nil {
			return fmt.Errorf("delete %s: %w", d.join(name), err)
		}
	}
	d.id, d.seed, d.discard, d.dropped, d.discarding = r.id, r.seed, r.discard, r.discard, r.discard
	if len(r.files) == 0 {
		if _, err := rand.Read(d.id[:]); err != nil {
			return err
		}
		d.seed = segmentHeader{id: d.id}.seed()
	}
	d.staged.Store(uint64(r.end))
	d.end, d.durable, d.claimed = r.end, r.end, r.durable
	for _, f := range r.files {
		d.segments = append(d.segments, segment{f.name, f.base, int64(f.used)})
		d.used += int64(f.used)
	}
	if len(r.files) > 0 {
		last := r.files[len(r.files)-1]
		if r.torn > 0 {
			d.o.Logger.Warn("the end of the store was being written when it stopped; it was not acknowledged and is cut", "file", d.join(last.name),
				"offset", last.used, "bytes", r.torn)
		}
		if r.torn == 0 && r.durable == r.end && int64(last.used) < d.o.SegmentSize && last.head.version == formatVersion {
			return d.reopen(last)
		}
		// What is not known to be on the medium goes to a file of its own, also if it can be read: a process that ended after a failed
		// sync leaves pages that look written and are not. The old file is void from there on.
		d.end, d.durable = r.durable, r.durable
		for _, p := range r.unsure {
			g := &group{buf: make([]byte, groupHeaderSize, groupHeaderSize+len(p.payload)), start: p.start, records: int(p.records), first: d.now()}
			g.buf = append(g.buf, p.payload...)
			d.kept = append(d.kept, g)
		}
	}
	d.committed.Store(uint64(d.durable))
	d.synced = d.durable
	return nil
}

// reopen goes on in the last file.
func (d *Disk) reopen(last *fileReading) error {
	path := d.join(last.name)
	f, err := d.o.FS.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	d.file, d.path, d.head, d.off = f, path, last.head, int64(last.used)
	length := max(d.o.SegmentSize, int64(last.size))
	err = f.Reserve(length)
	if err == nil {
		err = f.Sync()
	}
	if err == nil { // not before it is that long, whenever the machine stops
		err = d.promise(length)
	}
	if err != nil { // the next file will tell
		d.o.Logger.Warn("the last file of the store cannot be continued", "file", path, "err", err)
		_ = f.Close() // there is a worse error
		d.file = nil
	}
	d.committed.Store(uint64(d.durable))
	d.synced = d.durable
	return nil
}

// reading is what was found in a directory.
type reading struct {
	files   []*fileReading // by base
	void    []string       // names of files that are not needed: older ones, and new ones that never got their name
	damage  []Damage
	bytes   int64
	id      [16]byte
	seed    uint32
	known   bool // the identity
	discard engine.Position
	durable engine.Position // at least that much of what can be read is on the medium
	end     engine.Position
	torn    int // bytes behind the last whole group that nothing says was acknowledged
	unsure  []unsureGroup
	state   *replay

	fsys FS
	dir  string
	log  *slog.Logger
	told time.Time
}

// fileReading is a segment file that was read.
type fileReading struct {
	name    string
	base    engine.Position
	end     engine.Position // behind what was read of it
	head    segmentHeader
	data    []byte
	size    int
	used    int // bytes that hold what counts
	groups  int
	records int64
	bad     bool // its header is damaged
}

// unsureGroup is a group of the last file that may not be on the medium.
type unsureGroup struct {
	start   engine.Position
	records uint32
	payload []byte
}

// readDir reads the journal in dir. What is damaged is noted and left out; the error is about what keeps it from being read at all.
func readDir(fsys FS, dir string, log *slog.Logger) (*reading, error) {
	r := &reading{state: newReplay(), fsys: fsys, dir: dir, log: log, told: time.Now()}
	if err := r.open(); err != nil {
		return nil, err
	}
	if err := r.heads(); err != nil {
		return nil, err
	}
	r.sift()
	for i, f := range r.files {
		limit := engine.Position(maxPosition)
		last := i == len(r.files)-1
		if !last {
			limit = r.files[i+1].base
		}
		if err := r.file(f, limit, last); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, f.name), err)
		}
		if last && int64(f.size) < f.head.length { // one that is being written never is, and one that was ended in order says where
			r.lose(f, f.size, fmt.Sprintf("its end, or the file that followed it: %d bytes are left of at least %d", f.size, f.head.length))
			r.state.giveIn()
		}
	}
	r.state.giveUp()
	if lost := r.state.missing(); lost != (missing{}) {
		r.lose(r.files[0], 0, lost.String())
	}
	return r, nil
}

// open reads the files.
func (r *reading) open() error {
	names, err := r.fsys.List(r.dir)
	if ignoreMissing(err) != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix+tempSuffix) {
			r.void = append(r.void, name)
		}
		base, ok := segmentBase(name)
		if !ok {
			continue
		}
		data, err := r.fsys.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			return err
		}
		r.bytes += int64(len(data))
		r.files = append(r.files, &fileReading{name: name, base: base, end: base, data: data, size: len(data)})
		r.tell("read")
	}
	return nil
}

// heads reads the headers of the files, and what the headers of groups tell.
func (r *reading) heads() error {
	for _, f := range r.files {
		h, err := parseSegmentHeader(f.data)
		switch {
		case errors.Is(err, ErrNewer):
			return fmt.Errorf("%s: %w (its format is version %d, this release reads up to %d)", filepath.Join(r.dir, f.name), err, h.version, formatVersion)
		case err != nil || h.base != f.base:
			f.bad = true
		case !r.known:
			r.id, r.seed, r.known = h.id, h.seed(), true
		case h.id != r.id:
			f.bad = true
		}
		if !f.bad {
			r.discard, f.head = max(r.discard, h.discard), h
		}
	}
	if !r.known {
		for _, f := range r.files {
			if r.seed, r.known = guessSeed(f.data); r.known {
				break
			}
		}
	}
	for i, f := range r.files {
		c := claims{}
		c.gather(f.data, segmentHeaderSize, r.seed)
		r.discard = max(r.discard, c.discard)
		if i == len(r.files)-1 {
			r.durable = max(f.base, f.head.whole, c.durable)
		}
	}
	return nil
}

// sift leaves out the files before what is needed, and notes when the first of what is needed is not there.
func (r *reading) sift() {
	n := 0
	for n < len(r.files) && r.files[n].base < r.discard {
		n++
	}
	if n == len(r.files) && n > 0 {
		r.damage = append(r.damage, Damage{r.files[n-1].name, 0, fmt.Sprintf("every file from %s on", segmentName(r.discard))})
		n = len(r.files) - 1 // something may be left in it
	} else if n < len(r.files) && r.files[n].base > r.discard {
		r.damage = append(r.damage, Damage{segmentName(r.discard), 0, "the file is not there: " + span(r.discard, r.files[n].base)})
		r.state.giveIn()
	}
	for _, f := range r.files[:n] {
		r.void = append(r.void, f.name)
	}
	r.files = r.files[n:]
	if len(r.files) > 0 {
		r.end = r.files[0].base
	}
}

// span says how much lies between two positions.
func span(from, to engine.Position) string {
	return fmt.Sprintf("%d bytes of changes (positions %d to %d)", to-from, from, to)
}

func (r *reading) lose(f *fileReading, off int, what string) {
	r.damage = append(r.damage, Damage{f.name, int64(off), what})
}

// file reads the groups of f up to limit, where the next file begins.
func (r *reading) file(f *fileReading, limit engine.Position, last bool) error {
	if f.bad {
		r.lose(f, 0, "the header of the file")
	}
	off := min(segmentHeaderSize, len(f.data))
	for {
		f.used = off
		if !last && r.end >= limit {
			return nil // what follows is void: it was written anew in the next file
		}
		h, payload, ok := parseGroup(f.data[off:], r.seed)
		if ok && h.start == r.end && h.end() <= limit {
			if err := r.group(f, off, h, payload, last); err != nil {
				return err
			}
			off += groupHeaderSize + h.length
			continue
		}
		rest := used(f.data[off:])
		if last && r.durable <= r.end {
			// The end of everything; what follows was being written, and nothing says that it was acknowledged.
			r.torn = rest
			return nil
		}
		next := r.after(f, off, limit)
		r.lose(f, off, r.lost(f, off, next, limit))
		r.state.giveIn()
		if next < 0 {
			if !last {
				r.end, f.end = limit, limit
			} else {
				r.torn = rest
			}
			return nil
		}
		h, _, _ = parseGroup(f.data[next:], r.seed)
		r.end, off = h.start, next
	}
}

// group takes one whole group in.
func (r *reading) group(f *fileReading, off int, h groupHeader, payload []byte, last bool) error {
	if err := r.state.group(payload, h.start, h.records); err != nil {
		if errors.Is(err, ErrNewer) {
			return err
		}
		r.lose(f, off, fmt.Sprintf("a part of %s", count(int(h.records), "change")))
	}
	r.end, f.end = h.end(), h.end()
	f.groups++
	f.records += int64(h.records)
	if last && h.length > 0 && h.end() > r.durable {
		r.unsure = append(r.unsure, unsureGroup{h.start, h.records, payload})
	}
	r.tell("apply")
	return nil
}

// after gives the offset of the next whole group of f, or -1.
func (r *reading) after(f *fileReading, off int, limit engine.Position) int {
	for {
		next, h := findHeader(f.data, off+1, r.seed)
		if next < 0 {
			return -1
		}
		if _, _, ok := parseGroup(f.data[next:], r.seed); ok && h.start >= r.end && h.end() <= limit {
			return next
		}
		off = next
	}
}

// lost says what is gone between off and next.
func (r *reading) lost(f *fileReading, off, next int, limit engine.Position) string {
	if h, ok := parseGroupHeader(f.data[off:], r.seed); ok && h.start == r.end {
		if to := off + groupHeaderSize + h.length; to == next || next < 0 && h.end() == limit {
			return fmt.Sprintf("1 group of %s, %s", count(int(h.records), "change"), span(h.start, h.end()))
		}
	}
	switch {
	case next >= 0:
		_, h := findHeader(f.data, next, r.seed)
		return span(r.end, h.start)
	case limit < maxPosition:
		return span(r.end, limit)
	}
	return "at least " + span(r.end, r.durable)
}

// tell logs how far reading is, now and then.
func (r *reading) tell(step string) {
	if now := time.Now(); now.Sub(r.told) > 2*time.Second {
		r.told = now
		r.log.Info("the store is being loaded", "dir", r.dir, "step", step, "bytes", r.bytes, "position", uint64(r.end), "changes", r.state.records)
	}
}

// guessSeed finds what checksums of a store begin with when every header of a file is damaged: a checksum can be computed
// backwards. false: no group bears it out.
func guessSeed(b []byte) (uint32, bool) {
	if len(b) < segmentHeaderSize+groupHeaderSize {
		return 0, false
	}
	b = b[segmentHeaderSize:]
	seed := unwind(binary.LittleEndian.Uint32(b[4:]), b[8:groupHeaderSize])
	_, _, ok := parseGroup(b, seed)
	return seed, ok
}

// unwind gives the seed with which p has the checksum sum.
func unwind(sum uint32, p []byte) uint32 {
	crc := ^sum
	for i := len(p) - 1; i >= 0; i-- {
		for k, v := range castagnoli {
			if v>>24 == crc>>24 {
				crc = (crc^v)<<8 | uint32(byte(k)^p[i])
				break
			}
		}
	}
	return ^crc
}
