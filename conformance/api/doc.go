// Package api is the contract of both REST APIs as something that can be run.
//
// It replays the examples of the OpenAPI documents against a server: for each
// one it arranges the world that the example shows, with MQTT clients and calls
// of the same API, sends the request as it is written, and compares status and
// body. What is compared is everything but the values that time, process, port
// or machine make, which volatile.yaml declares one by one with what must still
// hold and why. The package knows no server: it is given addresses and
// credentials, so that its tests and tools/contract run the same replay.
//
// Its tests start nodes. Besides the replay they ask a node everything that the
// documents describe: one scenario for each management operation, run through
// v2 and v3, the contradictions that the documents hold, and what strangers
// send. Every answer is checked against the specification that the node serves.
package api
