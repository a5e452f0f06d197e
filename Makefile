# Each target is one line deep; what a line does stands in the script or tool that it calls.
TOOL = go tool -modfile=tools/gen/go.mod

.PHONY: gen gen-check

# gen writes everything that is derived from the OpenAPI documents.
gen:
	$(TOOL) oapi-codegen -config openapi/codegen-v2.yaml openapi/v2.yaml
	$(TOOL) oapi-codegen -config openapi/codegen-v3.yaml openapi/v3.yaml
	$(TOOL) oapi-codegen -config openapi/codegen-node.yaml openapi/node.yaml

# gen-check regenerates and fails when the tree differs from what is committed.
gen-check: gen
	git diff --exit-code -- openapi gen
