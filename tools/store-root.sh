# Sourced: sets $store, the root of the image and kernel store, as image/store.h defines it.
if [ -n "${KILN_ROOT:-}" ]; then
    store=$KILN_ROOT
elif [ "$(id -u)" = 0 ]; then
    store=/var/lib/kiln
else
    store=${XDG_DATA_HOME:-$HOME/.local/share}/kiln
fi
