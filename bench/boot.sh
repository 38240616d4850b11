#!/bin/sh
# Cold boots side by side: kiln's engines, and QEMU's TCG if installed. Seconds from start to exit, and CPU seconds; medians.
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
# On a busy host a guest of QEMU's microvm fails to calibrate its TSC by the PIT and stands still: the kernel is told.
khz=$(awk '/bogomips/ { printf "%d", $3 * 500; exit }' /proc/cpuinfo)
line="console=ttyS0 panic=-1 reboot=t quiet cryptomgr.notests tsc_early_khz=$khz"

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

# The children's CPU seconds, which `times` prints in its second line as 0m1.23s 0m0.45s.
cpu_sum() {
    awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); sum += 60 * t[1] + t[2] } print sum }' "$tmp/cpu"
}

# timed NAME COMMAND...: one line "NAME seconds CPU-seconds"; the command's output must show user space.
timed() {
    name=$1
    shift
    times >"$tmp/cpu" # here, not in a subshell: that would have no children
    before=$(cpu_sum)
    start=$(date +%s.%N)
    timeout -k 2 30 "$@" </dev/null >"$tmp/out" 2>&1 || true
    end=$(date +%s.%N)
    times >"$tmp/cpu"
    if [ "$name" = "${name#run}" ] && ! grep -aq "USERSPACE REACHED" "$tmp/out"; then
        echo "bench: $name did not reach user space" >&2
        return 1
    fi
    echo "$name $start $end $before $(cpu_sum)" | awk '{ printf "%s %.3f %.3f\n", $1, $3 - $2, $5 - $4 }' >>"$tmp/times"
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
# median NAME COLUMN
median() {
    awk -v n="$1" -v c="$2" '$1 == n { print $c }' "$tmp/times" | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'
}
for name in $(awk '{ print $1 }' "$tmp/times" | sort -u); do
    echo "$name $(median "$name" 2) s, CPU $(median "$name" 3) s, median of $(grep -c "^$name " "$tmp/times")"
done
