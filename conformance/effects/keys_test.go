package effects

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"
)

// The alarms of the machine are provoked by a watermark of nothing, which everything is above.
const (
	noShare  = "0%"
	allShare = "100%"
)

// hotKeys are the keys of the hot configuration. second is another file of access rules.
func hotKeys(second string) []hotKey {
	high := func(key, alarm, interval string, more ...setting) hotKey {
		return hotKey{key: key, value: noShare, shown: "0.0000", reset: allShare, bad: "101%", was: "quiet", now: "alarm",
			prepare: append([]setting{{interval, "1s"}, {key, allShare}}, more...),
			observe: func(w *world) string { w.connect(hello{}); return w.alarmed(alarm) }}
	}
	interval := func(key, mark string, alarms ...string) hotKey {
		return hotKey{key: key, value: "1s", shown: "1000", reset: "1h", bad: "1ms", was: "waits", now: "looked", first: true,
			prepare: []setting{{mark, noShare}, {key, "1h"}},
			observe: func(w *world) string {
				for _, alarm := range alarms {
					if w.alarmed(alarm) != "alarm" {
						return "waits"
					}
				}
				return "looked"
			}}
	}
	low := func(key, alarm, mark, interval string) hotKey {
		return hotKey{key: key, value: allShare, shown: "1.0000", reset: noShare, bad: "-1%", was: "alarm", now: "quiet",
			prepare: []setting{{interval, "1s"}, {key, noShare}},
			observe: func(w *world) string {
				w.connect(hello{})
				w.set(mark, noShare)
				if w.alarmed(alarm) != "alarm" {
					return "not raised"
				}
				w.set(mark, allShare) // between the marks an alarm stays as it is
				return w.alarmed(alarm)
			}}
	}
	keys := []hotKey{
		{key: "log.level", value: "debug", shown: "debug", reset: "none", bad: "loud", was: "silent", now: "logged",
			v2: []v2Key{{key: "log.console.level"}}, observe: logged},
		{key: "mqtt.allow_anonymous", value: "false", shown: "false", reset: "true", bad: "maybe", was: "code 0", now: "code 5",
			v2: []v2Key{{key: "mqtt.allow_anonymous"}}, alone: true, observe: func(w *world) string { return code(w.refused(hello{})) }},
		{key: "mqtt.acl_nomatch", value: "deny", shown: "deny", reset: "allow", bad: "ask", was: "code 16", now: "code 135",
			v2: []v2Key{{key: "mqtt.acl_nomatch"}}, alone: true, observe: func(w *world) string { return w.publishes("nomatch") }},
		{key: "mqtt.acl_file", value: second, shown: second, reset: strings.Replace(second, "second", "acl", 1), bad: second + ".none",
			was: "code 16", now: "code 135", v2: []v2Key{{key: "mqtt.acl_file"}}, observe: func(w *world) string { return w.publishes("t/second") }},
		{key: "mqtt.cache_acl", value: "false", shown: "false", reset: "true", bad: "maybe", was: "remembered", now: "asked",
			v2: []v2Key{{key: "mqtt.cache_acl"}}, alone: true, observe: func(w *world) string { return w.cached(0) }},
		{key: "acl_cache_max_size", value: "1", shown: "1", reset: "32", bad: "0", was: "remembered", now: "asked", alone: true,
			observe: func(w *world) string { return w.cached(0, "other") }},
		{key: "acl_cache_ttl", value: "20ms", shown: "20", reset: "1m", bad: "soon", was: "remembered", now: "asked", alone: true,
			observe: func(w *world) string { return w.cached(60 * time.Millisecond) }},
		{key: "mqtt.websocket_protocol_header", value: "off", shown: "false", reset: "on", bad: "maybe", was: "400", now: "101",
			v2: []v2Key{{key: "mqtt.websocket_protocol_header"}}, observe: upgrade},
		{key: "mqtt.mqueue.high_watermark", value: "30%", shown: "0.3000", reset: "60%", bad: "200%", was: "quiet", now: "alarm",
			v2:      []v2Key{{key: "mqtt.mqueue.high_watermark", value: "0.3", reset: "0.6"}},
			prepare: []setting{{"zone.external.max_mqueue_len", "10"}}, alone: true,
			observe: func(w *world) string { return w.queueAlarm(5, 0) }},
		{key: "mqtt.mqueue.low_watermark", value: "50%", shown: "0.5000", reset: "20%", bad: "90%", was: "alarm", now: "quiet",
			v2:      []v2Key{{key: "mqtt.mqueue.low_watermark"}},
			prepare: []setting{{"zone.external.max_mqueue_len", "10"}, {"zone.external.max_inflight", "1"}}, alone: true,
			observe: func(w *world) string { return w.queueAlarm(8, 4) }},
		{key: "broker.shared_subscription_strategy", value: "sticky", shown: "sticky", reset: "random", bad: "fair", was: "both", now: "one",
			observe: shared},

		interval("os_mon.cpu_check_interval", "os_mon.cpu_high_watermark", "cpu_high_watermark"),
		interval("os_mon.mem_check_interval", "os_mon.sysmem_high_watermark", "system_memory_high_watermark"),
		interval("vm_mon.check_interval", "vm_mon.process_high_watermark", "too_many_processes"),
		high("os_mon.cpu_high_watermark", "cpu_high_watermark", "os_mon.cpu_check_interval", setting{"os_mon.cpu_low_watermark", allShare}),
		low("os_mon.cpu_low_watermark", "cpu_high_watermark", "os_mon.cpu_high_watermark", "os_mon.cpu_check_interval"),
		high("os_mon.sysmem_high_watermark", "system_memory_high_watermark", "os_mon.mem_check_interval"),
		high("os_mon.procmem_high_watermark", "process_memory_high_watermark", "os_mon.mem_check_interval"),
		high("vm_mon.process_high_watermark", "too_many_processes", "vm_mon.check_interval", setting{"vm_mon.process_low_watermark", allShare}),
		low("vm_mon.process_low_watermark", "too_many_processes", "vm_mon.process_high_watermark", "vm_mon.check_interval"),

		{key: "retainer.max_retained_messages", app: "retainer", value: "1", shown: "1", reset: "0", bad: "-1", was: "2", now: "1", alone: true,
			v2: []v2Key{{key: "retainer.max_message_num"}}, observe: func(w *world) string { return w.retains("x", 0) }},
		{key: "retainer.max_payload_size", app: "retainer", value: "4", shown: "4", reset: "1MB", bad: "big", was: "2", now: "0",
			v2: []v2Key{{key: "retainer.max_payload_size"}}, observe: func(w *world) string { return w.retains("12345", 0) }},
		{key: "retainer.expiry_interval", app: "retainer", value: "50ms", shown: "50", reset: "0", bad: "never", was: "2", now: "0",
			v2: []v2Key{{key: "retainer.expiry_interval"}}, alone: true, observe: func(w *world) string { return w.retains("x", 1500*time.Millisecond) }},
		{key: "recon.gc_interval", app: "recon", alone: true, value: "1s", shown: "1000", reset: "5m", bad: "never", was: "left", now: "collected",
			v2: []v2Key{{key: "recon.gc_interval", value: "1", shown: "1", reset: "300"}}, observe: collected},
		// These leave retained messages below $SYS, which the retainer counts.
		{key: "broker.sys_interval", value: "1s", shown: "1000", reset: "0", bad: "often", was: "silent", now: "published",
			v2: []v2Key{{key: "mqtt.broker.sys_interval", value: "1", shown: "1", reset: "0"}}, observe: func(w *world) string { return w.sys("metrics/packets/received") }},
		{key: "broker.sys_heartbeat", value: "1s", shown: "1000", reset: "0", bad: "often", was: "silent", now: "published",
			observe: func(w *world) string { return w.sys("uptime") }},
	}
	return append(keys, zoneKeys()...)
}

// zoneKeys are the keys of zones, and those of the broker that zones inherit.
func zoneKeys() []hotKey {
	both := func(name, broker string, k hotKey) []hotKey { // the broker's key is set while the zone has none of its own
		zone := k
		zone.key = "zone.$." + name
		zone.v2 = nil
		k.key, k.prepare = broker, nil
		return []hotKey{k, zone}
	}
	anonymous := hotKey{key: "zone.$.allow_anonymous", value: "false", shown: "false", reset: "true", bad: "maybe", was: "code 0", now: "code 5",
		alone: true, observe: func(w *world) string { return code(w.refused(hello{})) }}
	keys := []hotKey{anonymous, {key: "zone.$.enable_acl", value: "off", shown: "false", reset: "on", bad: "maybe", was: "code 135", now: "code 16", alone: true,
		zones:   map[string]swap{"internal": {"on", "true", "off", "code 16", "code 135"}},
		observe: func(w *world) string { return w.publishes("denied/x") }}}
	for _, pair := range [][]hotKey{
		both("acl_deny_action", "acl_deny_action", hotKey{alone: true, value: "disconnect", shown: "disconnect", reset: "ignore", bad: "bite", was: "alive", now: "closed",
			prepare: []setting{{"zone.$.enable_acl", "on"}},
			observe: func(w *world) string {
				return w.survives(func(d *device) { d.send("denied/x", "x", 0) })
			}}),
		both("max_packet_size", "mqtt.max_packet_size", hotKey{value: "300", shown: "300", reset: "1MB", bad: "3", was: "alive", now: "closed",
			v2: []v2Key{{key: "mqtt.max_packet_size"}}, observe: func(w *world) string {
				return w.survives(func(d *device) { d.send("t/large", strings.Repeat("x", 300), 0) })
			}}),
		both("max_clientid_len", "mqtt.max_clientid_len", hotKey{value: "30", shown: "30", reset: "1024", bad: "22", was: "code 0", now: "code 2",
			v2: []v2Key{{key: "mqtt.max_clientid_len"}}, observe: func(w *world) string {
				return code(w.refused(hello{id: unique(strings.Repeat("i", 40))}))
			}}),
		both("max_topic_levels", "mqtt.max_topic_levels", hotKey{alone: true, value: "3", shown: "3", reset: "0", bad: "-1", was: "code 16", now: "code 144",
			observe: func(w *world) string { return w.publishes("t/a/b/c") }}),
		both("max_qos_allowed", "mqtt.max_qos_allowed", hotKey{value: "1", shown: "1", reset: "2", bad: "3", was: "code 2", now: "code 1", alone: true,
			observe: func(w *world) string { return code(w.connect(hello{}).try("t/q", 2)) }}),
		both("max_topic_alias", "mqtt.max_topic_alias", hotKey{value: "3", shown: "3", reset: "32", bad: "65536", was: "alive", now: "closed",
			observe: func(w *world) string {
				d := w.connect(hello{v: 5})
				d.write(d.publishBytes(message{topic: "t/alias", props: prop(pTopicAlias, u16(4))}))
				return d.alive()
			}}),
		both("retain_available", "mqtt.retain_available", hotKey{value: "false", shown: "false", reset: "true", bad: "maybe", was: "alive", now: "closed",
			alone: true, observe: func(w *world) string {
				return w.survives(func(d *device) { d.write(d.publishBytes(message{topic: "t/none", retain: true})) })
			}}),
		both("wildcard_subscription", "mqtt.wildcard_subscription", hotKey{value: "false", shown: "false", reset: "true", bad: "maybe", was: "code 0", now: "code 128",
			alone: true, observe: func(w *world) string { return code(w.connect(hello{}).try("t/+", 0)) }}),
		both("shared_subscription", "mqtt.shared_subscription", hotKey{value: "false", shown: "false", reset: "true", bad: "maybe", was: "code 0", now: "code 128",
			alone: true, observe: func(w *world) string { return code(w.connect(hello{}).try("$share/g/t/x", 0)) }}),
	} {
		keys = append(keys, pair...)
	}
	return append(keys, []hotKey{
		{key: "zone.$.idle_timeout", value: "100ms", shown: "100", reset: "15s", bad: "0", was: "waits", now: "closed", alone: true,
			v2: []v2Key{{key: "mqtt.client.idle_timeout", value: "100", reset: "15000"}}, observe: func(w *world) string {
				if _, err := w.dial(4).tryRead(time.Second); err == nil || strings.Contains(err.Error(), "timeout") {
					return "waits"
				}
				return "closed"
			}},
		{key: "zone.$.publish_limit", value: "10", shown: "10", reset: "0", bad: "much", was: "at once", now: "held", alone: true,
			v2: []v2Key{{key: "mqtt.client.max_publish_rate"}}, observe: func(w *world) string {
				d := w.connect(hello{})
				begin := time.Now()
				for range 30 { // ten at once, and near two seconds for the others
					d.send("t/rate", "x", 1)
				}
				if time.Since(begin) > 1200*time.Millisecond {
					return "held"
				}
				return "at once"
			}},
		{key: "zone.$.enable_ban", value: "off", shown: "false", reset: "on", bad: "maybe", was: "code 5", now: "code 0", observe: func(w *world) string {
			id := unique("banned")
			w.api("POST", "v3/banned", body{"who": id, "as": "client_id"}).done()
			return code(w.refused(hello{id: id}))
		}},
		{key: "zone.$.enable_stats", value: "off", shown: "false", reset: "on", bad: "maybe", was: "1 in the queue", now: "0 in the queue",
			v2: []v2Key{{key: "mqtt.client.enable_stats"}, {key: "mqtt.session.enable_stats"}}, alone: true, observe: func(w *world) string {
				id := w.away("t/stats", 1)
				w.connect(hello{}).send("t/stats", "x", 1)
				row := w.api("GET", "v3/sessions/"+id, nil).rows()
				if len(row) != 1 {
					return "no session"
				}
				w.connect(hello{id: id}).bye()
				return fmt.Sprintf("%v in the queue", row[0]["mqueue_len"])
			}},
		{key: "zone.$.server_keepalive", value: "7", shown: "7", reset: "0", bad: "65536", was: "0", now: "7", alone: true, observe: func(w *world) string {
			d := w.connect(hello{v: 5, keepAlive: 60})
			n, _ := d.number(pServerKeepAlive)
			return fmt.Sprint(n)
		}},
		{key: "zone.$.keepalive_backoff", value: "3", shown: "3.0000", reset: "0.75", bad: "0.1", was: "closed", now: "alive",
			v2: []v2Key{{key: "mqtt.keepalive_backoff"}}, observe: func(w *world) string {
				d := w.connect(hello{keepAlive: 1})
				if _, err := d.tryRead(4 * time.Second); err == nil || strings.Contains(err.Error(), "timeout") {
					return "alive"
				}
				return "closed"
			}},
		{key: "zone.$.max_subscriptions", value: "1", shown: "1", reset: "0", bad: "-1", was: "code 1", now: "code 128", alone: true,
			v2: []v2Key{{key: "mqtt.session.max_subscriptions"}}, observe: func(w *world) string {
				d := w.connect(hello{})
				d.subscribe("t/1", 1)
				return code(d.try("t/2", 1))
			}},
		{key: "zone.$.upgrade_qos", value: "on", shown: "true", reset: "off", bad: "maybe", was: "qos 0", now: "qos 1", alone: true,
			v2: []v2Key{{key: "mqtt.session.upgrade_qos"}}, observe: func(w *world) string {
				d := w.connect(hello{})
				d.subscribe("t/up", 1)
				w.connect(hello{}).send("t/up", "x", 0)
				return fmt.Sprintf("qos %d", d.receive("t/up", "x").qos)
			}},
		{key: "zone.$.max_inflight", prepare: []setting{{"zone.$.max_inflight", "32"}}, value: "1", shown: "1", reset: "32", bad: "65536", was: "2", now: "1", alone: true,
			v2: []v2Key{{key: "mqtt.session.max_inflight"}}, observe: func(w *world) string {
				s, p := w.connect(hello{}), w.connect(hello{})
				s.subscribe("t/flight", 1)
				p.send("t/flight", "1", 1)
				p.send("t/flight", "2", 1)
				return fmt.Sprint(len(s.waiting()))
			}},
		{key: "zone.$.retry_interval", value: "200ms", shown: "200", reset: "20s", bad: "soon", was: "once", now: "again", alone: true,
			v2: []v2Key{{key: "mqtt.session.retry_interval", value: "200", reset: "20000"}}, observe: func(w *world) string {
				s := w.connect(hello{})
				s.subscribe("t/retry", 1)
				w.connect(hello{}).send("t/retry", "x", 1)
				s.want(tPublish)
				if p, err := s.tryRead(time.Second); err == nil && p.typ == tPublish && p.dup {
					return "again"
				}
				return "once"
			}},
		{key: "zone.$.max_awaiting_rel", value: "1", shown: "1", reset: "100", bad: "65536", was: "taken", now: "refused", alone: true,
			v2: []v2Key{{key: "mqtt.session.max_awaiting_rel"}}, observe: func(w *world) string {
				d := w.connect(hello{})
				d.write(d.publishBytes(message{topic: "t/rel", qos: 2, id: 1}))
				d.want(tPubrec)
				d.write(d.publishBytes(message{topic: "t/rel", qos: 2, id: 2}))
				d.write(frame(tPingreq, 0))
				if d.read().typ == tPingresp {
					return "refused"
				}
				return "taken"
			}},
		{key: "zone.$.await_rel_timeout", value: "50ms", shown: "50", reset: "300s", bad: "soon", was: "kept", now: "given up", alone: true,
			v2: []v2Key{{key: "mqtt.session.await_rel_timeout", value: "50", reset: "300000"}}, observe: func(w *world) string {
				d := w.connect(hello{v: 5})
				d.write(d.publishBytes(message{topic: "t/rel", qos: 2, id: 1}))
				d.want(tPubrec)
				time.Sleep(500 * time.Millisecond) // what is tested is that this time has passed
				d.ack(tPubrel, 1)
				if d.want(tPubcomp).code == 0x92 {
					return "given up"
				}
				return "kept"
			}},
		{key: "zone.$.ignore_loop_deliver", value: "true", shown: "true", reset: "false", bad: "maybe", was: "comes back", now: "does not",
			v2: []v2Key{{key: "mqtt.session.ignore_loop_deliver"}}, observe: func(w *world) string {
				d := w.connect(hello{})
				d.subscribe("t/loop", 0)
				d.write(d.publishBytes(message{topic: "t/loop", payload: "x"}))
				if len(d.waiting()) == 1 {
					return "comes back"
				}
				return "does not"
			}},
		{key: "zone.$.session_expiry_interval", value: "1s", shown: "1000", reset: "2h", bad: "soon", was: "kept", now: "gone", alone: true,
			v2: []v2Key{{key: "mqtt.session.expiry_interval", value: "1000", reset: "7200000"}}, observe: func(w *world) string {
				id := w.away("t/x", 0)
				for deadline := time.Now().Add(2500 * time.Millisecond); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
					if len(w.api("GET", "v3/sessions/"+id, nil).rows()) == 0 {
						return "gone"
					}
				}
				return "kept"
			}},
		{key: "zone.$.max_mqueue_len", prepare: []setting{{"zone.$.max_mqueue_len", "1000"}}, value: "2", shown: "2", reset: "1000", bad: "-1", was: "1 2 3", now: "2 3", alone: true,
			v2: []v2Key{{key: "mqtt.mqueue.max_length"}}, observe: func(w *world) string { return w.queued(1, "t/one", "t/one", "t/one") }},
		{key: "zone.$.mqueue_type", value: "priority", shown: "priority", reset: "simple", bad: "random", was: "1 2 3", now: "2 1 3", alone: true,
			prepare: []setting{{"zone.$.mqueue_priorities", "t/low=1,t/high=9"}, {"zone.$.mqueue_type", "simple"}},
			v2:      []v2Key{{key: "mqtt.mqueue.type"}}, observe: func(w *world) string { return w.queued(1, "t/low", "t/high", "t/low") }},
		{key: "zone.$.mqueue_priorities", value: "t/low=1,t/high=9", shown: "t/low=1,t/high=9", reset: "none", bad: "t/low", was: "1 2 3", now: "2 1 3", alone: true,
			prepare: []setting{{"zone.$.mqueue_type", "priority"}, {"zone.$.mqueue_priorities", "none"}},
			v2:      []v2Key{{key: "mqtt.mqueue.priority"}}, observe: func(w *world) string { return w.queued(1, "t/low", "t/high", "t/low") }},
		{key: "zone.$.mqueue_default_priority", value: "lowest", shown: "lowest", reset: "highest", bad: "middle", was: "2 1", now: "1 2", alone: true,
			prepare: []setting{{"zone.$.mqueue_type", "priority"}, {"zone.$.mqueue_priorities", "t/low=5"}},
			observe: func(w *world) string { return w.queued(1, "t/low", "t/other") }},
		{key: "zone.$.mqueue_store_qos0", value: "false", shown: "false", reset: "true", bad: "maybe", was: "1", now: "",
			v2: []v2Key{{key: "mqtt.mqueue.store_qos0"}}, observe: func(w *world) string { return w.queued(0, "t/zero") }},
		{key: "zone.$.mountpoint", value: "m/", shown: "m/", reset: "", bad: "a\u0001", was: "t/x", now: "m/t/x", alone: true, observe: func(w *world) string {
			s := w.connect(hello{})
			s.subscribe("t/x", 0)
			for _, topic := range []string{"t/x", "m/t/x"} {
				w.api("POST", "v3/mqtt/publish", body{"topic": topic, "payload": topic, "client_id": "api"}).done()
			}
			got := s.waiting()
			if len(got) != 1 || got[0].topic != "t/x" {
				return fmt.Sprint(got)
			}
			return got[0].payload
		}},
		{key: "zone.$.use_username_as_clientid", value: "on", shown: "true", reset: "off", bad: "maybe", was: "0 rows", now: "1 rows", observe: func(w *world) string {
			user := unique("user")
			d := w.connect(hello{user: user, pass: "x"})
			defer d.bye()
			return fmt.Sprintf("%d rows", len(w.api("GET", "v3/connections/"+user, nil).rows()))
		}},
	}...)
}

func code(n byte) string { return fmt.Sprintf("code %d", n) }

// logged says whether the log tells of something that is for debugging only.
func logged(w *world) string {
	before := len(w.log.String())
	d := w.connect(hello{})
	d.write(frame(tConnack, 0, []byte{0, 0}))
	d.closed()
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if s := w.log.String(); strings.Contains(s[min(before, len(s)):], "level=DEBUG") {
			return "logged"
		}
	}
	return "silent"
}

// publishes publishes with QoS 1 and 5.0 and gives the code of the PUBACK.
func (w *world) publishes(topic string) string {
	d := w.connect(hello{v: 5})
	return code(d.publish(message{topic: topic, payload: "x", qos: 1}))
}

// cached has a client publish, denies it that in the file of access rules after a while, and says whether the client is
// held to the old decision. more are topics that it publishes to meanwhile.
func (w *world) cached(pause time.Duration, more ...string) string {
	d, topic := w.connect(hello{v: 5}), unique("t/cached")
	for _, name := range append([]string{topic}, more...) {
		if got := d.publish(message{topic: name, qos: 1}); got != 0x10 {
			return fmt.Sprintf("code 0x%02x at first", got)
		}
	}
	w.rule("{deny, all, publish, [\"" + topic + "\"]}.")
	defer w.rule("")
	time.Sleep(pause)
	if d.publish(message{topic: topic, qos: 1}) == 0x87 {
		return "asked"
	}
	return "remembered"
}

// rule puts a rule before those of the file of access rules and has the node read it.
func (w *world) rule(first string) {
	w.t.Helper()
	if err := os.WriteFile(w.settings["mqtt.acl_file"], []byte(first+"\n"+rules), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.node.Reload(context.Background(), "acl"); err != nil {
		w.t.Fatal(err)
	}
}

// upgrade gives the status of a WebSocket request that offers no subprotocol.
func upgrade(w *world) string {
	nc, err := net.DialTimeout("tcp", w.node.Addr("mqtt:ws external"), patience)
	if err != nil {
		w.t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(nc, "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		w.t.Fatalf("WebSocket request: %v", err)
	}
	return fmt.Sprint(resp.StatusCode)
}

// hasAlarm says whether both versions list an alarm.
func (w *world) hasAlarm(id string) bool {
	w.t.Helper()
	lists := func(path string) bool {
		for _, r := range w.api("GET", path, nil).rows() {
			if r["id"] == id {
				return true
			}
		}
		return false
	}
	v3 := lists("v3/alarms/" + nodeName)
	if v2 := lists("v2/nodes/" + nodeName + "/alarms"); v2 != v3 { // it may have changed in between
		eventually(w.t, "both versions list the alarm "+id+" or do not", func() bool {
			v3 = lists("v3/alarms/" + nodeName)
			return lists("v2/nodes/"+nodeName+"/alarms") == v3
		})
	}
	return v3
}

// alarmed waits until an alarm of the machine is raised, for longer than the node needs to look.
func (w *world) alarmed(id string) string {
	// A change of the watermarks judges at once; the first look comes within the second that the cases set.
	for deadline := time.Now().Add(1500 * time.Millisecond); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if w.hasAlarm(id) {
			return "alarm"
		}
	}
	return "quiet"
}

// queueAlarm lets messages wait for a session, has it take some of them, and says whether the alarm is raised.
func (w *world) queueAlarm(messages, taken int) string {
	id := unique("slow")
	s := w.connect(hello{id: id, persist: true})
	s.subscribe("t/queue", 1)
	s.bye()
	p := w.connect(hello{})
	for i := range messages {
		p.send("t/queue", fmt.Sprint(i), 1)
	}
	alarm := "queue_high_watermark." + id
	if taken > 0 {
		eventually(w.t, alarm, func() bool { return w.hasAlarm(alarm) })
		s = w.connect(hello{id: id, persist: true})
		for i := range taken {
			s.receive("t/queue", fmt.Sprint(i))
		}
		s.want(tPublish) // the next one, not acknowledged
	}
	state := "quiet"
	for deadline := time.Now().Add(200 * time.Millisecond); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		state = "quiet"
		if w.hasAlarm(alarm) {
			state = "alarm"
		}
	}
	w.connect(hello{id: id}).bye()
	return state
}

// sys says whether a $SYS topic is published within what two rounds take.
func (w *world) sys(topic string) string {
	d := w.connect(hello{})
	d.subscribe("$SYS/brokers/+/"+topic, 0)
	if p, err := d.tryRead(1500 * time.Millisecond); err == nil && p.typ == tPublish {
		return "published"
	}
	return "silent"
}

// shared says how many members of a share group get something out of twenty messages.
func shared(w *world) string {
	a, b, p := w.connect(hello{}), w.connect(hello{}), w.connect(hello{})
	topic := unique("t/shared")
	a.subscribe("$share/g/"+topic, 0)
	b.subscribe("$share/g/"+topic, 0)
	for range 20 {
		p.send(topic, "x", 0)
	}
	p.ping()
	na, nb := len(a.waiting()), len(b.waiting())
	if na+nb != 20 {
		return fmt.Sprintf("%d and %d messages", na, nb)
	}
	if na == 0 || nb == 0 {
		return "one"
	}
	return "both"
}

// retains publishes two retained messages and says how many a subscriber gets after a while.
func (w *world) retains(payload string, pause time.Duration) string {
	p := w.connect(hello{})
	topics := []string{unique("t/kept"), unique("t/kept")}
	for _, topic := range topics {
		p.publish(message{topic: topic, payload: payload, qos: 1, retain: true})
	}
	time.Sleep(pause)
	s := w.connect(hello{})
	for _, topic := range topics {
		s.write(frame(tSubscribe, 2, u16(s.packetID()), text(topic), []byte{0}))
	}
	n := 0
	for acks := 0; acks < len(topics); {
		if s.read().typ == tSuback {
			acks++
		} else {
			n++
		}
	}
	for _, p := range s.waiting() {
		if p.typ == tPublish {
			n++
		}
	}
	for _, topic := range topics {
		p.publish(message{topic: topic, qos: 1, retain: true})
	}
	return fmt.Sprint(n)
}

// collected says whether garbage is collected by force.
func collected(*world) string {
	forced := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	before := forced()
	for deadline := time.Now().Add(1500 * time.Millisecond); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if forced() != before {
			return "collected"
		}
	}
	return "left"
}

// survives says whether a client of 3.1.1 is still connected after what it does.
func (w *world) survives(do func(d *device)) string {
	d := w.connect(hello{})
	do(d)
	return d.alive()
}

// alive says whether the broker still answers.
func (d *device) alive() string {
	d.write(frame(tPingreq, 0))
	for {
		p, err := d.tryRead(patience)
		switch {
		case err != nil:
			return "closed"
		case p.typ == tPingresp:
			return "alive"
		}
	}
}

// waiting returns what is on its way to the client; nothing is acknowledged.
func (d *device) waiting() (got []*packet) {
	d.t.Helper()
	d.write(frame(tPingreq, 0))
	for {
		p := d.read()
		if p.typ == tPingresp {
			return got
		}
		got = append(got, p)
	}
}

// away makes a persistent session that is subscribed and not connected; it returns its client id.
func (w *world) away(filter string, qos byte) string {
	w.t.Helper()
	id := unique("away")
	s := w.connect(hello{id: id, persist: true})
	s.subscribe(filter, qos)
	s.bye()
	return id
}

// queued publishes 1, 2, ... to these topics while a subscriber is away, and says in which order they come.
func (w *world) queued(qos byte, topics ...string) string {
	id := w.away("t/+", 1)
	p := w.connect(hello{})
	for i, topic := range topics {
		p.send(topic, fmt.Sprint(i+1), qos)
	}
	p.ping()
	s := w.connect(hello{id: id, persist: true})
	var got []string
	for _, m := range s.waiting() {
		got = append(got, m.payload)
	}
	w.connect(hello{id: id}).bye()
	return strings.Join(got, " ")
}
