// Package load is the load of the suites that try a broker by force, and the ledger of what it owes for it: an MQTT client that shares no
// code with the engine, publishers and subscribers whose state outlives their connections, and a record of what was acknowledged and of
// what has arrived.
package load
