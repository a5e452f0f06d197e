package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// enumWord is the datatype of flags that the documents call an enum.
const enumWord = "enum"

// LogLevels are the values of log.level, most talkative first.
var LogLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency", "none"}

// Core returns the keys of the broker itself: node, log, listeners, HTTP,
// MQTT, zones, broker, monitors.
func Core() []Key {
	return slices.Concat(nodeKeys(), clusterKeys(), storeKeys(), logKeys(), listenerKeys(), httpKeys(), mqttKeys(), zoneKeys(), brokerKeys(), monitorKeys())
}

func nodeKeys() []Key {
	return []Key{
		{Name: "node.name", Type: String, Default: "emqx@127.0.0.1", Check: checkNodeName,
			Doc: "Name of the node in all answers, name@host. It is a label: the identity of a node is kept in its data directory."},
		{Name: "node.data_dir", Type: String, Default: "data", Aliases: []string{"node.data"},
			Doc: "Directory of everything the node keeps: metadata, certificates it has made, the control socket. One node at a time can use it."},
		{Name: "node.shutdown_timeout", Type: Duration, Default: "30s", Min: 1,
			Doc: "Longest time that an orderly stop may take; what is still open then is closed hard."},
	}
}

func clusterKeys() []Key {
	return []Key{
		{Name: "node.cookie", Type: SecretT,
			Doc: "Secret that all nodes of a cluster share: who does not know it is refused. Without a value one is made in the data directory, which is good for a node alone; a cluster port off loopback needs one."},
		{Name: "cluster.name", Type: String, Default: "emqxcl", Check: checkWord,
			Doc: "Name of the cluster. Nodes of another name are refused."},
		{Name: "cluster.listen", Type: Address,
			Doc: "Cluster port: the address on which the other nodes reach this one. Unset is the host of node.name and port 5370; off makes a node that has no others."},
		{Name: "cluster.discovery", Type: Enum, Enum: []string{"manual", "static", "dns"}, Default: "manual",
			Doc: "How the node finds others: manual is alone until it is told to join (lacewing ctl cluster join), static knows the nodes of the first cluster by cluster.static.seeds, dns by a name that resolves to all of them."},
		{Name: "cluster.static.seeds", Type: List,
			Doc: "Nodes of the first cluster, this one too, the same on each: n1@10.0.0.1,n2@10.0.0.2,n3@10.0.0.3. A port other than 5370 follows the host. When all of them are there and have no data they form the cluster; a further node joins it."},
		{Name: "cluster.dns.name", Type: String,
			Doc: "Name that resolves to the nodes, such as that of a headless service."},
		{Name: "cluster.dns.type", Type: Enum, Enum: []string{"a", "srv"}, Default: "a",
			Doc: "Records that are asked for: addresses, whose port is that of this node, or services with their ports."},
		{Name: "cluster.dns.expect", Type: Integer, Default: "3", Min: 1, Max: 64,
			Doc: "How many nodes form the first cluster; further ones join it."},
		{Name: "cluster.heartbeat", Type: Duration, Default: "1s", Min: 100, Max: 10000,
			Doc: "How often the nodes ask each other how they are, and after how long a silent leader is replaced; the same on all of them. A node that is silent for three of these is down."},
		{Name: "cluster.start_wait", Type: Duration, Default: "10s", Min: 0,
			Doc: "How long a start waits for the cluster before clients are let in without it."},
		{Name: "cluster.link.max_queue_bytes", Type: Bytesize, Default: "256MB", Min: 0,
			Doc: "Most bytes of messages of QoS 1 and 2 that wait for another node, in memory and on disk, for each of them. At it publications that the node should get are refused with 0x97, and an alarm stands. 0 is no limit."},
		{Name: "cluster.link.suback_wait", Type: Duration, Default: "100ms", Min: 0,
			Doc: "How long the SUBACK of a client waits for a connected node to acknowledge the subscription. A node that takes longer is not waited for until it keeps up again, and messages from there may be missed meanwhile."},
		{Name: "cluster.minority.connect", Type: Enum, Enum: []string{"refuse_persistent", "refuse_all", "allow"}, Default: "refuse_persistent",
			Doc: "What becomes of clients that connect to a node which has no majority of the cluster, so that nobody can say where else they are: refuse_persistent lets in those that want no session beyond their connection, allow lets all in. After the partition the session of the later claim stays, and one without a claim goes."},
		{Name: "cluster.takeover.wait_home", Type: Duration, Default: "0s", Min: 0,
			Doc: "How long a client is refused (0x88) whose session is on a node that is down, before it gets a new one."},
		{Name: "cluster.tls.keyfile", Type: String,
			Doc: "Private key of the cluster port, PEM. With key, certificate and cacertfile the nodes speak TLS and check each other's certificates."},
		{Name: "cluster.tls.certfile", Type: String,
			Doc: "Certificate of the cluster port and its chain, PEM, good for server and client, and for the host of node.name."},
		{Name: "cluster.tls.cacertfile", Type: String,
			Doc: "Certificates of the authorities that sign those of the nodes, PEM."},
	}
}

func logKeys() []Key {
	return []Key{
		{Name: "log.level", Aliases: []string{"log.console.level"}, Type: Enum, Enum: LogLevels, Default: "error", Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "log.console.level", Datatype: enumWord}},
			Doc: "Least important lines that are logged. The lines about start and stop are written whatever the level."},
		{Name: "log.format", Type: Enum, Enum: []string{"text", "json"}, Default: "text",
			Doc: "Form of a log line on standard output."},
	}
}

func listenerKeys() []Key {
	type kind struct {
		proto, title string
		address      map[string]string
		acceptors    map[string]string
		max          map[string]string
	}
	kinds := []kind{
		{"tcp", "MQTT over TCP", map[string]string{"external": "0.0.0.0:1883", "internal": "127.0.0.1:11883"},
			map[string]string{"external": "8", "internal": "4"}, map[string]string{"external": "1024000", "internal": "10240000"}},
		{"ssl", "MQTT over TLS", map[string]string{"external": "8883"}, map[string]string{"external": "16"}, map[string]string{"external": "102400"}},
		{"ws", "MQTT over WebSocket", map[string]string{"external": "8083"}, map[string]string{"external": "4"}, map[string]string{"external": "102400"}},
		{"wss", "MQTT over secure WebSocket", map[string]string{"external": "8084"}, map[string]string{"external": "4"}, map[string]string{"external": "16"}},
	}
	var keys []Key
	for _, k := range kinds {
		p := "listener." + k.proto + ".$name"
		zones := map[string]string(nil)
		if k.proto == "tcp" {
			zones = map[string]string{"internal": "internal"}
		}
		keys = append(keys,
			Key{Name: p, Type: Address, Named: k.address,
				Doc: k.title + ": the address to listen on. A port alone is every address, port 0 lets the system choose one and logs it, off does not listen."},
			Key{Name: p + ".acceptors", Type: Integer, Default: "4", Named: k.acceptors, Min: 1, Max: 1024,
				Doc: "How many connections the listener takes in at the same time."},
			Key{Name: p + ".max_connections", Aliases: []string{p + ".max_clients"}, Type: Integer, Default: "102400", Named: k.max, Min: 1,
				Doc: "Most connections that the listener has at a time; more are closed at once."},
			Key{Name: p + ".max_conn_rate", Type: Integer, Default: "0", Min: 0,
				Doc: "Most connections that the listener takes in a second; further ones wait. 0 is no limit."},
			Key{Name: p + ".zone", Type: String, Default: "external", Named: zones, Check: checkWord,
				Doc: "Zone whose settings apply to the connections of the listener."},
			Key{Name: p + ".mountpoint", Type: String,
				Doc: "Text put before every topic of the listener's clients, and taken off what they receive. %c is the client identifier, %u the user name."},
			Key{Name: p + ".rate_limit", Type: Rate, Default: "0",
				Doc: "Bytes a second that are read from one connection, and the burst after a comma; beyond it reading waits. 0 is no limit."},
			Key{Name: p + ".access.$N", Type: Access,
				Doc: "Rules on the peer's address in the order of their numbers; the first that matches decides, without a match the peer is let in. Example: allow 10.0.0.0/8"},
			Key{Name: p + ".proxy_protocol", Type: Flag, Default: "off",
				Doc: "Whether connections begin with a PROXY protocol header, version 1 or 2, that names the real peer."},
			Key{Name: p + ".proxy_protocol_timeout", Type: Duration, Default: "3s", Min: 1,
				Doc: "Longest wait for the PROXY protocol header."},
		)
		if k.proto == "ssl" || k.proto == "wss" {
			keys = append(keys, tlsKeys(p, "listener")...)
			keys = append(keys, Key{Name: p + ".peer_cert_as_username", Type: Enum, Enum: []string{"off", "cn", "dn", "crt"}, Default: "off",
				Doc: "Take the user name from the client's certificate: its common name, its distinguished name, or the certificate itself (PEM)."})
		} else {
			keys = append(keys, Key{Name: p + ".peer_cert_as_username", Type: Enum, Enum: []string{"off", "cn"}, Default: "off",
				Doc: "Take the user name from the common name that the PROXY protocol header carries."})
		}
	}
	for i := range keys {
		keys[i].For = "external"
	}
	return keys
}

func tlsKeys(p, what string) []Key {
	return []Key{
		{Name: p + ".keyfile", Type: String, Hot: false,
			Doc: "Private key of the " + what + ", PEM. Without key and certificate a self-signed pair is made in the data directory."},
		{Name: p + ".certfile", Type: String,
			Doc: "Certificate of the " + what + " and its chain, PEM. It is read again when it has changed."},
		{Name: p + ".cacertfile", Type: String,
			Doc: "Certificates of the authorities that may sign clients' certificates, PEM."},
		{Name: p + ".verify", Type: Enum, Enum: []string{"verify_none", "verify_peer"}, Default: "verify_none",
			Doc: "verify_peer asks clients for a certificate and refuses one that no authority of cacertfile has signed."},
		{Name: p + ".fail_if_no_peer_cert", Type: Flag, Default: "off",
			Doc: "With verify_peer: whether a client without a certificate is refused."},
		{Name: p + ".tls_versions", Type: List, Enum: []string{"tlsv1.3", "tlsv1.2", "tlsv1.1", "tlsv1"}, Default: "tlsv1.3,tlsv1.2",
			Doc: "Versions of TLS that are spoken; all between the lowest and the highest one named."},
		{Name: p + ".ciphers", Type: List,
			Doc: "Cipher suites of TLS 1.2 and below, by their IANA or OpenSSL names. Empty is a safe choice."},
		{Name: p + ".handshake_timeout", Type: Duration, Default: "15s", Min: 1,
			Doc: "Longest time for the TLS handshake."},
	}
}

func httpKeys() []Key {
	listener := func(prefix, what, port, acceptors, tlsAcceptors string, aliases ...string) []Key {
		http, https := prefix+".listener.http", prefix+".listener.https"
		with := func(suffix string) (out []string) {
			for _, a := range aliases {
				out = append(out, a+suffix)
			}
			return out
		}
		keys := []Key{
			{Name: http, Aliases: aliases, Type: Address, Default: port,
				Doc: what + ": the address to listen on. A port alone is every address, port 0 lets the system choose one and logs it, off does not listen."},
			{Name: http + ".acceptors", Aliases: with(".acceptors"), Type: Integer, Default: acceptors, Min: 1, Max: 1024,
				Doc: "How many connections the listener takes in at the same time."},
			{Name: http + ".max_clients", Aliases: with(".max_clients"), Type: Integer, Default: "512", Min: 1,
				Doc: "Most connections that the listener has at a time; a further one takes the place of the one that has been without a request for the longest."},
			{Name: https, Type: Address, Default: "off",
				Doc: what + " over TLS: the address to listen on, or off."},
			{Name: https + ".acceptors", Type: Integer, Default: tlsAcceptors, Min: 1, Max: 1024,
				Doc: "How many connections the listener takes in at the same time."},
			{Name: https + ".max_clients", Type: Integer, Default: "512", Min: 1,
				Doc: "Most connections that the listener has at a time; a further one takes the place of the one that has been without a request for the longest."},
		}
		return append(keys, tlsKeys(https, "listener")...)
	}
	keys := listener("management", "REST API for applications", "8080", "2", "2", "listener.api.mgmt")
	keys = append(keys,
		Key{Name: "management.max_row_limit", Type: Integer, Default: "10000", Min: 1, Max: 1000000,
			Doc: "Rows of a page of the v3 API when the request does not say, and the most that one page holds."},
		Key{Name: "management.v3_dialect", Type: Enum, Enum: []string{"items", "code"}, Default: "items",
			Doc: "Form of the answers of the v3 API: items is the documented one, code the one of the releases 3.0 to 3.2."},
		Key{Name: "management.v2_aggregates", Type: Enum, Enum: []string{"object", "array"}, Default: "object",
			Doc: "Form of the v2 answers for listeners, metrics and stats of all nodes: an object by node name, or an array that holds it."},
		Key{Name: "management.metric_names", Type: Enum, Enum: []string{"slash", "dot"}, Default: "slash",
			Doc: "Names of metrics and stats in the v3 API: packets/received, or packets.received as from release 3.2."},
		Key{Name: "management.bootstrap_app.id", Type: String,
			Doc: "Identifier of an application that is made at start when it does not exist."},
		Key{Name: "management.bootstrap_app.secret", Type: SecretT,
			Doc: "Secret of that application. Without a value one is made."},
	)
	for i := range keys {
		keys[i].Plugin = "management"
	}
	dashboard := append(listener("dashboard", "Dashboard, and both REST APIs for admin users", "18083", "4", "2"),
		Key{Name: "dashboard.default_user.login", Type: String, Default: "admin",
			Doc: "Name of the admin user that is made at start when it does not exist."},
		Key{Name: "dashboard.default_user.password", Type: SecretT, Default: "public",
			Doc: "First password of that user. While it is the built-in one, it is good from loopback only."},
	)
	for i := range dashboard {
		dashboard[i].Plugin = "dashboard"
	}
	return append(keys, dashboard...)
}

func mqttKeys() []Key {
	return []Key{
		{Name: "mqtt.allow_anonymous", Aliases: []string{"allow_anonymous"}, Type: Flag, Default: "true", Hot: true, App: "emqx", Datatype: enumWord,
			V2:  []V2{{App: "emqttd", Key: "mqtt.allow_anonymous", Datatype: enumWord}},
			Doc: "Whether a client is let in when no authentication plugin has decided. Clients that are connected stay."},
		{Name: "mqtt.acl_nomatch", Aliases: []string{"acl_nomatch"}, Type: Enum, Enum: []string{"allow", "deny"}, Default: "allow", Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "mqtt.acl_nomatch", Datatype: enumWord}},
			Doc: "What happens to a publish or subscribe on which no rule has decided."},
		{Name: "mqtt.acl_file", Aliases: []string{"acl_file"}, Type: String, Default: "etc/acl.conf", Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "mqtt.acl_file", Datatype: "string"}},
			Doc: "File of access rules. While the file of the default name does not exist, the built-in rules hold."},
		{Name: "mqtt.cache_acl", Aliases: []string{"enable_acl_cache"}, Type: Flag, Default: "true", Hot: true, App: "emqx", Datatype: enumWord,
			V2:  []V2{{App: "emqttd", Key: "mqtt.cache_acl", Datatype: enumWord}},
			Doc: "Whether a connection remembers what it may publish and subscribe."},
		{Name: "acl_cache_max_size", Type: Integer, Default: "32", Min: 1, Max: 65536, Hot: true, App: "emqx",
			Doc: "Decisions that a connection remembers; the oldest is forgotten for a new one."},
		{Name: "acl_cache_ttl", Type: Duration, Default: "1m", Min: 1, Hot: true, App: "emqx",
			Doc: "Time after which a remembered decision is made anew."},
		{Name: "acl_deny_action", Type: Enum, Enum: []string{"ignore", "disconnect"}, Default: "ignore", Hot: true, App: "emqx",
			Doc: "What else happens to a client whose publish was denied: nothing, or the connection is closed."},
		{Name: "mqtt.max_packet_size", Type: Bytesize, Default: "1MB", Min: 16, Max: 256<<20 + 4, Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "mqtt.max_packet_size", Datatype: "bytesize"}},
			Doc: "Largest packet that is taken from a client; a larger one closes the connection."},
		{Name: "mqtt.max_clientid_len", Type: Integer, Default: "1024", Min: 23, Max: 65535, Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "mqtt.max_clientid_len", Datatype: "integer"}},
			Doc: "Longest client identifier in bytes; a longer one is refused."},
		{Name: "mqtt.max_topic_levels", Type: Integer, Default: "0", Min: 0, Max: 4096, Hot: true, App: "emqx",
			Doc: "Most levels of a topic or filter. 0 is no limit but the length."},
		{Name: "mqtt.max_qos_allowed", Type: Integer, Default: "2", Min: 0, Max: 2, Hot: true, App: "emqx",
			Doc: "Highest QoS: subscriptions are granted at most this, a publish above it is refused."},
		{Name: "mqtt.max_topic_alias", Type: Integer, Default: "32", Min: 0, Max: 65535, Hot: true, App: "emqx",
			Doc: "Topic aliases that an MQTT 5 client may use towards the broker. 0 is none."},
		{Name: "mqtt.retain_available", Type: Flag, Default: "true", Hot: true, App: "emqx",
			Doc: "Whether clients may publish retained messages."},
		{Name: "mqtt.wildcard_subscription", Type: Flag, Default: "true", Hot: true, App: "emqx",
			Doc: "Whether clients may subscribe with wildcards."},
		{Name: "mqtt.shared_subscription", Type: Flag, Default: "true", Hot: true, App: "emqx",
			Doc: "Whether clients may share subscriptions."},
		{Name: "mqtt.websocket_protocol_header", Aliases: []string{"listener.ws.external.verify_protocol_header", "listener.wss.external.verify_protocol_header"},
			Type: Flag, Default: "on", Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "mqtt.websocket_protocol_header", Datatype: "flag"}},
			Doc: "Whether a WebSocket client has to offer the subprotocol mqtt (or mqttv3.1)."},
		{Name: "mqtt.mqueue.low_watermark", Type: Percent, Default: "20%", Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "mqtt.mqueue.low_watermark", Datatype: "percent"}},
			Doc: "Share of max_mqueue_len below which the alarm of a session's queue is cleared."},
		{Name: "mqtt.mqueue.high_watermark", Type: Percent, Default: "60%", Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "mqtt.mqueue.high_watermark", Datatype: "percent"}},
			Doc: "Share of max_mqueue_len above which the alarm queue_high_watermark.CLIENTID is raised."},
	}
}

func zoneKeys() []Key {
	z := func(k Key) Key {
		k.Name, k.For, k.Hot, k.App = "zone.$name."+k.Name, "external", true, "emqx"
		return k
	}
	v2 := func(key, datatype string) []V2 { return []V2{{App: "emqttd", Key: key, Datatype: datatype}} }
	inherit := func(name, parent string, t Type, k Key) Key {
		k.Name, k.Type, k.Inherit = name, t, parent
		k.Doc = "The zone's own " + parent + "; unset is that key's value."
		return z(k)
	}
	return []Key{
		z(Key{Name: "idle_timeout", Type: Duration, Default: "15s", Min: 1, V2: v2("mqtt.client.idle_timeout", "duration"),
			Doc: "Longest wait for CONNECT after a connection was made."}),
		z(Key{Name: "publish_limit", Type: Rate, Default: "0", V2: v2("mqtt.client.max_publish_rate", "integer"),
			Doc: "Messages a second that a client may publish, and the burst after a comma; beyond it reading from the client waits. 0 is no limit."}),
		inherit("allow_anonymous", "mqtt.allow_anonymous", Flag, Key{Named: map[string]string{"internal": "true"}}),
		z(Key{Name: "enable_acl", Type: Flag, Default: "on", Named: map[string]string{"internal": "off"},
			Doc: "Whether access rules are asked at all."}),
		z(Key{Name: "enable_ban", Type: Flag, Default: "on",
			Doc: "Whether banned clients are refused."}),
		z(Key{Name: "enable_stats", Type: Flag, Default: "on", V2: []V2{
			{App: "emqttd", Key: "mqtt.client.enable_stats", Datatype: "flag"}, {App: "emqttd", Key: "mqtt.session.enable_stats", Datatype: "flag"}},
			Doc: "Whether the figures of sessions (queue, inflight, messages delivered) are shown in lists; off shows 0."}),
		inherit("acl_deny_action", "acl_deny_action", Enum, Key{Enum: []string{"ignore", "disconnect"}}),
		inherit("max_packet_size", "mqtt.max_packet_size", Bytesize, Key{Min: 16, Max: 256<<20 + 4}),
		inherit("max_clientid_len", "mqtt.max_clientid_len", Integer, Key{Min: 23, Max: 65535}),
		inherit("max_topic_levels", "mqtt.max_topic_levels", Integer, Key{Min: 0, Max: 4096}),
		inherit("max_qos_allowed", "mqtt.max_qos_allowed", Integer, Key{Min: 0, Max: 2}),
		inherit("max_topic_alias", "mqtt.max_topic_alias", Integer, Key{Min: 0, Max: 65535}),
		inherit("retain_available", "mqtt.retain_available", Flag, Key{}),
		inherit("wildcard_subscription", "mqtt.wildcard_subscription", Flag, Key{}),
		inherit("shared_subscription", "mqtt.shared_subscription", Flag, Key{}),
		z(Key{Name: "server_keepalive", Type: Integer, Default: "0", Min: 0, Max: 65535,
			Doc: "Keep-alive in seconds that MQTT 5 clients are told to use instead of their own. 0 leaves theirs."}),
		z(Key{Name: "keepalive_backoff", Type: Float, Default: "0.75", Min: 0.5, Max: 10, V2: v2("mqtt.keepalive_backoff", "float"),
			Doc: "A client that is silent for twice this times its keep-alive is disconnected: 0.75 is the one and a half of the specification."}),
		z(Key{Name: "max_subscriptions", Type: Integer, Default: "0", Min: 0, V2: v2("mqtt.session.max_subscriptions", "integer"),
			Doc: "Most subscriptions of a session. 0 is no limit."}),
		z(Key{Name: "upgrade_qos", Type: Flag, Default: "off", V2: v2("mqtt.session.upgrade_qos", "flag"),
			Doc: "Whether messages are delivered at the QoS of the subscription even when they were published at a lower one."}),
		z(Key{Name: "max_inflight", Type: Integer, Default: "32", Min: 0, Max: 65535, V2: v2("mqtt.session.max_inflight", "integer"),
			Doc: "Messages of QoS 1 and 2 that a session has unacknowledged at a time. 0 is as many as the client takes."}),
		z(Key{Name: "retry_interval", Type: Duration, Default: "20s", Min: 0, V2: v2("mqtt.session.retry_interval", "duration"),
			Doc: "Time after which an unacknowledged message is sent again to clients of MQTT 3.1 and 3.1.1; MQTT 5 forbids it on a live connection. 0 is never."}),
		z(Key{Name: "max_awaiting_rel", Type: Integer, Default: "100", Min: 0, Max: 65535, V2: v2("mqtt.session.max_awaiting_rel", "integer"),
			Doc: "Messages of QoS 2 of which the client still owes the PUBREL; beyond it they are refused and counted. 0 is no limit but the packet identifiers."}),
		z(Key{Name: "await_rel_timeout", Type: Duration, Default: "300s", Min: 0, V2: v2("mqtt.session.await_rel_timeout", "duration"),
			Doc: "Time after which the broker stops waiting for a PUBREL. 0 is never."}),
		z(Key{Name: "ignore_loop_deliver", Aliases: []string{"mqtt.ignore_loop_deliver"}, Type: Flag, Default: "false", Datatype: enumWord, V2: v2("mqtt.session.ignore_loop_deliver", enumWord),
			Doc: "Whether a client does not receive its own messages, as MQTT 5 clients can ask with no-local."}),
		z(Key{Name: "session_expiry_interval", Type: Duration, Default: "2h", Min: 0, V2: v2("mqtt.session.expiry_interval", "duration"),
			Doc: "Time that a persistent session of a 3.1 or 3.1.1 client is kept after the client has left, and the most an MQTT 5 client can have. 0 is for ever."}),
		z(Key{Name: "max_mqueue_len", Type: Integer, Default: "1000", Min: 0, V2: v2("mqtt.mqueue.max_length", "integer"),
			Doc: "Messages that wait in the queue of a session; beyond it the oldest is dropped and counted. 0 is no limit."}),
		z(Key{Name: "mqueue_type", Type: Enum, Enum: []string{"simple", "priority"}, Default: "simple", Datatype: "atom", V2: v2("mqtt.mqueue.type", "atom"),
			Doc: "Order of a session's queue: simple as published, priority by mqueue_priorities. Priorities given without this key set mean priority."}),
		z(Key{Name: "mqueue_priorities", Type: String, Check: checkPriorities, V2: v2("mqtt.mqueue.priority", "string"),
			Doc: "Priorities of topics, 1 to 255, highest first out: topic/1=10,topic/2=8. none is none."}),
		z(Key{Name: "mqueue_default_priority", Type: Enum, Enum: []string{"highest", "lowest"}, Default: "highest",
			Doc: "Priority of topics that mqueue_priorities does not name."}),
		z(Key{Name: "mqueue_store_qos0", Type: Flag, Default: "true", Datatype: enumWord, V2: v2("mqtt.mqueue.store_qos0", enumWord),
			Doc: "Whether messages of QoS 0 wait in the queue of a session whose client is away."}),
		z(Key{Name: "mountpoint", Type: String,
			Doc: "Text put before every topic of the zone's clients; the listener's mountpoint comes first. %c is the client identifier, %u the user name."}),
		z(Key{Name: "use_username_as_clientid", Type: Flag, Default: "off",
			Doc: "Whether the user name is taken as client identifier."}),
	}
}

func brokerKeys() []Key {
	return []Key{
		{Name: "broker.sys_interval", Type: Duration, Default: "1m", Min: 0, Hot: true, App: "emqx",
			V2:  []V2{{App: "emqttd", Key: "mqtt.broker.sys_interval", Datatype: "integer", Unit: time.Second}},
			Doc: "Time between two rounds of the $SYS topics with metrics and stats. 0 is never."},
		{Name: "broker.sys_heartbeat", Type: Duration, Default: "30s", Min: 0, Hot: true, App: "emqx",
			Doc: "Time between two messages on the $SYS topics uptime and datetime. 0 is never."},
		{Name: "broker.shared_subscription_strategy", Type: Enum, Enum: []string{"random", "round_robin", "sticky", "hash"}, Default: "random", Hot: true, App: "emqx",
			Doc: "How the member of a share group is chosen: at random, in turn, the same as long as it is there, or by the publisher's identifier."},
	}
}

func monitorKeys() []Key {
	k := func(name string, t Type, def, doc string) Key {
		key := Key{Name: name, Type: t, Default: def, Hot: true, App: "emqx", Doc: doc}
		if t == Duration {
			key.Min = 1000
		}
		return key
	}
	return []Key{
		k("os_mon.cpu_check_interval", Duration, "60s", "Time between two looks at the load of the processors."),
		k("os_mon.cpu_high_watermark", Percent, "80%", "Load above which the alarm cpu_high_watermark is raised."),
		k("os_mon.cpu_low_watermark", Percent, "60%", "Load below which it is cleared."),
		k("os_mon.mem_check_interval", Duration, "60s", "Time between two looks at the memory."),
		k("os_mon.sysmem_high_watermark", Percent, "70%", "Share of the machine's memory in use above which the alarm system_memory_high_watermark is raised."),
		k("vm_mon.check_interval", Duration, "30s", "Time between two looks at the number of connections."),
		k("vm_mon.process_high_watermark", Percent, "80%", "Share of the connections that the descriptor limit allows above which the alarm too_many_processes is raised."),
		k("vm_mon.process_low_watermark", Percent, "60%", "Share below which it is cleared."),
	}
}

func checkNodeName(s string) error {
	name, host, ok := strings.Cut(s, "@")
	if !ok || name == "" || host == "" || strings.ContainsAny(s, " \t/?#%") || strings.Contains(host, "@") || len(s) > 255 {
		return errors.New("is not name@host")
	}
	return nil
}

func checkWord(s string) error {
	if !validInstance(s) {
		return errors.New("holds something other than letters, digits, _ and -")
	}
	return nil
}

func checkPriorities(s string) error {
	_, err := ParsePriorities(s)
	return err
}

// ParsePriorities reads mqueue_priorities: topic to priority, 1 to 255.
func ParsePriorities(s string) (map[string]int, error) {
	out := map[string]int{}
	if s == "" || s == "none" {
		return out, nil
	}
	for _, w := range splitList(s) {
		i := strings.LastIndexByte(w, '=')
		var n int
		if i > 0 {
			if _, err := fmt.Sscanf(w[i+1:], "%d", &n); err != nil {
				n = 0
			}
		}
		if n < 1 || n > 255 {
			return nil, fmt.Errorf("holds %q, which is not topic=priority with a priority of 1 to 255", w)
		}
		out[w[:i]] = n
	}
	return out, nil
}
