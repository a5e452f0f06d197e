// Command mutants proves that the durability suite can fail.
package main

import "github.com/lacewing-mqtt/lacewing/conformance/internal/mutants"

func main() { suite.Main() }

var suite = mutants.Suite{
	Package:   "./conformance/durability",
	Programs:  map[string]string{"LACEWING_DURABILITY_CHILD": "./conformance/durability/child", "LACEWING_DURABILITY_COMMAND": "."},
	Mutations: mutations,
}

// mutations are the faults that the suite has to find, each time.
var mutations = []mutants.Mutation{
	{
		Name: "nothing is synced",
		File: "engine/store/fs.go",
		Old:  "func (f systemFile) Sync() error              { return syncData(f.File) }",
		New:  "func (f systemFile) Sync() error              { return nil }",
		Test: "TestPowerLoss",
	},
	{
		Name: "acknowledged before the commit",
		File: "engine/pending.go",
		Old:  "if (w.at == 0 || w.at <= b.e.durable.store.Committed()) && (",
		New:  "if (",
		Test: "TestPowerLoss",
	},
	{
		Name: "acknowledged before the commit, kill -9",
		File: "engine/pending.go",
		Old:  "if (w.at == 0 || w.at <= b.e.durable.store.Committed()) && (",
		New:  "if (",
		Test: "TestFailPoints",
	},
	{
		Name: "checksums of groups are not compared",
		File: "engine/store/format.go",
		Old:  "return h, payload, crc32.Update(seed, castagnoli, payload) == h.checksum",
		New:  "return h, payload, true",
		Test: "TestDamage",
	},
}
