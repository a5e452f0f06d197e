package engine

import (
	"sync/atomic"
	"time"
)

// bucket is a token bucket. The zero bucket is full.
type bucket struct {
	tokens float64
	at     int64 // of tokens, ns; 0: full
}

// fill brings the tokens up to date.
func (k *bucket) fill(now int64, l RateLimit) {
	burst := max(l.Burst, l.Rate)
	if l.Burst > 0 {
		burst = l.Burst
	}
	if k.at == 0 {
		k.tokens = burst
	} else {
		k.tokens = min(burst, k.tokens+l.Rate*float64(now-k.at)/float64(time.Second))
	}
	k.at = now
}

// take takes n tokens if they are there.
func (k *bucket) take(now int64, l RateLimit, n float64) bool {
	k.fill(now, l)
	if k.tokens < n {
		return false
	}
	k.tokens -= n
	return true
}

// spend takes n tokens and gives how long the debt lasts, ns; 0 without debt.
func (k *bucket) spend(now int64, l RateLimit, n float64) int64 {
	if !l.Limited() {
		return 0
	}
	k.fill(now, l)
	k.tokens -= n
	if k.tokens >= 0 {
		return 0
	}
	return int64(-k.tokens / l.Rate * float64(time.Second))
}

// connLimits are the rate limits of one connection. Their buckets are used by Feed only.
type connLimits struct {
	bytes, messages, publish RateLimit
	kb, km, kp               bucket
	until                    atomic.Int64 // nothing is read before, ns since the epoch; 0: no hold
}

// newLimits gives the limits of a connection, nil if there are none.
func newLimits(o *ListenerOptions, z *Zone, now int64) *connLimits {
	if !o.ByteLimit.Limited() && !o.MessageLimit.Limited() && !z.PublishLimit.Limited() {
		return nil
	}
	return &connLimits{bytes: o.ByteLimit, messages: o.MessageLimit, publish: z.PublishLimit}
}

// spend counts what was read and reports whether the connection has to be held until until.
func (l *connLimits) spend(now int64, bytes, messages int) (hold bool) {
	debt := max(l.kb.spend(now, l.bytes, float64(bytes)), l.km.spend(now, l.messages, float64(messages)), l.kp.spend(now, l.publish, float64(messages)))
	if debt <= 0 {
		return false
	}
	l.until.Store(now + debt)
	return true
}
