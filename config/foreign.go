package config

import "strings"

// foreign are keys of EMQ's files that have no effect here: they set the
// Erlang machine, its sockets and files, ways to find a cluster, or features that Lacewing
// does in another way. A configuration that is brought along may keep them; each is
// named in a notice. * stands for one level, a last ** for all that follow.
var foreign = func() (out [][]string) {
	for _, s := range strings.Fields(`
		node.process_limit node.max_ports node.async_threads node.dist_buffer_size
		node.max_ets_tables node.global_gc_interval node.fullsweep_after node.crash_dump
		node.proto_dist node.ssl_dist_optfile node.dist_net_ticktime node.dist_listen_min
		node.dist_listen_max node.heartbeat node.kernel_poll
		cluster.autoheal cluster.autoclean cluster.dns.app cluster.mcast.** cluster.etcd.** cluster.k8s.** cluster.proto_dist
		rpc.** log.to log.dir log.file log.chars_limit log.rotation.** log.max_log.** log.sasl
		log.single_line log.formatter log.*.file log.primary_log_level log.syslog.** log.syslog
		log.console log.console.file log.error.file log.crash log.crash.file log.error.redirect log.extra_file.**
		listener.*.*.backlog listener.*.*.send_timeout listener.*.*.send_timeout_close
		listener.*.*.recbuf listener.*.*.sndbuf listener.*.*.buffer listener.*.*.tune_buffer
		listener.*.*.nodelay listener.*.*.reuseaddr listener.*.*.active_n listener.*.*.high_watermark
		listener.*.*.dhfile listener.*.*.secure_renegotiate listener.*.*.reuse_sessions
		listener.*.*.honor_cipher_order listener.*.*.proxy_address_header listener.*.*.proxy_port_header
		listener.*.*.mqtt_path listener.*.*.compress listener.*.*.deflate_opts.** listener.*.*.access
		zone.*.force_shutdown_policy zone.*.enable_flapping_detect zone.*.sub_buffer_size
		flapping_banned_expiry_interval mqtt.plugins.** plugins.** broker.enable_session_registry
		broker.session_locking_strategy broker.shared_dispatch_ack_enabled broker.route_batch_clean
		broker.route_lock_type broker.perf.** sysmon.** bridge.** mqtt.bridge.** mqtt.pubsub.**
		mqtt.session.force_gc_count mqtt.conn.force_gc_count mqtt.conn.force_gc_policy
		zone.*.force_gc_policy acl_cache.**
		management.listener.*.backlog management.listener.*.send_timeout management.listener.*.send_timeout_close
		management.listener.*.dhfile management.listener.*.secure_renegotiate
		management.listener.*.reuse_sessions management.listener.*.honor_cipher_order
		dashboard.api.providers dashboard.listener.*.dhfile dashboard.listener.*.secure_renegotiate
		dashboard.listener.*.reuse_sessions dashboard.listener.*.honor_cipher_order
		listener.api.mgmt.* emqx_stats.enable os_mon.procmem_high_watermark`) {
		out = append(out, strings.Split(s, "."))
	}
	return out
}()

// withoutEffect reports whether name is a key of EMQ that has no effect here.
func withoutEffect(name string) bool {
	levels := strings.Split(name, ".")
next:
	for _, f := range foreign {
		for i, l := range f {
			if l == "**" && i < len(levels) {
				return true
			}
			if i >= len(levels) || l != "*" && l != levels[i] {
				continue next
			}
		}
		if len(f) == len(levels) {
			return true
		}
	}
	return false
}
