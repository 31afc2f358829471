#!/bin/sh
# systemd as the first process of a machine that sees the host's files and can change none of them.
# To be run in namespaces of its own (mount, process, control group). $1 is the directory of what it runs:
# turnstone, turnserver.toml and turnstone.service, which find it at /run/machine.
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/machine /run/systemd
mount --bind "$1" /run/machine
mount -t tmpfs -o mode=755 tmpfs /etc/systemd/system
cp /run/machine/turnstone.service /etc/systemd/system/
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
mount -o remount,bind,ro /
exec env -i container=test PATH="$PATH" SYSTEMD_LOG_TARGET=console \
    systemd --system --unit=turnstone.service --show-status=no --dump-core=no
