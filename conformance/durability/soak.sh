#!/usr/bin/env bash
# The long run of the durability suite: many kills, many losses of power, a million queued messages, and the proof that faults are
# found. Every number may be set by the environment.
set -euo pipefail
cd "$(dirname "$0")/../.."
export LACEWING_DURABILITY_CYCLES=${LACEWING_DURABILITY_CYCLES:-200}
export LACEWING_DURABILITY_ROUNDS=${LACEWING_DURABILITY_ROUNDS:-20}
export LACEWING_DURABILITY_SESSIONS=${LACEWING_DURABILITY_SESSIONS:-100000}
go test -v -count=1 -timeout=3h ./conformance/durability/... | grep -v '^=== '
unset LACEWING_DURABILITY_CYCLES LACEWING_DURABILITY_ROUNDS LACEWING_DURABILITY_SESSIONS
go run ./conformance/durability/mutants
