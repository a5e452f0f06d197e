// Package clients proves that MQTT clients made by others work against a running node: the command line
// clients of mosquitto, Eclipse Paho for Go (3.1.1 and 5.0) and MQTT.js, over TCP, TLS, WebSocket and secure
// WebSocket.
package clients
