#!/usr/bin/env bash
# Prints the licences of every module that is linked into the binary.
set -euo pipefail
cd "$(dirname "$0")/.."
go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' . | sort -u | while read -r path version dir; do
	printf '================================================================\n%s %s\n\n' "$path" "$version"
	found=
	for f in "$dir"/LICENSE* "$dir"/LICENCE* "$dir"/COPYING* "$dir"/NOTICE*; do
		[ -f "$f" ] && { cat "$f"; echo; found=1; }
	done
	# A module below the root of its repository may leave the licence to its parent.
	[ -n "$found" ] || echo "(no licence file in the module; see its repository)"
done
printf '================================================================\nGo standard library and runtime\n\n'
cat "$(go env GOROOT)/LICENSE"
