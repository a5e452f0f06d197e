package durability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/internal/load"
)

// world is a broker, the clients that load it, and the ledger of what it owes them.
type world struct {
	*broker
	ledger *load.Ledger
	place  *load.Place
	random *rand.Rand
	seed   uint64

	publishers  []*load.Publisher
	subscribers []*load.Subscriber
	audiences   []*load.Audience
	late        []*load.Subscriber // connect at the end only
	joiner      *load.Subscriber   // subscribes in the middle
	leaver      *load.Subscriber   // gives its subscription up in the middle

	gone    map[string]bool // topics whose retained message was deleted
	wills   int
	markers int

	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	drained sync.WaitGroup // publishers
}

// pace says how heavy the clients of a world are. The zero value of each field is as much as the broker takes.
type pace struct {
	pause time.Duration // of each publisher between two messages
}

// exitData is the exit code of a node that cannot use its data directory.
const exitData = 5

// newWorld makes the clients. Nothing is connected before open.
func newWorld(b *broker, seed uint64, how pace) *world {
	w := &world{broker: b, ledger: load.NewLedger(), place: load.NewPlace(), seed: seed, gone: map[string]bool{},
		random: rand.New(rand.NewPCG(seed, 1))}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	for i, c := range []struct {
		v      byte
		window int
	}{{4, 8}, {5, 24}, {5, 2}} {
		p := &load.Publisher{ID: fmt.Sprintf("p%d", i+1), Version: c.v, Window: c.window, Pause: how.pause, Ledger: w.ledger, Place: w.place,
			Random: rand.New(rand.NewPCG(seed, uint64(100+i)))}
		add := func(topic string, qos byte, k load.Kind, weight int) *load.Source {
			topic += fmt.Sprintf("/q%d", qos)
			s := w.ledger.Stream(strings.ReplaceAll(topic, "/", "-"), topic, qos, k)
			p.Sources = append(p.Sources, load.Source{Stream: s, Weight: weight})
			return &p.Sources[len(p.Sources)-1]
		}
		for qos := byte(1); qos <= 2; qos++ {
			add("t/"+p.ID+"/a", qos, load.Ordinary, 30)
			add("t/"+p.ID+"/b", qos, load.Ordinary, 10)
			add("s/"+p.ID, qos, load.Ordinary, 8)
			add("r/"+p.ID+"/x", qos, load.Kept, 3)
			add("r/"+p.ID+"/y", qos, load.Kept, 2)
			d := add("d/"+p.ID, qos, load.Later, 1)
			d.Delay = time.Duration(1+i%2) * time.Second
			d.Topic = fmt.Sprintf("$delayed/%d/%s", 1+i%2, d.Stream.Topic)
		}
		w.publishers = append(w.publishers, p)
	}
	w.subscriber("live1", 4, 1, "t/")
	w.subscriber("live2", 5, 2, "t/")
	w.subscriber("narrow", 5, 2, "t/p3/").Window = 2
	w.subscriber("lazy", 5, 2, "t/p2/").Batch = 8
	w.subscriber("lazy1", 4, 1, "t/p1/").Batch = 5
	w.subscriber("unsteady", 5, 2, "t/").Patience = 97
	w.subscriber("kept", 4, 2, "r/")
	w.subscriber("delayed", 5, 2, "d/")
	w.subscriber("wills", 4, 2, "w/")
	w.late = []*load.Subscriber{w.subscriber("late1", 5, 1, "t/p3/"), w.subscriber("late2", 4, 2, "t/p3/"), w.subscriber("late3", 5, 2, "d/")}
	w.joiner, w.leaver = w.subscriber("joiner", 5, 2, "t/"), w.subscriber("leaver", 4, 1, "t/p2/")

	group := load.NewAudience("group", true)
	x := &load.Interest{Prefix: "s/", QoS: 2}
	group.Filters = []*load.Interest{x}
	w.audiences = append(w.audiences, group)
	for _, id := range []string{"member1", "member2"} {
		s := w.subscriber(id, 5, 2, "")
		s.Audience = group
		s.Filters = append(s.Filters, &load.Filter{Name: "$share/g/s/#", Interest: x})
	}
	return w
}

// subscriber makes a subscriber to everything that begins with prefix, and to the markers. "" is for members of a group.
func (w *world) subscriber(id string, v, qos byte, prefix string) *load.Subscriber {
	s := &load.Subscriber{ID: id, Version: v, Audience: load.NewAudience(id, false), Ledger: w.ledger, Place: w.place}
	s.Filters = []*load.Filter{{Name: "m/#", Interest: &load.Interest{Prefix: "m/", QoS: qos}}}
	if prefix != "" {
		x := &load.Interest{Prefix: prefix, QoS: qos}
		s.Audience.Filters = []*load.Interest{x}
		s.Filters = append(s.Filters, &load.Filter{Name: prefix + "#", Interest: x})
		w.audiences = append(w.audiences, s.Audience)
	}
	s.Prepare()
	w.subscribers = append(w.subscribers, s)
	return s
}

// open lets the clients in: subscribers first, and the publishers once all of those have their SUBACK.
func (w *world) open(address string) error {
	w.place.Set(address)
	ctx, cancel := context.WithTimeout(w.ctx, load.Patience)
	defer cancel()
	for _, s := range w.subscribers {
		if s != w.joiner {
			s.Come()
		}
		w.tasks.Go(func() { s.Run(w.ctx) })
	}
	for _, s := range w.subscribers {
		if s == w.joiner {
			continue
		}
		if err := s.Settled(ctx); err != nil {
			return err
		}
	}
	for _, s := range w.late {
		s.Go()
	}
	for _, p := range w.publishers {
		w.drained.Add(1)
		w.tasks.Go(func() {
			defer w.drained.Done()
			p.Run(w.ctx)
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
	w.place.Set("")
	w.kill()
}

// again starts the broker and tells the clients where it is.
func (w *world) again(env ...string) (time.Duration, error) {
	address, err := w.start(env...)
	if err != nil {
		if errors.Is(err, errEnded) && w.process.command.ProcessState.ExitCode() == exitData {
			w.ledger.Broken("the broker does not start any more")
		}
		return 0, err
	}
	w.place.Set(address)
	return time.Since(w.process.begun), nil
}

// address is where the broker listens.
func (w *world) address() string {
	return w.place.Address()
}

// acked waits until so many more messages are acknowledged, or the process has ended, or nothing was acknowledged for too long.
func (w *world) acked(more int) error {
	first, _ := w.ledger.Counts()
	for {
		now, grown := w.ledger.Progress()
		if now >= first+more {
			return nil
		}
		select {
		case <-grown:
		case <-w.process.ended:
			return fmt.Errorf("%w: %s\n%s", errEnded, w.process.command.ProcessState, w.process.log)
		case <-time.After(load.Patience):
			return fmt.Errorf("nothing was acknowledged for %v, %d of %d were\n%s", load.Patience, now-first, more, w.process.log)
		}
	}
}

// changes does what happens in the middle of a run: somebody subscribes, somebody gives a subscription up.
func (w *world) changes() error {
	ctx, cancel := context.WithTimeout(w.ctx, load.Patience)
	defer cancel()
	w.joiner.Come()
	w.leaver.Abandon(w.leaver.Filters[1])
	return errors.Join(w.joiner.Settled(ctx), w.leaver.Settled(ctx))
}

// episode does what takes a client of its own and has to be remembered over the next kill: a retained message that is deleted, and
// a will whose client is gone.
func (w *world) episode() error {
	address := w.address()
	c, _, err := load.Connect(address, 5, load.Hello{ID: "episode", Clean: true})
	if err != nil {
		return err
	}
	defer c.Close()
	w.wills++
	topic := fmt.Sprintf("x/%d", w.wills)
	for _, payload := range []string{"kept", ""} {
		if err := c.Publish(topic, []byte(payload), true); err != nil {
			return err
		}
	}
	w.gone[topic] = true

	// The will of a client that is gone before the kill: known to be so by the API, and kept because what comes after it is.
	id := fmt.Sprintf("dying%d", w.wills)
	topic = "w/" + id
	s := w.ledger.Stream(id, topic, 2, load.Will)
	const delay = time.Second
	n, payload := w.ledger.Send(s, 20, time.Now().Add(delay))
	d, _, err := load.Connect(address, 5, load.Hello{ID: id, Will: &load.Publication{Topic: topic, Payload: payload, QoS: 2}, WillDelay: uint32(delay / time.Second)})
	if err != nil {
		return err
	}
	if w.wills%2 == 0 { // the others die with the broker
		if err := d.Drop(); err != nil {
			return err
		}
		for deadline := time.Now().Add(load.Patience); ; time.Sleep(time.Millisecond) {
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
		context.AfterFunc(w.ctx, func() { d.Close() })
	}
	if err := c.Publish("m/after", nil, false); err != nil { // durable sessions want it
		return err
	}
	w.ledger.Ack(s, n, false)
	return nil
}

// catchUp lets those who come late have what waits for them, so that the broker can forget it, and go again.
func (w *world) catchUp() error {
	for _, s := range w.late {
		s.Come()
	}
	err := w.mark()
	for _, s := range w.late {
		s.Go()
	}
	return err
}

// observe looks at the retained messages as a new subscriber sees them.
func (w *world) observe(address string) error { return load.Observe(w.ledger, address, "r/", w.gone) }

// settle ends the load, lets everybody have what is for them and writes down what has not come. The broker must run.
func (w *world) settle() {
	for _, p := range w.publishers {
		p.Drain()
	}
	done := make(chan struct{})
	go func() {
		w.drained.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(load.Patience):
		w.ledger.Broken("publications are not acknowledged after the last start")
	}
	for _, s := range append(w.late, w.joiner) {
		s.Come()
	}
	if err := w.mark(); err != nil {
		w.ledger.Broken("%v", err)
	}
	for _, a := range w.audiences {
		// What has been sent before the marker has come now. Shared messages have no order, and delayed ones and wills their time.
		limit := time.Now()
		switch {
		case a.Shared:
			limit = limit.Add(5 * time.Second)
		case a.Filters[0].Prefix == "d/" || a.Filters[0].Prefix == "w/":
			limit = w.ledger.LastDue().Add(5 * time.Second)
		}
		for {
			texts, count := w.ledger.Missing(a, 5)
			if count == 0 {
				break
			}
			if time.Now().After(limit) && w.ledger.LastDue().Before(time.Now()) {
				w.ledger.Broken("%s: %d messages that were acknowledged are lost: %s", a.Name, count, strings.Join(texts, ", "))
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// mark publishes a message to everybody and waits until all have it.
func (w *world) mark() error {
	ctx, cancel := context.WithTimeout(w.ctx, load.Patience)
	defer cancel()
	address, err := w.place.Wait(ctx)
	if err != nil {
		return err
	}
	c, _, err := load.Connect(address, 5, load.Hello{ID: "marker", Clean: true})
	if err != nil {
		return err
	}
	defer c.Close()
	w.markers++
	marker := fmt.Sprint(w.markers)
	if err := c.Publish("m/"+marker, nil, false); err != nil {
		return err
	}
	var errs []error
	for _, s := range w.subscribers {
		errs = append(errs, s.Marked(ctx, marker))
	}
	return errors.Join(errs...)
}

// report is the last line of a run.
func (w *world) report(what string) string {
	acked, arrived := w.ledger.Counts()
	return fmt.Sprintf("%s: seed %d, %d messages acknowledged, %d arrivals checked", what, w.seed, acked, arrived)
}
