#!/bin/sh
# Build kiln's guest kernel from Debian's linux-source-6.1 and kernel/kiln.config into a kernels folder of the store.
# Usage: tools/build-kernel.sh [OUTPUT_DIR] [BUILD_DIR]; a kernel already built from the same configuration is kept.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
if [ "$(id -u)" = 0 ]; then data=/var/lib/kiln; else data=${XDG_DATA_HOME:-$HOME/.local/share}/kiln; fi
out=${1:-${KILN_ROOT:-$data}/kernels/kiln}
work=${2:-$here/build/kernel}
source=/usr/src/linux-source-6.1.tar.xz
config=$here/kernel/kiln.config

if [ ! -r "$source" ]; then
    echo "kernel: $source is missing: run 'make deps' (package linux-source-6.1)" >&2
    exit 1
fi
key=$({ cat "$config"; stat -c '%s %Y' "$source"; } | sha256sum | cut -c1-16)
if [ "$(cat "$out/key" 2>/dev/null)" = "$key" ] && [ -s "$out/vmlinux" ]; then
    echo "kernel: up to date in $out"
    exit 0
fi
mkdir -p "$work" "$out"
if [ ! -f "$work/linux-source-6.1/Makefile" ]; then
    echo "kernel: unpacking the source (about 20 s)"
    tar -C "$work" -xf "$source"
fi
cd "$work/linux-source-6.1"
make -s allnoconfig KCONFIG_ALLCONFIG="$config" >/dev/null 2>&1
# A line that did not survive names an option that is gone or lacks what it depends on.
lost=$(grep -E '^CONFIG_[A-Z0-9_]+=' "$config" | sort -u | while IFS= read -r line; do
    case $line in
    *=n) grep -q "^${line%=n}=" .config && echo "$line" ;;
    *) grep -qxF "$line" .config || echo "$line" ;;
    esac
done || true)
if [ -n "$lost" ]; then
    echo "kernel: these lines of kernel/kiln.config have no effect:" >&2
    echo "$lost" >&2
    exit 1
fi
jobs=$(nproc)
echo "kernel: compiling with $jobs jobs (5 to 10 minutes on 2 cores)"
make -s -j"$jobs" vmlinux KBUILD_BUILD_USER=kiln KBUILD_BUILD_HOST=kiln >"$work/log" 2>&1 || {
    tail -20 "$work/log" >&2
    exit 1
}
strip --strip-all -o "$out/vmlinux.tmp" vmlinux
mv "$out/vmlinux.tmp" "$out/vmlinux"
echo "$key" >"$out/key"
echo "kernel: $(stat -c %s "$out/vmlinux") bytes in $out/vmlinux"
