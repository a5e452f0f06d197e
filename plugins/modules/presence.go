package modules

import (
	"encoding/json"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// presence publishes a message when a client has connected and when it is gone.
type presence struct {
	engine *engine.Engine
	node   string
	qos    packet.QoS
}

func (p presence) hooks() engine.Hooks {
	return engine.Hooks{ClientConnected: p.connected, ClientDisconnected: p.disconnected}
}

// connectedBody has the members of EMQ X 3.0 and, for what was written against EMQ
// 2.3, those that it named otherwise.
type connectedBody struct {
	ClientID   string `json:"clientid"`
	Username   string `json:"username"`
	IPAddress  string `json:"ipaddress"`
	ConnAck    int    `json:"connack"`
	Timestamp  int64  `json:"ts"` // seconds
	ProtoName  string `json:"proto_name"`
	ProtoVer   int    `json:"proto_ver"`
	KeepAlive  int    `json:"keepalive"`
	CleanStart bool   `json:"clean_start"`

	CleanSession bool `json:"clean_sess"`
	Protocol     int  `json:"protocol"`
}

type disconnectedBody struct {
	ClientID  string `json:"clientid"`
	Username  string `json:"username"`
	Reason    string `json:"reason"`
	Timestamp int64  `json:"ts"`
}

func (p presence) connected(c engine.ClientInfo) {
	p.publish(c.ClientID, "connected", connectedBody{
		ClientID: c.ClientID, Username: username(c), IPAddress: c.Peer.Addr().Unmap().String(),
		Timestamp: c.ConnectedAt.Unix(), ProtoName: c.ProtoName, ProtoVer: int(c.ProtoVer),
		KeepAlive: int(c.KeepAlive), CleanStart: c.CleanStart,
		CleanSession: c.CleanStart, Protocol: int(c.ProtoVer),
	})
}

func (p presence) disconnected(c engine.ClientInfo, reason string) {
	p.publish(c.ClientID, "disconnected", disconnectedBody{
		ClientID: c.ClientID, Username: username(c), Reason: reason, Timestamp: time.Now().Unix(),
	})
}

func (p presence) publish(clientID, event string, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		return // strings and numbers always encode
	}
	// A message that nobody takes is no fault: these are news.
	_, _ = p.engine.Publish(&engine.Message{
		Topic:   "$SYS/brokers/" + p.node + "/clients/" + clientID + "/" + event,
		Payload: text,
		QoS:     p.qos,
		Sys:     true,
		From:    "presence",
		At:      time.Now(),
	})
}

// username is what the documents print for a client without one.
func username(c engine.ClientInfo) string {
	if !c.HasUsername {
		return "undefined"
	}
	return c.Username
}
