package impl

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Limits of failed logins. A source may fail failBurst times at once and then
// once in failEvery; the table of sources is bounded, and the source that has
// been quiet for the longest makes room.
const (
	failBurst   = 60
	failEvery   = time.Second
	failSources = 10_000
)

// failures counts failed logins by source address, as token buckets.
type failures struct {
	burst   float64
	every   time.Duration
	sources int

	mu    sync.Mutex
	bySrc map[netip.Prefix]*list.Element // of *bucket
	order list.List                      // the least recently used at the back
}

type bucket struct {
	src    netip.Prefix
	tokens float64
	at     time.Time
}

func newFailures(burst int, every time.Duration, sources int) *failures {
	return &failures{burst: float64(burst), every: every, sources: sources, bySrc: make(map[netip.Prefix]*list.Element)}
}

// source is what one guesser can be expected to hold: an IPv4 address, or a
// /64 of IPv6.
func source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // bits fit the address
	return p
}

// wait returns how long src must wait before it may try another password; 0
// when it may now. A source that has not failed has no entry.
func (f *failures) wait(src netip.Addr, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	el := f.bySrc[source(src)]
	if el == nil {
		return 0
	}
	b := el.Value.(*bucket)
	f.refill(b, now)
	if b.tokens >= 1 {
		return 0
	}
	return time.Duration((1 - b.tokens) * float64(f.every))
}

// failed takes a token of src.
func (f *failures) failed(src netip.Addr, now time.Time) {
	p := source(src)
	f.mu.Lock()
	defer f.mu.Unlock()
	el := f.bySrc[p]
	if el == nil {
		if f.order.Len() >= f.sources {
			oldest := f.order.Back()
			delete(f.bySrc, oldest.Value.(*bucket).src)
			f.order.Remove(oldest)
		}
		el = f.order.PushFront(&bucket{src: p, tokens: f.burst, at: now})
		f.bySrc[p] = el
	}
	f.order.MoveToFront(el)
	b := el.Value.(*bucket)
	f.refill(b, now)
	b.tokens = max(b.tokens-1, 0)
}

// size is the number of sources that are remembered.
func (f *failures) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.order.Len()
}

// refill is called with mu held.
func (f *failures) refill(b *bucket, now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(f.burst, b.tokens+float64(d)/float64(f.every))
		b.at = now
	}
}
