# Each target is one line deep; what a line does stands in the script or tool that it calls.
TOOL = go tool -modfile=tools/gen/go.mod

.PHONY: build test race check check-rest setup lint fuzz conformance soak dist licences gen gen-check lint-openapi sdk

# build makes the static binary, and proves that other systems still compile.
build:
	CGO_ENABLED=0 go build -o bin/lacewing .
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 go build -o /dev/null .
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 go build -o /dev/null .
	CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=7 go build -o /dev/null .

# test gets what the tests need and runs them all.
test: setup
	go test -shuffle=on ./...

# setup gets what the tests need beyond Go, where it may, and names what it could not get.
setup:
	tools/setup.sh

# race runs the tests of everything that shares memory under the race detector.
race:
	go test -race -shuffle=on -short ./cluster ./config ./ctl ./engine/... ./impl/... ./node ./plugins/... ./raftstore ./conformance/mqtt

# check is what has to hold before a change lands; check-rest is check without the tests, for CI, which runs them first.
check: test check-rest
check-rest: gen-check lint build race sdk

# lint is gofmt, go vet, staticcheck and the rules of the OpenAPI documents.
lint: lint-openapi
	test -z "$$(gofmt -l $$(git ls-files '*.go' ':!gen/*'))"
	go vet ./...
	$(TOOL) staticcheck ./...

# fuzz runs every fuzz target for FUZZTIME.
FUZZTIME ?= 10s
fuzz:
	tools/fuzz.sh $(FUZZTIME)

# conformance prints what the suites cover: statements of MQTT, documented examples, clients of others.
conformance: setup
	go test -v -count=1 ./conformance/... | grep -v -e '^=== ' -e '^ *--- PASS' -e '^time='

# cluster starts three nodes on this machine to try things out. CLUSTER_FLAGS are those of lacewing ctl dev cluster.
.PHONY: cluster
cluster:
	go run . ctl dev cluster $(CLUSTER_FLAGS)

# soak kills the broker and the nodes of clusters some hundred times, starts it with a million messages, and proves that the suites find faults.
soak:
	conformance/soak.sh

# dist builds the release packages into dist/.
dist:
	tools/dist.sh

# licences prints the licences of all linked modules.
licences:
	tools/licences.sh

# gen writes everything that is derived from the OpenAPI documents.
gen:
	go run ./tools/dialect
	$(TOOL) oapi-codegen -config openapi/codegen-v2.yaml openapi/v2.yaml
	$(TOOL) oapi-codegen -config openapi/codegen-v3.yaml openapi/v3.yaml
	$(TOOL) oapi-codegen -config openapi/codegen-node.yaml openapi/node.yaml

# gen-check regenerates and fails when what is derived differs from what is committed.
gen-check: gen
	git diff --exit-code -- openapi/v3-code.yaml gen

# lint-openapi checks the OpenAPI documents against the rules of openapi/redocly.yaml.
lint-openapi: tools/sdk/node_modules/.setup-stamp
	REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npx --prefix tools/sdk redocly lint --config openapi/redocly.yaml

tools/sdk/node_modules/.setup-stamp: tools/sdk/package-lock.json
	npm ci --prefix tools/sdk && cp $< $@

# sdk generates a TypeScript client of each document and runs it, and the Go example, against a node built from this tree.
sdk: tools/sdk/node_modules/.setup-stamp
	npm --prefix tools/sdk run sdk

.PHONY: bench bench-peers

# bench runs the Go benchmarks with their allocations. BENCH chooses among them.
BENCH ?= .
bench:
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./engine/...

# bench-durable measures what a kept acknowledgement costs, beside a bare loop on the same disk. BENCH_FLAGS are those of tools/durable.
.PHONY: bench-durable
bench-durable:
	go run ./tools/durable $(BENCH_FLAGS)

# bench-cluster measures what being several nodes costs: detection, election, forwarding, joining, memory, pages. BENCH_FLAGS are those of tools/clusterbench.
.PHONY: bench-cluster
bench-cluster:
	go run ./tools/clusterbench $(BENCH_FLAGS)

# bench-api measures the management API: pages, look-ups and publications with up to a million rows, and what listing costs those who publish.
.PHONY: bench-api
bench-api:
	go test -run '^$$' -bench '^Benchmark(API|PublishWhileListing)$$' -benchtime 300ms -timeout 20m ./impl

# bench-peers measures brokers that run already, round by round: PEERS="name=host:port:pid ...". BENCH_FLAGS are those of
# tools/mqload/sidebyside.sh: rounds, seconds, scenarios.
bench-peers:
	tools/mqload/sidebyside.sh $(BENCH_FLAGS) $(PEERS)
