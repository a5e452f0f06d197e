package effects

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestActs does through the APIs what they are for and looks at what the clients see of it.
func TestActs(t *testing.T) {
	acl := filepath.Join(t.TempDir(), "acl.conf")
	if err := os.WriteFile(acl, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, map[string]string{"mqtt.acl_file": acl})
	for _, c := range []struct {
		name string
		run  func(w *world)
	}{
		{"publish", actPublish},
		{"subscribe online", actSubscribeOnline},
		{"subscribe offline", actSubscribeOffline},
		{"kick", actKick},
		{"access cache", actCleanACL},
		{"bans", actBan},
		{"users", actUsers},
		{"applications", actApps},
		{"queue alarm", actQueueAlarm},
		{"retainer off and on", actRetainer},
		{"presence off and on", actPresence},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) { c.run(w.in(t)) })
	}
}

// actPublish: a message of the APIs has its QoS, at most that of the subscription, and is kept when it is retained.
func actPublish(w *world) {
	for _, version := range []string{"v2", "v3"} {
		for qos := byte(0); qos <= 2; qos++ {
			topic := unique("t/published")
			two, one := w.connect(hello{}), w.connect(hello{v: 5})
			two.subscribe(topic, 2)
			one.subscribe(topic, 1)
			w.api("POST", version+"/mqtt/publish", body{"topic": topic, "payload": "text", "qos": qos, "retain": true, "client_id": "x"}).done()
			if m := two.receive(topic, "text"); m.qos != qos || m.retain {
				w.t.Errorf("%s: got %s, want qos %d, not as retained", version, m, qos)
			}
			if m := one.receive(topic, "text"); m.qos != min(qos, 1) {
				w.t.Errorf("%s: got %s, want qos %d", version, m, min(qos, 1))
			}
			late := w.connect(hello{})
			late.subscribe(topic, 2)
			if m := late.receive(topic, "text"); m.qos != qos || !m.retain {
				w.t.Errorf("%s: got %s, want qos %d as retained", version, m, qos)
			}
			w.api("POST", version+"/mqtt/publish", body{"topic": topic, "payload": "", "retain": true, "client_id": "x"}).done()
			later := w.connect(hello{})
			later.subscribe(topic, 2)
			later.ping() // nothing is kept
		}
	}
}

// actSubscribeOnline: a subscription by the API is one of the session: rows, route, retained messages, another QoS.
func actSubscribeOnline(w *world) {
	for _, version := range []string{"v2", "v3"} {
		topic := unique("t/by")
		p := w.connect(hello{})
		p.publish(message{topic: topic, payload: "kept", qos: 1, retain: true})
		d := w.connect(hello{id: unique("online")})
		w.api("POST", version+"/mqtt/subscribe", body{"client_id": d.id, "topic": topic, "qos": 1}).done()
		if m := d.receive(topic, "kept"); !m.retain { // and no SUBACK before it
			w.t.Errorf("got %s, want it as retained", m)
		}
		if rows := w.api("GET", "v3/subscriptions/"+d.id, nil).rows(); len(rows) != 1 || rows[0]["topic"] != topic || rows[0]["qos"] != 1.0 {
			w.t.Errorf("subscriptions: got %v", rows)
		}
		if rows := w.api("GET", "v3/routes/"+segment(topic), nil).rows(); len(rows) != 1 {
			w.t.Errorf("routes: got %v", rows)
		}
		w.api("POST", version+"/mqtt/subscribe", body{"client_id": d.id, "topic": topic, "qos": 2}).done()
		d.receive(topic, "kept")
		p.send(topic, "now", 2)
		if m := d.receive(topic, "now"); m.qos != 2 {
			w.t.Errorf("got %s, want qos 2", m)
		}
		w.api("POST", version+"/mqtt/unsubscribe", body{"client_id": d.id, "topic": topic}).done()
		p.send(topic, "no more", 1)
		d.ping()
		if rows := w.api("GET", "v3/routes/"+segment(topic), nil).rows(); len(rows) != 0 {
			w.t.Errorf("routes: got %v, want none", rows)
		}
	}
}

// actSubscribeOffline: the same for a session whose client is away.
func actSubscribeOffline(w *world) {
	for _, version := range []string{"v2", "v3"} {
		topic := unique("t/away")
		id := w.away("t/unused", 1)
		w.api("POST", version+"/mqtt/subscribe", body{"client_id": id, "topic": topic, "qos": 1}).done()
		p := w.connect(hello{})
		p.send(topic, "waits", 1)
		w.api("POST", version+"/mqtt/unsubscribe", body{"client_id": id, "topic": topic}).done()
		p.send(topic, "does not", 1)
		d := w.connect(hello{id: id, persist: true})
		if !d.session {
			w.t.Error("the session is gone")
		}
		d.receive(topic, "waits")
		d.ping()
		d.bye()
		w.connect(hello{id: id}).bye()
	}
}

// actKick: the connection ends at once, without DISCONNECT before 5.0, its will is published, and the session stays.
func actKick(w *world) {
	for _, c := range []struct {
		path string
		v    byte
	}{{"v2/clients/", 4}, {"v3/connections/", 4}, {"v3/connections/", 5}} {
		id, topic := unique("kicked"), unique("t/will")
		s := w.connect(hello{})
		s.subscribe(topic, 1)
		d := w.connect(hello{v: c.v, id: id, persist: true, will: &message{topic: topic, payload: "kicked", qos: 1}})
		w.api("DELETE", c.path+id, nil).done()
		if rows := w.api("GET", "v3/connections/"+id, nil).rows(); len(rows) != 0 { // gone when it is answered
			w.t.Errorf("connections: got %v", rows)
		}
		if c.v == 5 {
			if p := d.want(tDisconnect); p.code != 0x98 {
				w.t.Errorf("got %s, want DISCONNECT 0x98", p)
			}
		}
		d.closed()
		s.receive(topic, "kicked")
		if rows := w.api("GET", "v3/sessions/"+id, nil).rows(); len(rows) != 1 {
			w.t.Errorf("sessions: got %v, want the persistent one", rows)
		}
	}
	w.api("DELETE", "v2/clients/nobody", nil).is(http.StatusOK, `{"code":112}`)
	w.api("DELETE", "v3/connections/nobody", nil).is(http.StatusInternalServerError, `{"message":"not_found"}`)
}

// actCleanACL: a decision that a connection remembers holds until it is cleaned, on that topic alone.
func actCleanACL(w *world) {
	for _, version := range []string{"v2", "v3"} {
		d := w.connect(hello{v: 5, id: unique("cache")})
		publish := func(topic string, want byte) {
			w.t.Helper()
			if got := d.publish(message{topic: topic, qos: 1}); got != want {
				w.t.Errorf("%s: publish to %s: got 0x%02x, want 0x%02x", version, topic, got, want)
			}
		}
		publish("t/cache/1", 0x10)
		publish("t/cache/2", 0x10)
		w.rule(`{deny, all, publish, ["t/cache/#"]}.`)
		publish("t/cache/1", 0x10) // remembered
		publish("t/cache/3", 0x87) // new
		if version == "v2" {
			w.api("PUT", "v2/clients/"+d.id+"/clean_acl_cache", body{"topic": "t/cache/1"}).done()
		} else {
			w.api("DELETE", "v3/connections/"+d.id+"/acl/"+segment("t/cache/1"), nil).done()
		}
		publish("t/cache/1", 0x87)
		publish("t/cache/2", 0x10)
		w.rule("")
	}
}

// actBan: by client id, user name and address, until its time is over; who is connected stays.
func actBan(w *world) {
	from := func(ip string, h hello) byte {
		nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).Dial("tcp", w.node.Addr("mqtt:tcp external"))
		if err != nil {
			w.t.Fatal(err)
		}
		d := newDevice(w.t, nc, max(h.v, 4))
		code := d.hello(h)
		nc.Close()
		return code
	}
	ban := func(as, who string, until any) {
		b := body{"as": as, "who": who, "desc": "test", "reason": "test", "by": "test"}
		if until != nil {
			b["until"] = until
		}
		w.api("POST", "v3/banned", b).done()
	}
	for _, c := range []struct {
		as, who string
		try     func(v byte) byte
	}{
		{"client_id", "banned-id", func(v byte) byte { return from("127.0.0.1", hello{v: v, id: "banned-id"}) }},
		{"username", "banned-user", func(v byte) byte {
			return from("127.0.0.1", hello{v: v, id: unique("id"), user: "banned-user", pass: "x"})
		}},
		{"ip_address", "127.0.0.77", func(v byte) byte { return from("127.0.0.77", hello{v: v, id: unique("id")}) }},
	} {
		if got := c.try(4); got != 0 {
			w.t.Errorf("%s before: got code %d", c.as, got)
		}
		stays := w.connect(hello{id: "banned-id-connected", user: "banned-user", pass: "x"})
		ban(c.as, c.who, nil)
		if v4, v5 := c.try(4), c.try(5); v4 != 5 || v5 != 0x8a {
			w.t.Errorf("%s: got codes %d and 0x%02x, want 5 and 0x8a", c.as, v4, v5)
		}
		stays.ping()
		stays.bye()
		w.api("DELETE", "v3/banned/"+c.who+"?as="+c.as, nil).done()
		if got := c.try(4); got != 0 {
			w.t.Errorf("%s after: got code %d", c.as, got)
		}
		until := time.Now().Add(2 * time.Second).Unix()
		ban(c.as, c.who, until)
		if got := c.try(4); got != 5 && time.Now().Unix() < until {
			w.t.Errorf("%s for a while: got code %d, want 5", c.as, got)
		}
		eventually(w.t, "the ban of "+c.as+" ends", func() bool { return c.try(4) == 0 })
		if now := time.Now().Unix(); now < until {
			w.t.Errorf("%s: the ban ended at %d, before %d", c.as, now, until)
		}
		if rows := w.api("GET", "v3/banned/", nil).rows(); len(rows) != 0 {
			w.t.Errorf("%s: bans are listed: %v", c.as, rows)
		}
	}
}

// actUsers: an admin user logs in with the password that it has, from the next request on.
func actUsers(w *world) {
	in := func(pass string) int {
		return ask(w.t, "GET", "http://"+w.node.Addr("http dashboard")+"/api/v3/users/", "bob", pass, nil).status
	}
	if got := in("one"); got != http.StatusUnauthorized {
		w.t.Errorf("before: got %d", got)
	}
	w.api("POST", "d/v3/users/", body{"username": "bob", "password": "one", "tags": "viewer"}).done()
	if got := in("one"); got != http.StatusOK {
		w.t.Errorf("created: got %d", got)
	}
	w.api("PUT", "d/v3/change_pwd/bob", body{"old_pwd": "one", "new_pwd": "two"}).done()
	if old, now := in("one"), in("two"); old != http.StatusUnauthorized || now != http.StatusOK {
		w.t.Errorf("changed: got %d with the old password, %d with the new one", old, now)
	}
	w.restart()
	if old, now := in("one"), in("two"); old != http.StatusUnauthorized || now != http.StatusOK {
		w.t.Errorf("after a restart: got %d with the old password, %d with the new one", old, now)
	}
	w.api("DELETE", "d/v3/users/bob", nil).done()
	if got := in("two"); got != http.StatusUnauthorized {
		w.t.Errorf("deleted: got %d", got)
	}
}

// actApps: an application is let in while it is active and has not expired.
func actApps(w *world) {
	secret, _ := w.api("POST", "d/v3/apps/", body{"app_id": "meter", "name": "meter", "desc": "", "status": true}).done().at("secret").(string)
	if secret == "" {
		w.t.Fatal("no secret")
	}
	in := func() int {
		return ask(w.t, "GET", "http://"+w.node.Addr("http management")+"/api/v3/nodes/", "meter", secret, nil).status
	}
	set := func(status bool, expired any) {
		b := body{"name": "meter", "desc": "", "status": status}
		if expired != nil {
			b["expired"] = expired
		}
		w.api("PUT", "d/v3/apps/meter", b).done()
	}
	if got := in(); got != http.StatusOK {
		w.t.Errorf("made: got %d", got)
	}
	set(false, nil)
	if got := in(); got != http.StatusUnauthorized {
		w.t.Errorf("switched off: got %d", got)
	}
	set(true, time.Now().Add(-time.Minute).Unix())
	if got := in(); got != http.StatusUnauthorized {
		w.t.Errorf("expired: got %d", got)
	}
	set(true, time.Now().Add(time.Hour).Unix())
	if got := in(); got != http.StatusOK {
		w.t.Errorf("good for an hour: got %d", got)
	}
	w.api("DELETE", "d/v3/apps/meter", nil).done()
	if got := in(); got != http.StatusUnauthorized {
		w.t.Errorf("deleted: got %d", got)
	}
}

// actQueueAlarm: a long queue raises the alarm of its session, a short one clears it, and $SYS tells of both.
func actQueueAlarm(w *world) {
	w.set("zone.external.max_mqueue_len", "10")
	defer w.set("zone.external.max_mqueue_len", "1000")
	watcher := w.connect(hello{})
	watcher.subscribe("$SYS/brokers/+/alarms/+/+", 0)
	id := w.away("t/long", 1)
	alarm := "queue_high_watermark." + id
	p := w.connect(hello{})
	for i := range 6 {
		p.send("t/long", fmt.Sprint(i), 1)
	}
	if w.hasAlarm(alarm) {
		w.t.Error("raised at the watermark, not above it")
	}
	p.send("t/long", "6", 1)
	if m := watcher.want(tPublish); m.topic != "$SYS/brokers/"+nodeName+"/alarms/"+alarm+"/alert" || !strings.Contains(m.payload, `"severity":"warning"`) {
		w.t.Errorf("got %s", m)
	}
	if !w.hasAlarm(alarm) {
		w.t.Error("not listed")
	}
	d := w.connect(hello{id: id, persist: true})
	for i := range 7 {
		d.receive("t/long", fmt.Sprint(i))
	}
	if m := watcher.want(tPublish); m.topic != "$SYS/brokers/"+nodeName+"/alarms/"+alarm+"/clear" {
		w.t.Errorf("got %s", m)
	}
	if w.hasAlarm(alarm) {
		w.t.Error("still listed")
	}
	d.bye()
	w.connect(hello{id: id}).bye()
}

// plugin loads or unloads a plugin.
func (w *world) plugin(name, action string) {
	w.t.Helper()
	w.api("PUT", "v3/nodes/"+nodeName+"/plugins/emqx_"+name+"/"+action, nil).is(http.StatusOK, `"ok"`)
}

// actRetainer: while the plugin is off nothing is stored and nothing is delivered; that stays so over a restart.
func actRetainer(w *world) {
	kept := func() string { return w.retains("x", 0) }
	if got := kept(); got != "2" {
		w.t.Errorf("on: got %s retained messages, want 2", got)
	}
	p := w.connect(hello{})
	p.publish(message{topic: "t/before", payload: "x", qos: 1, retain: true})
	w.plugin("retainer", "unload")
	w.api("PUT", "v3/nodes/"+nodeName+"/plugins/emqx_retainer/unload", nil).is(http.StatusInternalServerError, `{"message":"not_started"}`)
	w.api("PUT", "v2/nodes/"+nodeName+"/plugins/emq_retainer", body{"active": false}).is(http.StatusOK, `{"code":111,"message":"not_started"}`)
	if got := kept(); got != "0" {
		w.t.Errorf("off: got %s retained messages, want 0", got)
	}
	s := w.connect(hello{})
	s.subscribe("t/before", 1)
	s.ping() // not delivered
	p.publish(message{topic: "t/before", payload: "y", qos: 1, retain: true})
	s.receive("t/before", "y") // routed all the same
	w.restart()
	if got := kept(); got != "0" {
		w.t.Errorf("off, after a restart: got %s retained messages, want 0", got)
	}
	w.plugin("retainer", "load")
	if got := kept(); got != "2" {
		w.t.Errorf("on again: got %s retained messages, want 2", got)
	}
}

// actPresence: the plugin modules tells of clients that come and go while it is on.
func actPresence(w *world) {
	switchTo := func(active bool) {
		w.t.Helper()
		w.api("PUT", "v2/nodes/"+nodeName+"/plugins/emq_modules", body{"active": active}).is(http.StatusOK, `{"code":0,"result":[]}`)
	}
	watcher := w.connect(hello{})
	watcher.subscribe("$SYS/brokers/+/clients/#", 1)
	id := unique("present")
	w.connect(hello{id: id}).bye()
	for _, what := range []string{"connected", "disconnected"} {
		m := watcher.want(tPublish)
		if want := "$SYS/brokers/" + nodeName + "/clients/" + id + "/" + what; m.topic != want || !strings.Contains(m.payload, id) {
			w.t.Errorf("got %s, want it on %s", m, want)
		}
		if m.qos == 1 {
			watcher.ack(tPuback, m.id)
		}
	}
	switchTo(false)
	w.connect(hello{}).bye()
	watcher.ping() // nobody tells
	switchTo(true)
}

// TestPrecedence sets keys in every layer: file, environment, flag, cluster, node. A higher one wins: a
// client sees it, and the API shows it.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lacewing.conf")
	text := "mqtt.max_topic_levels = 11\nmqtt.max_topic_alias = 11\nmqtt.max_clientid_len = 111\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LACEWING_MQTT__MAX_TOPIC_ALIAS", "12")
	t.Setenv("LACEWING_MQTT__MAX_CLIENTID_LEN", "112")
	p := launch(t, 0, map[string]string{"mqtt.max_clientid_len": "113"}, "--config", file)
	api := "http://" + p.address["http management"] + "/api/v3/"
	shows := func(key, want string) {
		t.Helper()
		for _, r := range ask(t, "GET", api+"nodes/"+nodeName+"/configs/", appID, appSecret, nil).rows() {
			if r["key"] == key && r["value"] != want {
				t.Errorf("%s is %v, want %s", key, r["value"], want)
			}
		}
	}
	longest := func(n int) { // a client sees it
		t.Helper()
		for length, want := range map[int]byte{n: 0, n + 1: 2} {
			d := dial(t, p.address["mqtt:tcp external"], 4)
			if got := d.hello(hello{id: strings.Repeat("x", length)}); got != want {
				t.Errorf("client id of %d bytes: got code %d, want %d", length, got, want)
			}
			d.nc.Close()
		}
	}
	shows("mqtt.max_topic_levels", "11")
	shows("mqtt.max_topic_alias", "12")
	shows("mqtt.max_clientid_len", "113")
	longest(113)
	set := func(path, value string) {
		t.Helper()
		ask(t, "PUT", api+path+"configs/emqx", appID, appSecret, body{"key": "mqtt.max_clientid_len", "value": value}).done()
	}
	set("", "114")
	shows("mqtt.max_clientid_len", "114")
	longest(114)
	set("nodes/"+nodeName+"/", "115")
	shows("mqtt.max_clientid_len", "115")
	longest(115)
	set("", "116") // a value for all nodes takes the place of what they have of their own
	shows("mqtt.max_clientid_len", "116")
	longest(116)
}
