// Package delayedpublish is the plugin that holds messages back: what is published
// to $delayed/{seconds}/{topic} reaches the subscribers of {topic} that many seconds
// later.
package delayedpublish

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
	"github.com/lacewing-mqtt/lacewing/plugins"
)

// Prefix begins the topics that the plugin takes.
const Prefix = "$delayed/"

// MaxDelay is the longest delay in seconds. A larger number is a Unix time, which may
// lie at most that far ahead.
const MaxDelay = 4294967

// Descriptor describes the plugin. EMQ 2.3 does not list it.
func Descriptor() plugins.Descriptor {
	return plugins.Descriptor{
		Name:    "delayed_publish",
		V3:      plugins.Listing{Version: "3.0", Description: "EMQ X Delayed Publish"},
		Default: true,
		Keys:    keys,
		New:     func() plugins.Plugin { return new(Delayed) },
	}
}

var keys = []config.Key{
	{
		Name: "delayed_publish.max_messages", Type: config.Integer, Default: "100000", Min: 1, Plugin: "delayed_publish",
		Doc: "The most messages that wait at a time; a further one is refused.",
	},
	{
		Name: "delayed_publish.max_bytes", Type: config.Bytesize, Default: "64MB", Min: 1, Plugin: "delayed_publish",
		Doc: "The most bytes of topics, payloads and properties that wait at a time; a message beyond is refused.",
	},
}

// Delayed is the running plugin. The engine holds what waits.
type Delayed struct {
	engine *engine.Engine
	remove func()
}

// Start takes the topics over. What waits already, also from before a restart, is published when it is due.
func (d *Delayed) Start(ctx context.Context, env plugins.Env) error {
	d.engine = env.Engine
	if err := d.Configure(ctx, env.Config); err != nil {
		return err
	}
	d.remove = env.Engine.AddHooks("delayed_publish", engine.Hooks{Publish: d.take})
	return nil
}

// Configure sets the limits; what waits already stays.
func (d *Delayed) Configure(_ context.Context, cfg *config.Config) error {
	err := d.engine.EnableDelayed(engine.DelayedOptions{
		MaxMessages: cfg.Int("delayed_publish.max_messages"), MaxBytes: cfg.Bytes("delayed_publish.max_bytes"),
	})
	if err != nil {
		return fmt.Errorf("limits of delayed messages: %w", err)
	}
	return nil
}

// Stop takes no more. What waits was acknowledged and goes on waiting: it is published when the plugin is active again.
func (d *Delayed) Stop(context.Context) error {
	d.remove()
	d.engine.DisableDelayed()
	return nil
}

// errDelay says what is wrong with the topic of a delayed message.
var errDelay = errors.New("bad delay")

// parse splits $delayed/{seconds}/{topic}. The topic is used as it stands: one that
// begins with a slash keeps it, and $SYS is allowed.
func parse(name string, now time.Time) (to string, due time.Time, err error) {
	rest, ok := strings.CutPrefix(name, Prefix)
	if !ok {
		return "", time.Time{}, fmt.Errorf("%w: no delayed topic", errDelay)
	}
	number, to, ok := strings.Cut(rest, "/")
	if !ok || !topic.ValidName(to) {
		return "", time.Time{}, fmt.Errorf("%w: no topic behind the seconds", errDelay)
	}
	seconds, err := strconv.ParseUint(number, 10, 33)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("%w: %q is no number of seconds", errDelay, number)
	}
	if seconds < MaxDelay {
		return to, now.Add(time.Duration(seconds) * time.Second), nil
	}
	due = time.Unix(int64(seconds), 0)
	if due.After(now.Add(MaxDelay * time.Second)) {
		return "", time.Time{}, fmt.Errorf("%w: more than %d s ahead", errDelay, MaxDelay)
	}
	return to, due, nil
}

// take is the publish hook.
func (d *Delayed) take(m *engine.Message) (bool, packet.ReasonCode) {
	if !strings.HasPrefix(m.Topic, Prefix) {
		return false, packet.Success
	}
	now := time.Now()
	to, due, err := parse(m.Topic, now)
	if err != nil || strings.HasPrefix(to, Prefix) {
		return true, packet.TopicNameInvalid
	}
	// The delay may not open a way to topics that the client may not publish to.
	if !plugins.MayPublish(d.engine, m, to) {
		return true, packet.NotAuthorized
	}
	if err := d.engine.Delay(m, to, due); err != nil {
		return true, packet.QuotaExceeded
	}
	return true, packet.Success
}

var (
	_ plugins.Plugin     = (*Delayed)(nil)
	_ plugins.Configurer = (*Delayed)(nil)
)
