package config

import "strings"

// whole checks what no single key can say.
func (l *loader) whole(c *Config) {
	for _, typ := range listenerTypes {
		pattern := "listener." + typ + ".$name"
		if !c.Has(instanceName(pattern, "any")) {
			continue // a table without the core keys
		}
		for _, name := range c.Instances(pattern) {
			key := instanceName(pattern, name)
			if c.String(key) != "" {
				continue
			}
			for _, set := range sortedKeys(c.set) {
				if strings.HasPrefix(set, key+".") {
					l.fault(c.set[set].source, set, "belongs to a listener that has no address: %s is not set", key)
					break
				}
			}
		}
	}
	for _, pair := range [][2]string{
		{"mqtt.mqueue.low_watermark", "mqtt.mqueue.high_watermark"},
		{"os_mon.cpu_low_watermark", "os_mon.cpu_high_watermark"},
		{"vm_mon.process_low_watermark", "vm_mon.process_high_watermark"},
	} {
		if c.Has(pair[0]) && c.Float(pair[0]) > c.Float(pair[1]) {
			_, source := c.Origin(pair[0])
			if source == "" {
				_, source = c.Origin(pair[1])
			}
			l.fault(source, pair[0], "is above %s", pair[1])
		}
	}
}
