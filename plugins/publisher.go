package plugins

import "github.com/lacewing-mqtt/lacewing/engine"

// MayPublish asks the access rules whether the publisher of a message, which a plugin
// sends on to another topic, may publish there. What comes from inside may; of a client
// that has gone (the message is its will) only the names are known.
func MayPublish(e *engine.Engine, m *engine.Message, to string) bool {
	if m.Inside {
		return true
	}
	c, connected := e.Client(m.From)
	if !connected {
		c = engine.ClientInfo{ClientID: m.From, Username: m.Username, HasUsername: m.HasUsername}
	}
	return e.Authorized(&c, engine.ActionPublish, to)
}
