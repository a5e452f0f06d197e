#!/bin/sh
# systemd makes the account (DynamicUser) and the data directory (StateDirectory); nothing is started unasked.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
echo "lacewing: enable it with 'systemctl enable --now lacewing'; settings are in /etc/lacewing/lacewing.conf"
