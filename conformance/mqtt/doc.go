// Package mqtt is the black-box MQTT conformance suite: it holds one test or
// more for every normative statement of MQTT 3.1.1 and 5.0 that binds a server,
// and counts them against statements.tsv.
//
// The suite speaks to the broker over TCP and WebSocket only, through a client
// and a codec of its own (the *_test.go files of this directory): it shares no
// code with the engine that it judges. See README.md for how to run it, how to
// point it at another broker, and how to add a test.
package mqtt
