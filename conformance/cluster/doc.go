// Package cluster is the fault suite of clusters: real processes of the broker, each in a network namespace of its own, that are killed,
// paused, cut off from each other and started again under load, and the ledger of what they owe. README.md says what is tried.
package cluster
