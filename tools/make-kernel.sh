#!/bin/sh
# Compile kiln's own guest kernel from Debian's linux-source-6.1 and kernel/kiln.config, into the store's
# kernels/kiln/. Done once: a second call with the same source and configuration does nothing.
#
# environment: KILN_ROOT          the store (/var/lib/kiln for root, else ~/.local/share/kiln)
#              KILN_KERNEL_BUILD  where to compile (build/kernel); about 2 GB
#              KILN_KERNEL_SOURCE the source archive (/usr/src/linux-source-6.1.tar.xz)
set -eu
cd "$(dirname "$0")/.."
. tools/store-root.sh

work=${KILN_KERNEL_BUILD:-build/kernel}
archive=${KILN_KERNEL_SOURCE:-/usr/src/linux-source-6.1.tar.xz}
target=$store/kernels/kiln

if [ ! -e "$archive" ]; then
    echo "kernel: fetching the source"
    tools/deps.sh kernel
fi

key=$( (cat kernel/kiln.config; sed 's/#.*//' tools/make-kernel.sh; stat -c '%s' "$archive") | sha256sum | cut -d ' ' -f 1)
if [ -e "$target/vmlinux" ] && [ "$(cat "$target/key" 2>/dev/null)" = "$key" ]; then
    echo "kernel: $target/vmlinux is up to date"
    exit 0
fi
tools/deps.sh kernel

mkdir -p "$work"
work=$(cd "$work" && pwd)
source=$work/linux-source-6.1
if [ ! -e "$source/.unpacked" ]; then
    echo "kernel: unpacking the source (about 20 s)"
    rm -rf "$source"
    tar -C "$work" -xf "$archive"
    touch "$source/.unpacked"
fi

# Reasons are comments of ours; Kconfig wants the bare lines.
sed -e 's/[[:space:]]*#.*//' -e '/^$/d' kernel/kiln.config > "$work/kiln.config"
make -s -C "$source" KCONFIG_ALLCONFIG="$work/kiln.config" allnoconfig > "$work/config.log" 2>&1 ||
    { cat "$work/config.log" >&2; exit 1; }

refused=no
while read -r line; do
    symbol=${line%%=*}
    case $line in
        *=n) grep -q "^$symbol=" "$source/.config" && { echo "kernel: $symbol cannot be off" >&2; refused=yes; } ;;
        *) grep -qxF "$line" "$source/.config" || { echo "kernel: $line was refused" >&2; refused=yes; } ;;
    esac
done < "$work/kiln.config"
[ $refused = no ] || exit 1

echo "kernel: compiling, about 10 minutes of one core ($work/build.log)"
started=$(date +%s)
export KBUILD_BUILD_USER=kiln KBUILD_BUILD_HOST=kiln KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970'
make -C "$source" -j "$(nproc)" vmlinux > "$work/build.log" 2>&1 &
compiler=$!
trap 'kill "$compiler" 2>/dev/null || true' INT TERM EXIT
while kill -0 "$compiler" 2>/dev/null; do
    sleep 1
    elapsed=$(($(date +%s) - started))
    [ $((elapsed % 15)) != 0 ] ||
        echo "kernel: $elapsed s, $(grep -c -E '^  (CC|AS|AR|LD) ' "$work/build.log") objects"
done
if ! wait "$compiler"; then
    tail -n 30 "$work/build.log" >&2
    echo "kernel: the compilation failed" >&2
    exit 1
fi
trap - INT TERM EXIT

mkdir -p "$target"
strip -s -o "$target/vmlinux.new" "$source/vmlinux"
cp "$source/.config" "$target/config"
mv "$target/vmlinux.new" "$target/vmlinux"
echo "$key" > "$target/key"
echo "kernel: $target/vmlinux, $(stat -c %s "$target/vmlinux") bytes, $(($(date +%s) - started)) s"
