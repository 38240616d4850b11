#!/bin/sh
# Install the Debian packages kiln needs, only those that are missing.
#   tools/deps.sh [--check] [SECTION...]     sections of tools/deps.txt; all when none is given
set -eu
cd "$(dirname "$0")/.."

check=no
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi

wanted=$(awk -v sections=" $* " '
    /^\[/ { name = substr($1, 2, length($1) - 2); take = sections == "  " || index(sections, " " name " "); next }
    /^#/ || NF == 0 { next }
    take { print $1 }' tools/deps.txt)

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps: this is not Debian; install the counterparts of the packages in tools/deps.txt" >&2
    [ $check = yes ] && exit 0
    exit 1
fi

missing=
for p in $wanted; do
    status=$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $p"
done
if [ -z "$missing" ]; then
    [ $check = yes ] || echo "deps: all packages are installed"
    exit 0
fi
if [ $check = yes ]; then
    echo "these packages are missing (\`make deps\` installs them):$missing" >&2
    exit 1
fi

# A user who is not root needs sudo, which asks for the password itself.
as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "deps: run as root, as neither root nor sudo is at hand: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

echo "deps: installing$missing"
install_missing() {
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}
lists=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -7 2>/dev/null | head -n 1)
if [ -z "$lists" ]; then
    $as_root apt-get update -q
    install_missing
else
    # Lists a few days old may name versions the mirror has dropped.
    install_missing || { $as_root apt-get update -q && install_missing; }
fi
