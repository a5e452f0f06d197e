package engine

import (
	"sort"
	"sync/atomic"

	"github.com/lacewing-mqtt/lacewing/engine/internal/ordered"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// subTable holds the subscriptions of a session by name: a sorted list while they are few, a tree from then on.
type subTable struct {
	len  atomic.Int32 // may be read without Session.subMu
	list []*sub
	tree *ordered.Tree[string, *sub]
}

const fewSubs = 64

func (t *subTable) find(name string) (int, bool) {
	i := sort.Search(len(t.list), func(i int) bool { return t.list[i].name >= name })
	return i, i < len(t.list) && t.list[i].name == name
}

func (t *subTable) get(name string) *sub {
	if t.tree != nil {
		u, _ := t.tree.Get(name)
		return u
	}
	if i, ok := t.find(name); ok {
		return t.list[i]
	}
	return nil
}

func (t *subTable) put(u *sub) {
	if t.tree == nil && len(t.list) >= fewSubs {
		t.tree = new(ordered.Tree[string, *sub])
		for _, o := range t.list {
			t.tree.Set(o.name, o, ordered.Weights{1})
		}
		t.list = nil
	}
	if t.tree != nil {
		t.tree.Set(u.name, u, ordered.Weights{1})
		t.len.Store(int32(t.tree.Len()))
		return
	}
	i, ok := t.find(u.name)
	if ok {
		t.list[i] = u
		return
	}
	t.list = append(t.list, nil)
	copy(t.list[i+1:], t.list[i:])
	t.list[i] = u
	t.len.Store(int32(len(t.list)))
}

func (t *subTable) remove(name string) {
	if t.tree != nil {
		t.tree.Delete(name)
		t.len.Store(int32(t.tree.Len()))
		return
	}
	if i, ok := t.find(name); ok {
		copy(t.list[i:], t.list[i+1:])
		t.list[len(t.list)-1] = nil
		t.list = t.list[:len(t.list)-1]
		t.len.Store(int32(len(t.list)))
	}
}

// page gives at most limit subscriptions from the offset-th on in the order of names.
func (t *subTable) page(offset, limit int) []*sub {
	if t.tree != nil {
		from, _, ok := t.tree.Seek(0, int64(offset))
		if !ok {
			return nil
		}
		var rows []*sub
		for _, u := range t.tree.Ascend(ordered.Any, from) {
			if len(rows) == limit {
				break
			}
			rows = append(rows, u)
		}
		return rows
	}
	if offset >= len(t.list) {
		return nil
	}
	return append([]*sub(nil), t.list[offset:min(len(t.list), offset+limit)]...)
}

func (t *subTable) all() []*sub { return t.page(0, int(t.len.Load())) }

// handleSubscribe handles SUBSCRIBE.
func (c *Conn) handleSubscribe(b *Batch, flags byte, body []byte) Next {
	b.counts[PacketsSubscribe]++
	var p packet.Subscribe
	if err := p.Decode(c.version, flags, body); err != nil {
		return c.fail(b, err)
	}
	c.traceFilters(b, &p)
	s := c.session
	ack := packet.Suback{PacketID: p.PacketID} // [MQTT-3.8.4-2]
	failed, denied := false, false
	for _, f := range p.Filters { // [MQTT-3.8.4-5] [MQTT-3.8.4-6]
		var code packet.ReasonCode
		if c.link != nil {
			code = c.subscribeLink(b, f, p.SubscriptionID)
		} else {
			code = c.subscribe(b, f, p.SubscriptionID)
		}
		failed = failed || code.Failed()
		denied = denied || code == packet.NotAuthorized
		if c.version == packet.V31 && code.Failed() { // 3.1 has no way to say it
			code = packet.ReasonCode(f.QoS)
		}
		ack.Codes = append(ack.Codes, code) // [MQTT-3.9.3-1]
	}
	if failed {
		b.counts[SubscribeError]++
	}
	if denied {
		b.counts[SubscribeAuthError]++
	}
	b.e.weighSubs(s)
	answer := ack.Append(nil, c.version)
	if c.tooLarge(answer) { // one code for each filter, and nothing to leave out
		return c.fail(b, packet.PacketTooLarge)
	}
	w := wait{at: b.staged, kind: packet.TypeSuback}
	if c.link == nil { // a publish on any node arrives from then on
		w.know = b.e.routeVersion()
	}
	c.mu.Lock()
	c.queueWait(b, w, answer) // [MQTT-3.8.4-1]
	waits := c.wait != nil
	c.mu.Unlock()
	b.counts[PacketsSuback]++
	c.traceOut(b, packet.TypeSuback, p.PacketID, ack.Codes[0])
	if !waits { // or release does it: retained messages come behind SUBACK
		s.pump(b, c)
		b.e.feed(b, s)
	}
	return ReadOn
}

// subscribe handles one filter of a SUBSCRIBE and gives its code.
func (c *Conn) subscribe(b *Batch, f packet.Subscription, id uint32) packet.ReasonCode {
	z := c.zone.load()
	group, filter, shared, ok := topic.ParseShare(f.Filter)
	if !ok || !z.nameFits(filter) {
		return packet.TopicFilterInvalid
	}
	if rest, local := topic.CutLocal(filter); local && !topic.ValidFilter(rest) {
		return packet.TopicFilterInvalid
	}
	x := Subscription{Filter: filter, Share: group, QoS: min(f.QoS, z.MaxQoS), // [MQTT-3.2.2-10]
		NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling, ID: id}
	if c.version != packet.V5 && c.bridge {
		x.RetainAsPublished, x.NoLocal = true, !shared
	}
	if shared && f.NoLocal { // [MQTT-3.8.3-4]
		return packet.UnspecifiedError
	}
	if !z.WildcardSubscription && topic.HasWildcard(filter) {
		return packet.WildcardSubsNotSupported
	}
	if !z.SharedSubscription && shared {
		return packet.SharedSubsNotSupported
	}
	if c.mountpoint != "" {
		if len(c.mountpoint)+len(filter) > packet.MaxString-len(f.Filter)+len(filter) {
			return packet.TopicFilterInvalid
		}
		if rest, local := topic.CutLocal(filter); local {
			x.Filter = topic.LocalPrefix + c.mountpoint + rest
		} else {
			x.Filter = c.mountpoint + filter
		}
		if !topic.ValidFilter(x.Filter) {
			return packet.TopicFilterInvalid
		}
	}
	bare, _ := topic.CutLocal(x.Filter)
	if !c.allowed(b, ActionSubscribe, bare) {
		return packet.NotAuthorized
	}
	if gates := b.e.hooks.Load().subscribe; len(gates) > 0 {
		info := c.describe()
		before := x.Filter
		for _, g := range gates {
			if code := g(&info, &x); code.Failed() {
				return subackCode(code)
			}
		}
		if !x.QoS.Valid() || x.Filter != before && !topic.ValidFilter(x.Filter) {
			return packet.TopicFilterInvalid
		}
	}
	if _, code := b.e.addSub(b, c.session, x); code.Failed() {
		return code
	}
	return packet.ReasonCode(x.QoS) // [MQTT-3.8.4-7]
}

// subackCode gives code, or what stands for it in SUBACK [MQTT-3.9.3-2].
func subackCode(code packet.ReasonCode) packet.ReasonCode {
	switch code {
	case packet.UnspecifiedError, packet.ImplementationSpecificError, packet.NotAuthorized, packet.TopicFilterInvalid,
		packet.PacketIdentifierInUse, packet.QuotaExceeded, packet.SharedSubsNotSupported,
		packet.SubscriptionIDsNotSupported, packet.WildcardSubsNotSupported:
		return code
	}
	return packet.UnspecifiedError
}

// addSub makes x a subscription of s, or puts it in the place of one with the same name [MQTT-3.8.4-3], and prepares the
// delivery of retained messages. The caller calls weighSubs and feed afterwards.
func (e *Engine) addSub(b *Batch, s *Session, x Subscription) (existed bool, code packet.ReasonCode) {
	name := x.Name()
	s.subMu.Lock()
	if s.closed {
		s.subMu.Unlock()
		return false, packet.UnspecifiedError
	}
	old := s.subs.get(name)
	existed = old != nil
	if s.link != nil && existed && old.Subscription == x {
		s.subMu.Unlock()
		return true, packet.Success
	}
	if store := e.durable.store; store != nil && store.Err() != nil && s.kept.Load() != nil && !(existed && old.Subscription == x) {
		s.subMu.Unlock()
		return false, packet.QuotaExceeded
	}
	if !existed && s.link == nil {
		z := s.policy()
		limit := e.settings.Load().MaxSubscriptions
		if z.MaxSubscriptions > 0 && int(s.subs.len.Load()) >= z.MaxSubscriptions ||
			limit > 0 && e.gauges.subscriptions.count.Load() >= int64(limit) {
			s.subMu.Unlock()
			return false, packet.QuotaExceeded
		}
	}
	u := &sub{Subscription: x, name: name, s: s}
	if x.ID != 0 {
		u.ids = &[]uint32{x.ID}
	}
	s.putSub(b, u, old)
	e.router.insert(u, old) // [MQTT-3.8.4-4]
	s.subs.put(u)
	if !existed {
		e.gaugeSub(u, 1)
		e.gaugeRoutes()
	}
	s.subMu.Unlock()
	if s.link != nil {
		return existed, packet.Success
	}

	// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
	if x.Share == "" && (x.RetainHandling == packet.RetainSend || x.RetainHandling == packet.RetainSendIfNew && !existed) &&
		e.retainer.options.Load() != nil && e.retainer.names.Len() > 0 {
		s.mu.Lock()
		s.startFeed(u, old)
		s.mu.Unlock()
	}
	for _, h := range e.hooks.Load().sessionSubscribed {
		h(s.clientID, x)
	}
	return existed, packet.Success
}

// weighSubs tells the registry how many subscriptions a session has.
func (e *Engine) weighSubs(s *Session) {
	e.registry.mu.Lock()
	defer e.registry.mu.Unlock()
	if cur, _ := e.registry.tree.Get(s.clientID); cur == s {
		e.registry.tree.SetWeights(s.clientID, s.weights())
	}
}

// gaugeRoutes renews the gauges of filters and rows.
func (e *Engine) gaugeRoutes() {
	e.gauges.topics.set(e.router.topics())
	e.gauges.routes.set(e.router.rowCount())
}

// dropSub takes u, which s has, out of all tables. s.subMu is held.
func (e *Engine) dropSub(s *Session, u *sub) {
	e.router.remove(u)
	s.subs.remove(u.name)
	e.gaugeSub(u, -1)
	e.gaugeRoutes()
}

// gaugeSub counts u, which has come, d = 1, or gone, d = -1. s.subMu is held.
func (e *Engine) gaugeSub(u *sub, d int64) {
	if k := u.s.link; k != nil {
		k.routes.change(u.name, d > 0)
		return
	}
	e.gauges.subscriptions.add(d)
	if u.Share != "" {
		e.gauges.shared.add(d)
	}
}

// cutSub takes back the subscription of that name. The caller calls weighSubs afterwards.
func (e *Engine) cutSub(b *Batch, s *Session, name string) bool {
	s.subMu.Lock()
	u := s.subs.get(name) // compared byte by byte [MQTT-3.10.4-1]
	if u == nil {
		s.subMu.Unlock()
		return false
	}
	e.dropSub(s, u)
	s.subMu.Unlock()
	s.mu.Lock()
	if d := s.kept.Load(); d != nil && !s.dead {
		d.last = b.stage(e.durable.store.EndSubscription(d.number, name))
		d.subs -= u.stored()
		e.durable.live.Add(-u.stored())
	}
	for i, f := range s.feeds {
		if f.u.name == name {
			f.ended = true
			s.feeds = append(append([]*retainedFeed(nil), s.feeds[:i]...), s.feeds[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	if s.link != nil {
		return true
	}
	for _, h := range e.hooks.Load().sessionUnsubscribed {
		h(s.clientID, name)
	}
	return true
}

// handleUnsubscribe handles UNSUBSCRIBE. Deliveries that were begun go on [MQTT-3.10.4-3].
func (c *Conn) handleUnsubscribe(b *Batch, flags byte, body []byte) Next {
	b.counts[PacketsUnsubscribe]++
	var p packet.Unsubscribe
	if err := p.Decode(c.version, flags, body); err != nil {
		b.counts[UnsubscribeError]++
		return c.fail(b, err)
	}
	c.traceUnsubscribe(b, &p)
	ack := packet.Unsuback{PacketID: p.PacketID} // [MQTT-3.10.4-5]
	failed := false
	for _, filter := range p.Filters { // [MQTT-3.10.4-6]
		var code packet.ReasonCode
		if c.link != nil {
			code = c.unsubscribeLink(b, filter)
		} else {
			code = c.unsubscribe(b, filter)
		}
		failed = failed || code.Failed()
		ack.Codes = append(ack.Codes, code) // [MQTT-3.11.3-1]
	}
	if failed {
		b.counts[UnsubscribeError]++
	}
	b.e.weighSubs(c.session)
	answer := ack.Append(nil, c.version)
	if c.tooLarge(answer) {
		return c.fail(b, packet.PacketTooLarge)
	}
	c.sendAt(b, b.staged, answer) // [MQTT-3.10.4-4]
	b.counts[PacketsUnsuback]++
	c.traceOut(b, packet.TypeUnsuback, p.PacketID, ack.Codes[0])
	return ReadOn
}

func (c *Conn) unsubscribe(b *Batch, name string) packet.ReasonCode {
	group, filter, _, ok := topic.ParseShare(name)
	if !ok {
		return packet.TopicFilterInvalid
	}
	if c.mountpoint != "" {
		if rest, local := topic.CutLocal(filter); local {
			filter = topic.LocalPrefix + c.mountpoint + rest
		} else {
			filter = c.mountpoint + filter
		}
	}
	if gates := b.e.hooks.Load().unsubscribe; len(gates) > 0 {
		info := c.describe()
		for _, g := range gates {
			g(&info, &filter)
		}
	}
	if !b.e.cutSub(b, c.session, Subscription{Filter: filter, Share: group}.Name()) {
		return packet.NoSubscriptionExisted
	}
	return packet.Success
}
