package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// onDisk writes m into a directory.
func onDisk(t *testing.T, m image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range m {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// loadDir loads a directory and closes it again.
func loadDir(t *testing.T, dir string) (*engine.Stored, error) {
	t.Helper()
	d := disk(t, Options{Dir: dir})
	s, err := d.Load()
	if cerr := d.Close(); cerr != nil {
		t.Fatal(cerr)
	}
	return s, err
}

// Each byte is damaged in turn: what can be read is kept and can be loaded, and what is lost is reported.
func TestRepair(t *testing.T) {
	m, _, _ := small(t)
	dir := onDisk(t, m)
	r, err := Repair(dir)
	if err != nil || len(r.Damage) != 0 || r.Saved != "" || r.Deliveries != 12 || r.Messages != 12 || r.Sessions != 1 {
		t.Fatalf("without damage: %+v, %v", r, err)
	}
	first := filepath.Base(m.names()[0])
	for at := 0; at < used(m[m.names()[0]]); at += 37 {
		dir := onDisk(t, m)
		path := filepath.Join(dir, first)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[at] ^= 0x10
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadDir(t, dir); err == nil {
			t.Fatalf("byte %d: loaded", at)
		}
		checked, err := Check(dir)
		if err != nil || len(checked.Damage) == 0 || checked.Damage[0].File != first {
			t.Fatalf("byte %d: check: %+v, %v", at, checked, err)
		}
		r, err := Repair(dir)
		if err != nil || len(r.Damage) != len(checked.Damage) || r.Deliveries < 11 && r.Sessions == 1 {
			t.Fatalf("byte %d: repair: %+v, %v", at, r, err)
		}
		if kept, err := os.ReadFile(filepath.Join(r.Saved, first)); err != nil || string(kept) != string(data) {
			t.Fatalf("byte %d: the damaged file was not kept: %v", at, err)
		}
		s, err := loadDir(t, dir)
		if err != nil || len(s.Sessions) != r.Sessions || s.Orderly {
			t.Fatalf("byte %d: after the repair: %v, %v", at, s, err)
		}
		for _, x := range s.Sessions {
			if len(x.Deliveries) != r.Deliveries {
				t.Fatalf("byte %d: %d deliveries, %d reported", at, len(x.Deliveries), r.Deliveries)
			}
		}
	}
}

// A repair that ends between its last two steps is ended by the next open.
func TestRepairInterrupted(t *testing.T) {
	m, _, _ := small(t)
	dir := onDisk(t, m)
	if err := os.Rename(dir, dir+repairSuffix); err != nil {
		t.Fatal(err)
	}
	s, err := loadDir(t, dir)
	if err != nil || len(s.Sessions) != 1 {
		t.Fatalf("got %v, %v", s, err)
	}
}
