package engine

import (
	"fmt"
	"strconv"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

func isSys[S ~string | ~[]byte](s S) bool { return topic.IsSys(s) }

func levels[S ~string | ~[]byte](s S) int { return topic.Levels(s) }

// publishSys publishes a message of the broker about itself below $SYS/brokers/{node}/.
func (e *Engine) publishSys(name string, payload []byte, retain bool) {
	e.publishOwn("$SYS/brokers/"+e.node+"/"+name, payload, retain)
}

func (e *Engine) publishOwn(name string, payload []byte, retain bool) {
	b := e.borrow()
	defer b.giveBack()
	if _, err := b.inject(&Message{Topic: name, Payload: payload, Retain: retain, Sys: true, From: e.node}, true); err != nil {
		e.log.Debug("not published", "topic", name, "err", err)
	}
}

// sysTick publishes the $SYS topics that are due. e.stepping is held.
func (e *Engine) sysTick(now int64) {
	s := e.settings.Load()
	if s.SysHeartbeat > 0 && now >= e.heartbeatDue {
		e.heartbeatDue = now + int64(s.SysHeartbeat)
		e.publishSys("uptime", []byte(FormatUptime(time.Duration(now-e.started))), false)
		e.publishSys("datetime", time.Unix(0, now).Local().AppendFormat(nil, time.DateTime), false)
	}
	if s.SysInterval <= 0 || now < e.sysDue {
		return
	}
	e.sysDue = now + int64(s.SysInterval)
	e.publishOwn("$SYS/brokers", []byte(e.node), true)
	e.publishSys("version", []byte(e.version), true)
	e.publishSys("sysdescr", []byte(e.descr), true)
	m := e.Metrics()
	for i := range NumMetricsV30 {
		e.publishSys("metrics/"+Metric(i).Name(), strconv.AppendInt(nil, m[i], 10), false)
	}
	for _, st := range e.Stats().Named() {
		e.publishSys("stats/"+st.Name+"/count", strconv.AppendInt(nil, st.Count, 10), false)
		e.publishSys("stats/"+st.Name+"/max", strconv.AppendInt(nil, st.Max, 10), false)
	}
}

// NamedStat is a Stat and its name in the documents, without /count and /max.
type NamedStat struct {
	Name string
	Stat
}

// Named gives the stats with the names that 3.0 has for them.
func (s Stats) Named() []NamedStat {
	return []NamedStat{
		{"connections", s.Connections}, {"sessions", s.Sessions}, {"sessions/persistent", s.SessionsPersistent},
		{"topics", s.Topics}, {"subscribers", s.Subscribers}, {"subscriptions", s.Subscriptions},
		{"subscriptions/shared", s.SubscriptionsShared}, {"routes", s.Routes}, {"retained", s.Retained},
	}
}

// FormatUptime writes a duration as EMQ does: largest unit that is not zero first, smaller ones kept, always plural.
func FormatUptime(d time.Duration) string {
	n := int64(d / time.Second)
	s := fmt.Sprintf("%d seconds", n%60)
	if n >= 60 {
		s = fmt.Sprintf("%d minutes, %s", n/60%60, s)
	}
	if n >= 3600 {
		s = fmt.Sprintf("%d hours, %s", n/3600%24, s)
	}
	if n >= 86400 {
		s = fmt.Sprintf("%d days,%s", n/86400, s)
	}
	return s
}
