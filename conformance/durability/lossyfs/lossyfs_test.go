package lossyfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// mounted is a disk and where it is.
type mounted struct {
	*Disk
	t       *testing.T
	dir     string
	unmount func() error
}

func mount(t *testing.T) *mounted {
	t.Helper()
	if err := Available(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("FUSE is needed: %v", err)
		}
		t.Skipf("no FUSE here: %v", err)
	}
	m := &mounted{Disk: New(), t: t, dir: t.TempDir()}
	m.up()
	t.Cleanup(m.down)
	return m
}

func (m *mounted) up() {
	m.t.Helper()
	var err error
	if m.unmount, err = m.Mount(m.dir); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mounted) down() {
	m.t.Helper()
	if err := m.unmount(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mounted) crash(c Crash) {
	m.t.Helper()
	m.down()
	m.Crash(c)
	m.up()
}

func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

// must fails the test on an error.
func (m *mounted) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// put writes a file, and syncs it if it is asked to.
func (m *mounted) put(name, text string, sync bool) {
	m.t.Helper()
	f, err := os.OpenFile(m.path(name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	m.must(err)
	_, err = f.WriteString(text)
	m.must(err)
	if sync {
		m.must(f.Sync())
	}
	m.must(f.Close())
}

func (m *mounted) syncDir(name string) {
	m.t.Helper()
	f, err := os.Open(m.path(name))
	m.must(err)
	m.must(f.Sync())
	m.must(f.Close())
}

// has fails unless the file has this text; "-" is for no file.
func (m *mounted) has(name, want string) {
	m.t.Helper()
	b, err := os.ReadFile(m.path(name))
	got := string(b)
	if errors.Is(err, os.ErrNotExist) {
		got = "-"
	} else {
		m.must(err)
	}
	if got != want {
		m.t.Errorf("%s: got %.60q, want %.60q", name, got, want)
	}
}

// TestCrash does things with files and takes the power away: what was synced is there, and nothing else.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(m *mounted)
		want map[string]string
	}{
		{"file and name synced", func(m *mounted) { m.put("a", "one", true); m.syncDir("") }, map[string]string{"a": "one"}},
		{"name not synced", func(m *mounted) { m.put("a", "one", true) }, map[string]string{"a": "-"}},
		{"file not synced", func(m *mounted) { m.put("a", "one", false); m.syncDir("") }, map[string]string{"a": ""}},
		{"written again, not synced", func(m *mounted) { m.put("a", "one", true); m.syncDir(""); m.put("a", "two, longer", false) }, map[string]string{"a": "one"}},
		{"written again and synced", func(m *mounted) { m.put("a", "one, longer", true); m.syncDir(""); m.put("a", "two", true) }, map[string]string{"a": "two"}},
		{"truncated, not synced", func(m *mounted) {
			m.put("a", "one", true)
			m.syncDir("")
			m.must(os.Truncate(m.path("a"), 1))
		}, map[string]string{"a": "one"}},
		{"renamed, not synced", func(m *mounted) {
			m.put("a", "one", true)
			m.put("b", "two", true)
			m.syncDir("")
			m.must(os.Rename(m.path("b"), m.path("a")))
			m.has("a", "two")
		}, map[string]string{"a": "one", "b": "two"}},
		{"renamed and synced", func(m *mounted) {
			m.put("a", "one", true)
			m.put("b", "two", true)
			m.syncDir("")
			m.must(os.Rename(m.path("b"), m.path("a")))
			m.syncDir("")
		}, map[string]string{"a": "two", "b": "-"}},
		{"removed, not synced", func(m *mounted) {
			m.put("a", "one", true)
			m.syncDir("")
			m.must(os.Remove(m.path("a")))
			m.has("a", "-")
		}, map[string]string{"a": "one"}},
		{"in a directory", func(m *mounted) {
			m.must(os.Mkdir(m.path("d"), 0o700))
			m.syncDir("")
			m.put("d/a", "one", true)
			m.put("d/b", "two", true)
			m.syncDir("d")
			m.put("d/c", "three", true)
		}, map[string]string{"d/a": "one", "d/b": "two", "d/c": "-"}},
		{"a directory not synced", func(m *mounted) {
			m.must(os.Mkdir(m.path("d"), 0o700))
			m.put("d/a", "one", true)
			m.syncDir("d")
		}, map[string]string{"d/a": "-"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mount(t)
			c.do(m)
			m.crash(Crash{})
			for name, want := range c.want {
				m.has(name, want)
			}
			m.crash(Crash{}) // and stays so
			for name, want := range c.want {
				m.has(name, want)
			}
		})
	}
}

// TestRandomCrash: what was synced survives every kind of crash, what was not is torn by sectors and nothing smaller.
func TestRandomCrash(t *testing.T) {
	m := mount(t)
	const pages = 64
	old, young := bytes.Repeat([]byte{'o'}, pages*pageSize), bytes.Repeat([]byte{'y'}, pages*pageSize)
	kinds := map[byte]int{}
	for seed := range uint64(5) {
		m.put("a", string(old), true)
		m.syncDir("")
		f, err := os.OpenFile(m.path("a"), os.O_WRONLY, 0)
		m.must(err)
		_, err = f.Write(young)
		m.must(err)
		m.must(f.Close())
		m.put("b", "two", true)
		m.crash(Crash{Random: rand.New(rand.NewPCG(seed, 0))})
		got, err := os.ReadFile(m.path("a"))
		m.must(err)
		if len(got) != len(old) {
			t.Fatalf("got %d bytes, want %d", len(got), len(old))
		}
		for sector := range slices.Chunk(got, sectorSize) {
			if !bytes.Equal(sector, bytes.Repeat(sector[:1], sectorSize)) {
				t.Fatalf("a torn sector: %q", sector)
			}
			kinds[sector[0]]++
		}
	}
	if kinds['o'] == 0 || kinds['y'] == 0 || len(kinds) != 2 {
		t.Errorf("sectors: %v, want some old and some new", kinds)
	}
}

// TestFaults makes the disk full and broken.
func TestFaults(t *testing.T) {
	m := mount(t)
	m.must(os.Mkdir(m.path("d"), 0o700))
	m.put("d/a", "one", true)
	f, err := os.OpenFile(m.path("d/a"), os.O_WRONLY, 0)
	m.must(err)
	defer f.Close()

	m.Fail(Faults{Match: Under("d"), Full: true})
	m.put("other", "fine", true)
	if _, err := f.WriteAt([]byte("xx"), 8); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("growing: got %v, want %v", err, syscall.ENOSPC)
	}
	if _, err := f.WriteAt([]byte("two"), 0); err != nil {
		t.Errorf("in place: %v", err)
	}
	if _, err := os.Create(m.path("d/b")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a new file: got %v, want %v", err, syscall.ENOSPC)
	}
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, 8192); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("fallocate: got %v, want %v", err, syscall.ENOSPC)
	}
	m.Fail(Faults{})
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, 8192); err != nil {
		t.Errorf("fallocate: %v", err)
	}
	m.syncDir("d")
	m.syncDir("")
	m.must(f.Sync())

	m.Fail(Faults{Match: Under("d"), Writes: 1})
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("write: got %v, want %v", err, syscall.EIO)
	}
	if _, err := f.WriteAt([]byte("2"), 0); err != nil {
		t.Errorf("second write: %v", err)
	}
	m.Fail(Faults{Match: Under("d"), Syncs: 1})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync: got %v, want %v", err, syscall.EIO)
	}
	m.must(f.Sync()) // it says so, but the page counted as written
	m.must(f.Close())
	m.crash(Crash{})
	b, err := os.ReadFile(m.path("d/a"))
	m.must(err)
	if len(b) != 8192 || string(b[:3]) != "two" {
		t.Errorf("after a failed sync: got %d bytes, %.10q, want 8192 with what was synced before", len(b), b)
	}
}

// TestSlow makes syncs slow.
func TestSlow(t *testing.T) {
	m := mount(t)
	const slow = 20 * time.Millisecond
	m.Fail(Faults{SyncTime: slow})
	begun := time.Now()
	m.put("a", "one", true)
	if took := time.Since(begun); took < slow {
		t.Errorf("the sync took %v, want %v or more", took, slow)
	}
	if s := m.Stats(); s.Syncs != 1 || s.Bytes != 3 {
		t.Errorf("stats: %+v", s)
	}
}
