#!/bin/sh
# Fetch Debian's cloud kernel with apt and unpack what a machine needs into the store's kernels/debian/:
# vmlinuz, vmlinux (the same, unpacked here once instead of in every guest), modules/*.ko and modules/list
# (one a line, dependencies first). Nothing is installed on this host and nothing is compiled.
#
# environment: KILN_ROOT  the store (/var/lib/kiln for root, else ~/.local/share/kiln)
set -eu
cd "$(dirname "$0")/.."
. tools/store-root.sh

# What the agent needs before it can reach the host and the root disk; ext4 is built in.
modules="virtio_mmio vmw_vsock_virtio_transport virtio_blk virtio-rng squashfs overlay"
# What only shared folders need: these lines of the list end in " share".
share_modules="virtiofs"
# What only network cards need: " net".
net_modules="virtio_net"
target=$store/kernels/debian

die() {
    echo "kernel: $1" >&2
    exit 1
}

newest() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' | head -n 1
}

# Unpack the kernel proper from a bzImage; boot.rst, fields setup_sects, payload_offset, payload_length.
unpack_vmlinux() {
    field() { od -An -tu"$2" -j "$1" -N "$2" "$work/vmlinuz" | tr -d ' '; }
    offset=$(( ($(field 497 1) + 1) * 512 + $(field 584 4) ))
    length=$(field 588 4)
    # The last four bytes are the unpacked size, not part of the stream.
    tail -c +$((offset + 1)) "$work/vmlinuz" | head -c $((length - 4)) > "$work/payload"
    case $(od -An -tx1 -N 4 "$work/payload" | tr -d ' ') in
        02214c18) lz4 -dcq "$work/payload" > "$work/vmlinux" ;;
        fd377a58) xz -dcq "$work/payload" > "$work/vmlinux" ;;
        28b52ffd) zstd -dcq "$work/payload" > "$work/vmlinux" ;;
        *) return 1 ;;
    esac
}

# Asking apt takes seconds: once a week will do.
if [ -n "$(find "$target/key" -mtime -7 2>/dev/null)" ] && grep -q " $modules + $share_modules + $net_modules\$" "$target/key"; then
    echo "kernel: $target is in place"
    exit 0
fi

package=$(newest)
if [ -z "$package" ]; then
    [ ! -e "$target/vmlinuz" ] || exit 0
    echo "kernel: fetching the package lists"
    if [ "$(id -u)" = 0 ]; then
        apt-get update -q
    elif command -v sudo >/dev/null 2>&1; then
        sudo apt-get update -q
    else
        die "apt has no package lists; run \`apt-get update\` as root"
    fi
    package=$(newest)
    [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64"
fi
version=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p' | head -n 1)
key="$package $version $modules + $share_modules + $net_modules"
if [ "$(cat "$target/key" 2>/dev/null)" = "$key" ]; then
    touch "$target/key"
    echo "kernel: $target is up to date ($package $version)"
    exit 0
fi

mkdir -p "$store/tmp" "$store/kernels"
work=$(mktemp -d "$store/tmp/kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
chmod 755 "$work"

size=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Size: //p' | head -n 1)
echo "kernel: fetching $package $version ($((${size:-0} / 1048576)) MiB)"
(cd "$work" && apt-get -q -o APT::Sandbox::User="$(id -un)" download "$package") || die "apt-get download $package failed"

echo "kernel: unpacking"
mkdir "$work/x" "$work/new" "$work/new/modules"
dpkg-deb -x "$work"/linux-image-*.deb "$work/x"
for f in "$work"/x/boot/vmlinuz-*; do
    cp "$f" "$work/vmlinuz"
done
if unpack_vmlinux; then
    mv "$work/vmlinux" "$work/new/vmlinux"
fi
mv "$work/vmlinuz" "$work/new/vmlinuz"

for d in "$work"/x/lib/modules/*; do
    release=$(basename "$d")
done
/sbin/depmod -b "$work/x" "$release"
# Files of the given modules, dependencies first.
files_of() {
    for m in "$@"; do
        /sbin/modprobe -d "$work/x" -S "$release" --show-depends "$m" || die "no module $m in $package"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'
}
# Copies each file of standard input not copied before; prints its line of the list.
take() {
    while read -r path; do
        f=$(basename "$path")
        [ ! -e "$work/new/modules/$f" ] || continue
        cp "$path" "$work/new/modules/"
        echo "$f$1"
    done
}
# shellcheck disable=SC2086 # lists of words
{
    files_of $modules | take ""
    files_of $share_modules | take " share"
    files_of $net_modules | take " net"
} > "$work/new/modules/list"

echo "$key" > "$work/new/key"
chmod -R a+rX "$work/new"
rm -rf "$target"
mv "$work/new" "$target"
echo "kernel: $target: $package $version, $(wc -l < "$target/modules/list") modules"
