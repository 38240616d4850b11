#!/bin/sh
# Prove that no installation step is missing: run the README's commands in a bare Debian 12, made by mmdebstrap, that has
# nothing but make and this tree. Needs root and about 6 GB.
#   tools/chroot-proof.sh [COMMAND...]      make targets; "quickstart check" when none is given
#
# environment: KEEP=1  leave the chroot behind and say where
set -eu
cd "$(dirname "$0")/.."
[ $# != 0 ] || set -- quickstart check

if [ "$(id -u)" != 0 ] || ! command -v mmdebstrap >/dev/null 2>&1; then
    echo "chroot proof: needs root and mmdebstrap" >&2
    exit 77
fi

base=$(mktemp -d "${TMPDIR:-/tmp}/kiln-chroot.XXXXXX")
root=$base/root
mounted=
clean_up() {
    for m in $mounted; do
        umount -l "$root/$m" || true
    done
    if [ "${KEEP:-0}" = 1 ]; then
        echo "chroot proof: left in $root"
    else
        rm -rf --one-file-system "$base"
    fi
}
trap clean_up EXIT
trap 'exit 1' INT TERM

echo "chroot proof: a bare Debian 12 in $root"
# The host's own mirrors, proxies and certificates: they are the machine's business, not the repository's.
find /etc/apt -name '*.sources' -o -name '*.list' | xargs -r grep -lE 'bookworm' | xargs -r grep -lE 'debian' > "$base/sources"
mmdebstrap --variant=apt --include=make,ca-certificates bookworm "$root" > "$base/log" 2>&1 ||
    { tail -n 20 "$base/log" >&2; exit 1; }
rm -f "$root"/etc/apt/sources.list
while read -r f; do
    cp "$f" "$root/etc/apt/sources.list.d/"
done < "$base/sources"
for d in /etc/apt/apt.conf.d /usr/local/share/ca-certificates /usr/share/keyrings /etc/apt/keyrings; do
    [ ! -d "$d" ] || { mkdir -p "$root$d" && cp -r "$d/." "$root$d/"; }
done
for f in /etc/resolv.conf /etc/hosts; do
    cp -L "$f" "$root$f"
done
chroot "$root" update-ca-certificates >/dev/null 2>&1 || true
chroot "$root" apt-get update -q > "$base/log" 2>&1 || { tail -n 20 "$base/log" >&2; exit 1; }

# A root that is no mount point cannot be made private, which machines and tests do.
mount --bind "$root" "$root"
mounted=.
for m in proc sys dev; do
    mount --rbind "/$m" "$root/$m"
    mount --make-rslave "$root/$m"
    mounted="$m $mounted"
done

mkdir -p "$root/src/kiln"
git ls-files -z | tar --null -T - -cf - | tar -C "$root/src/kiln" -xf -

# pivot_root(2), not chroot(2): tests move the root of a mount namespace, as a machine's init does.
# shellcheck disable=SC2016 # expanded by the shell that runs it
enter='cd "$1" && pivot_root . mnt && exec chroot . sh -c "/mnt/usr/bin/umount -l /mnt; exec make -C /src/kiln $2"'

for target in "$@"; do
    echo "chroot proof: make $target"
    started=$(date +%s)
    if ! env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        unshare --mount sh -c "$enter" sh "$root" "$target"; then
        echo "chroot proof: make $target failed after $(($(date +%s) - started)) s"
        exit 1
    fi
    echo "chroot proof: make $target done in $(($(date +%s) - started)) s"
done
