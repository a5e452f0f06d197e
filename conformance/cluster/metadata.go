//go:build linux

package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// metadata are clients that write and read bans through all nodes (G4): some bans are registers, whose history has to be that of one
// copy, others are made once and have to be there from then on. Reads that are marked stale promise nothing.
type metadata struct {
	nodes  []*node
	ledger *load.Ledger
	seed   uint64
	zero   time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	made    map[string]bool // bans whose creation was answered with success
	written int             // values of registers
	known   int             // operations that were answered
	stale   int             // reads that were marked
	lacking int             // writes answered with 503
}

const (
	registers  = 3
	metaPause  = 40 * time.Millisecond // of each client between two operations
	metaWrites = 4                     // clients
)

// register is the input of an operation.
type register struct {
	key   int
	write bool
	value int
}

// registerModel is a set of registers.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, registers)
		for _, o := range history {
			k := o.Input.(register).key
			parts[k] = append(parts[k], o)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		in := input.(register)
		if in.write {
			return true, in.value
		}
		return output.(int) == state.(int), state
	},
	DescribeOperation: func(input, output any) string {
		if in := input.(register); in.write {
			return fmt.Sprint("write ", in.value)
		}
		return fmt.Sprint("read ", output)
	},
}

func newMetadata(nodes []*node, ledger *load.Ledger, seed uint64) *metadata {
	return &metadata{nodes: nodes, ledger: ledger, seed: seed, zero: time.Now(), made: map[string]bool{}}
}

func registerName(key int) string { return fmt.Sprint("register-", key) }

// ban writes a ban through a node.
func ban(n *node, who, text string) (answer, error) {
	return n.call("POST", "/api/v3/banned", map[string]any{"who": who, "as": "client_id", "reason": "a test", "desc": text, "until": 4102444800})
}

// bans reads all of them through a node, with their texts.
func bans(n *node) (all map[string]string, stale bool, err error) {
	var page struct {
		Items []struct{ Who, Desc string }
	}
	stale, err = n.get("/api/v3/banned?_page=1&_limit=10000", &page)
	all = map[string]string{}
	for _, x := range page.Items {
		all[x.Who] = x.Desc
	}
	return all, stale, err
}

// begin makes the registers.
func (m *metadata) begin() error {
	for k := range registers {
		if a, err := ban(m.nodes[0], registerName(k), "0"); err != nil || a.status/100 != 2 {
			return fmt.Errorf("ban: %w %d %s", err, a.status, a.body)
		}
	}
	return nil
}

// run is one client.
func (m *metadata) run(ctx context.Context, client int) {
	rng := rand.New(rand.NewPCG(m.seed, uint64(1000+client)))
	for n := 0; ctx.Err() == nil; n++ {
		at := m.nodes[rng.IntN(len(m.nodes))]
		if n%4 == 3 {
			m.create(fmt.Sprintf("made-%d-%d", client, n), at, m.nodes[rng.IntN(len(m.nodes))])
		} else {
			m.operate(client, register{key: rng.IntN(registers), write: rng.IntN(2) == 0}, at)
		}
		select {
		case <-ctx.Done():
		case <-time.After(metaPause):
		}
	}
}

// operate writes or reads a register.
func (m *metadata) operate(client int, in register, at *node) {
	if in.write {
		m.mu.Lock()
		m.written++
		in.value = m.written
		m.mu.Unlock()
	}
	o := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(m.zero))}
	if in.write {
		a, err := ban(at, registerName(in.key), strconv.Itoa(in.value))
		o.Return = int64(time.Since(m.zero))
		m.mu.Lock()
		defer m.mu.Unlock()
		switch {
		case err == errDown: // was not asked
			return
		case err == nil && a.status/100 == 2:
			m.known++
		default: // it may have been done, be done now, later or never
			o.Return = int64(24 * time.Hour)
			if err == nil {
				m.refused(at, a)
			}
		}
		m.history = append(m.history, o)
		return
	}
	all, stale, err := bans(at)
	o.Return = int64(time.Since(m.zero))
	m.mu.Lock()
	defer m.mu.Unlock()
	if stale {
		m.stale++
	}
	if err != nil || stale {
		return
	}
	v, err := strconv.Atoi(all[registerName(in.key)])
	if err != nil {
		m.ledger.Broken("%s: register %d is %q", at.name, in.key, all[registerName(in.key)])
		return
	}
	o.Output = v
	m.known++
	m.history = append(m.history, o)
}

// refused notes a write that was refused: by want of a majority, and by nothing else. m.mu is held.
func (m *metadata) refused(at *node, a answer) {
	if a.status != http.StatusServiceUnavailable {
		m.ledger.Broken("%s: a write was answered with %d %s", at.name, a.status, a.body)
		return
	}
	m.lacking++
	if a.header.Get("Retry-After") == "" {
		m.ledger.Broken("%s: 503 without Retry-After", at.name)
	}
}

// create makes a ban through one node, and looks for it through another as soon as that is answered.
func (m *metadata) create(who string, at, through *node) {
	a, err := ban(at, who, "made")
	if err != nil {
		return
	}
	if a.status/100 != 2 {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.refused(at, a)
		return
	}
	m.mu.Lock()
	m.made[who] = true
	m.known++
	m.mu.Unlock()
	if all, stale, err := bans(through); err == nil && !stale && all[who] == "" {
		m.ledger.Broken("%s: the ban of %s, answered with %d by %s, is not there", through.name, who, a.status, at.name)
	}
}

// check holds the history against the model, and every node against what was answered. All of them run and are not cut off.
func (m *metadata) check() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if result := porcupine.CheckOperationsTimeout(registerModel, m.history, time.Minute); result != porcupine.Ok {
		m.ledger.Broken("the history of %d writes and reads of metadata is not that of one copy: %v", len(m.history), result)
	}
	for _, n := range m.nodes {
		all, stale, err := bans(n)
		if err != nil || stale {
			m.ledger.Broken("%s: metadata cannot be read: stale %t, %v", n.name, stale, err)
			continue
		}
		lost := 0
		for who := range m.made {
			if all[who] == "" {
				lost++
			}
		}
		if lost > 0 {
			m.ledger.Broken("%s: %d of %d bans that were answered with success are lost", n.name, lost, len(m.made))
		}
	}
}

// report says what was done.
func (m *metadata) report() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%d metadata operations answered, %d writes refused for want of a majority, %d stale reads", m.known, m.lacking, m.stale)
}
