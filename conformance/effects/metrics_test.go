package effects

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The metrics that the documents list. The counting rules are those of the wire: a packet from a client, a packet to a
// client, a message without a taker; a message from an API is not a packet.
var (
	metricsV2 = strings.Fields(`bytes/received bytes/sent packets/received packets/sent packets/connect packets/connack
		packets/publish/received packets/publish/sent packets/puback/received packets/puback/sent packets/puback/missed
		packets/pubrec/received packets/pubrec/sent packets/pubrec/missed packets/pubrel/received packets/pubrel/sent
		packets/pubrel/missed packets/pubcomp/received packets/pubcomp/sent packets/pubcomp/missed packets/subscribe
		packets/suback packets/unsubscribe packets/unsuback packets/pingreq packets/pingresp packets/disconnect
		messages/received messages/sent messages/qos0/received messages/qos0/sent messages/qos1/received messages/qos1/sent
		messages/qos2/received messages/qos2/sent messages/qos2/dropped messages/retained messages/dropped`)
	metricsV3 = strings.Fields(`bytes/received bytes/sent packets/received packets/sent packets/connect packets/connack
		packets/publish/received packets/publish/sent packets/puback/received packets/puback/sent packets/puback/missed
		packets/pubrec/received packets/pubrec/sent packets/pubrec/missed packets/pubrel/received packets/pubrel/sent
		packets/pubrel/missed packets/pubcomp/received packets/pubcomp/sent packets/pubcomp/missed packets/subscribe
		packets/suback packets/unsubscribe packets/unsuback packets/pingreq packets/pingresp packets/disconnect/received
		packets/disconnect/sent packets/auth messages/received messages/sent messages/qos0/received messages/qos0/sent
		messages/qos1/received messages/qos1/sent messages/qos2/received messages/qos2/sent messages/qos2/dropped
		messages/qos2/expired messages/retained messages/dropped messages/expired messages/forward`)
	metricsDot = strings.Fields(`auth.mqtt.anonymous bytes.received bytes.sent messages.dropped messages.expired
		messages.forward messages.qos0.received messages.qos0.sent messages.qos1.received messages.qos1.sent
		messages.qos2.dropped messages.qos2.expired messages.qos2.received messages.qos2.sent messages.received
		messages.retained messages.sent packets.auth.received packets.auth.sent packets.connack.auth_error
		packets.connack.error packets.connack.sent packets.connect.received packets.disconnect.received
		packets.disconnect.sent packets.pingreq.received packets.pingresp.sent packets.puback.missed
		packets.puback.received packets.puback.sent packets.pubcomp.missed packets.pubcomp.received packets.pubcomp.sent
		packets.publish.auth_error packets.publish.error packets.publish.received packets.publish.sent
		packets.pubrec.missed packets.pubrec.received packets.pubrec.sent packets.pubrel.missed packets.pubrel.received
		packets.pubrel.sent packets.received packets.sent packets.suback.sent packets.subscribe.auth_error
		packets.subscribe.error packets.subscribe.received packets.unsuback.sent packets.unsubscribe.error
		packets.unsubscribe.received`)
)

// notMoved are metrics that no scenario of one node can move.
var notMoved = map[string]string{
	"messages/forward": "counts messages to another node; the cluster suite moves it",
	"messages.forward": "counts messages to another node; the cluster suite moves it",
}

// moves are differences of metrics by the names of 3.0; the further figures of 3.2 have slashes here too. What is not
// named must not move. bytes/received and bytes/sent are what the clients have written and read.
type moves map[string]int64

// scenario is something that happens, and what it moves.
type scenario struct {
	name string
	run  func(w *world)
	want moves
}

// session is what a client of 3.1.1 moves by connecting and disconnecting.
var session = moves{"packets/received": 2, "packets/connect": 1, "packets/disconnect/received": 1, "packets/sent": 1,
	"packets/connack": 1, "auth/mqtt/anonymous": 1}

// clients are n sessions and more.
func clients(n int64, more moves) moves {
	m := moves{}
	for k, v := range session {
		m[k] = n * v
	}
	for k, v := range more {
		m[k] += v
	}
	return m
}

// subscriptions are n SUBSCRIBE with their SUBACK.
func (m moves) subscriptions(n int64) moves {
	return m.and(moves{"packets/received": n, "packets/subscribe": n, "packets/sent": n, "packets/suback": n})
}

// received are n PUBLISH of a client, with what their QoS brings along.
func (m moves) received(n int64, qos int) moves {
	q := fmt.Sprintf("messages/qos%d/received", qos)
	m.and(moves{"packets/received": n, "packets/publish/received": n, "messages/received": n, q: n})
	switch qos {
	case 1:
		m.and(moves{"packets/sent": n, "packets/puback/sent": n})
	case 2:
		m.and(moves{"packets/sent": 2 * n, "packets/pubrec/sent": n, "packets/received": n, "packets/pubrel/received": n, "packets/pubcomp/sent": n})
	}
	return m
}

// sent are n PUBLISH to a client, with what their QoS brings along.
func (m moves) sent(n int64, qos int) moves {
	q := fmt.Sprintf("messages/qos%d/sent", qos)
	m.and(moves{"packets/sent": n, "packets/publish/sent": n, "messages/sent": n, q: n})
	switch qos {
	case 1:
		m.and(moves{"packets/received": n, "packets/puback/received": n})
	case 2:
		m.and(moves{"packets/received": 2 * n, "packets/pubrec/received": n, "packets/sent": n, "packets/pubrel/sent": n, "packets/pubcomp/received": n})
	}
	return m
}

func (m moves) and(more moves) moves {
	for k, v := range more {
		m[k] += v
	}
	return m
}

// pings are n PINGREQ with their PINGRESP.
func (m moves) pings(n int64) moves {
	return m.and(moves{"packets/received": n, "packets/pingreq": n, "packets/sent": n, "packets/pingresp": n})
}

var scenarios = []scenario{
	{"connect and disconnect", func(w *world) { w.connect(hello{}).bye() }, session},
	{"connect with 3.1", func(w *world) { w.connect(hello{v: 3}).bye() }, session},
	{"connect with 5.0", func(w *world) { w.connect(hello{v: 5}).bye() }, session},
	{"connection that sends nothing", func(w *world) { w.dial(4).drop() }, moves{}},
	{"connection lost", func(w *world) { w.connect(hello{}).drop() },
		clients(1, moves{"packets/received": -1, "packets/disconnect/received": -1})},
	{"connect refused", func(w *world) {
		d := w.dial(4)
		if code := d.hello(hello{persist: true}); code != 2 {
			w.t.Errorf("got code %d, want 2", code)
		}
		d.closed()
	}, moves{"packets/received": 1, "packets/connect": 1, "packets/sent": 1, "packets/connack": 1, "packets/connack/error": 1}},
	{"connect without leave", func(w *world) {
		w.set("mqtt.allow_anonymous", "false")
		if code := w.refused(hello{}); code != 5 {
			w.t.Errorf("got code %d, want 5", code)
		}
		w.set("mqtt.allow_anonymous", "true")
	}, moves{"packets/received": 1, "packets/connect": 1, "packets/sent": 1, "packets/connack": 1, "packets/connack/error": 1,
		"packets/connack/auth_error": 1}},
	{"ping", func(w *world) { d := w.connect(hello{}); d.ping(); d.ping(); d.bye() }, clients(1, nil).pings(2)},
	{"subscribe and unsubscribe", func(w *world) {
		d := w.connect(hello{})
		d.subscribe("a/b", 0)
		d.subscribe("a/+", 2)
		d.unsubscribe("a/b")
		d.unsubscribe("never")
		d.bye()
	}, clients(1, moves{"packets/received": 2, "packets/unsubscribe": 2, "packets/sent": 2, "packets/unsuback": 2}).subscriptions(2)},
	{"several filters in one packet", func(w *world) {
		d := w.connect(hello{})
		d.write(frame(tSubscribe, 2, u16(9), text("m/1"), []byte{0}, text("m/2"), []byte{1}))
		d.want(tSuback)
		d.bye()
	}, clients(1, nil).subscriptions(1)},
	{"qos 0", func(w *world) { w.exchange(0, 0) }, clients(2, nil).subscriptions(1).received(1, 0).sent(1, 0)},
	{"qos 1", func(w *world) { w.exchange(1, 1) }, clients(2, nil).subscriptions(1).received(1, 1).sent(1, 1)},
	{"qos 2", func(w *world) { w.exchange(2, 2) }, clients(2, nil).subscriptions(1).received(1, 2).sent(1, 2)},
	{"qos 2 to a subscriber of 0", func(w *world) { w.exchange(2, 0) }, clients(2, nil).subscriptions(1).received(1, 2).sent(1, 0)},
	{"qos 1 to a subscriber of 2", func(w *world) { w.exchange(1, 2) }, clients(2, nil).subscriptions(1).received(1, 1).sent(1, 1)},
	{"no subscriber", func(w *world) {
		d := w.connect(hello{})
		d.send("nobody", "x", 0)
		d.send("nobody", "x", 1)
		d.send("nobody", "x", 2)
		d.bye()
	}, clients(1, moves{"messages/dropped": 3}).received(1, 0).received(1, 1).received(1, 2)},
	{"repeated qos 2", func(w *world) {
		d := w.connect(hello{})
		d.write(d.publishBytes(message{topic: "nobody", qos: 2, id: 7}))
		d.want(tPubrec)
		d.write(d.publishBytes(message{topic: "nobody", qos: 2, id: 7, dup: true}))
		d.want(tPubrec)
		d.ack(tPubrel, 7)
		d.want(tPubcomp)
		d.bye()
	}, clients(1, moves{"messages/dropped": 1, "packets/received": 1, "packets/publish/received": 1, "messages/received": 1,
		"messages/qos2/received": 1, "packets/sent": 1, "packets/pubrec/sent": 1}).received(1, 2)},
	{"puback missed", func(w *world) { d := w.connect(hello{}); d.ack(tPuback, 77); d.bye() },
		clients(1, moves{"packets/received": 1, "packets/puback/received": 1, "packets/puback/missed": 1})},
	{"pubrec missed", func(w *world) { d := w.connect(hello{}); d.ack(tPubrec, 77); d.want(tPubrel); d.bye() },
		clients(1, moves{"packets/received": 1, "packets/pubrec/received": 1, "packets/pubrec/missed": 1, "packets/sent": 1, "packets/pubrel/sent": 1})},
	{"pubrel missed", func(w *world) { d := w.connect(hello{}); d.ack(tPubrel, 77); d.want(tPubcomp); d.bye() },
		clients(1, moves{"packets/received": 1, "packets/pubrel/received": 1, "packets/pubrel/missed": 1, "packets/sent": 1, "packets/pubcomp/sent": 1})},
	{"pubcomp missed", func(w *world) { d := w.connect(hello{}); d.ack(tPubcomp, 77); d.bye() },
		clients(1, moves{"packets/received": 1, "packets/pubcomp/received": 1, "packets/pubcomp/missed": 1})},
	{"qos 2 beyond max_awaiting_rel", func(w *world) {
		w.set("zone.external.max_awaiting_rel", "1")
		d := w.connect(hello{})
		d.write(d.publishBytes(message{topic: "nobody", qos: 2, id: 1}))
		d.want(tPubrec)
		d.write(d.publishBytes(message{topic: "nobody", qos: 2, id: 2}))
		d.ping() // refused without an answer: the client keeps it
		d.bye()
		w.set("zone.external.max_awaiting_rel", "100")
	}, clients(1, moves{"packets/received": 2, "packets/publish/received": 2, "messages/received": 2, "messages/qos2/received": 2,
		"packets/sent": 1, "packets/pubrec/sent": 1, "messages/dropped": 1, "messages/qos2/dropped": 1}).pings(1)},
	{"qos 2 without pubrel", func(w *world) {
		w.set("zone.external.await_rel_timeout", "50ms")
		d := w.connect(hello{})
		d.write(d.publishBytes(message{topic: "nobody", qos: 2, id: 1}))
		d.want(tPubrec)
		w.moved("messages/qos2/expired")
		d.bye()
		w.set("zone.external.await_rel_timeout", "300s")
	}, clients(1, moves{"packets/received": 1, "packets/publish/received": 1, "messages/received": 1, "messages/qos2/received": 1,
		"packets/sent": 1, "packets/pubrec/sent": 1, "messages/dropped": 1, "messages/qos2/expired": 1})},
	{"expired in the queue", func(w *world) {
		id := unique("away")
		s := w.connect(hello{v: 5, id: id, persist: true})
		s.subscribe("late", 1)
		s.bye()
		p := w.connect(hello{v: 5})
		p.publish(message{topic: "late", payload: "x", qos: 1, props: prop(pMessageExpiry, u32(1))})
		p.bye()
		time.Sleep(1100 * time.Millisecond) // what is tested is that this time has passed
		s = w.connect(hello{v: 5, id: id, persist: true})
		s.ping()
		s.bye()
		w.connect(hello{v: 5, id: id}).bye() // ends the session
	}, clients(4, moves{"messages/expired": 1}).subscriptions(1).received(1, 1).pings(1)},
	{"queue full", func(w *world) {
		w.set("zone.external.max_mqueue_len", "2")
		id := unique("away")
		s := w.connect(hello{id: id, persist: true})
		s.subscribe("many", 1)
		s.bye()
		p := w.connect(hello{})
		for i := range 5 {
			p.send("many", fmt.Sprint(i), 1)
		}
		p.bye()
		s = w.connect(hello{id: id, persist: true})
		s.receive("many", "3")
		s.receive("many", "4")
		s.ping()
		s.bye()
		w.connect(hello{id: id}).bye()
		w.set("zone.external.max_mqueue_len", "1000")
	}, clients(4, moves{"messages/dropped": 3}).subscriptions(1).received(5, 1).sent(2, 1).pings(1)},
	{"sent again after a new connection", func(w *world) {
		id := unique("again")
		s := w.connect(hello{id: id, persist: true})
		s.subscribe("again", 1)
		p := w.connect(hello{})
		p.send("again", "x", 1)
		s.want(tPublish)
		s.bye()
		s = w.connect(hello{id: id, persist: true})
		if m := s.receive("again", "x"); !m.dup {
			w.t.Errorf("got %s, want DUP", m)
		}
		s.bye()
		p.bye()
		w.connect(hello{id: id}).bye()
	}, clients(4, moves{"packets/sent": 1, "packets/publish/sent": 1, "messages/sent": 1, "messages/qos1/sent": 1}).subscriptions(1).received(1, 1).sent(1, 1)},
	{"retained", func(w *world) {
		d := w.connect(hello{})
		for _, topic := range []string{"kept/1", "kept/2", "kept/1"} {
			d.publish(message{topic: topic, payload: "x", qos: 1, retain: true})
		}
		s := w.connect(hello{})
		s.subscribe("kept/1", 1)
		s.receive("kept/1", "x")
		s.bye()
		d.bye()
	}, clients(2, moves{"messages/retained": 2, "messages/dropped": 3}).subscriptions(1).received(3, 1).sent(1, 1)},
	{"retained no more", func(w *world) {
		d := w.connect(hello{})
		d.publish(message{topic: "kept/1", qos: 1, retain: true})
		w.api("POST", "v3/mqtt/publish", body{"topic": "kept/2", "payload": "", "qos": 0, "retain": true, "client_id": "api"}).done()
		d.bye()
	}, clients(1, moves{"messages/retained": -2, "messages/dropped": 2}).received(1, 1)},
	{"published by the APIs", func(w *world) {
		s := w.connect(hello{})
		s.subscribe("api/#", 2)
		w.api("POST", "v2/mqtt/publish", body{"topic": "api/2", "payload": "two", "qos": 1, "retain": false, "client_id": "api"}).done()
		s.receive("api/2", "two")
		w.api("POST", "v3/mqtt/publish", body{"topic": "api/3", "payload": "three", "qos": 2, "retain": false, "client_id": "api"}).done()
		s.receive("api/3", "three")
		w.api("POST", "v3/mqtt/publish", body{"topic": "nobody", "payload": "x", "qos": 0, "retain": false, "client_id": "api"}).done()
		s.bye()
	}, clients(1, moves{"messages/dropped": 1}).subscriptions(1).sent(1, 1).sent(1, 2)},
	{"below $SYS", func(w *world) {
		s := w.connect(hello{})
		s.subscribe("$SYS/effects", 0)
		for _, topic := range []string{"$SYS/effects", "$SYS/nobody"} {
			w.api("POST", "v3/mqtt/publish", body{"topic": topic, "payload": "x", "qos": 0, "retain": false, "client_id": "api"}).done()
		}
		s.receive("$SYS/effects", "x")
		s.bye()
	}, clients(1, nil).subscriptions(1)},
	{"subscribed and unsubscribed by the API", func(w *world) {
		s := w.connect(hello{id: unique("sub")})
		w.api("POST", "v2/mqtt/subscribe", body{"topic": "by/api", "qos": 1, "client_id": s.id}).done()
		p := w.connect(hello{})
		p.send("by/api", "x", 1)
		s.receive("by/api", "x")
		w.api("POST", "v3/mqtt/unsubscribe", body{"topic": "by/api", "client_id": s.id}).done()
		p.send("by/api", "x", 1)
		s.ping()
		s.bye()
		p.bye()
	}, clients(2, moves{"messages/dropped": 1}).received(2, 1).sent(1, 1).pings(1)},
	{"will", func(w *world) {
		s := w.connect(hello{})
		s.subscribe("gone", 1)
		w.connect(hello{will: &message{topic: "gone", payload: "x", qos: 1}}).drop()
		s.receive("gone", "x")
		s.bye()
	}, clients(2, moves{"packets/received": -1, "packets/disconnect/received": -1}).subscriptions(1).sent(1, 1)},
	{"kicked with 3.1.1", func(w *world) {
		d := w.connect(hello{id: unique("kick")})
		w.api("DELETE", "v2/clients/"+d.id, nil).done()
		d.closed()
	}, clients(1, moves{"packets/received": -1, "packets/disconnect/received": -1})},
	{"kicked with 5.0", func(w *world) {
		d := w.connect(hello{v: 5, id: unique("kick")})
		w.api("DELETE", "v3/connections/"+d.id, nil).done()
		d.want(tDisconnect)
		d.closed()
	}, clients(1, moves{"packets/received": -1, "packets/disconnect/received": -1, "packets/sent": 1, "packets/disconnect/sent": 1})},
	{"taken over", func(w *world) {
		id := unique("twin")
		old := w.connect(hello{v: 5, id: id})
		d := w.connect(hello{v: 5, id: id})
		old.want(tDisconnect)
		old.closed()
		d.bye()
	}, clients(2, moves{"packets/received": -1, "packets/disconnect/received": -1, "packets/sent": 1, "packets/disconnect/sent": 1})},
	{"authentication by AUTH", func(w *world) {
		w.api("PUT", "v3/nodes/"+nodeName+"/plugins/emqx_auth_username/load", nil).done()
		w.api("POST", "v3/auth_username", body{"username": "scram", "password": "secret"}).done()
		d := w.dial(5)
		d.id = unique("scram")
		scramFirst(d, "scram")
		if p := scramFinal(d, "scram", "secret"); p.typ != tConnack || p.code != 0 {
			w.t.Errorf("got %s, want CONNACK 0", p)
		}
		d.bye()
		w.api("PUT", "v3/nodes/"+nodeName+"/plugins/emqx_auth_username/unload", nil).done()
	}, moves{"packets/received": 3, "packets/connect": 1, "packets/disconnect/received": 1, "packets/auth": 2,
		"packets/sent": 2, "packets/connack": 1, "packets/auth/received": 1, "packets/auth/sent": 1}},
	{"publish denied", func(w *world) {
		d := w.connect(hello{v: 5})
		if code := d.publish(message{topic: "denied/x", qos: 1}); code != 0x87 {
			w.t.Errorf("got code 0x%02x, want 0x87", code)
		}
		d.bye()
	}, clients(1, moves{"packets/publish/error": 1, "packets/publish/auth_error": 1}).received(1, 1)},
	{"subscribe denied", func(w *world) {
		d := w.connect(hello{})
		if code := d.try("denied/x", 1); code != 0x80 {
			w.t.Errorf("got code 0x%02x, want 0x80", code)
		}
		d.bye()
	}, clients(1, moves{"packets/subscribe/error": 1, "packets/subscribe/auth_error": 1}).subscriptions(1)},
	{"subscribe with a bad filter", func(w *world) {
		d := w.connect(hello{})
		d.try("a#", 1)
		d.bye()
	}, clients(1, moves{"packets/subscribe/error": 1}).subscriptions(1)},
	{"unsubscribe with a bad filter", func(w *world) {
		d := w.connect(hello{v: 5})
		d.unsubscribe("a#")
		d.bye()
	}, clients(1, moves{"packets/unsubscribe/error": 1, "packets/received": 1, "packets/unsubscribe": 1, "packets/sent": 1, "packets/unsuback": 1})},
	{"malformed publish", func(w *world) {
		d := w.connect(hello{})
		d.write(frame(tPublish, 2, text("a/#"), u16(1)))
		d.closed()
	}, clients(1, moves{"packets/disconnect/received": -1, "packets/publish/received": 1})},
	{"no packet at all", func(w *world) {
		d := w.connect(hello{})
		d.write([]byte{0xf0, 0xff, 0xff, 0xff, 0xff, 0xff})
		d.closed()
	}, clients(1, moves{"packets/received": -1, "packets/disconnect/received": -1})},
	{"shared subscription", func(w *world) {
		a, b, p := w.connect(hello{}), w.connect(hello{}), w.connect(hello{})
		a.subscribe("$share/g/one", 0)
		b.subscribe("$share/g/one", 0)
		p.send("one", "x", 0)
		p.bye()
		a.leave()
		b.leave()
	}, clients(3, nil).subscriptions(2).received(1, 0).sent(1, 0)},
}

// exchange sends one message from a client to another.
func (w *world) exchange(qos, subscribed byte) {
	s, p := w.connect(hello{}), w.connect(hello{})
	s.subscribe("exchange", subscribed)
	p.send("exchange", "x", qos)
	if m := s.receive("exchange", "x"); m.qos != min(qos, subscribed) {
		w.t.Errorf("got %s, want qos %d", m, min(qos, subscribed))
	}
	s.bye()
	p.bye()
}

// set changes a hot key of the broker on this node.
func (w *world) set(key, value string) {
	w.t.Helper()
	w.api("PUT", "v3/nodes/"+nodeName+"/configs/emqx", body{"key": key, "value": value}).done()
}

// view is a place where metrics are read: the name that it has for one, and those that it must list.
type view struct {
	one, all string // paths: of this node, of all nodes
	in       []any  // where the object is in the answer about all nodes
	result   []any  // where it is in the answer about one
	names    []string
	of       func(name string, m moves) int64 // how far a scenario moves it
}

var (
	viewV2 = view{"v2/monitoring/metrics/" + nodeName, "v2/monitoring/metrics", []any{"result", nodeName}, []any{"result"}, metricsV2,
		func(name string, m moves) int64 {
			if name == "packets/disconnect" {
				return m["packets/disconnect/received"] + m["packets/disconnect/sent"]
			}
			return m[name]
		}}
	viewV3 = view{"v3/nodes/" + nodeName + "/metrics/", "v3/metrics/", []any{0, "metrics"}, nil, metricsV3,
		func(name string, m moves) int64 { return m[name] }}
	viewDot = view{"v3/nodes/" + nodeName + "/metrics/", "v3/metrics/", []any{0, "metrics"}, nil, metricsDot,
		func(name string, m moves) int64 {
			old := strings.ReplaceAll(name, ".", "/")
			// 3.2 says the direction also of packets that go one way only.
			for _, one := range []string{"connect", "connack", "subscribe", "suback", "unsubscribe", "unsuback", "pingreq", "pingresp"} {
				if old == "packets/"+one+"/received" || old == "packets/"+one+"/sent" {
					old = "packets/" + one
				}
			}
			return m[old]
		}}
)

// read reads the metrics of a view.
func (w *world) read(v view) map[string]int64 {
	w.t.Helper()
	return numbers(w.t, w.api("GET", v.one, nil).done().at(v.result...))
}

// moved waits until a metric has moved since the scenario began.
func (w *world) moved(name string) {
	w.t.Helper()
	eventually(w.t, name+" moves", func() bool {
		now := w.read(viewV3)
		if n, slash := now[name]; slash {
			return n != w.baseline[name]
		}
		dot := strings.ReplaceAll(name, "/", ".")
		return now[dot] != w.baseline[dot]
	})
}

// wrong says how the differences between two readings are not those that a scenario must make.
func (v view) wrong(before, after map[string]int64, want moves) (faults []string) {
	for _, name := range v.names {
		if got, want := after[name]-before[name], v.of(name, want); got != want {
			faults = append(faults, fmt.Sprintf("%s moved by %d, want %d", name, got, want))
		}
	}
	return faults
}

// TestMetrics runs every scenario and compares all metrics of all places before and after. It fails when a scenario
// moves another figure than those it names, and when a listed metric is moved by none.
func TestMetrics(t *testing.T) {
	for _, names := range []struct {
		setting string
		views   []view
	}{{"slash", []view{viewV2, viewV3}}, {"dot", []view{viewV2, viewDot}}} {
		t.Run(names.setting, func(t *testing.T) {
			acl := filepath.Join(t.TempDir(), "acl.conf")
			if err := os.WriteFile(acl, []byte("{deny, all, pubsub, [\"denied/#\"]}.\n{allow, all}.\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			w := start(t, map[string]string{"management.metric_names": names.setting, "mqtt.acl_file": acl})
			for _, v := range names.views {
				if got, want := slices.Sorted(maps.Keys(w.read(v))), slices.Sorted(slices.Values(v.names)); !slices.Equal(got, want) {
					t.Errorf("%s lists %q, want %q", v.one, got, want)
				}
			}
			moved := map[string]bool{}
			for _, s := range scenarios {
				t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) { w.in(t).measure(names.views, s, moved) })
			}
			for _, v := range names.views {
				for _, name := range v.names {
					if reason := notMoved[name]; !moved[name] && reason == "" {
						t.Errorf("no scenario moves %s", name)
					} else if moved[name] && reason != "" {
						t.Errorf("%s is moved, but the list of exceptions says: %s", name, reason)
					}
				}
			}
		})
	}
}

// measure runs one scenario and notes in moved what it has moved.
func (w *world) measure(views []view, s scenario, moved map[string]bool) {
	t := w.t
	before := make([]map[string]int64, len(views))
	for i, v := range views {
		before[i] = w.read(v)
	}
	w.baseline = before[len(before)-1]
	s.run(w)
	want := maps.Clone(s.want)
	want["bytes/received"], want["bytes/sent"] = w.wire()
	for i, v := range views {
		var after map[string]int64
		var faults []string
		for deadline := time.Now().Add(time.Second); ; time.Sleep(2 * time.Millisecond) {
			after = w.read(v)
			if faults = v.wrong(before[i], after, want); len(faults) == 0 || time.Now().After(deadline) {
				break
			}
		}
		for _, f := range faults {
			t.Errorf("%s: %s", v.one, f)
		}
		if all := numbers(t, w.api("GET", v.all, nil).done().at(v.in...)); !maps.Equal(all, after) {
			t.Errorf("%s says %v, %s says %v", v.all, all, v.one, after)
		}
		for _, name := range v.names {
			if after[name] != before[i][name] {
				moved[name] = true
			}
		}
	}
}
