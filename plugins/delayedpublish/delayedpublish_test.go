package delayedpublish

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

func TestParse(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		topic, to string
		delay     time.Duration
		bad       bool
	}{
		{topic: "$delayed/15/a/b", to: "a/b", delay: 15 * time.Second},
		{topic: "$delayed/60//a/b", to: "/a/b", delay: time.Minute},
		{topic: "$delayed/0/a", to: "a"},
		{topic: "$delayed/1/$SYS/x", to: "$SYS/x", delay: time.Second},
		{topic: "$delayed/4294966/a", to: "a", delay: 4294966 * time.Second},
		{topic: "$delayed/1800000100/a", to: "a", delay: 100 * time.Second},
		{topic: "$delayed/1799999000/a", to: "a", delay: -1000 * time.Second}, // a time that is over: at once
		{topic: "$delayed/1804294968/a", bad: true},                           // too far ahead
		{topic: "$delayed/x/a", bad: true},
		{topic: "$delayed/-1/a", bad: true},
		{topic: "$delayed/99999999999999999999/a", bad: true},
		{topic: "$delayed/5", bad: true},
		{topic: "$delayed/5/", bad: true},
		{topic: "$delayed/5/a/#", bad: true},
	} {
		to, due, err := parse(c.topic, now)
		if c.bad {
			if !errors.Is(err, errDelay) {
				t.Errorf("%s: got %q %v %v, want an error", c.topic, to, due, err)
			}
			continue
		}
		if err != nil || to != c.to || due.Sub(now) != c.delay {
			t.Errorf("%s: got %q after %v, %v, want %q after %v", c.topic, to, due.Sub(now), err, c.to, c.delay)
		}
	}
}

// TestOrder publishes hours ahead in the time of synctest.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := engine.New(engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var got []string
		begin := time.Now()
		table, err := config.NewTable(Descriptor().Keys)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(table, config.LoadOptions{Set: []string{"delayed_publish.max_bytes=64"}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- e.Run(ctx) }()
		defer func() {
			cancel()
			<-ended
		}()
		d := new(Delayed)
		if err := d.Start(t.Context(), plugins.Env{Engine: e, Config: cfg, Logger: slog.New(slog.DiscardHandler)}); err != nil {
			t.Fatal(err)
		}
		remove := e.AddHooks("test", engine.Hooks{Dropped: func(_ string, m *engine.Message, _ string) {
			if m.Sys {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, m.Topic+" "+time.Since(begin).Round(time.Second).String())
		}})
		defer remove()
		for _, topic := range []string{"$delayed/7200/late", "$delayed/1/first", "$delayed/3600/hour", "$delayed/3600/hour2"} {
			if _, err := e.Publish(&engine.Message{Topic: topic, Payload: []byte("x"), From: "test", At: time.Now()}); err != nil {
				t.Fatalf("%s: %v", topic, err)
			}
		}
		if _, err := e.Publish(&engine.Message{Topic: "$delayed/1/large", Payload: make([]byte, 100), From: "test"}); err == nil {
			t.Error("a message above max_bytes was taken")
		}
		if n, refused := e.Delayed(); n != 4 || refused != 1 {
			t.Errorf("got %d waiting and %d refused, want 4 and 1", n, refused)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := []string{"first 1s", "hour 1h0m0s", "hour2 1h0m0s", "late 2h0m0s"}
		if len(got) != len(want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if err := d.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
