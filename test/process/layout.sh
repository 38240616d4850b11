#!/bin/sh
# Run a program where the host's control groups look like v1 alone or v2 alone.
#
# usage: layout.sh v1|v2 PROGRAM...      77: this host has not both, or we are not root
set -e
base=/sys/fs/cgroup
if [ "$1" != inside ]; then
    layout=$1
    shift
    if [ "$(id -u)" != 0 ] || ! mountpoint -q $base/unified; then
        echo "SKIP: root on a host with v1 and v2 control groups is needed"
        exit 77
    fi
    exec unshare -m --propagation private "$0" inside "$layout" "$@"
fi
layout=$2
shift 2
if [ "$layout" = v1 ]; then
    umount $base/unified
else
    # The hierarchy stays mounted elsewhere meanwhile: unmounted everywhere it would be a new one.
    for dir in "$base"/*/; do
        [ "$dir" = $base/unified/ ] || umount "$dir" 2>/dev/null || true
    done
    umount -l $base
    mount -t cgroup2 none $base
fi
exec "$@"
