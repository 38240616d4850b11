#!/bin/sh
# Make a Debian root file system with what the linux suite runs inside a machine: perl, python3, gzip, a C compiler.
#   tools/make-debian-image.sh [FILE]      a tar, build/kiln-debian.tar by default; made once
set -eu
cd "$(dirname "$0")/.."
out=${1:-${BUILD:-build}/kiln-debian.tar}

[ ! -s "$out" ] || exit 0
if ! command -v mmdebstrap >/dev/null 2>&1; then
    echo "Debian image: mmdebstrap is missing (make deps)" >&2
    exit 1
fi
mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
echo "Debian image: fetching and unpacking packages (about a minute)"
mmdebstrap --quiet --variant=essential --include=perl,python3-minimal,gcc,libc6-dev \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/root.tar" 2> "$work/said" || {
    tail -n 3 "$work/said" >&2
    exit 1
}
mv "$work/root.tar" "$out"
echo "Debian image: $out, $(stat -c %s "$out") bytes"
