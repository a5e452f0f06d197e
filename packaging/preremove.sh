#!/bin/sh
# Stops the node when the package is removed ("remove" from dpkg, 0 from rpm), not when it is upgraded.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now lacewing.service || true
	fi
	;;
esac
