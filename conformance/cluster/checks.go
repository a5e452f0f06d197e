//go:build linux

package cluster

import (
	"fmt"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// What this tree promises beyond one node. A promise that is not kept yet is not checked.
const (
	// retainedEverywhere is G5: on every node the last acknowledged retained message wins. Without it a retained message is that of the
	// node that took it.
	retainedEverywhere = false
)

// Room for what may come and go in a process that does not grow (G8).
const (
	roomGoroutines  = 24
	roomDescriptors = 24
	roomHeap        = 32 << 20
	roomResident    = 128 << 20
)

// baseline measures the nodes before the load.
func (w *world) baseline() error {
	w.base = map[*node]figures{}
	for _, n := range w.nodes {
		f, err := n.measure()
		if err != nil {
			return err
		}
		w.base[n] = f
	}
	return nil
}

// growth measures the nodes after everything, with the same clients: what they have more is what faults have left (G8).
func (w *world) growth() {
	for _, n := range w.nodes {
		b := w.base[n]
		err := w.poll(n.name+" is as large as it was", load.Patience, func() (bool, string) {
			f, err := n.measure()
			if err != nil {
				return false, err.Error()
			}
			return f.Goroutines <= b.Goroutines+roomGoroutines && f.Descriptors <= b.Descriptors+roomDescriptors &&
				f.Heap <= b.Heap+roomHeap && f.Resident <= b.Resident+roomResident, fmt.Sprintf("%+v, was %+v", f, b)
		})
		if err != nil {
			w.ledger.Broken("G8: %v", err)
		}
	}
}

// retained holds the retained messages that a new subscriber gets through each node to what was acknowledged (G5): those that were taken
// there, or all.
func (w *world) retained() {
	for i, n := range w.nodes {
		prefixes := []string{"r/"}
		if !retainedEverywhere {
			prefixes = nil
			for _, p := range w.groups[i].publishers {
				prefixes = append(prefixes, "r/"+p.ID+"/")
			}
		}
		for _, prefix := range prefixes {
			if err := load.Observe(w.ledger, n.mqtt(), prefix, nil); err != nil {
				w.ledger.Broken("%s: %v", n.name, err)
			}
		}
	}
}

// restarted stops all nodes in order, starts them and lets everybody have what comes: nothing may come twice.
func (w *world) restarted() error {
	if err := each(w.nodes, (*node).stop); err != nil {
		w.ledger.Broken("%v", err)
	}
	for _, n := range w.nodes {
		if err := n.begin(); err != nil {
			return err
		}
	}
	if err := each(w.nodes, (*node).listens); err != nil {
		return err
	}
	if err := w.formed(w.nodes); err != nil {
		return err
	}
	if err := w.crossing(); err != nil {
		return err
	}
	if err := w.mark(); err != nil { // whatever comes again comes before
		w.ledger.Broken("after a stop in order: %v", err)
	}
	time.Sleep(200 * time.Millisecond) // what is wrong and comes behind it
	return nil
}
