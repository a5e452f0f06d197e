package main

// mutation is a fault that is put into the broker, and the test that has to find it.
type mutation struct {
	name     string
	file     string // from the root of the module
	old, new string // old must be there exactly once
	test     string
}

// mutations are the faults that the suite has to find, each time.
var mutations = []mutation{
	{
		name: "nothing is synced",
		file: "engine/store/fs.go",
		old:  "func (f systemFile) Sync() error              { return syncData(f.File) }",
		new:  "func (f systemFile) Sync() error              { return nil }",
		test: "TestPowerLoss",
	},
	{
		name: "acknowledged before the commit",
		file: "engine/pending.go",
		old:  "if (w.at == 0 || w.at <= b.e.durable.store.Committed()) && (",
		new:  "if (",
		test: "TestPowerLoss",
	},
	{
		name: "acknowledged before the commit, kill -9",
		file: "engine/pending.go",
		old:  "if (w.at == 0 || w.at <= b.e.durable.store.Committed()) && (",
		new:  "if (",
		test: "TestFailPoints",
	},
	{
		name: "checksums of groups are not compared",
		file: "engine/store/format.go",
		old:  "return h, payload, crc32.Update(seed, castagnoli, payload) == h.checksum",
		new:  "return h, payload, true",
		test: "TestDamage",
	},
}
