package cluster_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	api "github.com/lacewing-mqtt/lacewing/gen/node"
)

// keeps gives what a new subscriber on a node gets of retained messages: everything that comes before a message of its own does.
func (f *fleet) keeps(b *box, n int) (map[string]string, error) {
	id := fmt.Sprint("reader", n)
	got, own := map[string]string{}, make(chan struct{})
	var mu sync.Mutex
	o := mqtt.NewClientOptions().AddBroker("tcp://" + b.mqtt).SetClientID(id).SetProtocolVersion(4).SetAutoReconnect(false).
		SetConnectTimeout(5 * time.Second).SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		mu.Lock()
		defer mu.Unlock()
		if m.Topic() == "r/"+id {
			close(own)
		} else if m.Retained() {
			got[m.Topic()] = string(m.Payload())
		}
	})
	c := mqtt.NewClient(o)
	defer c.Disconnect(0)
	for _, do := range []func() mqtt.Token{
		c.Connect,
		func() mqtt.Token { return c.Subscribe("r/#", 0, nil) },
		func() mqtt.Token { return c.Publish("r/"+id, 0, false, "x") },
	} {
		if t := do(); !t.WaitTimeout(5*time.Second) || t.Error() != nil {
			return nil, fmt.Errorf("reader: %v", t.Error())
		}
	}
	select {
	case <-own:
	case <-time.After(5 * time.Second):
		return nil, fmt.Errorf("reader: its own message does not come")
	}
	mu.Lock()
	defer mu.Unlock()
	return maps.Clone(got), nil
}

// All nodes have the same retained messages, also those that were away, stood still, or have lost everything.
func TestRetainedAgree(t *testing.T) {
	f := newFleet(t, 3, nil)
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	readers := 0
	want := map[string]string{}
	all := func(what string, boxes ...*box) {
		t.Helper()
		for _, b := range boxes {
			var got map[string]string
			var err error
			begin := time.Now()
			f.poll(fmt.Sprintf("%s: %s has what was set", what, b.name), 40*time.Second, func() bool {
				readers++
				got, err = f.keeps(b, readers)
				return err == nil && maps.Equal(got, want)
			})
			t.Logf("%s: %s after %v", what, b.name, time.Since(begin).Round(time.Millisecond))
		}
	}
	set := func(c mqtt.Client, topic, text string) {
		t.Helper()
		if token := c.Publish(topic, 1, true, text); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
			t.Fatalf("publish: %v", token.Error())
		}
		if want[topic] = text; text == "" {
			delete(want, topic)
		}
	}
	p := make([]mqtt.Client, 3)
	for i, b := range f.boxes {
		p[i] = f.enter(b, fmt.Sprint("p", i), nil)
		for j := range 20 {
			set(p[i], fmt.Sprintf("r/%d/%d", i, j), "first")
		}
	}
	all("set", f.boxes...)
	away := f.boxes[2]
	f.kill(away)
	for j := range 10 {
		set(p[0], fmt.Sprintf("r/2/%d", j), "")
		set(p[1], fmt.Sprintf("r/0/%d", j), "second")
	}
	all("one is away", f.boxes[:2]...)
	f.start(away)
	all("one is back", f.boxes...)
	// It stands still, and the others take it for dead; then it goes on, with what a client has told it.
	p[2] = f.enter(away, "p2", nil)
	f.boxes[2].cmd.Process.Signal(syscall.SIGSTOP)
	set(p[0], "r/0/1", "while it stood still")
	set(p[1], "r/2/11", "")
	f.poll("the others take it for dead", 20*time.Second, func() bool {
		s, err := f.boxes[0].status()
		return err == nil && slices.ContainsFunc(s.Members, func(m api.ClusterMember) bool { return m.Name == away.name && !m.Running })
	})
	f.boxes[2].cmd.Process.Signal(syscall.SIGCONT)
	set(p[2], "r/2/12", "of the one that stood still")
	all("it goes on", f.boxes...)
	f.kill(away)
	if err := os.RemoveAll(away.dir + "/store"); err != nil {
		t.Fatal(err)
	}
	set(p[0], "r/1/1", "")
	f.start(away)
	all("it has lost its messages", f.boxes...)
	for _, b := range f.boxes { // and all of it is on disk
		f.kill(b)
	}
	f.start(f.boxes...)
	all("all were killed", f.boxes...)
	f.agree(3, f.boxes...)
	again := f.enter(f.boxes[2], "again", nil)
	set(again, "r/0/1", "last")
	set(again, "r/0/2", "")
	all("after all", f.boxes...)
}
