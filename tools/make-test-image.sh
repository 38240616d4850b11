#!/bin/sh
# Make a small container image from busybox-static: one layer, every applet a symbolic link.
#   tools/make-test-image.sh [FILE]      a docker-archive, build/kiln-test.tar by default
# The same input makes the same bytes.
set -eu
cd "$(dirname "$0")/.."
out=${1:-${BUILD:-build}/kiln-test.tar}
busybox=$(command -v busybox) || busybox=/bin/busybox

if [ ! -x "$busybox" ]; then
    echo "test image: busybox is missing (make deps)" >&2
    exit 1
fi
[ ! "$out" -nt "$busybox" ] || [ ! "$out" -nt "$0" ] || exit 0

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
chmod 755 "$work"
root=$work/root
mkdir -p "$root/bin" "$root/sbin" "$root/etc" "$root/root" "$root/home/guest" "$root/var/log" "$root/usr/bin" \
    "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/run"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
done
cat > "$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
guest:x:1000:1000:guest:/home/guest:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
PASSWD
cat > "$root/etc/group" <<'GROUP'
root:x:0:
guest:x:1000:
nogroup:x:65534:
GROUP
echo 'kiln test image' > "$root/etc/motd"

pack() { # pack TAR FOLDER NAMES...: no times, no names of this host in it
    tar_file=$1
    folder=$2
    shift 2
    tar -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu -cf "$tar_file" "$@"
}
pack "$work/layer.tar" "$root" bin dev etc home proc root run sbin sys tmp usr var
layer=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)

mkdir "$work/archive"
mv "$work/layer.tar" "$work/archive/$layer.tar"
cat > "$work/config" <<CONFIG
{"architecture":"amd64","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/sh"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"kiln test image"}]}
CONFIG
config=$(sha256sum "$work/config" | cut -d ' ' -f 1)
mv "$work/config" "$work/archive/$config.json"
echo "[{\"Config\":\"$config.json\",\"RepoTags\":[\"kiln-test:latest\"],\"Layers\":[\"$layer.tar\"]}]" \
    > "$work/archive/manifest.json"
pack "$work/out.tar" "$work/archive" "$config.json" "$layer.tar" manifest.json
mv "$work/out.tar" "$out"
echo "test image: $out, $(stat -c %s "$out") bytes"
