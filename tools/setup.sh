#!/usr/bin/env bash
# Gets what the tests need beyond Go: npm packages into the tree, Debian packages through apt where
# that is allowed. Names in one line what it could not get; in CI that is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
missing=()

# command -> Debian package that brings it
debian=(mosquitto_pub:mosquitto-clients rpm:rpm dpkg-deb:dpkg systemd-analyze:systemd busybox:busybox-static ip:iproute2 nft:nftables)
want=()
for pair in "${debian[@]}"; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || want+=("${pair##*:}")
done
if [ ${#want[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "setup: installing ${want[*]}"
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${want[@]}"; } >/dev/null 2>&1 || true
fi
for pair in "${debian[@]}"; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair%%:*} (Debian: ${pair##*:})")
done

if command -v npm >/dev/null 2>&1; then
	for dir in tools/sdk conformance/clients; do
		[ -f "$dir/package-lock.json" ] || continue
		# npm ci wipes the folder, so run it only when the lock file changed since the last time.
		stamp="$dir/node_modules/.setup-stamp"
		if ! cmp -s "$dir/package-lock.json" "$stamp"; then
			echo "setup: npm packages of $dir"
			(cd "$dir" && npm ci --no-audit --no-fund --loglevel=error) && cp "$dir/package-lock.json" "$stamp" || missing+=("npm packages of $dir")
		fi
	done
else
	missing+=("npm (Node.js 20 or later)")
fi

if [ ${#missing[@]} -gt 0 ]; then
	(IFS=';'; echo "setup: could not get: ${missing[*]}; the tests that need them are skipped" >&2)
	[ -z "${CI:-}" ] || exit 1
fi
