package raftstore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// childVar names the directory in which this test binary, run as a child,
// writes until it is killed.
const childVar = "LACEWING_RAFTSTORE_CHILD"

const childWriters = 8

// oftenSnapshots makes a store snapshot every few entries.
func oftenSnapshots(c *raft.Config) {
	c.SnapshotInterval = 20 * time.Millisecond
	c.SnapshotThreshold = 16
	c.TrailingLogs = 8
}

// childMain writes acknowledged numbers to standard output: first what it finds
// ("has W N"), then what it writes ("ack W N"), for each writer W.
func childMain() bool {
	dir := os.Getenv(childVar)
	if dir == "" {
		return false
	}
	s, err := Open(Options{Dir: dir, tune: oftenSnapshots})
	if err != nil {
		fmt.Println("fail", err)
		os.Exit(1)
	}
	var next [childWriters]int
	for k, v := range s.View().Config(Cluster) {
		w, _ := strconv.Atoi(strings.TrimPrefix(k, "w"))
		next[w], _ = strconv.Atoi(v)
		fmt.Println("has", w, v)
	}
	fmt.Println("ready")
	for w := range childWriters {
		go func() {
			for n := next[w] + 1; ; n++ {
				if err := s.SetConfig(context.Background(), Cluster, fmt.Sprintf("w%d", w), strconv.Itoa(n)); err != nil {
					fmt.Println("fail", err)
					os.Exit(1)
				}
				fmt.Println("ack", w, n)
			}
		}()
	}
	select {}
}

// TestKill kills a node at random instants while it acknowledges writes: every
// acknowledged one is there afterwards, and at most one more for each writer.
// Every fourth time it is killed while it starts, or soon after.
func TestKill(t *testing.T) {
	cycles := 20
	if testing.Short() {
		cycles = 5
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	var acked [childWriters]int
	total := 0
	for cycle := range cycles + 1 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVar+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := func() { cmd.Process.Kill() } // it may have ended: the scan says so
		early := cycle%4 == 3
		if early { // while it starts, perhaps
			time.AfterFunc(time.Duration(rng.IntN(300))*time.Millisecond, kill)
		}
		lines := bufio.NewScanner(out)
		found, ready := map[int]int{}, false
		for !ready && lines.Scan() {
			var w, n int
			if ready = lines.Text() == "ready"; ready {
				break
			}
			if _, err := fmt.Sscanf(lines.Text(), "has %d %d", &w, &n); err == nil {
				found[w] = n
			} else if !early {
				t.Fatalf("cycle %d: %s", cycle, lines.Text())
			}
		}
		for w, want := range acked {
			if ready && (found[w] < want || found[w] > want+1) {
				t.Errorf("cycle %d: writer %d: found %d, acknowledged were %d", cycle, w, found[w], want)
			}
			if ready {
				acked[w] = found[w]
			}
		}
		if !ready && !early {
			t.Fatalf("cycle %d: the node ended at its start", cycle)
		}
		if !early {
			time.AfterFunc(time.Duration(rng.IntN(150))*time.Millisecond, kill)
		}
		for lines.Scan() {
			var w, n int
			if _, err := fmt.Sscanf(lines.Text(), "ack %d %d", &w, &n); err != nil {
				continue // the last line may be cut
			}
			acked[w] = n
			total++
		}
		io.Copy(io.Discard, out)
		cmd.Wait() // killed
	}
	if total < 100 {
		t.Errorf("only %d writes were acknowledged: the test says nothing", total)
	}
	t.Logf("%d writes acknowledged in %d runs", total, cycles+1)
}
