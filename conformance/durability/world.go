package durability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// world is a broker, the clients that load it, and the ledger of what it owes them.
type world struct {
	*broker
	ledger *ledger
	place  *place
	random *rand.Rand
	seed   uint64

	publishers  []*publisher
	subscribers []*subscriber
	audiences   []*audience
	late        []*subscriber // connect at the end only
	joiner      *subscriber   // subscribes in the middle
	leaver      *subscriber   // gives its subscription up in the middle

	gone    map[string]bool // topics whose retained message was deleted
	wills   int
	markers int

	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	drained sync.WaitGroup // publishers
}

// load says how heavy the clients of a world are. The zero value of each field is as much as the broker takes.
type load struct {
	pause time.Duration // of each publisher between two messages
}

// exitData is the exit code of a node that cannot use its data directory.
const exitData = 5

// newWorld makes the clients. Nothing is connected before open.
func newWorld(b *broker, seed uint64, how load) *world {
	w := &world{broker: b, ledger: newLedger(), place: newPlace(), seed: seed, gone: map[string]bool{},
		random: rand.New(rand.NewPCG(seed, 1))}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	for i, c := range []struct {
		v      byte
		window int
	}{{4, 8}, {5, 24}, {5, 2}} {
		p := &publisher{id: fmt.Sprintf("p%d", i+1), v: c.v, window: c.window, pause: how.pause, ledger: w.ledger, place: w.place,
			random: rand.New(rand.NewPCG(seed, uint64(100+i)))}
		add := func(topic string, qos byte, k kind, weight int) *source {
			topic += fmt.Sprintf("/q%d", qos)
			s := w.ledger.stream(strings.ReplaceAll(topic, "/", "-"), topic, qos, k)
			p.sources = append(p.sources, source{stream: s, weight: weight})
			return &p.sources[len(p.sources)-1]
		}
		for qos := byte(1); qos <= 2; qos++ {
			add("t/"+p.id+"/a", qos, ordinary, 30)
			add("t/"+p.id+"/b", qos, ordinary, 10)
			add("s/"+p.id, qos, ordinary, 8)
			add("r/"+p.id+"/x", qos, kept, 3)
			add("r/"+p.id+"/y", qos, kept, 2)
			d := add("d/"+p.id, qos, later, 1)
			d.delay = time.Duration(1+i%2) * time.Second
			d.topic = fmt.Sprintf("$delayed/%d/%s", 1+i%2, d.stream.topic)
		}
		w.publishers = append(w.publishers, p)
	}
	w.subscriber("live1", 4, 1, "t/")
	w.subscriber("live2", 5, 2, "t/")
	w.subscriber("narrow", 5, 2, "t/p3/").window = 2
	w.subscriber("lazy", 5, 2, "t/p2/").batch = 8
	w.subscriber("lazy1", 4, 1, "t/p1/").batch = 5
	w.subscriber("unsteady", 5, 2, "t/").patience = 97
	w.subscriber("kept", 4, 2, "r/")
	w.subscriber("delayed", 5, 2, "d/")
	w.subscriber("wills", 4, 2, "w/")
	w.late = []*subscriber{w.subscriber("late1", 5, 1, "t/p3/"), w.subscriber("late2", 4, 2, "t/p3/"), w.subscriber("late3", 5, 2, "d/")}
	w.joiner, w.leaver = w.subscriber("joiner", 5, 2, "t/"), w.subscriber("leaver", 4, 1, "t/p2/")

	group := newAudience("group", true)
	x := &interest{prefix: "s/", qos: 2}
	group.filters = []*interest{x}
	w.audiences = append(w.audiences, group)
	for _, id := range []string{"member1", "member2"} {
		s := w.subscriber(id, 5, 2, "")
		s.audience = group
		s.filters = append(s.filters, &filter{name: "$share/g/s/#", interest: x})
	}
	return w
}

// subscriber makes a subscriber to everything that begins with prefix, and to the markers. "" is for members of a group.
func (w *world) subscriber(id string, v, qos byte, prefix string) *subscriber {
	s := &subscriber{id: id, v: v, audience: newAudience(id, false), ledger: w.ledger, place: w.place}
	s.filters = []*filter{{name: "m/#", interest: &interest{prefix: "m/", qos: qos}}}
	if prefix != "" {
		x := &interest{prefix: prefix, qos: qos}
		s.audience.filters = []*interest{x}
		s.filters = append(s.filters, &filter{name: prefix + "#", interest: x})
		w.audiences = append(w.audiences, s.audience)
	}
	s.prepare()
	w.subscribers = append(w.subscribers, s)
	return s
}

// open lets the clients in: subscribers first, and the publishers once all of those have their SUBACK.
func (w *world) open(address string) error {
	w.place.set(address)
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	for _, s := range w.subscribers {
		if s != w.joiner {
			s.come()
		}
		w.tasks.Go(func() { s.run(w.ctx) })
	}
	for _, s := range w.subscribers {
		if s == w.joiner {
			continue
		}
		if err := s.settled(ctx); err != nil {
			return err
		}
	}
	for _, s := range w.late {
		s.go_()
	}
	for _, p := range w.publishers {
		w.drained.Add(1)
		w.tasks.Go(func() {
			defer w.drained.Done()
			p.run(w.ctx)
		})
	}
	return nil
}

// close ends the clients.
func (w *world) close() {
	w.cancel()
	w.tasks.Wait()
}

// crash ends the process as kill -9 does.
func (w *world) crash() {
	w.place.set("")
	w.kill()
}

// again starts the broker and tells the clients where it is.
func (w *world) again(env ...string) (time.Duration, error) {
	address, err := w.start(env...)
	if err != nil {
		if errors.Is(err, errEnded) && w.process.command.ProcessState.ExitCode() == exitData {
			w.ledger.broken("the broker does not start any more")
		}
		return 0, err
	}
	w.place.set(address)
	return time.Since(w.process.begun), nil
}

// address is where the broker listens.
func (w *world) address() string {
	w.place.mu.Lock()
	defer w.place.mu.Unlock()
	return w.place.address
}

// acked waits until so many more messages are acknowledged, or the process has ended, or nothing was acknowledged for too long.
func (w *world) acked(more int) error {
	first, _ := w.ledger.counts()
	for {
		now, grown := w.ledger.progress()
		if now >= first+more {
			return nil
		}
		select {
		case <-grown:
		case <-w.process.ended:
			return fmt.Errorf("%w: %s\n%s", errEnded, w.process.command.ProcessState, w.process.log)
		case <-time.After(patience):
			return fmt.Errorf("nothing was acknowledged for %v, %d of %d were\n%s", patience, now-first, more, w.process.log)
		}
	}
}

// changes does what happens in the middle of a run: somebody subscribes, somebody gives a subscription up.
func (w *world) changes() error {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	w.joiner.come()
	w.leaver.abandon(w.leaver.filters[1])
	return errors.Join(w.joiner.settled(ctx), w.leaver.settled(ctx))
}

// episode does what takes a client of its own and has to be remembered over the next kill: a retained message that is deleted, and
// a will whose client is gone.
func (w *world) episode() error {
	address := w.address()
	c, _, err := connect(address, 5, hello{id: "episode", clean: true})
	if err != nil {
		return err
	}
	defer c.nc.Close()
	w.wills++
	topic := fmt.Sprintf("x/%d", w.wills)
	for _, payload := range []string{"kept", ""} {
		if err := c.publish(topic, []byte(payload), true); err != nil {
			return err
		}
	}
	w.gone[topic] = true

	// The will of a client that is gone before the kill: known to be so by the API, and kept because what comes after it is.
	id := fmt.Sprintf("dying%d", w.wills)
	topic = "w/" + id
	s := w.ledger.stream(id, topic, 2, will)
	const delay = time.Second
	n, payload := w.ledger.send(s, 20, time.Now().Add(delay))
	d, _, err := connect(address, 5, hello{id: id, will: &publication{topic: topic, payload: payload, qos: 2}, willDelay: uint32(delay / time.Second)})
	if err != nil {
		return err
	}
	if w.wills%2 == 0 { // the others die with the broker
		if err := d.drop(); err != nil {
			return err
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			rows, err := w.rows("connections/" + id)
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("the client %s is still connected", id)
			}
		}
	} else {
		context.AfterFunc(w.ctx, func() { d.nc.Close() })
	}
	if err := c.publish("m/after", nil, false); err != nil { // durable sessions want it
		return err
	}
	w.ledger.ack(s, n, false)
	return nil
}

// catchUp lets those who come late have what waits for them, so that the broker can forget it, and go again.
func (w *world) catchUp() error {
	for _, s := range w.late {
		s.come()
	}
	err := w.mark()
	for _, s := range w.late {
		s.go_()
	}
	return err
}

// observe looks at the retained messages as a new subscriber sees them.
func (w *world) observe(address string) error { return observe(w.ledger, address, "r/", w.gone) }

// settle ends the load, lets everybody have what is for them and writes down what has not come. The broker must run.
func (w *world) settle() {
	for _, p := range w.publishers {
		p.drain()
	}
	done := make(chan struct{})
	go func() {
		w.drained.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		w.ledger.broken("publications are not acknowledged after the last start")
	}
	for _, s := range append(w.late, w.joiner) {
		s.come()
	}
	if err := w.mark(); err != nil {
		w.ledger.broken("%v", err)
	}
	for _, a := range w.audiences {
		// What has been sent before the marker has come now. Shared messages have no order, and delayed ones and wills their time.
		limit := time.Now()
		switch {
		case a.shared:
			limit = limit.Add(5 * time.Second)
		case a.filters[0].prefix == "d/" || a.filters[0].prefix == "w/":
			limit = w.ledger.lastDue().Add(5 * time.Second)
		}
		for {
			texts, count := w.ledger.missing(a, 5)
			if count == 0 {
				break
			}
			if time.Now().After(limit) && w.ledger.lastDue().Before(time.Now()) {
				w.ledger.broken("%s: %d messages that were acknowledged are lost: %s", a.name, count, strings.Join(texts, ", "))
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// mark publishes a message to everybody and waits until all have it.
func (w *world) mark() error {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	address, err := w.place.wait(ctx)
	if err != nil {
		return err
	}
	c, _, err := connect(address, 5, hello{id: "marker", clean: true})
	if err != nil {
		return err
	}
	defer c.nc.Close()
	w.markers++
	marker := fmt.Sprint(w.markers)
	if err := c.publish("m/"+marker, nil, false); err != nil {
		return err
	}
	var errs []error
	for _, s := range w.subscribers {
		errs = append(errs, s.marked(ctx, marker))
	}
	return errors.Join(errs...)
}

// report is the last line of a run.
func (w *world) report(what string) string {
	acked, arrived := w.ledger.counts()
	return fmt.Sprintf("%s: seed %d, %d messages acknowledged, %d arrivals checked", what, w.seed, acked, arrived)
}
