#!/bin/sh
# Cold boots side by side: kiln's engines, and QEMU's TCG if installed. Wall seconds from start to exit, medians.
# Usage: bench/boot.sh [ROUNDS]; needs gcc, cpio, the kernels of the store, and build/kiln.
# Environment: ENGINES ("bt interp"), RUN=0 to leave `kiln run` out.
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-5}
engines=${ENGINES:-bt interp}
kiln=${BUILD:-build}/kiln
. tools/store-root.sh
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
line="console=ttyS0 panic=-1 reboot=t quiet cryptomgr.notests"

cat >"$tmp/init.c" <<'C'
#include <stdio.h>
#include <sys/reboot.h>
#include <unistd.h>
int main(void)
{
    puts("USERSPACE REACHED");
    fflush(stdout);
    sleep(0);
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
}
C
mkdir -p "$tmp/root/dev" "$tmp/root/proc"
gcc -static -O2 -o "$tmp/root/init" "$tmp/init.c"
(cd "$tmp/root" && find . | cpio -o -H newc --quiet >"$tmp/initrd")

# timed NAME COMMAND...: one line "NAME seconds"; the command's output must show user space. QEMU's microvm
# stops now and then before its kernel's first line: such a boot is told and not counted.
timed() {
    name=$1
    shift
    start=$(date +%s.%N)
    timeout -k 2 20 "$@" </dev/null >"$tmp/out" 2>&1 || true
    end=$(date +%s.%N)
    if [ "$name" = "${name#run}" ] && ! grep -aq "USERSPACE REACHED" "$tmp/out"; then
        echo "bench: $name did not reach user space" >&2
        [ "$name" != "${name%tcg}" ]
        return
    fi
    echo "$name $start $end" | awk '{ printf "%s %.3f\n", $1, $3 - $2 }' >>"$tmp/times"
}

for _ in $(seq "$rounds"); do
    for kernel in debian kiln; do
        vmlinux=$store/kernels/$kernel/vmlinux
        [ -r "$vmlinux" ] || continue
        for engine in $engines; do
            timed "boot-$kernel-$engine" "$kiln" boot --engine $engine --kernel "$vmlinux" --initrd "$tmp/initrd" --cmdline "$line"
        done
        command -v qemu-system-x86_64 >/dev/null 2>&1 &&
            timed "boot-$kernel-qemu-tcg" qemu-system-x86_64 -M microvm,pit=on,rtc=on,acpi=on -accel tcg -cpu max -m 256 \
                -nographic -no-reboot -kernel "$vmlinux" -initrd "$tmp/initrd" -append "$line"
    done
    [ "${RUN:-1}" = 0 ] && continue
    for engine in $engines; do
        timed "run-true-$engine" "$kiln" run --engine $engine --rm --quiet kiln-test true
    done
done
sort "$tmp/times" | awk '{ v[$1] = v[$1] " " $2 } END { for (n in v) print n v[n] }' | sort |
    while read -r name values; do
        echo "$name $(echo "$values" | tr ' ' '\n' | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] " s, median of " NR }')"
    done
