// Package durability holds a node to what its acknowledgements promise: what was answered with PUBACK, PUBREC or SUBACK is on disk.
// Its clients keep a ledger over any number of kills, losses of power and faults of the disk, and remember themselves what MQTT has
// them remember, so that what they check is the broker alone. README.md says what is tried and what is not.
//
// The suite shares no code with the broker. The program that it kills is child, a node with seams for faults, or the command
// itself; lossyfs is the disk that loses its power, and mutants proves that the tests can fail.
package durability
