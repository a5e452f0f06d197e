package durability

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/durability/lossyfs"
	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// platter is a disk that can lose its power, mounted.
type platter struct {
	*lossyfs.Disk
	t       *testing.T
	dir     string
	unmount func() error
}

// newPlatter mounts a disk. Where that cannot be done the test is skipped, but not in CI.
func newPlatter(t *testing.T) *platter {
	t.Helper()
	if err := lossyfs.Available(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("FUSE is needed: %v", err)
		}
		t.Skipf("no FUSE here: %v", err)
	}
	p := &platter{Disk: lossyfs.New(), t: t, dir: filepath.Join(t.TempDir(), "disk")}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.up()
	t.Cleanup(p.down)
	return p
}

func (p *platter) up() {
	p.t.Helper()
	var err error
	if p.unmount, err = p.Mount(p.dir); err != nil {
		p.t.Fatal(err)
	}
}

func (p *platter) down() {
	p.t.Helper()
	if err := p.unmount(); err != nil {
		p.t.Fatal(err)
	}
}

// powerCut takes the power away from a world whose data is on the disk: in half of the cases nothing that was not synced lasts, in
// the others any part of it.
func (p *platter) powerCut(w *world) {
	p.t.Helper()
	w.crash()
	p.down()
	c := lossyfs.Crash{}
	if w.random.IntN(2) == 0 {
		c.Random = rand.New(rand.NewPCG(w.random.Uint64(), 0))
	}
	p.Crash(c)
	p.up()
}

// data makes a directory for a node, on the disk and for ever.
func (p *platter) data() string {
	p.t.Helper()
	dir := filepath.Join(p.dir, "data")
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		var d *os.File
		if d, err = os.Open(p.dir); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return dir
}

// TestPowerLoss ends the broker and takes away what it has not synced, over and over. Syncs take a while, as those of disks do, so
// that there is always something on its way.
func TestPowerLoss(t *testing.T) {
	seed := chance(t)
	disk := newPlatter(t)
	cycles := max(*cycles/2, 1)
	w := newWorld(&broker{program: child(t), data: disk.data(), settings: map[string]string{"store.segment_size": "256KB"}}, seed, pace{})
	defer func() { w.kill() }()
	defer w.close()
	disk.Fail(lossyfs.Faults{Match: lossyfs.Under("data/store"), SyncTime: 3 * time.Millisecond})
	w.must(t, w.run(cycles, func() { disk.powerCut(w) }))
	enough(t, w, fmt.Sprintf("loss of power, %d cycles, %d syncs", cycles, disk.Stats().Syncs), cycles*50)
}

// faults are what the disk of the store can do to a running broker.
var faults = []struct {
	name   string
	faults lossyfs.Faults
}{
	{"full", lossyfs.Faults{Full: true}},
	{"writes fail", lossyfs.Faults{Writes: -1}},
	{"syncs fail", lossyfs.Faults{Syncs: -1}},
	{"one sync fails", lossyfs.Faults{Syncs: 1}},
}

// TestDiskFaults makes the disk of a broker full or broken under load: what needs the disk is refused and nothing is acknowledged
// falsely, all else goes on, an alarm stands; when the disk works again so does the broker, without a start. What was acknowledged
// survives a loss of power that comes last.
func TestDiskFaults(t *testing.T) {
	for _, c := range faults {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			seed := chance(t)
			disk := newPlatter(t)
			w := newWorld(&broker{program: child(t), data: disk.data(), settings: map[string]string{"store.segment_size": "64KB"}}, seed, pace{pause: time.Millisecond})
			defer func() { w.kill() }()
			defer w.close()
			address, err := w.start()
			if err != nil {
				t.Fatal(err)
			}
			if err := w.open(address); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(w.acked(100), w.changes(), w.episode()); err != nil {
				t.Fatal(err)
			}
			f := c.faults
			f.Match = lossyfs.Under("data/store")
			disk.Fail(f)
			eventually(t, "the disk fails", func() bool { return disk.Stats().Failed > 0 })
			if f.Syncs <= 0 { // one fault alone may pass without anybody having to be refused
				w.refusing(t)
			}
			disk.Fail(lossyfs.Faults{})
			if err := w.acked(300); err != nil {
				t.Fatalf("the disk works again: %v", err)
			}
			eventually(t, "the alarm is cleared", func() bool { return !w.alarmed(t) })
			if err := w.episode(); err != nil {
				t.Fatal(err)
			}
			disk.powerCut(w)
			_, err = w.again()
			w.must(t, err)
			w.must(t, w.observe(w.address()))
			if w.ledger.Verdict() == "" {
				w.settle()
			}
			enough(t, w, c.name, 400)
		})
	}
}

// refusing holds the broker to what it promises while its disk fails.
func (w *world) refusing(t *testing.T) {
	t.Helper()
	closes := func() int { _, n := w.publishers[0].Answers(); return n }
	before := closes()
	eventually(t, "MQTT 3.1.1 is disconnected", func() bool { return closes() > before })
	eventually(t, "an alarm stands", func() bool { return w.alarmed(t) })
	acked, _ := w.ledger.Counts()

	c, _, err := load.Connect(w.address(), 5, load.Hello{ID: "refused", Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range uint16(6) {
		qos := byte(1 + i%2)
		if err := c.Write(load.PublishBytes(5, load.Publication{Topic: "m/refused", QoS: qos, Retain: i > 3, ID: 1 + i})); err != nil {
			t.Fatal(err)
		}
		p, err := c.Want(map[byte]byte{1: load.TypePuback, 2: load.TypePubrec}[qos])
		if err != nil {
			t.Fatalf("QoS %d: %v", qos, err)
		}
		if p.Code != load.CodeQuota {
			t.Errorf("QoS %d: answered with 0x%02x, want 0x%02x", qos, p.Code, load.CodeQuota)
		}
	}
	if err := c.Subscribe("passing", 0); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := c.Write(load.PublishBytes(5, load.Publication{Topic: "passing"})); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Want(load.TypePublish); err != nil {
			t.Fatalf("QoS 0: %v", err)
		}
	}
	if _, err := w.rows("connections/"); err != nil {
		t.Errorf("API: %v", err)
	}
	if now, _ := w.ledger.Counts(); now > acked {
		t.Errorf("%d messages were acknowledged while the disk failed", now-acked)
	}
}

// alarmed reports whether an alarm of the store stands.
func (w *world) alarmed(t *testing.T) bool {
	t.Helper()
	rows, err := w.rows("alarms/" + nodeName)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if strings.Contains(fmt.Sprint(row["id"]), "store") {
			return true
		}
	}
	return false
}

// eventually polls until f reports true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(load.Patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", load.Patience, what)
		}
	}
}
