package engine

// alias gives the topic alias for a topic that goes to the client, 0 for none, and whether the client knows it already. The
// first topics get one and keep it until the connection ends [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-7] [MQTT-3.3.2-11].
// c.mu is held.
func (c *Conn) alias(topic string) (alias uint16, known bool) {
	if c.aliasMaxOut == 0 {
		return 0, false
	}
	if alias, known = c.aliasOut[topic]; known {
		return alias, true
	}
	if len(c.aliasOut) >= int(c.aliasMaxOut) {
		return 0, false
	}
	if c.aliasOut == nil {
		c.aliasOut = map[string]uint16{}
	}
	alias = uint16(len(c.aliasOut) + 1)
	c.aliasOut[topic] = alias
	return alias, false
}
