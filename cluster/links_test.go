package cluster_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// seen is what a client has got, however often.
type seen struct {
	mu sync.Mutex
	m  map[string]int
}

func (s *seen) note(_ mqtt.Client, m mqtt.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[string(m.Payload())]++
}

func (s *seen) misses(want []string) (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range want {
		if s.m[text] == 0 {
			list = append(list, text)
		}
	}
	return list
}

// enter connects a client with a session that stays.
func (f *fleet) enter(b *box, id string, got *seen) mqtt.Client {
	f.t.Helper()
	o := mqtt.NewClientOptions().AddBroker("tcp://" + b.mqtt).SetClientID(id).SetProtocolVersion(4).SetCleanSession(false).
		SetAutoReconnect(false).SetConnectTimeout(5 * time.Second)
	if got != nil {
		o.SetDefaultPublishHandler(got.note)
	}
	var c mqtt.Client
	f.poll(id+" is let in", 20*time.Second, func() bool {
		c = mqtt.NewClient(o)
		token := c.Connect()
		return token.WaitTimeout(5*time.Second) && token.Error() == nil
	})
	f.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// A message that one node has acknowledged reaches a session on another, whichever of them is killed meanwhile.
func TestLinkSurvivesKills(t *testing.T) {
	f := newFleet(t, 3, map[string]string{"zone.external.max_mqueue_len": "0"})
	f.start(f.boxes...)
	f.agree(3, f.boxes...)
	from, to := f.boxes[0], f.boxes[2]
	got := &seen{m: map[string]int{}}
	s := f.enter(to, "s", got)
	if token := s.Subscribe("k/#", 1, nil); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	p := f.enter(from, "p", nil)
	f.poll("messages cross", 20*time.Second, func() bool {
		p.Publish("k/1", 1, false, "first").WaitTimeout(5 * time.Second)
		return got.misses([]string{"first"}) == nil
	})
	var acked []string
	publish := func(n int, meanwhile func(i int)) {
		for i := range n {
			text := fmt.Sprint(len(acked))
			token := p.Publish("k/2", 1, false, text)
			if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
				t.Fatalf("publish: %v", token.Error())
			}
			acked = append(acked, text)
			meanwhile(i)
		}
	}
	publish(300, func(i int) {
		switch i {
		case 100:
			f.kill(to)
		case 200:
			f.start(to)
		}
	})
	f.kill(from) // with what still waits for the other
	f.enter(to, "s", got)
	f.start(from)
	f.poll("everything that was acknowledged has come", 40*time.Second, func() bool { return got.misses(acked) == nil })
	p = f.enter(from, "p", nil)
	f.poll("messages cross again", 20*time.Second, func() bool {
		p.Publish("k/1", 1, false, "last").WaitTimeout(5 * time.Second)
		return got.misses([]string{"last"}) == nil
	})
	t.Logf("%d acknowledged messages have come", len(acked))
}
