# stress-ng's stressors one after another, each checking its own results: SECONDS STRESSOR...
seconds=$1
shift
cd /tmp
for s in "$@"; do
    stress-ng --"$s" 2 --timeout "$seconds" --verify --oomable > said 2>&1 || { echo "$s: status $?"; tail -n 5 said; }
done
dmesg | grep -E 'BUG|Oops|lockup|stall|general protection|WARNING:' | head -n 20
