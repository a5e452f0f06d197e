#!/usr/bin/env bash
# The long runs of the suites that try the broker by force, and the proof that they find faults. Every number may be set by the environment;
# an argument chooses one of them: durability or cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

# Many kills, many losses of power, a million queued messages.
durability() {
	LACEWING_DURABILITY_CYCLES=${LACEWING_DURABILITY_CYCLES:-200} \
	LACEWING_DURABILITY_ROUNDS=${LACEWING_DURABILITY_ROUNDS:-20} \
	LACEWING_DURABILITY_SESSIONS=${LACEWING_DURABILITY_SESSIONS:-100000} \
		go test -v -count=1 -timeout=3h ./conformance/durability/... | grep -v '^=== '
	env -u LACEWING_DURABILITY_CYCLES -u LACEWING_DURABILITY_ROUNDS -u LACEWING_DURABILITY_SESSIONS go run ./conformance/durability/mutants
}

# Every fault some times over, five nodes, all orders of a start, clocks, snapshots.
cluster() {
	LACEWING_CLUSTER_ROUNDS=${LACEWING_CLUSTER_ROUNDS:-3} go test -v -count=1 -timeout=3h ./conformance/cluster/... | grep -v '^=== '
	env -u LACEWING_CLUSTER_ROUNDS go run ./conformance/cluster/mutants
}

[ $# -gt 0 ] || set -- durability cluster
for suite in "$@"; do "$suite"; done
