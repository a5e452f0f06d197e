// Command mutants proves that the cluster suite can fail.
package main

import "github.com/lacewing-mqtt/lacewing/conformance/internal/mutants"

func main() { suite.Main() }

var suite = mutants.Suite{
	Package:   "./conformance/cluster",
	Programs:  map[string]string{"LACEWING_CLUSTER_COMMAND": "."},
	Mutations: mutations,
}

// mutations are the faults that the suite has to find, each time.
var mutations = []mutants.Mutation{
	{
		Name: "what waits for a node is dropped on reconnect",
		File: "node/links.go",
		Old:  "answer.SessionPresent = answer.AssignedClientID != \"\" && answer.AssignedClientID == hello.Username",
		New:  "answer.SessionPresent = false",
		Test: "TestFaults",
	},
	{
		Name: "SUBACK does not wait for other nodes",
		File: "engine/subscribe.go",
		Old:  "w.know = b.e.routeVersion()",
		New:  "w.know = 0",
		Test: "TestSubscribed",
	},
	{
		Name: "a repeated QoS 2 message of a node is new",
		File: "engine/forward.go",
		Old:  "		if known {\n",
		New:  "		if false && known {\n",
		Test: "TestFaults",
	},
	{
		Name: "metadata are read without asking the leader",
		File: "raftstore/forward.go",
		Old:  "			if s.has(index) {",
		New:  "			if index > 0 {",
		Test: "TestFaults",
	},
}
