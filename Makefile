# Each target is one line deep; what a line does stands in the script or tool that it calls.
TOOL = go tool -modfile=tools/gen/go.mod

.PHONY: gen gen-check lint-openapi sdk

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

# bench-peers measures brokers that run already, round by round: PEERS="name=host:port:pid ...". BENCH_FLAGS are those of
# tools/mqload/sidebyside.sh: rounds, seconds, scenarios.
bench-peers:
	tools/mqload/sidebyside.sh $(BENCH_FLAGS) $(PEERS)
