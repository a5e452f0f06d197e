package engine

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Alarm is a condition that an operator should know of.
type Alarm struct {
	ID       string // such as "queue_high_watermark.{clientid}"
	Severity string // "notice", "warning", "error" or "critical"
	Title    string
	Summary  string
	RaisedAt time.Time // zero in Raise: now
	// ClearedAt is zero while the alarm lasts.
	ClearedAt time.Time
}

// maxAlarms bounds the raised alarms: sessions make them, and strangers make sessions. Further ones are counted only.
const maxAlarms = 10000

// Alarms is the table of alarms. Raising and clearing is published below $SYS/brokers/{node}/alarms/.
type Alarms struct {
	e       *Engine
	mu      sync.Mutex
	raised  map[string]Alarm
	history []Alarm // cleared ones, the latest last
	lost    int64
}

// Alarms gives the table of alarms.
func (e *Engine) Alarms() *Alarms { return &e.alarms }

// Raise raises an alarm, or does nothing if one with that ID is raised already.
func (a *Alarms) Raise(al Alarm) {
	if al.RaisedAt.IsZero() {
		al.RaisedAt = time.Unix(0, a.e.clock.Load())
	}
	a.mu.Lock()
	if _, there := a.raised[al.ID]; there {
		a.mu.Unlock()
		return
	}
	if len(a.raised) >= maxAlarms {
		a.lost++
		a.mu.Unlock()
		return
	}
	if a.raised == nil {
		a.raised = map[string]Alarm{}
	}
	a.raised[al.ID] = al
	a.mu.Unlock()
	a.e.log.Warn("alarm raised", "id", al.ID, "severity", al.Severity, "title", al.Title)
	a.publish(al, "alert")
}

// Clear clears an alarm; it reports whether it was raised.
func (a *Alarms) Clear(id string) bool {
	a.mu.Lock()
	al, there := a.raised[id]
	if there {
		delete(a.raised, id)
		al.ClearedAt = time.Unix(0, a.e.clock.Load())
		a.history = append(a.history, al)
		if over := len(a.history) - a.e.settings.Load().AlarmHistory; over > 0 {
			a.history = slices.Delete(a.history, 0, over)
		}
	}
	a.mu.Unlock()
	if there {
		a.e.log.Info("alarm cleared", "id", id)
		a.publish(al, "clear")
	}
	return there
}

// List gives the raised alarms in the order of their IDs.
func (a *Alarms) List() []Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.raised), func(x, y Alarm) int { return strings.Compare(x.ID, y.ID) })
}

// History gives the cleared alarms, the latest first, as many as Settings.AlarmHistory.
func (a *Alarms) History() []Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := slices.Clone(a.history)
	slices.Reverse(h)
	return h
}

// publish tells subscribers of $SYS.
func (a *Alarms) publish(al Alarm, what string) {
	body := map[string]any{"id": al.ID}
	if what == "alert" {
		body["severity"], body["title"], body["summary"], body["ts"] = al.Severity, al.Title, al.Summary, al.RaisedAt.Unix()
	}
	payload, err := json.Marshal(body)
	if err != nil {
		a.e.log.Error("alarm not published", "id", al.ID, "err", err)
		return
	}
	// A client id may have what a topic name must not.
	id := strings.NewReplacer("+", "_", "#", "_").Replace(al.ID)
	a.e.publishSys("alarms/"+id+"/"+what, payload, false)
}

// queueAlarm raises or clears the alarm of a session whose queue passed a watermark.
// Its words are those that 2.3 has for it.
func (e *Engine) queueAlarm(s *Session, raise bool, summary string) {
	id := "queue_high_watermark." + s.clientID
	if !raise {
		e.alarms.Clear(id)
		return
	}
	e.alarms.Raise(Alarm{ID: id, Severity: "warning", Title: "Queue " + s.clientID + " high-water mark", Summary: summary})
}
