#!/usr/bin/env bash
# Builds the release packages into dist/ (or $OUT): a tar.gz for each system, deb and rpm for Linux, checksums.
# TARGETS may narrow the list, e.g. TARGETS="linux/amd64".
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(cat VERSION)
targets=${TARGETS:-linux/amd64 linux/arm64 linux/arm darwin/amd64 darwin/arm64}
out=${OUT:-dist}
rm -rf "$out"
mkdir -p "$out/stage"
out=$(cd "$out" && pwd)
tools/licences.sh >"$out/stage/THIRD-PARTY-LICENCES"
go run . config example >"$out/stage/lacewing.conf"
go build -C tools/gen -o "$out/stage/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
for target in $targets; do
	os=${target%/*} arch=${target#*/} label=$arch
	[ "$arch" = arm ] && label=armv7
	name=lacewing_${version}_${os}_${label}
	echo "dist: $name"
	mkdir -p "$out/stage/$name"
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch GOARM=7 go build -trimpath -ldflags '-s -w' -o "$out/stage/$name/lacewing" .
	cp LICENSE NOTICE README.md CHANGELOG.md packaging/lacewing.service "$out/stage/lacewing.conf" "$out/stage/THIRD-PARTY-LICENCES" "$out/stage/$name/"
	tar -C "$out/stage" --owner=0 --group=0 --numeric-owner --sort=name -czf "$out/$name.tar.gz" "$name"
	if [ "$os" = linux ]; then
		pkgarch=$arch
		[ "$arch" = arm ] && pkgarch=arm7
		for packager in deb rpm; do
			ARCH=$pkgarch VERSION=$version BIN="$out/stage/$name/lacewing" STAGE="$out/stage" \
				"$out/stage/nfpm" package --config packaging/nfpm.yaml --packager "$packager" --target "$out/" >/dev/null
		done
	fi
done
rm -rf "$out/stage"
(cd "$out" && sha256sum -- * >SHA256SUMS)
ls -l "$out"
