#!/bin/sh
# Run the fuzz targets, each for some seconds, with libFuzzer, ASan and UBSan. A finding is left in build-fuzz/.
#   tools/fuzz.sh SECONDS [TARGET...]      all targets when none is given
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# = 0 ] || shift
build=${BUILD:-build}-fuzz

tools/deps.sh --check check
if [ ! -e "$build/build.ninja" ]; then
    CC=clang meson setup "$build" -Dfuzzer=true -Db_sanitize=address,undefined -Db_lundef=false
fi
ninja -C "$build"

failed=0
for exe in "$build"/fuzz/f_*; do
    name=${exe##*/f_}
    if [ ! -x "$exe" ] || [ -d "$exe" ]; then
        continue
    fi
    if [ $# != 0 ]; then
        case " $* " in *" $name "*) ;; *) continue ;; esac
    fi
    echo "fuzz: $name, $seconds s"
    mkdir -p "$build/corpus/$name"
    if ! "$exe" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
        -artifact_prefix="$build/$name-" "$build/corpus/$name" "fuzz/corpus/$name" > "$build/$name.log" 2>&1; then
        tail -n 40 "$build/$name.log"
        echo "fuzz: $name failed; the input is $build/$name-*"
        failed=1
    fi
done
exit $failed
