// Package api asks a running node everything that the documents of both REST
// APIs describe: one scenario for each management operation, run through v2
// and v3, the contradictions that the documents hold, and what strangers send.
// Every answer is checked against the specification that the node serves.
package api
