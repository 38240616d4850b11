#!/bin/sh
# From a bare Debian 12 to a container in a machine of its own: packages, build, guest kernel, image, kiln run.
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
export BUILD

step() {
    printf '\n== %s\n' "$1"
}

step "1/5 packages"
tools/deps.sh build

step "2/5 build"
[ -e "$BUILD/build.ninja" ] || meson setup "$BUILD"
ninja -C "$BUILD" kiln

step "3/5 guest kernel"
. tools/store-root.sh
if [ -e "$store/kernels/kiln/vmlinux" ]; then
    echo "kernel: $store/kernels/kiln (make kernel)"
else
    tools/get-debian-kernel.sh
fi

step "4/5 image"
tools/make-test-image.sh "$BUILD/kiln-test.tar"
if "$BUILD/kiln" images 2>/dev/null | grep -q "^kiln-test  *latest "; then
    echo "image: kiln-test:latest is in the store"
else
    "$BUILD/kiln" import "$BUILD/kiln-test.tar"
fi

step "5/5 kiln run"
command='echo "Hello from a machine of its own: $(uname -sr), $(nproc) CPU, $(free -m | sed -n "s/^Mem: *\([0-9]*\).*/\1/p") MiB."'
printf '%s\n' "\$ $BUILD/kiln run --rm kiln-test sh -c '$command'"
exec "$BUILD/kiln" run --rm kiln-test sh -c "$command"
