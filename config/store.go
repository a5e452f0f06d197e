package config

func storeKeys() []Key {
	return []Key{
		{Name: "store.durability", Aliases: []string{"durability"}, Type: Enum, Enum: []string{"fsync", "interval", "off"}, Default: "fsync",
			Doc: "When a message for a durable session, or a retained one, is acknowledged: fsync, once the disk has it, so that no crash and no loss of power loses it; interval, once the operating system has it, which gives up what a loss of power finds younger than store.sync_interval; off, the same and never synced, which gives up what the operating system has not written by itself."},
		{Name: "store.sync_interval", Type: Duration, Default: "1s", Min: 0.01,
			Doc: "With store.durability = interval: longest time until what was acknowledged is on the disk."},
		{Name: "store.max_bytes", Type: Bytesize, Default: "8GB", Min: 1 << 20,
			Doc: "Most bytes that sessions, queues, retained and delayed messages take on the disk. Near it, messages of QoS 1 and 2 that would have to be stored are refused with 0x97 until there is room, and an alarm stands."},
		{Name: "store.segment_size", Type: Bytesize, Default: "32MB", Min: 64 << 10, Max: 1 << 30,
			Doc: "Size of one file of the store. Space is freed a file at a time."},
		{Name: "mqtt.session.max_queue_bytes", Type: Bytesize, Default: "64MB", Min: 0,
			Doc: "Most bytes of topics, payloads and properties that wait in the queue of a session, in memory and on disk; beyond it the oldest messages are dropped and counted. 0 is no limit."},
	}
}
