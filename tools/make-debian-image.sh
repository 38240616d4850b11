#!/bin/sh
# Make a Debian root file system with what the linux suite runs inside a machine: perl, python3, gzip, a C compiler,
# LuaJIT, strace.
#   tools/make-debian-image.sh [FILE [PACKAGE,...]]   a tar, build/kiln-debian.tar by default; made once for its packages
set -eu
cd "$(dirname "$0")/.."
out=${1:-${BUILD:-build}/kiln-debian.tar}
packages=perl,python3-minimal,gcc,libc6-dev,luajit,strace${2:+,$2}

[ ! -s "$out" ] || [ "$(cat "$out.packages" 2> /dev/null)" != "$packages" ] || exit 0
if ! command -v mmdebstrap >/dev/null 2>&1; then
    echo "Debian image: mmdebstrap is missing (make deps)" >&2
    exit 1
fi
mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
echo "Debian image: fetching and unpacking packages (about a minute)"
# Java's packages want the folder of the manual pages, which are left out, to be there.
mmdebstrap --quiet --variant=essential --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' --setup-hook='mkdir -p "$1/usr/share/man/man1"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/root.tar" 2> "$work/said" || {
    tail -n 3 "$work/said" >&2
    exit 1
}
mv "$work/root.tar" "$out"
echo "$packages" > "$out.packages"
echo "Debian image: $out, $(stat -c %s "$out") bytes"
